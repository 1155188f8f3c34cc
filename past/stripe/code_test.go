package stripe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"larder/past"
)

// shapes are the redundancies that past.Standard gives and those of other storage classes.
var shapes = []past.Redundancy{{Data: 1}, {Data: 1, Parity: 1}, {Data: 1, Parity: 2}, {Data: 2, Parity: 2}, {Data: 3, Parity: 2}, {Data: 4, Parity: 2},
	{Data: 5, Parity: 2}, {Data: 6, Parity: 2}, {Data: 7, Parity: 2}, {Data: 8, Parity: 2}, {Data: 4, Parity: 4}, {Data: 5}}

// sealedOf returns sealed bytes with and without room for the parity.
func sealedOf(n int, r past.Redundancy) [2][]byte {
	plain := randomBytes(int64(n), n)
	tight := testKey(1).Seal(nil, 3, plain)
	wide := append(make([]byte, 0, EncodedLen(len(tight), r)+1), tight...)
	return [2][]byte{tight[:len(tight):len(tight)], wide}
}

func TestAnyDOfNGiveTheStripeBack(t *testing.T) {
	for _, r := range shapes {
		for _, n := range []int{0, 1, 5, 1000, SegmentPlain + 13} {
			for _, sealed := range sealedOf(n, r) {
				want := bytes.Clone(sealed)
				h, fragments := Encode(sealed, r)
				// Every pattern of up to p losses.
				for lost := range uint(1) << r.Total() {
					if bits.OnesCount(lost) > r.Parity {
						continue
					}
					if got, bad, err := Decode(nil, &h, without(fragments, lost)); err != nil || len(bad) != 0 || !bytes.Equal(got, want) {
						t.Fatalf("%v, %d bytes, lost %b: bad %v, %v", r, n, lost, bad, err)
					}
				}
				tooMany := uint(1)<<(r.Parity+1) - 1
				if _, _, err := Decode(nil, &h, without(fragments, tooMany)); !errors.Is(err, past.ErrDamaged) {
					t.Fatalf("%v: decoded from %d fragments: %v", r, r.Data-1, err)
				}
			}
		}
	}
}

func without(fragments [][]byte, lost uint) [][]byte {
	have := slices.Clone(fragments)
	for i := range have {
		if lost>>i&1 == 1 {
			have[i] = nil
		}
	}
	return have
}

func TestEncodeUsesTheRoomItIsGiven(t *testing.T) {
	r := past.Redundancy{Data: 8, Parity: 2}
	both := sealedOf(1<<20, r)
	tight, _ := Encode(both[0], r)
	wide, fragments := Encode(both[1], r)
	if tight.ID() != wide.ID() {
		t.Error("the same bytes have different ids")
	}
	whole := both[1][:cap(both[1])]
	for i, f := range fragments {
		if &f[0] != &whole[i*wide.ShardLen()] {
			t.Errorf("fragment %d lies elsewhere", i)
		}
	}
	replicas, same := Encode(both[0], past.Redundancy{Data: 1, Parity: 2})
	if &same[0][0] != &both[0][0] || &same[2][0] != &both[0][0] || replicas.Hashes[0] != replicas.Hashes[2] {
		t.Error("replicas are copies")
	}
}

func TestRebuildGivesTheFragmentTheHeaderNames(t *testing.T) {
	for _, r := range shapes {
		sealed := sealedOf(70_000, r)[0]
		h, fragments := Encode(sealed, r)
		for i := range fragments {
			got, bad, err := Rebuild(&h, i, slices.Clone(fragments))
			if r.Parity == 0 {
				if !errors.Is(err, past.ErrDamaged) {
					t.Fatalf("%v: rebuilt from nothing to spare: %v", r, err)
				}
				continue
			}
			if err != nil || len(bad) != 0 || !bytes.Equal(got, fragments[i]) {
				t.Fatalf("%v fragment %d: bad %v, %v", r, i, bad, err)
			}
		}
	}
}

func TestRebuildNamesBadHelpersAndLyingHeaders(t *testing.T) {
	r := past.Redundancy{Data: 2, Parity: 2}
	h, fragments := Encode(sealedOf(5000, r)[0], r)
	have := slices.Clone(fragments)
	have[1] = bytes.Clone(have[1])
	have[1][17] ^= 4
	got, bad, err := Rebuild(&h, 0, have)
	if err != nil || !slices.Equal(bad, []int{1}) || !bytes.Equal(got, fragments[0]) {
		t.Fatalf("bad %v, %v", bad, err)
	}
	h.Hashes[3][0] ^= 1
	if _, _, err := Rebuild(&h, 3, slices.Clone(fragments)); !errors.Is(err, ErrInconsistent) {
		t.Errorf("a header that names no code word: %v", err)
	}
	if _, _, err := Rebuild(&h, 4, fragments); !errors.Is(err, ErrFormat) {
		t.Errorf("fragment 4 of 4: %v", err)
	}
}

// TestEveryFlippedBitIsFoundAndItsFragmentNamed flips each bit of small fragments in turn.
func TestEveryFlippedBitIsFoundAndItsFragmentNamed(t *testing.T) {
	for _, r := range shapes {
		sealed := sealedOf(40, r)[0]
		h, fragments := Encode(sealed, r)
		id := h.ID()
		for i, f := range fragments {
			stored := append(h.AppendFragmentPrefix(nil, i), f...)
			if len(stored) != FragmentLen(r, len(sealed)) || FragmentDataAt(r) != len(stored)-len(f) {
				t.Fatalf("%v: a fragment of %d bytes", r, len(stored))
			}
			if got, err := ParseFragment(stored); err != nil || got.Index != i || got.Header.ID() != id {
				t.Fatalf("%v fragment %d: %v", r, i, err)
			}
			for bit := range len(stored) * 8 {
				stored[bit/8] ^= 1 << (bit % 8)
				got, err := ParseFragment(stored)
				// A flipped index between replicas names another replica: the same bytes, as good.
				if err == nil && got.Header.ID() == id && (r.Data != 1 || !bytes.Equal(got.Data, f)) {
					t.Fatalf("%v fragment %d: bit %d flipped and not found", r, i, bit)
				}
				stored[bit/8] ^= 1 << (bit % 8)
			}
			have := slices.Clone(fragments)
			have[i] = bytes.Clone(f)
			have[i][len(f)/2] ^= 0x80
			_, bad, err := Decode(nil, &h, have)
			if !slices.Equal(bad, []int{i}) || (err == nil) != (r.Parity > 0) {
				t.Fatalf("%v: fragment %d is bad, Decode says %v, %v", r, i, bad, err)
			}
		}
	}
}

func TestShardRangesCoverARangeOfTheStripe(t *testing.T) {
	for _, r := range shapes {
		sealed := sealedOf(3*SegmentPlain+1000, r)[0]
		h, fragments := Encode(sealed, r)
		for _, want := range [][2]int{{0, 1}, {0, h.Length}, {h.Length - 1, h.Length}, {segmentSealed, 2 * segmentSealed}, {100, h.Length - 100}, {5, 5}} {
			var got []byte
			for _, part := range ShardRanges(r, h.Length, want[0], want[1]) {
				got = append(got, fragments[part.Index][part.From:part.To]...)
			}
			if !bytes.Equal(got, sealed[want[0]:want[1]]) {
				t.Errorf("%v: range %v is not what its shards hold", r, want)
			}
		}
	}
}

// TestFillDataWorksOnColumns rebuilds a range of a missing shard from the same range of others.
func TestFillDataWorksOnColumns(t *testing.T) {
	for _, r := range shapes {
		if r.Parity == 0 {
			continue
		}
		h, fragments := Encode(sealedOf(100_000, r)[0], r)
		from, to := h.ShardLen()/3, h.ShardLen()/3+777
		columns := make([][]byte, r.Total())
		for i := range columns {
			columns[i] = fragments[i][from:to]
		}
		want := columns[0]
		columns[0] = nil
		if err := FillData(r, columns); err != nil || !bytes.Equal(columns[0], want) {
			t.Errorf("%v: %v", r, err)
		}
	}
	if err := FillData(past.Redundancy{Data: 2, Parity: 1}, make([][]byte, 3)); !errors.Is(err, past.ErrDamaged) {
		t.Errorf("from nothing: %v", err)
	}
}

func TestHeaderGolden(t *testing.T) {
	h, _ := Encode([]byte("sixteen or more sealed bytes"), past.Redundancy{Data: 2, Parity: 1})
	const want = "0102010000001c" +
		"00801cfba64973cdb7febe5e75490422e72c9952148c1e65c833ca0eaa56e39f" +
		"3e178d7e947e38a56bd4a88e4ed83aec15c620cbd20cdcbff41eca5ddecd9116" +
		"d9baad5b81ffe77b5a7ae414b67df334cc86ecde630d0fb722652097ceb3da7f"
	if got := hex.EncodeToString(h.Append(nil)); got != want {
		t.Errorf("header\n got %s\nwant %s", got, want)
	}
	const wantID = "2a0f1eec89b2458153604cca9876e034486e99674910f6bc78d9607fb0d019d4"
	if got := h.ID().String(); got != wantID {
		t.Errorf("id %s, want %s", got, wantID)
	}
	back, rest, err := ParseHeader(append(h.Append(nil), "rest"...))
	if err != nil || string(rest) != "rest" || back.ID() != h.ID() || back.PlainLen() != 12 {
		t.Errorf("parsed %+v, rest %q, %v", back, rest, err)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	h, _ := Encode(make([]byte, 100), past.Redundancy{Data: 2, Parity: 1})
	good := h.Append(nil)
	edit := func(at int, b byte) []byte {
		out := bytes.Clone(good)
		out[at] = b
		return out
	}
	for name, in := range map[string][]byte{
		"nothing":           nil,
		"cut":               good[:len(good)-1],
		"a newer format":    edit(0, 2),
		"no data":           edit(1, 0),
		"too many":          edit(1, past.FragmentsMax),
		"too long":          edit(3, 1),
		"no sealed length":  edit(6, 15),
		"a length of zero":  edit(6, 0),
		"only fixed fields": good[:fixedBytes],
	} {
		if _, _, err := ParseHeader(in); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseFragment(f *testing.F) {
	for _, r := range []past.Redundancy{{Data: 1, Parity: 2}, {Data: 2, Parity: 2}} {
		h, fragments := Encode(sealedOf(30, r)[0], r)
		f.Add(append(h.AppendFragmentPrefix(nil, 1), fragments[1]...))
		f.Add(h.Append(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := ParseFragment(in)
		if err != nil {
			return
		}
		again := append(got.Header.AppendFragmentPrefix(nil, got.Index), got.Data...)
		if !bytes.Equal(again, in) {
			t.Fatalf("parsed and written again:\n%x\n%x", in, again)
		}
		fragments := make([][]byte, got.Header.Redundancy.Total())
		fragments[got.Index] = got.Data
		if _, bad, err := Decode(nil, &got.Header, fragments); len(bad) != 0 || (err == nil) != (got.Header.Redundancy.Data == 1) {
			t.Fatalf("decoded one fragment: bad %v, %v", bad, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	k := testKey(9)
	f.Add(k.Seal(nil, 1, []byte("plain")), 0, 5)
	f.Fuzz(func(t *testing.T, sealed []byte, off, n int) {
		plain, err := k.Open(nil, 1, sealed)
		if err == nil && !bytes.Equal(k.Seal(nil, 1, plain), sealed) {
			t.Fatal("opened what was not sealed")
		}
		if n > 0 && n < 1<<20 && off >= 0 && off < 1<<20 {
			_ = k.OpenRange(make([]byte, n), 1, len(sealed)-tagBytes, off, sealed)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, r := range []past.Redundancy{{Data: 1, Parity: 2}, {Data: 2, Parity: 2}, {Data: 8, Parity: 2}} {
		b.Run(fmt.Sprintf("%d+%d", r.Data, r.Parity), func(b *testing.B) {
			k, plain := testKey(1), randomBytes(1, past.StripeMax)
			buf := make([]byte, 0, EncodedLen(SealedMax, r))
			b.SetBytes(past.StripeMax)
			for b.Loop() {
				h, _ := Encode(k.Seal(buf, 1, plain), r)
				_ = h.ID()
			}
		})
	}
}

func BenchmarkDecodeAndOpen(b *testing.B) {
	for _, lost := range []uint{0, 3} {
		b.Run(fmt.Sprintf("8+2,lost=%d", bits.OnesCount(lost)), func(b *testing.B) {
			r := past.Redundancy{Data: 8, Parity: 2}
			k, plain := testKey(1), randomBytes(1, past.StripeMax)
			h, fragments := Encode(k.Seal(nil, 1, plain), r)
			sealed := make([]byte, 0, SealedMax)
			b.SetBytes(past.StripeMax)
			for b.Loop() {
				sealed, _ = Join(sealed[:0], &h, without(fragments, lost))
				if _, err := k.Open(plain[:0], 1, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

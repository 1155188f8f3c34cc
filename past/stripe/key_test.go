package stripe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand"
	"testing"

	"larder/past"
)

func testKey(seed int64) *Key {
	var secret [32]byte
	var data past.DataID
	rnd := rand.New(rand.NewSource(seed))
	rnd.Read(secret[:])
	rnd.Read(data[:])
	return NewKey(secret, data)
}

func randomBytes(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

var lengths = []int{0, 1, 15, 16, 17, 1000, SegmentPlain - 1, SegmentPlain, SegmentPlain + 1, 2 * SegmentPlain, 3*SegmentPlain - 5, 300_000}

func TestSealedLengthIsAFunctionOfThePlainOneAndBack(t *testing.T) {
	for _, n := range append(lengths, past.StripeMax) {
		sealed := testKey(1).Seal(nil, 0, make([]byte, n))
		if len(sealed) != SealedLen(n) {
			t.Errorf("%d bytes sealed to %d, SealedLen says %d", n, len(sealed), SealedLen(n))
		}
		if back, ok := PlainLen(len(sealed)); !ok || back != n {
			t.Errorf("PlainLen(%d) = %d, %v, want %d", len(sealed), back, ok, n)
		}
	}
	for _, n := range []int{-1, 0, 15, segmentSealed + 1, segmentSealed + 16, 2*segmentSealed + 3} {
		if got, ok := PlainLen(n); ok {
			t.Errorf("PlainLen(%d) = %d, want none", n, got)
		}
	}
	if SealedLen(past.StripeMax) != SealedMax {
		t.Errorf("SealedMax = %d, want %d", SealedMax, SealedLen(past.StripeMax))
	}
}

func TestOpenGivesBackWhatWasSealed(t *testing.T) {
	k := testKey(2)
	for _, n := range lengths {
		plain := randomBytes(int64(n), n)
		sealed := k.Seal([]byte("prefix"), 7, plain)[len("prefix"):]
		literal := &Key{Secret: k.Secret, Data: k.Data}
		got, err := literal.Open([]byte("before"), 7, sealed)
		if err != nil || !bytes.Equal(got, append([]byte("before"), plain...)) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestOpenRangeReadsAnyPart(t *testing.T) {
	k := testKey(3)
	plain := randomBytes(3, 3*SegmentPlain+100)
	sealed := k.Seal(nil, 9, plain)
	before := bytes.Clone(sealed)
	rnd := rand.New(rand.NewSource(4))
	for i := range 400 {
		off := rnd.Intn(len(plain))
		n := 1 + rnd.Intn(len(plain)-off)
		if i%4 == 0 {
			n = 1 + rnd.Intn(min(50, len(plain)-off))
		}
		from, to := SealedRange(len(plain), off, n)
		dst := make([]byte, n)
		if err := k.OpenRange(dst, 9, len(plain), off, sealed[from:to]); err != nil || !bytes.Equal(dst, plain[off:off+n]) {
			t.Fatalf("range %d+%d: %v", off, n, err)
		}
		if segs := (n+SegmentPlain-2)/SegmentPlain + 1; to-from > segs*segmentSealed {
			t.Fatalf("range %d+%d needs %d sealed bytes", off, n, to-from)
		}
	}
	if !bytes.Equal(sealed, before) {
		t.Error("OpenRange changed the sealed bytes")
	}
	for _, bad := range []struct{ off, n int }{{-1, 5}, {len(plain) - 1, 2}, {0, 0}} {
		if err := k.OpenRange(make([]byte, bad.n), 9, len(plain), bad.off, sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("range %v: %v", bad, err)
		}
	}
}

// TestOpenRefusesWhatWasNotSealedThere tries what a storage node could serve instead of the stripe.
func TestOpenRefusesWhatWasNotSealedThere(t *testing.T) {
	k := testKey(5)
	plain := randomBytes(5, 3*SegmentPlain)
	sealed := k.Seal(nil, 1, plain)
	swapped := bytes.Clone(sealed)
	copy(swapped, sealed[segmentSealed:2*segmentSealed])
	copy(swapped[segmentSealed:], sealed[:segmentSealed])
	spliced := bytes.Clone(sealed)
	copy(spliced[segmentSealed:2*segmentSealed], k.Seal(nil, 2, plain)[segmentSealed:])
	other := &Key{Secret: k.Secret, Data: past.DataID{1}}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	longer := k.Seal(nil, 1, randomBytes(6, 4*SegmentPlain))
	for name, in := range map[string][]byte{
		"segments swapped":          swapped,
		"cut at a segment":          sealed[:2*segmentSealed],
		"cut in a segment":          sealed[:len(sealed)-10],
		"first segment gone":        sealed[segmentSealed:],
		"a segment twice":           append(bytes.Clone(sealed), sealed[2*segmentSealed:]...),
		"another stripe":            k.Seal(nil, 2, plain),
		"another stripe's segment":  spliced,
		"another body":              other.Seal(nil, 1, plain),
		"another key":               testKey(6).Seal(nil, 1, plain),
		"a bit flipped in the tag":  flipped,
		"a longer stripe's segment": append(longer[:segmentSealed:segmentSealed], sealed[segmentSealed:]...),
		"nothing":                   nil,
	} {
		if out, err := k.Open(nil, 1, in); !errors.Is(err, ErrSealed) || len(out) != 0 {
			t.Errorf("%s: opened %d bytes, %v", name, len(out), err)
		}
	}
	from, to := SealedRange(len(plain), SegmentPlain, 10)
	if err := k.OpenRange(make([]byte, 10), 1, 2*SegmentPlain, SegmentPlain, sealed[from:to]); !errors.Is(err, ErrSealed) {
		t.Errorf("a range of a stripe said to be shorter: %v", err)
	}
}

func TestSealGolden(t *testing.T) {
	k := &Key{Data: past.DataID{0xda, 0x7a}}
	for i := range k.Secret {
		k.Secret[i] = byte(i)
	}
	const want = "e67e5cd4e865e6503fbc4093dedfa7e3ac1d1e4f5a0f"
	if got := hex.EncodeToString(k.Seal(nil, 0x0102030405060708, []byte("larder"))); got != want {
		t.Errorf("sealed\n got %s\nwant %s", got, want)
	}
}

func TestSealAndOpenAllocateNothingForASegment(t *testing.T) {
	k := testKey(7)
	plain := randomBytes(7, 8*SegmentPlain)
	sealed := make([]byte, 0, SealedLen(len(plain)))
	opened := make([]byte, 0, len(plain))
	n := testing.AllocsPerRun(20, func() {
		sealed = k.Seal(sealed[:0], 1, plain)
		opened, _ = k.Open(opened[:0], 1, sealed)
	})
	if n > 2 {
		t.Errorf("%v allocations for 8 segments sealed and opened, want one each way", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	k, plain := testKey(8), randomBytes(8, past.StripeMax)
	sealed := make([]byte, 0, SealedMax)
	b.SetBytes(past.StripeMax)
	for b.Loop() {
		sealed = k.Seal(sealed[:0], 1, plain)
	}
}

func BenchmarkOpen(b *testing.B) {
	k, plain := testKey(8), randomBytes(8, past.StripeMax)
	sealed := k.Seal(nil, 1, plain)
	b.SetBytes(past.StripeMax)
	for b.Loop() {
		plain, _ = k.Open(plain[:0], 1, sealed)
	}
}

package diskstore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// appendRecord is a whole record as it stands at len(seg).
func appendRecord(seg []byte, seed uint64, durable int64, key string, body []byte) []byte {
	off := int64(len(seg))
	h := recordHeader{Key: []byte(key), Size: int64(len(body)), Stored: 1, Durable: durable, BodySum: xxh3.Hash(body)}
	seg = append(h.appendTo(seg, seed, off), body...)
	return append(seg, make([]byte, off+h.len()-int64(len(seg)))...)
}

const testSeed = 0x0123456789abcdef

// testSegment is a segment of records a, b, c, each of 100 bytes of its letter, and their offsets. Each vouches for those
// before it if durable is set.
func testSegment(durable bool) (seg []byte, offs [3]int64) {
	seg = segmentHeader{ID: 1, Seed: testSeed, Created: 2}.appendTo(nil)
	for i, key := range []string{"a", "b", "c"} {
		offs[i] = int64(len(seg))
		d := offs[i]
		if !durable {
			d = 0
		}
		seg = appendRecord(seg, testSeed, d, key, bytes.Repeat([]byte(key), 100))
	}
	return seg, offs
}

// TestRecordGolden holds the frames still. If it fails, the format changed: raise the versions.
func TestRecordGolden(t *testing.T) {
	h := recordHeader{Key: []byte("key"), Size: 5, Stored: 6, Durable: 7, BodySum: 8}
	const record = "4c4652470103000005000000000000000600000000000000070000000000000008000000000000007dc7248a767295846b6579"
	if got := hex.EncodeToString(h.appendTo(nil, testSeed, 128)); got != record {
		t.Errorf("record header is\n%s, want\n%s", got, record)
	}
	const half = "4c5244525345470a010000000000000001000000000000000200000000000000030000000000000000000000000000000000000000000000f751ea973501d1d6"
	const segment = half + half
	if got := hex.EncodeToString(segmentHeader{ID: 1, Seed: 2, Created: 3}.appendTo(nil)); got != segment {
		t.Errorf("segment header is\n%s, want\n%s", got, segment)
	}
}

func TestRecordHeaderIsBoundToItsPlace(t *testing.T) {
	h := recordHeader{Key: []byte("key"), Size: 5, Stored: 6, BodySum: 8}
	b := h.appendTo(nil, testSeed, 128)
	if got, ok := decodeRecordHeader(b, testSeed, 128); !ok || string(got.Key) != "key" || got.Size != 5 || got.Stored != 6 || got.BodySum != 8 {
		t.Fatalf("decoded %+v, %v", got, ok)
	}
	if _, ok := decodeRecordHeader(b, testSeed+1, 128); ok {
		t.Error("header of another segment is taken")
	}
	if _, ok := decodeRecordHeader(b, testSeed, 192); ok {
		t.Error("header of another place is taken")
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if _, ok := decodeRecordHeader(c, testSeed, 128); ok && i != 6 && i != 7 {
			t.Errorf("header with byte %d changed is taken", i)
		}
	}
}

func scan(t testing.TB, seg []byte) (res scanResult, keys string) {
	t.Helper()
	res, err := scanSegment(bytes.NewReader(seg), testSeed, segmentDataStart, int64(len(seg)), false, func(r scanned) error {
		keys += string(r.Key)
		if r.corrupt {
			keys += "!"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return res, keys
}

func TestScanTellsDamageFromTornWrites(t *testing.T) {
	zero := func(seg []byte, from, to int64) { clear(seg[from:to]) }
	for _, c := range []struct {
		name    string
		durable bool
		change  func(seg []byte, offs [3]int64) []byte
		keys    string
		corrupt int64
		clean   bool
	}{
		{"whole", true, func(s []byte, _ [3]int64) []byte { return s }, "abc", 0, true},
		{"torn tail", true, func(s []byte, o [3]int64) []byte { return s[:o[2]+60] }, "ab", 0, false},
		{"tail cut in a header", true, func(s []byte, o [3]int64) []byte { return s[:o[2]+20] }, "ab", 0, false},
		{"torn write before a finished one", false, func(s []byte, o [3]int64) []byte { zero(s, o[1]+60, o[2]); return s }, "ac", 0, false},
		{"hole before a finished write", false, func(s []byte, o [3]int64) []byte { zero(s, o[1], o[2]); return s }, "ac", 0, false},
		{"durable body damaged", true, func(s []byte, o [3]int64) []byte { s[o[1]+70] ^= 1; return s }, "abc", 0, true},
		{"durable header damaged", true, func(s []byte, o [3]int64) []byte { s[o[1]+9] ^= 1; return s }, "ac", 1, false},
		{"durable header wiped", true, func(s []byte, o [3]int64) []byte { zero(s, o[0], o[1]); return s }, "bc", 1, false},
		{"garbage behind", true, func(s []byte, _ [3]int64) []byte { return append(s, bytes.Repeat([]byte("LFRG"), 100)...) }, "abc", 0, false},
	} {
		seg, offs := testSegment(c.durable)
		res, keys := scan(t, c.change(seg, offs))
		if keys != c.keys || res.corrupt != c.corrupt || res.clean != c.clean {
			t.Errorf("%s: records %q, %d corrupt, clean %v; want %q, %d, %v", c.name, keys, res.corrupt, res.clean, c.keys, c.corrupt, c.clean)
		}
	}
	// With every body checked, as after a crash, the damaged one is named.
	seg, offs := testSegment(true)
	seg[offs[1]+70] ^= 1
	var bad []string
	_, err := scanSegment(bytes.NewReader(seg), testSeed, segmentDataStart, int64(len(seg)), true, func(r scanned) error {
		if r.corrupt {
			bad = append(bad, string(r.Key))
		}
		return nil
	})
	if err != nil || len(bad) != 1 || bad[0] != "b" {
		t.Errorf("damaged bodies %q, %v, want b", bad, err)
	}
}

// A body may hold a whole record, made by a peer that knows the format: it must not be taken for one.
func TestScanIgnoresRecordsInsideBodies(t *testing.T) {
	inner := appendRecord(make([]byte, 192), testSeed+1, 0, "forged", []byte("x"))[192:]
	seg := segmentHeader{ID: 1, Seed: testSeed}.appendTo(nil)
	body := append(bytes.Repeat([]byte{0}, 128-recordHeaderSize-1), inner...)
	seg = appendRecord(seg, testSeed, 0, "a", body)
	second := int64(len(seg))
	seg = appendRecord(seg, testSeed, second, "b", nil)
	seg[segmentDataStart] ^= 1 // the outer header is damaged, so the scan searches its body
	if res, keys := scan(t, seg); keys != "b" || res.corrupt != 1 {
		t.Fatalf("records %q, %d corrupt; want b, 1", keys, res.corrupt)
	}
}

func TestSegmentHeader(t *testing.T) {
	want := segmentHeader{ID: 7, Seed: 8, Created: 9}
	good := want.appendTo(nil)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 4
		if got, err := decodeSegmentHeader(b); err != nil || got != want {
			t.Fatalf("byte %d changed: %+v, %v: the other copy is good", i, got, err)
		}
	}
	b := bytes.Clone(good)
	b[3], b[segmentHeaderSize+3] = 0, 0
	if _, err := decodeSegmentHeader(b); !errors.Is(err, blockstore.ErrCorrupt) {
		t.Fatalf("both copies changed: %v", err)
	}
	for n := range segmentHeaderSize {
		if _, err := decodeSegmentHeader(good[:n]); !errors.Is(err, blockstore.ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// FuzzScanSegment feeds the segment decoder anything: it neither panics nor loops, and what it returns lies inside the file, in
// order, and encodes to the bytes it came from.
func FuzzScanSegment(f *testing.F) {
	for _, durable := range []bool{false, true} {
		seg, offs := testSegment(durable)
		f.Add(seg)
		f.Add(seg[:offs[2]+5])
		seg[offs[1]+3] = 0
		f.Add(seg)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, seg []byte) {
		h, err := decodeSegmentHeader(seg)
		if err == nil && !bytes.Equal(h.appendTo(nil)[16:40], seg[16:40]) && !bytes.Equal(h.appendTo(nil)[16:40], seg[segmentHeaderSize+16:segmentHeaderSize+40]) {
			t.Fatalf("header %+v is of neither copy", h)
		}
		last := int64(segmentDataStart)
		_, err = scanSegment(bytes.NewReader(seg), testSeed, segmentDataStart, int64(len(seg)), true, func(r scanned) error {
			if r.off < last || r.off%recordAlign != 0 {
				t.Fatalf("record at %d after %d", r.off, last)
			}
			last = r.off + r.len()
			head := r.appendTo(nil, testSeed, r.off)
			got := seg[r.off:min(int64(len(seg)), r.off+int64(len(head)))]
			if !bytes.Equal(got[:6], head[:6]) || !bytes.Equal(got[8:12], head[8:12]) || !bytes.Equal(got[16:40], head[16:40]) {
				t.Fatalf("record at %d does not encode to itself", r.off)
			}
			return nil
		})
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}

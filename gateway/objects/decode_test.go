package objects

import (
	"reflect"
	"strings"
	"testing"

	"larder/past"
	"larder/past/wire"
)

// exampleValues hold every field of every type that is decoded by hand.
func exampleValues() []value {
	rows := appendRow(nil, past.StripeRef{ID: past.BlockID{1}, Redundancy: past.Redundancy{Data: 2, Parity: 2}})
	sums := []sum{{"CRC64NVME", "AAAAAAAAAAA=", "FULL_OBJECT"}, {Algorithm: "SHA256", Value: "x"}}
	return []value{
		{},
		{Op: [16]byte{1}},
		{ETag: "x", Body: &body{Length: 5, Inline: true}, Length: 5, Owner: "o", Checksums: sums},
		{Metadata: metadata{"1", "2", "3", "4", "5", "6", "7", "8", map[string]string{"a": "b", "ä": "", "": "c"}},
			Body: &body{Data: past.DataID{2}, Secret: [32]byte{3}, Length: 1 << 40, Manifest: true, Rows: rows}, Length: 1 << 40},
		{Parts: []part{{Number: 1, ETag: "e", Modified: 1_700_000_000_000_000_000, Checksums: sums, Body: body{Length: 7, Rows: rows}},
			{Number: 10_000, Body: body{Inline: true}}}, PartsCount: 2, Upload: "0123", Length: 7},
		{Table: &body{Length: 1000, Rows: rows}, PartsCount: 10_000, Length: 300},
	}
}

// TestDecodeByHand has the decoder by hand read everything that encode gives, so that it never has to fall back, and get the same.
func TestDecodeByHand(t *testing.T) {
	for i, want := range exampleValues() {
		r := wire.NewReader(encode(&want))
		var got value
		if readValue(r, &got); !r.Done() || !reflect.DeepEqual(got, want) {
			t.Errorf("value %d: decoded %v: %+v, want %+v", i, r.Done(), got, want)
		}
		for _, p := range want.Parts {
			r := wire.NewReader(encode(&p))
			var got part
			if readPart(r, &got); !r.Done() || !reflect.DeepEqual(got, p) {
				t.Errorf("part: decoded %v: %+v, want %+v", r.Done(), got, p)
			}
		}
	}
}

// TestDecodeFallsBack has reflection read what the decoder by hand does not: fields of another version, and more parts than it takes.
func TestDecodeFallsBack(t *testing.T) {
	type newer struct {
		value
		New string `cbor:"99,keyasint"`
	}
	var v value
	if err := decode(encode(&newer{value{ETag: "e", Length: 9}, "x"}), &v); err != nil || v.ETag != "e" || v.Length != 9 {
		t.Errorf("with a field more: %+v, %v", v, err)
	}
	many := value{Parts: make([]part, partsMax+1)}
	v = value{}
	if err := decode(encode(&many), &v); err != nil || len(v.Parts) != partsMax+1 {
		t.Errorf("%d parts decoded, %v", len(v.Parts), err)
	}
	if err := decode(encode(&value{})[:5], &v); err == nil || strings.Contains(err.Error(), "panic") {
		t.Errorf("half a value: %v", err)
	}
}

// FuzzDecodeByHand compares with reflection: what the decoder by hand reads, reflection reads as well, and gets the same.
func FuzzDecodeByHand(f *testing.F) {
	for _, v := range exampleValues() {
		f.Add(encode(&v))
		for _, p := range v.Parts {
			f.Add(encode(&p))
		}
	}
	f.Add([]byte("\xa1\x03\xa1\x09\xa2\x61a\x60\x61a\x60")) // twice the same key
	f.Add([]byte("\xa1\x02\x61\xff"))                       // not UTF-8
	f.Fuzz(func(t *testing.T, in []byte) {
		var v, twin value
		r := wire.NewReader(in)
		if readValue(r, &v); r.Done() {
			if err := decMode.Unmarshal(in, &twin); err != nil || !reflect.DeepEqual(v, twin) {
				t.Errorf("value by hand %+v, by reflection %+v, %v", v, twin, err)
			}
		}
		var p, twinPart part
		r = wire.NewReader(in)
		if readPart(r, &p); r.Done() {
			if err := decMode.Unmarshal(in, &twinPart); err != nil || !reflect.DeepEqual(p, twinPart) {
				t.Errorf("part by hand %+v, by reflection %+v, %v", p, twinPart, err)
			}
		}
	})
}

// BenchmarkDecode is the cost of one row of a listing, beyond opening its seal.
func BenchmarkDecode(b *testing.B) {
	plain := encode(&value{ETag: strings.Repeat("e", 32), Metadata: metadata{ContentType: "binary/octet-stream"}, Owner: "admin", Length: 4096,
		Checksums: []sum{{"CRC64NVME", "AAAAAAAAAAA=", "FULL_OBJECT"}}, Body: &body{Length: 4096, Inline: true}})
	b.Run("hand", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := decode(plain, new(value)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reflection", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := decMode.Unmarshal(plain, new(value)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

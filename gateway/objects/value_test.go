package objects

import (
	"bytes"
	"context"
	"testing"

	"larder/gateway/objects/pasttest"
	"larder/past"
)

// FuzzValue decodes what might stand in a record: it is either refused, or describes bytes that can be walked, and encodes to what
// decodes to the same.
func FuzzValue(f *testing.F) {
	rows := appendRow(nil, past.StripeRef{ID: past.BlockID{1}, Redundancy: past.Redundancy{Data: 2, Parity: 2}})
	for _, v := range []value{
		{ETag: "x", Body: &body{Length: 5, Inline: true}, Length: 5},
		{Body: &body{Length: 100_000, Rows: rows}, Length: 100_000, Metadata: metadata{User: map[string]string{"a": "b"}}},
		{Body: &body{Length: 20 * past.StripeMax, Manifest: true, Rows: rows}, Length: 20 * past.StripeMax},
		{Parts: []part{{Number: 1, Body: body{Length: 7, Rows: rows}}, {Number: 2, Body: body{Inline: true}}}, Length: 7},
		{Table: &body{Length: 1000, Rows: rows}, Length: 1 << 40},
	} {
		f.Add(encode(&v))
	}
	s := newBench(f, pasttest.Options{}).store()
	f.Fuzz(func(t *testing.T, in []byte) {
		var v value
		if decMode.Unmarshal(in, &v) != nil {
			return
		}
		again := encode(&v)
		var back value
		if err := decMode.Unmarshal(again, &back); err != nil || !bytes.Equal(encode(&back), again) {
			t.Fatalf("decoded, encoded and decoded: %v", err)
		}
		if v.valid(&past.Record{Kind: past.Live, Length: v.Length}) != nil {
			return
		}
		parts := v.Parts
		if v.Body != nil {
			parts = []part{{Body: *v.Body}}
		}
		if v.Table != nil || v.Body != nil && v.Body.Inline {
			return
		}
		walk := s.pieces(parts, 0, v.Length)
		for range 200 {
			p, ok, err := walk.next(context.Background(), pieceMax)
			if err != nil || !ok {
				break
			}
			if p.n <= 0 || p.off+p.n > p.ref.Length || p.ref.Length > past.StripeMax {
				t.Fatalf("piece %d+%d of a stripe of %d", p.off, p.n, p.ref.Length)
			}
		}
	})
}

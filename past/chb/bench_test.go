package chb

import (
	"fmt"
	"testing"

	"larder/past"
)

// world in real time, without the latency of its links.
func benchmarkWorld(b *testing.B, nodes int) *world {
	w := newWorld(b)
	w.addMany(nodes)
	b.Cleanup(w.end)
	return w
}

func BenchmarkInsert(b *testing.B) {
	for _, nodes := range []int{1, 3, 12} {
		b.Run(fmt.Sprint("nodes=", nodes), func(b *testing.B) {
			w := benchmarkWorld(b, nodes)
			k := w.mustInsert(w.order[0], past.StripeMax)[0]
			b.SetBytes(past.StripeMax)
			for i := uint64(1000); b.Loop(); i++ {
				ref, err := w.order[0].Insert(b.Context(), k.key, i, k.plain, past.Claim{})
				if err != nil {
					b.Fatal(err)
				}
				w.order[0].Reclaim(ref)
				for _, n := range w.order { // memory is not the subject
					key := keyOf(ref.ID, 0)
					_ = n.store.Trash(b.Context(), key[:])
				}
				if i%16 == 0 {
					for _, n := range w.order {
						_, _ = n.store.Empty(b.Context(), n.cfg.Now().Add(1))
					}
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, nodes := range []int{1, 3, 12} {
		for _, length := range []int{past.StripeMax, 64 << 10, 100} {
			b.Run(fmt.Sprintf("nodes=%d/bytes=%d", nodes, length), func(b *testing.B) {
				w := benchmarkWorld(b, nodes)
				k := w.mustInsert(w.order[0], past.StripeMax)[0]
				dst := make([]byte, length)
				b.SetBytes(int64(length))
				for b.Loop() {
					if err := w.order[0].Lookup(b.Context(), k.key, k.index, k.ref, dst, 1<<20-(1<<20)*length/past.StripeMax); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkPass is a pass of repair over fragments that are where they belong: what a quiet ring costs.
func BenchmarkPass(b *testing.B) {
	w := benchmarkWorld(b, 3)
	for range 1000 {
		w.mustInsert(w.order[0], 10)
	}
	n := w.order[0]
	b.ResetTimer()
	for range b.N {
		walk := walk{b: n.Blocks}
		for walk.begin(true); walk.running; {
			walk.step(b.Context())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n.store.Usage().Fragments), "µs/fragment")
}

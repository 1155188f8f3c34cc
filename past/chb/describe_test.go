package chb

import (
	"testing"
	"testing/synctest"
	"time"

	"larder/past"
)

func TestHoldersTellsWhoHasWhat(t *testing.T) {
	inWorld(t, 6, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 200_000)[0]
		w.settle(time.Minute)
		truth := w.holders(k.ref.ID)
		holders, err := w.order[1].Holders(t.Context(), k.ref.ID)
		if err != nil || len(holders) != 6 {
			t.Fatalf("%d candidates of 6, %v", len(holders), err)
		}
		var live past.Indexes
		for _, h := range holders {
			if !h.Answered || h.Live != truth[w.nodes[h.Node]] {
				t.Errorf("%v has %b, and Holders says %+v", h.Node, truth[w.nodes[h.Node]], h)
			}
			live |= h.Live
		}
		if live.Count() != k.ref.Redundancy.Total() {
			t.Errorf("%d indexes live of %d", live.Count(), k.ref.Redundancy.Total())
		}

		hung := w.nodes[holders[0].Node]
		w.mu.Lock()
		hung.hung = true
		w.mu.Unlock()
		defer func() { w.mu.Lock(); hung.hung = false; w.mu.Unlock(); synctest.Wait() }()
		asker := w.nodes[holders[1].Node]
		again, err := asker.Holders(t.Context(), k.ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range again {
			if h.Answered == (h.Node == hung.id) {
				t.Errorf("%v: answered: %v", h.Node, h.Answered)
			}
		}
	})
}

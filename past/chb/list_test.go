package chb

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"larder/past"
)

// TestKeptOf: every fragment of a block is told of, with its claim and when it was stored; a candidate that does not answer is no "no".
func TestKeptOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.end()
		nodes := w.addMany(5)
		begin := time.Now()
		k := w.mustInsert(nodes[0], 100, 200)[0]
		time.Sleep(time.Minute)
		kept, err := nodes[1].KeptOf(context.Background(), k.ref.ID)
		if err != nil || len(kept) != k.ref.Redundancy.Total() {
			t.Fatalf("%+v, %v", kept, err)
		}
		seen := map[past.NodeID]bool{}
		for _, f := range kept {
			if f.ID != k.ref.ID || f.Claim.Data != k.key.Data || f.Stored.Before(begin) || f.Stored.After(begin.Add(30*time.Second)) || seen[f.Node] {
				t.Errorf("%+v", f)
			}
			seen[f.Node] = true
		}
		nodes[4].set(func() { nodes[4].hung = true })
		if _, err := nodes[1].KeptOf(context.Background(), k.ref.ID); !errors.Is(err, past.ErrUnavailable) {
			t.Errorf("with a silent candidate: %v", err)
		}
	})
}

// TestList walks all fragments of a node in small pages, from anywhere.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.end()
		n := w.addMany(1)[0]
		w.mustInsert(n, 10, 20, 30, 40, 50)
		seen := map[past.BlockID]bool{}
		pages := 0
		for from := []byte(nil); pages == 0 || from != nil; pages++ {
			page, next, err := n.List(context.Background(), n.id, from, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range page {
				if w.content[k.ID] == nil || seen[k.ID] || k.Node != n.id {
					t.Errorf("%+v", k)
				}
				seen[k.ID] = true
			}
			from = next
		}
		if len(seen) != 5 || pages != 3 {
			t.Errorf("%d blocks in %d pages", len(seen), pages)
		}
	})
}

package chb

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"larder/past"
)

// sizes are plaintext lengths that are coded as one replica set, as few and as many data shards.
var sizes = []int{1, 20_000, stripe64k, 150_000, 500_000}

const stripe64k = 64 << 10

// inWorld runs f in a ring of n nodes under virtual time.
func inWorld(t *testing.T, n int, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.end()
		w.addMany(n)
		f(t, w)
	})
}

func TestWhatIsInsertedIsFoundFromEveryNode(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 6, 12} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inWorld(t, n, func(t *testing.T, w *world) {
				w.mustInsert(w.order[0], append(sizes, past.StripeMax)...)
				for _, node := range w.order {
					w.checkContent(node)
					for _, k := range w.content {
						for _, off := range []int{0, len(k.plain) / 3, len(k.plain) - 1} {
							if err := w.lookupRange(node, k, off, min(100, len(k.plain)-off)); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				w.settle(time.Minute)
				time.Sleep(30 * time.Second)
				for _, node := range w.order {
					if s := node.Status(); !s.Whole || s.Moved+s.Rebuilt+s.Surplus != 0 || len(s.LiedBy) != 0 {
						t.Errorf("%v: not quiet: %+v", node.id, s)
					}
				}
			})
		})
	}
}

func TestAnAcknowledgedStripeSurvivesTheLossOfAnyNodeAtOnceAndOfAnyTwoAfterQuiet(t *testing.T) {
	for _, n := range []int{2, 3, 5, 6, 12} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			for lost := 0; lost < n; lost += 1 + n/6 {
				inWorld(t, n, func(t *testing.T, w *world) {
					for _, size := range sizes {
						w.mustInsert(w.order[size%n], size)
					}
					w.order[lost].kill()
					alive := w.order[(lost+1)%n]
					w.checkContent(alive)
				})
				if n == 2 {
					continue // any two are all
				}
				inWorld(t, n, func(t *testing.T, w *world) {
					for _, size := range sizes {
						w.mustInsert(w.order[size%n], size)
					}
					time.Sleep(5 * time.Second)
					w.order[lost].kill()
					w.order[(lost+1)%n].kill()
					w.checkContent(w.order[(lost+2)%n])
				})
			}
		})
	}
}

func TestGrowingAndShrinkingRingLosesNothing(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		for n := 2; n <= 12; n++ {
			w.mustInsert(w.order[n%len(w.order)], sizes[n%3], sizes[4-n%2])
			w.add(1 << 40)
			for range 4 { // while fragments move
				time.Sleep(1200 * time.Millisecond)
				w.checkContent(w.order[n-1])
			}
			w.settle(2 * time.Minute)
		}
		for n := 12; n > 4; n-- {
			w.order[n-1].kill()
			w.checkContent(w.order[0])
			w.settle(4 * time.Minute)
			w.checkContent(w.order[n%3])
		}
	})
}

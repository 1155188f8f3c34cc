package chb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"testing"
	"testing/synctest"
	"time"

	"larder/blockstore"
	"larder/blockstore/memstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"
	overlaywire "larder/pastry/wire"
)

// lyingStore is a disk whose node does not know, or does not say, that it lies.
type lyingStore struct {
	blockstore.Store
	flip     bool // one bit of everything read
	truncate bool // whole values end early
	forget   bool // stores nothing and says it did
}

func (s *lyingStore) Read(ctx context.Context, dst, key []byte) ([]byte, error) {
	b, err := s.Store.Read(ctx, dst, key)
	if err == nil && s.flip {
		b[len(b)/2] ^= 4
	}
	if err == nil && s.truncate {
		b = b[:len(b)-3]
	}
	return b, err
}

func (s *lyingStore) ReadAt(ctx context.Context, key, dst []byte, off int64) (int, error) {
	n, err := s.Store.ReadAt(ctx, key, dst, off)
	if s.flip && n > 10 {
		dst[n/2] ^= 4
	}
	return n, err
}

func (s *lyingStore) Put(ctx context.Context, key []byte, parts ...[]byte) error {
	if s.forget {
		return nil
	}
	return s.Store.Put(ctx, key, parts...)
}

// lie makes the node's process start anew with a lying disk between.
func (n *testNode) lie(s *lyingStore) {
	n.kill()
	n.start(func(real blockstore.Store) blockstore.Store { s.Store = real; return s })
}

func TestLyingNodesAreNamedAndNothingWrongIsReturned(t *testing.T) {
	for name, lie := range map[string]lyingStore{"flips bits": {flip: true}, "truncates": {truncate: true, flip: true}} {
		for _, n := range []int{3, 6, 12} {
			t.Run(fmt.Sprint(name, " of ", n), func(t *testing.T) {
				inWorld(t, n, func(t *testing.T, w *world) {
					w.mustInsert(w.order[0], sizes...)
					w.settle(time.Minute)
					liar := w.order[n-1]
					liar.lie(&lie)
					reader := w.order[1]
					for _, k := range w.content {
						if w.holders(k.ref.ID)[reader] != 0 && k.ref.Redundancy.Data == 1 {
							continue // read from its own disk
						}
						if err := w.lookup(reader, k); err != nil {
							t.Errorf("%v: %v", k.ref, err)
						}
					}
					time.Sleep(time.Minute)
					w.checkContent(reader)
					lied := reader.Status().LiedBy
					for node := range lied {
						if node != liar.id {
							t.Errorf("%v is said to lie", node)
						}
					}
					if n == 12 && lied[liar.id] == 0 {
						t.Error("the liar is not named")
					}
				})
			})
		}
	}
}

// TestNodeThatStoresNothingIsPassedOver: at acknowledgement it counted, but repair finds out and uses another one.
func TestNodeThatStoresNothingIsPassedOver(t *testing.T) {
	for _, n := range []int{4, 7} {
		inWorld(t, n, func(t *testing.T, w *world) {
			liar := w.order[n-1]
			liar.lie(&lyingStore{forget: true})
			w.mustInsert(w.order[0], sizes...)
			w.mustInsert(w.order[1], sizes...)
			w.changed()
			time.Sleep(5 * time.Minute)
			for _, k := range w.content {
				var all past.Indexes
				for _, set := range w.holders(k.ref.ID) {
					all |= set
				}
				if all.Count() != k.ref.Redundancy.Total() {
					t.Errorf("%d nodes, %v: indexes %b", n, k.ref, all)
				}
			}
			w.checkContent(w.order[1])
		})
	}
}

// TestGarbageAnswersAreErrors lets a node answer every request with something else.
func TestGarbageAnswersAreErrors(t *testing.T) {
	inWorld(t, 6, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		rnd := rand.New(rand.NewSource(1))
		garbage := func(context.Context, overlaywire.Peer, rpc.Request) (any, []byte, error) {
			w.mu.Lock() // of rnd
			defer w.mu.Unlock()
			data := make([]byte, rnd.Intn(1<<18))
			rnd.Read(data)
			return []any{any(rnd.Intn(70) - 2), rnd.Uint64()}, data, nil
		}
		for _, kind := range []wire.Kind{wire.KindFragmentPut, wire.KindFragmentGet, wire.KindFragmentStat, wire.KindFragmentTrash} {
			w.order[5].set(func() { w.order[5].instead[kind] = garbage })
		}
		for range 20 {
			w.mu.Lock()
			reader := w.order[rnd.Intn(5)]
			w.mu.Unlock()
			w.checkContent(reader)
		}
		w.mustInsert(w.order[1], sizes...)
		w.checkContent(w.order[2])
	})
}

func TestHungNodeDelaysOnlyALittle(t *testing.T) {
	for _, n := range []int{3, 6, 12} {
		inWorld(t, n, func(t *testing.T, w *world) {
			w.mustInsert(w.order[0], sizes...)
			w.settle(time.Minute)
			w.checkContent(w.order[0])
			w.order[n-1].set(func() { w.order[n-1].hung = true })
			began := time.Now()
			w.checkContent(w.order[0])
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%d nodes: lookups took %v with a hung node", n, took)
			}
			began = time.Now()
			w.mustInsert(w.order[0], sizes...)
			if took := time.Since(began); took > time.Second {
				t.Errorf("%d nodes: inserts took %v with a hung node", n, took)
			}
			w.order[n-1].set(func() { w.order[n-1].hung = false })
			w.settle(3 * time.Minute)
		})
	}
}

func TestKilledNodeThatReturnsSoonMovesNothing(t *testing.T) {
	inWorld(t, 6, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		w.order[3].kill()
		time.Sleep(15 * time.Second) // RepairDelay is 20 s
		w.order[3].start(nil)
		time.Sleep(2 * time.Minute)
		for _, n := range w.order {
			if s := n.Status(); s.Moved+s.Rebuilt+s.Surplus != 0 || !s.Whole {
				t.Errorf("%v: %+v", n.id, s)
			}
		}
	})
}

// TestMendedRingSaysSoSoon: a pass that found something to do is no proof; the one that is must not wait for its period.
func TestMendedRingSaysSoSoon(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		w.order[2].kill()
		w.add(1 << 40)
		w.settle(5 * time.Minute)
		time.Sleep(time.Minute)
		for _, n := range []*testNode{w.order[0], w.order[1], w.order[3]} {
			if s := n.Status(); !s.Whole {
				t.Errorf("%v: a minute after everything was mended: %+v", n.id, s)
			}
		}
	})
}

func TestKilledNodeThatReturnsLateGivesSurplusAway(t *testing.T) {
	for _, n := range []int{4, 6, 12} {
		inWorld(t, n, func(t *testing.T, w *world) {
			w.mustInsert(w.order[0], sizes...)
			w.settle(time.Minute)
			w.order[n-1].kill()
			w.settle(3 * time.Minute)
			w.order[n-1].start(nil)
			w.settle(10 * time.Minute)
			w.checkContent(w.order[n-1])
		})
	}
}

func TestSilentNodeIsGivenUpAndTakenBack(t *testing.T) {
	inWorld(t, 5, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes[:3]...)
		w.settle(time.Minute)
		mute := w.order[4]
		mute.set(func() { mute.hung = true }) // the ring still lists it
		held := 0
		for _, k := range w.content {
			if w.holders(k.ref.ID)[mute] != 0 {
				held++
			}
		}
		if held == 0 {
			t.Fatal("nothing at stake")
		}
		w.changed()
		time.Sleep(3 * time.Minute)
		for _, k := range w.content {
			holders := w.holders(k.ref.ID)
			delete(holders, mute)
			if len(holders) != 3 {
				t.Errorf("%v: %d holders without the silent one", k.ref, len(holders))
			}
		}
		mute.set(func() { mute.hung = false })
		w.settle(5 * time.Minute)
	})
}

func TestFullNodesDivertAndReport(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.addFull(1<<40, 60_000)
		w.add(1 << 40)
		for range 20 {
			w.mustInsert(w.order[0], 50_000)
		}
		w.checkContent(w.order[3])
		diverted := int64(0)
		for _, n := range w.order {
			diverted += n.Status().Diverted
		}
		if diverted == 0 {
			t.Error("nothing diverted")
		}
		w.settle(3 * time.Minute)
	})
	inWorld(t, 0, func(t *testing.T, w *world) {
		w.add(1_000)
		w.add(1_000)
		if _, err := w.insert(w.order[0], 50_000); !errors.Is(err, past.ErrNoSpace) {
			t.Errorf("insert into full nodes: %v", err)
		}
	})
}

func TestFailedInsertLeavesNothingLive(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		for _, n := range w.order[1:] {
			n.set(func() { n.hung = true })
		}
		if _, err := w.insert(w.order[0], 1000); !errors.Is(err, past.ErrUnavailable) {
			t.Fatalf("insert with two of three hung: %v", err)
		}
		for _, n := range w.order[1:] {
			n.set(func() { n.hung = false })
		}
		w.settle(time.Minute)
	})
	inWorld(t, 3, func(t *testing.T, w *world) {
		for _, n := range w.order {
			n.set(func() { n.hung = n != w.order[0] })
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		k, _ := w.insert(w.order[0], 10)
		if _, err := w.order[0].Insert(ctx, k.key, 9, k.plain, past.Claim{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("insert beyond the caller's deadline: %v", err)
		}
	})
}

func TestReclaimedBlocksGoAndStragglersFollow(t *testing.T) {
	for _, n := range []int{1, 2, 3, 6, 12} {
		inWorld(t, n, func(t *testing.T, w *world) {
			gone := w.mustInsert(w.order[0], sizes...)
			w.mustInsert(w.order[0], sizes...)
			w.settle(time.Minute)
			if n > 1 {
				w.order[n-1].kill()
			}
			for _, k := range gone {
				w.order[0].Reclaim(k.ref)
				delete(w.content, k.ref.ID)
			}
			time.Sleep(3 * time.Second)
			for _, k := range gone {
				if err := w.lookup(w.order[0], k); err != nil {
					t.Errorf("%d nodes: trash is not readable: %v", n, err)
				}
			}
			time.Sleep(5 * time.Minute)
			if n > 1 {
				w.order[n-1].start(nil)
			}
			w.settle(5 * time.Minute)
			w.checkContent(w.order[n-1])
			time.Sleep(trashAge / 2)
			for _, k := range gone {
				if err := w.lookup(w.order[0], k); err != nil {
					t.Errorf("%d nodes: trash is not readable after half its time: %v", n, err)
				}
			}
			time.Sleep(trashAge/2 + 2*time.Minute)
			for _, k := range gone {
				if err := w.lookup(w.order[0], k); !errors.Is(err, past.ErrNotFound) {
					t.Errorf("%d nodes: after a day: %v", n, err)
				}
			}
			w.settle(time.Minute)
		})
	}
}

func TestReclaimReachesNodesThatAnswerLater(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 1000)[0]
		w.order[2].set(func() { w.order[2].hung = true })
		w.order[0].Reclaim(k.ref)
		delete(w.content, k.ref.ID)
		time.Sleep(5500 * time.Millisecond)
		if s := w.order[0].Status(); s.ReclaimsQueued == 0 || s.ReclaimsDropped != 0 {
			t.Errorf("not to be tried again: %+v", s)
		}
		w.order[2].set(func() { w.order[2].hung = false })
		w.settle(10 * time.Second)
		time.Sleep(time.Minute)
		if s := w.order[0].Status(); s.ReclaimsQueued != 0 || s.ReclaimsDropped != 0 {
			t.Errorf("still to be tried: %+v", s)
		}
	})
}

func TestTrashGoesSoonerFromAFullDisk(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		w.add(100_000)
		k := w.mustInsert(w.order[0], 85_000)[0]
		w.order[0].Reclaim(k.ref)
		delete(w.content, k.ref.ID)
		time.Sleep(50 * time.Minute)
		if err := w.lookup(w.order[0], k); err != nil {
			t.Errorf("within the hour: %v", err)
		}
		time.Sleep(15 * time.Minute)
		w.mustInsert(w.order[0], 85_000)
	})
}

func TestWhatAnInsertCouldNotPlaceIsRepairedAtOnce(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		time.Sleep(time.Minute) // the first pass is over, the next one far
		refuse := func(context.Context, overlaywire.Peer, rpc.Request) (any, []byte, error) {
			return nil, nil, past.ErrNoSpace
		}
		w.order[2].set(func() { w.order[2].instead[wire.KindFragmentPut] = refuse })
		w.mustInsert(w.order[0], 1000)
		time.Sleep(2 * time.Second)
		w.order[2].set(func() { delete(w.order[2].instead, wire.KindFragmentPut) })
		w.settle(2 * time.Minute)
	})
}

func TestPinsAndLeavingExcludeEachOther(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newShelf(memstore.New(memstore.Options{}), func() time.Time { return now })
	key := keyOf(past.BlockID{1}, 2)
	if !s.pin(key) || s.leave(key) {
		t.Error("a pinned fragment may leave")
	}
	now = now.Add(pinAge)
	if !s.leave(key) || s.pin(key) {
		t.Error("a leaving fragment was pinned, or a pin lasts for ever")
	}
	s.stay(key)
	if !s.pin(key) {
		t.Error("a fragment that stays cannot be pinned")
	}
}

// TestNothingIsTrashedWhileItsKeeperIsLeaving puts a fragment on two nodes, of which each could take the other for the keeper.
func TestNothingIsTrashedWhileItsKeeperIsLeaving(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 1000)[0]
		w.settle(time.Minute)
		holders := w.holders(k.ref.ID)
		var spare *testNode
		for _, n := range w.order {
			if holders[n] == 0 {
				spare = n
			}
		}
		for n, set := range holders { // the spare node gets a copy of each
			for i := range 3 {
				key := keyOf(k.ref.ID, i)
				if set.Has(i) {
					raw, _ := n.store.Read(t.Context(), nil, key[:])
					_ = spare.store.Put(t.Context(), key[:], raw)
					n.shelf.leave(key)
				}
			}
		}
		spare.repair.hint(k.ref.ID)
		time.Sleep(3 * time.Minute)
		if got := w.holders(k.ref.ID)[spare]; got != 7 {
			t.Fatalf("the spare node has %b left while all keepers are leaving", got)
		}
		for n, set := range holders {
			for i := range 3 {
				if set.Has(i) {
					n.shelf.stay(keyOf(k.ref.ID, i))
				}
			}
		}
		w.settle(10 * time.Minute)
	})
}

// TestOneTombstoneDestroysNothing lets one storage node claim that all blocks are reclaimed.
func TestOneTombstoneDestroysNothing(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		liar := w.order[3]
		honest := liar.serveStat
		lie := func(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
			answer, data, err := honest(ctx, from, req)
			if s, ok := answer.(statAnswer); ok {
				for i := range s.Items {
					s.Items[i] = statItem{Reclaimed: true}
				}
			}
			return answer, data, err
		}
		liar.set(func() { liar.instead[wire.KindFragmentStat] = lie })
		w.changed()
		time.Sleep(5 * time.Minute)
		for _, k := range w.content {
			holders := w.holders(k.ref.ID)
			delete(holders, liar)
			if len(holders) != 3 {
				t.Errorf("%v: %d honest holders, want all 3", k.ref, len(holders))
			}
		}
	})
}

func TestOnlyGatewaysMayTrash(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 1000)[0]
		storage := overlaywire.Peer{Handle: pastry.NodeHandle{ID: pastry.NodeID{7}}, Roles: overlaywire.RoleStorage}
		here, there := newPipe()
		w.tasks.Go(func() { w.order[0].peers.Serve(t.Context(), storage, there) })
		_ = wire.Write(here, wire.KindFragmentTrash, wire.Marshal(trashRequest{IDs: k.ref.ID[:], Reason: trashReclaimed}))
		_ = here.CloseWrite()
		f, err := wire.Read(here, nil)
		if err != nil || f.Kind != wire.KindError {
			t.Errorf("answer %v, %v", f.Kind, err)
		}
		w.checkContent(w.order[0])
		if w.problem() != "" {
			t.Error(w.problem())
		}
	})
}

func TestRottenFragmentsAreFoundByScrubAndMended(t *testing.T) {
	for _, n := range []int{3, 6} {
		inWorld(t, n, func(t *testing.T, w *world) {
			w.mustInsert(w.order[0], sizes...)
			w.settle(time.Minute)
			victim := w.order[0]
			for i := range 3 {
				victim.disk.Flip(i, 1000+i)
			}
			report, err := victim.Scrub(t.Context())
			if err != nil || report.Corrupt == 0 || report.Mended != report.Corrupt {
				t.Fatalf("scrub: %+v, %v", report, err)
			}
			if report, err = victim.Scrub(t.Context()); err != nil || report.Corrupt != 0 || report.Fragments == 0 {
				t.Errorf("second scrub: %+v, %v", report, err)
			}
			w.checkContent(victim)
			if s := victim.Status(); s.CorruptFound == 0 || s.CorruptNow != 0 || s.Mended != s.CorruptFound {
				t.Errorf("status %+v", s)
			}
			w.settle(time.Minute)
		})
	}
}

func TestRotIsFoundByALookupAndMended(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 100_000)[0]
		w.settle(time.Minute)
		w.order[0].disk.Flip(0, 8*50_000)
		if err := w.lookup(w.order[0], k); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if s := w.order[0].Status(); s.CorruptFound != 1 || s.Mended != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPutRefusesWhatDoesNotProveItself(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 1000)[0]
		var raw []byte
		index := 0
		for n, set := range w.holders(k.ref.ID) {
			for !set.Has(index) {
				index++
			}
			key := keyOf(k.ref.ID, index)
			raw, _ = n.store.Read(t.Context(), nil, key[:])
			break
		}
		put := func(id past.BlockID, index int, raw []byte) error {
			_, err := w.order[0].peers.Do(t.Context(), w.order[1].id, rpc.Call{Kind: wire.KindFragmentPut, Body: putRequest{ID: id, Index: index}, Data: [][]byte{raw}}, nil)
			return err
		}
		if err := put(k.ref.ID, index, raw); err != nil {
			t.Fatalf("the true fragment: %v", err)
		}
		other := k.ref.ID
		other[5] ^= 1
		for name, err := range map[string]error{
			"another id":    put(other, index, raw),
			"another index": put(k.ref.ID, index+1, raw),
			"cut":           put(k.ref.ID, index, raw[:500]),
			"longer":        put(k.ref.ID, index, append(bytes.Clone(raw), make([]byte, claimMax)...)),
			"empty":         put(k.ref.ID, index, nil),
		} {
			if !errors.Is(err, wire.ErrFrame) {
				t.Errorf("%s: %v", name, err)
			}
		}
		raw[600] ^= 1
		if err := put(k.ref.ID, index, raw); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("a flipped bit: %v", err)
		}
	})
}

func TestDrainedNodeIsEmptied(t *testing.T) {
	inWorld(t, 6, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		w.order[2].set(func() { w.order[2].capacity = 0 })
		w.changed()
		w.settle(5 * time.Minute)
		w.checkContent(w.order[2])
	})
}

func TestPartitionedRingHeals(t *testing.T) {
	inWorld(t, 6, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		w.mu.Lock()
		for i, a := range w.order {
			for j, b := range w.order {
				a.cut[b.id] = i/3 != j/3
			}
		}
		w.mu.Unlock()
		w.changed()
		time.Sleep(3 * time.Minute)
		w.mustInsert(w.order[0], 1000, 90_000)
		w.mustInsert(w.order[5], 1000, 90_000)
		w.mu.Lock()
		for _, a := range w.order {
			clear(a.cut)
		}
		w.mu.Unlock()
		w.changed()
		w.settle(10 * time.Minute)
		w.checkContent(w.order[3])
	})
}

func TestUnreachableIsNotNotFound(t *testing.T) {
	inWorld(t, 5, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 1000)[0]
		w.settle(time.Minute)
		var away *testNode
		for n := range w.holders(k.ref.ID) {
			n.set(func() { n.hidden = true })
			away = n
		}
		reader := w.order[0]
		for _, n := range w.order {
			if !n.hidden {
				reader = n
			}
		}
		away.kill()
		time.Sleep(time.Second)
		if err := w.lookup(reader, k); !errors.Is(err, past.ErrUnavailable) {
			t.Errorf("with the holders unreachable: %v", err)
		}
		stranger := *k
		stranger.ref.ID[0] ^= 1
		if err := w.lookup(reader, &stranger); !errors.Is(err, past.ErrUnavailable) {
			t.Errorf("a block that may be on a dead node: %v", err)
		}
	})
	inWorld(t, 3, func(t *testing.T, w *world) {
		k := w.mustInsert(w.order[0], 1000)[0]
		k.ref.ID[0] ^= 1
		if err := w.lookup(w.order[1], k); !errors.Is(err, past.ErrNotFound) {
			t.Errorf("a block that never was: %v", err)
		}
	})
}

func TestListShowsClaims(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		w.mustInsert(w.order[0], sizes...)
		w.settle(time.Minute)
		var got []past.Kept
		for from := []byte(nil); ; {
			page, next, err := w.order[0].List(t.Context(), w.order[1].id, from, 2)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page...)
			if from = next; next == nil {
				break
			}
		}
		if len(got) != len(w.content) {
			t.Errorf("%d entries, want %d", len(got), len(w.content))
		}
		for _, k := range got {
			if want := w.content[k.ID]; want == nil || k.Claim.Data != want.key.Data || string(k.Claim.SealedKey) != "sealed" || time.Since(k.Stored) > 2*time.Minute {
				t.Errorf("entry %+v", k)
			}
		}
	})
}

func TestBudgetServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{free: 10}
		if b.acquire(t.Context(), 8) != nil {
			t.Fatal("not free")
		}
		got := make(chan int, 2)
		go func() { _ = b.acquire(t.Context(), 9); got <- 9 }()
		synctest.Wait()
		go func() { _ = b.acquire(t.Context(), 1); got <- 1 }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.acquire(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the small one overtook: %v", err)
		}
		b.release(8)
		if first, second := <-got, <-got; first != 9 && second != 9 {
			t.Error("not both served")
		}
		b.release(10)
		if b.free != 10 {
			t.Errorf("%d free in the end", b.free)
		}
	})
}

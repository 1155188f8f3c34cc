package pastry

import (
	"slices"
	"testing"
	"time"
)

// ringOf starts size nodes with random ids, one founder and the rest at once, and waits until the ring is whole.
func ringOf(t testing.TB, seed uint64, size int, adjust func(*Config)) *network {
	t.Helper()
	net := newNetwork(t, seed)
	net.adjust = adjust
	founder := randomID(net.rand)
	net.add(founder)
	for i := 1; i < size; i++ {
		net.add(randomID(net.rand), founder)
		if i >= 32 { // ever more at once
			net.run(time.Second / time.Duration(i/16))
		}
	}
	if !net.runUntil(5*time.Minute, net.allReady) {
		t.Fatalf("not everybody is ready after 5 min: %v", net.leafsTrue())
	}
	return net
}

func leafs8(c *Config) { c.LeafSetSize, c.NeighborhoodSize = 8, 8 }

// sizes are where leaf sets of 8 change their nature.
var sizes = []int{1, 2, 3, 4, 5, 6, 8, 9, 10, 24}

func TestRingsOfEverySize(t *testing.T) {
	for _, size := range sizes {
		net := ringOf(t, uint64(size), size, leafs8)
		took := net.settleLeafs(time.Minute)
		net.checkLookups(200)
		net.check()
		t.Logf("%d nodes: ready at %v, true %v later", size, net.now-took, took)
	}
}

func TestConcurrentJoinsMakeOneRing(t *testing.T) {
	seeds := uint64(5)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		net := newNetwork(t, seed)
		net.adjust = leafs8
		a, b := randomID(net.rand), randomID(net.rand)
		net.add(a)
		net.add(b, a)
		net.run(time.Second)
		for range 50 {
			net.add(randomID(net.rand), a, b)
		}
		if !net.runUntil(2*time.Minute, net.allReady) {
			t.Fatal("joins do not end")
		}
		took := net.now
		settled := net.settleLeafs(time.Minute)
		net.checkLookups(200)
		net.check()
		t.Logf("seed %d: 50 joined by %v, true %v later", seed, took, settled)
	}
}

func TestLookupsGoRoundAndRightAfterCrashes(t *testing.T) {
	size, seeds := 200, uint64(3)
	if testing.Short() {
		size, seeds = 64, 1
	}
	for seed := range seeds {
		net := ringOf(t, seed, size, leafs8)
		net.settleLeafs(time.Minute)
		if far := net.checkLookups(300); far < 100 {
			t.Errorf("only %d of 300 lookups took two hops or more: the ring is too small to test routing", far)
		}
		for i, id := range slices.Clone(net.order) {
			if i%10 == 3 {
				net.kill(id)
			}
		}
		took := net.settleLeafs(3 * time.Minute)
		net.checkLookups(300)
		net.check()
		t.Logf("seed %d: true again after %v", seed, took)
	}
}

func TestLossDelaysButDoesNotMislead(t *testing.T) {
	net := newNetwork(t, 4)
	net.adjust = leafs8
	net.loss = 0.05
	net.delay = func(a, b NodeID) time.Duration { return time.Duration(5+int(a[0]^b[0])/8) * time.Millisecond }
	founder := randomID(net.rand)
	net.add(founder)
	for range 63 {
		net.add(randomID(net.rand), founder)
		net.run(100 * time.Millisecond)
	}
	if !net.runUntil(5*time.Minute, net.allReady) {
		t.Fatal("joins do not end under loss")
	}
	net.settleLeafs(3 * time.Minute)
	net.checkLookups(300)
	net.check()
}

func TestRingsThatKnowEachOthersSeedsMerge(t *testing.T) {
	for _, size := range []int{1, 3, 12, 40} {
		net := newNetwork(t, uint64(size))
		net.adjust = leafs8
		var a, b []NodeID
		for range size {
			a, b = append(a, randomID(net.rand)), append(b, randomID(net.rand))
		}
		split := true
		net.cut = func(from, to NodeID) bool {
			return split && slices.Contains(a, from) != slices.Contains(a, to)
		}
		for i := range size {
			if i == 0 {
				net.add(a[0])
				net.add(b[0])
				net.nodes[a[0]].n.cfg.Seeded, net.nodes[a[0]].seeds = true, []NodeID{b[0]}
				continue
			}
			net.add(a[i], a[0], b[0])
			net.add(b[i], a[0], b[0])
			net.run(time.Second / 4)
		}
		net.run(time.Minute)
		if err := net.leafsTrue(); err == nil {
			t.Fatal("the rings are one already")
		}
		split = false
		took := net.settleLeafs(3 * time.Minute)
		net.checkLookups(100)
		net.check()
		t.Logf("2 rings of %d: one after %v", size, took)
	}
}

func TestPartitionHealsWithoutSeeds(t *testing.T) {
	net := ringOf(t, 9, 24, leafs8)
	net.settleLeafs(time.Minute)
	for _, m := range net.nodes {
		m.seeds = nil
	}
	half := net.order[:12]
	cut := true
	net.cut = func(from, to NodeID) bool { return cut && slices.Contains(half, from) != slices.Contains(half, to) }
	net.run(10 * time.Minute)
	if net.leafsTrue() == nil {
		t.Fatal("the partition had no effect")
	}
	cut = false
	took := net.settleLeafs(3 * time.Minute)
	net.checkLookups(100)
	net.check()
	t.Logf("one ring %v after a partition of 10 min", took)
}

func TestStoppedNodeComesBack(t *testing.T) {
	for _, size := range []int{5, 24} {
		net := ringOf(t, 11, size, leafs8)
		net.settleLeafs(time.Minute)
		victim := net.nodes[net.order[size/2]]
		victim.stopped = true
		took := net.settleLeafs(2 * time.Minute)
		net.run(2 * time.Minute)
		victim.stopped = false
		net.step(victim, &TimerFired{})
		if victim.n.Ready() {
			t.Error("a node that overslept delivers before it proved its leaf set again")
		}
		back := net.settleLeafs(time.Minute)
		net.checkLookups(100)
		net.check()
		t.Logf("%d nodes: left out after %v, back after %v", size, took, back)
	}
}

func TestRestartAtAnotherPort(t *testing.T) {
	for _, size := range []int{3, 5, 24} {
		net := ringOf(t, 12, size, leafs8)
		net.settleLeafs(time.Minute)
		id := net.order[size-1]
		start := net.now
		net.add(id, net.order[0])
		if !net.runUntil(2*time.Second, net.allReady) {
			t.Fatalf("%d nodes: not ready within 2 s of a restart", size)
		}
		took := net.now - start
		net.settleLeafs(10 * time.Second)
		net.checkLookups(100)
		net.check()
		t.Logf("%d nodes: ready %v after a restart", size, took)
	}
}

func TestWholeRingRestarts(t *testing.T) {
	net := newNetwork(t, 13)
	net.adjust = leafs8
	var ids []NodeID
	for range 5 {
		ids = append(ids, randomID(net.rand))
	}
	for _, id := range ids { // each knows all, none is a founder
		net.add(id, ids...)
	}
	net.settleLeafs(time.Minute)
	net.checkLookups(50)
	net.check()
	t.Logf("one ring after %v", net.now)
}

func TestHelperCrashes(t *testing.T) {
	for seed := range uint64(10) {
		net := ringOf(t, seed, 12, leafs8)
		net.settleLeafs(time.Minute)
		id := randomID(net.rand)
		helper := net.root(id)
		if helper.ID == net.order[0] {
			continue // the seed
		}
		net.add(id, net.order[0])
		net.run(time.Duration(20+10*seed) * time.Millisecond)
		net.kill(helper.ID)
		if !net.runUntil(15*time.Second, net.allReady) {
			t.Fatalf("seed %d: not in 15 s after the helper's crash", seed)
		}
		net.settleLeafs(time.Minute)
		net.checkLookups(50)
		net.check()
	}
}

// TestSmallRingsExhaustively asks every key of the 8-bit ring at every node, for N around the sizes where leaf sets change their
// nature: evenly spread, and all within one sixteenth of the ring.
func TestSmallRingsExhaustively(t *testing.T) {
	for _, leafs := range []int{2, 4} {
		for _, size := range []int{1, 2, 3, leafs, leafs + 1, leafs + 2, 12} {
			for _, gap := range []int{1, 256 / size} {
				net := newNetwork(t, uint64(size))
				net.adjust = func(c *Config) { c.LeafSetSize, c.NeighborhoodSize = leafs, 4 }
				gap = min(gap, 255/size)
				for i := range size {
					if id := id8(byte(1 + i*gap)); i == 0 {
						net.add(id)
					} else {
						net.add(id, id8(1))
						net.runUntil(time.Minute, net.allReady)
					}
				}
				net.settleLeafs(time.Minute)
				net.run(10 * time.Second)
				for _, m := range net.live() {
					if size <= leafs && m.n.leafs.Len() != size-1 {
						t.Errorf("N = %d, |L| = %d: %v knows %d", size, leafs, short(m.n.self.ID), m.n.leafs.Len())
					}
					for k := range 256 {
						token := net.lookup(m.n.self.ID, id8(byte(k)))
						net.runUntil(time.Second, func() bool { _, ok := net.found[token]; return ok })
						f, want := net.found[token], net.root(id8(byte(k)))
						if f.Root != want {
							t.Fatalf("N = %d, |L| = %d, gap %d: %02x from %v ends at %v, not %v", size, leafs, gap, k, short(m.n.self.ID), short(f.Root.ID), short(want.ID))
						}
						if size <= leafs && (f.Hops > 1 || len(f.Near) != size) {
							t.Fatalf("N = %d, |L| = %d: %d hops, near %v", size, leafs, f.Hops, shorts(f.Near))
						}
					}
				}
				net.check()
			}
		}
	}
}

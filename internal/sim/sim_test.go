package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"larder/pastry"
)

// TestQueueAgainstSorting pushes and pops at random.
func TestQueueAgainstSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var q queue
	var twin []event
	for range 4000 {
		if r.IntN(5) < 3 || len(twin) == 0 {
			e := event{at: time.Duration(r.IntN(500)), node: r.Int32()}
			q.push(e)
			e.order = q.pushed
			i, _ := slices.BinarySearchFunc(twin, e, func(a, b event) int {
				if a.before(&b) {
					return -1
				}
				return 1
			})
			twin = slices.Insert(twin, i, e)
			continue
		}
		if at, ok := q.next(); !ok || at != twin[0].at {
			t.Fatalf("next says %v, %v; the earliest is at %v", at, ok, twin[0].at)
		}
		if e := q.pop(); e != twin[0] {
			t.Fatalf("popped %+v, the earliest is %+v", e, twin[0])
		}
		twin = twin[1:]
	}
	if _, ok := q.next(); ok != (len(twin) > 0) {
		t.Errorf("next says %v with %d events", ok, len(twin))
	}
}

// TestRingAgainstSorting compares roots with those that trying every node gives.
func TestRingAgainstSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	var truth ring
	in := map[pastry.NodeID]int32{}
	for i := range int32(120) {
		id := pastry.NodeID{byte(1 + r.IntN(255))} // an 8-bit ring, where keys are often as close to two
		if _, there := in[id]; there {
			truth.remove(id)
			delete(in, id)
		} else {
			truth.add(id, i)
			in[id] = i
		}
		if len(truth) != len(in) || !slices.IsSortedFunc(truth, func(a, b place) int { return a.id.Compare(b.id) }) {
			t.Fatalf("%d nodes in a ring that should have %d, or out of order", len(truth), len(in))
		}
		for k := int(i); k < 256; k += 7 {
			key, want := pastry.Key{byte(k)}, int32(-1)
			var best pastry.NodeID
			for id, node := range in {
				if want < 0 || pastry.Closer(key, id, best) {
					best, want = id, node
				}
			}
			if got := truth.root(key); got != want {
				t.Fatalf("root of %02x is node %d, not %d", k, got, want)
			}
		}
	}
}

func TestDelays(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	sphere, plane := NewSphere(100*time.Millisecond), NewPlane(100*time.Millisecond)
	const hosts = 1000
	for range hosts {
		sphere.Place(r)
		plane.Place(r)
	}
	var onSphere, onPlane time.Duration
	for range 20_000 {
		a, b := r.IntN(hosts), r.IntN(hosts)
		p, q := sphere.points[a], sphere.points[b]
		dot := float64(p[0])*float64(q[0]) + float64(p[1])*float64(q[1]) + float64(p[2])*float64(q[2])
		want := math.Acos(min(max(dot, -1), 1)) / math.Pi * 100e6
		if got := sphere.Delay(a, b); math.Abs(float64(got)-want) > 50e3 || got != sphere.Delay(b, a) {
			t.Fatalf("from %v to %v: %v, want %v", p, q, got, time.Duration(want))
		}
		onSphere += sphere.Delay(a, b)
		onPlane += plane.Delay(a, b)
	}
	// The mean great circle is a quarter of the whole; the mean line in a unit square is 0.5214 (Santaló).
	if mean := onSphere / 20_000; mean < 48*time.Millisecond || mean > 52*time.Millisecond {
		t.Errorf("mean delay on the sphere is %v, not 50 ms", mean)
	}
	if mean := onPlane / 20_000; mean < 50*time.Millisecond || mean > 54*time.Millisecond {
		t.Errorf("mean delay in the square is %v, not 52.1 ms", mean)
	}
	for _, topology := range []Topology{sphere, plane} {
		if d := topology.Delay(7, 7); d != 0 {
			t.Errorf("%T: %v from a host to itself", topology, d)
		}
	}
}

// storm runs faults of every kind that there are.
func storm(seed uint64) *Sim {
	plan := HopsPlan{Nodes: 24, LeafSetSize: 8, Growth: 16}
	cfg := ForHops(plan, seed, NewPlane(60*time.Millisecond))
	cfg.Loss, cfg.Jitter = 0.02, 0.5
	s := New(cfg)
	if err := grow(s, plan); err != nil {
		panic(err)
	}
	s.Crash(5)
	s.Run(20 * time.Second)
	s.Partition(func(i int) uint8 { return uint8(i % 2) })
	askMany(s, 20)
	s.Heal()
	s.Restart(5, 0)
	askMany(s, 20)
	return s
}

func TestEqualSeedsGiveEqualRuns(t *testing.T) {
	a, b, other := storm(1), storm(1), storm(2)
	if a.Hash() != b.Hash() || a.Events() != b.Events() || a.Lookups != b.Lookups || a.Sent() != b.Sent() {
		t.Errorf("seed 1 gave %016x after %d events, and %016x after %d", a.Hash(), a.Events(), b.Hash(), b.Events())
	}
	if a.Hash() == other.Hash() {
		t.Error("seeds 1 and 2 gave the same run")
	}
}

// small returns a settled ring.
func small(t *testing.T, nodes int, adjust func(*Config)) *Sim {
	t.Helper()
	plan := HopsPlan{Nodes: nodes, LeafSetSize: 8, Growth: 16}
	cfg := ForHops(plan, 7, NewSphere(100*time.Millisecond))
	if adjust != nil {
		adjust(&cfg)
	}
	s := New(cfg)
	if err := grow(s, plan); err != nil {
		t.Fatal(err)
	}
	s.Run(2 * time.Minute)
	if err := s.CheckLeafs(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLossAndReorderingMisleadNobody(t *testing.T) {
	s := small(t, 32, func(c *Config) { c.Loss, c.Jitter = 0.05, 1 })
	askMany(s, 1000)
	if l := &s.Lookups; l.Found != 1000 || l.Lost+l.Wrong+l.Misdelivered > 0 {
		t.Errorf("of %d lookups %d were found, %d lost, %d wrong; %d misdelivered", l.Asked, l.Found, l.Lost, l.Wrong, l.Misdelivered)
	}
	sent, dropped := s.SentAll(), s.net.dropped
	if share := float64(dropped) / float64(sent); share < 0.04 || share > 0.06 {
		t.Errorf("%d of %d messages were lost, not a twentieth", dropped, sent)
	}
}

// TestIslandsMergeAgain parts a ring in two. Each island becomes a ring of its own, which the oracle must notice; healed, they must become one.
func TestIslandsMergeAgain(t *testing.T) {
	s := small(t, 24, nil)
	s.Partition(func(i int) uint8 { return uint8(i % 2) })
	s.Run(3 * time.Minute)
	if s.CheckLeafs() == nil {
		t.Error("two rings pass for one")
	}
	askMany(s, 200)
	if s.Lookups.Misdelivered < 20 || s.Lookups.Wrong < 70 {
		t.Errorf("of 200 lookups within islands only %d ended at a wrong node, %d by delivery: the true root of half of them is on the other island",
			s.Lookups.Wrong, s.Lookups.Misdelivered)
	}
	s.Heal()
	if !s.RunUntil(10*time.Minute, 5*time.Second, func() bool { return s.CheckLeafs() == nil }) {
		t.Fatalf("ten minutes after: %v", s.CheckLeafs())
	}
	s.Lookups = LookupStats{}
	askMany(s, 200)
	if l := &s.Lookups; l.Found != 200 || l.Wrong+l.Misdelivered > 0 {
		t.Errorf("healed: %+v", l)
	}
}

// TestOraclesSeeCrashes wants a crash to be seen at once, and nothing any more after repair and restart.
func TestOraclesSeeCrashes(t *testing.T) {
	s := small(t, 24, nil)
	if invalid := s.CheckTables(1).Invalid; invalid != 0 {
		t.Errorf("%d invalid entries in a quiet ring", invalid)
	}
	s.Crash(9)
	if s.CheckLeafs() == nil || s.CheckTables(1).Invalid == 0 {
		t.Error("nobody noticed that node 9 is gone")
	}
	s.Run(2 * time.Minute)
	if err := s.CheckLeafs(); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	s.Run(20 * time.Minute) // whoever does not need an entry finds out by its sweep, after two rounds at most
	if invalid := s.CheckTables(1).Invalid; invalid != 0 {
		t.Errorf("%d invalid entries 22 minutes after a crash", invalid)
	}
	s.Restart(9, 0)
	if s.CheckLeafs() == nil {
		t.Error("nobody noticed that node 9 is not ready")
	}
	s.Run(time.Minute)
	if err := s.CheckLeafs(); err != nil || s.Ready() != 24 {
		t.Errorf("after a restart %d are ready: %v", s.Ready(), err)
	}
	s.Crash(3)
	s.Restart(3, 0)
	if s.CheckTables(1).Invalid == 0 {
		t.Error("entries with the address of node 3's last life pass")
	}
}

// TestLeafOracleSeesEachSide takes the truth's word instead of a node's: with a place on the ring that no node knows of, or one
// too few, each neighbour must be found wrong.
func TestLeafOracleSeesEachSide(t *testing.T) {
	s := small(t, 24, nil)
	for at := range s.ring {
		missing := s.ring[at]
		s.ring.remove(missing.id)
		if s.CheckLeafs() == nil {
			t.Errorf("a leaf set that holds node %d passes, which is not on the ring", missing.node)
		}
		s.ring.add(missing.id, missing.node)
	}
	for _, side := range []string{"smaller", "larger"} {
		step := map[string]int{"smaller": -1, "larger": 1}[side]
		leafs := s.Node(int(s.ring[3].node)).Leafs()
		have := map[string][]pastry.NodeHandle{"smaller": leafs.Smaller(), "larger": leafs.Larger()}
		if err := s.checkSide(3, side, have[side], step); err != nil {
			t.Error(err)
		}
		if s.checkSide(3, side, have[side], -step) == nil {
			t.Errorf("the %s side passes for the other", side)
		}
	}
}

// TestTableOracleAgainstTryingAll counts places, gaps and farther entries by trying every node for every place.
func TestTableOracleAgainstTryingAll(t *testing.T) {
	s := small(t, 45, nil)
	s.ring.remove(s.nodes[11].id) // whatever the ring is, the count must be right
	got, want := s.CheckTables(1), TableStats{Nodes: 44}
	for _, p := range s.ring {
		table := s.nodes[p.node].core.Table()
		for row := range 6 { // no two of so few share more
			places := 0
			for col := range 16 {
				best := never
				for _, q := range s.ring {
					if p.id.SharedPrefixLen(q.id, 4) == row && q.id.Digit(row, 4) == col {
						best = min(best, s.net.topology.Delay(int(p.node), int(q.node)))
					}
				}
				if best == never {
					continue
				}
				places++
				if table.Row(row) == nil || table.Row(row)[col].IsZero() {
					want.Rows[row].Missing++
					continue
				}
				d := s.net.topology.Delay(int(p.node), int(number(&table.Row(row)[col], len(s.nodes))))
				want.Have, want.Best = want.Have+d, want.Best+best
				if d > best {
					want.Rows[row].Farther++
				}
				if best*5 < d*4 {
					want.Rows[row].Clearly++
				}
			}
			want.Rows[row].Places += places
			want.Rows[row].Rows += min(places, 1)
		}
	}
	if got != want {
		t.Errorf("the oracle says\n%+v\ntrying all says\n%+v", got, want)
	}
	if want.Rows[0].Farther == 0 {
		t.Error("no entry is farther than another: this test shows little")
	}
}

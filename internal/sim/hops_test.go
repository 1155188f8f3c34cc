package sim

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// TestHops joins nodes and looks up keys. LARDER_SIM_NODES sets how many nodes, LARDER_SIM_SEED the seed, LARDER_SIM_PLANE a
// square instead of a sphere.
func TestHops(t *testing.T) {
	size := int(setting("LARDER_SIM_NODES", 1000))
	if testing.Short() {
		size = 64
	}
	var topology Topology = NewSphere(100 * time.Millisecond)
	if os.Getenv("LARDER_SIM_PLANE") != "" {
		topology = NewPlane(100 * time.Millisecond)
	}
	plan, seed := DefaultHops(size), setting("LARDER_SIM_SEED", 1)
	if testing.Short() {
		plan.Lookups, plan.Settle = 1000, time.Minute
	}
	before := heapBytes()
	began := time.Now()
	s := New(ForHops(plan, seed, topology))
	r, err := Hops(s, plan)
	if err != nil {
		t.Fatalf("LARDER_SIM_NODES=%d LARDER_SIM_SEED=%d: %v", size, seed, err)
	}
	took := time.Since(began)
	t.Logf("LARDER_SIM_NODES=%d LARDER_SIM_SEED=%d: %v, %.0f events a second, %d bytes a node\n%v", size, seed,
		took.Round(time.Millisecond), float64(r.Events)/took.Seconds(), (heapBytes()-before)/uint64(size), r)
	checkHops(t, r)
	runtime.KeepAlive(s)
}

// checkHops wants the right root for every lookup, in about as many hops as Pastry §3.1 says: mean below log N to base 16 (from
// below 300 nodes, leaf sets make up for what the rounding up of the logarithm costs), never more than that rounded up, and
// one more for nodes that are not where their prefixes are.
func checkHops(t *testing.T, r *HopsResult) {
	t.Helper()
	l := &r.Lookups
	if int(l.Found) != r.Plan.Lookups || l.Lost+l.Wrong+l.Misdelivered > 0 {
		t.Errorf("of %d lookups %d were found, %d lost, %d wrong; %d misdelivered", l.Asked, l.Found, l.Lost, l.Wrong, l.Misdelivered)
	}
	rows := math.Log(float64(r.Plan.Nodes)) / math.Log(16)
	if mean := l.MeanHops(); mean > rows+0.1 || mean < rows-1 {
		t.Errorf("mean %.3f hops; log16 N is %.3f", mean, rows)
	}
	if most := l.MaxHops(); most > int(math.Ceil(rows))+1 {
		t.Errorf("a lookup took %d hops; log16 N is %.3f", most, rows)
	}
	if l.Stretch() < 1 || l.MeanRatio() < l.Stretch() {
		t.Errorf("stretch %.3f, mean of ratios %.3f: ways are shorter than straight", l.Stretch(), l.MeanRatio())
	}
	missing, places := 0, 0
	for _, row := range r.Tables.Rows {
		missing, places = missing+row.Missing, places+row.Places
	}
	if r.Tables.Invalid > 0 || missing*100 > places {
		t.Errorf("%d invalid entries; %d of %d places are empty that need not be", r.Tables.Invalid, missing, places)
	}
	if r.AtRest > 1 {
		t.Errorf("%.2f messages a second and node at rest", r.AtRest)
	}
	if joins := uint64(r.Plan.Nodes - 1); r.Joins.Ready != joins || r.Joins.Messages < joins*10 {
		t.Errorf("%d joins cost %d messages", r.Joins.Ready, r.Joins.Messages)
	}
}

// TestWaysAreAddedUp compares the ways of single lookups in a quiet ring with the time that their answers took.
func TestWaysAreAddedUp(t *testing.T) {
	s := small(t, 48, nil)
	far := 0
	for range 150 {
		s.Lookups = LookupStats{}
		from, key := s.RandomReady(), s.RandomKey()
		asked := s.Now()
		s.Lookup(from, key)
		for s.Pending() > 0 {
			at, _ := s.queue.next()
			s.Run(at - s.Now())
		}
		l := &s.Lookups
		if l.MaxHops() < 2 {
			continue
		}
		far++
		back := s.net.topology.Delay(int(s.ring.root(key)), from)
		if took := s.Now() - asked; l.Straight != back || l.Way != took-back {
			t.Fatalf("a way of %v, straight %v, but the answer took %v, of which %v back", l.Way, l.Straight, took, back)
		}
	}
	if far < 50 {
		t.Errorf("only %d of 150 lookups went farther than one hop", far)
	}
}

// setting reads a number from the environment.
func setting(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 32); err == nil {
		return n
	}
	return otherwise
}

// heapBytes is what lives on the heap.
func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

package pastry

import (
	"math"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestHopsAreLogarithmic grows a ring with the published parameters and counts hops: the mean must be near log N to base 2ᵇ (Pastry
// §3.1 finds a little under it). LARDER_NODES sets N; internal/sim goes further.
func TestHopsAreLogarithmic(t *testing.T) {
	size, count := 300, 2000
	if testing.Short() {
		size, count = 64, 200
	}
	if n, err := strconv.Atoi(os.Getenv("LARDER_NODES")); err == nil {
		size = n
	}
	net := newNetwork(t, 1)
	// Nodes lie on a plane of 50 × 50 ms, so that nearness means something.
	net.delay = func(a, b NodeID) time.Duration {
		dx, dy := float64(a[14])-float64(b[14]), float64(a[15])-float64(b[15])
		return time.Millisecond + time.Duration(math.Hypot(dx, dy)/256*50*float64(time.Millisecond))
	}
	first := randomID(net.rand)
	net.add(first)
	for i := 1; i < size; i++ {
		seed := net.order[net.rand.IntN(len(net.order))]
		net.add(randomID(net.rand), seed)
		net.run(time.Second / time.Duration(1+i/16))
	}
	if !net.runUntil(time.Minute, net.allReady) {
		t.Fatal("joins do not end")
	}
	grown := net.sent
	net.settleLeafs(2 * time.Minute)
	net.run(2 * time.Minute)
	start := net.sent
	net.run(10 * time.Minute)
	t.Logf("%d nodes: %d messages a join, %.2f a second and node at rest", size, grown/uint64(size), float64(net.sent-start)/600/float64(size))

	live := net.live()
	hops, local := 0, 0
	for range count {
		net.lookup(live[net.rand.IntN(size)].n.self.ID, randomID(net.rand))
	}
	net.runUntil(time.Minute, func() bool { return len(net.found) == count })
	for _, f := range net.found {
		if f.Lost || f.Root != net.root(f.Key) {
			t.Fatalf("lookup of %v: lost %v, root %v", f.Key, f.Lost, f.Root.ID)
		}
		hops += f.Hops
		if f.Hops < 2 {
			local++
		}
	}
	mean, want := float64(hops)/float64(count), math.Log(float64(size))/math.Log(16)
	t.Logf("mean hops %.2f, log N = %.2f; %d of %d took one or none; table entries are %.2f times as far as the nearest that fit",
		mean, want, local, count, net.tableStretch())
	if size >= 200 && (mean > want+0.3 || mean < want-1) {
		t.Errorf("mean hops %.2f, log N to base 16 is %.2f", mean, want)
	}
	net.check()
}

// tableStretch is how much farther routing table entries are than the nearest nodes that fit their places, on average.
func (net *network) tableStretch() float64 {
	live := net.live()
	var have, best time.Duration
	for _, m := range live[:min(len(live), 100)] {
		for row := range m.n.table.Rows() {
			for col, h := range m.n.table.Row(row) {
				if h.IsZero() {
					continue
				}
				nearest := time.Duration(math.MaxInt64)
				for _, other := range live {
					if other == m {
						continue
					}
					if r, c := m.n.table.Place(other.n.self.ID); r == row && c == col {
						nearest = min(nearest, net.delay(m.n.self.ID, other.n.self.ID))
					}
				}
				have += net.delay(m.n.self.ID, h.ID)
				best += nearest
			}
		}
	}
	return float64(have) / float64(best)
}

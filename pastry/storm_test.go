package pastry

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestStorms runs random fault plans: crashes, restarts, stopped processes, partitions, loss and joins for some minutes; then, after
// quiet, leaf sets must be true and lookups right. LARDER_STORMS says how many; LARDER_STORM which alone.
func TestStorms(t *testing.T) {
	first, count := uint64(0), uint64(8)
	if testing.Short() {
		count = 2
	}
	if n, err := strconv.ParseUint(os.Getenv("LARDER_STORMS"), 10, 32); err == nil {
		count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("LARDER_STORM"), 10, 32); err == nil {
		first, count = n, 1
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint("LARDER_STORM=", seed), func(t *testing.T) { storm(t, seed) })
	}
}

func storm(t *testing.T, seed uint64) {
	net := newNetwork(t, seed)
	r := net.rand
	leafs := 4 << r.IntN(3)
	net.adjust = func(c *Config) { c.LeafSetSize, c.NeighborhoodSize = leafs, 8 }
	net.loss = []float64{0, 0.01, 0.05}[r.IntN(3)]
	net.delay = func(a, b NodeID) time.Duration {
		return time.Millisecond + time.Duration(a[1]^b[1])*200*time.Microsecond
	}
	seeds := []NodeID{randomID(r), randomID(r), randomID(r)}
	net.add(seeds[0])
	net.add(seeds[1], seeds...)
	net.add(seeds[2], seeds...)
	for range 1 + r.IntN(40) {
		net.add(randomID(r), seeds...)
		net.run(time.Duration(r.IntN(300)) * time.Millisecond)
	}
	for range 40 {
		net.mishap(seeds)
		net.run(time.Duration(r.IntN(8000)) * time.Millisecond)
		live := net.live()
		net.lookup(live[r.IntN(len(live))].n.self.ID, randomID(r))
	}
	net.cut, net.loss = nil, 0
	for _, m := range net.nodes {
		m.stopped = false
	}
	for _, id := range net.order { // every stopped one goes on
		if m := net.nodes[id]; !m.dead {
			net.step(m, &TimerFired{})
		}
	}
	took := net.settleLeafs(5 * time.Minute)
	clear(net.found)
	net.checkLookups(100)
	net.check()
	t.Logf("%d nodes, |L| = %d, true %v after the storm", len(net.live()), leafs, took)
}

// mishap does one thing to somebody. The first seed stays, so that there is a ring to come back to.
func (net *network) mishap(seeds []NodeID) {
	live := net.live()
	victim := net.order[1+net.rand.IntN(len(net.order)-1)]
	m := net.nodes[victim]
	switch net.rand.IntN(7) {
	case 0:
		m.dead = len(live) > 2 || m.dead
	case 1, 2:
		net.add(victim, seeds...) // restarts, whether or not it ran
	case 3:
		if !m.dead && len(live) > 2 {
			m.stopped = !m.stopped
			if !m.stopped {
				net.step(m, &TimerFired{})
			}
		}
	case 4:
		var half []NodeID
		for _, id := range net.order {
			if net.rand.IntN(3) == 0 {
				half = append(half, id)
			}
		}
		net.cut = func(a, b NodeID) bool { return slices.Contains(half, a) && !slices.Contains(half, b) }
	case 5:
		net.cut = nil
	case 6:
		net.add(randomID(net.rand), seeds...)
	}
}

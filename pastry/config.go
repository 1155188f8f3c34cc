package pastry

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Config is what a Node is made from. DefaultConfig gives the published values.
type Config struct {
	DigitBits        int // the paper's b: 1, 2, 4 or 8; default 4
	LeafSetSize      int // |L|, both sides together, even; default 32
	NeighborhoodSize int // |M|; default 32

	HeartbeatEvery   time.Duration // to the left neighbour; default 30 s (MSPastry §4.1)
	LeafRepairEvery  time.Duration // between exchanges of leaf sets; default 30 s; within a second after a loss
	RowExchangeEvery time.Duration // default 20 min (MSPastry §4.2)
	SeedEvery        time.Duration // between looks for other rings, for ever; default 30 s
	ProbeSweepMax    time.Duration // the slowest self-tuned probing of every known node; default 10 min
	ProbeSweepMin    time.Duration // the fastest; default 15 s

	RTOInitial   time.Duration // wait for an acknowledgement from a node of unknown distance; default 500 ms
	RTOMin       time.Duration // default 100 ms
	RTOMax       time.Duration // default 3 s
	ProbeTimeout time.Duration // first wait for the answer to a probe, doubled each time; half of it, or the RTO, where the distance is known; default 500 ms
	ProbeTries   int           // probes that a node leaves unanswered before it has failed; default 3 (MSPastry §4.1)

	LookupRetry time.Duration // first wait of an asker before it asks again, doubled up to eight times that; default 1 s
	JoinRetry   time.Duration // what a busy helper tells others to wait, before jitter; default 50 ms
	JoinTimeout time.Duration // wait for an answer to Join; default 1 s, growing to 5 s
	JoinHold    time.Duration // how long a helper waits for a silent joiner; default 3 s
	FoundAfter  time.Duration // a joiner that met only joiners founds the ring if its id is the smallest; default 3 s
	FailedMax   time.Duration // slowest re-probing of a failed node; default 1 min
	FailedKeep  time.Duration // how long a failed node is remembered; default 24 h

	Seeded bool       // there are seeds: the node joins. Otherwise it founds a ring and is ready at once
	Rand   *rand.Rand // owned by the Step that runs; several nodes of one simulation may share it
	App    App        // upcalls; may be nil
}

// DefaultConfig is the published Pastry and MSPastry, for a node that draws from r.
func DefaultConfig(r *rand.Rand) Config {
	return Config{
		DigitBits: 4, LeafSetSize: 32, NeighborhoodSize: 32,
		HeartbeatEvery: 30 * time.Second, LeafRepairEvery: 30 * time.Second, RowExchangeEvery: 20 * time.Minute,
		SeedEvery: 30 * time.Second, ProbeSweepMax: 10 * time.Minute, ProbeSweepMin: 15 * time.Second,
		RTOInitial: 500 * time.Millisecond, RTOMin: 100 * time.Millisecond, RTOMax: 3 * time.Second,
		ProbeTimeout: 500 * time.Millisecond, ProbeTries: 3,
		LookupRetry: time.Second, JoinRetry: 50 * time.Millisecond, JoinTimeout: time.Second, JoinHold: 3 * time.Second,
		FoundAfter: 3 * time.Second, FailedMax: time.Minute, FailedKeep: 24 * time.Hour,
		Rand: r,
	}
}

// Check returns an error that names the first value that cannot work.
func (c *Config) Check() error {
	switch {
	case c.DigitBits != 1 && c.DigitBits != 2 && c.DigitBits != 4 && c.DigitBits != 8:
		return fmt.Errorf("pastry: DigitBits is %d, not 1, 2, 4 or 8", c.DigitBits)
	case c.LeafSetSize < 2 || c.LeafSetSize%2 != 0 || c.LeafSetSize > HandlesMax-2:
		return fmt.Errorf("pastry: LeafSetSize is %d, not even or not in 2..%d", c.LeafSetSize, HandlesMax-2)
	case c.NeighborhoodSize < 0 || c.NeighborhoodSize > 128:
		return fmt.Errorf("pastry: NeighborhoodSize is %d, not in 0..128", c.NeighborhoodSize)
	case c.Rand == nil:
		return fmt.Errorf("pastry: no Rand")
	case c.ProbeTries < 1:
		return fmt.Errorf("pastry: ProbeTries is %d", c.ProbeTries)
	}
	for _, d := range []time.Duration{c.HeartbeatEvery, c.LeafRepairEvery, c.RowExchangeEvery, c.SeedEvery, c.ProbeSweepMax, c.ProbeSweepMin,
		c.RTOInitial, c.RTOMin, c.RTOMax, c.ProbeTimeout, c.LookupRetry, c.JoinRetry, c.JoinTimeout, c.JoinHold, c.FoundAfter,
		c.FailedMax, c.FailedKeep} {
		if d < time.Millisecond {
			return fmt.Errorf("pastry: an interval of %v is under 1 ms", d)
		}
	}
	return nil
}

// App takes the upcalls of Pastry §2.3. They run inside Step, must be as pure as Step is, and must not call back.
type App interface {
	// Deliver says that this node is the root of m.Key. A lookup may be delivered twice where an acknowledgement was lost.
	Deliver(now time.Duration, m *Message)
	// Forward says that m goes to next. False ends m here, without an answer.
	Forward(now time.Duration, m *Message, next NodeHandle) bool
	// NewLeafs says that the leaf set has changed. leafs is valid during the call.
	NewLeafs(now time.Duration, leafs *LeafSet)
}

package sim

import (
	"fmt"
	"strings"
	"time"

	"larder/pastry"
)

// HopsPlan is the scenario of Pastry §3.1 and §3.2: nodes join, one after the other, by way of any node that is ready; then any
// of them look up any keys.
type HopsPlan struct {
	Nodes       int
	LeafSetSize int           // |L|
	Lookups     int           // after the joins
	Growth      int           // nodes in the ring for each join a second: with 16 a ring doubles in 11 s
	Settle      time.Duration // between the last join and the lookups
	TablesOf    int           // how many nodes' routing tables are compared with ideal ones, at most
}

// DefaultHops is the plan for so many nodes, with the |L| of the paper's Figure 5.
func DefaultHops(nodes int) HopsPlan {
	return HopsPlan{Nodes: nodes, LeafSetSize: 16, Lookups: max(20*nodes, 20_000), Growth: 16, Settle: 5 * time.Minute, TablesOf: 1000}
}

// HopsResult is what came of it.
type HopsResult struct {
	Plan     HopsPlan
	Lookups  LookupStats
	Joins    JoinStats
	Tables   TableStats
	JoinWays float64       // messages a join that its contact and those after it sent each other to route it
	AtRest   float64       // messages a second and node in the last minute before the lookups
	Took     time.Duration // virtual
	Events   uint64
	Hash     uint64
}

// Hops runs the plan on a simulation without nodes. It returns an error if the joins do not end or leaf sets are not true.
func Hops(s *Sim, plan HopsPlan) (*HopsResult, error) {
	if err := grow(s, plan); err != nil {
		return nil, err
	}
	r := &HopsResult{Plan: plan, Joins: s.Joins}
	r.JoinWays = float64(s.net.joinHops) * 2 / float64(max(s.Joins.Ready, 1))
	s.Run(max(plan.Settle-time.Minute, 0))
	before := s.SentAll()
	s.Run(time.Minute)
	r.AtRest = float64(s.SentAll()-before) / 60 / float64(plan.Nodes)
	if err := s.CheckLeafs(); err != nil {
		return nil, err
	}
	r.Tables = s.CheckTables(max(plan.Nodes/plan.TablesOf, 1))
	askMany(s, plan.Lookups)
	r.Lookups, r.Took, r.Events, r.Hash = s.Lookups, s.Now(), s.Events(), s.Hash()
	return r, nil
}

// grow joins nodes until there are enough and all are ready.
func grow(s *Sim, plan HopsPlan) error {
	s.Add(-1)
	for i := 1; i < plan.Nodes; i++ {
		s.Add(s.RandomReady())
		s.Run(time.Second / time.Duration(1+i/plan.Growth))
	}
	if !s.RunUntil(5*time.Minute, time.Second, func() bool { return s.Ready() == plan.Nodes }) {
		return fmt.Errorf("sim: only %d of %d nodes are ready five minutes after the last began to join", s.Ready(), plan.Nodes)
	}
	return nil
}

// askMany looks up random keys from random nodes, one of a thousand nodes each 10 ms, and waits for the answers.
func askMany(s *Sim, count int) {
	each := max(s.Ready()/1000, 1)
	for asked := 0; asked < count; asked++ {
		s.Lookup(s.RandomReady(), s.RandomKey())
		if asked%each == 0 {
			s.Run(10 * time.Millisecond)
		}
	}
	s.RunUntil(2*lookupPatience, time.Second, func() bool { return s.Pending() == 0 })
}

// String is a report of several lines.
func (r *HopsResult) String() string {
	var b strings.Builder
	l := &r.Lookups
	fmt.Fprintf(&b, "%d nodes, |L| = %d, %d lookups: mean %.3f hops, at most %d; lost %d, wrong %d, misdelivered %d\nshares",
		r.Plan.Nodes, r.Plan.LeafSetSize, l.Asked, l.MeanHops(), l.MaxHops(), l.Lost, l.Wrong, l.Misdelivered)
	for hops := range l.MaxHops() + 1 {
		fmt.Fprintf(&b, " %d:%.4f", hops, l.Share(hops))
	}
	fmt.Fprintf(&b, "\nstretch %.3f (mean of ratios %.3f); table entries are %.3f times as far as the nearest that fit\n",
		l.Stretch(), l.MeanRatio(), float64(r.Tables.Have)/float64(max(r.Tables.Best, 1)))
	for row, t := range r.Tables.Rows {
		if t.Rows > 0 {
			fmt.Fprintf(&b, "row %d: in %d of %d tables; a row has %.2f places, %.3f missing, %.3f not the nearest, %.3f clearly farther\n", row, t.Rows,
				r.Tables.Nodes, per(t.Places, t.Rows), per(t.Missing, t.Rows), per(t.Farther, t.Rows), per(t.Clearly, t.Rows))
		}
	}
	joins := float64(max(r.Joins.Ready, 1))
	fmt.Fprintf(&b, "a join: %.1f messages by or to the joiner until it is ready, and %.1f between others, in %.2f s; at rest %.3f messages a second and node\n",
		float64(r.Joins.Messages)/joins, r.JoinWays, r.Joins.Took.Seconds()/joins, r.AtRest)
	fmt.Fprintf(&b, "%v of virtual time, %d events, hash %016x; invalid entries %d\n", r.Took.Round(time.Second), r.Events, r.Hash, r.Tables.Invalid)
	return b.String()
}

func per(a, b int) float64 { return float64(a) / float64(max(b, 1)) }

// ForHops is the configuration of a simulation for plan.
func ForHops(plan HopsPlan, seed uint64, topology Topology) Config {
	return Config{Seed: seed, Topology: topology, Adjust: func(c *pastry.Config) { c.LeafSetSize = plan.LeafSetSize }}
}

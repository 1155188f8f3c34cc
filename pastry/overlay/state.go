package overlay

import (
	"slices"

	"larder/pastry"
)

// Snapshot is what an overlay knows at one moment, for people: `larder admin ring`, metrics.
type Snapshot struct {
	Self     pastry.NodeHandle
	Ready    bool                  // it delivers now
	Smaller  []pastry.NodeHandle   // the leaf set, nearest first
	Larger   []pastry.NodeHandle   // in a ring of at most |L| nodes the same node may be on both sides
	Rows     [][]pastry.NodeHandle // of the routing table, by row: the filled entries, by digit
	Near     []pastry.NodeHandle   // the neighborhood set, nearest first
	RingSize float64               // estimated from the density of the leaf set; exact in a ring of at most |L| nodes
	Stats    pastry.Stats
	// Refused counts messages that do not decode, Dropped what came faster than the core could take it.
	Refused, Dropped uint64
}

// FarLookups is how many of this node's lookups took two hops or more.
func (s *Snapshot) FarLookups() (count uint64) {
	for hops := 2; hops < len(s.Stats.Lookups); hops++ {
		count += s.Stats.Lookups[hops]
	}
	return count
}

// State returns a snapshot, which the caller may keep. Before Run it holds little.
func (o *Overlay) State() Snapshot {
	s := Snapshot{Self: o.Self(), Refused: o.badly.Load(), Dropped: o.dropped.Load()}
	o.do(func() {
		s.Ready = o.node.Ready()
		s.Smaller, s.Larger = slices.Clone(o.node.Leafs().Smaller()), slices.Clone(o.node.Leafs().Larger())
		for row := range o.node.Table().Rows() {
			s.Rows = append(s.Rows, o.node.Table().AppendRow(nil, row))
		}
		s.Near = o.node.Near().AppendMembers(nil)
		s.RingSize = o.node.RingSize()
		s.Stats = o.node.Stats()
	})
	return s
}

package sim

import (
	"fmt"
	"time"

	"larder/pastry"
)

// CheckLeafs returns an error that names the first node which lives and is not ready, or whose leaf set is not the true one.
func (s *Sim) CheckLeafs() error {
	for i := range s.nodes {
		if n := &s.nodes[i]; n.core != nil && !n.ready {
			return fmt.Errorf("sim: node %d (%v) is not ready", i, n.id)
		}
	}
	for at, p := range s.ring {
		leafs := s.nodes[p.node].core.Leafs()
		if err := s.checkSide(at, "smaller", leafs.Smaller(), -1); err != nil {
			return err
		}
		if err := s.checkSide(at, "larger", leafs.Larger(), 1); err != nil {
			return err
		}
	}
	return nil
}

// checkSide compares one side of a leaf set with the ring, in the direction of step.
func (s *Sim) checkSide(at int, side string, have []pastry.NodeHandle, step int) error {
	p := s.ring[at]
	if want := min(s.core.LeafSetSize/2, len(s.ring)-1); len(have) != want {
		return fmt.Errorf("sim: node %d (%v) has %d %s leafs, should have %d", p.node, p.id, len(have), side, want)
	}
	for j, h := range have {
		want := s.ring.step(at, (j+1)*step)
		if h != s.nodes[want.node].core.Self() {
			return fmt.Errorf("sim: node %d (%v): %s leaf %d is %v, should be %v", p.node, p.id, side, j, h.ID, want.id)
		}
	}
	return nil
}

// RowsMax is how many rows of routing tables are told apart.
const RowsMax = 32

// TableStats is what an oracle says of routing tables. A place counts if some node fits it.
type TableStats struct {
	Nodes   int // whose tables were looked at
	Invalid int // entries with a wrong prefix, or whose node does not live
	Rows    [RowsMax]RowStats
	Have    time.Duration // the sum of the delays to the entries there are
	Best    time.Duration // the same if each were the nearest that fits
}

// RowStats is about the same row of several tables.
type RowStats struct {
	Rows    int // that have a place that counts
	Places  int // that count
	Missing int // of those: empty
	Farther int // of those: taken, and some other that fits is nearer
	Clearly int // of those: nearer by more than a fifth, which is when a node changes an entry
}

// CheckTables looks at the routing tables of every step'th node of the ring, against all nodes. It costs N comparisons a node.
func (s *Sim) CheckTables(step int) (t TableStats) {
	for at := 0; at < len(s.ring); at += step {
		t.Nodes++
		s.checkTable(at, &t)
	}
	return t
}

// checkTable goes down the rows. Those who share a prefix with a node are a stretch of the ring, within which lies that of
// those who share one digit more.
func (s *Sim) checkTable(at int, t *TableStats) {
	self := s.ring[at]
	table, b := s.nodes[self.node].core.Table(), s.core.DigitBits
	s.checkEntries(self, table, t)
	share := s.ring
	nearest := make([]time.Duration, 1<<b)
	for row := 0; len(share) > 1; row++ {
		for col := range nearest {
			nearest[col] = never
		}
		own := self.id.Digit(row, b)
		first, last := len(share), 0 // of those who share the next digit too
		for i := range share {
			col := share[i].id.Digit(row, b)
			if col == own {
				first, last = min(first, i), i
				continue
			}
			nearest[col] = min(nearest[col], s.net.topology.Delay(int(self.node), int(share[i].node)))
		}
		s.checkRow(self, table.Row(row), nearest, &t.Rows[min(row, RowsMax-1)], t)
		share = share[first : last+1]
	}
}

// checkRow compares one row with the nearest that fit its places.
func (s *Sim) checkRow(self place, have []pastry.NodeHandle, nearest []time.Duration, row *RowStats, t *TableStats) {
	places := 0
	for col, best := range nearest {
		if best == never {
			continue
		}
		places++
		i := int32(-1)
		if have != nil && !have[col].IsZero() {
			i = number(&have[col], len(s.nodes))
		}
		if i < 0 {
			row.Missing++
			continue
		}
		d := s.net.topology.Delay(int(self.node), int(i))
		t.Have += d
		t.Best += best
		if d > best {
			row.Farther++
		}
		if best*5 < d*4 {
			row.Clearly++
		}
	}
	row.Places += places
	if places > 0 {
		row.Rows++
	}
}

// checkEntries counts entries that should not be where they are.
func (s *Sim) checkEntries(self place, table *pastry.RoutingTable, t *TableStats) {
	for row := range table.Rows() {
		for col, h := range table.Row(row) {
			if h.IsZero() {
				continue
			}
			i := number(&h, len(s.nodes))
			prefix := self.id.SharedPrefixLen(h.ID, s.core.DigitBits) == row && h.ID.Digit(row, s.core.DigitBits) == col
			if !prefix || i < 0 || s.nodes[i].core == nil || s.nodes[i].core.Self() != h {
				t.Invalid++
			}
		}
	}
}

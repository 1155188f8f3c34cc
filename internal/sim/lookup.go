package sim

import (
	"time"

	"larder/pastry"
)

// lookupPatience is how long a lookup may take before it is lost.
const lookupPatience = 30 * time.Second

// HopsMax is the most hops that are told apart; the last count stands for all above.
const HopsMax = 15

// LookupStats sums up lookups that have ended.
type LookupStats struct {
	Asked uint64
	Found uint64
	Lost  uint64 // not answered within 30 s
	Wrong uint64 // ended at a node that was not the true root when it was delivered there

	Misdelivered uint64              // deliveries, of which one lookup may have several, at another node than the true root
	Hops         [HopsMax + 1]uint64 // found ones by hops: 0 if the asker is the root, 1 if it knows the root

	// Of those found whose root is not the asker: the sums of the delays on the way there and of those straight to the root, and
	// the sum of their ratios.
	Away     uint64
	Way      time.Duration
	Straight time.Duration
	Ratios   float64
}

// MeanHops is the mean over those found.
func (l *LookupStats) MeanHops() float64 {
	sum := uint64(0)
	for hops, n := range l.Hops {
		sum += uint64(hops) * n
	}
	return float64(sum) / float64(max(l.Found, 1))
}

// MaxHops is the most hops that any took.
func (l *LookupStats) MaxHops() (most int) {
	for hops, n := range l.Hops {
		if n > 0 {
			most = hops
		}
	}
	return most
}

// Share is the part of those found that took so many hops.
func (l *LookupStats) Share(hops int) float64 {
	return float64(l.Hops[hops]) / float64(max(l.Found, 1))
}

// Stretch is how long the ways were, together, over how long they would have been straight.
func (l *LookupStats) Stretch() float64 { return float64(l.Way) / float64(max(l.Straight, 1)) }

// MeanRatio is the mean of each way's own stretch: more than Stretch, since short ways are stretched most.
func (l *LookupStats) MeanRatio() float64 { return l.Ratios / float64(max(l.Away, 1)) }

// lookup is one under way.
type lookup struct {
	from int32
	root int32           // the true one when it was last delivered; -1 before
	way  []time.Duration // by hops: the delays up to there; those that took another way after a loss not counted
}

// Lookup asks for key from node i, which lives. The keys of lookups under way differ.
func (s *Sim) Lookup(i int, key pastry.Key) {
	if s.pending[key] != nil {
		panic("sim: a lookup of this key is under way")
	}
	s.pending[key] = &lookup{from: int32(i), root: -1, way: make([]time.Duration, 1, 8)}
	s.Lookups.Asked++
	n := &s.nodes[i]
	s.step(int32(i), &pastry.FindKey{Key: key, Token: s.Lookups.Asked, Until: s.now - n.born + lookupPatience})
}

// Pending is how many lookups are under way.
func (s *Sim) Pending() int { return len(s.pending) }

// passed takes note of a hop of a lookup.
func (s *Sim) passed(f *flight) {
	m := &f.received.Message
	l := s.pending[m.Key]
	if l == nil || int(m.Hops) > len(l.way) || m.Hops == 0 {
		return // an echo of one that has ended
	}
	way := l.way[m.Hops-1] + s.net.topology.Delay(int(f.from), int(f.to))
	l.way = append(l.way[:m.Hops], way)
}

// delivered compares a delivery at the node that steps with the truth.
func (s *Sim) delivered(key pastry.Key) {
	root := s.ring.root(key)
	if root != s.stepping {
		s.Lookups.Misdelivered++
	}
	if l := s.pending[key]; l != nil {
		l.root = root
	}
}

// ended takes the answer to a lookup of node i.
func (s *Sim) ended(i int32, f *pastry.Found) {
	l := s.pending[f.Key]
	if l == nil {
		return
	}
	delete(s.pending, f.Key)
	stats := &s.Lookups
	if f.Lost {
		stats.Lost++
		return
	}
	if l.root < 0 { // answered from the asker's leaf set
		l.root = s.ring.root(f.Key)
	}
	root := number(&f.Root, len(s.nodes))
	stats.Found++
	stats.Hops[min(f.Hops, HopsMax)]++
	if root != l.root {
		stats.Wrong++
	}
	if root < 0 || root == i {
		return
	}
	straight := s.net.topology.Delay(int(i), int(root))
	way := straight
	if f.Hops < len(l.way) && f.Hops > 0 {
		way = l.way[f.Hops]
	}
	stats.Away++
	stats.Way += way
	stats.Straight += straight
	stats.Ratios += float64(way) / float64(max(straight, 1))
}

package pastry

import "slices"

// LeafSet is the paper's L: the |L|/2 nodes whose nodeIds follow self's in either direction (Pastry §2.1). Sides run all the
// way round the ring, so in a ring of at most |L| nodes they overlap, and the leaf set holds every other node.
//
// It knows nothing of liveness. Node.admit is the only place that adds to a member's leaf set, after a message from that
// very node (design.md §3).
type LeafSet struct {
	self  NodeID
	half  int             // |L|/2, the most on each side
	count int             // distinct members; less than the sum of the sides where they overlap
	sides [2][]NodeHandle // by Side; nearest first; each side holds the nearest of the members of both
}

// NewLeafSet returns the empty leaf set of self, for |L| = size, both sides together. size is even and at least 2.
func NewLeafSet(self NodeID, size int) LeafSet {
	return LeafSet{self: self, half: size / 2}
}

// Smaller returns the members towards smaller nodeIds, nearest first. It is valid until the next Step.
func (l *LeafSet) Smaller() []NodeHandle { return l.sides[Smaller] }

// Larger returns the members towards larger nodeIds, nearest first. It is valid until the next Step.
func (l *LeafSet) Larger() []NodeHandle { return l.sides[Larger] }

// Len is the number of distinct members.
func (l *LeafSet) Len() int { return l.count }

// Get returns the member called id.
func (l *LeafSet) Get(id NodeID) (NodeHandle, bool) {
	for s := range l.sides {
		if i := l.find(Side(s), id); i >= 0 {
			return l.sides[s][i], true
		}
	}
	return NodeHandle{}, false
}

// Wants reports whether id is not a member and Add would make it one.
func (l *LeafSet) Wants(id NodeID) bool {
	if id == l.self {
		return false
	}
	if _, ok := l.Get(id); ok {
		return false
	}
	return l.fits(Smaller, id) || l.fits(Larger, id)
}

// Add makes h a member where it is among the nearest, at the cost of a farther one, or renews the address of a member. It
// reports whether anything changed.
func (l *LeafSet) Add(h NodeHandle) bool {
	if h.ID == l.self {
		return false
	}
	smaller, larger := l.place(Smaller, h), l.place(Larger, h)
	if smaller || larger {
		l.recount()
	}
	return smaller || larger
}

// Remove drops id and lets members of the other side stand in, which is right in a small ring and soon repaired in a large
// one. It reports whether id was a member.
func (l *LeafSet) Remove(id NodeID) bool {
	removed := false
	for s := range l.sides {
		if i := l.find(Side(s), id); i >= 0 {
			l.sides[s] = slices.Delete(l.sides[s], i, i+1)
			removed = true
		}
	}
	if !removed {
		return false
	}
	for s := range l.sides {
		for _, h := range l.sides[Side(s).opposite()] {
			l.place(Side(s), h)
		}
	}
	l.recount()
	return true
}

// AppendMembers appends every member once: first the smaller side, nearest first, then what only the larger side has.
func (l *LeafSet) AppendMembers(to []NodeHandle) []NodeHandle {
	to = append(to, l.sides[Smaller]...)
	for _, h := range l.sides[Larger] {
		if l.count == len(l.sides[Smaller])+len(l.sides[Larger]) || l.find(Smaller, h.ID) < 0 {
			to = append(to, h)
		}
	}
	return to
}

// Wraps reports whether the sides overlap: then the ring has at most |L| nodes, or some on a side have just been lost.
func (l *LeafSet) Wraps() bool { return l.count < len(l.sides[Smaller])+len(l.sides[Larger]) }

// Covers reports whether key lies between the farthest members (Pastry §2.3). Where sides overlap a member only counts on the
// side it is nearer on.
func (l *LeafSet) Covers(key Key) bool {
	if key == l.self {
		return true
	}
	for s, members := range l.sides {
		side := Side(s)
		for i := len(members) - 1; i >= 0; i-- {
			reach := side.offset(l.self, members[i].ID)
			if l.Wraps() && halfRing.less(reach) {
				continue
			}
			if !reach.less(side.offset(l.self, key)) {
				return true
			}
			break
		}
	}
	return false
}

// Closest returns the member numerically closest to key, except the one called without (the zero NodeID is nobody), or the
// zero handle if self is closer than all of them.
func (l *LeafSet) Closest(key Key, without NodeID) NodeHandle {
	best := NodeHandle{ID: l.self}
	for _, members := range l.sides {
		for _, h := range members {
			if h.ID != without && Closer(key, h.ID, best.ID) {
				best = h
			}
		}
	}
	if best.ID == l.self {
		return NodeHandle{}
	}
	return best
}

// copyFrom makes l equal to from, in l's own memory.
func (l *LeafSet) copyFrom(from *LeafSet) {
	l.self, l.half, l.count = from.self, from.half, from.count
	for s := range l.sides {
		l.sides[s] = append(l.sides[s][:0], from.sides[s]...)
	}
}

// fits reports whether id, not a member of side s, is near enough for it.
func (l *LeafSet) fits(s Side, id NodeID) bool {
	side := l.sides[s]
	return len(side) < l.half || s.offset(l.self, id).less(s.offset(l.self, side[len(side)-1].ID))
}

// find returns where id is on side s, or -1.
func (l *LeafSet) find(s Side, id NodeID) int {
	if i, ok := l.search(s, id); ok {
		return i
	}
	return -1
}

// search returns where id is on side s, or where it would be. No two nodes lie equally far in one direction.
func (l *LeafSet) search(s Side, id NodeID) (int, bool) {
	reach, side := s.offset(l.self, id), l.sides[s]
	lo, hi := 0, len(side)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.offset(l.self, side[mid].ID).less(reach) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(side) && side[lo].ID == id
}

// place puts h where it belongs on side s, if it does, and reports whether the side changed.
func (l *LeafSet) place(s Side, h NodeHandle) bool {
	i, member := l.search(s, h.ID)
	if member {
		changed := l.sides[s][i] != h
		l.sides[s][i] = h
		return changed
	}
	if i == l.half {
		return false
	}
	side := l.sides[s]
	if side == nil {
		side = make([]NodeHandle, 0, l.half)
	}
	if len(side) == l.half {
		side = side[:l.half-1]
	}
	l.sides[s] = slices.Insert(side, i, h)
	return true
}

func (l *LeafSet) recount() {
	l.count = len(l.sides[Larger])
	for _, h := range l.sides[Smaller] {
		if l.find(Larger, h.ID) < 0 {
			l.count++
		}
	}
}

package pastry

import (
	"slices"
	"time"
)

// NeighborhoodSet is the paper's M: the |M| nodes nearest to self by round-trip time (Pastry §2.1). Routing does not need
// it; joiners start from it, since a good table begins with near nodes.
type NeighborhoodSet struct {
	max     int
	members []neighbor // nearest first, ties by nodeId
}

type neighbor struct {
	NodeHandle
	rtt uint32 // µs
}

// NewNeighborhoodSet returns an empty set for |M| = size.
func NewNeighborhoodSet(size int) NeighborhoodSet { return NeighborhoodSet{max: size} }

// Len is the number of members.
func (m *NeighborhoodSet) Len() int { return len(m.members) }

// Has reports whether id is a member.
func (m *NeighborhoodSet) Has(id NodeID) bool { return m.find(id) >= 0 }

// Wants reports whether a node at a distance of rtt that is no member would become one.
func (m *NeighborhoodSet) Wants(rtt time.Duration) bool {
	return len(m.members) < m.max || m.max > 0 && micros(rtt) < m.members[len(m.members)-1].rtt
}

// Add makes h a member at a distance of rtt, if it is near enough, or moves it to there.
func (m *NeighborhoodSet) Add(h NodeHandle, rtt time.Duration) {
	m.Remove(h.ID)
	if !m.Wants(rtt) {
		return
	}
	if len(m.members) == m.max {
		m.members = m.members[:m.max-1]
	}
	n := neighbor{h, micros(rtt)}
	i, _ := slices.BinarySearchFunc(m.members, n, func(a, b neighbor) int {
		if a.rtt != b.rtt {
			return int(int64(a.rtt) - int64(b.rtt))
		}
		return a.ID.Compare(b.ID)
	})
	m.members = slices.Insert(m.members, i, n)
}

// Remove drops id and reports whether it was a member.
func (m *NeighborhoodSet) Remove(id NodeID) bool {
	i := m.find(id)
	if i >= 0 {
		m.members = slices.Delete(m.members, i, i+1)
	}
	return i >= 0
}

// AppendMembers appends every member, nearest first.
func (m *NeighborhoodSet) AppendMembers(to []NodeHandle) []NodeHandle {
	for i := range m.members {
		to = append(to, m.members[i].NodeHandle)
	}
	return to
}

func (m *NeighborhoodSet) find(id NodeID) int {
	return slices.IndexFunc(m.members, func(n neighbor) bool { return n.ID == id })
}

// micros is d in whole microseconds, as far as 32 bits go (71 minutes).
func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), 1<<32-1))
}

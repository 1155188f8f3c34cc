package sim

import (
	"slices"

	"larder/pastry"
)

// ring is the truth: the nodes that live and are ready, sorted by nodeId.
type ring []place

// place is one node's on the ring.
type place struct {
	id   pastry.NodeID
	node int32
}

// at returns the index of id, or where it would be.
func (r ring) at(id pastry.NodeID) (int, bool) {
	return slices.BinarySearchFunc(r, id, func(p place, id pastry.NodeID) int { return p.id.Compare(id) })
}

func (r *ring) add(id pastry.NodeID, node int32) {
	if i, there := r.at(id); !there {
		*r = slices.Insert(*r, i, place{id, node})
	}
}

func (r *ring) remove(id pastry.NodeID) {
	if i, there := r.at(id); there {
		*r = slices.Delete(*r, i, i+1)
	}
}

// root returns the node numerically closest to key, or -1 if there is nobody: one of the two that key lies between.
func (r ring) root(key pastry.Key) int32 {
	if len(r) == 0 {
		return -1
	}
	i, _ := r.at(key)
	after, before := r.step(i, 0), r.step(i, -1)
	if pastry.Closer(key, before.id, after.id) {
		return before.node
	}
	return after.node
}

// step returns who is by places further than index i, round the ring.
func (r ring) step(i, by int) place {
	return r[((i+by)%len(r)+len(r))%len(r)]
}

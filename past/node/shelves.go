package node

import (
	"slices"

	"larder/past"
	"larder/past/chb"
	"larder/pastry"
	"larder/pastry/wire"
)

// Shelves shows a gateway's audit what storage nodes keep (gateway/objects.Shelves), and which of it is this gateway's to look through.
type Shelves struct {
	*chb.Blocks // List, KeptOf
	n           *Node
}

// Shelves is for after Ready.
func (n *Node) Shelves() Shelves { return Shelves{n.blocks, n} }

// Share returns the storage nodes of this node's leaf set, itself included, to which no other gateway is closer. Whoever is closer to a
// node than another that has it in its leaf set has it in his own, so that each node that any gateway knows is in somebody's share.
func (s Shelves) Share() []past.NodeID {
	gateways := s.n.ring.Gateways()
	var out []past.NodeID
	for _, info := range s.n.Nodes() {
		if info.Roles.Has(wire.RoleStorage) && nearest(info.ID, s.n.ring.Self(), gateways) {
			out = append(out, info.ID)
		}
	}
	return out
}

// Mine reports whether no other gateway that is known is closer to a bucket's key on the ring.
func (s Shelves) Mine(id past.BucketID) bool {
	return nearest(pastry.Key(id), s.n.ring.Self(), s.n.ring.Gateways())
}

// nearest reports whether no gateway is closer to key than self.
func nearest(key pastry.Key, self pastry.NodeID, gateways []past.Candidate) bool {
	return !slices.ContainsFunc(gateways, func(g past.Candidate) bool { return g.ID != self && pastry.Closer(key, g.ID, self) })
}

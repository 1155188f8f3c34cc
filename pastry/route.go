package pastry

import "time"

// settleTime is how long after a loss the leaf set may have holes: twice what a repair takes.
const settleTime = 2 * time.Second

// next returns the node to hand a message for key to, or the zero handle if self is the root (Pastry §2.3). without is never
// chosen. It does not allocate.
//
// Where the leaf set covers key its closest member is chosen even while suspected: to hand the message to the second closest
// would be to deliver at the wrong node, and the suspicion is resolved within seconds. Elsewhere suspects are passed over.
func (n *Node) next(key Key, without NodeID) NodeHandle {
	if n.covers(key) {
		return n.leafs.Closest(key, without)
	}
	if h := n.table.Get(key); !h.IsZero() && h.ID != without && !n.suspected(h.ID) {
		return h
	}
	return n.rareCase(key, without)
}

// covers reports whether key lies in the leaf set's range, so that the closest of it is the root.
func (n *Node) covers(key Key) bool { return n.knowsAll() || n.leafs.Covers(key) }

// knowsAll reports whether the leaf set is the whole ring, as far as this node can tell: its sides overlap, and nobody is known
// outside it.
func (n *Node) knowsAll() bool {
	return (n.leafs.Wraps() || n.leafs.Len() == 0) && n.leafs.Len() == len(n.peers)
}

// rareCase is the paper's: some known node that shares at least as long a prefix with key as self does, and is numerically
// closer. Failing that, any that is closer: the paper calls it lost then, but the hop limit ends what might circle. Failing
// that, the same among suspects.
func (n *Node) rareCase(key Key, without NodeID) NodeHandle {
	c := chooser{
		n: n, key: key, without: without, prefix: n.self.ID.SharedPrefixLen(key, n.cfg.DigitBits),
		best: NodeHandle{ID: n.self.ID}, closest: NodeHandle{ID: n.self.ID}, suspect: NodeHandle{ID: n.self.ID},
	}
	for _, side := range n.leafs.sides {
		for i := range side {
			c.consider(&side[i])
		}
	}
	for _, row := range n.table.rows {
		for i := range row {
			c.consider(&row[i])
		}
	}
	for i := range n.near.members {
		c.consider(&n.near.members[i].NodeHandle)
	}
	for _, h := range []*NodeHandle{&c.best, &c.closest, &c.suspect} {
		if h.ID != n.self.ID {
			return *h
		}
	}
	return NodeHandle{}
}

// chooser holds the best candidate of each class so far; self stands for none.
type chooser struct {
	n                      *Node
	key                    Key
	without                NodeID
	prefix                 int
	best, closest, suspect NodeHandle
}

func (c *chooser) consider(h *NodeHandle) {
	if h.IsZero() || h.ID == c.without {
		return
	}
	class := &c.closest
	if h.ID.SharedPrefixLen(c.key, c.n.cfg.DigitBits) >= c.prefix {
		class = &c.best
	}
	if !Closer(c.key, h.ID, class.ID) && !Closer(c.key, h.ID, c.suspect.ID) {
		return
	}
	if c.n.suspected(h.ID) {
		class = &c.suspect
	}
	if Closer(c.key, h.ID, class.ID) {
		*class = *h
	}
}

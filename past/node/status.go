package node

import (
	"net/netip"
	"slices"

	"larder/pastry"
)

// Nodes returns what is known of this node and of the members of its leaf set, sorted by nodeId.
func (n *Node) Nodes() []Info {
	out := []Info{n.info()}
	for _, h := range n.cfg.Overlay.Leafs() {
		if in, ok := n.ring.introduction(h.ID); ok {
			out = append(out, in.info)
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return a.ID.Compare(b.ID) })
	return out
}

func addressOf(h pastry.NodeHandle) string {
	return netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port).String()
}

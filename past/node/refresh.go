package node

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"

	"larder/pastry"
)

// Refresh asks every member of the leaf set, all at once, what it says of itself now, so that Nodes tells the present and not what
// was true at the last introduction. It returns the members that did not answer, in the order of their nodeIds; each is waited for
// at most 2 s.
func (n *Node) Refresh(ctx context.Context) (silent []pastry.NodeID) {
	leafs := n.cfg.Overlay.Leafs()
	failed := make([]bool, len(leafs))
	var asked sync.WaitGroup
	for i, h := range leafs {
		asked.Go(func() { failed[i] = n.ask(ctx, h) != nil })
	}
	asked.Wait()
	for i, h := range leafs {
		if failed[i] {
			silent = append(silent, h.ID)
		}
	}
	return silent
}

// Fingerprint is that of the present leaf set. In a ring of at most |L| nodes, where all nodes have the same one, what a node's
// Info says of its blocks is about the present membership if Info.Membership is equal to it.
func (n *Node) Fingerprint() uint64 { return fingerprint(n.ring.Self(), n.cfg.Overlay.Leafs()) }

// fingerprint is a number that differs where the nodes do.
func fingerprint(self pastry.NodeID, leafs []pastry.NodeHandle) uint64 {
	ids := []pastry.NodeID{self}
	for _, h := range leafs {
		ids = append(ids, h.ID)
	}
	slices.SortFunc(ids, pastry.NodeID.Compare)
	sum := fnv.New64a()
	for _, id := range slices.Compact(ids) {
		_, _ = sum.Write(id[:]) // never fails
	}
	return sum.Sum64()
}

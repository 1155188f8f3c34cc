package past

import (
	"time"

	"larder/pastry"
)

// NodeID names a storage node, for those who list what nodes keep and know no ring.
type NodeID = pastry.NodeID

// Kept is one live fragment at some node, with what it is kept for, as that node says.
type Kept struct {
	Node   NodeID
	ID     BlockID
	Index  int
	Stored time.Time // wall time at the node
	Claim  Claim
}

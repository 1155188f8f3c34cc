// Package chb keeps content-hash blocks, live: the fragments that this node keeps for others, and insert, lookup, reclaim and repair
// of stripes over all nodes of the ring.
//
// How bytes become fragments is past/stripe's, where they belong and what repair does is decided by package past, how requests
// travel is past/rpc's, and a node's disk is a blockstore.Store. What stripes mean is for the layers above.
//
// It implements design.md §4, and PAST §3 (storage management) in the form described by docs/notes/chb.md, which also draws what is
// stored and asked. Every fragment is checked against its hash before it is stored, and every byte of a lookup against
// its AES-GCM tag before it is returned.
package chb

import (
	"errors"
	"time"
)

// errReclaimed says that a node refused a fragment of a block that it was told is dead.
var errReclaimed = errors.New("block is reclaimed")

// Times of design.md §4 and of docs/notes/chb.md.
const (
	trashAge         = 24 * time.Hour     // how long trash stays readable (Config.TrashAge)
	trashAgePressed  = time.Hour          // the same on a disk that is nearly full
	tombstoneAge     = 7 * 24 * time.Hour // how long a reclaim is remembered
	pinAge           = time.Minute        // how long a pinned fragment is not trashed as surplus
	pinTrust         = pinAge / 2         // how long who asked for a pin relies on it; less, since clocks and answers take time
	putPatience      = 10 * time.Second   // for one fragment
	putImpatience    = time.Second        // for one fragment at a node that failed to answer lately
	cleanupPatience  = 2 * time.Second    // for the fragments of an insert that failed
	statPatience     = 5 * time.Second    // for one batch of questions
	fragmentPatience = 30 * time.Second   // for one fragment in repair
)

package chb

import (
	"fmt"

	"larder/past"
	"larder/past/wire"
)

// askMax is the largest number of blocks in one Stat or Trash request; listMax that of entries in one answer to List.
const (
	askMax  = 1024
	listMax = 512
)

// putRequest keeps a fragment; the data are its value.
type putRequest struct {
	_     struct{} `cbor:",toarray"`
	ID    past.BlockID
	Index int
}

// putAnswer: with Reclaimed nothing was stored, since the block is dead.
type putAnswer struct {
	_         struct{} `cbor:",toarray"`
	Reclaimed bool
}

// getRequest asks for Length bytes of a stored value from Offset, all of it if Length is 0. With Any the node may give another index.
type getRequest struct {
	_              struct{} `cbor:",toarray"`
	ID             past.BlockID
	Index          int
	Any            bool
	Offset, Length int
}

// getAnswer: with Index -1 there are no data. Held are the indexes that can be had from the node, trashed ones included.
type getAnswer struct {
	_     struct{} `cbor:",toarray"`
	Index int
	Held  past.Indexes
}

// statRequest asks what a node holds of blocks. IDs are concatenated.
type statRequest struct {
	_   struct{} `cbor:",toarray"`
	IDs []byte
	// Verify: read the fragments and check their hashes first. Look: repair should look at these blocks soon.
	Verify, Look bool
	// Pins, if not empty, has one set for each block: fragments that the node promises not to trash as surplus for a while. What it
	// cannot promise it does not show as live.
	Pins []past.Indexes
}

// statAnswer has one item for each block asked about, in order.
type statAnswer struct {
	_         struct{} `cbor:",toarray"`
	Items     []statItem
	FreeBytes int64
}

type statItem struct {
	_             struct{} `cbor:",toarray"`
	Live, Trashed past.Indexes
	Reclaimed     bool
}

// trashReason says why fragments are not wanted.
type trashReason uint8

const (
	trashReclaimed trashReason = 1 // the block is dead, for ever
	trashAbandoned trashReason = 2 // an insert failed; the same block may come again
)

type trashRequest struct {
	_      struct{} `cbor:",toarray"`
	IDs    []byte
	Reason trashReason
}

// restoreRequest takes a fragment out of the trash. Errors: past.ErrNotFound, if it is not there or its block is reclaimed.
type restoreRequest struct {
	_     struct{} `cbor:",toarray"`
	ID    past.BlockID
	Index int
}

// listRequest asks for the live fragments with store keys >= From.
type listRequest struct {
	_    struct{} `cbor:",toarray"`
	From []byte
	Max  int
}

// listAnswer: More tells that there may be others behind Next.
type listAnswer struct {
	_       struct{} `cbor:",toarray"`
	Entries []listEntry
	Next    []byte
	More    bool
}

type listEntry struct {
	_      struct{} `cbor:",toarray"`
	ID     past.BlockID
	Index  int
	Stored int64 // nanoseconds since 1970
	Claim  []byte
}

// packIDs is the inverse of unpackIDs.
func packIDs(ids []past.BlockID) []byte {
	out := make([]byte, 0, len(ids)*len(past.BlockID{}))
	for _, id := range ids {
		out = append(out, id[:]...)
	}
	return out
}

// unpackIDs reads up to askMax block ids. Errors: wire.ErrFrame.
func unpackIDs(b []byte) ([]past.BlockID, error) {
	const size = len(past.BlockID{})
	if len(b)%size != 0 || len(b) > askMax*size {
		return nil, fmt.Errorf("%w: %d bytes of block ids", wire.ErrFrame, len(b))
	}
	ids := make([]past.BlockID, len(b)/size)
	for i := range ids {
		ids[i] = past.BlockID(b[i*size:])
	}
	return ids, nil
}

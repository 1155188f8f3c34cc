package past

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
)

// Ballot orders the proposals for one register: by epoch, then counter, then proposer. The zero Ballot is below all others
// and means "never". No ballot is used for two proposals: the counter of a proposer never repeats, and the proposer is drawn
// anew at each start of a process (design.md §5).
type Ballot struct {
	_        struct{} `cbor:",toarray"`
	Epoch    uint64   // of the partition's configuration
	Counter  uint64   // hybrid logical clock: nanoseconds since 1970, or above
	Proposer ProposerID
}

// ProposerID is 128 random bits per process start.
type ProposerID [16]byte

// Compare returns -1, 0 or 1.
func (b Ballot) Compare(other Ballot) int {
	return cmp.Or(cmp.Compare(b.Epoch, other.Epoch), cmp.Compare(b.Counter, other.Counter), bytes.Compare(b.Proposer[:], other.Proposer[:]))
}

// Less reports whether b is below other.
func (b Ballot) Less(other Ballot) bool { return b.Compare(other) < 0 }

// IsZero reports whether b is the ballot of nothing.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// String is epoch.counter.proposer, the proposer shortened.
func (b Ballot) String() string { return fmt.Sprintf("%d.%d.%x", b.Epoch, b.Counter, b.Proposer[:3]) }

// OpID names one operation of one client request, through all its attempts: 128 random bits.
type OpID [16]byte

// String returns 32 hexadecimal digits.
func (id OpID) String() string { return hex.EncodeToString(id[:]) }

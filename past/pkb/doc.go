// Package pkb is public-key blocks, live: the registers that this node keeps as a member of partitions, and reads, writes, scans
// and configuration changes of registers over all nodes (design.md §5). The rules are past/register's; this package gives
// them a disk, peers, signatures and time.
//
// Two halves that share no state. Members answers for the partitions that this disk is a member of. Registers, on gateways,
// proposes: it finds a partition's members, runs a register.Operation against them, and looks after the chain of
// configurations. A node may have both.
package pkb

import (
	"crypto/ed25519"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/pastry"
)

// Identity is this node as partitions know it.
type Identity struct {
	Member register.MemberID
	// Sign signs a vote with the node's key; Verify checks another member's.
	Sign   func(message []byte) []byte
	Verify register.Verifier
}

// Keys are the gateways' shared secrets, as far as registers need them.
type Keys interface {
	// SystemKey signs the records of the system partition.
	SystemKey() ed25519.PrivateKey
	// MACKey is the key of the gateways' own proofs.
	MACKey() [32]byte
	// Seal and Open protect a bucket's private key.
	Seal(plain, ad []byte) ([]byte, error)
	Open(sealed, ad []byte) ([]byte, error)
}

// Directory knows the storage nodes that may become members.
type Directory interface {
	// Member returns a live storage node's disk as it introduced itself; the zero MemberID for a live node that offers no storage, or
	// none any more.
	Member(id pastry.NodeID) (register.MemberID, bool)
	// Storage returns how many storage nodes are live.
	Storage() int
	// Gateways returns the live gateways, all with the same capacity: they share work by placement.
	Gateways() []past.Candidate
}

// Times of the protocol.
const (
	// blindAheadMax is how far a blind ballot may be ahead of a member's clock (design.md §5).
	blindAheadMax = time.Hour
	// callTimeout bounds one request to one member.
	callTimeout = 3 * time.Second
)

// Package past holds the words and the rules of PAST as Larder uses it: block ids, redundancy, claims, ballots, records
// and placement. All of it is pure: no clock, no network, no disk. The live parts are past/node and the packages under it.
//
// It implements design.md §4 (redundancy, placement) and the vocabulary of §5. PAST is Rowstron and Druschel, "Storage
// management and caching in PAST", SOSP 2001.
package past

import (
	"encoding/hex"
	"errors"

	"larder/pastry"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that a majority of those who would hold it say that it is not there.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable says that too few nodes answered to know; trying later may help.
	ErrUnavailable = errors.New("too few nodes reachable")
	// ErrUnknown says that an operation may or may not have taken effect (design.md §5, "Trying again", case 4).
	ErrUnknown = errors.New("outcome unknown")
	// ErrNoSpace says that too few nodes have room.
	ErrNoSpace = errors.New("no space")
	// ErrDamaged says that a disk lost what was asked for or, of a whole operation, that too few good fragments of a stripe, or good copies
	// of a record, are left. Trying again does not help.
	ErrDamaged = errors.New("damaged")
	// ErrClosed says that a bucket's partition was closed or forgotten: ask for the bucket again.
	ErrClosed = errors.New("bucket is closed")
	// ErrUnchanged is what the function of an Update returns to succeed and leave the record as it is.
	ErrUnchanged = errors.New("unchanged")
)

// BlockID names a content-hash block: the BLAKE3-256 of its header.
type BlockID [32]byte

// Key is where the block lies on the ring: the id's 128 most significant bits.
func (id BlockID) Key() pastry.Key { return pastry.Key(id[:16]) }

// String returns 64 hexadecimal digits.
func (id BlockID) String() string { return hex.EncodeToString(id[:]) }

// BucketID names a bucket for ever: random, so that the claims of a deleted bucket are never those of a new one.
type BucketID [16]byte

// String returns 32 hexadecimal digits.
func (id BucketID) String() string { return hex.EncodeToString(id[:]) }

// DataID names one body: each PUT and each attempt at a part has its own, and its own data key (design.md §4).
type DataID [16]byte

// Claim says what a stripe's fragments are kept for. It lies beside each fragment, so that an audit can ask whether any
// register still refers to them.
type Claim struct {
	Bucket BucketID `cbor:"1,keyasint"`
	Data   DataID   `cbor:"2,keyasint"`
	// SealedKey is the object key and the upload, sealed under the realm: storage nodes do not learn names from claims.
	SealedKey []byte `cbor:"3,keyasint"`
}

// Limits of design.md §4.
const (
	StripeMax    = 4 << 20  // bytes of an object in one stripe
	RecordMax    = 32 << 10 // bytes of a record, inline body included
	InlineMax    = 16 << 10 // bytes of an object kept in its record
	FragmentsMax = 64       // fragments of a stripe
)

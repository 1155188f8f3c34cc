package objects

import (
	"context"

	"larder/past"
	"larder/past/stripe"
)

// Past is what objects, uploads and buckets ask of a PAST node. past/node is one; pasttest is one in memory. All methods are
// safe for concurrent use; errors wrap those of package past.
type Past interface {
	Registers
	Blocks
	Buckets
}

// Registers are linearizable, each by itself (design.md §5).
type Registers interface {
	// Read returns the newest record; a register that was never written, or is deleted, gives Kind Absent or Tombstone.
	Read(ctx context.Context, r past.Register) (past.Record, error)
	// Write replaces whatever is there, in one round trip where nobody contends. It returns the records that members say
	// it replaced, so that the caller can reclaim their bytes: those are dead once Write has returned nil.
	// past.ErrUnknown: it may or may not have happened.
	Write(ctx context.Context, r past.Register, next past.Record) (replaced []past.Record, err error)
	// Update evaluates f on the current record and writes what it returns, atomically. f may be called several times, must
	// not block, and refuses by an error, which Update returns as it is. To leave the record as it is and succeed, f returns it
	// unchanged with past.ErrUnchanged. It returns what Write returns. past.ErrUnknown: it may or may not have happened.
	Update(ctx context.Context, r past.Register, f func(cur past.Record) (past.Record, error)) (replaced []past.Record, err error)
	// Scan returns live registers in order. Each entry was current at some moment during the call.
	Scan(ctx context.Context, q past.ScanQuery) (past.ScanPage, error)
	// Clock is the clock of writes, in nanoseconds since 1970: at least this gateway's wall clock, and above that of all writes it knows of.
	// A Write or Update of a record with NotAfter fails if it would take effect when the clock shows more.
	Clock() uint64
}

// Blocks keeps stripes: sealed, coded, spread over nodes, verified on the way back (design.md §4).
type Blocks interface {
	// Insert seals plain (1 to past.StripeMax bytes) with key as stripe number index of its data, codes it and keeps the
	// fragments on the nodes that should hold them. It returns when enough of them are durable. It does not keep plain.
	Insert(ctx context.Context, key *stripe.Key, index uint64, plain []byte, claim past.Claim) (past.StripeRef, error)
	// Lookup fills dst with the plaintext of the stripe from offset off. Every byte was verified.
	// Errors: past.ErrNotFound, past.ErrDamaged, past.ErrUnavailable.
	Lookup(ctx context.Context, key *stripe.Key, index uint64, ref past.StripeRef, dst []byte, off int) error
	// Reclaim moves the fragments of stripes to trash, in the background and as far as nodes can be reached; readers that
	// have begun may end. What it misses an audit finds.
	Reclaim(refs ...past.StripeRef)
}

// Buckets makes the partitions that a bucket's registers live in. What a bucket is called and whose it is are records of the
// system partition, kept by this package.
type Buckets interface {
	// NewBucket prepares the first configuration of a new bucket's partition on k storage nodes and returns its genesis,
	// to be kept in the bucket's record: whoever has the record can bring the partition to life.
	NewBucket(ctx context.Context, id past.BucketID) (genesis []byte, err error)
	// OpenBucket makes the partition known to this node, from its genesis; cheap when it is known already.
	OpenBucket(ctx context.Context, id past.BucketID, record past.Register, genesis []byte) error
	// CloseBucket freezes the bucket's partitions if no live register is in them and reports whether it was empty; an empty
	// one takes no writes from then on. ReopenBucket undoes that.
	CloseBucket(ctx context.Context, id past.BucketID) (empty bool, err error)
	ReopenBucket(ctx context.Context, id past.BucketID) error
	// DropBucket lets the members forget a closed bucket.
	DropBucket(ctx context.Context, id past.BucketID) error
	// Forgotten reports whether a bucket was dropped: no write into it takes effect any more.
	Forgotten(ctx context.Context, id past.BucketID) (bool, error)
}

package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"larder/gateway"
	"larder/past"
)

// DeleteBucket is an attempt with a name of its own: the record says which one is at work. Only it closes and reopens the
// partition, and it stops after deletionMax. Whoever has seen the same attempt for deletionGrace, by his own clock, takes over under a
// new name: by then no call of the first can still be under way, so that no late reopening can let a write into a bucket that was found empty.
const (
	deletionMax   = 30 * time.Second
	deletionGrace = 2 * deletionMax
	// deletionStale is how old a record must be by its writer's clock to be taken over at first sight: more than clocks may differ.
	deletionStale = 2 * time.Hour
)

// attempts remembers the attempts to delete a bucket that this Store makes or has met.
type attempts struct {
	mu   sync.Mutex
	seen map[[16]byte]*attempt
}

type attempt struct {
	first   time.Time // when it was first met
	ours    bool
	running bool // only of ours
}

func (a *attempts) begin(id [16]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = map[[16]byte]*attempt{}
	}
	a.seen[id] = &attempt{first: time.Now(), ours: true, running: true}
}

// end notes that ours has no call under way any more; forget, that nobody will meet it again.
func (a *attempts) end(id [16]byte, forget bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if forget {
		delete(a.seen, id)
	} else {
		a.seen[id].running = false
	}
}

// abandoned reports whether the attempt can do no more, having met it now.
func (a *attempts) abandoned(id [16]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = map[[16]byte]*attempt{}
	}
	met := a.seen[id]
	if met == nil {
		met = &attempt{first: time.Now()}
		a.seen[id] = met
	}
	return met.ours && !met.running || !met.ours && time.Since(met.first) >= deletionGrace
}

// DeleteBucket implements gateway.Backend. Uploads in progress go with the bucket. Most refusals cost one scan and disturb nobody.
func (s *Store) DeleteBucket(ctx context.Context, name string) error {
	b, err := s.refresh(ctx, name)
	if err != nil {
		return err
	}
	page, err := s.past.Scan(ctx, past.ScanQuery{Bucket: b.id, Space: past.SpaceHead, Max: 1})
	if err != nil {
		return fail("delete bucket", false, err)
	}
	if len(page.Entries) > 0 {
		return fmt.Errorf("objects: delete bucket: %w", gateway.ErrBucketNotEmpty)
	}
	return s.deleteAs(ctx, b, [16]byte{})
}

// endDeletion takes over an attempt that was left behind.
func (s *Store) endDeletion(ctx context.Context, b *bucket) error {
	if !s.attempts.abandoned(b.value.Deleting) && time.Since(b.modified) < deletionStale {
		return nil
	}
	if err := s.past.OpenBucket(ctx, b.id, bucketRegister(b.name), b.value.Genesis); err != nil {
		return fail("open bucket", false, err)
	}
	return s.deleteAs(ctx, b, b.value.Deleting)
}

// deleteAs is one attempt to delete b, whose record shows the attempt from (zero: none).
func (s *Store) deleteAs(ctx context.Context, b *bucket, from [16]byte) (err error) {
	ctx, cancel := context.WithTimeout(ctx, deletionMax)
	defer cancel()
	id, over := random16(), false
	s.attempts.begin(id)
	defer func() { s.attempts.end(id, over) }()
	if err := s.setDeleting(ctx, b, from, id); err != nil {
		return err
	}
	s.buckets.forget(b.name)
	// Closed already by the attempt before this one: then it has dropped them.
	if err := s.dropUploads(ctx, b); err != nil && !errors.Is(err, past.ErrClosed) {
		return err
	}
	empty, err := s.past.CloseBucket(ctx, b.id)
	if err != nil {
		return fail("close bucket", false, err)
	}
	if !empty {
		if err := s.past.ReopenBucket(ctx, b.id); err != nil {
			return fail("reopen bucket", false, err)
		}
		if err := s.setDeleting(ctx, b, id, [16]byte{}); err != nil {
			return err
		}
		over = true
		return fmt.Errorf("objects: delete bucket: %w", gateway.ErrBucketNotEmpty)
	}
	if err := s.removeBucket(ctx, b, id); err != nil {
		return err
	}
	over = true
	s.buckets.forget(b.name)
	return nil
}

// setDeleting changes the attempt that b's record shows, if it shows from.
func (s *Store) setDeleting(ctx context.Context, b *bucket, from, to [16]byte) error {
	_, err := s.past.Update(ctx, bucketRegister(b.name), func(cur past.Record) (past.Record, error) {
		there, err := s.decodeBucket(b.name, &cur)
		switch {
		case err != nil:
			return cur, err
		case there == nil || there.id != b.id:
			return cur, refusal{fmt.Errorf("objects: delete bucket: %w", gateway.ErrNoSuchBucket)}
		case there.value.Deleting != from:
			return cur, refusal{fmt.Errorf("objects: bucket is being deleted: %w", gateway.ErrUnavailable)}
		}
		there.value.Deleting = to
		return s.bucketRecord(b.name, &there.value), nil
	})
	return fail("delete bucket", false, err)
}

// dropPrefix begins the names of records of closed partitions that members have still to forget: "drop/BUCKETID".
const dropPrefix = "drop/"

// removeBucket ends b's record, which shows attempt id, and has the members forget the closed partition. A record of what is to be
// forgotten comes first, so that Sweep can do it if this gateway ends in between.
func (s *Store) removeBucket(ctx context.Context, b *bucket, id [16]byte) error {
	drop := past.Register{Bucket: past.SystemBucket, Space: past.SpaceHead, Key: dropPrefix + b.id.String()}
	rec := past.Record{Kind: past.Live, Modified: time.Now().UnixNano(), Value: s.seal(drop, &dropValue{b.name, b.id, b.value.Genesis})}
	if _, err := s.past.Write(ctx, drop, rec); err != nil {
		return fail("delete bucket", false, err)
	}
	gone := past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano()}
	_, err := s.past.Update(ctx, bucketRegister(b.name), func(cur past.Record) (past.Record, error) {
		there, err := s.decodeBucket(b.name, &cur)
		if err == nil && (there == nil || there.id != b.id || there.value.Deleting != id) {
			err = refusal{fmt.Errorf("objects: bucket is being deleted: %w", gateway.ErrUnavailable)}
		}
		return gone, err
	})
	if err != nil {
		return fail("delete bucket", false, err)
	}
	return s.dropBucket(ctx, drop, b.id)
}

// dropBucket has the members forget; what fails is left to Sweep.
func (s *Store) dropBucket(ctx context.Context, drop past.Register, id past.BucketID) error {
	if err := s.past.DropBucket(ctx, id); err == nil {
		_, _ = s.past.Write(ctx, drop, past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano()})
	}
	return nil
}

type dropValue struct {
	Name    string        `cbor:"1,keyasint"`
	ID      past.BucketID `cbor:"2,keyasint"`
	Genesis []byte        `cbor:"3,keyasint"`
}

// sweepDrops forgets partitions of buckets whose records have ended.
func (s *Store) sweepDrops(ctx context.Context) error {
	return s.system(ctx, dropPrefix, func(name string, rec *past.Record) error {
		drop := past.Register{Bucket: past.SystemBucket, Space: past.SpaceHead, Key: dropPrefix + name}
		var v dropValue
		if err := s.open(drop, rec, &v); err != nil {
			return err
		}
		b, err := s.readBucket(ctx, v.Name)
		if err != nil || b != nil && b.id == v.ID {
			return err // the attempt may not have ended the record yet
		}
		if err := s.past.OpenBucket(ctx, v.ID, bucketRegister(v.Name), v.Genesis); err != nil {
			return fail("drop bucket", false, err)
		}
		return s.dropBucket(ctx, drop, v.ID)
	})
}

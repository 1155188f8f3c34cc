package objects

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"larder/gateway"
	"larder/past"
)

// bucket is what a bucket's record says.
type bucket struct {
	name  string
	id    past.BucketID
	value bucketValue
	// modified is the record's wall time.
	modified time.Time
}

// bucketValue is the sealed part of a bucket's record, "bucket/NAME" in the system partition.
type bucketValue struct {
	ID      past.BucketID `cbor:"1,keyasint"`
	Region  string        `cbor:"2,keyasint,omitempty"`
	Owner   string        `cbor:"3,keyasint,omitempty"`
	Created int64         `cbor:"4,keyasint"` // wall time, nanoseconds since 1970
	Genesis []byte        `cbor:"5,keyasint"` // of the bucket's partition
	// Deleting names the attempt to delete the bucket that is under way; zero in an active one.
	Deleting [16]byte `cbor:"6,keyasint"`
	// Version counts the changes of the bucket's settings.
	Version uint64 `cbor:"7,keyasint,omitempty"`
}

const bucketPrefix = "bucket/"

func bucketRegister(name string) past.Register {
	return past.Register{Bucket: past.SystemBucket, Space: past.SpaceHead, Key: bucketPrefix + name}
}

func (v *bucketValue) active() bool { return v.Deleting == [16]byte{} }

func (b *bucket) out() gateway.Bucket {
	return gateway.Bucket{Name: b.name, Region: b.value.Region, Owner: b.value.Owner, Created: time.Unix(0, b.value.Created).UTC()}
}

// bucketRecord encodes v as the record of the bucket called name.
func (s *Store) bucketRecord(name string, v *bucketValue) past.Record {
	return past.Record{Kind: past.Live, Modified: time.Now().UnixNano(), Value: s.seal(bucketRegister(name), v)}
}

// decodeBucket returns nil if rec is of no bucket.
func (s *Store) decodeBucket(name string, rec *past.Record) (*bucket, error) {
	if !rec.Exists() {
		return nil, nil
	}
	b := &bucket{name: name, modified: time.Unix(0, rec.Modified)}
	if err := s.open(bucketRegister(name), rec, &b.value); err != nil {
		return nil, err
	}
	b.id = b.value.ID
	return b, nil
}

// readBucket reads a bucket's record afresh; nil if there is none.
func (s *Store) readBucket(ctx context.Context, name string) (*bucket, error) {
	rec, err := s.past.Read(ctx, bucketRegister(name))
	if err != nil {
		return nil, fail("read bucket", false, err)
	}
	return s.decodeBucket(name, &rec)
}

// bucket returns an active bucket, as it was a few seconds ago at most.
func (s *Store) bucket(ctx context.Context, name string) (*bucket, error) {
	if b, ok := s.buckets.get(name); ok {
		return b, nil
	}
	return s.refresh(ctx, name)
}

// refresh reads a bucket's record and makes its partition known. It ends a deletion that somebody has left behind.
func (s *Store) refresh(ctx context.Context, name string) (*bucket, error) {
	s.buckets.forget(name)
	b, err := s.readBucket(ctx, name)
	if err != nil {
		return nil, err
	}
	if b != nil && !b.value.active() {
		if err := s.endDeletion(ctx, b); err != nil && !errors.Is(err, gateway.ErrBucketNotEmpty) {
			return nil, err
		}
		if b, err = s.readBucket(ctx, name); err != nil {
			return nil, err
		}
	}
	if b == nil {
		return nil, fmt.Errorf("objects: bucket: %w", gateway.ErrNoSuchBucket)
	}
	if !b.value.active() {
		return nil, fmt.Errorf("objects: bucket is being deleted: %w", gateway.ErrUnavailable)
	}
	if err := s.past.OpenBucket(ctx, b.id, bucketRegister(name), b.value.Genesis); err != nil {
		return nil, fail("open bucket", false, err)
	}
	s.buckets.put(name, b)
	return b, nil
}

// closed carries past.ErrClosed of a bucket's own partition to withBucket.
type closed struct{ error }

func (c closed) Unwrap() error { return c.error }

// closedOr is fail for what runs within withBucket.
func (s *Store) closedOr(op string, conditional bool, err error) error {
	if errors.Is(err, past.ErrClosed) {
		return closed{fail(op, conditional, err)}
	}
	return fail(op, conditional, err)
}

// withBucket runs f on the bucket called name and, if its partition turns out closed, once more on what the bucket then is.
func (s *Store) withBucket(ctx context.Context, name string, f func(b *bucket) error) error {
	b, err := s.bucket(ctx, name)
	if err != nil {
		return err
	}
	err = f(b)
	var shut closed
	if !errors.As(err, &shut) {
		return err
	}
	if b, err = s.refresh(ctx, name); err != nil {
		return err
	}
	return f(b)
}

// sameBucket runs f, and once more if the partition was closed and is open again. It is for writes that refer to stripes, whose
// claims name b: a new bucket of the same name will not do.
func (s *Store) sameBucket(ctx context.Context, b *bucket, f func() error) error {
	err := f()
	if !errors.Is(err, past.ErrClosed) {
		return err
	}
	fresh, err := s.refresh(ctx, b.name)
	if err != nil {
		return refusal{err}
	}
	if fresh.id != b.id {
		return refusal{fmt.Errorf("objects: bucket was deleted meanwhile: %w", gateway.ErrNoSuchBucket)}
	}
	return f()
}

// CreateBucket implements gateway.Backend. Of gateways that race, one makes the bucket and the others are told of it.
func (s *Store) CreateBucket(ctx context.Context, in gateway.Bucket) (gateway.Bucket, error) {
	if b, err := s.refresh(ctx, in.Name); err == nil {
		return b.out(), fmt.Errorf("objects: create bucket: %w", gateway.ErrBucketExists)
	} else if !errors.Is(err, gateway.ErrNoSuchBucket) {
		return gateway.Bucket{}, err
	}
	v := bucketValue{ID: past.BucketID(random16()), Region: in.Region, Owner: in.Owner, Created: in.Created.UnixNano()}
	if in.Created.IsZero() {
		v.Created = time.Now().UnixNano()
	}
	var err error
	if v.Genesis, err = s.past.NewBucket(ctx, v.ID); err != nil {
		return gateway.Bucket{}, fail("create bucket", false, err)
	}
	var there *bucket
	rec := s.bucketRecord(in.Name, &v)
	_, err = s.past.Update(ctx, bucketRegister(in.Name), func(cur past.Record) (past.Record, error) {
		var err error
		if there, err = s.decodeBucket(in.Name, &cur); err != nil {
			return cur, err
		}
		if there != nil && there.id != v.ID {
			return cur, refusal{fmt.Errorf("objects: create bucket: %w", gateway.ErrBucketExists)}
		}
		return rec, nil
	})
	if err = fail("create bucket", false, err); errors.Is(err, gateway.ErrBucketExists) {
		return there.out(), err
	}
	if err != nil {
		return gateway.Bucket{}, err
	}
	b, err := s.refresh(ctx, in.Name)
	if err != nil {
		return gateway.Bucket{}, err
	}
	return b.out(), nil
}

// Bucket implements gateway.Backend.
func (s *Store) Bucket(ctx context.Context, name string) (gateway.Bucket, error) {
	b, err := s.bucket(ctx, name)
	if err != nil {
		return gateway.Bucket{}, err
	}
	return b.out(), nil
}

// Buckets implements gateway.Backend. Buckets that are being deleted are not among them.
func (s *Store) Buckets(ctx context.Context) ([]gateway.Bucket, error) {
	var out []gateway.Bucket
	err := s.system(ctx, bucketPrefix, func(name string, rec *past.Record) error {
		b, err := s.decodeBucket(name, rec)
		if err == nil && b != nil && b.value.active() {
			out = append(out, b.out())
		}
		return err
	})
	return out, err
}

// scanPage is how many registers are asked for at once.
const scanPage = 1000

// system calls f for each live record of the system partition whose name begins with prefix, with the rest of its name.
func (s *Store) system(ctx context.Context, prefix string, f func(name string, rec *past.Record) error) error {
	q := past.ScanQuery{Bucket: past.SystemBucket, Space: past.SpaceHead, Prefix: prefix, Max: scanPage}
	for {
		page, err := s.past.Scan(ctx, q)
		if err != nil {
			return fail("list "+prefix, false, err)
		}
		for i := range page.Entries {
			e := &page.Entries[i]
			if err := f(strings.TrimPrefix(e.Key, prefix), &e.Record); err != nil {
				return err
			}
			q.After, q.AfterSub = e.Key, e.Sub
		}
		if !page.Truncated || len(page.Entries) == 0 {
			return nil
		}
	}
}

package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"larder/gateway"
	"larder/past"
)

// Put implements gateway.Backend.
func (s *Store) Put(ctx context.Context, bucketName, objectKey string, in gateway.PutInput) (gateway.Object, error) {
	b, err := s.bucket(ctx, bucketName)
	if err != nil {
		return gateway.Object{}, err
	}
	t, notAfter := target{bucket: b, key: objectKey, inline: true}, s.notAfter()
	bytes, err := s.store(ctx, t, in)
	if err != nil {
		return gateway.Object{}, fail("put", false, err)
	}
	v := &value{
		Op: random16(), ETag: bytes.sums.ETag, Metadata: inMetadata(in.Metadata), Checksums: inChecksums(bytes.sums.Checksums),
		Owner: in.Owner, Body: &bytes.body, Length: bytes.body.Length,
	}
	return s.setHead(ctx, t, v, bytes.inline, in.Check, notAfter)
}

// setHead writes v as the head of t's object key, with its inline body if it has one, and reclaims what it replaces; or, where
// it is refused, what v brought. check nil is a blind write. notAfter is that of before v's body was stored.
func (s *Store) setHead(ctx context.Context, t target, v *value, inline []byte, check gateway.Check, notAfter uint64) (gateway.Object, error) {
	r := t.bucket.register(past.SpaceHead, t.key, "")
	rec := past.Record{Kind: past.Live, Length: v.Length, Modified: time.Now().UnixNano(), Value: s.seal(r, v), Body: inline}
	var replaced []past.Record
	err := fits(r, &rec)
	if !v.Body.Inline {
		rec.NotAfter = notAfter
		if err == nil && s.past.Clock() > notAfter {
			err = refusal{errTooSlow}
		}
	}
	if err == nil {
		err = s.sameBucket(ctx, t.bucket, func() (err error) {
			if check == nil {
				replaced, err = s.past.Write(ctx, r, rec)
				return err
			}
			replaced, err = s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
				if err := s.allowed(r, &cur, check); err != nil {
					return cur, err
				}
				return rec, nil
			})
			return err
		})
	}
	if err != nil {
		if definite(err) {
			ctx, cancel := settled(ctx)
			defer cancel()
			s.release(ctx, v, nil)
		}
		return gateway.Object{}, fail("put", check != nil, err)
	}
	s.retire(ctx, t.bucket, t.key, replaced, v)
	return *v.object(t.key, &rec), nil
}

// notAfter is until when a body that begins to be stored now may become an object. Later its stripes could have been taken for garbage
// (docs/notes/audit.md). Parts have no such bound: what belongs to an upload is not judged before that has ended.
func (s *Store) notAfter() uint64 { return s.past.Clock() + uint64(s.auditAfter/2) }

var errTooSlow = fmt.Errorf("objects: the body took too long: %w", gateway.ErrUnavailable)

// recordSpare is what a record has beside key, value and body, at most: the other fields, signatures and operation ids that
// the register adds, in bytes.
const recordSpare = 1 << 10

// fits refuses a record that would be too long.
func fits(r past.Register, rec *past.Record) error {
	if n := len(r.Key) + len(r.Sub) + len(rec.Value) + len(rec.Body) + recordSpare; n > past.RecordMax {
		return refusal{fmt.Errorf("objects: record of %d bytes: the metadata are too long", n)}
	}
	return nil
}

// allowed evaluates check on the record of an object.
func (s *Store) allowed(r past.Register, cur *past.Record, check gateway.Check) error {
	if check == nil {
		return nil
	}
	v, _, err := s.head(r, cur)
	if err == nil {
		err = check(v.object(r.Key, cur))
	}
	if err != nil {
		return refusal{err}
	}
	return nil
}

// Delete implements gateway.Backend.
func (s *Store) Delete(ctx context.Context, bucketName, objectKey string, check gateway.Check) error {
	return s.withBucket(ctx, bucketName, func(b *bucket) error {
		r := b.register(past.SpaceHead, objectKey, "")
		tombstone := s.tombstone(r)
		var replaced []past.Record
		var err error
		if check == nil {
			replaced, err = s.past.Write(ctx, r, tombstone)
		} else {
			replaced, err = s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
				if err := s.allowed(r, &cur, check); err != nil {
					return cur, err
				}
				if !cur.Exists() {
					return cur, past.ErrUnchanged
				}
				return tombstone, nil
			})
		}
		if err != nil {
			return s.closedOr("delete", check != nil, err)
		}
		s.retire(ctx, b, objectKey, replaced, nil)
		return nil
	})
}

// object is one version of an object, pinned by what its record said.
type object struct {
	s      *Store
	bucket *bucket
	info   gateway.Object
	value  *value
	inline []byte // plaintext of an inline body
	parts  []part
}

var _ gateway.OpenObject = (*object)(nil)

// Open implements gateway.Backend. The record is read once; the bytes that it names stay readable for an hour at least after
// it is replaced (design.md §4).
func (s *Store) Open(ctx context.Context, bucketName, objectKey string) (gateway.OpenObject, error) {
	var out *object
	err := s.withBucket(ctx, bucketName, func(b *bucket) error {
		r := b.register(past.SpaceHead, objectKey, "")
		rec, err := s.past.Read(ctx, r)
		if err != nil {
			return s.closedOr("open", false, err)
		}
		v, _, err := s.head(r, &rec)
		if err != nil {
			return err
		}
		if v == nil {
			return fmt.Errorf("objects: open: %w", gateway.ErrNoSuchKey)
		}
		out = &object{s: s, bucket: b, info: *v.object(objectKey, &rec), value: v}
		if v.Body != nil && v.Body.Inline && v.Length > 0 {
			if out.inline, err = v.Body.key().Open(nil, 0, rec.Body); err != nil {
				return fmt.Errorf("objects: open: inline body: %w", err)
			}
		}
		out.parts, err = s.parts(ctx, v)
		return fail("open", false, err)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Info implements gateway.OpenObject.
func (o *object) Info() gateway.Object { return o.info }

// Close implements gateway.OpenObject. Nothing is held between calls.
func (o *object) Close() error { return nil }

// Part implements gateway.OpenObject.
func (o *object) Part(number int) (p gateway.Part, off int64, ok bool) {
	if o.value.Body != nil {
		return p, 0, false
	}
	for i := range o.parts {
		if o.parts[i].Number == number {
			return o.parts[i].out(), off, true
		}
		off += o.parts[i].Body.Length
	}
	return p, 0, false
}

// WriteRange implements gateway.OpenObject.
func (o *object) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if off < 0 || n < 0 || off > o.info.Size || n > o.info.Size-off {
		return fmt.Errorf("objects: read %d bytes from %d of %d", n, off, o.info.Size)
	}
	if o.inline != nil {
		_, err := w.Write(o.inline[off : off+n])
		return err
	}
	return fail("read", false, o.s.copyRange(ctx, w, o.s.pieces(o.parts, off, n)))
}

// reader reads n bytes from offset off in order.
func (o *object) reader(ctx context.Context, off, n int64) io.Reader {
	if o.inline != nil {
		rest := o.inline[off : off+n]
		return readerFunc(func(dst []byte) (int, error) {
			if len(rest) == 0 {
				return 0, io.EOF
			}
			n := copy(dst, rest)
			rest = rest[n:]
			return n, nil
		})
	}
	return o.s.reader(ctx, o.s.pieces(o.parts, off, n))
}

var errForeign = errors.New("objects: the source of a copy was not opened with this Store")

package objects

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"time"

	"larder/gateway"
	"larder/gateway/checksum"
	"larder/past"
)

// Copy implements gateway.Backend. An object copied onto itself keeps its bytes where they are; otherwise they are read and
// stored afresh, for bytes belong to one object key (design.md §4). A multipart object's copy is one body, with a plain ETag.
func (s *Store) Copy(ctx context.Context, src gateway.OpenObject, bucketName, objectKey string, in gateway.CopyInput) (gateway.Object, error) {
	from, ok := src.(*object)
	if !ok {
		return gateway.Object{}, errForeign
	}
	b, err := s.bucket(ctx, bucketName)
	if err != nil {
		return gateway.Object{}, err
	}
	meta := from.value.Metadata
	if in.Metadata != nil {
		meta = inMetadata(*in.Metadata)
	}
	if b.id == from.bucket.id && objectKey == from.info.Key && from.value.Body != nil && in.Digest == nil {
		out, err := s.recast(ctx, from, meta, in)
		if !errors.Is(err, errMoved) {
			return out, err
		}
	}
	t, notAfter := target{bucket: b, key: objectKey, inline: true}, s.notAfter()
	digest := &copyDigest{md5: newMD5(from.info.Size), extra: in.Digest}
	defer digest.md5.Close()
	stored, err := s.store(ctx, t, gateway.PutInput{Body: from.reader(ctx, 0, from.info.Size), Size: from.info.Size, Digest: digest})
	if err != nil {
		return gateway.Object{}, fail("copy", false, err)
	}
	checksums := inChecksums(stored.sums.Checksums)
	if in.Digest == nil {
		checksums = carried(from.value.Checksums)
	}
	v := &value{
		Op: random16(), ETag: stored.sums.ETag, Metadata: meta, Checksums: checksums,
		Owner: in.Owner, Body: &stored.body, Length: stored.body.Length,
	}
	return s.setHead(ctx, t, v, stored.inline, in.Check, notAfter)
}

// errMoved says that a record is no longer the one that was read.
var errMoved = errors.New("objects: the record was replaced meanwhile")

// recast writes from's record anew with other metadata and the same bytes, if it is still from's: bytes are not taken from a
// record that may be reclaimed. errMoved if it is not.
func (s *Store) recast(ctx context.Context, from *object, meta metadata, in gateway.CopyInput) (gateway.Object, error) {
	var out gateway.Object
	var replaced []past.Record
	v := *from.value
	v.Op, v.Metadata, v.Owner = random16(), meta, in.Owner
	r := from.bucket.register(past.SpaceHead, from.info.Key, "")
	modified := time.Now().UnixNano()
	sealed := s.seal(r, &v)
	err := s.sameBucket(ctx, from.bucket, func() (err error) {
		replaced, err = s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
			_, op, err := s.head(r, &cur)
			if err != nil || op != from.value.Op {
				return cur, refusal{errors.Join(errMoved, err)}
			}
			if err := s.allowed(r, &cur, in.Check); err != nil {
				return cur, err
			}
			next := past.Record{Kind: past.Live, Length: v.Length, Modified: modified, Value: sealed, Body: cur.Body}
			out = *v.object(r.Key, &next)
			return next, fits(r, &next)
		})
		return err
	})
	if err != nil {
		return gateway.Object{}, fail("copy", in.Check != nil, err)
	}
	s.retire(ctx, from.bucket, r.Key, replaced, &v)
	return out, nil
}

// copyDigest computes a copy's ETag and what the front wants beside it.
type copyDigest struct {
	md5   md5Digest
	extra gateway.Digest // may be nil
}

func (d *copyDigest) Write(b []byte) (int, error) {
	d.md5.Write(b)
	if d.extra == nil {
		return len(b), nil
	}
	return d.extra.Write(b)
}

func (d *copyDigest) Finish() (gateway.Sums, error) {
	sums, _ := d.md5.Finish()
	if d.extra == nil {
		return sums, nil
	}
	extra, err := d.extra.Finish()
	sums.Checksums = extra.Checksums
	return sums, err
}

// carried are a copy's checksums where none was asked for: those of its source that are of the whole object.
func carried(source []sum) (out []sum) {
	for _, c := range source {
		if c.Type != checksum.Composite {
			out = append(out, c)
		}
	}
	return out
}

// CopyPart implements gateway.Backend. The part has the checksum that its upload asked for.
func (s *Store) CopyPart(ctx context.Context, src gateway.OpenObject, off, n int64, bucketName, objectKey, uploadID string, number int) (gateway.Part, error) {
	from, ok := src.(*object)
	if !ok {
		return gateway.Part{}, errForeign
	}
	if off < 0 || n < 0 || off > from.info.Size || n > from.info.Size-off {
		return gateway.Part{}, fmt.Errorf("objects: copy %d bytes from %d of %d", n, off, from.info.Size)
	}
	digest := &copyDigest{md5: newMD5(n)}
	defer digest.md5.Close()
	return s.putPart(ctx, bucketName, objectKey, uploadID, number, func(u *uploadValue) gateway.PutInput {
		if a := checksum.ByName(u.Algorithm); a != nil {
			digest.extra = &sumDigest{algorithm: a, hash: a.New()}
		}
		return gateway.PutInput{Body: from.reader(ctx, off, n), Size: n, Digest: digest}
	})
}

// sumDigest computes one checksum.
type sumDigest struct {
	algorithm *checksum.Algorithm
	hash      hash.Hash
}

func (d *sumDigest) Write(b []byte) (int, error) { return d.hash.Write(b) }

func (d *sumDigest) Finish() (gateway.Sums, error) {
	value := base64.StdEncoding.EncodeToString(d.hash.Sum(nil))
	return gateway.Sums{Checksums: []gateway.Checksum{{Algorithm: d.algorithm.Name, Value: value, Type: checksum.FullObject}}}, nil
}

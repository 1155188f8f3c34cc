package objects

import (
	"context"
	"errors"
	"time"

	"larder/gateway"
	"larder/past"
)

// PutPart implements gateway.Backend.
func (s *Store) PutPart(ctx context.Context, bucketName, objectKey, uploadID string, number int, in gateway.PutInput) (gateway.Part, error) {
	return s.putPart(ctx, bucketName, objectKey, uploadID, number, func(*uploadValue) gateway.PutInput { return in })
}

// putPart stores the body that input gives for the upload as a part. Each attempt has its own dataID. The part's register is
// written, and then the upload's is read again: what Complete or Abort did meanwhile is met either by them or by us.
func (s *Store) putPart(ctx context.Context, bucketName, objectKey, uploadID string, number int, input func(*uploadValue) gateway.PutInput) (gateway.Part, error) {
	var u upload
	var v *uploadValue
	err := s.withUpload(ctx, bucketName, objectKey, uploadID, func(there upload) (err error) {
		u = there
		v, err = s.readUpload(ctx, u)
		return err
	})
	if err != nil {
		return gateway.Part{}, err
	}
	if !v.inProgress() {
		return gateway.Part{}, errNoUpload.error
	}
	stored, err := s.store(ctx, u.target(), input(v))
	if err != nil {
		return gateway.Part{}, fail("put part", false, err)
	}
	p := part{Number: number, ETag: stored.sums.ETag, Modified: time.Now().UnixNano(), Checksums: inChecksums(stored.sums.Checksums), Body: stored.body}
	r := u.partRegister(number)
	rec := past.Record{Kind: past.Live, Length: p.Body.Length, Modified: p.Modified, Value: s.seal(r, &p)}
	var before past.Record
	var replaced []past.Record
	err = s.sameBucket(ctx, u.bucket, func() (err error) {
		replaced, err = s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
			before = cur
			return rec, fits(r, &rec)
		})
		return err
	})
	if err != nil {
		if definite(err) {
			s.reclaim(ctx, &p.Body)
		}
		return gateway.Part{}, fail("put part", false, err)
	}
	return s.settlePart(ctx, u, p, before, replaced)
}

// settlePart ends a PutPart whose part is in its register, in the place of before and whatever else replaced names.
func (s *Store) settlePart(ctx context.Context, u upload, p part, before past.Record, replaced []past.Record) (gateway.Part, error) {
	ctx, cancel := settled(ctx)
	defer cancel()
	v, err := s.thaw(ctx, u)
	if err != nil {
		return gateway.Part{}, err // the part is there, or will be found gone with its upload
	}
	r := u.partRegister(p.Number)
	if v.State == stateActive {
		// A Complete that begins from now on reads the registers after this write, so what was replaced is dead.
		s.reclaimParts(ctx, r, replaced, map[past.DataID]bool{p.Body.Data: true})
		return p.out(), nil
	}
	used, err := s.wantedBy(ctx, u, v)
	if err != nil {
		return gateway.Part{}, err
	}
	if used[p.Body.Data] {
		s.reclaimParts(ctx, r, replaced, used)
		return p.out(), nil
	}
	err = s.withdrawPart(ctx, u, p, before)
	if errors.Is(err, errMoved) {
		// Whoever removed the part decides on it; but of what it had replaced only this call knows.
		s.reclaimParts(ctx, r, replaced, used)
		err = nil
	}
	if err == nil {
		err = errNoUpload.error
	}
	return gateway.Part{}, err
}

// thaw undoes the freezing of an upload, so that the attempt that froze it reads the parts again.
func (s *Store) thaw(ctx context.Context, u upload) (*uploadValue, error) {
	v, err := s.readUpload(ctx, u)
	if err != nil || v.State != stateFrozen {
		return v, err
	}
	v, err = s.changeUpload(ctx, u, func(v *uploadValue) error {
		if v.State != stateFrozen {
			return past.ErrUnchanged
		}
		v.State, v.Attempt = stateActive, [16]byte{}
		return nil
	})
	return v, s.closedOr("thaw upload", false, err)
}

// wantedBy are the bodies that an upload, which v shows as neither active nor frozen, has become or may yet become. A register that is
// gone, or says no longer where the bytes are, does not tell: the object may have been made of them, and then its head does.
func (s *Store) wantedBy(ctx context.Context, u upload, v *uploadValue) (map[past.DataID]bool, error) {
	if v.State != stateGone && !v.Clean {
		return s.usedBy(ctx, v)
	}
	r := u.bucket.register(past.SpaceHead, u.key, "")
	rec, err := s.past.Read(ctx, r)
	if err != nil {
		return nil, s.closedOr("read head", false, err)
	}
	head, _, err := s.head(r, &rec)
	if err != nil || head == nil {
		return nil, err
	}
	parts, err := s.parts(ctx, head)
	if err != nil {
		return nil, err
	}
	return head.dataIDs(parts), nil
}

// usedBy are the bodies that an upload's object has; empty unless it is decided, or if it was all cleaned up.
func (s *Store) usedBy(ctx context.Context, v *uploadValue) (map[past.DataID]bool, error) {
	if v.State < stateCompleting || v.Clean {
		return map[past.DataID]bool{}, nil
	}
	parts, err := s.parts(ctx, v.Object)
	if err != nil {
		return nil, err
	}
	return v.Object.dataIDs(parts), nil
}

// withdrawPart takes a part that came too late out of its register again, puts back what was there, which the object may be
// made of, and reclaims the part, once a last look shows that no object has taken it. errMoved if the part is not in its register.
func (s *Store) withdrawPart(ctx context.Context, u upload, p part, before past.Record) error {
	r := u.partRegister(p.Number)
	if !before.Exists() {
		before = past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano()}
	}
	_, err := s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
		var there part
		if cur.Exists() {
			if err := s.open(r, &cur, &there); err != nil {
				return cur, err
			}
		}
		if there.Body.Data != p.Body.Data {
			return cur, refusal{errMoved}
		}
		return before, nil
	})
	if err != nil {
		return s.closedOr("withdraw part", false, err)
	}
	v, err := s.thaw(ctx, u) // an attempt that has read the part must not go on
	if err != nil {
		return err
	}
	used, err := s.wantedBy(ctx, u, v)
	if err != nil {
		return err
	}
	if !used[p.Body.Data] {
		s.reclaim(ctx, &p.Body)
	}
	if v.State == stateGone || v.State == stateCompleted {
		return s.removePart(ctx, u, p.Number, used) // nobody else may come to remove what was put back
	}
	return nil
}

package objects

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"larder/gateway"
	"larder/past"

	"go.uber.org/zap"
)

// completeTries bounds how often a Complete begins anew because parts or others' attempts came between.
const completeTries = 8

// errAgain says that the upload changed under an attempt, which has to begin anew.
var errAgain = errors.New("objects: the upload changed meanwhile")

// Complete implements gateway.Backend. An attempt freezes the upload, reads its parts, decides on the object in the upload's register,
// writes it over the head that it was decided against, and marks the upload completed. docs/notes/objects.md says why.
func (s *Store) Complete(ctx context.Context, bucketName, objectKey, uploadID string, in gateway.CompleteInput) (out gateway.Object, err error) {
	err = s.withUpload(ctx, bucketName, objectKey, uploadID, func(u upload) (err error) {
		out, err = s.complete(ctx, u, in)
		return err
	})
	return out, err
}

func (s *Store) complete(ctx context.Context, u upload, in gateway.CompleteInput) (gateway.Object, error) {
	for range completeTries {
		id := random16()
		v, err := s.changeUpload(ctx, u, func(v *uploadValue) error {
			if !v.inProgress() {
				return past.ErrUnchanged
			}
			v.State, v.Attempt = stateFrozen, id
			return nil
		})
		if err != nil {
			return gateway.Object{}, s.closedOr("complete", in.Check != nil, err)
		}
		switch v.State {
		case stateGone:
			return gateway.Object{}, errNoUpload.error
		case stateCompleted:
			return s.answer(u, v, in)
		case stateCompleting:
			err = s.help(ctx, u, v)
		default:
			if err = s.attempt(ctx, u, v, in); err == nil {
				return v.answer(u), nil
			}
		}
		if err != nil && !errors.Is(err, errAgain) {
			return gateway.Object{}, err
		}
	}
	return gateway.Object{}, fmt.Errorf("objects: complete: %w", gateway.ErrUnavailable)
}

// answer is what a Complete of a completed upload gets, if it names the same parts.
func (s *Store) answer(u upload, v *uploadValue, in gateway.CompleteInput) (gateway.Object, error) {
	if etag, ok := multipartETag(in.Parts); ok && etag != v.Object.ETag {
		return gateway.Object{}, fmt.Errorf("objects: complete: completed of other parts: %w", gateway.ErrInvalidPart)
	}
	return v.answer(u), nil
}

// answer is the object that a decided upload becomes.
func (v *uploadValue) answer(u upload) gateway.Object {
	full := v.object()
	return *full.object(u.key, &past.Record{Length: full.Length, Modified: v.Modified})
}

// object is the value of the object's record.
func (v *uploadValue) object() *value {
	full := *v.Object
	full.Metadata, full.Owner = v.Metadata, v.Owner
	return &full
}

// attempt carries out the attempt that v shows as frozen. errAgain if the outer loop should look again.
func (s *Store) attempt(ctx context.Context, u upload, v *uploadValue, in gateway.CompleteInput) error {
	object, err := s.assemble(ctx, u, v, in)
	if err != nil {
		if shown, _ := s.giveUp(ctx, u, v.Attempt); !shown {
			return errAgain // what was read was not the parts of a frozen upload
		}
		return err
	}
	v.Object = object
	err = s.decide(ctx, u, v, in.Check)
	if err == nil {
		err = s.place(ctx, u, v)
	}
	for errors.Is(err, errMoved) { // nobody else may write this attempt's object, so nobody has
		if err = s.decide(ctx, u, v, in.Check); err == nil {
			err = s.place(ctx, u, v)
		}
	}
	return err
}

// assemble reads the parts and makes the value of the object of them.
func (s *Store) assemble(ctx context.Context, u upload, v *uploadValue, in gateway.CompleteInput) (*value, error) {
	have := map[int]part{}
	err := s.eachPart(ctx, u, 0, scanPage, func(p part, _ *past.Record) bool {
		have[p.Number] = p
		return true
	})
	if err != nil {
		return nil, err
	}
	named := in
	named.Parts = make([]gateway.CompletedPart, len(in.Parts))
	for i, p := range in.Parts {
		named.Parts[i] = p
		named.Parts[i].ETag = strings.Trim(p.ETag, `"`)
	}
	a, err := gateway.Assemble(u.out(v), func(number int) (gateway.Part, bool) {
		p, ok := have[number]
		return p.out(), ok
	}, named)
	if err != nil {
		return nil, err
	}
	out := &value{Op: v.Attempt, ETag: a.Sums.ETag, Checksums: inChecksums(a.Sums.Checksums), Upload: u.id, Length: a.Size}
	parts := make([]part, len(a.Parts))
	for i, p := range a.Parts {
		parts[i] = have[p.Number]
		parts[i].Number = i + 1 // of the object they count from 1, whatever they were of the upload
	}
	if err := s.setParts(ctx, u.target(), out, parts); err != nil {
		return nil, fail("complete", false, err)
	}
	// What is decided has to fit: the upload's record, which is a little longer than the object's.
	trial := *v
	trial.Object = out
	rec := s.uploadRecord(u, &trial)
	if err := fits(u.register(), &rec); err != nil {
		if out.Table != nil {
			s.reclaim(ctx, out.Table)
		}
		return nil, fail("complete", false, err)
	}
	return out, nil
}

// decide reads the head, evaluates check on it, and has the upload's register say that v.Object will replace just that. It comes
// after freezing, or after place found that the head had been replaced; v is as the register is, and as it is after.
func (s *Store) decide(ctx context.Context, u upload, v *uploadValue, check gateway.Check) error {
	r := u.bucket.register(past.SpaceHead, u.key, "")
	rec, err := s.past.Read(ctx, r)
	if err != nil {
		err = s.closedOr("complete", false, err)
	}
	var base [16]byte
	if err == nil {
		_, base, err = s.head(r, &rec)
	}
	if err == nil {
		err = s.allowed(r, &rec, check)
	}
	if err != nil {
		s.releaseTable(ctx, u, v)
		return fail("complete", false, err)
	}
	from, slim := *v, *v.Object
	slim.Metadata, slim.Owner = metadata{}, ""
	now, err := s.changeUpload(ctx, u, func(cur *uploadValue) error {
		if cur.Attempt != from.Attempt || cur.State != from.State || cur.Helped {
			return refusal{errAgain}
		}
		cur.State, cur.Base, cur.Object, cur.Modified = stateCompleting, base, &slim, time.Now().UnixNano()
		return nil
	})
	if errors.Is(err, errAgain) && from.State == stateFrozen {
		s.releaseTable(ctx, u, v)
	}
	if err != nil {
		return s.closedOr("complete", check != nil, err)
	}
	*v = *now
	return nil
}

// releaseTable gives up an attempt that has written nothing, and its part table. The upload is as before, if it is still there.
func (s *Store) releaseTable(ctx context.Context, u upload, v *uploadValue) {
	if _, over := s.giveUp(ctx, u, v.Attempt); over && v.Object.Table != nil {
		s.reclaim(ctx, v.Object.Table)
	}
}

// giveUp makes an upload active that shows the attempt id, unless others may have written its head. shown says that it did, or
// that it cannot be known; over, that the attempt has ended without an object.
func (s *Store) giveUp(ctx context.Context, u upload, id [16]byte) (shown, over bool) {
	ctx, cancel := settled(ctx)
	defer cancel()
	now, err := s.changeUpload(ctx, u, func(v *uploadValue) error {
		shown = v.Attempt == id
		if !shown || v.State == stateCompleted || v.Helped {
			return past.ErrUnchanged
		}
		v.reset()
		return nil
	})
	if err != nil {
		s.log.Debug("attempt to complete an upload stays undecided", zap.Error(err))
		return true, false
	}
	return shown, now.Attempt != id
}

// reset makes the upload active, as if no attempt had been.
func (v *uploadValue) reset() {
	v.State, v.Attempt, v.Base, v.Helped, v.Object, v.Modified = stateActive, [16]byte{}, [16]byte{}, false, nil, 0
}

// place writes the decided object over the head that it was decided against, and marks the upload completed. errMoved if the
// head is neither that one nor the object: then it never will be.
func (s *Store) place(ctx context.Context, u upload, v *uploadValue) error {
	r := u.bucket.register(past.SpaceHead, u.key, "")
	object := v.object()
	rec := past.Record{Kind: past.Live, Length: object.Length, Modified: v.Modified, Value: s.seal(r, object)}
	replaced, err := s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
		_, op, err := s.head(r, &cur)
		switch {
		case err != nil:
			return cur, err
		case op == v.Attempt:
			return cur, past.ErrUnchanged
		case op != v.Base:
			return cur, refusal{errMoved}
		}
		return rec, fits(r, &rec)
	})
	if err != nil {
		return s.closedOr("complete", true, err)
	}
	if !s.markCompleted(ctx, u.bucket, u.key, u.id, v.Attempt) {
		return fmt.Errorf("objects: complete: %w", gateway.ErrUnavailable)
	}
	s.retire(ctx, u.bucket, u.key, replaced, object)
	return nil
}

// help carries out somebody else's attempt that v shows as completing. After it the upload is completed, or active again.
func (s *Store) help(ctx context.Context, u upload, v *uploadValue) error {
	id, base := v.Attempt, v.Base
	v, err := s.changeUpload(ctx, u, func(v *uploadValue) error {
		if v.State != stateCompleting || v.Attempt != id || v.Base != base {
			return refusal{errAgain}
		}
		v.Helped = true
		return nil
	})
	if err != nil {
		return s.closedOr("complete", true, err)
	}
	if err = s.place(ctx, u, v); !errors.Is(err, errMoved) {
		return err
	}
	// The head is another one: the object was never written and never will be, or it was replaced by somebody who has not
	// marked the upload, and so has not reclaimed its parts either.
	_, err = s.changeUpload(ctx, u, func(v *uploadValue) error {
		if v.State != stateCompleting || v.Attempt != id {
			return refusal{errAgain}
		}
		v.reset()
		return nil
	})
	if err == nil && v.Object.Table != nil {
		s.reclaim(ctx, v.Object.Table)
	}
	return s.closedOr("complete", true, err)
}

// markCompleted notes that the attempt id of an upload has become an object's record. It reports whether that is so, and whether
// the upload's parts are therefore that object's.
func (s *Store) markCompleted(ctx context.Context, b *bucket, key, uploadID string, id [16]byte) bool {
	u := upload{b, key, uploadID}
	marked := false
	v, err := s.changeUpload(ctx, u, func(v *uploadValue) error {
		marked = v.State == stateCompleting && v.Attempt == id
		if !marked {
			return past.ErrUnchanged
		}
		v.State = stateCompleted
		return nil
	})
	if err != nil {
		s.log.Warn("upload cannot be marked completed; bytes may be left to the audit", zap.Error(err))
		return false
	}
	if marked {
		s.background(func(ctx context.Context) { s.cleanUp(ctx, u, v) })
	}
	return v.State == stateGone || v.State == stateCompleted && v.Attempt == id
}

// cleanUp removes the parts of a completed upload and, once there are none, what its register says of where the bytes are.
func (s *Store) cleanUp(ctx context.Context, u upload, v *uploadValue) {
	used, err := s.usedBy(ctx, v)
	if err == nil {
		_, err = s.removeParts(ctx, u, used)
	}
	if err == nil {
		_, err = s.changeUpload(ctx, u, func(v *uploadValue) error {
			if v.State != stateCompleted || v.Clean {
				return past.ErrUnchanged
			}
			v.Clean = true
			v.Object.Parts, v.Object.Table, v.Object.Body = nil, nil, nil
			return nil
		})
	}
	if err != nil {
		s.log.Info("parts of a completed upload are left to the next sweep", zap.Error(err))
	}
}

// multipartETag is md5-N of the parts as a client names them; ok is false if their ETags are no MD5s.
func multipartETag(parts []gateway.CompletedPart) (etag string, ok bool) {
	digest := md5.New()
	for _, p := range parts {
		sum, err := hex.DecodeString(strings.Trim(p.ETag, `"`))
		if err != nil || len(sum) != md5.Size {
			return "", false
		}
		digest.Write(sum)
	}
	return hex.EncodeToString(digest.Sum(nil)) + "-" + strconv.Itoa(len(parts)), true
}

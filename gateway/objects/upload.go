package objects

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"larder/gateway"
	"larder/past"

	"go.uber.org/zap"
)

// The states of an upload. docs/notes/objects.md draws them.
const (
	stateGone       = 0 // absent or tombstone
	stateActive     = 1
	stateFrozen     = 2 // active, and an attempt to complete it is reading its parts
	stateCompleting = 3 // an attempt has decided on the object, and may have written it
	stateCompleted  = 4 // the object was written; kept for resultKept
)

// resultKept is how long a second Complete gets the first one's answer.
const resultKept = 24 * time.Hour

// uploadValue is the sealed part of an upload's register.
type uploadValue struct {
	State        uint8    `cbor:"1,keyasint"`
	Metadata     metadata `cbor:"2,keyasint,omitempty"`
	Owner        string   `cbor:"3,keyasint,omitempty"`
	Algorithm    string   `cbor:"4,keyasint,omitempty"`
	ChecksumType string   `cbor:"5,keyasint,omitempty"`
	// Attempt names the attempt to complete the upload that State is about; it is the op of the object's record.
	Attempt [16]byte `cbor:"6,keyasint"`
	Since   int64    `cbor:"7,keyasint"` // when State was entered: wall time, nanoseconds since 1970
	// Base is the op of the head that the attempt replaces: it is written over that one or not at all.
	Base [16]byte `cbor:"8,keyasint"`
	// Helped says that others than the attempt's own request may write the head.
	Helped bool `cbor:"9,keyasint,omitempty"`
	// Object is the value of the object's record but for Metadata and Owner, which are the upload's; Modified is the record's.
	// Once Clean, it says no longer where the bytes are.
	Object   *value `cbor:"10,keyasint,omitempty"`
	Modified int64  `cbor:"11,keyasint,omitempty"`
	// Clean says that the registers of parts are gone.
	Clean bool `cbor:"12,keyasint,omitempty"`
}

// Uploads sort by key, then by time; the registers of an object key's uploads come before those of its parts, so that a listing
// of uploads can seek past the parts of a key at once.
const (
	uploadSub = "u" // uploadSub + uploadID
	partSub   = "v" // partSub + uploadID + number, 5 digits
	afterSubs = "w" // after all of them
)

const uploadIDBytes = 8 + 12 // time (nanoseconds since 1970, big-endian), random bits

func newUploadID(now time.Time) string {
	var id [uploadIDBytes]byte
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixNano()))
	random := random16()
	copy(id[8:], random[:])
	return hex.EncodeToString(id[:])
}

// initiated is the time in an uploadID; ok is false for what is none.
func initiated(id string) (at time.Time, ok bool) {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != uploadIDBytes || hex.EncodeToString(b) != id {
		return at, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC(), true
}

// upload is one upload's place.
type upload struct {
	bucket  *bucket
	key, id string
}

func (u upload) register() past.Register {
	return u.bucket.register(past.SpaceUpload, u.key, uploadSub+u.id)
}

func (u upload) partRegister(number int) past.Register {
	return u.bucket.register(past.SpaceUpload, u.key, fmt.Sprintf("%s%s%05d", partSub, u.id, number))
}

func (u upload) target() target { return target{bucket: u.bucket, key: u.key, uploadID: u.id} }

func (u upload) out(v *uploadValue) gateway.Upload {
	at, _ := initiated(u.id)
	return gateway.Upload{Key: u.key, ID: u.id, Initiated: at, UploadInput: gateway.UploadInput{
		Metadata: v.Metadata.out(), Owner: v.Owner, ChecksumAlgorithm: v.Algorithm, ChecksumType: v.ChecksumType}}
}

// inProgress says whether clients may add parts.
func (v *uploadValue) inProgress() bool { return v.State == stateActive || v.State == stateFrozen }

var errNoUpload = refusal{fmt.Errorf("objects: upload: %w", gateway.ErrNoSuchUpload)}

// withUpload runs f on an upload in a bucket, as withBucket does.
func (s *Store) withUpload(ctx context.Context, bucketName, key, id string, f func(u upload) error) error {
	if _, ok := initiated(id); !ok {
		return errNoUpload.error
	}
	return s.withBucket(ctx, bucketName, func(b *bucket) error { return f(upload{b, key, id}) })
}

// decodeUpload decodes a record of an upload's register; State is stateGone if there is none.
func (s *Store) decodeUpload(u upload, rec *past.Record) (*uploadValue, error) {
	v := new(uploadValue)
	if !rec.Exists() {
		return v, nil
	}
	if err := s.open(u.register(), rec, v); err != nil {
		return nil, err
	}
	if v.State >= stateCompleting && v.Object == nil {
		return nil, errors.New("objects: upload without its object")
	}
	return v, nil
}

func (s *Store) readUpload(ctx context.Context, u upload) (*uploadValue, error) {
	rec, err := s.past.Read(ctx, u.register())
	if err != nil {
		return nil, s.closedOr("read upload", false, err)
	}
	return s.decodeUpload(u, &rec)
}

// changeUpload applies f to an upload's register and returns what it then holds. f changes v in place, stateGone removing the
// register; its errors are as in Update.
func (s *Store) changeUpload(ctx context.Context, u upload, f func(v *uploadValue) error) (*uploadValue, error) {
	var now *uploadValue
	_, err := s.past.Update(ctx, u.register(), func(cur past.Record) (past.Record, error) {
		v, err := s.decodeUpload(u, &cur)
		if err != nil {
			return cur, err
		}
		before := v.State
		now = v
		if err := f(v); err != nil {
			return cur, err
		}
		if v.State != before {
			v.Since = time.Now().UnixNano()
		}
		if v.State == stateGone {
			return past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano()}, nil
		}
		rec := s.uploadRecord(u, v)
		return rec, fits(u.register(), &rec)
	})
	return now, err
}

func (s *Store) uploadRecord(u upload, v *uploadValue) past.Record {
	return past.Record{Kind: past.Live, Modified: time.Now().UnixNano(), Value: s.seal(u.register(), v)}
}

// CreateUpload implements gateway.Backend.
func (s *Store) CreateUpload(ctx context.Context, bucketName, objectKey string, in gateway.UploadInput) (out gateway.Upload, err error) {
	err = s.withBucket(ctx, bucketName, func(b *bucket) error {
		u := upload{b, objectKey, newUploadID(time.Now())}
		v := &uploadValue{State: stateActive, Metadata: inMetadata(in.Metadata), Owner: in.Owner, Algorithm: in.ChecksumAlgorithm,
			ChecksumType: in.ChecksumType, Since: time.Now().UnixNano()}
		rec := s.uploadRecord(u, v)
		err := fits(u.register(), &rec)
		if err == nil {
			_, err = s.past.Write(ctx, u.register(), rec)
		}
		out = u.out(v)
		return s.closedOr("create upload", false, err)
	})
	return out, err
}

// Upload implements gateway.Backend.
func (s *Store) Upload(ctx context.Context, bucketName, objectKey, uploadID string) (out gateway.Upload, err error) {
	err = s.withUpload(ctx, bucketName, objectKey, uploadID, func(u upload) error {
		v, err := s.readUpload(ctx, u)
		if err != nil {
			return err
		}
		if v.State == stateGone || v.State == stateCompleted {
			return errNoUpload.error
		}
		out = u.out(v)
		return nil
	})
	return out, err
}

// Abort implements gateway.Backend. The upload's register ends first, so that no part can join it and no Complete begin.
func (s *Store) Abort(ctx context.Context, bucketName, objectKey, uploadID string) error {
	return s.withUpload(ctx, bucketName, objectKey, uploadID, func(u upload) error { return s.abort(ctx, u) })
}

func (s *Store) abort(ctx context.Context, u upload) error {
	for range completeTries {
		v, err := s.changeUpload(ctx, u, func(v *uploadValue) error {
			if !v.inProgress() {
				return past.ErrUnchanged
			}
			v.State = stateGone
			return nil
		})
		if err != nil {
			return s.closedOr("abort", true, err)
		}
		switch v.State {
		case stateCompleting: // too late to abort, if the object is there
			if err := s.help(ctx, u, v); err != nil {
				return err
			}
			continue
		case stateCompleted:
			return errNoUpload.error
		}
		// Gone, just now or before: in the second case its parts may still be there.
		if n, err := s.removeParts(ctx, u, nil); err != nil || n > 0 || v.Since != 0 {
			return err
		}
		return errNoUpload.error
	}
	return fmt.Errorf("objects: abort: %w", gateway.ErrUnavailable)
}

// eachPart calls f for the part registers of an upload with numbers above after, ascending, until f returns false.
func (s *Store) eachPart(ctx context.Context, u upload, after, page int, f func(p part, rec *past.Record) bool) error {
	q := past.ScanQuery{Bucket: u.bucket.id, Space: past.SpaceUpload, Prefix: u.key, After: u.key, AfterSub: u.partRegister(after).Sub, Max: min(page, scanPage)}
	for {
		got, err := s.past.Scan(ctx, q)
		if err != nil {
			return s.closedOr("list parts", false, err)
		}
		for i := range got.Entries {
			e := &got.Entries[i]
			if e.Key != u.key || len(e.Sub) != len(partSub)+2*uploadIDBytes+5 || e.Sub[:len(partSub)+2*uploadIDBytes] != partSub+u.id {
				return nil
			}
			p, err := s.decodePart(u, e)
			if err != nil {
				return err
			}
			if !f(p, &e.Record) {
				return nil
			}
			q.After, q.AfterSub = e.Key, e.Sub
		}
		if !got.Truncated || len(got.Entries) == 0 {
			return nil
		}
	}
}

func (s *Store) decodePart(u upload, e *past.ScanEntry) (p part, err error) {
	if err = s.open(u.bucket.register(past.SpaceUpload, e.Key, e.Sub), &e.Record, &p); err == nil {
		err = validParts([]part{p}, e.Record.Length)
	}
	return p, err
}

// removeWidth is how many part registers are removed at once.
const removeWidth = 16

// removeParts removes an upload's part registers and reclaims the parts that are not in used. The upload is gone or completed.
// It returns how many there were.
func (s *Store) removeParts(ctx context.Context, u upload, used map[past.DataID]bool) (removed int, err error) {
	slots := make(chan error, removeWidth)
	for range removeWidth {
		slots <- nil
	}
	err = s.eachPart(ctx, u, 0, scanPage, func(p part, _ *past.Record) bool {
		if failed := <-slots; failed != nil {
			err = failed
			slots <- nil
			return false
		}
		removed++
		go func() { slots <- s.removePart(ctx, u, p.Number, used) }() // awaited below
		return true
	})
	for range removeWidth {
		if failed := <-slots; failed != nil {
			err = failed
		}
	}
	return removed, err
}

func (s *Store) removePart(ctx context.Context, u upload, number int, used map[past.DataID]bool) error {
	r := u.partRegister(number)
	replaced, err := s.past.Write(ctx, r, past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano()})
	if err != nil {
		return s.closedOr("remove part", false, err)
	}
	s.reclaimParts(ctx, r, replaced, used)
	return nil
}

// reclaimParts reclaims what replaced records of a part's register refer to, but for what is in used.
func (s *Store) reclaimParts(ctx context.Context, r past.Register, replaced []past.Record, used map[past.DataID]bool) {
	for i := range replaced {
		var p part
		if !replaced[i].Exists() {
			continue
		}
		if err := s.open(r, &replaced[i], &p); err != nil {
			s.log.Warn("replaced part cannot be read; its bytes are left to the audit", zap.Error(err))
			continue
		}
		if !used[p.Body.Data] && p.Body.valid() == nil {
			s.reclaim(ctx, &p.Body)
		}
	}
}

// ListParts implements gateway.Backend.
func (s *Store) ListParts(ctx context.Context, bucketName, objectKey, uploadID string, after, limit int) (out []gateway.Part, more bool, err error) {
	err = s.withUpload(ctx, bucketName, objectKey, uploadID, func(u upload) error {
		out, more = nil, false
		v, err := s.readUpload(ctx, u)
		if err != nil {
			return err
		}
		if v.State == stateGone || v.State == stateCompleted {
			return errNoUpload.error
		}
		return s.eachPart(ctx, u, after, limit+1, func(p part, _ *past.Record) bool {
			if more = len(out) == limit; !more {
				out = append(out, p.out())
			}
			return !more
		})
	})
	return out, more, err
}

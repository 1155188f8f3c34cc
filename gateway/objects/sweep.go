package objects

import (
	"context"
	"errors"
	"strings"
	"time"

	"larder/gateway"
	"larder/past"
)

// dropUploads ends all uploads of a bucket that is being deleted, the results of completed ones too, and what parts are left.
func (s *Store) dropUploads(ctx context.Context, b *bucket) error {
	err := s.walkUploads(ctx, b, past.ScanQuery{Bucket: b.id, Space: past.SpaceUpload}, func(u upload, v *uploadValue) (string, error) {
		if v.State != stateCompleted {
			err := s.abort(ctx, u)
			if errors.Is(err, gateway.ErrNoSuchUpload) {
				err = nil
			}
			return "", err
		}
		return "", s.expire(ctx, u, v)
	})
	if err != nil {
		return err
	}
	return s.dropOrphans(ctx, b)
}

// expire forgets a completed upload.
func (s *Store) expire(ctx context.Context, u upload, v *uploadValue) error {
	if !v.Clean {
		s.cleanUp(ctx, u, v)
	}
	_, err := s.changeUpload(ctx, u, func(v *uploadValue) error {
		if v.State != stateCompleted || !v.Clean {
			return past.ErrUnchanged
		}
		v.State = stateGone
		return nil
	})
	return s.closedOr("expire upload", false, err)
}

// dropOrphans removes the registers of parts whose upload is gone: those that an Abort left when its gateway ended.
func (s *Store) dropOrphans(ctx context.Context, b *bucket) error {
	scan := past.ScanQuery{Bucket: b.id, Space: past.SpaceUpload, Max: scanPage}
	for {
		got, err := s.past.Scan(ctx, scan)
		if err != nil {
			return s.closedOr("list parts", false, err)
		}
		seen := upload{}
		for i := range got.Entries {
			e := &got.Entries[i]
			scan.After, scan.AfterSub = e.Key, e.Sub
			if !strings.HasPrefix(e.Sub, partSub) || len(e.Sub) < len(partSub)+2*uploadIDBytes {
				continue
			}
			u := upload{b, e.Key, e.Sub[len(partSub) : len(partSub)+2*uploadIDBytes]}
			if u == seen {
				continue
			}
			seen = u
			v, err := s.readUpload(ctx, u)
			if err != nil {
				return err
			}
			if v.State == stateGone {
				if _, err := s.removeParts(ctx, u, nil); err != nil {
					return err
				}
			}
		}
		if !got.Truncated || len(got.Entries) == 0 {
			return nil
		}
	}
}

// sweepAfter is how long an attempt to complete an upload is left to those who made it.
const sweepAfter = 10 * time.Minute

// Sweep ends what crashed gateways and clients left half done in one bucket: attempts to complete uploads, parts of uploads that are
// gone, and results older than a day. It may run anywhere at any time; once an hour by one gateway is enough.
func (s *Store) Sweep(ctx context.Context, bucketName string) error {
	return s.withBucket(ctx, bucketName, func(b *bucket) error {
		err := s.walkUploads(ctx, b, past.ScanQuery{Bucket: b.id, Space: past.SpaceUpload}, func(u upload, v *uploadValue) (string, error) {
			age := time.Since(time.Unix(0, v.Since))
			switch {
			case v.State == stateCompleting && age > sweepAfter:
				if err := s.help(ctx, u, v); err != nil && !errors.Is(err, errAgain) {
					return "", err
				}
			case v.State == stateFrozen && age > sweepAfter:
				_, err := s.thaw(ctx, u)
				return "", err
			case v.State == stateCompleted && age > resultKept:
				return "", s.expire(ctx, u, v)
			case v.State == stateCompleted && !v.Clean:
				s.cleanUp(ctx, u, v)
			}
			return "", nil
		})
		if err != nil {
			return err
		}
		return s.dropOrphans(ctx, b)
	})
}

// SweepSystem ends what deletions of buckets left half done.
func (s *Store) SweepSystem(ctx context.Context) error { return s.sweepDrops(ctx) }

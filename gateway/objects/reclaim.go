package objects

import (
	"context"
	"errors"
	"time"

	"larder/past"

	"go.uber.org/zap"
)

// reclaimBatch is how many stripes one call of Reclaim names.
const reclaimBatch = 256

// settleFor bounds what is done after an operation's outcome is decided, for its client may be gone.
const settleFor = time.Minute

// settled is ctx for work that goes on when the client has gone.
func settled(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleFor)
}

// definite says that an operation that failed with err has not taken effect and never will. Only then may what it would have
// referred to be reclaimed; in all other cases it is left to the audit.
func definite(err error) bool {
	var refused refusal
	return errors.As(err, &refused) || errors.Is(err, past.ErrClosed) || errors.Is(err, past.ErrNoSpace)
}

// retire reclaims what the replaced records of an object key's head refer to and next, nil for a tombstone, does not. An upload
// that one of them was made of is marked completed first: as long as it is not, its parts may be needed (docs/notes/objects.md).
func (s *Store) retire(ctx context.Context, b *bucket, key string, replaced []past.Record, next *value) {
	ctx, cancel := settled(ctx)
	defer cancel()
	r := b.register(past.SpaceHead, key, "")
	for i := range replaced {
		rec := &replaced[i]
		v, _, err := s.head(r, rec)
		if err != nil {
			s.log.Warn("replaced record cannot be read; its bytes are left to the audit", zap.Error(err))
			continue
		}
		if v == nil || next != nil && v.Op == next.Op {
			continue
		}
		if v.Upload != "" && !s.markCompleted(ctx, b, key, v.Upload, v.Op) {
			continue
		}
		s.release(ctx, v, next)
	}
}

// release reclaims the bodies of v that next does not have. What needs lookups to be found, or is long, is
// done in the background.
func (s *Store) release(ctx context.Context, v, next *value) {
	if v.Body != nil && !v.Body.Manifest {
		if next == nil || next.Body == nil || next.Body.Data != v.Body.Data {
			s.reclaim(ctx, v.Body)
		}
		return
	}
	s.background(func(ctx context.Context) {
		kept := map[past.DataID]bool{}
		if next != nil {
			parts, err := s.parts(ctx, next)
			if err != nil {
				s.log.Warn("part table cannot be read; bytes are left to the audit", zap.Error(err))
				return
			}
			kept = next.dataIDs(parts)
		}
		parts, err := s.parts(ctx, v)
		if err != nil {
			s.log.Warn("part table cannot be read; bytes are left to the audit", zap.Error(err))
		}
		for i := range parts {
			if !kept[parts[i].Body.Data] {
				s.reclaim(ctx, &parts[i].Body)
			}
		}
		if v.Table != nil && !kept[v.Table.Data] {
			s.reclaim(ctx, v.Table)
		}
	})
}

// reclaim gives up one body: its stripes first, its manifest last, so that the manifest can be read meanwhile.
func (s *Store) reclaim(ctx context.Context, b *body) {
	if b.Inline {
		return
	}
	walk := s.pieces([]part{{Body: *b}}, 0, b.Length)
	var refs []past.StripeRef
	for {
		p, ok, err := walk.next(ctx, past.StripeMax)
		if err != nil {
			s.log.Warn("manifest cannot be read; its bytes are left to the audit", zap.Error(err))
		}
		if err != nil || !ok {
			break
		}
		if refs = append(refs, p.ref); len(refs) == reclaimBatch {
			s.past.Reclaim(refs...)
			refs = nil
		}
	}
	for m := int64(0); b.Manifest && m*rowBytes < int64(len(b.Rows)); m++ {
		if ref, err := row(b.Rows[m*rowBytes:], b.manifestLen(m)); err == nil {
			refs = append(refs, ref)
		}
	}
	if len(refs) > 0 {
		s.past.Reclaim(refs...)
	}
}

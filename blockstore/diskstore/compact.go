package diskstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"larder/blockstore"
)

// Bounds of one call of Empty.
const (
	compactStepBytes = 64 << 20 // bytes of fragments that are moved
	compactLiveShare = 2        // segments with less than 1/compactLiveShare in use are rewritten
	removeBatch      = 1000     // fragments forgotten at once
)

// Empty implements blockstore.Fragments. One call forgets all that was trashed before the given time, and moves at most
// compactStepBytes out of the segments with the least in use; calls after it go on. Concurrent calls wait for each other.
func (s *Store) Empty(ctx context.Context, before time.Time) (freedBytes int64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, fmt.Errorf("diskstore: empty: %w", err)
	}
	defer s.gate.exit()
	select {
	case s.compact <- struct{}{}:
		defer func() { <-s.compact }()
	case <-ctx.Done():
		return 0, fmt.Errorf("diskstore: empty: %w", ctx.Err())
	}
	if err := s.breaker.err(); err != nil {
		return 0, fmt.Errorf("diskstore: empty: %w", err)
	}
	if err := s.forgetTrash(ctx, before.UnixNano()); err != nil {
		return 0, fmt.Errorf("diskstore: empty: %w", s.noteCorrupt(err))
	}
	freedBytes, err = s.compactSegments(ctx)
	s.space.refresh()
	if err != nil {
		return freedBytes, fmt.Errorf("diskstore: empty: %w", s.noteCorrupt(err))
	}
	return freedBytes, nil
}

// forgetTrash takes what was trashed before the given time out of the index.
func (s *Store) forgetTrash(ctx context.Context, before int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		keys, err := s.index.trashBefore(before, removeBatch)
		if err != nil {
			s.suspectIndex(err)
			return err
		}
		if len(keys) == 0 {
			return nil
		}
		removed := 0
		err = s.index.change(false, func(c *indexChange) error {
			for _, key := range keys {
				l, err := c.get(key)
				if err != nil || l.Trashed == 0 || l.Trashed >= before {
					continue // restored or replaced meanwhile
				}
				if err := c.remove(key, &l); err != nil {
					return err
				}
				removed++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.breaker.err(); err != nil {
			return err
		}
		if len(keys) < removeBatch || removed == 0 {
			return nil
		}
	}
}

// candidate is a segment that may be worth rewriting.
type candidate struct {
	seg  *segment
	used int64 // bytes of records that the index refers to
	size int64
}

// candidates returns the segments with too little in use, the emptiest first. The active segment is given up if it is one.
func (s *Store) candidates() []candidate {
	w := s.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	busy := make(map[uint64]bool)
	for _, r := range w.queue {
		busy[r.seg.id] = true
	}
	var out []candidate
	segs, sizes := s.segments.list()
	for i, g := range segs {
		st := s.index.stat(g.id)
		c := candidate{seg: g, used: st.Live + st.Trash, size: sizes[i]}
		if busy[g.id] || c.size <= segmentDataStart || c.used*compactLiveShare >= c.size-segmentDataStart {
			continue
		}
		if g == w.active {
			w.retire()
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	return out
}

// compactSegments rewrites segments until a step's worth of bytes was moved.
func (s *Store) compactSegments(ctx context.Context) (freed int64, err error) {
	var moved int64
	for _, c := range s.candidates() {
		if moved+c.used > compactStepBytes && moved > 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		n, err := s.rewrite(ctx, c.seg)
		moved += n
		if err != nil {
			return freed, err
		}
		if err := s.removeSegment(c.seg); err != nil {
			return freed, err
		}
		freed += c.size - n
		s.log.Info("segment compacted", zap.Uint64("segment", c.seg.id), zap.Int64("movedBytes", n), zap.Int64("sizeBytes", c.size))
	}
	return max(0, freed), nil
}

// rewrite moves the fragments in g that the index refers to into the active segment and returns their size. When it returns
// nil they are durable there, and the index refers to nothing in g.
func (s *Store) rewrite(ctx context.Context, g *segment) (moved int64, err error) {
	if _, err := s.segments.acquire(g.id); err != nil {
		return 0, err
	}
	defer s.releaseSegment(g)
	sc := scanner{r: g.file, seed: g.seed, size: g.size}
	recs, _, err := sc.headers(segmentDataStart)
	if err != nil {
		return 0, err
	}
	for i := range recs {
		rec := &recs[i]
		l, err := s.index.get(rec.Key)
		if errors.Is(err, blockstore.ErrNotFound) || err == nil && (l.Segment != g.id || l.Offset != rec.off) {
			continue
		} else if err != nil {
			s.suspectIndex(err)
			return moved, err
		}
		if err := s.move(ctx, g, rec, l); err != nil {
			return moved, err
		}
		moved += rec.len()
	}
	if st := s.index.stat(g.id); st.LiveN+st.TrashN > 0 {
		return moved, s.forgetLost(g)
	}
	return moved, nil
}

// move copies one record. A body that fails its checksum goes along as it is, marked corrupt: a reader of ranges may
// still make use of it.
func (s *Store) move(ctx context.Context, g *segment, rec *scanned, l location) error {
	body := make([]byte, rec.Size)
	if _, err := readFull(g, body, bodyOffset(len(rec.Key), rec.off)); err != nil {
		return err
	}
	if _, err := readBody(nil, rec.Key, &l, g); errors.Is(err, blockstore.ErrCorrupt) && !l.Corrupt {
		s.countCorrupt()
		s.markCorrupt(rec.Key, l)
	}
	to := location{Size: l.Size, Stored: l.Stored}
	return s.append(ctx, rec.Key, to, &l, rec.BodySum, [][]byte{body})
}

// forgetLost removes from the index the fragments whose records in g can no longer be recognised.
func (s *Store) forgetLost(g *segment) error {
	for from := []byte{}; from != nil; {
		page, next, err := s.index.page(from, eachPage)
		if err != nil {
			s.suspectIndex(err)
			return err
		}
		err = s.index.change(false, func(c *indexChange) error {
			for i := range page {
				l, err := c.get(page[i].key)
				if err != nil || l.Segment != g.id {
					continue
				}
				s.countCorrupt()
				s.log.Error("fragment is lost: its record is unreadable", zap.Binary("key", page[i].key), zap.Uint64("segment", g.id))
				if err := c.remove(page[i].key, &l); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// removeSegment forgets g durably, then removes its file.
func (s *Store) removeSegment(g *segment) error {
	err := s.index.change(true, func(c *indexChange) error { c.deltaOf(g.id).Deleted = true; return nil })
	if err != nil {
		return err
	}
	if err := s.breaker.err(); err != nil {
		return err
	}
	return s.segments.drop(g)
}

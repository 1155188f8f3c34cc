package diskstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/zap"

	"larder/blockstore"
)

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > blockstore.KeyMax {
		return fmt.Errorf("key of %d bytes, want 1 to %d", len(key), blockstore.KeyMax)
	}
	return nil
}

// Put implements blockstore.Fragments. If ctx ends while the sync is awaited, the fragment may have been kept.
func (s *Store) Put(ctx context.Context, key []byte, parts ...[]byte) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("diskstore: put: %w", err)
	}
	defer s.gate.exit()
	if err := s.put(ctx, key, parts); err != nil {
		return fmt.Errorf("diskstore: put %x: %w", key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key []byte, parts [][]byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := s.breaker.err(); err != nil {
		return err
	}
	if l, err := s.index.get(key); err == nil && l.Trashed == 0 && !l.Corrupt {
		return nil
	}
	var size int64
	h := xxh3.New()
	for _, p := range parts {
		size += int64(len(p))
		_, _ = h.Write(p) // never fails
	}
	if size > blockstore.FragmentMax {
		return fmt.Errorf("fragment of %d bytes, want at most %d", size, blockstore.FragmentMax)
	}
	loc := location{Size: size, Stored: nowNano(s.now())}
	return s.append(ctx, bytes.Clone(key), loc, nil, h.Sum64(), parts)
}

// append writes one record and waits until it is durable and indexed. moved is nil but for compaction.
func (s *Store) append(ctx context.Context, key []byte, loc location, moved *location, bodySum uint64, parts [][]byte) error {
	r, err := s.writer.reserve(key, loc, moved, moved != nil)
	if err != nil {
		return err
	}
	if err = r.write(bodySum, parts); err != nil {
		s.writer.finish(r, err)
		if isNoSpace(err) {
			s.space.refresh()
			return fmt.Errorf("%w: %w", blockstore.ErrNoSpace, err)
		}
		s.breaker.trip("write segment", err)
		return s.breaker.err()
	}
	s.writer.finish(r, nil)
	select {
	case err = <-r.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withSegment calls f with the location of key and the segment it is in, kept open meanwhile.
func (s *Store) withSegment(key []byte, f func(l location, g *segment) error) error {
	for {
		l, err := s.index.get(key)
		if err != nil {
			s.suspectIndex(err)
			return err
		}
		g, err := s.segments.acquire(l.Segment)
		if errors.Is(err, errSegmentGone) {
			// Compaction moved the fragment since we asked; if the index says the same again, the file is lost.
			again, err := s.index.get(key)
			if err == nil && again.Segment == l.Segment {
				err = fmt.Errorf("segment %d is missing: %w", l.Segment, blockstore.ErrCorrupt)
				s.suspectIndex(err)
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		err = f(l, g)
		s.releaseSegment(g)
		return err
	}
}

// releaseSegment ends a use of g.
func (s *Store) releaseSegment(g *segment) {
	if err := s.segments.release(g); err != nil {
		s.log.Warn("could not remove compacted segment", zap.Uint64("segment", g.id), zap.Error(err))
	}
}

// ReadAt implements blockstore.Fragments.
func (s *Store) ReadAt(ctx context.Context, key, dst []byte, off int64) (n int, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, fmt.Errorf("diskstore: read: %w", err)
	}
	defer s.gate.exit()
	if off < 0 {
		return 0, fmt.Errorf("diskstore: read %x: negative offset", key)
	}
	eof := false
	err = s.withSegment(key, func(l location, g *segment) error {
		want := dst
		if left := max(0, l.Size-off); left < int64(len(want)) {
			want, eof = want[:left], true
		}
		n, err = readFull(g, want, bodyOffset(len(key), l.Offset)+off)
		return err
	})
	if err != nil {
		return 0, s.readError(key, err)
	}
	if eof {
		return n, io.EOF
	}
	return n, nil
}

// readFull reads len(dst) bytes, all of which the index says are there.
func readFull(g *segment, dst []byte, off int64) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	n, err := g.file.ReadAt(dst, off)
	if n == len(dst) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("segment %d ends at %d: %w", g.id, off+int64(n), blockstore.ErrCorrupt)
	}
	return 0, err
}

func (s *Store) readError(key []byte, err error) error {
	if errors.Is(err, blockstore.ErrNotFound) {
		return err
	}
	return fmt.Errorf("diskstore: read %x: %w", key, s.noteCorrupt(err))
}

// Read implements blockstore.Fragments. What fails its checksum is remembered, so that the next Put replaces it.
func (s *Store) Read(ctx context.Context, dst, key []byte) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return dst, fmt.Errorf("diskstore: read: %w", err)
	}
	defer s.gate.exit()
	out := dst
	var at location
	err := s.withSegment(key, func(l location, g *segment) (err error) {
		at = l
		out, err = readBody(dst, key, &l, g)
		return err
	})
	if err == nil {
		return out, nil
	}
	if errors.Is(err, blockstore.ErrCorrupt) && at.Segment != 0 && !at.Corrupt {
		s.markCorrupt(key, at)
	}
	return dst, s.readError(key, err)
}

// readBody appends the body of the record at l to dst, its framing and checksum verified.
func readBody(dst, key []byte, l *location, g *segment) ([]byte, error) {
	var hb [recordHeaderSize + blockstore.KeyMax]byte
	head := hb[:recordHeaderSize+len(key)]
	if _, err := readFull(g, head, l.Offset); err != nil {
		return dst, err
	}
	h, ok := decodeRecordHeader(head, g.seed, l.Offset)
	if !ok || !bytes.Equal(h.Key, key) || h.Size != l.Size {
		return dst, fmt.Errorf("record header: %w", blockstore.ErrCorrupt)
	}
	out := slices.Grow(dst, int(l.Size))[:len(dst)+int(l.Size)]
	if _, err := readFull(g, out[len(dst):], bodyOffset(len(key), l.Offset)); err != nil {
		return dst, err
	}
	if xxh3.Hash(out[len(dst):]) != h.BodySum {
		return dst, fmt.Errorf("record body: %w", blockstore.ErrCorrupt)
	}
	return out, nil
}

// markCorrupt notes in the index that the copy at l is bad.
func (s *Store) markCorrupt(key []byte, l location) {
	err := s.index.change(false, func(c *indexChange) error {
		now, err := c.get(key)
		if err != nil || now.Segment != l.Segment || now.Offset != l.Offset {
			return nil
		}
		bad := now
		bad.Corrupt = true
		return c.set(key, &now, &bad)
	})
	s.log.Error("fragment is corrupt", zap.Binary("key", key), zap.Uint64("segment", l.Segment), zap.Int64("offset", l.Offset), zap.Error(err))
}

// Stat implements blockstore.Fragments.
func (s *Store) Stat(ctx context.Context, key []byte) (blockstore.FragmentInfo, error) {
	if err := s.enter(ctx); err != nil {
		return blockstore.FragmentInfo{}, fmt.Errorf("diskstore: stat: %w", err)
	}
	defer s.gate.exit()
	l, err := s.index.get(key)
	if err != nil {
		s.suspectIndex(err)
		return blockstore.FragmentInfo{}, s.readError(key, err)
	}
	return l.info(bytes.Clone(key)), nil
}

func (l *location) info(key []byte) blockstore.FragmentInfo {
	i := blockstore.FragmentInfo{Key: key, Size: l.Size, Stored: time.Unix(0, l.Stored)}
	if l.Trashed != 0 {
		i.Trashed = time.Unix(0, l.Trashed)
	}
	return i
}

// Trash implements blockstore.Fragments. A power cut may take it back; then the fragments are live again.
func (s *Store) Trash(ctx context.Context, keys ...[]byte) error {
	now := nowNano(s.now())
	err := s.changeIndex(ctx, func(c *indexChange) error {
		for _, key := range keys {
			old, err := c.get(key)
			if errors.Is(err, blockstore.ErrNotFound) || err == nil && old.Trashed != 0 {
				continue
			} else if err != nil {
				return err
			}
			l := old
			l.Trashed = now
			if err := c.set(key, &old, &l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("diskstore: trash: %w", err)
	}
	return nil
}

// Restore implements blockstore.Fragments.
func (s *Store) Restore(ctx context.Context, key []byte) error {
	err := s.changeIndex(ctx, func(c *indexChange) error {
		old, err := c.get(key)
		if err != nil || old.Trashed == 0 {
			return err
		}
		l := old
		l.Trashed = 0
		return c.set(key, &old, &l)
	})
	if err != nil {
		return fmt.Errorf("diskstore: restore %x: %w", key, err)
	}
	return nil
}

// changeIndex makes changes that a caller asked for.
func (s *Store) changeIndex(ctx context.Context, f func(c *indexChange) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.gate.exit()
	if err := s.breaker.err(); err != nil {
		return err
	}
	if err := s.index.change(false, f); err != nil {
		s.suspectIndex(err)
		return s.noteCorrupt(err)
	}
	return s.breaker.err()
}

// eachPage is how many fragments Each looks up at once.
const eachPage = 256

// Each implements blockstore.Fragments. It holds no lock and no snapshot while f runs: what is put or removed meanwhile may
// be seen or not. Damaged index entries are left out, and reported at the end.
func (s *Store) Each(ctx context.Context, from []byte, f func(blockstore.FragmentInfo) bool) error {
	var damage error
	for {
		page, next, err := s.eachPage(ctx, from)
		for i := range page {
			if !f(page[i].info(page[i].key)) {
				return nil
			}
		}
		if err != nil {
			damage = fmt.Errorf("diskstore: each: %w", s.noteCorrupt(err))
			s.suspectIndex(err)
		}
		if next == nil {
			return damage
		}
		from = next
	}
}

func (s *Store) eachPage(ctx context.Context, from []byte) ([]indexed, []byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer s.gate.exit()
	return s.index.page(from, eachPage)
}

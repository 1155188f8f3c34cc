package diskstore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.uber.org/zap"

	"larder/blockstore"
)

// foundSegment is a segment file as Open finds it.
type foundSegment struct {
	id   uint64
	seed uint64
	size int64
	bad  bool // neither copy of the header is good
	done bool // nothing may be appended to it
}

// recoverFragments opens the index and the segments and makes them agree.
func (s *Store) recoverFragments() error {
	if err := s.fs.MkdirAll(s.segments.dir, 0o700); err != nil {
		return err
	}
	found, err := s.findSegments()
	if err != nil {
		return err
	}
	from, err := s.openIndex(found)
	if err != nil {
		return fmt.Errorf("fragment index: %w", err)
	}
	for i := range found {
		if err := s.adopt(&found[i], from); err != nil {
			return fmt.Errorf("segment %d: %w", found[i].id, err)
		}
		s.writer.nextID = found[i].id
	}
	s.writer.nextID++
	for id := range s.index.stats {
		s.writer.nextID = max(s.writer.nextID, id+1) // an id is never used twice
	}
	if err := s.resume(found); err != nil {
		return err
	}
	return s.unmarkIndex()
}

// unmarkIndex removes the mark that had the index rebuilt, now that it is.
func (s *Store) unmarkIndex() error {
	marker := s.fs.PathJoin(s.dir, rebuildFile)
	marked, err := exists(s.fs, marker)
	if err != nil || !marked || s.stuck.Load() {
		return err
	}
	if err := s.index.change(true, func(*indexChange) error { return nil }); err != nil {
		return err
	}
	s.suspected.Store(false)
	return s.fs.Remove(marker)
}

// findSegments lists the segment files in order of id and reads their headers.
func (s *Store) findSegments() ([]foundSegment, error) {
	names, err := s.fs.List(s.segments.dir)
	if err != nil {
		return nil, err
	}
	var found []foundSegment
	for _, name := range names {
		id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		f := foundSegment{id: id}
		if err := s.readSegmentHeader(&f); err != nil {
			return nil, fmt.Errorf("segment %d: %w", id, err)
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b foundSegment) int { return cmp.Compare(a.id, b.id) })
	return found, nil
}

func (s *Store) readSegmentHeader(f *foundSegment) error {
	file, err := s.fs.Open(s.segments.path(f.id))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f.size = info.Size()
	b := make([]byte, segmentDataStart)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h, err := decodeSegmentHeader(b[:n])
	if errors.Is(err, blockstore.ErrCorrupt) || err == nil && h.ID != f.id {
		f.bad = true
		return nil
	}
	f.seed = h.Seed
	return err
}

// openIndex opens the index, anew if it is lost or damaged, and returns from where the segments must be replayed.
func (s *Store) openIndex(found []foundSegment) (position, error) {
	dir, marker := s.fs.PathJoin(s.dir, indexDir), s.fs.PathJoin(s.dir, rebuildFile)
	marked, err := exists(s.fs, marker)
	if err != nil {
		return position{}, err
	}
	if !marked {
		from, err := s.tryIndex(dir, found)
		if !errors.Is(err, blockstore.ErrCorrupt) {
			return from, err
		}
		s.log.Error("fragment index is damaged, rebuilding it from the segments", zap.Error(err))
		s.countCorrupt()
	}
	if s.index.db != nil {
		err := s.index.db.Close()
		s.index.db = nil
		if err != nil {
			return position{}, err
		}
	}
	if err := s.fs.RemoveAll(dir); err != nil {
		return position{}, err
	}
	s.stuck.Store(false)
	s.index.total = segmentStat{}
	if _, err := s.tryIndex(dir, nil); err != nil {
		return position{}, err
	}
	return position{}, nil
}

// tryIndex opens the index as it is. An error wrapping ErrCorrupt means that it must be rebuilt.
func (s *Store) tryIndex(dir string, found []foundSegment) (from position, err error) {
	s.index.db, err = openPebble(&breakerFS{FS: s.fs, b: s.breaker}, dir, s.cache, indexMemBytes, s.log.Named("index"), s.indexStuck)
	if err != nil {
		return position{}, err
	}
	if from, err = s.index.load(); err != nil {
		return position{}, err
	}
	// The index may be an earlier one than that which the files were left by, but a file's removal waits until the index
	// that forgot it is durable. So any disagreement about older segments is damage.
	files := make(map[uint64]bool, len(found))
	for _, f := range found {
		files[f.id] = true
		if st := s.index.stats[f.id]; st == nil && f.id < from.Segment && !f.bad {
			return position{}, fmt.Errorf("segment %d is unknown to the index: %w", f.id, blockstore.ErrCorrupt)
		}
	}
	for id, st := range s.index.stats {
		if !files[id] && !st.Deleted {
			return position{}, fmt.Errorf("segment %d is lost: %w", id, blockstore.ErrCorrupt)
		}
	}
	if s.stuck.Load() {
		return position{}, fmt.Errorf("table cannot be compacted: %w", blockstore.ErrCorrupt)
	}
	return from, nil
}

// adopt adds a found segment to the set and replays it from the checkpoint on.
func (s *Store) adopt(f *foundSegment, from position) error {
	st := s.index.stats[f.id]
	switch {
	case st != nil && st.Deleted:
		return s.fs.Remove(s.segments.path(f.id))
	case f.bad && st != nil && st.Seed != 0:
		f.seed = st.Seed
		s.countCorrupt()
		s.log.Error("segment header is corrupt, using the index's copy", zap.Uint64("segment", f.id))
	case f.bad && f.size <= segmentDataStart:
		return s.fs.Remove(s.segments.path(f.id)) // a crash while it was created: nothing was ever in it
	case f.bad:
		s.countCorrupt()
		s.log.Error("segment header is corrupt and unknown to the index, leaving the file alone", zap.Uint64("segment", f.id))
		return nil
	}
	g := &segment{id: f.id, seed: f.seed, size: max(f.size, segmentDataStart)}
	defer s.segments.add(g)
	if f.id < from.Segment {
		f.done = true // given up by an earlier run, for whatever reason
		return nil
	}
	start := int64(segmentDataStart)
	if f.id == from.Segment {
		start = max(start, from.Offset)
	}
	return s.replay(f, g, start, from == position{})
}

// replayBatch is how many records go into the index at once during replay.
const replayBatch = 1000

// replay puts the records of g from offset start on into the index.
func (s *Store) replay(f *foundSegment, g *segment, start int64, rebuild bool) error {
	file, err := s.fs.OpenReadWrite(s.segments.path(g.id), fragmentsCategory)
	if err != nil {
		return err
	}
	defer file.Close()
	// What a killed process had written but not synced is readable and not yet durable.
	if err := file.Sync(); err != nil {
		return err
	}
	var batch []scanned
	known := s.index.stats[g.id] != nil
	flush := func() error {
		defer func() { batch = batch[:0] }()
		return s.index.change(false, func(c *indexChange) error {
			if !known {
				c.addSegment(g.id, g.seed)
				known = true
			}
			for i := range batch {
				if err := replayRecord(c, g.id, &batch[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	n := 0
	// After a crash a segment or two are read whole; a rebuild reads all headers and leaves old bodies to their readers.
	res, err := scanSegment(file, g.seed, start, f.size, !rebuild, func(r scanned) error {
		n++
		if batch = append(batch, r); len(batch) < replayBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	s.corrupt.Add(res.corrupt)
	if res.clean {
		g.size = max(res.end, segmentDataStart)
	}
	if n > 0 || !res.clean {
		s.log.Info("segment replayed", zap.Uint64("segment", g.id), zap.Int("records", n), zap.Bool("clean", res.clean),
			zap.Int64("corrupt", res.corrupt), zap.Int64("endOffset", res.end), zap.Int64("sizeBytes", f.size))
	}
	f.done = !res.clean
	return nil
}

// replayRecord puts one record into the index, unless a later copy is there.
func replayRecord(c *indexChange, id uint64, r *scanned) error {
	l := location{Segment: id, Offset: r.off, Size: r.Size, Stored: r.Stored, Corrupt: r.corrupt}
	old, err := c.get(r.Key)
	if err != nil {
		return c.set(r.Key, nil, &l)
	}
	same := old.Segment == l.Segment && old.Offset == l.Offset
	later := l.Segment > old.Segment || l.Segment == old.Segment && l.Offset > old.Offset
	switch {
	case same && l.Corrupt && !old.Corrupt:
		l.Trashed = old.Trashed
	case same, !later, l.Corrupt && !old.Corrupt:
		return nil
	}
	return c.set(r.Key, &old, &l)
}

// resume makes the last segment the active one if its end is known and it has room, and moves the checkpoint to the end.
func (s *Store) resume(found []foundSegment) error {
	w := s.writer
	if n := len(found); n > 0 && !found[n-1].bad && !found[n-1].done && found[n-1].id == w.nextID-1 {
		if g := s.segments.byID[found[n-1].id]; g != nil && g.size < w.limit && g.size%recordAlign == 0 {
			f, err := s.fs.OpenReadWrite(s.segments.path(g.id), fragmentsCategory)
			if err != nil {
				return err
			}
			g.file, g.refs = f, 1
			s.segments.open++
			w.active, w.durable = g, g.size
		}
	}
	w.mu.Lock()
	ckpt := w.checkpointLocked(nil)
	w.mu.Unlock()
	return s.index.change(false, func(c *indexChange) error { return c.checkpoint(ckpt) })
}

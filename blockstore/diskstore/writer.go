package diskstore

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"larder/blockstore"
)

// fragmentsCategory is how Pebble's file system accounts our writes.
const fragmentsCategory vfs.DiskWriteCategory = "larder-fragments"

// writer appends records to the active segment.
//
// A caller reserves a place and writes its record there itself, in parallel with others; run, the committer, syncs all
// that has been written meanwhile with one fdatasync, puts it into the index and answers. While it syncs, the next
// group is being written, so the disk does not wait for copying.
type writer struct {
	s     *Store
	limit int64         // a segment that has reached it is full, bytes
	kick  chan struct{} // capacity 1: there is something in ready, or stop was set. Sent to by callers, never closed
	done  chan struct{} // closed by run when it ends

	mu     sync.Mutex
	active *segment       // nil until the first record after Open or after a failed write
	nextID uint64         // of the next segment
	queue  []*reservation // in order of position, from the first that is not finished and indexed on
	ready  []*reservation // written, not yet synced
	stop   bool

	durable int64 // everything below it in the active segment is synced
}

// reservation is a place in a segment and what is to be there.
type reservation struct {
	seg      *segment
	off, end int64
	durable  int64 // for the header
	key      []byte
	loc      location
	moved    *location // compaction: the place it comes from, which the index must still name
	state    reservationState
	result   chan error // capacity 1, sent to once by the committer
}

type reservationState uint8

const (
	reserved reservationState = iota
	written
	finished // synced, or failed
)

// reserve finds a place for a record. force lets it use the space that is reserved for entries and compaction.
// Errors: ErrNoSpace, ErrReadOnly.
func (w *writer) reserve(key []byte, loc location, moved *location, force bool) (*reservation, error) {
	n := recordSize(len(key), loc.Size)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.s.breaker.err(); err != nil {
		return nil, err
	}
	if !force {
		if err := w.s.space.fragmentFits(n); err != nil {
			return nil, err
		}
	}
	if w.active == nil || w.active.size+n > w.limit && w.active.size > segmentDataStart {
		if err := w.roll(); err != nil {
			return nil, err
		}
	}
	off := w.s.segments.grow(w.active, n)
	w.s.space.wrote(n)
	loc.Segment, loc.Offset = w.active.id, off
	r := &reservation{seg: w.active, off: off, end: off + n, durable: w.durable, key: key, loc: loc, moved: moved, result: make(chan error, 1)}
	w.queue = append(w.queue, r)
	return r, nil
}

// roll starts a new active segment. Caller holds mu.
func (w *writer) roll() error {
	g, err := w.s.createSegment(w.nextID)
	if err != nil {
		if isNoSpace(err) {
			return fmt.Errorf("%w: %w", blockstore.ErrNoSpace, err)
		}
		w.s.breaker.trip("create segment", err)
		return w.s.breaker.err()
	}
	w.nextID++
	w.retire()
	w.active, w.durable = g, segmentDataStart
	return nil
}

// retire gives up the active segment: nothing more is appended to it. Caller holds mu.
func (w *writer) retire() {
	if g := w.active; g != nil {
		w.active = nil
		w.s.releaseSegment(g)
	}
}

// write puts the record into its place. bodySum is the xxh3 of parts.
func (r *reservation) write(bodySum uint64, parts [][]byte) error {
	h := recordHeader{Key: r.key, Size: r.loc.Size, Stored: r.loc.Stored, Durable: r.durable, BodySum: bodySum}
	bp := scratch.Get().(*[]byte)
	defer scratch.Put(bp)
	buf, off := h.appendTo((*bp)[:0], r.seg.seed, r.off), r.off
	flush := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		_, err := r.seg.file.WriteAt(p, off)
		off += int64(len(p))
		return err
	}
	for _, p := range parts {
		if len(buf)+len(p) <= cap(buf) {
			buf = append(buf, p...)
			continue
		}
		if err := flush(buf); err != nil {
			return err
		}
		buf = buf[:0]
		if err := flush(p); err != nil {
			return err
		}
	}
	return flush(buf) // the padding is a hole in the file, or its end
}

// scratch holds buffers in which headers and small parts are put together.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// finish hands r to the committer, or gives its place up if err is not nil. The answer comes on r.result.
func (w *writer) finish(r *reservation, err error) {
	w.mu.Lock()
	if err != nil {
		r.state = finished
		if w.active == r.seg {
			w.retire() // the hole stays behind, in a segment that vouches for nothing above it
		}
		w.mu.Unlock()
		w.s.releaseSegment(r.seg)
		return
	}
	r.state = written
	w.ready = append(w.ready, r)
	w.mu.Unlock()
	w.wake()
}

func (w *writer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// run is the committer. It ends when stop is set and nothing is waiting.
func (w *writer) run() {
	defer close(w.done)
	for range w.kick {
		w.mu.Lock()
		group, stop := w.ready, w.stop
		w.ready = nil
		w.mu.Unlock()
		if len(group) > 0 {
			w.commit(group)
		}
		if stop && len(group) == 0 {
			return
		}
		if stop {
			w.wake()
		}
	}
}

// commit syncs and indexes a group of written records.
func (w *writer) commit(group []*reservation) {
	err := w.sync(group)
	if err == nil {
		err = w.s.breaker.err()
	}
	w.mu.Lock()
	for _, r := range group {
		r.state = finished
	}
	n := 0
	for n < len(w.queue) && w.queue[n].state == finished {
		n++
	}
	ckpt := w.checkpointLocked(w.queue[n:])
	w.mu.Unlock()
	if err == nil {
		err = w.s.index.change(false, func(c *indexChange) error { return indexGroup(c, group, ckpt) })
	}
	w.mu.Lock()
	for _, r := range w.queue[:n] {
		if r.seg == w.active && err == nil {
			w.durable = r.end
		}
	}
	// Not before they are in the index: compaction takes a segment that the queue does not name for fully indexed.
	w.queue = w.queue[n:]
	w.mu.Unlock()
	for _, r := range group {
		w.s.releaseSegment(r.seg)
		r.result <- err
	}
}

// sync makes the files of group durable; a failure is the last thing the store writes.
func (w *writer) sync(group []*reservation) error {
	var last *segment
	for _, r := range group {
		if r.seg == last {
			continue
		}
		last = r.seg
		if err := r.seg.file.SyncData(); err != nil {
			w.s.breaker.trip("sync segment", err)
			return w.s.breaker.err()
		}
	}
	return nil
}

// checkpointLocked returns the place before which all records are finished, if queue are those that may not be. Caller
// holds mu.
func (w *writer) checkpointLocked(queue []*reservation) position {
	switch {
	case len(queue) > 0:
		return position{queue[0].seg.id, queue[0].off}
	case w.active != nil:
		return position{w.active.id, w.active.size}
	default:
		return position{w.nextID, segmentDataStart}
	}
}

// indexGroup puts the records of group into the index.
func indexGroup(c *indexChange, group []*reservation, ckpt position) error {
	for _, r := range group {
		old, err := c.get(r.key)
		known := err == nil
		switch {
		case r.moved != nil && (!known || old.Segment != r.moved.Segment || old.Offset != r.moved.Offset):
			continue // replaced or removed while it was being moved
		case r.moved != nil:
			r.loc.Trashed, r.loc.Corrupt = old.Trashed, old.Corrupt
		case known && old.Trashed == 0 && !old.Corrupt:
			continue // two callers put the same fragment; the first copy counts
		}
		p := &old
		if !known {
			p = nil
		}
		if err := c.set(r.key, p, &r.loc); err != nil {
			return err
		}
	}
	return c.checkpoint(ckpt)
}

// createSegment makes segment id, its header durable and its name in the directory, and adds it to the set with one
// reference that the caller owns.
func (s *Store) createSegment(id uint64) (*segment, error) {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	h := segmentHeader{ID: id, Seed: binary.LittleEndian.Uint64(seed[:]), Created: s.now().UnixNano()}
	path := s.segments.path(id)
	f, err := s.fs.OpenReadWrite(path, fragmentsCategory)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(h.appendTo(nil), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(s.fs, s.segments.dir)
	}
	if err == nil {
		// Synced, so that the index never falls back by more than one segment.
		err = s.index.change(true, func(c *indexChange) error { c.addSegment(id, h.Seed); return nil })
	}
	if err != nil {
		_ = f.Close()
		_ = s.fs.Remove(path)
		return nil, err
	}
	g := &segment{id: id, seed: h.Seed, size: segmentDataStart, file: f, refs: 1}
	s.segments.add(g)
	s.space.wrote(segmentDataStart)
	return g, nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// nowNano is the wall time of t as the formats keep it; never 0, which means "not".
func nowNano(t time.Time) int64 {
	if n := t.UnixNano(); n != 0 {
		return n
	}
	return 1
}

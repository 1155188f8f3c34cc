package diskstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// openSegmentsMax bounds how many segment files stay open while nobody uses them.
const openSegmentsMax = 256

// errSegmentGone says that compaction removed the segment since the caller asked the index; it asks again.
var errSegmentGone = errors.New("segment was compacted away")

// segment is one append-only file of fragments.
type segment struct {
	id   uint64
	seed uint64

	// guarded by segments.mu
	size int64    // bytes handed out or found; the next record's offset
	file vfs.File // nil while closed
	refs int      // users of file
	used uint64   // segments.clock at the last use
	gone bool     // dropped: the last user removes the file
}

// segments is the set of segment files, with those in use or used lately open.
type segments struct {
	fs  vfs.FS
	dir string

	mu    sync.Mutex // guards what follows and the fields of each segment; held while a file is opened
	byID  map[uint64]*segment
	open  int
	clock uint64
	bytes int64 // sum of sizes
}

func (s *segments) path(id uint64) string { return s.fs.PathJoin(s.dir, fmt.Sprintf("%010d.seg", id)) }

// parseSegmentName is the inverse of path, for a file's base name.
func parseSegmentName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(digits) < 10 {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	return id, err == nil
}

// add makes a segment part of the set; file may be nil.
func (s *segments) add(g *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[g.id] = g
	s.bytes += g.size
	if g.file != nil {
		s.open++
	}
}

// grow adds n bytes to g, whose file the caller knows to be open, and returns the offset at which they begin. The caller
// owns a reference to g from then on.
func (s *segments) grow(g *segment, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	off := g.size
	g.size += n
	g.refs++
	s.bytes += n
	return off
}

// acquire opens segment id, if it is not open, and keeps it so until release. Errors: errSegmentGone, and the disk's.
func (s *segments) acquire(id uint64) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.byID[id]
	if g == nil {
		return nil, errSegmentGone
	}
	if g.file == nil {
		f, err := s.fs.Open(s.path(id), vfs.RandomReadsOption)
		if err != nil {
			return nil, fmt.Errorf("open segment %d: %w", id, err)
		}
		g.file = f
		s.open++
	}
	s.clock++
	g.used = s.clock
	g.refs++
	if s.open > openSegmentsMax {
		s.closeOldest()
	}
	return g, nil
}

// closeOldest closes the idle file that was not used for longest. Caller holds mu.
func (s *segments) closeOldest() {
	var oldest *segment
	for _, g := range s.byID {
		if g.file != nil && g.refs == 0 && (oldest == nil || g.used < oldest.used) {
			oldest = g
		}
	}
	if oldest != nil {
		_ = oldest.file.Close() // it was only read since its last sync
		oldest.file = nil
		s.open--
	}
}

// release ends a use of g. It returns the error of removing a dropped file.
func (s *segments) release(g *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.refs--
	return s.reap(g)
}

// drop takes g out of the set; its file is removed when the last user is done.
func (s *segments) drop(g *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, g.id)
	s.bytes -= g.size
	g.gone = true
	return s.reap(g)
}

// reap removes the file of g if it was dropped and nobody uses it. Caller holds mu.
func (s *segments) reap(g *segment) error {
	if !g.gone || g.refs > 0 {
		return nil
	}
	if g.file != nil {
		_ = g.file.Close()
		g.file = nil
		s.open--
	}
	return s.fs.Remove(s.path(g.id))
}

// list returns the segments with their sizes, in no order.
func (s *segments) list() (out []*segment, sizes []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.byID {
		out, sizes = append(out, g), append(sizes, g.size)
	}
	return out, sizes
}

// totalBytes returns the size of all segments.
func (s *segments) totalBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// closeAll closes every file.
func (s *segments) closeAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, g := range s.byID {
		if g.file != nil {
			err = errors.Join(err, g.file.Close())
			g.file = nil
		}
	}
	return err
}

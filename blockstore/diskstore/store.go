// Package diskstore is blockstore.Store on a file system: one node's disk (design.md §6).
//
// Fragments are records in append-only segment files, written by their callers in parallel and synced in groups; an index in
// Pebble says where each is. Entries are a second Pebble database, whose log is synced before an answer. Everything has a
// checksum. The index is never trusted alone: it is replayed from the segments after a crash and rebuilt from them
// when it is lost. The entries' database cannot be rebuilt, so damage to it fails Open (ErrCorrupt): the node then comes
// back as a new incarnation, after DiscardEntries, which keeps the fragments.
//
// After a failed write or sync nothing more is written (ErrReadOnly) and reads go on; a full disk refuses the one Put.
// docs/notes/blockstore.md has the formats with field widths, the reasons and the alternatives.
//
// Left to others: what the bytes mean, repair, scrubbing in the large (Read checks one fragment), and when to call Empty.
package diskstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"larder/blockstore"
)

// Names in the directory.
const (
	lockFile    = "LOCK"
	tideFile    = "entries.tide"
	entriesDir  = "entries"
	indexDir    = "index"
	segmentsDir = "segments"
	rebuildFile = "index.rebuild" // the index was found damaged: rebuild it at the next start
)

// DefaultSegmentBytes is the size at which a segment is full, in bytes.
const DefaultSegmentBytes = 256 << 20

// Options configure a Store.
type Options struct {
	Dir           string
	FS            vfs.FS           // nil: the operating system's
	CapacityBytes int64            // bytes the store may use; 0: what the file system has
	SegmentBytes  int64            // 0: DefaultSegmentBytes
	Log           *zap.Logger      // nil: none
	Now           func() time.Time // wall clock for FragmentInfo; nil: time.Now
}

// Store implements blockstore.Store. Locks are taken in the order writer.mu, index.mu, segments.mu, space.mu.
type Store struct {
	dir     string
	fs      vfs.FS
	log     *zap.Logger
	now     func() time.Time
	opts    Options
	lock    io.Closer
	gate    *gate
	breaker *breaker
	cache   *pebble.Cache

	entries  entries
	tide     *tide
	index    index
	segments *segments
	space    *space
	writer   *writer
	compact  chan struct{} // capacity 1: held by the one Empty that runs

	corrupt   atomic.Int64 // fragments and entries found corrupt
	suspected atomic.Bool  // rebuildFile was written
	stuck     atomic.Bool  // while Open runs: the index has a table that cannot be compacted
	stop      chan struct{}
	kept      chan struct{} // closed when keep has ended
}

var _ blockstore.Store = (*Store)(nil)

// Open opens the store in o.Dir, which it creates if need be, replays what the index has missed and returns when all that was
// acknowledged is readable. Errors: ErrFormat; ErrCorrupt if entries that were acknowledged are lost or cannot be read (see
// DiscardEntries); anything else is the file system's, another process's lock among it.
func Open(o Options) (*Store, error) {
	s := newStore(o)
	if err := s.open(); err != nil {
		if cause := s.breaker.err(); cause != nil {
			err = cause // what came after it is no sign of damage
		}
		s.breaker.close()
		return nil, errors.Join(fmt.Errorf("diskstore: open %s: %w", o.Dir, err), s.release())
	}
	s.breaker.opening.Store(false)
	if s.stuck.Load() {
		s.breaker.trip("compact fragment index", blockstore.ErrCorrupt) // found too late for this start to rebuild it
	}
	go s.writer.run() // awaited by Close
	go s.keep()       // awaited by Close
	return s, nil
}

func newStore(o Options) *Store {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	s := &Store{
		dir: o.Dir, fs: o.FS, log: o.Log.Named("diskstore"), now: o.Now, opts: o,
		gate: newGate(), compact: make(chan struct{}, 1), stop: make(chan struct{}), kept: make(chan struct{}),
	}
	s.breaker = newBreaker(s.log)
	s.segments = &segments{fs: o.FS, dir: o.FS.PathJoin(o.Dir, segmentsDir), byID: make(map[uint64]*segment)}
	s.space = newSpace(o.FS, o.Dir, o.CapacityBytes, s.segments)
	s.space.measure = s.databaseBytes
	s.writer = &writer{s: s, limit: o.SegmentBytes, kick: make(chan struct{}, 1), done: make(chan struct{})}
	return s
}

// open does the work of Open. What it opened is closed by release.
func (s *Store) open() (err error) {
	existed, err := exists(s.fs, s.dir)
	if err != nil {
		return err
	}
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = s.fs.Lock(s.fs.PathJoin(s.dir, lockFile)); err != nil {
		return fmt.Errorf("directory is in use: %w", err)
	}
	if err := checkFormat(s.fs, s.dir); err != nil {
		return err
	}
	s.cache = pebble.NewCache(blockCacheBytes)
	if err := s.openEntries(); err != nil {
		return err
	}
	if err := s.recoverFragments(); err != nil {
		return err
	}
	// A new file is durable when its directory is, and so on up.
	if err := syncDir(s.fs, s.dir); err != nil {
		return err
	}
	if !existed {
		if err := syncDir(s.fs, s.fs.PathDir(s.dir)); err != nil {
			return err
		}
	}
	s.space.refresh()
	return s.breaker.err()
}

// openEntries opens the ordered map and checks that it holds all it had promised.
func (s *Store) openEntries() (err error) {
	if s.tide, err = openTide(s.fs, s.fs.PathJoin(s.dir, tideFile)); err != nil {
		return err
	}
	dir := s.fs.PathJoin(s.dir, entriesDir)
	if s.entries.db, err = openPebble(&breakerFS{FS: s.fs, b: s.breaker}, dir, s.cache, entriesMemBytes, s.log.Named("entries"), s.entriesStuck); err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	if err := s.entries.load(); err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	if s.entries.number < s.tide.mark {
		return fmt.Errorf("entries end at batch %d and batch %d was acknowledged: %w", s.entries.number, s.tide.mark, blockstore.ErrCorrupt)
	}
	return nil
}

// DiscardEntries removes all entries of the closed store in dir and keeps its fragments. It is for a node whose entries are
// damaged and that is about to return as a new incarnation (design.md §5). fsys may be nil.
func DiscardEntries(fsys vfs.FS, dir string) error {
	if fsys == nil {
		fsys = vfs.Default
	}
	lock, err := fsys.Lock(fsys.PathJoin(dir, lockFile))
	if err != nil {
		return fmt.Errorf("diskstore: discard entries: %w", err)
	}
	err = checkFormat(fsys, dir)
	if err == nil {
		err = fsys.RemoveAll(fsys.PathJoin(dir, tideFile))
	}
	if err == nil {
		err = syncDir(fsys, dir)
	}
	if err == nil {
		err = fsys.RemoveAll(fsys.PathJoin(dir, entriesDir))
	}
	if err == nil {
		err = syncDir(fsys, dir)
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		return fmt.Errorf("diskstore: discard entries: %w", err)
	}
	return nil
}

// keep measures space and syncs the tide mark once a second, until stop.
func (s *Store) keep() {
	defer close(s.kept)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.space.refresh()
			if !s.breaker.tripped() {
				// A full disk costs the mark's age alone; the next second tries again.
				if err := s.tide.sync(); err != nil && !isNoSpace(err) {
					s.breaker.trip("sync tide mark", err)
				}
			}
		}
	}
}

// Close implements blockstore.Store.
func (s *Store) Close() error {
	if err := s.gate.close(); err != nil {
		return err
	}
	close(s.stop)
	<-s.kept
	s.writer.mu.Lock()
	s.writer.stop = true
	s.writer.mu.Unlock()
	s.writer.wake()
	<-s.writer.done
	var err error
	if !s.breaker.tripped() {
		// With nothing left in their logs the databases open fast, and every byte of them is covered by a table's checksum.
		err = errors.Join(s.flush(s.entries.db), s.flush(s.index.db), s.tide.sync())
	}
	s.breaker.close()
	if err = errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("diskstore: close: %w", err)
	}
	return nil
}

// flush writes the memtables of db into tables. It gives up when the disk does.
func (s *Store) flush(db *pebble.DB) error {
	done, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-s.breaker.broken:
		return s.breaker.err()
	}
}

// release closes all that is open.
func (s *Store) release() error {
	var errs []error
	for _, db := range []*pebble.DB{s.entries.db, s.index.db} {
		if db != nil {
			if err := db.Close(); err != nil && !s.breaker.tripped() {
				errs = append(errs, err)
			}
		}
	}
	errs = append(errs, s.segments.closeAll())
	if s.tide != nil {
		errs = append(errs, s.tide.file.Close())
	}
	if s.cache != nil {
		s.cache.Unref()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Usage implements blockstore.Store.
func (s *Store) Usage() blockstore.Usage {
	t := s.index.totals()
	disk, left := s.space.left()
	return blockstore.Usage{
		CapacityBytes: s.opts.CapacityBytes,
		LiveBytes:     t.Live,
		TrashBytes:    t.Trash,
		DiskBytes:     disk,
		FreeBytes:     max(0, left-s.space.reserve),
		Fragments:     t.LiveN,
		Corrupt:       s.corrupt.Load(),
	}
}

// Err implements blockstore.Store.
func (s *Store) Err() error { return s.breaker.err() }

// databaseBytes is the size of both databases.
func (s *Store) databaseBytes() int64 {
	return int64(s.entries.db.Metrics().DiskSpaceUsage() + s.index.db.Metrics().DiskSpaceUsage())
}

func (s *Store) countCorrupt() { s.corrupt.Add(1) }

// noteCorrupt counts err if it says that something is corrupt, and returns it.
func (s *Store) noteCorrupt(err error) error {
	if errors.Is(err, blockstore.ErrCorrupt) {
		s.countCorrupt()
	}
	return err
}

// suspectIndex makes the next Open rebuild the index if err says that it is damaged.
func (s *Store) suspectIndex(err error) {
	if !errors.Is(err, blockstore.ErrCorrupt) || s.breaker.tripped() || s.suspected.Swap(true) {
		return
	}
	s.log.Error("fragment index is damaged, the next start rebuilds it from the segments", zap.Error(err))
	f, err := s.fs.Create(s.fs.PathJoin(s.dir, rebuildFile), fragmentsCategory)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close(), syncDir(s.fs, s.dir))
	}
	if err != nil {
		s.log.Warn("could not note that the index is damaged", zap.Error(err))
	}
}

// entriesStuck and indexStuck end writing when a database has a table that it cannot rewrite. The next start rebuilds the
// index; the entries can only be discarded.
func (s *Store) entriesStuck(err error) {
	if !s.breaker.tripped() {
		s.countCorrupt()
	}
	s.breaker.trip("compact entries", fmt.Errorf("%w: %w", blockstore.ErrEntriesDamaged, err))
}

func (s *Store) indexStuck(err error) {
	if !s.breaker.tripped() {
		s.countCorrupt()
	}
	s.suspectIndex(err)
	if s.breaker.opening.Load() {
		s.stuck.Store(true)
		return
	}
	s.breaker.trip("compact fragment index", err)
}

func exists(fsys vfs.FS, path string) (bool, error) {
	_, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

package diskstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"larder/blockstore"
)

// breaker makes one failed write or sync the last one: after it, nothing of the store changes on disk any more.
//
// Pebble gives up the process when its log or manifest cannot be written, and retries flushes without end. We must keep
// reading instead. So Pebble is never told: once the breaker has tripped, its log and manifest swallow writes, its table
// files wait until Close, and removals do not happen, so that all that was acknowledged stays on disk for the next start.
// Whoever acknowledges anything asks err after the sync, not before.
type breaker struct {
	log     *zap.Logger
	cause   atomic.Pointer[error]
	opening atomic.Bool   // Open is running: nothing may wait
	broken  chan struct{} // closed by trip
	closing chan struct{} // closed by close
	once    sync.Once
}

func newBreaker(log *zap.Logger) *breaker {
	b := &breaker{log: log, broken: make(chan struct{}), closing: make(chan struct{})}
	b.opening.Store(true)
	return b
}

// trip records the first error; later ones are ignored.
func (b *breaker) trip(op string, err error) {
	err = fmt.Errorf("%s: %w", op, err)
	if b.cause.CompareAndSwap(nil, &err) {
		close(b.broken)
		b.log.Error("disk refused a write, store is read-only until restart", zap.Error(err))
	}
}

func (b *breaker) tripped() bool { return b.cause.Load() != nil }

// err returns nil, or an error wrapping blockstore.ErrReadOnly and the cause; ErrNoSpace too if the disk was full.
func (b *breaker) err() error {
	p := b.cause.Load()
	switch {
	case p == nil:
		return nil
	case isNoSpace(*p):
		return fmt.Errorf("%w: %w: %w", blockstore.ErrReadOnly, blockstore.ErrNoSpace, *p)
	default:
		return fmt.Errorf("%w: %w", blockstore.ErrReadOnly, *p)
	}
}

// close lets waiting table writers go on, into an error. No write is acknowledged after it.
func (b *breaker) close() { b.once.Do(func() { close(b.closing) }) }

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, blockstore.ErrNoSpace)
}

// hold is what a table writer does once the breaker has tripped.
func (b *breaker) hold() error {
	<-b.closing
	return b.err()
}

// swallows says whether a file's writes are to look as if they succeeded. While Open runs, those of tables do too: Pebble
// waits there for a flush, which it would retry for ever. Open fails afterwards.
func (b *breaker) swallows(journal bool) bool { return journal || b.opening.Load() }

// breakerFS is the file system that Pebble sees.
type breakerFS struct {
	vfs.FS
	b     *breaker
	edits *edits // told of the manifest's syncs
}

// journal says whether Pebble treats a failed write of the file as fatal.
func (fs *breakerFS) journal(name string) bool {
	base := fs.PathBase(name)
	return strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST") || strings.HasPrefix(base, "marker.")
}

func (fs *breakerFS) open(name string, open func() (vfs.File, error)) (vfs.File, error) {
	j := fs.journal(name)
	if !fs.b.tripped() {
		f, err := open()
		if err == nil {
			return &breakerFile{File: f, b: fs.b, journal: j}, nil
		}
		fs.b.trip("create "+fs.PathBase(name), err)
	}
	if fs.b.swallows(j) {
		return swallowFile{}, nil
	}
	return nil, fs.b.hold()
}

func (fs *breakerFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(name, func() (vfs.File, error) {
		f, err := fs.FS.Create(name, c)
		if number, ok := manifestNumber(fs.PathBase(name)); ok && err == nil {
			f = newManifestFile(f, fs.edits, number)
		}
		return f, err
	})
}

func (fs *breakerFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.open(name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, o...) })
}

func (fs *breakerFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(name, func() (vfs.File, error) { return fs.FS.ReuseForWrite(old, name, c) })
}

func (fs *breakerFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &breakerFile{File: f, b: fs.b, journal: true}, nil
}

func (fs *breakerFS) change(op string, f func() error) error {
	if fs.b.tripped() {
		return nil
	}
	if err := f(); err != nil {
		fs.b.trip(op, err)
	}
	return nil
}

func (fs *breakerFS) Link(old, name string) error {
	return fs.change("link "+fs.PathBase(name), func() error { return fs.FS.Link(old, name) })
}

func (fs *breakerFS) Rename(old, name string) error {
	return fs.change("rename "+fs.PathBase(name), func() error { return fs.FS.Rename(old, name) })
}

func (fs *breakerFS) Remove(name string) error {
	if fs.b.tripped() {
		return nil
	}
	return fs.FS.Remove(name)
}

func (fs *breakerFS) RemoveAll(name string) error {
	if fs.b.tripped() {
		return nil
	}
	return fs.FS.RemoveAll(name)
}

func (fs *breakerFS) Unwrap() vfs.FS { return fs.FS }

// breakerFile is an open file of breakerFS.
type breakerFile struct {
	vfs.File
	b       *breaker
	journal bool
}

// do runs one write of the file; journals report success whatever happens.
func (f *breakerFile) do(op string, write func() error) error {
	if !f.b.tripped() {
		err := write()
		if err == nil {
			return nil
		}
		f.b.trip(op, err)
	}
	if f.b.swallows(f.journal) {
		return nil
	}
	return f.b.err()
}

func (f *breakerFile) Write(p []byte) (int, error) {
	err := f.do("write", func() error { _, err := f.File.Write(p); return err })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *breakerFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.do("write", func() error { _, err := f.File.WriteAt(p, off); return err })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *breakerFile) Sync() error     { return f.do("sync", f.File.Sync) }
func (f *breakerFile) SyncData() error { return f.do("sync", f.File.SyncData) }

func (f *breakerFile) SyncTo(n int64) (full bool, err error) {
	err = f.do("sync", func() error { full, err = f.File.SyncTo(n); return err })
	return full, err
}

// Preallocate only saves time: its failure is the next write's.
func (f *breakerFile) Preallocate(off, n int64) error {
	if !f.b.tripped() {
		_ = f.File.Preallocate(off, n)
	}
	return nil
}

// swallowFile is a journal created after the breaker tripped.
type swallowFile struct{}

func (swallowFile) Close() error                           { return nil }
func (swallowFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (swallowFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (swallowFile) Write(p []byte) (int, error)            { return len(p), nil }
func (swallowFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (swallowFile) Preallocate(int64, int64) error         { return nil }
func (swallowFile) Stat() (vfs.FileInfo, error)            { return swallowInfo{}, nil }
func (swallowFile) Sync() error                            { return nil }
func (swallowFile) SyncTo(int64) (bool, error)             { return true, nil }
func (swallowFile) SyncData() error                        { return nil }
func (swallowFile) Prefetch(int64, int64) error            { return nil }
func (swallowFile) Fd() uintptr                            { return vfs.InvalidFd }

// swallowInfo describes a swallowFile: it is always empty.
type swallowInfo struct{}

func (swallowInfo) Name() string           { return "" }
func (swallowInfo) Size() int64            { return 0 }
func (swallowInfo) Mode() os.FileMode      { return 0o600 }
func (swallowInfo) ModTime() time.Time     { return time.Time{} }
func (swallowInfo) IsDir() bool            { return false }
func (swallowInfo) Sys() any               { return nil }
func (swallowInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

// Package memstore is blockstore.Store in memory, for tests and for the simulator's small rings. It passes the same suite
// as diskstore: a Disk survives its Store, may lose power, fail writes and rot.
//
// It is deterministic: no goroutine, no clock but Options.Now, no map order.
package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// overheadBytes is what a fragment or an entry is counted as beyond its key and value.
const overheadBytes = 64

// reserveShare is the part of the capacity that only entries may use, as in diskstore.
const reserveShare = 16

// Options configure a Store.
type Options struct {
	Disk          *Disk            // nil: a fresh one
	CapacityBytes int64            // 0: no bound
	Now           func() time.Time // wall clock for FragmentInfo; nil: time.Now
}

// Store implements blockstore.Store.
type Store struct {
	opts Options
	d    *Disk

	mu     sync.Mutex // guards what follows, and with Disk.mu the disk's contents; taken before Disk.mu
	usage  blockstore.Usage
	failed error // of the disk: writes are refused from then on
	closed bool
}

var _ blockstore.Store = (*Store)(nil)

// New returns a Store on o.Disk. It panics if another Store is on it.
func New(o Options) *Store {
	if o.Disk == nil {
		o.Disk = new(Disk)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{opts: o, d: o.Disk}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.owner != nil {
		panic("memstore: two stores on one disk")
	}
	s.d.owner = s
	s.usage.CapacityBytes = o.CapacityBytes
	for n := s.d.fragments.ceiling(""); n != nil; n = s.d.fragments.ceiling(n.key + "\x00") {
		s.account(n.key, &n.value, 1)
	}
	for n := s.d.entries.ceiling(""); n != nil; n = s.d.entries.ceiling(n.key + "\x00") {
		s.usage.DiskBytes += entryBytes(n.key, n.value)
	}
	return s
}

func entryBytes(key string, e entry) int64 { return int64(len(key)+len(e.value)) + overheadBytes }

// account adds a fragment to the usage, or takes it away if sign is -1.
func (s *Store) account(key string, f *fragment, sign int64) {
	n := sign * (int64(len(key)+len(f.body)) + overheadBytes)
	s.usage.DiskBytes += n
	if f.trashed != 0 {
		s.usage.TrashBytes += n
	} else {
		s.usage.LiveBytes += n
		s.usage.Fragments += sign
	}
}

// begin locks the store for one operation; end unlocks it. It fails once the store is closed or its disk was taken away.
func (s *Store) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %s: %w", op, err)
	}
	s.mu.Lock()
	s.d.mu.Lock()
	if s.closed || s.d.owner != s {
		s.end()
		return fmt.Errorf("memstore: %s: %w", op, blockstore.ErrClosed)
	}
	return nil
}

func (s *Store) end() {
	s.d.mu.Unlock()
	s.mu.Unlock()
}

// write says whether the disk takes n more bytes, of which it keeps keep free.
func (s *Store) write(n, keep int64) error {
	switch {
	case s.failed != nil:
		return fmt.Errorf("%w: %w", blockstore.ErrReadOnly, s.failed)
	case errors.Is(s.d.fail, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", blockstore.ErrNoSpace, s.d.fail)
	case s.d.fail != nil:
		s.failed = s.d.fail
		return fmt.Errorf("%w: %w", blockstore.ErrReadOnly, s.failed)
	case n > 0 && s.opts.CapacityBytes > 0 && s.usage.DiskBytes+n+keep > s.opts.CapacityBytes:
		return blockstore.ErrNoSpace
	}
	return nil
}

// setFragment replaces the fragment under key; a nil f removes it.
func (s *Store) setFragment(key string, f *fragment) {
	if old, ok := s.d.fragments.get(key); ok {
		s.account(key, &old, -1)
	}
	if f == nil {
		s.d.fragments = s.d.fragments.deleteRange(key, key+"\x00")
		return
	}
	s.account(key, f, 1)
	s.d.fragments = s.d.fragments.set(key, *f)
}

// Put implements blockstore.Fragments.
func (s *Store) Put(ctx context.Context, key []byte, parts ...[]byte) error {
	if len(key) == 0 || len(key) > blockstore.KeyMax {
		return fmt.Errorf("memstore: put: key of %d bytes, want 1 to %d", len(key), blockstore.KeyMax)
	}
	body := bytes.Join(parts, nil)
	if len(body) > blockstore.FragmentMax {
		return fmt.Errorf("memstore: put: fragment of %d bytes, want at most %d", len(body), blockstore.FragmentMax)
	}
	if err := s.begin(ctx, "put"); err != nil {
		return err
	}
	defer s.end()
	old, ok := s.d.fragments.get(string(key))
	if ok && old.trashed == 0 && !old.corrupt && s.failed == nil {
		return nil
	}
	if err := s.write(int64(len(key)+len(body))+overheadBytes, s.opts.CapacityBytes/reserveShare); err != nil {
		return fmt.Errorf("memstore: put %x: %w", key, err)
	}
	s.setFragment(string(key), &fragment{body: body, sum: xxh3.Hash(body), stored: s.opts.Now().UnixNano()})
	return nil
}

// ReadAt implements blockstore.Fragments.
func (s *Store) ReadAt(ctx context.Context, key, dst []byte, off int64) (int, error) {
	if err := s.begin(ctx, "read"); err != nil {
		return 0, err
	}
	defer s.end()
	f, ok := s.d.fragments.get(string(key))
	if !ok {
		return 0, blockstore.ErrNotFound
	}
	if off < 0 {
		return 0, fmt.Errorf("memstore: read %x: negative offset", key)
	}
	n := copy(dst, f.body[min(off, int64(len(f.body))):])
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements blockstore.Fragments.
func (s *Store) Read(ctx context.Context, dst, key []byte) ([]byte, error) {
	if err := s.begin(ctx, "read"); err != nil {
		return dst, err
	}
	defer s.end()
	f, ok := s.d.fragments.get(string(key))
	if !ok {
		return dst, blockstore.ErrNotFound
	}
	if xxh3.Hash(f.body) != f.sum {
		s.usage.Corrupt++
		f.corrupt = true
		s.d.fragments = s.d.fragments.set(string(key), f)
		return dst, fmt.Errorf("memstore: read %x: %w", key, blockstore.ErrCorrupt)
	}
	return append(dst, f.body...), nil
}

// Stat implements blockstore.Fragments.
func (s *Store) Stat(ctx context.Context, key []byte) (blockstore.FragmentInfo, error) {
	if err := s.begin(ctx, "stat"); err != nil {
		return blockstore.FragmentInfo{}, err
	}
	defer s.end()
	f, ok := s.d.fragments.get(string(key))
	if !ok {
		return blockstore.FragmentInfo{}, blockstore.ErrNotFound
	}
	return f.info(string(key)), nil
}

func (f *fragment) info(key string) blockstore.FragmentInfo {
	i := blockstore.FragmentInfo{Key: []byte(key), Size: int64(len(f.body)), Stored: time.Unix(0, f.stored)}
	if f.trashed != 0 {
		i.Trashed = time.Unix(0, f.trashed)
	}
	return i
}

// Trash implements blockstore.Fragments.
func (s *Store) Trash(ctx context.Context, keys ...[]byte) error {
	if err := s.begin(ctx, "trash"); err != nil {
		return err
	}
	defer s.end()
	if err := s.write(0, 0); err != nil {
		return fmt.Errorf("memstore: trash: %w", err)
	}
	now := s.opts.Now().UnixNano()
	for _, key := range keys {
		if f, ok := s.d.fragments.get(string(key)); ok && f.trashed == 0 {
			f.trashed = now
			s.setFragment(string(key), &f)
		}
	}
	return nil
}

// Restore implements blockstore.Fragments.
func (s *Store) Restore(ctx context.Context, key []byte) error {
	if err := s.begin(ctx, "restore"); err != nil {
		return err
	}
	defer s.end()
	f, ok := s.d.fragments.get(string(key))
	if !ok {
		return fmt.Errorf("memstore: restore %x: %w", key, blockstore.ErrNotFound)
	}
	if err := s.write(0, 0); err != nil {
		return fmt.Errorf("memstore: restore: %w", err)
	}
	f.trashed = 0
	s.setFragment(string(key), &f)
	return nil
}

// Empty implements blockstore.Fragments.
func (s *Store) Empty(ctx context.Context, before time.Time) (int64, error) {
	if err := s.begin(ctx, "empty"); err != nil {
		return 0, err
	}
	defer s.end()
	if err := s.write(0, 0); err != nil {
		return 0, fmt.Errorf("memstore: empty: %w", err)
	}
	was := s.usage.DiskBytes
	for n := s.d.fragments.ceiling(""); n != nil; n = s.d.fragments.ceiling(n.key + "\x00") {
		if n.value.trashed != 0 && n.value.trashed < before.UnixNano() {
			s.setFragment(n.key, nil)
		}
	}
	return was - s.usage.DiskBytes, nil
}

// Each implements blockstore.Fragments. f sees the moment of the call.
func (s *Store) Each(ctx context.Context, from []byte, f func(blockstore.FragmentInfo) bool) error {
	if err := s.begin(ctx, "each"); err != nil {
		return err
	}
	all := s.d.fragments
	s.end()
	for n := all.ceiling(string(from)); n != nil; n = all.ceiling(n.key + "\x00") {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("memstore: each: %w", err)
		}
		if !f(n.value.info(n.key)) {
			break
		}
	}
	return nil
}

// Err implements blockstore.Store.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", blockstore.ErrReadOnly, s.failed)
}

// Usage implements blockstore.Store.
func (s *Store) Usage() blockstore.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage
	u.FreeBytes = 1<<62 - u.DiskBytes
	if c := u.CapacityBytes; c > 0 {
		u.FreeBytes = max(0, c-c/reserveShare-u.DiskBytes)
	}
	return u
}

// Close implements blockstore.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	s.d.mu.Lock()
	defer s.end()
	if s.closed {
		return blockstore.ErrClosed
	}
	s.closed = true
	if s.d.owner != s {
		return nil // the power was cut
	}
	if s.failed == nil {
		s.d.synced = s.d.entries
	}
	s.d.owner = nil
	return nil
}

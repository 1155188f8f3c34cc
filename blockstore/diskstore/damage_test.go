package diskstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"larder/blockstore"
	"larder/blockstore/blockstoretest"
)

func openDevice(t *testing.T, d device) *Store {
	t.Helper()
	s, err := Open(d.options(blockstoretest.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setEntry(t *testing.T, s *Store, key, value string) {
	t.Helper()
	var b blockstore.Batch
	b.Set([]byte(key), []byte(value))
	check(t, s.Apply(context.Background(), &b, true))
}

// find returns the files of the store whose path contains all of the given parts.
func (d device) find(t *testing.T, parts ...string) (out []string) {
	t.Helper()
next:
	for _, path := range files(t, d.mem, "store") {
		for _, p := range parts {
			if !strings.Contains(path, p) {
				continue next
			}
		}
		out = append(out, path)
	}
	return out
}

func size(t *testing.T, fs vfs.FS, path string) int64 {
	t.Helper()
	info, err := fs.Stat(path)
	check(t, err)
	return info.Size()
}

// TestDamagedLogIsNeverATornTail flips each byte of the live log of a killed store, its last records too. Pebble alone opens
// with the last 32 KiB of synced entries missing, and says nothing.
func TestDamagedLogIsNeverATornTail(t *testing.T) {
	d := newDevice(t).(device)
	s := openDevice(t, d)
	for i := range 30 {
		setEntry(t, s, fmt.Sprint("key-", i), strings.Repeat("v", 40))
	}
	killed := d.Copy().(device)
	check(t, s.Close())
	log := killed.find(t, entriesDir, ".log")
	if len(log) != 1 || size(t, killed.mem, log[0]) < 2000 {
		t.Fatalf("logs of the killed store: %q", log)
	}
	step := size(t, killed.mem, log[0]) / 60
	for off := int64(0); off < size(t, killed.mem, log[0]); off += step {
		d := killed.Copy().(device)
		flip(d.mem, log[0], off, 0xff)
		s, err := Open(d.options(blockstoretest.Options{}))
		if err != nil {
			if !errors.Is(err, blockstore.ErrCorrupt) {
				t.Fatalf("byte %d: %v, want ErrCorrupt", off, err)
			}
			if _, err := Open(d.options(blockstoretest.Options{})); !errors.Is(err, blockstore.ErrCorrupt) {
				t.Fatalf("byte %d: the second open says %v", off, err)
			}
			continue
		}
		// Bytes that carry nothing, such as the end mark, may change.
		for i := range 30 {
			if _, err := s.Get(context.Background(), fmt.Append(nil, "key-", i)); err != nil {
				t.Fatalf("byte %d: opened, and entry %d is %v", off, i, err)
			}
		}
		check(t, s.Close())
	}
}

// TestDamagedTableEndsWriting: Pebble retries a compaction that meets damage for ever, and stalls writers when too many
// tables wait for it. We refuse writes instead, and read on.
func TestDamagedTableEndsWriting(t *testing.T) {
	ctx := context.Background()
	d := newDevice(t).(device)
	batch := func(round int) *blockstore.Batch {
		var b blockstore.Batch
		for i := range 500 {
			b.Set(fmt.Append(nil, "key-", i, "-", round), blockstoretest.Body(uint64(i), 400))
		}
		return &b
	}
	s := openDevice(t, d)
	check(t, s.Apply(ctx, batch(0), true))
	check(t, s.Close())
	for _, path := range d.find(t, entriesDir, ".sst") {
		flip(d.mem, path, size(t, d.mem, path)/2, 1)
	}
	s = openDevice(t, d)
	var err error
	for round := 1; round < 100 && err == nil; round++ {
		if err = s.Apply(ctx, batch(round), true); err == nil {
			err = s.flush(s.entries.db)
		}
	}
	if !errors.Is(err, blockstore.ErrReadOnly) || !errors.Is(err, blockstore.ErrCorrupt) || !errors.Is(err, blockstore.ErrEntriesDamaged) {
		t.Fatalf("writes end with %v, want ErrReadOnly because of ErrEntriesDamaged", err)
	}
	if v, err := s.Get(ctx, []byte("key-1-1")); err != nil || !bytes.Equal(v, blockstoretest.Body(1, 400)) {
		t.Fatalf("Get after it: %d bytes, %v", len(v), err)
	}
	check(t, s.Close())
}

// TestOpenOnAFailingDiskReturns: a disk that fails while the logs are replayed makes Open fail, not wait, and loses nothing.
func TestOpenOnAFailingDiskReturns(t *testing.T) {
	d := newDevice(t).(device)
	s := openDevice(t, d)
	setEntry(t, s, "a", "1")
	check(t, s.Put(context.Background(), []byte("fragment"), []byte("body")))
	killed := d.Copy().(device)
	check(t, s.Close())
	for after := range int64(40) {
		d := killed.Copy().(device)
		var n atomic.Int64
		o := d.options(blockstoretest.Options{})
		o.FS = errorfs.Wrap(d.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && n.Add(1) > after {
				return syscall.EIO
			}
			return nil
		}))
		if s, err := Open(o); err == nil {
			check(t, s.breaker.err())
			_ = s.Close()
		} else if !errors.Is(err, syscall.EIO) {
			t.Fatalf("write %d fails: %v, want EIO", after, err)
		}
		d = d.Copy().(device) // without the locks that a failed Open may have left
		s := openDevice(t, d)
		if v, err := s.Get(context.Background(), []byte("a")); err != nil || string(v) != "1" {
			t.Fatalf("write %d failed: entry is %q, %v", after, v, err)
		}
		if v, err := s.Read(context.Background(), nil, []byte("fragment")); err != nil || string(v) != "body" {
			t.Fatalf("write %d failed: fragment is %q, %v", after, v, err)
		}
		check(t, s.Close())
	}
}

func TestDiscardEntriesKeepsFragments(t *testing.T) {
	ctx := context.Background()
	d := newDevice(t).(device)
	s := openDevice(t, d)
	check(t, s.Put(ctx, []byte("fragment"), []byte("body")))
	setEntry(t, s, "a", "1")
	if err := DiscardEntries(d.fs(), "store"); err == nil {
		t.Fatal("entries of an open store were discarded")
	}
	d = d.Copy().(device)
	check(t, s.Close())
	for _, path := range d.find(t, entriesDir, ".log") {
		flip(d.mem, path, 8, 0xff)
	}
	if _, err := Open(d.options(blockstoretest.Options{})); !errors.Is(err, blockstore.ErrCorrupt) {
		t.Fatalf("open: %v, want ErrCorrupt", err)
	}
	check(t, DiscardEntries(d.fs(), "store"))
	s = openDevice(t, d)
	if got, err := s.Read(ctx, nil, []byte("fragment")); err != nil || string(got) != "body" {
		t.Fatalf("fragment after DiscardEntries: %q, %v", got, err)
	}
	if _, err := s.Get(ctx, []byte("a")); !errors.Is(err, blockstore.ErrNotFound) {
		t.Fatalf("entry after DiscardEntries: %v", err)
	}
	check(t, s.Close())
}

// fill puts n fragments of 20 kB and closes the store; a dozen of them fill a segment.
func fill(t *testing.T, d device, n int) {
	t.Helper()
	s := openDevice(t, d)
	for i := range n {
		check(t, s.Put(context.Background(), fmt.Append(nil, "key-", i), blockstoretest.Body(uint64(i), 20_000)))
	}
	check(t, s.Close())
}

// readable returns which of the n fragments are right; every other one must be missing or known to be corrupt.
func readable(t *testing.T, s *Store, n int) (good int) {
	t.Helper()
	for i := range n {
		got, err := s.Read(context.Background(), nil, fmt.Append(nil, "key-", i))
		switch {
		case err == nil && bytes.Equal(got, blockstoretest.Body(uint64(i), 20_000)):
			good++
		case !errors.Is(err, blockstore.ErrCorrupt) && !errors.Is(err, blockstore.ErrNotFound):
			t.Fatalf("fragment %d: %d bytes, %v", i, len(got), err)
		}
	}
	return good
}

func TestLostIndexIsRebuilt(t *testing.T) {
	for _, how := range []string{"removed", "damaged"} {
		d := newDevice(t).(device)
		fill(t, d, 40)
		if how == "removed" {
			check(t, d.mem.RemoveAll(d.mem.PathJoin("store", indexDir)))
		} else {
			for _, path := range d.find(t, indexDir, ".sst") {
				for off := int64(0); off < size(t, d.mem, path); off += 50 {
					flip(d.mem, path, off, 1)
				}
			}
		}
		s := openDevice(t, d)
		if n := readable(t, s, 40); n != 40 {
			t.Errorf("%s: %d fragments of 40 are back", how, n)
		}
		if u := s.Usage(); u.Fragments != 40 || u.LiveBytes < 40*20_000 {
			t.Errorf("%s: usage %+v", how, u)
		}
		check(t, s.Close())
		if marked, err := exists(d.mem, d.mem.PathJoin("store", rebuildFile)); marked || err != nil {
			t.Errorf("%s: the next start would rebuild the index again", how)
		}
	}
}

// TestDamagedRecordIsSkippedAndCounted damages a header in the middle of a segment, then loses the index.
func TestDamagedRecordIsSkippedAndCounted(t *testing.T) {
	d := newDevice(t).(device)
	fill(t, d, 40)
	seg := d.find(t, segmentsDir)[0]
	flip(d.mem, seg, segmentDataStart+2*recordSize(5, 20_000)+9, 0x40)
	s := openDevice(t, d)
	if n := readable(t, s, 40); n != 39 || s.Usage().Corrupt == 0 {
		t.Fatalf("%d fragments are readable and %d corrupt, want 39 and 1", n, s.Usage().Corrupt)
	}
	check(t, s.Close())
	check(t, d.mem.RemoveAll(d.mem.PathJoin("store", indexDir)))
	s = openDevice(t, d)
	if n := readable(t, s, 40); n != 39 || s.Usage().Corrupt != 1 || s.Usage().Fragments != 39 {
		t.Fatalf("after the rebuild %d are readable, usage %+v; want 39 and 1 corrupt", n, s.Usage())
	}
	check(t, s.Close())
}

// TestCompactionKeepsCorruptFragments: what rots is moved as it is and still called corrupt.
func TestCompactionKeepsCorruptFragments(t *testing.T) {
	ctx := context.Background()
	d := newDevice(t).(device)
	fill(t, d, 12)
	seg := d.find(t, segmentsDir)[0]
	flip(d.mem, seg, segmentDataStart+recordHeaderSize+5+500, 1) // the body of key-0
	s := openDevice(t, d)
	for i := 2; i < 12; i++ {
		check(t, s.Trash(ctx, fmt.Append(nil, "key-", i)))
	}
	freed, err := s.Empty(ctx, s.now().Add(time.Hour))
	if err != nil || freed < 9*20_000 {
		t.Fatalf("Empty freed %d, %v", freed, err)
	}
	if _, err := s.Read(ctx, nil, []byte("key-0")); !errors.Is(err, blockstore.ErrCorrupt) {
		t.Fatalf("rotten fragment after compaction: %v", err)
	}
	dst := make([]byte, 400)
	if n, err := s.ReadAt(ctx, []byte("key-0"), dst, 0); err != nil || !bytes.Equal(dst[:n], blockstoretest.Body(0, 20_000)[:400]) {
		t.Fatalf("its good part: %d bytes, %v", n, err)
	}
	check(t, s.Put(ctx, []byte("key-0"), blockstoretest.Body(0, 20_000)))
	if n := readable(t, s, 2); n != 2 {
		t.Fatalf("%d of 2 fragments are readable after the repair", n)
	}
	check(t, s.Close())
}

func write(t *testing.T, fs vfs.FS, path, text string) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	check(t, err)
	_, err = io.WriteString(f, text)
	check(t, errors.Join(err, f.Close()))
}

func TestForeignAndNewerFormatsAreRefused(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{formatFile, "larder blockstore format 2\n", "newer release"},
		{formatFile, "something else", "not a blockstore"},
	} {
		d := newDevice(t).(device)
		fill(t, d, 1)
		write(t, d.mem, d.mem.PathJoin("store", c.name), c.text)
		if _, err := Open(d.options(blockstoretest.Options{})); !errors.Is(err, blockstore.ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("FORMAT %q: %v, want ErrFormat and %q", c.text, err, c.says)
		}
	}
	d := newDevice(t).(device)
	check(t, d.mem.MkdirAll("store", 0o700))
	write(t, d.mem, "store/thesis.txt", "precious")
	if _, err := Open(d.options(blockstoretest.Options{})); !errors.Is(err, blockstore.ErrFormat) {
		t.Errorf("directory of somebody else's: %v, want ErrFormat", err)
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir})
	check(t, err)
	if _, err := Open(Options{Dir: dir}); err == nil {
		t.Fatal("two stores opened one directory")
	}
	check(t, s.Close())
	s, err = Open(Options{Dir: dir})
	check(t, err)
	check(t, s.Close())
}

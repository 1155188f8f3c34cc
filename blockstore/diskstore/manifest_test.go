package diskstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"larder/blockstore"
	"larder/blockstore/blockstoretest"
)

// flushed is a store that was killed after it had flushed tables and written on: the number of the last batch is in its log, so
// it does not tell of a table that is forgotten in between.
func flushed(t *testing.T, rounds int) device {
	t.Helper()
	d := newDevice(t).(device)
	s := openDevice(t, d)
	for i := range rounds {
		setEntry(t, s, fmt.Sprint("key-", i), "value")
		check(t, s.Put(context.Background(), fmt.Append(nil, "fragment-", i), []byte("body")))
		if i < rounds-1 {
			for _, db := range []*pebble.DB{s.entries.db, s.index.db} {
				check(t, s.flush(db))
			}
		}
	}
	killed := d.Copy().(device)
	check(t, s.Close())
	return killed
}

// allThere checks that the store holds what flushed wrote.
func allThere(t *testing.T, s *Store, rounds int, what string) {
	t.Helper()
	for i := range rounds {
		if _, err := s.Get(context.Background(), fmt.Append(nil, "key-", i)); err != nil {
			t.Errorf("%s: opened, and entry %d is %v", what, i, err)
		}
		if _, err := s.Read(context.Background(), nil, fmt.Append(nil, "fragment-", i)); err != nil {
			t.Errorf("%s: opened, and fragment %d is %v", what, i, err)
		}
	}
}

// TestDamagedManifestIsNeverATornTail flips each byte of both manifests of a killed store. Pebble alone opens with flushed tables
// forgotten, and says nothing.
func TestDamagedManifestIsNeverATornTail(t *testing.T) {
	const rounds = 4
	killed := flushed(t, rounds)
	for _, db := range []string{entriesDir, indexDir} {
		manifests := killed.find(t, db, "MANIFEST")
		manifest := manifests[len(manifests)-1]
		for off := range size(t, killed.mem, manifest) {
			what := fmt.Sprintf("byte %d of %s", off, manifest)
			d := killed.Copy().(device)
			flip(d.mem, manifest, off, 1<<(off%8))
			s, err := Open(d.options(blockstoretest.Options{}))
			if db == indexDir && err == nil { // rebuilt
				if s.Usage().Corrupt == 0 {
					t.Errorf("%s: not reported", what)
				}
				allThere(t, s, rounds, what)
				check(t, s.Close())
			} else if db == indexDir || !errors.Is(err, blockstore.ErrCorrupt) {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
}

// TestDamagedEditsCostNothing: the marks are there to be compared with, and nothing depends on them.
func TestDamagedEditsCostNothing(t *testing.T) {
	const rounds = 3
	killed := flushed(t, rounds)
	path := killed.find(t, entriesDir, editsFile)[0]
	for off := range size(t, killed.mem, path) {
		if off%editsSlotDistance >= editsSlotSize {
			continue
		}
		d := killed.Copy().(device)
		flip(d.mem, path, off, 1<<(off%8))
		s := openDevice(t, d)
		allThere(t, s, rounds, fmt.Sprintf("byte %d of %s", off, path))
		check(t, s.Close())
	}
	check(t, killed.mem.Remove(path))
	s := openDevice(t, killed)
	allThere(t, s, rounds, "without marks")
	check(t, s.Close())
}

func TestEditsMarkGolden(t *testing.T) {
	m := editsMark{manifest: 7, length: 300, sum: 0x0102030405060708}
	b := m.encode()
	if got, want := fmt.Sprintf("%x", b), "07000000000000002c0100000000000008070605040302010d4639177f836ca3"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if back, ok := decodeEditsMark(b); !ok || back != m {
		t.Fatalf("%+v, %v", back, ok)
	}
}

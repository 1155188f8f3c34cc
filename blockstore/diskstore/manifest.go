package diskstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// editsFile is in the directory of a database, beside Pebble's own files.
const editsFile = "EDITS"

// edits is what the manifest of a database was when it was last synced, kept outside of it.
//
// A manifest lists the changes of the set of tables. Pebble takes a damaged record in it for the torn tail of a crash and opens
// with the changes before it: later tables are then forgotten, and removed, though their part of the log is long gone. The
// log's newest records may still be there, so tide does not tell. After each sync of a manifest, before Pebble counts on
// it, its length and sum are written here and synced; a manifest that does not begin with that is damaged.
//
// The file is two slots of {number of the manifest u64, length u64, xxh3 u64, xxh3 of these u64}, little-endian, 512 bytes
// apart. They are written in turn: when a manifest has just been begun, Pebble may still open the one before it.
type edits struct {
	mu   sync.Mutex
	fs   vfs.FS
	path string
	slot int64 // to write next: 0 or 1
	last [2]editsMark
}

type editsMark struct {
	manifest uint64 // the number in the file's name
	length   int64
	sum      uint64
}

const (
	editsSlotSize     = 32
	editsSlotDistance = 512
)

func (m editsMark) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, m.manifest)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.length))
	b = binary.LittleEndian.AppendUint64(b, m.sum)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

func decodeEditsMark(b []byte) (m editsMark, ok bool) {
	const sum = editsSlotSize - 8
	m.manifest = binary.LittleEndian.Uint64(b)
	m.length = int64(binary.LittleEndian.Uint64(b[8:]))
	m.sum = binary.LittleEndian.Uint64(b[16:])
	return m, binary.LittleEndian.Uint64(b[sum:]) == xxh3.Hash(b[:sum]) && m.length > 0
}

// openEdits reads the marks of the database in dir, which need not exist, and checks the manifest that Pebble would open by
// them. Damage is an error wrapping blockstore.ErrCorrupt.
func openEdits(fsys vfs.FS, dir string) (*edits, error) {
	e := &edits{fs: fsys, path: fsys.PathJoin(dir, editsFile)}
	if there, err := exists(fsys, e.path); err != nil || !there {
		return e, err
	}
	f, err := fsys.Open(e.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for slot := range e.last {
		var b [editsSlotSize]byte
		if _, err := f.ReadAt(b[:], int64(slot)*editsSlotDistance); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if m, ok := decodeEditsMark(b[:]); ok {
			e.last[slot] = m
		}
	}
	if e.last[0].after(e.last[1]) {
		e.slot = 1
	}
	return e, e.check(dir)
}

// after orders marks as they were made.
func (m editsMark) after(o editsMark) bool {
	return m.manifest > o.manifest || m.manifest == o.manifest && m.length > o.length
}

// check compares the manifest that Pebble would open with the newest mark of it.
func (e *edits) check(dir string) error {
	newest := e.last[1-e.slot]
	if newest.manifest == 0 {
		return nil // nothing was marked, or the marks are damaged
	}
	desc, err := pebble.Peek(dir, e.fs)
	if err != nil {
		return pebbleOpenError(err, true)
	}
	number, ok := manifestNumber(e.fs.PathBase(desc.ManifestFilename))
	if !desc.Exists || !ok {
		return fmt.Errorf("no manifest, and one was written: %w", blockstore.ErrCorrupt)
	}
	mark := newest
	if number != mark.manifest {
		mark = e.last[e.slot]
	}
	switch {
	case number > newest.manifest:
		return nil // begun just before a crash, and its mark not written
	case number != mark.manifest:
		return fmt.Errorf("manifest %d is opened, and %d was written: %w", number, newest.manifest, blockstore.ErrCorrupt)
	}
	f, err := e.fs.Open(e.fs.PathJoin(dir, e.fs.PathBase(desc.ManifestFilename)))
	if err != nil {
		return err
	}
	defer f.Close()
	h := xxh3.New()
	n, err := io.Copy(h, io.LimitReader(f, mark.length))
	if err != nil {
		return err
	}
	if n != mark.length || h.Sum64() != mark.sum {
		return fmt.Errorf("manifest %d is not what was written: %w", number, blockstore.ErrCorrupt)
	}
	return nil
}

// mark notes that a manifest was synced. That happens seldom enough to open the file each time.
func (e *edits) mark(m editsMark) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	there, err := exists(e.fs, e.path)
	if err != nil {
		return err
	}
	f, err := e.fs.OpenReadWrite(e.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(m.encode(), e.slot*editsSlotDistance); err == nil {
		err = f.SyncData()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	e.last[e.slot], e.slot = m, 1-e.slot
	if !there {
		return syncDir(e.fs, e.fs.PathDir(e.path))
	}
	return nil
}

// manifestNumber is the number in the name of a manifest.
func manifestNumber(base string) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(base, "MANIFEST-")
	if !ok {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &n)
	return n, err == nil
}

// manifestFile is a manifest that is being written, from its first byte to its last.
type manifestFile struct {
	vfs.File
	edits  *edits
	number uint64
	hash   *xxh3.Hasher
	length int64
}

func newManifestFile(f vfs.File, e *edits, number uint64) *manifestFile {
	return &manifestFile{File: f, edits: e, number: number, hash: xxh3.New()}
}

func (f *manifestFile) Write(p []byte) (int, error) {
	f.hash.Write(p) // a write that fails is the last one
	f.length += int64(len(p))
	return f.File.Write(p)
}

func (f *manifestFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	return f.edits.mark(editsMark{manifest: f.number, length: f.length, sum: f.hash.Sum64()})
}

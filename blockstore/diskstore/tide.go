package diskstore

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"
)

// tide is how far the entries were synced, kept outside of their database.
//
// Pebble takes damage near the end of its log for the torn tail of a crash and opens without what stood there, synced or not:
// damage is only told from a torn tail by a later record, and the last one has none. So each batch carries a number, and
// after each sync the number is written here, before the batch is acknowledged. A database that opens with a smaller
// number has lost what it had promised. The write is not synced (a kill -9 does not lose it), but once a second, so after a
// power cut the mark may be a second old: damage and power cut within one second are not seen.
//
// The file is two slots of {number u64, xxh3 u64}, little-endian, 512 bytes apart; the larger good one counts.
type tide struct {
	mu     sync.Mutex
	file   vfs.File
	mark   uint64
	slot   int64 // to write next: 0 or 1
	synced uint64
}

const tideSlotDistance = 512

// openTide opens the file at path or creates it.
func openTide(fsys vfs.FS, path string) (*tide, error) {
	_, err := fsys.Stat(path)
	created := errors.Is(err, fs.ErrNotExist)
	f, err := fsys.OpenReadWrite(path, fragmentsCategory)
	if err != nil {
		return nil, err
	}
	t := &tide{file: f}
	if created {
		if err := errors.Join(f.Sync(), syncDir(fsys, fsys.PathDir(path))); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return t, nil
	}
	for slot := int64(0); slot < 2; slot++ {
		var b [16]byte
		if _, err := f.ReadAt(b[:], slot*tideSlotDistance); err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, f.Close())
		}
		n := binary.LittleEndian.Uint64(b[:])
		if binary.LittleEndian.Uint64(b[8:]) == xxh3.Hash(b[:8]) && n > t.mark {
			t.mark, t.slot = n, 1-slot
		}
	}
	return t, nil
}

// rise raises the mark to n. Calls may come in any order.
func (t *tide) rise(n uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n <= t.mark {
		return nil
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], n)
	binary.LittleEndian.PutUint64(b[8:], xxh3.Hash(b[:8]))
	if _, err := t.file.WriteAt(b[:], t.slot*tideSlotDistance); err != nil {
		return err
	}
	t.mark, t.slot = n, 1-t.slot
	return nil
}

// sync makes the mark durable.
func (t *tide) sync() error {
	t.mu.Lock()
	mark := t.mark
	due := t.synced < mark
	t.mu.Unlock()
	if !due {
		return nil
	}
	if err := t.file.SyncData(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.synced = max(t.synced, mark)
	return nil
}

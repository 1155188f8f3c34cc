package diskstore

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"larder/blockstore"
)

// reserveMax bounds the space that fragments leave to entries and to compaction, in bytes. reserveShare is that space's
// part of the capacity.
const (
	reserveMax   = 256 << 20
	reserveShare = 16
	refreshBytes = 4 << 20 // entries written between two looks at the database's size
)

// space decides what still fits. Segment sizes are exact; the databases' and the file system's are looked up once a second and
// after every refreshBytes written to them.
type space struct {
	fs       vfs.FS
	dir      string
	capacity int64 // bytes; 0 if only the file system bounds it
	reserve  int64
	segments *segments
	measure  func() int64 // bytes in the databases

	mu    sync.Mutex
	db    int64 // bytes in the databases when last measured, and what was written to them since
	free  int64 // bytes free in the file system when last measured, less what was written since; -1 if unknown
	since int64 // bytes written to the databases since they were measured
}

func newSpace(fs vfs.FS, dir string, capacity int64, segs *segments) *space {
	sp := &space{fs: fs, dir: dir, capacity: capacity, reserve: reserveMax, segments: segs, free: -1}
	if capacity > 0 {
		sp.reserve = min(sp.reserve, capacity/reserveShare)
	}
	return sp
}

// refresh measures the databases and the file system.
func (sp *space) refresh() {
	db := sp.measure()
	free := int64(-1)
	if u, err := sp.fs.GetDiskUsage(sp.dir); err == nil && u.TotalBytes > 0 {
		free = int64(min(u.AvailBytes, 1<<62))
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.db, sp.free, sp.since = db, free, 0
}

// wrote accounts n bytes of segment files.
func (sp *space) wrote(n int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.free >= 0 {
		sp.free = max(0, sp.free-n)
	}
}

// wroteEntries accounts n bytes that went into the databases.
func (sp *space) wroteEntries(n int64) {
	sp.mu.Lock()
	sp.db += n
	sp.since += n
	if sp.free >= 0 {
		sp.free = max(0, sp.free-n)
	}
	due := sp.since >= refreshBytes
	if due {
		sp.since = 0
	}
	sp.mu.Unlock()
	if due {
		sp.refresh()
	}
}

// left returns the bytes in use, and those that may still be written, the reserve included.
func (sp *space) left() (disk, left int64) {
	segs := sp.segments.totalBytes()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	disk, left = segs+sp.db, 1<<62
	if sp.capacity > 0 {
		left = max(0, sp.capacity-disk)
	}
	if sp.free >= 0 {
		left = min(left, sp.free)
	}
	return disk, left
}

// fragmentFits returns nil or an error wrapping ErrNoSpace.
func (sp *space) fragmentFits(n int64) error {
	if _, left := sp.left(); n > left-sp.reserve {
		return fmt.Errorf("%d bytes do not fit into %d and a reserve of %d: %w", n, left, sp.reserve, blockstore.ErrNoSpace)
	}
	return nil
}

// entriesFit is fragmentFits for a batch of entries, which may use the reserve but for a quarter, left to compaction.
func (sp *space) entriesFit(n int64) error {
	if _, left := sp.left(); n > left-sp.reserve/4 {
		return fmt.Errorf("%d bytes do not fit into %d: %w", n, left, blockstore.ErrNoSpace)
	}
	return nil
}

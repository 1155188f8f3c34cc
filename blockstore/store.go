// Package blockstore is the contract of one node's disk: fragments, which are large and immutable, and entries, which are
// small, ordered and changed in atomic batches. It knows no ring and no S3: keys and values are bytes. diskstore keeps
// them on a file system, memstore in memory; blockstoretest is the suite that both pass, power cuts included.
//
// Everything a method has acknowledged survives kill -9 and a power cut (design.md §6).
package blockstore

import (
	"context"
	"errors"
	"time"
)

// Errors that callers branch on. Implementations wrap them with the operation and the key.
var (
	// ErrNotFound says that the store holds nothing under the key.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt says that what the disk returned fails its checksum. The data is not served; the caller repairs it from a peer.
	ErrCorrupt = errors.New("corrupt")
	// ErrNoSpace says that the write would exceed the store's capacity or that the file system is full. Nothing was kept.
	ErrNoSpace = errors.New("no space")
	// ErrReadOnly says that the disk refused a write or a sync (EIO, EROFS), or that entries rotted where they must be
	// rewritten (ErrCorrupt is then wrapped too). The store refuses all writes from then on, since what a failed fsync
	// dropped cannot be known; reads go on.
	ErrReadOnly = errors.New("store is read-only after a disk error")
	// ErrEntriesDamaged says that the entries rotted where they must be rewritten: the store is read-only, and so it will be after
	// every further start, until the entries are discarded. It always comes with ErrReadOnly and ErrCorrupt.
	ErrEntriesDamaged = errors.New("entries are damaged beyond what a restart mends")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("store is closed")
	// ErrFormat says that the directory was written by a newer release, or by something else.
	ErrFormat = errors.New("unsupported format")
)

// KeyMax is the largest length of a fragment key, in bytes. EntryKeyMax and EntryValueMax bound an entry.
const (
	KeyMax        = 64
	EntryKeyMax   = 4 << 10
	EntryValueMax = 1 << 20
	FragmentMax   = 16 << 20
)

// Store is one node's disk. All methods are safe for concurrent use.
type Store interface {
	Fragments
	Entries

	// Usage reports space, in bytes. It costs no disk access.
	Usage() Usage
	// Err returns nil while the store takes writes, and why it does not once it is read-only: an error wrapping ErrReadOnly, and
	// ErrCorrupt if that is for damage. Where it is not ErrEntriesDamaged, opening the store anew mends the damage. It costs no disk access.
	Err() error
	// Close waits for running operations, syncs and releases the directory. Later calls return ErrClosed.
	Close() error
}

// Fragments keeps immutable byte strings of up to FragmentMax bytes.
type Fragments interface {
	// Put keeps the concatenation of parts under key, durably before it returns; concurrent calls share one sync. A key
	// that is held already is left as it is and Put returns nil (fragments are named by their content), but a trashed or
	// corrupt one is replaced. Put does not keep parts after it returns. Errors: ErrNoSpace, ErrReadOnly.
	Put(ctx context.Context, key []byte, parts ...[]byte) error
	// ReadAt reads len(dst) bytes of the fragment from offset off and returns how many there were, with io.EOF where the
	// fragment ends before len(dst), as io.ReaderAt does. It does not check the whole fragment's checksum: whoever reads a
	// range has its own proof (design.md §4). Trashed fragments are readable. Errors: ErrNotFound, ErrCorrupt (framing).
	ReadAt(ctx context.Context, key []byte, dst []byte, off int64) (int, error)
	// Read returns the whole fragment appended to dst, its checksum verified. Errors: ErrNotFound, ErrCorrupt.
	Read(ctx context.Context, dst, key []byte) ([]byte, error)
	// Stat describes the fragment without reading its bytes. Errors: ErrNotFound.
	Stat(ctx context.Context, key []byte) (FragmentInfo, error)
	// Trash marks the fragment as unwanted from now on: still readable, no longer counted as live. Trashing an absent or
	// already trashed key is no error. A power cut may take it back: the fragment is then live again.
	Trash(ctx context.Context, keys ...[]byte) error
	// Restore takes the fragment out of the trash. Errors: ErrNotFound.
	Restore(ctx context.Context, key []byte) error
	// Empty removes fragments that were trashed before the given time and gives their space back by compaction, in
	// bounded steps; it returns how many bytes of the disk became free.
	Empty(ctx context.Context, before time.Time) (freedBytes int64, err error)
	// Each calls f for every fragment with key >= from in ascending byte order, trashed ones included, until f returns
	// false. f may call the store. Keys are valid only during the call.
	Each(ctx context.Context, from []byte, f func(FragmentInfo) bool) error
}

// FragmentInfo describes one fragment.
type FragmentInfo struct {
	Key     []byte
	Size    int64     // bytes
	Stored  time.Time // wall time at Put
	Trashed time.Time // zero if live
}

// Entries is an ordered map from byte strings to byte strings, in bytes.Compare order.
type Entries interface {
	// Apply makes all changes of b or none, durably before it returns if sync is set. Concurrent calls share one sync.
	// A batch that was applied without sync is durable no later than the next one with it. The caller may reuse b's slices
	// after Apply returns. Errors: ErrNoSpace, before anything was changed (a batch that only deletes is never refused for
	// space); ErrReadOnly, after which the batch may be found applied or not, as a whole.
	Apply(ctx context.Context, b *Batch, sync bool) error
	// Get returns the value under key; the caller may keep it. Errors: ErrNotFound, ErrCorrupt.
	Get(ctx context.Context, key []byte) ([]byte, error)
	// Scan calls f for each entry with lower <= key < upper in ascending order until f returns false; a nil upper means
	// no bound. What it sees is one moment's state. Slices are valid only during the call; f must not call the store's
	// writing methods. Errors: ErrCorrupt.
	Scan(ctx context.Context, lower, upper []byte, f func(key, value []byte) bool) error
	// Iterate returns a cursor over one moment's state, for callers that seek. The caller closes it.
	Iterate(ctx context.Context, lower, upper []byte) (Cursor, error)
}

// Cursor walks entries in ascending order. It belongs to one goroutine.
type Cursor interface {
	// Seek moves to the first entry with key >= target and reports whether there is one.
	Seek(target []byte) bool
	// Next moves one entry on and reports whether there is one.
	Next() bool
	// Key and Value are those of the entry stood on, valid until the next move.
	Key() []byte
	Value() []byte
	// Close releases the cursor and returns the first error it met, ErrCorrupt among them. A walk whose Close fails is not to be believed.
	Close() error
}

// Batch is a list of changes to entries, in order. The zero Batch is empty and ready for use.
type Batch struct {
	Ops []BatchOp
}

// BatchOp is one change: Set Key to Value, delete Key, or, where Upper is not nil, delete every key in [Key, Upper).
type BatchOp struct {
	Key, Value, Upper []byte
	Delete            bool
}

// Set adds "key = value". The slices must stay unchanged until Apply returns.
func (b *Batch) Set(key, value []byte) { b.Ops = append(b.Ops, BatchOp{Key: key, Value: value}) }

// Delete adds the removal of key.
func (b *Batch) Delete(key []byte) { b.Ops = append(b.Ops, BatchOp{Key: key, Delete: true}) }

// DeleteRange adds the removal of every key in [lower, upper).
func (b *Batch) DeleteRange(lower, upper []byte) {
	b.Ops = append(b.Ops, BatchOp{Key: lower, Upper: upper, Delete: true})
}

// Usage is what a store holds, in bytes and counts.
type Usage struct {
	CapacityBytes int64 // as configured; what the store may use of the disk
	LiveBytes     int64 // live fragments with their framing
	TrashBytes    int64 // trashed fragments
	DiskBytes     int64 // all files of the store
	FreeBytes     int64 // what fragments may still take: the smaller of capacity - disk and the file system's free space, less a reserve for entries and compaction
	Fragments     int64 // live fragments
	Corrupt       int64 // fragments and entries found corrupt since start
}

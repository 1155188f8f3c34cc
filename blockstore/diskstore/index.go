package diskstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// Key spaces of the index database.
const (
	indexFragment   = 'f' // 'f' key -> location
	indexTrash      = 't' // 't' trashed time (8, big-endian ns) key -> nothing: the trash in order of age
	indexSegment    = 's' // 's' segment id (8, big-endian) -> segmentStat
	indexCheckpoint = 'c' // -> segment id, offset: all records before it are in the index
)

const (
	locationSize    = 44
	segmentStatSize = 57
)

// location is what the index knows of one fragment: {version u8, flags u8, zero u16, segment u64, offset u64, size u32,
// stored i64, trashed i64, sum u32}, little-endian. sum covers the key too.
type location struct {
	Segment uint64
	Offset  int64 // of the record
	Size    int64 // of the body, bytes
	Stored  int64 // wall time, ns since 1970
	Trashed int64 // wall time, ns since 1970; 0 if live
	Corrupt bool  // its checksum was found wrong: the next Put replaces it
}

func (l *location) encode(key []byte) []byte {
	b := make([]byte, locationSize)
	b[0] = 1
	if l.Corrupt {
		b[1] = 1
	}
	binary.LittleEndian.PutUint64(b[4:], l.Segment)
	binary.LittleEndian.PutUint64(b[12:], uint64(l.Offset))
	binary.LittleEndian.PutUint32(b[20:], uint32(l.Size))
	binary.LittleEndian.PutUint64(b[24:], uint64(l.Stored))
	binary.LittleEndian.PutUint64(b[32:], uint64(l.Trashed))
	binary.LittleEndian.PutUint32(b[40:], uint32(xxh3.HashSeed(b[:40], xxh3.Hash(key))))
	return b
}

func decodeLocation(key, b []byte) (location, error) {
	if len(b) != locationSize || b[0] != 1 || binary.LittleEndian.Uint32(b[40:]) != uint32(xxh3.HashSeed(b[:40], xxh3.Hash(key))) {
		return location{}, fmt.Errorf("index entry: %w", blockstore.ErrCorrupt)
	}
	return location{
		Segment: binary.LittleEndian.Uint64(b[4:]),
		Offset:  int64(binary.LittleEndian.Uint64(b[12:])),
		Size:    int64(binary.LittleEndian.Uint32(b[20:])),
		Stored:  int64(binary.LittleEndian.Uint64(b[24:])),
		Trashed: int64(binary.LittleEndian.Uint64(b[32:])),
		Corrupt: b[1]&1 != 0,
	}, nil
}

// segmentStat counts what the index refers to in one segment: {version u8, seed u64, live, trash bytes i64, live, trash
// fragments i64, deleted u64, sum u64}, little-endian. Records that nothing refers to are the rest of the file.
type segmentStat struct {
	Seed          uint64
	Live, Trash   int64 // bytes of records
	LiveN, TrashN int64
	Deleted       bool // the file is to go, or gone
}

func (s *segmentStat) encode(id uint64) []byte {
	b := make([]byte, segmentStatSize)
	b[0] = 1
	for i, v := range []uint64{s.Seed, uint64(s.Live), uint64(s.Trash), uint64(s.LiveN), uint64(s.TrashN)} {
		binary.LittleEndian.PutUint64(b[1+8*i:], v)
	}
	if s.Deleted {
		b[41] = 1
	}
	binary.LittleEndian.PutUint64(b[49:], xxh3.HashSeed(b[:49], id))
	return b
}

func decodeSegmentStat(id uint64, b []byte) (*segmentStat, error) {
	if len(b) != segmentStatSize || b[0] != 1 || binary.LittleEndian.Uint64(b[49:]) != xxh3.HashSeed(b[:49], id) {
		return nil, fmt.Errorf("index of segment %d: %w", id, blockstore.ErrCorrupt)
	}
	u := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[1+8*i:])) }
	return &segmentStat{Seed: uint64(u(0)), Live: u(1), Trash: u(2), LiveN: u(3), TrashN: u(4), Deleted: b[41] == 1}, nil
}

// position is a place in the log that the segments are, in order.
type position struct {
	Segment uint64
	Offset  int64
}

// index says where each fragment is. Its database is written without syncs and may fall back to an earlier moment: the
// checkpoint falls back with it, and Open replays the segments from there. Reads take no lock.
type index struct {
	db *pebble.DB

	mu    sync.Mutex // serialises changes; guards what follows
	stats map[uint64]*segmentStat
	total segmentStat // sum over stats
}

func fragmentKey(key []byte) []byte { return append([]byte{indexFragment}, key...) }

func trashKey(trashed int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{indexTrash}, uint64(trashed)), key...)
}

func segmentKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{indexSegment}, id) }

// load reads the checkpoint and the counters. An error wrapping ErrCorrupt means that the index must be rebuilt.
func (x *index) load() (position, error) {
	x.stats = make(map[uint64]*segmentStat)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{indexSegment}, UpperBound: []byte{indexSegment + 1}})
	if err != nil {
		return position{}, pebbleError(err)
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		if len(it.Key()) != 9 {
			err = fmt.Errorf("index: segment key: %w", blockstore.ErrCorrupt)
			break
		}
		id := binary.BigEndian.Uint64(it.Key()[1:])
		var s *segmentStat
		if s, err = decodeSegmentStat(id, it.Value()); err == nil {
			x.stats[id] = s
			x.total.add(s)
		}
	}
	if err := errors.Join(err, pebbleError(it.Close())); err != nil {
		return position{}, err
	}
	v, closer, err := x.db.Get([]byte{indexCheckpoint})
	if errors.Is(err, pebble.ErrNotFound) {
		return position{}, nil
	} else if err != nil {
		return position{}, pebbleError(err)
	}
	defer closer.Close()
	if len(v) != 24 || binary.LittleEndian.Uint64(v[16:]) != xxh3.Hash(v[:16]) {
		return position{}, fmt.Errorf("index: checkpoint: %w", blockstore.ErrCorrupt)
	}
	return position{binary.LittleEndian.Uint64(v), int64(binary.LittleEndian.Uint64(v[8:]))}, nil
}

func (s *segmentStat) add(o *segmentStat) {
	s.Live, s.Trash, s.LiveN, s.TrashN = s.Live+o.Live, s.Trash+o.Trash, s.LiveN+o.LiveN, s.TrashN+o.TrashN
}

// get returns the location of key. Errors: ErrNotFound, ErrCorrupt.
func (x *index) get(key []byte) (location, error) {
	return getLocation(x.db, key)
}

func getLocation(r pebble.Reader, key []byte) (location, error) {
	var buf [1 + blockstore.KeyMax]byte
	v, closer, err := r.Get(append(append(buf[:0], indexFragment), key...))
	if errors.Is(err, pebble.ErrNotFound) {
		return location{}, blockstore.ErrNotFound
	} else if err != nil {
		return location{}, pebbleError(err)
	}
	defer closer.Close()
	return decodeLocation(key, v)
}

// totals returns the sum of all segments' counters.
func (x *index) totals() segmentStat {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.total
}

// stat returns the counters of one segment.
func (x *index) stat(id uint64) segmentStat {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.stats[id]; s != nil {
		return *s
	}
	return segmentStat{}
}

// indexChange is a set of changes that happen together, made by index.change.
type indexChange struct {
	x     *index
	b     *pebble.Batch // indexed: it reads its own writes
	delta map[uint64]*segmentStat
}

// change runs f, which makes its changes on c, and commits them. sync is for changes that a file's removal rests on.
func (x *index) change(sync bool, f func(c *indexChange) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := &indexChange{x: x, b: x.db.NewIndexedBatch(), delta: make(map[uint64]*segmentStat)}
	defer c.b.Close()
	if err := f(c); err != nil {
		return err
	}
	after := make(map[uint64]*segmentStat, len(c.delta))
	for id, d := range c.delta {
		s := *d
		if old := x.stats[id]; old != nil {
			s = *old
			s.add(d)
			s.Deleted = s.Deleted || d.Deleted
		}
		after[id] = &s
		if err := c.b.Set(segmentKey(id), s.encode(id), nil); err != nil {
			return err
		}
	}
	if err := x.db.Apply(c.b, &pebble.WriteOptions{Sync: sync}); err != nil {
		return pebbleError(err)
	}
	for id, s := range after {
		x.stats[id] = s
		x.total.add(c.delta[id])
	}
	return nil
}

// get is index.get with the changes made so far.
func (c *indexChange) get(key []byte) (location, error) { return getLocation(c.b, key) }

func (c *indexChange) deltaOf(id uint64) *segmentStat {
	d := c.delta[id]
	if d == nil {
		d = new(segmentStat)
		c.delta[id] = d
	}
	return d
}

func (c *indexChange) account(key []byte, l *location, sign int64) {
	d, n := c.deltaOf(l.Segment), sign*recordSize(len(key), l.Size)
	if l.Trashed != 0 {
		d.Trash, d.TrashN = d.Trash+n, d.TrashN+sign
	} else {
		d.Live, d.LiveN = d.Live+n, d.LiveN+sign
	}
}

// addSegment makes the segment known.
func (c *indexChange) addSegment(id, seed uint64) { c.deltaOf(id).Seed = seed }

// set makes l the location of key; old is what get returned, or nil if there was none.
func (c *indexChange) set(key []byte, old, l *location) error {
	if old != nil {
		if err := c.remove(key, old); err != nil {
			return err
		}
	}
	c.account(key, l, 1)
	if l.Trashed != 0 {
		if err := c.b.Set(trashKey(l.Trashed, key), nil, nil); err != nil {
			return err
		}
	}
	return c.b.Set(fragmentKey(key), l.encode(key), nil)
}

// remove forgets key, whose location is old.
func (c *indexChange) remove(key []byte, old *location) error {
	c.account(key, old, -1)
	if old.Trashed != 0 {
		if err := c.b.Delete(trashKey(old.Trashed, key), nil); err != nil {
			return err
		}
	}
	return c.b.Delete(fragmentKey(key), nil)
}

// checkpoint records that everything before p is in the index.
func (c *indexChange) checkpoint(p position) error {
	b := binary.LittleEndian.AppendUint64(nil, p.Segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Offset))
	return c.b.Set([]byte{indexCheckpoint}, binary.LittleEndian.AppendUint64(b, xxh3.Hash(b)), nil)
}

// indexed is one fragment as the index lists it.
type indexed struct {
	key []byte
	location
}

// page returns up to n fragments with key >= from in ascending order. A damaged entry ends the page with an error, with what
// came before it; whoever lists goes on behind the entry's key, next.
func (x *index) page(from []byte, n int) (out []indexed, next []byte, err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: fragmentKey(from), UpperBound: []byte{indexFragment + 1}})
	if err != nil {
		return nil, nil, pebbleError(err)
	}
	defer func() { err = errors.Join(err, pebbleError(it.Close())) }()
	for it.First(); it.Valid(); it.Next() {
		key := bytes.Clone(it.Key()[1:])
		if len(out) == n {
			return out, key, nil
		}
		l, err := decodeLocation(key, it.Value())
		if err != nil {
			return out, append(key, 0), err
		}
		out = append(out, indexed{key, l})
	}
	return out, nil, nil
}

// trashBefore returns up to n keys trashed before the given time, oldest first.
func (x *index) trashBefore(before int64, n int) (keys [][]byte, err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{indexTrash}, UpperBound: trashKey(before, nil)})
	if err != nil {
		return nil, pebbleError(err)
	}
	defer func() { err = errors.Join(err, pebbleError(it.Close())) }()
	for it.First(); it.Valid() && len(keys) < n; it.Next() {
		if len(it.Key()) > 9 {
			keys = append(keys, bytes.Clone(it.Key()[9:]))
		}
	}
	return keys, nil
}

package chb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/stripe"
)

// shelf is this node's own fragments: its store, and what must be known of them beyond it.
type shelf struct {
	store blockstore.Store
	now   func() time.Time

	mu sync.Mutex
	// pins are fragments that another node counts on: they are not trashed as surplus before the given time.
	pins map[storeKey]time.Time
	// going are fragments about to be trashed as surplus: they are not pinned.
	going map[storeKey]bool
	// corrupt are fragments that failed their checksum or hash. They count as not there until they are mended.
	corrupt map[storeKey]bool
	found   int64 // corrupt fragments found since start
}

// pinsMax bounds pins; what does not fit is not promised.
const pinsMax = 1 << 20

func newShelf(store blockstore.Store, now func() time.Time) *shelf {
	return &shelf{store: store, now: now, pins: map[storeKey]time.Time{}, going: map[storeKey]bool{}, corrupt: map[storeKey]bool{}}
}

// fromStore gives an error of the store its meaning in package past.
func fromStore(err error) error {
	for _, m := range []struct{ store, past error }{
		{blockstore.ErrNotFound, past.ErrNotFound}, {blockstore.ErrCorrupt, past.ErrDamaged}, {blockstore.ErrNoSpace, past.ErrNoSpace},
		{blockstore.ErrReadOnly, past.ErrUnavailable}, {blockstore.ErrClosed, past.ErrUnavailable},
	} {
		if errors.Is(err, m.store) {
			return fmt.Errorf("%w: %w", m.past, err)
		}
	}
	return err
}

// put keeps a value that was checked. It returns errReclaimed, and keeps nothing, if the block is known to be dead.
func (s *shelf) put(ctx context.Context, id past.BlockID, index int, pieces ...[]byte) error {
	key := keyOf(id, index)
	for range 2 { // a reclaim that comes in between must not be overtaken
		dead, err := s.reclaimed(ctx, id)
		if err != nil {
			return err
		}
		if dead {
			_ = s.store.Trash(ctx, key[:]) // as the reclaim itself would have; repair finds what is left
			return errReclaimed
		}
		if pieces == nil {
			break
		}
		if err := s.store.Put(ctx, key[:], pieces...); err != nil {
			return fromStore(err)
		}
		pieces = nil
	}
	s.mu.Lock()
	delete(s.corrupt, key)
	s.mu.Unlock()
	return nil
}

// replace puts a value in the place of one that is corrupt.
func (s *shelf) replace(ctx context.Context, v *value) error {
	key := keyOf(v.Header.ID(), v.Index)
	if err := s.store.Trash(ctx, key[:]); err != nil { // the store replaces trash, but keeps what its checksum says is good
		return fromStore(err)
	}
	return s.put(ctx, key.id(), key.index(), v.pieces()...)
}

// readAt reads a part of a value. Errors: past.ErrNotFound, past.ErrDamaged.
func (s *shelf) readAt(ctx context.Context, key storeKey, dst []byte, off int) error {
	if s.isCorrupt(key) {
		return past.ErrDamaged
	}
	_, err := s.store.ReadAt(ctx, key[:], dst, int64(off))
	if errors.Is(err, blockstore.ErrCorrupt) {
		s.markCorrupt(key)
	}
	return fromStore(err)
}

// read appends a whole value to dst and proves it. Errors: past.ErrNotFound, past.ErrDamaged.
func (s *shelf) read(ctx context.Context, dst []byte, key storeKey) (value, error) {
	b, err := s.store.Read(ctx, dst[:0], key[:])
	if err != nil {
		if errors.Is(err, blockstore.ErrCorrupt) {
			s.markCorrupt(key)
		}
		return value{}, fromStore(err)
	}
	v, err := checkValue(b, key.id(), key.index())
	if err != nil {
		s.markCorrupt(key)
		return value{}, fmt.Errorf("%w: %w", past.ErrDamaged, err)
	}
	return v, nil
}

// shape reads which redundancy a block has.
func (s *shelf) shape(ctx context.Context, key storeKey) (r past.Redundancy, length int, err error) {
	var fixed [7]byte // format, d, p, length: see stripe.Header.Append
	if err := s.readAt(ctx, key, fixed[:], 0); err != nil {
		return r, 0, err
	}
	r, length = past.Redundancy{Data: int(fixed[1]), Parity: int(fixed[2])}, int(binary.BigEndian.Uint32(fixed[3:]))
	if fixed[0] != 1 || !r.Valid() || length > stripe.SealedMax || key.index() >= r.Total() {
		s.markCorrupt(key)
		return r, 0, fmt.Errorf("%w: header of %x", past.ErrDamaged, key)
	}
	return r, length, nil
}

// held says which fragments of a block are here. Corrupt ones are not.
func (s *shelf) held(ctx context.Context, id past.BlockID) (item statItem, err error) {
	if item.Reclaimed, err = s.reclaimed(ctx, id); err != nil {
		return item, err
	}
	err = s.store.Each(ctx, id[:], func(f blockstore.FragmentInfo) bool {
		key, ok := parseKey(f.Key)
		if !ok {
			return bytes.HasPrefix(f.Key, id[:])
		}
		if key.id() != id {
			return false
		}
		switch {
		case s.isCorrupt(key):
		case f.Trashed.IsZero():
			item.Live = item.Live.With(key.index())
		default:
			item.Trashed = item.Trashed.With(key.index())
		}
		return true
	})
	return item, fromStore(err)
}

func (s *shelf) isCorrupt(key storeKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.corrupt[key]
}

func (s *shelf) markCorrupt(key storeKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.corrupt[key] {
		s.corrupt[key] = true
		s.found++
	}
}

// forgetCorrupt is for a corrupt fragment that is not wanted any more.
func (s *shelf) forgetCorrupt(key storeKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.corrupt, key)
}

// damaged returns the corrupt fragments that are not mended yet.
func (s *shelf) damaged() []storeKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]storeKey, 0, len(s.corrupt))
	for key := range s.corrupt {
		out = append(out, key)
	}
	return out
}

// pin promises not to trash a fragment as surplus for a while. It returns false if that cannot be promised.
func (s *shelf) pin(key storeKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.going[key] || s.corrupt[key] || len(s.pins) >= pinsMax {
		return false
	}
	s.pins[key] = s.now().Add(pinAge)
	return true
}

// leave marks a fragment as about to be trashed. It returns false if it is pinned.
func (s *shelf) leave(key storeKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until, ok := s.pins[key]; ok {
		if s.now().Before(until) {
			return false
		}
		delete(s.pins, key)
	}
	s.going[key] = true
	return true
}

// stay ends what leave began.
func (s *shelf) stay(key storeKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.going, key)
}

// dropPins forgets the pins that have expired.
func (s *shelf) dropPins() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, until := range s.pins {
		if !s.now().Before(until) {
			delete(s.pins, key)
		}
	}
}

// Tombstones of blocks: docs/notes/chb.md.
const (
	tombstonePrefix = "chb/reclaimed/"
	tombstoneFormat = 1
)

func tombstoneKey(id past.BlockID) []byte { return append([]byte(tombstonePrefix), id[:]...) }

func (s *shelf) reclaimed(ctx context.Context, id past.BlockID) (bool, error) {
	switch _, err := s.store.Get(ctx, tombstoneKey(id)); {
	case err == nil:
		return true, nil
	case errors.Is(err, blockstore.ErrNotFound):
		return false, nil
	default:
		return false, fromStore(err)
	}
}

// trash moves all fragments of the blocks to trash. For reclaimed ones it first notes that they are dead, durably.
func (s *shelf) trash(ctx context.Context, ids []past.BlockID, reason trashReason) error {
	if reason == trashReclaimed {
		var batch blockstore.Batch
		note := binary.BigEndian.AppendUint64([]byte{tombstoneFormat}, uint64(s.now().UnixNano()))
		for _, id := range ids {
			batch.Set(tombstoneKey(id), note)
		}
		if err := s.store.Apply(ctx, &batch, true); err != nil {
			return fromStore(err)
		}
	}
	var keys [][]byte
	for _, id := range ids {
		item, err := s.held(ctx, id)
		if err != nil {
			return err
		}
		for i := range past.FragmentsMax {
			if item.Live.Has(i) {
				key := keyOf(id, i)
				keys = append(keys, key[:])
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return fromStore(s.store.Trash(ctx, keys...))
}

// restore takes a fragment out of the trash, unless its block is dead. Errors: past.ErrNotFound.
func (s *shelf) restore(ctx context.Context, key storeKey) error {
	dead, err := s.reclaimed(ctx, key.id())
	if err != nil {
		return err
	}
	if dead || s.isCorrupt(key) {
		return past.ErrNotFound
	}
	return fromStore(s.store.Restore(ctx, key[:]))
}

// dropTombstones forgets reclaims from before the given time.
func (s *shelf) dropTombstones(ctx context.Context, before time.Time) error {
	const atOnce = 4096
	upper := []byte(tombstonePrefix)
	upper[len(upper)-1]++
	var batch blockstore.Batch
	flush := func() error {
		if len(batch.Ops) == 0 {
			return nil
		}
		err := s.store.Apply(ctx, &batch, false)
		batch.Ops = batch.Ops[:0]
		return err
	}
	for lower := []byte(tombstonePrefix); lower != nil; {
		from := lower
		lower = nil
		n := 0
		err := s.store.Scan(ctx, from, upper, func(key, note []byte) bool {
			if n++; n > atOnce {
				lower = bytes.Clone(key)
				return false
			}
			if len(note) == 9 && note[0] == tombstoneFormat && int64(binary.BigEndian.Uint64(note[1:])) < before.UnixNano() {
				batch.Delete(bytes.Clone(key))
			}
			return true
		})
		if err != nil {
			return fromStore(err)
		}
		if err := flush(); err != nil {
			return fromStore(err)
		}
	}
	return nil
}

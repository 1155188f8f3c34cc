package diskstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// Key spaces of the entries' database. Each value in entryKeys ends with entrySumSize bytes: xxh3 of key and value.
const (
	entryMark    = 0 // the number of the last batch (8, big-endian): see tide
	entryKeys    = 1 // 1 key -> value sum
	entrySumSize = 8
)

// entries is the ordered map.
type entries struct {
	db *pebble.DB

	mu     sync.Mutex // orders batches, so that their numbers rise along the log; not held during syncs
	number uint64     // of the last batch
}

// load reads the number of the last batch.
func (e *entries) load() error {
	v, closer, err := e.db.Get([]byte{entryMark})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	} else if err != nil {
		return pebbleError(err)
	}
	defer closer.Close()
	if len(v) != 16 || binary.BigEndian.Uint64(v[8:]) != xxh3.Hash(v[:8]) {
		return fmt.Errorf("number of the last batch: %w", blockstore.ErrCorrupt)
	}
	e.number = binary.BigEndian.Uint64(v)
	return nil
}

func entryKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), entryKeys), key...)
}

func entrySum(key, value []byte) uint64 { return xxh3.HashSeed(value, xxh3.Hash(key)) }

// entryValue checks and strips the sum.
func entryValue(key, v []byte) ([]byte, error) {
	n := len(v) - entrySumSize
	if n < 0 || binary.LittleEndian.Uint64(v[n:]) != entrySum(key, v[:n]) {
		return nil, fmt.Errorf("entry %x: %w", key, blockstore.ErrCorrupt)
	}
	return v[:n:n], nil
}

// encode writes the changes of b into p, which Pebble commits as one. It returns how many bytes of values b sets.
func encodeBatch(p *pebble.Batch, b *blockstore.Batch) (sets int64, err error) {
	for i := range b.Ops {
		op := &b.Ops[i]
		if len(op.Key) > blockstore.EntryKeyMax || len(op.Value) > blockstore.EntryValueMax {
			return 0, fmt.Errorf("entry of %d + %d bytes is too large", len(op.Key), len(op.Value))
		}
		switch {
		case op.Upper != nil:
			if string(op.Key) < string(op.Upper) {
				err = p.DeleteRange(entryKey(op.Key), entryKey(op.Upper), nil)
			}
		case op.Delete:
			err = p.Delete(entryKey(op.Key), nil)
		default:
			d := p.SetDeferred(1+len(op.Key), len(op.Value)+entrySumSize)
			d.Key[0] = entryKeys
			copy(d.Key[1:], op.Key)
			binary.LittleEndian.PutUint64(d.Value[copy(d.Value, op.Value):], entrySum(op.Key, op.Value))
			err = d.Finish()
			sets += int64(len(op.Key) + len(op.Value))
		}
		if err != nil {
			return 0, err
		}
	}
	return sets, nil
}

// Apply implements blockstore.Entries.
func (s *Store) Apply(ctx context.Context, b *blockstore.Batch, sync bool) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("diskstore: apply: %w", err)
	}
	defer s.gate.exit()
	if err := s.apply(b, sync); err != nil {
		return fmt.Errorf("diskstore: apply: %w", err)
	}
	return nil
}

func (s *Store) apply(b *blockstore.Batch, sync bool) error {
	p := s.entries.db.NewBatch()
	defer p.Close()
	sets, err := encodeBatch(p, b)
	if err != nil {
		return err
	}
	if sets > 0 { // what only deletes is never refused
		if err := s.space.entriesFit(sets); err != nil {
			return err
		}
	}
	n, err := s.entries.commit(s.breaker, p, sync)
	if err != nil {
		return err
	}
	s.space.wroteEntries(int64(p.Len()))
	if !sync {
		return nil
	}
	if err := p.SyncWait(); err != nil {
		s.breaker.trip("sync entries", err)
	}
	if err := s.breaker.err(); err != nil {
		return err
	}
	if err := s.tide.rise(n); err != nil {
		s.breaker.trip("write tide mark", err)
		return s.breaker.err()
	}
	return nil
}

// commit numbers p and puts it into the log and the memtable. If sync is set the caller waits for the sync by p.SyncWait.
func (e *entries) commit(br *breaker, p *pebble.Batch, sync bool) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := br.err(); err != nil {
		return 0, err
	}
	n := e.number + 1
	var v [16]byte
	binary.BigEndian.PutUint64(v[:], n)
	binary.BigEndian.PutUint64(v[8:], xxh3.Hash(v[:8]))
	if err := p.Set([]byte{entryMark}, v[:], nil); err != nil {
		return 0, err
	}
	var err error
	if sync {
		err = e.db.ApplyNoSyncWait(p, pebble.Sync)
	} else {
		err = e.db.Apply(p, pebble.NoSync)
	}
	if err != nil {
		return 0, pebbleError(err)
	}
	e.number = n
	return n, nil
}

// Get implements blockstore.Entries.
func (s *Store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("diskstore: get: %w", err)
	}
	defer s.gate.exit()
	v, closer, err := s.entries.db.Get(entryKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, blockstore.ErrNotFound
	}
	if err == nil {
		defer closer.Close()
		if v, err = entryValue(key, v); err == nil {
			return append(make([]byte, 0, len(v)), v...), nil
		}
	}
	return nil, fmt.Errorf("diskstore: get: %w", s.noteCorrupt(pebbleError(err)))
}

// Scan implements blockstore.Entries.
func (s *Store) Scan(ctx context.Context, lower, upper []byte, f func(key, value []byte) bool) error {
	c, err := s.Iterate(ctx, lower, upper)
	if err != nil {
		return err
	}
	for c.Next() && f(c.Key(), c.Value()) {
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("diskstore: scan: %w", ctx.Err()), c.Close())
		}
	}
	return c.Close()
}

// Iterate implements blockstore.Entries.
func (s *Store) Iterate(ctx context.Context, lower, upper []byte) (blockstore.Cursor, error) {
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("diskstore: iterate: %w", err)
	}
	o := &pebble.IterOptions{LowerBound: entryKey(lower), UpperBound: []byte{entryKeys + 1}}
	if upper != nil {
		o.UpperBound = entryKey(upper)
	}
	it, err := s.entries.db.NewIterWithContext(ctx, o)
	if err != nil {
		s.gate.exit()
		return nil, fmt.Errorf("diskstore: iterate: %w", s.noteCorrupt(pebbleError(err)))
	}
	return &cursor{s: s, it: it}, nil
}

// cursor implements blockstore.Cursor. It keeps the store open until it is closed.
type cursor struct {
	s       *Store
	it      *pebble.Iterator
	started bool
	value   []byte
	err     error
}

// stand checks the entry that the iterator stands on.
func (c *cursor) stand(ok bool) bool {
	c.started, c.value = true, nil
	if !ok || c.err != nil {
		return false
	}
	v, err := c.it.ValueAndErr()
	if err == nil {
		v, err = entryValue(c.it.Key()[1:], v)
	}
	c.value, c.err = v, err
	return err == nil
}

func (c *cursor) Seek(target []byte) bool { return c.stand(c.it.SeekGE(entryKey(target))) }

func (c *cursor) Next() bool {
	if !c.started {
		return c.stand(c.it.First())
	}
	return c.stand(c.it.Next())
}

func (c *cursor) Key() []byte   { return c.it.Key()[1:] }
func (c *cursor) Value() []byte { return c.value }

func (c *cursor) Close() error {
	if c.it == nil {
		return nil
	}
	defer c.s.gate.exit()
	err := errors.Join(c.err, c.it.Close())
	c.it = nil
	if err != nil {
		return fmt.Errorf("diskstore: iterate: %w", c.s.noteCorrupt(pebbleError(err)))
	}
	return nil
}

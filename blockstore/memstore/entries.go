package memstore

import (
	"bytes"
	"context"
	"fmt"

	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

func entrySum(key string, value []byte) uint64 { return xxh3.HashSeed(value, xxh3.HashString(key)) }

// Apply implements blockstore.Entries.
func (s *Store) Apply(ctx context.Context, b *blockstore.Batch, sync bool) error {
	var n int64
	for _, op := range b.Ops {
		if len(op.Key) > blockstore.EntryKeyMax || len(op.Value) > blockstore.EntryValueMax {
			return fmt.Errorf("memstore: apply: entry of %d + %d bytes is too large", len(op.Key), len(op.Value))
		}
		if !op.Delete {
			n += int64(len(op.Key)+len(op.Value)) + overheadBytes
		}
	}
	if err := s.begin(ctx, "apply"); err != nil {
		return err
	}
	defer s.end()
	if err := s.write(n, 0); err != nil {
		return fmt.Errorf("memstore: apply: %w", err)
	}
	for _, op := range b.Ops {
		switch {
		case op.Upper != nil:
			s.deleteEntries(string(op.Key), string(op.Upper))
		case op.Delete:
			s.deleteEntries(string(op.Key), string(op.Key)+"\x00")
		default:
			key := string(op.Key)
			s.deleteEntries(key, key+"\x00")
			e := entry{bytes.Clone(op.Value), entrySum(key, op.Value)}
			s.usage.DiskBytes += entryBytes(key, e)
			s.d.entries = s.d.entries.set(key, e)
		}
	}
	if sync {
		s.d.synced = s.d.entries
	}
	return nil
}

func (s *Store) deleteEntries(lower, upper string) {
	if lower >= upper {
		return
	}
	for n := s.d.entries.ceiling(lower); n != nil && n.key < upper; n = s.d.entries.ceiling(n.key + "\x00") {
		s.usage.DiskBytes -= entryBytes(n.key, n.value)
	}
	s.d.entries = s.d.entries.deleteRange(lower, upper)
}

// Get implements blockstore.Entries.
func (s *Store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.begin(ctx, "get"); err != nil {
		return nil, err
	}
	defer s.end()
	e, ok := s.d.entries.get(string(key))
	if !ok {
		return nil, blockstore.ErrNotFound
	}
	if entrySum(string(key), e.value) != e.sum {
		s.usage.Corrupt++
		return nil, fmt.Errorf("memstore: get %x: %w", key, blockstore.ErrCorrupt)
	}
	return append(make([]byte, 0, len(e.value)), e.value...), nil
}

// Scan implements blockstore.Entries.
func (s *Store) Scan(ctx context.Context, lower, upper []byte, f func(key, value []byte) bool) error {
	c, err := s.Iterate(ctx, lower, upper)
	if err != nil {
		return err
	}
	for c.Next() && f(c.Key(), c.Value()) {
		if err := ctx.Err(); err != nil {
			_ = c.Close() // the walk ends early: ctx's error says so
			return fmt.Errorf("memstore: scan: %w", err)
		}
	}
	return c.Close()
}

// Iterate implements blockstore.Entries.
func (s *Store) Iterate(ctx context.Context, lower, upper []byte) (blockstore.Cursor, error) {
	if err := s.begin(ctx, "iterate"); err != nil {
		return nil, err
	}
	defer s.end()
	return &cursor{s: s, all: s.d.entries, lower: string(lower), upper: bytes.Clone(upper)}, nil
}

// cursor implements blockstore.Cursor over one root of the tree.
type cursor struct {
	s     *Store
	all   *tree[entry]
	lower string
	upper []byte // nil: no bound
	at    *tree[entry]
	moved bool
	err   error
}

func (c *cursor) seek(key string) bool {
	c.moved = true
	c.at = nil
	if c.err != nil {
		return false
	}
	n := c.all.ceiling(max(key, c.lower))
	if n == nil || c.upper != nil && n.key >= string(c.upper) {
		return false
	}
	if entrySum(n.key, n.value.value) != n.value.sum {
		c.err = fmt.Errorf("memstore: iterate: entry %x: %w", n.key, blockstore.ErrCorrupt)
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.s.usage.Corrupt++
		return false
	}
	c.at = n
	return true
}

func (c *cursor) Seek(target []byte) bool { return c.seek(string(target)) }

func (c *cursor) Next() bool {
	if !c.moved {
		return c.seek("")
	}
	return c.at != nil && c.seek(c.at.key+"\x00")
}

func (c *cursor) Key() []byte   { return []byte(c.at.key) }
func (c *cursor) Value() []byte { return c.at.value.value }
func (c *cursor) Close() error  { return c.err }

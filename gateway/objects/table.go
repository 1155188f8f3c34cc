package objects

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"larder/gateway"
	"larder/past"
)

// tableInline is the largest part table, encoded, that lies in a record: some twenty parts of an SDK's usual 8 MiB. Listings
// carry it, so it is not as large as it could be.
const tableInline = 6 << 10

// tableMax is the longest table that is read, in bytes: four times what 10,000 parts of 64 MiB take.
const tableMax = 32 << 20

// tablesKept is how many part tables are remembered, decoded. The largest, of 10,000 parts of 64 MiB, has 8 MiB.
const tablesKept = 4

// tableCache remembers part tables, which never change, by their dataIDs.
type tableCache struct {
	mu   sync.Mutex
	kept []keptTable // least recently used first, at most tablesKept
}

type keptTable struct {
	id    past.DataID
	parts []part
}

func (c *tableCache) get(id past.DataID) []part {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.kept, func(t keptTable) bool { return t.id == id })
	if i < 0 {
		return nil
	}
	t := c.kept[i]
	c.kept = append(slices.Delete(c.kept, i, i+1), t)
	return t.parts
}

func (c *tableCache) put(id past.DataID, parts []part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) == tablesKept {
		c.kept = slices.Delete(c.kept, 0, 1)
	}
	c.kept = append(c.kept, keptTable{id, parts})
}

// parts returns the parts of an object; one put whole has one. The caller does not change them.
func (s *Store) parts(ctx context.Context, v *value) ([]part, error) {
	if v.Body != nil {
		return []part{{Body: *v.Body}}, nil
	}
	if v.Table == nil {
		return v.Parts, nil
	}
	if parts := s.tables.get(v.Table.Data); parts != nil {
		return parts, nil
	}
	encoded, err := s.readBody(ctx, v.Table)
	if err != nil {
		return nil, fmt.Errorf("objects: part table: %w", err)
	}
	var parts []part
	if err := decMode.Unmarshal(encoded, &parts); err != nil {
		return nil, fmt.Errorf("objects: part table: %w", err)
	}
	if err := validParts(parts, v.Length); err != nil {
		return nil, fmt.Errorf("objects: part table: %w", err)
	}
	s.tables.put(v.Table.Data, parts)
	return parts, nil
}

// setParts puts parts into v, or into a table of its own where they are many.
func (s *Store) setParts(ctx context.Context, t target, v *value, parts []part) error {
	v.PartsCount = len(parts)
	encoded := encode(parts)
	if len(encoded) <= s.tableMax {
		v.Parts = parts
		return nil
	}
	out, err := s.store(ctx, t, gateway.PutInput{Body: bytes.NewReader(encoded), Size: int64(len(encoded)), Digest: noDigest{}})
	if err != nil {
		return fmt.Errorf("objects: part table: %w", err)
	}
	v.Table = &out.body
	return nil
}

// noDigest is the digest of what has no ETag.
type noDigest struct{}

func (noDigest) Write(b []byte) (int, error)       { return len(b), nil }
func (noDigest) Finish() (_ gateway.Sums, _ error) { return }

// readBody returns the bytes of a part table.
func (s *Store) readBody(ctx context.Context, b *body) ([]byte, error) {
	out := make([]byte, b.Length)
	_, err := io.ReadFull(s.reader(ctx, s.pieces([]part{{Body: *b}}, 0, b.Length)), out)
	return out, err
}

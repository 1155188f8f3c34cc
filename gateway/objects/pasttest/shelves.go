package pasttest

import (
	"bytes"
	"context"
	"slices"
	"time"

	"larder/past"
)

// Clock implements objects.Registers by the wall clock.
func (p *Past) Clock() uint64 { return uint64(time.Now().UnixNano()) }

// Forgotten implements objects.Buckets: the bucket was dropped.
func (p *Past) Forgotten(ctx context.Context, id past.BucketID) (gone bool, err error) {
	err = p.around(ctx, Call{Op: OpGone, Register: past.Register{Bucket: id}}, func() error {
		b := p.buckets[id]
		gone = b != nil && b.closed && b.genesis == ""
		return nil
	})
	return gone, err
}

// Shelves shows what a Past keeps as if three nodes had a copy each. It implements objects.Shelves, for a gateway that has no others
// to share the work with.
type Shelves struct {
	*Past
	// Lie, if not nil, changes what the first node says of a fragment.
	Lie func(k *past.Kept)
}

var shelves = []past.NodeID{{1}, {2}, {3}}

// Share implements objects.Shelves.
func (s Shelves) Share() []past.NodeID { return shelves }

// Mine implements objects.Shelves.
func (s Shelves) Mine(past.BucketID) bool { return true }

// List implements objects.Shelves.
func (s Shelves) List(ctx context.Context, node past.NodeID, from []byte, max int) (page []past.Kept, next []byte, err error) {
	err = s.around(ctx, Call{Op: OpList}, func() error {
		var ids []past.BlockID
		for id, b := range s.blocks {
			if !b.trashed && bytes.Compare(append(id[:], 0), from) >= 0 {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, func(a, b past.BlockID) int { return bytes.Compare(a[:], b[:]) })
		if len(ids) > max {
			next = append(ids[max][:], 0)
			ids = ids[:max]
		}
		for _, id := range ids {
			page = append(page, s.kept(node, id))
		}
		return nil
	})
	return page, next, err
}

func (s Shelves) kept(node past.NodeID, id past.BlockID) past.Kept {
	k := past.Kept{Node: node, ID: id, Stored: s.blocks[id].stored, Claim: s.blocks[id].claim}
	if s.Lie != nil && node == shelves[0] {
		s.Lie(&k)
	}
	return k
}

// KeptOf implements objects.Shelves.
func (s Shelves) KeptOf(ctx context.Context, id past.BlockID) (out []past.Kept, err error) {
	err = s.around(ctx, Call{Op: OpKept}, func() error {
		if b := s.blocks[id]; b != nil && !b.trashed {
			for _, node := range shelves {
				out = append(out, s.kept(node, id))
			}
		}
		return nil
	})
	return out, err
}

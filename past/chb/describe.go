package chb

import (
	"context"
	"sync"

	"larder/past"
	"larder/pastry"
)

// Holder is what one candidate of a block says that it has of it.
type Holder struct {
	Node          pastry.NodeID
	Answered      bool // if not, the rest says nothing
	Live, Trashed past.Indexes
	Reclaimed     bool
}

// Holders asks every candidate of a block which of its fragments it has, for operators. They come in the order of past.Place, and the
// caller may keep the result. Errors: past.ErrUnavailable, if the ring cannot be asked.
func (b *Blocks) Holders(ctx context.Context, id past.BlockID) ([]Holder, error) {
	c, err := b.around(ctx, id.Key())
	if err != nil {
		return nil, err
	}
	asked := c.all()
	out := make([]Holder, len(asked))
	var all sync.WaitGroup // awaited here
	for i, node := range asked {
		out[i].Node = node
		all.Go(func() {
			if answer, ok := b.stat(ctx, node, []*block{{own: ownBlock{id: id}}}, nil); ok {
				item := answer.Items[0]
				out[i].Answered, out[i].Live, out[i].Trashed, out[i].Reclaimed = true, item.Live, item.Trashed, item.Reclaimed
			}
		})
	}
	all.Wait()
	return out, nil
}

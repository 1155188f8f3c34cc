package chb

import (
	"context"
	"fmt"
	"sync"
	"time"

	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"
)

// fetch asks one node, or this one's disk, for a range of a fragment, into dst if it fits. Errors: past.ErrNotFound if the node
// says that it has none, past.ErrDamaged if what it has is bad, past.ErrUnavailable.
func (b *Blocks) fetch(ctx context.Context, node pastry.NodeID, ask getRequest, dst []byte) (index int, data []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, fragmentPatience)
	defer cancel()
	var answer getAnswer
	switch {
	case node == b.self && b.shelf == nil:
		return 0, nil, past.ErrNotFound
	case node == b.self:
		answer, data, err = b.give(ctx, ask, dst)
	default:
		began := time.Now()
		data, err = b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentGet, Body: ask, Into: dst}, &answer)
		if err == nil && ask.Length > 0 {
			b.answers.add(time.Since(began))
		}
	}
	switch {
	case err != nil:
		return 0, nil, err
	case answer.Index < 0:
		return 0, nil, fmt.Errorf("chb: fragment of %v at %v: %w", ask.ID, node, past.ErrNotFound)
	case answer.Index >= past.FragmentsMax || ask.Length > 0 && len(data) != ask.Length || answer.Index != ask.Index && !ask.Any:
		return 0, nil, fmt.Errorf("chb: fragment of %v at %v: %w: not what was asked for", ask.ID, node, past.ErrDamaged)
	}
	return answer.Index, data, nil
}

// fetchValue asks one node for a whole fragment and proves it. What is bad is put down to the node. Errors as fetch.
func (b *Blocks) fetchValue(ctx context.Context, node pastry.NodeID, id past.BlockID, index int, any bool) (value, error) {
	index, data, err := b.fetch(ctx, node, getRequest{ID: id, Index: index, Any: any}, nil)
	if err != nil {
		return value{}, err
	}
	v, err := checkValue(data, id, index)
	if err != nil {
		b.blame(node, id, "bad fragment")
		return value{}, fmt.Errorf("chb: fragment %d of %v at %v: %w: %w", index, id, node, past.ErrDamaged, err)
	}
	return v, nil
}

// locate asks nodes which fragments of a block they have, trashed ones included, and returns whom to ask for which, one node for each
// index that have lacks. Nodes may hold several where a coded stripe has fewer nodes than fragments.
func (b *Blocks) locate(ctx context.Context, id past.BlockID, nodes []pastry.NodeID, have past.Indexes) (found []target) {
	ctx, cancel := context.WithTimeout(ctx, statPatience)
	defer cancel()
	held := make([]past.Indexes, len(nodes))
	var all sync.WaitGroup
	for i, node := range nodes {
		all.Go(func() {
			var answer statAnswer
			_, err := b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentStat, Body: statRequest{IDs: id[:]}}, &answer)
			if err == nil && len(answer.Items) == 1 {
				held[i] = answer.Items[0].Live | answer.Items[0].Trashed
			}
		})
	}
	all.Wait()
	for i, node := range nodes {
		for index := range past.FragmentsMax {
			if held[i].Has(index) && !have.Has(index) {
				have = have.With(index)
				found = append(found, target{node, index})
			}
		}
	}
	return found
}

// rangeOf is the request for a range of the bytes of a fragment. Where they begin follows from r.
func rangeOf(ref past.StripeRef, index, from, to int) getRequest {
	return getRequest{ID: ref.ID, Index: index, Any: true, Offset: stripe.FragmentDataAt(ref.Redundancy) + from, Length: to - from}
}

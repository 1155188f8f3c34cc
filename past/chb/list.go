package chb

import (
	"context"
	"fmt"
	"sync"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"
)

// List returns up to max live fragments that node keeps, in order of their keys, for an audit. next is where the following page begins, nil
// after the last one. Only gateways may ask. Errors: past.ErrUnavailable.
func (b *Blocks) List(ctx context.Context, node pastry.NodeID, from []byte, max int) (page []past.Kept, next []byte, err error) {
	var answer listAnswer
	if _, err := b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentList, Body: listRequest{From: from, Max: max}}, &answer); err != nil {
		return nil, nil, err
	}
	for _, e := range answer.Entries {
		claim, err := parseClaim(e.Claim)
		if err != nil {
			continue // the node's fault, or a lie: there is nothing to audit in it
		}
		page = append(page, past.Kept{Node: node, ID: e.ID, Index: e.Index, Stored: time.Unix(0, e.Stored), Claim: claim})
	}
	if answer.More {
		next = answer.Next
	}
	return page, next, nil
}

// keptOfMax is how many fragments of one block are asked for at one node: in small rings a node has several.
const keptOfMax = 16

// KeptOf asks every candidate of a block for the fragments that it keeps of it, and what it keeps them for. Only gateways may ask. Errors:
// past.ErrUnavailable, if one does not answer, for it may know better than the others.
func (b *Blocks) KeptOf(ctx context.Context, id past.BlockID) ([]past.Kept, error) {
	c, err := b.around(ctx, id.Key())
	if err != nil {
		return nil, err
	}
	asked := c.all()
	pages, errs := make([][]past.Kept, len(asked)), make([]error, len(asked))
	var all sync.WaitGroup // awaited here
	for i, node := range asked {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, statPatience)
			defer cancel()
			pages[i], _, errs[i] = b.List(ctx, node, id[:], keptOfMax)
		})
	}
	all.Wait()
	var out []past.Kept
	for i, node := range asked {
		if errs[i] != nil {
			return nil, fmt.Errorf("chb: kept of %v at %v: %w: %w", id, node, past.ErrUnavailable, errs[i])
		}
		for _, k := range pages[i] {
			if k.ID == id {
				out = append(out, k)
			}
		}
	}
	return out, nil
}

func (s *shelf) list(ctx context.Context, from []byte, max int) (answer listAnswer, err error) {
	type found struct {
		key    storeKey
		size   int64
		stored time.Time
	}
	var all []found
	err = s.store.Each(ctx, from, func(f blockstore.FragmentInfo) bool {
		key, ok := parseKey(f.Key)
		if !ok || !f.Trashed.IsZero() {
			return true
		}
		if len(all) == max {
			answer.More, answer.Next = true, key[:]
			return false
		}
		all = append(all, found{key, f.Size, f.Stored})
		return true
	})
	if err != nil {
		return answer, fromStore(err)
	}
	for _, f := range all {
		r, length, err := s.shape(ctx, f.key)
		if err != nil {
			continue // scrub and repair see to it
		}
		claim := make([]byte, clampClaim(int(f.size)-stripe.FragmentLen(r, length)))
		if s.readAt(ctx, f.key, claim, stripe.FragmentLen(r, length)) == nil {
			answer.Entries = append(answer.Entries, listEntry{ID: f.key.id(), Index: f.key.index(), Stored: f.stored.UnixNano(), Claim: claim})
		}
	}
	return answer, nil
}

// clampClaim keeps a claim's length within what a claim may have, whatever a damaged header says.
func clampClaim(n int) int { return min(max(n, 0), claimMax) }

package chb

import (
	"context"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"
)

// Kept is one live fragment at some node, with what it is kept for.
type Kept struct {
	ID     past.BlockID
	Index  int
	Stored time.Time // wall time at the node
	Claim  past.Claim
}

// List returns up to max live fragments that node keeps, in order of their keys, for an audit. next is where the following page begins, nil
// after the last one. Only gateways may ask. Errors: past.ErrUnavailable.
func (b *Blocks) List(ctx context.Context, node pastry.NodeID, from []byte, max int) (page []Kept, next []byte, err error) {
	var answer listAnswer
	if _, err := b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentList, Body: listRequest{From: from, Max: max}}, &answer); err != nil {
		return nil, nil, err
	}
	for _, e := range answer.Entries {
		claim, err := parseClaim(e.Claim)
		if err != nil {
			continue // the node's fault, or a lie: there is nothing to audit in it
		}
		page = append(page, Kept{ID: e.ID, Index: e.Index, Stored: time.Unix(0, e.Stored), Claim: claim})
	}
	if answer.More {
		next = answer.Next
	}
	return page, next, nil
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

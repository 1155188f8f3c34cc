package chb

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// Insert seals plain (1 to past.StripeMax bytes) as stripe number index of key's data, codes it and keeps fragment i on the
// i-th node of past.Place. A node that is full or does not answer is replaced by the next candidate (PAST §3). Insert returns when
// Redundancy.Durable fragments are durable; the others go on in the background, and what cannot be placed is left to repair.
// It does not keep plain. It waits while too many inserts hold memory.
//
// Errors: past.ErrNoSpace, past.ErrUnavailable, and one that wraps ctx.Err(); fragments already stored are then trashed.
func (b *Blocks) Insert(ctx context.Context, key *stripe.Key, index uint64, plain []byte, claim past.Claim) (past.StripeRef, error) {
	if len(plain) == 0 || len(plain) > past.StripeMax {
		return past.StripeRef{}, fmt.Errorf("chb: insert: stripe of %d bytes", len(plain))
	}
	rawClaim, err := encodeClaim(claim)
	if err != nil {
		return past.StripeRef{}, err
	}
	near, err := b.around(ctx, b.self) // how many there are; the key is known only after coding
	if err != nil {
		return past.StripeRef{}, fmt.Errorf("chb: insert: %w", err)
	}
	r := past.Standard(len(plain), len(near.place))
	room := max(stripe.SealedLen(len(plain)), stripe.EncodedLen(stripe.SealedLen(len(plain)), r))
	if err := b.inserts.acquire(ctx, int64(room)); err != nil {
		return past.StripeRef{}, fmt.Errorf("chb: insert: too many at once: %w", err)
	}
	in := &insert{b: b, claim: rawClaim, buf: b.buffers.get(room), bytes: int64(room)}
	sealed := key.Seal((*in.buf)[:0], index, plain)
	in.header, in.fragments = stripe.Encode(sealed, r)
	in.id = in.header.ID()
	ref := past.StripeRef{ID: in.id, Length: len(plain), Redundancy: r}
	if err := in.run(ctx); err != nil {
		return past.StripeRef{}, fmt.Errorf("chb: insert %v: %w", in.id, err)
	}
	b.stats.inserts.Add(1)
	return ref, nil
}

// insert is one call of Insert and what it leaves in the background. Its memory is given back when its last put ends.
type insert struct {
	b         *Blocks
	id        past.BlockID
	header    stripe.Header
	fragments [][]byte
	claim     []byte
	buf       *[]byte // what fragments are parts of
	bytes     int64   // of b.inserts

	mu     sync.Mutex
	spares []pastry.NodeID // candidates that were not tried yet, in Place order
	tried  []pastry.NodeID // nodes that may have a fragment
	full   bool            // somebody had no room
}

// placed is how the search for a place for one fragment ended; the zero NodeID says that there is none.
type placed struct{ node pastry.NodeID }

func (in *insert) free() {
	in.b.buffers.put(in.buf)
	in.b.inserts.release(in.bytes)
}

func (in *insert) run(ctx context.Context) error {
	c, err := in.b.around(ctx, in.id.Key())
	if err != nil {
		in.free()
		return err
	}
	targets := min(len(in.fragments), len(c.place))
	need := in.header.Redundancy.Durable(len(c.place))
	if targets < need {
		in.free()
		return fmt.Errorf("%w: %d storage nodes", past.ErrUnavailable, len(c.place))
	}
	in.spares = c.place[targets:]
	// The puts outlive the caller's context once Insert has returned; until then his cancellation is theirs.
	putting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*putPatience)
	results := make(chan placed, targets) // nobody waits to send
	for i, node := range c.place[:targets] {
		if !in.b.background.start(func() { results <- placed{in.place(putting, node, i)} }) {
			results <- placed{}
		}
	}
	durable, first, ended := 0, pastry.NodeID{}, 0
	note := func(p placed) {
		ended++
		if p.node != (pastry.NodeID{}) {
			if durable++; durable == 1 {
				first = p.node
			}
		}
	}
	for durable < need && ended < targets && ctx.Err() == nil {
		select {
		case p := <-results:
			note(p)
		case <-ctx.Done():
		}
	}
	finish := func() {
		stopping := in.b.stopping
		for ended < targets {
			select {
			case p := <-results:
				note(p)
			case <-stopping:
				cancel()
				stopping = nil
			}
		}
		cancel()
		in.free()
		if durable >= need && durable < targets {
			in.b.hintTo(first, in.id, false)
		}
	}
	if durable >= need {
		if ended == targets || !in.b.background.start(finish) {
			finish()
		}
		return nil
	}
	cancel()
	finish()
	in.abandon(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case in.full:
		return fmt.Errorf("%w: %d of %d fragments kept", past.ErrNoSpace, durable, need)
	}
	return fmt.Errorf("%w: %d of %d fragments kept", past.ErrUnavailable, durable, need)
}

// place keeps fragment index on node, or on the next candidate that takes it, and returns which.
func (in *insert) place(ctx context.Context, node pastry.NodeID, index int) pastry.NodeID {
	for {
		err := in.put(ctx, node, index)
		if err == nil {
			return node
		}
		in.b.log.Debug("fragment refused", zap.Stringer("nodeId", node), zap.Stringer("block", in.id), zap.Int("index", index), zap.Error(err))
		in.mu.Lock()
		in.full = in.full || errors.Is(err, past.ErrNoSpace)
		if ctx.Err() != nil || len(in.spares) == 0 {
			in.mu.Unlock()
			return pastry.NodeID{}
		}
		node, in.spares = in.spares[0], in.spares[1:]
		in.mu.Unlock()
		in.b.stats.diverted.Add(1)
	}
}

func (in *insert) put(ctx context.Context, node pastry.NodeID, index int) error {
	in.mu.Lock()
	in.tried = append(in.tried, node)
	in.mu.Unlock()
	patience := putPatience
	if in.b.members.isSilent(node) {
		patience = putImpatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v := value{stripe.Fragment{Header: in.header, Index: index, Data: in.fragments[index]}, in.claim}
	return in.b.put(ctx, node, in.id, &v)
}

// put keeps a value that is known to be good at a node. Errors: past.ErrNoSpace, errReclaimed, past.ErrUnavailable.
func (b *Blocks) put(ctx context.Context, node pastry.NodeID, id past.BlockID, v *value) error {
	if node == b.self && b.shelf != nil { // no copy, and no second hash
		return b.shelf.put(ctx, id, v.Index, v.pieces()...)
	}
	var answer putAnswer
	_, err := b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentPut, Body: putRequest{ID: id, Index: v.Index}, Data: v.pieces()}, &answer)
	if err == nil && answer.Reclaimed {
		return errReclaimed
	}
	return err
}

// abandon trashes what a failed insert has stored, before it returns: done later it might meet a second try of the same stripe.
func (in *insert) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupPatience)
	defer cancel()
	var all sync.WaitGroup
	for _, node := range in.tried {
		all.Go(func() {
			_, _ = in.b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentTrash, Body: trashRequest{IDs: in.id[:], Reason: trashAbandoned}}, nil)
		})
	}
	all.Wait()
}

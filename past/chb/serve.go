package chb

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"larder/blockstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"

	"go.uber.org/zap"
)

// allowed reports whether a peer has one of roles.
func allowed(from overlaywire.Peer, roles overlaywire.Roles) error {
	if from.Roles&roles == 0 {
		return fmt.Errorf("chb: %w: %v", rpc.ErrNotAllowed, from.Handle.ID)
	}
	return nil
}

const anyMember = overlaywire.RoleGateway | overlaywire.RoleStorage

// servePut keeps a fragment that proves itself, and nothing else.
func (b *Blocks) servePut(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var ask putRequest
	if err := b.accept(from, anyMember, req, &ask); err != nil {
		return nil, nil, err
	}
	if b.shelf == nil {
		return nil, nil, fmt.Errorf("chb: put: %w: this node keeps nothing", past.ErrNoSpace)
	}
	var raw []byte
	if len(req.Data) == 1 {
		raw = req.Data[0]
	} else {
		raw = bytes.Join(req.Data, nil)
	}
	if _, err := checkValue(raw, ask.ID, ask.Index); err != nil {
		b.stats.refused.Add(1)
		return nil, nil, fmt.Errorf("chb: put %v: %w: %w", ask.ID, wire.ErrFrame, err)
	}
	err := b.shelf.put(ctx, ask.ID, ask.Index, raw)
	if errors.Is(err, errReclaimed) {
		return putAnswer{Reclaimed: true}, nil, nil
	}
	return putAnswer{}, nil, err
}

func (b *Blocks) accept(from overlaywire.Peer, roles overlaywire.Roles, req rpc.Request, ask any) error {
	if err := allowed(from, roles); err != nil {
		return err
	}
	return req.Decode(ask)
}

// serveGet gives a range of a stored value, or all of it. What it gives is not checked here but by whoever asked.
func (b *Blocks) serveGet(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var ask getRequest
	if err := b.accept(from, anyMember, req, &ask); err != nil {
		return nil, nil, err
	}
	if ask.Index < 0 || ask.Index >= past.FragmentsMax || ask.Offset < 0 || ask.Length < 0 || ask.Offset+ask.Length > valueMax || ask.Offset+ask.Length < 0 {
		return nil, nil, fmt.Errorf("%w: fragment %d, bytes %d+%d", wire.ErrFrame, ask.Index, ask.Offset, ask.Length)
	}
	if b.shelf == nil {
		return getAnswer{Index: -1}, nil, nil
	}
	return b.give(ctx, ask, nil)
}

// valueMax is the largest value, in bytes: a replica of a whole stripe and its claim.
const valueMax = stripe.HeaderMax + 1 + stripe.SealedMax + claimMax

// give reads what a getRequest asks for, into dst if it fits.
func (b *Blocks) give(ctx context.Context, ask getRequest, dst []byte) (getAnswer, []byte, error) {
	data, err := b.giveIndex(ctx, ask, ask.Index, dst)
	if err == nil || !errors.Is(err, past.ErrNotFound) && !errors.Is(err, past.ErrDamaged) {
		return getAnswer{Index: ask.Index}, data, err
	}
	damaged := errors.Is(err, past.ErrDamaged)
	item, err := b.shelf.held(ctx, ask.ID)
	if err != nil {
		return getAnswer{}, nil, err
	}
	answer := getAnswer{Index: -1, Held: item.Live | item.Trashed}
	if damaged {
		b.mendSoon(keyOf(ask.ID, ask.Index))
	}
	for _, set := range []past.Indexes{item.Live, item.Trashed} {
		for i := 0; ask.Any && i < past.FragmentsMax; i++ {
			if !set.Has(i) {
				continue
			}
			if data, err = b.giveIndex(ctx, ask, i, dst); err == nil {
				answer.Index = i
				return answer, data, nil
			}
		}
	}
	if damaged && answer.Held == 0 {
		return answer, nil, fmt.Errorf("chb: fragment %d of %v: %w", ask.Index, ask.ID, past.ErrDamaged)
	}
	return answer, nil, nil
}

func (b *Blocks) giveIndex(ctx context.Context, ask getRequest, index int, dst []byte) ([]byte, error) {
	key := keyOf(ask.ID, index)
	if ask.Length == 0 {
		if b.shelf.isCorrupt(key) {
			return nil, past.ErrDamaged
		}
		data, err := b.shelf.store.Read(ctx, dst[:0], key[:])
		if errors.Is(err, blockstore.ErrCorrupt) {
			b.shelf.markCorrupt(key)
		}
		return data, fromStore(err)
	}
	if cap(dst) < ask.Length {
		dst = make([]byte, ask.Length)
	}
	dst = dst[:ask.Length]
	return dst, b.shelf.readAt(ctx, key, dst, ask.Offset)
}

// serveStat says what is here of the blocks asked about.
func (b *Blocks) serveStat(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var ask statRequest
	if err := b.accept(from, anyMember, req, &ask); err != nil {
		return nil, nil, err
	}
	ids, err := unpackIDs(ask.IDs)
	if err != nil {
		return nil, nil, err
	}
	if ask.Verify && len(ids) > verifyMax {
		return nil, nil, fmt.Errorf("%w: %d blocks to verify", wire.ErrFrame, len(ids))
	}
	if len(ask.Pins) != 0 && len(ask.Pins) != len(ids) {
		return nil, nil, fmt.Errorf("%w: %d pins for %d blocks", wire.ErrFrame, len(ask.Pins), len(ids))
	}
	answer := statAnswer{Items: make([]statItem, len(ids))}
	if b.shelf == nil {
		return answer, nil, nil
	}
	answer.FreeBytes = b.shelf.store.Usage().FreeBytes
	for i, id := range ids {
		if ask.Verify {
			b.verify(ctx, id)
		}
		if answer.Items[i], err = b.shelf.held(ctx, id); err != nil {
			return nil, nil, err
		}
		if len(ask.Pins) > 0 {
			answer.Items[i].Live &^= ask.Pins[i] &^ b.pinAll(id, ask.Pins[i]&answer.Items[i].Live)
		}
		if ask.Look {
			b.repair.hint(id)
		}
	}
	return answer, nil, nil
}

// verifyMax is how many blocks one request may have verified.
const verifyMax = 16

// pinAll pins the fragments in set as far as it can.
func (b *Blocks) pinAll(id past.BlockID, set past.Indexes) (pinned past.Indexes) {
	for i := range past.FragmentsMax {
		if set.Has(i) && b.shelf.pin(keyOf(id, i)) {
			pinned = pinned.With(i)
		}
	}
	return pinned
}

// serveTrash trashes fragments for a gateway. Storage nodes are not trusted with it.
func (b *Blocks) serveTrash(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var ask trashRequest
	if err := b.accept(from, overlaywire.RoleGateway, req, &ask); err != nil {
		return nil, nil, err
	}
	ids, err := unpackIDs(ask.IDs)
	if err != nil {
		return nil, nil, err
	}
	if ask.Reason != trashReclaimed && ask.Reason != trashAbandoned {
		return nil, nil, fmt.Errorf("%w: trash for reason %d", wire.ErrFrame, ask.Reason)
	}
	if b.shelf == nil {
		return nil, nil, nil
	}
	b.log.Debug("fragments trashed", zap.Int("blocks", len(ids)), zap.Stringer("nodeId", from.Handle.ID))
	return nil, nil, b.shelf.trash(ctx, ids, ask.Reason)
}

func (b *Blocks) serveRestore(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var ask restoreRequest
	if err := b.accept(from, anyMember, req, &ask); err != nil {
		return nil, nil, err
	}
	if b.shelf == nil || ask.Index < 0 || ask.Index >= past.FragmentsMax {
		return nil, nil, fmt.Errorf("chb: restore: %w", past.ErrNotFound)
	}
	return nil, nil, b.shelf.restore(ctx, keyOf(ask.ID, ask.Index))
}

// serveList lists live fragments and their claims, for a gateway's audit.
func (b *Blocks) serveList(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var ask listRequest
	if err := b.accept(from, overlaywire.RoleGateway, req, &ask); err != nil {
		return nil, nil, err
	}
	if b.shelf == nil {
		return listAnswer{}, nil, nil
	}
	if len(ask.From) > keyLen {
		return nil, nil, fmt.Errorf("%w: list from a key of %d bytes", wire.ErrFrame, len(ask.From))
	}
	answer, err := b.shelf.list(ctx, ask.From, min(max(ask.Max, 1), listMax))
	return answer, nil, err
}

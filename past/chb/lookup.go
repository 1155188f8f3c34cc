package chb

import (
	"context"
	"errors"
	"fmt"

	"larder/past"
	"larder/past/stripe"
)

// Lookup fills dst with the plaintext of a stripe from offset off. It reads the segments that hold it, from the nearest nodes, and asks
// others after the usual time of an answer. The AES-GCM tags prove what came; where they fail, whole fragments are checked, the nodes that
// gave bad ones are named in the log and in Status, and repair is told.
//
// Errors: past.ErrNotFound if all candidates say that they have nothing of it, past.ErrDamaged, past.ErrUnavailable if too few nodes
// answered to know, and one that wraps ctx.Err().
func (b *Blocks) Lookup(ctx context.Context, key *stripe.Key, index uint64, ref past.StripeRef, dst []byte, off int) error {
	if !ref.Redundancy.Valid() || ref.Length < 0 || ref.Length > past.StripeMax || off < 0 || off+len(dst) > ref.Length {
		return fmt.Errorf("chb: lookup %v: bytes %d+%d of %d as %v", ref.ID, off, len(dst), ref.Length, ref.Redundancy)
	}
	if len(dst) == 0 {
		return nil
	}
	b.stats.lookups.Add(1)
	l := lookup{b: b, key: key, index: index, ref: ref, dst: dst, off: off}
	l.from, l.to = stripe.SealedRange(ref.Length, off, len(dst))
	if l.local(ctx) {
		return nil
	}
	c, err := b.around(ctx, ref.ID.Key())
	if err != nil {
		return fmt.Errorf("chb: lookup %v: %w", ref.ID, err)
	}
	l.candidates = c
	return l.remote(ctx)
}

// lookup is one call of Lookup. sealed[from:to] holds what is asked for.
type lookup struct {
	b          *Blocks
	key        *stripe.Key
	index      uint64
	ref        past.StripeRef
	dst        []byte
	off        int
	from, to   int
	candidates candidates
}

func (l *lookup) open(sealed []byte) error {
	return l.key.OpenRange(l.dst, l.index, l.ref.Length, l.off, sealed)
}

// local reads a replica on this node's own disk: one read, one decryption. It reports whether that was all there is to do.
func (l *lookup) local(ctx context.Context) bool {
	s := l.b.shelf
	if s == nil || l.ref.Redundancy.Data != 1 {
		return false
	}
	buf := l.b.buffers.get(l.to - l.from)
	defer l.b.buffers.put(buf)
	for i := range l.ref.Redundancy.Total() {
		key := keyOf(l.ref.ID, i)
		err := s.readAt(ctx, key, *buf, stripe.FragmentDataAt(l.ref.Redundancy)+l.from)
		if errors.Is(err, past.ErrNotFound) {
			continue
		}
		if err == nil && l.open(*buf) == nil {
			return true
		}
		if ctx.Err() == nil {
			l.b.verify(ctx, l.ref.ID)
		}
		return false
	}
	return false
}

// remote gathers columns, proves them, and examines those that prove nothing.
func (l *lookup) remote(ctx context.Context) error {
	gathers := l.split()
	defer func() {
		for _, g := range gathers {
			g.release()
		}
	}()
	if err := runAll(ctx, gathers); err != nil {
		if errors.Is(err, past.ErrDamaged) { // the rest of the candidates' whole fragments may do
			return l.examine(ctx, nil)
		}
		return err
	}
	sealed, free, err := l.join(gathers)
	if err != nil {
		return err
	}
	err = l.open(sealed)
	free()
	if err == nil {
		return nil
	}
	return l.examine(ctx, gathers)
}

// split says which columns are needed: one range of one shard, two that have nothing in common, or the same range of several.
func (l *lookup) split() []*gather {
	r, length := l.ref.Redundancy, stripe.SealedLen(l.ref.Length)
	ranges := stripe.ShardRanges(r, length, l.from, l.to)
	if len(ranges) == 2 && ranges[1].To <= ranges[0].From {
		a, b := ranges[0], ranges[1]
		return []*gather{
			l.b.newGather(l.ref, l.candidates, past.Indexes(0).With(a.Index), a.From, a.To),
			l.b.newGather(l.ref, l.candidates, past.Indexes(0).With(b.Index), b.From, b.To),
		}
	}
	var want past.Indexes
	lo, hi := ranges[0].From, ranges[0].To
	for _, s := range ranges {
		want = want.With(s.Index)
		lo, hi = min(lo, s.From), max(hi, s.To)
	}
	return []*gather{l.b.newGather(l.ref, l.candidates, want, lo, hi)}
}

// runAll runs one or two gathers at once and returns the first one's error.
func runAll(ctx context.Context, gathers []*gather) error {
	if len(gathers) == 1 {
		return gathers[0].run(ctx)
	}
	second := make(chan error, 1)
	go func() { second <- gathers[1].run(ctx) }() // awaited below
	err := gathers[0].run(ctx)
	return errors.Join(err, <-second)
}

// join puts the columns together to sealed[from:to]. free gives its memory back.
func (l *lookup) join(gathers []*gather) (sealed []byte, free func(), err error) {
	if l.ref.Redundancy.Data == 1 {
		for _, c := range gathers[0].got {
			return c.data, func() {}, nil
		}
	}
	buf := l.b.buffers.get(l.to - l.from)
	out := (*buf)[:0]
	shards := make([][][]byte, len(gathers))
	for i, g := range gathers {
		if shards[i], err = g.shards(); err != nil {
			return nil, nil, fmt.Errorf("chb: lookup %v: %w", l.ref.ID, err)
		}
	}
	for _, s := range stripe.ShardRanges(l.ref.Redundancy, stripe.SealedLen(l.ref.Length), l.from, l.to) {
		for i, g := range gathers {
			if g.want.Has(s.Index) {
				out = append(out, shards[i][s.Index][s.From-g.lo:s.To-g.lo]...)
				break
			}
		}
	}
	return out, func() { l.b.buffers.put(buf) }, nil
}

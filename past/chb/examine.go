package chb

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// examineGrace is how long others are waited for once a stripe can be decoded, to see who lied.
const examineGrace = 500 * time.Millisecond

// examine is the slow way: it fetches whole fragments from all candidates, keeps those that their hashes prove, decodes from these,
// and says who gave bad columns.
func (l *lookup) examine(ctx context.Context, gathers []*gather) error {
	l.b.stats.examined.Add(1)
	good, header, v, err := l.b.collect(ctx, l.ref.ID, l.ref.Redundancy, l.candidates.all(), nil)
	if err != nil {
		return err
	}
	if header == nil || len(good) < header.Redundancy.Data {
		return v.err(l.b, l.ref.ID, true)
	}
	fragments := make([][]byte, header.Redundancy.Total())
	for i, f := range good {
		fragments[i] = f.Data
	}
	sealed, err := stripe.Join(nil, header, slices.Clone(fragments))
	if err != nil {
		return fmt.Errorf("chb: lookup %v: %w", l.ref.ID, err)
	}
	for _, g := range gathers {
		l.judge(g, header, fragments)
	}
	if len(sealed) != stripe.SealedLen(l.ref.Length) {
		return fmt.Errorf("chb: lookup %v: %w: %d sealed bytes for %d", l.ref.ID, past.ErrDamaged, len(sealed), l.ref.Length)
	}
	if err := l.open(sealed[l.from:l.to]); err != nil {
		return fmt.Errorf("chb: lookup %v: all fragments are good: %w: %w", l.ref.ID, past.ErrDamaged, err)
	}
	return nil
}

// judge compares the columns that nodes gave with the fragments that were proved.
func (l *lookup) judge(g *gather, header *stripe.Header, fragments [][]byte) {
	for index, c := range g.got {
		truth := fragments[index]
		if truth == nil {
			var err error
			if truth, _, err = stripe.Rebuild(header, index, slices.Clone(fragments)); err != nil {
				continue
			}
		}
		if g.hi > len(truth) || !bytes.Equal(c.data, truth[g.lo:g.hi]) {
			l.b.blame(c.node, l.ref.ID, "bad bytes")
		}
	}
}

// collect fetches whole fragments of a block from nodes, all at once, until d different ones are proved; have is what is there
// already. With have it waits for no others, else for a moment, so that good may have more than d. header is nil if nothing good came.
// Errors: past.ErrUnavailable if time is up.
func (b *Blocks) collect(ctx context.Context, id past.BlockID, r past.Redundancy, nodes []pastry.NodeID, have map[int]value) (good map[int]value, header *stripe.Header, v verdicts, err error) {
	ctx, cancel := context.WithTimeout(ctx, fragmentPatience)
	defer cancel()
	c := collection{b: b, id: id, good: map[int]value{}}
	if have == nil {
		c.grace = examineGrace
	}
	for _, f := range have {
		c.add(f)
	}
	var asks []target
	for i, node := range nodes {
		asks = append(asks, target{node, i % r.Total()})
	}
	err = c.fetch(ctx, asks, true)
	if err == nil && !c.enough() && (c.header == nil || c.header.Redundancy.Data > 1) {
		var known past.Indexes
		for i := range c.good {
			known = known.With(i)
		}
		err = c.fetch(ctx, b.locate(ctx, id, nodes, known), false)
	}
	return c.good, c.header, c.verdicts, err
}

// collection is what collect has so far.
type collection struct {
	b      *Blocks
	id     past.BlockID
	grace  time.Duration // how long the rest is waited for when there is enough
	good   map[int]value
	header *stripe.Header // of any of good
	verdicts
}

func (c *collection) add(f value) {
	c.good[f.Index] = f
	c.header = &f.Header
}

func (c *collection) enough() bool { return c.header != nil && len(c.good) >= c.header.Redundancy.Data }

// fetch asks for fragments, all at once, or with any for others that the node has.
func (c *collection) fetch(ctx context.Context, asks []target, any bool) error {
	type result struct {
		value
		err error
	}
	results := make(chan result, len(asks)) // nobody waits to send
	for _, t := range asks {
		started := c.b.background.start(func() {
			f, err := c.b.fetchValue(ctx, t.node, c.id, t.index, any)
			results <- result{f, err}
		})
		if !started {
			results <- result{err: past.ErrUnavailable}
		}
	}
	var grace <-chan time.Time
	for range asks {
		if c.enough() && grace == nil {
			if c.grace == 0 {
				return nil
			}
			grace = time.After(c.grace)
		}
		select {
		case got := <-results:
			if got.err != nil {
				c.count(got.err)
			} else {
				c.add(got.value)
			}
		case <-grace:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("chb: fragments of %v: %w: %w", c.id, past.ErrUnavailable, ctx.Err())
		}
	}
	return nil
}

// blame notes that a node gave what does not prove itself, and lets it look at its disk.
func (b *Blocks) blame(node pastry.NodeID, id past.BlockID, what string) {
	b.stats.lied(node)
	b.log.Warn("node gave bad fragment", zap.Stringer("nodeId", node), zap.Stringer("block", id), zap.String("what", what))
	b.hintTo(node, id, true)
}

// hintTo tells a node, in the background, that repair should look at a block, and, with verify, that its fragment may be bad.
func (b *Blocks) hintTo(node pastry.NodeID, id past.BlockID, verify bool) {
	b.background.start(func() {
		ctx, cancel := context.WithTimeout(context.Background(), statPatience)
		defer cancel()
		var answer statAnswer
		_, err := b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentStat, Body: statRequest{IDs: id[:], Verify: verify, Look: true}}, &answer)
		if err != nil {
			b.log.Debug("repair hint lost", zap.Stringer("nodeId", node), zap.Stringer("block", id), zap.Error(err))
		}
	})
}

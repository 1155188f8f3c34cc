package chb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"larder/past"
	"larder/past/stripe"
	"larder/pastry"
)

// parityPenalty is how much nearer a node must be for its parity to be preferred to another's data: about what decoding costs.
const parityPenalty = 2 * time.Millisecond

// column is the same range of one fragment's bytes as one node gave it, not proved yet.
type column struct {
	node  pastry.NodeID
	index int
	data  []byte
	buf   *[]byte // that data may be part of; given back by release
}

// target is a node to ask, and the index it should have.
type target struct {
	node  pastry.NodeID
	index int
}

// gather collects columns of one stripe until the wanted data shards are among them, or any d are. It belongs to one goroutine; each
// request runs on one of b.background and sends its result on arrivals.
type gather struct {
	b      *Blocks
	ref    past.StripeRef
	want   past.Indexes // data shards; with d = 1 any fragment will do
	lo, hi int          // range of each fragment's bytes

	nodes    []pastry.NodeID // all candidates
	located  bool            // queue has been filled once more, after nodes were asked what they have
	queue    []target        // not asked yet, best first
	asked    []askState      // by number of the request
	arrivals chan arrival    // capacity: all requests, so that nobody waits to send
	got      map[int]column
	verdicts
}

type askState struct {
	target
	over, overdue bool
}

type arrival struct {
	ask int
	column
	err error
}

// verdicts counts what nodes said that gave nothing.
type verdicts struct{ absent, damaged, silent int }

func (v *verdicts) count(err error) {
	switch {
	case errors.Is(err, past.ErrNotFound):
		v.absent++
	case errors.Is(err, past.ErrDamaged):
		v.damaged++
	default:
		v.silent++
	}
}

// err is the error of a lookup that found too few of what it looked for, some of it or none.
func (v *verdicts) err(b *Blocks, id past.BlockID, some bool) error {
	kind := past.ErrNotFound
	switch {
	case v.silent > 0 || b.members.anyLost(b.ring):
		kind = past.ErrUnavailable
	case some || v.damaged > 0:
		kind = past.ErrDamaged
	}
	return fmt.Errorf("chb: lookup %v: %w (%d nodes have none, %d bad ones, %d did not answer)", id, kind, v.absent, v.damaged, v.silent)
}

func (b *Blocks) newGather(ref past.StripeRef, c candidates, want past.Indexes, lo, hi int) *gather {
	g := &gather{b: b, ref: ref, want: want, lo: lo, hi: hi, got: map[int]column{}}
	g.queue = b.askOrder(ref.Redundancy, c, want)
	g.nodes = c.all()
	g.arrivals = make(chan arrival, len(g.queue)+past.FragmentsMax)
	return g
}

// askOrder lists the nodes to ask. Where a few data shards are wanted, those that should have them come first; where d are, the d nearest;
// then the other targets, then all further candidates.
func (b *Blocks) askOrder(r past.Redundancy, c candidates, want past.Indexes) []target {
	n := min(r.Total(), len(c.place))
	var out []target
	cost := map[pastry.NodeID]time.Duration{}
	for i, node := range c.place[:n] {
		out = append(out, target{node, i})
		cost[node] = b.ring.RTT(node)
		if i >= r.Data && r.Data > 1 {
			cost[node] += parityPenalty
		}
		if want.Count() < r.Data && !want.Has(i) {
			cost[node] += time.Hour
		}
		if b.members.isSilent(node) {
			cost[node] += 2 * time.Hour
		}
	}
	slices.SortStableFunc(out, func(a, b target) int { return cmp.Compare(cost[a.node], cost[b.node]) })
	for _, node := range slices.Concat(c.place[n:], c.rest) {
		out = append(out, target{node, 0})
	}
	return out
}

// run asks until it has enough. The columns are in g.got; the caller releases them.
func (g *gather) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := g.want.Count()
	if g.ref.Redundancy.Data == 1 {
		first = 1
	}
	for range first {
		g.askNext(ctx)
	}
	hedge := time.NewTimer(g.b.answers.hedge())
	defer hedge.Stop()
	for !g.done() {
		g.keepAsking(ctx)
		if g.pending() == 0 && g.locate(ctx) {
			continue
		}
		if g.pending() == 0 {
			return g.verdicts.err(g.b, g.ref.ID, len(g.got) > 0)
		}
		select {
		case a := <-g.arrivals:
			g.take(a)
		case <-hedge.C:
			for i := range g.asked {
				g.asked[i].overdue = true
			}
			g.b.stats.hedged.Add(1)
			hedge.Reset(g.b.answers.hedge())
		case <-ctx.Done():
			return fmt.Errorf("chb: lookup %v: %w", g.ref.ID, ctx.Err())
		}
	}
	return nil
}

// locate fills the queue with further fragments that nodes have beside those they gave. It reports whether there are any.
func (g *gather) locate(ctx context.Context) bool {
	if g.located || g.ref.Redundancy.Data == 1 || len(g.got) == 0 {
		return false
	}
	g.located = true
	var have past.Indexes
	for i := range g.got {
		have = have.With(i)
	}
	g.queue = g.b.locate(ctx, g.ref.ID, g.nodes, have)
	return len(g.queue) > 0
}

func (g *gather) done() bool {
	if len(g.got) >= g.ref.Redundancy.Data {
		return true
	}
	if g.ref.Redundancy.Data == 1 {
		return false
	}
	for i := range g.ref.Redundancy.Data {
		if _, ok := g.got[i]; g.want.Has(i) && !ok {
			return false
		}
	}
	return true
}

// keepAsking asks further nodes unless every missing shard may still come from whom it was asked of, or d columns in all may.
func (g *gather) keepAsking(ctx context.Context) {
	fresh := 0
	var expected past.Indexes
	for _, a := range g.asked {
		if !a.over && !a.overdue {
			fresh++
			expected = expected.With(a.index)
		}
	}
	missing := g.want
	for i := range g.got {
		missing &^= 1 << i
	}
	if g.ref.Redundancy.Data > 1 && missing&^expected == 0 {
		return
	}
	for len(g.got)+fresh < g.ref.Redundancy.Data && len(g.queue) > 0 {
		g.askNext(ctx)
		fresh++
	}
}

func (g *gather) pending() (n int) {
	for _, a := range g.asked {
		if !a.over {
			n++
		}
	}
	return n
}

func (g *gather) askNext(ctx context.Context) {
	if len(g.queue) == 0 {
		return
	}
	t := g.queue[0]
	g.queue = g.queue[1:]
	number := len(g.asked)
	g.asked = append(g.asked, askState{target: t})
	started := g.b.background.start(func() {
		buf := g.b.buffers.get(g.hi - g.lo)
		index, data, err := g.b.fetch(ctx, t.node, rangeOf(g.ref, t.index, g.lo, g.hi), *buf)
		g.arrivals <- arrival{number, column{t.node, index, data, buf}, err}
	})
	if !started {
		g.arrivals <- arrival{ask: number, err: past.ErrUnavailable}
	}
}

func (g *gather) take(a arrival) {
	g.asked[a.ask].over = true
	_, double := g.got[a.index]
	switch {
	case a.err != nil:
		g.count(a.err)
		g.b.release(a.column)
	case a.index >= g.ref.Redundancy.Total():
		g.damaged++
		g.b.blame(a.node, g.ref.ID, "index that the block does not have")
		g.b.release(a.column)
	case double:
		g.b.release(a.column)
	default:
		g.got[a.index] = a.column
	}
}

// shards returns the columns by index, the wanted ones computed where they did not come.
func (g *gather) shards() ([][]byte, error) {
	out := make([][]byte, g.ref.Redundancy.Total())
	complete := true
	for i := range out {
		if c, ok := g.got[i]; ok {
			out[i] = c.data
		} else if g.want.Has(i) {
			complete = false
		}
	}
	if complete {
		return out, nil
	}
	return out, stripe.FillData(g.ref.Redundancy, out)
}

func (b *Blocks) release(c column) {
	if c.buf != nil {
		b.buffers.put(c.buf)
	}
}

// release gives the columns' memory back.
func (g *gather) release() {
	for _, c := range g.got {
		g.b.release(c)
	}
	clear(g.got)
}

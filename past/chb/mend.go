package chb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// act does what the plan for a block leaves to this node.
func (b *Blocks) act(ctx context.Context, bl *block) {
	p := &bl.plan
	if p.Reclaimed {
		if err := b.shelf.trash(ctx, []past.BlockID{bl.own.id}, trashReclaimed); err != nil {
			b.log.Warn("straggler not trashed", zap.Stringer("block", bl.own.id), zap.Error(err))
			return
		}
		b.stats.stragglers.Add(1)
		return
	}
	mine := p.Rank == 0 || b.cfg.Now().Sub(b.repair.since(bl.own.id, b.cfg.Now())) > time.Duration(p.Rank)*fallbackAfter
	var m *mender
	for _, c := range p.Copies {
		if ctx.Err() != nil || !mine && (bl.visible || c.From != b.self) {
			continue
		}
		if c.Restore && b.restore(ctx, bl, c) {
			bl.placed++
			continue
		}
		if m == nil {
			var err error
			if m, err = b.newMender(ctx, bl); err != nil {
				b.log.Warn("own fragment unreadable", zap.Stringer("block", bl.own.id), zap.Error(err))
				return
			}
		}
		if err := m.copy(ctx, c); err != nil {
			b.log.Debug("fragment not placed", zap.Stringer("block", bl.own.id), zap.Int("index", c.Index), zap.Stringer("nodeId", c.To), zap.Error(err))
			continue
		}
		bl.placed++
		if c.From == (pastry.NodeID{}) {
			bl.rebuilt++
			b.stats.rebuilt.Add(1)
		} else {
			b.stats.moved.Add(1)
		}
	}
}

func (b *Blocks) restore(ctx context.Context, bl *block, c past.RepairCopy) bool {
	ctx, cancel := context.WithTimeout(ctx, statPatience)
	defer cancel()
	_, err := b.ask(ctx, c.To, rpc.Call{Kind: wire.KindFragmentRestore, Body: restoreRequest{ID: bl.own.id, Index: c.Index}}, nil)
	if err == nil {
		b.stats.restored.Add(1)
	}
	return err == nil
}

// mender makes fragments of one block from what it has collected.
type mender struct {
	b    *Blocks
	bl   *block
	own  value
	have map[int]value // proved fragments
	all  bool          // have has as many as it needs
}

// newMender reads one of this node's own fragments.
func (b *Blocks) newMender(ctx context.Context, bl *block) (*mender, error) {
	m := &mender{b: b, bl: bl, have: map[int]value{}}
	for i := range bl.r.Total() {
		if !bl.own.live.Has(i) {
			continue
		}
		v, err := b.shelf.read(ctx, nil, keyOf(bl.own.id, i))
		if err != nil {
			return nil, err
		}
		m.have[i], m.own = v, v
	}
	return m, nil
}

// copy puts a fragment where it belongs.
func (m *mender) copy(ctx context.Context, c past.RepairCopy) error {
	ctx, cancel := context.WithTimeout(ctx, 2*fragmentPatience)
	defer cancel()
	v, err := m.make(ctx, c.Index, c.From)
	if err != nil {
		return err
	}
	if err := m.b.pace(ctx, len(v.Data)); err != nil {
		return err
	}
	err = m.b.put(ctx, c.To, m.bl.own.id, v)
	if errors.Is(err, past.ErrNoSpace) {
		m.b.members.refused(c.To, m.b.cfg.Now().Add(fullPause))
	}
	if err != nil || c.To == m.b.self {
		return err
	}
	shown, err := m.b.shows(ctx, c.To, m.bl, c.Index, v.Data)
	if err == nil && !shown {
		m.b.members.refused(c.To, m.b.cfg.Now().Add(lostPause))
		m.b.blame(c.To, m.bl.own.id, "cannot show what it took")
		err = past.ErrDamaged
	}
	return err
}

// make returns a proved fragment: one that is here, the one that from has, or one rebuilt from others.
func (m *mender) make(ctx context.Context, index int, from pastry.NodeID) (*value, error) {
	if v, ok := m.have[index]; ok {
		return &v, nil
	}
	if m.bl.r.Data > 1 && from != (pastry.NodeID{}) {
		if v, err := m.b.fetchValue(ctx, from, m.bl.own.id, index, false); err == nil {
			m.have[index] = v
			return &v, nil
		}
	}
	if len(m.have) < m.bl.r.Data && !m.all {
		good, _, _, err := m.b.collect(ctx, m.bl.own.id, m.bl.r, m.bl.sources(), m.have)
		if err != nil {
			return nil, err
		}
		m.have, m.all = good, true
	}
	return m.b.rebuild(&m.own.Header, index, m.have, m.own.claim)
}

// rebuild makes fragment index from proved ones.
func (b *Blocks) rebuild(h *stripe.Header, index int, have map[int]value, claim []byte) (*value, error) {
	fragments := make([][]byte, h.Redundancy.Total())
	for i, v := range have {
		fragments[i] = v.Data
	}
	data, _, err := stripe.Rebuild(h, index, fragments)
	if err != nil {
		return nil, fmt.Errorf("chb: rebuild fragment %d of %v: %w", index, h.ID(), err)
	}
	return &value{stripe.Fragment{Header: *h, Index: index, Data: data}, claim}, nil
}

// pace waits until repair may send n bytes more.
func (b *Blocks) pace(ctx context.Context, n int) error {
	return b.stats.repairPace.wait(ctx, n, b.cfg.RepairBytesPerSecond)
}

// limiter spaces work out over time. The zero value is ready for use.
type limiter struct {
	mu   sync.Mutex
	next time.Time // when the next work may begin
}

// wait books n bytes at perSecond (0: no bound) and waits for their turn.
func (l *limiter) wait(ctx context.Context, n int, perSecond int64) error {
	if perSecond <= 0 {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	pause := l.next.Sub(now)
	l.next = l.next.Add(time.Duration(float64(n) / float64(perSecond) * float64(time.Second)))
	l.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// trashSurplus trashes this node's surplus fragments of blocks whose keepers all confirm and pin theirs.
func (b *Blocks) trashSurplus(ctx context.Context, blocks []*block) {
	leaving := blocks[:0:0]
	for _, bl := range blocks {
		if bl.plan.Surplus != 0 && len(bl.plan.Copies) == 0 && b.leaveAll(bl) {
			leaving = append(leaving, bl)
		}
	}
	if len(leaving) == 0 {
		return
	}
	confirmed := time.Now()
	refused := b.confirm(ctx, leaving)
	for _, bl := range leaving {
		for i := range past.FragmentsMax {
			if !bl.plan.Surplus.Has(i) {
				continue
			}
			key := keyOf(bl.own.id, i)
			if !refused[bl.own.id] && ctx.Err() == nil && b.proved(ctx, bl, i) && time.Since(confirmed) < pinTrust {
				if err := b.shelf.store.Trash(ctx, key[:]); err == nil {
					bl.trashed = bl.trashed.With(i)
					b.stats.surplus.Add(1)
				}
			}
			b.shelf.stay(key)
		}
	}
}

// leaveAll marks the surplus of a block as leaving; false if any of it is pinned.
func (b *Blocks) leaveAll(bl *block) bool {
	for i := range past.FragmentsMax {
		if bl.plan.Surplus.Has(i) && !b.shelf.leave(keyOf(bl.own.id, i)) {
			for j := range i {
				if bl.plan.Surplus.Has(j) {
					b.shelf.stay(keyOf(bl.own.id, j))
				}
			}
			return false
		}
	}
	return true
}

// confirm asks all keepers to pin, one request a node, and returns the blocks for which one refused or did not answer.
func (b *Blocks) confirm(ctx context.Context, blocks []*block) (refused map[past.BlockID]bool) {
	type question struct {
		blocks []*block
		pins   []past.Indexes
	}
	byNode := map[pastry.NodeID]*question{}
	for _, bl := range blocks {
		for _, k := range bl.plan.Keepers {
			q := byNode[k.Node]
			if q == nil {
				q = &question{}
				byNode[k.Node] = q
			}
			if n := len(q.blocks); n == 0 || q.blocks[n-1] != bl {
				q.blocks, q.pins = append(q.blocks, bl), append(q.pins, 0)
			}
			q.pins[len(q.pins)-1] = q.pins[len(q.pins)-1].With(k.Index)
		}
	}
	refused = map[past.BlockID]bool{}
	var mu sync.Mutex // of refused
	var all sync.WaitGroup
	for node, q := range byNode {
		all.Go(func() {
			answer, ok := b.stat(ctx, node, q.blocks, q.pins)
			mu.Lock()
			defer mu.Unlock()
			for i, bl := range q.blocks {
				if !ok || q.pins[i]&^answer.Items[i].Live != 0 {
					refused[bl.own.id] = true
				}
			}
		})
	}
	all.Wait()
	return refused
}

// proofBytes is how much of a fragment a node must show before it is believed to have it.
const proofBytes = 64

// shows lets a node show some bytes of a fragment, and compares them. Errors: past.ErrUnavailable if it does not answer.
func (b *Blocks) shows(ctx context.Context, node pastry.NodeID, bl *block, index int, data []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, statPatience)
	defer cancel()
	n := min(proofBytes, len(data))
	from := rand.IntN(len(data) - n + 1)
	ask := rangeOf(past.StripeRef{ID: bl.own.id, Redundancy: bl.r}, index, from, from+n)
	ask.Any = false
	_, got, err := b.fetch(ctx, node, ask, nil)
	if errors.Is(err, past.ErrNotFound) || errors.Is(err, past.ErrDamaged) {
		return false, nil
	}
	return err == nil && bytes.Equal(got, data[from:from+n]), err
}

// proved lets the keeper of own fragment index show some of its bytes. Of replicas any keeper's are the same.
func (b *Blocks) proved(ctx context.Context, bl *block, index int) bool {
	v, err := b.shelf.read(ctx, nil, keyOf(bl.own.id, index))
	if err != nil {
		b.mendSoon(keyOf(bl.own.id, index))
		return false
	}
	keepers := slices.Clone(bl.plan.Keepers)
	if same := slices.IndexFunc(keepers, func(k past.RepairKeeper) bool { return k.Index == index }); same >= 0 {
		keepers = keepers[same : same+1]
	} else if bl.r.Data > 1 {
		return false
	}
	for _, k := range keepers {
		shown, err := b.shows(ctx, k.Node, bl, k.Index, v.Data)
		if err == nil && !shown {
			b.blame(k.Node, bl.own.id, "keeper cannot show its fragment")
		}
		if err != nil || !shown {
			return false
		}
	}
	return true
}

// mendSoon lets repair mend an own fragment that is corrupt.
func (b *Blocks) mendSoon(key storeKey) {
	b.log.Warn("own fragment is corrupt", zap.Stringer("block", key.id()), zap.Int("index", key.index()))
	b.repair.poke()
}

// verify reads and checks this node's fragments of a block.
func (b *Blocks) verify(ctx context.Context, id past.BlockID) {
	item, err := b.shelf.held(ctx, id)
	if err != nil {
		return
	}
	for i := range past.FragmentsMax {
		if item.Live.Has(i) {
			if _, err := b.shelf.read(ctx, nil, keyOf(id, i)); errors.Is(err, past.ErrDamaged) {
				b.mendSoon(keyOf(id, i))
			}
		}
	}
}

// mendOwn replaces own corrupt fragments by what the others have. What cannot be had now is tried again with the next pass or poke.
func (b *Blocks) mendOwn(ctx context.Context) {
	for _, key := range b.shelf.damaged() {
		if ctx.Err() != nil {
			return
		}
		if info, err := b.shelf.store.Stat(ctx, key[:]); err != nil || !info.Trashed.IsZero() {
			b.shelf.forgetCorrupt(key) // it is not wanted any more
			continue
		}
		if err := b.mend(ctx, key); err != nil {
			b.log.Warn("corrupt fragment not mended yet", zap.Stringer("block", key.id()), zap.Int("index", key.index()), zap.Error(err))
			continue
		}
		b.log.Info("corrupt fragment mended", zap.Stringer("block", key.id()), zap.Int("index", key.index()))
	}
}

// mend replaces one own corrupt fragment. It does nothing if somebody has done so meanwhile.
func (b *Blocks) mend(ctx context.Context, key storeKey) error {
	select {
	case b.mending <- struct{}{}:
		defer func() { <-b.mending }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !b.shelf.isCorrupt(key) {
		return nil
	}
	c, err := b.around(ctx, key.id().Key())
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(c.all(), func(n pastry.NodeID) bool { return n == b.self })
	have := map[int]value{}
	for i := range past.FragmentsMax { // what else of it is here
		if v, err := b.shelf.read(ctx, nil, keyOf(key.id(), i)); err == nil && i != key.index() {
			have[i] = v
		}
	}
	good, header, v, err := b.collect(ctx, key.id(), past.Redundancy{Data: past.FragmentsMax}, others, have)
	if err != nil {
		return err
	}
	if header == nil {
		return v.err(b, key.id(), true)
	}
	var claim []byte
	for _, f := range good {
		claim = f.claim
	}
	f, err := b.rebuild(header, key.index(), good, claim)
	if err != nil {
		return err
	}
	if err := b.shelf.replace(ctx, f); err != nil {
		return err
	}
	b.stats.mended.Add(1)
	return nil
}

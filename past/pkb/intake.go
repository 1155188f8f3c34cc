package pkb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
)

// intake merges groups of one epoch's members into the rows of the next epoch: copies ahead of the change, and frozen groups after it.
// Nobody else touches those rows before Enter. Guarded by partition.inMu.
type intake struct {
	m         *Members
	p         *partition
	before    *register.Configuration
	recordKey [32]byte
	points    map[int]register.Point // by place in before: up to where everything is copied
	used      time.Time              // when it was last worked on

	// What settle has not seen: everything, or the groups touched.
	whole   bool
	touched map[string]bool
	// droppable are deletions that are known to be chosen, with their LastRemembered: dropped when all is frozen, since until then an
	// older value that comes in late must find them. At most droppableMax; others stay, as deletions may.
	droppable map[string]past.Ballot
}

// droppableMax bounds memory: at 100 bytes a name about 10 MB.
const droppableMax = 1 << 16

var errStale = errors.New("past/pkb: the other member does not know what changed")

func (m *Members) newIntake(p *partition, before *register.Configuration) *intake {
	return &intake{m: m, p: p, before: before, recordKey: before.RecordKey, points: map[int]register.Point{}, touched: map[string]bool{}, droppable: map[string]past.Ballot{}, used: m.now()}
}

// epoch is the one whose rows are written.
func (in *intake) epoch() uint64 { return in.before.Epoch + 1 }

// clear removes what an earlier try left.
func (in *intake) clear() error {
	var b blockstore.Batch
	for _, tag := range []byte{tagGroup, tagBody} {
		lower := rowKey(tag, in.p.id, in.epoch(), "")
		b.DeleteRange(lower, after(lower))
	}
	return in.m.store.Apply(in.m.ctx, &b, false)
}

// order lists the places of the members to pull from: those copied from first, those that seem dead last.
func (in *intake) order() []int {
	cost := func(i int) int {
		switch _, copied := in.points[i]; {
		case copied:
			return 0
		case in.m.peers.Ring().Reachable(in.before.Members[i].Node):
			return 1
		}
		return 2
	}
	out := make([]int, len(in.before.Members))
	for i := range out {
		out[i] = i
	}
	slices.SortStableFunc(out, func(a, b int) int { return cost(a) - cost(b) })
	return out
}

// pull merges the groups of one member of the epoch before: those that changed since they were copied, if it knows them, else all. Unless
// ahead is set they are frozen.
func (in *intake) pull(ctx context.Context, place int, ahead bool) (register.FrozenHead, error) {
	in.used = in.m.now()
	var since *register.Point
	if p, ok := in.points[place]; ok {
		since = &p
	}
	head, err := in.pages(ctx, place, ahead, since)
	if errors.Is(err, errStale) {
		delete(in.points, place)
		head, err = in.pages(ctx, place, ahead, nil)
	}
	if err != nil {
		err = fmt.Errorf("past/pkb: pull from %v: %w", in.before.Members[place].Node, err)
	}
	return head, err
}

func (in *intake) pages(ctx context.Context, place int, ahead bool, since *register.Point) (head register.FrozenHead, err error) {
	var begun *register.Point
	last := ""
	for {
		call, cancel := context.WithTimeout(ctx, 10*callTimeout)
		var a pullAnswer
		q := pullRequest{scope: scope{in.p.id, in.before.Epoch}, After: last, Ahead: ahead, Since: since}
		_, err := in.m.peers.Do(call, in.before.Members[place].Node, rpc.Call{Kind: wire.KindPull, Body: q}, &a)
		cancel()
		switch {
		case err != nil:
			return head, err
		case a.Status != register.StatusReady:
			return head, errors.New("not ready")
		case a.Stale:
			return head, errStale
		}
		if last == "" {
			begun = a.Begun
		}
		if err := in.m.greeter.learn(ctx, a.Boots); err != nil {
			return head, err
		}
		if err := in.mergeAll(ctx, a.Rows, since == nil); err != nil {
			return head, err
		}
		if head = a.Head; !a.More {
			break
		}
		if a.Last <= last {
			return head, errors.New("a page that leads nowhere")
		}
		last = a.Last
	}
	if ahead && begun != nil {
		in.points[place] = *begun
	}
	return head, nil
}

func (in *intake) mergeAll(ctx context.Context, rows []pullRow, all bool) error {
	in.whole = in.whole || all
	var b blockstore.Batch
	for _, row := range rows {
		if !all {
			in.touched[row.Name] = true
		}
		delete(in.droppable, row.Name)
		if err := in.merge(ctx, &b, row); err != nil {
			return err
		}
	}
	return in.m.store.Apply(ctx, &b, false)
}

// merge adds one member's group to what the members before it gave. A value that the row already has needs no second check.
func (in *intake) merge(ctx context.Context, b *blockstore.Batch, row pullRow) error {
	have, err := in.m.load(ctx, in.p, in.epoch(), row.Name, true)
	if err != nil {
		return err
	}
	if row.Group.Accepted != have.Accepted && !row.Group.Accepted.IsZero() {
		if err := checkBodies(row.Group.Value); err != nil {
			return err
		}
		if err := checkSignature(in.recordKey, digest(in.p.id, row.Name, row.Group.Accepted, row.Group.Value), row.Group.Proof); err != nil {
			return err
		}
	}
	have.Merge(row.Group)
	put(b, in.p, in.epoch(), row.Name, &have, true)
	return nil
}

// settle marks what a majority of the epoch before accepted as chosen, in all rows that changed since the last settle, and syncs. With
// e, everything is frozen: deleted groups that are chosen are dropped.
func (in *intake) settle(ctx context.Context, e *register.Entrance) (rows int, err error) {
	var b blockstore.Batch
	if in.whole {
		lower := rowKey(tagGroup, in.p.id, in.epoch(), "")
		var bad error
		err = in.m.store.Scan(ctx, lower, after(lower), func(key, value []byte) bool {
			var g register.Group
			if g, bad = decodeGroup(value); bad == nil {
				rows++
				in.settleOne(&b, string(key[rowPrefixLen:]), &g, e)
			}
			return bad == nil
		})
		err = errors.Join(err, bad)
	} else {
		for name := range in.touched {
			g, bad := in.m.load(ctx, in.p, in.epoch(), name, false)
			if err = errors.Join(err, bad); err != nil {
				break
			}
			rows++
			in.settleOne(&b, name, &g, e)
		}
	}
	if err != nil {
		return rows, err
	}
	if e != nil {
		for name, last := range in.droppable {
			in.drop(&b, name, last, e)
		}
	}
	if err := in.m.store.Apply(ctx, &b, true); err != nil {
		return rows, err
	}
	in.whole = false
	clear(in.touched)
	return rows, nil
}

func (in *intake) settleOne(b *blockstore.Batch, name string, g *register.Group, e *register.Entrance) {
	marked := in.before.Settle(g)
	switch {
	case g.Droppable() && e != nil:
		in.drop(b, name, g.LastRemembered(), e)
		return
	case g.Droppable() && len(in.droppable) < droppableMax:
		in.droppable[name] = g.LastRemembered()
	}
	if marked {
		put(b, in.p, in.epoch(), name, g, false)
	}
}

func (in *intake) drop(b *blockstore.Batch, name string, last past.Ballot, e *register.Entrance) {
	e.Dropping(last)
	b.Delete(rowKey(tagGroup, in.p.id, in.epoch(), name))
	b.Delete(rowKey(tagBody, in.p.id, in.epoch(), name))
}

// enterOnce tries once to pull from a majority of the epoch before and to turn active.
func (m *Members) enterOnce(p *partition) (done bool, rows int, err error) {
	p.mu.Lock()
	if p.copying != nil {
		p.copying.cancel() // it would hold inMu
	}
	p.mu.Unlock()
	p.inMu.Lock()
	defer p.inMu.Unlock()
	p.mu.Lock()
	if !p.confirmed() {
		p.mu.Unlock()
		return false, 0, errUnconfirmed
	}
	e := p.m.Entrance(m.self.Member)
	if e == nil {
		p.mu.Unlock()
		return true, -1, nil
	}
	before := p.m.Lineage.At(e.Epoch - 1)
	err = m.save(m.ctx, p) // fenced before the first pull
	p.mu.Unlock()
	if err != nil {
		return false, 0, err
	}
	in, err := m.take(p, before)
	if err != nil {
		return false, 0, err
	}
	for _, place := range in.order() {
		head, err2 := in.pull(m.ctx, place, false)
		if err2 != nil {
			err = err2
			continue
		}
		if !e.Pulled(place, head) {
			continue
		}
		p.in = nil // what is dropped now is not there for another try
		rows, err = in.settle(m.ctx, e)
		if err != nil {
			return false, 0, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.m.Lineage.Epoch() != e.Epoch {
			return false, 0, errors.New("past/pkb: the partition moved on meanwhile")
		}
		p.m.Enter(e)
		p.greeting = m.newGreeting(p.m.Configuration())
		return true, rows, m.save(m.ctx, p)
	}
	return false, 0, err
}

// take returns the intake for the epoch after before: what was copied ahead for it, or an empty one. p.inMu is held.
func (m *Members) take(p *partition, before *register.Configuration) (*intake, error) {
	if p.in != nil && p.in.before.Epoch == before.Epoch {
		return p.in, nil
	}
	if err := m.dropCopy(p); err != nil {
		return nil, err
	}
	in := m.newIntake(p, before)
	return in, in.clear()
}

package chb

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// Paces of repair.
const (
	repairBatch   = 256              // blocks asked about together
	retryFirst    = 5 * time.Second  // until a block that could not be made whole is looked at again
	retryMax      = 5 * time.Minute  // the same, after doubling
	fallbackAfter = 30 * time.Second // how long a live holder waits for each one before it in Place order
	troublesMax   = 1 << 16          // blocks remembered as not whole; a pass finds those beyond it
	probePause    = 15 * time.Second // between questions whether a silent node is back
	settleMax     = 10               // times Settle that changes of membership may put a pass off
)

// repairer is what repair remembers. Its goroutine is runRepair; others leave hints.
type repairer struct {
	wake    chan struct{} // capacity 1: hint, MembershipChanged → runRepair; a full one says enough
	mu      sync.Mutex
	hints   map[past.BlockID]bool
	changed bool // the membership, since runRepair last looked
	// troubles are blocks that were found not whole.
	troubles map[past.BlockID]trouble
	// generation is how often the membership has changed; clean that of the last pass which found everything whole.
	generation, clean uint64
	wholeSince        time.Time
	done, total       int // fragments, of the pass that runs or of the last one
	passes, debts     int // debts: of the last whole pass, counted at first live holders
}

// trouble is a block that was not whole when it was looked at.
type trouble struct {
	since, due time.Time
	pause      time.Duration
	missing    int // counted at the first live holder only
}

func (r *repairer) init() {
	r.wake = make(chan struct{}, 1)
	r.hints = map[past.BlockID]bool{}
	r.troubles = map[past.BlockID]trouble{}
	r.generation = 1
}

// hint makes repair look at a block soon.
func (r *repairer) hint(id past.BlockID) {
	r.mu.Lock()
	if len(r.hints) < troublesMax {
		r.hints[id] = true
	}
	r.mu.Unlock()
	r.poke()
}

func (r *repairer) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// MembershipChanged tells that storage nodes have come, gone, or changed their capacity. It does not block.
func (b *Blocks) MembershipChanged() {
	b.repair.mu.Lock()
	b.repair.changed = true
	b.repair.generation++
	b.repair.wholeSince = time.Time{}
	b.repair.mu.Unlock()
	b.repair.poke()
}

// take returns the blocks to look at now: hints, and troubles that are due. Those of the hints come first.
func (r *repairer) take(now time.Time) (ids []past.BlockID, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.hints {
		if len(ids) == repairBatch {
			break
		}
		ids = append(ids, id)
		delete(r.hints, id)
	}
	for id, t := range r.troubles {
		if len(ids) == repairBatch {
			break
		}
		if !t.due.After(now) {
			ids = append(ids, id)
		}
	}
	changed, r.changed = r.changed, false
	slices.SortFunc(ids, func(a, b past.BlockID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids), changed
}

// nextDue is how long it is until a trouble is due; at most an hour.
func (r *repairer) nextDue(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := time.Hour
	if len(r.hints) > 0 {
		return 0
	}
	for _, t := range r.troubles {
		next = min(next, max(0, t.due.Sub(now)))
	}
	return next
}

// since returns when a block was first found not whole; now if it was not.
func (r *repairer) since(id past.BlockID, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.troubles[id]; ok {
		return t.since
	}
	return now
}

// note remembers whether a block is whole.
func (r *repairer) note(id past.BlockID, whole bool, missing int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if whole {
		delete(r.troubles, id)
		return
	}
	t, ok := r.troubles[id]
	if !ok {
		if len(r.troubles) >= troublesMax {
			return
		}
		t = trouble{since: now, pause: retryFirst / 2}
	}
	t.pause = min(2*t.pause, retryMax)
	t.due, t.missing = now.Add(t.pause), missing
	r.troubles[id] = t
	r.wholeSince = time.Time{}
}

// runRepair walks this node's fragments, again and again, and looks at hints in between. It is the only goroutine that plans.
func (b *Blocks) runRepair(ctx context.Context) {
	s := schedule{b: b, walk: walk{b: b}}
	s.periodic = b.cfg.Now().Add(b.cfg.Settle)
	s.start = s.periodic
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(max(0, s.next(ctx)))
		select {
		case <-ctx.Done():
		case <-b.repair.wake:
		case <-timer.C:
		}
	}
}

// schedule says when what is done. It belongs to runRepair.
type schedule struct {
	b         *Blocks
	walk      walk
	start     time.Time // of the next pass
	periodic  time.Time // when it would begin if nothing happened
	changedAt time.Time // first change of membership that no pass has begun for; zero if there is none
	mendAt    time.Time // not before
	probeAt   time.Time // not before
	ended     time.Time // the last pass
}

// next does what is due and returns how long it is until something else is.
func (s *schedule) next(ctx context.Context) time.Duration {
	b, now := s.b, s.b.cfg.Now()
	ids, changed := b.repair.take(now)
	if changed {
		_, _ = b.around(ctx, b.self) // remembers who is there: when one goes soon, he was
	}
	if b.members.look(b.ring, now) || changed {
		b.repair.hurry(now)
		if s.changedAt.IsZero() {
			s.changedAt = now
		}
		s.start = minTime(now.Add(b.cfg.Settle), s.changedAt.Add(settleMax*b.cfg.Settle))
		s.walk.urgent = true
	}
	if len(ids) > 0 {
		b.lookAtAll(ctx, ids)
	}
	wait := s.smallWork(ctx, now)
	if left := b.members.nextGivenUp(now, b.cfg.RepairDelay); left > 0 {
		s.start = minTime(s.start, now.Add(left))
	}
	if !s.walk.running && b.repair.unproven() {
		s.start = minTime(s.start, s.ended.Add(b.cfg.Settle))
	}
	if !s.walk.running && !now.Before(s.start) {
		s.walk.begin(now.Before(s.periodic))
		s.periodic = now.Add(b.cfg.RepairEvery)
		s.start, s.changedAt = s.periodic, time.Time{}
	}
	if s.walk.running {
		pause := s.walk.step(ctx)
		if !s.walk.running {
			s.ended = b.cfg.Now()
			s.periodic = s.ended.Add(b.cfg.RepairEvery)
			if s.changedAt.IsZero() {
				s.start = s.periodic
			}
		}
		return min(pause, wait)
	}
	return min(wait, s.start.Sub(now), b.repair.nextDue(now))
}

// smallWork mends own corrupt fragments and asks silent nodes whether they are back.
func (s *schedule) smallWork(ctx context.Context, now time.Time) (wait time.Duration) {
	b := s.b
	wait = time.Hour
	if n := len(b.shelf.damaged()); n > 0 {
		if !now.Before(s.mendAt) {
			b.mendOwn(ctx)
			s.mendAt = b.cfg.Now().Add(retryFirst)
		}
		wait = min(wait, s.mendAt.Sub(now))
	}
	if silent := b.members.silentOnes(); len(silent) > 0 {
		if !now.Before(s.probeAt) {
			b.probe(ctx, silent)
			s.probeAt = b.cfg.Now().Add(probePause)
		}
		wait = min(wait, s.probeAt.Sub(now))
	}
	return wait
}

// probe asks nodes for nothing, to learn whether they answer. A node that was given up and is back changes the membership.
func (b *Blocks) probe(ctx context.Context, nodes []pastry.NodeID) {
	var all sync.WaitGroup
	for _, node := range nodes {
		all.Go(func() {
			if _, ok := b.stat(ctx, node, nil, nil); ok {
				b.MembershipChanged()
			}
		})
	}
	all.Wait()
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unproven reports whether everything that was found not whole has been mended since, but no pass has seen that.
func (r *repairer) unproven() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passes > 0 && r.clean != r.generation && len(r.troubles) == 0 && len(r.hints) == 0
}

// hurry makes all troubles due: what was impossible may be possible now.
func (r *repairer) hurry(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation++
	r.wholeSince = time.Time{}
	for id, t := range r.troubles {
		t.due, t.pause = now, retryFirst/2
		r.troubles[id] = t
	}
}

// walk is one pass over all own fragments, in steps.
type walk struct {
	b          *Blocks
	running    bool
	urgent     bool   // because of a change: no pauses
	from       []byte // store key that the next step begins at
	generation uint64
	debts      int
	trouble    bool
}

func (w *walk) begin(urgent bool) {
	*w = walk{b: w.b, running: true, urgent: urgent}
	r := &w.b.repair
	r.mu.Lock()
	defer r.mu.Unlock()
	w.generation = r.generation
	r.done, r.total = 0, int(w.b.shelf.store.Usage().Fragments)
}

// step looks at the next blocks and returns how long to pause before the one after it.
func (w *walk) step(ctx context.Context) time.Duration {
	b := w.b
	began := b.cfg.Now()
	var own []ownBlock
	more := false
	err := b.shelf.store.Each(ctx, w.from, func(f blockstore.FragmentInfo) bool {
		key, ok := parseKey(f.Key)
		if !ok {
			return true
		}
		id := key.id()
		if n := len(own); n == 0 || own[n-1].id != id {
			if n == repairBatch {
				more, w.from = true, slices.Clone(f.Key)
				return false
			}
			own = append(own, ownBlock{id: id})
		}
		own[len(own)-1].add(key, !f.Trashed.IsZero(), b.shelf)
		return true
	})
	if err != nil {
		b.log.Warn("repair cannot walk the store", zap.Error(fromStore(err)))
		w.running = false
		return b.cfg.RepairEvery
	}
	result := b.lookAt(ctx, own)
	w.debts += result.debts
	w.trouble = w.trouble || result.trouble
	b.repair.mu.Lock()
	b.repair.done += result.fragments
	b.repair.mu.Unlock()
	if !more {
		w.end(ctx)
		return 0
	}
	if w.urgent {
		return 0
	}
	return min(4*b.cfg.Now().Sub(began), 5*time.Second)
}

func (w *walk) end(ctx context.Context) {
	w.running = false
	r := &w.b.repair
	now := w.b.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total = r.done
	if ctx.Err() != nil {
		return
	}
	r.passes++
	r.debts = w.debts
	if !w.trouble && w.generation == r.generation {
		r.clean = r.generation
		if r.wholeSince.IsZero() {
			r.wholeSince = now
			w.b.log.Info("all fragments are where they belong", zap.Int("fragments", r.done), zap.Int("debts", r.debts))
		}
	}
}

// ownBlock is a block of which this node holds something.
type ownBlock struct {
	id            past.BlockID
	live, trashed past.Indexes
}

func (o *ownBlock) add(key storeKey, trashed bool, s *shelf) {
	switch {
	case s.isCorrupt(key):
	case trashed:
		o.trashed = o.trashed.With(key.index())
	default:
		o.live = o.live.With(key.index())
	}
}

// lookAtAll looks at blocks by id.
func (b *Blocks) lookAtAll(ctx context.Context, ids []past.BlockID) {
	var own []ownBlock
	for _, id := range ids {
		item, err := b.shelf.held(ctx, id)
		if err != nil {
			b.log.Warn("repair cannot read the store", zap.Stringer("block", id), zap.Error(err))
			return
		}
		own = append(own, ownBlock{id, item.Live, item.Trashed})
	}
	b.lookAt(ctx, own)
}

// looked is what a look at some blocks found.
type looked struct {
	fragments, debts int
	trouble          bool
}

// lookAt asks who holds what of some blocks, plans and acts.
func (b *Blocks) lookAt(ctx context.Context, own []ownBlock) (result looked) {
	var blocks []*block
	for _, o := range own {
		result.fragments += o.live.Count()
		if o.live == 0 {
			b.repair.note(o.id, true, 0, b.cfg.Now())
			continue
		}
		if bl, err := b.prepare(ctx, o); err == nil {
			blocks = append(blocks, bl)
		} else {
			result.trouble = true
			b.log.Debug("block not looked at", zap.Stringer("block", o.id), zap.Error(err))
		}
	}
	b.askHolders(ctx, blocks)
	var workers sync.WaitGroup // awaited here
	slots := make(chan struct{}, b.cfg.RepairWorkers)
	for _, bl := range blocks {
		bl.decide()
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			b.act(ctx, bl)
		})
	}
	workers.Wait()
	b.trashSurplus(ctx, blocks)
	if ctx.Err() != nil {
		result.trouble = true
		return result
	}
	for _, bl := range blocks {
		p := &bl.plan
		whole := bl.whole()
		missing := 0
		if p.Rank == 0 {
			result.debts += max(0, p.Debts-bl.rebuilt)
			missing = max(0, p.Missing-bl.rebuilt)
		}
		result.trouble = result.trouble || !whole
		b.repair.note(bl.own.id, whole, missing, b.cfg.Now())
	}
	return result
}

// block is one block while repair looks at it.
type block struct {
	own      ownBlock
	self     pastry.NodeID
	r        past.Redundancy
	length   int // sealed bytes
	order    candidates
	visible  bool // the others can see this node as a candidate
	holdings map[pastry.NodeID]past.Holding
	plan     past.RepairPlan
	placed   int // copies made
	rebuilt  int // of those, such as were live nowhere
	trashed  past.Indexes
}

// whole reports whether nothing is left to do for this node.
func (bl *block) whole() bool {
	p := &bl.plan
	return p.Reclaimed || p.Waiting == 0 && bl.placed == len(p.Copies) && p.Surplus&^bl.trashed == 0
}

// prepare finds the candidates of a block.
func (b *Blocks) prepare(ctx context.Context, o ownBlock) (*block, error) {
	bl := &block{own: o, self: b.self, holdings: map[pastry.NodeID]past.Holding{}}
	index := 0
	for !o.live.Has(index) {
		index++
	}
	var err error
	if bl.r, bl.length, err = b.shelf.shape(ctx, keyOf(o.id, index)); err != nil {
		return nil, err
	}
	found, err := b.ring.Around(ctx, o.id.Key())
	if err != nil {
		return nil, err
	}
	b.members.seen(found)
	all, away := b.members.reckon(o.id.Key(), found, b.cfg.Now(), b.cfg.RepairDelay)
	bl.order = order(o.id.Key(), all)
	bl.visible = slices.ContainsFunc(found, func(c past.Candidate) bool { return c.ID == b.self })
	for _, node := range bl.order.all() {
		bl.holdings[node] = past.Holding{Node: node}
	}
	for node := range away {
		bl.holdings[node] = past.Holding{Node: node}
	}
	dead, err := b.shelf.reclaimed(ctx, o.id)
	if err != nil {
		return nil, err
	}
	bl.holdings[b.self] = past.Holding{Node: b.self, Known: true, Live: o.live, Trashed: o.trashed, Reclaimed: dead, Full: b.isFull(b.self, b.shelf.store.Usage().FreeBytes, bl)}
	return bl, nil
}

// isFull reports whether repair should not offer a fragment to a node: it keeps some room for what is written now.
func (b *Blocks) isFull(node pastry.NodeID, freeBytes int64, bl *block) bool {
	return freeBytes < 4*int64(stripe.FragmentLen(bl.r, bl.length)+claimMax) || b.members.isFull(node, b.cfg.Now())
}

// askHolders asks each candidate once for all the blocks that it may hold. Those that do not answer stay unknown.
func (b *Blocks) askHolders(ctx context.Context, blocks []*block) {
	byNode := map[pastry.NodeID][]*block{}
	for _, bl := range blocks {
		for _, node := range bl.order.all() {
			if node != b.self {
				byNode[node] = append(byNode[node], bl)
			}
		}
	}
	answers := map[pastry.NodeID]statAnswer{}
	var mu sync.Mutex // of answers
	var all sync.WaitGroup
	for node, asked := range byNode {
		all.Go(func() {
			if answer, ok := b.stat(ctx, node, asked, nil); ok {
				mu.Lock()
				defer mu.Unlock()
				answers[node] = answer
			}
		})
	}
	all.Wait()
	for node, answer := range answers {
		for i, bl := range byNode[node] {
			item := answer.Items[i]
			bl.holdings[node] = past.Holding{
				Node: node, Known: true, Live: item.Live, Trashed: item.Trashed, Reclaimed: item.Reclaimed, Full: b.isFull(node, answer.FreeBytes, bl),
			}
		}
	}
}

// stat asks node about blocks, in one request, and to pin fragments if pins is not nil. ok is false if there is no proper answer.
func (b *Blocks) stat(ctx context.Context, node pastry.NodeID, blocks []*block, pins []past.Indexes) (answer statAnswer, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, statPatience)
	defer cancel()
	ids := make([]past.BlockID, len(blocks))
	for i, bl := range blocks {
		ids[i] = bl.own.id
	}
	_, err := b.ask(ctx, node, rpc.Call{Kind: wire.KindFragmentStat, Body: statRequest{IDs: packIDs(ids), Pins: pins}}, &answer)
	if err != nil || len(answer.Items) != len(blocks) {
		b.log.Debug("holder did not answer", zap.Stringer("nodeId", node), zap.Error(err))
		return answer, false
	}
	return answer, true
}

// decide plans.
func (bl *block) decide() {
	var place, others []past.Holding
	for _, node := range bl.order.place {
		place = append(place, bl.holdings[node])
	}
	rest := bl.order.rest
	if !slices.Contains(bl.order.all(), bl.self) {
		rest = append(slices.Clone(rest), bl.self)
	}
	for _, node := range rest {
		others = append(others, bl.holdings[node])
	}
	bl.plan = past.PlanRepair(bl.self, bl.r, place, others)
}

// sources returns the nodes that can give fragments of the block, those with live ones first.
func (bl *block) sources() (nodes []pastry.NodeID) {
	known := slices.SortedFunc(maps.Values(bl.holdings), func(a, b past.Holding) int { return a.Node.Compare(b.Node) })
	for _, live := range []bool{true, false} {
		for _, h := range known {
			if h.Known && h.Node != bl.self && (h.Live != 0) == live && h.Live|h.Trashed != 0 {
				nodes = append(nodes, h.Node)
			}
		}
	}
	return nodes
}

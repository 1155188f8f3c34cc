package pkb

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"

	"go.uber.org/zap"
)

// Members answers for the partitions that this node's disk is a member of. It keeps nothing in memory but the partitions' small
// states; every answer is given after what it says is on disk.
type Members struct {
	self    Identity
	damage  func(id register.PartitionID)
	peers   *rpc.Peers
	store   blockstore.Entries
	log     *zap.Logger
	now     func() time.Time
	genesis GenesisCheck
	greeter *greeter

	mu         sync.Mutex // guards partitions; taken before a partition's own lock, never while holding one
	partitions map[register.PartitionID]*partition

	entering sync.WaitGroup // one for each goroutine of enter, and one for greet
	ctx      context.Context
	stop     context.CancelFunc
}

// GenesisCheck reports, by a linearizable read of the record that made it, whether the lineage's genesis is that of a partition
// that exists now and has not changed since.
type GenesisCheck func(ctx context.Context, l *register.Lineage) (bool, error)

// partition is the live state of one partition on this disk.
type partition struct {
	id register.PartitionID
	// mu is held for reading by operations and for writing by whatever changes m.
	mu sync.RWMutex
	m  register.Member // durable before mu is released
	// groups are locks by group name, held from reading a row until it is synced.
	groups   [256]sync.Mutex
	entering bool               // an enter goroutine runs; guarded by mu
	lamented atomic.Int64       // when its damage was logged last, in ns since 1970
	greeting *register.Greeting // nil if this disk is no active member; guarded by mu
	copying  *copying           // a goroutine copies ahead; guarded by mu

	// inMu is held while rows of an epoch that this disk has not entered are written; taken before mu.
	inMu sync.Mutex
	in   *intake // copied ahead; guarded by inMu

	noteMu  sync.Mutex // guards journal; taken last
	journal register.Journal
}

// note says that a group's row may have changed, once that can be seen by whoever reads rows. p.mu is held for reading from before
// the change, so that nothing is frozen in between.
func (p *partition) note(epoch uint64, group string) {
	p.noteMu.Lock()
	p.journal.Note(epoch, group)
	p.noteMu.Unlock()
}

var groupSeed = maphash.MakeSeed()

func (p *partition) group(name string) *sync.Mutex {
	return &p.groups[maphash.String(groupSeed, name)%uint64(len(p.groups))]
}

// MembersConfig is what a Members needs. All fields are required.
type MembersConfig struct {
	Self    Identity
	Peers   *rpc.Peers
	Store   blockstore.Entries
	Genesis GenesisCheck
	// Damaged is told of a partition whose rows this disk lost, after it was reported. It must not block.
	Damaged func(id register.PartitionID)
	Log     *zap.Logger
	Now     func() time.Time
}

// NewMembers loads the partitions of this disk and registers the handlers. Errors wrap blockstore.ErrCorrupt if a partition's
// state is damaged: the disk must then come back as a new incarnation.
func NewMembers(cfg MembersConfig) (*Members, error) {
	m := &Members{self: cfg.Self, peers: cfg.Peers, store: cfg.Store, genesis: cfg.Genesis, damage: cfg.Damaged, log: cfg.Log.Named("members"), now: cfg.Now,
		partitions: map[register.PartitionID]*partition{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	var bad, err error
	if m.greeter, err = newGreeter(m.ctx, cfg.Store, cfg.Self); err != nil {
		return nil, err
	}
	err = cfg.Store.Scan(m.ctx, []byte{tagMember}, []byte{tagMember + 1}, func(key, value []byte) bool {
		p := &partition{id: register.PartitionID(key[1:])}
		if bad = wire.Unmarshal(value, &p.m); bad != nil {
			bad = fmt.Errorf("%w: partition %v: %w", blockstore.ErrCorrupt, p.id, bad)
			return false
		}
		if c := p.m.Configuration(); c != nil && p.m.Active {
			p.greeting = m.newGreeting(c)
		}
		m.partitions[p.id] = p
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("past/pkb: load partitions: %w", err)
	}
	gateway, any := overlaywire.RoleGateway, overlaywire.Roles(0)
	for kind, h := range map[wire.Kind]struct {
		role overlaywire.Roles
		f    rpc.Handler
	}{
		wire.KindRead: {any, m.handleRead}, wire.KindPrepare: {gateway, m.handlePrepare}, wire.KindAccept: {gateway, m.handleAccept},
		wire.KindChosen: {gateway, m.handleChosen}, wire.KindScan: {any, m.handleScan}, wire.KindLineage: {any, m.handleLineage},
		wire.KindGenesis: {gateway, m.handleGenesis}, wire.KindSlot: {gateway, m.handleSlot}, wire.KindVote: {gateway, m.handleVote},
		wire.KindFence: {gateway, m.handleFence}, wire.KindEnter: {gateway, m.handleEnter}, wire.KindPull: {any, m.handlePull},
		wire.KindForget: {gateway, m.handleForget}, wire.KindGreet: {any, m.handleGreet},
		wire.KindAhead: {gateway, m.handleAhead},
	} {
		cfg.Peers.Handle(kind, h.role, h.f)
	}
	return m, nil
}

// Resume begins to greet fellow members, without which nothing from before this start is answered, and goes on with what a stop
// interrupted: partitions that were being entered. The overlay is running by then.
func (m *Members) Resume() {
	m.entering.Go(m.greet)
	for _, p := range m.all() {
		m.clearAhead(p)
		m.startEnter(p)
	}
}

// all returns every partition that this disk has heard of.
func (m *Members) all() []*partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.partitions))
}

// Close ends background work and waits for it.
func (m *Members) Close() {
	m.stop()
	m.entering.Wait()
}

// Found makes this disk the only member of the system partition's first configuration, when a realm is founded.
func (m *Members) Found(ctx context.Context, l register.Lineage) error {
	p := m.partition(l.Genesis.Partition)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.m.Lineage.Genesis.Members) > 0 {
		return nil
	}
	p.m.Genesis(l)
	return m.save(ctx, p)
}

// partition returns the live state of a partition, empty if this disk has none.
func (m *Members) partition(id register.PartitionID) *partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.partitions[id]
	if p == nil {
		p = &partition{id: id}
		m.partitions[id] = p
	}
	return p
}

// save makes p.m durable. p.mu is held for writing.
func (m *Members) save(ctx context.Context, p *partition) error {
	var b blockstore.Batch
	b.Set(memberKey(p.id), wire.Marshal(&p.m))
	return m.store.Apply(context.WithoutCancel(ctx), &b, true)
}

// check says whether this disk answers for s. p.mu is held. The lineage goes along if the asker's is shorter.
func (m *Members) check(p *partition, s scope) standing {
	if len(p.m.Lineage.Genesis.Members) == 0 {
		return standing{Status: register.StatusUnknown}
	}
	st := standing{Status: p.m.Check(s.Epoch, m.self.Member)}
	if st.Status == register.StatusReady && !p.confirmed() {
		st.Status = register.StatusNotActive
	}
	if st.Status != register.StatusReady && p.m.Lineage.Epoch() > s.Epoch {
		longer := p.m.Lineage
		st.Lineage = &longer
	}
	return st
}

// ready runs f while the partition answers for s, and returns what to answer if it does not.
func (m *Members) ready(s scope, f func(p *partition) error) (standing, error) {
	p := m.partition(s.Partition)
	p.mu.RLock()
	defer p.mu.RUnlock()
	st := m.check(p, s)
	if st.Status != register.StatusReady {
		return st, nil
	}
	return st, f(p)
}

// load reads a group's row of the partition's epoch, with bodies if asked for. A row that is damaged, or whose body is, makes this
// member useless for the partition; the error wraps blockstore.ErrCorrupt and past.ErrDamaged.
func (m *Members) load(ctx context.Context, p *partition, epoch uint64, group string, bodies bool) (register.Group, error) {
	raw, err := m.store.Get(ctx, rowKey(tagGroup, p.id, epoch, group))
	if errors.Is(err, blockstore.ErrNotFound) {
		return p.m.Absent(), nil
	}
	if err != nil {
		return register.Group{}, m.damaged(p, group, err)
	}
	g, err := decodeGroup(raw)
	if err != nil {
		return g, m.damaged(p, group, fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err))
	}
	if bodies {
		err = m.loadBodies(ctx, p, epoch, group, &g)
	}
	return g, err
}

func (m *Members) loadBodies(ctx context.Context, p *partition, epoch uint64, group string, g *register.Group) error {
	if !hasBody(g.Value) {
		return nil
	}
	raw, err := m.store.Get(ctx, rowKey(tagBody, p.id, epoch, group))
	if err != nil {
		return m.damaged(p, group, fmt.Errorf("%w: body: %w", blockstore.ErrCorrupt, err))
	}
	var bodies [][]byte
	if err := wire.Unmarshal(raw, &bodies); err != nil || len(bodies) != len(g.Value.Entries) {
		return m.damaged(p, group, fmt.Errorf("%w: %d bodies: %w", blockstore.ErrCorrupt, len(bodies), err))
	}
	for i := range bodies {
		g.Value.Entries[i].Record.Body = bodies[i]
	}
	if err := checkBodies(g.Value); err != nil {
		return m.damaged(p, group, fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err))
	}
	return nil
}

func hasBody(v register.Value) bool {
	for _, e := range v.Entries {
		if len(e.Record.BodyHash) > 0 {
			return true
		}
	}
	return false
}

// lamentEvery is how often the same partition's damage is logged: who asks for what is lost asks again and again.
const lamentEvery = 10 * time.Second

// damaged reports register state that the disk lost; nothing of it is served. The error then wraps past.ErrDamaged, which tells whoever asks
// that nothing was done.
func (m *Members) damaged(p *partition, group string, err error) error {
	if errors.Is(err, blockstore.ErrCorrupt) {
		if now, last := m.now().UnixNano(), p.lamented.Load(); now-last > int64(lamentEvery) && p.lamented.CompareAndSwap(last, now) {
			m.log.Error("register state damaged", zap.Stringer("partition", p.id), zap.Int("groupBytes", len(group)), zap.Error(err))
		}
		m.damage(p.id)
		err = fmt.Errorf("%w: %w", past.ErrDamaged, err)
	}
	return fmt.Errorf("past/pkb: partition %v: %w", p.id, err)
}

// put adds g's rows to b. Bodies are written only where the value changed.
func put(b *blockstore.Batch, p *partition, epoch uint64, group string, g *register.Group, bodies bool) {
	if bodies && hasBody(g.Value) {
		all := make([][]byte, len(g.Value.Entries))
		for i, e := range g.Value.Entries {
			all[i] = e.Record.Body
		}
		b.Set(rowKey(tagBody, p.id, epoch, group), wire.Marshal(all))
	} else if bodies {
		b.Delete(rowKey(tagBody, p.id, epoch, group))
	}
	b.Set(rowKey(tagGroup, p.id, epoch, group), appendGroup(nil, g))
}

func (m *Members) handleRead(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q readRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	var a readAnswer
	st, err := m.ready(q.scope, func(p *partition) error {
		lock := p.group(q.Group)
		lock.Lock() // what is read must be on disk
		g, err := m.load(ctx, p, q.Epoch, q.Group, q.WithValue)
		lock.Unlock()
		if err != nil {
			return err
		}
		a = readAnswer{Accepted: g.Accepted, Chosen: g.Chosen, HasValue: q.WithValue || g.Accepted.IsZero()}
		if q.WithValue {
			a.Value, a.Proof = g.Value, g.Proof
		}
		return nil
	})
	a.standing = st
	return &a, nil, err
}

func (m *Members) handlePrepare(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q prepareRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	if q.Ballot.Epoch != q.Epoch {
		return nil, nil, wire.ErrFrame
	}
	var a prepareAnswer
	st, err := m.ready(q.scope, func(p *partition) error {
		lock := p.group(q.Group)
		lock.Lock()
		defer lock.Unlock()
		g, err := m.load(ctx, p, q.Epoch, q.Group, true)
		if err != nil {
			return err
		}
		promise, ok := g.Prepare(q.Ballot)
		if !ok {
			a.Refused, a.Promised = true, g.Promised
			return nil
		}
		promise.Pulled = p.m.Pulled
		a.Promise = promise
		var b blockstore.Batch
		put(&b, p, q.Epoch, q.Group, &g, false)
		return m.store.Apply(context.WithoutCancel(ctx), &b, true)
	})
	a.standing = st
	return &a, nil, err
}

func (m *Members) handleAccept(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q acceptRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	ballot := q.Accept.Ballot
	if ballot.Epoch != q.Epoch || ballot.IsZero() {
		return nil, nil, wire.ErrFrame
	}
	if ahead := time.Duration(ballot.Counter - uint64(m.now().UnixNano())); q.Blind && ballot.Counter > uint64(m.now().UnixNano()) && ahead > blindAheadMax {
		return nil, nil, fmt.Errorf("past/pkb: blind ballot %v ahead of this clock: %w", ahead, past.ErrUnavailable)
	}
	if _, _, _, err := parseGroup(q.Group); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", wire.ErrFrame, err)
	}
	var a acceptAnswer
	st, err := m.ready(q.scope, func(p *partition) error {
		c := p.m.Configuration()
		if from.Handle.ID != m.self.Member.Node {
			if err := checkBodies(q.Accept.Value); err != nil {
				return err
			}
			if err := checkSignature(c.RecordKey, digest(p.id, q.Group, ballot, q.Accept.Value), q.Accept.Proof); err != nil {
				return err
			}
		}
		lock := p.group(q.Group)
		lock.Lock()
		defer lock.Unlock()
		g, err := m.load(ctx, p, q.Epoch, q.Group, false)
		if err != nil {
			return err
		}
		done, ok := g.Accept(q.Accept, c.Index(m.self.Member))
		if !ok {
			a.Refused, a.Promised = true, g.Promised
			return nil
		}
		a.Accepted = done
		var b blockstore.Batch
		put(&b, p, q.Epoch, q.Group, &g, true)
		defer p.note(q.Epoch, q.Group) // whether it failed or not
		return m.store.Apply(context.WithoutCancel(ctx), &b, true)
	})
	a.standing = st
	return &a, nil, err
}

func (m *Members) handleChosen(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q chosenRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	_, err := m.ready(q.scope, func(p *partition) error {
		for _, mark := range q.Marks {
			if err := m.markChosen(ctx, p, q.Epoch, mark); err != nil {
				return err
			}
		}
		return nil
	})
	return nil, nil, err
}

// markChosen need not be synced: a lost mark costs a later reader a round trip.
func (m *Members) markChosen(ctx context.Context, p *partition, epoch uint64, mark chosenMark) error {
	lock := p.group(mark.Group)
	lock.Lock()
	defer lock.Unlock()
	g, err := m.load(ctx, p, epoch, mark.Group, false)
	if err != nil || !g.MarkChosen(mark.Ballot) {
		return err
	}
	var b blockstore.Batch
	put(&b, p, epoch, mark.Group, &g, false)
	defer p.note(epoch, mark.Group)
	return m.store.Apply(ctx, &b, false)
}

// Scrub reads every row of every partition, so that what rots where nobody looks is found. It returns how many it read.
func (m *Members) Scrub(ctx context.Context) (rows int, err error) {
	for _, p := range m.all() {
		p.mu.RLock()
		epoch := p.m.Epoch
		p.mu.RUnlock()
		for _, tag := range []byte{tagGroup, tagBody} {
			lower := rowKey(tag, p.id, epoch, "")
			if e := m.store.Scan(ctx, lower, after(lower), func(_, _ []byte) bool { rows++; return ctx.Err() == nil }); e != nil {
				err = errors.Join(err, m.damaged(p, "", e))
			}
		}
	}
	return rows, err
}

// ActiveElsewhere asks the other members of the partition's newest configuration, and reports whether there are any and all are active:
// then nobody needs what this disk has of it. What they know of newer configurations is learnt on the way, since this disk may have
// been rolled back.
func (m *Members) ActiveElsewhere(ctx context.Context, id register.PartitionID) bool {
	p := m.partition(id)
	for {
		p.mu.RLock()
		c := p.m.Lineage.Current()
		p.mu.RUnlock()
		active, longer := m.surveyOthers(ctx, c)
		if longer == nil {
			return active
		}
		p.mu.Lock()
		err := m.learn(ctx, p, longer)
		p.mu.Unlock()
		if err != nil {
			m.log.Warn("lineage refused", zap.Stringer("partition", id), zap.Error(err))
			return false
		}
	}
}

// surveyOthers asks the members of c but this one. A lineage that goes on beyond c ends it.
func (m *Members) surveyOthers(ctx context.Context, c *register.Configuration) (active bool, longer *register.Lineage) {
	for _, other := range c.Members {
		if other == m.self.Member {
			continue
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		var a lineageAnswer
		_, err := m.peers.Do(call, other.Node, rpc.Call{Kind: wire.KindLineage, Body: lineageRequest{Partition: c.Partition}}, &a)
		cancel()
		if err == nil && a.Known && a.Lineage.Epoch() > c.Epoch {
			return false, &a.Lineage
		}
		if err != nil || !a.Active || a.Epoch != c.Epoch {
			return false, nil
		}
		active = true
	}
	return active, nil
}

// Partitions returns the state of every partition that this disk has heard of.
func (m *Members) Partitions() map[register.PartitionID]register.Member {
	out := map[register.PartitionID]register.Member{}
	for _, p := range m.all() {
		p.mu.RLock()
		out[p.id] = p.m
		p.mu.RUnlock()
	}
	return out
}

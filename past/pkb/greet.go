package pkb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"

	"go.uber.org/zap"
)

// greeter tells fellow members of this disk's start, and remembers theirs, so that a disk that was rolled back is found out before
// it answers (register.Boot). Keys in the store: 'o' this disk's newest start, 'O' what it remembers of others.
type greeter struct {
	store blockstore.Entries
	boot  register.Boot // of this run; not changed

	mu    sync.Mutex // guards the fields below; taken after a partition's lock
	boots register.Boots
	met   map[register.MemberID]bool // fellows that confirmed this start
	later *register.Boot             // a later start of this disk, of which a fellow showed proof

	wake chan struct{} // a token is in it when there may be new fellows
}

var (
	keyBoot  = []byte{'o'}
	keyBoots = []byte{'O'}
)

// greetEvery is the pause between rounds while somebody has not answered.
const greetEvery = 500 * time.Millisecond

// newGreeter counts this start, durably.
func newGreeter(ctx context.Context, store blockstore.Entries, self Identity) (*greeter, error) {
	g := &greeter{store: store, met: map[register.MemberID]bool{}, wake: make(chan struct{}, 1)}
	var last register.Boot
	for _, row := range []struct {
		key []byte
		v   any
	}{{keyBoot, &last}, {keyBoots, &g.boots}} {
		raw, err := store.Get(ctx, row.key)
		if errors.Is(err, blockstore.ErrNotFound) {
			continue
		}
		if err == nil {
			err = wire.Unmarshal(raw, row.v)
		}
		if err != nil {
			return nil, fmt.Errorf("past/pkb: starts: %w: %w", blockstore.ErrCorrupt, err)
		}
	}
	var draw past.ProposerID
	_, _ = rand.Read(draw[:]) // never fails (crypto/rand)
	g.boot = last.Next(draw)
	g.boot.Signature = self.Sign(register.BootMessage(self.Member, g.boot))
	return g, g.save(ctx, keyBoot, &g.boot)
}

func (g *greeter) save(ctx context.Context, key []byte, v any) error {
	var b blockstore.Batch
	b.Set(key, wire.Marshal(v))
	return g.store.Apply(context.WithoutCancel(ctx), &b, true)
}

// memory is a copy of what this disk remembers of others.
func (g *greeter) memory() *register.Boots {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &register.Boots{Seen: slices.Clone(g.boots.Seen)}
}

// learn adds what another disk remembers, durably.
func (g *greeter) learn(ctx context.Context, other *register.Boots) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if other == nil || !g.boots.Learn(*other) {
		return nil
	}
	return g.save(ctx, keyBoots, &g.boots)
}

type greetRequest struct {
	Member register.MemberID `cbor:"1,keyasint"`
	Boot   register.Boot     `cbor:"2,keyasint"`
}

type greetAnswer struct {
	Confirmed bool          `cbor:"1,keyasint,omitempty"`
	Last      register.Boot `cbor:"2,keyasint"` // what is remembered, where that is not confirmed
}

// handleGreet remembers a fellow's start, durably, or shows the one that it does not follow.
func (m *Members) handleGreet(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q greetRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	if q.Member.Node != from.Handle.ID {
		return nil, nil, fmt.Errorf("past/pkb: %v greets as %v: %w", from.Handle.ID, q.Member.Node, rpc.ErrNotAllowed)
	}
	if err := m.self.Verify(q.Member, register.BootMessage(q.Member, q.Boot), q.Boot.Signature); err != nil {
		return nil, nil, err
	}
	g := m.greeter
	g.mu.Lock()
	defer g.mu.Unlock()
	ok, changed := g.boots.Greet(q.Member, q.Boot)
	if !ok {
		last, _ := g.boots.Last(q.Member)
		return &greetAnswer{Last: last}, nil, nil
	}
	if changed {
		if err := g.save(ctx, keyBoots, &g.boots); err != nil {
			return nil, nil, err
		}
	}
	return &greetAnswer{Confirmed: true}, nil, nil
}

// newGreeting is the greeting of an active member of c. It begins with what fellows have said already, in this partition or in others.
// What was begun or entered in this run has to be confirmed too: the disk may have been rolled back to before it began it, or
// entered it, for the first time.
func (m *Members) newGreeting(c *register.Configuration) *register.Greeting {
	out := register.NewGreeting(c, m.self.Member, m.greeter.boot)
	m.greeter.mu.Lock()
	defer m.greeter.mu.Unlock()
	for _, fellow := range out.Missing() {
		if m.greeter.met[fellow] {
			out.Confirm(fellow)
		}
	}
	if m.greeter.later != nil {
		out.Refuse(*m.greeter.later)
	}
	m.greetNow()
	return out
}

// greetNow has new fellows greeted without delay.
func (m *Members) greetNow() {
	select {
	case m.greeter.wake <- struct{}{}:
	default:
	}
}

// confirmed reports whether the member may act. p.mu is held.
func (p *partition) confirmed() bool { return p.greeting == nil || p.greeting.Confirmed() }

// greet tells every fellow of this start until all have confirmed it, and goes on as partitions change, until Close.
func (m *Members) greet() {
	for {
		missing := m.missing()
		var asked sync.WaitGroup
		for fellow := range missing {
			asked.Go(func() { m.greetOne(fellow) })
		}
		asked.Wait()
		m.settleGreetings()
		m.dropCopies()
		select {
		case <-time.After(greetEvery):
		case <-m.greeter.wake:
		case <-m.ctx.Done():
			return
		}
	}
}

// missing returns the fellows in all partitions who have not confirmed this start.
func (m *Members) missing() map[register.MemberID]bool {
	out := map[register.MemberID]bool{}
	for _, p := range m.all() {
		p.mu.RLock()
		if c := p.m.Lineage.Current(); len(p.m.Lineage.Genesis.Members) > 0 && c.Index(m.self.Member) >= 0 {
			for _, fellow := range c.Members {
				out[fellow] = true
			}
		}
		if p.greeting != nil {
			for _, fellow := range p.greeting.Missing() {
				out[fellow] = true
			}
		}
		p.mu.RUnlock()
	}
	g := m.greeter
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(out, m.self.Member)
	for fellow := range out {
		if g.met[fellow] {
			delete(out, fellow)
		}
	}
	return out
}

func (m *Members) greetOne(fellow register.MemberID) {
	ctx, cancel := context.WithTimeout(m.ctx, callTimeout)
	defer cancel()
	var a greetAnswer
	g := m.greeter
	_, err := m.peers.Do(ctx, fellow.Node, rpc.Call{Kind: wire.KindGreet, Body: greetRequest{m.self.Member, g.boot}}, &a)
	switch {
	case err != nil:
	case a.Confirmed:
		g.mu.Lock()
		g.met[fellow] = true
		g.mu.Unlock()
	case m.self.Verify(m.self.Member, register.BootMessage(m.self.Member, a.Last), a.Last.Signature) == nil:
		m.refusedBy(fellow, a.Last)
	}
}

// refusedBy handles a fellow's proof of a later start of this disk.
func (m *Members) refusedBy(fellow register.MemberID, last register.Boot) {
	m.greeter.mu.Lock()
	m.greeter.later = &last
	m.greeter.mu.Unlock()
	for _, p := range m.all() {
		p.mu.Lock()
		known := p.greeting != nil && p.greeting.RolledBack()
		back := p.greeting != nil && p.greeting.Refuse(last)
		p.mu.Unlock()
		if back && !known {
			m.log.Error("this disk was rolled back: a fellow member remembers a later start", zap.Stringer("partition", p.id), zap.Stringer("nodeId", fellow.Node), zap.Uint64("boot", m.greeter.boot.Count), zap.Uint64("remembered", last.Count))
		}
		if back { // again each time: whether the disk can be done without may have changed
			m.damage(p.id)
		}
	}
}

// settleGreetings passes what fellows confirmed on to the partitions that wait for it.
func (m *Members) settleGreetings() {
	g := m.greeter
	for _, p := range m.all() {
		p.mu.Lock()
		if p.greeting != nil {
			g.mu.Lock()
			for _, fellow := range p.greeting.Missing() {
				if g.met[fellow] {
					p.greeting.Confirm(fellow)
				}
			}
			g.mu.Unlock()
		}
		p.mu.Unlock()
	}
}

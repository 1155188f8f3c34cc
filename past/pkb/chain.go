package pkb

import (
	"context"
	"fmt"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"

	"go.uber.org/zap"
)

// This file is a member's part in the chain of configurations: votes, fences, pulls, entrances.

// learn takes over a longer lineage after it was verified against the genesis that this disk knows, if any. p.mu is held for
// writing. It reports whether the lineage is now at least as long as l.
func (m *Members) learn(ctx context.Context, p *partition, l *register.Lineage) error {
	known := len(p.m.Lineage.Genesis.Members) > 0
	if known && l.Epoch() <= p.m.Lineage.Epoch() {
		return nil
	}
	if l.Genesis.Partition != p.id || known && string(wire.Marshal(l.Genesis)) != string(wire.Marshal(p.m.Lineage.Genesis)) {
		return fmt.Errorf("%w: of another partition", register.ErrLineage)
	}
	if err := l.Verify(m.self.Verify); err != nil {
		return err
	}
	p.m.Learn(*l)
	m.greetNow() // it may have new fellows
	return m.save(ctx, p)
}

// adopt is learn for a partition that this disk may never have heard of: the genesis must then be found where geneses are kept.
// p.mu is not held.
func (m *Members) adopt(ctx context.Context, l *register.Lineage) (*partition, error) {
	p := m.partition(l.Genesis.Partition)
	p.mu.RLock()
	known := len(p.m.Lineage.Genesis.Members) > 0
	p.mu.RUnlock()
	current := false
	if !known {
		var err error
		if current, err = m.genesis(ctx, l); err != nil {
			return nil, fmt.Errorf("past/pkb: genesis of %v: %w", p.id, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if current && len(l.Certificates) == 0 { // a message of the first configuration may come before handleGenesis was called
		if err := m.begin(ctx, p, l); err != nil {
			return nil, err
		}
	}
	return p, m.learn(ctx, p, l)
}

// begin makes this disk an active member of the partition's first configuration, if it is one of its members and has neither begun nor
// heard of a later one. A linearizable read has shown that there is none. p.mu is held for writing.
func (m *Members) begin(ctx context.Context, p *partition, l *register.Lineage) error {
	known := len(p.m.Lineage.Genesis.Members) > 0
	if l.Genesis.Index(m.self.Member) < 0 || known && (p.m.Active || p.m.Lineage.Epoch() > l.Genesis.Epoch) {
		return nil
	}
	p.m.Genesis(*l)
	p.greeting = m.newGreeting(&l.Genesis)
	if err := m.save(ctx, p); err != nil {
		return err
	}
	m.log.Info("partition begun", zap.Stringer("partition", p.id))
	return nil
}

// handleLineage tells what this disk knows of a partition, and learns what the asker knows more.
func (m *Members) handleLineage(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q lineageRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	p := m.partition(q.Partition)
	if q.Tell != nil {
		p.mu.Lock()
		var err error
		if len(p.m.Lineage.Genesis.Members) > 0 {
			err = m.learn(ctx, p, q.Tell)
		}
		p.mu.Unlock()
		if err != nil {
			return nil, nil, err
		}
		m.startEnter(p)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return &lineageAnswer{Known: len(p.m.Lineage.Genesis.Members) > 0, Lineage: p.m.Lineage, Epoch: p.m.Epoch, Active: p.m.Active && !p.m.Fenced && p.confirmed()}, nil, nil
}

// handleGenesis turns this disk into an active member of a partition's first configuration, once the record that made it is
// found by a linearizable read. Where the partition has moved on since, the disk may be a member by the lineage, and then pulls.
func (m *Members) handleGenesis(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q fenceRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	l := &q.Lineage
	if len(l.Certificates) > 0 || l.Genesis.Index(m.self.Member) < 0 {
		p, err := m.adopt(ctx, l)
		if err != nil {
			return nil, nil, err
		}
		m.startEnter(p)
		return &fenceAnswer{}, nil, nil
	}
	current, err := m.genesis(ctx, l)
	if err != nil {
		return nil, nil, fmt.Errorf("past/pkb: genesis of %v: %w", l.Genesis.Partition, err)
	}
	p := m.partition(l.Genesis.Partition)
	p.mu.Lock()
	defer p.mu.Unlock()
	if current {
		err = m.begin(ctx, p, l)
	} else if len(p.m.Lineage.Genesis.Members) == 0 {
		err = fmt.Errorf("past/pkb: partition %v has left its genesis: %w", p.id, past.ErrUnavailable)
	}
	if err != nil {
		return nil, nil, err
	}
	return &fenceAnswer{Done: p.m.Active}, nil, nil
}

// handleSlot is the prepare of the choice of a successor.
func (m *Members) handleSlot(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q slotRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	return m.vote(ctx, &q.Lineage, func(p *partition) (register.Slot, bool) {
		return p.m.SlotPrepare(q.Lineage.Epoch(), q.Ballot, m.self.Member)
	}, nil)
}

// handleVote is the accept of the choice of a successor: a signature, once the vote is on disk.
func (m *Members) handleVote(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q voteRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	return m.vote(ctx, &q.Lineage, func(p *partition) (register.Slot, bool) {
		return p.m.SlotAccept(q.Next, q.Ballot, m.self.Member)
	}, func() []byte { return m.self.Sign(register.VoteMessage(&q.Next, q.Ballot)) })
}

func (m *Members) vote(ctx context.Context, l *register.Lineage, step func(*partition) (register.Slot, bool), sign func() []byte) (any, []byte, error) {
	p, err := m.adopt(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var a slotAnswer
	if p.m.Lineage.Epoch() > l.Epoch() {
		longer := p.m.Lineage
		a.standing = standing{Status: register.StatusMoved, Lineage: &longer}
		return &a, nil, nil
	}
	if !p.confirmed() {
		return nil, nil, errUnconfirmed
	}
	var ok bool
	if a.Slot, ok = step(p); !ok {
		a.Refused = true
		return &a, nil, nil
	}
	if err := m.save(ctx, p); err != nil {
		return nil, nil, err
	}
	if sign != nil {
		a.Signature = sign()
	}
	return &a, nil, nil
}

// handleFence makes this disk refuse the epoch before the lineage's newest one, durably.
func (m *Members) handleFence(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q fenceRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	p, err := m.adopt(ctx, &q.Lineage)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.confirmed() {
		return nil, nil, errUnconfirmed
	}
	a := fenceAnswer{Done: p.m.Fence(q.Lineage.Epoch() - 1)}
	if a.Done {
		err = m.save(ctx, p)
	}
	return &a, nil, err
}

// handleEnter makes this disk pull its way into the lineage's newest epoch; Done says that it is active there.
func (m *Members) handleEnter(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q fenceRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	p, err := m.adopt(ctx, &q.Lineage)
	if err != nil {
		return nil, nil, err
	}
	m.startEnter(p)
	p.mu.RLock()
	defer p.mu.RUnlock()
	return &fenceAnswer{Done: p.m.Active && !p.m.Fenced && p.m.Epoch >= q.Lineage.Epoch()}, nil, nil
}

// errUnconfirmed says that fellow members have not confirmed this start yet.
var errUnconfirmed = fmt.Errorf("past/pkb: start not confirmed by fellow members: %w", past.ErrUnavailable)

const (
	enterPauseMin = 20 * time.Millisecond
	enterPauseMax = 2 * time.Second
)

// startEnter starts a goroutine that ends when this disk is active in the newest epoch that it knows and has a place in, or at Close.
func (m *Members) startEnter(p *partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.m.Lineage.Current()
	if p.entering || m.ctx.Err() != nil || c.Index(m.self.Member) < 0 || c.Epoch == p.m.Lineage.Genesis.Epoch || p.m.Active && p.m.Epoch >= c.Epoch {
		return
	}
	p.entering = true
	m.entering.Add(1)
	go func() {
		defer m.entering.Done()
		m.enter(p)
	}()
}

func (m *Members) enter(p *partition) {
	for pause := enterPauseMin; ; pause = min(2*pause, enterPauseMax) {
		begin := m.now()
		done, rows, err := m.enterOnce(p)
		p.mu.Lock()
		if done || m.ctx.Err() != nil {
			p.entering = false
			epoch := p.m.Epoch
			p.mu.Unlock()
			if done && rows >= 0 {
				m.log.Info("partition entered", zap.Stringer("partition", p.id), zap.Uint64("epoch", epoch), zap.Int("groups", rows), zap.Duration("took", m.now().Sub(begin)))
			}
			return
		}
		p.mu.Unlock()
		if err != nil {
			m.log.Debug("partition not entered yet", zap.Stringer("partition", p.id), zap.Error(err))
		}
		select {
		case <-time.After(pause):
		case <-m.ctx.Done():
		}
	}
}

// handleForget drops the groups of epochs before the lineage's newest, or of the partition altogether; the lineage stays, as the
// line that says where the partition went.
func (m *Members) handleForget(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q forgetRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	p, err := m.adopt(ctx, &q.Lineage)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m.Lineage.Epoch() != q.Lineage.Epoch() {
		return nil, nil, fmt.Errorf("past/pkb: forget epoch %d of %d: %w", q.Lineage.Epoch(), p.m.Lineage.Epoch(), past.ErrUnavailable)
	}
	upTo := q.Lineage.Epoch()
	if q.Drop && p.m.Lineage.Current().Closed {
		upTo++
	}
	var b blockstore.Batch
	for _, tag := range []byte{tagGroup, tagBody} {
		b.DeleteRange(rowKey(tag, p.id, 0, ""), rowKey(tag, p.id, upTo, ""))
	}
	p.m.Release()
	p.noteMu.Lock()
	p.journal.End(q.Lineage.Epoch())
	p.noteMu.Unlock()
	if p.m.Epoch < q.Lineage.Epoch() {
		p.m.Active = false // there is nothing to be pulled any more
	}
	b.Set(memberKey(p.id), wire.Marshal(&p.m))
	return nil, nil, m.store.Apply(ctx, &b, true)
}

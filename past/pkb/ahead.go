package pkb

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"larder/blockstore"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"

	"go.uber.org/zap"
)

// This file is the copy ahead of a change of configuration (docs/notes/pkb.md): a member's two sides of it, and the driver's.

const (
	pullBytesMax = 1 << 20 // of groups in one answer, about
	pullRowsMax  = 2000

	aheadAnswerMax = 2 * time.Second        // a member's answer waits so long for the copy
	aheadPasses    = 4                      // each copies what changed during the one before
	aheadShort     = 200 * time.Millisecond // a pass this short leaves little
	aheadKeep      = 5 * time.Minute        // a copy that nobody asks for any more goes
	aheadWait      = 10 * time.Second       // a change waits so long at a time
	aheadPatience  = 30 * time.Minute       // and the caretaker comes back to it so long
)

// copying is a goroutine that copies ahead.
type copying struct {
	epoch  uint64
	done   chan struct{} // closed when it ends
	cancel context.CancelFunc
}

// handleAhead makes this disk copy the groups of the lineage's newest epoch.
func (m *Members) handleAhead(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q aheadRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	p, err := m.adopt(ctx, &q.Lineage)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	epoch := q.Lineage.Epoch()
	if p.m.Lineage.Epoch() != epoch || m.ctx.Err() != nil {
		p.mu.Unlock()
		return &aheadAnswer{Done: true}, nil, nil
	}
	c := p.copying
	if c == nil {
		run, cancel := context.WithCancel(m.ctx)
		c = &copying{epoch: epoch, done: make(chan struct{}), cancel: cancel}
		p.copying = c
		m.entering.Go(func() { m.copyAhead(run, p, c) })
	}
	p.mu.Unlock()
	select {
	case <-c.done:
		return &aheadAnswer{Done: true}, nil, nil
	case <-time.After(aheadAnswerMax):
	case <-ctx.Done():
	}
	return &aheadAnswer{}, nil, nil
}

// copyAhead copies until a pass is short.
func (m *Members) copyAhead(ctx context.Context, p *partition, c *copying) {
	for range aheadPasses {
		begin := time.Now()
		if err := m.copyOnce(ctx, p, c.epoch); err != nil {
			m.log.Debug("partition not copied ahead", zap.Stringer("partition", p.id), zap.Error(err))
			break
		}
		if time.Since(begin) < aheadShort {
			break
		}
	}
	c.cancel()
	p.mu.Lock()
	p.copying = nil
	p.mu.Unlock()
	close(c.done)
}

// copyOnce copies from each member that answers what changed since the last pass, at first everything.
func (m *Members) copyOnce(ctx context.Context, p *partition, epoch uint64) error {
	p.inMu.Lock()
	defer p.inMu.Unlock()
	p.mu.RLock()
	before := p.m.Lineage.Current()
	p.mu.RUnlock()
	if before.Epoch != epoch {
		return errMoved
	}
	in, err := m.take(p, before)
	if err != nil {
		return err
	}
	p.in = in
	for place, member := range before.Members {
		if !m.peers.Ring().Reachable(member.Node) {
			continue
		}
		if _, e := in.pull(ctx, place, true); e != nil {
			err = errors.Join(err, e)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	_, e := in.settle(ctx, nil)
	return errors.Join(err, e)
}

// dropCopy forgets what was copied ahead. p.inMu is held.
func (m *Members) dropCopy(p *partition) error {
	if p.in == nil {
		return nil
	}
	in := p.in
	p.in = nil
	return in.clear()
}

// dropCopies forgets copies that were not used.
func (m *Members) dropCopies() {
	for _, p := range m.all() {
		if !p.inMu.TryLock() {
			continue
		}
		if p.in != nil && m.now().Sub(p.in.used) > aheadKeep {
			if err := m.dropCopy(p); err != nil {
				m.log.Debug("copy not dropped", zap.Stringer("partition", p.id), zap.Error(err))
			}
		}
		p.inMu.Unlock()
	}
}

// clearAhead removes rows of epochs that this disk has not entered: what a run before this one copied.
func (m *Members) clearAhead(p *partition) {
	p.inMu.Lock()
	defer p.inMu.Unlock()
	if p.in != nil {
		return
	}
	p.mu.RLock()
	next := p.m.Epoch + 1
	p.mu.RUnlock()
	var b blockstore.Batch
	for _, tag := range []byte{tagGroup, tagBody} {
		b.DeleteRange(rowKey(tag, p.id, next, ""), after(append([]byte{tag}, p.id[:]...)))
	}
	if err := m.store.Apply(m.ctx, &b, false); err != nil {
		m.log.Debug("copy not cleared", zap.Stringer("partition", p.id), zap.Error(err))
	}
}

// --- the side that is copied from

// handlePull gives a page of the groups that are frozen since this disk refused the epoch; ahead of a change, of the groups as they are.
func (m *Members) handlePull(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q pullRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	p := m.partition(q.Partition)
	head, ok := m.pullable(p, &q)
	a := pullAnswer{Head: head}
	if !ok {
		a.Status = register.StatusNotActive
		return &a, nil, nil
	}
	if q.After == "" {
		a.Boots = m.greeter.memory()
		if q.Ahead { // before the rows are read
			var draw [16]byte
			_, _ = rand.Read(draw[:]) // never fails (crypto/rand)
			p.noteMu.Lock()
			begun := p.journal.Begin(q.Epoch, draw)
			p.noteMu.Unlock()
			a.Begun = &begun
		}
	}
	names, more, err := m.pullNames(ctx, p, &q)
	if errors.Is(err, errStale) {
		a.Stale = true
		return &a, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	size := 0
	for i, name := range names {
		if size > pullBytesMax {
			more = true
			break
		}
		row := pullRow{Name: name}
		if row.Group, err = m.pullRow(ctx, p, &q, name); err != nil {
			return nil, nil, err
		}
		size += groupSize(&row.Group) + len(name)
		a.Rows, a.Last = append(a.Rows, row), names[i]
	}
	a.More = more
	if _, ok := m.pullable(p, &q); !ok { // rows may have gone meanwhile
		return &pullAnswer{standing: standing{Status: register.StatusNotActive}}, nil, nil
	}
	return &a, nil, nil
}

// pullable reports whether this disk has the groups that q asks for.
func (m *Members) pullable(p *partition, q *pullRequest) (register.FrozenHead, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if q.Ahead {
		s := p.m.Check(q.Epoch, m.self.Member)
		return register.FrozenHead{}, (s == register.StatusReady || s == register.StatusClosed) && p.confirmed()
	}
	head, frozen := p.m.HeadOf(q.Epoch)
	return head, frozen && p.confirmed()
}

// pullNames lists the groups of a page.
func (m *Members) pullNames(ctx context.Context, p *partition, q *pullRequest) (names []string, more bool, err error) {
	if q.Since != nil {
		p.noteMu.Lock()
		defer p.noteMu.Unlock()
		names, more, ok := p.journal.Since(q.Epoch, *q.Since, q.After, pullRowsMax)
		if !ok {
			return nil, false, errStale
		}
		return names, more, nil
	}
	lower := rowKey(tagGroup, p.id, q.Epoch, "")
	upper := after(lower)
	if q.After != "" {
		lower = append(rowKey(tagGroup, p.id, q.Epoch, q.After), 0)
	}
	size := 0
	err = m.store.Scan(ctx, lower, upper, func(key, value []byte) bool {
		if more = len(names) == pullRowsMax || size > pullBytesMax; more {
			return false
		}
		names, size = append(names, string(key[rowPrefixLen:])), size+len(value)
		return true
	})
	return names, more, err
}

// pullRow reads one group. Ahead of a change it is read as for an operation: what others count as this member's vote is on disk.
func (m *Members) pullRow(ctx context.Context, p *partition, q *pullRequest, name string) (register.Group, error) {
	if !q.Ahead {
		return m.load(ctx, p, q.Epoch, name, true)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	lock := p.group(name)
	lock.Lock()
	defer lock.Unlock()
	return m.load(ctx, p, q.Epoch, name, true)
}

// groupSize is about what g takes in an answer.
func groupSize(g *register.Group) int {
	size := 512
	for _, e := range g.Value.Entries {
		size += len(e.Record.Body) + len(e.Record.Value) + 128
	}
	for _, e := range g.Log {
		size += 80 + 17*len(e.Ops)
	}
	return size
}

// --- the driver's side

// copyAhead has the members of want copy what the present ones have, so that under the fence only what changed since is left to be
// copied. It waits at most aheadWait and reports whether nobody is still at it; whoever does not answer holds nothing up.
func (r *Registers) copyAhead(ctx context.Context, rt *route, want *register.Configuration) (done bool) {
	lineage, _ := rt.current()
	ctx, cancel := context.WithTimeout(ctx, aheadWait)
	defer cancel()
	var busy atomic.Bool
	var asked sync.WaitGroup
	for _, member := range want.Members {
		asked.Go(func() {
			for {
				call, cancel := context.WithTimeout(ctx, aheadAnswerMax+callTimeout)
				var a aheadAnswer
				_, err := r.cfg.Peers.Do(call, member.Node, rpc.Call{Kind: wire.KindAhead, Body: aheadRequest{lineage}}, &a)
				cancel()
				switch {
				case a.Done || err != nil && ctx.Err() == nil:
					return
				case ctx.Err() != nil:
					busy.Store(true)
					return
				}
			}
		})
	}
	asked.Wait()
	return !busy.Load()
}

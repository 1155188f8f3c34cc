package diskstore

import (
	"context"
	"sync"

	"larder/blockstore"
)

// gate counts running operations, so that Close can wait for them. Operations may nest: one that comes after Close has
// begun is refused and never waits.
type gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when closed is set and n is 0
}

func newGate() *gate { return &gate{idle: make(chan struct{})} }

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return blockstore.ErrClosed
	}
	g.n++
	return nil
}

func (g *gate) exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.closed {
		close(g.idle)
	}
}

// close refuses what comes later and waits for the rest. Only the first call returns nil.
func (g *gate) close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return blockstore.ErrClosed
	}
	g.closed = true
	if g.n == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	<-g.idle
	return nil
}

// enter begins an operation; the caller ends it with gate.exit.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.gate.enter()
}

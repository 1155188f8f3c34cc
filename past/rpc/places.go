package rpc

import (
	"context"
	"sync"

	"larder/pastry"
)

// How many requests a node answers at once, in all and from one peer; further ones wait on their streams, which the transport bounds.
// A peer that sends requests and never ends them takes its own places, and not those of others.
const (
	answering     = 256
	answeringPeer = 64
)

// places are what requests that are being answered take. The zero places are not ready; see newPlaces.
type places struct {
	all   chan struct{} // a token for each request being answered
	mu    sync.Mutex    // guards peers
	peers map[pastry.NodeID]*share
}

// share is one peer's part of the places, there while somebody uses it.
type share struct {
	taken chan struct{} // a token for each of its requests being answered, or waiting for a place of all
	users int           // requests that hold or want a token
}

func newPlaces() places {
	return places{all: make(chan struct{}, answering), peers: map[pastry.NodeID]*share{}}
}

// take waits for a place for a request of peer's. It returns false if ctx ends first; else the caller calls leave.
func (p *places) take(ctx context.Context, peer pastry.NodeID) bool {
	p.mu.Lock()
	s := p.peers[peer]
	if s == nil {
		s = &share{taken: make(chan struct{}, answeringPeer)}
		p.peers[peer] = s
	}
	s.users++
	p.mu.Unlock()
	select {
	case s.taken <- struct{}{}:
	case <-ctx.Done():
		p.done(peer, s)
		return false
	}
	select {
	case p.all <- struct{}{}:
		return true
	case <-ctx.Done():
		<-s.taken
		p.done(peer, s)
		return false
	}
}

// leave gives a place back.
func (p *places) leave(peer pastry.NodeID) {
	<-p.all
	p.mu.Lock()
	s := p.peers[peer]
	p.mu.Unlock()
	<-s.taken
	p.done(peer, s)
}

func (p *places) done(peer pastry.NodeID, s *share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(p.peers, peer)
	}
}

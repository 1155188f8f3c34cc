// Package memnet is overlay.Transport in memory, for tests of live code: messages and streams between the nodes of one process,
// with a latency, lost messages, cut links and closed nodes. It works inside a testing/synctest bubble.
//
// It takes nodeIds and roles on trust: who makes a node says who it is.
package memnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// Errors of Identify and Open.
var (
	ErrUnreachable = errors.New("memnet: unreachable")
	ErrOtherNode   = errors.New("memnet: another node answers at that address")
	ErrClosed      = errors.New("memnet: closed")
)

// dialTimeout is how long Identify and Open try, every dialRetry, to reach a node that does not answer.
const (
	dialTimeout = 5 * time.Second
	dialRetry   = 200 * time.Millisecond
)

// Network connects the nodes of one test. Its methods are safe for concurrent use.
type Network struct {
	latency time.Duration

	mu    sync.Mutex // before pipe.mu
	nodes map[netip.AddrPort]*Transport
	cut   map[link]bool
	loss  float64
	rand  *rand.Rand
}

// link is an unordered pair of nodes: the smaller nodeId first.
type link struct{ a, b pastry.NodeID }

func linkOf(a, b pastry.NodeID) link {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return link{a, b}
}

// New returns a network without nodes, in which a message takes latency.
func New(latency time.Duration) *Network {
	return &Network{
		latency: latency, nodes: map[netip.AddrPort]*Transport{}, cut: map[link]bool{}, rand: rand.New(rand.NewPCG(1, 1)),
	}
}

// Handle returns the handle of node id at the loopback address with port.
func Handle(id pastry.NodeID, port uint16) pastry.NodeHandle {
	return pastry.NodeHandle{ID: id, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}).As16(), Port: port}
}

// Node attaches a node to n at its handle's address. It replaces a closed one there, and panics if one is open.
func (n *Network) Node(self wire.Peer) *Transport {
	t := &Transport{
		net: n, self: self, inbox: make(chan delivery, inboxSize), closing: make(chan struct{}),
		streams: map[*stream]struct{}{},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	addr := addrOf(self.Handle)
	if n.nodes[addr] != nil {
		panic(fmt.Sprintf("memnet: %v is taken", addr))
	}
	n.nodes[addr] = t
	return t
}

// SetLoss makes the network lose that share of all messages; streams lose nothing.
func (n *Network) SetLoss(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

// Cut cuts or mends the link between two nodes. While it is cut messages are lost, streams break and none opens.
func (n *Network) Cut(a, b pastry.NodeID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[linkOf(a, b)] = cut
	if cut {
		n.breakStreams(func(s *stream) bool { return linkOf(s.local, s.remote) == linkOf(a, b) })
	}
}

// Isolate cuts or mends every link of a node.
func (n *Network) Isolate(id pastry.NodeID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.nodes {
		if other := t.self.Handle.ID; other != id {
			n.cut[linkOf(id, other)] = cut
		}
	}
	if cut {
		n.breakStreams(func(s *stream) bool { return s.local == id || s.remote == id })
	}
}

// breakStreams cancels those that match. n.mu is held.
func (n *Network) breakStreams(match func(*stream) bool) {
	for _, t := range n.nodes {
		for s := range t.streams {
			if match(s) {
				s.breakWith(ErrUnreachable)
			}
		}
	}
}

// at returns the open node at addr that from can reach, if there is one. n.mu is held.
func (n *Network) at(addr netip.AddrPort, from pastry.NodeID) *Transport {
	t := n.nodes[addr]
	if t == nil || n.cut[linkOf(from, t.self.Handle.ID)] {
		return nil
	}
	return t
}

func addrOf(h pastry.NodeHandle) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port)
}

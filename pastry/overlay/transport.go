package overlay

import (
	"context"
	"net/netip"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// Transport carries messages and streams between nodes and proves who is at the other end. quicnet is the one over QUIC; memnet
// is one in memory, for tests. All methods are safe for concurrent use.
type Transport interface {
	// Self is this node as others reach it.
	Self() pastry.NodeHandle
	// Start makes the transport deliver to r. It is called once, before anything else.
	Start(r Receiver) error
	// Send tries to deliver message (at most wire.MessageMax bytes) to the node with to.ID at to's address: best effort, no
	// order, no answer. It never blocks: where a queue is full the message is dropped and counted. If another node answers
	// at that address nothing is delivered. It does not keep message after it returns.
	Send(to pastry.NodeHandle, message []byte)
	// Identify connects to addr and returns who is there, for seeds known only by their address.
	Identify(ctx context.Context, addr netip.AddrPort) (pastry.NodeHandle, error)
	// Open starts a stream to the node. An error means that the peer cannot be reached or is not who it should be.
	Open(ctx context.Context, to pastry.NodeHandle, service wire.Service) (wire.Stream, error)
	// RTT returns the smoothed round-trip time to a node that there is a connection to.
	RTT(id pastry.NodeID) (time.Duration, bool)
	// Close ends every connection and waits for the transport's goroutines.
	Close() error
}

// Receiver takes what a Transport delivers. It is declared in wire, so that transports name it without importing this package.
type Receiver = wire.Receiver

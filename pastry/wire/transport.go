package wire

import (
	"context"
	"io"
	"time"

	"larder/pastry"
)

// MessageMax is the largest overlay message, in bytes. A transport may carry it in a datagram or on a stream.
const MessageMax = 16 << 10

// Roles is the set of what a certificate lets its node do, as bits.
type Roles uint8

// The roles of design.md §1. A node may have several; every node routes.
const (
	RoleStorage Roles = 1 << iota // holds fragments and records
	RoleGateway                   // serves S3; holds the realm's sealing keys
	RoleIssuer                    // admits nodes
)

// Has reports whether r holds every role of want.
func (r Roles) Has(want Roles) bool { return r&want == want }

// Peer is the other end of a link as its certificate proves it.
type Peer struct {
	Handle pastry.NodeHandle
	Roles  Roles
}

// Service is the first byte of each stream: which part of the node it is for.
type Service uint8

// Services of larder/1. ServiceOverlay is the transport's own, for messages that do not fit a datagram.
const (
	ServiceOverlay Service = 1
	ServicePast    Service = 2
)

// Stream is one request and its answer between two proven peers: a QUIC stream, or a pipe in tests. It belongs to one
// goroutine at a time, except Cancel, which anybody may call.
type Stream interface {
	io.Reader
	io.Writer
	// CloseWrite ends the sending side: the peer reads io.EOF after what was written.
	CloseWrite() error
	// Cancel ends both sides at once; reads and writes fail from then on. It is harmless after a proper end and releases
	// the stream, so callers defer it.
	Cancel()
	SetDeadline(t time.Time) error
}

// Receiver takes what a transport delivers.
type Receiver interface {
	// Message handles one message. It must not block; message is valid only during the call.
	Message(from pastry.NodeHandle, message []byte)
	// Stream handles one stream that a peer opened. It is called on a goroutine of its own and owns s.
	Stream(ctx context.Context, from Peer, service Service, s Stream)
}

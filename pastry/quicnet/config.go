package quicnet

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"time"

	"larder/auth/realm"
)

// Config is what a Transport is made of. Zero values of the fields after NoBulk mean the defaults given.
type Config struct {
	// Listen is the UDP address to bind, such as 127.0.0.1:7000; port 0 takes a free one.
	Listen string
	// Advertise is where others reach this node, host:port or host; port 0 or none is the bound one. If it is empty the bound
	// address is advertised, or if that is unspecified the first global address of the machine's interfaces.
	Advertise string
	// Credentials prove this node and judge others.
	Credentials *realm.Credentials
	// Features are bits announced to every peer (design.md §6).
	Features uint64
	// Join answers a join request with certificates (realm.Identity.Admit). If it is nil, joiners are not let in. An error's
	// text is sent to the joiner.
	Join func(ctx context.Context, request []byte, from Joiner) (answer []byte, err error)

	// NoBulk leaves out the bulk lane: streams of wire.ServicePast go over QUIC like the rest. Either end may leave it out.
	NoBulk bool

	// DialTimeout bounds connecting, hello included. Default 3 s.
	DialTimeout time.Duration
	// LinkTimeout is how long a peer may be silent before its connection, kept alive with a packet each third of this, is
	// given up, and reads and writes of its streams fail. Default 6 s.
	LinkTimeout time.Duration
	// IdleTimeout is how long a connection without streams or messages is kept. Default 60 s.
	IdleTimeout time.Duration
	// DialBackoff is how long a failure to connect is remembered: Open returns it again and Send drops. Default 1 s.
	DialBackoff time.Duration
	// QueueMax is how many messages wait for one peer before Send drops. Default 256.
	QueueMax int
}

// Joiner is who asks for admission.
type Joiner struct {
	Addr netip.AddrPort
	Key  ed25519.PublicKey // proved by the handshake
}

// Limits of what peers may ask of us.
const (
	streamsMax       = 1024            // concurrent bidirectional streams a peer may open
	messageStreams   = 256             // concurrent unidirectional ones
	offencesMax      = 64              // malformed messages and streams before a connection is closed
	firstByteTimeout = 5 * time.Second // for a stream to say its service, and for a message's stream to end
	retireGrace      = 5 * time.Second // for streams that were on their way when a connection was superseded
	joinsMax         = 16              // concurrent admissions
	joinsPerSecond   = 10
	unprovenPerSec   = 100 // new connections, beyond which addresses are validated by Retry (RFC 9000 §8.1.2)
)

// Errors that callers branch on.
var (
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("transport is closed")
	// ErrNotStarted says that Start was not called yet.
	ErrNotStarted = errors.New("transport is not started")
	// ErrSelf says that a node tried to open a stream to itself.
	ErrSelf = errors.New("that is this node itself")
	// ErrRefusedByPeer says that the peer did not accept this node's certificate.
	ErrRefusedByPeer = errors.New("the peer refused this node's certificate")
)

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	setDefault(&c.DialTimeout, 3*time.Second)
	setDefault(&c.LinkTimeout, 6*time.Second)
	setDefault(&c.IdleTimeout, 60*time.Second)
	setDefault(&c.DialBackoff, time.Second)
	setDefault(&c.QueueMax, 256)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

package quicnet

import (
	"sync"
	"sync/atomic"
	"time"
)

// counters count since Listen.
type counters struct {
	messagesSent, messagesDropped, messagesReceived atomic.Uint64
	datagramsSent                                   atomic.Uint64
	streamsOpened, streamsAccepted, bulkStreams     atomic.Uint64
	dials, dialsFailed, accepted, refused           atomic.Uint64
	offences, linksMisbehaved                       atomic.Uint64
	joins, joinsRefused                             atomic.Uint64
}

// Stats are counts since Listen, and the connections that there are now.
type Stats struct {
	MessagesSent     uint64 // handed to QUIC
	MessagesDropped  uint64 // queue full, peer not reached, or connection lost
	MessagesReceived uint64
	DatagramsSent    uint64 // those of MessagesSent that went in a datagram
	StreamsOpened    uint64
	StreamsAccepted  uint64
	BulkStreams      uint64 // those of either that went over TCP
	Dials            uint64
	DialsFailed      uint64
	Accepted         uint64 // connections that peers made
	Refused          uint64 // handshakes turned away, with who came and with whom was dialed, and TCP connections that came to nothing
	Offences         uint64 // malformed, oversized or endless messages and streams
	LinksMisbehaved  uint64 // connections closed for too many of them
	Joins            uint64
	JoinsRefused     uint64
	Links            int
	BulkConns        int
}

// Stats returns the transport's counts.
func (t *Transport) Stats() Stats {
	t.mu.Lock()
	links, bulk := len(t.links), 0
	for _, pool := range t.pools {
		bulk += len(pool.conns)
	}
	t.mu.Unlock()
	c := &t.counters
	return Stats{
		MessagesSent: c.messagesSent.Load(), MessagesDropped: c.messagesDropped.Load(),
		MessagesReceived: c.messagesReceived.Load(), DatagramsSent: c.datagramsSent.Load(),
		StreamsOpened: c.streamsOpened.Load(), StreamsAccepted: c.streamsAccepted.Load(), BulkStreams: c.bulkStreams.Load(),
		Dials: c.dials.Load(), DialsFailed: c.dialsFailed.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		Offences: c.offences.Load(), LinksMisbehaved: c.linksMisbehaved.Load(),
		Joins: c.joins.Load(), JoinsRefused: c.joinsRefused.Load(),
		Links: links, BulkConns: bulk,
	}
}

// bucket is a token bucket: rate tokens a second, at most one second's worth.
type bucket struct {
	rate float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// take takes a token if there is one.
func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.tokens = b.rate
	} else {
		b.tokens = min(b.rate, b.tokens+b.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

package quicnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/zap"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/wire"
)

// peer is what is known of one node. Transport.mu guards all of it.
type peer struct {
	id   pastry.NodeID
	link *link // the connection in use; nil if there is none
	dial *dialCall

	failed     error // of the last dial; nil if it succeeded since
	failedAt   time.Time
	failedAddr netip.AddrPort

	queue   [][]byte // framed messages, oldest first; at most Config.QueueMax
	sending bool     // a goroutine is emptying queue
}

// dialCall is one attempt that any number of callers wait for. link and err are set before done is closed.
type dialCall struct {
	done chan struct{}
	link *link
	err  error
}

// resolve tells those who wait. The caller holds Transport.mu; the first result stands.
func (c *dialCall) resolve(l *link, err error) {
	if c.link == nil && c.err == nil {
		c.link, c.err = l, err
		close(c.done)
	}
}

// peerLocked returns the entry of id, made if need be.
func (t *Transport) peerLocked(id pastry.NodeID) *peer {
	p := t.peers[id]
	if p == nil {
		p = &peer{id: id}
		t.peers[id] = p
	}
	return p
}

// sweepLocked forgets a peer of whom there is nothing to remember.
func (t *Transport) sweepLocked(p *peer, now time.Time) {
	if p.link == nil && p.dial == nil && !p.sending && (p.failed == nil || now.Sub(p.failedAt) > t.cfg.DialBackoff) {
		delete(t.peers, p.id)
	}
}

// connect returns the connection to a node, made if need be. A failure less than Config.DialBackoff old is returned again
// instead of trying at once, unless the node has moved.
func (t *Transport) connect(ctx context.Context, to pastry.NodeHandle) (*link, error) {
	addr := addrOf(to)
	t.mu.Lock()
	if err := t.usableLocked(to.ID); err != nil {
		t.mu.Unlock()
		return nil, err
	}
	p := t.peerLocked(to.ID)
	if p.link != nil {
		defer t.mu.Unlock()
		return p.link, nil
	}
	if p.dial == nil {
		if p.failed != nil && p.failedAddr == addr && time.Since(p.failedAt) < t.cfg.DialBackoff {
			defer t.mu.Unlock()
			return nil, p.failed
		}
		call := &dialCall{done: make(chan struct{})}
		p.dial = call
		t.goLocked(func() { t.runDial(p, call, addr) })
	}
	call := p.dial
	t.mu.Unlock()
	select {
	case <-call.done:
		return call.link, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// usableLocked says why nothing can be sent to id, if so.
func (t *Transport) usableLocked(id pastry.NodeID) error {
	switch {
	case t.closed:
		return ErrClosed
	case !t.started:
		return ErrNotStarted
	case id == t.self.ID:
		return ErrSelf
	}
	return nil
}

// runDial makes one attempt for p and tells those who wait for call.
func (t *Transport) runDial(p *peer, call *dialCall, addr netip.AddrPort) {
	l, err := t.dial(t.ctx, addr, p.id)
	if err == nil {
		l, err = t.register(l)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p.dial = nil
	if err != nil && p.link == nil {
		p.failed, p.failedAt, p.failedAddr = err, time.Now(), addr
	}
	call.resolve(l, err)
}

// dial connects to addr and exchanges hellos. expect may be zero: whoever is there.
func (t *Transport) dial(ctx context.Context, addr netip.AddrPort, expect pastry.NodeID) (l *link, err error) {
	t.counters.dials.Add(1)
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			t.dialFailed(addr, expect, err)
		}
	}()
	conn, err := t.quic.Dial(ctx, net.UDPAddrFromAddrPort(addr), t.cfg.Credentials.ClientConfig(expect, 0, realm.Protocol), t.quicConfig())
	if err != nil {
		return nil, explain(err)
	}
	h, err := t.sayHello(ctx, conn)
	if err != nil {
		conn.CloseWithError(codeBadHello, "hello")
		return nil, explain(err)
	}
	return t.newLink(conn, h, true)
}

// dialFailed logs and counts. That somebody else is where a peer was looked for, or that the peer would not have this node, is for an
// operator to know: neither goes by itself.
func (t *Transport) dialFailed(addr netip.AddrPort, expect pastry.NodeID, err error) {
	t.counters.dialsFailed.Add(1)
	var stranger *realm.RefusedError
	switch {
	case errors.As(err, &stranger):
		t.refused(net.UDPAddrFromAddrPort(addr), err)
	case errors.Is(err, ErrRefusedByPeer) && t.refusals.take(time.Now()):
		t.log.Warn("refused by the peer", zap.Stringer("nodeId", expect), zap.Stringer("remote", addr), zap.Error(err))
	default:
		t.log.Debug("dial failed", zap.Stringer("nodeId", expect), zap.Stringer("remote", addr), zap.Error(err))
	}
}

// sayHello is the dialer's half of the exchange.
func (t *Transport) sayHello(ctx context.Context, conn *quic.Conn) (hello, error) {
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return hello{}, err
	}
	defer s.CancelRead(streamDone)
	deadline, _ := ctx.Deadline()
	s.SetDeadline(deadline)
	if _, err := s.Write(t.hello); err != nil {
		return hello{}, err
	}
	s.Close() // fails where the peer has read all it wants already
	return readHello(s)
}

// register makes a new connection known, and the one in use unless it loses against another: the one of two that were made at
// the same time which the node of smaller nodeId dialed, else the newest. It returns the connection in use.
func (t *Transport) register(l *link) (*link, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		l.close(codeClosing, "closing")
		return nil, ErrClosed
	}
	p := t.peerLocked(l.peer.Handle.ID)
	t.links[l] = struct{}{}
	t.ensurePoolLocked(l.bulkKey())
	switch old := p.link; {
	case old == nil:
		p.link = l
	case old.hello.instance != l.hello.instance:
		p.link = l
		old.close(codeSuperseded, "restarted") // nobody is at its other end any more
	case old.dialed != l.dialed && l.born.Sub(old.born) < 2*t.cfg.DialTimeout && t.wins(old):
		l.retire()
	default:
		p.link = l
		old.retire()
	}
	p.failed = nil
	if p.dial != nil {
		p.dial.resolve(p.link, nil)
	}
	t.goLocked(l.run)
	return p.link, nil
}

// wins says whether l was dialed by the node of smaller nodeId: what both ends agree on.
func (t *Transport) wins(l *link) bool {
	return l.dialed == (t.self.ID.Compare(l.peer.Handle.ID) < 0)
}

// drop forgets a connection that has ended.
func (t *Transport) drop(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.links, l)
	if p := t.peers[l.peer.Handle.ID]; p != nil && p.link == l {
		p.link = nil
		t.sweepLocked(p, time.Now())
	}
	t.dropPoolLocked(l.bulkKey())
}

// Disconnect closes the connections to a node: one that was revoked.
func (t *Transport) Disconnect(id pastry.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for l := range t.links {
		if l.peer.Handle.ID == id {
			l.close(codeRefused, "revoked")
		}
	}
}

// Send tries to deliver message to a node: best effort, no order, no answer. It never blocks: where the queue is full, the
// message too long or the node not reached, the message is dropped and counted.
func (t *Transport) Send(to pastry.NodeHandle, message []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(message) > wire.MessageMax || t.usableLocked(to.ID) != nil {
		t.counters.messagesDropped.Add(1)
		return
	}
	p := t.peerLocked(to.ID)
	if len(p.queue) >= t.cfg.QueueMax {
		t.counters.messagesDropped.Add(1)
		return
	}
	frame := make([]byte, 1+len(message))
	frame[0] = byte(wire.ServiceOverlay)
	copy(frame[1:], message)
	p.queue = append(p.queue, frame)
	if !p.sending {
		p.sending = t.goLocked(func() { t.sendQueue(p, to) })
	}
}

// sendQueue empties a peer's queue and ends. It runs while p.sending.
func (t *Transport) sendQueue(p *peer, to pastry.NodeHandle) {
	for {
		l, err := t.connect(t.ctx, to)
		if err != nil {
			t.dropQueue(p)
			return
		}
		t.mu.Lock()
		if len(p.queue) == 0 {
			p.sending, p.queue = false, nil
			t.mu.Unlock()
			return
		}
		frame := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		t.mu.Unlock()
		if err := l.sendMessage(frame); err != nil {
			t.counters.messagesDropped.Add(1)
			t.log.Debug("message lost", zap.Stringer("nodeId", to.ID), zap.Error(err))
			continue
		}
		t.counters.messagesSent.Add(1)
	}
}

// dropQueue ends sending to a peer that was not reached.
func (t *Transport) dropQueue(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters.messagesDropped.Add(uint64(len(p.queue)))
	p.queue, p.sending = nil, false
}

// Open starts a stream to a node. It connects if need be, which takes at most Config.DialTimeout; an error means that the node
// cannot be reached or is not who it should be. On a connection that exists, opening costs no round trip: where the peer has
// just vanished, reads fail instead, at the latest after Config.LinkTimeout.
func (t *Transport) Open(ctx context.Context, to pastry.NodeHandle, service wire.Service) (wire.Stream, error) {
	for attempt := 0; ; attempt++ {
		l, err := t.connect(ctx, to)
		if err != nil {
			return nil, fmt.Errorf("quicnet: open stream to %s at %s: %w", to.ID, addrOf(to), err)
		}
		if service == wire.ServicePast && l.hello.bulkPort != 0 && !t.cfg.NoBulk && l.conn.Context().Err() == nil {
			if s := t.openBulk(ctx, l, service); s != nil {
				t.counters.streamsOpened.Add(1)
				return s, nil
			}
		}
		s, err := l.open(ctx, service)
		if err == nil {
			t.counters.streamsOpened.Add(1)
			return s, nil
		}
		if attempt > 0 || l.conn.Context().Err() == nil {
			return nil, fmt.Errorf("quicnet: open stream to %s at %s: %w", to.ID, addrOf(to), err)
		}
		t.drop(l) // it ended before its goroutine said so: connect anew, once
	}
}

// Identify connects to addr and returns who is there. It makes no new connection where there is one to that address.
func (t *Transport) Identify(ctx context.Context, addr netip.AddrPort) (pastry.NodeHandle, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	t.mu.Lock()
	if err := t.usableLocked(pastry.NodeID{}); err != nil {
		t.mu.Unlock()
		return pastry.NodeHandle{}, fmt.Errorf("quicnet: identify %s: %w", addr, err)
	}
	for _, p := range t.peers {
		if p.link != nil && (addrOf(p.link.peer.Handle) == addr || p.link.remote() == addr) {
			defer t.mu.Unlock()
			return p.link.peer.Handle, nil
		}
	}
	t.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(t.ctx, cancel)
	defer stop()
	l, err := t.dial(ctx, addr, pastry.NodeID{})
	if err == nil && l.peer.Handle.ID == t.self.ID {
		l.close(codeClosing, "self")
		return t.self, nil
	}
	if err == nil {
		l, err = t.register(l)
	}
	if err != nil {
		return pastry.NodeHandle{}, fmt.Errorf("quicnet: identify %s: %w", addr, err)
	}
	return l.peer.Handle, nil
}

// RTT returns the smoothed round-trip time to a node that there is a connection to, as QUIC measures it (RFC 9002 §5.3).
func (t *Transport) RTT(id pastry.NodeID) (time.Duration, bool) {
	if l := t.linkTo(id); l != nil {
		rtt := l.conn.ConnectionStats().SmoothedRTT
		return rtt, rtt > 0
	}
	return 0, false
}

// Features returns what a node that there is a connection to announced.
func (t *Transport) Features(id pastry.NodeID) (uint64, bool) {
	if l := t.linkTo(id); l != nil {
		return l.hello.features, true
	}
	return 0, false
}

// linkTo returns the connection in use to a node, or nil.
func (t *Transport) linkTo(id pastry.NodeID) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		return p.link
	}
	return nil
}

// explain adds to QUIC's error what it means here.
func explain(err error) error {
	var transport *quic.TransportError
	if errors.As(err, &transport) && transport.Remote && transport.ErrorCode.IsCryptoError() {
		return fmt.Errorf("%w: %w", ErrRefusedByPeer, err)
	}
	return err
}

package quicnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/zap"

	"larder/auth/realm"
	"larder/pastry/wire"
)

// Codes with which connections are closed, for the peer's log.
const (
	codeClosing    quic.ApplicationErrorCode = 0
	codeIdle       quic.ApplicationErrorCode = 1
	codeSuperseded quic.ApplicationErrorCode = 2
	codeBadHello   quic.ApplicationErrorCode = 3
	codeMisbehaved quic.ApplicationErrorCode = 4
	codeRefused    quic.ApplicationErrorCode = 5
)

// Codes with which streams are reset.
const (
	streamDone      quic.StreamErrorCode = 0
	streamUnknown   quic.StreamErrorCode = 1 // no such service
	streamMalformed quic.StreamErrorCode = 2
)

// link is one connection to a proven peer.
type link struct {
	t      *Transport
	conn   *quic.Conn
	peer   wire.Peer
	hello  hello // the peer's
	dialed bool  // by this node
	born   time.Time

	lastUse   atomic.Int64 // Unix nanoseconds of the last message or stream, either way
	active    atomic.Int32 // streams in use, either way
	retiredAt atomic.Int64 // Unix nanoseconds since which another connection is in use; 0 if this one is
	offences  atomic.Int32
	streams   sync.WaitGroup // handlers of streams; awaited by run
}

// newLink makes a link of a connection after the hellos.
func (t *Transport) newLink(conn *quic.Conn, h hello, dialed bool) (*link, error) {
	certs := conn.ConnectionState().TLS.PeerCertificates
	if len(certs) == 0 {
		conn.CloseWithError(codeBadHello, "no certificate")
		return nil, errors.New("no certificate")
	}
	cert, err := realm.ParseNodeCertificate(certs[0]) // the handshake verified it
	if err != nil {
		conn.CloseWithError(codeBadHello, "certificate")
		return nil, err
	}
	l := &link{t: t, conn: conn, hello: h, dialed: dialed, born: time.Now()}
	l.peer = wire.Peer{Handle: h.handle(cert.NodeID, l.remote().Addr()), Roles: cert.Roles}
	l.touch()
	return l, nil
}

// acceptLoop takes connections whose handshake is done. It ends with the listener.
func (t *Transport) acceptLoop(listener *quic.Listener) {
	for {
		conn, err := listener.Accept(t.ctx)
		if err != nil {
			return
		}
		t.wg.Go(func() { t.acceptConn(conn) })
	}
}

// acceptConn is the accepting half of the hello exchange, or an admission.
func (t *Transport) acceptConn(conn *quic.Conn) {
	if conn.ConnectionState().TLS.NegotiatedProtocol == realm.ProtocolJoin {
		t.serveJoin(conn)
		return
	}
	l, s, err := t.awaitHello(conn)
	if err == nil && l.peer.Handle.ID == t.self.ID {
		s.Write(t.hello)
		if l.hello.instance != t.instance {
			t.log.Error("another process runs with this node's identity", zap.Stringer("remote", conn.RemoteAddr()))
		}
		<-conn.Context().Done() // Identify found ourselves; it hangs up
		return
	}
	if err == nil { // known before it is answered: what the peer does next may come by TCP
		t.counters.accepted.Add(1)
		_, err = t.register(l)
	}
	if err == nil {
		_, err = s.Write(t.hello)
		s.Close()
	}
	if err != nil {
		conn.CloseWithError(codeBadHello, "hello")
		t.log.Debug("connection without hello", zap.Stringer("remote", conn.RemoteAddr()), zap.Error(err))
	}
}

// awaitHello reads the dialer's hello and returns the stream to answer it on.
func (t *Transport) awaitHello(conn *quic.Conn) (*link, *quic.Stream, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.DialTimeout)
	defer cancel()
	s, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	s.SetDeadline(deadline)
	h, err := readHello(s)
	if err != nil {
		t.counters.offences.Add(1)
		return nil, nil, err
	}
	s.CancelRead(streamDone)
	l, err := t.newLink(conn, h, false)
	return l, s, err
}

// run accepts what the peer sends, until the connection ends, and waits for the handlers.
func (l *link) run() {
	l.t.log.Debug("connected", zap.Stringer("nodeId", l.peer.Handle.ID), zap.Stringer("remote", l.conn.RemoteAddr()), zap.Bool("dialed", l.dialed))
	l.streams.Go(l.acceptMessages)
	l.streams.Go(l.receiveDatagrams)
	for {
		s, err := l.conn.AcceptStream(l.conn.Context())
		if err != nil {
			l.t.log.Debug("disconnected", zap.Stringer("nodeId", l.peer.Handle.ID), zap.Error(context.Cause(l.conn.Context())))
			break
		}
		l.streams.Go(func() { l.serveStream(s) })
	}
	l.t.drop(l)
	l.streams.Wait()
}

// serveStream reads the service of a stream that the peer opened and hands it to the receiver.
func (l *link) serveStream(qs *quic.Stream) {
	var service [1]byte
	qs.SetReadDeadline(time.Now().Add(firstByteTimeout))
	if _, err := io.ReadFull(qs, service[:]); err != nil {
		qs.CancelRead(streamMalformed)
		qs.CancelWrite(streamMalformed)
		if !isReset(err) {
			l.offend("stream without a service", err)
		}
		return
	}
	qs.SetReadDeadline(time.Time{})
	if wire.Service(service[0]) != wire.ServicePast {
		qs.CancelRead(streamUnknown)
		qs.CancelWrite(streamUnknown)
		l.offend("stream for an unknown service", nil)
		return
	}
	l.t.counters.streamsAccepted.Add(1)
	s := l.newStream(qs)
	defer s.Cancel()
	l.t.receiver.Stream(l.conn.Context(), l.peer, wire.Service(service[0]), s)
}

// open starts a stream to the peer.
func (l *link) open(ctx context.Context, service wire.Service) (*stream, error) {
	qs, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	s := l.newStream(qs)
	s.pending, s.service = true, byte(service)
	return s, nil
}

// sendMessage sends one framed message: in a datagram where it fits and the peer takes them, else on a stream of its own. It may block while the
// peer's stream limit or the congestion window is reached, for at most Config.LinkTimeout.
func (l *link) sendMessage(frame []byte) error {
	l.touch()
	err := l.conn.SendDatagram(frame)
	if err == nil {
		l.t.counters.datagramsSent.Add(1)
		return nil
	}
	if l.conn.Context().Err() != nil {
		return err
	}
	return l.sendOnStream(frame)
}

// sendOnStream sends one framed message on a unidirectional stream.
func (l *link) sendOnStream(frame []byte) error {
	ctx, cancel := context.WithTimeout(l.conn.Context(), l.t.cfg.LinkTimeout)
	defer cancel()
	s, err := l.conn.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	s.SetWriteDeadline(deadline)
	if _, err := s.Write(frame); err != nil {
		s.CancelWrite(streamDone)
		return err
	}
	return s.Close()
}

// receiveDatagrams delivers messages that came in datagrams, until the connection ends.
func (l *link) receiveDatagrams() {
	for {
		frame, err := l.conn.ReceiveDatagram(l.conn.Context())
		if err != nil {
			return
		}
		l.deliver(frame)
	}
}

// acceptMessages delivers messages that came on streams of their own, until the connection ends.
func (l *link) acceptMessages() {
	for {
		s, err := l.conn.AcceptUniStream(l.conn.Context())
		if err != nil {
			return
		}
		l.streams.Go(func() {
			s.SetReadDeadline(time.Now().Add(firstByteTimeout))
			frame, err := io.ReadAll(io.LimitReader(s, 1+wire.MessageMax+1))
			if err != nil || len(frame) > 1+wire.MessageMax {
				s.CancelRead(streamMalformed)
				if !isReset(err) {
					l.offend("message endless or too long", err)
				}
				return
			}
			l.deliver(frame)
		})
	}
}

// deliver hands one framed message to the receiver.
func (l *link) deliver(frame []byte) {
	if len(frame) < 1 || wire.Service(frame[0]) != wire.ServiceOverlay || len(frame) > 1+wire.MessageMax {
		l.offend("message for an unknown service", nil)
		return
	}
	l.touch()
	l.t.counters.messagesReceived.Add(1)
	l.t.receiver.Message(l.peer.Handle, frame[1:])
}

// offend counts what a proper peer does not send. Losing the connection is not an offence.
func (l *link) offend(what string, err error) {
	if l.conn.Context().Err() != nil {
		return
	}
	l.t.counters.offences.Add(1)
	l.t.log.Debug(what, zap.Stringer("nodeId", l.peer.Handle.ID), zap.Error(err))
	if l.offences.Add(1) == offencesMax {
		l.t.counters.linksMisbehaved.Add(1)
		l.t.log.Warn("peer misbehaves", zap.Stringer("nodeId", l.peer.Handle.ID), zap.Stringer("remote", l.conn.RemoteAddr()), zap.String("last", what))
		l.close(codeMisbehaved, "too many malformed messages")
	}
}

// isReset says whether a stream ended because the peer cancelled it, which is its right at any moment.
func isReset(err error) bool {
	var reset *quic.StreamError
	return errors.As(err, &reset) && reset.Remote
}

func (l *link) touch() { l.lastUse.Store(time.Now().UnixNano()) }

// retire marks l as no longer in use for what this node starts. Its streams end in peace; janitor closes it then.
func (l *link) retire() { l.retiredAt.CompareAndSwap(0, time.Now().UnixNano()) }

// done says whether nobody needs the connection any more, and how to say so to the peer.
func (l *link) done(now time.Time, idle time.Duration) (quic.ApplicationErrorCode, string, bool) {
	if l.active.Load() > 0 {
		return 0, "", false
	}
	unused := now.Sub(time.Unix(0, l.lastUse.Load()))
	if retired := l.retiredAt.Load(); retired != 0 && unused > retireGrace && now.Sub(time.Unix(0, retired)) > retireGrace {
		return codeSuperseded, "superseded", true
	}
	return codeIdle, "idle", unused > idle
}

func (l *link) close(code quic.ApplicationErrorCode, reason string) {
	l.conn.CloseWithError(code, reason)
}

// remote is where the peer's packets come from.
func (l *link) remote() netip.AddrPort { return addrPortOf(l.conn.RemoteAddr()) }

func addrPortOf(addr net.Addr) netip.AddrPort {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		panic(fmt.Sprintf("quicnet: QUIC over %T", addr))
	}
	a := udp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// janitor closes connections that are not used and forgets peers. It ends with Close.
func (t *Transport) janitor() {
	tick := time.NewTicker(min(max(t.cfg.IdleTimeout/8, 10*time.Millisecond), retireGrace))
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case now := <-tick.C:
			t.clean(now)
		}
	}
}

func (t *Transport) clean(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for l := range t.links {
		if code, reason, done := l.done(now, t.cfg.IdleTimeout); done {
			l.close(code, reason)
		}
	}
	for _, p := range t.peers {
		t.sweepLocked(p, now)
	}
	for _, pool := range t.pools {
		pool.expireLocked(now)
	}
}

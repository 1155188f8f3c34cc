package quicnet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/wire"
)

// The bulk lane carries streams of wire.ServicePast over a pool of TCP connections with TLS 1.3, beside the QUIC connection
// that knows the peer and watches over its life: when that ends, so do they. docs/decisions/0002-bulk-lane.md has the figures.

// Limits of the bulk lane.
const (
	bulkMax        = 64               // connections to one peer; beyond, streams go over QUIC
	bulkAcceptMax  = 4 * bulkMax      // connections from one peer: it may have closed some that still look open here
	bulkIdleMax    = 48               // of those, kept for later: a handshake costs as much as many requests
	bulkIdle       = 30 * time.Second // how long they are kept; the accepting end waits twice as long
	bulkRetry      = 30 * time.Second // after a peer's TCP port could not be reached
	bulkHandshakes = 256              // concurrent handshakes of strangers
)

// bulkKey is one process of one node.
type bulkKey struct {
	id       pastry.NodeID
	instance uint64
}

// bulkPool are the bulk connections with one peer, those it made too. Transport.mu guards it. It is there as long as a QUIC
// connection with the peer is.
type bulkPool struct {
	conns    map[*bulkConn]struct{}
	idle     []*bulkConn // made by this node, not in use, the last used last
	dialed   int         // how many of conns this node made, those being made included
	failedAt time.Time   // of the last attempt; zero if it succeeded
}

// bulkConn is one TCP connection. It carries one stream at a time.
type bulkConn struct {
	tls       *tls.Conn
	tcp       net.Conn
	r         *bufio.Reader
	key       bulkKey
	dialed    bool
	idleSince time.Time // guarded by Transport.mu
	closeOnce sync.Once
}

func newBulkConn(tcp net.Conn, conn *tls.Conn, key bulkKey, dialed bool) *bulkConn {
	return &bulkConn{tls: conn, tcp: tcp, r: bufio.NewReaderSize(conn, 4<<10), key: key, dialed: dialed}
}

// close closes the socket without the TLS farewell, which could block.
func (c *bulkConn) close() { c.closeOnce.Do(func() { c.tcp.Close() }) }

func (l *link) bulkKey() bulkKey { return bulkKey{l.peer.Handle.ID, l.hello.instance} }

// acceptBulk takes TCP connections until the listener is closed.
func (t *Transport) acceptBulk() {
	cfg := t.serverTLS(realm.ProtocolBulk)
	handshakes := make(chan struct{}, bulkHandshakes) // a token is in it during each
	for {
		tcp, err := t.bulkListener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, say: do not spin
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.ctx.Done():
			}
			continue
		}
		select {
		case handshakes <- struct{}{}:
		default:
			t.counters.refused.Add(1)
			tcp.Close()
			continue
		}
		t.wg.Go(func() {
			c, err := t.greetBulk(tcp, cfg)
			<-handshakes
			if err != nil {
				tcp.Close()
				var named *realm.RefusedError
				if !errors.As(err, &named) { // those were counted by refused
					t.counters.refused.Add(1)
				}
				t.log.Debug("bulk connection refused", zap.Stringer("remote", tcp.RemoteAddr()), zap.Error(err))
				return
			}
			t.serveBulk(c)
		})
	}
}

// greetBulk proves who connected and exchanges hellos. The peer must have a QUIC connection.
func (t *Transport) greetBulk(tcp net.Conn, cfg *tls.Config) (*bulkConn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.DialTimeout)
	defer cancel()
	stop := context.AfterFunc(t.ctx, func() { tcp.Close() })
	defer stop()
	deadline, _ := ctx.Deadline()
	tcp.SetDeadline(deadline)
	conn := tls.Server(tcp, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != realm.ProtocolBulk {
		return nil, errors.New("no protocol agreed")
	}
	cert, err := realm.ParseNodeCertificate(state.PeerCertificates[0]) // the handshake verified it
	if err != nil {
		return nil, err
	}
	c := newBulkConn(tcp, conn, bulkKey{id: cert.NodeID}, false)
	h, err := readHello(c.r)
	if err != nil {
		t.counters.offences.Add(1)
		return nil, err
	}
	c.key.instance = h.instance
	if err := t.admitBulk(c); err != nil {
		return nil, err
	}
	if _, err := conn.Write(t.hello); err != nil {
		t.forgetBulk(c)
		return nil, err
	}
	return c, nil
}

// admitBulk puts a connection that a peer made into the peer's pool.
func (t *Transport) admitBulk(c *bulkConn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	pool := t.pools[c.key]
	if pool == nil || t.closed {
		return errors.New("no QUIC connection beside it")
	}
	if len(pool.conns)-pool.dialed >= bulkAcceptMax {
		return errors.New("too many bulk connections")
	}
	pool.conns[c] = struct{}{}
	return nil
}

// serveBulk hands the streams of one connection to the receiver, one after the other.
func (t *Transport) serveBulk(c *bulkConn) {
	defer t.forgetBulk(c)
	for {
		c.tls.SetDeadline(time.Now().Add(2 * bulkIdle))
		service, err := c.r.ReadByte()
		if err != nil {
			return
		}
		c.tls.SetDeadline(time.Time{})
		t.mu.Lock()
		l := t.linkOfLocked(c.key)
		t.mu.Unlock()
		if l == nil {
			return
		}
		if wire.Service(service) != wire.ServicePast {
			l.offend("bulk stream for an unknown service", nil)
			return
		}
		t.counters.streamsAccepted.Add(1)
		t.counters.bulkStreams.Add(1)
		s := l.newBulkStream(c)
		t.receiver.Stream(l.conn.Context(), l.peer, wire.ServicePast, s)
		if !s.finish() {
			return
		}
	}
}

// openBulk starts a stream on the bulk lane, or returns nil where that cannot be: the caller then uses QUIC.
func (t *Transport) openBulk(ctx context.Context, l *link, service wire.Service) *bulkStream {
	for {
		t.mu.Lock()
		pool := t.pools[l.bulkKey()]
		if pool == nil || t.closed {
			t.mu.Unlock()
			return nil
		}
		if n := len(pool.idle); n > 0 {
			c := pool.idle[n-1]
			pool.idle = pool.idle[:n-1]
			t.mu.Unlock()
			if !quiet(c.tcp) {
				t.forgetBulk(c) // closed by the peer, or out of step
				continue
			}
			return l.startBulk(c, service)
		}
		if pool.dialed >= bulkMax || time.Since(pool.failedAt) < bulkRetry {
			t.mu.Unlock()
			return nil
		}
		pool.dialed++
		t.mu.Unlock()

		c, err := t.dialBulk(ctx, l)
		t.mu.Lock()
		if err == nil && t.pools[l.bulkKey()] == pool {
			pool.conns[c] = struct{}{}
			pool.failedAt = time.Time{}
			t.mu.Unlock()
			return l.startBulk(c, service)
		}
		pool.dialed--
		if err == nil {
			c.close() // the peer went away meanwhile
		} else if ctx.Err() == nil {
			pool.failedAt = time.Now()
			t.log.Info("peer not reached over TCP; its streams go over QUIC", zap.Stringer("nodeId", l.peer.Handle.ID), zap.Error(err))
		}
		t.mu.Unlock()
		return nil
	}
}

// startBulk begins a stream on a connection that nobody uses.
func (l *link) startBulk(c *bulkConn, service wire.Service) *bulkStream {
	l.t.counters.bulkStreams.Add(1)
	s := l.newBulkStream(c)
	s.prefix = append(s.prefix, byte(service))
	return s
}

// dialBulk makes one connection.
func (t *Transport) dialBulk(ctx context.Context, l *link) (*bulkConn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	addr := netip.AddrPortFrom(addrOf(l.peer.Handle).Addr(), l.hello.bulkPort)
	var dialer net.Dialer
	tcp, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	tcp.SetDeadline(deadline)
	conn := tls.Client(tcp, t.cfg.Credentials.ClientConfig(l.peer.Handle.ID, 0, realm.ProtocolBulk))
	if err := conn.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return nil, err
	}
	c := newBulkConn(tcp, conn, l.bulkKey(), true)
	h, err := exchangeHello(c, t.hello)
	if err == nil && h.instance != c.key.instance {
		err = errors.New("another process answers")
	}
	if err != nil {
		tcp.Close()
		return nil, err
	}
	tcp.SetDeadline(time.Time{})
	return c, nil
}

// exchangeHello says hello first. The answer shows that the peer took our certificate and keeps the connection.
func exchangeHello(c *bulkConn, own []byte) (hello, error) {
	if _, err := c.tls.Write(own); err != nil {
		return hello{}, fmt.Errorf("hello: %w", err)
	}
	return readHello(c.r)
}

// keepBulk returns a connection, whose stream ended properly, to its pool.
func (t *Transport) keepBulk(c *bulkConn) {
	c.tls.SetDeadline(time.Time{})
	t.mu.Lock()
	pool := t.pools[c.key]
	if pool != nil && !t.closed && len(pool.idle) < bulkIdleMax {
		if _, ok := pool.conns[c]; ok {
			c.idleSince = time.Now()
			pool.idle = append(pool.idle, c)
			t.mu.Unlock()
			return
		}
	}
	t.mu.Unlock()
	t.forgetBulk(c)
}

// forgetBulk closes a connection that is not in its pool's idle list.
func (t *Transport) forgetBulk(c *bulkConn) {
	c.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if pool := t.pools[c.key]; pool != nil {
		pool.removeLocked(c)
	}
}

func (p *bulkPool) removeLocked(c *bulkConn) {
	if _, ok := p.conns[c]; !ok {
		return
	}
	delete(p.conns, c)
	if c.dialed {
		p.dialed--
	}
}

// expireLocked closes what was idle for too long.
func (p *bulkPool) expireLocked(now time.Time) {
	for len(p.idle) > 0 && now.Sub(p.idle[0].idleSince) > bulkIdle {
		p.idle[0].close()
		p.removeLocked(p.idle[0])
		p.idle = p.idle[1:]
	}
}

// linkOfLocked returns a QUIC connection with one process, or nil.
func (t *Transport) linkOfLocked(key bulkKey) *link {
	if p := t.peers[key.id]; p != nil && p.link != nil && p.link.hello.instance == key.instance {
		return p.link
	}
	for l := range t.links {
		if l.bulkKey() == key {
			return l
		}
	}
	return nil
}

// ensurePoolLocked makes the pool that goes with a new QUIC connection.
func (t *Transport) ensurePoolLocked(key bulkKey) {
	if t.pools[key] == nil {
		t.pools[key] = &bulkPool{conns: make(map[*bulkConn]struct{})}
	}
}

// dropPoolLocked ends the bulk lane with a process when the last QUIC connection with it has ended.
func (t *Transport) dropPoolLocked(key bulkKey) {
	pool := t.pools[key]
	if pool == nil || t.linkOfLocked(key) != nil {
		return
	}
	delete(t.pools, key)
	for c := range pool.conns {
		c.close()
	}
}

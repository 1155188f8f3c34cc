package quicnet

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/zeebo/blake3"
	"go.uber.org/zap"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/wire"
)

// Transport is one node's end of all its connections. All methods are safe for concurrent use.
type Transport struct {
	cfg      Config
	log      *zap.Logger
	self     pastry.NodeHandle
	hello    []byte
	instance uint64
	udp      *net.UDPConn
	quic     *quic.Transport

	bulkListener net.Listener // nil without a bulk lane

	receiver wire.Receiver // set by Start, before any goroutine
	counters counters

	joins      bucket
	unproven   bucket
	refusals   bucket // bounds log lines about strangers
	joinTokens chan struct{}

	// ctx ends when Close begins. Every goroutine of the transport is counted in wg and ends with ctx or its connection.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	started bool
	closed  bool
	peers   map[pastry.NodeID]*peer
	pools   map[bulkKey]*bulkPool
	links   map[*link]struct{} // all that are open, superseded ones too
}

// Listen binds the UDP socket and the TCP one of the same number. Nothing is accepted before Start.
func Listen(cfg Config, log *zap.Logger) (*Transport, error) {
	cfg = cfg.withDefaults()
	log = log.Named("quicnet")
	udp, bulk, err := bind(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("quicnet: listen: %w", err)
	}
	unbind := func() {
		udp.Close()
		if bulk != nil {
			bulk.Close()
		}
	}
	advertise, err := advertised(cfg.Advertise, udp.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		unbind()
		return nil, err
	}
	t := &Transport{
		cfg: cfg, log: log, udp: udp, bulkListener: bulk,
		self:       handleOf(cfg.Credentials.Identity().NodeID(), advertise),
		joins:      bucket{rate: joinsPerSecond},
		unproven:   bucket{rate: unprovenPerSec},
		refusals:   bucket{rate: 10},
		joinTokens: make(chan struct{}, joinsMax), // a token is in it while an admission runs
		peers:      make(map[pastry.NodeID]*peer),
		pools:      make(map[bulkKey]*bulkPool),
		links:      make(map[*link]struct{}),
	}
	var instance [8]byte
	if _, err := rand.Read(instance[:]); err != nil {
		unbind()
		return nil, fmt.Errorf("quicnet: listen: %w", err)
	}
	t.instance = binary.BigEndian.Uint64(instance[:])
	h := hello{instance: t.instance, features: cfg.Features, addr: advertise}
	if t.bulkListener != nil {
		h.bulkPort = advertise.Port()
	}
	t.hello = h.encode()
	t.ctx, t.cancel = context.WithCancel(context.Background())

	// quic-go prints a warning about socket buffers on stderr; logBuffers says it in our log.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	reset := t.resetKey()
	t.quic = &quic.Transport{Conn: udp, StatelessResetKey: &reset, VerifySourceAddress: func(net.Addr) bool { return !t.unproven.take(time.Now()) }}
	return t, nil
}

// bind takes the port of cfg, for UDP and for the bulk lane's TCP. A number that is given is taken as it is, and without its
// TCP port there is no bulk lane; a free one (port 0) is free in both.
func bind(cfg Config, log *zap.Logger) (*net.UDPConn, net.Listener, error) {
	const tries = 32
	addr, err := net.ResolveUDPAddr("udp", cfg.Listen)
	if err != nil {
		return nil, nil, err
	}
	for try := 1; ; try++ {
		udp, err := net.ListenUDP("udp", addr)
		if err != nil || cfg.NoBulk {
			return udp, nil, err
		}
		bulk, err := net.Listen("tcp", udp.LocalAddr().String())
		switch {
		case err == nil:
			return udp, bulk, nil
		case addr.Port != 0 || try == tries:
			log.Warn("no bulk lane: TCP port of the overlay's number is not free", zap.Error(err))
			return udp, nil, nil
		}
		udp.Close()
	}
}

// Self is this node as others reach it.
func (t *Transport) Self() pastry.NodeHandle { return t.self }

// Start makes the transport accept connections and deliver to r. It is called once, before anything else.
func (t *Transport) Start(r wire.Receiver) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return fmt.Errorf("quicnet: start: %w", ErrClosed)
	case t.started:
		return errors.New("quicnet: started twice")
	}
	protocols := []string{realm.Protocol}
	if t.cfg.Join != nil {
		protocols = append(protocols, realm.ProtocolJoin)
	}
	listener, err := t.quic.Listen(t.serverTLS(protocols...), t.quicConfig())
	if err != nil {
		return fmt.Errorf("quicnet: start: %w", err)
	}
	t.receiver, t.started = r, true
	t.logBuffers()
	t.wg.Go(func() { t.acceptLoop(listener) })
	t.wg.Go(t.janitor)
	if t.bulkListener != nil {
		t.wg.Go(t.acceptBulk)
	}
	return nil
}

// Close ends every connection and waits for the transport's goroutines, Receiver.Stream calls among them.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		t.wg.Wait()
		return nil
	}
	t.closed = true
	links := make([]*link, 0, len(t.links))
	for l := range t.links {
		links = append(links, l)
	}
	t.mu.Unlock()

	t.cancel()
	if t.bulkListener != nil {
		t.bulkListener.Close()
	}
	for _, l := range links { // bulk connections go with them
		l.close(codeClosing, "closing")
	}
	err := t.quic.Close()
	if e := t.udp.Close(); err == nil && !errors.Is(e, net.ErrClosed) {
		err = e
	}
	t.wg.Wait()
	if err != nil {
		return fmt.Errorf("quicnet: close: %w", err)
	}
	return nil
}

// goLocked starts f on a goroutine that Close waits for, unless Close has begun. The caller holds t.mu.
func (t *Transport) goLocked(f func()) bool {
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

// quicConfig is the same for both ends. docs/notes/quicnet.md has the figures behind the windows and sizes.
func (t *Transport) quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           t.cfg.DialTimeout,
		MaxIdleTimeout:                 t.cfg.LinkTimeout,
		KeepAlivePeriod:                t.cfg.LinkTimeout / 3,
		InitialStreamReceiveWindow:     1 << 20,
		MaxStreamReceiveWindow:         4 << 20,
		InitialConnectionReceiveWindow: 2 << 20,
		MaxConnectionReceiveWindow:     16 << 20,
		MaxIncomingStreams:             streamsMax,
		MaxIncomingUniStreams:          messageStreams,
		EnableDatagrams:                true,
	}
}

// serverTLS accepts by the given protocols and tells refused of who is turned away, and whence.
func (t *Transport) serverTLS(protocols ...string) *tls.Config {
	outer := t.cfg.Credentials.ServerConfig(nil, protocols...)
	outer.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		remote := info.Conn.RemoteAddr()
		return t.cfg.Credentials.ServerConfig(func(err error) { t.refused(remote, err) }, protocols...), nil
	}
	return outer
}

// refused logs and counts a stranger.
func (t *Transport) refused(remote net.Addr, err error) {
	t.counters.refused.Add(1)
	if !t.refusals.take(time.Now()) {
		return
	}
	fields := []zap.Field{zap.Stringer("remote", remote), zap.Error(err)}
	var named *realm.RefusedError
	if errors.As(err, &named) {
		fields = append(fields, zap.Stringer("nodeId", named.NodeID))
	}
	t.log.Warn("connection refused", fields...)
}

// resetKey makes stateless resets (RFC 9000 §10.3) survive a restart, so that peers learn of it with the next packet they
// send. It follows from the node's key, which is as secret.
func (t *Transport) resetKey() quic.StatelessResetKey {
	var key quic.StatelessResetKey
	blake3.DeriveKey("larder 2026 quicnet stateless reset", t.cfg.Credentials.Identity().Key.Seed(), key[:])
	return key
}

// advertised works out where others reach a node that is bound to bound.
func advertised(advertise string, bound netip.AddrPort) (netip.AddrPort, error) {
	bound = netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
	if advertise == "" {
		if !bound.Addr().IsUnspecified() {
			return bound, nil
		}
		addr, err := firstGlobalAddr()
		return netip.AddrPortFrom(addr, bound.Port()), err
	}
	if _, _, err := net.SplitHostPort(advertise); err != nil {
		advertise = net.JoinHostPort(advertise, "0")
	}
	resolved, err := net.ResolveUDPAddr("udp", advertise)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("quicnet: advertise: %w", err)
	}
	addr := resolved.AddrPort()
	port := addr.Port()
	if port == 0 {
		port = bound.Port()
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), port), nil
}

// firstGlobalAddr is the guess for a node that was bound to all addresses and told none; loopback if there is nothing else.
func firstGlobalAddr() (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("quicnet: advertise: %w", err)
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().Unmap(), nil
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

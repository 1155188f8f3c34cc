package quicnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/wire"
)

func TestStrangersAreRefusedByName(t *testing.T) {
	w, elsewhere := newWorldAt(t, time.Now().Add(-3*realm.NodeLifetime)), newWorld(t)
	b := w.start(w.member(storage, time.Now()))
	stranger := elsewhere.start(elsewhere.member(storage, time.Now()))
	expired := w.start(w.member(storage, time.Now().Add(-2*realm.NodeLifetime)))
	ctx := ctxFor(t)

	// Each side refuses the other, by its own judgement.
	if _, err := stranger.Open(ctx, b.Self(), wire.ServicePast); !errors.Is(err, realm.ErrOtherRealm) || !strings.Contains(err.Error(), b.Self().ID.String()) {
		t.Fatalf("a node of another realm was reached: %v", err)
	}
	if !stranger.logged("connection refused", "not of this realm", b.Self().ID.String(), addrOf(b.Self()).String()) || stranger.Stats().Refused != 1 {
		t.Errorf("who dials does not say whom it turned away: %+v", stranger.Stats())
	}
	if _, err := b.Identify(ctx, addrOf(stranger.Self())); !errors.Is(err, realm.ErrOtherRealm) {
		t.Fatalf("a node of another realm was identified: %v", err)
	}
	if _, err := expired.Open(ctx, b.Self(), wire.ServicePast); !errors.Is(err, ErrRefusedByPeer) {
		t.Fatalf("an expired node came in: %v", err)
	}
	if !expired.logged("refused by the peer", addrOf(b.Self()).String()) || expired.Stats().Refused != 0 {
		t.Errorf("who dials does not say that it was turned away: %+v", expired.Stats())
	}
	await(t, "the refusal in the log", func() bool {
		return b.logged("connection refused", "expired", expired.Self().ID.String(), "127.0.0.1:")
	})
	if _, err := b.Open(ctx, expired.Self(), wire.ServicePast); !errors.Is(err, realm.ErrExpired) {
		t.Fatalf("an expired node was reached: %v", err)
	}
	wrong := b.Self()
	wrong.ID = pastry.NodeID{1}
	a := w.start(w.member(storage, time.Now()))
	if _, err := a.Open(ctx, wrong, wire.ServicePast); !errors.Is(err, realm.ErrUnexpectedNode) {
		t.Fatalf("another node at the address: %v", err)
	}
	a.Send(wrong, []byte("for node 01 only"))
	await(t, "the message to be dropped", func() bool { return a.Stats().MessagesDropped == 1 })
	if len(b.messages) != 0 || b.Stats().StreamsAccepted != 0 {
		t.Fatal("something was delivered")
	}
	if b.Stats().Refused == 0 {
		t.Fatalf("%+v", b.Stats())
	}
}

// A stranger that does not check whom it talks to, on a socket of its own.
func TestStrangerWithoutScruplesIsRefused(t *testing.T) {
	w, elsewhere := newWorld(t), newWorld(t)
	b := w.start(w.member(storage, time.Now()))
	id := elsewhere.member(storage, time.Now())
	cfg := realm.NewCredentials(id, time.Now).ClientConfig(pastry.NodeID{}, 0, realm.Protocol)
	cfg.VerifyConnection = nil
	if conn, err := dialRaw(t, b, cfg); err == nil {
		select {
		case <-conn.Context().Done():
		case <-time.After(patience):
			t.Fatal("the connection stands")
		}
	}
	await(t, "the refusal in the log", func() bool { return b.logged("connection refused", "not of this realm", id.NodeID().String()) })
	if s := b.Stats(); s.Accepted != 0 || s.Links != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestReplacedAndRevokedCertificates(t *testing.T) {
	w := newWorldAt(t, time.Now().Add(-3*realm.NodeLifetime))
	old := w.member(storage, time.Now().Add(-2*realm.NodeLifetime))
	a, b := w.start(old), w.start(w.member(storage, time.Now()))
	ctx := ctxFor(t)
	if _, err := ask(ctx, b, a.Self(), nil); err == nil {
		t.Fatal("an expired node was reached")
	}
	chain, err := w.founder.Issue(rand.Reader, time.Now(), old.PublicKey(), storage)
	if err != nil {
		t.Fatal(err)
	}
	fresh := *old
	fresh.Chain = chain
	a.cfg.Credentials.Replace(&fresh)
	if _, err := ask(ctx, a, b.Self(), nil); err != nil {
		t.Fatalf("with the new certificate: %v", err)
	}
	b.cfg.Credentials.Revoke([]pastry.NodeID{a.Self().ID})
	b.Disconnect(a.Self().ID)
	await(t, "the revoked node to be cut off", func() bool { return a.Stats().Links == 0 && b.Stats().Links == 0 })
	if _, err := ask(ctx, a, b.Self(), nil); !errors.Is(err, ErrRefusedByPeer) {
		t.Fatalf("a revoked node came back: %v", err)
	}
}

// dialRaw connects to n without our transport.
func dialRaw(t *testing.T, n *node, cfg *tls.Config) (*quic.Conn, error) {
	t.Helper()
	conn, err := quic.DialAddr(ctxFor(t), addrOf(n.Self()).String(), cfg, &quic.Config{EnableDatagrams: true})
	if err == nil {
		t.Cleanup(func() { conn.CloseWithError(0, "") })
	}
	return conn, err
}

// rogue is a proper member of the realm that says what it likes.
func rogue(t *testing.T, w *world, n *node) *quic.Conn {
	t.Helper()
	id := w.member(storage, time.Now())
	conn, err := dialRaw(t, n, realm.NewCredentials(id, time.Now).ClientConfig(pastry.NodeID{}, 0, realm.Protocol))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func greet(t *testing.T, conn *quic.Conn) {
	t.Helper()
	s, err := conn.OpenStreamSync(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Write(hello{instance: 1, addr: netip.MustParseAddrPort("127.0.0.1:9")}.encode())
	s.Close()
	if _, err := readHello(s); err != nil {
		t.Fatal(err)
	}
}

func TestGarbageHello(t *testing.T) {
	w := newWorld(t)
	b := w.start(w.member(storage, time.Now()), func(c *Config) { c.DialTimeout = 500 * time.Millisecond })
	for _, garbage := range [][]byte{{0, 3, 1, 2, 3}, {255, 255}, nil} {
		conn := rogue(t, w, b)
		if garbage != nil { // nil: connects and says nothing
			s, err := conn.OpenStreamSync(ctxFor(t))
			if err != nil {
				t.Fatal(err)
			}
			s.Write(garbage)
		}
		select {
		case <-conn.Context().Done():
		case <-time.After(patience):
			t.Fatalf("hello % x: the connection stands", garbage)
		}
	}
	if s := b.Stats(); s.Links != 0 || s.Accepted != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestGarbageOnStreams(t *testing.T) {
	w := newWorld(t)
	b := w.start(w.member(storage, time.Now()))
	ctx := ctxFor(t)
	conn := rogue(t, w, b)
	greet(t, conn)

	unknown, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	unknown.Write([]byte{99})
	var reset *quic.StreamError
	if _, err := unknown.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.ErrorCode != streamUnknown {
		t.Fatalf("unknown service: %v", err)
	}
	long, err := conn.OpenUniStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // until told to stop
		_, err = long.Write(make([]byte, 1<<16))
	}
	if !errors.As(err, &reset) || reset.ErrorCode != streamMalformed {
		t.Fatalf("endless message: %v", err)
	}
	conn.SendDatagram([]byte{77, 1, 2})
	conn.SendDatagram(nil)
	await(t, "offences to be counted", func() bool { return b.Stats().Offences >= 3 })
	if len(b.messages) != 0 {
		t.Fatal("garbage was delivered")
	}
	// Good ones still pass, and then the measure is full.
	if err := conn.SendDatagram([]byte{byte(wire.ServiceOverlay), 'x'}); err != nil {
		t.Fatal(err)
	}
	if got := take(t, b.messages); got.text != "x" {
		t.Fatal(got)
	}
	for conn.Context().Err() == nil {
		s, err := conn.OpenStreamSync(ctx)
		if err != nil {
			break
		}
		s.Write([]byte{99})
		s.Read(make([]byte, 1))
	}
	take(t, conn.Context().Done())
	var closed *quic.ApplicationError
	if !errors.As(context.Cause(conn.Context()), &closed) || closed.ErrorCode != codeMisbehaved {
		t.Fatalf("closed with %v", context.Cause(conn.Context()))
	}
	if s := b.Stats(); s.LinksMisbehaved != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestGarbageUDP(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	conn, err := net.Dial("udp", addrOf(b.Self()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet := make([]byte, 1400)
	for range 300 {
		rand.Read(packet)
		conn.Write(packet)
		conn.Write(packet[:7])
		packet[0] |= 0xc0 // looks like a long header
		conn.Write(packet)
	}
	if _, err := ask(ctxFor(t), a, b.Self(), []byte("still there?")); err != nil {
		t.Fatal(err)
	}
}

// admitting makes a node answer join requests as an issuer.
func admitting(id *realm.Identity) func(*Config) {
	return func(c *Config) {
		c.Join = func(_ context.Context, request []byte, from Joiner) ([]byte, error) {
			answer, _, err := id.Admit(rand.Reader, time.Now(), request, from.Key, nil)
			return answer, err
		}
	}
}

func TestJoin(t *testing.T) {
	w, elsewhere := newWorld(t), newWorld(t)
	issuer := w.start(w.founder, admitting(w.founder))
	plain := w.start(w.member(storage, time.Now()), admitting(w.founder))
	closed := w.start(w.founder)
	at := func(n *node) []netip.AddrPort { return []netip.AddrPort{addrOf(n.Self())} }
	ctx := ctxFor(t)

	id, err := Join(ctx, at(issuer), w.applicant(storage|wire.RoleGateway, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if id.Secrets == nil || id.Node.Roles != storage|wire.RoleGateway {
		t.Fatalf("%+v", id.Node)
	}
	if _, err := ask(ctx, w.start(id), issuer.Self(), []byte("hello")); err != nil {
		t.Fatalf("the new node is not let in: %v", err)
	}
	// It renews by the same door.
	again, err := Join(ctx, at(issuer), id.Renew())
	if err != nil || again.NodeID() != id.NodeID() {
		t.Fatalf("renew: %v", err)
	}

	var refused *JoinRefusedError
	if _, err := Join(ctx, at(issuer), w.applicant(storage, -time.Hour)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "ticket has expired") {
		t.Fatalf("expired ticket: %v", err)
	}
	if _, err := Join(ctx, at(issuer), elsewhere.applicant(storage, time.Hour)); !errors.Is(err, realm.ErrOtherRealm) {
		t.Fatalf("a joiner of another realm gave its ticket away: %v", err)
	}
	if _, err := Join(ctx, at(plain), w.applicant(storage, time.Hour)); !errors.Is(err, realm.ErrLacksRole) {
		t.Fatalf("a joiner took a storage node for an issuer: %v", err)
	}
	if _, err := Join(ctx, at(closed), w.applicant(storage, time.Hour)); err == nil {
		t.Fatal("joined at a node that admits nobody")
	}
	if id, err := Join(ctx, append(at(plain), at(issuer)...), w.applicant(storage, time.Hour)); err != nil || id == nil {
		t.Fatalf("the second address was not tried: %v", err)
	}
	if s := issuer.Stats(); s.Joins != 3 || s.JoinsRefused != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestJoinIsBounded(t *testing.T) {
	w := newWorld(t)
	issuer := w.start(w.founder, admitting(w.founder))
	cfg, err := w.applicant(storage, time.Hour).JoinConfig(rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	say := func(b []byte) (string, error) {
		conn, err := dialRaw(t, issuer, cfg)
		if err != nil {
			return "", err
		}
		defer conn.CloseWithError(0, "")
		s, err := conn.OpenStreamSync(ctxFor(t))
		if err != nil {
			return "", err
		}
		s.Write(b)
		answer, err := io.ReadAll(s)
		if len(answer) < 5 || answer[0] != joinRefused {
			return "", err
		}
		return string(answer[5:]), err
	}
	if reason, err := say([]byte{255, 255, 255, 255}); err != nil || !strings.Contains(reason, "malformed join message") {
		t.Fatalf("%q, %v", reason, err)
	}
	if reason, err := say(frameJoin([]byte("garbage"))); err != nil || !strings.Contains(reason, "damaged") {
		t.Fatalf("%q, %v", reason, err)
	}
	limited := false
	for range 3 * joinsPerSecond {
		reason, err := say(frameJoin(nil))
		if err != nil {
			t.Fatal(err)
		}
		limited = limited || strings.Contains(reason, "too many")
	}
	await(t, "the rate limit", func() bool {
		if limited {
			return true
		}
		reason, _ := say(frameJoin(nil))
		return strings.Contains(reason, "too many")
	})
}

func TestJoinerCannotComeInAsNode(t *testing.T) {
	w := newWorld(t)
	issuer := w.start(w.founder, admitting(w.founder))
	cfg, err := w.applicant(storage, time.Hour).JoinConfig(rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg.NextProtos = []string{realm.Protocol}
	if conn, err := dialRaw(t, issuer, cfg); err == nil {
		<-conn.Context().Done()
	}
	await(t, "the refusal", func() bool { return issuer.logged("connection refused", "malformed certificate") })
}

func TestJoinerKeyIsTheProvenOne(t *testing.T) {
	w := newWorld(t)
	keys := make(chan ed25519.PublicKey, 1)
	issuer := w.start(w.founder, func(c *Config) {
		c.Join = func(_ context.Context, _ []byte, from Joiner) ([]byte, error) {
			keys <- from.Key
			return nil, errors.New("no")
		}
	})
	a := w.applicant(storage, time.Hour)
	if _, err := Join(ctxFor(t), []netip.AddrPort{addrOf(issuer.Self())}, a); err == nil {
		t.Fatal("joined")
	}
	if !take(t, keys).Equal(a.Key.Public()) {
		t.Fatal("another key than the joiner's")
	}
}

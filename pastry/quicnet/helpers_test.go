package quicnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/wire"
)

var _ overlay.Transport = (*Transport)(nil)

const storage = wire.RoleStorage

// patience bounds every wait for something that should happen; generous, since the machine may be busy.
const patience = 20 * time.Second

// world is a realm for one test.
type world struct {
	t       testing.TB
	founder *realm.Identity
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldAt(t, time.Now().Add(-time.Minute))
}

func newWorldAt(t testing.TB, founded time.Time) *world {
	t.Helper()
	founder, err := realm.Found(rand.Reader, founded, wire.RoleStorage|wire.RoleGateway)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, founder: founder}
}

// applicant asks for roles with a fresh ticket.
func (w *world) applicant(roles wire.Roles, lifetime time.Duration) *realm.Applicant {
	w.t.Helper()
	ticket, err := w.founder.NewTicket(rand.Reader, time.Now(), lifetime, wire.RoleStorage|wire.RoleGateway, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := realm.NewApplicant(rand.Reader, ticket, roles)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// member is a node of the realm, admitted at the time given.
func (w *world) member(roles wire.Roles, at time.Time) *realm.Identity {
	w.t.Helper()
	a := w.applicant(roles, 100*realm.NodeLifetime)
	answer, _, err := w.founder.Admit(rand.Reader, at, a.Request(), a.Key.Public().(ed25519.PublicKey), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := a.Accept(answer, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// node is a running transport with what it received.
type node struct {
	*Transport
	logs     *observer.ObservedLogs
	messages chan received
	handler  atomic.Pointer[handler]
}

// handler answers a stream.
type handler func(ctx context.Context, from wire.Peer, s wire.Stream)

type received struct {
	from pastry.NodeHandle
	text string
}

func (n *node) Message(from pastry.NodeHandle, message []byte) {
	select {
	case n.messages <- received{from, string(message)}:
	default: // nobody counts on more than fit
	}
}

func (n *node) Stream(ctx context.Context, from wire.Peer, _ wire.Service, s wire.Stream) {
	defer s.Cancel()
	(*n.handler.Load())(ctx, from, s)
}

// handle replaces echo; streams may be on their way already.
func (n *node) handle(h handler) { n.handler.Store(&h) }

// start runs a node of the realm on a free port.
func (w *world) start(id *realm.Identity, change ...func(*Config)) *node {
	w.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	cfg := Config{Listen: "127.0.0.1:0", Credentials: realm.NewCredentials(id, time.Now), DialTimeout: 3 * time.Second}
	for _, c := range change {
		c(&cfg)
	}
	tr, err := Listen(cfg, zap.New(core))
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{Transport: tr, logs: logs, messages: make(chan received, 4096)}
	n.handle(echo)
	w.t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			w.t.Error(err)
		}
	})
	if err := tr.Start(n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// pair is two nodes of one realm.
func (w *world) pair(change ...func(*Config)) (a, b *node) {
	return w.start(w.member(storage, time.Now()), change...), w.start(w.member(storage|wire.RoleGateway, time.Now()), change...)
}

// lanes runs a test of streams over QUIC and over the bulk lane.
func lanes(t *testing.T, test func(t *testing.T, lane func(*Config))) {
	t.Run("quic", func(t *testing.T) { test(t, func(c *Config) { c.NoBulk = true }) })
	t.Run("bulk", func(t *testing.T) { test(t, func(c *Config) { c.NoBulk = false }) })
}

// await polls a condition: for what cannot be waited for on a channel.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		if cond() {
			return
		}
		timer := time.NewTimer(2 * time.Millisecond)
		<-timer.C
	}
	t.Fatalf("waited in vain: %s", what)
}

// logged says whether a node's log has an entry whose message and fields contain all words.
func (n *node) logged(words ...string) bool {
next:
	for _, e := range n.logs.All() {
		text := e.Message
		for k, v := range e.ContextMap() {
			text += " " + k + "=" + toString(v)
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				continue next
			}
		}
		return true
	}
	return false
}

func toString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return hex.EncodeToString(v)
	default:
		return ""
	}
}

func ctxFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// freePort is an address where nobody listens.
func freePort(t testing.TB, w *world) netip.AddrPort {
	t.Helper()
	n := w.start(w.member(storage, time.Now()))
	addr := addrOf(n.Self())
	n.Close()
	return addr
}

// take receives from ch, with patience.
func take[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// gate lets goroutines wait for each other once.
type gate struct {
	once sync.Once
	ch   chan struct{}
}

func newGate() *gate  { return &gate{ch: make(chan struct{})} }
func (g *gate) open() { g.once.Do(func() { close(g.ch) }) }
func (g *gate) wait() { <-g.ch }

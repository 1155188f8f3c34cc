package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"larder/auth/realm"
	"larder/blockstore/memstore"
	"larder/gateway/objects"
	"larder/past/node"
	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/overlay/memnet"
	"larder/pastry/quicnet"
	"larder/pastry/wire"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// testRing is real nodes in one process, over a network in memory, in a synctest bubble.
type testRing struct {
	t     *testing.T
	net   *memnet.Network
	nodes []*testNode
}

type testNode struct {
	t         *testing.T
	identity  *realm.Identity
	node      *node.Node
	objects   *objects.Store // nil without RoleGateway
	disk      *memstore.Disk
	handler   http.Handler
	transport *memnet.Transport
	stop      context.CancelFunc
	stopped   chan error
}

const everything = wire.RoleStorage | wire.RoleGateway

// inRing runs f in a ring of n nodes that do everything, once all are ready.
func inRing(t *testing.T, n int, f func(t *testing.T, r *testRing)) {
	synctest.Test(t, func(t *testing.T) {
		r := &testRing{t: t, net: memnet.New(time.Millisecond)}
		defer r.end()
		for range n {
			r.add(everything)
		}
		f(t, r)
	})
}

func (r *testRing) end() {
	for _, n := range r.nodes {
		n.kill()
	}
}

// kill stops a node; nobody is told but by its silence.
func (n *testNode) kill() {
	if n.stop == nil {
		return
	}
	_ = n.transport.Close()
	n.stop()
	if err := <-n.stopped; err != nil {
		n.t.Errorf("run: %v", err)
	}
	if n.objects != nil {
		_ = n.objects.Close()
	}
	n.stop = nil
}

func (r *testRing) identity(roles wire.Roles) *realm.Identity {
	if len(r.nodes) == 0 {
		id, err := realm.Found(rand.Reader, time.Now(), roles)
		r.must(err)
		return id
	}
	founder := r.nodes[0].identity
	ticket, err := founder.NewTicket(rand.Reader, time.Now(), time.Hour, roles, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")})
	r.must(err)
	applicant, err := realm.NewApplicant(rand.Reader, ticket, roles)
	r.must(err)
	answer, _, err := founder.Admit(rand.Reader, time.Now(), applicant.Request(), applicant.Key.Public().(ed25519.PublicKey), nil)
	r.must(err)
	id, err := applicant.Accept(answer, time.Now())
	r.must(err)
	return id
}

func (r *testRing) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// add starts one more node and waits until it is ready.
func (r *testRing) add(roles wire.Roles) *testNode {
	id := r.identity(roles)
	port := uint16(len(r.nodes) + 1)
	self := wire.Peer{Handle: memnet.Handle(id.NodeID(), port), Roles: id.Node.Roles}
	n := &testNode{t: r.t, identity: id, disk: new(memstore.Disk), transport: r.net.Node(self), stopped: make(chan error, 1)}
	cfg := overlay.Config{Node: pastry.DefaultConfig(nil)}
	if len(r.nodes) > 0 {
		cfg.Seeds = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}
	}
	capacity := int64(0)
	if roles.Has(wire.RoleStorage) {
		capacity = 1 << 30
	}
	var err error
	n.node, err = node.New(r.t.Context(), node.Config{
		Identity: id, Overlay: overlay.New(cfg, n.transport, zap.NewNop()), Store: memstore.New(memstore.Options{Disk: n.disk, CapacityBytes: 1 << 30}),
		CapacityBytes: capacity, Zone: "north", Version: "test", ReplaceAfter: 10 * time.Second, RepairAfter: 10 * time.Second, Log: zap.NewNop(), Now: time.Now,
	})
	r.must(err)
	if len(r.nodes) == 0 {
		r.must(n.node.Found(r.t.Context()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.stopped <- n.node.Run(ctx) }() // awaited by kill
	r.nodes = append(r.nodes, n)
	<-n.node.Ready()
	if roles.Has(wire.RoleGateway) {
		n.objects = objects.New(objects.Config{Past: n.node.Past(), Sealer: node.Sealer{Secrets: id.Secrets}})
	}
	n.handler = New(Config{
		Node: n.node, Objects: func() *objects.Store { return n.objects }, Identity: func() *realm.Identity { return id },
		Seeds: func() []netip.AddrPort { return nil }, Registry: prometheus.NewRegistry(),
		Transport: func() quicnet.Stats { return quicnet.Stats{Links: 4} }, Log: zap.NewNop(), Now: time.Now,
	})
	return n
}

// send makes one request as the command line does.
func (n *testNode) send(method, path string, body any) *httptest.ResponseRecorder {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			n.t.Fatal(err)
		}
		content = bytes.NewReader(raw)
	}
	req := httptest.NewRequest(method, path, content)
	req.Host = "127.0.0.1:9001"
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, req)
	return w
}

// ask makes a request that has to succeed and decodes its answer.
func ask[T any](n *testNode, method, path string, body any) (v T) {
	n.t.Helper()
	w := n.send(method, path, body)
	if w.Code != http.StatusOK {
		n.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		n.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return v
}

// wantRefusal makes a request that has to fail with a status, and a text that contains part.
func (n *testNode) wantRefusal(method, path string, body any, status int, part string) {
	n.t.Helper()
	w := n.send(method, path, body)
	var f Failure
	if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || w.Code != status || !strings.Contains(f.Error, part) || f.Error == "" {
		n.t.Errorf("%s %s: %d %s, want %d with %q", method, path, w.Code, w.Body, status, part)
	}
}

// awaitState waits until a node sees the ring in a state, and returns what it said then.
func (n *testNode) awaitState(want State, patience time.Duration) (st Status) {
	n.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Second) { // the bubble's time
		if st = ask[Status](n, "GET", "/v1/status", nil); st.State == want {
			return st
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("not %s after %v: %+v", want, patience, st)
		}
	}
}

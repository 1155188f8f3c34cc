package pkb

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/blockstore"
	"larder/blockstore/memstore"
	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/pastry"
	"larder/pastry/wire"

	"go.uber.org/zap"
)

// cluster is nodes that have everything but a network and an overlay: streams are pipes, and everybody knows everybody.
type cluster struct {
	t      testing.TB
	secret secrets
	keys   map[pastry.NodeID]ed25519.PrivateKey
	system register.Lineage
	made   []byte // the test bucket's genesis

	mu    sync.Mutex // guards nodes and deaf
	nodes map[pastry.NodeID]*node
	deaf  map[pastry.NodeID]bool // not reachable

	refused atomic.Int64 // connections
}

// node is one process: started anew it keeps its store.
type node struct {
	c         *cluster
	id        pastry.NodeID
	store     blockstore.Store
	process   *process
	self      Identity
	peers     *rpc.Peers
	members   *Members
	registers *Registers
	stop      context.CancelFunc
	ended     sync.WaitGroup
	skew      atomic.Int64 // nanoseconds that the clock is ahead
	stuck     atomic.Bool  // requests to it are neither answered nor refused
	full      atomic.Bool  // it offers no storage any more
	damaged   chan register.PartitionID
}

// process is a store as one process sees it: what it left running changes nothing after it was killed.
type process struct {
	blockstore.Store
	mu   sync.RWMutex
	dead bool
}

var errKilled = errors.New("killed")

func (p *process) Apply(ctx context.Context, b *blockstore.Batch, sync bool) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.dead {
		return errKilled
	}
	return p.Store.Apply(ctx, b, sync)
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

type secrets struct{ system ed25519.PrivateKey }

func (s secrets) SystemKey() ed25519.PrivateKey         { return s.system }
func (s secrets) MACKey() [32]byte                      { return [32]byte{1} }
func (s secrets) Seal(plain, _ []byte) ([]byte, error)  { return plain, nil }
func (s secrets) Open(sealed, _ []byte) ([]byte, error) { return sealed, nil }

// newCluster founds a realm on node 1 and adds the others, all of them storage nodes and gateways.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	_, system, _ := ed25519.GenerateKey(rand.Reader)
	c := &cluster{t: t, secret: secrets{system}, keys: map[pastry.NodeID]ed25519.PrivateKey{}, nodes: map[pastry.NodeID]*node{}, deaf: map[pastry.NodeID]bool{}}
	for i := range n {
		c.add(i + 1)
	}
	return c
}

func nodeID(i int) pastry.NodeID { return pastry.NodeID{byte(i)} }

// add starts node i for the first time.
func (c *cluster) add(i int) *node {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	c.keys[nodeID(i)] = key
	return c.start(i, memstore.New(memstore.Options{}), uint64(100+i))
}

// start runs node i on a store.
func (c *cluster) start(i int, store blockstore.Store, incarnation uint64) *node {
	c.t.Helper()
	id := nodeID(i)
	n := &node{c: c, id: id, store: store, process: &process{Store: store}, damaged: make(chan register.PartitionID, 16)}
	key := c.keys[id]
	n.self = Identity{
		Member: register.MemberID{Node: id, Incarnation: incarnation, PublicKey: publicKey(key)},
		Sign:   func(message []byte) []byte { return ed25519.Sign(key, message) },
		Verify: func(m register.MemberID, message, signature []byte) error {
			if !ed25519.Verify(m.PublicKey[:], message, signature) {
				return errProof
			}
			return nil
		},
	}
	c.mu.Lock()
	if len(c.system.Genesis.Members) == 0 {
		c.system.Genesis = register.Configuration{Partition: register.System, Members: []register.MemberID{n.self.Member}, RecordKey: publicKey(c.secret.system)}
	}
	c.mu.Unlock()
	n.peers = rpc.NewPeers(&ring{n}, wire.Peer{Handle: pastry.NodeHandle{ID: id}, Roles: wire.RoleGateway | wire.RoleStorage})
	now := func() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }
	var err error
	n.members, err = NewMembers(MembersConfig{
		Self: n.self, Peers: n.peers, Store: n.process, Log: zap.NewNop(), Now: now,
		Genesis: func(ctx context.Context, l *register.Lineage) (bool, error) { return n.registers.GenesisCheck(ctx, l) },
		Damaged: func(id register.PartitionID) {
			select {
			case n.damaged <- id:
			default: // nobody looks
			}
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	system := c.system
	c.mu.Unlock()
	n.registers = New(Config{
		Peers: n.peers, Self: n.self, Keys: c.secret, Directory: &ring{n}, System: system, ReplaceAfter: time.Second, CaretakeEvery: 200 * time.Millisecond, Log: zap.NewNop(), Now: now,
		SaveSystem: func(l register.Lineage) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if l.Epoch() > c.system.Epoch() {
				c.system = l
			}
			return nil
		},
	})
	if i == 1 && system.Epoch() == 0 {
		if err := n.members.Found(context.Background(), system); err != nil {
			c.t.Fatal(err)
		}
	}
	c.mu.Lock()
	c.nodes[id] = n
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.members.Resume()
	n.ended.Go(func() { n.registers.Run(ctx) })
	c.t.Cleanup(n.kill)
	return n
}

// kill ends the node as kill -9 would: its peers get no answers any more. Its store stays.
func (n *node) kill() {
	n.c.mu.Lock()
	if n.c.nodes[n.id] == n {
		delete(n.c.nodes, n.id)
	}
	n.c.mu.Unlock()
	n.process.kill()
	n.stop()
	n.members.Close()
	n.ended.Wait()
}

// ring is the network as one node sees it.
type ring struct{ n *node }

func (r *ring) Self() pastry.NodeID { return r.n.id }

func (r *ring) live() []*node {
	r.n.c.mu.Lock()
	defer r.n.c.mu.Unlock()
	var out []*node
	for id, n := range r.n.c.nodes {
		if !r.n.c.deaf[id] {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *node) int { return a.id.Compare(b.id) })
	return out
}

func (r *ring) candidates() (out []past.Candidate) {
	for _, n := range r.live() {
		out = append(out, past.Candidate{ID: n.id, CapacityBytes: 1})
	}
	return out
}

func (r *ring) Around(context.Context, pastry.Key) ([]past.Candidate, error) {
	return r.candidates(), nil
}
func (r *ring) RTT(id pastry.NodeID) time.Duration {
	if id == r.n.id {
		return 0
	}
	return time.Millisecond
}
func (r *ring) Suspect(pastry.NodeID)           {}
func (r *ring) Reachable(id pastry.NodeID) bool { return r.node(id) != nil }
func (r *ring) Storage() int                    { return len(r.candidates()) }
func (r *ring) Gateways() []past.Candidate      { return r.candidates() }
func (r *ring) Member(id pastry.NodeID) (register.MemberID, bool) {
	if n := r.node(id); n != nil && n.full.Load() {
		return register.MemberID{}, true
	} else if n != nil {
		return n.self.Member, true
	}
	return register.MemberID{}, false
}

func (r *ring) node(id pastry.NodeID) *node {
	for _, n := range r.live() {
		if n.id == id {
			return n
		}
	}
	return nil
}

func (r *ring) Open(ctx context.Context, to pastry.NodeID) (wire.Stream, error) {
	n := r.node(to)
	if n == nil || r.node(r.n.id) == nil {
		r.n.c.refused.Add(1)
		return nil, errors.New("connection refused")
	}
	a, b := pipe()
	if n.stuck.Load() {
		return a, nil
	}
	go n.peers.Serve(ctx, wire.Peer{Handle: pastry.NodeHandle{ID: r.n.id}, Roles: wire.RoleGateway | wire.RoleStorage}, b)
	return a, nil
}

// half is one direction of a pipe.
type half struct {
	mu     sync.Mutex
	wake   *sync.Cond
	buf    bytes.Buffer
	closed bool
	broken bool
}

func newHalf() *half {
	h := &half{}
	h.wake = sync.NewCond(&h.mu)
	return h
}

type stream struct{ in, out *half }

func pipe() (a, b *stream) {
	x, y := newHalf(), newHalf()
	return &stream{x, y}, &stream{y, x}
}

func (s *stream) Read(p []byte) (int, error) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	for s.in.buf.Len() == 0 && !s.in.closed && !s.in.broken {
		s.in.wake.Wait()
	}
	if s.in.buf.Len() == 0 && s.in.broken {
		return 0, io.ErrClosedPipe
	}
	return s.in.buf.Read(p)
}

func (s *stream) Write(p []byte) (int, error) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.broken {
		return 0, io.ErrClosedPipe
	}
	s.out.wake.Broadcast()
	return s.out.buf.Write(p)
}

func (s *stream) CloseWrite() error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.closed = true
	s.out.wake.Broadcast()
	return nil
}

func (s *stream) Cancel() {
	for _, h := range []*half{s.in, s.out} {
		h.mu.Lock()
		if !h.closed {
			h.broken = true
		}
		h.wake.Broadcast()
		h.mu.Unlock()
	}
}

func (s *stream) SetDeadline(time.Time) error { return nil }

// bucket makes a bucket and opens it on every node.
func (c *cluster) bucket(id past.BucketID) {
	c.t.Helper()
	first := (&ring{c.any()}).live()
	g, err := first[0].registers.NewBucket(c.t.Context(), id)
	if err != nil {
		c.t.Fatal(err)
	}
	c.made = g
	for _, n := range first {
		if err := n.registers.OpenBucket(c.t.Context(), id, past.Register{}, g); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) any() *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		return n
	}
	c.t.Fatal("no node is left")
	return nil
}

func (c *cluster) node(i int) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[nodeID(i)]
}

// eventually waits until f returns "".
func (c *cluster) eventually(what string, f func() string) {
	c.t.Helper()
	last := ""
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		if last = f(); last == "" {
			return
		}
	}
	c.t.Fatalf("%s: %s", what, last)
}

// whole waits until every partition has k active members, all of them live.
func (c *cluster) whole(k int) {
	c.t.Helper()
	c.eventually("not whole", func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		states, err := c.any().registers.Survey(ctx)
		if err != nil {
			return err.Error()
		}
		for _, s := range states {
			if len(s.Active) != k || slices.Contains(s.Active, false) {
				return fmt.Sprintf("partition %v epoch %d: active %v", s.Lineage.Genesis.Partition, s.Lineage.Epoch(), s.Active)
			}
		}
		return ""
	})
}

func reg(b past.BucketID, key string) past.Register {
	return past.Register{Bucket: b, Space: past.SpaceHead, Key: key}
}

func rec(value string) past.Record {
	return past.Record{Kind: past.Live, Value: []byte(value), Body: []byte("body of " + value)}
}

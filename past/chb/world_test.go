package chb

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"larder/blockstore"
	"larder/blockstore/memstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	"larder/pastry"
	overlaywire "larder/pastry/wire"

	"github.com/zeebo/blake3"
	"go.uber.org/zap"
)

// world is a ring of nodes in one process: every node knows all live ones at once, streams are pipes in memory, and each node can be
// killed, hung, cut off or made to lie. It runs under testing/synctest, where its latencies cost nothing.
type world struct {
	t     testing.TB
	mu    sync.Mutex
	nodes map[pastry.NodeID]*testNode
	order []*testNode // as they were made
	tasks sync.WaitGroup

	content map[past.BlockID]*kept // what was inserted and acknowledged
	seed    int64
}

type kept struct {
	ref   past.StripeRef
	key   *stripe.Key
	index uint64
	plain []byte
}

type testNode struct {
	w     *world
	id    pastry.NodeID
	disk  *memstore.Disk
	store blockstore.Store
	peers *rpc.Peers
	*Blocks
	stop func()

	// guarded by world.mu
	capacity int64                     // as the ring says
	room     int64                     // of the disk, if it is not that
	up       bool                      // its process runs
	hidden   bool                      // the ring does not list it, though it answers
	hung     bool                      // it takes streams and never answers
	delay    time.Duration             // before each answer
	cut      map[pastry.NodeID]bool    // it cannot open streams to these
	instead  map[wire.Kind]rpc.Handler // answers these requests in the place of Blocks
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, nodes: map[pastry.NodeID]*testNode{}, content: map[past.BlockID]*kept{}, seed: 1}
	return w
}

// add starts a new node with room for capacity bytes.
func (w *world) add(capacity int64) *testNode { return w.addFull(capacity, 0) }

// addFull starts a new node that says it has room for capacity bytes, but has it for room.
func (w *world) addFull(capacity, room int64) *testNode {
	n := &testNode{w: w, disk: new(memstore.Disk), capacity: capacity, room: room, cut: map[pastry.NodeID]bool{}, instead: map[wire.Kind]rpc.Handler{}}
	sum := blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(len(w.order))))
	n.id = pastry.NodeID(sum[:16])
	w.mu.Lock()
	w.nodes[n.id] = n
	w.order = append(w.order, n)
	w.mu.Unlock()
	n.start(nil)
	return n
}

func (w *world) addMany(n int) []*testNode {
	for range n {
		w.add(1 << 40)
	}
	return w.order
}

// start runs the node's process on its disk. wrap, if not nil, stands between it and the disk.
func (n *testNode) start(wrap func(blockstore.Store) blockstore.Store) {
	n.store = memstore.New(memstore.Options{Disk: n.disk, CapacityBytes: cmp.Or(n.room, n.capacity)})
	if wrap != nil {
		n.store = wrap(n.store)
	}
	self := overlaywire.Peer{Handle: pastry.NodeHandle{ID: n.id}, Roles: overlaywire.RoleStorage | overlaywire.RoleGateway}
	n.peers = rpc.NewPeers(n, self)
	n.Blocks = New(Config{Peers: n.peers, Store: n.store, Log: zap.NewNop(), RepairDelay: 20 * time.Second})
	for kind, honest := range map[wire.Kind]rpc.Handler{
		wire.KindFragmentPut: n.servePut, wire.KindFragmentGet: n.serveGet, wire.KindFragmentStat: n.serveStat, wire.KindFragmentTrash: n.serveTrash,
	} {
		n.peers.Handle(kind, 0, func(ctx context.Context, from overlaywire.Peer, req rpc.Request) (any, []byte, error) {
			n.w.mu.Lock()
			h := n.instead[kind]
			n.w.mu.Unlock()
			if h == nil {
				h = honest
			}
			return h(ctx, from, req)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.stop = func() { cancel(); <-done }
	blocks := n.Blocks
	go func() { blocks.Run(ctx); close(done) }()
	n.w.mu.Lock()
	n.up = true
	n.w.mu.Unlock()
	n.w.changed()
}

// kill ends the node's process as kill -9 does, as far as others can see.
func (n *testNode) kill() {
	n.w.mu.Lock()
	n.up = false
	n.w.mu.Unlock()
	n.stop()
	_ = n.store.Close()
	n.w.changed()
}

// set changes a node's faults.
func (n *testNode) set(f func()) {
	n.w.mu.Lock()
	f()
	n.w.mu.Unlock()
}

// changed tells all nodes that the membership is another.
func (w *world) changed() {
	w.mu.Lock()
	nodes := slices.Clone(w.order)
	w.mu.Unlock()
	for _, n := range nodes {
		if n.Blocks != nil {
			n.MembershipChanged()
		}
	}
}

// end stops all nodes.
func (w *world) end() {
	for _, n := range w.order {
		if n.up {
			n.kill()
		}
	}
	w.tasks.Wait()
}

// Ring, as one node sees it.

func (n *testNode) Self() pastry.NodeID { return n.id }

func (n *testNode) Around(ctx context.Context, key pastry.Key) (out []past.Candidate, err error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, o := range n.w.order {
		if o.up && !o.hidden && !n.cut[o.id] {
			out = append(out, past.Candidate{ID: o.id, CapacityBytes: o.capacity})
		}
	}
	return out, ctx.Err()
}

func (n *testNode) RTT(id pastry.NodeID) time.Duration {
	if id == n.id {
		return 0
	}
	return latency0
}

func (n *testNode) Suspect(pastry.NodeID) {}

func (n *testNode) Reachable(id pastry.NodeID) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	o := n.w.nodes[id]
	return o != nil && o.up && !n.cut[id]
}

// latency0 is the round-trip time of every link.
const latency0 = time.Millisecond

func (n *testNode) Open(ctx context.Context, to pastry.NodeID) (overlaywire.Stream, error) {
	time.Sleep(latency0)
	n.w.mu.Lock()
	o := n.w.nodes[to]
	ok := o != nil && o.up && !n.cut[to] && !o.cut[n.id]
	n.w.mu.Unlock()
	if !ok || ctx.Err() != nil {
		return nil, errors.New("no route")
	}
	here, there := newPipe()
	n.w.tasks.Go(func() { o.serve(n.id, there) })
	return here, nil
}

func (n *testNode) serve(from pastry.NodeID, s *pipe) {
	n.w.mu.Lock()
	hung, delay, peers := n.hung, n.delay, n.peers
	n.w.mu.Unlock()
	if hung {
		_, _ = io.Copy(io.Discard, s)
		s.wait()
		return
	}
	time.Sleep(delay)
	peers.Serve(context.Background(), overlaywire.Peer{Handle: pastry.NodeHandle{ID: from}, Roles: overlaywire.RoleStorage | overlaywire.RoleGateway}, s)
}

// pipe is one end of a stream in memory, with unbounded buffers.
type pipe struct {
	mu   *sync.Mutex // of both ends
	cond *sync.Cond
	in   *half // what this end reads
	out  *half
}

type half struct {
	buf       bytes.Buffer
	eof, dead bool
}

func newPipe() (*pipe, *pipe) {
	mu := new(sync.Mutex)
	cond := sync.NewCond(mu)
	a, b := new(half), new(half)
	return &pipe{mu, cond, a, b}, &pipe{mu, cond, b, a}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.in.dead:
			return 0, errors.New("stream cancelled")
		case p.in.buf.Len() > 0:
			return p.in.buf.Read(b)
		case p.in.eof:
			return 0, io.EOF
		}
		p.cond.Wait()
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.dead {
		return 0, errors.New("stream cancelled")
	}
	p.cond.Broadcast()
	return p.out.buf.Write(b)
}

func (p *pipe) CloseWrite() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.eof = true
	p.cond.Broadcast()
	return nil
}

func (p *pipe) Cancel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in.dead = true
	p.out.dead = p.out.dead || !p.out.eof // after a proper end what was written may still be read
	p.cond.Broadcast()
}

// wait returns when the stream was cancelled.
func (p *pipe) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.in.dead && !p.out.dead {
		p.cond.Wait()
	}
}

func (p *pipe) SetDeadline(time.Time) error { return nil }

// What tests do with a world.

// insert keeps a stripe of n bytes through node g and remembers it.
func (w *world) insert(g *testNode, n int) (*kept, error) {
	w.seed++
	rnd := rand.New(rand.NewSource(w.seed))
	k := &kept{index: uint64(w.seed), plain: make([]byte, n)}
	rnd.Read(k.plain)
	var secret [32]byte
	var data past.DataID
	rnd.Read(secret[:])
	rnd.Read(data[:])
	k.key = stripe.NewKey(secret, data)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	k.ref, err = g.Insert(ctx, k.key, k.index, k.plain, past.Claim{Data: data, SealedKey: []byte("sealed")})
	if err == nil {
		w.content[k.ref.ID] = k
	}
	return k, err
}

func (w *world) mustInsert(g *testNode, sizes ...int) (out []*kept) {
	w.t.Helper()
	for _, n := range sizes {
		k, err := w.insert(g, n)
		if err != nil {
			w.t.Fatalf("insert of %d bytes: %v", n, err)
		}
		out = append(out, k)
	}
	return out
}

// lookup reads all of a stripe through node g.
func (w *world) lookup(g *testNode, k *kept) error {
	return w.lookupRange(g, k, 0, len(k.plain))
}

func (w *world) lookupRange(g *testNode, k *kept, off, n int) error {
	dst := make([]byte, n)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := g.Lookup(ctx, k.key, k.index, k.ref, dst, off); err != nil {
		return err
	}
	if !bytes.Equal(dst, k.plain[off:off+n]) {
		w.t.Fatalf("WRONG BYTES of %v, %d+%d", k.ref.ID, off, n)
	}
	return nil
}

// checkContent looks everything up through node g.
func (w *world) checkContent(g *testNode) {
	w.t.Helper()
	for _, k := range w.content {
		if err := w.lookup(g, k); err != nil {
			w.t.Errorf("%v: %v", k.ref, err)
		}
	}
}

// holders returns which live nodes have which indexes live.
func (w *world) holders(id past.BlockID) map[*testNode]past.Indexes {
	out := map[*testNode]past.Indexes{}
	for _, n := range w.order {
		if n.up {
			if item, err := n.shelf.held(context.Background(), id); err == nil && item.Live != 0 {
				out[n] = item.Live
			}
		}
	}
	return out
}

// problem says what is wrong with where fragments are; empty if each live block has min(n, nodes) distinct indexes on distinct nodes, none to
// spare, and no reclaimed block has any.
func (w *world) problem() string {
	nodes := 0
	for _, n := range w.order {
		if n.up && n.capacity > 0 {
			nodes++
		}
	}
	for id, k := range w.content {
		n := k.ref.Redundancy.Total()
		want, each := min(n, nodes), 1
		if k.ref.Redundancy.Data > 1 {
			want, each = n, (n+nodes-1)/nodes
		}
		var all past.Indexes
		count := 0
		for node, set := range w.holders(id) {
			if set.Count() > each || node.capacity == 0 {
				return fmt.Sprintf("%v holds %b of %v", node.id, set, k.ref)
			}
			all |= set
			count += set.Count()
		}
		if all.Count() != want || count != want {
			return fmt.Sprintf("%v: indexes %b, %d fragments, want %d", k.ref, all, count, want)
		}
	}
	for _, n := range w.order {
		if !n.up {
			continue
		}
		problem := ""
		_ = n.store.Each(context.Background(), nil, func(f blockstore.FragmentInfo) bool {
			key, _ := parseKey(f.Key)
			if w.content[key.id()] == nil && f.Trashed.IsZero() {
				problem = fmt.Sprintf("%v holds %v, which is not wanted", n.id, key.id())
			}
			return problem == ""
		})
		if problem != "" {
			return problem
		}
	}
	return ""
}

// settle lets time pass until nothing is wrong, at most for long.
func (w *world) settle(long time.Duration) {
	w.t.Helper()
	deadline := time.Now().Add(long)
	for {
		time.Sleep(time.Second)
		problem := w.problem()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not whole after %v: %s", long, problem)
		}
	}
}

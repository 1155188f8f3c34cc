package overlay

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"larder/pastry"
	"larder/pastry/overlay/memnet"
	"larder/pastry/wire"
)

// ring is some live members over a memnet, in one synctest bubble.
type ring struct {
	t       *testing.T
	net     *memnet.Network
	rand    *rand.Rand
	members []*live
}

// live is one running member.
type live struct {
	*Overlay
	transport *memnet.Transport
	stop      context.CancelFunc
	stopped   chan error
}

func newRing(t *testing.T) *ring {
	return &ring{t: t, net: memnet.New(5 * time.Millisecond), rand: rand.New(rand.NewPCG(7, 7))}
}

func (r *ring) randomID() (id pastry.NodeID) {
	for i := range id {
		id[i] = byte(r.rand.Uint32())
	}
	return id
}

// start runs a member that knows the first one as its seed. Members are stopped when the test ends.
func (r *ring) start(id pastry.NodeID, port uint16, seeds ...uint16) *live {
	cfg := Config{Node: pastry.DefaultConfig(rand.New(rand.NewPCG(r.rand.Uint64(), 1)))}
	cfg.Node.LeafSetSize, cfg.Node.NeighborhoodSize = 8, 8
	for _, s := range seeds {
		cfg.Seeds = append(cfg.Seeds, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s))
	}
	tr := r.net.Node(wire.Peer{Handle: memnet.Handle(id, port), Roles: wire.RoleStorage})
	ctx, cancel := context.WithCancel(r.t.Context())
	m := &live{Overlay: New(cfg, tr, zap.NewNop()), transport: tr, stop: cancel, stopped: make(chan error, 1)}
	m.Handle(wire.ServicePast, echo)
	go func() { m.stopped <- m.Run(ctx) }()
	r.members = append(r.members, m)
	return m
}

// echo answers a stream with who sent it and what it sent.
func echo(_ context.Context, from wire.Peer, st wire.Stream) {
	defer st.Cancel()
	b, err := io.ReadAll(st)
	if err != nil {
		return
	}
	fmt.Fprintf(st, "%s %d %s", from.Handle.ID, from.Roles, b)
	_ = st.CloseWrite()
}

// end stops a member, and closes its transport.
func (r *ring) end(m *live) {
	m.stop()
	if err := <-m.stopped; err != nil {
		r.t.Errorf("run: %v", err)
	}
	_ = m.transport.Close()
	r.members = slices.DeleteFunc(r.members, func(o *live) bool { return o == m })
}

// crash closes a member's transport under it: nobody hears of it again.
func (r *ring) crash(m *live) {
	_ = m.transport.Close()
	r.end(m)
}

func (r *ring) endAll() {
	for len(r.members) > 0 {
		r.end(r.members[0])
	}
}

// awaitReady fails the test unless every member is ready within d.
func (r *ring) awaitReady(d time.Duration) {
	r.t.Helper()
	timeout := time.After(d)
	for i, m := range r.members {
		select {
		case <-m.Ready():
		case <-timeout:
			r.t.Fatalf("member %d of %d is not ready within %v", i, len(r.members), d)
		}
	}
}

// awaitLeafs waits until m has count leafs.
func (r *ring) awaitLeafs(m *live, count int, d time.Duration) {
	r.t.Helper()
	changed, cancel := m.Subscribe()
	defer cancel()
	timeout := time.After(d)
	for len(m.Leafs()) != count {
		select {
		case <-changed:
		case <-timeout:
			r.t.Fatalf("%d leafs after %v, not %d", len(m.Leafs()), d, count)
		}
	}
}

func (r *ring) root(key pastry.Key) pastry.NodeHandle {
	best := r.members[0].Self()
	for _, m := range r.members {
		if pastry.Closer(key, m.Self().ID, best.ID) {
			best = m.Self()
		}
	}
	return best
}

// checkLookups looks count keys up, from each member in turn, and returns the largest number of hops.
func (r *ring) checkLookups(count int) (hopsMax int) {
	r.t.Helper()
	for i := range count {
		key := r.randomID()
		m := r.members[i%len(r.members)]
		ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
		route, err := m.Lookup(ctx, key)
		cancel()
		if err != nil {
			r.t.Fatal(err)
		}
		if want := r.root(key); route.Root != want || len(route.Near) == 0 || route.Near[0] != want {
			r.t.Fatalf("%v: root is %v, found %v", key, want.ID, route.Root.ID)
		}
		hopsMax = max(hopsMax, route.Hops)
	}
	return hopsMax
}

func TestFiveNodesOnALAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		start := time.Now()
		for i := range 5 {
			r.start(r.randomID(), uint16(7000+i), 7000) // the first is its own seed
		}
		r.awaitReady(10 * time.Second)
		t.Logf("5 nodes at once with only a seed that does not know it is the founder: %v", time.Since(start))
		r.checkLookups(50)
	})
}

func TestJoinIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		r.start(r.randomID(), 7000)
		r.awaitReady(time.Second)
		start := time.Now()
		for i := 1; i < 5; i++ {
			r.start(r.randomID(), uint16(7000+i), 7000)
		}
		r.awaitReady(2 * time.Second)
		t.Logf("4 joined at once in %v", time.Since(start))
		for _, m := range r.members {
			r.awaitLeafs(m, 4, time.Second)
		}
		r.checkLookups(50)
	})
}

func TestRoutesOfManyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		r.start(r.randomID(), 7000)
		for i := 1; i < 24; i++ {
			r.start(r.randomID(), uint16(7000+i), 7000)
		}
		r.awaitReady(20 * time.Second)
		time.Sleep(time.Minute) // virtual: repairs make leaf sets true
		if hops := r.checkLookups(200); hops < 2 {
			t.Errorf("no lookup took two hops: %d at most", hops)
		}
		far := uint64(0)
		for _, m := range r.members {
			s := m.State()
			far += s.FarLookups()
			if !s.Ready || len(s.Smaller) != 4 || len(s.Larger) != 4 || len(s.Rows) == 0 {
				t.Errorf("state: %+v", s)
			}
		}
		if far == 0 {
			t.Error("no far lookups counted")
		}
	})
}

func TestCrashIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		r.start(r.randomID(), 7000)
		for i := 1; i < 5; i++ {
			r.start(r.randomID(), uint16(7000+i), 7000)
		}
		r.awaitReady(5 * time.Second)
		victim := r.members[3]
		id, port := victim.Self().ID, victim.Self().Port
		r.crash(victim)
		start := time.Now()
		m := r.members[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Open(ctx, memnet.Handle(id, port), wire.ServicePast); err == nil {
			t.Fatal("opened a stream to the dead")
		}
		m.Unreachable(id)
		for _, m := range r.members {
			r.awaitLeafs(m, 3, 10*time.Second)
		}
		t.Logf("everybody left it out after %v", time.Since(start))
		r.checkLookups(20)

		again := r.start(id, port+100, 7000)
		r.awaitReady(2 * time.Second)
		for _, m := range r.members {
			r.awaitLeafs(m, 4, time.Second)
			if h, ok := m.Find(id); !ok || h != again.Self() {
				t.Errorf("%v finds %v at port %d", m.Self().ID, id, h.Port)
			}
		}
		r.checkLookups(20)
	})
}

func TestFarewellIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		r.start(r.randomID(), 7000)
		for i := 1; i < 4; i++ {
			r.start(r.randomID(), uint16(7000+i), 7000)
		}
		r.awaitReady(5 * time.Second)
		r.end(r.members[2])
		for _, m := range r.members {
			r.awaitLeafs(m, 2, time.Second)
		}
	})
}

func TestPartitionedNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		r.start(r.randomID(), 7000)
		for i := 1; i < 5; i++ {
			r.start(r.randomID(), uint16(7000+i), 7000)
		}
		r.awaitReady(5 * time.Second)
		lone := r.members[4]
		r.net.Isolate(lone.Self().ID, true)
		for _, m := range r.members[:4] {
			m.Unreachable(lone.Self().ID)
			r.awaitLeafs(m, 3, 10*time.Second)
		}
		r.awaitLeafs(lone, 0, 5*time.Minute)
		r.net.Isolate(lone.Self().ID, false)
		for _, m := range r.members {
			r.awaitLeafs(m, 4, 2*time.Minute)
		}
		r.checkLookups(20)
	})
}

func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		a := r.start(r.randomID(), 7000)
		b := r.start(r.randomID(), 7001, 7000)
		r.awaitReady(5 * time.Second)
		st, err := a.Open(t.Context(), b.Self(), wire.ServicePast)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Cancel()
		fmt.Fprint(st, "hello")
		_ = st.CloseWrite()
		answer, err := io.ReadAll(st)
		if want := a.Self().ID.String() + " 1 hello"; err != nil || string(answer) != want {
			t.Errorf("%q (%v), want %q", answer, err, want)
		}
		odd, err := a.Open(t.Context(), b.Self(), 77)
		if err != nil {
			t.Fatal(err)
		}
		defer odd.Cancel()
		if _, err := io.ReadAll(odd); err == nil {
			t.Error("an unknown service answered")
		}
		if rtt, ok := a.RTT(b.Self().ID); !ok || rtt != 10*time.Millisecond {
			t.Errorf("RTT %v %v", rtt, ok)
		}
	})
}

func TestLookupEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		m := r.start(r.randomID(), 7001, 7000) // its seed is never there
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := m.Lookup(ctx, r.randomID()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("lookup of a node that has no ring: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := m.Lookup(ctx, r.randomID()); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled lookup: %v", err)
		}
		synctest.Wait()
		left := -1
		m.do(func() { left = len(m.waiting) })
		if left != 0 {
			t.Errorf("%d lookups still wait", left)
		}
		time.AfterFunc(time.Second, m.stop)
		if _, err := m.Lookup(t.Context(), r.randomID()); !errors.Is(err, ErrStopped) {
			t.Errorf("lookup while the node stops: %v", err)
		}
		if s := m.State(); s.Ready {
			t.Error("a stopped node is ready")
		}
	})
}

func TestGarbageAndForgeriesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t)
		defer r.endAll()
		a := r.start(r.randomID(), 7000)
		b := r.start(r.randomID(), 7001, 7000)
		r.awaitReady(5 * time.Second)
		liar := memnet.Handle(r.randomID(), 7666)
		a.Message(liar, []byte("garbage"))
		forged, err := wire.Append(nil, &pastry.Message{Kind: pastry.Leave, Sender: b.Self().ID})
		if err != nil {
			t.Fatal(err)
		}
		a.Message(liar, forged)
		synctest.Wait()
		if s := a.State(); s.Refused != 1 || s.Stats.Forged != 1 || len(a.Leafs()) != 1 {
			t.Errorf("refused %d, forged %d, leafs %d", s.Refused, s.Stats.Forged, len(a.Leafs()))
		}
		r2 := rand.New(rand.NewPCG(1, 9))
		for range 10000 {
			b := make([]byte, r2.IntN(200))
			for i := range b {
				b[i] = byte(r2.Uint32())
			}
			if len(b) > 2 {
				b[0], b[1], b[2] = 1, byte(1+r2.IntN(int(pastry.KindMax)-1)), byte(r2.IntN(4))
			}
			if len(b) > 19 {
				copy(b[3:], liar.ID[:])
			}
			a.Message(liar, b)
		}
		synctest.Wait()
		r.checkLookups(4)
	})
}

// BenchmarkLookupLocal is a lookup whose root is in the leaf set: what a gateway pays most often.
func BenchmarkLookupLocal(b *testing.B) {
	net := memnet.New(0)
	id, _ := hex.DecodeString("10000000000000000000000000000000")
	tr := net.Node(wire.Peer{Handle: memnet.Handle(pastry.NodeID(id), 7000)})
	o := New(Config{Node: pastry.DefaultConfig(nil)}, tr, zap.NewNop())
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	<-o.Ready()
	for b.Loop() {
		if _, err := o.Lookup(ctx, pastry.Key{1}); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done
	_ = tr.Close()
}

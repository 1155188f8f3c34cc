package pastry

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// network runs nodes in virtual time: an event heap, a seed, and the faults that a test asks for. Equal seeds give equal runs.
type network struct {
	t     testing.TB
	rand  *rand.Rand
	now   time.Duration
	queue events
	count uint64

	nodes map[NodeID]*member
	order []NodeID // of nodes, as they were added: nothing walks the map

	loss   float64                                           // of each message
	delay  func(from, to NodeID) time.Duration               // one way
	cut    func(from, to NodeID) bool                        // true drops
	trace  func(now time.Duration, from NodeHandle, s *Send) // each message as it is sent
	sent   uint64
	wrong  []string // oracle violations
	found  map[uint64]Found
	tokens uint64
	adjust func(*Config)
	outbox Outbox
}

// member is one node of a network and what drives it.
type member struct {
	n       *Node
	net     *network
	born    time.Duration
	stopped bool // neither receives nor is woken, until it is continued
	dead    bool
	wake    time.Duration // absolute
	seeds   []NodeID
	route   map[Key]int // deliveries
}

type event struct {
	at    time.Duration
	order uint64
	to    *member
	in    Input
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].order, e[j].order)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func newNetwork(t testing.TB, seed uint64) *network {
	net := &network{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), nodes: map[NodeID]*member{}, found: map[uint64]Found{},
		delay: func(NodeID, NodeID) time.Duration { return 10 * time.Millisecond },
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: seed %d", seed)
		}
	})
	return net
}

// add starts a node that knows seeds; without any it founds a ring. An id that was there before restarts.
func (net *network) add(id NodeID, seeds ...NodeID) *member {
	cfg := DefaultConfig(net.rand)
	cfg.Seeded = len(seeds) > 0
	m := &member{net: net, born: net.now, seeds: seeds, route: map[Key]int{}, wake: never}
	cfg.App = m
	if net.adjust != nil {
		net.adjust(&cfg)
	}
	port := uint16(1)
	if old := net.nodes[id]; old != nil {
		old.dead = true
		port = old.n.self.Port + 1
	} else {
		net.order = append(net.order, id)
	}
	m.n = New(cfg, NodeHandle{ID: id, Port: port})
	net.nodes[id] = m
	net.step(m, &Started{})
	return m
}

func (net *network) push(at time.Duration, to *member, in Input) {
	net.count++
	heap.Push(&net.queue, event{at, net.count, to, in})
}

// step feeds one input to m and carries out its wishes.
func (net *network) step(m *member, in Input) {
	net.outbox.Reset()
	out := &net.outbox
	m.n.Step(net.now-m.born, in, out)
	if out.Wake != never && out.Wake+m.born != m.wake {
		m.wake = out.Wake + m.born
		net.push(max(m.wake, net.now), m, &TimerFired{})
	}
	for i := range out.Sends {
		net.send(m, &out.Sends[i])
	}
	for _, f := range out.Found {
		f.Near = slices.Clone(f.Near)
		net.found[f.Token] = f
	}
	if out.FindSeeds {
		for _, id := range m.seeds {
			if s := net.nodes[id]; s != nil && !s.dead && !net.drops(m.n.self.ID, id) {
				net.push(net.now+2*net.delay(m.n.self.ID, id), m, &SeedSeen{s.n.self})
			}
		}
	}
}

func (net *network) drops(from, to NodeID) bool {
	return net.cut != nil && (net.cut(from, to) || net.cut(to, from)) || net.loss > 0 && net.rand.Float64() < net.loss
}

func (net *network) send(from *member, s *Send) {
	net.sent++
	if net.trace != nil {
		net.trace(net.now, from.n.self, s)
	}
	to := net.nodes[s.To.ID]
	if to == nil || to.n.self != s.To || net.drops(from.n.self.ID, s.To.ID) {
		return
	}
	in := &Received{From: from.n.self, Message: s.Message}
	in.Message.Handles = slices.Clone(s.Message.Handles)
	net.push(net.now+net.delay(from.n.self.ID, s.To.ID), to, in)
}

// run lets d of virtual time pass.
func (net *network) run(d time.Duration) { net.runUntil(d, func() bool { return false }) }

// runUntil lets time pass until done, d at most, and reports whether it was done.
func (net *network) runUntil(d time.Duration, done func() bool) bool {
	end := net.now + d
	for !done() {
		if len(net.queue) == 0 || net.queue[0].at > end {
			net.now = end
			return done()
		}
		e := heap.Pop(&net.queue).(event)
		net.now = e.at
		if e.to.dead {
			continue
		}
		if e.to.stopped { // the socket's buffer keeps some
			if _, timer := e.in.(*TimerFired); timer {
				e.to.wake = never
			}
			continue
		}
		if _, timer := e.in.(*TimerFired); timer {
			if e.at < e.to.wake {
				continue // it asked for another time since
			}
			e.to.wake = never
		}
		net.step(e.to, e.in)
	}
	return true
}

func (net *network) kill(id NodeID) { net.nodes[id].dead = true }

// lookup asks from a node, and returns the token of the answer.
func (net *network) lookup(from NodeID, key Key) uint64 {
	net.tokens++
	m := net.nodes[from]
	net.step(m, &FindKey{Key: key, Token: net.tokens, Until: net.now - m.born + 30*time.Second})
	return net.tokens
}

// live returns the nodes that run, in the order of their ids.
func (net *network) live() []*member {
	var live []*member
	for _, id := range net.order {
		if m := net.nodes[id]; !m.dead && !m.stopped {
			live = append(live, m)
		}
	}
	slices.SortFunc(live, func(a, b *member) int { return a.n.self.ID.Compare(b.n.self.ID) })
	return live
}

func (net *network) allReady() bool {
	for _, id := range net.order {
		if m := net.nodes[id]; !m.dead && !m.stopped && !m.n.Ready() {
			return false
		}
	}
	return true
}

// Deliver is the oracle that sees every delivery.
func (m *member) Deliver(_ time.Duration, msg *Message) {
	m.route[msg.Key]++
	if !m.n.Ready() {
		m.net.wrong = append(m.net.wrong, fmt.Sprintf("%v delivered %v before it was ready", m.n.self.ID, msg.Key))
	}
}

func (m *member) Forward(time.Duration, *Message, NodeHandle) bool { return true }
func (m *member) NewLeafs(time.Duration, *LeafSet)                 {}

// root is the live node numerically closest to key.
func (net *network) root(key Key) NodeHandle {
	live := net.live()
	best := live[0].n.self
	for _, m := range live[1:] {
		if Closer(key, m.n.self.ID, best.ID) {
			best = m.n.self
		}
	}
	return best
}

// leafsTrue returns an error unless every live node is ready and has the leaf set that sorting all nodeIds gives.
func (net *network) leafsTrue() error {
	live := net.live() // in the order of the ring
	for at, m := range live {
		if !m.n.Ready() {
			return fmt.Errorf("%v is not ready", short(m.n.self.ID))
		}
		for s := range m.n.leafs.sides {
			var want []NodeHandle
			for i := 1; i <= min(m.n.leafs.half, len(live)-1); i++ {
				step := i
				if Side(s) == Smaller {
					step = len(live) - i
				}
				want = append(want, live[(at+step)%len(live)].n.self)
			}
			if !slices.Equal(m.n.leafs.sides[s], want) {
				return fmt.Errorf("%v, side %d: has %v, should have %v", short(m.n.self.ID), s, shorts(m.n.leafs.sides[s]), shorts(want))
			}
		}
	}
	return nil
}

// settleLeafs runs until leaf sets are true, or fails the test after d.
func (net *network) settleLeafs(d time.Duration) time.Duration {
	net.t.Helper()
	start := net.now
	for end := net.now + d; net.leafsTrue() != nil && net.now < end; {
		net.run(250 * time.Millisecond)
	}
	if err := net.leafsTrue(); err != nil {
		net.t.Fatalf("after %v: %v", d, err)
	}
	return net.now - start
}

// checkLookups asks count lookups of random keys from random nodes, and wants each answered by the true root, with the true
// nodes around it. It returns how many took two hops or more.
func (net *network) checkLookups(count int) (far int) {
	net.t.Helper()
	live := net.live()
	type asked struct {
		token uint64
		key   Key
	}
	var all []asked
	for range count {
		key := randomID(net.rand)
		all = append(all, asked{net.lookup(live[net.rand.IntN(len(live))].n.self.ID, key), key})
	}
	answered := 0
	net.runUntil(31*time.Second, func() bool {
		for answered < count {
			if _, ok := net.found[all[answered].token]; !ok {
				return false
			}
			answered++
		}
		return true
	})
	for _, a := range all {
		f, ok := net.found[a.token]
		switch root := net.root(a.key); {
		case !ok || f.Lost:
			net.t.Fatalf("lookup of %v lost", a.key)
		case f.Root != root:
			net.t.Fatalf("lookup of %v ended at %v, the root is %v (hops %d)", a.key, f.Root.ID, root.ID, f.Hops)
		case len(f.Near) == 0 || f.Near[0] != root:
			net.t.Fatalf("lookup of %v: nearest is %v", a.key, shorts(f.Near))
		case f.Hops >= 2:
			far++
		}
	}
	clear(net.found)
	return far
}

// check fails the test where an oracle saw something.
func (net *network) check() {
	net.t.Helper()
	for _, w := range net.wrong {
		net.t.Error(w)
	}
}

// sortedSide is the twin of one side of a leaf set: all nodes sorted by how far they lie in direction s.
func sortedSide(self NodeID, s Side, all []NodeHandle, half int) []NodeHandle {
	var others []NodeHandle
	for _, h := range all {
		if h.ID != self {
			others = append(others, h)
		}
	}
	slices.SortFunc(others, func(a, b NodeHandle) int {
		if s.offset(self, a.ID).less(s.offset(self, b.ID)) {
			return -1
		}
		return 1
	})
	return others[:min(half, len(others))]
}

func randomID(r *rand.Rand) NodeID {
	var id NodeID
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// id8 is a point of the 8-bit ring.
func id8(b byte) NodeID { return NodeID{b} }

func short(id NodeID) string {
	if (id == NodeID{id[0]}) {
		return fmt.Sprintf("%02x", id[0])
	}
	return id.String()[:8]
}

func shorts(hs []NodeHandle) string {
	s := ""
	for i, h := range hs {
		if i > 0 {
			s += " "
		}
		s += short(h.ID)
	}
	return "[" + s + "]"
}

func asDuration(us uint32) time.Duration { return time.Duration(us) * time.Microsecond }

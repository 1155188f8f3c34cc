package sim

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"time"

	"larder/pastry"
)

// never is later than any time.
const never = time.Duration(math.MaxInt64)

// Config is what a Sim is made from.
type Config struct {
	Seed     uint64
	Topology Topology
	Loss     float64              // share of messages lost; 0 to 1
	Jitter   float64              // each delay is lengthened by up to this share of it
	Adjust   func(*pastry.Config) // of the cores' configuration, which is pastry.DefaultConfig before; may be nil
}

// Sim is nodes of one simulation, the network between them, and the observer. Nodes are numbered from 0 in the order in
// which they were added; a host of the topology has the same number as its node.
//
// Memory, N nodes: the cores (see pastry.Node), 88 bytes beside each, 20 in the true ring, and what is under way: 32 bytes for an
// event and about 200 for a message, besides 34 for each handle that the largest message in that place ever carried.
type Sim struct {
	Lookups LookupStats // how the lookups ended so far
	Joins   JoinStats

	now   time.Duration
	queue queue
	net   network
	nodes []node
	ring  ring // of the nodes that live and are ready

	places  *rand.Rand // nodeIds and places
	cores   *rand.Rand // what the cores draw from
	choices *rand.Rand // what scenarios choose
	core    pastry.Config

	pending  map[pastry.Key]*lookup // lookups under way
	stepping int32                  // the node whose Step runs: the cores share one App
	out      pastry.Outbox
	arrived  flight          // the message that a node receives now
	seen     pastry.SeedSeen // an input, kept for its memory
	hash     uint64
	events   uint64
}

// node is what drives one core.
type node struct {
	core   *pastry.Node  // nil once crashed
	born   time.Duration // when this life began: the core's time 0
	wake   time.Duration // when the core wants to be woken; never if it does not
	timer  time.Duration // of the eventTimer that counts, no later than wake; others of this node are stale
	id     pastry.NodeID
	seed   int32  // who is at the address that it joins by; -1 if it founded the ring
	talked uint32 // messages it sent or that were sent to it, in this life
	life   uint16
	island uint8 // messages pass only between nodes of one island
	ready  bool  // and in the ring
}

// JoinStats counts what joins cost.
type JoinStats struct {
	Ready    uint64 // nodes that became ready, the founder not counted; again after a restart or a long sleep
	Messages uint64 // sent by or to these before they were ready
	Took     time.Duration
}

// New returns a simulation without nodes at time 0.
func New(cfg Config) *Sim {
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(cfg.Seed, n)) }
	s := &Sim{
		places: stream(1), cores: stream(2), choices: stream(4),
		net:     network{rand: stream(3), topology: cfg.Topology, loss: cfg.Loss, jitter: cfg.Jitter},
		pending: map[pastry.Key]*lookup{}, hash: cfg.Seed,
	}
	s.core = pastry.DefaultConfig(s.cores)
	if cfg.Adjust != nil {
		cfg.Adjust(&s.core)
	}
	s.core.App = (*upcalls)(s)
	return s
}

// Add starts a new node, at a random place of the world and of the ring, that joins by way of node seed, or founds a ring if
// seed is -1. It returns the node's number.
func (s *Sim) Add(seed int) int {
	i := len(s.nodes)
	s.net.topology.Place(s.places)
	s.nodes = append(s.nodes, node{id: randomID(s.places)})
	s.start(int32(i), seed)
	return i
}

// Crash ends node i without a word. What it has sent still arrives.
func (s *Sim) Crash(i int) {
	n := &s.nodes[i]
	if n.ready {
		s.ring.remove(n.id)
	}
	for key, l := range s.pending {
		if l.from == int32(i) { // nobody waits for it any more
			delete(s.pending, key)
		}
	}
	n.core, n.ready, n.wake, n.timer = nil, false, never, never
}

// Restart starts a crashed node again at its place on the ring, under a new address and without memory.
func (s *Sim) Restart(i, seed int) {
	s.nodes[i].life++
	s.start(int32(i), seed)
}

func (s *Sim) start(i int32, seed int) {
	n := &s.nodes[i]
	cfg := s.core
	cfg.Seeded = seed >= 0
	n.core = pastry.New(cfg, handle(n.id, i, n.life))
	n.born, n.wake, n.timer, n.seed, n.talked = s.now, never, never, int32(seed), 0
	s.step(i, &pastry.Started{})
}

// Now is the virtual time.
func (s *Sim) Now() time.Duration { return s.now }

// Len is how many nodes were ever added.
func (s *Sim) Len() int { return len(s.nodes) }

// Ready is how many nodes live and are ready.
func (s *Sim) Ready() int { return len(s.ring) }

// Node returns the core of node i, to be read until time goes on; nil if it has crashed.
func (s *Sim) Node(i int) *pastry.Node { return s.nodes[i].core }

// RandomReady returns a node that is ready, any with the same probability. There is one.
func (s *Sim) RandomReady() int { return int(s.ring[s.choices.IntN(len(s.ring))].node) }

// RandomKey returns any key.
func (s *Sim) RandomKey() pastry.Key { return randomID(s.choices) }

// Hash is over every event so far: equal seeds and equal calls give equal hashes.
func (s *Sim) Hash() uint64 { return s.hash }

// Events is how many there were.
func (s *Sim) Events() uint64 { return s.events }

// Sent is how many messages nodes have sent, by Kind, whether or not they arrived.
func (s *Sim) Sent() [pastry.KindMax]uint64 { return s.net.carried }

// SentAll is the sum of Sent.
func (s *Sim) SentAll() (sum uint64) {
	for _, n := range s.net.carried {
		sum += n
	}
	return sum
}

// Partition puts each node on the island that island says: from now on messages pass only within islands. New nodes are on
// island 0. Messages under way arrive.
func (s *Sim) Partition(island func(i int) uint8) {
	for i := range s.nodes {
		s.nodes[i].island = island(i)
	}
}

// Heal ends a partition.
func (s *Sim) Heal() { s.Partition(func(int) uint8 { return 0 }) }

// SetLoss changes the share of messages that are lost.
func (s *Sim) SetLoss(share float64) { s.net.loss = share }

// Run lets d of virtual time pass.
func (s *Sim) Run(d time.Duration) {
	end := s.now + d
	for {
		at, ok := s.queue.next()
		if !ok || at > end {
			break
		}
		e := s.queue.pop()
		s.now = e.at
		s.happen(&e)
	}
	s.now = end
}

// RunUntil lets time pass until done, which is asked every step, at most for limit. It reports whether it was done.
func (s *Sim) RunUntil(limit, step time.Duration, done func() bool) bool {
	for end := s.now + limit; s.now < end && !done(); {
		s.Run(min(step, end-s.now))
	}
	return done()
}

// happen carries out one event.
func (s *Sim) happen(e *event) {
	n := &s.nodes[e.node]
	current := n.core != nil && e.life == n.life
	switch e.kind {
	case eventTimer:
		if !current || e.at != n.timer {
			return // stale
		}
		n.timer = never
		if n.wake > s.now {
			s.setTimer(e.node)
			return
		}
		s.note(e, 0)
		n.wake = never
		s.step(e.node, &pastry.TimerFired{})
	case eventSeed:
		if seed := &s.nodes[e.flight]; current && seed.core != nil {
			s.note(e, uint64(e.flight))
			s.seen.Seed = seed.core.Self()
			s.step(e.node, &s.seen)
		}
	case eventMessage:
		if current {
			s.arrived = s.net.flights[e.flight] // a copy, since the slice may grow during the step; the handles are not copied
			f := &s.arrived
			m := &f.received.Message
			s.note(e, uint64(m.Kind)<<56|uint64(m.Flags)<<48|uint64(m.Hops)<<40|uint64(m.Seq))
			s.mix(m.Nonce ^ uint64(len(m.Handles))<<32 ^ uint64(f.from))
			if m.Kind == pastry.Lookup {
				s.passed(f)
			}
			s.step(e.node, &f.received)
		}
		s.net.land(e.flight)
	}
}

// note takes an event into the hash.
func (s *Sim) note(e *event, what uint64) {
	s.events++
	s.mix(uint64(e.at))
	s.mix(uint64(e.kind)<<32 | uint64(e.node))
	s.mix(what)
}

func (s *Sim) mix(word uint64) {
	s.hash = bits.RotateLeft64((s.hash^word)*0x9e3779b97f4a7c15, 29) // an odd number without pattern: 2⁶⁴ over the golden ratio
}

// step feeds one input to node i and carries out its wishes.
func (s *Sim) step(i int32, in pastry.Input) {
	n := &s.nodes[i]
	s.stepping = i
	s.out.Reset()
	out := &s.out
	n.core.Step(s.now-n.born, in, out)
	n.wake = never
	if out.Wake != never {
		n.wake = max(out.Wake+n.born, s.now)
		s.setTimer(i)
	}
	s.noteReady(i)
	for j := range out.Sends {
		s.send(i, &out.Sends[j])
	}
	for j := range out.Found {
		s.ended(i, &out.Found[j])
	}
	if out.FindSeeds && n.seed >= 0 {
		s.seek(i)
	}
}

// setTimer makes sure that node i is woken no later than it wants to be.
func (s *Sim) setTimer(i int32) {
	n := &s.nodes[i]
	if n.wake < n.timer {
		n.timer = n.wake
		s.queue.push(event{at: n.wake, node: i, life: n.life, kind: eventTimer})
	}
}

// noteReady keeps the ring as the cores are.
func (s *Sim) noteReady(i int32) {
	n := &s.nodes[i]
	ready := n.core.Ready()
	if ready == n.ready {
		return
	}
	n.ready = ready
	if !ready {
		s.ring.remove(n.id)
		return
	}
	s.ring.add(n.id, i)
	if n.seed >= 0 {
		s.Joins.Ready++
		s.Joins.Messages += uint64(n.talked)
		s.Joins.Took += s.now - n.born
	}
}

// seek finds out who is at the address of i's seed: a round trip, without loss, since the transport asks until it knows.
func (s *Sim) seek(i int32) {
	n := &s.nodes[i]
	if seed := &s.nodes[n.seed]; seed.core != nil && seed.island == n.island {
		s.queue.push(event{at: s.now + 2*s.net.delay(i, n.seed), node: i, flight: n.seed, life: n.life, kind: eventSeed})
	}
}

func (s *Sim) send(i int32, send *pastry.Send) {
	from := &s.nodes[i]
	s.net.carried[send.Message.Kind]++
	from.talked++
	if send.Message.Kind == pastry.Join && send.Message.Origin.ID != from.id {
		s.net.joinHops++
	}
	to := number(&send.To, len(s.nodes))
	if to < 0 || s.nodes[to].id != send.To.ID {
		s.net.dropped++
		return
	}
	s.nodes[to].talked++
	if s.nodes[to].island != from.island || s.net.lost() {
		s.net.dropped++
		return
	}
	f := s.net.takeOff(i, to, from.core.Self(), &send.Message)
	s.queue.push(event{at: s.now + s.net.delay(i, to), node: to, flight: f, life: send.To.Port, kind: eventMessage})
}

// upcalls is the App of all cores.
type upcalls Sim

func (u *upcalls) Deliver(_ time.Duration, m *pastry.Message) { (*Sim)(u).delivered(m.Key) }

func (u *upcalls) Forward(time.Duration, *pastry.Message, pastry.NodeHandle) bool { return true }

func (u *upcalls) NewLeafs(time.Duration, *pastry.LeafSet) {}

func randomID(r *rand.Rand) (id pastry.NodeID) {
	binary.BigEndian.PutUint64(id[:8], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	return id
}

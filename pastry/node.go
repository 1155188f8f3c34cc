package pastry

import (
	"math"
	"slices"
	"time"
)

// phase is how far a node has come.
type phase uint8

const (
	joining phase = iota // no leaf set; asks to be let in
	probing              // has a leaf set to be; delivers nothing until all of it has answered
	ready                // delivers
)

// never is later than any time.
const never = time.Duration(math.MaxInt64)

// task is one of the things a node does at a time of its own.
type task uint8

const (
	taskJoin task = iota
	taskSeeds
	taskHeartbeat
	taskLeafRepair
	taskRowExchange
	taskSweep
	taskCount
)

// Node is one member of the ring, or one that joins. It belongs to one goroutine at a time.
//
// Memory, for N = 100,000, b = 4, |L| = |M| = 32: five or six rows of 544 bytes, 32 + 32 handles of 34 and 40 bytes, about 110
// peers of 28 bytes, and 1.5 kB for Node itself (a third of it Stats): 10.6 kB as TestBytesPerNode measures it, 1.1 GB a ring.
// Only the slices themselves are pointers: their contents are nothing for the collector to scan. Rows and sides are allocated
// when first filled, and lists for work under way when there is some.
type Node struct {
	cfg   Config
	self  NodeHandle
	phase phase

	leafs LeafSet
	table RoutingTable
	near  NeighborhoodSet
	peers []peer // everybody in the three sets above (and briefly some that were), sorted by nodeId

	probes  []probe      // awaiting answers; at most probesMax
	hops    []hop        // awaiting acknowledgements; at most hopsMax
	lookups []lookup     // of this node's own, awaiting the root
	failed  []failedNode // at most failedMax, oldest first
	held    []Message    // lookups that came while probing; at most heldMax

	joiner joiner // while joining and probing
	helped helped // the joiner that this node helps

	due           [taskCount]time.Duration
	now           time.Duration // of the last Step
	wake          time.Duration // no later than the next thing to do
	settled       time.Duration // from then on the leaf set may have no holes
	deaths        deaths        // for self-tuning
	sweepAt       NodeID        // the last peer that the sweep looked at
	seq           uint32
	leafsChanged  bool
	leafProbesOut int // spreads the periodic ones over the members
	rowExchanges  int // since this node became ready; at most 16

	stats Stats
	out   *Outbox // during Step
}

// New returns the node self, which does nothing until it has seen Started. It panics if cfg.Check fails.
func New(cfg Config, self NodeHandle) *Node {
	if err := cfg.Check(); err != nil {
		panic(err)
	}
	n := &Node{
		cfg: cfg, self: self,
		leafs: NewLeafSet(self.ID, cfg.LeafSetSize),
		table: NewRoutingTable(self.ID, cfg.DigitBits),
		near:  NewNeighborhoodSet(cfg.NeighborhoodSize),
		wake:  never,
	}
	for t := range n.due {
		n.due[t] = never
	}
	return n
}

// Self returns the node's own handle.
func (n *Node) Self() NodeHandle { return n.self }

// Ready reports whether the node delivers.
func (n *Node) Ready() bool { return n.phase == ready }

// Leafs returns the leaf set. It is valid, and the caller may read it, until the next Step.
func (n *Node) Leafs() *LeafSet { return &n.leafs }

// Table returns the routing table, to be read until the next Step.
func (n *Node) Table() *RoutingTable { return &n.table }

// Near returns the neighborhood set, to be read until the next Step.
func (n *Node) Near() *NeighborhoodSet { return &n.near }

// Stats returns a copy of the counters.
func (n *Node) Stats() Stats { return n.stats }

// Find returns the handle of a node that this one knows.
func (n *Node) Find(id NodeID) (NodeHandle, bool) {
	if h, ok := n.leafs.Get(id); ok {
		return h, true
	}
	if h := n.table.Get(id); h.ID == id && !h.IsZero() {
		return h, true
	}
	if i := n.near.find(id); i >= 0 {
		return n.near.members[i].NodeHandle, true
	}
	return NodeHandle{}, false
}

// Step applies one input to n and appends to out what n wants done because of it: messages to send, results of lookups, the
// time to be woken at. It never blocks and never reads a clock. now is the time since n was created; where it decreases the
// largest so far counts. A message that makes no sense is dropped and counted in Stats: no peer can make Step panic.
//
// Input is only read, and nothing of it is kept. What out holds is valid until out.Reset.
func (n *Node) Step(now time.Duration, in Input, out *Outbox) {
	n.out = out
	slept := n.wake != never && now > n.wake && now-n.wake >= n.cfg.HeartbeatEvery
	n.now = max(n.now, now)
	if slept {
		n.overslept()
	}
	switch in := in.(type) {
	case *Received:
		n.receive(in)
	case *TimerFired:
		n.runDue()
	case *Started:
		n.start()
	case *SeedSeen:
		n.seedSeen(in.Seed)
	case *PeerUnreachable:
		if h, ok := n.Find(in.ID); ok {
			n.probe(h, probePing, true)
		}
	case *FindKey:
		n.findKey(in)
	case *ForgetKey:
		n.lookups = slices.DeleteFunc(n.lookups, func(l lookup) bool { return l.token == in.Token })
	case *Leaving:
		n.leave()
	}
	if n.phase == probing {
		n.finishProbing()
	}
	if n.leafsChanged {
		n.leafsChanged = false
		out.LeafsChanged = true
		if n.cfg.App != nil {
			n.cfg.App.NewLeafs(n.now, &n.leafs)
		}
	}
	out.Wake = n.wake
	n.out = nil
}

// receive handles one message from the peer that the transport proves.
func (n *Node) receive(in *Received) {
	m, from := &in.Message, in.From
	if m.Kind == 0 || m.Kind >= KindMax || len(m.Handles) > HandlesMax || from.ID == n.self.ID || from.IsZero() {
		n.stats.Senseless++
		return
	}
	if m.Sender != from.ID {
		n.stats.Forged++
		return
	}
	n.stats.Received[m.Kind]++
	rtt, asked := n.settle(m, from)
	if m.Kind == Leave {
		n.left(from)
		return
	}
	n.heard(from, m.Flags, rtt)
	n.handle(m, from, asked)
}

// handle does what m asks for. asked says that m answers a question of this node's.
func (n *Node) handle(m *Message, from NodeHandle, asked bool) {
	switch m.Kind {
	case Ping:
		n.send(from, &Message{Kind: Pong, Seq: m.Seq})
	case Lookup, Join, Place:
		n.takeHop(m, from)
	case LookupReply:
		n.lookupAnswered(m, from)
	case JoinReply:
		n.letIn(m, from)
	case JoinBusy:
		n.turnedAway(m, from)
	case LeafProbe:
		if n.phase != joining {
			n.sendLeafs(from, LeafReply, m.Seq)
			n.learn(m.Handles, false)
			n.tellOfFailed(from, m.Handles)
		}
	case LeafReply:
		if n.phase != joining {
			if asked {
				n.joiner.answeredBy(n.phase, from.ID)
			}
			n.learn(m.Handles, false)
			n.tellOfFailed(from, m.Handles)
		}
	case RowRequest:
		if n.phase != joining {
			n.sendRows(from, m.Seq, int(m.Row), int(m.Row), false)
		}
	case Rows:
		n.takeRows(m)
	case Suspect:
		n.hearSuspects(m)
	}
}

// settle matches an answer with the question that it answers, and returns the time that took where it is telling: zero
// otherwise.
func (n *Node) settle(m *Message, from NodeHandle) (rtt time.Duration, asked bool) {
	switch m.Kind {
	case Pong, LeafReply:
		rtt, asked = n.probeAnswered(m, from)
		if !asked && (m.Kind == Pong || m.Seq != 0) {
			n.stats.Unasked++
		}
	case Ack, Nack:
		rtt, asked = n.hopAnswered(m, from)
		if !asked {
			n.stats.Unasked++
		}
	}
	return rtt, asked
}

// send appends m to the outbox, with this node's name and flags.
func (n *Node) send(to NodeHandle, m *Message) {
	m.Sender = n.self.ID
	m.Flags = n.flags()
	n.stats.Sent[m.Kind]++
	n.out.Sends = append(n.out.Sends, Send{to, *m})
}

func (n *Node) flags() Flags {
	switch n.phase {
	case probing:
		return FlagMember
	case ready:
		return FlagMember | FlagReady
	}
	return 0
}

// nextSeq returns a number that no question under way has; it is never zero.
func (n *Node) nextSeq() uint32 {
	n.seq++
	if n.seq == 0 {
		n.seq = 1
	}
	return n.seq
}

// at makes sure that the node is woken by then.
func (n *Node) at(then time.Duration) { n.wake = min(n.wake, then) }

// schedule sets when t is next due.
func (n *Node) schedule(t task, then time.Duration) {
	n.due[t] = then
	n.at(then)
}

// sooner brings t forward to then, if it is due later.
func (n *Node) sooner(t task, then time.Duration) {
	if then < n.due[t] {
		n.schedule(t, then)
	}
}

// jitter returns a duration between half and one and a half times d.
func (n *Node) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(n.cfg.Rand.Int64N(int64(d)+1))
}

// runDue does all that is due, and finds out when to wake next.
func (n *Node) runDue() {
	n.wake = never // raised again by whatever is rescheduled
	for t, then := range n.due {
		if then <= n.now {
			n.due[t] = never
			n.run(task(t))
		}
	}
	n.hopTimeouts()
	n.probeTimeouts()
	n.lookupTimeouts()
	n.failedTimeouts()
	for _, then := range n.due {
		n.at(then)
	}
}

func (n *Node) run(t task) {
	switch t {
	case taskJoin:
		n.tryJoin()
	case taskSeeds:
		n.lookForSeeds()
	case taskHeartbeat:
		n.heartbeat()
	case taskLeafRepair:
		n.repairLeafs()
	case taskRowExchange:
		n.exchangeRows()
	case taskSweep:
		n.sweep()
	}
}

// leave says farewell to everybody who may count on this node.
func (n *Node) leave() {
	for _, h := range n.everybody() {
		n.send(h, &Message{Kind: Leave})
	}
	n.phase = joining
	n.wake = never
	for t := range n.due {
		n.due[t] = never
	}
}

// everybody returns the handle of each peer, in the outbox's memory.
func (n *Node) everybody() []NodeHandle {
	start := len(n.out.handles)
	for i := range n.peers {
		if h, ok := n.Find(n.peers[i].id); ok {
			n.out.handles = append(n.out.handles, h)
		}
	}
	return n.out.handles[start:len(n.out.handles):len(n.out.handles)]
}

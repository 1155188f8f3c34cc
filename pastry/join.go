package pastry

import (
	"slices"
	"time"
)

// joiner is what a node keeps while it joins.
type joiner struct {
	contact      NodeHandle // the seed to ask again after JoinBusy
	nonce        uint64     // of the Join under way; 0 if none
	tries        uint8
	since        time.Duration // when it began
	metMember    time.Duration // when it last heard of somebody who is further
	metJoiner    time.Duration // when it last heard of another joiner
	metSmaller   time.Duration // when it last heard of one with a smaller nodeId
	rows         []NodeHandle  // told on the way, for the routing table; at most HandlesMax
	answeredOnes []NodeID      // who answered a LeafProbe of this node's, while probing
}

// helped is the joiner that a node lets in.
type helped struct {
	id      NodeID // zero if there is none
	until   time.Duration
	refused uint32 // others turned away meanwhile
}

func (j *joiner) answeredBy(p phase, id NodeID) {
	if p == probing && !slices.Contains(j.answeredOnes, id) {
		j.answeredOnes = append(j.answeredOnes, id)
	}
}

// met takes note of another joiner.
func (j *joiner) met(now time.Duration, other, self NodeID) {
	j.metJoiner = now
	if other.Compare(self) < 0 {
		j.metSmaller = now
	}
}

// start founds a ring, or begins to join one.
func (n *Node) start() {
	if !n.cfg.Seeded {
		n.becomeReady()
		return
	}
	n.rejoin()
}

// rejoin begins to join from nothing.
func (n *Node) rejoin() {
	n.phase = joining
	n.joiner = joiner{since: n.now, metMember: -never, metJoiner: -never, metSmaller: -never}
	n.tryJoin()
}

// tryJoin asks to be let in, again, or looks for somebody to ask. Where only joiners answer (a whole ring was restarted), the one
// with the smallest nodeId founds the ring; should two do so, the rings merge.
func (n *Node) tryJoin() {
	if n.phase != joining {
		return
	}
	j := &n.joiner
	window := n.now - n.cfg.FoundAfter
	if n.now-j.since >= n.cfg.FoundAfter && j.metJoiner > window && j.metSmaller <= window && j.metMember <= window {
		n.becomeReady()
		n.schedule(taskSeeds, n.now) // and invite the others
		return
	}
	then := n.now + n.jitter(min(n.cfg.JoinTimeout<<min(j.tries, 3), 5*time.Second))
	j.tries = min(j.tries+1, 16)
	if may := j.since + n.cfg.FoundAfter; n.now < may {
		then = min(then, may)
	}
	n.schedule(taskJoin, then)
	if !j.contact.IsZero() {
		contact := j.contact
		j.contact = NodeHandle{}
		n.sendJoin(contact)
		return
	}
	n.out.FindSeeds = true
}

// seedSeen asks a seed to let this node in or, once it is in a ring, where its place is in the seed's.
func (n *Node) seedSeen(seed NodeHandle) {
	if seed.ID == n.self.ID || seed.IsZero() {
		return
	}
	switch n.phase {
	case joining:
		n.sendJoin(seed)
	case ready:
		n.askForPlace(seed)
	}
}

// invited handles a ready node's interest in one that joins and knows nobody better: whose only seed is itself, say.
func (n *Node) invited(by NodeHandle) {
	if n.phase == joining && n.joiner.contact.IsZero() {
		n.joiner.metMember = n.now
		n.joiner.contact = by
		n.sooner(taskJoin, n.now+n.jitter(n.cfg.JoinRetry))
	}
}

func (n *Node) sendJoin(to NodeHandle) {
	if n.joiner.nonce == 0 {
		n.joiner.nonce = max(n.cfg.Rand.Uint64(), 1)
	}
	n.sendHop(to, &Message{Kind: Join, Nonce: n.joiner.nonce, Origin: n.self}, true)
}

// askForPlace sends out a question for the nodes around this one in the ring that to is in. Its root answers with its leafs.
func (n *Node) askForPlace(to NodeHandle) {
	n.sendHop(to, &Message{Kind: Place, Nonce: n.cfg.Rand.Uint64(), Origin: n.self}, true)
}

// giveRows tells a joiner the entries of this node's routing table that it can use: the first node on the way all rows as far
// as their prefixes agree, and its neighborhood; the others one row (Pastry §2.4).
func (n *Node) giveRows(m *Message) {
	row := n.self.ID.SharedPrefixLen(m.Origin.ID, n.cfg.DigitBits)
	first := row
	if m.Hops == 1 {
		first = 0
	}
	n.sendRows(m.Origin, 0, first, row, m.Hops == 1)
}

func (n *Node) sendRows(to NodeHandle, seq uint32, first, last int, near bool) {
	start := len(n.out.handles)
	n.out.handles = append(n.out.handles, n.self)
	for row := first; row <= min(last, n.table.Rows()-1); row++ {
		n.out.handles = n.table.AppendRow(n.out.handles, row)
	}
	if near {
		n.out.handles = n.near.AppendMembers(n.out.handles)
	}
	end := min(len(n.out.handles), start+HandlesMax)
	n.out.handles = n.out.handles[:end]
	n.send(to, &Message{Kind: Rows, Seq: seq, Handles: n.out.handles[start:end:end]})
}

// takeRows learns entries for the routing table. A joiner keeps them until it has a place, since whoever it asked before
// would not take it in.
func (n *Node) takeRows(m *Message) {
	if n.phase == ready {
		n.learn(m.Handles, m.Seq != 0)
		return
	}
	room := HandlesMax - len(n.joiner.rows)
	n.joiner.rows = append(n.joiner.rows, m.Handles[:min(room, len(m.Handles))]...)
}

// help lets a joiner in as the root of its nodeId: one at a time, since joiners between the same two members that do not
// know of each other are what tears rings (LuPastry).
func (n *Node) help(m *Message) {
	h := &n.helped
	if h.id != (NodeID{}) && h.id != m.Origin.ID && n.now < h.until {
		n.turnAway(m)
		return
	}
	*h = helped{id: m.Origin.ID, until: n.now + n.cfg.JoinHold}
	n.stats.Helped++
	start := len(n.out.handles)
	n.out.handles = n.leafs.AppendMembers(append(n.out.handles, n.self))
	n.send(m.Origin, &Message{Kind: JoinReply, Nonce: m.Nonce, Handles: n.out.handles[start:len(n.out.handles):len(n.out.handles)]})
}

// turnAway tells a joiner to come back; the more there are the later.
func (n *Node) turnAway(m *Message) {
	n.stats.TurnedAway++
	n.helped.refused = min(n.helped.refused+1, 20)
	wait := n.cfg.JoinRetry * time.Duration(n.helped.refused)
	n.send(m.Origin, &Message{Kind: JoinBusy, Nonce: m.Nonce, RetryAfter: uint32(wait.Milliseconds())})
}

// letIn begins to probe the leaf set to be.
func (n *Node) letIn(m *Message, from NodeHandle) {
	if n.phase != joining || m.Nonce == 0 || m.Nonce != n.joiner.nonce || m.Flags&FlagReady == 0 {
		n.stats.Unasked++
		return
	}
	n.phase = probing
	n.due[taskJoin] = never
	n.admit(from, 0)
	n.probe(from, probeLeafs, false)
	n.learn(m.Handles, false)
}

// turnedAway comes back later: to the same contact if it is in a ring, else to whatever seed answers then.
func (n *Node) turnedAway(m *Message, from NodeHandle) {
	if n.phase != joining || m.Nonce != n.joiner.nonce {
		n.stats.Unasked++
		return
	}
	j := &n.joiner
	if m.Flags&FlagMember == 0 {
		j.met(n.now, from.ID, n.self.ID)
		return // taskJoin is scheduled
	}
	j.metMember = n.now
	j.contact, j.tries = from, 0
	wait := min(time.Duration(m.RetryAfter)*time.Millisecond, 5*time.Second)
	n.schedule(taskJoin, n.now+n.jitter(max(wait, n.cfg.JoinRetry)))
}

// finishProbing makes the node ready once every member of its leaf set has answered it, and nobody who would be one is still
// being asked.
func (n *Node) finishProbing() {
	for i := range n.probes {
		if p := &n.probes[i]; p.kind == probeLeafs && n.leafs.Wants(p.to.ID) {
			return
		}
	}
	all := true
	for _, h := range n.leafHandles() {
		if !slices.Contains(n.joiner.answeredOnes, h.ID) {
			all = false
			n.probe(h, probeLeafs, false)
		}
	}
	switch {
	case !all:
	case n.leafs.Len() == 0 && n.cfg.Seeded: // everybody went away meanwhile
		n.rejoin()
	default:
		n.becomeReady()
	}
}

// becomeReady makes the node deliver, and tells its leafs.
func (n *Node) becomeReady() {
	n.phase = ready
	n.stats.Joined++
	rows := n.joiner.rows
	n.joiner = joiner{}
	n.out.BecameReady = true
	for _, h := range n.leafHandles() {
		n.sendLeafs(h, LeafReply, 0)
	}
	n.due[taskJoin] = never
	n.schedule(taskHeartbeat, n.now+n.jitter(n.cfg.HeartbeatEvery))
	n.schedule(taskLeafRepair, n.now+n.jitter(min(n.cfg.LeafRepairEvery, repairAfterJoin)))
	n.rowExchanges = 0
	n.schedule(taskRowExchange, n.now+n.jitter(rowsAfterJoin))
	n.schedule(taskSweep, n.now+n.jitter(n.cfg.ProbeSweepMin))
	n.schedule(taskSeeds, n.now+n.jitter(n.cfg.SeedEvery))
	n.learn(rows, false)
	n.releaseHeld()
	n.askAll()
}

// overslept handles a wake-up that is HeartbeatEvery late: a stopped process, a suspended machine. Others have gone on without
// this node, so it proves its leaf set again before it delivers, and gives those it was asking a second chance.
func (n *Node) overslept() {
	n.stats.Overslept++
	for i := range n.probes {
		n.probes[i].tries = 0
		n.probes[i].deadline = n.now + n.cfg.ProbeTimeout
	}
	for i := range n.hops {
		n.hops[i].tries = 1 // not to be measured
		n.hops[i].deadline = n.now + n.cfg.RTOInitial
	}
	n.at(n.now)
	if n.phase == ready && n.leafs.Len() > 0 {
		n.phase = probing
		n.joiner = joiner{}
	}
}

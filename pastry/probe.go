package pastry

import (
	"slices"
	"time"
)

const (
	probesMax = 128 // under way at once
	failedMax = 128 // remembered

	// hearsayKeep is how long a node is not probed again that was only heard of and did not answer.
	hearsayKeep = 30 * time.Second
)

// probeKind is what a probe asks for.
type probeKind uint8

const (
	probePing  probeKind = iota // a Pong
	probeLeafs                  // a LeafReply; stands for a ping too
)

// probe is a Ping or LeafProbe that awaits its answer.
type probe struct {
	to             NodeHandle
	kind           probeKind
	suspect        bool // routing goes round it
	hearsay        bool // suspected on another's word: its failure is not announced
	tries          uint8
	seq            uint32
	sent, deadline time.Duration
}

// failedNode is one that left everything unanswered.
type failedNode struct {
	NodeHandle
	known bool // it was in the sets: it is probed for as long as it is remembered
	tries uint8
	at    time.Duration // when it failed
	next  time.Duration // when to probe it again
}

// probe asks to whether it is alive, unless that is under way. A suspect is routed round meanwhile.
func (n *Node) probe(to NodeHandle, kind probeKind, suspect bool) {
	if to.ID == n.self.ID || to.IsZero() {
		return
	}
	i := slices.IndexFunc(n.probes, func(p probe) bool { return p.to.ID == to.ID })
	if i < 0 {
		if len(n.probes) >= probesMax {
			n.stats.Overflow++
			return
		}
		i = len(n.probes)
		n.probes = append(n.probes, probe{to: to, kind: kind, suspect: suspect})
		n.sendProbe(&n.probes[i])
		return
	}
	p := &n.probes[i]
	p.suspect = p.suspect || suspect
	if kind == probeLeafs && p.kind == probePing {
		p.kind = probeLeafs
		n.sendProbe(p)
	}
}

func (n *Node) sendProbe(p *probe) {
	p.seq = n.nextSeq()
	p.sent = n.now
	wait := n.cfg.ProbeTimeout
	if _, known := n.RTT(p.to.ID); known {
		wait = max(n.rto(p.to.ID), n.cfg.ProbeTimeout/2)
	}
	p.deadline = n.now + wait<<min(p.tries, 4)
	n.at(p.deadline)
	if p.kind == probeLeafs {
		n.sendLeafs(p.to, LeafProbe, p.seq)
		return
	}
	n.send(p.to, &Message{Kind: Ping, Seq: p.seq})
}

// probeAnswered ends the probe that m answers. A LeafProbe wants a LeafReply.
func (n *Node) probeAnswered(m *Message, from NodeHandle) (rtt time.Duration, asked bool) {
	for i := range n.probes {
		p := &n.probes[i]
		if p.seq != m.Seq || p.to.ID != from.ID {
			continue
		}
		if (p.kind == probeLeafs) != (m.Kind == LeafReply) {
			return 0, false
		}
		rtt = n.now - p.sent
		n.probes = slices.Delete(n.probes, i, i+1)
		return max(rtt, time.Microsecond), true
	}
	return 0, false
}

// alive clears id, which has just been heard: what it left unanswered before counts no more. A probe of one that is no member
// ends, since it has no leafs to tell.
func (n *Node) alive(id NodeID, member bool) {
	for i := range n.probes {
		p := &n.probes[i]
		if p.to.ID != id {
			continue
		}
		if !member || p.suspect && p.kind == probePing {
			n.probes = slices.Delete(n.probes, i, i+1)
			return
		}
		p.suspect, p.tries = false, 0
		return
	}
}

// suspected reports whether routing goes round id.
func (n *Node) suspected(id NodeID) bool {
	for i := range n.probes {
		if n.probes[i].suspect && n.probes[i].to.ID == id {
			return true
		}
	}
	return false
}

func (n *Node) probing(id NodeID) bool {
	return slices.ContainsFunc(n.probes, func(p probe) bool { return p.to.ID == id })
}

// probeTimeouts sends again what was not answered, and declares failed who has left enough unanswered.
func (n *Node) probeTimeouts() {
	for i := 0; i < len(n.probes); {
		p := &n.probes[i]
		if p.deadline > n.now {
			n.at(p.deadline)
			i++
			continue
		}
		if p.tries++; int(p.tries) < n.cfg.ProbeTries {
			n.sendProbe(p)
			i++
			continue
		}
		dead := *p
		n.probes = slices.Delete(n.probes, i, i+1)
		n.fail(dead.to, !dead.hearsay)
		i = 0 // failing starts probes and ends them
	}
}

// fail declares h failed: it leaves the sets, hops to it go another way, and the leaf set is told. Whoever only heard of it
// tells nobody, except the nodes beside h: their leaf sets together hold everyone who has h in his.
func (n *Node) fail(h NodeHandle, announce bool) {
	if cur, ok := n.Find(h.ID); ok && cur != h { // it moved, and was heard from there
		return
	}
	announce = announce || n.beside(h.ID)
	wasLeaf, known := n.drop(h.ID)
	n.remember(h, known, n.now+n.jitter(2*time.Second))
	if known {
		n.stats.Failures++
		n.out.Failed = append(n.out.Failed, h)
		n.deaths.add(n.now)
	}
	if n.helped.id == h.ID {
		n.helped = helped{}
	}
	if wasLeaf && announce {
		start := len(n.out.handles)
		n.out.handles = append(n.out.handles, h)
		about := n.out.handles[start : start+1 : start+1]
		for _, leaf := range n.leafHandles() {
			n.send(leaf, &Message{Kind: Suspect, Handles: about})
		}
	}
	n.rerouteFrom(h.ID)
	switch {
	case wasLeaf:
		n.considerPeersAsLeafs()
	case n.leafs.Wants(h.ID): // there may be somebody behind it
		n.sooner(taskLeafRepair, n.now+n.jitter(repairSoon))
	}
}

// beside reports whether id is a neighbour on the ring.
func (n *Node) beside(id NodeID) bool {
	for _, side := range n.leafs.sides {
		if len(side) > 0 && side[0].ID == id {
			return true
		}
	}
	return false
}

// remember keeps h among the failed, in place of the oldest if need be.
func (n *Node) remember(h NodeHandle, known bool, next time.Duration) {
	f := failedNode{NodeHandle: h, known: known, at: n.now, next: next}
	n.at(next)
	if i := n.findFailed(h.ID); i >= 0 {
		f.known = f.known || n.failed[i].known
		f.at, f.tries = n.failed[i].at, n.failed[i].tries
		f.next = n.now + min(n.jitter(2*time.Second<<min(f.tries, 8)), n.cfg.FailedMax)
		n.failed[i] = f
		return
	}
	if len(n.failed) >= failedMax {
		n.failed = slices.Delete(n.failed, 0, 1)
	}
	n.failed = append(n.failed, f)
}

func (n *Node) findFailed(id NodeID) int {
	return slices.IndexFunc(n.failed, func(f failedNode) bool { return f.ID == id })
}

// returned forgets that id had failed. One that was known and answers again may come with a whole ring: look for it there.
func (n *Node) returned(id NodeID) {
	i := n.findFailed(id)
	if i < 0 {
		return
	}
	f := n.failed[i]
	n.failed = slices.Delete(n.failed, i, i+1)
	if f.known {
		n.stats.Returned++
		n.out.Returned = append(n.out.Returned, f.NodeHandle)
		if n.phase == ready {
			n.askForPlace(f.NodeHandle)
		}
	}
}

// failedTimeouts probes the failed ones whose time has come, and forgets the old.
func (n *Node) failedTimeouts() {
	for i := 0; i < len(n.failed); {
		f := &n.failed[i]
		keep := n.cfg.FailedKeep
		if !f.known {
			keep = hearsayKeep
		}
		if n.now-f.at >= keep {
			n.failed = slices.Delete(n.failed, i, i+1)
			continue
		}
		if f.next <= n.now {
			f.tries = min(f.tries+1, 16)
			f.next = n.now + min(n.jitter(2*time.Second<<min(f.tries, 8)), n.cfg.FailedMax)
			if f.known && n.phase == ready {
				n.probe(f.NodeHandle, probePing, false)
			}
		}
		n.at(f.next)
		i++
	}
}

// left handles a farewell: as a failure, without alarm.
func (n *Node) left(h NodeHandle) {
	n.probes = slices.DeleteFunc(n.probes, func(p probe) bool { return p.to.ID == h.ID })
	if _, known := n.drop(h.ID); known {
		n.remember(h, true, n.now+n.jitter(n.cfg.FailedMax))
		n.rerouteFrom(h.ID)
		n.considerPeersAsLeafs()
	}
}

// hearSuspects probes those of m whom this node counts on.
func (n *Node) hearSuspects(m *Message) {
	if n.phase == joining {
		return
	}
	for _, h := range m.Handles {
		if cur, ok := n.Find(h.ID); ok && !n.probing(h.ID) && !n.heardWithin(h.ID, n.cfg.ProbeTimeout) {
			n.probe(cur, probePing, true)
			if i := len(n.probes) - 1; n.probes[i].to.ID == h.ID {
				n.probes[i].hearsay = true
			}
		}
	}
}

// tellOfFailed answers a leaf set in which there are nodes that this one found dead. Whoever was told of no death at the time,
// since several died at once, hears of it so at the next exchange.
func (n *Node) tellOfFailed(to NodeHandle, leafs []NodeHandle) {
	start := len(n.out.handles)
	for _, h := range leafs {
		if i := n.findFailed(h.ID); i >= 0 && n.failed[i].known && n.failed[i].NodeHandle == h {
			n.out.handles = append(n.out.handles, h)
		}
	}
	if end := len(n.out.handles); end > start {
		n.send(to, &Message{Kind: Suspect, Handles: n.out.handles[start:end:end]})
	}
}

// learn probes the nodes that it is told of and could use: for the leaf set, for an empty place of the routing table, or, where
// nearer ones are looked for, for a taken one. Hearsay enters no set.
func (n *Node) learn(told []NodeHandle, nearer bool) {
	wanted := &n.leafs // who is in it needs no probe
	if slices.ContainsFunc(told, func(h NodeHandle) bool { return n.leafs.Wants(h.ID) }) {
		wanted = n.wantedOf(told)
	}
	for _, h := range told {
		if h.ID == n.self.ID || h.IsZero() {
			n.stats.Senseless += b2u(h.IsZero())
			continue
		}
		if n.isFailed(h) {
			continue
		}
		if _, member := n.leafs.Get(h.ID); member {
			continue
		}
		if _, ok := wanted.Get(h.ID); ok {
			n.probe(h, probeLeafs, false)
			continue
		}
		if _, known := n.findPeer(h.ID); known {
			continue
		}
		if nearer || n.table.Get(h.ID).IsZero() {
			n.probe(h, probePing, false)
		}
	}
}

// wantedOf returns what the leaf set would be if all of told were alive, so that not everybody is probed who would fit while
// there are holes. It lives in the outbox.
func (n *Node) wantedOf(told []NodeHandle) *LeafSet {
	wanted := &n.out.scratch
	wanted.copyFrom(&n.leafs)
	for _, h := range told {
		if !h.IsZero() && !n.isFailed(h) {
			wanted.Add(h)
		}
	}
	return wanted
}

// isFailed reports whether h failed and has not moved since.
func (n *Node) isFailed(h NodeHandle) bool {
	i := n.findFailed(h.ID)
	return i >= 0 && n.failed[i].NodeHandle == h
}

// considerPeersAsLeafs probes known nodes that could stand in for lost leafs.
func (n *Node) considerPeersAsLeafs() {
	all := n.everybody()
	wanted := n.wantedOf(all)
	for _, h := range all {
		if _, ok := wanted.Get(h.ID); ok && n.leafs.Wants(h.ID) {
			n.probe(h, probeLeafs, false)
		}
	}
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

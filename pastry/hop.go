package pastry

import (
	"slices"
	"time"
)

const (
	hopsLimit  = 64   // nodes a message may pass: twice the rows of b = 4
	hopsMax    = 1024 // hops that await acknowledgement at once; more go unwatched
	hopTries   = 8    // sends of one hop to one node
	pinTries   = 3    // of one that goes to a seed
	heldMax    = 64   // lookups that wait for this node to become ready
	backoffMax = 5    // doublings
)

// hop is a routed message that was handed on and awaits its acknowledgement.
type hop struct {
	to             NodeHandle
	message        Message // as sent; no Handles
	pinned         bool    // meant for this very node: never re-routed
	tries          uint8
	sent, deadline time.Duration
}

// takeHop accepts a routed message from another node.
func (n *Node) takeHop(m *Message, from NodeHandle) {
	if m.Hops == 1 && m.Origin.ID != from.ID || m.Origin.IsZero() || m.Hops == 0 {
		n.stats.Senseless++
		return
	}
	if n.phase == joining && m.Kind != Join {
		n.send(from, &Message{Kind: Nack, Seq: m.Seq})
		if m.Kind == Place && m.Hops == 1 && m.Flags&FlagReady != 0 {
			n.invited(from)
		}
		return
	}
	n.send(from, &Message{Kind: Ack, Seq: m.Seq})
	if m.Kind == Join && n.phase != ready {
		n.joiner.met(n.now, m.Origin.ID, n.self.ID)
		n.turnAway(m)
		return
	}
	if n.phase != ready {
		if m.Kind == Lookup { // a Place will come again
			n.hold(m)
		}
		return
	}
	msg := &n.out.routed // not a variable: App makes it escape, and this path does not allocate
	*msg = *m
	msg.Handles = nil
	if m.Hops == 1 {
		msg.Origin = from // as the transport proves it
	}
	if m.Kind == Join {
		n.giveRows(msg)
	}
	n.route(msg)
}

// hold keeps a lookup until this node is ready.
func (n *Node) hold(m *Message) {
	if len(n.held) >= heldMax {
		n.stats.Overflow++
		return
	}
	kept := *m
	kept.Handles = nil
	n.held = append(n.held, kept)
}

// releaseHeld routes what was held.
func (n *Node) releaseHeld() {
	held := n.held
	n.held = nil
	for i := range held {
		n.route(&held[i])
	}
}

// route takes a message on from this node: to the next one, or to its end here. Only a ready node routes.
func (n *Node) route(m *Message) {
	if m.Hops >= hopsLimit {
		n.stats.HopLimit++
		return
	}
	key, without := m.target()
	next := n.next(key, without)
	if next.IsZero() {
		n.arrive(m)
		return
	}
	if n.cfg.App != nil && m.Kind == Lookup && !n.cfg.App.Forward(n.now, m, next) {
		return
	}
	n.stats.Forwarded++
	n.sendHop(next, m, false)
}

// arrive ends a routed message at its root.
func (n *Node) arrive(m *Message) {
	n.stats.Delivered++
	switch m.Kind {
	case Lookup:
		if n.cfg.App != nil {
			n.cfg.App.Deliver(n.now, m)
		}
		n.answerLookup(m)
	case Join:
		n.help(m)
	case Place:
		n.sendLeafs(m.Origin, LeafReply, 0)
	}
}

// sendHop hands m to next and watches for the acknowledgement. m's Hops and Seq change.
func (n *Node) sendHop(next NodeHandle, m *Message, pinned bool) {
	m.Hops++
	m.Seq = n.nextSeq()
	n.send(next, m)
	if len(n.hops) >= hopsMax {
		n.stats.Overflow++
		return
	}
	deadline := n.now + n.rto(next.ID)
	n.hops = append(n.hops, hop{to: next, message: *m, pinned: pinned, sent: n.now, deadline: deadline})
	n.at(deadline)
}

// hopAnswered ends the hop that m acknowledges. After a Nack it goes another way. Only what was sent once is measured (Karn).
func (n *Node) hopAnswered(m *Message, from NodeHandle) (rtt time.Duration, asked bool) {
	i := slices.IndexFunc(n.hops, func(h hop) bool { return h.message.Seq == m.Seq && h.to.ID == from.ID })
	if i < 0 {
		return 0, false
	}
	if n.hops[i].tries == 0 {
		rtt = max(n.now-n.hops[i].sent, time.Microsecond)
	}
	if m.Kind == Nack && !n.hops[i].pinned {
		h := n.takeHopOut(i)
		n.drop(from.ID)
		n.again(&h.message)
		return rtt, true
	}
	n.takeHopOut(i)
	return rtt, true
}

func (n *Node) takeHopOut(i int) hop {
	h := n.hops[i]
	last := len(n.hops) - 1
	n.hops[i] = n.hops[last]
	n.hops = n.hops[:last]
	return h
}

// again routes a message whose hop came to nothing.
func (n *Node) again(m *Message) {
	m.Hops--
	if n.phase != ready {
		n.hold(m)
		return
	}
	n.stats.Rerouted++
	n.route(m)
}

// hopTimeouts suspects whoever did not acknowledge, and sends round it where there is a way round.
func (n *Node) hopTimeouts() {
	for i := 0; i < len(n.hops); {
		h := &n.hops[i]
		if h.deadline > n.now {
			n.at(h.deadline)
			i++
			continue
		}
		h.tries++
		if h.pinned {
			if h.tries >= pinTries {
				n.takeHopOut(i)
				continue
			}
		} else if n.overdue(i) {
			continue // what took the place of i is looked at next; re-routed hops are appended and are not due
		}
		n.retransmit(&n.hops[i])
		i++
	}
}

// overdue suspects the node that hop i went to and reports whether the hop is gone: sent another way, or given up.
func (n *Node) overdue(i int) bool {
	to := n.hops[i].to
	n.probe(to, probePing, true)
	key, without := n.hops[i].message.target()
	if n.phase == ready && n.next(key, without).ID == to.ID && n.hops[i].tries < hopTries {
		return false
	}
	h := n.takeHopOut(i)
	if h.tries >= hopTries {
		n.stats.Overflow++
		return true
	}
	n.again(&h.message)
	return true
}

func (n *Node) retransmit(h *hop) {
	n.stats.Retransmitted++
	n.send(h.to, &h.message)
	h.deadline = n.now + min(n.rto(h.to.ID)<<min(h.tries, backoffMax), n.cfg.RTOMax)
	n.at(h.deadline)
}

// rerouteFrom sends what id never acknowledged another way, now that it has failed.
func (n *Node) rerouteFrom(id NodeID) {
	for i := 0; i < len(n.hops); {
		if n.hops[i].to.ID != id || n.hops[i].pinned {
			i++
			continue
		}
		h := n.takeHopOut(i)
		n.again(&h.message)
	}
}

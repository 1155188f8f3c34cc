package pastry

import (
	"slices"
	"time"
)

// peer is what a node remembers of each node in its sets, beside the handle: 28 bytes.
type peer struct {
	id     NodeID
	heard  uint32 // when it was last heard, in tenths of a second: enough for 13 years
	srtt   uint32 // smoothed round-trip time, µs; 0 if unknown (RFC 6298)
	rttvar uint32 // its variation, µs
}

const heardUnit = 100 * time.Millisecond

// findPeer returns the index of id in n.peers, or where it would be.
func (n *Node) findPeer(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(n.peers, id, func(p peer, id NodeID) int { return p.id.Compare(id) })
}

// RTT returns the smoothed round-trip time to id, if that is known.
func (n *Node) RTT(id NodeID) (time.Duration, bool) {
	i, ok := n.findPeer(id)
	if !ok || n.peers[i].srtt == 0 {
		return 0, false
	}
	return time.Duration(n.peers[i].srtt) * time.Microsecond, true
}

// rto is how long to wait for an acknowledgement from id (RFC 6298 §2). RFC 6298 adds to the smoothed time at least the clock's
// granularity; we add at least a quarter of it, since on a steady path the variation dwindles to nothing, and a wait that ends too soon
// sends the message twice, at each hop.
func (n *Node) rto(id NodeID) time.Duration {
	i, ok := n.findPeer(id)
	if !ok || n.peers[i].srtt == 0 {
		return n.cfg.RTOInitial
	}
	p := &n.peers[i]
	rto := time.Duration(p.srtt+max(4*p.rttvar, p.srtt/4)) * time.Microsecond
	return min(max(rto, n.cfg.RTOMin), n.cfg.RTOMax)
}

// sample takes one measurement into the smoothed time (RFC 6298 §2).
func (p *peer) sample(rtt time.Duration) {
	r := max(min(micros(rtt), 1<<28), 1)
	if p.srtt == 0 {
		p.srtt, p.rttvar = r, r/2
		return
	}
	delta := int64(r) - int64(p.srtt)
	p.rttvar = uint32((3*int64(p.rttvar) + max(delta, -delta)) / 4)
	p.srtt = uint32(max(int64(p.srtt)+delta/8, 1))
}

// heardWithin reports whether a message from id came in the last d.
func (n *Node) heardWithin(id NodeID, d time.Duration) bool {
	i, ok := n.findPeer(id)
	return ok && n.now-time.Duration(n.peers[i].heard)*heardUnit < d
}

// heard takes note that a message came straight from a node, rtt after it was asked for where that is telling (else 0). It is
// what makes nodes known: whoever has a leaf set enters the sets here and nowhere else.
func (n *Node) heard(from NodeHandle, flags Flags, rtt time.Duration) {
	n.returned(from.ID)
	n.alive(from.ID, flags&FlagMember != 0)
	if n.helped.id == from.ID {
		n.helped.until = n.now + n.cfg.JoinHold
		if flags&FlagReady != 0 {
			n.helped = helped{}
		}
	}
	if n.phase == joining {
		return
	}
	if flags&FlagMember == 0 { // restarted, and not yet where it was
		n.drop(from.ID)
		return
	}
	n.admit(from, rtt)
}

// admit puts a node that was just heard into the sets where it belongs.
func (n *Node) admit(h NodeHandle, rtt time.Duration) {
	i, known := n.findPeer(h.ID)
	if n.leafs.Add(h) {
		n.leafsChanged = true
	}
	smoothed := rtt
	if known && n.peers[i].srtt != 0 {
		smoothed = time.Duration(n.peers[i].srtt) * time.Microsecond
	}
	tabled := n.tabulate(h, smoothed)
	_, leaf := n.leafs.Get(h.ID)
	neighbor := n.near.Has(h.ID)
	if rtt > 0 && (neighbor || n.near.Wants(smoothed)) {
		n.near.Add(h, smoothed)
		neighbor = n.near.Has(h.ID)
	}
	if !known {
		if !tabled && !leaf && !neighbor {
			return
		}
		if len(n.peers) == cap(n.peers) {
			n.prunePeers()
			if len(n.peers) == cap(n.peers) { // append would double it
				n.peers = append(make([]peer, 0, len(n.peers)+16), n.peers...)
			}
		}
		i, _ = n.findPeer(h.ID)
		n.peers = slices.Insert(n.peers, i, peer{id: h.ID})
	}
	n.peers[i].heard = uint32(n.now / heardUnit)
	if rtt > 0 {
		n.peers[i].sample(rtt)
	}
}

// tabulate puts h into the routing table if its place is empty or taken by a clearly farther node, and reports whether h is
// there. rtt is 0 if unknown.
func (n *Node) tabulate(h NodeHandle, rtt time.Duration) bool {
	cur := n.table.Get(h.ID)
	if cur == h {
		return true
	}
	if !cur.IsZero() && cur.ID != h.ID {
		curRTT, ok := n.RTT(cur.ID)
		if rtt == 0 || ok && rtt*5 >= curRTT*4 {
			return false
		}
	}
	n.table.Put(h)
	return true
}

// prunePeers forgets those that have been displaced from every set.
func (n *Node) prunePeers() {
	n.peers = slices.DeleteFunc(n.peers, func(p peer) bool {
		_, ok := n.Find(p.id)
		return !ok
	})
}

// drop takes id out of every set, asks for another in its stead, and reports what it was.
func (n *Node) drop(id NodeID) (wasLeaf, known bool) {
	i, known := n.findPeer(id)
	if !known {
		return false, false
	}
	n.peers = slices.Delete(n.peers, i, i+1)
	n.near.Remove(id)
	if n.table.Remove(id) {
		row, _ := n.table.Place(id)
		n.askForRow(row)
	}
	if !n.leafs.Remove(id) {
		return false, true
	}
	n.leafsChanged = true
	n.settled = n.now + settleTime
	n.sooner(taskLeafRepair, n.now+n.jitter(repairSoon))
	return true, true
}

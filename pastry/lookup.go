package pastry

import (
	"slices"
	"time"
)

const (
	lookupsMax      = 4096 // of this node's own, under way
	lookupDoublings = 3    // of LookupRetry
)

// lookup is one of this node's own that awaits its answer.
type lookup struct {
	key         Key
	token       uint64
	nonce       uint64
	tries       uint8
	next, until time.Duration
}

// findKey answers from the leaf set, or asks the root. A node that is not ready asks once it is.
func (n *Node) findKey(in *FindKey) {
	if n.phase == ready && n.answerLocally(in.Key, in.Token) {
		return
	}
	if len(n.lookups) >= lookupsMax {
		n.stats.Overflow++
		n.stats.LookupsLost++
		n.out.Found = append(n.out.Found, Found{Token: in.Token, Key: in.Key, Lost: true})
		return
	}
	n.lookups = append(n.lookups, lookup{key: in.Key, token: in.Token, nonce: n.cfg.Rand.Uint64(), until: in.Until})
	n.ask(len(n.lookups) - 1)
}

// answerLocally ends a lookup without a message if this node knows the root: it is in the leaf set, and that has no holes. A root
// that is suspected is still named: the asker has the others beside it, and need not wait until the suspicion is resolved.
func (n *Node) answerLocally(key Key, token uint64) bool {
	if !n.knowsAll() && (n.now < n.settled || !n.leafs.Covers(key)) {
		return false
	}
	root, hops := n.leafs.Closest(key, NodeID{}), 1
	if root.IsZero() {
		root, hops = n.self, 0
		n.stats.Delivered++
		if n.cfg.App != nil {
			m := Message{Kind: Lookup, Key: key, Origin: n.self, Sender: n.self.ID}
			n.cfg.App.Deliver(n.now, &m)
		}
	}
	n.found(Found{Token: token, Key: key, Root: root, Near: n.around(key), Hops: hops})
	return true
}

func (n *Node) found(f Found) {
	n.stats.Lookups[min(f.Hops, HopsCounted-1)]++
	n.out.Found = append(n.out.Found, f)
}

// ask sends lookup i on its way and says when to ask again.
func (n *Node) ask(i int) {
	l := &n.lookups[i]
	l.next = n.now + n.jitter(n.cfg.LookupRetry<<min(l.tries, lookupDoublings))
	l.tries++
	n.at(min(l.next, l.until))
	if n.phase == ready {
		n.route(&Message{Kind: Lookup, Key: l.key, Nonce: l.nonce, Origin: n.self})
	}
}

// answerLookup tells the origin who is around the key.
func (n *Node) answerLookup(m *Message) {
	if m.Origin.ID != n.self.ID {
		n.send(m.Origin, &Message{Kind: LookupReply, Nonce: m.Nonce, Key: m.Key, Hops: m.Hops, Handles: n.around(m.Key)})
		return
	}
	i := n.findLookup(m.Nonce)
	if i < 0 {
		return
	}
	token := n.lookups[i].token
	n.lookups = slices.Delete(n.lookups, i, i+1)
	n.found(Found{Token: token, Key: m.Key, Root: n.self, Near: n.around(m.Key)})
}

// around returns this node and its leaf set, closest to key first, in the outbox's memory.
func (n *Node) around(key Key) []NodeHandle {
	start := len(n.out.handles)
	n.out.handles = n.leafs.AppendMembers(append(n.out.handles, n.self))
	near := n.out.handles[start:len(n.out.handles):len(n.out.handles)]
	slices.SortFunc(near, func(a, b NodeHandle) int {
		if Closer(key, a.ID, b.ID) {
			return -1
		}
		return 1
	})
	return near
}

// lookupAnswered takes the root's answer.
func (n *Node) lookupAnswered(m *Message, from NodeHandle) {
	i := n.findLookup(m.Nonce)
	if i < 0 || n.lookups[i].key != m.Key {
		n.stats.Unasked++
		return
	}
	if len(m.Handles) == 0 || !slices.ContainsFunc(m.Handles, func(h NodeHandle) bool { return h.ID == from.ID }) {
		n.stats.Senseless++
		return
	}
	token := n.lookups[i].token
	n.lookups = slices.Delete(n.lookups, i, i+1)
	start := len(n.out.handles)
	n.out.handles = append(n.out.handles, m.Handles...)
	near := n.out.handles[start:len(n.out.handles):len(n.out.handles)]
	n.found(Found{Token: token, Key: m.Key, Root: from, Near: near, Hops: int(m.Hops)})
}

func (n *Node) findLookup(nonce uint64) int {
	return slices.IndexFunc(n.lookups, func(l lookup) bool { return l.nonce == nonce })
}

// lookupTimeouts asks again, and gives up what is too late.
func (n *Node) lookupTimeouts() {
	for i := 0; i < len(n.lookups); {
		l := n.lookups[i]
		switch {
		case l.until <= n.now:
			n.lookups = slices.Delete(n.lookups, i, i+1)
			n.stats.LookupsLost++
			n.out.Found = append(n.out.Found, Found{Token: l.token, Key: l.key, Lost: true})
			continue
		case l.next <= n.now:
			if n.retryLookup(i) {
				continue
			}
		}
		n.at(min(n.lookups[i].next, l.until))
		i++
	}
}

// retryLookup asks lookup i again, and reports whether that ended it.
func (n *Node) retryLookup(i int) bool {
	before := len(n.lookups)
	if l := n.lookups[i]; n.phase == ready && n.answerLocally(l.key, l.token) {
		n.lookups = slices.Delete(n.lookups, i, i+1)
		return true
	}
	n.stats.LookupRetries++
	n.ask(i)
	return len(n.lookups) < before
}

// askAll asks every lookup that waited for this node to become ready.
func (n *Node) askAll() {
	for i := 0; i < len(n.lookups); {
		if n.retryLookup(i) {
			continue
		}
		i++
	}
}

package pastry

import "time"

// Input is one fact: a pointer to one of the types below.
type Input interface{ input() }

// Started is the first input: the node founds a ring, or begins to join.
type Started struct{}

// Received is a message that the transport delivered. From is who the transport proves it is from.
type Received struct {
	From    NodeHandle
	Message Message
}

// TimerFired says that the time of Outbox.Wake has come. It does no harm when it has not.
type TimerFired struct{}

// PeerUnreachable says that somebody failed to reach ID: the node probes it now.
type PeerUnreachable struct{ ID NodeID }

// SeedSeen says who answers at the address of a seed, in answer to Outbox.FindSeeds or unasked.
type SeedSeen struct{ Seed NodeHandle }

// FindKey asks for the nodes around Key. The answer comes as a Found with the same Token, one that is Lost if none came by
// Until.
type FindKey struct {
	Key   Key
	Token uint64
	Until time.Duration
}

// ForgetKey ends the lookup with Token: nobody waits for it any more. There will be no Found.
type ForgetKey struct{ Token uint64 }

// Leaving is the last input: the node says farewell.
type Leaving struct{}

func (*Started) input()         {}
func (*Received) input()        {}
func (*TimerFired) input()      {}
func (*PeerUnreachable) input() {}
func (*SeedSeen) input()        {}
func (*FindKey) input()         {}
func (*ForgetKey) input()       {}
func (*Leaving) input()         {}

// Outbox collects what a node wants done. One may serve many Steps, of many nodes, with a Reset between.
type Outbox struct {
	Sends        []Send
	Found        []Found
	Wake         time.Duration // when to feed TimerFired; always set, and replaces what was asked for before
	FindSeeds    bool          // find out who answers at each seed's address, and feed SeedSeen
	LeafsChanged bool
	BecameReady  bool
	Failed       []NodeHandle // known nodes that were declared failed, to be logged
	Returned     []NodeHandle // failed ones that were heard again

	handles []NodeHandle // what the Handles of Sends and the Near of Found point into
	routed  Message      // the routed message that a Step takes on
	scratch LeafSet      // for one Step's use at a time: here, so that nodes need none each
}

// Send is one message to one node.
type Send struct {
	To      NodeHandle
	Message Message
}

// Found is the end of a lookup.
type Found struct {
	Token uint64
	Key   Key
	Lost  bool         // nobody answered in time
	Root  NodeHandle   // whoever says it is the root
	Near  []NodeHandle // the root and its leaf set, closest to Key first
	Hops  int          // from this node to Root: 0 if it is the root itself, 1 if the root is in its leaf set
}

// Reset empties o and keeps its memory.
func (o *Outbox) Reset() {
	*o = Outbox{Sends: o.Sends[:0], Found: o.Found[:0], Failed: o.Failed[:0], Returned: o.Returned[:0],
		handles: o.handles[:0], scratch: o.scratch}
}

// HopsCounted is how many hop counts Stats tells apart; the last stands for all above.
const HopsCounted = 16

// Stats counts what a node did since it was made.
type Stats struct {
	Sent, Received [KindMax]uint64 // by Kind

	Delivered     uint64              // routed messages that ended here
	Forwarded     uint64              // routed messages that went on
	Rerouted      uint64              // of those, sent another way since no acknowledgement came
	Retransmitted uint64              // of those, sent the same way again
	Lookups       [HopsCounted]uint64 // this node's own lookups that were answered, by hops
	LookupRetries uint64
	LookupsLost   uint64

	Failures   uint64 // nodes declared failed
	Returned   uint64 // nodes that had failed and were heard of again
	Joined     uint64 // times that this node became ready
	Helped     uint64 // joiners let in
	TurnedAway uint64 // joiners told to come back
	Overslept  uint64 // times that this node was not woken for HeartbeatEvery, and proved its leaf set again

	Forged    uint64 // dropped: a message that names another sender than the transport proves
	Senseless uint64 // dropped: unknown kinds, messages from oneself, origins that are not the sender
	Unasked   uint64 // answers to nothing, or too late
	HopLimit  uint64 // dropped: passed too many nodes
	Overflow  uint64 // dropped: a bounded list was full
}

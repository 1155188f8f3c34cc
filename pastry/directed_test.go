package pastry

import (
	"math/rand/v2"
	"testing"
	"time"
)

// solo is a founder with |L| = 2 that has heard from the given points of the 8-bit ring.
func solo(t *testing.T, self byte, heard ...byte) (*Node, func(now time.Duration, in Input) *Outbox) {
	t.Helper()
	cfg := DefaultConfig(rand.New(rand.NewPCG(1, 1)))
	cfg.LeafSetSize = 2
	n := New(cfg, NodeHandle{ID: id8(self), Port: 1})
	out := &Outbox{}
	step := func(now time.Duration, in Input) *Outbox {
		out.Reset()
		n.Step(now, in, out)
		return out
	}
	step(0, &Started{})
	for _, id := range heard {
		step(0, said(id, Message{Kind: Heartbeat}))
	}
	return n, step
}

// said is a message from a member of the 8-bit ring.
func said(from byte, m Message) *Received {
	h := NodeHandle{ID: id8(from), Port: 1}
	m.Sender, m.Flags = h.ID, FlagMember|FlagReady
	return &Received{From: h, Message: m}
}

// The rare case wants a prefix at least as long as self's: 2f is numerically closer to 30 than 33 is, and a step back.
func TestRareCaseKeepsThePrefix(t *testing.T) {
	n, _ := solo(t, 0x3a, 0x39, 0x3b, 0x33, 0x2f)
	if n.covers(id8(0x30)) {
		t.Fatal("the leaf set covers the key: this tests nothing")
	}
	if got := n.next(id8(0x30), NodeID{}); got.ID != id8(0x33) {
		t.Errorf("30 goes to %v", short(got.ID))
	}
	if got := n.next(id8(0x30), id8(0x33)); got.ID != id8(0x39) {
		t.Errorf("30, not to 33, goes to %v", short(got.ID))
	}
}

// An acknowledgement counts if it is from the node that the hop went to, and for that hop.
func TestAcknowledgementsOfOthersDoNotCount(t *testing.T) {
	n, step := solo(t, 0x10, 0x40, 0x80)
	out := step(time.Second, said(0x80, Message{Kind: Lookup, Hops: 1, Seq: 9, Key: id8(0x41), Origin: NodeHandle{ID: id8(0x80), Port: 1}}))
	var hop *Send
	for i := range out.Sends {
		if out.Sends[i].Message.Kind == Lookup {
			hop = &out.Sends[i]
		}
	}
	if hop == nil || hop.To.ID != id8(0x40) {
		t.Fatalf("not forwarded to 40: %+v", out.Sends)
	}
	seq := hop.Message.Seq
	step(time.Second, said(0x80, Message{Kind: Ack, Seq: seq}))
	step(time.Second, said(0x40, Message{Kind: Ack, Seq: seq + 1}))
	if len(n.hops) != 1 || n.Stats().Unasked != 2 {
		t.Errorf("%d hops wait, %d answers unasked", len(n.hops), n.Stats().Unasked)
	}
	step(time.Second, said(0x40, Message{Kind: Ack, Seq: seq}))
	if len(n.hops) != 0 {
		t.Error("the true acknowledgement did not count")
	}
}

// What a node says now forgives what it left unanswered before: a probe from before a partition healed must not fail it after.
func TestProbesFromBeforeDoNotFailTheReturned(t *testing.T) {
	n, step := solo(t, 0x10, 0x40)
	n.out = &Outbox{}
	n.probe(NodeHandle{ID: id8(0x40), Port: 1}, probeLeafs, false)
	n.out = nil
	now := time.Duration(0)
	for n.probes[0].tries < uint8(n.cfg.ProbeTries)-1 {
		now += 100 * time.Millisecond
		step(now, &TimerFired{})
	}
	last := n.probes[0].deadline
	step(last-time.Millisecond, said(0x40, Message{Kind: Heartbeat}))
	step(last, &TimerFired{})
	if n.Leafs().Len() != 1 || n.Stats().Failures != 0 {
		t.Fatal("failed a moment after it was heard")
	}
	for now = last; now < last+10*time.Second; now += 100 * time.Millisecond {
		step(now, &TimerFired{})
	}
	if n.Leafs().Len() != 0 || n.Stats().Failures != 1 {
		t.Error("never failed, though silent since")
	}
}

// A node that says it is no member was restarted: it leaves the sets until it is let in again.
func TestNonMembersLeaveTheSets(t *testing.T) {
	n, step := solo(t, 0x10, 0x40)
	ping := said(0x40, Message{Kind: Ping, Seq: 5})
	ping.Message.Flags = 0
	out := step(time.Second, ping)
	if n.Leafs().Len() != 0 || !out.LeafsChanged || n.Stats().Failures != 0 {
		t.Errorf("%d leafs, %d failures", n.Leafs().Len(), n.Stats().Failures)
	}
	step(time.Second, said(0x40, Message{Kind: LeafProbe, Seq: 6}))
	if n.Leafs().Len() != 1 {
		t.Error("a member again, and not taken in")
	}
}

// Who still has a dead node among his leafs is told so at the next exchange.
func TestTheDeadAreNamedInExchanges(t *testing.T) {
	n, step := solo(t, 0x10, 0x40, 0x80)
	dead := NodeHandle{ID: id8(0x80), Port: 1}
	step(time.Second, &PeerUnreachable{ID: dead.ID})
	now := time.Second
	for n.Stats().Failures == 0 && now < time.Minute {
		now += 100 * time.Millisecond
		step(now, &TimerFired{})
		step(now, said(0x40, Message{Kind: Heartbeat}))
	}
	out := step(now, said(0x40, Message{Kind: LeafProbe, Seq: 7, Handles: []NodeHandle{dead, n.Self()}}))
	for _, s := range out.Sends {
		if s.Message.Kind == Suspect && s.To.ID == id8(0x40) && len(s.Message.Handles) == 1 && s.Message.Handles[0] == dead {
			return
		}
	}
	t.Errorf("not told: %+v", out.Sends)
}

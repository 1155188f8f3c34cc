package pastry

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// fullNode is a node that knows what one of a ring of 100,000 does: b = 4, |L| = |M| = 32.
func fullNode(r *rand.Rand) *Node {
	n := New(DefaultConfig(r), NodeHandle{ID: randomID(r), Port: 1})
	var out Outbox
	n.Step(0, &Started{}, &out)
	n.out = &out
	ring := 100_000
	for i := range 16 * 32 { // leafs and as many beyond
		id := n.self.ID
		number := uint64(id[2])<<8 + uint64(id[3]) + uint64(i-8*32)*uint64(1<<32/ring)
		id[3], id[2] = byte(number), byte(number>>8)
		if id != n.self.ID {
			n.admit(NodeHandle{ID: id, Port: 1}, 0)
		}
	}
	for range ring / 32 { // what passes by; the deeper rows come from the leafs
		n.admit(NodeHandle{ID: randomID(r), Port: 1}, time.Duration(1+r.IntN(100))*time.Millisecond)
		out.Reset()
	}
	n.prunePeers()
	n.out = nil
	return n
}

func TestBytesPerNode(t *testing.T) {
	const nodes, limit = 12, 14_000
	r := rand.New(rand.NewPCG(1, 1))
	all := make([]*Node, nodes)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peers, rows := 0, 0
	for i := range all {
		all[i] = fullNode(r)
		peers += len(all[i].peers)
		rows += all[i].table.Rows()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / nodes
	t.Logf("%d bytes a node, with %d peers and %d rows", each, peers/nodes, rows/nodes)
	if each > limit {
		t.Errorf("%d bytes a node, more than %d: 100,000 would take %d MB", each, limit, each/10)
	}
	runtime.KeepAlive(all)
}

func TestForwardingAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	n := fullNode(r)
	from := n.leafs.Larger()[0]
	origin := NodeHandle{ID: randomID(r), Port: 9}
	in := &Received{From: from, Message: Message{
		Kind: Lookup, Flags: FlagMember | FlagReady, Sender: from.ID, Hops: 2, Seq: 7, Origin: origin,
	}}
	ack := &Received{Message: Message{Kind: Ack, Flags: FlagMember | FlagReady}}
	var out Outbox
	now, forwarded := time.Second, 0
	step := func() {
		now += time.Millisecond
		in.Message.Key = randomID(r)
		out.Reset()
		n.Step(now, in, &out)
		for i := range out.Sends {
			if s := &out.Sends[i]; s.Message.Kind == Lookup {
				forwarded++
				ack.From, ack.Message.Sender, ack.Message.Seq = s.To, s.To.ID, s.Message.Seq
				out.Reset()
				n.Step(now, ack, &out)
				break
			}
		}
	}
	for range 1000 {
		step()
	}
	if got := testing.AllocsPerRun(2000, step); got != 0 {
		t.Errorf("taking on, forwarding and being acknowledged allocates %v times", got)
	}
	if forwarded < 2500 {
		t.Errorf("only %d of 3000 were forwarded", forwarded)
	}
}

func BenchmarkForward(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 1))
	n := fullNode(r)
	keys := make([]Key, 1024)
	for i := range keys {
		keys[i] = randomID(r)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.next(keys[i%len(keys)], NodeID{})
	}
}

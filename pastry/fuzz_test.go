package pastry

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// nonsense makes inputs out of bytes: messages of any kind from a few nodes, with any fields, and facts.
type nonsense struct {
	b      []byte
	people []NodeHandle // the node itself among them, and nobody
}

func (x *nonsense) byte() byte {
	if len(x.b) == 0 {
		return 0
	}
	v := x.b[0]
	x.b = x.b[1:]
	return v
}

func (x *nonsense) uint32() uint32 {
	var v [4]byte
	n := copy(v[:], x.b)
	x.b = x.b[n:]
	return binary.BigEndian.Uint32(v[:])
}

func (x *nonsense) handle() NodeHandle { return x.people[int(x.byte())%len(x.people)] }

func (x *nonsense) input() Input {
	switch x.byte() % 16 {
	case 0:
		return &TimerFired{}
	case 1:
		return &PeerUnreachable{ID: x.handle().ID}
	case 2:
		return &SeedSeen{Seed: x.handle()}
	case 3:
		return &FindKey{Key: x.handle().ID, Token: uint64(x.byte()), Until: time.Duration(x.uint32()) * time.Millisecond}
	case 4:
		return &ForgetKey{Token: uint64(x.byte())}
	}
	from := x.handle()
	m := Message{
		Kind: Kind(x.byte() % byte(KindMax+2)), Flags: Flags(x.byte()), Hops: x.byte() % 80, Row: x.byte(), Seq: uint32(x.byte() % 32),
		RetryAfter: x.uint32(), Nonce: uint64(x.byte()), Key: x.handle().ID, Origin: x.handle(), Sender: from.ID,
	}
	if x.byte() == 0 {
		m.Sender = x.handle().ID
	}
	for range x.byte() % 8 {
		m.Handles = append(m.Handles, x.handle())
	}
	return &Received{From: from, Message: m}
}

// FuzzStep feeds a node whatever there is: it must not panic, must bound what it keeps, and must not let hearsay into a set.
func FuzzStep(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b := make([]byte, 1+r.IntN(600))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x := &nonsense{b: b}
		for i := range 12 {
			x.people = append(x.people, NodeHandle{ID: id8(byte(i * 21)), Port: uint16(i)})
		}
		cfg := DefaultConfig(rand.New(rand.NewPCG(2, 2)))
		cfg.LeafSetSize, cfg.NeighborhoodSize, cfg.Seeded = 4, 4, x.byte()%2 == 0
		n := New(cfg, x.people[1])
		var out Outbox
		n.Step(0, &Started{}, &out)
		heard := map[NodeID]bool{}
		for now := time.Duration(0); len(x.b) > 0; {
			now += time.Duration(x.byte()) * 20 * time.Millisecond
			in := x.input()
			if m, ok := in.(*Received); ok && m.Message.Sender == m.From.ID {
				heard[m.From.ID] = true
			}
			out.Reset()
			n.Step(now, in, &out)
			checkInvariants(t, n, heard)
		}
	})
}

// checkInvariants fails the test where n holds whom it never heard, itself or nobody, or more than it may.
func checkInvariants(t *testing.T, n *Node, heard map[NodeID]bool) {
	t.Helper()
	known := n.near.AppendMembers(n.leafs.AppendMembers(nil))
	for row := range n.table.Rows() {
		known = n.table.AppendRow(known, row)
	}
	for _, h := range known {
		if !heard[h.ID] || h.ID == n.self.ID || h.IsZero() {
			t.Fatalf("%v is in a set and was never heard", short(h.ID))
		}
		if _, ok := n.findPeer(h.ID); !ok {
			t.Fatalf("%v is in a set and not a peer", short(h.ID))
		}
	}
	if len(n.leafs.Smaller()) > 2 || len(n.leafs.Larger()) > 2 || n.near.Len() > 4 || len(n.probes) > probesMax || len(n.failed) > failedMax ||
		len(n.held) > heldMax || len(n.hops) > hopsMax || len(n.joiner.rows) > HandlesMax {
		t.Fatal("something grew too long")
	}
}

func TestNonsenseAtLength(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 8 {
		net := newNetwork(t, r.Uint64())
		net.adjust = leafs8
		a := net.add(randomID(net.rand))
		b := net.add(randomID(net.rand), a.n.self.ID)
		net.run(time.Second)
		x := &nonsense{people: []NodeHandle{{}, a.n.self, {ID: randomID(r), Port: 3}, {ID: randomID(r), Port: 4}, {ID: randomID(r), Port: 5}}}
		for range 3000 {
			x.b = make([]byte, 64)
			for i := range x.b {
				x.b[i] = byte(r.Uint32())
			}
			in := x.input()
			if got, ok := in.(*Received); ok && got.From.ID == b.n.self.ID {
				continue
			}
			net.step(a, in)
			net.run(time.Duration(r.IntN(100)) * time.Millisecond)
		}
		net.run(2 * time.Minute)
		net.settleLeafs(time.Minute) // the liars never answered, or are silent now
	}
}

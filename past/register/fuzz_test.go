package register

import (
	"math/rand"
	"testing"

	"larder/past"
)

// FuzzStep feeds nonsense to the state machines: places outside the configuration, foreign ballots, stale rounds, memories that
// contradict themselves. Nothing may panic, and an operation ends at most once.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 0, 3, 2, 1, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 9, 9, 9})
	f.Add([]byte("000000000020")) // a promise before the start
	rnd := rand.New(rand.NewSource(1))
	for range 500 {
		data := make([]byte, rnd.Intn(1500))
		rnd.Read(data)
		f.Add(data)
	}
	f.Add([]byte{2, 4, 1, 255, 16, 3, 200, 100, 50, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		b := &dice{data: data}
		fuzzOperation(t, b)
		fuzzChange(b)
		fuzzMember(b)
	})
}

// dice turns bytes into whatever is asked for, and into zeros when they run out.
type dice struct{ data []byte }

func (d *dice) byte() byte {
	if len(d.data) == 0 {
		return 0
	}
	x := d.data[0]
	d.data = d.data[1:]
	return x
}

func (d *dice) n(n int) int   { return int(d.byte()) % n }
func (d *dice) yes() bool     { return d.byte()&1 == 1 }
func (d *dice) place() int    { return d.n(22) - 3 }
func (d *dice) epoch() uint64 { return uint64(d.n(4)) }

// ballot is one of a, or any.
func (d *dice) ballot(a past.Ballot) past.Ballot {
	if d.yes() {
		return a
	}
	return ballot(d.epoch(), uint64(d.n(5)), byte(d.n(3)))
}

func (d *dice) value() Value {
	v := Value{}.With(string(rune('a'+d.n(3))), past.Record{Kind: past.Kind(d.n(4))})
	for range d.n(3) {
		v.Chain = append(v.Chain, past.OpID{byte(d.n(3))})
	}
	v.Lost = d.ballot(past.Ballot{})
	return v
}

func (d *dice) group() Group {
	g := Group{Promised: d.ballot(past.Ballot{}), Accepted: d.ballot(past.Ballot{}), Chosen: d.yes(), Value: d.value(), Floor: d.ballot(past.Ballot{})}
	for range d.n(4) { // in no order
		v := d.value()
		g.Log = append(g.Log, LogEntry{Ballot: d.ballot(g.Accepted), Ops: v.Chain, Lost: v.Lost, Voters: Members(d.byte())<<8 | Members(d.byte())})
	}
	return g
}

func (d *dice) pulled() (out []PulledEpoch) {
	for range d.n(3) {
		out = append(out, PulledEpoch{Epoch: d.epoch(), Total: d.place(), From: Members(d.byte())})
	}
	return out
}

func fuzzOperation(t *testing.T, d *dice) {
	req := Request{Op: Op(d.n(4)), ID: past.OpID{1}, Blind: d.value(), Update: func(v Value) (Value, error) {
		if d.yes() {
			return Value{}, errRefused
		}
		return v, nil
	}}
	o := NewOperation(req, past.ProposerID{1}, func(seen uint64) uint64 { return seen + 1 })
	n := 1 + d.n(MembersMax)
	ends := 0
	step := func(do func(out *Outbox)) {
		var out Outbox
		do(&out)
		if out.Done != nil {
			ends++
		}
		for _, s := range out.Sends {
			if s.To < 0 || s.To >= o.quorum.Members {
				t.Fatalf("sends to %d of %d", s.To, o.quorum.Members)
			}
		}
	}
	step(func(out *Outbox) { o.Start(Quorum{Epoch: d.epoch(), Members: n, Nearest: nearestFirst(n)}, out) })
	for len(d.data) > 20 {
		var in Input
		switch d.n(10) {
		case 0:
			in = ReadAnswer{From: d.place(), Round: d.n(3), Accepted: d.ballot(past.Ballot{}), Chosen: d.yes(), HasValue: d.yes(), Value: d.value()}
		case 1:
			in = Promised{From: d.place(), Promise: Promise{Ballot: d.ballot(o.ballot), Group: d.group(), Pulled: d.pulled()}}
		case 2:
			in = AcceptedBy{From: d.place(), Ballot: d.ballot(o.ballot), Accepted: Accepted{Replaced: d.value()}}
		case 3:
			in = Refused{From: d.place(), Ballot: d.ballot(o.ballot), Promised: d.ballot(o.ballot)}
		case 4:
			in = Failed{From: d.place(), Round: d.n(3), Ballot: d.ballot(o.ballot), Damaged: d.yes()}
		case 5:
			in = HedgeNow{}
		case 6:
			in = RetryNow{}
		case 7:
			n := 1 + d.n(MembersMax)
			in = Moved{Quorum{Epoch: d.epoch(), Members: n, Nearest: nearestFirst(n)}}
		case 8:
			if d.n(8) == 0 {
				in = GiveUp{}
			}
		case 9:
			in = Declined{From: d.place(), Ballot: d.ballot(o.ballot), Accept: d.yes(), Damaged: d.yes()}
		}
		step(func(out *Outbox) { o.Step(in, out) })
	}
	if ends > 1 {
		t.Fatalf("ended %d times", ends)
	}
}

func fuzzChange(d *dice) {
	next := Configuration{Epoch: 1, Members: []MemberID{member(1, 1), member(2, 1)}}
	from := Configuration{Members: []MemberID{member(0, 1), member(1, 1), member(2, 1)}}
	c := NewChange(from, Succession{Next: []Configuration{next}}, past.ProposerID{1}, func(seen uint64) uint64 { return seen + 1 })
	for range 60 {
		var out ChangeOutbox
		switch d.n(7) {
		case 0:
			c.Start(&out)
		case 1:
			c.Step(SlotPromised{d.place(), d.ballot(c.ballot), Slot{Promised: d.ballot(c.ballot), Accepted: d.ballot(c.ballot)}}, &out)
		case 2:
			c.Step(Voted{d.place(), d.ballot(c.ballot), nil}, &out)
		case 3:
			c.Step(SlotRefused{d.place(), d.ballot(c.ballot), d.ballot(c.ballot)}, &out)
		case 4:
			c.Step(SlotFailed{d.place(), d.ballot(c.ballot)}, &out)
		case 5:
			c.Step(FencedBy{d.place()}, &out)
		case 6:
			c.Step(EnteredBy{d.place(), d.place()}, &out)
		}
	}
}

func fuzzMember(d *dice) {
	var m Member
	self := member(0, 1)
	l := Lineage{Genesis: Configuration{Epoch: d.epoch(), Members: []MemberID{self, member(1, 1)}}}
	if d.yes() {
		m.Genesis(l)
	}
	g := d.group()
	var boots Boots
	for range 40 {
		switch d.n(10) {
		case 0:
			l = l.Extend(Certificate{Succession: Succession{Next: []Configuration{{Epoch: l.Epoch() + 1, Members: l.Genesis.Members}}}})
			m.Learn(l)
		case 1:
			m.Check(d.epoch(), member(d.n(3), 1))
		case 2:
			m.Fence(d.epoch())
		case 3:
			if e := m.Entrance(self); e != nil {
				e.Settle(&g)
				e.Dropped(&g)
				if e.Pulled(0, FrozenHead{Pulled: d.pulled(), Forgotten: d.ballot(past.Ballot{})}) || e.Pulled(1, FrozenHead{}) {
					m.Enter(e)
				}
			}
		case 4:
			m.SlotPrepare(d.epoch(), d.ballot(past.Ballot{}), self)
		case 5:
			m.SlotAccept(Succession{Epoch: d.epoch(), Next: make([]Configuration, d.n(4))}, d.ballot(past.Ballot{}), self)
		case 6:
			g.Prepare(d.ballot(g.Promised))
		case 7:
			g.Accept(Accept{Ballot: d.ballot(g.Promised), Value: d.value()}, d.n(MembersMax))
		case 8:
			g.MarkChosen(d.ballot(g.Accepted))
			g.Merge(d.group())
			g.LastRemembered()
		case 9:
			boot := Boot{Count: uint64(d.n(5)), Start: past.ProposerID{byte(d.n(3))}, Earlier: make([]past.ProposerID, d.n(4))}
			boots.Greet(member(d.n(3), uint64(d.n(2))), boot)
		}
	}
}

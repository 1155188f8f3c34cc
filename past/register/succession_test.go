package register

import (
	"bytes"
	"errors"
	"math/rand"
	"slices"
	"testing"

	"larder/past"
)

// choice is the Synod of one succession: members that vote, and rival Changes that want different successors.
type choice struct {
	from    Configuration
	members []Member
	changes []*Change
	post    []letter
	chosen  []Certificate
}

type letter struct {
	change, to int
	message    any
	back       bool
}

func newChoice(members, rivals int) *choice {
	c := &choice{}
	for i := range members {
		c.from.Members = append(c.from.Members, member(i, 1))
	}
	for range members {
		var m Member
		m.Genesis(Lineage{Genesis: c.from})
		c.members = append(c.members, m)
	}
	for i := range rivals {
		next := Configuration{Epoch: 1, Members: []MemberID{member(10+i, 1)}} // each wants another
		counter := uint64(0)
		c.changes = append(c.changes, NewChange(c.from, Succession{Next: []Configuration{next}}, past.ProposerID{byte(i + 1)}, func(seen uint64) uint64 {
			counter = max(counter, seen) + 1
			return counter
		}))
	}
	return c
}

func (c *choice) start(i int) {
	var out ChangeOutbox
	c.changes[i].Start(&out)
	c.apply(i, &out)
}

func (c *choice) apply(i int, out *ChangeOutbox) {
	if out.Chosen != nil {
		c.chosen = append(c.chosen, *out.Chosen)
	}
	for _, s := range out.Sends {
		switch s.Message.(type) {
		case SlotAsk, VoteAsk:
			c.post = append(c.post, letter{i, s.To, s.Message, false})
		}
	}
}

// deliver hands over letter l of the post; what comes back is posted.
func (c *choice) deliver(l int) {
	x := c.post[l]
	c.post = slices.Delete(c.post, l, l+1)
	if x.back {
		var out ChangeOutbox
		c.changes[x.change].Step(x.message, &out)
		c.apply(x.change, &out)
		return
	}
	m, self := &c.members[x.to], c.from.Members[x.to]
	var answer any
	switch ask := x.message.(type) {
	case SlotAsk:
		s, ok := m.SlotPrepare(0, ask.Ballot, self)
		answer = SlotPromised{x.to, ask.Ballot, s}
		if !ok {
			answer = SlotRefused{x.to, ask.Ballot, s.Promised}
		}
	case VoteAsk:
		s, ok := m.SlotAccept(ask.Next, ask.Ballot, self)
		answer = Voted{x.to, ask.Ballot, []byte{byte(x.to)}}
		if !ok {
			answer = SlotRefused{x.to, ask.Ballot, s.Promised}
		}
	}
	c.post = append(c.post, letter{x.change, x.to, answer, true})
}

// to delivers change i's letters to the given members, and their answers; the other letters stay.
func (c *choice) to(i int, members ...int) {
	for _, to := range members {
		if l := slices.IndexFunc(c.post, func(x letter) bool { return x.change == i && x.to == to && !x.back }); l >= 0 {
			c.deliver(l)
			c.deliver(len(c.post) - 1)
		}
	}
}

func (c *choice) check(t *testing.T) {
	t.Helper()
	for _, cert := range c.chosen[min(1, len(c.chosen)):] {
		if a, b := cert.Succession.Next[0].Members[0], c.chosen[0].Succession.Next[0].Members[0]; a != b {
			t.Fatalf("two successors: %v and %v", a.Node, b.Node)
		}
	}
}

func TestSuccessionIsOneOfRivals(t *testing.T) {
	c := newChoice(3, 2)
	c.start(0)
	c.to(0, 0, 1) // promised
	c.to(0, 0, 1) // voted: chosen
	for range 10 {
		c.start(1)
		for range 4 {
			c.to(1, 1, 2)
		}
	}
	if len(c.chosen) < 2 {
		t.Fatalf("%d certificates", len(c.chosen))
	}
	c.check(t)
}

// An interrupted Change whose value one member accepted is resumed by whoever comes next.
func TestSuccessionIsResumed(t *testing.T) {
	c := newChoice(3, 2)
	c.start(0)
	c.to(0, 0, 1)
	c.to(0, 1) // one vote, and its driver dies
	c.start(1)
	for len(c.chosen) == 0 {
		c.to(1, 1, 2)
		c.to(1, 1, 2)
		c.to(1, 0)
		if c.changes[1].phase == changeWait {
			c.start(1)
		}
	}
	if got := c.chosen[0].Succession.Next[0].Members[0]; got != member(10, 1) {
		t.Errorf("chose %v", got.Node)
	}
}

// TestSuccessionAtRandom has three rivals in random schedules with losses.
func TestSuccessionAtRandom(t *testing.T) {
	chosen := 0
	for seed := range int64(4000) {
		rnd := rand.New(rand.NewSource(seed))
		c := newChoice(3+2*int(seed%2), 3)
		for range 150 {
			switch x := rnd.Float64(); {
			case x < .05:
				c.start(rnd.Intn(3))
			case len(c.post) == 0:
			case x < .15:
				i := rnd.Intn(len(c.post))
				c.post = slices.Delete(c.post, i, i+1)
			default:
				c.deliver(rnd.Intn(len(c.post)))
			}
		}
		chosen += len(c.chosen)
		c.check(t)
	}
	if chosen < 4000 {
		t.Errorf("%d certificates in 4000 schedules: the test sees too little", chosen)
	}
}

var errForged = errors.New("forged")

// byNode is a Verifier under which a member's signature over m is its node's first byte and m.
func byNode(m MemberID, message, signature []byte) error {
	if len(signature) == 0 || signature[0] != m.Node[0] || !bytes.Equal(signature[1:], message) {
		return errForged
	}
	return nil
}

func TestCertificateRefused(t *testing.T) {
	from := Configuration{Epoch: 4, Lower: "b", Upper: "p", Members: []MemberID{member(0, 1), member(1, 1), member(2, 1)}}
	half := func(lower, upper string, id byte) Configuration {
		return Configuration{Partition: PartitionID{id}, Epoch: 5, Lower: lower, Upper: upper, Members: from.Members}
	}
	good := func() Certificate {
		return Certificate{Succession: Succession{Epoch: 4, Next: []Configuration{half("b", "h", 0), half("h", "p", 1)}}, Ballot: ballot(4, 7, 1)}
	}
	sign := func(c *Certificate, places ...int) {
		for _, p := range places {
			signature := append([]byte{from.Members[p].Node[0]}, VoteMessage(&c.Succession, c.Ballot)...)
			c.Votes = append(c.Votes, Vote{Member: p, Signature: signature})
		}
	}
	c := good()
	sign(&c, 0, 2)
	if err := c.Verify(&from, byNode); err != nil {
		t.Fatal(err)
	}
	l := Lineage{Genesis: from}.Extend(c)
	if err := l.Verify(byNode); err != nil || l.Current().Upper != "h" || l.Epoch() != 5 {
		t.Fatalf("lineage: %v, now %v", err, l.Current())
	}
	for name, spoil := range map[string]func(c *Certificate){
		"too few votes":      func(c *Certificate) { c.Votes = c.Votes[:1] },
		"one member twice":   func(c *Certificate) { c.Votes[1] = c.Votes[0] },
		"no such member":     func(c *Certificate) { c.Votes[1].Member = 3 },
		"negative member":    func(c *Certificate) { c.Votes[1].Member = -1 },
		"another's vote":     func(c *Certificate) { c.Votes[1].Member = 1 },
		"another ballot":     func(c *Certificate) { c.Ballot.Counter++ },
		"another succession": func(c *Certificate) { c.Succession.Next[0].Closed = true },
	} {
		c := good()
		sign(&c, 0, 2)
		if spoil(&c); !errors.Is(c.Verify(&from, byNode), ErrLineage) {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, spoil := range map[string]func(s *Succession){
		"another partition":  func(s *Succession) { s.Partition[3] = 1 },
		"another epoch":      func(s *Succession) { s.Epoch = 5 },
		"skips an epoch":     func(s *Succession) { s.Next[0].Epoch = 6 },
		"another bucket":     func(s *Succession) { s.Next[1].Bucket[0] = 1 },
		"another record key": func(s *Succession) { s.Next[1].RecordKey[0] = 1 },
		"hole":               func(s *Succession) { s.Next[0].Upper = "g" },
		"overlap":            func(s *Succession) { s.Next[1].Lower = "g" },
		"ends early":         func(s *Succession) { s.Next[1].Upper = "o" },
		"ends late":          func(s *Succession) { s.Next[1].Upper = "" },
		"begins late":        func(s *Succession) { s.Next[0].Lower = "c" },
		"nothing":            func(s *Succession) { s.Next = nil },
		"not itself":         func(s *Succession) { s.Next[0].Partition[0] = 7 },
		"member twice":       func(s *Succession) { s.Next[0].Members = []MemberID{member(0, 1), member(0, 2)} },
		"no members":         func(s *Succession) { s.Next[0].Members = nil },
		"too many members": func(s *Succession) {
			for i := range MembersMax {
				s.Next[0].Members = append(slices.Clone(s.Next[0].Members), member(10+i, 1))
			}
		},
	} {
		c := good()
		spoil(&c.Succession)
		sign(&c, 0, 1, 2)
		if !errors.Is(c.Verify(&from, byNode), ErrLineage) {
			t.Errorf("%s: accepted", name)
		}
		var m Member
		m.Genesis(Lineage{Genesis: from})
		if _, ok := m.SlotAccept(c.Succession, c.Ballot, from.Members[0]); ok {
			t.Errorf("%s: a member votes for it", name)
		}
	}
}

func TestGreetingNeedsAMajority(t *testing.T) {
	c := Configuration{Members: []MemberID{member(0, 1), member(1, 1), member(2, 1), member(3, 1), member(4, 1)}}
	one := Boot{}.Next(past.ProposerID{1})
	two := one.Next(past.ProposerID{2})
	g := NewGreeting(&c, c.Members[2], two)
	g.Confirm(c.Members[0])
	g.Confirm(c.Members[0])
	g.Confirm(member(9, 1)) // a stranger
	if g.Confirmed() || len(g.Missing()) != 3 {
		t.Fatalf("confirmed by one fellow, %d missing", len(g.Missing()))
	}
	if g.Confirm(c.Members[4]); !g.Confirmed() {
		t.Error("not confirmed by two fellows of four")
	}
	if g.Refuse(one) || !g.Confirmed() {
		t.Error("an earlier start of its own is no reason")
	}
	if !g.Refuse(two.Next(past.ProposerID{3})) || g.Confirmed() {
		t.Error("goes on although a later start is known")
	}
	if alone := (&Configuration{Members: c.Members[:1]}); NewGreeting(alone, member(7, 1), one).Confirmed() {
		t.Error("no member, and confirmed")
	}
}

func TestBootsAreSortedAndComplete(t *testing.T) {
	var b, copied Boots
	first := Boot{}.Next(past.ProposerID{1})
	for _, m := range []MemberID{member(4, 1), member(1, 2), member(1, 1), member(0, 1)} {
		if ok, changed := b.Greet(m, first); !ok || !changed {
			t.Fatalf("a first greeting: %v, %v", ok, changed)
		}
		if ok, changed := b.Greet(m, first); !ok || changed {
			t.Fatalf("the same again: %v, %v", ok, changed)
		}
	}
	for i, want := range []MemberID{member(0, 1), member(1, 1), member(1, 2), member(4, 1)} {
		if b.Seen[i].Member != want {
			t.Errorf("place %d: %v", i, b.Seen[i].Member)
		}
	}
	if !copied.Learn(b) || copied.Learn(b) || len(copied.Seen) != 4 {
		t.Errorf("learned %d of 4", len(copied.Seen))
	}
	run := first
	for i := range startsMax + 10 {
		run = run.Next(past.ProposerID{2, byte(i)})
	}
	if len(run.Earlier) != startsMax {
		t.Errorf("lists %d starts", len(run.Earlier))
	}
	if ok, _ := b.Greet(member(0, 1), run); !ok {
		t.Error("refuses a start long after the one it knows")
	}
	other := Boot{Count: run.Count, Start: run.Start, Earlier: slices.Clone(run.Earlier)}
	other.Earlier[startsMax-1] = past.ProposerID{9}
	if ok, _ := b.Greet(member(0, 1), other.Next(past.ProposerID{8})); !ok {
		t.Error("refuses a disk whose last start it knows")
	}
	if ok, _ := b.Greet(member(0, 1), run.Next(past.ProposerID{7})); ok {
		t.Error("lets a disk pass that does not know its own last start")
	}
}

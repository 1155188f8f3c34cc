package register

import "testing"

// The traps of the configuration chain, one test each. Unless a test says otherwise members 0, 1 and 2 give way to 2, 3 and 4,
// and those to 3, 4 and 0.

func newChain(t *testing.T) *stage {
	return newStage(t, []int{0, 1, 2}, []int{2, 3, 4}, []int{3, 4, 0})
}

func TestInactiveMemberIsNotFrozen(t *testing.T) { // inactive_fence
	s := newChain(t)
	s.put("A", 1).to("accept", 0, 1).ends("ok")
	s.next([]int{0, 1}, 2, 3) // 4 has not pulled
	s.choose(2, 3)
	if s.fence(4) {
		t.Error("a member without state is fenced")
	}
	s.fence(2, 3)
	if s.enter(0, 2, 4) {
		t.Error("a member without state gave a snapshot")
	}
	if !s.enter(0, 3) { // and the one of 2
		t.Error("two snapshots are not enough")
	}
}

// If members that have not pulled could vote, an epoch might be over before a majority of it could be frozen.
func TestInactiveMemberHasNoVote(t *testing.T) {
	s := newChain(t)
	s.next([]int{0, 1}, 2) // 3 and 4 have not pulled
	b := ballot(1, 7, 9)
	for _, n := range []int{3, 4} {
		d := s.disks[n]
		d.m.Learn(s.lineage)
		if _, ok := d.m.SlotPrepare(1, b, d.id); ok {
			t.Errorf("node %d promises", n)
		}
		if _, ok := d.m.SlotAccept(Succession{Epoch: 1, Next: []Configuration{s.chain[2]}}, b, d.id); ok {
			t.Errorf("node %d votes", n)
		}
	}
	if _, ok := s.disks[2].m.SlotPrepare(1, b, s.disks[2].id); !ok {
		t.Error("the active member has no vote")
	}
}

func TestOnlyFrozenGroupsArePulled(t *testing.T) { // live_pull
	s := newChain(t)
	s.put("A", 1).to("accept", 0, 1).ends("ok")
	s.choose(0, 1)
	if s.enter(3, 0, 1) {
		t.Fatal("enters with what may still change")
	}
	s.fence(0, 1)
	if !s.enter(3, 0, 1) {
		t.Fatal("does not enter")
	}
}

// A survivor refuses its old epoch before it pulls, and hands out its frozen groups after it has gone ahead.
func TestSurvivorsGoAhead(t *testing.T) {
	s := newStage(t, []int{0, 1, 2}, []int{0, 1, 3})
	s.put("A", 1).to("accept", 0, 1).ends("ok")
	old := s.put("B", 5)
	s.choose(0, 1)
	s.fence(1)
	s.enter(0) // it fences itself, and has pulled nothing yet
	if old.late("accept", 0); state(s.disks[0].groups["g"].Value) != "A" {
		t.Fatal("a survivor accepts in an epoch that it is pulling")
	}
	for _, n := range []int{0, 1} {
		if !s.enter(n, 0, 1) {
			t.Fatalf("node %d does not enter", n)
		}
	}
	old.have("accept", 1).ends("open")
	s.put("C", 1).to("accept", 0, 1).ends("ok")
	if !s.enter(3, 0, 1) {
		t.Fatal("the newcomer finds no frozen groups")
	}
	if got := state(s.disks[3].groups["g"].Value); got != "A" {
		t.Errorf("the newcomer has %q, want what was frozen", got)
	}
	s.readNow(0, 3).ends("C")
	s.check()
	for _, n := range []int{0, 1} {
		if s.disks[n].m.Release(); s.disks[n].m.Frozen(0) {
			t.Errorf("node %d offers what it has dropped", n)
		}
	}
}

func TestUnchosenTombstoneIsKept(t *testing.T) { // skip_unchosen
	s := newChain(t)
	s.put("A", 1).to("accept", 1, 2).ends("ok")
	s.del(5).to("accept", 0)
	s.choose(0, 1, 2)
	s.fence(0, 1, 2)
	s.enter(2, 0, 1)
	s.enter(4, 0, 1)
	s.enter(3, 1, 2)
	s.readNow(2, 4).ends("")
	s.readNow(3, 4).ends("")
	s.check()
}

// A tombstone that a majority of the frozen groups shows at one ballot of their epoch is chosen, and goes.
func TestSettledTombstoneGoes(t *testing.T) {
	s := newChain(t)
	s.put("A", 1).to("accept", 0, 1, 2)
	s.del(5).to("accept", 0, 1).ends("ok")
	s.choose(0, 1, 2)
	s.fence(0, 1, 2)
	s.enter(3, 0, 1)
	s.enter(4, 0, 2)
	if len(s.disks[3].groups) != 0 || len(s.disks[4].groups) != 1 {
		t.Errorf("%d and %d groups, want 0 and 1", len(s.disks[3].groups), len(s.disks[4].groups))
	}
	s.readNow(3, 4).ends("")
	s.check()
}

func TestOldEpochIsNotAnswered(t *testing.T) { // no_epoch
	s := newChain(t)
	s.next([]int{0, 1}, 3, 4)
	s.put("B", 1).to("accept", 3, 4).ends("ok")
	s.clock++
	s.world.begin('p', "C", "", 0, s.gateway(9)) // its gateway has not heard of epoch 1
	late := actor{s, len(s.ops) - 1}.to("accept", 0, 1).ends("open")
	late.on().to("prepare", 3, 4).to("accept", 3, 4).ends("ok")
	s.readNow(3, 4).ends("C")
	s.check()
}

// Copies that were pulled from an older epoch are not votes, neither for a read in one round nor after a prepare.
func TestCopiesAreNotVotes(t *testing.T) { // fast_old_epoch, old_any
	for _, prepared := range []bool{false, true} {
		s := newChain(t)
		a := s.put("A", 1).late("accept", 0)
		s.choose(0, 1, 2)
		s.fence(0, 1, 2)
		s.enter(2, 0, 1)
		s.enter(3, 0, 1)
		s.enter(4, 1, 2)
		r := s.read()
		if prepared {
			r.lose("read", 2, 3, 4)
		}
		r.all(2, 3).ends("A")
		s.put("C", 200).to("accept", 3, 4).ends("ok")
		a.on().all(2, 4)
		if !a.op().ended {
			a.have("prepare", 3).have("accept", 3)
		}
		s.readNow(3, 4).ends("C")
		s.check()
	}
}

func TestMovedWriteAsksFirst(t *testing.T) { // cross_fresh
	s := newChain(t)
	a := s.put("A", 1).late("accept", 0, 1)
	s.readNow(0, 1).ends("A")
	s.put("C", 200).to("accept", 1, 2).ends("ok")
	s.next([]int{0, 1}, 2, 3, 4)
	a.on().to("prepare", 2, 3).ends("ok")
	s.readNow(3, 4).ends("C")
	s.check()
}

func TestCarriedIsNotDoneAcrossEpochs(t *testing.T) { // cross_carried
	for _, all := range []bool{false, true} {
		s := newChain(t)
		a := s.put("A", 1).late("accept", 0)
		s.keep("B", 5).to("prepare", 0, 1).late("accept", 0)
		s.swap("", "C", 6).to("prepare", 1, 2).to("accept", 1, 2).ends("ok")
		s.choose(0, 1, 2)
		s.fence(0, 1, 2)
		s.enter(3, 0, 1)
		s.enter(4, 0, 1)
		a.on()
		if all { // between them the new members know all the old ones
			s.enter(2, 1, 2)
			a.to("prepare", 3, 4).ends("open").to("prepare", 2).to("accept", 2, 3).ends("ok")
			s.readNow(2, 4).ends("A")
		} else {
			a.to("prepare", 3, 4).lose("prepare", 2).ends("unknown")
			s.readNow(3, 4).ends("C")
		}
		s.check()
	}
}

// What an old epoch's members remember is passed on with each pull.
func TestTwoEpochsAsleep(t *testing.T) {
	s := newChain(t)
	a := s.put("A", 1).late("accept", 0, 1) // chosen
	s.readNow(0, 1).ends("A")
	b := s.put("B", 2).late("accept", 2) // and never will be
	s.put("C", 200).to("accept", 1, 2).ends("ok")
	s.choose(0, 1, 2)
	s.fence(0, 1, 2)
	s.enter(2, 0, 1)
	s.enter(3, 1, 2)
	s.next([]int{2, 3}, 0, 4)
	a.on().to("prepare", 0, 4).ends("ok")
	b.on().all(0, 4).ends("ok")
	s.readNow(0, 4).ends("B")
	s.check()
	if p := s.disks[0].m.Pulled; len(p) != 2 || p[0].Epoch != 1 || p[1].Epoch != 0 || p[1].From != 0b111 {
		t.Errorf("pulled %v", p)
	}
}

func TestEpochsTooLongAgo(t *testing.T) {
	chain := make([][]int, pulledMax+2)
	for i := range chain {
		chain[i] = []int{0}
	}
	s := newStage(t, chain...)
	a := s.put("A", 1).late("accept", 0)
	s.put("C", 200).to("accept", 0).ends("ok")
	for range pulledMax + 1 {
		s.next([]int{0}, 0)
	}
	if n := len(s.disks[0].m.Pulled); n != pulledMax {
		t.Fatalf("remembers %d epochs", n)
	}
	a.on().to("prepare", 0).ends("unknown")
	s.readNow(0).ends("C")
}

// --- copies ahead of a change

func TestCopiedAheadIsBroughtUpToDate(t *testing.T) {
	for _, again := range []bool{false, true} {
		s := newChain(t)
		s.put("A", 1).to("accept", 0, 1).ends("ok")
		s.ahead(3, 0, 1)
		s.ahead(4, 0, 1)
		s.put("B", 200).to("accept", 0, 1).ends("ok")
		if again { // only the difference is copied a second time
			s.ahead(3, 0, 1)
			s.put("C", 300).to("accept", 0, 1).ends("ok")
		}
		s.next([]int{0, 1}, 3, 4)
		s.readNow(3, 4).ends(map[bool]string{false: "B", true: "C"}[again])
		s.check()
	}
}

// A member that starts anew does not know what changed, and gives everything.
func TestCopiedAheadFromAnEarlierStart(t *testing.T) {
	s := newChain(t)
	s.put("A", 1).to("accept", 0, 1).ends("ok")
	s.ahead(3, 0, 1)
	s.ahead(4, 0, 1)
	s.put("B", 200).to("accept", 0, 1).ends("ok")
	s.restart(0)
	s.restart(1)
	s.deliverGreetings()
	s.ahead(2, 0, 1) // they begin new journals
	s.next([]int{0, 1}, 3, 4)
	s.readNow(3, 4).ends("B")
	s.check()
}

// A copy from a member that is not pulled from adds what that member accepted, and makes it no witness of what it did not.
func TestCopyAheadIsNoWitness(t *testing.T) {
	s := newChain(t)
	a := s.put("A", 1).late("accept", 2)
	s.ahead(3, 2)
	b := s.put("B", 2).late("accept", 2, 1)
	s.readNow(1, 2).ends("B")
	s.put("C", 200).to("accept", 0, 1).ends("ok")
	s.choose(0, 1, 2)
	s.fence(0, 1, 2)
	for _, n := range []int{3, 4} {
		if !s.enter(n, 0, 1) {
			t.Fatal("does not enter")
		}
		if from := s.disks[n].m.Pulled[0].From; from != 0b011 {
			t.Errorf("node %d is a witness for %b", n, from)
		}
	}
	b.on().to("prepare", 3, 4)
	if b.find("accept", 3, false) != nil {
		t.Error("B is written again, as though 2 had denied it")
	}
	a.on().all(3, 4)
	s.readNow(3, 4)
	s.check()
}

// --- damaged disks

func TestWipedDiskIsNoMember(t *testing.T) {
	s := newStage(t, []int{0, 1, 2}, []int{0, 1, 2})
	s.put("A", 1).to("accept", 1, 2).ends("ok")
	s.wipe(2)
	r := s.read().have("read", 0, 2)
	r.have("prepare", 0, 2).ends("open") // not "empty"
	d := s.disks[2]
	d.m.Learn(s.lineage)
	if got := d.m.Check(0, d.id); got != StatusNotMember {
		t.Errorf("status %d, want %d", got, StatusNotMember)
	}
	if _, ok := d.m.SlotPrepare(0, ballot(0, 1, 1), d.id); ok {
		t.Error("the new incarnation votes for the old one")
	}
	s.chain[1].Members[2] = d.id // as another incarnation it is a newcomer
	s.choose(0, 1)
	s.fence(0, 1)
	if !s.enter(2, 0, 1) {
		t.Fatal("does not enter")
	}
	s.enter(1, 0, 1)
	s.readNow(1, 2).ends("A")
	s.check()
}

func TestRolledBackDiskIsRefused(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	s.restart(2) // its image is from before the write
	s.deliverGreetings()
	s.put("A", 1).to("accept", 1, 2).ends("ok")
	if !s.rollback(2) {
		t.Fatal("cannot roll back")
	}
	for range 3 { // starting again does not help it
		s.deliverGreetings()
		if g := s.disks[2].greeting; g.Confirmed() || !g.RolledBack() {
			t.Fatal("confirmed")
		}
		s.readNow(0, 2).ends("open")
		s.restart(2)
	}
	s.readNow(0, 1).ends("A")
	s.check()
}

// What boot counts cannot see: of three members the only fellow that was greeted by the later start is down.
func TestRolledBackDiskIsMissed(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	s.restart(2)
	for _, m := range s.greetings() {
		if m.node == 1 { // 0 does not hear of this start
			s.deliver(m)
			s.deliver(s.mail[len(s.mail)-1])
		}
	}
	s.mail = nil
	if !s.disks[2].greeting.Confirmed() || s.rollback(2) {
		t.Fatal("one confirmation is a majority of three, and the harness rolls back only what can be seen")
	}
	d, im := s.disks[2], s.disks[2].images[0]
	d.m, d.groups, d.boot = im.m, im.groups, im.boot
	s.restart(2)
	for _, m := range s.greetings() {
		if m.node == 0 {
			s.deliver(m)
			s.deliver(s.mail[len(s.mail)-1])
		}
	}
	if !d.greeting.Confirmed() {
		t.Error("refused: docs/notes/register.md says that this is not seen")
	}
	s.deliverGreetings()
	if d.greeting.Confirmed() || !d.greeting.RolledBack() {
		t.Error("not found out when the other fellow is back")
	}
}

// --- merging frozen groups

func TestFloorIsPulled(t *testing.T) {
	s := newChain(t)
	a := s.put("old", 1).late("accept", 0)
	for i := range uint64(LogMax) + 1 {
		s.put("x", 10+i).to("accept", 0, 1)
	}
	s.next([]int{0, 1}, 2, 3, 4)
	a.on().to("prepare", 2, 3).lose("prepare", 4).ends("unknown")
	s.check()
}

func TestVotersArePulled(t *testing.T) {
	s := newChain(t)
	a := s.put("A", 1).late("accept", 0, 1) // each knows of itself alone
	s.put("C", 200).to("accept", 0, 2).ends("ok")
	s.next([]int{0, 1}, 2, 3, 4)
	a.on().to("prepare", 2, 3).ends("ok")
	s.readNow(2, 3).ends("C")
}

func TestMergeKeepsTheMarkOfTheHighest(t *testing.T) {
	low, high := ballot(0, 1, 1), ballot(0, 2, 1)
	chosen := Group{Accepted: low, Chosen: true, Value: Value{}.With(head, live("A"))}
	unchosen := Group{Accepted: high, Value: Value{}.With(head, live("B"))}
	for _, order := range [][2]Group{{chosen, unchosen}, {unchosen, chosen}} {
		var g Group
		g.Merge(order[0])
		g.Merge(order[1])
		if g.Accepted != high || headOf(g.Value) != "B" || g.Chosen {
			t.Errorf("merged to %v %q, chosen: %v", g.Accepted, headOf(g.Value), g.Chosen)
		}
	}
}

package register

import (
	"errors"
	"slices"
	"testing"

	"larder/past"
)

// The traps of the models, one test each, on members 0, 1 and 2. Messages that a test does not name stay in the post.

func TestCarriedIsNotDone(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	a := s.put("A", 1).to("accept", 0)
	s.keep("B", 5).to("prepare", 0, 1).to("accept", 0) // carries A, to one member
	s.swap("", "C", 6).to("prepare", 1, 2).to("accept", 1, 2).ends("ok")
	a.lose("accept", 1, 2).have("prepare", 0, 1).lose("prepare", 2).again() // refused: others promised more
	a.to("prepare", 0, 1).ends("open")
	a.to("prepare", 2).to("accept", 0, 1).ends("ok") // both ballots are dead: once more
	s.readNow(1, 2).ends("A")
	s.check()
}

func TestRefusedWriteAsksFirst(t *testing.T) { // no_dedupe
	s := newStage(t, []int{0, 1, 2})
	a := s.put("A", 1).late("accept", 0, 1) // chosen, and nobody hears of it
	s.readNow(0, 1).ends("A")
	s.put("C", 200).to("accept", 1, 2).ends("ok")
	a.lose("accept", 2)
	a.step(a.i, Failed{From: 0, Ballot: a.op().ballot})
	a.all(0, 1).ends("ok")
	s.readNow(0, 1).ends("C")
	s.check()
}

func TestSwapIsNotAbsorbed(t *testing.T) { // cas_absorb
	s := newStage(t, []int{0, 1, 2})
	a := s.swap("", "A", 1).to("prepare", 0, 1).to("accept", 0)
	s.keep("B", 5).to("prepare", 0, 1).to("accept", 0)
	s.swap("", "C", 6).to("prepare", 1, 2).to("accept", 1, 2).ends("ok")
	a.lose("accept", 1, 2).again().lose("prepare", 0, 1, 2).again()
	for !a.op().ended && a.op().ballot.Counter < 7 {
		a.again().lose("prepare", 0, 1, 2)
	}
	a.again().to("prepare", 0, 1).ends("open")
	a.to("prepare", 2).to("accept", 1, 2).ends("refused")
	s.check()
}

func TestSwapLooksBelowTheHighestRecord(t *testing.T) { // cas_chain_only
	s := newStage(t, []int{0, 1, 2})
	a := s.swap("", "A", 1).to("prepare", 0, 1).mute("accept", 0, 1)
	s.readNow(0, 1).ends("A")
	s.put("C", 200).to("accept", 0, 2).ends("ok") // its chain does not hold a
	for a.op().ballot.Counter < 201 {
		a.again().lose("prepare", 0, 1, 2)
	}
	a.again().to("prepare", 0, 1).ends("ok") // not refused: somebody read A
	s.readNow(0, 1).ends("C")
	s.check()
}

// A process that starts again with its clock stepped back uses counters again: hence it draws a new proposer.
func TestBallotsOfTwoStartsDiffer(t *testing.T) { // dup_ballot
	for _, fresh := range []bool{true, false} {
		s := newStage(t, []int{0, 1, 2})
		s.put("A", 5).to("accept", 0, 1).ends("ok")
		b := s.gateway(5)
		if !fresh {
			b.proposer = s.gates[0].proposer
		}
		s.clock++
		s.world.begin('p', "B", "", 0, b)
		actor{s, 1}.to("accept", 0, 1).ends("ok")
		s.readNow(0, 1)
		if got := linearizable(s.ops); got != fresh {
			t.Errorf("proposer drawn anew: %v, linearizable: %v", fresh, got)
		}
	}
}

func TestCounterNeverRepeats(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	g := s.gateway(1)
	used := map[past.Ballot]bool{}
	for i := range 2 { // two operations of one process
		s.clock++
		s.world.begin('c', "A", "", 0, g)
		a := actor{s, i}
		for range 5 {
			if b := a.op().ballot; used[b] {
				t.Fatalf("ballot %v twice", b)
			}
			used[a.op().ballot] = true
			a.lose("prepare", 0, 1, 2).again()
		}
	}
}

func TestUnsettledIsAcceptedBeforeItIsReported(t *testing.T) { // noaccept
	s := newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0)
	c := s.swap("", "C", 5).to("prepare", 0, 1).ends("open")
	c.to("accept", 0, 1).ends("refused")
	s.readNow(1, 2).ends("A")
	s.check()

	s = newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0)
	s.read().to("read", 0, 1).lose("read", 2).to("prepare", 0, 1).ends("open").to("accept", 0, 1).ends("A")
	s.readNow(1, 2).ends("A")
	s.check()
}

// What is known to be chosen is reported without an accept.
func TestSettledIsReportedAtOnce(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0, 1).ends("ok")
	s.swap("", "C", 5).to("prepare", 0, 1).ends("refused") // both show one ballot of this epoch
	s.told(0)
	s.swap("", "D", 6).to("prepare", 0, 2).ends("refused") // one was told
	s.read().to("read", 0, 1).ends("A")
	s.check()
}

// The first attempt of a refused operation may still be accepted by a member whose promise it does not have: only something
// accepted above that attempt makes the refusal final.
func TestRefusedWithOwnValueOut(t *testing.T) { // noaccept, for an operation that tries again
	s := newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
	a := s.swap("A", "B", 3).to("prepare", 1, 2).to("accept", 1)
	if a.op().ended {
		t.Fatal("accepted by one")
	}
	refuseNow := errors.New("no more") // as a lock, or the settings of the bucket, may refuse what they let pass before
	a.op().req.Update = func(Value) (Value, error) { return Value{}, refuseNow }
	a.lose("accept", 0, 2).again().to("prepare", 0, 2)
	if a.op().ended {
		t.Fatalf("refused although node 1 holds the value, to be carried: %v", a.op().result)
	}
	a.to("accept", 0, 2).ends("refused")
	s.readNow(1, 2).ends("A")
}

// A member that does not answer, as one that is stopped, keeps nobody waiting: whether it is among those that were asked first or
// among the rest, the hedge after all were asked goes on with those that answered.
func TestSplitReadDoesNotWait(t *testing.T) {
	for silent := range 3 {
		s := newStage(t, []int{0, 1, 2})
		s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
		answering := slices.DeleteFunc([]int{0, 1, 2}, func(n int) bool { return n == silent })
		s.put("B", 5).to("accept", answering[0]) // the two that answer differ
		r := s.read().have("read", answering...)
		if silent < 2 { // it is one of the two that were asked first; else they differ, and the rest was asked at once
			r.hedge().have("read", answering...)
		}
		if r.find("prepare", answering[0], false) != nil {
			t.Fatalf("node %d silent: prepares before the rest had time to answer", silent)
		}
		r.ends("open").hedge().to("prepare", answering...).to("accept", answering...).ends("B")
		s.check()
	}
}

// Where those that answer agree, the silent one is not missed, and nothing is prepared.
func TestReadDoesNotWaitForTheFirst(t *testing.T) {
	for silent := range 2 {
		s := newStage(t, []int{0, 1, 2})
		s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
		s.read().have("read", 1-silent).hedge().to("read", 2).ends("A")
	}
}

// With fewer answers than a majority there is nothing to go on with: more time is asked for, again and again.
func TestHedgeNeedsAMajority(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	r := s.read().have("read", 0)
	for range 3 {
		var out Outbox
		r.op().Step(HedgeNow{}, &out)
		s.apply(r.i, &out)
		if !out.Hedge || out.Done != nil || r.op().phase != phaseRead {
			t.Fatalf("%v: %+v", r.op(), out)
		}
	}
	s.put("B", 5).to("accept", 1)
	r.to("read", 1).ends("open").hedge().to("prepare", 0, 1).to("accept", 0, 1).ends("B")
	s.check()
}

// Where no majority is without a damaged member, an operation ends at once; one damaged member of three is done without.
func TestDamagedMajority(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
	s.disks[0].damaged = true
	s.read().to("read", 0, 1, 2).ends("A")
	s.swap("A", "B", 5).to("prepare", 0, 1, 2).to("accept", 0, 1, 2).ends("ok")
	s.put("C", 10).to("accept", 0, 1, 2).ends("ok")
	s.disks[1].damaged = true
	s.read().to("read", 0, 1).ends("damaged")
	s.read().to("read", 0).lose("read", 1, 2).to("prepare", 0).ends("open").to("prepare", 1).ends("damaged")
	s.swap("C", "D", 20).to("prepare", 2, 0, 1).ends("damaged")
	s.put("E", 30).to("accept", 0).ends("open").to("accept", 1).ends("unknown") // the third may have it
	s.disks[2].damaged = true
	s.swap("C", "F", 40).to("prepare", 2, 0).ends("damaged")
	s.check()

	s = newStage(t, []int{0})
	s.put("A", 1).to("accept", 0).ends("ok")
	s.disks[0].damaged = true
	s.put("B", 5).to("accept", 0).ends("damaged") // nobody has it
	s.read().to("read", 0).ends("damaged")
}

// A member that is replaced takes its damage with it.
func TestDamageIsOfItsEpoch(t *testing.T) {
	s := newStage(t, []int{0, 1, 2}, []int{1, 2, 3})
	s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
	s.disks[0].damaged = true
	r := s.read().to("read", 0)
	s.next([]int{1, 2}, 1, 2, 3)
	s.disks[2].damaged = true // in another place of the new epoch
	r.on().to("read", 2).ends("open").have("read", 1, 3).have("prepare", 1, 2, 3).have("accept", 1, 2, 3).ends("A")
	s.check()
}

// --- several registers, the memory and its floor

func TestRegistersOfAGroupChangeTogether(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
	s.keep("B", 5).to("prepare", 0, 1).to("accept", 0) // head B and version A, at one member
	s.readNow(1, 2).ends("A")                          // neither
	s.keep("C", 200).to("prepare", 1, 2).to("accept", 1, 2).ends("ok")
	s.readNow(1, 2).ends("C,A")
	s.check()

	s = newStage(t, []int{0, 1, 2})
	s.put("A", 1).to("accept", 0, 1, 2).ends("ok")
	s.keep("B", 5).to("prepare", 0, 1).to("accept", 0)
	s.keep("C", 6).to("prepare", 0, 2).to("accept", 1, 2).ends("ok") // who carries B carries A
	s.readNow(1, 2).ends("C,A,B")
	s.check()
}

func TestFloorLeavesUndecided(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	a := s.put("old", 1).late("accept", 0)
	for i := range uint64(LogMax) + 1 {
		s.put("x", 10+i).to("accept", 0, 1, 2)
	}
	a.lose("accept", 1, 2)
	a.step(a.i, Failed{From: 0, Ballot: a.op().ballot})
	a.lose("prepare", 0, 1, 2)
	for a.op().ballot.Counter < 10+LogMax+1 && !a.op().ended {
		a.again().have("prepare", 0, 1, 2)
	}
	a.ends("unknown")
	s.readNow(0, 1).ends("x")
}

// An operation whose id fell off the chain of what it led to must not run again.
func TestFallenOffTheChainIsUndecided(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	a := s.swap("", "A", 1).to("prepare", 0, 1).to("accept", 0)
	for i := range uint64(ChainMax + ChainMax/2) { // each is carried on from node 0 alone
		s.keep("x", 10+i).to("prepare", 0, 1).late("accept", 0)
	}
	s.keep("y", 100).to("prepare", 0, 1).to("accept", 1, 2).ends("ok")
	s.del(200).to("accept", 1, 2).ends("ok")
	a.lose("accept", 1, 2)
	for a.op().ballot.Counter < 201 && !a.op().ended {
		a.again().have("prepare", 1, 2)
	}
	a.lose("prepare", 0).ends("unknown") // it led to y: neither refused nor done again
}

// Groups that were dropped leave a floor for the whole partition, in the epoch that dropped them and in those after it.
func TestFloorOfDroppedGroups(t *testing.T) {
	for _, epochs := range []int{1, 2} {
		s := newStage(t, []int{0, 1, 2}, []int{2, 3, 4}, []int{3, 4, 0})
		a := s.put("A", 1).late("accept", 0, 1) // chosen
		s.readNow(0, 1).ends("A")
		s.del(200).to("accept", 0, 1, 2).ends("ok")
		s.told(0, 1, 2)
		s.next([]int{0, 1}, 2, 3, 4)
		if n := len(s.disks[2].groups); n != 0 {
			t.Fatalf("%d groups: the tombstone was kept", n)
		}
		if epochs == 2 {
			s.next([]int{2, 3}, 0, 3, 4)
		}
		a.on().to("prepare", 3, 4).ends("open").all(3, 4).ends("unknown")
		s.readNow(3, 4).ends("")
		s.check()
	}
}

func TestMemberSpeaksForItself(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	a := s.put("A", 1).to("accept", 0)
	g := s.disks[0].groups["g"]
	g.Log[0].Voters = 0b111 // a member that claims to know of others
	s.swap("", "C", 5).to("prepare", 1, 2).to("accept", 1, 2).ends("ok")
	a.lose("accept", 1, 2).lose("prepare", 0, 1, 2)
	for a.op().ballot.Counter < 6 {
		a.again().lose("prepare", 0, 1, 2)
	}
	a.again().to("prepare", 0, 1).ends("open")
}

// --- acceptors

func TestPrepareRefusesEqualBallot(t *testing.T) {
	var g Group
	b := past.Ballot{Counter: 3, Proposer: past.ProposerID{1}}
	if _, ok := g.Prepare(b); !ok {
		t.Fatal("refuses the first ballot")
	}
	if _, ok := g.Prepare(b); ok {
		t.Error("promises one ballot twice")
	}
}

func TestAcceptTwiceReplacesNothing(t *testing.T) {
	var g Group
	v := Value{}.With(head, live("A"))
	b := past.Ballot{Counter: 3, Proposer: past.ProposerID{1}}
	g.Accept(Accept{Ballot: b, Value: v}, 0)
	g.MarkChosen(b)
	done, ok := g.Accept(Accept{Ballot: b, Value: v}, 0)
	if !ok || len(done.Replaced.Entries) > 0 {
		t.Errorf("the same message again: ok %v, replaced %v: its writer would reclaim its own bytes", ok, done.Replaced)
	}
	if !g.Chosen {
		t.Error("the mark is gone")
	}
}

func TestPlacesOutsideTheConfigurationAreIgnored(t *testing.T) {
	s := newStage(t, []int{0, 1, 2})
	a := s.put("A", 1).to("accept", 0)
	for _, from := range []int{3, 15, 16, 1000, -1} {
		a.step(a.i, AcceptedBy{From: from, Ballot: a.op().ballot})
		a.step(a.i, Failed{From: from, Ballot: a.op().ballot})
	}
	a.ends("open").to("accept", 1).ends("ok")
}

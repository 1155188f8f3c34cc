package register

import (
	"slices"
	"testing"

	"larder/past"
)

// stage is a world whose messages a directed test delivers one by one. On it, messages go by the names read, prepare and accept, and
// nodes by their numbers. What is not delivered stays in the post for ever.
type stage struct {
	*world
	t *testing.T
}

// actor is one operation on the stage.
type actor struct {
	*stage
	i int
}

func newStage(t *testing.T, chain ...[]int) *stage {
	s := &stage{newWorld(nil, chain...), t}
	s.tracing = true
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range s.trace {
				t.Log(line)
			}
		}
	})
	return s
}

// begin starts an operation in the newest epoch, at a gateway of its own whose next ballot has the given counter. kind is that of
// op; keep is v.
func (s *stage) begin(kind byte, arg, expected string, counter uint64) actor {
	s.clock++
	s.world.begin(kind, arg, expected, s.lineage.Epoch(), s.gateway(counter))
	return actor{s, len(s.ops) - 1}
}

func (s *stage) put(arg string, counter uint64) actor  { return s.begin('p', arg, "", counter) }
func (s *stage) del(counter uint64) actor              { return s.begin('d', "", "", counter) }
func (s *stage) keep(arg string, counter uint64) actor { return s.begin('v', arg, "", counter) }
func (s *stage) read() actor                           { return s.begin('r', "", "", 100) }
func (s *stage) swap(expected, arg string, counter uint64) actor {
	return s.begin('c', arg, expected, counter)
}

// readNow reads from the given nodes, with the others unreachable.
func (s *stage) readNow(nodes ...int) actor { return s.read().all(nodes...) }

// nodes lists those of the newest epoch.
func (s *stage) nodes() (out []int) {
	for _, m := range s.chain[s.lineage.Epoch()].Members {
		out = append(out, s.node(m))
	}
	return out
}

func (a actor) op() *op { return a.ops[a.i] }

// find returns the request of that kind to node: the one of the present attempt, or with any the oldest.
func (a actor) find(kind string, node int, any bool) *mail {
	for _, m := range a.mail {
		if m.op != a.i || m.node != node || m.answer != nil {
			continue
		}
		present, is := false, ""
		switch ask := m.ask.(type) {
		case ReadAsk:
			is, present = "read", a.op().phase == phaseRead && ask.Round == a.op().round
		case PrepareAsk:
			is, present = "prepare", ask.Ballot == a.op().ballot
		case Accept:
			is, present = "accept", ask.Ballot == a.op().ballot
		}
		if is == kind && (any || present) {
			return m
		}
	}
	return nil
}

// have delivers the present attempt's requests to nodes, and the answers, as far as there are such requests.
func (a actor) have(kind string, nodes ...int) actor {
	a.t.Helper()
	for _, n := range nodes {
		if m := a.find(kind, n, false); m != nil {
			a.clock++
			a.deliver(m)
			a.deliver(a.mail[len(a.mail)-1])
		}
	}
	return a
}

// to is have for requests that must be there.
func (a actor) to(kind string, nodes ...int) actor {
	a.t.Helper()
	for _, n := range nodes {
		if a.find(kind, n, false) == nil {
			a.t.Fatalf("%v has no %s for node %d", a.op(), kind, n)
		}
		a.have(kind, n)
	}
	return a
}

// late delivers the oldest such requests, and nobody hears the answers.
func (a actor) late(kind string, nodes ...int) actor {
	a.t.Helper()
	for _, n := range nodes {
		m := a.find(kind, n, true)
		if m == nil {
			a.t.Fatalf("%v has no %s for node %d", a.op(), kind, n)
		}
		a.clock++
		a.deliver(m)
		a.take(a.mail[len(a.mail)-1])
	}
	return a
}

// mute delivers the requests and loses the answers: the proposer knows that it hears nothing.
func (a actor) mute(kind string, nodes ...int) actor {
	a.t.Helper()
	return a.drop(kind, nodes, true)
}

// lose loses the requests: the proposer knows that it hears nothing.
func (a actor) lose(kind string, nodes ...int) actor {
	a.t.Helper()
	return a.drop(kind, nodes, false)
}

func (a actor) drop(kind string, nodes []int, delivered bool) actor {
	a.t.Helper()
	for _, n := range nodes {
		m := a.find(kind, n, false)
		if m == nil {
			continue // nobody was asked
		}
		a.clock++
		if delivered {
			a.take(m)
			post := len(a.mail)
			a.hand(m)
			a.mail = a.mail[:post]
			a.reply(m, failure(m))
		} else {
			a.world.lose(m)
		}
		a.deliver(a.mail[len(a.mail)-1])
	}
	return a
}

// again fires the timer of an operation that waits, hedge that of one that reads; on moves it to the newest epoch.
func (a actor) again() actor { a.clock++; a.retry(a.i); return a }
func (a actor) on() actor    { a.clock++; a.move(a.i); return a }
func (a actor) hedge() actor { a.clock++; a.step(a.i, HedgeNow{}); return a }

// all delivers the operation's requests to nodes, and loses those to others, until it ends.
func (a actor) all(nodes ...int) actor {
	a.t.Helper()
	for range 6 {
		for _, kind := range []string{"read", "prepare", "accept"} {
			a.have(kind, nodes...)
			for _, n := range a.nodes() {
				if !slices.Contains(nodes, n) {
					a.lose(kind, n)
				}
			}
		}
		a.again()
	}
	return a
}

// ends checks how the operation ended: ok, refused, unknown, none or damaged (certainly without effect), a value read, or open.
func (a actor) ends(want string) actor {
	a.t.Helper()
	got := a.op().result
	switch {
	case !a.op().ended:
		got = "open"
	case a.op().damaged:
		got = "damaged"
	case a.op().none:
		got = "none"
	case a.op().returned == 0:
		got = "unknown"
	}
	if got != want {
		a.t.Errorf("operation %d (%c %q) ended %q, want %q", a.i, a.op().kind, a.op().arg, got, want)
	}
	return a
}

// check looks for an order that explains what was returned.
func (s *stage) check() {
	s.t.Helper()
	if !linearizable(s.ops) {
		s.t.Error("not linearizable")
	}
}

// told delivers the notes of what is known to be chosen.
func (s *stage) told(nodes ...int) {
	for _, m := range slices.Clone(s.mail) {
		if m.op >= 0 && isNote(m) && slices.Contains(nodes, m.node) {
			s.deliver(m)
		}
	}
}

// --- configurations

// choose brings about the succession of the newest epoch, by the votes of nodes.
func (s *stage) choose(nodes ...int) {
	s.t.Helper()
	epoch := s.lineage.Epoch()
	s.clock++
	i := s.change(epoch)
	for range 2 { // slots, votes
		for _, m := range slices.Clone(s.mail) {
			if m.change == i && slices.Contains(nodes, m.node) && m.answer == nil {
				switch m.ask.(type) {
				case SlotAsk, VoteAsk:
					s.deliver(m)
					s.deliver(s.mail[len(s.mail)-1])
				}
			}
		}
	}
	if s.lineage.Epoch() != epoch+1 {
		s.t.Fatalf("epoch %d was not chosen", epoch+1)
	}
}

// next goes to the next epoch: the nodes of from choose, freeze and are pulled from, those of into enter.
func (s *stage) next(from []int, into ...int) {
	s.t.Helper()
	s.choose(from...)
	s.fence(from...)
	for _, n := range into {
		if !s.enter(n, from...) {
			s.t.Fatalf("node %d does not enter epoch %d", n, s.lineage.Epoch())
		}
	}
}

// fence tells nodes of the newest epoch and has them freeze the one before; it reports whether all did.
func (s *stage) fence(nodes ...int) bool {
	all := true
	for _, n := range nodes {
		s.clock++
		d := s.disks[n]
		d.m.Learn(s.lineage)
		all = d.m.Fence(s.lineage.Epoch()-1) && all
	}
	return all
}

// enter has node pull from the given nodes and reports whether it is active in the newest epoch then.
func (s *stage) enter(node int, from ...int) bool {
	s.clock++
	d := s.disks[node]
	d.m.Learn(s.lineage)
	s.world.enter(node)
	for _, n := range from {
		for _, m := range slices.Clone(s.mail) {
			if ask, ok := m.ask.(pullAsk); ok && ask.by == node && m.node == n && m.answer == nil {
				before := len(s.mail)
				s.deliver(m)
				if len(s.mail) == before { // taken out, and an answer put in
					s.deliver(s.mail[len(s.mail)-1])
				}
			}
		}
	}
	return d.m.Active && d.m.Epoch == s.lineage.Epoch()
}

// ahead has node copy what the given nodes have, before a change.
func (s *stage) ahead(node int, from ...int) {
	s.clock++
	s.copyAhead(node)
	for _, m := range slices.Clone(s.mail) {
		if ask, ok := m.ask.(aheadAsk); ok && ask.by == node && m.answer == nil {
			if slices.Contains(from, m.node) {
				s.deliver(m)
				s.deliver(s.mail[len(s.mail)-1])
			} else {
				s.take(m)
			}
		}
	}
}

func isNote(m *mail) bool {
	_, ok := m.ask.(past.Ballot)
	return ok
}

// greetings lists those that are not delivered yet.
func (s *stage) greetings() (out []*mail) {
	for _, m := range s.mail {
		if _, ok := m.ask.(greetAsk); ok && m.answer == nil {
			out = append(out, m)
		}
	}
	return out
}

func (s *stage) deliverGreetings() {
	for _, m := range s.greetings() {
		s.deliver(m)
		s.deliver(s.mail[len(s.mail)-1])
	}
}

func ballot(epoch, counter uint64, proposer byte) past.Ballot {
	return past.Ballot{Epoch: epoch, Counter: counter, Proposer: past.ProposerID{proposer}}
}

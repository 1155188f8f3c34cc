package register

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"

	"larder/past"
	"larder/pastry"
)

// world is five disks, the operations and changes of a run, and the messages between them, delivered in any order that its
// caller chooses. The code under test is that of the live node; only disks and network are simulated.
type world struct {
	rnd     *rand.Rand // nil in directed tests: members are asked in their order
	disks   []*disk
	chain   []Configuration
	lineage Lineage // the longest known to anybody
	mail    []*mail
	ops     []*op
	changes []*Change
	clock   int
	counter uint64 // of the changes
	starts  byte   // of disks
	draws   byte   // of journals
	gates   []*gateway
	tracing bool
	trace   []string
}

// gateway is one process that proposes: what a start of it draws, and its clock.
type gateway struct {
	proposer past.ProposerID
	next     uint64
}

// disk is one node with what it has on disk. Every handler is atomic: what it changes is durable when it answers.
type disk struct {
	id       MemberID
	m        Member
	groups   map[string]Group
	frozen   map[uint64]map[string]Group // by epoch, kept after the next one was entered
	boots    Boots
	boot     Boot
	images   []image // of the disk, each taken just before a start
	greeting *Greeting
	greeted  uint64 // the epoch of greeting's configuration
	entrance *Entrance
	merged   map[string]Group
	pulled   map[int]bool
	copied   *copied
	journal  Journal
	damaged  bool // it lost the rows of its groups, and says so
}

// image is all that lies on a disk.
type image struct {
	m      Member
	groups map[string]Group
	frozen map[uint64]map[string]Group
	boots  Boots
	boot   Boot
}

// mail is one message. At most one of op and change says whom it is from or for; pulls and greetings have neither.
type mail struct {
	op, change int // index or -1
	node       int
	epoch      uint64
	place      int // the node's place in that epoch's configuration
	ask        any
	answer     any
	twice      bool // it may be delivered again: a refusal is not the last word
}

type op struct {
	*Operation
	kind     byte // p put, d delete, c compare-and-swap, v put that keeps the old as a version, r read
	group    string
	arg      string
	expected string
	quorum   Quorum
	invoked  int
	returned int  // 0: not yet, or outcome unknown
	none     bool // certainly without effect
	damaged  bool // because of damage
	result   string
	waiting  bool
	ended    bool
}

const head = ""

// newWorld makes the disks of nodes 0 to 4; chain lists the nodes of each epoch's members, of which the first exists.
func newWorld(rnd *rand.Rand, chain ...[]int) *world {
	w := &world{rnd: rnd}
	for i := range 5 {
		w.disks = append(w.disks, &disk{id: member(i, 1), groups: map[string]Group{}})
	}
	for i := range w.disks {
		w.start(i)
	}
	for e, nodes := range chain {
		c := Configuration{Epoch: uint64(e)}
		for _, n := range nodes {
			c.Members = append(c.Members, w.disks[n].id)
		}
		w.chain = append(w.chain, c)
	}
	w.lineage = Lineage{Genesis: w.chain[0]}
	for _, n := range chain[0] {
		w.disks[n].m.Genesis(w.lineage)
	}
	for _, d := range w.disks { // they all know one another
		for _, fellow := range w.disks {
			d.boots.Greet(fellow.id, fellow.greeting.boot)
		}
	}
	return w
}

func member(node int, incarnation uint64) MemberID {
	return MemberID{Node: pastry.NodeID{byte(node + 1)}, Incarnation: incarnation}
}

func (w *world) node(m MemberID) int { return int(m.Node[0]) - 1 }

func (w *world) logf(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%4d ", w.clock)+fmt.Sprintf(format, args...))
	}
}

func (w *world) quorum(epoch uint64) Quorum {
	n := len(w.chain[epoch].Members)
	nearest := nearestFirst(n)
	if w.rnd != nil {
		w.rnd.Shuffle(n, func(i, j int) { nearest[i], nearest[j] = nearest[j], nearest[i] })
	}
	return Quorum{Epoch: epoch, Members: n, Nearest: nearest}
}

// gateway starts a process whose clock may be anywhere.
func (w *world) gateway(counter uint64) *gateway {
	g := &gateway{proposer: past.ProposerID{byte(len(w.gates) + 1)}, next: counter}
	w.gates = append(w.gates, g)
	return g
}

// begin starts an operation of the given kind at a gateway.
func (w *world) begin(kind byte, arg, expected string, epoch uint64, g *gateway) *op {
	i := len(w.ops)
	o := &op{kind: kind, group: "g", arg: arg, expected: expected, invoked: w.clock, quorum: w.quorum(epoch)}
	req := Request{ID: past.OpID{byte(i + 1)}}
	switch kind {
	case 'r':
		req.Op = OpRead
	case 'p':
		req.Op, req.Blind = OpBlind, Value{}.With(head, live(arg))
	case 'd':
		req.Op, req.Blind = OpBlind, Value{}.With(head, past.Record{Kind: past.Tombstone})
	case 'c':
		req.Op, req.Update = OpUpdate, func(cur Value) (Value, error) {
			if headOf(cur) != expected {
				return Value{}, errRefused
			}
			return cur.With(head, live(arg)), nil
		}
	case 'v':
		req.Op, req.Update = OpUpdate, func(cur Value) (Value, error) {
			next := cur
			if h := headOf(cur); h != "" {
				next = next.With("v"+h, live(h))
			}
			return next.With(head, live(arg)), nil
		}
	}
	o.Operation = NewOperation(req, g.proposer, func(seen uint64) uint64 {
		g.next = max(g.next, seen+1) + 1
		return g.next - 1
	})
	w.ops = append(w.ops, o)
	w.logf("op%d %c arg=%q expected=%q begins in epoch %d at %d", i, kind, arg, expected, epoch, g.next)
	var out Outbox
	o.Start(o.quorum, &out)
	w.apply(i, &out)
	return o
}

var errRefused = errors.New("refused")

func live(s string) past.Record { return past.Record{Kind: past.Live, Value: []byte(s)} }

func headOf(v Value) string { return string(v.live(head)) }

func (v Value) live(name string) []byte {
	if r := v.Entry(name); r.Kind == past.Live {
		return r.Value
	}
	return nil
}

// state is a value as a string: the head, then the versions in order of their names.
func state(v Value) string {
	var b strings.Builder
	b.WriteString(headOf(v))
	for _, e := range v.Entries {
		if e.Name != head && e.Record.Kind == past.Live {
			b.WriteString("," + string(e.Record.Value))
		}
	}
	return b.String()
}

func (w *world) apply(i int, out *Outbox) {
	o := w.ops[i]
	for _, s := range out.Sends {
		c := &w.chain[o.quorum.Epoch]
		w.mail = append(w.mail, &mail{op: i, change: -1, node: w.node(c.Members[s.To]), epoch: c.Epoch, place: s.To, ask: s.Message})
	}
	if !out.Chosen.IsZero() {
		c := &w.chain[out.Chosen.Epoch]
		for p, m := range c.Members {
			w.mail = append(w.mail, &mail{op: i, change: -1, node: w.node(m), epoch: c.Epoch, place: p, ask: out.Chosen})
		}
	}
	if out.Wait > 0 {
		o.waiting = true
	}
	if out.Done != nil {
		w.finish(i, out.Done)
	}
}

func (w *world) finish(i int, r *Result) {
	o := w.ops[i]
	o.ended = true
	switch {
	case errors.Is(r.Err, past.ErrUnknown):
		w.logf("op%d ends, outcome unknown", i)
		return
	case errors.Is(r.Err, past.ErrUnavailable), errors.Is(r.Err, past.ErrDamaged):
		o.none = true
		o.damaged = errors.Is(r.Err, past.ErrDamaged)
		w.logf("op%d ends without effect", i)
		return
	case o.kind == 'r':
		o.result = state(r.Value)
	case r.Err != nil:
		o.result = "refused"
	default:
		o.result = "ok"
	}
	o.returned = w.clock
	w.logf("op%d %c ends: %q", i, o.kind, o.result)
}

func (w *world) step(i int, in Input) {
	var out Outbox
	w.ops[i].Step(in, &out)
	w.apply(i, &out)
}

// move tells an operation of the newest epoch.
func (w *world) move(i int) {
	o := w.ops[i]
	if e := w.lineage.Epoch(); !o.ended && e > o.quorum.Epoch {
		w.logf("op%d moves to epoch %d", i, e)
		o.quorum, o.waiting = w.quorum(e), false
		w.step(i, Moved{o.quorum})
	}
}

// retry fires the timer of an operation that waits.
func (w *world) retry(i int) {
	if o := w.ops[i]; o.waiting && !o.ended {
		o.waiting = false
		w.step(i, RetryNow{})
	}
}

// giveUp ends an operation whose client waits no longer.
func (w *world) giveUp(i int) {
	if !w.ops[i].ended {
		w.step(i, GiveUp{})
	}
}

// take takes mail out of the post.
func (w *world) take(m *mail) {
	i := slices.Index(w.mail, m)
	w.mail[i] = w.mail[len(w.mail)-1]
	w.mail = w.mail[:len(w.mail)-1]
}

// deliver takes mail out of the post and hands it over.
func (w *world) deliver(m *mail) {
	w.take(m)
	w.hand(m)
}

// hand delivers a copy of the mail.
func (w *world) hand(m *mail) {
	if m.answer == nil && !w.disks[m.node].greeting.Confirmed() {
		if _, ok := m.ask.(greetAsk); !ok { // that one is about the others
			w.reply(m, failure(m))
			return
		}
	}
	switch {
	case m.answer != nil && m.op >= 0:
		w.step(m.op, m.answer.(Input))
	case m.answer != nil && m.change >= 0:
		w.stepChange(m.change, m.answer)
	case m.answer != nil:
		w.ownAnswer(m)
	case m.op >= 0:
		w.handle(m)
	default:
		w.handleChange(m)
	}
}

// lose drops mail; whoever asked learns, some day, that no answer will come.
func (w *world) lose(m *mail) {
	w.take(m)
	w.reply(m, failure(m))
}

func (w *world) reply(m *mail, answer any) {
	if answer == nil {
		return
	}
	copied := *m
	copied.answer = answer
	w.mail = append(w.mail, &copied)
}

func failure(m *mail) any {
	switch ask := m.ask.(type) {
	case ReadAsk:
		return Failed{From: m.place, Round: ask.Round}
	case PrepareAsk:
		return Failed{From: m.place, Ballot: ask.Ballot}
	case Accept:
		return Failed{From: m.place, Ballot: ask.Ballot}
	case SlotAsk:
		return SlotFailed{From: m.place, Ballot: ask.Ballot}
	case VoteAsk:
		return SlotFailed{From: m.place, Ballot: ask.Ballot}
	}
	return nil
}

// damage is what a member says that lost what it needs to answer. Nothing is to be concluded from mail that was delivered before.
func damage(m *mail) any {
	switch ask := m.ask.(type) {
	case ReadAsk:
		return Failed{From: m.place, Round: ask.Round, Damaged: true}
	case PrepareAsk:
		return Declined{From: m.place, Ballot: ask.Ballot, Damaged: true}
	case Accept:
		if m.twice {
			return failure(m)
		}
		return Declined{From: m.place, Ballot: ask.Ballot, Accept: true, Damaged: true}
	}
	return nil
}

// handle is a member's side of one operation message.
func (w *world) handle(m *mail) {
	d, group := w.disks[m.node], w.ops[m.op].group
	if d.damaged {
		w.reply(m, damage(m))
		return
	}
	if b, ok := m.ask.(past.Ballot); ok {
		g := d.groups[group]
		if g.MarkChosen(b) {
			d.groups[group] = g
			d.journal.Note(d.m.Epoch, group)
		}
		return
	}
	epoch := m.epoch
	switch ask := m.ask.(type) {
	case PrepareAsk:
		epoch = ask.Ballot.Epoch
	case Accept:
		epoch = ask.Ballot.Epoch
	}
	if s := d.m.Check(epoch, d.id); s != StatusReady {
		if a, ok := m.ask.(Accept); ok && !m.twice {
			w.reply(m, Declined{From: m.place, Ballot: a.Ballot, Accept: true})
			return
		}
		w.reply(m, failure(m))
		return
	}
	g, ok := d.groups[group]
	if !ok {
		g = d.m.Absent()
	}
	switch ask := m.ask.(type) {
	case ReadAsk:
		w.reply(m, ReadAnswer{From: m.place, Round: ask.Round, Accepted: g.Accepted, Chosen: g.Chosen, HasValue: ask.WithValue || g.Accepted.IsZero(), Value: g.Value})
	case PrepareAsk:
		p, ok := g.Prepare(ask.Ballot)
		w.logf("node %d: prepare %v of op%d: %v", m.node, ask.Ballot, m.op, ok)
		if !ok {
			w.reply(m, Refused{From: m.place, Ballot: ask.Ballot, Promised: g.Promised})
			return
		}
		p.Pulled = d.m.Pulled
		d.groups[group] = g
		w.reply(m, Promised{From: m.place, Promise: p})
	case Accept:
		done, ok := g.Accept(ask, m.place)
		if w.tracing {
			w.logf("node %d: accept %v %q of op%d: %v", m.node, ask.Ballot, state(ask.Value), m.op, ok)
		}
		if !ok {
			w.reply(m, Refused{From: m.place, Ballot: ask.Ballot, Promised: g.Promised, Accept: !m.twice})
			return
		}
		d.groups[group] = g
		d.journal.Note(epoch, group)
		w.reply(m, AcceptedBy{From: m.place, Ballot: ask.Ballot, Accepted: done})
	}
}

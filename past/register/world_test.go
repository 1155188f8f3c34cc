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
	rnd     *rand.Rand
	disks   []*disk
	chain   []Configuration
	lineage Lineage // the longest known to anybody
	mail    []*mail
	ops     []*op
	changes []*Change
	clock   int
	counter uint64
	trace   []string
}

// disk is one node with what it has on disk. Every handler is atomic: what it changes is durable when it answers.
type disk struct {
	id       MemberID
	m        Member
	groups   map[string]Group
	entrance *Entrance
	merged   map[string]Group
	pulled   map[int]bool
}

// mail is one message. Exactly one of op and change says whom it is from or for; a pull has neither.
type mail struct {
	op, change int // index or -1
	node       int
	epoch      uint64
	place      int // the node's place in that epoch's configuration
	ask        any
	answer     any
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
	result   string
	waiting  bool
	ended    bool
}

const head = ""

func newWorld(rnd *rand.Rand, chain ...[]int) *world {
	w := &world{rnd: rnd}
	for i := range 5 {
		w.disks = append(w.disks, &disk{id: member(i, 1), groups: map[string]Group{}})
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
	return w
}

func member(node int, incarnation uint64) MemberID {
	return MemberID{Node: pastry.NodeID{byte(node + 1)}, Incarnation: incarnation}
}

func (w *world) node(m MemberID) int { return int(m.Node[0]) - 1 }

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%4d ", w.clock)+fmt.Sprintf(format, args...))
}

func (w *world) quorum(epoch uint64) Quorum {
	n := len(w.chain[epoch].Members)
	return Quorum{Epoch: epoch, Members: n, Nearest: w.rnd.Perm(n)}
}

// begin starts an operation of the given kind; counter is where its ballots begin.
func (w *world) begin(kind byte, arg, expected string, epoch, counter uint64) *op {
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
	next := counter
	o.Operation = NewOperation(req, past.ProposerID{byte(i + 1)}, func(seen uint64) uint64 {
		next = max(next, seen+1)
		next++
		return next - 1
	})
	w.ops = append(w.ops, o)
	w.logf("op%d %c arg=%q expected=%q begins in epoch %d at %d", i, kind, arg, expected, epoch, counter)
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
	case errors.Is(r.Err, past.ErrUnavailable):
		o.none = true
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

// deliver takes mail out of the post and hands it over.
func (w *world) deliver(m *mail) {
	w.mail = slices.DeleteFunc(w.mail, func(x *mail) bool { return x == m })
	switch {
	case m.answer != nil && m.op >= 0:
		w.step(m.op, m.answer.(Input))
	case m.answer != nil && m.change >= 0:
		w.stepChange(m.change, m.answer)
	case m.answer != nil:
		w.pullAnswer(m)
	case m.op >= 0:
		w.handle(m)
	default:
		w.handleChange(m)
	}
}

// lose drops mail; whoever asked learns, some day, that no answer will come.
func (w *world) lose(m *mail) {
	w.mail = slices.DeleteFunc(w.mail, func(x *mail) bool { return x == m })
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

// handle is a member's side of one operation message.
func (w *world) handle(m *mail) {
	d, group := w.disks[m.node], w.ops[m.op].group
	if b, ok := m.ask.(past.Ballot); ok {
		g := d.groups[group]
		if g.MarkChosen(b) {
			d.groups[group] = g
		}
		return
	}
	if s := d.m.Check(m.epoch, d.id); s != StatusReady {
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
		w.logf("node %d: accept %v %q of op%d: %v", m.node, ask.Ballot, state(ask.Value), m.op, ok)
		if !ok {
			w.reply(m, Refused{From: m.place, Ballot: ask.Ballot, Promised: g.Promised})
			return
		}
		d.groups[group] = g
		w.reply(m, AcceptedBy{From: m.place, Ballot: ask.Ballot, Accepted: done})
	}
}

// --- configurations

// change starts to bring the chain from epoch to the one after it.
func (w *world) change(epoch uint64) int {
	w.counter++
	want := Succession{Epoch: epoch, Next: []Configuration{w.chain[epoch+1]}}
	c := NewChange(w.chain[epoch], want, past.ProposerID{0xff, byte(w.counter)}, func(seen uint64) uint64 {
		w.counter = max(w.counter, seen) + 1
		return w.counter
	})
	w.changes = append(w.changes, c)
	w.startChange(len(w.changes) - 1)
	return len(w.changes) - 1
}

func (w *world) startChange(i int) {
	var out ChangeOutbox
	w.changes[i].Start(&out)
	w.applyChange(i, &out)
}

func (w *world) stepChange(i int, in any) {
	var out ChangeOutbox
	w.changes[i].Step(in, &out)
	w.applyChange(i, &out)
}

func (w *world) applyChange(i int, out *ChangeOutbox) {
	c := w.changes[i]
	if out.Chosen != nil && out.Chosen.Succession.Epoch == w.lineage.Epoch() {
		w.lineage = w.lineage.Extend(*out.Chosen)
		w.logf("epoch %d is chosen", w.lineage.Epoch())
	}
	for _, s := range out.Sends {
		members := c.from.Members
		if _, ok := s.Message.(EnterAsk); ok {
			members = c.cert.Succession.Next[s.Successor].Members
		}
		w.mail = append(w.mail, &mail{op: -1, change: i, node: w.node(members[s.To]), epoch: c.from.Epoch, place: s.To, ask: s.Message})
	}
}

// pullAsk and pullAnswer carry frozen groups from one disk to another.
type pullAsk struct{ by int }
type pullAnswer struct {
	head   FrozenHead
	groups map[string]Group
}

func (w *world) handleChange(m *mail) {
	d := w.disks[m.node]
	switch ask := m.ask.(type) {
	case SlotAsk:
		if s, ok := d.m.SlotPrepare(m.epoch, ask.Ballot, d.id); ok {
			w.reply(m, SlotPromised{From: m.place, Ballot: ask.Ballot, Slot: s})
		} else {
			w.reply(m, SlotRefused{From: m.place, Ballot: ask.Ballot, Promised: s.Promised})
		}
	case VoteAsk:
		if s, ok := d.m.SlotAccept(ask.Next, ask.Ballot, d.id); ok {
			w.reply(m, Voted{From: m.place, Ballot: ask.Ballot})
		} else {
			w.reply(m, SlotRefused{From: m.place, Ballot: ask.Ballot, Promised: s.Promised})
		}
	case FenceAsk:
		d.m.Learn(w.lineageTo(m.epoch + 1))
		frozen := d.m.Fence(m.epoch)
		w.logf("node %d: fence epoch %d: %v", m.node, m.epoch, frozen)
		if frozen {
			w.reply(m, FencedBy{From: m.place})
		}
	case EnterAsk:
		d.m.Learn(w.lineageTo(m.epoch + 1))
		w.enter(m.node)
		if d.m.Epoch == m.epoch+1 && d.m.Active {
			w.reply(m, EnteredBy{From: m.place})
		}
	case pullAsk:
		if d.m.Frozen(m.epoch) {
			groups := map[string]Group{}
			for name, g := range d.groups {
				groups[name] = g
			}
			w.reply(m, pullAnswer{d.m.Head(), groups})
		}
	}
}

func (w *world) lineageTo(epoch uint64) Lineage {
	l := w.lineage
	l.Certificates = l.Certificates[:min(epoch, uint64(len(l.Certificates)))]
	return l
}

// enter starts or continues the node's way into the newest epoch that it knows.
func (w *world) enter(node int) {
	d := w.disks[node]
	e := d.m.Entrance(d.id)
	if e == nil {
		return
	}
	if d.entrance == nil || d.entrance.Epoch != e.Epoch {
		d.entrance, d.merged, d.pulled = e, map[string]Group{}, map[int]bool{}
	}
	for place, m := range w.chain[e.Epoch-1].Members {
		w.mail = append(w.mail, &mail{op: -1, change: -1, node: w.node(m), epoch: e.Epoch - 1, place: place, ask: pullAsk{by: node}})
	}
}

func (w *world) pullAnswer(m *mail) {
	node, a := m.ask.(pullAsk).by, m.answer.(pullAnswer)
	d := w.disks[node]
	if d.entrance == nil || d.entrance.Epoch != m.epoch+1 || d.pulled[m.place] {
		return
	}
	d.pulled[m.place] = true
	for name, frozen := range a.groups {
		g := d.merged[name]
		g.Merge(frozen)
		d.merged[name] = g
	}
	if !d.entrance.Pulled(m.place, a.head) {
		return
	}
	for name, g := range d.merged {
		if g.Droppable() {
			d.entrance.Dropped(&g)
			delete(d.merged, name)
		}
	}
	d.groups = d.merged
	d.m.Enter(d.entrance)
	d.entrance = nil
	w.logf("node %d: active in epoch %d", node, d.m.Epoch)
}

// wipe gives the node an empty disk.
func (w *world) wipe(node int) {
	w.logf("node %d: disk wiped", node)
	id := w.disks[node].id
	id.Incarnation++
	w.disks[node] = &disk{id: id, groups: map[string]Group{}}
}

// restart ends what the node had in memory alone: its pulls, and marks that were not synced.
func (w *world) restart(node int) {
	w.logf("node %d: restarts", node)
	d := w.disks[node]
	d.entrance, d.merged, d.pulled = nil, nil, nil
	for name, g := range d.groups {
		if w.rnd.Intn(2) == 0 {
			g.Chosen = false
			d.groups[name] = g
		}
	}
}

// --- linearizability

// linearizable looks for an order of the operations that explains what they returned, by brute force.
func linearizable(ops []*op) bool {
	type point struct {
		done  uint32
		state string
	}
	seen := map[point]bool{}
	var returned uint32
	for i, o := range ops {
		if o.returned != 0 {
			returned |= 1 << i
		}
	}
	var search func(p point) bool
	search = func(p point) bool {
		if p.done&returned == returned {
			return true
		}
		if seen[p] {
			return false
		}
		seen[p] = true
		horizon := 1 << 30
		for i, o := range ops {
			if p.done>>i&1 == 0 && o.returned != 0 {
				horizon = min(horizon, o.returned)
			}
		}
		for i, o := range ops {
			if p.done>>i&1 == 1 || o.none || o.invoked > horizon {
				continue
			}
			next, result := o.effect(p.state)
			if (o.returned == 0 || o.result == result) && search(point{p.done | 1<<i, next}) {
				return true
			}
		}
		return false
	}
	return search(point{})
}

// effect is the sequential specification.
func (o *op) effect(before string) (after, result string) {
	h, versions, _ := strings.Cut(before, ",")
	switch o.kind {
	case 'p':
		return o.arg, "ok"
	case 'd':
		return "", "ok"
	case 'c':
		if h != o.expected {
			return before, "refused"
		}
		return join(o.arg, versions), "ok"
	case 'v':
		all := strings.FieldsFunc(versions, func(r rune) bool { return r == ',' })
		if h != "" && !slices.Contains(all, h) {
			all = append(all, h)
			slices.Sort(all)
		}
		return join(o.arg, strings.Join(all, ",")), "ok"
	default:
		return before, before
	}
}

func join(head, versions string) string {
	if versions == "" {
		return head
	}
	return head + "," + versions
}

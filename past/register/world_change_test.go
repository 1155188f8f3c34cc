package register

import (
	"maps"
	"slices"

	"larder/past"
)

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

// pullAsk and pullAnswer carry frozen groups from one disk to another: those that changed since the point, if the other side knows.
type pullAsk struct {
	by    int
	run   past.ProposerID // the start that asks: an answer to an earlier one is lost with it
	since Point
}
type pullAnswer struct {
	head   FrozenHead
	groups map[string]Group
}

// aheadAsk and aheadAnswer carry groups that are not frozen, ahead of a change.
type aheadAsk pullAsk
type aheadAnswer struct {
	groups map[string]Group
	begun  Point
}

// copied is what a node has copied ahead of the change that ends epoch.
type copied struct {
	epoch  uint64
	groups map[string]Group
	points map[int]Point // by place
}

// copyAhead has a node that may be of the next configuration copy what the newest one's members have.
func (w *world) copyAhead(node int) {
	d := w.disks[node]
	d.m.Learn(w.lineage)
	if d.entrance != nil || d.m.Lineage.Epoch() != w.lineage.Epoch() {
		return
	}
	epoch := w.lineage.Epoch()
	if d.copied == nil || d.copied.epoch != epoch {
		d.copied = &copied{epoch, map[string]Group{}, map[int]Point{}}
	}
	for place, m := range w.chain[epoch].Members {
		w.mail = append(w.mail, &mail{op: -1, change: -1, node: w.node(m), epoch: epoch, place: place, ask: aheadAsk{node, d.boot.Start, d.copied.points[place]}})
	}
}

// since is the part of the groups that changed since p, all if nobody knows.
func (d *disk) since(epoch uint64, p Point, groups map[string]Group) map[string]Group {
	names, _, ok := d.journal.Since(epoch, p, "", len(groups))
	if !ok {
		return maps.Clone(groups)
	}
	out := map[string]Group{}
	for _, name := range names {
		out[name] = groups[name]
	}
	return out
}

func (w *world) aheadAnswer(m *mail) {
	ask, a := m.ask.(aheadAsk), m.answer.(aheadAnswer)
	d := w.disks[ask.by]
	if d.boot.Start != ask.run || d.entrance != nil || d.copied == nil || d.copied.epoch != m.epoch || d.copied.points[m.place] != ask.since {
		return
	}
	for name, copy := range a.groups {
		g := d.copied.groups[name]
		g.Merge(copy)
		d.copied.groups[name] = g
	}
	d.copied.points[m.place] = a.begun
	w.logf("node %d: copied %d groups of node %d ahead", ask.by, len(a.groups), m.node)
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
		if head, ok := d.m.HeadOf(m.epoch); ok {
			groups := d.frozen[m.epoch]
			if d.m.Epoch == m.epoch {
				groups = d.groups
			}
			w.reply(m, pullAnswer{head, d.since(m.epoch, ask.since, groups)})
		}
	case aheadAsk:
		if d.m.Check(m.epoch, d.id) == StatusReady {
			w.draws++
			begun := d.journal.Begin(m.epoch, [16]byte{w.draws})
			w.reply(m, aheadAnswer{d.since(m.epoch, ask.since, d.groups), begun})
		}
	case greetAsk:
		ok, _ := d.boots.Greet(w.disks[ask.by].id, ask.boot)
		last, _ := d.boots.Last(w.disks[ask.by].id)
		w.reply(m, greetAnswer{ok, last})
	}
}

// ownAnswer is a node's side of the answer to what it asked by itself.
func (w *world) ownAnswer(m *mail) {
	switch ask := m.ask.(type) {
	case pullAsk:
		if w.disks[ask.by].boot.Start == ask.run {
			w.pullAnswer(m)
		}
	case aheadAsk:
		w.aheadAnswer(m)
	case greetAsk:
		g, a := w.disks[ask.by].greeting, m.answer.(greetAnswer)
		switch {
		case g.boot.Start != ask.boot.Start:
		case a.ok:
			g.Confirm(w.disks[m.node].id)
		case g.Refuse(a.last):
			w.logf("node %d: rolled back, says node %d", ask.by, m.node)
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
		if d.copied == nil || d.copied.epoch != e.Epoch-1 {
			d.copied = &copied{}
		}
		maps.Copy(d.merged, d.copied.groups)
	}
	for place, m := range w.chain[e.Epoch-1].Members {
		w.mail = append(w.mail, &mail{op: -1, change: -1, node: w.node(m), epoch: e.Epoch - 1, place: place, ask: pullAsk{node, d.boot.Start, d.copied.points[place]}})
	}
}

// pullAnswer merges what another node gave; the last one that is needed makes the node active.
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
		if d.entrance.Settle(&g) {
			d.merged[name] = g
		}
		if g.Droppable() {
			d.entrance.Dropped(&g)
			delete(d.merged, name)
		}
	}
	if d.m.Epoch == d.entrance.Epoch-1 {
		d.frozen = map[uint64]map[string]Group{d.m.Epoch: d.groups}
	}
	d.groups = d.merged
	d.m.Enter(d.entrance)
	d.entrance, d.copied = nil, nil
	w.logf("node %d: active in epoch %d", node, d.m.Epoch)
}

// wipe gives the node an empty disk.
func (w *world) wipe(node int) {
	w.logf("node %d: disk wiped", node)
	id := w.disks[node].id
	id.Incarnation++
	w.disks[node] = &disk{id: id, groups: map[string]Group{}}
	w.start(node)
}

// start begins a start of the node's disk: the count is durable, the fellows are to be asked.
func (w *world) start(node int) {
	d := w.disks[node]
	w.starts++
	d.boot = d.boot.Next(past.ProposerID{w.starts})
	c := Configuration{Members: []MemberID{d.id}} // nobody to ask
	if current := d.m.Lineage.Current(); current.Index(d.id) >= 0 {
		c = *current
	}
	d.greeting = NewGreeting(&c, d.id, d.boot)
	d.greeted = c.Epoch
	w.greet(node)
}

// greetAsk and greetAnswer ask a fellow whether it knows a later start.
type greetAsk struct {
	by   int
	boot Boot
}
type greetAnswer struct {
	ok   bool
	last Boot
}

// greet asks those that have not confirmed the node's start.
func (w *world) greet(node int) {
	g := w.disks[node].greeting
	for _, fellow := range g.Missing() {
		w.mail = append(w.mail, &mail{op: -1, change: -1, node: w.node(fellow), ask: greetAsk{node, g.boot}})
	}
}

// rollback puts an earlier image on the node's disk and starts it, provided that boot counts can see it: each fellow of the
// newest configuration remembers a start that the image does not know of (docs/notes/register.md has what they cannot see).
// It reports whether it did.
func (w *world) rollback(node int) bool {
	d := w.disks[node]
	if len(d.images) == 0 || len(d.greeting.Missing()) > 0 {
		return false
	}
	im := d.images[w.pick(len(d.images))]
	if e := d.m.Lineage.Epoch(); im.m.Lineage.Epoch() != e || d.greeted != e {
		return false
	}
	w.logf("node %d: disk rolled back", node)
	d.m, d.groups, d.frozen, d.boot = im.m, maps.Clone(im.groups), im.frozen, im.boot
	d.boots = Boots{Seen: slices.Clone(im.boots.Seen)}
	w.restart(node)
	return true
}

func (w *world) pick(n int) int {
	if w.rnd == nil {
		return 0
	}
	return w.rnd.Intn(n)
}

// restart ends what the node had in memory alone: its pulls, and marks that were not synced.
func (w *world) restart(node int) {
	w.logf("node %d: restarts", node)
	d := w.disks[node]
	d.entrance, d.merged, d.pulled, d.copied, d.journal = nil, nil, nil, nil, Journal{}
	for name, g := range d.groups {
		if w.pick(2) == 0 {
			g.Chosen = false
			d.groups[name] = g
		}
	}
	d.images = append(d.images, image{d.m, maps.Clone(d.groups), d.frozen, Boots{Seen: slices.Clone(d.boots.Seen)}, d.boot})
	w.start(node)
}

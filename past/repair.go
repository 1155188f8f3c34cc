package past

import (
	"cmp"
	"math/bits"
	"slices"

	"larder/pastry"
)

// Indexes is a set of fragment indexes: bit i is index i. FragmentsMax bounds it.
type Indexes uint64

// Has reports whether i is in s.
func (s Indexes) Has(i int) bool { return s>>i&1 == 1 }

// With returns s and i.
func (s Indexes) With(i int) Indexes { return s | 1<<i }

// Count is the number of indexes in s.
func (s Indexes) Count() int { return bits.OnesCount64(uint64(s)) }

// Below returns the set 0 … n-1.
func Below(n int) Indexes {
	if n >= 64 {
		return ^Indexes(0)
	}
	return 1<<n - 1
}

// Holding is what one node says of one block.
type Holding struct {
	Node    pastry.NodeID
	Known   bool    // it has answered; if not, the rest is empty and says nothing: unknown is never "no"
	Live    Indexes // fragments it keeps
	Trashed Indexes // fragments it will forget, readable until then
	// Reclaimed: it was told by a gateway that the block is dead. Moved fragments are trashed too, but not reclaimed.
	Reclaimed bool
	Full      bool // it has no room for another fragment of this size
}

// RepairPlan is what the holders of a block are to do.
type RepairPlan struct {
	// Reclaimed: the block is dead; this node trashes its fragments, and the rest of the plan is empty.
	Reclaimed bool
	// Copies are the fragments to put where they belong. Rank says by whom.
	Copies []RepairCopy
	// Surplus are this node's fragments that it may trash once every one of Keepers has confirmed its own. It is empty while
	// anything wanted lacks a keeper.
	Surplus Indexes
	// Keepers are the nodes on which the wanted fragments are, one for each index.
	Keepers []RepairKeeper
	// Rank is how many live holders come before this node in Place's order: that of rank 0 makes Copies, the others only if it
	// does not. -1 if this node holds nothing live.
	Rank int
	// Missing counts wanted indexes that are live on no node that answered; Misplaced those that are live, but where
	// they should not stay. Waiting counts those of both that Copies leaves out, for want of room or of answers.
	Missing, Misplaced, Waiting int
	// Debts counts the indexes that the header names and no node that answered has live, wanted now or not.
	Debts int
}

// RepairCopy puts fragment Index on node To. With Restore To has it in its trash. From has it, live or trashed; the zero From says that it
// must be rebuilt from others.
type RepairCopy struct {
	Index    int
	To, From pastry.NodeID
	Restore  bool
}

// RepairKeeper says that Node keeps fragment Index.
type RepairKeeper struct {
	Index int
	Node  pastry.NodeID
}

// PlanRepair decides what to do about one block of redundancy r, of which self holds fragments. place are the nodes that could keep
// it, in the order of Place, all of them and not only the first n; others are further nodes that may hold fragments, such as drained
// ones, and self if it is not in place. Nodes that are believed dead, but not yet given up, are in place and unknown.
//
// Any two nodes with the same view plan the same copies. With different views they may plan different ones: the result is a
// fragment too many, which a later plan trashes. The rules are those of docs/notes/chb.md.
func PlanRepair(self pastry.NodeID, r Redundancy, place, others []Holding) RepairPlan {
	p := planner{self: self, r: r, all: slices.Concat(place, others)}
	for i := range p.all {
		p.all[i].Live &= Below(r.Total())
		p.all[i].Trashed &= Below(r.Total()) &^ p.all[i].Live
	}
	p.place = p.all[:len(place)]
	if p.isReclaimed() {
		return RepairPlan{Reclaimed: true, Rank: p.rank()}
	}
	p.chooseTargets()
	p.chooseKeepers()
	p.plan.Rank = p.rank()
	p.plan.Debts = r.Total() - p.live().Count()
	p.assign()
	p.chooseSurplus()
	return p.plan
}

type planner struct {
	self    pastry.NodeID
	r       Redundancy
	place   []Holding
	all     []Holding
	targets []Holding // the first n of place that hold something or could
	load    []int     // of each target: indexes kept or assigned
	each    int       // indexes that one target may keep
	want    int       // indexes that should have a keeper
	kept    Indexes
	plan    RepairPlan
}

// isReclaimed reports whether more than half of the other targets know the block for dead.
func (p *planner) isReclaimed() bool {
	votes, voters := 0, 0
	for _, h := range p.place[:min(p.r.Total(), len(p.place))] {
		if h.Node == p.self {
			if h.Reclaimed {
				return true
			}
			continue
		}
		voters++
		if h.Known && h.Reclaimed {
			votes++
		}
	}
	return 2*votes > voters
}

// chooseTargets takes the first n nodes that may hold a fragment: full ones and those that say "reclaimed" are passed over unless they
// hold one already.
func (p *planner) chooseTargets() {
	n := p.r.Total()
	eligible := 0
	for _, h := range p.place {
		if h.Known && h.Live == 0 && (h.Full || h.Reclaimed) {
			continue
		}
		if eligible++; len(p.targets) < n {
			p.targets = append(p.targets, h)
		}
	}
	p.load = make([]int, len(p.targets))
	p.each, p.want = 1, min(n, len(p.place)) // full nodes included: they may have room later
	if p.r.Data > 1 && eligible > 0 {
		// A coded stripe needs all its indexes even on few nodes; further replicas on one node would be worth nothing.
		p.each, p.want = (n+eligible-1)/eligible, n
	}
}

// chooseKeepers gives each index on a target to one that holds it; those with the fewest holders choose first.
func (p *planner) chooseKeepers() {
	holders := make([]int, p.r.Total())
	var order []int
	for i := range holders {
		for _, t := range p.targets {
			if t.Live.Has(i) {
				holders[i]++
			}
		}
		if holders[i] > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(holders[a], holders[b]) })
	for _, i := range order {
		for t := range p.targets {
			if p.targets[t].Live.Has(i) && p.load[t] < p.each {
				p.load[t]++
				p.kept = p.kept.With(i)
				p.plan.Keepers = append(p.plan.Keepers, RepairKeeper{i, p.targets[t].Node})
				break
			}
		}
	}
}

// assign finds a node for each wanted index that has no keeper: first for those in a target's trash, then for the rest.
func (p *planner) assign() {
	wanted := p.unkept()
	var rest []int
	for _, i := range wanted {
		if p.source(i) == nil {
			p.plan.Missing++
		} else {
			p.plan.Misplaced++
		}
		if p.mayBeUnknown(i) {
			p.plan.Waiting++
			continue
		}
		t := p.slot(func(t int) bool { return p.targets[t].Trashed.Has(i) })
		if t < 0 {
			rest = append(rest, i)
			continue
		}
		p.load[t]++
		p.plan.Copies = append(p.plan.Copies, RepairCopy{Index: i, To: p.targets[t].Node, From: p.targets[t].Node, Restore: true})
	}
	for _, i := range rest {
		t := p.slot(func(t int) bool { return t == i })
		if t < 0 {
			t = p.slot(func(int) bool { return true })
		}
		if t < 0 {
			p.plan.Waiting++
			continue
		}
		p.load[t]++
		c := RepairCopy{Index: i, To: p.targets[t].Node}
		if from := cmp.Or(p.source(i), p.trash(i)); from != nil {
			c.From = from.Node
		}
		p.plan.Copies = append(p.plan.Copies, c)
	}
}

// unkept returns the wanted indexes without a keeper, those that are live somewhere first, since these need only be copied.
func (p *planner) unkept() []int {
	var out []int
	for i := range p.r.Total() {
		if !p.kept.Has(i) {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(absent(p.source(a)), absent(p.source(b))) })
	return out[:max(0, min(len(out), p.want-p.kept.Count()))]
}

func absent(h *Holding) int {
	if h == nil {
		return 1
	}
	return 0
}

// mayBeUnknown reports whether an index that is live nowhere may be so on a node that has not answered.
func (p *planner) mayBeUnknown(i int) bool {
	return p.source(i) == nil && slices.ContainsFunc(p.all, func(h Holding) bool { return !h.Known })
}

// source returns a node that has index i live, self if it is one.
func (p *planner) source(i int) *Holding {
	var found *Holding
	for k := range p.all {
		if h := &p.all[k]; h.Live.Has(i) && (found == nil || h.Node == p.self) {
			found = h
		}
	}
	return found
}

// trash returns a node that has index i in its trash.
func (p *planner) trash(i int) *Holding {
	k := slices.IndexFunc(p.all, func(h Holding) bool { return h.Trashed.Has(i) })
	if k < 0 {
		return nil
	}
	return &p.all[k]
}

// slot returns the least loaded target with room that ok accepts, or -1.
func (p *planner) slot(ok func(t int) bool) int {
	best := -1
	for t, h := range p.targets {
		free := h.Known && !h.Full && !h.Reclaimed && p.load[t] < p.each
		if free && ok(t) && (best < 0 || p.load[t] < p.load[best]) {
			best = t
		}
	}
	return best
}

// chooseSurplus frees this node of what it does not keep, once all that is wanted has keepers.
func (p *planner) chooseSurplus() {
	if len(p.plan.Keepers) < p.want {
		return
	}
	for _, h := range p.all {
		if h.Node == p.self {
			p.plan.Surplus = h.Live
		}
	}
	for _, k := range p.plan.Keepers {
		if k.Node == p.self {
			p.plan.Surplus &^= 1 << k.Index
		}
	}
}

func (p *planner) live() (all Indexes) {
	for _, h := range p.all {
		all |= h.Live
	}
	return all
}

func (p *planner) rank() int {
	before := 0
	for _, h := range p.all {
		if h.Live == 0 {
			continue
		}
		if h.Node == p.self {
			return before
		}
		before++
	}
	return -1
}

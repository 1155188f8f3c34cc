package past

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"larder/pastry"
)

func node(i int) pastry.NodeID { return pastry.NodeID{byte(i)} }

// view makes holdings of nodes 1, 2, … in Place order, each known with these fragments live.
func view(live ...Indexes) (out []Holding) {
	for i, set := range live {
		out = append(out, Holding{Node: node(i + 1), Known: true, Live: set})
	}
	return out
}

func TestPlanRepair(t *testing.T) {
	replicas, coded := Redundancy{1, 2}, Redundancy{2, 2}
	unknown := func(h []Holding, i int) []Holding { h[i].Known = false; return h }
	with := func(h []Holding, i int, f func(*Holding)) []Holding { f(&h[i]); return h }
	reclaimed := func(h *Holding) { h.Reclaimed = true }
	full := func(h *Holding) { h.Full = true }
	trashed := func(set Indexes) func(*Holding) { return func(h *Holding) { h.Trashed = set } }
	for _, c := range []struct {
		name          string
		self          int
		r             Redundancy
		place, others []Holding
		want          string // copies, surplus, rank, missing, misplaced, waiting
	}{
		{"all well", 1, replicas, view(1, 2, 4), nil, "[] 0 rank 0, 0 0 0"},
		{"order does not matter", 1, replicas, view(4, 1, 2), nil, "[] 0 rank 0, 0 0 0"},
		{"debts without nodes are not missing", 1, replicas, view(1, 2), nil, "[] 0 rank 0, 0 0 0"},
		{"a debt is paid", 1, replicas, view(1, 2, 0), nil, "[2>3] 0 rank 0, 1 0 0"},
		{"others plan the same", 2, replicas, view(1, 2, 0), nil, "[2>3] 0 rank 1, 1 0 0"},
		{"unknown is not no", 1, replicas, unknown(view(1, 2, 0), 2), nil, "[] 0 rank 0, 1 0 1"},
		{"unknown beyond the targets is not no", 1, replicas, unknown(view(1, 2, 0, 0), 3), nil, "[] 0 rank 0, 1 0 1"},
		{"a move needs nobody else", 1, replicas, unknown(view(1, 0, 0, 4), 2), nil, "[2<4>2] 0 rank 0, 1 1 1"},
		{"the new target gets the fragment of the old one", 1, replicas, view(1, 0, 4, 2), nil, "[1<4>2] 0 rank 0, 0 1 0"},
		{"the old one keeps it until then", 4, replicas, view(1, 0, 4, 2), nil, "[1<4>2] 0 rank 2, 0 1 0"},
		{"and lets go", 4, replicas, view(1, 2, 4, 2), nil, "[] 10 rank 3, 0 0 0"},
		{"two of the same replica", 1, replicas, view(1, 1, 4), nil, "[1>2] 0 rank 0, 1 0 0"},
		{"both of two", 1, replicas, view(3, 1, 4), nil, "[] 1 rank 0, 0 0 0"},
		{"full node is passed over", 1, replicas, with(view(1, 0, 4, 0), 1, full), nil, "[1>4] 0 rank 0, 1 0 0"},
		{"nowhere to go", 1, replicas, with(with(view(1, 0, 0), 1, full), 2, full), nil, "[] 0 rank 0, 2 0 2"},
		{"full nodes count before anything is let go", 9, replicas, with(with(view(1, 0, 0), 1, full), 2, full), []Holding{{Node: node(9), Known: true, Live: 2}}, "[] 0 rank 1, 1 1 2"},
		{"from trash", 1, replicas, with(view(1, 2, 0), 2, trashed(4)), nil, "[2<3>3 restored] 0 rank 0, 1 0 0"},
		{"reclaimed at all others", 1, replicas, with(with(view(1, 0, 0), 1, reclaimed), 2, reclaimed), nil, "reclaimed"},
		{"one liar of two is not believed", 1, replicas, with(view(1, 0, 4), 1, reclaimed), nil, "[] 0 rank 0, 1 0 1"},
		{"and is passed over", 1, replicas, with(view(1, 0, 4, 0), 1, reclaimed), nil, "[1>4] 0 rank 0, 1 0 0"},
		{"the only other one is believed", 1, replicas, with(view(1, 0), 1, reclaimed), nil, "reclaimed"},
		{"this node was told itself", 1, replicas, with(view(1, 2, 4), 0, reclaimed), nil, "reclaimed"},
		{"drained node gives all away", 9, replicas, view(1, 2, 0), []Holding{{Node: node(9), Known: true, Live: 4}}, "[2<9>3] 0 rank 2, 0 1 0"},
		{"coded stripe on few nodes doubles up", 1, coded, view(1, 2, 4), nil, "[3>1] 0 rank 0, 1 0 0"},
		{"and spreads when there are more", 1, coded, view(9, 2, 4, 0), nil, "[3<1>4] 0 rank 0, 0 1 0"},
		{"missing of a coded stripe is rebuilt", 1, coded, view(1, 0, 4, 8), nil, "[1>2] 0 rank 0, 1 0 0"},
		{"indexes that the block does not have", 1, replicas, view(1, 2|1<<40, 4), nil, "[] 0 rank 0, 0 0 0"},
	} {
		p := PlanRepair(node(c.self), c.r, c.place, c.others)
		got := "reclaimed"
		if !p.Reclaimed {
			var copies []string
			for _, r := range p.Copies {
				s := fmt.Sprint(r.Index)
				if r.From != (pastry.NodeID{}) {
					s += fmt.Sprint("<", r.From[0])
				}
				s += fmt.Sprint(">", r.To[0])
				if r.Restore {
					s += " restored"
				}
				copies = append(copies, s)
			}
			got = fmt.Sprintf("%v %b rank %d, %d %d %d", copies, p.Surplus, p.Rank, p.Missing, p.Misplaced, p.Waiting)
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// repairModel is a ring in which nodes carry out their plans, each from its own, perhaps outdated, view.
type repairModel struct {
	rnd   *rand.Rand
	r     Redundancy
	nodes int       // in Place order; the first up of them
	held  []Holding // the truth
	up    []bool
}

// view is what node i sees: the truth, or unknown where a node did not answer.
func (m *repairModel) view(i int, loss float64) (out []Holding) {
	for k, h := range m.held {
		if !m.up[k] {
			continue
		}
		if k != i && m.rnd.Float64() < loss {
			h = Holding{Node: h.Node}
		}
		out = append(out, h)
	}
	return out
}

// step lets node i plan on view v and act; pins are modelled by asking the truth again.
func (m *repairModel) step(t *testing.T, i int, v []Holding) {
	p := PlanRepair(m.held[i].Node, m.r, v, nil)
	if p.Reclaimed {
		t.Fatal("reclaimed, though nobody said so")
	}
	if p.Rank == 0 || m.rnd.Intn(5) == 0 {
		for _, c := range p.Copies {
			for k := range m.held {
				if m.held[k].Node == c.To && m.up[k] && (c.From != pastry.NodeID{} || m.live().Count() >= m.r.Data) {
					m.held[k].Live = m.held[k].Live.With(c.Index)
					m.held[k].Trashed &^= 1 << c.Index
				}
			}
		}
	}
	if p.Surplus == 0 || slices.ContainsFunc(p.Keepers, func(k RepairKeeper) bool { return !m.has(k) }) {
		return
	}
	before := m.live()
	m.held[i].Live &^= p.Surplus
	m.held[i].Trashed |= p.Surplus
	// Of replicas any index will do, so one may go for good; the number of good copies that are wanted may not fall.
	if lost := before &^ m.live(); lost != 0 && (m.r.Data > 1 || m.live().Count() < min(m.r.Total(), len(v))) {
		t.Fatalf("node %d trashed the last %b, view %v", i, lost, v)
	}
}

func (m *repairModel) has(k RepairKeeper) bool {
	for i, h := range m.held {
		if h.Node == k.Node {
			return m.up[i] && h.Live.Has(k.Index)
		}
	}
	return false
}

func (m *repairModel) live() (all Indexes) {
	for i, h := range m.held {
		if m.up[i] {
			all |= h.Live
		}
	}
	return all
}

// TestRepairConverges starts from random fragments on random nodes, lets nodes act on lossy views, and then on true ones: in the end
// each wanted index is on exactly one node, and no node has more than its share.
func TestRepairConverges(t *testing.T) {
	for seed := range int64(3000) {
		rnd := rand.New(rand.NewSource(seed))
		m := &repairModel{rnd: rnd, r: []Redundancy{{1, 2}, {1, 1}, {2, 2}, {4, 2}, {8, 2}}[rnd.Intn(5)], nodes: 1 + rnd.Intn(12)}
		for i := range m.nodes {
			h := Holding{Node: node(i + 1), Known: true}
			sparse := rnd.Uint64()
			sparse &= rnd.Uint64()
			h.Live = Indexes(sparse&rnd.Uint64()) & Below(m.r.Total())
			h.Trashed = Indexes(rnd.Uint64()) & Below(m.r.Total()) &^ h.Live
			m.held, m.up = append(m.held, h), append(m.up, true)
		}
		if m.live().Count() < m.r.Data {
			continue
		}
		for range 10 * m.nodes {
			if i := rnd.Intn(m.nodes); m.held[i].Live != 0 {
				m.step(t, i, m.view(i, 0.3))
			}
		}
		for range 12 {
			for i := range m.nodes {
				if m.held[i].Live != 0 {
					m.step(t, i, m.view(i, 0))
				}
			}
		}
		want, each := min(m.r.Total(), m.nodes), 1
		if m.r.Data > 1 {
			want, each = m.r.Total(), (m.r.Total()+m.nodes-1)/m.nodes
		}
		count := 0
		for _, h := range m.held {
			count += h.Live.Count()
			if h.Live.Count() > each {
				t.Fatalf("seed %d, %v: %v has %b", seed, m.r, h.Node, h.Live)
			}
		}
		if count != want || m.live().Count() != want {
			t.Fatalf("seed %d, %v on %d nodes: %d fragments, %b, want %d", seed, m.r, m.nodes, count, m.live(), want)
		}
	}
}

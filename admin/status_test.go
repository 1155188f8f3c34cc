package admin

import (
	"errors"
	"slices"
	"testing"
	"time"

	"larder/past/chb"
	"larder/past/node"
	"larder/past/pkb"
	"larder/past/register"
	"larder/pastry"
	"larder/pastry/wire"
)

// healthy is a view of n nodes with everything as it should be.
func healthy(n int) *view {
	v := &view{ready: true, ringSize: float64(n), membership: 7}
	var members []register.MemberID
	for i := range n {
		id := pastry.NodeID{byte(i + 1)}
		v.nodes = append(v.nodes, node.Info{
			ID: id, Roles: wire.RoleStorage | wire.RoleGateway, CapacityBytes: 100, UsedBytes: 10, FreeBytes: 90, Membership: 7,
			Blocks: chb.Status{Fragments: 4, PassDone: 4, PassTotal: 4, Passes: 1, Whole: true, WholeSince: time.Unix(1, 0)},
		})
		if i < pkb.MembersFor(n) {
			members = append(members, register.MemberID{Node: id, Incarnation: 1})
		}
	}
	v.partitions = []pkb.PartitionState{{Lineage: register.Lineage{Genesis: register.Configuration{Members: members}}, Active: slices.Repeat([]bool{true}, len(members))}}
	return v
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		nodes  int
		change func(v *view)
		state  State
		reason string // the first
	}{
		{"five nodes", 5, func(*view) {}, Whole, ""},
		{"three nodes", 3, func(*view) {}, Whole, ""},
		{"two nodes", 2, func(*view) {}, Degraded, "two storage nodes: the records of a partition are on one of them alone, and a loss of it needs larder admin recover"},
		{"one node", 1, func(*view) {}, Degraded, "one storage node: every object has one copy"},
		{"gateways alone", 3, func(v *view) {
			for i := range v.nodes {
				v.nodes[i].CapacityBytes = 0
			}
		}, Degraded, "no storage node"},
		{"a gateway never passes", 5, func(v *view) {
			v.nodes = append(v.nodes, node.Info{ID: pastry.NodeID{99}, Roles: wire.RoleGateway, Membership: 7})
			v.ringSize = 6
		}, Whole, ""},
		{"not in the ring", 5, func(v *view) { v.ready = false }, Degraded, "this node is not in the ring yet"},
		{"silent", 5, func(v *view) { v.silent = []pastry.NodeID{{5}} }, Degraded, "node 05000000 does not answer"},
		{"stranger", 5, func(v *view) { v.strangers = 1; v.ringSize = 6 }, Degraded, "1 node not introduced yet"},
		{"no survey", 5, func(v *view) { v.partitions, v.surveyErr = nil, errors.New("why") }, Degraded, "the partitions cannot be surveyed: why"},
		{"no partitions", 5, func(v *view) { v.partitions = nil }, Degraded, "the partitions are not known"},
		{"inactive member", 5, func(v *view) { v.partitions[0].Active[3] = false }, Degraded, "system partition: 4 of 5 members active"},
		{"no quorum", 3, func(v *view) { v.partitions[0].Active = []bool{true, false, false} }, Degraded, "system partition is not available: 1 of 3 members active"},
		{"too few members", 5, func(v *view) {
			p := &v.partitions[0]
			p.Lineage.Genesis.Members, p.Active = p.Lineage.Genesis.Members[:3], p.Active[:3]
		}, Degraded, "system partition: 3 members, and the ring allows 5"},
		{"a bucket that is being deleted", 5, func(v *view) {
			v.partitions = append(v.partitions, pkb.PartitionState{Lineage: register.Lineage{Genesis: register.Configuration{Closed: true, Members: make([]register.MemberID, 5)}}, Active: make([]bool, 5)})
		}, Whole, ""},
		{"corrupt", 5, func(v *view) { v.nodes[1].Blocks.CorruptNow, v.nodes[1].Blocks.Whole = 2, false }, Degraded, "2 fragments corrupt and not mended"},
		{"missing", 5, func(v *view) {
			v.nodes[1].Blocks.Missing, v.nodes[1].Blocks.Troubles, v.nodes[1].Blocks.Whole = 1, 1, false
		}, Repairing, "1 fragment missing"},
		{"not through", 5, func(v *view) { v.nodes[1].Blocks.Whole = false }, Repairing, "1 storage node not through with a repair pass on the present membership"},
		{"never passed", 5, func(v *view) { v.nodes[1].Blocks.Passes = 0 }, Repairing, "1 storage node not through with a repair pass on the present membership"},
		{"whole, but of another membership", 5, func(v *view) { v.nodes[1].Membership = 8 }, Repairing, "1 storage node not through with a repair pass on the present membership"},
		{"the observer has not told his own blocks", 5, func(v *view) { v.membership = 8 }, Repairing, "5 storage nodes not through with a repair pass on the present membership"},
		{"debts that nothing pays", 5, func(v *view) { v.nodes[1].Blocks.Debts = 3 }, Degraded, "3 fragments without a node to be on"},
		{"debts that a pass may pay", 5, func(v *view) { v.nodes[1].Blocks.Debts, v.nodes[1].Blocks.Whole = 3, false }, Repairing, "1 storage node not through with a repair pass on the present membership"},
	} {
		v := healthy(c.nodes)
		c.change(v)
		st := v.judge()
		first := ""
		if len(st.Reasons) > 0 {
			first = st.Reasons[0]
		}
		if st.State != c.state || first != c.reason {
			t.Errorf("%s: %s, %q", c.name, st.State, st.Reasons)
		}
	}
}

func TestJudgeCounts(t *testing.T) {
	v := healthy(4)
	v.silent = []pastry.NodeID{{4}}
	running, left := &v.nodes[1].Blocks, &v.nodes[2].Blocks
	running.Whole, running.PassDone, running.Troubles, running.Missing = false, 3, 1, 1
	left.Whole, left.Troubles, left.Debts = false, 1, 2
	st := v.judge()
	if st.Nodes != 3 || st.StorageNodes != 3 || st.Gateways != 3 || st.Silent != 1 || st.CapacityBytes != 300 || st.UsedBytes != 30 || st.FreeBytes != 270 {
		t.Errorf("nodes: %+v", st)
	}
	if st.Fragments != (FragmentCounts{Total: 12, Missing: 1, Debts: 2, Troubled: 2, Checked: 11, ToCheck: 12}) {
		t.Errorf("fragments: %+v", st.Fragments)
	}
	if st.Progress.Done != 4+2+3 || st.Progress.Total != 12 || st.Progress.Percent != 75 {
		t.Errorf("progress: %+v", st.Progress)
	}
}

func TestInALargeRingTheScopeIsTheLeafSet(t *testing.T) {
	v := healthy(5)
	v.ringSize = 400
	for i := range v.nodes {
		v.nodes[i].Membership = uint64(i)
	}
	if st := v.judge(); st.Scope != "leafSet" || st.State != Whole {
		t.Errorf("%+v", st)
	}
}

func TestReasonsAreBounded(t *testing.T) {
	v := healthy(5)
	for i := range 30 {
		v.silent = append(v.silent, pastry.NodeID{byte(100 + i)})
	}
	if st := v.judge(); len(st.Reasons) != reasonsMax || st.Reasons[reasonsMax-1] != "and 19 more" {
		t.Errorf("%q", st.Reasons)
	}
}

// TestLookupsCounted sums what the nodes say; the silent are left out.
func TestLookupsCounted(t *testing.T) {
	v := healthy(3)
	v.nodes[0].Lookups = []uint64{5, 4, 3, 2}
	v.nodes[1].Lookups = []uint64{1, 1}
	v.nodes[2].Lookups = []uint64{0, 0, 100}
	v.silent = []pastry.NodeID{v.nodes[2].ID}
	if got := v.judge().Lookups; !slices.Equal(got.ByHops, []uint64{6, 5, 3, 2}) || got.Total != 16 || got.Far != 5 {
		t.Fatalf("%+v", got)
	}
}

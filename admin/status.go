package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"larder/past/node"
	"larder/past/pkb"
	"larder/past/register"
	"larder/pastry"
	"larder/pastry/wire"
)

// State is the health of a ring in one word.
type State string

// Whole is claimed only where it was seen: every node answered, every partition has all its members active and as many as the ring
// allows, and every storage node has ended a repair pass on the present membership and found nothing missing. Repairing is what is
// not whole and needs nobody. Degraded is all else: what redundancy there should be cannot be had, or cannot be seen.
const (
	Whole     State = "whole"
	Repairing State = "repairing"
	Degraded  State = "degraded"
)

// Status is the health of the ring as one node sees it. Scope says how far that is: all of the "ring", or, in one of more than |L|
// nodes, the "leafSet" alone (the partitions are all of the ring's in either case).
type Status struct {
	State         State         `json:"state"`
	Reasons       []string      `json:"reasons"` // why it is not whole; never null
	Node          pastry.NodeID `json:"node"`
	Scope         string        `json:"scope"`
	RingSize      float64       `json:"ringSize"` // estimated
	Nodes         int           `json:"nodes"`    // that answered
	StorageNodes  int           `json:"storageNodes"`
	Gateways      int           `json:"gateways"`
	Silent        int           `json:"silent"` // in the leaf set, and did not answer
	CapacityBytes int64         `json:"capacityBytes"`
	UsedBytes     int64         `json:"usedBytes"`
	FreeBytes     int64         `json:"freeBytes"`

	Partitions PartitionCounts `json:"partitions"`
	Fragments  FragmentCounts  `json:"fragments"`
	Progress   Progress        `json:"progress"`
	Lookups    LookupCounts    `json:"lookups"`
	Audit      *Audit          `json:"audit,omitempty"` // by this node's gateway, if it has one
}

// LookupCounts are the lookups of the nodes that answered, since their starts: by hops (the last are those of as many or more), and those
// that were routed through other nodes, in two hops or more.
type LookupCounts struct {
	ByHops []uint64 `json:"byHops"`
	Total  uint64   `json:"total"`
	Far    uint64   `json:"far"`
}

func (c *LookupCounts) add(byHops []uint64) {
	for hops, n := range byHops {
		if hops == len(c.ByHops) {
			c.ByHops = append(c.ByHops, 0)
		}
		c.ByHops[hops] += n
		c.Total += n
		if hops >= 2 {
			c.Far += n
		}
	}
}

// PartitionCounts: Degraded are those with members that are not active, or with fewer than the ring allows.
type PartitionCounts struct {
	Total    int `json:"total"`
	Degraded int `json:"degraded"`
}

// FragmentCounts sums up what the storage nodes say (past/chb.Status). Checked of ToCheck fragments were looked at in the repair
// passes that run, or in the last ones.
type FragmentCounts struct {
	Total    int64 `json:"total"`
	Missing  int   `json:"missing"`
	Debts    int   `json:"debts"` // beyond what nodes there are to hold them
	Troubled int   `json:"troubledBlocks"`
	Corrupt  int   `json:"corrupt"`
	Checked  int   `json:"checked"`
	ToCheck  int   `json:"toCheck"`
}

// Progress is how much of the fragments is known to be as it should be: Done of Total.
type Progress struct {
	Done    int     `json:"done"`
	Total   int     `json:"total"`
	Percent float64 `json:"percent"`
}

// reasonsMax bounds Status.Reasons; the last one then says how many more there are.
const reasonsMax = 12

// view is what a status is judged from.
type view struct {
	self       pastry.NodeID
	ready      bool
	nodes      []node.Info     // known ones, silent ones included
	silent     []pastry.NodeID // members of the leaf set that did not answer
	strangers  int             // members of the leaf set that never said who they are
	ringSize   float64
	membership uint64 // fingerprint of this node's leaf set (node.Fingerprint)
	partitions []pkb.PartitionState
	surveyErr  error
}

func (s *server) status(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	v := s.look(r)
	if registers := s.Node.Registers(); registers != nil {
		v.partitions, v.surveyErr = registers.Survey(r.Context())
		if err := r.Context().Err(); err != nil { // those not asked are not known to be bad
			v.partitions, v.surveyErr = nil, cmp.Or(v.surveyErr, err)
		}
	}
	st := v.judge()
	st.Audit = s.audit()
	return st, nil
}

// look asks the nodes.
func (s *server) look(r *http.Request) *view {
	v := &view{ready: s.isReady()}
	v.silent = s.Node.Refresh(r.Context())
	state := s.Node.Overlay().State()
	v.self, v.ringSize, v.nodes, v.membership = s.Node.Overlay().Self().ID, state.RingSize, s.Node.Nodes(), s.Node.Fingerprint()
	v.strangers = max(0, len(s.Node.Overlay().Leafs())+1-len(v.nodes))
	return v
}

// partial reports whether there are more nodes than this one knows.
func (v *view) partial() bool { return v.ringSize > float64(len(v.nodes)+v.strangers)+0.5 }

func (v *view) judge() *Status {
	st := &Status{Node: v.self, Scope: "ring", RingSize: v.ringSize, Silent: len(v.silent), Reasons: []string{}, Lookups: LookupCounts{ByHops: []uint64{}}}
	if v.partial() {
		st.Scope = "leafSet"
	}
	var degraded, repairing []string
	bad := func(format string, args ...any) { degraded = append(degraded, fmt.Sprintf(format, args...)) }
	if !v.ready {
		bad("this node is not in the ring yet")
	}
	for _, id := range v.silent {
		bad("node %s does not answer", Short(id))
	}
	if v.strangers > 0 {
		bad("%s not introduced yet", count(v.strangers, "node"))
	}
	unfinished := 0
	for i := range v.nodes {
		n := &v.nodes[i]
		// Where there are more nodes than one knows, each knows others.
		present := v.partial() || n.Membership == v.membership
		if !slices.Contains(v.silent, n.ID) && st.add(n, present) {
			unfinished++
		}
	}
	switch st.StorageNodes {
	case 0:
		bad("no storage node")
	case 1:
		bad("one storage node: every object has one copy")
	case 2:
		bad("two storage nodes: the records of a partition are on one of them alone, and a loss of it needs larder admin recover")
	}
	v.judgePartitions(st, bad)
	f := &st.Fragments
	if f.Corrupt > 0 {
		bad("%s corrupt and not mended", count(f.Corrupt, "fragment"))
	}
	if f.Missing > 0 {
		repairing = append(repairing, fmt.Sprintf("%s missing", count(f.Missing, "fragment")))
	}
	if unfinished > 0 {
		repairing = append(repairing, fmt.Sprintf("%s not through with a repair pass on the present membership", count(unfinished, "storage node")))
	} else if f.Debts > 0 && st.StorageNodes > 2 {
		bad("%s without a node to be on", count(f.Debts, "fragment"))
	}
	st.State = Whole
	switch {
	case len(degraded) > 0:
		st.State = Degraded
	case len(repairing) > 0:
		st.State = Repairing
	}
	st.Reasons = shorten(append(append(st.Reasons, degraded...), repairing...))
	st.Progress.Percent = 100
	if st.Progress.Total > 0 {
		st.Progress.Percent = 100 * float64(st.Progress.Done) / float64(st.Progress.Total)
	}
	return st
}

// add counts a node that answered, and reports whether it is a storage node that has not found its blocks whole. present is whether
// what it says of them is about the present membership.
func (st *Status) add(n *node.Info, present bool) (unfinished bool) {
	st.Nodes++
	st.Lookups.add(n.Lookups)
	if n.Roles.Has(wire.RoleGateway) {
		st.Gateways++
	}
	if !isStorage(n) {
		return false
	}
	st.StorageNodes++
	st.CapacityBytes += n.CapacityBytes
	st.UsedBytes += n.UsedBytes
	st.FreeBytes += n.FreeBytes
	b, f := &n.Blocks, &st.Fragments
	f.Total += b.Fragments
	f.Missing += b.Missing
	f.Debts += b.Debts
	f.Troubled += b.Troubles
	f.Corrupt += b.CorruptNow
	f.Checked += b.PassDone
	f.ToCheck += b.PassTotal
	total := max(int(b.Fragments), b.PassTotal)
	st.Progress.Total += total
	switch {
	case present && b.Whole && b.Passes > 0:
		st.Progress.Done += total
		return false
	case !present: // the pass that counts has not begun
	case b.PassDone < b.PassTotal: // a pass runs
		st.Progress.Done += max(0, b.PassDone-b.Troubles)
	case b.Troubles > 0: // one has ended, and left those
		st.Progress.Done += max(0, total-b.Troubles)
	} // else one is about to begin
	return true
}

func isStorage(n *node.Info) bool { return n.Roles.Has(wire.RoleStorage) && n.CapacityBytes > 0 }

// judgePartitions counts the partitions, and says what is wrong with each.
func (v *view) judgePartitions(st *Status, bad func(string, ...any)) {
	if v.surveyErr != nil {
		bad("the partitions cannot be surveyed: %v", v.surveyErr)
	} else if v.partitions == nil && v.ready {
		bad("the partitions are not known")
	}
	for i := range v.partitions {
		p := &v.partitions[i]
		c := p.Lineage.Current()
		if c.Closed { // its bucket is being deleted
			continue
		}
		st.Partitions.Total++
		active, allowed := countTrue(p.Active), pkb.MembersFor(st.StorageNodes)
		switch {
		case active < c.Quorum():
			bad("%s is not available: %d of %d members active", partitionName(c.Partition), active, len(c.Members))
		case active < len(c.Members):
			bad("%s: %d of %d members active", partitionName(c.Partition), active, len(c.Members))
		case len(c.Members) < allowed:
			bad("%s: %s, and the ring allows %d", partitionName(c.Partition), count(len(c.Members), "member"), allowed)
		default:
			continue
		}
		st.Partitions.Degraded++
	}
}

func partitionName(id register.PartitionID) string {
	if id == register.System {
		return "system partition"
	}
	return "partition " + id.String()[:8]
}

// Short is the beginning of a nodeId that people can tell nodes apart by.
func Short(id pastry.NodeID) string { return id.String()[:8] }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func countTrue(all []bool) (n int) {
	for _, is := range all {
		if is {
			n++
		}
	}
	return n
}

func shorten(reasons []string) []string {
	if len(reasons) <= reasonsMax {
		return reasons
	}
	return append(reasons[:reasonsMax-1], fmt.Sprintf("and %d more", len(reasons)-reasonsMax+1))
}

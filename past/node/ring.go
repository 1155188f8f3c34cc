package node

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/pastry"
	"larder/pastry/wire"
)

// ring is the overlay as PAST sees it: nodes with what they offer. It implements rpc.Ring and pkb.Directory.
type ring struct {
	n *Node

	mu      sync.Mutex // guards the maps
	known   map[pastry.NodeID]introduction
	roles   map[pastry.NodeID]wire.Roles        // by the certificates of those that introduced themselves
	suspect map[pastry.NodeID]time.Time         // since when requests to a node fail
	handles map[pastry.NodeID]pastry.NodeHandle // of nodes that others named; they prove themselves when they are called
	regions []region
}

// introduction is what a node said of itself, and when.
type introduction struct {
	handle pastry.NodeHandle
	info   Info
	heard  time.Time
}

const (
	// introductionAge is how long what a node outside the leaf set said of itself is believed.
	introductionAge = 30 * time.Second
	// suspectFor is how long a node is asked last after a request to it failed.
	suspectFor = 5 * time.Second
	// unknownRTT stands for nodes that were never measured.
	unknownRTT = time.Second
)

func newRing(n *Node) *ring {
	return &ring{n: n, known: map[pastry.NodeID]introduction{}, roles: map[pastry.NodeID]wire.Roles{}, suspect: map[pastry.NodeID]time.Time{}, handles: map[pastry.NodeID]pastry.NodeHandle{}}
}

// Self implements rpc.Ring.
func (r *ring) Self() pastry.NodeID { return r.n.cfg.Overlay.Self().ID }

// note keeps what a node said of itself.
func (r *ring) note(h pastry.NodeHandle, info Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[h.ID] = introduction{handle: h, info: info, heard: r.n.cfg.Now()}
	delete(r.suspect, h.ID)
}

// prove notes the roles that a node's certificate gives it.
func (r *ring) prove(id pastry.NodeID, roles wire.Roles) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.roles) >= handlesMax {
		clear(r.roles)
	}
	r.roles[id] = roles
}

// proven returns the roles of a node that claims some: those of its certificate or, before that was seen, of the claimed ones such as
// give nobody power over anybody.
func (r *ring) proven(id pastry.NodeID, claimed wire.Roles) wire.Roles {
	r.mu.Lock()
	defer r.mu.Unlock()
	if roles, ok := r.roles[id]; ok {
		return roles
	}
	return claimed & wire.RoleStorage
}

func (r *ring) introduction(id pastry.NodeID) (introduction, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, ok := r.known[id]
	return in, ok
}

// Around implements rpc.Ring. Who lies round a key is for its root to say: another node's leaf set ends elsewhere, and would give
// other candidates. In a ring of at most |L| nodes all leaf sets are the same.
func (r *ring) Around(ctx context.Context, key pastry.Key) ([]past.Candidate, error) {
	near, err := r.around(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("past: nodes around %v: %w: %w", key, past.ErrUnavailable, err)
	}
	out := make([]past.Candidate, 0, len(near))
	for i := range near {
		if near[i].Roles.Has(wire.RoleStorage) && near[i].CapacityBytes > 0 {
			out = append(out, near[i].candidate())
		}
	}
	return out, nil
}

func (r *ring) around(ctx context.Context, key pastry.Key) ([]Info, error) {
	leafs := r.n.cfg.Overlay.Leafs()
	if len(leafs) < r.n.cfg.LeafSetSize {
		return r.n.near(leafs), nil
	}
	if near := r.regionOf(key); near != nil {
		return near, nil
	}
	route, err := r.n.cfg.Overlay.Lookup(ctx, key)
	if err != nil {
		return nil, err
	}
	if route.Root.ID == r.Self() {
		return r.n.near(leafs), nil
	}
	near, err := r.n.askAround(ctx, route.Root, key)
	if err == nil {
		r.keepRegion(region{root: route.Root.ID, near: near, heard: r.n.cfg.Now()})
	}
	return near, err
}

// region is what the root of some keys said of its leaf set.
type region struct {
	root  pastry.NodeID
	near  []Info // the root's own first
	heard time.Time
}

const (
	// regionAge is how long a root's answer is good for other keys.
	regionAge = 2 * time.Second
	regionMax = 64
)

// regionOf returns the nodes round key by a fresh answer of its root, nil if there is none: of the nodes in the answer, the root must
// be the one closest to the key, since its neighbours on both sides are among them.
func (r *ring) regionOf(key pastry.Key) []Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.regions {
		if r.n.cfg.Now().Sub(g.heard) > regionAge {
			continue
		}
		if !slices.ContainsFunc(g.near, func(i Info) bool { return pastry.Closer(key, i.ID, g.root) }) {
			return g.near
		}
	}
	return nil
}

func (r *ring) keepRegion(g region) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.n.cfg.Now()
	r.regions = slices.DeleteFunc(r.regions, func(old region) bool { return old.root == g.root || now.Sub(old.heard) > regionAge })
	r.regions = append(r.regions[max(0, len(r.regions)+1-regionMax):], g)
}

// offers sums up what placement depends on: who the leafs are, with which disks, and what they offer.
func (r *ring) offers(leafs []pastry.NodeHandle) uint64 {
	sum := fnv.New64a()
	for _, h := range leafs {
		in, _ := r.introduction(h.ID)
		fmt.Fprintln(sum, h.ID, in.info.Incarnation, in.info.CapacityBytes, in.info.Zone, in.info.Host)
	}
	return sum.Sum64()
}

// info is what is known of a node, this one included.
func (r *ring) info(id pastry.NodeID) (Info, bool) {
	if id == r.Self() {
		return r.n.info(), true
	}
	in, ok := r.introduction(id)
	return in.info, ok
}

func (r *ring) isLeaf(id pastry.NodeID) bool {
	for _, h := range r.n.cfg.Overlay.Leafs() {
		if h.ID == id {
			return true
		}
	}
	return false
}

// Open implements rpc.Ring.
func (r *ring) Open(ctx context.Context, to pastry.NodeID) (wire.Stream, error) {
	h, err := r.handle(ctx, to)
	if err != nil {
		return nil, err
	}
	return r.n.cfg.Overlay.Open(ctx, h, wire.ServicePast)
}

// handle finds out where a node is: the overlay knows, or whoever named the node, or the node itself, as the root of its own id.
func (r *ring) handle(ctx context.Context, id pastry.NodeID) (pastry.NodeHandle, error) {
	if h, ok := r.n.cfg.Overlay.Find(id); ok {
		return h, nil
	}
	r.mu.Lock()
	h, ok := r.handles[id]
	r.mu.Unlock()
	if ok {
		return h, nil
	}
	route, err := r.n.cfg.Overlay.Lookup(ctx, id)
	if err != nil || route.Root.ID != id {
		return h, fmt.Errorf("node %v is not in the ring", id)
	}
	return route.Root, nil
}

// named notes where a node is by somebody else's word.
func (r *ring) named(h pastry.NodeHandle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.handles) >= handlesMax {
		clear(r.handles)
	}
	r.handles[h.ID] = h
}

// handlesMax bounds what is remembered of nodes outside the leaf set.
const handlesMax = 4096

// RTT implements rpc.Ring.
func (r *ring) RTT(id pastry.NodeID) time.Duration {
	if id == r.Self() {
		return 0
	}
	if rtt, ok := r.n.cfg.Overlay.RTT(id); ok {
		return max(rtt, time.Microsecond)
	}
	return unknownRTT
}

// Suspect implements rpc.Ring.
func (r *ring) Suspect(id pastry.NodeID) {
	r.mu.Lock()
	r.suspect[id] = r.n.cfg.Now()
	delete(r.handles, id) // it may have moved
	r.mu.Unlock()
	r.n.cfg.Overlay.Unreachable(id)
}

// Reachable implements rpc.Ring: nothing says that the node is gone.
func (r *ring) Reachable(id pastry.NodeID) bool {
	if id == r.Self() {
		return true
	}
	r.mu.Lock()
	since, suspected := r.suspect[id]
	r.mu.Unlock()
	if suspected && r.n.cfg.Now().Sub(since) < suspectFor {
		return false
	}
	if _, found := r.n.cfg.Overlay.Find(id); found {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, named := r.handles[id]
	return named
}

// Member implements pkb.Directory.
func (r *ring) Member(id pastry.NodeID) (register.MemberID, bool) {
	if id != r.Self() && !r.isLeaf(id) {
		if in, ok := r.introduction(id); !ok || r.n.cfg.Now().Sub(in.heard) > introductionAge {
			if r.n.meet(id) != nil {
				return register.MemberID{}, false
			}
		}
	}
	info, ok := r.info(id)
	if ok && info.CapacityBytes == 0 {
		return register.MemberID{}, true
	}
	return register.MemberID{Node: id, Incarnation: info.Incarnation, PublicKey: info.PublicKey}, ok && info.Incarnation != 0
}

// Storage implements pkb.Directory, for the leaf set: in a ring of at most |L| nodes that is every node.
func (r *ring) Storage() int {
	return len(r.withRole(wire.RoleStorage))
}

// Gateways implements pkb.Directory.
func (r *ring) Gateways() []past.Candidate {
	out := r.withRole(wire.RoleGateway)
	for i := range out {
		out[i].CapacityBytes = 1
	}
	return out
}

func (r *ring) withRole(role wire.Roles) []past.Candidate {
	var out []past.Candidate
	add := func(info Info, ok bool) {
		if ok && info.Roles.Has(role) && (role != wire.RoleStorage || info.CapacityBytes > 0) {
			out = append(out, info.candidate())
		}
	}
	add(r.n.info(), true)
	for _, h := range r.n.cfg.Overlay.Leafs() {
		add(r.info(h.ID))
	}
	return out
}

package node

import (
	"context"
	"fmt"
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
	suspect map[pastry.NodeID]time.Time // since when requests to a node fail
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
	return &ring{n: n, known: map[pastry.NodeID]introduction{}, suspect: map[pastry.NodeID]time.Time{}}
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

func (r *ring) introduction(id pastry.NodeID) (introduction, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in, ok := r.known[id]
	return in, ok
}

// Around implements rpc.Ring.
func (r *ring) Around(ctx context.Context, key pastry.Key) ([]past.Candidate, error) {
	route, err := r.n.cfg.Overlay.Lookup(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("past: nodes around %v: %w: %w", key, past.ErrUnavailable, err)
	}
	r.meet(ctx, route.Near)
	out := make([]past.Candidate, 0, len(route.Near))
	for _, h := range route.Near {
		if info, ok := r.info(h.ID); ok && info.Roles.Has(wire.RoleStorage) && info.CapacityBytes > 0 {
			out = append(out, info.candidate())
		}
	}
	return out, nil
}

// info is what is known of a node, this one included.
func (r *ring) info(id pastry.NodeID) (Info, bool) {
	if id == r.Self() {
		return r.n.info(), true
	}
	in, ok := r.introduction(id)
	return in.info, ok
}

// meet asks nodes that are not known well enough who they are, all at once.
func (r *ring) meet(ctx context.Context, handles []pastry.NodeHandle) {
	var asked sync.WaitGroup
	for _, h := range handles {
		in, ok := r.introduction(h.ID)
		if h.ID == r.Self() || ok && in.handle == h && (r.isLeaf(h.ID) || r.n.cfg.Now().Sub(in.heard) < introductionAge) {
			continue
		}
		asked.Go(func() { _ = r.n.ask(ctx, h) })
	}
	asked.Wait()
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
	h, ok := r.n.cfg.Overlay.Find(to)
	if !ok {
		in, known := r.introduction(to)
		if !known {
			route, err := r.n.cfg.Overlay.Lookup(ctx, to)
			if err != nil || route.Root.ID != to {
				return nil, fmt.Errorf("node %v is not in the ring", to)
			}
			in.handle = route.Root
		}
		h = in.handle
	}
	return r.n.cfg.Overlay.Open(ctx, h, wire.ServicePast)
}

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
	_, found := r.n.cfg.Overlay.Find(id)
	return found
}

// Member implements pkb.Directory.
func (r *ring) Member(id pastry.NodeID) (register.MemberID, bool) {
	if id != r.Self() && !r.isLeaf(id) {
		if in, ok := r.introduction(id); !ok || r.n.cfg.Now().Sub(in.heard) > introductionAge {
			return register.MemberID{}, false
		}
	}
	info, ok := r.info(id)
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

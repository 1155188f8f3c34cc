package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"larder/past"
	"larder/past/chb"
	"larder/past/rpc"
	pastwire "larder/past/wire"
	"larder/pastry"
	"larder/pastry/wire"

	"go.uber.org/zap"
)

// Info is what a node says of itself.
type Info struct {
	ID            pastry.NodeID `cbor:"1,keyasint" json:"node"`
	Roles         wire.Roles    `cbor:"2,keyasint" json:"roles"`
	CapacityBytes int64         `cbor:"3,keyasint" json:"capacityBytes"`
	UsedBytes     int64         `cbor:"4,keyasint" json:"usedBytes"`
	FreeBytes     int64         `cbor:"5,keyasint" json:"freeBytes"`
	Zone          string        `cbor:"6,keyasint,omitempty" json:"zone"`
	Host          string        `cbor:"7,keyasint,omitempty" json:"host"`
	Incarnation   uint64        `cbor:"8,keyasint" json:"-"`
	PublicKey     [32]byte      `cbor:"9,keyasint" json:"-"`
	S3            string        `cbor:"10,keyasint,omitempty" json:"s3"`
	Admin         string        `cbor:"11,keyasint,omitempty" json:"admin"`
	Version       string        `cbor:"12,keyasint,omitempty" json:"version"`
	Boot          uint64        `cbor:"13,keyasint" json:"boot"`
	Blocks        chb.Status    `cbor:"14,keyasint" json:"blocks"`
	// Membership is the fingerprint of the leaf set that Blocks was last told of (Fingerprint).
	Membership uint64 `cbor:"15,keyasint" json:"-"`
	// Lookups are the node's own lookups since its start, by hops; the last are those of as many or more.
	Lookups []uint64 `cbor:"16,keyasint,omitempty" json:"lookupsByHops"`
	Address string   `cbor:"-" json:"address"`
}

func (i *Info) candidate() past.Candidate {
	return past.Candidate{ID: i.ID, CapacityBytes: i.CapacityBytes, Zone: i.Zone, Host: i.Host}
}

const (
	kindInfo       = pastwire.KindInfo
	kindAround     = pastwire.KindAround
	introduceEvery = 2 * time.Second
	introduceMax   = 2 * time.Second // for one node
)

type infoRequest struct {
	Self Info `cbor:"1,keyasint"`
	// SystemEpoch is the newest epoch of the system partition that the asker knows; Known is false if he knows none.
	SystemEpoch uint64 `cbor:"2,keyasint"`
	Known       bool   `cbor:"3,keyasint,omitempty"`
}

type infoAnswer struct {
	Self   Info    `cbor:"1,keyasint"`
	System *system `cbor:"2,keyasint,omitempty"` // if it is newer than what the asker knows
}

// info is this node's own.
func (n *Node) info() Info {
	id := n.cfg.Identity
	u := n.cfg.Store.Usage()
	lookups := n.cfg.Overlay.State().Stats.Lookups
	i := Info{
		ID: id.NodeID(), Roles: id.Node.Roles, CapacityBytes: n.cfg.CapacityBytes, UsedBytes: u.DiskBytes, FreeBytes: u.FreeBytes, Zone: n.cfg.Zone, Host: n.cfg.Host,
		Incarnation: n.memory.incarnation, S3: n.cfg.S3, Admin: n.cfg.Admin, Version: n.cfg.Version, Boot: n.memory.boot, Membership: n.told.Load(), Blocks: n.blocks.Status(),
		Address: addressOf(n.cfg.Overlay.Self()), Lookups: lookups[:],
	}
	if n.cfg.Store.Err() != nil {
		i.CapacityBytes, i.FreeBytes = 0, 0 // placement and partitions turn to others
	}
	copy(i.PublicKey[:], id.PublicKey())
	return i
}

// handleInfo takes a peer's introduction and answers with this node's, and with news of the system partition.
func (n *Node) handleInfo(_ context.Context, from wire.Peer, req rpc.Request) (any, []byte, error) {
	var q infoRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	n.ring.prove(from.Handle.ID, from.Roles)
	n.take(from.Handle, q.Self)
	a := infoAnswer{Self: n.info()}
	if s := n.memory.system(); s != nil && (!q.Known || s.Lineage.Epoch() > q.SystemEpoch) {
		a.System = s
	}
	return &a, nil, nil
}

// take notes what a proven peer says of itself; its id and roles are not its to say. Roles are known from its certificate once it has
// introduced itself here; until then it is believed only those that it could pretend to have anyway.
func (n *Node) take(h pastry.NodeHandle, info Info) {
	if info.ID != h.ID {
		return
	}
	info.Roles = n.ring.proven(h.ID, info.Roles)
	info.Address = addressOf(h)
	n.ring.note(h, info)
}

// ask introduces this node to another and notes its answer.
func (n *Node) ask(ctx context.Context, h pastry.NodeHandle) error {
	ctx, cancel := context.WithTimeout(ctx, introduceMax)
	defer cancel()
	q := infoRequest{Self: n.info()}
	if s := n.memory.system(); s != nil {
		q.Known, q.SystemEpoch = true, s.Lineage.Epoch()
	}
	var a infoAnswer
	open := func() (wire.Stream, error) { return n.cfg.Overlay.Open(ctx, h, wire.ServicePast) }
	if _, err := n.peers.DoOn(ctx, h.ID, rpc.Call{Kind: kindInfo, Body: &q}, &a, open); err != nil {
		return err
	}
	n.take(h, a.Self)
	if a.System != nil {
		n.learnSystem(ctx, a.System)
	}
	return nil
}

type aroundRequest struct {
	Key pastry.Key `cbor:"1,keyasint"`
}

// aroundAnswer is the answerer's leaf set, itself first.
type aroundAnswer struct {
	Near    []Info              `cbor:"1,keyasint"`
	Handles []pastry.NodeHandle `cbor:"2,keyasint"`
}

// near returns what is known of this node and of the given leafs.
func (n *Node) near(leafs []pastry.NodeHandle) []Info {
	out := []Info{n.info()}
	for _, h := range leafs {
		if in, ok := n.ring.introduction(h.ID); ok {
			out = append(out, in.info)
		}
	}
	return out
}

// handleAround says who is round this node, to those whom a lookup led here.
func (n *Node) handleAround(_ context.Context, _ wire.Peer, req rpc.Request) (any, []byte, error) {
	var q aroundRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	leafs := n.cfg.Overlay.Leafs()
	a := aroundAnswer{Near: n.near(leafs), Handles: leafs}
	for i := range a.Near {
		a.Near[i].Blocks = chb.Status{} // not asked for, and the larger part
	}
	return &a, nil, nil
}

// askAround asks the root of a key who is round it. What it says of others is its word; they prove themselves when they are called.
func (n *Node) askAround(ctx context.Context, root pastry.NodeHandle, key pastry.Key) ([]Info, error) {
	ctx, cancel := context.WithTimeout(ctx, introduceMax)
	defer cancel()
	var a aroundAnswer
	open := func() (wire.Stream, error) { return n.cfg.Overlay.Open(ctx, root, wire.ServicePast) }
	if _, err := n.peers.DoOn(ctx, root.ID, rpc.Call{Kind: kindAround, Body: aroundRequest{key}}, &a, open); err != nil {
		return nil, err
	}
	if len(a.Near) > n.cfg.LeafSetSize+1 || len(a.Handles) > n.cfg.LeafSetSize {
		return nil, fmt.Errorf("%v names %d nodes as its leaf set", root.ID, len(a.Near))
	}
	n.ring.named(root)
	for _, h := range a.Handles {
		n.ring.named(h)
	}
	return a.Near, nil
}

// meet asks a node that is no leaf who it is.
func (n *Node) meet(id pastry.NodeID) error {
	ctx, cancel := context.WithTimeout(context.Background(), introduceMax)
	defer cancel()
	h, err := n.ring.handle(ctx, id)
	if err != nil {
		return err
	}
	return n.ask(ctx, h)
}

// learnSystem takes over what a peer knows of the system partition, if it proves itself.
func (n *Node) learnSystem(ctx context.Context, s *system) {
	if err := s.verify(n.cfg.Identity.Realm, n.identity().Verify); err != nil {
		n.log.Warn("system partition refused", zap.Error(err))
		return
	}
	if n.memory.system() == nil {
		if err := n.memory.saveSystem(ctx, *s); err != nil {
			n.log.Error("system partition not saved", zap.Error(err))
		}
		return
	}
	if r := n.registers.Load(); r != nil {
		_, _ = r.Tell(past.SystemBucket, &s.Lineage)
	}
}

// introduce keeps the leaf set's members acquainted until ctx ends, and tells the blocks when who they are, or what they offer, has
// changed.
func (n *Node) introduce(ctx context.Context) {
	changed, cancel := n.cfg.Overlay.Subscribe()
	defer cancel()
	tick := time.NewTicker(introduceEvery)
	defer tick.Stop()
	var offered uint64 // what the leafs offered when the blocks were told last
	for {
		select {
		case <-changed:
			n.blocks.MembershipChanged() // at once: asking a dead node takes a while
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		leafs := n.cfg.Overlay.Leafs()
		n.askAll(ctx, leafs)
		if now := n.ring.offers(leafs); now != offered {
			offered = now
			n.blocks.MembershipChanged()
		}
		n.told.Store(fingerprint(n.ring.Self(), leafs))
		if n.cfg.Remember != nil {
			n.cfg.Remember(leafs)
		}
	}
}

// askAll introduces this node to others, all at once.
func (n *Node) askAll(ctx context.Context, others []pastry.NodeHandle) {
	var asked sync.WaitGroup
	for _, h := range others {
		asked.Go(func() {
			if err := n.ask(ctx, h); err != nil && ctx.Err() == nil {
				n.log.Debug("node did not introduce itself", zap.Stringer("nodeId", h.ID), zap.Error(err))
			}
		})
	}
	asked.Wait()
}

// findSystem waits until the system partition is known.
func (n *Node) findSystem(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n.registers.Load() == nil {
		if s := n.memory.system(); s != nil {
			n.openRegisters(s.Lineage)
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

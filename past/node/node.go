// Package node is one live PAST node: an overlay member, content-hash blocks, registers and a disk, wired together. It knows who
// else is in the ring and what they offer (Directory), and keeps what a node must remember of itself between starts. What the
// parts do is theirs: pastry/overlay, past/chb, past/pkb, blockstore.
package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"larder/auth/realm"
	"larder/blockstore"
	"larder/past/chb"
	"larder/past/pkb"
	"larder/past/register"
	"larder/past/rpc"
	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/wire"

	"go.uber.org/zap"
)

// Config is what a Node is made of. All fields are required but where it says otherwise.
type Config struct {
	Identity *realm.Identity
	Overlay  *overlay.Overlay // not running yet
	// LeafSetSize is |L|, as the overlay has it; 0 means 32. With fewer leafs than that, a node knows all others.
	LeafSetSize int
	Store       blockstore.Store
	// CapacityBytes is what this node offers; 0 keeps nothing for others.
	CapacityBytes int64
	Zone, Host    string // may be empty
	// Addresses that others show to people.
	S3, Admin string
	Version   string
	// ReplaceAfter is how long a member of a partition is missed before another takes its place; RepairAfter the same for fragments.
	ReplaceAfter, RepairAfter time.Duration
	// TrashAfter is how long what was overwritten or deleted stays readable for those who began to read it; 0: a day.
	TrashAfter time.Duration
	// Remember is told which nodes are known, so that the next start finds them. It may be nil.
	Remember func([]pastry.NodeHandle)
	Log      *zap.Logger
	Now      func() time.Time
}

// Node is one live PAST node. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *zap.Logger
	memory  *memory
	peers   *rpc.Peers
	ring    *ring
	members *pkb.Members
	blocks  *chb.Blocks
	// registers is nil until the system partition is known. A node that is no gateway has them too, for reading.
	registers atomic.Pointer[pkb.Registers]
	ready     chan struct{} // closed once the node is in the ring and knows the system partition

	told    atomic.Uint64             // fingerprint of the leaf set that blocks was last told of
	damaged chan register.PartitionID // capacity 1: further reports add nothing
}

const defaultLeafSetSize = 32

// New wires a node. Errors wrap blockstore.ErrCorrupt if what the disk remembers is damaged.
func New(ctx context.Context, cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Log.Named("node"), ready: make(chan struct{}), damaged: make(chan register.PartitionID, 1)}
	if n.cfg.LeafSetSize == 0 {
		n.cfg.LeafSetSize = defaultLeafSetSize
	}
	var err error
	if n.memory, err = recall(ctx, cfg.Store); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	self := wire.Peer{Handle: cfg.Overlay.Self(), Roles: cfg.Identity.Node.Roles}
	n.ring = newRing(n)
	n.peers = rpc.NewPeers(n.ring, self)
	cfg.Overlay.Handle(wire.ServicePast, n.peers.Serve)
	n.peers.Handle(kindInfo, 0, n.handleInfo)
	n.peers.Handle(kindAround, 0, n.handleAround)
	n.members, err = pkb.NewMembers(pkb.MembersConfig{
		Self: n.identity(), Peers: n.peers, Store: cfg.Store, Genesis: n.checkGenesis, Damaged: n.reportDamage, Log: cfg.Log, Now: cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	blocks := chb.Config{Peers: n.peers, Log: cfg.Log, Now: cfg.Now, RepairDelay: cfg.RepairAfter, TrashAge: cfg.TrashAfter}
	if cfg.CapacityBytes > 0 {
		blocks.Store = cfg.Store
	}
	n.blocks = chb.New(blocks)
	if system := n.memory.system(); system != nil {
		n.openRegisters(system.Lineage)
	}
	return n, nil
}

// Begun reports whether this disk knows the realm's system partition.
func (n *Node) Begun() bool { return n.memory.system() != nil }

// Found begins the realm's system partition on this disk, once, when the realm is founded.
func (n *Node) Found(ctx context.Context) error {
	if n.memory.system() != nil {
		return nil
	}
	s, err := foundSystem(n.cfg.Identity, n.identity().Member)
	if err != nil {
		return err
	}
	if err := n.members.Found(ctx, s.Lineage); err != nil {
		return err
	}
	if err := n.memory.saveSystem(ctx, *s); err != nil {
		return err
	}
	n.openRegisters(s.Lineage)
	return nil
}

// Run takes part in the ring until ctx ends, and awaits everything it started. It returns an error if the overlay fails, or
// ErrReborn, ErrDiscard or ErrReopen if the disk has to be opened again.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { cancel(n.cfg.Overlay.Run(ctx)) })
	select {
	case <-n.cfg.Overlay.Ready():
	case <-ctx.Done():
		return cause(ctx)
	}
	work.Go(func() { n.introduce(ctx) })
	if err := n.findSystem(ctx); err != nil {
		return cause(ctx)
	}
	n.members.Resume()
	defer n.members.Close()
	work.Go(func() { n.blocks.Run(ctx) })
	if n.cfg.Identity.Node.Roles.Has(wire.RoleGateway) {
		work.Go(func() { n.registers.Load().Run(ctx) })
	}
	work.Go(func() { n.watchDamage(ctx, cancel) })
	close(n.ready)
	n.log.Info("node ready", zap.Stringer("nodeId", n.ring.Self()), zap.Uint64("boot", n.memory.boot), zap.String("incarnation", fmt.Sprintf("%x", n.memory.incarnation)))
	<-ctx.Done()
	return cause(ctx)
}

// cause is why ctx ended, nil where that is what the caller asked for.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Ready is closed when the node is in the ring, and knows the system partition.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Past is what the S3 layers keep their data in. It is for after Ready.
func (n *Node) Past() Past { return Past{n.registers.Load(), n.blocks} }

// Past joins registers and blocks into what gateway/objects asks for.
type Past struct {
	*pkb.Registers
	*chb.Blocks
}

// Peers, Overlay, Blocks, Members and Registers are the node's parts, for operators' views.
func (n *Node) Peers() *rpc.Peers         { return n.peers }
func (n *Node) Overlay() *overlay.Overlay { return n.cfg.Overlay }
func (n *Node) Blocks() *chb.Blocks       { return n.blocks }
func (n *Node) Members() *pkb.Members     { return n.members }
func (n *Node) Registers() *pkb.Registers { return n.registers.Load() }

// identity is this disk as partitions know it.
func (n *Node) identity() pkb.Identity {
	id := n.cfg.Identity
	m := register.MemberID{Node: id.NodeID(), Incarnation: n.memory.incarnation}
	copy(m.PublicKey[:], id.PublicKey())
	return pkb.Identity{
		Member: m,
		Sign:   func(message []byte) []byte { return realm.Sign(id.Key, domainVote, message) },
		Verify: func(m register.MemberID, message, signature []byte) error {
			return id.Realm.VerifyNodeSignature(m.Node, m.PublicKey[:], domainVote, message, signature)
		},
	}
}

// domainVote is what members' signatures over successions are for.
const domainVote = "partition succession"

func (n *Node) openRegisters(system register.Lineage) {
	cfg := pkb.Config{
		Peers: n.peers, Self: n.identity(), Directory: n.ring, System: system, ReplaceAfter: n.cfg.ReplaceAfter, Log: n.cfg.Log, Now: n.cfg.Now,
		SaveSystem: func(l register.Lineage) error { return n.memory.extendSystem(context.Background(), l) },
	}
	if n.cfg.Identity.Secrets != nil {
		cfg.Keys = keys{n.cfg.Identity.Secrets}
	}
	n.registers.Store(pkb.New(cfg))
}

func (n *Node) checkGenesis(ctx context.Context, l *register.Lineage) (bool, error) {
	r := n.registers.Load()
	if r == nil {
		return false, errNoSystem
	}
	return r.GenesisCheck(ctx, l)
}

var errNoSystem = errors.New("node: the system partition is not known yet")

package chb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// Config configures Blocks. Zero values mean the defaults.
type Config struct {
	Peers *rpc.Peers
	Store blockstore.Store // nil on a node that keeps nothing
	Log   *zap.Logger      // nil: no log
	Now   func() time.Time // wall clock; nil: time.Now

	// RepairDelay is how long a node must be unreachable before what it held is rebuilt elsewhere; default 1 minute, since
	// most nodes return.
	RepairDelay time.Duration
	// RepairEvery is how long after a pass over all own fragments the next one begins; default 10 minutes. Changes of membership and
	// hints are not waited for so long.
	RepairEvery time.Duration
	// Settle is how long the membership must be quiet before a pass begins because of it; default 3 s.
	Settle time.Duration
	// RepairWorkers is how many blocks are repaired at once; default 4.
	RepairWorkers int
	// RepairBytesPerSecond bounds what repair sends; default 0, no bound.
	RepairBytesPerSecond int64
	// ScrubBytesPerSecond bounds what the background scrub reads; default 16 MiB/s. ScrubEvery is how long after one scrub the next
	// begins; default 24 h.
	ScrubBytesPerSecond int64
	ScrubEvery          time.Duration
	// TrashAge is how long fragments that are not wanted any more stay readable, for readers that began before; default 24 h. On a disk
	// that is nearly full it is 1 h at most.
	TrashAge time.Duration
	// InsertBytes bounds the memory of all inserts, those in the background included; default 48 MiB. At least 8 MiB.
	InsertBytes int64
}

// Blocks keeps content-hash blocks with the other nodes of the ring. All its methods are safe for concurrent use.
type Blocks struct {
	cfg     Config
	log     *zap.Logger
	peers   *rpc.Peers
	ring    rpc.Ring
	self    pastry.NodeID
	shelf   *shelf // nil on a node that keeps nothing
	members members
	buffers buffers
	inserts budget
	answers latency
	// background are asks, puts and hints that outlive the call that made them. Started by any method, awaited by Run.
	background tasks
	stopping   chan struct{} // closed by Run when background puts have had their time
	reclaims   reclaimQueue
	repair     repairer
	mending    chan struct{} // capacity 1: a token is in it while an own fragment is mended
	stats      counters
}

// New returns Blocks and makes it answer the fragment requests that reach cfg.Peers. Run must be called for reclaim, repair and scrub.
func New(cfg Config) *Blocks {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	cfg.RepairDelay = cmp.Or(cfg.RepairDelay, time.Minute)
	cfg.RepairEvery = cmp.Or(cfg.RepairEvery, 10*time.Minute)
	cfg.Settle = cmp.Or(cfg.Settle, 3*time.Second)
	cfg.RepairWorkers = cmp.Or(cfg.RepairWorkers, 4)
	cfg.ScrubBytesPerSecond = cmp.Or(cfg.ScrubBytesPerSecond, 16<<20)
	cfg.ScrubEvery = cmp.Or(cfg.ScrubEvery, 24*time.Hour)
	cfg.TrashAge = cmp.Or(cfg.TrashAge, trashAge)
	b := &Blocks{
		cfg: cfg, log: cfg.Log.Named("chb"), peers: cfg.Peers, ring: cfg.Peers.Ring(),
		inserts: budget{free: max(cmp.Or(cfg.InsertBytes, 48<<20), 8<<20)},
	}
	b.self = b.ring.Self()
	b.members.known = map[pastry.NodeID]*member{}
	b.stopping = make(chan struct{})
	b.mending = make(chan struct{}, 1)
	b.reclaims.wake = make(chan struct{}, 1)
	b.repair.init()
	b.stats.liedBy = map[pastry.NodeID]int64{}
	if cfg.Store != nil {
		b.shelf = newShelf(cfg.Store, cfg.Now)
	}
	b.peers.Handle(wire.KindFragmentPut, 0, b.servePut)
	b.peers.Handle(wire.KindFragmentGet, 0, b.serveGet)
	b.peers.Handle(wire.KindFragmentStat, 0, b.serveStat)
	b.peers.Handle(wire.KindFragmentTrash, 0, b.serveTrash)
	b.peers.Handle(wire.KindFragmentRestore, 0, b.serveRestore)
	b.peers.Handle(wire.KindFragmentList, 0, b.serveList)
	return b
}

// Run reclaims, repairs, scrubs and empties the trash until ctx ends. It returns when all goroutines of b have ended; Insert
// and Lookup fail from then on. It is called once.
func (b *Blocks) Run(ctx context.Context) {
	var loops sync.WaitGroup // awaited here
	loops.Go(func() { b.runReclaim(ctx) })
	if b.shelf != nil {
		loops.Go(func() { b.runRepair(ctx) })
		loops.Go(func() { b.runScrub(ctx) })
		loops.Go(func() { b.runTrash(ctx) })
	}
	loops.Wait()
	cut := time.AfterFunc(cleanupPatience, func() { close(b.stopping) })
	b.background.close()
	cut.Stop()
}

// candidates are the nodes that may keep what lies at a key: place those with room for some, in the order of past.Place, rest the others
// that may still hold something, such as drained ones.
type candidates struct {
	place, rest []pastry.NodeID
}

func (c *candidates) all() []pastry.NodeID {
	return append(c.place[:len(c.place):len(c.place)], c.rest...)
}

// around asks the ring for the candidates of key. Errors: past.ErrUnavailable.
func (b *Blocks) around(ctx context.Context, key pastry.Key) (candidates, error) {
	found, err := b.ring.Around(ctx, key)
	if err != nil {
		return candidates{}, fmt.Errorf("%w: nodes around %v: %w", past.ErrUnavailable, key, err)
	}
	b.members.seen(found)
	return order(key, found), nil
}

func order(key pastry.Key, found []past.Candidate) candidates {
	c := candidates{place: past.Place(key, found, len(found))}
	for _, f := range found {
		if f.CapacityBytes <= 0 {
			c.rest = append(c.rest, f.ID)
		}
	}
	return c
}

// ask sends one request and remembers whether the node answered.
func (b *Blocks) ask(ctx context.Context, to pastry.NodeID, call rpc.Call, answer any) ([]byte, error) {
	data, err := b.peers.Do(ctx, to, call, answer)
	var remote *rpc.Error
	switch {
	case err == nil || errors.As(err, &remote):
		b.members.heard(to)
	case errors.Is(ctx.Err(), context.Canceled): // by us: says nothing about the node
	default:
		b.members.silent(to, b.cfg.Now())
		if ctx.Err() != nil { // rpc does not suspect a node for our impatience
			b.ring.Suspect(to)
		}
	}
	return data, err
}

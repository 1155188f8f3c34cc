package pkb

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/past/rpc"

	"go.uber.org/zap"
)

// Registers proposes: reads, writes and scans of registers, for a gateway. All methods are safe for concurrent use.
type Registers struct {
	cfg      Config
	proposer past.ProposerID

	clockMu sync.Mutex
	clock   uint64 // newest ballot counter given out, guarded by clockMu

	mu     sync.Mutex // guards routes and queues
	routes map[past.BucketID]*route
	queues map[queueKey]*queue

	marks chan mark // chosen deletions to tell of; full: dropped. Closed by nobody.
	stats Stats
}

// Config is what Registers needs. All fields are required, but for Keys on a node that is no gateway: it can read what is settled.
type Config struct {
	Peers     *rpc.Peers
	Self      Identity
	Keys      Keys
	Directory Directory
	// System is the lineage of the system partition as this node knows it; SaveSystem keeps a longer one for the next start.
	System     register.Lineage
	SaveSystem func(register.Lineage) error
	// ReplaceAfter is how long a member is out of reach before another takes its place.
	ReplaceAfter time.Duration
	// CaretakeEvery is the pause between looks at the partitions, before jitter; 0 means 3 s.
	CaretakeEvery time.Duration
	Log           *zap.Logger
	Now           func() time.Time
}

// route is what this gateway knows of the partition of a bucket.
type route struct {
	mu      sync.Mutex                       // held to replace lineage
	lineage atomic.Pointer[register.Lineage] // what it points to is never changed
	key     ed25519.PrivateKey
}

func newRoute(l register.Lineage, key ed25519.PrivateKey) *route {
	rt := &route{key: key}
	rt.lineage.Store(&l)
	return rt
}

// current returns the newest lineage and its newest configuration.
func (r *route) current() (register.Lineage, *register.Configuration) {
	l := r.lineage.Load()
	return *l, l.Current()
}

type queueKey struct {
	bucket past.BucketID
	group  string
}

// queue is held by the one operation of this gateway that changes a group at the moment.
type queue struct {
	token   chan struct{}
	waiting int // guarded by Registers.mu
}

// New returns Registers that know the system partition.
func New(cfg Config) *Registers {
	r := &Registers{cfg: cfg, routes: map[past.BucketID]*route{}, queues: map[queueKey]*queue{}, marks: make(chan mark, 4096)}
	r.cfg.Log = cfg.Log.Named("registers")
	_, _ = rand.Read(r.proposer[:])
	var key ed25519.PrivateKey
	if cfg.Keys != nil {
		key = cfg.Keys.SystemKey()
	}
	r.routes[past.SystemBucket] = newRoute(cfg.System, key)
	return r
}

// counter is the hybrid logical clock: above everything seen and everything given out before, and at least the wall clock.
func (r *Registers) counter(seen uint64) uint64 {
	r.clockMu.Lock()
	defer r.clockMu.Unlock()
	r.clock = max(uint64(r.cfg.Now().UnixNano()), seen+1, r.clock+1)
	return r.clock
}

// errNoRoute says that the bucket was never opened here.
var errNoRoute = fmt.Errorf("past/pkb: bucket is not open here: %w", past.ErrClosed)

func (r *Registers) route(bucket past.BucketID) (*route, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rt := r.routes[bucket]; rt != nil {
		return rt, nil
	}
	return nil, errNoRoute
}

// learn takes over a longer lineage, verified against the genesis that the route has.
func (r *Registers) learn(rt *route, l *register.Lineage) bool {
	if l == nil {
		return false
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if known := rt.lineage.Load(); l.Epoch() <= known.Epoch() || !sameGenesis(&l.Genesis, &known.Genesis) {
		return false
	}
	if err := l.Verify(r.cfg.Self.Verify); err != nil {
		r.stats.BadProofs.Add(1)
		r.cfg.Log.Warn("lineage refused", zap.Stringer("partition", l.Genesis.Partition), zap.Error(err))
		return false
	}
	longer := *l
	rt.lineage.Store(&longer)
	if l.Genesis.Partition == register.System {
		if err := r.cfg.SaveSystem(*l); err != nil {
			r.cfg.Log.Error("system lineage not saved", zap.Error(err))
		}
	}
	return true
}

// enqueue waits until no other operation of this gateway changes the group, so that gateways contend and not clients. The
// caller calls leave when it is done.
func (r *Registers) enqueue(ctx context.Context, key queueKey) (leave func(), err error) {
	r.mu.Lock()
	q := r.queues[key]
	if q == nil {
		q = &queue{token: make(chan struct{}, 1)}
		r.queues[key] = q
	}
	q.waiting++
	r.mu.Unlock()
	drop := func() {
		r.mu.Lock()
		if q.waiting--; q.waiting == 0 {
			delete(r.queues, key)
		}
		r.mu.Unlock()
	}
	select {
	case q.token <- struct{}{}:
		return func() { <-q.token; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, fmt.Errorf("past: %w: %w", past.ErrUnavailable, ctx.Err())
	}
}

// Read returns the newest record of a register (objects.Registers).
func (r *Registers) Read(ctx context.Context, reg past.Register) (past.Record, error) {
	res, err := r.run(ctx, reg.Bucket, groupName(reg.Space, reg.Key, reg.Sub), register.Request{Op: register.OpRead})
	if err != nil {
		return past.Record{}, err
	}
	return res.Value.Entry(""), nil
}

// Write replaces whatever a register holds (objects.Registers).
func (r *Registers) Write(ctx context.Context, reg past.Register, next past.Record) ([]past.Record, error) {
	return r.write(ctx, reg, register.Request{Op: register.OpBlind, Blind: register.Value{}.With("", next)})
}

// Update evaluates f on a register's newest record and writes what it returns (objects.Registers).
func (r *Registers) Update(ctx context.Context, reg past.Register, f func(cur past.Record) (past.Record, error)) ([]past.Record, error) {
	return r.write(ctx, reg, register.Request{Op: register.OpUpdate, Update: func(cur register.Value) (register.Value, error) {
		next, err := f(cur.Entry(""))
		if err != nil {
			return register.Value{}, err
		}
		next.BodyHash = nil
		return cur.With("", next), nil
	}})
}

func (r *Registers) write(ctx context.Context, reg past.Register, req register.Request) ([]past.Record, error) {
	group := groupName(reg.Space, reg.Key, reg.Sub)
	leave, err := r.enqueue(ctx, queueKey{reg.Bucket, group})
	if err != nil {
		return nil, err
	}
	defer leave()
	res, err := r.run(ctx, reg.Bucket, group, req)
	if errors.Is(err, past.ErrUnchanged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var replaced []past.Record
	for _, v := range res.Replaced {
		for _, e := range v.Entries {
			if e.Record.Kind == past.Live {
				replaced = append(replaced, e.Record)
			}
		}
	}
	return replaced, nil
}

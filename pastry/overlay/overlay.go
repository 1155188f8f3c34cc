// Package overlay is one live member of a Pastry ring: it drives a pastry.Node with a real clock and a Transport, and gives
// the layers above lookups, streams and the leaf set. It implements no protocol: what is sent when is decided in pastry.
//
// One goroutine, Run's, owns the core. Everything else talks to it over channels.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"larder/pastry"
	"larder/pastry/wire"
)

// Errors of Overlay's methods.
var (
	ErrLost    = errors.New("overlay: nobody answered") // of Lookup: too many are under way
	ErrStopped = errors.New("overlay: not running")
)

const (
	inputsMax       = 4096            // messages that wait for the owner; more are dropped
	identifyTimeout = 3 * time.Second // for one seed
	forGood         = 24 * time.Hour  // a lookup whose ctx has no deadline
)

// Config is what an Overlay is made from.
type Config struct {
	Node  pastry.Config    // Seeded is set from Seeds; Rand may be nil: then it is made from the system's randomness
	Seeds []netip.AddrPort // where others of the ring may be. The node's own address among them does no harm
}

// Handler serves one stream that a peer opened, and owns st. ctx ends when the transport closes.
type Handler func(ctx context.Context, from wire.Peer, st wire.Stream)

// Route is the end of a lookup.
type Route struct {
	Root pastry.NodeHandle   // whoever is numerically closest to the key, as far as it knows itself
	Near []pastry.NodeHandle // the root and its leaf set, closest to the key first. The caller may keep it
	Hops int                 // from here to Root: 0 is this node itself, 1 one of its leafs or a direct route
}

// Overlay is one live member. Its methods are safe for concurrent use; Handle is for before Run.
type Overlay struct {
	cfg      Config
	t        Transport
	log      *zap.Logger
	handlers map[wire.Service]Handler // not changed once Run has begun

	inputs chan pastry.Input // to run, from the transport and timers; capacity inputsMax; a message that finds it full is dropped
	calls  chan func()       // to run, from callers, who wait; unbuffered
	ready  chan struct{}     // closed by run when the node first delivers
	ended  chan struct{}     // closed by Run when nobody owns the core any more

	running atomic.Bool
	tokens  atomic.Uint64
	dropped atomic.Uint64 // messages that found inputs full
	badly   atomic.Uint64 // messages that do not decode

	mu          sync.Mutex
	leafs       []pastry.NodeHandle    // replaced, never changed; guarded by mu
	subscribers map[chan struct{}]bool // each of capacity 1; guarded by mu

	// Owned by run.
	node       *pastry.Node
	start      time.Time
	timer      *time.Timer
	wake       time.Duration // what timer is set to
	out        pastry.Outbox
	buf        []byte
	waiting    map[uint64]chan<- pastry.Found // of lookups; capacity 1 each
	asking     map[netip.AddrPort]bool        // seeds that are being identified
	helpers    sync.WaitGroup                 // identify goroutines; awaited by Run
	identified chan netip.AddrPort            // from identify goroutines; capacity len(Seeds)
}

// New returns the member that will speak over t. It takes part in the ring while Run runs. It panics if cfg.Node.Check fails.
func New(cfg Config, t Transport, log *zap.Logger) *Overlay {
	cfg.Seeds = slices.Clone(cfg.Seeds)
	cfg.Node.Seeded = len(cfg.Seeds) > 0
	if cfg.Node.Rand == nil {
		cfg.Node.Rand = systemRand()
	}
	return &Overlay{
		cfg: cfg, t: t, log: log.Named("overlay"), handlers: map[wire.Service]Handler{},
		inputs: make(chan pastry.Input, inputsMax), calls: make(chan func()),
		ready: make(chan struct{}), ended: make(chan struct{}),
		node: pastry.New(cfg.Node, t.Self()), subscribers: map[chan struct{}]bool{},
		waiting: map[uint64]chan<- pastry.Found{}, asking: map[netip.AddrPort]bool{},
		identified: make(chan netip.AddrPort, len(cfg.Seeds)),
	}
}

// Handle makes h serve streams for s. It is called before Run.
func (o *Overlay) Handle(s wire.Service, h Handler) { o.handlers[s] = h }

// Self is this node as others reach it.
func (o *Overlay) Self() pastry.NodeHandle { return o.t.Self() }

// Ready is closed when the node first delivers. It may stop to later, for moments: see State.
func (o *Overlay) Ready() <-chan struct{} { return o.ready }

// Leafs returns the members of the leaf set, without this node, in the order of their nodeIds. The caller may keep the result, and
// must not change it.
func (o *Overlay) Leafs() []pastry.NodeHandle {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.leafs
}

// Subscribe returns a channel of capacity 1 that gets a value after each change of the leaf set, several at once becoming one,
// and a function that ends the subscription. There is a value in it from the start.
func (o *Overlay) Subscribe() (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.subscribers[c] = true
	return c, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.subscribers, c)
	}
}

// Lookup finds the nodes around key: from the leaf set where it covers key, else by a message that is routed to the root, which
// answers straight back; asked again until ctx ends. Before the node is ready it waits.
//
// It returns an error wrapping ctx.Err(), ErrStopped, or ErrLost.
func (o *Overlay) Lookup(ctx context.Context, key pastry.Key) (Route, error) {
	until := forGood
	if deadline, ok := ctx.Deadline(); ok {
		until = time.Until(deadline)
	}
	token := o.tokens.Add(1)
	found := make(chan pastry.Found, 1)
	ask := func() {
		o.waiting[token] = found
		o.step(&pastry.FindKey{Key: key, Token: token, Until: time.Since(o.start) + until})
	}
	select {
	case <-ctx.Done():
		return Route{}, lookupError(key, ctx.Err())
	case <-o.ended:
		return Route{}, lookupError(key, ErrStopped)
	case o.calls <- ask:
	}
	select {
	case f := <-found:
		if f.Lost {
			return Route{}, lookupError(key, lostError(ctx))
		}
		return Route{Root: f.Root, Near: f.Near, Hops: f.Hops}, nil
	case <-o.ended:
		return Route{}, lookupError(key, ErrStopped)
	case <-ctx.Done():
		o.post(&pastry.ForgetKey{Token: token})
		return Route{}, lookupError(key, ctx.Err())
	}
}

// lostError says why a lookup was lost: its time was up, which ctx may notice a moment later, or there was no room for it.
func lostError(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= time.Millisecond {
		return context.DeadlineExceeded
	}
	return ErrLost
}

func lookupError(key pastry.Key, err error) error {
	return fmt.Errorf("overlay: lookup %v: %w", key, err)
}

// Open starts a stream for s to a node. If that fails, and not because ctx ended, the node is probed.
func (o *Overlay) Open(ctx context.Context, to pastry.NodeHandle, s wire.Service) (wire.Stream, error) {
	st, err := o.t.Open(ctx, to, s)
	if err != nil {
		if ctx.Err() == nil {
			o.Unreachable(to.ID)
		}
		return nil, fmt.Errorf("overlay: open %v: %w", to.ID, err)
	}
	return st, nil
}

// Unreachable says that calls to a node fail: it is probed at once, and declared failed if it does not answer. It does not wait.
func (o *Overlay) Unreachable(id pastry.NodeID) { o.post(&pastry.PeerUnreachable{ID: id}) }

// RTT returns the round-trip time to a node: the transport's where it has a connection, else the core's.
func (o *Overlay) RTT(id pastry.NodeID) (rtt time.Duration, ok bool) {
	if rtt, ok = o.t.RTT(id); ok {
		return rtt, true
	}
	o.do(func() { rtt, ok = o.node.RTT(id) })
	return rtt, ok
}

// Find returns the handle of a node that this one knows: itself, or one in its leaf set, routing table or neighborhood set.
func (o *Overlay) Find(id pastry.NodeID) (h pastry.NodeHandle, ok bool) {
	if self := o.Self(); id == self.ID {
		return self, true
	}
	o.do(func() { h, ok = o.node.Find(id) })
	return h, ok
}

// do has f called while nothing else touches the core, and waits for it. Before Run it does nothing.
func (o *Overlay) do(f func()) {
	if !o.running.Load() {
		return
	}
	done := make(chan struct{})
	select {
	case o.calls <- func() { f(); close(done) }:
		<-done
	case <-o.ended:
		f() // nobody changes the core any more, and f only reads
	}
}

// post gives the owner an input without waiting. What finds no room is dropped: every input is a hint that will come again.
func (o *Overlay) post(in pastry.Input) {
	select {
	case o.inputs <- in:
	default:
		o.dropped.Add(1)
	}
}

// Message takes one message from the transport.
func (o *Overlay) Message(from pastry.NodeHandle, message []byte) {
	in := &pastry.Received{From: from}
	if err := wire.Decode(message, &in.Message); err != nil {
		o.badly.Add(1)
		o.log.Debug("message refused", zap.Stringer("nodeId", from.ID), zap.Error(err))
		return
	}
	o.post(in)
}

// Stream takes one stream from the transport.
func (o *Overlay) Stream(ctx context.Context, from wire.Peer, s wire.Service, st wire.Stream) {
	h := o.handlers[s]
	if h == nil {
		o.log.Debug("stream for an unknown service", zap.Stringer("nodeId", from.Handle.ID), zap.Uint8("service", uint8(s)))
		st.Cancel()
		return
	}
	h(ctx, from, st)
}

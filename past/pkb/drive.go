package pkb

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// Stats counts what proposers met, since start.
type Stats struct {
	Reads, Writes, Retries, Hedges, BadProofs, Undecided atomic.Int64
}

// Stats returns the live counters.
func (r *Registers) Stats() *Stats { return &r.stats }

// drive runs one register.Operation: it owns the operation, turns its sends into requests and their answers into inputs.
type drive struct {
	r      *Registers
	ctx    context.Context
	rt     *route
	op     *register.Operation
	blind  bool        // the value may be sent out without a prepare
	asked  past.Ballot // of the newest prepare
	group  string
	epoch  uint64
	config *register.Configuration
	bound  *bound
	sum    struct { // the proof of the value that is being accepted
		ballot past.Ballot
		proof  []byte
	}
	inputs chan register.Input // answers; senders give up when done is closed
	done   chan struct{}
	hedge  <-chan time.Time
	retry  <-chan time.Time
}

const (
	hedgeAfter   = 30 * time.Millisecond // before anything was measured
	backoffMin   = 2 * time.Millisecond
	backoffMax   = 500 * time.Millisecond
	operationMax = 20 * time.Second // where the caller sets no deadline
	closedMax    = time.Second      // for a bucket that is being deleted: it is back soon, or never
)

// run drives one operation to its end. Errors: what the request's Update refused with, past.ErrUnavailable, past.ErrUnknown, and
// past.ErrDamaged if too many members lost what they kept of the group.
func (r *Registers) run(ctx context.Context, bucket past.BucketID, group string, req register.Request) (*register.Result, error) {
	rt, err := r.route(bucket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, operationMax)
	defer cancel()
	setBodyHashes(req.Blind)
	if update := req.Update; update != nil {
		req.Update = func(cur register.Value) (register.Value, error) {
			next, err := update(cur)
			if err == nil {
				setBodyHashes(next)
			}
			return next, err
		}
	}
	_, _ = rand.Read(req.ID[:])
	bound := r.bind(&req)
	if req.Op == register.OpRead {
		r.stats.Reads.Add(1)
	} else {
		r.stats.Writes.Add(1)
	}
	d := &drive{r: r, ctx: ctx, rt: rt, group: group, blind: req.Op == register.OpBlind, bound: bound, inputs: make(chan register.Input, 4*register.MembersMax), done: make(chan struct{})}
	defer close(d.done)
	d.op = register.NewOperation(req, r.proposer, r.counter)
	return d.run()
}

func (d *drive) run() (*register.Result, error) {
	var out register.Outbox
	begin := time.Now()
	d.op.Start(d.quorum(), &out)
	for {
		if d.bound.passed(out.Sends) {
			out = register.Outbox{}
			d.op.Step(register.GiveUp{}, &out)
		}
		if res := d.carryOut(&out); res != nil {
			if errors.Is(res.Err, past.ErrUnknown) {
				d.r.stats.Undecided.Add(1)
			}
			if errors.Is(res.Err, past.ErrUnavailable) && d.config.Closed {
				res.Err = fmt.Errorf("past/pkb: partition %v: %w", d.config.Partition, past.ErrClosed)
			}
			if errors.Is(res.Err, past.ErrDamaged) {
				res.Err = fmt.Errorf("past/pkb: partition %v: majority of members: %w", d.config.Partition, res.Err)
			}
			return res, res.Err
		}
		out = register.Outbox{}
		select {
		case in := <-d.inputs:
			d.op.Step(in, &out)
		case <-d.hedge:
			d.hedge = nil
			d.r.stats.Hedges.Add(1)
			d.op.Step(register.HedgeNow{}, &out)
		case <-d.retry:
			d.retry = nil
			if d.config.Closed && time.Since(begin) > closedMax { // by now everybody has said that he did nothing
				d.op.Step(register.GiveUp{}, &out)
			} else {
				d.op.Step(register.RetryNow{}, &out)
			}
		case <-d.ctx.Done():
			d.op.Step(register.GiveUp{}, &out)
		}
		// A newer configuration, learnt from an answer, restarts the attempt there.
		if _, c := d.rt.current(); out.Done == nil && c.Epoch > d.epoch {
			out = register.Outbox{}
			d.op.Step(register.Moved{Quorum: d.quorum()}, &out)
		}
	}
}

// quorum takes the route's newest configuration as the one to work with.
func (d *drive) quorum() register.Quorum {
	_, d.config = d.rt.current()
	d.epoch = d.config.Epoch
	return register.Quorum{Epoch: d.epoch, Members: len(d.config.Members), Nearest: d.r.nearest(d.config)}
}

// nearest orders the members by round-trip time, those that seem dead last.
func (r *Registers) nearest(c *register.Configuration) []int {
	ring := r.cfg.Peers.Ring()
	cost := make([]time.Duration, len(c.Members))
	order := make([]int, len(c.Members))
	for i, m := range c.Members {
		order[i], cost[i] = i, ring.RTT(m.Node)
		if !ring.Reachable(m.Node) {
			cost[i] += time.Hour
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(cost[a] - cost[b]) })
	return order
}

func (d *drive) carryOut(out *register.Outbox) *register.Result {
	for _, s := range out.Sends {
		if p, ok := s.Message.(register.PrepareAsk); ok {
			d.asked = p.Ballot
		}
		blind := false
		if a, ok := s.Message.(register.Accept); ok {
			blind = d.blind && a.Ballot != d.asked
			a.Proof = d.proof(a)
			s.Message = a
		}
		node := d.config.Members[s.To].Node
		if len(d.config.Members) == 1 && node == d.r.cfg.Peers.Ring().Self() {
			d.ask(d.epoch, d.config.Partition, node, s, blind) // nobody else could answer meanwhile
			continue
		}
		go d.ask(d.epoch, d.config.Partition, node, s, blind)
	}
	if !out.Chosen.IsZero() && out.Done != nil && !isLive(out.Done.Value) {
		d.r.tellChosen(d.config, d.group, out.Chosen)
	}
	if out.Hedge {
		d.hedge = time.After(hedgeAfter)
	}
	if out.Wait > 0 {
		d.r.stats.Retries.Add(1)
		d.retry = time.After(backoff(out.Wait))
	}
	return out.Done
}

// backoff is a random pause that doubles with each attempt, up to backoffMax.
func backoff(attempt int) time.Duration {
	most := min(backoffMin<<min(attempt, 16), backoffMax)
	return backoffMin/2 + time.Duration(mathrand.Int64N(int64(most)))
}

// proof proves the value at the ballot; all members get the same one.
func (d *drive) proof(a register.Accept) []byte {
	if d.r.cfg.Keys == nil || d.rt.key == nil {
		return nil // no gateway: members refuse it
	}
	if d.sum.proof == nil || d.sum.ballot != a.Ballot {
		d.sum.ballot = a.Ballot
		d.sum.proof = prove(d.rt.key, d.r.cfg.Keys.MACKey(), digest(d.config.Partition, d.group, a.Ballot, a.Value))
	}
	return d.sum.proof
}

// ask sends one message to one member and feeds the answer back. It runs on a goroutine of its own, unless this node is the only
// member, and ends with the request, which does not end with the operation: what a majority accepted, the others should have too.
func (d *drive) ask(epoch uint64, partition register.PartitionID, node pastry.NodeID, s register.Send, blind bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), callTimeout)
	defer cancel()
	in := d.r.request(ctx, d.rt, scope{partition, epoch}, node, d.group, s, blind)
	select {
	case d.inputs <- in:
	case <-d.done:
	}
}

// request is one message of an operation to one member. Whatever is wrong with the answer becomes a Failed.
func (r *Registers) request(ctx context.Context, rt *route, sc scope, node pastry.NodeID, group string, s register.Send, blind bool) register.Input {
	var st standing
	var in register.Input
	failed := register.Failed{From: s.To}
	var err error
	switch ask := s.Message.(type) {
	case register.ReadAsk:
		failed.Round = ask.Round
		var a readAnswer
		_, err = r.cfg.Peers.Do(ctx, node, rpc.Call{Kind: wire.KindRead, Body: readRequest{sc, group, ask.WithValue}}, &a)
		if err == nil && a.HasValue {
			err = r.checkValue(rt, node, group, a.Accepted, a.Value, a.Proof)
		}
		st, in = a.standing, register.ReadAnswer{From: s.To, Round: ask.Round, Accepted: a.Accepted, Chosen: a.Chosen, HasValue: a.HasValue, Value: a.Value}
	case register.PrepareAsk:
		failed.Ballot = ask.Ballot
		var a prepareAnswer
		_, err = r.cfg.Peers.Do(ctx, node, rpc.Call{Kind: wire.KindPrepare, Body: prepareRequest{sc, group, ask.Ballot}}, &a)
		if err == nil {
			err = r.checkValue(rt, node, group, a.Promise.Group.Accepted, a.Promise.Group.Value, a.Promise.Group.Proof)
		}
		st, in = a.standing, register.Promised{From: s.To, Promise: a.Promise}
		if a.Refused {
			in = register.Refused{From: s.To, Ballot: ask.Ballot, Promised: a.Promised}
		}
	case register.Accept:
		failed.Ballot = ask.Ballot
		var a acceptAnswer
		_, err = r.cfg.Peers.Do(ctx, node, rpc.Call{Kind: wire.KindAccept, Body: acceptRequest{sc, group, ask, blind}}, &a)
		st, in = a.standing, register.AcceptedBy{From: s.To, Ballot: ask.Ballot, Accepted: a.Accepted}
		if a.Refused {
			in = register.Refused{From: s.To, Ballot: ask.Ballot, Promised: a.Promised, Accept: true}
		}
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			r.cfg.Log.Debug("member failed", zap.Stringer("nodeId", node), zap.Stringer("partition", sc.Partition), zap.Error(err))
		}
		if failed.Damaged = errors.Is(err, past.ErrDamaged); failed.Damaged {
			return idle(s, failed)
		}
		return failed
	}
	if st.Status != register.StatusReady {
		r.catchUp(ctx, rt, node, &st)
		return idle(s, failed)
	}
	return in
}

// idle is failed, of a member that said that it did nothing about s.
func idle(s register.Send, failed register.Failed) register.Input {
	if failed.Ballot.IsZero() { // there is nothing to do for a read
		return failed
	}
	_, accept := s.Message.(register.Accept)
	return register.Declined{From: s.To, Ballot: failed.Ballot, Accept: accept, Damaged: failed.Damaged}
}

// checkValue checks what a member returned as proposed by a gateway. A member that fails it lies or rots. Nodes that are no
// gateways check the signature.
func (r *Registers) checkValue(rt *route, node pastry.NodeID, group string, b past.Ballot, v register.Value, proof []byte) error {
	if b.IsZero() && len(v.Entries) == 0 {
		return nil
	}
	l, _ := rt.current()
	sum := digest(l.Genesis.Partition, group, b, v)
	err := checkBodies(v)
	if err == nil && r.cfg.Keys != nil {
		err = checkMAC(r.cfg.Keys.MACKey(), sum, proof)
	} else if err == nil {
		err = checkSignature(l.Genesis.RecordKey, sum, proof)
	}
	if err != nil {
		r.stats.BadProofs.Add(1)
		r.cfg.Log.Warn("member returned a value without proof", zap.Stringer("nodeId", node), zap.Stringer("partition", l.Genesis.Partition))
	}
	return err
}

// catchUp levels what this gateway and a member that would not answer know of a partition.
func (r *Registers) catchUp(ctx context.Context, rt *route, node pastry.NodeID, st *standing) {
	if r.learn(rt, st.Lineage) || st.Status != register.StatusUnknown && st.Status != register.StatusNotActive {
		return
	}
	l, _ := rt.current()
	_, err := r.cfg.Peers.Do(ctx, node, rpc.Call{Kind: wire.KindGenesis, Body: fenceRequest{l}}, nil)
	if err != nil {
		r.cfg.Log.Debug("member not ready", zap.Stringer("nodeId", node), zap.Stringer("partition", l.Genesis.Partition), zap.Error(err))
	}
}

// --- chosen marks

type mark struct {
	config *register.Configuration
	mark   chosenMark
}

// tellChosen has the members told, soon, that a deletion is chosen, so that they can forget it. What gets lost costs little.
func (r *Registers) tellChosen(c *register.Configuration, group string, b past.Ballot) {
	select {
	case r.marks <- mark{c, chosenMark{Group: group, Ballot: b}}:
	default:
	}
}

const (
	marksEvery = 100 * time.Millisecond
	marksMax   = 512
)

// tellMarks sends collected marks until ctx ends.
func (r *Registers) tellMarks(ctx context.Context) {
	for {
		select {
		case <-time.After(marksEvery):
		case <-ctx.Done():
			return
		}
		batches := map[*register.Configuration][]chosenMark{}
	collect:
		for range marksMax {
			select {
			case m := <-r.marks:
				batches[m.config] = append(batches[m.config], m.mark)
			default:
				break collect
			}
		}
		for c, marks := range batches {
			for _, m := range c.Members {
				call, cancel := context.WithTimeout(ctx, callTimeout)
				_, _ = r.cfg.Peers.Do(call, m.Node, rpc.Call{Kind: wire.KindChosen, Body: chosenRequest{scope{c.Partition, c.Epoch}, marks}}, nil)
				cancel()
			}
		}
	}
}

func sameGenesis(a, b *register.Configuration) bool {
	return string(wire.Marshal(a)) == string(wire.Marshal(b))
}

func publicKey(key ed25519.PrivateKey) (out [32]byte) {
	copy(out[:], key.Public().(ed25519.PublicKey))
	return out
}

var errEmptyQuorum = fmt.Errorf("past/pkb: no candidate for a member: %w", past.ErrUnavailable)

func afterAttempt(attempt int) <-chan time.Time { return time.After(backoff(attempt)) }

package pkb

import (
	"cmp"
	"context"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

const (
	caretakeEvery = 3 * time.Second
	caretakeMax   = 20 * time.Second // for one partition
)

// Run tells members of chosen deletions and looks after the partitions until ctx ends. Gateways share the partitions among
// them by placement; where two believe a partition theirs, the Synod lets one succession win.
func (r *Registers) Run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { r.tellMarks(ctx) })
	c := &caretaker{r: r, missing: map[register.MemberID]time.Time{}, forgotten: map[register.PartitionID]uint64{}, waiting: map[register.PartitionID]waiting{}}
	work.Go(func() { c.run(ctx) })
	work.Wait()
}

// caretaker keeps each partition's configuration what it should be. Owned by run.
type caretaker struct {
	r         *Registers
	missing   map[register.MemberID]time.Time // members that do not answer, since when
	forgotten map[register.PartitionID]uint64 // the epoch up to which old members were told to forget
	waiting   map[register.PartitionID]waiting
}

// waiting is a change that waits for those who copy ahead.
type waiting struct {
	epoch uint64
	since time.Time
}

func (c *caretaker) run(ctx context.Context) {
	every := cmp.Or(c.r.cfg.CaretakeEvery, caretakeEvery)
	for {
		select {
		case <-time.After(every/2 + time.Duration(mathrand.Int64N(int64(every)))):
		case <-ctx.Done():
			return
		}
		lineages, err := c.r.Lineages(ctx)
		if err != nil { // the system partition itself may be what needs care
			rt, _ := c.r.route(past.SystemBucket)
			system, _ := rt.current()
			lineages = []register.Lineage{system}
		}
		for i := range lineages {
			if ctx.Err() != nil {
				return
			}
			c.tend(ctx, &lineages[i])
		}
	}
}

// mine reports whether this gateway looks after the partition: it is the first by placement among the live gateways that
// are known. That saves effort; nothing depends on it.
func (c *caretaker) mine(id register.PartitionID) bool {
	gateways := c.r.cfg.Directory.Gateways()
	self := c.r.cfg.Peers.Ring().Self()
	if !slices.ContainsFunc(gateways, func(g past.Candidate) bool { return g.ID == self }) {
		return true
	}
	first := past.Place(pastry.Key(id), gateways, 1)
	return len(first) == 0 || first[0] == self
}

func (c *caretaker) tend(ctx context.Context, l *register.Lineage) {
	if !c.mine(l.Genesis.Partition) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, caretakeMax)
	defer cancel()
	rt := c.r.routeFor(l)
	lineage, now := rt.current()
	active, longer := c.survey(ctx, &lineage, now)
	if c.r.learn(rt, longer) {
		return // there is a newer configuration to look at
	}
	if lineage.Epoch() > l.Epoch() && active.Count() >= now.Quorum() { // whoever changed it did not live to write it down
		if err := c.r.saveLineage(ctx, rt); err != nil {
			c.r.cfg.Log.Debug("lineage not written", zap.Stringer("partition", now.Partition), zap.Error(err))
		}
	}
	switch {
	case active.Count() < now.Quorum():
		if len(lineage.Certificates) > 0 {
			if err := c.r.settle(ctx, rt); err != nil {
				c.r.cfg.Log.Debug("partition not settled", zap.Stringer("partition", now.Partition), zap.Error(err))
			}
		}
		return
	case active.Count() == len(now.Members) && len(lineage.Certificates) > 0 && c.forgotten[now.Partition] < now.Epoch:
		c.r.forget(ctx, &lineage, false)
		c.forgotten[now.Partition] = now.Epoch
	}
	want, ok := c.want(ctx, now, active)
	if !ok {
		return
	}
	if !c.r.copyAhead(ctx, rt, &want) && c.patient(now) {
		return
	}
	if err := c.r.change(ctx, rt, want); err != nil && !errors.Is(err, errMoved) {
		c.r.cfg.Log.Warn("partition not changed", zap.Stringer("partition", now.Partition), zap.Error(err))
	}
}

// patient reports whether a change of now may go on waiting for those who copy ahead.
func (c *caretaker) patient(now *register.Configuration) bool {
	w, ok := c.waiting[now.Partition]
	if !ok || w.epoch != now.Epoch {
		w = waiting{now.Epoch, c.r.cfg.Now()}
		c.waiting[now.Partition] = w
	}
	return c.r.cfg.Now().Sub(w.since) < aheadPatience
}

// survey asks each member how far it is and returns how many are active; it notes who does not answer, and tells those who are
// behind what they need to go on. A lineage that goes beyond l is returned too.
func (c *caretaker) survey(ctx context.Context, l *register.Lineage, now *register.Configuration) (active register.Members, longer *register.Lineage) {
	for i, m := range now.Members {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		var a lineageAnswer
		_, err := c.r.cfg.Peers.Do(call, m.Node, rpc.Call{Kind: wire.KindLineage, Body: lineageRequest{now.Partition, l}}, &a)
		if err == nil && !a.Known {
			_, err = c.r.cfg.Peers.Do(call, m.Node, rpc.Call{Kind: wire.KindGenesis, Body: fenceRequest{*l}}, nil)
		}
		cancel()
		if _, missing := c.missing[m]; err == nil {
			delete(c.missing, m)
		} else if !missing {
			c.missing[m] = c.r.cfg.Now()
		}
		if a.Active && a.Epoch == now.Epoch {
			active |= 1 << i
		}
		if a.Known && a.Lineage.Epoch() > now.Epoch {
			longer = &a.Lineage
		}
	}
	return active, longer
}

// want returns the configuration that should come next, and whether there is one: members that are gone for long, or whose disk is
// another one now, are replaced; k grows with the ring; it shrinks only with members that nobody can replace. While a member that is
// to stay has not pulled yet, nothing is changed: the next fence needs a majority of members that have.
func (c *caretaker) want(ctx context.Context, now *register.Configuration, active register.Members) (register.Configuration, bool) {
	var keep []register.MemberID
	gone := 0
	for i, m := range now.Members {
		present, known := c.r.cfg.Directory.Member(m.Node)
		since, missing := c.missing[m]
		if known && present != m || missing && c.r.cfg.Now().Sub(since) > c.r.cfg.ReplaceAfter {
			gone++
			continue
		}
		if active&(1<<i) == 0 {
			return register.Configuration{}, false
		}
		keep = append(keep, m)
	}
	k := MembersFor(c.r.cfg.Directory.Storage())
	if gone == 0 && k <= len(now.Members) {
		return register.Configuration{}, false
	}
	members, err := c.r.choose(ctx, now.Partition, keep, max(k, min(len(now.Members), len(keep)+gone)))
	if err != nil {
		return register.Configuration{}, false
	}
	if len(members)%2 == 0 {
		members = members[:len(members)-1]
	}
	if gone == 0 && len(members) <= len(now.Members) {
		return register.Configuration{}, false
	}
	want := *now
	want.Members = members
	return want, true
}

// routeFor returns the route of an open bucket's partition, or one that serves to look after it.
func (r *Registers) routeFor(l *register.Lineage) *route {
	if rt, err := r.route(l.Genesis.Bucket); err == nil {
		r.learn(rt, l)
		return rt
	}
	return newRoute(*l, nil)
}

// Tell gives Registers a lineage that another node knows, and returns the newest that is known here.
func (r *Registers) Tell(bucket past.BucketID, l *register.Lineage) (register.Lineage, error) {
	rt, err := r.route(bucket)
	if err != nil {
		return register.Lineage{}, err
	}
	r.learn(rt, l)
	newest, _ := rt.current()
	return newest, nil
}

// PartitionState is what is known of a partition's members at the moment.
type PartitionState struct {
	Lineage register.Lineage
	Active  []bool // by place in the newest configuration
}

// Survey asks every member of every partition how far it is, for operators.
func (r *Registers) Survey(ctx context.Context) ([]PartitionState, error) {
	lineages, err := r.Lineages(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]PartitionState, len(lineages))
	var asked sync.WaitGroup
	slots := make(chan struct{}, surveyMax)
	for i := range lineages {
		lineage, now := r.routeFor(&lineages[i]).current() // what is written may be older
		out[i] = PartitionState{Lineage: lineage, Active: make([]bool, len(now.Members))}
		for j, m := range now.Members {
			slots <- struct{}{}
			asked.Go(func() {
				defer func() { <-slots }()
				call, cancel := context.WithTimeout(ctx, callTimeout)
				defer cancel()
				var a lineageAnswer
				_, err := r.cfg.Peers.Do(call, m.Node, rpc.Call{Kind: wire.KindLineage, Body: lineageRequest{Partition: now.Partition}}, &a)
				out[i].Active[j] = err == nil && a.Active && a.Epoch == now.Epoch
			})
		}
	}
	asked.Wait()
	return out, nil
}

// surveyMax is how many members a survey asks at once.
const surveyMax = 64

// GenesisCheck is the linearizable read that a member makes before it begins a partition (Members).
func (r *Registers) GenesisCheck(ctx context.Context, l *register.Lineage) (bool, error) {
	if l.Genesis.Partition == register.System {
		rt, err := r.route(past.SystemBucket)
		if err != nil {
			return false, err
		}
		if known, _ := rt.current(); !sameGenesis(&known.Genesis, &l.Genesis) {
			return false, register.ErrLineage
		}
		return false, nil // its genesis was begun when the realm was founded
	}
	written, err := r.readLineage(ctx, l.Genesis.Partition)
	if err != nil {
		return false, err
	}
	if !sameGenesis(&written.Genesis, &l.Genesis) {
		return false, register.ErrLineage
	}
	return written.Epoch() == l.Genesis.Epoch, nil
}

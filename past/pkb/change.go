package pkb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// change brings a partition from its newest configuration to want, or to whatever its members choose instead, and returns when a
// majority of the new members is active. Any gateway may do it, several at once.
func (r *Registers) change(ctx context.Context, rt *route, want register.Configuration) error {
	lineage, from := rt.current()
	want.Epoch = from.Epoch + 1
	c := register.NewChange(*from, register.Succession{Partition: from.Partition, Epoch: from.Epoch, Next: []register.Configuration{want}}, r.proposer, r.counter)
	begin := r.cfg.Now()
	d := &changeDrive{r: r, ctx: ctx, rt: rt, lineage: lineage, from: from, inputs: make(chan any, 64)}
	if err := d.run(c); err != nil {
		return fmt.Errorf("past/pkb: change partition %v after epoch %d: %w", from.Partition, from.Epoch, err)
	}
	_, now := rt.current()
	r.cfg.Log.Info("partition changed", zap.Stringer("partition", from.Partition), zap.Uint64("epoch", now.Epoch), zap.Int("k", len(now.Members)), zap.Duration("took", r.cfg.Now().Sub(begin)))
	return r.saveLineage(ctx, rt)
}

// changeDrive runs one register.Change against live members.
type changeDrive struct {
	r       *Registers
	ctx     context.Context
	rt      *route
	lineage register.Lineage // up to from; with the certificate once that is chosen
	from    *register.Configuration
	inputs  chan any // answers; senders give up when ctx ends
}

// errMoved says that the partition has left the configuration that a change started from.
var errMoved = errors.New("the partition has moved on")

func (d *changeDrive) run(c *register.Change) error {
	var out register.ChangeOutbox
	c.Start(&out)
	for {
		if out.Chosen != nil {
			d.lineage = d.lineage.Extend(*out.Chosen)
			longer := d.lineage
			d.r.learn(d.rt, &longer)
		}
		for _, s := range out.Sends {
			go d.ask(s, d.lineage)
		}
		if out.Done {
			return nil
		}
		var again <-chan time.Time
		if out.Wait > 0 {
			again = time.After(20*time.Millisecond + backoff(out.Wait))
		}
		wait := out.Wait
		out = register.ChangeOutbox{}
	collect:
		for {
			select {
			case in := <-d.inputs:
				if in == errMoved {
					return errMoved
				}
				c.Step(in, &out)
				if out.Done || out.Chosen != nil || len(out.Sends) > 0 || out.Wait > 0 {
					break collect
				}
			case <-again:
				c.Start(&out)
				break collect
			case <-d.ctx.Done():
				return fmt.Errorf("%w: %w", past.ErrUnavailable, d.ctx.Err())
			}
		}
		if out.Wait == 0 && len(out.Sends) == 0 && !out.Done && wait > 0 {
			out.Wait = wait
		}
	}
}

func (d *changeDrive) ask(s register.ChangeSend, l register.Lineage) {
	ctx, cancel := context.WithTimeout(d.ctx, 2*callTimeout)
	defer cancel()
	if in := d.request(ctx, s, l); in != nil {
		select {
		case d.inputs <- in:
		case <-d.ctx.Done():
		}
	}
}

// request is one message of a change to one member, as an input; nil where silence says as much.
func (d *changeDrive) request(ctx context.Context, s register.ChangeSend, l register.Lineage) any {
	switch ask := s.Message.(type) {
	case register.SlotAsk:
		var a slotAnswer
		_, err := d.r.cfg.Peers.Do(ctx, d.from.Members[s.To].Node, rpc.Call{Kind: wire.KindSlot, Body: slotRequest{l, ask.Ballot}}, &a)
		switch {
		case err != nil:
			return register.SlotFailed{From: s.To, Ballot: ask.Ballot}
		case d.r.learn(d.rt, a.Lineage):
			return errMoved
		case a.Refused:
			return register.SlotRefused{From: s.To, Ballot: ask.Ballot, Promised: a.Slot.Promised}
		}
		return register.SlotPromised{From: s.To, Ballot: ask.Ballot, Slot: a.Slot}
	case register.VoteAsk:
		var a slotAnswer
		_, err := d.r.cfg.Peers.Do(ctx, d.from.Members[s.To].Node, rpc.Call{Kind: wire.KindVote, Body: voteRequest{l, ask.Ballot, ask.Next}}, &a)
		switch {
		case err != nil:
			return register.SlotFailed{From: s.To, Ballot: ask.Ballot}
		case d.r.learn(d.rt, a.Lineage):
			return errMoved
		case a.Refused:
			return register.SlotRefused{From: s.To, Ballot: ask.Ballot, Promised: a.Slot.Promised}
		case d.r.cfg.Self.Verify(d.from.Members[s.To], register.VoteMessage(&ask.Next, ask.Ballot), a.Signature) != nil:
			return register.SlotFailed{From: s.To, Ballot: ask.Ballot}
		}
		return register.Voted{From: s.To, Ballot: ask.Ballot, Signature: a.Signature}
	case register.FenceAsk:
		var a fenceAnswer
		_, err := d.r.cfg.Peers.Do(ctx, d.from.Members[s.To].Node, rpc.Call{Kind: wire.KindFence, Body: fenceRequest{l}}, &a)
		if err == nil && a.Done {
			return register.FencedBy{From: s.To}
		}
	case register.EnterAsk:
		var a fenceAnswer
		node := ask.Certificate.Succession.Next[s.Successor].Members[s.To].Node
		_, err := d.r.cfg.Peers.Do(ctx, node, rpc.Call{Kind: wire.KindEnter, Body: fenceRequest{l}}, &a)
		if err == nil && a.Done {
			return register.EnteredBy{Successor: s.Successor, From: s.To}
		}
	}
	return nil
}

// --- where partitions are written down

// lineageRegister is the record of the system partition that holds a partition's newest lineage, in clear: storage nodes read it to
// check a genesis.
func lineageRegister(id register.PartitionID) past.Register {
	return past.Register{Bucket: past.SystemBucket, Space: past.SpaceHead, Key: "partition/" + id.String()}
}

func lineageRecord(l *register.Lineage) past.Record {
	return past.Record{Kind: past.Live, Value: wire.Marshal(l)}
}

// errNewer ends an update that would write an older lineage.
var errNewer = errors.New("past/pkb: a newer lineage is written")

// saveLineage writes the route's lineage into the system partition. The system partition's own travels by word of mouth.
func (r *Registers) saveLineage(ctx context.Context, rt *route) error {
	l, c := rt.current()
	if c.Partition == register.System {
		return nil
	}
	_, err := r.Update(ctx, lineageRegister(c.Partition), func(cur past.Record) (past.Record, error) {
		var have register.Lineage
		if cur.Exists() && wire.Unmarshal(cur.Value, &have) == nil && have.Epoch() >= l.Epoch() {
			return past.Record{}, errNewer
		}
		return lineageRecord(&l), nil
	})
	if errors.Is(err, errNewer) {
		return nil
	}
	return err
}

// readLineage returns what the system partition says of a partition.
func (r *Registers) readLineage(ctx context.Context, id register.PartitionID) (register.Lineage, error) {
	rec, err := r.Read(ctx, lineageRegister(id))
	if err != nil {
		return register.Lineage{}, err
	}
	if !rec.Exists() {
		return register.Lineage{}, fmt.Errorf("past/pkb: partition %v: %w", id, past.ErrNotFound)
	}
	var l register.Lineage
	return l, wire.Unmarshal(rec.Value, &l)
}

// Lineages returns the newest lineage of every partition, the system partition's first.
func (r *Registers) Lineages(ctx context.Context) ([]register.Lineage, error) {
	rt, err := r.route(past.SystemBucket)
	if err != nil {
		return nil, err
	}
	system, _ := rt.current()
	out := []register.Lineage{system}
	q := past.ScanQuery{Bucket: past.SystemBucket, Space: past.SpaceHead, Prefix: "partition/", Max: 1000}
	for {
		page, err := r.Scan(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			var l register.Lineage
			if err := wire.Unmarshal(e.Record.Value, &l); err != nil {
				return nil, fmt.Errorf("past/pkb: %s: %w", e.Key, err)
			}
			out = append(out, l)
			q.After = e.Key
		}
		if !page.Truncated {
			return out, nil
		}
	}
}

// --- which members a partition should have

// MembersFor is k: how many members a partition has with so many storage nodes (design.md §5).
func MembersFor(storageNodes int) int {
	switch {
	case storageNodes < 3:
		return 1
	case storageNodes < 5:
		return 3
	}
	return 5
}

// choose returns up to k members for a partition: those to keep first, then by placement.
func (r *Registers) choose(ctx context.Context, id register.PartitionID, keep []register.MemberID, k int) ([]register.MemberID, error) {
	candidates, err := r.cfg.Peers.Ring().Around(ctx, pastry.Key(id))
	if err != nil {
		return nil, err
	}
	members := slices.Clone(keep)
	for _, node := range past.Place(pastry.Key(id), candidates, len(candidates)) {
		if len(members) >= k {
			break
		}
		taken := slices.ContainsFunc(members, func(m register.MemberID) bool { return m.Node == node })
		if m, ok := r.cfg.Directory.Member(node); ok && m.Node == node && !taken {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return nil, errEmptyQuorum
	}
	return members, nil
}

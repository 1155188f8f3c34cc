package chb

import (
	"context"
	"sync"
	"time"

	"larder/past"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"

	"go.uber.org/zap"
)

// reclaimsMax bounds the stripes that wait to be reclaimed, and requests that are tried again; an audit finds those beyond it.
const reclaimsMax = 1 << 18

// reclaimPauses are the times between tries of one request.
var reclaimPauses = []time.Duration{time.Second, 4 * time.Second, 15 * time.Second, time.Minute}

// reclaimQueue holds dead blocks until their nodes are told. Filled by Reclaim, emptied by runReclaim.
type reclaimQueue struct {
	mu      sync.Mutex
	ids     []past.BlockID
	again   []trashOrder
	dropped int64         // since start
	wake    chan struct{} // capacity 1: Reclaim → runReclaim; a full one says enough
}

// trashOrder is one Trash request that is due at a time.
type trashOrder struct {
	node pastry.NodeID
	ids  []past.BlockID
	due  time.Time
	try  int
}

// Reclaim moves the fragments of stripes to trash, in the background and as far as nodes can be reached. They stay readable by id for 24 h
// (1 h on a disk that is nearly full). The caller inserts none of these stripes again.
func (b *Blocks) Reclaim(refs ...past.StripeRef) {
	q := &b.reclaims
	q.mu.Lock()
	for _, ref := range refs {
		if len(q.ids) >= reclaimsMax {
			q.dropped++
			continue
		}
		q.ids = append(q.ids, ref.ID)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// runReclaim tells nodes what is dead. When ctx ends it makes one last short try.
func (b *Blocks) runReclaim(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for b.reclaimSome(ctx) {
		}
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupPatience)
			defer cancel()
			for last.Err() == nil && b.reclaimSome(last) {
			}
			return
		}
		timer.Reset(b.reclaims.nextDue(b.cfg.Now()))
		select {
		case <-ctx.Done():
		case <-b.reclaims.wake:
		case <-timer.C:
		}
	}
}

func (q *reclaimQueue) nextDue(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := time.Hour
	for _, o := range q.again {
		next = min(next, max(0, o.due.Sub(now)))
	}
	return next
}

// take returns the next blocks and the orders that are due.
func (q *reclaimQueue) take(now time.Time) (ids []past.BlockID, due []trashOrder) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(askMax, len(q.ids))
	ids = append(ids, q.ids[:n]...)
	if q.ids = q.ids[n:]; len(q.ids) == 0 {
		q.ids = nil
	}
	kept := q.again[:0]
	for _, o := range q.again {
		if len(due) < 256 && !o.due.After(now) {
			due = append(due, o)
		} else {
			kept = append(kept, o)
		}
	}
	q.again = kept
	return ids, due
}

// reclaimSome sends one round of requests and reports whether there was anything to send.
func (b *Blocks) reclaimSome(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	ids, orders := b.reclaims.take(b.cfg.Now())
	byNode := map[pastry.NodeID][]past.BlockID{}
	for _, id := range ids {
		c, err := b.around(ctx, id.Key())
		if err != nil {
			b.reclaims.drop(1)
			continue
		}
		for _, node := range c.all() {
			byNode[node] = append(byNode[node], id)
		}
	}
	for node, ids := range byNode {
		orders = append(orders, trashOrder{node: node, ids: ids})
	}
	var all sync.WaitGroup
	for _, o := range orders {
		all.Go(func() { b.sendTrash(ctx, o) })
	}
	all.Wait()
	return len(orders) > 0
}

func (q *reclaimQueue) drop(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped += int64(n)
}

func (b *Blocks) sendTrash(ctx context.Context, o trashOrder) {
	ctx, cancel := context.WithTimeout(ctx, statPatience)
	defer cancel()
	_, err := b.ask(ctx, o.node, rpc.Call{Kind: wire.KindFragmentTrash, Body: trashRequest{IDs: packIDs(o.ids), Reason: trashReclaimed}}, nil)
	if err == nil {
		return
	}
	q := &b.reclaims
	q.mu.Lock()
	defer q.mu.Unlock()
	if o.try == len(reclaimPauses) || len(q.again) >= reclaimsMax/askMax {
		q.dropped += int64(len(o.ids))
		b.log.Warn("reclaim given up", zap.Stringer("nodeId", o.node), zap.Int("blocks", len(o.ids)), zap.Error(err))
		return
	}
	o.due = b.cfg.Now().Add(reclaimPauses[o.try])
	o.try++
	q.again = append(q.again, o)
}

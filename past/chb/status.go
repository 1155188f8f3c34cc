package chb

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"larder/pastry"
)

// Status is what this node knows of its blocks. Counts that a ring's nodes sum up count each block once, at its first live holder.
type Status struct {
	Fragments, LiveBytes, TrashBytes, FreeBytes, CapacityBytes int64 // of this node's store

	// Debts counts fragments that headers name and nobody has, those beyond the number of nodes included: as of the last pass.
	Debts int
	// Missing counts fragments that should be somewhere, are nowhere, and are being worked on; Troubles the blocks that are not as
	// they should be, for lack of fragments or because some lie in the wrong place.
	Missing, Troubles int
	// PassDone of PassTotal fragments were looked at in the pass that runs, or in the last one; Passes have ended since start.
	PassDone, PassTotal, Passes int
	// Whole: a pass over all fragments found nothing to do, and the membership has not changed since. WholeSince is when.
	Whole      bool
	WholeSince time.Time

	CorruptFound int64 // own fragments found corrupt since start
	CorruptNow   int   // of those, such as could not be mended yet
	Mended       int64
	Scrubbed     time.Time // end of the last scrub; zero before it

	Moved, Rebuilt, Restored, Surplus, Stragglers int64 // what repair did since start, in fragments; Stragglers in blocks
	Inserts, Diverted, Lookups, Hedged, Examined  int64
	Refused                                       int64 // fragments that did not prove themselves
	ReclaimsQueued, ReclaimsDropped               int64
	LiedBy                                        map[pastry.NodeID]int64 // bad answers since start
}

// counters are what Status reports, since start.
type counters struct {
	inserts, diverted, lookups, hedged, examined, refused           atomic.Int64
	moved, rebuilt, restored, surplus, stragglers, mended, scrubbed atomic.Int64
	repairPace                                                      limiter

	mu     sync.Mutex
	liedBy map[pastry.NodeID]int64
}

// liarsMax bounds liedBy.
const liarsMax = 4096

func (c *counters) lied(node pastry.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.liedBy[node]; ok || len(c.liedBy) < liarsMax {
		c.liedBy[node]++
	}
}

// Status returns the state of this node's blocks. It costs no disk access.
func (b *Blocks) Status() Status {
	c := &b.stats
	s := Status{
		Mended: c.mended.Load(), Moved: c.moved.Load(), Rebuilt: c.rebuilt.Load(), Restored: c.restored.Load(), Surplus: c.surplus.Load(),
		Stragglers: c.stragglers.Load(), Inserts: c.inserts.Load(), Diverted: c.diverted.Load(), Lookups: c.lookups.Load(),
		Hedged: c.hedged.Load(), Examined: c.examined.Load(), Refused: c.refused.Load(),
	}
	if at := c.scrubbed.Load(); at != 0 {
		s.Scrubbed = time.Unix(0, at)
	}
	c.mu.Lock()
	s.LiedBy = maps.Clone(c.liedBy)
	c.mu.Unlock()
	b.reclaims.mu.Lock()
	s.ReclaimsQueued, s.ReclaimsDropped = int64(len(b.reclaims.ids)), b.reclaims.dropped
	for _, o := range b.reclaims.again {
		s.ReclaimsQueued += int64(len(o.ids))
	}
	b.reclaims.mu.Unlock()
	if b.shelf == nil {
		s.Whole = true
		return s
	}
	u := b.shelf.store.Usage()
	s.Fragments, s.LiveBytes, s.TrashBytes, s.FreeBytes, s.CapacityBytes = u.Fragments, u.LiveBytes, u.TrashBytes, u.FreeBytes, u.CapacityBytes
	b.shelf.mu.Lock()
	s.CorruptFound, s.CorruptNow = b.shelf.found, len(b.shelf.corrupt)
	b.shelf.mu.Unlock()
	b.repair.status(&s)
	s.Whole = s.Whole && s.CorruptNow == 0
	return s
}

func (r *repairer) status(s *Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Debts, s.Troubles, s.Passes = r.debts, len(r.troubles), r.passes
	s.PassDone, s.PassTotal = r.done, max(r.total, r.done)
	for _, t := range r.troubles {
		s.Missing += t.missing
	}
	s.Whole = r.clean == r.generation && len(r.troubles) == 0 && len(r.hints) == 0
	if s.Whole {
		s.WholeSince = r.wholeSince
	}
}

package objects

import (
	"bytes"
	"context"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"larder/past"

	"go.uber.org/zap"
)

// The audit finds stripes that gateways left behind which ended in the middle of something, and reclaims them. docs/notes/audit.md says why
// it never reclaims one that a record refers to, or ever will: audit_judge.go decides, audit_ask.go finds out.

// Shelves are what storage nodes keep, as an audit sees it. past/node has one.
type Shelves interface {
	// Share returns the storage nodes that this gateway is to look through, and Mine whether it is to sweep a bucket: gateways share the
	// work among them. Where two take the same share, it is done twice.
	Share() []past.NodeID
	Mine(id past.BucketID) bool
	// List returns up to max live fragments that a node keeps, from a store key on; next is where the following page begins, nil after
	// the last one.
	List(ctx context.Context, node past.NodeID, from []byte, max int) (page []past.Kept, next []byte, err error)
	// KeptOf returns what all nodes that may hold fragments of a block keep of it, and fails if one does not answer.
	KeptOf(ctx context.Context, id past.BlockID) ([]past.Kept, error)
}

// auditAfter is how old a stripe must be to be judged, where Config does not say. A body has half of it to be stored and to become a record
// (5 GiB, S3's largest, at 62 kB/s); the other half is for clocks that differ.
const auditAfter = 48 * time.Hour

const (
	auditPage  = 256
	auditPause = 10 * time.Millisecond // after each stripe that something had to be asked about
	knownMax   = 1 << 15               // dataIDs that are remembered during a pass
)

// AuditStatus is what audits by this gateway found since its start. A fragment is counted in each pass.
type AuditStatus struct {
	Passes               int64
	PassBegan, PassEnded time.Time // of the newest; zero before it
	Fragments            int64     // looked at
	Referenced, Young    int64     // of those
	Undecided            int64     // of those, such as could not be judged then; Disputed, because nodes claim different things
	Disputed             int64
	Reclaimed            int64 // stripes that nothing referred to
	Unlisted             int64 // nodes that could not be looked through to the end
}

// AuditStatus returns what audits found.
func (s *Store) AuditStatus() AuditStatus {
	s.audited.mu.Lock()
	defer s.audited.mu.Unlock()
	return s.audited.AuditStatus
}

type auditCounts struct {
	mu sync.Mutex
	AuditStatus
}

// walkEvery is how many sweeps there are to a walk: with the grace of 48 h, one an hour, and a walk every six.
const walkEvery = 6

// Audit sweeps and audits until ctx ends. It is called once.
func (s *Store) Audit(ctx context.Context, shelves Shelves) {
	every := min(max(s.auditAfter/48, 100*time.Millisecond), time.Hour)
	for round := 0; ; round++ {
		timer := time.NewTimer(every/2 + mathrand.N(every))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if round%walkEvery == 0 {
			s.auditPass(ctx, shelves)
		} else {
			s.newAudit(shelves).sweep(ctx)
		}
	}
}

func (s *Store) newAudit(shelves Shelves) *audit {
	return &audit{s: s, shelves: shelves, known: map[past.DataID]known{}, gone: map[past.BucketID]bool{}}
}

// auditPass sweeps this gateway's share and looks through it once.
func (s *Store) auditPass(ctx context.Context, shelves Shelves) {
	a := s.newAudit(shelves)
	a.count(func(st *AuditStatus) { st.PassBegan = s.now() })
	before := s.AuditStatus()
	a.sweep(ctx)
	for _, node := range shelves.Share() {
		if err := a.walk(ctx, node); err != nil && ctx.Err() == nil {
			a.count(func(st *AuditStatus) { st.Unlisted++ })
			s.log.Warn("audit: node not looked through", zap.Stringer("nodeId", node), zap.Error(err))
		}
	}
	if ctx.Err() != nil {
		return
	}
	a.count(func(st *AuditStatus) { st.Passes++; st.PassEnded = s.now() })
	now := s.AuditStatus()
	s.log.Info("audit pass ended", zap.Int64("fragments", now.Fragments-before.Fragments), zap.Int64("young", now.Young-before.Young),
		zap.Int64("undecided", now.Undecided-before.Undecided), zap.Int64("reclaimed", now.Reclaimed-before.Reclaimed),
		zap.Duration("took", now.PassEnded.Sub(now.PassBegan)))
}

// audit is one pass. It belongs to one goroutine.
type audit struct {
	s       *Store
	shelves Shelves
	// names are the buckets as of listed, those being deleted included; gone are ids that no bucket will have again.
	names  map[past.BucketID]string
	listed time.Time
	gone   map[past.BucketID]bool
	known  map[past.DataID]known
}

// known is what a pass has found of a body: a record refers to it, or none did when its object key was fenced, nor ever will.
type known struct {
	refers bool
	fenced time.Time
}

func (a *audit) remember(id past.DataID, k known) {
	if len(a.known) >= knownMax {
		clear(a.known)
	}
	a.known[id] = k
}

func (a *audit) count(f func(st *AuditStatus)) {
	a.s.audited.mu.Lock()
	defer a.s.audited.mu.Unlock()
	f(&a.s.audited.AuditStatus)
}

// sweep ends what was left half done in this gateway's share of the buckets, so that their uploads and partitions come to an end.
func (a *audit) sweep(ctx context.Context) {
	if err := a.list(ctx); err != nil {
		a.s.log.Info("audit: buckets not listed", zap.Error(err))
		return
	}
	for id, name := range a.names {
		if ctx.Err() != nil || !a.shelves.Mine(id) {
			continue
		}
		if err := a.s.Sweep(ctx, name); err != nil {
			a.s.log.Info("bucket not swept to its end", zap.Stringer("bucket", id), zap.Error(err))
		}
	}
	if a.shelves.Mine(past.SystemBucket) && ctx.Err() == nil {
		if err := a.s.SweepSystem(ctx); err != nil {
			a.s.log.Info("deleted buckets not swept to their end", zap.Error(err))
		}
	}
}

// walk looks through all that a node keeps, from a random key on and round. So a walk that is cut off again and again, at whatever
// length, comes by everything in time, and nothing has to be remembered between starts.
func (a *audit) walk(ctx context.Context, node past.NodeID) error {
	id := random32()
	start := id[:]
	if err := a.stretch(ctx, node, start, nil); err != nil {
		return err
	}
	return a.stretch(ctx, node, nil, start)
}

// stretch looks through the fragments with store keys from from on and below end; nil is no end.
func (a *audit) stretch(ctx context.Context, node past.NodeID, from, end []byte) error {
	for {
		page, next, err := a.shelves.List(ctx, node, from, auditPage)
		if err != nil {
			return err
		}
		for i := range page {
			if end != nil && bytes.Compare(page[i].ID[:], end) >= 0 {
				return nil
			}
			if err := a.look(ctx, page[i]); err != nil {
				return err
			}
		}
		if next != nil && bytes.Compare(next, from) <= 0 {
			return errNoProgress
		}
		if next == nil || end != nil && bytes.Compare(next, end) >= 0 {
			return nil
		}
		from = next
	}
}

// errNoProgress is about a node that would have its list asked for without end.
var errNoProgress = errors.New("objects: a list of fragments does not advance")

// look judges one stripe by one of its fragments, and reclaims it if nothing refers to it. It fails when ctx ends.
func (a *audit) look(ctx context.Context, k past.Kept) error {
	v, asked := a.judge(ctx, k)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v == orphan {
		a.s.log.Debug("audit: stripe reclaimed", zap.Stringer("block", k.ID), zap.Stringer("bucket", k.Claim.Bucket), zap.Time("stored", k.Stored))
		a.s.past.Reclaim(past.StripeRef{ID: k.ID})
	}
	a.count(func(st *AuditStatus) {
		st.Fragments++
		switch v {
		case referenced:
			st.Referenced++
		case young:
			st.Young++
		case orphan:
			st.Reclaimed++
		default:
			st.Undecided++
		}
	})
	if !asked {
		return nil
	}
	timer := time.NewTimer(auditPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// judge finds out what it takes to judge a stripe, and whether that took more than memory.
func (a *audit) judge(ctx context.Context, k past.Kept) (v verdict, asked bool) {
	x := &suspect{kept: k}
	x.age, x.grace = a.s.now().Sub(k.Stored), a.s.auditAfter
	if v, _ := x.judge(); v != pending {
		return v, false
	}
	if a.known[k.Claim.Data].refers {
		return referenced, false
	}
	var err error
	if x.key, x.upload, err = a.s.openClaim(&k.Claim); err != nil {
		a.s.log.Warn("audit: claim cannot be read; its stripe is left alone", zap.Stringer("block", k.ID), zap.Error(err))
		return undecided, false
	}
	x.inUpload = x.upload != ""
	for {
		v, q := x.judge()
		if v != pending {
			return v, true
		}
		a.ask(ctx, q, x)
	}
}

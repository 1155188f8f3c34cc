package objects

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"larder/gateway"
	"larder/past"

	"go.uber.org/zap"
)

// openClaim is the inverse of claim: the object key and the upload, "" for none, that a stripe was written for.
func (s *Store) openClaim(c *past.Claim) (key, uploadID string, err error) {
	plain, err := s.sealer.Open(c.SealedKey, claimAD(c.Bucket, c.Data))
	if err != nil {
		return "", "", fmt.Errorf("objects: claim: %w", err)
	}
	if len(plain) < 2 || len(plain)-2 < int(binary.BigEndian.Uint16(plain)) {
		return "", "", errors.New("objects: claim: too short")
	}
	n := 2 + int(binary.BigEndian.Uint16(plain))
	key, uploadID = string(plain[2:n]), string(plain[n:])
	if _, ok := initiated(uploadID); uploadID != "" && !ok {
		return "", "", errors.New("objects: claim: no uploadID")
	}
	return key, uploadID, nil
}

// suspect is one stripe under audit.
type suspect struct {
	kept        past.Kept
	key, upload string
	bucket      *bucket // once it was asked for
	// what askHead found: the head's op, so that askFence knows whether it is the same head still.
	op [16]byte
	facts
}

// ask finds out one fact. What fails is unknown, and told in the log.
func (a *audit) ask(ctx context.Context, q question, x *suspect) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	var err error
	switch q {
	case askBucket:
		x.facts.bucket, err = a.askBucket(ctx, x)
	case askUpload:
		x.facts.upload, err = a.askUpload(ctx, x)
	case askHead:
		x.head, err = a.askHead(ctx, x)
	case askHolders:
		x.holders, err = a.askHolders(ctx, x)
	case askFence:
		x.fenced, err = a.askFence(ctx, x)
	}
	if err != nil && ctx.Err() == nil {
		a.s.log.Debug("audit: not to be known now", zap.Stringer("block", x.kept.ID), zap.Stringer("bucket", x.kept.Claim.Bucket), zap.Error(err))
	}
}

// askMax bounds one question.
const askMax = 30 * time.Second

func (a *audit) askBucket(ctx context.Context, x *suspect) (fact, error) {
	id := x.kept.Claim.Bucket
	if id == past.SystemBucket {
		return unknown, errors.New("objects: claim of the system partition")
	}
	if a.gone[id] {
		return no, nil
	}
	name, ok := a.names[id]
	if !ok && a.s.now().Sub(a.listed) > time.Minute {
		if err := a.list(ctx); err != nil {
			return unknown, err
		}
		name, ok = a.names[id]
	}
	if !ok {
		gone, err := a.s.past.Forgotten(ctx, id)
		if err != nil || !gone {
			return unknown, err
		}
		a.gone[id] = true
		a.s.log.Info("audit: stripes of a bucket that is gone are reclaimed", zap.Stringer("bucket", id))
		return no, nil
	}
	b, err := a.s.bucket(ctx, name)
	if err == nil && b.id != id || errors.Is(err, gateway.ErrNoSuchBucket) {
		a.listed = time.Time{} // deleted since, perhaps made anew under the same name
		return unknown, err
	}
	if err != nil {
		return unknown, err
	}
	x.bucket = b
	return yes, nil
}

// list reads which buckets there are.
func (a *audit) list(ctx context.Context) (err error) {
	at := a.s.now()
	if a.names, err = a.s.BucketNames(ctx); err != nil {
		a.names = nil
		return err
	}
	a.listed = at
	return nil
}

// askUpload: what belongs to an upload that is not at its end is wanted, whatever its parts say now: parts are put back, and an attempt to
// complete it may have read them (docs/notes/objects.md). One that is gone, or completed and cleaned up, never wants anything again.
func (a *audit) askUpload(ctx context.Context, x *suspect) (fact, error) {
	v, err := a.s.readUpload(ctx, upload{x.bucket, x.key, x.upload})
	if err != nil {
		return unknown, err
	}
	if v.State == stateGone || v.State == stateCompleted && v.Clean {
		return no, nil
	}
	return yes, nil
}

var errVersions = errors.New("objects: the audit does not know versions")

func (a *audit) askHead(ctx context.Context, x *suspect) (fact, error) {
	r := x.bucket.register(past.SpaceHead, x.key, "")
	rec, err := a.s.past.Read(ctx, r)
	if err != nil {
		return unknown, err
	}
	v, op, err := a.s.head(r, &rec)
	if err != nil {
		return unknown, err
	}
	x.op = op
	if v != nil {
		parts, err := a.s.parts(ctx, v)
		if err != nil {
			return unknown, err
		}
		wanted := v.dataIDs(parts)
		for id := range wanted {
			a.remember(id, known{refers: true})
		}
		if wanted[x.kept.Claim.Data] {
			return yes, nil
		}
	}
	// Nothing writes versions yet. Should something come to, the audit has to learn of them first.
	page, err := a.s.past.Scan(ctx, past.ScanQuery{Bucket: x.bucket.id, Space: past.SpaceVersion, Prefix: x.key, Max: 1})
	if err == nil && len(page.Entries) > 0 {
		err = errVersions
	}
	if err != nil {
		return unknown, err
	}
	return no, nil
}

// askHolders asks everybody who may hold fragments of the block, so that no single node can have a block reclaimed by lying about what it
// is for or how old it is.
func (a *audit) askHolders(ctx context.Context, x *suspect) (fact, error) {
	all, err := a.shelves.KeptOf(ctx, x.kept.ID)
	if err != nil {
		return unknown, err
	}
	for i := range all {
		c := &all[i].Claim
		if c.Bucket != x.kept.Claim.Bucket || c.Data != x.kept.Claim.Data {
			a.count(func(st *AuditStatus) { st.Disputed++ })
			a.s.log.Warn("audit: nodes claim different things of one block", zap.Stringer("block", x.kept.ID),
				zap.Stringer("nodeId", x.kept.Node), zap.Stringer("other", all[i].Node))
			return no, nil
		}
		x.age = min(x.age, a.s.now().Sub(all[i].Stored))
	}
	return yes, nil
}

// askFence writes the head of the object key again as it is, at a ballot above every one at which a record with these stripes may be
// proposed (Record.NotAfter). What some member has accepted and nobody knows of is dead from then on, as is what comes late.
func (a *audit) askFence(ctx context.Context, x *suspect) (fact, error) {
	if k, ok := a.known[x.kept.Claim.Data]; ok && !k.refers && !x.kept.Stored.Add(x.grace).After(k.fenced) {
		return yes, nil
	}
	at := a.s.now()
	r := x.bucket.register(past.SpaceHead, x.key, "")
	_, err := a.s.past.Update(ctx, r, func(cur past.Record) (past.Record, error) {
		_, op, err := a.s.head(r, &cur)
		switch {
		case err != nil:
			return cur, err
		case op != x.op:
			return cur, refusal{errMoved}
		case cur.Kind == past.Absent: // without an op, so that it is the same to a Complete that was decided on none
			return past.Record{Kind: past.Tombstone, Modified: at.UnixNano()}, nil
		}
		return cur, nil
	})
	switch {
	case errors.Is(err, errMoved):
		return no, nil
	case err != nil:
		return unknown, err
	}
	a.remember(x.kept.Claim.Data, known{fenced: at})
	a.s.log.Info("audit: nothing refers to a body; its stripes are reclaimed", zap.Stringer("bucket", x.bucket.id),
		zap.String("data", hex.EncodeToString(x.kept.Claim.Data[:])), zap.Time("stored", x.kept.Stored))
	return yes, nil
}

package pkb

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"

	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"

	"go.uber.org/zap"
)

// genesis is what a bucket's record keeps of its partition: enough for any gateway to find it and to write to it.
type genesis struct {
	Configuration register.Configuration `cbor:"1,keyasint"`
	SealedKey     []byte                 `cbor:"2,keyasint"` // the bucket's Ed25519 seed, sealed under the realm
}

func sealAD(id past.BucketID) []byte { return append([]byte("bucket key\x00"), id[:]...) }

// NewBucket prepares the first configuration of a new bucket's partition and writes it down (objects.Buckets).
func (r *Registers) NewBucket(ctx context.Context, id past.BucketID) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c := register.Configuration{Partition: register.PartitionID(id), Bucket: id, RecordKey: publicKey(key)}
	if c.Members, err = r.choose(ctx, c.Partition, nil, MembersFor(r.cfg.Directory.Storage())); err != nil {
		return nil, err
	}
	if len(c.Members)%2 == 0 { // fewer than asked for answered
		c.Members = c.Members[:len(c.Members)-1]
	}
	g := genesis{Configuration: c}
	if g.SealedKey, err = r.cfg.Keys.Seal(key.Seed(), sealAD(id)); err != nil {
		return nil, err
	}
	l := register.Lineage{Genesis: c}
	if _, err := r.Write(ctx, lineageRegister(c.Partition), lineageRecord(&l)); err != nil {
		return nil, fmt.Errorf("past/pkb: new bucket: %w", err)
	}
	return wire.Marshal(&g), nil
}

// OpenBucket makes a bucket's partition known here (objects.Buckets).
func (r *Registers) OpenBucket(ctx context.Context, id past.BucketID, _ past.Register, sealed []byte) error {
	if _, err := r.route(id); err == nil {
		return nil
	}
	var g genesis
	if err := wire.Unmarshal(sealed, &g); err != nil {
		return fmt.Errorf("past/pkb: open bucket %v: %w", id, err)
	}
	seed, err := r.cfg.Keys.Open(g.SealedKey, sealAD(id))
	if err != nil {
		return fmt.Errorf("past/pkb: open bucket %v: %w", id, err)
	}
	if len(seed) != ed25519.SeedSize || g.Configuration.Bucket != id {
		return fmt.Errorf("past/pkb: open bucket %v: genesis of another bucket", id)
	}
	rt := newRoute(register.Lineage{Genesis: g.Configuration}, ed25519.NewKeyFromSeed(seed))
	// Where the members have changed, the first ones may be gone. The system partition knows the newest.
	if l, err := r.readLineage(ctx, g.Configuration.Partition); err == nil {
		r.learn(rt, &l)
	} else if !errors.Is(err, past.ErrNotFound) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.routes[id] == nil {
		r.routes[id] = rt
	}
	return nil
}

// CloseBucket freezes the bucket by a configuration change and judges its emptiness on the frozen groups (objects.Buckets).
func (r *Registers) CloseBucket(ctx context.Context, id past.BucketID) (empty bool, err error) {
	rt, err := r.route(id)
	if err != nil {
		return false, err
	}
	if err := r.setClosed(ctx, rt, true); err != nil {
		return false, err
	}
	for _, space := range []past.Space{past.SpaceHead, past.SpaceVersion} {
		if any, err := r.anyLive(ctx, rt, space); err != nil || any {
			return false, err
		}
	}
	return true, nil
}

// anyLive reports whether a majority's groups of a closed epoch hold anything live, chosen or not: what might still come true counts.
func (r *Registers) anyLive(ctx context.Context, rt *route, space past.Space) (bool, error) {
	lower := keyPrefix(space, "")
	upper := string(after([]byte(lower)))
	for lower < upper {
		answers, _, err := r.scanMajority(ctx, rt, scanRequest{Lower: lower, Upper: upper, Max: scanRowsMax, Closing: true})
		if err != nil {
			return false, err
		}
		next := upper
		for _, a := range answers {
			for i := range a.Rows {
				if a.Rows[i].Live {
					return true, nil
				}
			}
			if a.More {
				next = min(next, a.Rows[len(a.Rows)-1].Group+"\x00")
			}
		}
		lower = next
	}
	return false, nil
}

// ReopenBucket undoes CloseBucket (objects.Buckets).
func (r *Registers) ReopenBucket(ctx context.Context, id past.BucketID) error {
	rt, err := r.route(id)
	if err != nil {
		return err
	}
	return r.setClosed(ctx, rt, false)
}

func (r *Registers) setClosed(ctx context.Context, rt *route, closed bool) error {
	for {
		_, c := rt.current()
		if c.Closed == closed {
			// Somebody's change may not have got to a majority yet: carry it out again.
			return r.settle(ctx, rt)
		}
		want := *c
		want.Closed = closed
		r.copyAhead(ctx, rt, &want)
		if err := r.change(ctx, rt, want); err != nil && !errors.Is(err, errMoved) {
			return err
		}
	}
}

// settle makes sure that a majority of the newest configuration is active.
func (r *Registers) settle(ctx context.Context, rt *route) error {
	l, c := rt.current()
	if len(l.Certificates) == 0 {
		return nil
	}
	last := l.Certificates[len(l.Certificates)-1]
	before := l
	before.Certificates = l.Certificates[:len(l.Certificates)-1]
	from := before.Current()
	d := &changeDrive{r: r, ctx: ctx, rt: rt, lineage: l, from: from, inputs: make(chan any, 64)}
	if err := d.run(register.ResumeChange(*from, last)); err != nil {
		return fmt.Errorf("past/pkb: settle partition %v in epoch %d: %w", c.Partition, c.Epoch, err)
	}
	return nil
}

// DropBucket lets the members forget a closed bucket (objects.Buckets).
func (r *Registers) DropBucket(ctx context.Context, id past.BucketID) error {
	rt, err := r.route(id)
	if err != nil {
		return err
	}
	l, c := rt.current()
	if !c.Closed {
		return fmt.Errorf("past/pkb: drop bucket %v: it is not closed", id)
	}
	if _, err := r.Write(ctx, lineageRegister(c.Partition), past.Record{Kind: past.Tombstone}); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.routes, id)
	r.mu.Unlock()
	r.forget(ctx, &l, true)
	return nil
}

// forget tells everybody who was ever a member to drop what is no longer needed. Who misses it keeps some disk space in use.
func (r *Registers) forget(ctx context.Context, l *register.Lineage, drop bool) {
	told := map[register.MemberID]bool{}
	for epoch := l.Genesis.Epoch; epoch <= l.Epoch(); epoch++ {
		for _, m := range l.At(epoch).Members {
			if told[m] {
				continue
			}
			told[m] = true
			call, cancel := context.WithTimeout(ctx, callTimeout)
			_, err := r.cfg.Peers.Do(call, m.Node, rpc.Call{Kind: wire.KindForget, Body: forgetRequest{*l, drop}}, nil)
			cancel()
			if err != nil {
				r.cfg.Log.Debug("member did not forget", zap.Stringer("nodeId", m.Node), zap.Stringer("partition", l.Genesis.Partition), zap.Error(err))
			}
		}
	}
}

package pkb

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"larder/past"
	"larder/past/register"
)

// Clock is the hybrid logical clock that ballots are drawn from (objects.Registers): nanoseconds since 1970, at least this gateway's
// wall clock, and above all that it drew or met before.
func (r *Registers) Clock() uint64 { return r.counter(0) }

// shown is the clock without drawing from it.
func (r *Registers) shown() uint64 {
	r.clockMu.Lock()
	defer r.clockMu.Unlock()
	return max(uint64(r.cfg.Now().UnixNano()), r.clock)
}

// bound is until when an operation may propose its own value (past.Record.NotAfter). It compares ballots, which are drawn before they
// are compared: however long the process stands still anywhere, what it sends afterwards carries a ballot that was within the bound.
type bound struct {
	r        *Registers
	id       past.OpID
	notAfter uint64 // 0: no bound
}

// bind takes the bound out of what req proposes, now or when its Update is called. req.ID is set.
func (r *Registers) bind(req *register.Request) *bound {
	b := &bound{r: r, id: req.ID}
	b.take(req.Blind)
	if update := req.Update; update != nil {
		req.Update = func(cur register.Value) (register.Value, error) {
			next, err := update(cur)
			if err == nil {
				b.take(next)
			}
			return next, err
		}
	}
	return b
}

// take notes the bound of v, whose entries nobody else has, and removes it.
func (b *bound) take(v register.Value) {
	b.notAfter = 0
	for i := range v.Entries {
		if n := v.Entries[i].Record.NotAfter; n != 0 {
			b.notAfter = n
			v.Entries[i].Record.NotAfter = 0
		}
	}
}

// passed reports whether sends would propose the operation's own value too late. Values of others, which a read or a refusal carries
// on, are not bound: they were proposed already.
func (b *bound) passed(sends []register.Send) bool {
	if b.notAfter == 0 {
		return false
	}
	return slices.ContainsFunc(sends, func(s register.Send) bool {
		a, ok := s.Message.(register.Accept)
		return ok && slices.Contains(a.Value.Chain, b.id) && max(a.Ballot.Counter, b.r.shown()) > b.notAfter
	})
}

// Forgotten reports whether a bucket is gone for good (objects.Buckets): the system partition has no partition for it any more. The
// partition is written down before a bucket's record is, and removed after it.
func (r *Registers) Forgotten(ctx context.Context, id past.BucketID) (bool, error) {
	_, err := r.readLineage(ctx, register.PartitionID(id))
	if errors.Is(err, past.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("past/pkb: bucket %v: %w", id, err)
	}
	return false, nil
}

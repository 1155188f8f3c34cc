// Package pasttest is a PAST in memory, for tests of what is built upon one: linearizable registers, stripes with a trash, buckets
// that open and close. It has hooks for failures, and counts what lives. It knows no nodes, and fragments only if asked to code.
package pasttest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"larder/past"
	"larder/past/stripe"
)

// Op names a method in a Call.
type Op string

// The operations that a hook sees.
const (
	OpRead    Op = "Read"
	OpWrite   Op = "Write"
	OpUpdate  Op = "Update"
	OpScan    Op = "Scan"
	OpInsert  Op = "Insert"
	OpLookup  Op = "Lookup"
	OpReclaim Op = "Reclaim"
	OpNew     Op = "NewBucket"
	OpOpen    Op = "OpenBucket"
	OpClose   Op = "CloseBucket"
	OpReopen  Op = "ReopenBucket"
	OpDrop    Op = "DropBucket"
	OpGone    Op = "Forgotten"
	OpList    Op = "List"
	OpKept    Op = "KeptOf"
)

// Call is one call as a hook sees it.
type Call struct {
	Op       Op
	Register past.Register // of register operations; Bucket alone of those on buckets
	// Done says that the operation has taken effect: an error from the hook then hides a success (past.ErrUnknown).
	Done bool
}

// Options choose what is kept.
type Options struct {
	// Discard keeps no bytes of full stripes (past.StripeMax): Lookup gives zeros. For tests that move gigabytes.
	Discard bool
	// Redundancy codes and decodes every stripe for real; the zero value keeps sealed bytes whole.
	Redundancy past.Redundancy
	// Hook is called before each operation and once more before it returns successfully; its error is the operation's. It
	// runs without locks and may call the Past itself.
	Hook func(ctx context.Context, c Call) error
}

// Past is the PAST. All methods are safe for concurrent use.
type Past struct {
	opt Options

	mu      sync.Mutex
	hook    func(ctx context.Context, c Call) error
	buckets map[past.BucketID]*bucket
	blocks  map[past.BlockID]*block
	sealed  map[nonce]bool // what was sealed before
}

// nonce is what a stripe's nonces follow from.
type nonce struct {
	data  past.DataID
	index uint64
}

type bucket struct {
	genesis   string
	closed    bool
	registers map[name]past.Record
}

type name struct {
	space    past.Space
	key, sub string
}

type block struct {
	header    stripe.Header
	fragments [][]byte // nil if discarded
	claim     past.Claim
	stored    time.Time
	trashed   bool
}

// New returns an empty PAST with its system partition.
func New(opt Options) *Past {
	p := &Past{opt: opt, hook: opt.Hook, buckets: map[past.BucketID]*bucket{}, blocks: map[past.BlockID]*block{}, sealed: map[nonce]bool{}}
	p.buckets[past.SystemBucket] = &bucket{registers: map[name]past.Record{}}
	return p
}

// SetHook replaces the hook; nil removes it.
func (p *Past) SetHook(hook func(ctx context.Context, c Call) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

func (p *Past) call(ctx context.Context, c Call) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pasttest: %s: %w", c.Op, err)
	}
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx, c)
}

// around runs f with the lock held between the two calls of the hook.
func (p *Past) around(ctx context.Context, c Call, f func() error) error {
	if err := p.call(ctx, c); err != nil {
		return err
	}
	p.mu.Lock()
	err := f()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	c.Done = true
	return p.call(context.WithoutCancel(ctx), c)
}

func (p *Past) open(id past.BucketID) (*bucket, error) {
	b := p.buckets[id]
	if b == nil || b.closed {
		return nil, fmt.Errorf("pasttest: bucket %v: %w", id, past.ErrClosed)
	}
	return b, nil
}

func nameOf(r past.Register) name { return name{r.Space, r.Key, r.Sub} }

// Read implements objects.Registers.
func (p *Past) Read(ctx context.Context, r past.Register) (rec past.Record, err error) {
	err = p.around(ctx, Call{Op: OpRead, Register: r}, func() error {
		b, err := p.open(r.Bucket)
		if err == nil {
			rec = b.registers[nameOf(r)]
		}
		return err
	})
	return rec, err
}

// Write implements objects.Registers.
func (p *Past) Write(ctx context.Context, r past.Register, next past.Record) (replaced []past.Record, err error) {
	err = p.around(ctx, Call{Op: OpWrite, Register: r}, func() error {
		replaced, err = p.set(r, next)
		return err
	})
	return replaced, err
}

func (p *Past) set(r past.Register, next past.Record) (replaced []past.Record, err error) {
	b, err := p.open(r.Bucket)
	if err != nil {
		return nil, err
	}
	if size := len(next.Value) + len(next.Body) + len(r.Key); size > past.RecordMax {
		return nil, fmt.Errorf("pasttest: record of %d bytes", size)
	}
	if next.NotAfter != 0 && p.Clock() > next.NotAfter {
		return nil, fmt.Errorf("pasttest: record comes too late: %w", past.ErrUnavailable)
	}
	next.NotAfter = 0
	if cur := b.registers[nameOf(r)]; cur.Kind != past.Absent {
		replaced = []past.Record{cur}
	}
	b.registers[nameOf(r)] = next
	return replaced, nil
}

// Update implements objects.Registers. It calls f twice for each attempt, to find those that mind.
func (p *Past) Update(ctx context.Context, r past.Register, f func(past.Record) (past.Record, error)) (replaced []past.Record, err error) {
	c := Call{Op: OpUpdate, Register: r}
	if err := p.call(ctx, c); err != nil {
		return nil, err
	}
	for {
		p.mu.Lock()
		b, err := p.open(r.Bucket)
		if err != nil {
			p.mu.Unlock()
			return nil, err
		}
		cur := b.registers[nameOf(r)]
		p.mu.Unlock()
		_, _ = f(cur)
		next, err := f(cur)
		if err == past.ErrUnchanged {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		if now, err := p.open(r.Bucket); err == nil && !same(now.registers[nameOf(r)], cur) {
			p.mu.Unlock()
			continue
		}
		replaced, err = p.set(r, next)
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
		c.Done = true
		return replaced, p.call(context.WithoutCancel(ctx), c)
	}
}

func same(a, b past.Record) bool {
	return a.Kind == b.Kind && a.Modified == b.Modified && string(a.Value) == string(b.Value) && string(a.Body) == string(b.Body)
}

// Scan implements objects.Registers.
func (p *Past) Scan(ctx context.Context, q past.ScanQuery) (page past.ScanPage, err error) {
	err = p.around(ctx, Call{Op: OpScan, Register: past.Register{Bucket: q.Bucket, Space: q.Space, Key: q.Prefix}}, func() error {
		b, err := p.open(q.Bucket)
		if err == nil {
			page = b.scan(q)
		}
		return err
	})
	return page, err
}

func (b *bucket) scan(q past.ScanQuery) (page past.ScanPage) {
	names := slices.SortedFunc(maps.Keys(b.registers), func(x, y name) int {
		if x.key != y.key {
			return strings.Compare(x.key, y.key)
		}
		return strings.Compare(x.sub, y.sub)
	})
	last := ""
	for _, n := range names {
		rec := b.registers[n]
		beyond := n.key > q.After || n.key == q.After && n.sub > q.AfterSub || q.After == "" && q.AfterSub == ""
		if q.AfterPrefix && strings.HasPrefix(n.key, q.After) {
			beyond = false
		}
		if n.space != q.Space || rec.Kind != past.Live || !strings.HasPrefix(n.key, q.Prefix) || !beyond {
			continue
		}
		folded := fold(n.key, q.Prefix, q.Delimiter)
		if folded != "" && folded == last {
			continue
		}
		if len(page.Entries) == q.Max {
			page.Truncated = true
			return page
		}
		last = folded
		rec.Body = nil
		if folded != "" {
			page.Entries = append(page.Entries, past.ScanEntry{CommonPrefix: folded})
		} else {
			page.Entries = append(page.Entries, past.ScanEntry{Key: n.key, Sub: n.sub, Record: rec})
		}
	}
	return page
}

func fold(key, prefix, delimiter string) string {
	if delimiter == "" {
		return ""
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return ""
	}
	return key[:len(prefix)+i+len(delimiter)]
}

// Insert implements objects.Blocks.
func (p *Past) Insert(ctx context.Context, key *stripe.Key, index uint64, plain []byte, claim past.Claim) (ref past.StripeRef, err error) {
	if len(plain) == 0 || len(plain) > past.StripeMax {
		return ref, fmt.Errorf("pasttest: insert %d bytes", len(plain))
	}
	r := p.opt.Redundancy
	if r.Data == 0 {
		r = past.Redundancy{Data: 1}
	}
	b := &block{claim: claim, stored: time.Now()}
	ref = past.StripeRef{Length: len(plain), Redundancy: r}
	if p.opt.Discard && len(plain) == past.StripeMax {
		rand.Read(ref.ID[:])
	} else {
		b.header, b.fragments = stripe.Encode(key.Seal(nil, index, plain), r)
		ref.ID = b.header.ID()
	}
	err = p.around(ctx, Call{Op: OpInsert, Register: past.Register{Bucket: claim.Bucket}}, func() error {
		n := nonce{key.Data, index}
		if p.sealed[n] {
			return fmt.Errorf("pasttest: stripe %d of %x was inserted before: its nonces are used twice", index, key.Data)
		}
		p.sealed[n] = true
		p.blocks[ref.ID] = b
		return nil
	})
	if err != nil {
		p.Reclaim(ref)
	}
	return ref, err
}

// Lookup implements objects.Blocks.
func (p *Past) Lookup(ctx context.Context, key *stripe.Key, index uint64, ref past.StripeRef, dst []byte, off int) error {
	var b *block
	err := p.around(ctx, Call{Op: OpLookup}, func() error {
		if b = p.blocks[ref.ID]; b == nil {
			return fmt.Errorf("pasttest: stripe %v: %w", ref.ID, past.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if b.fragments == nil {
		clear(dst)
		return nil
	}
	sealed := b.fragments[0]
	if b.header.Redundancy.Data > 1 {
		if sealed, err = stripe.Join(nil, &b.header, slices.Clone(b.fragments)); err != nil {
			return err
		}
	}
	from, to := stripe.SealedRange(ref.Length, off, len(dst))
	return key.OpenRange(dst, index, ref.Length, off, sealed[from:to])
}

// Reclaim implements objects.Blocks. What is in the trash stays readable.
func (p *Past) Reclaim(refs ...past.StripeRef) {
	_ = p.around(context.Background(), Call{Op: OpReclaim}, func() error {
		for _, ref := range refs {
			if b := p.blocks[ref.ID]; b != nil {
				b.trashed = true
			}
		}
		return nil
	})
}

// NewBucket implements objects.Buckets.
func (p *Past) NewBucket(ctx context.Context, id past.BucketID) (genesis []byte, err error) {
	err = p.around(ctx, Call{Op: OpNew, Register: past.Register{Bucket: id}}, func() error {
		genesis = binary.BigEndian.AppendUint64([]byte("genesis of "+id.String()), 1)
		return nil
	})
	return genesis, err
}

// OpenBucket implements objects.Buckets.
func (p *Past) OpenBucket(ctx context.Context, id past.BucketID, record past.Register, genesis []byte) error {
	return p.around(ctx, Call{Op: OpOpen, Register: past.Register{Bucket: id}}, func() error {
		if !strings.HasPrefix(string(genesis), "genesis of "+id.String()) || record.Bucket != past.SystemBucket {
			return fmt.Errorf("pasttest: open bucket %v with genesis %q", id, genesis)
		}
		if p.buckets[id] == nil {
			p.buckets[id] = &bucket{genesis: string(genesis), registers: map[name]past.Record{}}
		}
		return nil
	})
}

// CloseBucket implements objects.Buckets.
func (p *Past) CloseBucket(ctx context.Context, id past.BucketID) (empty bool, err error) {
	err = p.around(ctx, Call{Op: OpClose, Register: past.Register{Bucket: id}}, func() error {
		b := p.buckets[id]
		if b == nil {
			return fmt.Errorf("pasttest: close bucket %v: %w", id, past.ErrClosed)
		}
		b.closed = true
		for _, rec := range b.registers {
			if rec.Kind == past.Live {
				return nil
			}
		}
		empty = true
		return nil
	})
	return empty, err
}

// ReopenBucket implements objects.Buckets.
func (p *Past) ReopenBucket(ctx context.Context, id past.BucketID) error {
	return p.around(ctx, Call{Op: OpReopen, Register: past.Register{Bucket: id}}, func() error {
		b := p.buckets[id]
		if b == nil {
			return fmt.Errorf("pasttest: reopen bucket %v: %w", id, past.ErrClosed)
		}
		b.closed = false
		return nil
	})
}

// DropBucket implements objects.Buckets.
func (p *Past) DropBucket(ctx context.Context, id past.BucketID) error {
	return p.around(ctx, Call{Op: OpDrop, Register: past.Register{Bucket: id}}, func() error {
		b := p.buckets[id]
		if b == nil {
			return nil
		}
		if !b.closed {
			return fmt.Errorf("pasttest: bucket %v is dropped and not closed", id)
		}
		// Forgotten for good: OpenBucket with an old genesis does not bring it back.
		*b = bucket{closed: true}
		return nil
	})
}

// LiveStripes returns the ids of stripes that are not in the trash.
func (p *Past) LiveStripes() map[past.BlockID]past.Claim {
	p.mu.Lock()
	defer p.mu.Unlock()
	live := map[past.BlockID]past.Claim{}
	for id, b := range p.blocks {
		if !b.trashed {
			live[id] = b.claim
		}
	}
	return live
}

// Partitions is how many buckets were opened and not yet dropped.
func (p *Past) Partitions() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.buckets {
		if b.genesis != "" {
			n++
		}
	}
	return n
}

// Registers returns every register that is live, system partition included.
func (p *Past) Registers() map[past.Register]past.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	live := map[past.Register]past.Record{}
	for id, b := range p.buckets {
		for n, rec := range b.registers {
			if rec.Kind == past.Live {
				live[past.Register{Bucket: id, Space: n.space, Key: n.key, Sub: n.sub}] = rec
			}
		}
	}
	return live
}

// Package objects keeps S3 buckets, objects and multipart uploads in PAST: as records in registers and as stripes. It is the
// gateway.Backend and the gateway.Keyring of a real gateway. It knows no HTTP, no ring, no nodes and no fragments: those are
// behind the interface Past.
//
// docs/notes/objects.md draws what records hold and says why an upload ends exactly once; it implements design.md §4
// (manifests, reclaim) and §5 (uploads, DeleteBucket) as far as the gateway carries them.
//
// Whoever writes a register learns what he replaced, and reclaims its bytes. What a crash leaves behind in between is waste that
// Sweep and the audit (docs/notes/audit.md) find, never loss: bytes are reclaimed only after nothing refers to them, nor can again.
package objects

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"larder/gateway"
	"larder/past"

	"go.uber.org/zap"
)

// Sealer seals under the realm's newest sealing key and opens under any. ad is additional data that Open must be given again.
type Sealer interface {
	Seal(plain, ad []byte) []byte
	Open(sealed, ad []byte) ([]byte, error)
}

// Config is what a Store needs. The zero values of the others than Past and Sealer are good.
type Config struct {
	Past   Past
	Sealer Sealer
	Log    *zap.Logger
	// BufferBytes bounds the bytes of objects that are in memory at once, over all requests: three quarters for writes,
	// a quarter for reads. At least 16 MiB; default 64 MiB. Requests wait for room.
	BufferBytes int64
	// InFlight is how many stripes of one body are being inserted, or looked up, at once; default 3.
	InFlight int
	// CacheFor is how long buckets, users and access keys may be remembered; default 3 s.
	CacheFor time.Duration
	// AuditAfter is how old a stripe must be before an audit judges it, and twice what a body may take to become an object; default 48 h.
	// All gateways of a realm must have the same.
	AuditAfter time.Duration
	// Now is the wall clock that Past has too; nil: time.Now.
	Now func() time.Time
}

// Store is S3's objects upon PAST. All methods are safe for concurrent use.
type Store struct {
	past     Past
	sealer   Sealer
	log      *zap.Logger
	inFlight int
	rowsMax  int // rowsInline, and tableMax tableInline, but in tests
	tableMax int
	writes   *pool
	reads    *pool
	buckets  cache[*bucket]
	users    cache[user]
	keys     cache[accessKey]
	tables   tableCache
	attempts attempts

	auditAfter time.Duration
	now        func() time.Time
	audited    auditCounts

	ctx     context.Context // of the background work; ends with Close
	stop    context.CancelFunc
	slots   chan struct{} // capacity: how many pieces of background work run at once
	pending sync.WaitGroup
}

var (
	_ gateway.Backend = (*Store)(nil)
	_ gateway.Keyring = (*Store)(nil)
)

const (
	bufferDefault  = 64 << 20
	bufferLeast    = 16 << 20
	inFlight       = 3
	cacheFor       = 3 * time.Second
	backgroundJobs = 8
)

// New returns a Store. The caller closes it.
func New(c Config) *Store {
	if c.BufferBytes == 0 {
		c.BufferBytes = bufferDefault
	}
	if c.InFlight == 0 {
		c.InFlight = inFlight
	}
	if c.CacheFor == 0 {
		c.CacheFor = cacheFor
	}
	if c.AuditAfter <= 0 {
		c.AuditAfter = auditAfter
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	c.BufferBytes = max(c.BufferBytes, bufferLeast)
	s := &Store{
		past: c.Past, sealer: c.Sealer, log: c.Log.Named("objects"), inFlight: c.InFlight, rowsMax: rowsInline, tableMax: tableInline,
		writes: newPool(c.BufferBytes * 3 / 4), reads: newPool(c.BufferBytes / 4),
		slots: make(chan struct{}, backgroundJobs), auditAfter: c.AuditAfter, now: c.Now,
	}
	s.buckets.keep, s.users.keep, s.keys.keep = c.CacheFor, c.CacheFor, c.CacheFor
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close ends the background work, and waits for it. Callers have ended their requests before.
func (s *Store) Close() error {
	s.stop()
	s.pending.Wait()
	return nil
}

// background runs f beside the request that called for it, or within it if too much is running already. Close awaits it.
func (s *Store) background(f func(ctx context.Context)) {
	select {
	case s.slots <- struct{}{}:
		s.pending.Go(func() {
			defer func() { <-s.slots }()
			f(s.ctx)
		})
	default:
		f(s.ctx)
	}
}

// random16 returns 128 random bits, for names that are never used again.
func random16() (id [16]byte) {
	rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// register names a register of a bucket.
func (b *bucket) register(space past.Space, key, sub string) past.Register {
	return past.Register{Bucket: b.id, Space: space, Key: key, Sub: sub}
}

package objects

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand"
	"strings"
	"sync"
	"testing"

	"larder/auth/realm"
	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
	"larder/past/stripe"
)

// sealer is a realm's secrets as a Sealer.
type sealer struct{ *realm.Secrets }

func (s sealer) Seal(plain, ad []byte) []byte {
	sealed, err := s.Secrets.Seal(rand.Reader, plain, ad)
	if err != nil {
		panic(err)
	}
	return sealed
}

func newSealer(t testing.TB) sealer {
	secrets, err := realm.NewSecrets(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{secrets}
}

// bench is a PAST with gateways upon it.
type bench struct {
	t      testing.TB
	past   *pasttest.Past
	sealer sealer
	// tables has all part tables lie in stripes of their own.
	tables bool
}

func newBench(t testing.TB, opt pasttest.Options) *bench {
	return &bench{t: t, past: pasttest.New(opt), sealer: newSealer(t)}
}

// store adds one more gateway.
func (b *bench) store() *Store {
	return b.over(b.past)
}

// over adds one more gateway, with a PAST of its own before the shared one.
func (b *bench) over(p Past) *Store {
	s := New(Config{Past: p, Sealer: b.sealer})
	if b.tables {
		s.tableMax = 0
	}
	b.t.Cleanup(func() { s.Close() })
	return s
}

// one is a gateway with a bucket called "bucket".
func one(t testing.TB, opt pasttest.Options) (*bench, *Store) {
	return oneOf(newBench(t, opt))
}

// tabled is one whose part tables are stripes.
func tabled(t testing.TB) (*bench, *Store) {
	b := newBench(t, pasttest.Options{})
	b.tables = true
	return oneOf(b)
}

func oneOf(b *bench) (*bench, *Store) {
	s := b.store()
	b.must(s.CreateBucket(context.Background(), gateway.Bucket{Name: "bucket", Owner: "owner"}))
	return b, s
}

func (b *bench) must(_ any, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func data(seed int64, n int) []byte {
	out := make([]byte, n)
	mathrand.New(mathrand.NewSource(seed)).Read(out)
	return out
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

func input(body []byte) gateway.PutInput {
	return gateway.PutInput{Body: bytes.NewReader(body), Size: int64(len(body)), Digest: newMD5(-1), Owner: "owner"}
}

func put(t testing.TB, s *Store, key string, body []byte) gateway.Object {
	t.Helper()
	o, err := s.Put(context.Background(), "bucket", key, input(body))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func get(s *Store, key string) ([]byte, gateway.Object, error) {
	o, err := s.Open(context.Background(), "bucket", key)
	if err != nil {
		return nil, gateway.Object{}, err
	}
	defer o.Close()
	var out bytes.Buffer
	err = o.WriteRange(context.Background(), &out, 0, o.Info().Size)
	return out.Bytes(), o.Info(), err
}

func wantObject(t testing.TB, s *Store, key string, want []byte) {
	t.Helper()
	got, info, err := get(s, key)
	if want == nil {
		if !errors.Is(err, gateway.ErrNoSuchKey) {
			t.Fatalf("%s: %v, want none", key, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, want) || info.Size != int64(len(want)) {
		t.Fatalf("%s: %d bytes, %v, want %d", key, len(got), err, len(want))
	}
}

// quiet waits for a Store's background work, so that what is live can be counted.
func quiet(s *Store) { s.pending.Wait() }

// wantNoWaste checks that the live stripes are those that live records refer to.
func (b *bench) wantNoWaste(stores ...*Store) {
	b.t.Helper()
	if waste := b.wantNoLoss(stores...); waste > 0 {
		b.t.Errorf("%d live stripes that no record refers to", waste)
	}
}

// wantNoLoss checks that what live records refer to is live, and counts what else is.
func (b *bench) wantNoLoss(stores ...*Store) (waste int) {
	b.t.Helper()
	for _, s := range stores {
		quiet(s)
	}
	s := stores[0]
	live := b.past.LiveStripes()
	referred := map[past.BlockID]bool{}
	add := func(bodies ...*body) {
		for _, x := range bodies {
			for _, ref := range refsOf(b.t, s, x) {
				referred[ref.ID] = true
			}
		}
	}
	for r, rec := range b.past.Registers() {
		switch {
		case r.Bucket == past.SystemBucket:
		case r.Space == past.SpaceHead:
			v, _, err := s.head(r, &rec)
			b.must(v, err)
			parts, err := s.parts(context.Background(), v)
			b.must(parts, err)
			for i := range parts {
				add(&parts[i].Body)
			}
			add(v.Table)
		case strings.HasPrefix(r.Sub, partSub):
			var p part
			b.must(nil, s.open(r, &rec, &p))
			add(&p.Body)
		default:
			var v uploadValue
			b.must(nil, s.open(r, &rec, &v))
			if v.State == stateCompleting {
				add(v.Object.Table)
			}
		}
	}
	for id := range referred {
		if _, ok := live[id]; !ok {
			b.t.Errorf("stripe %v is referred to and was reclaimed", id)
		}
		delete(live, id)
	}
	return len(live)
}

func refsOf(t testing.TB, s *Store, b *body) (refs []past.StripeRef) {
	if b == nil || b.Inline {
		return nil
	}
	walk := s.pieces([]part{{Body: *b}}, 0, b.Length)
	for {
		p, ok, err := walk.next(context.Background(), past.StripeMax)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		refs = append(refs, p.ref)
	}
	for m := int64(0); b.Manifest && m*rowBytes < int64(len(b.Rows)); m++ {
		ref, err := row(b.Rows[m*rowBytes:], b.manifestLen(m))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	return refs
}

// zeros yields n zero bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// mortal is one gateway's PAST: it dies at a call, before its effect or after it, and answers nothing from then on.
type mortal struct {
	*pasttest.Past
	mu    sync.Mutex
	calls int
	dieAt int // 0 for never
	after bool
	dead  bool
}

var errDead = errors.New("this gateway is dead")

// around counts a call and runs it, if the gateway lives; what a dying gateway did last may have happened.
func (m *mortal) around(f func() error) error {
	m.mu.Lock()
	m.calls++
	dying := !m.dead && m.dieAt > 0 && m.calls >= m.dieAt
	was := m.dead
	m.dead = m.dead || dying
	m.mu.Unlock()
	if was || dying && !m.after {
		return errDead
	}
	if err := f(); err != nil {
		return err
	}
	if dying {
		return errDead
	}
	return nil
}

func (m *mortal) Read(ctx context.Context, r past.Register) (rec past.Record, err error) {
	err = m.around(func() error { rec, err = m.Past.Read(ctx, r); return err })
	return rec, err
}

func (m *mortal) Write(ctx context.Context, r past.Register, next past.Record) (replaced []past.Record, err error) {
	err = m.around(func() error { replaced, err = m.Past.Write(ctx, r, next); return err })
	return replaced, err
}

func (m *mortal) Update(ctx context.Context, r past.Register, f func(past.Record) (past.Record, error)) (replaced []past.Record, err error) {
	err = m.around(func() error { replaced, err = m.Past.Update(ctx, r, f); return err })
	return replaced, err
}

func (m *mortal) Scan(ctx context.Context, q past.ScanQuery) (page past.ScanPage, err error) {
	err = m.around(func() error { page, err = m.Past.Scan(ctx, q); return err })
	return page, err
}

func (m *mortal) Insert(ctx context.Context, key *stripe.Key, index uint64, plain []byte, claim past.Claim) (ref past.StripeRef, err error) {
	err = m.around(func() error { ref, err = m.Past.Insert(ctx, key, index, plain, claim); return err })
	return ref, err
}

func (m *mortal) Reclaim(refs ...past.StripeRef) {
	_ = m.around(func() error { m.Past.Reclaim(refs...); return nil })
}

func (m *mortal) CloseBucket(ctx context.Context, id past.BucketID) (empty bool, err error) {
	err = m.around(func() error { empty, err = m.Past.CloseBucket(ctx, id); return err })
	return empty, err
}

func (m *mortal) ReopenBucket(ctx context.Context, id past.BucketID) error {
	return m.around(func() error { return m.Past.ReopenBucket(ctx, id) })
}

func (m *mortal) DropBucket(ctx context.Context, id past.BucketID) error {
	return m.around(func() error { return m.Past.DropBucket(ctx, id) })
}

// mortal adds a gateway that dies at its dieAt-th call from now on.
func (b *bench) mortal(dieAt int, after bool) (*Store, *mortal) {
	m := &mortal{Past: b.past, dieAt: dieAt, after: after}
	return b.over(m), m
}

package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

// later lets everything become old enough to be judged, and audits it.
func (b *bench) later(s *Store) {
	b.t.Helper()
	time.Sleep(auditAfter + time.Hour)
	b.audit(s)
}

func (b *bench) audit(s *Store) {
	b.t.Helper()
	before := s.AuditStatus()
	s.auditPass(ctx, pasttest.Shelves{Past: b.past})
	if st := s.AuditStatus(); st.Unlisted > before.Unlisted || st.Passes == before.Passes {
		b.t.Errorf("%+v", st)
	}
}

// crash is an operation in the middle of which a gateway ends.
type crash struct {
	before func(b *bench, s *Store) (uploadID string) // what is there
	do     func(s *Store, uploadID string)
}

var crashes = map[string]crash{
	"put":       {nothing, func(s *Store, _ string) { s.Put(ctx, "bucket", "key", input(data(2, 20_000))) }},
	"overwrite": {written, func(s *Store, _ string) { s.Put(ctx, "bucket", "key", input(data(2, 20_000))) }},
	"conditional": {written, func(s *Store, _ string) {
		in := input(data(2, 20_000))
		in.Check = anything
		s.Put(ctx, "bucket", "key", in)
	}},
	"refused": {written, func(s *Store, _ string) {
		in := input(data(2, 20_000))
		in.Check = refuseAll
		s.Put(ctx, "bucket", "key", in)
	}},
	"delete": {written, func(s *Store, _ string) { s.Delete(ctx, "bucket", "key", nil) }},
	"recast": {written, func(s *Store, _ string) { copyKey(s, "key") }},
	"copy":   {written, func(s *Store, _ string) { copyKey(s, "other") }},
	"delete of a multipart object": {func(b *bench, s *Store) string {
		id := uploaded(b.t, s, "key", data(1, 20_000))
		_, err := s.Complete(ctx, "bucket", "key", id, named(data(1, 20_000)))
		b.must(nil, err)
		return id
	}, func(s *Store, _ string) { s.Delete(ctx, "bucket", "key", nil) }},
	"part":      {begun, func(s *Store, id string) { s.PutPart(ctx, "bucket", "key", id, 2, input(data(3, 20_000))) }},
	"part anew": {begun, func(s *Store, id string) { s.PutPart(ctx, "bucket", "key", id, 1, input(data(3, 20_000))) }},
	"complete":  {begun, func(s *Store, id string) { s.Complete(ctx, "bucket", "key", id, named(data(1, 20_000))) }},
	"abort":     {begun, func(s *Store, id string) { s.Abort(ctx, "bucket", "key", id) }},
}

func nothing(*bench, *Store) string { return "" }

func written(b *bench, s *Store) string {
	put(b.t, s, "key", data(1, 20_000))
	return ""
}

func begun(b *bench, s *Store) string {
	written(b, s)
	return uploaded(b.t, s, "key", data(1, 20_000))
}

func anything(*gateway.Object) error  { return nil }
func refuseAll(*gateway.Object) error { return gateway.ErrPrecondition }

func copyKey(s *Store, to string) error {
	src, err := s.Open(ctx, "bucket", "key")
	if err == nil {
		_, err = s.Copy(ctx, src, "bucket", to, gateway.CopyInput{Metadata: &gateway.Metadata{ContentType: "x"}})
	}
	return err
}

// TestNothingLeaks has a gateway end at each call of each operation, before its effect and after it. What it left is found by an audit, once
// the upload that it belongs to has ended, if there is one; what is referred to stays; and what was there is there, or what was to be.
func TestNothingLeaks(t *testing.T) {
	for name, c := range crashes {
		t.Run(name, func(t *testing.T) {
			for at, died := 1, true; died; at++ {
				died = false
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						b := newBench(t, pasttest.Options{})
						b.tables = true
						_, s := oneOf(b)
						s.rowsMax = 0 // manifests everywhere
						id := c.before(b, s)
						quiet(s)
						dying, m := b.mortal(at, after)
						dying.rowsMax = 0
						c.do(dying, id)
						quiet(dying)
						died = died || m.dead
						b.audit(s)
						b.wantNoLoss(s) // nothing is old enough
						b.later(s)
						b.wantNoLoss(s)
						if got, _, err := get(s, "key"); err == nil && !bytes.Equal(got, data(1, 20_000)) && !bytes.Equal(got, data(2, 20_000)) || err != nil && !errors.Is(err, gateway.ErrNoSuchKey) {
							t.Errorf("%d bytes, %v", len(got), err)
						}
						if err := s.Abort(ctx, "bucket", "key", id); id != "" && err != nil && !errors.Is(err, gateway.ErrNoSuchUpload) {
							t.Error(err)
						}
						b.later(s)
						b.later(s) // the results of a completed upload are kept for a day after it was swept
						b.wantNoWaste(s)
						if st := s.AuditStatus(); st.Undecided+st.Disputed > 0 {
							t.Errorf("%+v", st)
						}
						if t.Failed() {
							t.Fatalf("died at call %d, after its effect: %v", at, after)
						}
					})
				}
			}
		})
	}
}

// TestStandstill has a gateway stand still, as after SIGSTOP, between its stripes and their record, while others audit. Within its bound
// the record comes in and has its bytes; beyond it it is refused, and so is a body that merely takes long, whose stripes go at once.
func TestStandstill(t *testing.T) {
	old, next := data(1, 20_000), data(2, 20_000)
	do := map[string]func(s *Store) error{
		"put": func(s *Store) error { _, err := s.Put(ctx, "bucket", "key", input(next)); return err },
		"conditional put": func(s *Store) error {
			in := input(next)
			in.Check = anything
			_, err := s.Put(ctx, "bucket", "key", in)
			return err
		},
		"copy": func(s *Store) error {
			src, err := s.Open(ctx, "bucket", "source")
			if err == nil {
				_, err = s.Copy(ctx, src, "bucket", "key", gateway.CopyInput{})
			}
			return err
		},
	}
	for _, still := range []time.Duration{time.Hour, auditAfter/2 - time.Hour, auditAfter/2 + time.Hour, 3 * auditAfter} {
		for name, do := range do {
			for _, within := range []pasttest.Op{pasttest.OpInsert, pasttest.OpWrite, pasttest.OpUpdate} {
				synctest.Test(t, func(t *testing.T) {
					b, s := one(t, pasttest.Options{})
					put(t, s, "key", old)
					put(t, s, "source", next)
					other := b.store()
					var stood atomic.Bool
					b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
						if c.Op == within && c.Done == (within == pasttest.OpInsert) && c.Register.Bucket != past.SystemBucket && stood.CompareAndSwap(false, true) {
							for until := time.Now().Add(still); time.Now().Before(until); time.Sleep(time.Hour) {
								b.audit(other)
							}
						}
						return nil
					})
					err := do(s)
					b.past.SetHook(nil)
					late := stood.Load() && still > auditAfter/2
					if late != (err != nil) {
						t.Errorf("%s stood still for %v at %s: %v", name, still, within, err)
					}
					want := map[bool][]byte{true: old, false: next}[late]
					wantObject(t, s, "key", want)
					if waste := b.wantNoLoss(s); waste > 0 && within == pasttest.OpInsert {
						t.Errorf("%s stood still for %v at %s: %d stripes left", name, still, within, waste)
					}
					b.later(other)
					b.wantNoWaste(s)
					wantObject(t, s, "key", want)
				})
			}
		}
	}
}

// TestDeletedBucket: what a gateway left in a bucket that is deleted then is found too, and so is what it left of the deletion itself.
func TestDeletedBucket(t *testing.T) {
	for at, died := 1, true; died; at++ {
		died = false
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b, s := one(t, pasttest.Options{})
				lost, _ := b.mortal(4, false)
				lost.rowsMax = 0
				lost.Put(ctx, "bucket", "key", input(data(1, 20_000))) // dies at the record, a stripe and a manifest stored
				uploaded(t, s, "key", data(2, 20_000))
				if len(b.past.LiveStripes()) != 3 {
					t.Fatal("nothing was left behind")
				}
				dying, m := b.mortal(at, after)
				dying.DeleteBucket(ctx, "bucket")
				quiet(dying)
				died = died || m.dead
				s = b.store()
				if _, err := s.Bucket(ctx, "bucket"); err == nil { // the deletion had not begun
					b.must(nil, s.DeleteBucket(ctx, "bucket"))
				}
				b.later(s)
				b.later(s) // the first one takes the deletion over
				if n := len(b.past.LiveStripes()); n > 0 || b.past.Partitions() > 0 {
					t.Fatalf("died at call %d, after its effect %v: %d stripes, %d partitions; %+v", at, after, n, b.past.Partitions(), s.AuditStatus())
				}
			})
		}
	}
}

// TestOneLiarReclaimsNothing: a node that claims for a block of somebody's object what was left behind of another, or that a young one is
// old, destroys nothing.
func TestOneLiarReclaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := one(t, pasttest.Options{})
		dying, _ := b.mortal(3, false) // reads the bucket, inserts, and dies at the record
		dying.Put(ctx, "bucket", "left", input(data(1, 20_000)))
		var left past.Claim
		for _, left = range b.past.LiveStripes() {
		}
		put(t, s, "key", data(2, 20_000))
		time.Sleep(auditAfter)
		lies := pasttest.Shelves{Past: b.past, Lie: func(k *past.Kept) { k.Claim = left }}
		for range 2 {
			s.auditPass(ctx, lies)
			wantObject(t, s, "key", data(2, 20_000))
			b.wantNoLoss(s)
		}
		if s.AuditStatus().Disputed == 0 {
			t.Errorf("%+v", s.AuditStatus())
		}
		b.audit(s)
		b.wantNoWaste(s)

		dying, _ = b.mortal(3, false)
		dying.Put(ctx, "bucket", "left", input(data(3, 20_000)))
		lies.Lie = func(k *past.Kept) { k.Stored = time.Time{} }
		s.auditPass(ctx, lies)
		if b.wantNoLoss(s) == 0 {
			t.Error("a stripe that may be on its way was reclaimed because one node says that it is old")
		}
	})
}

// TestNotKnownIsNotNo: while something cannot be asked, nothing is reclaimed on account of it.
func TestNotKnownIsNotNo(t *testing.T) {
	for _, mute := range []pasttest.Op{pasttest.OpRead, pasttest.OpScan, pasttest.OpUpdate, pasttest.OpKept, pasttest.OpGone, pasttest.OpList} {
		for _, deleted := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b, s := one(t, pasttest.Options{})
				put(t, s, "key", data(2, 20_000))
				dying, _ := b.mortal(3, false)
				dying.Put(ctx, "bucket", "left", input(data(1, 20_000)))
				if deleted {
					b.must(nil, s.Delete(ctx, "bucket", "key", nil))
					quiet(s)
					b.must(nil, s.DeleteBucket(ctx, "bucket"))
				}
				needed := map[bool]string{false: "Read Scan Update KeptOf List", true: "Scan Forgotten KeptOf List"}[deleted]
				time.Sleep(auditAfter)
				b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
					if c.Op == mute && !c.Done {
						return past.ErrUnavailable
					}
					return nil
				})
				live := len(b.past.LiveStripes())
				s.auditPass(ctx, pasttest.Shelves{Past: b.past})
				if left := len(b.past.LiveStripes()); strings.Contains(needed, string(mute)) && left != live {
					t.Errorf("without %s, deleted %v: %d of %d stripes are left", mute, deleted, left, live)
				}
				b.past.SetHook(nil)
				b.later(s)
				if left := len(b.past.LiveStripes()); left != live-1 {
					t.Errorf("after %s, deleted %v: %d of %d stripes are left", mute, deleted, left, live)
				}
			})
		}
	}
}

// TestAuditBesideClients has clients and gateways that end at any call work for days of slow calls while two gateways audit all the time,
// with a short grace. All that was acknowledged stays right, and in the end nothing is left over.
func TestAuditBesideClients(t *testing.T) {
	const grace = time.Hour
	for seed := range int64(2) {
		synctest.Test(t, func(t *testing.T) {
			b, s := one(t, pasttest.Options{})
			b.tables = true
			rnd := &locked{rnd: mathrand.New(mathrand.NewSource(seed))}
			add := func(p Past) *Store {
				s := b.over(p)
				s.auditAfter, s.rowsMax = grace, 0
				return s
			}
			s.auditAfter = grace
			b.past.SetHook(func(ctx context.Context, c pasttest.Call) error {
				pause := time.Duration(rnd.n(5)) * time.Second
				if c.Op == pasttest.OpInsert || c.Op == pasttest.OpWrite || c.Op == pasttest.OpUpdate {
					pause += time.Duration(max(0, rnd.n(300)-260)) * time.Minute
				}
				if c.Op != pasttest.OpReclaim {
					time.Sleep(pause)
				}
				return nil
			})
			ctx, cancel := context.WithCancel(context.Background())
			var audits, clients sync.WaitGroup
			for range 2 {
				audits.Go(func() { add(b.past).Audit(ctx, pasttest.Shelves{Past: b.past}) })
			}
			for i := range 4 {
				clients.Go(func() { b.client(add, rnd, fmt.Sprint("key", i)) })
			}
			clients.Wait()
			cancel()
			audits.Wait()
			b.past.SetHook(nil)
			for u := range b.past.Registers() {
				if strings.HasPrefix(u.Sub, uploadSub) {
					if err := s.Abort(t.Context(), "bucket", u.Key, u.Sub[len(uploadSub):]); err != nil && !errors.Is(err, gateway.ErrNoSuchUpload) {
						t.Error(err)
					}
				}
			}
			b.later(s)
			b.later(s)
			b.wantNoWaste(s)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

// locked is a source of randomness for several goroutines.
type locked struct {
	mu  sync.Mutex
	rnd *mathrand.Rand
}

func (l *locked) n(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.Intn(n)
}

// client works on one object key for a while, through gateways that may end; it knows what may be there.
func (b *bench) client(add func(Past) *Store, rnd *locked, key string) {
	may := map[string]bool{"": true} // contents; "" is none
	for range 25 {
		m := &mortal{Past: b.past, after: rnd.n(2) == 0}
		if rnd.n(2) == 0 {
			m.dieAt = 1 + rnd.n(30)
		}
		s, body := add(m), data(int64(rnd.n(1<<30)), 20_000)
		var err error
		next := string(body)
		switch rnd.n(5) {
		case 0, 1:
			_, err = s.Put(ctx, "bucket", key, input(body))
		case 2:
			err, next = s.Delete(ctx, "bucket", key, nil), ""
		default:
			var u gateway.Upload
			if u, err = s.CreateUpload(ctx, "bucket", key, gateway.UploadInput{}); err == nil {
				s.PutPart(ctx, "bucket", key, u.ID, 2, input(body))
				if _, err = s.PutPart(ctx, "bucket", key, u.ID, 1, input(body)); err == nil {
					_, err = s.Complete(ctx, "bucket", key, u.ID, named(body))
				}
			}
		}
		quiet(s)
		if err == nil {
			clear(may)
		}
		may[next] = true
		got, _, err := get(add(b.past), key)
		if errors.Is(err, gateway.ErrNoSuchKey) {
			got, err = nil, nil
		}
		if err != nil || !may[string(got)] {
			b.t.Errorf("%s: %d bytes that were not to be there, or %v", key, len(got), err)
			return
		}
		b.wantLive(add(b.past), key)
	}
}

// wantLive checks that nothing that the head of an object key refers to was reclaimed, unless the head is replaced just then.
func (b *bench) wantLive(s *Store, key string) {
	b.t.Helper()
	r := must(s.bucket(ctx, "bucket")).register(past.SpaceHead, key, "")
	rec := must(s.past.Read(ctx, r))
	v, op, err := s.head(r, &rec)
	if err != nil || v == nil {
		return
	}
	bodies := []*body{v.Table}
	parts := must(s.parts(ctx, v))
	for i := range parts {
		bodies = append(bodies, &parts[i].Body)
	}
	live := b.past.LiveStripes()
	for _, body := range bodies {
		for _, ref := range refsOf(b.t, s, body) {
			if _, ok := live[ref.ID]; !ok {
				rec = must(s.past.Read(ctx, r))
				if _, now, _ := s.head(r, &rec); now == op {
					b.t.Errorf("%s: stripe %v is referred to and was reclaimed", key, ref.ID)
				}
			}
		}
	}
}

package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

func createUpload(t testing.TB, s *Store, key string) string {
	t.Helper()
	u, err := s.CreateUpload(ctx, "bucket", key, gateway.UploadInput{Metadata: gateway.Metadata{ContentType: "text/x"}, Owner: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// named makes a Complete of bodies that are the parts 1, 2, ….
func named(bodies ...[]byte) gateway.CompleteInput {
	in := gateway.CompleteInput{Size: -1}
	for i, body := range bodies {
		in.Parts = append(in.Parts, gateway.CompletedPart{Number: i + 1, ETag: md5Hex(body)})
	}
	return in
}

// uploaded is an upload with parts 1, 2, ….
func uploaded(t testing.TB, s *Store, key string, bodies ...[]byte) string {
	t.Helper()
	id := createUpload(t, s, key)
	for i, body := range bodies {
		if _, err := s.PutPart(ctx, "bucket", key, id, i+1, input(body)); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// twoParts are a first part as small as one may be, and a second.
func twoParts() (first, second []byte) { return make([]byte, gateway.MinPart), data(2, 1000) }

func TestCompleteMakesTheObjectOfItsParts(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	first, second := twoParts()
	put(t, s, "key", data(1, 100_000)) // to be replaced
	id := uploaded(t, s, "key", first, data(3, 20_000), second)
	_, err := s.PutPart(ctx, "bucket", "key", id, 2, input(first)) // replaces a part
	b.must(nil, err)
	b.wantNoWaste(s)
	in := named(first, first)
	in.Parts = append(in.Parts[:1], gateway.CompletedPart{Number: 3, ETag: `"` + md5Hex(second) + `"`})
	o, err := s.Complete(ctx, "bucket", "key", id, in)
	want := append(bytes.Clone(first), second...)
	if err != nil || o.Size != int64(len(want)) || o.PartsCount != 2 || o.Metadata.ContentType != "text/x" || o.Owner != "owner" {
		t.Fatalf("complete: %+v, %v", o, err)
	}
	wantObject(t, s, "key", want)
	b.wantNoWaste(s)
	again, err := s.Complete(ctx, "bucket", "key", id, in)
	if err != nil || again.ETag != o.ETag || !again.Modified.Equal(o.Modified) || again.Metadata.ContentType != "text/x" {
		t.Errorf("a second complete: %+v, %v, want %+v", again, err, o)
	}
	if _, err := s.Complete(ctx, "bucket", "key", id, named(first)); !errors.Is(err, gateway.ErrInvalidPart) {
		t.Errorf("complete with other parts: %v", err)
	}
	opened, err := s.Open(ctx, "bucket", "key")
	b.must(opened, err)
	p, off, ok := opened.Part(2)
	if !ok || off != int64(len(first)) || p.Size != int64(len(second)) || p.ETag != md5Hex(second) {
		t.Errorf("part 2: %+v at %d, %v", p, off, ok)
	}
	var out bytes.Buffer
	if err := opened.WriteRange(ctx, &out, off-10, 20); err != nil || !bytes.Equal(out.Bytes(), want[off-10:off+10]) {
		t.Errorf("a range over two parts: %v", err)
	}
	for name, err := range map[string]error{
		"upload": errOf(s.Upload(ctx, "bucket", "key", id)), "abort": s.Abort(ctx, "bucket", "key", id),
		"part": errOf(s.PutPart(ctx, "bucket", "key", id, 1, input(second))),
	} {
		if !errors.Is(err, gateway.ErrNoSuchUpload) {
			t.Errorf("%s of a completed upload: %v", name, err)
		}
	}
	put(t, s, "key", nil)
	b.wantNoWaste(s)
	if n := len(b.past.LiveStripes()); n != 0 {
		t.Errorf("%d stripes are left", n)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestAbortLeavesNothing(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	id := uploaded(t, s, "key", data(1, 100_000), data(2, 100_000))
	b.must(nil, s.Abort(ctx, "bucket", "key", id))
	b.wantNoWaste(s)
	if n := len(b.past.LiveStripes()); n != 0 {
		t.Errorf("%d stripes are left", n)
	}
	if err := s.Abort(ctx, "bucket", "key", id); !errors.Is(err, gateway.ErrNoSuchUpload) {
		t.Errorf("abort again: %v", err)
	}
	if err := s.Abort(ctx, "bucket", "key", "no uploadID"); !errors.Is(err, gateway.ErrNoSuchUpload) {
		t.Errorf("abort nonsense: %v", err)
	}
}

// TestLargeUpload has as many parts as S3 allows; they are tiny but for what MinPart demands, since pasttest discards full stripes.
func TestLargeUpload(t *testing.T) {
	b, s := one(t, pasttest.Options{Discard: true})
	parts := 10_000
	if testing.Short() {
		parts = 1_500
	}
	id := createUpload(t, s, "key")
	u := upload{must(s.bucket(ctx, "bucket")), "key", id}
	first, err := s.PutPart(ctx, "bucket", "key", id, 1, gateway.PutInput{Body: zeros(8 << 20), Size: 8 << 20, Digest: newMD5(-1)})
	b.must(nil, err)
	// The other registers are copies of the first with bodies of their own: putting 80 GB takes too long.
	var template part
	b.must(nil, s.eachPart(ctx, u, 0, 1, func(p part, _ *past.Record) bool { template = p; return false }))
	in := gateway.CompleteInput{Size: -1}
	for n := 1; n <= parts; n++ {
		p := template
		p.Number = n
		if n > 1 {
			p.Body.Data = random16()
		}
		r := u.partRegister(n)
		_, err := b.past.Write(ctx, r, past.Record{Kind: past.Live, Length: p.Body.Length, Value: s.seal(r, &p)})
		b.must(nil, err)
		in.Parts = append(in.Parts, gateway.CompletedPart{Number: n, ETag: first.ETag})
	}
	list, more, err := s.ListParts(ctx, "bucket", "key", id, 321, 1000)
	if err != nil || !more || len(list) != 1000 || list[0].Number != 322 || list[999].Number != 1321 {
		t.Fatalf("list parts: %d, %v, %v", len(list), more, err)
	}
	o, err := s.Complete(ctx, "bucket", "key", id, in)
	if err != nil || o.Size != int64(parts)*8<<20 || o.PartsCount != parts {
		t.Fatalf("complete: %+v, %v", o, err)
	}
	quiet(s)
	if _, _, err := s.ListParts(ctx, "bucket", "key", id, 0, 1); !errors.Is(err, gateway.ErrNoSuchUpload) {
		t.Errorf("list parts of a completed upload: %v", err)
	}
	for r := range b.past.Registers() {
		if r.Space == past.SpaceUpload && r.Sub[:1] == partSub {
			t.Fatal("the register of a part is left")
		}
	}
	opened, err := b.store().Open(ctx, "bucket", "key")
	b.must(opened, err)
	if p, off, ok := opened.Part(parts); !ok || off != int64(parts-1)*8<<20 || p.Size != 8<<20 {
		t.Errorf("the last part: %+v at %d, %v", p, off, ok)
	}
	rec := b.past.Registers()[u.bucket.register(past.SpaceHead, "key", "")]
	if n := len(rec.Value); n > 2<<10 {
		t.Errorf("the object's record has %d bytes", n)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestListUploadsSeeksPastParts(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	var want []string
	for i := range 4 {
		key := fmt.Sprintf("dir%d/key", i/2)
		id := createUpload(t, s, key)
		want = append(want, key+" "+id)
		u := upload{must(s.bucket(ctx, "bucket")), key, id}
		for n := range 1500 {
			r := u.partRegister(n + 1)
			_, err := b.past.Write(ctx, r, past.Record{Kind: past.Live, Value: s.seal(r, &part{Number: n + 1, Body: body{Inline: true}})})
			b.must(nil, err)
		}
	}
	scanned := 0
	var mu sync.Mutex
	b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == pasttest.OpScan && c.Done {
			scanned++
		}
		return nil
	})
	for limit := 1; limit < 6; limit++ {
		q := gateway.UploadQuery{Max: limit}
		var got []string
		for {
			page, err := s.ListUploads(ctx, "bucket", q)
			b.must(page, err)
			for _, u := range page.Uploads {
				got = append(got, u.Key+" "+u.ID)
			}
			if !page.Truncated {
				break
			}
			q.KeyMarker, q.UploadIDAfter = page.NextKey, page.NextUpload
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pages of %d: %v, want %v", limit, got, want)
		}
	}
	scanned = 0
	b.must(s.ListUploads(ctx, "bucket", gateway.UploadQuery{Max: 10}))
	if scanned > 4 {
		t.Errorf("four uploads of two keys took %d scans", scanned)
	}
	scanned = 0
	page, err := s.ListUploads(ctx, "bucket", gateway.UploadQuery{Max: 10, Delimiter: "/"})
	if err != nil || fmt.Sprint(page.CommonPrefixes) != "[dir0/ dir1/]" || page.Truncated {
		t.Errorf("%+v, %v", page, err)
	}
	if scanned > 4 {
		t.Errorf("two common prefixes took %d scans", scanned)
	}
	page, err = s.ListUploads(ctx, "bucket", gateway.UploadQuery{Max: 10, KeyMarker: "dir0/key"})
	if err != nil || len(page.Uploads) != 2 || page.Uploads[0].Key != "dir1/key" {
		t.Errorf("after a key: %+v, %v", page, err)
	}
}

func TestCompleteEvaluatesItsCheckOnTheHead(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	first, second := twoParts()
	id := uploaded(t, s, "key", first, second)
	in := named(first, second)
	in.Check = func(cur *gateway.Object) error {
		if cur != nil {
			return gateway.ErrPrecondition
		}
		return nil
	}
	put(t, s, "key", []byte("there"))
	if _, err := s.Complete(ctx, "bucket", "key", id, in); !errors.Is(err, gateway.ErrPrecondition) {
		t.Fatalf("complete: %v", err)
	}
	wantObject(t, s, "key", []byte("there"))
	b.must(nil, s.Delete(ctx, "bucket", "key", nil))
	// A put that comes when the attempt was decided, but not yet written, is seen too.
	other, put1 := b.store(), sync.Once{}
	b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
		if c.Op == pasttest.OpUpdate && c.Register.Space == past.SpaceHead && !c.Done {
			put1.Do(func() { put(t, other, "key", []byte("between")) })
		}
		return nil
	})
	_, err := s.Complete(ctx, "bucket", "key", id, in)
	b.past.SetHook(nil)
	if !errors.Is(err, gateway.ErrPrecondition) {
		t.Fatalf("complete: %v", err)
	}
	wantObject(t, s, "key", []byte("between"))
	b.wantNoWaste(s)
	// The upload is as it was.
	in.Check = nil
	_, err = s.Complete(ctx, "bucket", "key", id, in)
	b.must(nil, err)
	wantObject(t, s, "key", append(first, second...))
	b.wantNoWaste(s, other)
}

// TestPartsThatCrossAComplete has another gateway put a part at each call that a Complete makes, and a Complete at each call that
// putting a part makes.
func TestPartsThatCrossAComplete(t *testing.T) {
	body := data(1, 20_000)
	for _, newer := range [][]byte{body, data(9, 20_001)} {
		for at := 1; ; at++ {
			b, s := tabled(t)
			other := b.store()
			id := uploaded(t, s, "key", body)
			var partErr error
			reached := b.at(at, func() { _, partErr = other.PutPart(ctx, "bucket", "key", id, 1, input(newer)) })
			_, err := s.Complete(ctx, "bucket", "key", id, named(body))
			quiet(s) // the part may come during the cleaning
			b.past.SetHook(nil)
			b.wantCrossed(t, fmt.Sprintf("part at call %d", at), s, id, err, partErr, newer)
			b.wantNoWaste(s, other)
			if !*reached {
				break
			}
		}
		for at := 1; ; at++ {
			b, s := tabled(t)
			other := b.store()
			id := uploaded(t, s, "key", body)
			var err error
			reached := b.at(at, func() { _, err = other.Complete(ctx, "bucket", "key", id, named(body)) })
			_, partErr := s.PutPart(ctx, "bucket", "key", id, 1, input(newer))
			b.past.SetHook(nil)
			if *reached {
				b.wantCrossed(t, fmt.Sprintf("complete at call %d", at), s, id, err, partErr, newer)
			}
			quiet(other)
			b.wantNoWaste(s, other)
			if !*reached {
				break
			}
		}
	}
}

// TestAPartThatMeetsTheCleaning writes a part over one that an object was just made of, and has the upload cleaned up, so that it forgets
// what the object is made of, before the part finds out that it comes too late. The object keeps its bytes.
func TestAPartThatMeetsTheCleaning(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	other, body := b.store(), data(1, 20_000)
	id := uploaded(t, s, "key", body)
	var begun, ended sync.Once
	written := make(chan struct{})
	b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
		switch part := strings.HasPrefix(c.Register.Sub, partSub); {
		case part && c.Op == pasttest.OpUpdate && !c.Done:
			begun.Do(func() { b.must(other.Complete(ctx, "bucket", "key", id, named(body))) })
		case part && c.Op == pasttest.OpWrite && !c.Done: // the cleaning
			<-written
		case part && c.Op == pasttest.OpUpdate:
			ended.Do(func() { close(written); quiet(other) })
		}
		return nil
	})
	if _, err := s.PutPart(ctx, "bucket", "key", id, 1, input(data(2, 30_000))); !errors.Is(err, gateway.ErrNoSuchUpload) {
		t.Errorf("a part that came too late: %v", err)
	}
	b.past.SetHook(nil)
	wantObject(t, s, "key", body)
	b.wantNoWaste(s, other)
}

// at runs f once, at the n-th step of the calls made from now on.
func (b *bench) at(n int, f func()) (reached *bool) {
	var mu sync.Mutex
	reached = new(bool)
	b.past.SetHook(func(context.Context, pasttest.Call) error {
		mu.Lock()
		n--
		now := n == 0
		mu.Unlock()
		if now {
			*reached = true
			f()
		}
		return nil
	})
	return reached
}

// wantCrossed checks what may come of a Complete of a part and a put of newer in its place.
func (b *bench) wantCrossed(t *testing.T, name string, s *Store, id string, err, partErr error, newer []byte) {
	t.Helper()
	body := data(1, 20_000)
	switch {
	case err == nil:
		wantObject(t, s, "key", body)
	case errors.Is(err, gateway.ErrInvalidPart) && partErr == nil && !bytes.Equal(newer, body):
		wantObject(t, s, "key", nil)
		if _, err := s.Complete(ctx, "bucket", "key", id, named(newer)); err != nil {
			t.Fatalf("%s: complete with the newer part: %v", name, err)
		}
		wantObject(t, s, "key", newer)
	default:
		t.Fatalf("%s: complete %v, part %v", name, err, partErr)
	}
	if partErr != nil && !errors.Is(partErr, gateway.ErrNoSuchUpload) {
		t.Fatalf("%s: part %v", name, partErr)
	}
}

// TestPartsThatCrossAnAbort has another gateway abort at each call that putting a part makes.
func TestPartsThatCrossAnAbort(t *testing.T) {
	for at := 1; ; at++ {
		b, s := tabled(t)
		other := b.store()
		id := uploaded(t, s, "key", data(1, 50_000))
		var err error
		reached := b.at(at, func() { err = other.Abort(ctx, "bucket", "key", id) })
		_, partErr := s.PutPart(ctx, "bucket", "key", id, 1, input(data(2, 50_000)))
		b.past.SetHook(nil)
		if !*reached {
			break
		}
		if err != nil || partErr != nil && !errors.Is(partErr, gateway.ErrNoSuchUpload) {
			t.Fatalf("at call %d: abort %v, part %v", at, err, partErr)
		}
		b.wantNoWaste(s, other)
		if n := len(b.past.LiveStripes()); n != 0 {
			t.Fatalf("at call %d: %d stripes are left", at, n)
		}
	}
}

// TestAGatewayDiesInComplete kills the gateway at each of its calls, before or after its effect, and has another one do
// what clients may do then.
func TestAGatewayDiesInComplete(t *testing.T) {
	body := data(1, 20_000)
	older, newer := data(5, 30_000), data(6, 40_000)
	in := named(body)
	afterwards := map[string]func(t *testing.T, s *Store, id string){
		"complete": func(t *testing.T, s *Store, id string) {
			completeAgain(t, s, id, in)
			wantObject(t, s, "key", body)
		},
		"put, complete": func(t *testing.T, s *Store, id string) {
			was, _, err := get(s, "key")
			put(t, s, "key", newer)
			completeAgain(t, s, id, in)
			if err == nil && bytes.Equal(was, body) {
				wantObject(t, s, "key", newer) // it was completed before the put
			} else {
				wantObject(t, s, "key", body)
			}
		},
		"delete, complete, complete": func(t *testing.T, s *Store, id string) {
			must(0, s.Delete(ctx, "bucket", "key", nil))
			completeAgain(t, s, id, in)
			completeAgain(t, s, id, in)
		},
		"abort": func(t *testing.T, s *Store, id string) {
			err := s.Abort(ctx, "bucket", "key", id)
			if err == nil {
				wantObject(t, s, "key", older)
			} else if wantObject(t, s, "key", body); !errors.Is(err, gateway.ErrNoSuchUpload) {
				t.Fatal(err)
			}
		},
		"part, complete": func(t *testing.T, s *Store, id string) {
			_, err := s.PutPart(ctx, "bucket", "key", id, 1, input(newer))
			if err != nil && !errors.Is(err, gateway.ErrNoSuchUpload) {
				t.Fatal(err)
			}
			if _, err := s.Complete(ctx, "bucket", "key", id, in); err == nil {
				wantObject(t, s, "key", body)
			} else if _, err := s.Complete(ctx, "bucket", "key", id, named(newer)); err == nil {
				wantObject(t, s, "key", newer)
			} else if wantObject(t, s, "key", body); !errors.Is(err, gateway.ErrInvalidPart) {
				t.Fatal(err)
			}
		},
	}
	for name, then := range afterwards {
		for at := 1; ; at++ {
			died := false
			for _, after := range []bool{false, true} {
				b, s := tabled(t)
				put(t, s, "key", older)
				id := uploaded(t, s, "key", body)
				dying, m := b.mortal(at, after)
				dying.Complete(ctx, "bucket", "key", id, in)
				quiet(dying)
				died = died || m.dead
				then(t, s, id)
				b.must(nil, s.Sweep(ctx, "bucket"))
				b.wantNoLoss(s)
				b.must(nil, s.Delete(ctx, "bucket", "key", nil))
				b.must(nil, s.DeleteBucket(ctx, "bucket"))
				if t.Failed() {
					t.Fatalf("%s: died at call %d, after its effect: %v", name, at, after)
				}
			}
			if !died {
				break
			}
		}
	}
}

// completeAgain is a client that tries again.
func completeAgain(t *testing.T, s *Store, id string, in gateway.CompleteInput) {
	t.Helper()
	o, err := s.Complete(ctx, "bucket", "key", id, in)
	for tries := 0; errors.Is(err, gateway.ErrUnavailable) && tries < 3; tries++ {
		o, err = s.Complete(ctx, "bucket", "key", id, in)
	}
	if err != nil || o.PartsCount != len(in.Parts) {
		t.Fatalf("complete: %+v, %v", o, err)
	}
}

// TestTwoCompletesAtOnce has another gateway complete the same upload at each call of the first.
func TestTwoCompletesAtOnce(t *testing.T) {
	body := data(1, 20_000)
	in := named(body)
	for _, between := range []bool{false, true} {
		for at := 1; ; at++ {
			b, s := tabled(t)
			other := b.store()
			id := uploaded(t, s, "key", body)
			var otherErr error
			reached := b.at(at, func() {
				_, otherErr = other.Complete(ctx, "bucket", "key", id, in)
				quiet(other)
				if between { // replaced at once, by a put that is acknowledged: it must stay
					put(t, other, "key", []byte("newest"))
				}
			})
			o, err := s.Complete(ctx, "bucket", "key", id, in)
			b.past.SetHook(nil)
			if err != nil || otherErr != nil || o.PartsCount != 1 {
				t.Fatalf("at call %d: %v, %v", at, err, otherErr)
			}
			if between && *reached {
				wantObject(t, s, "key", []byte("newest"))
			} else {
				wantObject(t, s, "key", body)
			}
			b.wantNoWaste(s, other)
			if !*reached {
				break
			}
		}
	}
}

// TestAPartThawsAnUpload has a gateway die right after it froze the upload: parts may still be put, and count.
func TestAPartThawsAnUpload(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	older, newer := data(1, 20_000), data(2, 30_000)
	id := uploaded(t, s, "key", older)
	dying, _ := b.mortal(4, false) // reads and opens the bucket, freezes, dies at the parts
	dying.Complete(ctx, "bucket", "key", id, named(older))
	if v, err := s.readUpload(ctx, upload{must(s.bucket(ctx, "bucket")), "key", id}); err != nil || v.State != stateFrozen {
		t.Fatalf("upload in state %d, %v", v.State, err)
	}
	_, err := s.PutPart(ctx, "bucket", "key", id, 1, input(newer))
	b.must(nil, err)
	completeAgain(t, s, id, named(newer))
	wantObject(t, s, "key", newer)
	b.wantNoWaste(s)
}

// TestAPartThatComesTooLateIsTakenBack has an attempt decide on the object just before a part is written, and die. The part is
// refused, and the one that it replaced counts when the upload is completed after all.
func TestAPartThatComesTooLateIsTakenBack(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	body := data(1, 20_000)
	id := uploaded(t, s, "key", body)
	var once sync.Once
	b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
		if c.Op == pasttest.OpUpdate && c.Register.Sub != "" && c.Register.Sub[:1] == partSub && !c.Done {
			once.Do(func() {
				dying := b.over(dieAtPlacing{Past: b.past, dead: new(bool)})
				dying.Complete(ctx, "bucket", "key", id, named(body))
			})
		}
		return nil
	})
	_, err := s.PutPart(ctx, "bucket", "key", id, 1, input(data(2, 30_000)))
	b.past.SetHook(nil)
	if !errors.Is(err, gateway.ErrNoSuchUpload) {
		t.Errorf("part: %v", err)
	}
	put(t, s, "key", []byte("between")) // the decided object can no longer be written
	completeAgain(t, s, id, named(body))
	wantObject(t, s, "key", body)
	b.wantNoWaste(s)
}

// TestAnAttemptIsNotPlacedTwice is the trap of Helped. A helper places the attempt and dies; a put replaces it, and is slow to mark
// the upload completed; the attempt's own request finds its base gone. If it decided on the same attempt anew, the put would then
// mark that one, and reclaim bytes that are about to become an object's again.
func TestAnAttemptIsNotPlacedTwice(t *testing.T) {
	b, s := tabled(t)
	body := data(1, 20_000)
	id := uploaded(t, s, "key", body)
	place := func(c pasttest.Call) bool {
		return c.Op == pasttest.OpUpdate && c.Register.Space == past.SpaceHead && c.Register.Bucket != past.SystemBucket && !c.Done
	}
	mark := func(c pasttest.Call) bool {
		return c.Op == pasttest.OpUpdate && c.Register.Space == past.SpaceUpload && !c.Done
	}
	type putter struct{}
	slow, marking, goOn := b.store(), make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	places := 0
	b.past.SetHook(func(c context.Context, call pasttest.Call) error {
		switch {
		case c.Value(putter{}) != nil:
			if mark(call) {
				close(marking)
				<-goOn
			}
		case place(call) && places == 0:
			places++
			helper := b.over(dieAtPlacing{b.past, new(bool), true})
			helper.Complete(ctx, "bucket", "key", id, named(body))
			wantObject(t, s, "key", body)
			wg.Go(func() {
				_, err := slow.Put(context.WithValue(ctx, putter{}, true), "bucket", "key", input([]byte("between")))
				if err != nil {
					t.Error(err)
				}
			})
			<-marking
		case place(call) && places == 2: // the first was the helper's own
			close(goOn)
			wg.Wait()
			places++
		case place(call):
			places++
		}
		return nil
	})
	_, err := s.Complete(ctx, "bucket", "key", id, named(body))
	b.past.SetHook(nil)
	select {
	case <-goOn:
	default:
		close(goOn)
		wg.Wait()
	}
	b.must(nil, err)
	b.wantNoLoss(s, slow)
	wantObject(t, s, "key", []byte("between"))
}

// dieAtPlacing is the PAST of a gateway that dies when it updates a head, before the effect or after it.
type dieAtPlacing struct {
	*pasttest.Past
	dead  *bool
	after bool
}

func (d dieAtPlacing) Update(ctx context.Context, r past.Register, f func(past.Record) (past.Record, error)) ([]past.Record, error) {
	head := r.Space == past.SpaceHead && r.Bucket != past.SystemBucket
	if *d.dead || head && !d.after {
		*d.dead = true
		return nil, errDead
	}
	replaced, err := d.Past.Update(ctx, r, f)
	if head {
		*d.dead = true
		return nil, errDead
	}
	return replaced, err
}

func TestResultsOfUploadsAreKeptADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := one(t, pasttest.Options{})
		body := data(1, 20_000)
		id := uploaded(t, s, "key", body)
		in := named(body)
		completeAgain(t, s, id, in)
		quiet(s)
		time.Sleep(resultKept - time.Minute)
		b.must(nil, s.Sweep(ctx, "bucket"))
		completeAgain(t, s, id, in)
		time.Sleep(2 * time.Minute)
		b.must(nil, s.Sweep(ctx, "bucket"))
		if _, err := s.Complete(ctx, "bucket", "key", id, in); !errors.Is(err, gateway.ErrNoSuchUpload) {
			t.Errorf("complete after a day: %v", err)
		}
		wantObject(t, s, "key", body)
		b.wantNoWaste(s)
	})
}

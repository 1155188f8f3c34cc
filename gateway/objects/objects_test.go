package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

var ctx = context.Background()

func TestPutAndGetAtEverySizeThatMatters(t *testing.T) {
	b, s := one(t, pasttest.Options{Redundancy: past.Redundancy{Data: 2, Parity: 1}})
	for _, n := range []int{0, 1, past.InlineMax, past.InlineMax + 1, 64 << 10, 64<<10 + 1, past.StripeMax - 1, past.StripeMax, past.StripeMax + 1} {
		for _, known := range []bool{true, false} {
			key := fmt.Sprintf("object of %d bytes, %v", n, known)
			body := data(int64(n), n)
			in := input(body)
			in.Body = iotest.OneByteReader(bytes.NewReader(body))
			if n > past.InlineMax {
				in.Body = iotest.HalfReader(bytes.NewReader(body))
			}
			if !known {
				in.Size = -1
			}
			in.Metadata = gateway.Metadata{ContentType: "text/x", User: map[string]string{"a": "b"}}
			o, err := s.Put(ctx, "bucket", key, in)
			if err != nil || o.ETag != md5Hex(body) || o.Size != int64(n) || o.Key != key {
				t.Fatalf("put %s: %+v, %v", key, o, err)
			}
			got, info, err := get(s, key)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s: got %d bytes, %v", key, len(got), err)
			}
			if info.ETag != o.ETag || info.Metadata.User["a"] != "b" || info.Owner != "owner" || !info.Modified.Equal(o.Modified) {
				t.Fatalf("%s: %+v", key, info)
			}
		}
	}
	b.wantNoWaste(s)
}

func TestWriteRangeReadsAnyRange(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	body := data(1, 2*past.StripeMax+100_000)
	put(t, s, "large", body)
	put(t, s, "small", body[:1000])
	lookups := 0
	var mu sync.Mutex
	b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == pasttest.OpLookup && !c.Done {
			lookups++
		}
		return nil
	})
	rnd := mathrand.New(mathrand.NewSource(2)) // ranges
	for _, key := range []string{"large", "small"} {
		o, err := s.Open(ctx, "bucket", key)
		b.must(o, err)
		size := o.Info().Size
		for range 25 {
			off := rnd.Int63n(size + 1)
			n := rnd.Int63n(size - off + 1)
			var out bytes.Buffer
			if err := o.WriteRange(ctx, &out, off, n); err != nil || !bytes.Equal(out.Bytes(), body[off:off+n]) {
				t.Fatalf("%s %d+%d: %v", key, off, n, err)
			}
		}
		for _, bad := range [][2]int64{{-1, 1}, {0, size + 1}, {size + 1, 0}, {1, size}, {0, -1}} {
			if err := o.WriteRange(ctx, io.Discard, bad[0], bad[1]); err == nil {
				t.Errorf("%s: read %v", key, bad)
			}
		}
		lookups = 0
		b.must(nil, o.WriteRange(ctx, io.Discard, size-10, 10))
		if want := map[string]int{"large": 1, "small": 0}[key]; lookups != want {
			t.Errorf("%s: ten bytes took %d lookups, want %d", key, lookups, want)
		}
	}
	if used := s.reads.used.Load(); used != 0 {
		t.Errorf("%d bytes of buffers not given back", used)
	}
}

func TestLongBodiesAreReadAndReclaimedThroughTheirManifest(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	s.rowsMax = 1
	body := data(3, 2*past.StripeMax+12345)
	put(t, s, "long", body)
	if n := len(b.past.LiveStripes()); n != 4 {
		t.Errorf("%d stripes, want 3 and a manifest", n)
	}
	wantObject(t, s, "long", body)
	b.wantNoWaste(s)
	b.must(nil, s.Delete(ctx, "bucket", "long", nil))
	b.wantNoWaste(s)
	if n := len(b.past.LiveStripes()); n != 0 {
		t.Errorf("%d stripes are left", n)
	}
}

func TestWhatIsReplacedIsReclaimedAndStaysReadable(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	old := data(4, past.StripeMax+10)
	put(t, s, "key", old)
	reader, err := s.Open(ctx, "bucket", "key")
	b.must(reader, err)
	put(t, s, "key", data(5, 100_000))
	b.wantNoWaste(s)
	b.must(nil, s.Delete(ctx, "bucket", "key", nil))
	b.must(nil, s.Delete(ctx, "bucket", "key", nil))
	wantObject(t, s, "key", nil)
	b.wantNoWaste(s)
	var out bytes.Buffer
	if err := reader.WriteRange(ctx, &out, 0, int64(len(old))); err != nil || !bytes.Equal(out.Bytes(), old) {
		t.Errorf("a slow reader got %d bytes, %v", out.Len(), err)
	}
}

// refusing is a digest that refuses the body.
type refusing struct {
	md5Digest
	err error
}

func (r refusing) Finish() (gateway.Sums, error) { return gateway.Sums{}, r.err }

func TestAPutThatFailsLeavesNothing(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	kept := data(6, 100)
	put(t, s, "key", kept)
	bad := errors.New("bad")
	body := data(7, past.StripeMax+300)
	for name, change := range map[string]func(in *gateway.PutInput){
		"the client goes": func(in *gateway.PutInput) {
			in.Body = io.MultiReader(bytes.NewReader(body[:past.StripeMax+9]), iotest.ErrReader(bad))
		},
		"the end is refused": func(in *gateway.PutInput) { in.Body = io.MultiReader(bytes.NewReader(body), iotest.ErrReader(bad)) },
		"the digest refuses": func(in *gateway.PutInput) { in.Digest = refusing{newMD5(-1), bad} },
		"the check refuses":  func(in *gateway.PutInput) { in.Check = func(*gateway.Object) error { return bad } },
		"the body is short":  func(in *gateway.PutInput) { in.Body = bytes.NewReader(body[:len(body)-1]) },
		"the body is long":   func(in *gateway.PutInput) { in.Body = bytes.NewReader(append(body, 1)) },
		"small, refused": func(in *gateway.PutInput) {
			in.Body, in.Size, in.Digest = strings.NewReader("x"), 1, refusing{newMD5(-1), bad}
		},
		"metadata of 40 KiB":   func(in *gateway.PutInput) { in.Metadata.User = map[string]string{"a": strings.Repeat("b", 40<<10)} },
		"the record is closed": func(*gateway.PutInput) {},
		"no space for stripe":  func(*gateway.PutInput) {},
	} {
		b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
			switch {
			case name == "the record is closed" && c.Op == pasttest.OpWrite:
				return past.ErrClosed
			case name == "no space for stripe" && c.Op == pasttest.OpInsert && len(b.past.LiveStripes()) == 1:
				return past.ErrNoSpace
			}
			return nil
		})
		in := input(body)
		change(&in)
		_, err := s.Put(ctx, "bucket", "key", in)
		b.past.SetHook(nil)
		if err == nil {
			t.Errorf("%s: put", name)
		}
		if name == "no space for stripe" && !errors.Is(err, gateway.ErrNoSpace) {
			t.Errorf("%s: %v", name, err)
		}
		if (strings.Contains(name, "refuse") || name == "the client goes") && !errors.Is(err, bad) {
			t.Errorf("%s: %v", name, err)
		}
		wantObject(t, s, "key", kept)
		b.wantNoWaste(s)
		if used := s.writes.used.Load(); used != 0 {
			t.Errorf("%s: %d bytes of buffers not given back", name, used)
		}
	}
}

func TestAPutWhoseContextEndsLeavesNothing(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	ending, cancel := context.WithCancel(ctx)
	body := io.MultiReader(zeros(past.StripeMax+1), readerFunc(func([]byte) (int, error) { cancel(); return 0, ending.Err() }))
	_, err := s.Put(ending, "bucket", "key", gateway.PutInput{Body: body, Size: -1})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	b.wantNoWaste(s)
}

func TestUnknownOutcomesKeepAllBytes(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, check := range []gateway.Check{nil, func(*gateway.Object) error { return nil }} {
			b, s := one(t, pasttest.Options{})
			old, next := data(8, 100_000), data(9, 200_000)
			put(t, s, "key", old)
			b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
				if (c.Op == pasttest.OpWrite || c.Op == pasttest.OpUpdate) && c.Done == done {
					return past.ErrUnknown
				}
				return nil
			})
			in := input(next)
			in.Check = check
			_, err := s.Put(ctx, "bucket", "key", in)
			b.past.SetHook(nil)
			if want := map[bool]error{true: gateway.ErrUnavailable, false: gateway.ErrConflict}[check == nil]; !errors.Is(err, want) {
				t.Errorf("put: %v, want %v", err, want)
			}
			if n := len(b.past.LiveStripes()); n != 2 {
				t.Errorf("%d stripes live, want both", n)
			}
			want := old
			if done {
				want = next
			}
			wantObject(t, s, "key", want)
		}
	}
}

func TestOfConcurrentConditionalPutsOneWins(t *testing.T) {
	b, _ := one(t, pasttest.Options{})
	var wg sync.WaitGroup
	results := make(chan error, 16)
	stores := []*Store{b.store(), b.store()}
	for i := range cap(results) {
		wg.Go(func() {
			in := input(data(int64(i), 20_000))
			in.Check = func(cur *gateway.Object) error {
				if cur != nil {
					return gateway.ErrPrecondition
				}
				return nil
			}
			_, err := stores[i%2].Put(ctx, "bucket", "key", in)
			results <- err
		})
	}
	wg.Wait()
	won := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, gateway.ErrPrecondition):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d creations won", won, cap(results))
	}
	quiet(stores[0])
	b.wantNoWaste(stores[1])
}

func TestConditionalDelete(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	body := data(1, 30_000)
	etag := put(t, s, "key", body).ETag
	ifMatch := func(etag string) gateway.Check {
		return func(cur *gateway.Object) error {
			if cur == nil || cur.ETag != etag {
				return gateway.ErrPrecondition
			}
			return nil
		}
	}
	if err := s.Delete(ctx, "bucket", "key", ifMatch("other")); !errors.Is(err, gateway.ErrPrecondition) {
		t.Errorf("delete: %v", err)
	}
	wantObject(t, s, "key", body)
	b.must(nil, s.Delete(ctx, "bucket", "key", ifMatch(etag)))
	wantObject(t, s, "key", nil)
	b.wantNoWaste(s)
	b.must(nil, s.Delete(ctx, "bucket", "key", func(cur *gateway.Object) error {
		if cur != nil {
			return errors.New("there is something")
		}
		return nil
	}))
}

func TestCopy(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	for _, n := range []int{0, 500, 100_000, past.StripeMax + 77} {
		body := data(int64(n), n)
		in := input(body)
		in.Metadata.ContentType = "old"
		in.Digest = sums{newMD5(-1), []gateway.Checksum{{Algorithm: "CRC32", Value: "AAAAAA==", Type: "FULL_OBJECT"}}}
		_, err := s.Put(ctx, "bucket", "src", in)
		b.must(nil, err)
		src, err := s.Open(ctx, "bucket", "src")
		b.must(src, err)
		o, err := s.Copy(ctx, src, "bucket", "dst", gateway.CopyInput{Owner: "other"})
		if err != nil || o.ETag != md5Hex(body) || o.Metadata.ContentType != "old" || o.Owner != "other" || len(o.Checksums) != 1 {
			t.Fatalf("copy of %d bytes: %+v, %v", n, o, err)
		}
		wantObject(t, s, "dst", body)
		b.wantNoWaste(s)

		stripes := len(b.past.LiveStripes())
		o, err = s.Copy(ctx, src, "bucket", "src", gateway.CopyInput{Metadata: &gateway.Metadata{ContentType: "new"}})
		if err != nil || o.Metadata.ContentType != "new" || o.ETag != md5Hex(body) {
			t.Fatalf("copy onto itself: %+v, %v", o, err)
		}
		wantObject(t, s, "src", body)
		b.wantNoWaste(s)
		if got := len(b.past.LiveStripes()); got != stripes {
			t.Errorf("a copy onto itself changed the stripes from %d to %d", stripes, got)
		}
		// src is pinned to a record that is no longer the head: its bytes must be copied, not shared.
		put(t, s, "src", []byte("something else"))
		_, err = s.Copy(ctx, src, "bucket", "src", gateway.CopyInput{})
		b.must(nil, err)
		wantObject(t, s, "src", body)
		b.wantNoWaste(s)
	}
}

// sums is an MD5 digest with fixed checksums.
type sums struct {
	md5Digest
	extra []gateway.Checksum
}

func (d sums) Finish() (gateway.Sums, error) {
	out, err := d.md5Digest.Finish()
	out.Checksums = d.extra
	return out, err
}

func TestListPages(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	keys := []string{"a", "a/", "a/1", "a/2/x", "a/2/y", "b", "c/1", "c/2", "d"}
	for _, key := range keys {
		put(t, s, key, []byte(key))
	}
	put(t, s, "gone", nil)
	b.must(nil, s.Delete(ctx, "bucket", "gone", nil))
	for _, c := range []struct {
		q    gateway.ListQuery
		want string
	}{
		{gateway.ListQuery{}, "a a/ a/1 a/2/x a/2/y b c/1 c/2 d"},
		{gateway.ListQuery{Delimiter: "/"}, "a [a/] b [c/] d"},
		{gateway.ListQuery{Prefix: "a/", Delimiter: "/"}, "a/ a/1 [a/2/]"},
		{gateway.ListQuery{After: "a/2/x"}, "a/2/y b c/1 c/2 d"},
		{gateway.ListQuery{After: "a/", Delimiter: "/"}, "b [c/] d"},
		{gateway.ListQuery{After: "a/1", Delimiter: "/"}, "b [c/] d"},
		{gateway.ListQuery{Prefix: "x"}, ""},
	} {
		for limit := 1; limit < 12; limit++ {
			q, got := c.q, []string{}
			q.Max = limit
			for {
				page, err := s.List(ctx, "bucket", q)
				b.must(page, err)
				if n := len(page.Objects) + len(page.CommonPrefixes); n > limit || page.Truncated && n < limit {
					t.Fatalf("%+v: a page of %d", q, n)
				}
				got = append(got, merged(page)...)
				if !page.Truncated {
					break
				}
				q.After = page.Next
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%+v: %q, want %q", q, got, c.want)
			}
		}
	}
	if page, err := s.List(ctx, "bucket", gateway.ListQuery{}); err != nil || len(page.Objects) != 0 || page.Truncated {
		t.Errorf("a page of none: %+v, %v", page, err)
	}
}

func merged(page gateway.ListPage) (out []string) {
	o, c := page.Objects, page.CommonPrefixes
	for len(o)+len(c) > 0 {
		if len(c) == 0 || len(o) > 0 && o[0].Key < c[0] {
			out, o = append(out, o[0].Key), o[1:]
		} else {
			out, c = append(out, "["+c[0]+"]"), c[1:]
		}
	}
	return out
}

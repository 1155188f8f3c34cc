package gatewaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"larder/gateway"
)

// RunBackend holds a Backend to the contract of gateway.Backend. factory returns a fresh and empty one for each test, and
// arranges for its end with t.Cleanup.
func RunBackend(t *testing.T, factory func(t *testing.T) gateway.Backend) {
	for name, test := range map[string]func(*fixture){
		"Buckets":            testBuckets,
		"PutGet":             testPutGet,
		"FailedBodies":       testFailedBodies,
		"Overwrite":          testOverwrite,
		"Checks":             testChecks,
		"ConcurrentCreate":   testConcurrentCreate,
		"ConcurrentUpdate":   testConcurrentUpdate,
		"List":               testList,
		"ListTwin":           testListTwin,
		"Copy":               testCopy,
		"Multipart":          testMultipart,
		"CompleteErrors":     testCompleteErrors,
		"CompleteChecks":     testCompleteChecks,
		"CompleteTwice":      testCompleteTwice,
		"ListParts":          testListParts,
		"ListUploads":        testListUploads,
		"CopyPart":           testCopyPart,
		"MissingThings":      testMissingThings,
		"DeleteBucketUpload": testDeleteBucket,
	} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{T: t, b: factory(t), ctx: t.Context()}
			if _, err := f.b.CreateBucket(f.ctx, gateway.Bucket{Name: bucketName, Region: "us-east-1", Owner: "alice", Created: time.Now()}); err != nil {
				t.Fatal(err)
			}
			test(f)
		})
	}
}

const bucketName = "contract"

// fixture is one Backend under test, with the bucket "contract" in it.
type fixture struct {
	*testing.T
	b   gateway.Backend
	ctx context.Context
}

// pattern returns n bytes that differ for each seed.
func pattern(n int, seed int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func input(data []byte, check gateway.Check) gateway.PutInput {
	return gateway.PutInput{Body: bytes.NewReader(data), Size: int64(len(data)), Digest: newDigest(""), Owner: "alice", Check: check}
}

func (f *fixture) put(key string, data []byte) gateway.Object {
	f.Helper()
	o, err := f.b.Put(f.ctx, bucketName, key, input(data, nil))
	if err != nil {
		f.Fatalf("put %q: %v", key, err)
	}
	return o
}

func (f *fixture) open(key string) gateway.OpenObject {
	f.Helper()
	o, err := f.b.Open(f.ctx, bucketName, key)
	if err != nil {
		f.Fatalf("open %q: %v", key, err)
	}
	f.Cleanup(func() { o.Close() })
	return o
}

func (f *fixture) read(o gateway.OpenObject, off, n int64) []byte {
	f.Helper()
	var b bytes.Buffer
	if err := o.WriteRange(f.ctx, &b, off, n); err != nil {
		f.Fatalf("read %d+%d of %q: %v", off, n, o.Info().Key, err)
	}
	return b.Bytes()
}

func (f *fixture) wantBytes(key string, want []byte) gateway.Object {
	f.Helper()
	o := f.open(key)
	if got := f.read(o, 0, o.Info().Size); !bytes.Equal(got, want) {
		f.Fatalf("%q has %d bytes, want other %d", key, len(got), len(want))
	}
	return o.Info()
}

func (f *fixture) wantMissing(key string) {
	f.Helper()
	if o, err := f.b.Open(f.ctx, bucketName, key); !errors.Is(err, gateway.ErrNoSuchKey) {
		if err == nil {
			o.Close()
		}
		f.Errorf("open %q: %v, want ErrNoSuchKey", key, err)
	}
}

func (f *fixture) wantErr(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("error %v, want %v", err, want)
	}
}

func testBuckets(f *fixture) {
	other := gateway.Bucket{Name: "another", Region: "us-east-1", Owner: "bob", Created: time.Now().Truncate(time.Second)}
	if _, err := f.b.CreateBucket(f.ctx, other); err != nil {
		f.Fatal(err)
	}
	got, err := f.b.CreateBucket(f.ctx, gateway.Bucket{Name: "another", Owner: "alice"})
	f.wantErr(err, gateway.ErrBucketExists)
	if got.Owner != "bob" {
		f.Errorf("the bucket that is there has owner %q, want bob", got.Owner)
	}
	all, err := f.b.Buckets(f.ctx)
	if err != nil || len(all) != 2 || all[0].Name != "another" || all[1].Name != bucketName {
		f.Fatalf("buckets %+v, %v", all, err)
	}
	if got, err := f.b.Bucket(f.ctx, "another"); err != nil || got.Owner != "bob" || !got.Created.Equal(other.Created) {
		f.Errorf("bucket %+v, %v", got, err)
	}
	if err := f.b.DeleteBucket(f.ctx, "another"); err != nil {
		f.Fatal(err)
	}
	_, err = f.b.Bucket(f.ctx, "another")
	f.wantErr(err, gateway.ErrNoSuchBucket)
	f.wantErr(f.b.DeleteBucket(f.ctx, "another"), gateway.ErrNoSuchBucket)
}

func testDeleteBucket(f *fixture) {
	f.put("k", []byte("x"))
	f.wantErr(f.b.DeleteBucket(f.ctx, bucketName), gateway.ErrBucketNotEmpty)
	f.wantBytes("k", []byte("x"))
	if err := f.b.Delete(f.ctx, bucketName, "k", nil); err != nil {
		f.Fatal(err)
	}
	if err := f.b.DeleteBucket(f.ctx, bucketName); err != nil {
		f.Fatal(err)
	}
	if _, err := f.b.CreateBucket(f.ctx, gateway.Bucket{Name: bucketName, Owner: "bob"}); err != nil {
		f.Fatalf("create again: %v", err)
	}
	page, err := f.b.List(f.ctx, bucketName, gateway.ListQuery{Max: 10})
	if err != nil || len(page.Objects) != 0 {
		f.Errorf("a new bucket lists %+v, %v", page, err)
	}
}

func testPutGet(f *fixture) {
	sizes := []int{0, 1, 100, 16 << 10, 16<<10 + 1, 64 << 10, 1<<20 + 3, 9<<20 + 1}
	if testing.Short() {
		sizes = sizes[:7]
	}
	for _, size := range sizes {
		data := pattern(size, int64(size))
		key := fmt.Sprintf("dir/ü 日本 %d", size)
		in := input(data, nil)
		in.Metadata = gateway.Metadata{ContentType: "text/x", ContentEncoding: "gzip", CacheControl: "no-store", Expires: "never",
			ContentDisposition: "inline", ContentLanguage: "de", WebsiteRedirect: "/x", User: map[string]string{"a": "1", "ü": "2"}}
		d := newDigest("SHA256")
		in.Digest = d
		o, err := f.b.Put(f.ctx, bucketName, key, in)
		if err != nil {
			f.Fatalf("put %d bytes: %v", size, err)
		}
		want := sumsOf(data, "SHA256")
		if d.finished != 1 {
			f.Errorf("Finish was called %d times", d.finished)
		}
		got := f.wantBytes(key, data)
		for _, o := range []gateway.Object{o, got} {
			if o.Key != key || o.ETag != want.ETag || o.Size != int64(size) || o.Owner != "alice" || o.PartsCount != 0 ||
				len(o.Checksums) != 1 || o.Checksums[0] != want.Checksums[0] || time.Since(o.Modified).Abs() > time.Hour {
				f.Errorf("%d bytes: object %+v", size, o)
			}
			if fmt.Sprint(o.Metadata) != fmt.Sprint(in.Metadata) {
				f.Errorf("metadata %+v, want %+v", o.Metadata, in.Metadata)
			}
		}
		if !o.Modified.Equal(got.Modified) {
			f.Errorf("Put says modified %v, Open %v", o.Modified, got.Modified)
		}
		if size < 100 {
			continue
		}
		src, rng := f.open(key), rand.New(rand.NewSource(7))
		for range 20 {
			off := rng.Intn(size)
			n := rng.Intn(size - off + 1)
			if b := f.read(src, int64(off), int64(n)); !bytes.Equal(b, data[off:off+n]) {
				f.Fatalf("range %d+%d of %d differs", off, n, size)
			}
		}
	}
	// The length need not be known.
	in := input([]byte("stream"), nil)
	in.Size = -1
	if _, err := f.b.Put(f.ctx, bucketName, "unsized", in); err != nil {
		f.Fatal(err)
	}
	f.wantBytes("unsized", []byte("stream"))
	// Keys are flat, and what looks like a path is none.
	for _, key := range []string{"a", "a/b", "a/", "a//b", "../a", "./a", "/", strings.Repeat("k", 1024), "\x00\x01", "𝄞"} {
		f.put(key, []byte(key))
	}
	for _, key := range []string{"a", "a/b", "a/", "a//b", "../a", "./a", "/", strings.Repeat("k", 1024), "\x00\x01", "𝄞"} {
		f.wantBytes(key, []byte(key))
	}
}

// errReader yields n bytes and then err.
type errReader struct {
	n   int
	err error
}

func (r *errReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, r.err
	}
	n := min(len(p), r.n)
	r.n -= n
	return n, nil
}

func testFailedBodies(f *fixture) {
	broken, refused := errors.New("client gone"), errors.New("bad digest")
	f.put("there", []byte("old"))
	for _, size := range []int{0, 100, 200_000, 5 << 20} {
		for _, key := range []string{"new", "there"} {
			in := input(nil, nil)
			in.Body, in.Size = &errReader{size, broken}, int64(size)+1
			_, err := f.b.Put(f.ctx, bucketName, key, in)
			f.wantErr(err, broken)
			in = input(pattern(size, 1), nil)
			in.Digest = &digest{md5: newDigest("").md5, sum: newDigest("").sum, refuse: refused}
			_, err = f.b.Put(f.ctx, bucketName, key, in)
			f.wantErr(err, refused)
		}
	}
	f.wantMissing("new")
	f.wantBytes("there", []byte("old"))
	page, err := f.b.List(f.ctx, bucketName, gateway.ListQuery{Max: 10})
	if err != nil || len(page.Objects) != 1 {
		f.Errorf("list %+v, %v: a failed body is visible", page, err)
	}
	// A part is no different.
	u := f.upload("there", gateway.UploadInput{Owner: "alice"})
	in := input(nil, nil)
	in.Body, in.Size = &errReader{1000, broken}, 1001
	_, err = f.b.PutPart(f.ctx, bucketName, "there", u.ID, 1, in)
	f.wantErr(err, broken)
	parts, _, err := f.b.ListParts(f.ctx, bucketName, "there", u.ID, 0, 10)
	if err != nil || len(parts) != 0 {
		f.Errorf("parts %+v, %v: a failed part is visible", parts, err)
	}
}

func testOverwrite(f *fixture) {
	old, young := pattern(300_000, 1), pattern(200, 2)
	f.put("k", old)
	pinned := f.open("k")
	f.put("k", young)
	f.wantBytes("k", young)
	if !bytes.Equal(f.read(pinned, 0, int64(len(old))), old) {
		f.Error("an open object changed when it was overwritten")
	}
	if err := f.b.Delete(f.ctx, bucketName, "k", nil); err != nil {
		f.Fatal(err)
	}
	f.wantMissing("k")
	if !bytes.Equal(f.read(pinned, 1000, 100), old[1000:1100]) {
		f.Error("an open object changed when it was deleted")
	}
	if err := f.b.Delete(f.ctx, bucketName, "k", nil); err != nil {
		f.Errorf("delete of what is not there: %v", err)
	}
}

var errChecked = errors.New("the check says no")

func testChecks(f *fixture) {
	calls := 0
	absent := func(cur *gateway.Object) error {
		calls++
		if cur != nil {
			return fmt.Errorf("%w: %w", errChecked, gateway.ErrPrecondition)
		}
		return nil
	}
	first, err := f.b.Put(f.ctx, bucketName, "k", input([]byte("1"), absent))
	if err != nil || calls == 0 {
		f.Fatalf("put: %v after %d calls", err, calls)
	}
	_, err = f.b.Put(f.ctx, bucketName, "k", input([]byte("2"), absent))
	f.wantErr(err, errChecked)
	f.wantErr(err, gateway.ErrPrecondition)
	f.wantBytes("k", []byte("1"))
	same := func(cur *gateway.Object) error {
		if cur == nil || cur.ETag != first.ETag || cur.Size != 1 || cur.Key != "k" || !cur.Modified.Equal(first.Modified) {
			return errChecked
		}
		return nil
	}
	if _, err := f.b.Put(f.ctx, bucketName, "k", input([]byte("22"), same)); err != nil {
		f.Fatal(err)
	}
	_, err = f.b.Put(f.ctx, bucketName, "k", input([]byte("333"), same))
	f.wantErr(err, errChecked)
	f.wantErr(f.b.Delete(f.ctx, bucketName, "k", same), errChecked)
	f.wantBytes("k", []byte("22"))
	present := func(cur *gateway.Object) error {
		if cur == nil {
			return errChecked
		}
		return nil
	}
	if err := f.b.Delete(f.ctx, bucketName, "k", present); err != nil {
		f.Fatal(err)
	}
	f.wantErr(f.b.Delete(f.ctx, bucketName, "k", present), errChecked)
	if _, err := f.b.Put(f.ctx, bucketName, "k", input([]byte("4"), absent)); err != nil {
		f.Errorf("create after delete: %v", err)
	}
}

// testConcurrentCreate lets many writers create one object under "must not be there": exactly one succeeds.
func testConcurrentCreate(f *fixture) {
	const writers = 16
	won := make(chan []byte, writers)
	done := make(chan error, writers)
	for i := range writers {
		go func() {
			data := pattern(1000, int64(i))
			_, err := f.b.Put(f.ctx, bucketName, "race", input(data, func(cur *gateway.Object) error {
				if cur != nil {
					return gateway.ErrPrecondition
				}
				return nil
			}))
			if err == nil {
				won <- data
			} else if !errors.Is(err, gateway.ErrPrecondition) && !errors.Is(err, gateway.ErrConflict) {
				done <- err
				return
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			f.Errorf("a loser got %v", err)
		}
	}
	if len(won) != 1 {
		f.Fatalf("%d writers created the object", len(won))
	}
	f.wantBytes("race", <-won)
}

// testConcurrentUpdate lets writers increment a counter by compare-and-swap: no increment is lost.
func testConcurrentUpdate(f *fixture) {
	const writers, increments = 4, 5
	f.put("counter", []byte("0"))
	done := make(chan error, writers)
	for range writers {
		go func() {
			for n := 0; n < increments; {
				o, err := f.b.Open(f.ctx, bucketName, "counter")
				if err != nil {
					done <- err
					return
				}
				var b bytes.Buffer
				err = o.WriteRange(f.ctx, &b, 0, o.Info().Size)
				etag := o.Info().ETag
				o.Close()
				var value int
				if err == nil {
					_, err = fmt.Sscan(b.String(), &value)
				}
				if err != nil {
					done <- err
					return
				}
				_, err = f.b.Put(f.ctx, bucketName, "counter", input(fmt.Append(nil, value+1), func(cur *gateway.Object) error {
					if cur == nil || cur.ETag != etag {
						return gateway.ErrPrecondition
					}
					return nil
				}))
				switch {
				case err == nil:
					n++
				case !errors.Is(err, gateway.ErrPrecondition) && !errors.Is(err, gateway.ErrConflict):
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			f.Fatal(err)
		}
	}
	f.wantBytes("counter", []byte(fmt.Sprint(writers*increments)))
}

func testMissingThings(f *fixture) {
	_, err := f.b.Open(f.ctx, "nowhere", "k")
	f.wantErr(err, gateway.ErrNoSuchBucket)
	_, err = f.b.Put(f.ctx, "nowhere", "k", input(nil, nil))
	f.wantErr(err, gateway.ErrNoSuchBucket)
	_, err = f.b.List(f.ctx, "nowhere", gateway.ListQuery{Max: 1})
	f.wantErr(err, gateway.ErrNoSuchBucket)
	_, err = f.b.CreateUpload(f.ctx, "nowhere", "k", gateway.UploadInput{})
	f.wantErr(err, gateway.ErrNoSuchBucket)
	f.wantErr(f.b.Delete(f.ctx, "nowhere", "k", nil), gateway.ErrNoSuchBucket)
	f.wantMissing("k")
	u := f.upload("k", gateway.UploadInput{Owner: "alice"})
	for _, id := range []string{"", "nonsense", u.ID + "0", strings.Repeat("ab", 16)} {
		_, err = f.b.Upload(f.ctx, bucketName, "k", id)
		f.wantErr(err, gateway.ErrNoSuchUpload)
		_, err = f.b.PutPart(f.ctx, bucketName, "k", id, 1, input(nil, nil))
		f.wantErr(err, gateway.ErrNoSuchUpload)
		_, err = f.b.Complete(f.ctx, bucketName, "k", id, gateway.CompleteInput{Parts: []gateway.CompletedPart{{Number: 1, ETag: sumsOf(nil, "").ETag}}, Size: -1})
		f.wantErr(err, gateway.ErrNoSuchUpload)
		f.wantErr(f.b.Abort(f.ctx, bucketName, "k", id), gateway.ErrNoSuchUpload)
		_, _, err = f.b.ListParts(f.ctx, bucketName, "k", id, 0, 1)
		f.wantErr(err, gateway.ErrNoSuchUpload)
	}
	// An upload belongs to one object key.
	_, err = f.b.Upload(f.ctx, bucketName, "other", u.ID)
	f.wantErr(err, gateway.ErrNoSuchUpload)
}

package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/auth/sigv4"
	"larder/gateway"
	"larder/gateway/gatewaytest"
)

func testNow() time.Time { return time.Now() }

func signHost(t testing.TB, r *http.Request) {
	t.Helper()
	s := sigv4.Signer{AccessKey: aliceKey, Secret: aliceSecret, Region: "us-east-1"}
	if _, err := s.Sign(&sigv4.Request{Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Host: r.Host, Header: r.Header}, sigv4.EmptyHash, testNow()); err != nil {
		t.Fatal(err)
	}
}

// TestReadConditions is RFC 9110 §13.2.2 as a table, on GET, on HEAD and on the source of a copy.
func TestReadConditions(t *testing.T) {
	f := bucketFront(t, nil)
	changed := time.Now().Add(-time.Hour).Truncate(time.Second)
	f.backend.Now = func() time.Time { return changed.Add(300 * time.Millisecond) } // Last-Modified has whole seconds
	_, _, _, h := f.do(t, f.signed(t, "PUT", "/bkt/k", []byte("x"), nil))
	etag, other := h.Get("ETag"), `"00000000000000000000000000000000"`
	at := func(d time.Duration) string { return changed.Add(d).UTC().Format(http.TimeFormat) }
	for _, c := range []struct {
		match, noneMatch, modified, unmodified string
		status                                 int
	}{
		{match: etag, status: 200},
		{match: strings.Trim(etag, `"`), status: 200},
		{match: "*", status: 200},
		{match: other + ", " + etag, status: 200},
		{match: other, status: 412},
		{noneMatch: etag, status: 304},
		{noneMatch: "W/" + etag, status: 304},
		{noneMatch: "*", status: 304},
		{noneMatch: other, status: 200},
		{modified: at(-time.Second), status: 200},
		{modified: at(0), status: 304},
		{modified: at(time.Minute), status: 304},
		{modified: at(24 * time.Hour), status: 200}, // in the future
		{modified: "nonsense", status: 200},
		{unmodified: at(-time.Second), status: 412},
		{unmodified: at(0), status: 200},
		{match: etag, unmodified: at(-time.Second), status: 200}, // If-Match goes first
		{match: other, unmodified: at(0), status: 412},
		{noneMatch: other, modified: at(0), status: 200}, // If-None-Match goes first
		{noneMatch: etag, modified: at(-time.Second), status: 304},
		{match: other, noneMatch: etag, status: 412},
		{match: etag, noneMatch: etag, status: 304},
	} {
		header, source := map[string]string{}, map[string]string{"x-amz-copy-source": "bkt/k"}
		for name, value := range map[string]string{"If-Match": c.match, "If-None-Match": c.noneMatch, "If-Modified-Since": c.modified, "If-Unmodified-Since": c.unmodified} {
			if value != "" {
				header[name] = value
				source["x-amz-copy-source-"+strings.ToLower(name)] = value
			}
		}
		for _, method := range []string{"GET", "HEAD"} {
			status, _, body, h := f.do(t, f.signed(t, method, "/bkt/k", nil, header))
			if status != c.status {
				t.Errorf("%s %v: %d, want %d", method, header, status, c.status)
			}
			if status == 304 && (h.Get("ETag") != etag || len(body) > 0) {
				t.Errorf("304 with ETag %s and body %q", h.Get("ETag"), body)
			}
		}
		want := c.status
		if want == 304 {
			want = 412
		}
		if status, _, _, _ := f.do(t, f.signed(t, "PUT", "/bkt/copy", nil, source)); status != want {
			t.Errorf("copy %v: %d, want %d", source, status, want)
		}
	}
}

func TestWriteConditions(t *testing.T) {
	f := bucketFront(t, nil)
	put := func(header map[string]string) *http.Request {
		return f.signed(t, "PUT", "/bkt/k", []byte("x"), header)
	}
	f.wantAnswer(t, put(map[string]string{"If-Match": `"x"`}), 404, "NoSuchKey")
	f.wantAnswer(t, put(map[string]string{"If-Match": "*"}), 404, "NoSuchKey")
	f.wantAnswer(t, put(map[string]string{"If-None-Match": "*"}), 200, "")
	body := f.wantAnswer(t, put(map[string]string{"If-None-Match": "*"}), 412, "PreconditionFailed")
	if !strings.Contains(string(body), "<Condition>If-None-Match</Condition>") {
		t.Errorf("the answer does not name the condition: %s", body)
	}
	etag := must(f.backend.Open(t.Context(), "bkt", "k")).Info().ETag
	f.wantAnswer(t, put(map[string]string{"If-Match": `"` + etag + `"`}), 200, "")
	f.wantAnswer(t, put(map[string]string{"If-Match": "*"}), 200, "")
	f.wantAnswer(t, put(map[string]string{"If-Match": `"x"`}), 412, "PreconditionFailed")
	f.wantAnswer(t, put(map[string]string{"If-Match": etag, "If-None-Match": "*"}), 501, "NotImplemented")

	del := func(header map[string]string) *http.Request { return f.signed(t, "DELETE", "/bkt/k", nil, header) }
	f.wantAnswer(t, del(map[string]string{"If-Match": `"x"`}), 412, "PreconditionFailed")
	f.wantAnswer(t, del(map[string]string{"x-amz-if-match-size": "2"}), 412, "PreconditionFailed")
	f.wantAnswer(t, del(map[string]string{"x-amz-if-match-size": "x"}), 400, "InvalidArgument")
	f.wantAnswer(t, del(map[string]string{"x-amz-if-match-last-modified-time": "2001-02-03T04:05:06Z"}), 412, "PreconditionFailed")
	f.wantAnswer(t, del(map[string]string{"x-amz-if-match-last-modified-time": "yesterday"}), 400, "InvalidArgument")
	f.wantKeys(t, "k")
	f.wantAnswer(t, del(map[string]string{"If-Match": `"` + etag + `"`, "x-amz-if-match-size": "1"}), 204, "")
	f.wantKeys(t)
	f.wantAnswer(t, del(map[string]string{"If-Match": `"` + etag + `"`}), 404, "NoSuchKey")
	f.wantAnswer(t, del(nil), 204, "")

	f.wantAnswer(t, put(nil), 200, "")
	doc := "<Delete><Object><Key>k</Key><ETag>wrong</ETag></Object><Object><Key>none</Key></Object></Delete>"
	body = f.wantAnswer(t, f.signed(t, "POST", "/bkt?delete", []byte(doc), map[string]string{"Content-MD5": md5Of(doc)}), 200, "PreconditionFailed")
	if !strings.Contains(string(body), "<Deleted><Key>none</Key></Deleted>") {
		t.Errorf("answer %s", body)
	}
	f.wantKeys(t, "k")
	u := must(f.backend.CreateUpload(t.Context(), "bkt", "k", gateway.UploadInput{Owner: "alice"}))
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k?partNumber=1&uploadId="+u.ID, []byte("x"), nil), 200, "")
	complete := []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag + "</ETag></Part></CompleteMultipartUpload>")
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, complete, map[string]string{"If-None-Match": "*"}), 412, "PreconditionFailed")
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, complete, map[string]string{"If-Match": `"x"`}), 412, "PreconditionFailed")
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, complete, map[string]string{"x-amz-mp-object-size": "2"}), 400, "InvalidRequest")
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, complete, map[string]string{"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}), 400, "BadDigest")
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, complete, map[string]string{"If-Match": etag}), 200, "")
}

// TestRacingCreates sends many If-None-Match: * at once: one wins.
func TestRacingCreates(t *testing.T) {
	f := bucketFront(t, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 20 {
		r := f.signed(t, "PUT", "/bkt/k", fmt.Append(nil, i), map[string]string{"If-None-Match": "*"})
		wg.Go(func() {
			status, _, _, _ := f.do(t, r)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	wg.Wait()
	if statuses[200] != 1 || statuses[412] != 19 {
		t.Errorf("statuses %v", statuses)
	}
}

// failing is a Backend whose Put and reads fail with err.
type failing struct {
	*gatewaytest.Memory
	err error
}

func (b *failing) Put(ctx context.Context, bucket, key string, in gateway.PutInput) (gateway.Object, error) {
	return gateway.Object{}, fmt.Errorf("objects: put %q: %w", key, b.err)
}

// TestBackendErrors checks what a client is told of the network's troubles.
func TestBackendErrors(t *testing.T) {
	b := &failing{Memory: gatewaytest.NewMemory()}
	f := bucketFront(t, func(c *gateway.Config) { c.Backend = b })
	b.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt", Owner: "alice"})
	for err, want := range map[error]string{gateway.ErrConflict: "409 ConditionalRequestConflict", gateway.ErrUnavailable: "503 ServiceUnavailable",
		gateway.ErrOverloaded: "503 SlowDown", gateway.ErrNoSpace: "507 InsufficientStorage", errors.New("bug"): "500 InternalError"} {
		b.err = err
		status, code, body, _ := f.do(t, f.signed(t, "PUT", "/bkt/k", []byte("x"), nil))
		if got := fmt.Sprint(status, " ", code); got != want || strings.Contains(string(body), "bug") {
			t.Errorf("%v: %s, want %s: %s", err, got, want, body)
		}
	}
}

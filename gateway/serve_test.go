package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"larder/gateway"
	"larder/gateway/gatewaytest"
)

// TestGet reads ranges and parts with the headers that go with them.
func TestGet(t *testing.T) {
	f := bucketFront(t, nil)
	data := random(1000)
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", data, map[string]string{"Content-Type": "text/x", "Content-Encoding": "br", "Cache-Control": "no-store",
		"Content-Disposition": "inline", "Content-Language": "de", "Expires": "soon", "x-amz-meta-Colour": "blau", "x-amz-website-redirect-location": "/x"}), 200, "")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/empty", nil, nil), 200, "")
	for _, c := range []struct {
		target, rng  string
		status       int
		contentRange string
		from, to     int
	}{
		{"/bkt/k", "", 200, "", 0, 1000},
		{"/bkt/k", "bytes=0-9", 206, "bytes 0-9/1000", 0, 10},
		{"/bkt/k", "bytes=990-", 206, "bytes 990-999/1000", 990, 1000},
		{"/bkt/k", "bytes=-1", 206, "bytes 999-999/1000", 999, 1000},
		{"/bkt/k", "bytes=0-1,5-6", 200, "", 0, 1000},
		{"/bkt/k", "bytes=1000-", 416, "bytes */1000", 0, 0},
		{"/bkt/k?partNumber=1", "", 206, "bytes 0-999/1000", 0, 1000},
		{"/bkt/k?partNumber=2", "", 416, "", 0, 0},
		{"/bkt/k?partNumber=0", "", 400, "", 0, 0},
		{"/bkt/k?partNumber=1", "bytes=0-9", 400, "", 0, 0},
		{"/bkt/empty", "", 200, "", 0, 0},
		{"/bkt/empty", "bytes=0-", 416, "bytes */0", 0, 0},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			header := map[string]string{"x-amz-checksum-mode": "ENABLED"}
			if c.rng != "" {
				header["Range"] = c.rng
			}
			status, _, body, h := f.do(t, f.signed(t, method, c.target, nil, header))
			name := method + " " + c.target + " " + c.rng
			if status != c.status || h.Get("Content-Range") != c.contentRange {
				t.Errorf("%s: %d with %q, want %d with %q", name, status, h.Get("Content-Range"), c.status, c.contentRange)
			}
			if status >= 300 {
				continue
			}
			if method == "GET" && c.target != "/bkt/empty" && !bytes.Equal(body, data[c.from:c.to]) || h.Get("Content-Length") != fmt.Sprint(c.to-c.from) {
				t.Errorf("%s: %d other bytes, Content-Length %s", name, len(body), h.Get("Content-Length"))
			}
			if whole := c.to-c.from == 1000 || c.target == "/bkt/empty"; whole != (h.Get("X-Amz-Checksum-Crc64nvme") != "") {
				t.Errorf("%s: checksum %q", name, h.Get("X-Amz-Checksum-Crc64nvme"))
			}
			if h.Get("Accept-Ranges") != "bytes" || h.Get("Last-Modified") == "" || len(h.Get("ETag")) != 34 {
				t.Errorf("%s: header %v", name, h)
			}
		}
	}
	_, _, _, h := f.do(t, f.signed(t, "GET", "/bkt/k", nil, nil))
	for name, want := range map[string]string{"Content-Type": "text/x", "Content-Encoding": "br", "Cache-Control": "no-store", "Content-Disposition": "inline",
		"Content-Language": "de", "Expires": "soon", "X-Amz-Meta-Colour": "blau", "X-Amz-Website-Redirect-Location": "/x", "X-Amz-Server-Side-Encryption": "AES256",
		"X-Amz-Checksum-Crc64nvme": ""} {
		if h.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, h.Get(name), want)
		}
	}
	_, _, _, h = f.do(t, f.signed(t, "GET", "/bkt/k?response-content-type=a%2Fb&response-expires=never&response-content-disposition=x&response-cache-control=y&response-content-language=z&response-content-encoding=w", nil, nil))
	for name, want := range map[string]string{"Content-Type": "a/b", "Expires": "never", "Content-Disposition": "x", "Cache-Control": "y", "Content-Language": "z", "Content-Encoding": "w"} {
		if h.Get(name) != want {
			t.Errorf("overridden %s is %q, want %q", name, h.Get(name), want)
		}
	}
	status, _, body, h := f.do(t, f.signed(t, "HEAD", "/bkt/none", nil, nil))
	if status != 404 || len(body) != 0 || h.Get("X-Amz-Request-Id") == "" {
		t.Errorf("HEAD of nothing: %d %q", status, body)
	}
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/m", nil, map[string]string{"x-amz-meta-a": strings.Repeat("m", 2048)}), 400, "MetadataTooLarge")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/m", nil, map[string]string{"x-amz-meta-a": strings.Repeat("m", 2047)}), 200, "")
}

// TestListing reads the parameters and the form of both listings; what is listed is the Backend's and its contract's matter.
func TestListing(t *testing.T) {
	f := bucketFront(t, nil)
	for _, key := range []string{"a", "b/1", "b/2", "c d+é\x02", "e"} {
		f.backend.Put(t.Context(), "bkt", key, gatewaytest.Input([]byte(key)))
	}
	list := func(query string) string {
		t.Helper()
		return string(f.wantAnswer(t, f.signed(t, "GET", "/bkt?"+query, nil, nil), 200, ""))
	}
	has := func(doc string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if not, ok := strings.CutPrefix(want, "!"); ok == strings.Contains(doc, strings.TrimPrefix(want, "!")) {
				t.Errorf("%q: present is %v in %s", not, ok, doc)
			}
		}
	}
	has(list(""), "<Marker></Marker>", "<Prefix></Prefix>", "<MaxKeys>1000</MaxKeys>", "<IsTruncated>false</IsTruncated>", "<Key>c d+é&#x2;</Key>", "!NextMarker", "!EncodingType", "<Owner>", "<StorageClass>STANDARD</StorageClass>")
	has(list("encoding-type=url&prefix=c%20"), "<Key>c%20d%2B%C3%A9%02</Key>", "<EncodingType>url</EncodingType>", "<Prefix>c%20</Prefix>")
	has(list("max-keys=2"), "<IsTruncated>true</IsTruncated>", "!NextMarker", "<Key>b/1</Key>", "!<Key>b/2</Key>")
	has(list("max-keys=2&delimiter=/"), "<NextMarker>b/</NextMarker>", "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>", "!<Key>b/1</Key>", "<Delimiter>/</Delimiter>")
	has(list("delimiter=/&marker=b/"), "!<Prefix>b/</Prefix>", "<Marker>b/</Marker>", "<Key>e</Key>", "!<Key>a</Key>")
	has(list("max-keys=0"), "<IsTruncated>false</IsTruncated>", "<MaxKeys>0</MaxKeys>", "!<Contents>")
	has(list("max-keys=100000"), "<MaxKeys>1000</MaxKeys>")
	has(list("list-type=2&max-keys=2&start-after=a"), "<KeyCount>2</KeyCount>", "<StartAfter>a</StartAfter>", "<Key>b/1</Key>", "!<Owner>", "!<Marker>", "<IsTruncated>true</IsTruncated>")
	has(list("list-type=2&fetch-owner=true"), "<Owner><ID>alice</ID>", "<KeyCount>5</KeyCount>", "!NextContinuationToken")
	doc := list("list-type=2&delimiter=/&max-keys=2")
	_, rest, _ := strings.Cut(doc, "<NextContinuationToken>")
	token, _, _ := strings.Cut(rest, "<")
	has(doc, "<KeyCount>2</KeyCount>", "<Prefix>b/</Prefix>")
	has(list("list-type=2&delimiter=/&continuation-token="+token), "!<Key>a</Key>", "!<Prefix>b/</Prefix>", "<Key>e</Key>", "<ContinuationToken>"+token)
	for query, code := range map[string]string{"max-keys=x": "InvalidArgument", "max-keys=-1": "InvalidArgument", "max-keys=99999999999": "InvalidArgument", "encoding-type=x": "InvalidArgument",
		"list-type=2&continuation-token=x": "InvalidArgument", "list-type=2&continuation-token=": "InvalidArgument", "uploads&max-uploads=x": "InvalidArgument"} {
		f.wantAnswer(t, f.signed(t, "GET", "/bkt?"+query, nil, nil), 400, code)
	}
	f.backend.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt2", Owner: "alice"})
	doc = string(f.wantAnswer(t, f.signed(t, "GET", "/?max-buckets=1", nil, nil), 200, ""))
	_, rest, _ = strings.Cut(doc, "<ContinuationToken>")
	token, _, _ = strings.Cut(rest, "<")
	has(doc, "<Name>bkt</Name>", "!<Name>bkt2</Name>")
	has(string(f.wantAnswer(t, f.signed(t, "GET", "/?continuation-token="+token, nil, nil), 200, "")), "!<Name>bkt</Name>", "<Name>bkt2</Name>", "!ContinuationToken")
	has(string(f.wantAnswer(t, f.signed(t, "GET", "/?prefix=bkt2", nil, nil), 200, "")), "!<Name>bkt</Name>", "<Name>bkt2</Name>", "<Prefix>bkt2</Prefix>")
	f.wantAnswer(t, f.signed(t, "GET", "/?max-buckets=0", nil, nil), 400, "InvalidArgument")
}

// slow is a Backend whose Complete and Put wait for release.
type slow struct {
	*gatewaytest.Memory
	entered, release chan struct{}
	err              error
}

func (b *slow) Complete(ctx context.Context, bucket, key, id string, in gateway.CompleteInput) (gateway.Object, error) {
	<-b.release
	if b.err != nil {
		return gateway.Object{}, b.err
	}
	return gateway.Object{Key: key, ETag: "00-1"}, nil
}

func (b *slow) Bucket(ctx context.Context, name string) (gateway.Bucket, error) {
	if b.entered != nil && name == "slow-one" {
		b.entered <- struct{}{}
		<-b.release
	}
	return b.Memory.Bucket(ctx, name)
}

// TestSlowComplete keeps a connection alive with blanks, in virtual time, and tells of an error inside the 200; the log and the counters
// have that error, too.
func TestSlowComplete(t *testing.T) {
	for _, failure := range []error{nil, gateway.ErrUnavailable} {
		for took, wantBlanks := range map[time.Duration]int{time.Second: 0, 17 * time.Second: 3} {
			synctest.Test(t, func(t *testing.T) {
				b := &slow{Memory: gatewaytest.NewMemory(), release: make(chan struct{}), err: failure}
				b.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt", Owner: "alice"})
				core, logs := observer.New(zap.InfoLevel)
				f := &front{metrics: prometheus.NewRegistry()}
				g := gateway.New(gateway.Config{Backend: b, Keyring: testKeys, Log: zap.New(core), Metrics: f.metrics})
				r := signedAs(t, aliceKey, aliceSecret, time.Now(), "POST", "http://h/bkt/k?uploadId=u", []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"), nil)
				r.Header.Set("Content-Length", fmt.Sprint(r.ContentLength))
				w := httptest.NewRecorder()
				done := make(chan struct{})
				go func() {
					g.ServeHTTP(w, r)
					close(done)
				}()
				time.Sleep(took)
				close(b.release)
				<-done
				body := w.Body.String()
				head, rest, _ := strings.Cut(body, "\n")
				blanks := len(rest) - len(strings.TrimLeft(rest, " "))
				wantStatus, want, code := 200, "<CompleteMultipartUploadResult", "OK"
				if failure != nil {
					want, code = "<Error><Code>ServiceUnavailable</Code>", "ServiceUnavailable"
					if wantBlanks == 0 {
						wantStatus = 503
					}
				}
				if blanks != wantBlanks || w.Code != wantStatus || !strings.HasPrefix(head, "<?xml") || !strings.HasPrefix(strings.TrimLeft(rest, " "), want) {
					t.Errorf("after %v, %v: %d with %d blanks: %s", took, failure, w.Code, blanks, body)
				}
				if m := logs.All()[0].ContextMap(); m["code"] != code || (m["error"] == nil) != (failure == nil) {
					t.Errorf("after %v, %v: access log %v", took, failure, m)
				}
				if got := f.counters(t, "larder_s3_requests_total"); got != "["+code+"/CompleteMultipartUpload/ 1]" {
					t.Errorf("after %v, %v: requests %s", took, failure, got)
				}
			})
		}
	}
}

// TestOverload fills the slots: one request more gets SlowDown, and a slot that is freed is used again.
func TestOverload(t *testing.T) {
	b := &slow{Memory: gatewaytest.NewMemory(), entered: make(chan struct{}), release: make(chan struct{})}
	f := bucketFront(t, func(c *gateway.Config) { c.Backend, c.MaxRequests, c.MaxWait = b, 2, 10*time.Millisecond })
	b.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt", Owner: "alice"})
	done := make(chan int, 2)
	for range 2 {
		r := f.signed(t, "GET", "/slow-one", nil, nil)
		go func() {
			status, _, _, _ := f.do(t, r)
			done <- status
		}()
		<-b.entered
	}
	f.wantAnswer(t, f.signed(t, "GET", "/bkt", nil, nil), 503, "SlowDown")
	close(b.release)
	for range 2 {
		if status := <-done; status != 404 {
			t.Errorf("a request in a slot got %d", status)
		}
	}
	f.wantAnswer(t, f.signed(t, "GET", "/bkt", nil, nil), 200, "")
}

// rotten is a Backend whose objects break after good bytes.
type rotten struct {
	*gatewaytest.Memory
	good int64
}

type rottenObject struct {
	gateway.OpenObject
	good int64
}

func (b *rotten) Open(ctx context.Context, bucket, key string) (gateway.OpenObject, error) {
	o, err := b.Memory.Open(ctx, bucket, key)
	return rottenObject{o, b.good}, err
}

func (o rottenObject) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if err := o.OpenObject.WriteRange(ctx, w, off, min(n, o.good)); err != nil {
		return err
	}
	return fmt.Errorf("stripe 2: %w", gateway.ErrUnavailable)
}

// TestBrokenRead loses an object while it is read: before the first byte that is a proper error, later a cut connection.
func TestBrokenRead(t *testing.T) {
	b := &rotten{Memory: gatewaytest.NewMemory()}
	f := bucketFront(t, func(c *gateway.Config) { c.Backend = b })
	b.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt", Owner: "alice"})
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", random(1<<20), nil), 200, "")
	status, code, _, h := f.do(t, f.signed(t, "GET", "/bkt/k", nil, nil))
	if status != 503 || code != "ServiceUnavailable" || h.Get("ETag") != "" {
		t.Errorf("nothing readable: %d %s %v", status, code, h)
	}
	b.good = 700_000
	resp := must(f.Client().Do(f.signed(t, "GET", "/bkt/k", nil, nil)))
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || err == nil || len(got) > 700_000 {
		t.Errorf("read %d bytes with status %d, error %v: the client cannot tell", len(got), resp.StatusCode, err)
	}
	f.Server.Close()
	if got := f.counters(t, "larder_s3_answers_aborted_total"); got != "[ 1]" {
		t.Errorf("aborted answers %s", got)
	}
}

// counters returns the labels and values of a counter, as Gather sorts them.
func (f *front) counters(t *testing.T, name string) string {
	t.Helper()
	var out []string
	for _, family := range must(f.metrics.Gather()) {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			line := ""
			for _, l := range m.GetLabel() {
				line += l.GetValue() + "/"
			}
			out = append(out, fmt.Sprint(line, " ", m.GetCounter().GetValue()))
		}
	}
	return fmt.Sprint(out)
}

// TestAccounts looks at the access log and the counters.
func TestAccounts(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	f := bucketFront(t, func(c *gateway.Config) { c.Log = zap.New(core) })
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/the-key", make([]byte, 1234), nil), 200, "")
	f.wantAnswer(t, f.signed(t, "GET", "/bkt/none", nil, nil), 404, "NoSuchKey")
	f.wantAnswer(t, must(http.NewRequest("GET", f.URL+"/bkt?X-Amz-Signature=5ec2e7&x", nil)), 501, "NotImplemented")
	f.Server.Close()
	lines := logs.FilterMessage("s3 request").All()
	if len(lines) != 3 {
		t.Fatalf("%d lines in the access log", len(lines))
	}
	m := lines[0].ContextMap()
	if m["operation"] != "PutObject" || m["code"] != "OK" || m["objectKey"] != "the-key" || m["user"] != "alice" || m["inBytes"] != int64(1234) || m["requestId"] == "" || m["status"] != int64(200) {
		t.Errorf("access log %v", m)
	}
	for _, l := range lines {
		if text := fmt.Sprint(l.ContextMap()); strings.Contains(text, "5ec2e7") || strings.Contains(text, aliceSecret) {
			t.Errorf("a secret or signature is in the log: %s", text)
		}
	}
	if got := f.counters(t, "larder_s3_requests_total"); got != "[NoSuchKey/GetObject/ 1 NotImplemented/ListObjects/ 1 OK/PutObject/ 1]" {
		t.Errorf("requests %s", got)
	}
}

// TestServerLimits sends a header too large and a request that never ends.
func TestServerLimits(t *testing.T) {
	f := bucketFront(t, nil)
	r := f.signed(t, "GET", "/bkt", nil, map[string]string{"x-amz-meta-a": strings.Repeat("a", 64<<10)})
	resp := must(f.Client().Do(r))
	resp.Body.Close()
	if resp.StatusCode != 431 {
		t.Errorf("a header of 64 KiB: %d", resp.StatusCode)
	}
	s := gateway.NewServer(http.NotFoundHandler(), zap.NewNop())
	if s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Error("a client may hold a connection for ever")
	}
}

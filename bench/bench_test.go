package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/auth/sigv4"
)

const (
	testAccess = "AKBENCH"
	testSecret = "bench-secret"
)

// server is a small S3 in memory that checks every signature.
type server struct {
	t *testing.T

	mu      sync.Mutex
	bucket  bool
	objects map[string][]byte
	seen    map[string]int  // requests by method
	hashes  map[string]bool // values of x-amz-content-sha256 of PUT
	mangle  func(path string, body []byte) []byte
	refuse  func(r *http.Request) bool
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("body of %s %s: %v", r.Method, r.URL, err)
	}
	raw := sigv4.Request{Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Host: r.Host, Header: r.Header}
	query, err := sigv4.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.t.Error(err)
	}
	auth, err := sigv4.Parse(&raw, query)
	if err == nil {
		err = auth.Verify(&raw, testSecret)
	}
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[r.Method]++
	path := strings.TrimPrefix(r.URL.Path, "/b")
	switch {
	case s.refuse != nil && s.refuse(r):
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "<Code>SlowDown</Code>")
	case path == "" && r.Method == "HEAD" && !s.bucket, path != "" && r.Method == "GET" && s.objects[path] == nil:
		w.WriteHeader(http.StatusNotFound)
	case path == "" && r.Method == "PUT":
		s.bucket = true
	case path == "" && r.Method == "DELETE":
		if len(s.objects) > 0 {
			s.t.Errorf("bucket removed with %d objects in it", len(s.objects))
		}
		s.bucket = false
	case path == "" && r.Method == "GET":
		fmt.Fprint(w, strings.Repeat("<Contents/>", len(s.objects)))
	case r.Method == "PUT":
		s.hashes[auth.PayloadHash] = true
		s.objects[path] = body
	case r.Method == "DELETE":
		delete(s.objects, path)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "GET":
		body := s.objects[path]
		if s.mangle != nil {
			body = s.mangle(path, bytes.Clone(body))
		}
		_, _ = w.Write(body)
	}
}

func start(t *testing.T) (*server, Config) {
	s := &server{t: t, objects: map[string][]byte{}, seen: map[string]int{}, hashes: map[string]bool{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, Config{Endpoint: h.URL, AccessKey: testAccess, SecretKey: testSecret, Bucket: "b", Duration: 100 * time.Millisecond, Verify: true}
}

func load(t *testing.T, cfg Config, names string) (*Runner, []Result) {
	t.Helper()
	var err error
	if cfg.Loads, err = ParseLoads(names); err != nil {
		t.Fatal(err)
	}
	r, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r, res
}

// Every load does signed requests of its kind without an error, and the bucket goes at the end.
func TestLoads(t *testing.T) {
	s, cfg := start(t)
	r, res := load(t, cfg, "put4k,get4k,put1m,get1m,list,delete")
	for _, x := range res {
		if x.Requests == 0 || x.Errors > 0 || x.PerSecond <= 0 || x.P50 <= 0 || x.P50 > x.P99 || x.P99 > x.Max {
			t.Errorf("%+v", x)
		}
		if strings.Contains(x.Load, "1m") && int(x.MiBPerSecond*x.Took.Seconds()+0.5) != x.Requests {
			t.Errorf("%s: %d requests of 1 MiB in %v are not %.1f MiB/s", x.Load, x.Requests, x.Took, x.MiBPerSecond)
		}
	}
	if !s.hashes[sigv4.UnsignedPayload] || len(s.hashes) != 1 {
		t.Errorf("payload hashes %v", s.hashes)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s.bucket || len(s.objects) != 0 {
		t.Errorf("bucket %v with %d objects is left", s.bucket, len(s.objects))
	}
}

// A GET alone finds the objects it needs, and they do not count.
func TestPrepares(t *testing.T) {
	s, cfg := start(t)
	_, res := load(t, cfg, "get1m")
	if len(res) != 1 || res[0].Requests == 0 || res[0].Requests != s.seen["GET"] || s.seen["PUT"] == 0 {
		t.Errorf("%+v after %v", res, s.seen)
	}
}

func TestSignsBodies(t *testing.T) {
	s, cfg := start(t)
	cfg.SignBody = true
	load(t, cfg, "put4k")
	if len(s.hashes) != 1 || !s.hashes[newPayload(4<<10, true).sha256] {
		t.Errorf("payload hashes %v", s.hashes)
	}
}

// A wrong byte and a short body are errors, as refusals are.
func TestCountsErrors(t *testing.T) {
	s, cfg := start(t)
	s.mangle = func(_ string, b []byte) []byte { b[len(b)-1] ^= 1; return b }
	if _, res := load(t, cfg, "get4k"); res[0].Requests != 0 || res[0].Errors == 0 {
		t.Errorf("wrong bytes: %+v", res[0])
	}
	s.mangle = func(_ string, b []byte) []byte { return b[:len(b)-1] }
	if _, res := load(t, cfg, "get4k"); res[0].Requests != 0 || res[0].Errors == 0 {
		t.Errorf("short: %+v", res[0])
	}
	s.refuse = func(r *http.Request) bool { return r.Method == "PUT" }
	if _, res := load(t, cfg, "put4k"); res[0].Requests != 0 || res[0].Errors == 0 || !strings.Contains(res[0].FirstError, "SlowDown") {
		t.Errorf("refused: %+v", res[0])
	}
}

func TestPayloadRepeats(t *testing.T) {
	p := newPayload(blockMax+blockMax/2, false)
	c := comparer{p: p, ok: true}
	c.add(p.block)
	c.add(p.block[:100])
	c.add(p.block[100 : blockMax/2])
	if !c.ok || c.at != p.size {
		t.Fatalf("at %d, ok %v", c.at, c.ok)
	}
	if c.add(p.block[:1]); c.ok {
		t.Error("a body that is too long passed")
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{50: 100, 95: 190, 99: 198, 100: 200, 0: 1} {
		if got := percentile(d, p); got != want {
			t.Errorf("percentile %v: %d, want %d", p, got, want)
		}
	}
	if percentile(nil, 50) != 0 {
		t.Error("percentile of nothing")
	}
}

func TestParse(t *testing.T) {
	if _, err := ParseLoads("put4k,nonsense"); err == nil {
		t.Error("unknown load accepted")
	}
	if l, err := ParseLoads(""); err != nil || len(l) != 8 {
		t.Errorf("%v, %v", l, err)
	}
	for _, bad := range []string{"", "127.0.0.1:9000", "ftp://x", "http://x/path", "http://"} {
		if _, _, err := parseEndpoint(bad); err == nil {
			t.Errorf("endpoint %q accepted", bad)
		}
	}
	if scheme, host, err := parseEndpoint("https://x"); err != nil || scheme != "https" || host != "x:443" {
		t.Errorf("%s %s %v", scheme, host, err)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 120 30 15 16 17"
	if got, err := parseStat([]byte(line)); err != nil || got != 150 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := parseStat([]byte("42 (x) S 1")); err == nil {
		t.Error("short line accepted")
	}
}

func TestCompare(t *testing.T) {
	one := Column{"one", []Result{{Load: "put4k", PerSecond: 50, CountsRequests: true}, {Load: "get1m", PerSecond: 3, MiBPerSecond: 3}}}
	two := Column{"two", []Result{{Load: "put4k", PerSecond: 100, CountsRequests: true}}}
	var b strings.Builder
	if err := Compare(&b, []Column{one, two}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if f := strings.Fields(lines[1]); len(f) != 10 || f[1] != "50" || f[5] != "0.50" || f[6] != "100" {
		t.Errorf("%q", lines[1])
	}
	if f := strings.Fields(lines[2]); len(f) != 5 || f[1] != "3" || f[2] != "MiB/s" {
		t.Errorf("%q", lines[2])
	}
}

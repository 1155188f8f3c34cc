package sigv4

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestRoundTrip signs and verifies what clients send that is easy to get wrong.
func TestRoundTrip(t *testing.T) {
	for _, r := range []Request{
		{Path: "/b/../a//b/./", RawQuery: ""},
		{Path: "/b/%C3%BC%20%2B%25", RawQuery: "prefix=a%2Fb&delimiter=%2F&marker="},
		{Path: "/b/%F0%9D%84%9E~_-.", RawQuery: "uploads"},
		{Path: "", RawQuery: "b=2&a=1&a=0&A=3&a%20=4&a-=5"},
		{Path: "/b/k", RawQuery: "x=%00%FF"},
	} {
		r.Method, r.Host = "PUT", "example.com:9000"
		r.Header = map[string][]string{"X-Amz-Meta-A": {"  two   blanks ", "second"}, "X-Amz-Meta-B": {"ü"}, "Content-Type": {""}}
		if _, err := exampleSigner.Sign(&r, UnsignedPayload, exampleTime); err != nil {
			t.Fatal(err)
		}
		if err := mustParse(t, &r).Verify(&r, exampleSigner.Secret); err != nil {
			t.Errorf("%q: %v", r.Path, err)
		}
		r.Header["X-Amz-Meta-A"] = []string{"two blanks,second"} // the same canonical value
		if err := mustParse(t, &r).Verify(&r, exampleSigner.Secret); err != nil {
			t.Errorf("%q, joined: %v", r.Path, err)
		}
		for name, change := range map[string]func(*Request){
			"method": func(r *Request) { r.Method = "GET" },
			"path":   func(r *Request) { r.Path += "x" },
			"query":  func(r *Request) { r.RawQuery += "&y" },
			"host":   func(r *Request) { r.Host = "example.com" },
			"header": func(r *Request) { r.Header["X-Amz-Meta-B"] = []string{"u"} },
		} {
			changed := r
			changed.Header = map[string][]string{}
			for k, v := range r.Header {
				changed.Header[k] = v
			}
			change(&changed)
			if err := mustParse(t, &changed).Verify(&changed, exampleSigner.Secret); !errors.Is(err, ErrSignature) {
				t.Errorf("%q with another %s: %v", r.Path, name, err)
			}
		}
	}
}

// TestDotsMatter checks that a path is taken as it is: "/a/../b" and "/b" are two objects with two signatures.
func TestDotsMatter(t *testing.T) {
	sign := func(path string) string {
		r := Request{Method: "GET", Path: path, Host: exampleHost, Header: map[string][]string{}}
		seed, err := exampleSigner.Sign(&r, EmptyHash, exampleTime)
		if err != nil {
			t.Fatal(err)
		}
		return seed.Signature
	}
	seen := map[string]string{}
	for _, path := range []string{"/b", "/a/../b", "//b", "/./b", "/b/"} {
		s := sign(path)
		if seen[s] != "" {
			t.Errorf("%s and %s have one signature", path, seen[s])
		}
		seen[s] = path
	}
	if sign("/a b") != sign("/a%20b") || sign("/%61") != sign("/a") {
		t.Error("one path has two signatures")
	}
}

// TestClientEscaping accepts what a client signed in its own escaping, if that is what it sent.
func TestClientEscaping(t *testing.T) {
	const sent = "/b/a%2Fb(c)"
	r := Request{Method: "GET", Path: sent, Host: exampleHost, Header: map[string][]string{
		"X-Amz-Date": {exampleTime.Format(timeFormat)}, "X-Amz-Content-Sha256": {EmptyHash}}}
	signed := []string{"host", "x-amz-content-sha256", "x-amz-date"}
	scope := exampleSigner.scope(exampleTime)
	for _, path := range []string{sent, "/b/a/b%28c%29"} {
		text := stringToSign(exampleTime, scope, canonicalRequest(&r, path, "", signed, EmptyHash))
		signature := hexOf(mac(scope.Key(exampleSigner.Secret), text))
		r.Header["Authorization"] = []string{Algorithm + " Credential=" + exampleSigner.AccessKey + "/" + scope.String() + ", SignedHeaders=" + strings.Join(signed, ";") + ", Signature=" + signature}
		if err := mustParse(t, &r).Verify(&r, exampleSigner.Secret); err != nil {
			t.Errorf("signed as %s: %v", path, err)
		}
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// TestClock walks the edges of what a time may be.
func TestClock(t *testing.T) {
	header := &Auth{Scope: Scope{Region: "r"}, Time: exampleTime}
	presigned := &Auth{Scope: Scope{Region: "r"}, Time: exampleTime, Presigned: true, Expires: time.Minute}
	for _, c := range []struct {
		a    *Auth
		at   time.Duration
		want error
	}{
		{header, 0, nil}, {header, MaxSkew, nil}, {header, -MaxSkew, nil},
		{header, MaxSkew + time.Second, ErrSkewed}, {header, -MaxSkew - time.Second, ErrSkewed},
		{presigned, 0, nil}, {presigned, time.Minute, nil}, {presigned, time.Minute + 1, ErrExpired},
		{presigned, -MaxSkew, nil}, {presigned, -MaxSkew - 1, ErrNotYetValid},
	} {
		if err := c.a.CheckScope("r", exampleTime.Add(c.at)); !errors.Is(err, c.want) {
			t.Errorf("presigned %v, %v later: %v, want %v", c.a.Presigned, c.at, err, c.want)
		}
	}
	if err := header.CheckScope("other", exampleTime); !errors.Is(err, ErrHeaderMalformed) {
		t.Errorf("other region: %v", err)
	}
}

// TestChunkReaderHoldsNoMemory decodes a chunk that claims to be huge: nothing is allocated for it.
func TestChunkReaderHoldsNoMemory(t *testing.T) {
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			r := NewChunkReader(strings.NewReader("4000000000\r\nabc"), StreamingTrailer, ChunkSeed{}, 1<<40)
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrIncompleteBody) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 64<<10 {
		t.Errorf("%d bytes for a body of 15", allocated)
	}
}

// TestClientFramings decodes the ways in which clients end a body.
func TestClientFramings(t *testing.T) {
	for body, want := range map[string]error{
		"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:v\r\n\r\n":         nil, // AWS SDKs
		"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:v\n\r\n\r\n":       nil, // minio-go
		"3\r\nabc\r\n0\r\n\r\n":                                   nil, // no trailer
		"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:v\r\n":             ErrIncompleteBody,
		"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:v\r\n\r\n\r\n\r\n": ErrChunkFraming,
		"3\r\nabc\r\n0\r\n\r\nx":                                  ErrChunkFraming,
		"4\r\nabcd\r\n0\r\n\r\n":                                  ErrIncompleteBody, // more than was declared
		"2\r\nab\r\n0\r\n\r\n":                                    ErrIncompleteBody,
		"3\r\nabc0\r\n\r\n":                                       ErrChunkFraming,
		"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n":                          ErrChunkTooSmall,
		"3\r\nabc\r\n0\r\nno colon\r\n\r\n":                       ErrTrailer,
		"3\r\nabc\r\n0\r\na:1\r\na:2\r\n\r\n":                     ErrTrailer,
	} {
		if _, err := io.ReadAll(NewChunkReader(strings.NewReader(body), StreamingTrailer, ChunkSeed{}, 3)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", body, err, want)
		}
	}
}

package gateway_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"larder/auth/sigv4"
)

// signedAs builds a request whose body is signed with its hash, unless header says what x-amz-content-sha256 is to be.
func signedAs(t testing.TB, key, secret string, at time.Time, method, url string, body []byte, header map[string]string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	for name, value := range header {
		if http.CanonicalHeaderKey(name) == "X-Amz-Content-Sha256" {
			hash = value
		} else {
			r.Header.Set(name, value)
		}
	}
	sign(t, sigv4.Signer{AccessKey: key, Secret: secret, Region: "us-east-1"}, r, hash, at)
	return r
}

// sign signs r in place.
func sign(t testing.TB, s sigv4.Signer, r *http.Request, hash string, at time.Time) sigv4.ChunkSeed {
	t.Helper()
	seed, err := s.Sign(&sigv4.Request{Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Host: r.URL.Host, Header: r.Header}, hash, at)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

var codeElement = regexp.MustCompile(`<Code>(\w+)</Code>`)

// do sends r and returns status, error code and body.
func (f *front) do(t testing.TB, r *http.Request) (int, string, []byte, http.Header) {
	t.Helper()
	resp, err := f.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	code := ""
	if m := codeElement.FindSubmatch(b); m != nil {
		code = string(m[1])
	}
	return resp.StatusCode, code, b, resp.Header
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func readAll(resp *http.Response) ([]byte, error) { return io.ReadAll(resp.Body) }

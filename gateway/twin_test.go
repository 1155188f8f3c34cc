package gateway_test

import (
	"encoding/xml"
	"fmt"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"larder/auth/sigv4"
)

// outcome is what two S3 servers must agree on for one request.
type outcome struct {
	status int
	code   string
	etag   string
	rng    string // Content-Range
	length string // Content-Length of a HEAD
	meta   string // Content-Type and one user metadatum
	body   string // of a GET; the entries of a listing
	paging string // IsTruncated and NextMarker of a listing
}

// listed is a listing of either version.
type listed struct {
	Contents       []struct{ Key, ETag string }
	CommonPrefixes []struct{ Prefix string }
	IsTruncated    bool
	MaxKeys        int
	KeyCount       int
	NextMarker     string
}

// explained tells why the twin may differ in a case, "" if it may not. ours and theirs have one differing field each at least.
func explained(r *http.Request, ours, theirs outcome) string {
	q := r.URL.Query()
	samePage := ours
	samePage.paging = theirs.paging
	switch {
	case q.Has("max-keys") && samePage == theirs:
		return "gofakes3 says IsTruncated of a page that is just full, gives NextMarker where nothing follows, and goes on inside a common prefix"
	case q.Has("delimiter") && strings.Contains(ours.body+theirs.body, "z/"):
		return "gofakes3 lists a key that ends with the delimiter as an object; S3 rolls it into its common prefix"
	case r.Method == "PUT" && strings.Count(r.URL.Path, "/") == 1 && ours.code == "BucketAlreadyOwnedByYou" && theirs.code == "BucketAlreadyExists":
		return "gofakes3 knows no owners"
	case r.Method == "PUT" && r.Header.Get("X-Amz-Copy-Source") != "" && ours.code == "InvalidRequest" && theirs.status == 200:
		return "gofakes3 lets an object be copied onto itself with nothing changed; S3 does not"
	case q.Has("max-keys") && q.Get("max-keys") == "0":
		return "gofakes3 takes max-keys=0 for no limit; S3 returns an empty page"
	}
	return ""
}

// observe sends one request and keeps what is comparable.
func observe(t *testing.T, base string, r *http.Request) outcome {
	t.Helper()
	resp := must(http.DefaultTransport.RoundTrip(r))
	defer resp.Body.Close()
	body := must(readAll(resp))
	o := outcome{status: resp.StatusCode}
	if m := codeElement.FindSubmatch(body); m != nil {
		o.code = string(m[1])
		return o
	}
	o.etag, o.rng = resp.Header.Get("ETag"), resp.Header.Get("Content-Range")
	isObject := strings.Count(r.URL.Path, "/") > 1
	if r.Method == "HEAD" && isObject {
		o.length = resp.Header.Get("Content-Length")
	}
	if (r.Method == "GET" || r.Method == "HEAD") && isObject && resp.StatusCode < 300 {
		o.meta = resp.Header.Get("Content-Type") + resp.Header.Get("X-Amz-Meta-Colour")
	}
	if r.Method == "GET" {
		o.body = string(body)
		if !isObject {
			var l listed
			if err := xml.Unmarshal(body, &l); err != nil {
				t.Fatalf("%s %s: %v: %s", base, r.URL, err, body)
			}
			o.body = fmt.Sprint(l.Contents, l.CommonPrefixes, l.MaxKeys, l.KeyCount)
			o.paging = fmt.Sprint(l.IsTruncated, " ", l.NextMarker)
		}
	}
	return o
}

// TestTwin sends the same random plain requests to this front and to gofakes3 with its in-memory backend. They agree, but for
// the differences that explained gives a reason for; docs/decisions/0001-own-s3-front.md says what gofakes3 is to us.
func TestTwin(t *testing.T) {
	fake := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	defer fake.Close()
	f := newFront(t, false, nil)
	rng := rand.New(rand.NewSource(1))
	keys := []string{"a", "a/b", "a/c", "a/d/e", "b", "b c", "ü", "z/", "k+1"}
	pick := func(s []string) string { return s[rng.Intn(len(s))] }
	known := map[string]int{}
	compared := 0
	for range 1500 {
		method, target, body, header := "GET", "", []byte(nil), map[string]string{}
		bucket := pick([]string{"/twin", "/twin", "/twin", "/other"})
		key := bucket + "/" + sigv4.Escape(pick(keys), true)
		switch rng.Intn(10) {
		case 0, 1, 2:
			method, target, body = "PUT", key, make([]byte, rng.Intn(3000))
			rng.Read(body)
			header["Content-Type"], header["X-Amz-Meta-Colour"] = "text/x", pick([]string{"red", "blue"})
		case 3:
			target = key
			if rng.Intn(2) == 0 {
				header["Range"] = fmt.Sprintf("bytes=%d-%d", rng.Intn(2000), 2000+rng.Intn(1500))
			}
		case 4:
			method, target = "HEAD", key
		case 5:
			method, target = "DELETE", key
		case 6:
			method, target = "PUT", key
			header["X-Amz-Copy-Source"] = "/twin/" + sigv4.Escape(pick(keys), true)
		case 7, 8:
			target = bucket + "?max-keys=" + fmt.Sprint(rng.Intn(6))
			if rng.Intn(2) == 0 {
				target += "&list-type=2"
			}
			if rng.Intn(2) == 0 {
				target += "&delimiter=%2F"
			}
			if rng.Intn(2) == 0 {
				target += "&prefix=" + pick([]string{"a", "a%2F", "b", "zz"})
			}
		case 9:
			method, target = pick([]string{"PUT", "DELETE", "HEAD"}), bucket
		}
		mine := signedAs(t, aliceKey, aliceSecret, testNow(), method, f.URL+target, body, header)
		theirs := signedAs(t, aliceKey, aliceSecret, testNow(), method, fake.URL+target, body, header)
		a, b := observe(t, "ours", mine), observe(t, "theirs", theirs)
		compared++
		if a == b {
			continue
		}
		why := explained(mine, a, b)
		if why == "" {
			t.Errorf("%s %s %v:\n  ours   %+v\n  theirs %+v", method, target, header, a, b)
		}
		known[why]++
	}
	for _, why := range slices.Sorted(func(yield func(string) bool) {
		for why := range known {
			if !yield(why) {
				return
			}
		}
	}) {
		t.Logf("%d of %d: %s", known[why], compared, why)
	}
}

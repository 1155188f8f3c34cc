package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"larder/auth/sigv4"
	"larder/gateway"
)

// bucketFront is a front with alice's bucket "bkt" in it.
func bucketFront(t testing.TB, change func(*gateway.Config)) *front {
	t.Helper()
	f := newFront(t, false, change)
	if _, err := f.backend.CreateBucket(context.Background(), gateway.Bucket{Name: "bkt", Owner: "alice", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return f
}

// wantAnswer sends r and compares status and code.
func (f *front) wantAnswer(t testing.TB, r *http.Request, status int, code string) []byte {
	t.Helper()
	gotStatus, gotCode, body, h := f.do(t, r)
	if gotStatus != status || gotCode != code {
		t.Errorf("%s %s: %d %s, want %d %s\n%s", r.Method, r.URL, gotStatus, gotCode, status, code, body)
	}
	if h.Get("X-Amz-Request-Id") == "" || h.Get("X-Amz-Id-2") == "" {
		t.Error("answer without request ids")
	}
	if status >= 300 && code != "" && !bytes.Contains(body, []byte("<RequestId>"+h.Get("X-Amz-Request-Id")+"</RequestId>")) {
		t.Errorf("body lacks the request id: %s", body)
	}
	return body
}

// wantKeys compares all keys of bucket bkt.
func (f *front) wantKeys(t testing.TB, want ...string) {
	t.Helper()
	page, err := f.backend.List(context.Background(), "bkt", gateway.ListQuery{Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range page.Objects {
		got = append(got, o.Key)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}

func TestBadSignatures(t *testing.T) {
	f := bucketFront(t, nil)
	now := time.Now()
	get := func(key, secret string, at time.Time, change func(*http.Request)) *http.Request {
		r := signedAs(t, key, secret, at, "GET", f.URL+"/bkt?list-type=2", nil, nil)
		if change != nil {
			change(r)
		}
		return r
	}
	presigned := func(at time.Time, expires time.Duration, query string) *http.Request {
		s := sigv4.Signer{AccessKey: aliceKey, Secret: aliceSecret, Region: "us-east-1"}
		raw, err := s.Presign(&sigv4.Request{Method: "GET", Path: "/bkt", Host: strings.TrimPrefix(f.URL, "http://"), Header: map[string][]string{}}, at, expires)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest("GET", f.URL+"/bkt?"+raw+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	swap := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		code   string
	}{
		"good":              {get(aliceKey, aliceSecret, now, nil), 200, ""},
		"good presigned":    {presigned(now, time.Minute, ""), 200, ""},
		"anonymous":         {get(aliceKey, aliceSecret, now, func(r *http.Request) { r.Header.Del("Authorization") }), 403, "AccessDenied"},
		"wrong secret":      {get(aliceKey, bobSecret, now, nil), 403, "SignatureDoesNotMatch"},
		"unknown key":       {get("NOBODY", bobSecret, now, nil), 403, "InvalidAccessKeyId"},
		"other user":        {get(bobKey, bobSecret, now, nil), 403, "AccessDenied"},
		"admin":             {get(adminKey, adminSecret, now, nil), 200, ""},
		"clock slow":        {get(aliceKey, aliceSecret, now.Add(-16*time.Minute), nil), 403, "RequestTimeTooSkewed"},
		"clock fast":        {get(aliceKey, aliceSecret, now.Add(16*time.Minute), nil), 403, "RequestTimeTooSkewed"},
		"clock a bit off":   {get(aliceKey, aliceSecret, now.Add(-14*time.Minute), nil), 200, ""},
		"changed query":     {get(aliceKey, aliceSecret, now, func(r *http.Request) { r.URL.RawQuery += "&prefix=x" }), 403, "SignatureDoesNotMatch"},
		"changed path":      {get(aliceKey, aliceSecret, now, func(r *http.Request) { r.URL.Path = "/c" }), 403, "SignatureDoesNotMatch"},
		"changed hash":      {get(aliceKey, aliceSecret, now, header("X-Amz-Content-Sha256", sigv4.UnsignedPayload)), 403, "SignatureDoesNotMatch"},
		"no hash":           {get(aliceKey, aliceSecret, now, func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }), 400, "InvalidRequest"},
		"nonsense hash":     {get(aliceKey, aliceSecret, now, header("X-Amz-Content-Sha256", "nonsense")), 400, "InvalidArgument"},
		"unsigned header":   {get(aliceKey, aliceSecret, now, header("X-Amz-Request-Payer", "requester")), 403, "AccessDenied"},
		"host not signed":   {get(aliceKey, aliceSecret, now, swap("SignedHeaders=host;", "SignedHeaders=")), 400, "AuthorizationHeaderMalformed"},
		"no date":           {get(aliceKey, aliceSecret, now, func(r *http.Request) { r.Header.Del("X-Amz-Date") }), 403, "AccessDenied"},
		"wrong region":      {get(aliceKey, aliceSecret, now, swap("us-east-1", "eu-west-1")), 400, "AuthorizationHeaderMalformed"},
		"wrong service":     {get(aliceKey, aliceSecret, now, swap("/s3/", "/ec2/")), 400, "AuthorizationHeaderMalformed"},
		"wrong terminal":    {get(aliceKey, aliceSecret, now, swap("aws4_request", "aws5")), 400, "AuthorizationHeaderMalformed"},
		"no signature":      {get(aliceKey, aliceSecret, now, swap(",Signature=", ",Sig=")), 400, "AuthorizationHeaderMalformed"},
		"unknown type":      {get(aliceKey, aliceSecret, now, header("Authorization", "Bearer x")), 400, "InvalidArgument"},
		"version 2":         {get(aliceKey, aliceSecret, now, header("Authorization", "AWS ALICE:c2ln")), 400, "InvalidRequest"},
		"version 4A":        {get(aliceKey, aliceSecret, now, swap("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")), 400, "InvalidRequest"},
		"version 2 query":   {must(http.NewRequest("GET", f.URL+"/bkt?AWSAccessKeyId=A&Signature=x&Expires=1", nil)), 400, "InvalidRequest"},
		"two mechanisms":    {get(aliceKey, aliceSecret, now, func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=x" }), 400, "InvalidArgument"},
		"security token":    {signedAs(t, aliceKey, aliceSecret, now, "GET", f.URL+"/bkt", nil, map[string]string{"x-amz-security-token": "t"}), 400, "InvalidToken"},
		"expired":           {presigned(now.Add(-2*time.Minute), time.Minute, ""), 403, "AccessDenied"},
		"not yet valid":     {presigned(now.Add(20*time.Minute), time.Hour, ""), 403, "AccessDenied"},
		"a week and more":   {presigned(now, 7*24*time.Hour+time.Second, ""), 400, "AuthorizationQueryParametersError"},
		"a week":            {presigned(now.Add(-7*24*time.Hour+time.Minute), 7*24*time.Hour, ""), 200, ""},
		"presigned changed": {presigned(now, time.Minute, "&prefix=a"), 403, "SignatureDoesNotMatch"},
		"half presigned":    {must(http.NewRequest("GET", f.URL+"/bkt?X-Amz-Signature=x", nil)), 400, "AuthorizationQueryParametersError"},
	} {
		t.Run(name, func(t *testing.T) { f.wantAnswer(t, c.r, c.status, c.code) })
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestBadBodies puts bodies that are not what their headers say. None may become visible.
func TestBadBodies(t *testing.T) {
	f := bucketFront(t, nil)
	data := []byte("the quick brown fox")
	sum := md5.Sum(data)
	goodMD5, badMD5 := base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(make([]byte, 16))
	for name, c := range map[string]struct {
		header map[string]string
		status int
		code   string
	}{
		"wrong sha256":         {map[string]string{"x-amz-content-sha256": sigv4.EmptyHash}, 400, "XAmzContentSHA256Mismatch"},
		"wrong md5":            {map[string]string{"Content-MD5": badMD5}, 400, "BadDigest"},
		"malformed md5":        {map[string]string{"Content-MD5": "nonsense"}, 400, "InvalidDigest"},
		"short md5":            {map[string]string{"Content-MD5": "AAAA"}, 400, "InvalidDigest"},
		"wrong crc32":          {map[string]string{"x-amz-checksum-crc32": "AAAAAA=="}, 400, "BadDigest"},
		"wrong crc32c":         {map[string]string{"x-amz-checksum-crc32c": "AAAAAA=="}, 400, "BadDigest"},
		"wrong crc64nvme":      {map[string]string{"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, 400, "BadDigest"},
		"wrong sha1":           {map[string]string{"x-amz-checksum-sha1": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}, 400, "BadDigest"},
		"wrong sha256 sum":     {map[string]string{"x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}, 400, "BadDigest"},
		"malformed crc32":      {map[string]string{"x-amz-checksum-crc32": "AAAA"}, 400, "InvalidRequest"},
		"two checksums":        {map[string]string{"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="}, 400, "InvalidRequest"},
		"other algorithm":      {map[string]string{"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "SHA1"}, 400, "InvalidRequest"},
		"unknown algorithm":    {map[string]string{"x-amz-sdk-checksum-algorithm": "CRC7"}, 400, "InvalidRequest"},
		"unknown checksum":     {map[string]string{"x-amz-checksum-crc7": "AA=="}, 501, "NotImplemented"},
		"trailer, not chunked": {map[string]string{"x-amz-trailer": "x-amz-checksum-crc32"}, 400, "InvalidRequest"},
		"not really chunked":   {map[string]string{"x-amz-content-sha256": sigv4.StreamingTrailer, "x-amz-decoded-content-length": "19"}, 400, "IncompleteBody"},
		"no decoded length":    {map[string]string{"x-amz-content-sha256": sigv4.StreamingTrailer}, 411, "MissingContentLength"},
	} {
		t.Run(name, func(t *testing.T) {
			f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", data, c.header), c.status, c.code)
			f.wantKeys(t)
		})
	}
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", data, map[string]string{"Content-MD5": goodMD5}), 200, "")
	f.wantKeys(t, "k")
	f.wantAnswer(t, f.signed(t, "GET", "/bkt/k", []byte("a body"), nil), 200, "")
	f.wantAnswer(t, f.signed(t, "GET", "/bkt/k", []byte("a body"), map[string]string{"x-amz-content-sha256": sigv4.EmptyHash}), 400, "XAmzContentSHA256Mismatch")
}

// chunked builds an aws-chunked PUT of 20,000 bytes; change may damage the encoded body.
func (f *front) chunked(t testing.TB, mode string, decoded int, header map[string]string, trailers [][2]string, change func([]byte) []byte) *http.Request {
	t.Helper()
	r := must(http.NewRequest("PUT", f.URL+"/bkt/k", nil))
	r.Header.Set("Content-Encoding", "aws-chunked,gzip")
	r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(decoded))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	seed := sign(t, sigv4.Signer{AccessKey: aliceKey, Secret: aliceSecret, Region: "us-east-1"}, r, mode, time.Now())
	var b bytes.Buffer
	w := sigv4.NewChunkWriter(&b, mode, seed, 8192)
	if _, err := w.Write(bytes.Repeat([]byte("x"), 20_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(trailers...); err != nil {
		t.Fatal(err)
	}
	body := b.Bytes()
	if change != nil {
		body = change(body)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return r
}

func TestBadChunks(t *testing.T) {
	f := bucketFront(t, nil)
	crc := map[string]string{"x-amz-trailer": "x-amz-checksum-crc32"}
	good := [][2]string{{"x-amz-checksum-crc32", "QWVHAw=="}}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("body has no %q to damage", old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		code   string
	}{
		"flipped byte":           {f.chunked(t, sigv4.StreamingSigned, 20_000, nil, nil, replace("xx", "xy")), 403, "SignatureDoesNotMatch"},
		"flipped signature":      {f.chunked(t, sigv4.StreamingSigned, 20_000, nil, nil, replace("chunk-signature=", "chunk-signature=0")), 400, "IncompleteBody"},
		"no signature":           {f.chunked(t, sigv4.StreamingSigned, 20_000, nil, nil, replace("chunk-signature=", "chunk-sig=")), 400, "IncompleteBody"},
		"cut in a chunk":         {f.chunked(t, sigv4.StreamingSigned, 20_000, nil, nil, func(b []byte) []byte { return b[:9000] }), 400, "IncompleteBody"},
		"cut before the last":    {f.chunked(t, sigv4.StreamingSigned, 20_000, nil, nil, func(b []byte) []byte { return b[:len(b)-86-2] }), 400, "IncompleteBody"},
		"more than decoded":      {f.chunked(t, sigv4.StreamingSigned, 19_999, nil, nil, nil), 400, "IncompleteBody"},
		"less than decoded":      {f.chunked(t, sigv4.StreamingSigned, 20_001, nil, nil, nil), 400, "IncompleteBody"},
		"bytes after the end":    {f.chunked(t, sigv4.StreamingSigned, 20_000, nil, nil, func(b []byte) []byte { return append(b, 'x') }), 400, "IncompleteBody"},
		"header without end":     {f.chunked(t, sigv4.StreamingTrailer, 20_000, nil, nil, func([]byte) []byte { return bytes.Repeat([]byte("0"), 10_000) }), 400, "IncompleteBody"},
		"negative size":          {f.chunked(t, sigv4.StreamingTrailer, 20_000, nil, nil, replace("2000", "-200")), 400, "IncompleteBody"},
		"huge size":              {f.chunked(t, sigv4.StreamingTrailer, 20_000, nil, nil, replace("2000", "ffffffffffffffff")), 400, "IncompleteBody"},
		"no CR":                  {f.chunked(t, sigv4.StreamingTrailer, 20_000, nil, nil, replace("2000\r\n", "2000\n")), 400, "IncompleteBody"},
		"wrong trailer":          {f.chunked(t, sigv4.StreamingTrailer, 20_000, crc, [][2]string{{"x-amz-checksum-crc32", "AAAAAA=="}}, nil), 400, "BadDigest"},
		"malformed trailer":      {f.chunked(t, sigv4.StreamingTrailer, 20_000, crc, [][2]string{{"x-amz-checksum-crc32", "AAAA"}}, nil), 400, "InvalidRequest"},
		"missing trailer":        {f.chunked(t, sigv4.StreamingTrailer, 20_000, crc, nil, nil), 400, "MalformedTrailerError"},
		"other trailer":          {f.chunked(t, sigv4.StreamingTrailer, 20_000, crc, [][2]string{{"x-amz-checksum-sha1", "AAAAAA=="}}, nil), 400, "MalformedTrailerError"},
		"trailer not announced":  {f.chunked(t, sigv4.StreamingTrailer, 20_000, nil, good, nil), 400, "MalformedTrailerError"},
		"trailer of no checksum": {f.chunked(t, sigv4.StreamingTrailer, 20_000, map[string]string{"x-amz-trailer": "x-amz-meta-a"}, nil, nil), 400, "InvalidRequest"},
		"trailer signature": {f.chunked(t, sigv4.StreamingSignedTrailer, 20_000, crc, good, func(b []byte) []byte {
			b[len(b)-5] ^= 1
			return b
		}), 403, "SignatureDoesNotMatch"},
		"trailer value changed": {f.chunked(t, sigv4.StreamingSignedTrailer, 20_000, crc, good, replace("QWVHAw==", "AAAAAA==")), 403, "SignatureDoesNotMatch"},
	} {
		t.Run(name, func(t *testing.T) {
			f.wantAnswer(t, c.r, c.status, c.code)
			f.wantKeys(t)
		})
	}
	for _, mode := range []string{sigv4.StreamingSigned, sigv4.StreamingSignedTrailer, sigv4.StreamingTrailer} {
		header, trailers := crc, good
		if mode == sigv4.StreamingSigned {
			header, trailers = nil, nil
		}
		f.wantAnswer(t, f.chunked(t, mode, 20_000, header, trailers, nil), 200, "")
		o := must(f.backend.Open(t.Context(), "bkt", "k")).Info()
		if o.Size != 20_000 || o.Metadata.ContentEncoding != "gzip" || header != nil && o.Checksums[0].Value != "QWVHAw==" {
			t.Errorf("%s: stored %+v", mode, o)
		}
	}
}

// raw writes a request's header by hand, then a body, closes its writing side if end is set, and returns the answer.
func (f *front) raw(t testing.TB, r *http.Request, length string, body []byte, end bool) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", r.Method, r.URL.RequestURI(), r.URL.Host, length)
	r.Header.Write(c)
	io.WriteString(c, "\r\n")
	c.Write(body)
	if end {
		c.(*net.TCPConn).CloseWrite()
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if m := codeElement.FindSubmatch(b); m != nil {
		return resp.StatusCode, string(m[1])
	}
	return resp.StatusCode, ""
}

func TestRawSockets(t *testing.T) {
	f := bucketFront(t, func(c *gateway.Config) { c.IdleBody = 300 * time.Millisecond })
	unsigned := map[string]string{"x-amz-content-sha256": sigv4.UnsignedPayload}
	put := func() *http.Request { return f.signed(t, "PUT", "/bkt/k", nil, unsigned) }
	for name, c := range map[string]struct {
		length string
		body   []byte
		end    bool
		status int
		code   string
	}{
		"no length":           {"", nil, true, 411, "MissingContentLength"},
		"chunked":             {"Transfer-Encoding: chunked\r\n", []byte("1\r\nx\r\n0\r\n\r\n"), false, 411, "MissingContentLength"},
		"more than 5 GiB":     {"Content-Length: 5368709121\r\n", nil, false, 400, "EntityTooLarge"},
		"client stops":        {"Content-Length: 100\r\n", []byte("only this"), false, 400, "RequestTimeout"},
		"client gone":         {"Content-Length: 100\r\n", []byte("only this"), true, 400, "IncompleteBody"},
		"zero bytes, so said": {"Content-Length: 0\r\n", nil, false, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, code := f.raw(t, put(), c.length, c.body, c.end)
			if status != c.status || code != c.code {
				t.Errorf("%d %s, want %d %s", status, code, c.status, c.code)
			}
			if c.status == 200 {
				f.wantKeys(t, "k")
				return
			}
			f.wantKeys(t)
		})
		f.backend.Delete(t.Context(), "bkt", "k", nil)
	}
}

// TestExpectContinueWithoutBody: botocore expects 100 for empty bodies, too, and mistakes what comes instead.
func TestExpectContinueWithoutBody(t *testing.T) {
	f := bucketFront(t, nil)
	r := f.signed(t, "PUT", "/bkt/k", nil, map[string]string{"x-amz-content-sha256": sigv4.UnsignedPayload})
	c := must(net.Dial("tcp", r.URL.Host))
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "PUT /bkt/k HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nExpect: 100-continue\r\n", r.URL.Host)
	r.Header.Write(c)
	io.WriteString(c, "\r\n")
	br := bufio.NewReader(c)
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n", "HTTP/1.1 200 OK\r\n"} {
		if line, err := br.ReadString('\n'); err != nil || line != want {
			t.Fatalf("line %q, %v; want %q", line, err, want)
		}
	}
}

// TestExpectContinue has the server refuse before it asks for a body that the client would have had to send.
func TestExpectContinue(t *testing.T) {
	f := bucketFront(t, nil)
	for secret, want := range map[string]string{bobSecret: "HTTP/1.1 403", aliceSecret: "HTTP/1.1 100"} {
		r := signedAs(t, aliceKey, secret, time.Now(), "PUT", f.URL+"/bkt/k", nil, map[string]string{"x-amz-content-sha256": sigv4.UnsignedPayload})
		c := must(net.Dial("tcp", r.URL.Host))
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "PUT /bkt/k HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n", r.URL.Host)
		r.Header.Write(c)
		io.WriteString(c, "\r\n")
		br := bufio.NewReader(c)
		line, err := br.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Fatalf("first line %q, %v; want %s", line, err, want)
		}
		if want == "HTTP/1.1 100" {
			br.ReadString('\n')
			io.WriteString(c, "12345")
			if line, err = br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
				t.Fatalf("then %q, %v", line, err)
			}
		}
	}
}

func TestHostileXML(t *testing.T) {
	f := bucketFront(t, nil)
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", []byte("x"), nil), 200, "")
	u := must(f.backend.CreateUpload(t.Context(), "bkt", "k", gateway.UploadInput{Owner: "alice"}))
	parts := func(n int) string {
		var b strings.Builder
		b.WriteString("<CompleteMultipartUpload>")
		for i := 1; i <= n; i++ {
			fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>\"x\"</ETag></Part>", i)
		}
		return b.String() + "</CompleteMultipartUpload>"
	}
	part := "<Part><PartNumber>%s</PartNumber><ETag>x</ETag></Part>"
	for name, body := range map[string]string{
		"empty":             "",
		"not XML":           "hello",
		"other root":        "<Other/>",
		"no parts":          "<CompleteMultipartUpload/>",
		"cut":               "<CompleteMultipartUpload><Part>",
		"entity":            `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&b;</ETag></Part></CompleteMultipartUpload>`,
		"external entity":   `<!DOCTYPE x SYSTEM "file:///etc/passwd"><CompleteMultipartUpload/>`,
		"unknown entity":    `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&xxe;</ETag></Part></CompleteMultipartUpload>`,
		"deep":              strings.Repeat("<a>", 100_000),
		"deep inside":       "<CompleteMultipartUpload>" + strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000) + "</CompleteMultipartUpload>",
		"two roots":         parts(1) + parts(1),
		"10,001 parts":      parts(10_001),
		"part without ETag": "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
		"part not a number": "<CompleteMultipartUpload>" + fmt.Sprintf(part, "x") + "</CompleteMultipartUpload>",
	} {
		t.Run(name, func(t *testing.T) {
			f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, []byte(body), nil), 400, "MalformedXML")
		})
	}
	big := "<CompleteMultipartUpload>" + strings.Repeat(" ", 3<<20) + "</CompleteMultipartUpload>"
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, []byte(big), nil), 400, "EntityTooLarge")
	for number, code := range map[string]string{"0": "InvalidArgument", "-1": "InvalidArgument", "10001": "InvalidArgument", "1": "InvalidPart"} {
		f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, []byte("<CompleteMultipartUpload>"+fmt.Sprintf(part, number)+"</CompleteMultipartUpload>"), nil), 400, code)
	}
	out := "<CompleteMultipartUpload>" + fmt.Sprintf(part, "2") + fmt.Sprintf(part, "1") + "</CompleteMultipartUpload>"
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/k?uploadId="+u.ID, []byte(out), nil), 400, "InvalidPartOrder")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k?partNumber=10001&uploadId="+u.ID, nil, nil), 400, "InvalidArgument")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k?partNumber=0&uploadId="+u.ID, nil, nil), 400, "InvalidArgument")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k?partNumber=1&uploadId="+u.ID, nil, nil), 200, "") // a part may have no bytes
	sum := func(b string) map[string]string {
		s := md5.Sum([]byte(b))
		return map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(s[:])}
	}
	object := "<Object><Key>k</Key></Object>"
	for name, c := range map[string]struct{ body, code string }{
		"1,001 keys":  {"<Delete>" + strings.Repeat(object, 1001) + "</Delete>", "MalformedXML"},
		"no keys":     {"<Delete></Delete>", "MalformedXML"},
		"bad boolean": {"<Delete><Quiet>maybe</Quiet>" + object + "</Delete>", "MalformedXML"},
	} {
		t.Run(name, func(t *testing.T) {
			f.wantAnswer(t, f.signed(t, "POST", "/bkt?delete", []byte(c.body), sum(c.body)), 400, c.code)
		})
	}
	f.wantAnswer(t, f.signed(t, "POST", "/bkt?delete", []byte("<Delete>"+object+"</Delete>"), nil), 400, "InvalidRequest")
	f.wantKeys(t, "k")
	body := "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>" + object + "<Object><Key>" + strings.Repeat("x", 1025) + "</Key></Object></Delete>"
	answer := f.wantAnswer(t, f.signed(t, "POST", "/bkt?delete", []byte(body), sum(body)), 200, "KeyTooLongError")
	if bytes.Contains(answer, []byte("<Deleted>")) {
		t.Errorf("quiet answer names what was deleted: %s", answer)
	}
	f.wantKeys(t)
}

func TestKeys(t *testing.T) {
	f := bucketFront(t, nil)
	keys := []string{"a", "a/b", "a/", "a//b", "/a", "//", "..", "../x", "a/../b", "./a", "a b+c", "%2F", "%", "?q=1&r", "#", "ä", "日本", "𝄞", "\U0010FFFD", "\u202e", "x;y,z=:@!$'()*[]", "\x01\x7f", strings.Repeat("é", 512)}
	for _, key := range keys {
		target := "/bkt/" + sigv4.Escape(key, true)
		f.wantAnswer(t, f.signed(t, "PUT", target, []byte(key), nil), 200, "")
	}
	for _, key := range keys {
		if body := f.wantAnswer(t, f.signed(t, "GET", "/bkt/"+sigv4.Escape(key, false), nil, nil), 200, ""); string(body) != key {
			t.Errorf("%q holds %q", key, body)
		}
	}
	page := must(f.backend.List(t.Context(), "bkt", gateway.ListQuery{Max: 1000}))
	if len(page.Objects) != len(keys) {
		t.Errorf("%d objects, put %d", len(page.Objects), len(keys))
	}
	long := strings.Repeat("k", 1025)
	for _, method := range []string{"PUT", "GET", "DELETE"} {
		f.wantAnswer(t, f.signed(t, method, "/bkt/"+long, nil, nil), 400, "KeyTooLongError")
	}
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/%ff", nil, nil), 400, "InvalidURI")
	for _, bucket := range []string{"ab", "UPPER", "a..b", "192.168.1.1", "-ab", "ab-", "under_score", "xn--abc", strings.Repeat("a", 64), "abc-s3alias"} {
		f.wantAnswer(t, f.signed(t, "PUT", "/"+bucket, nil, nil), 400, "InvalidBucketName")
	}
}

// TestClientGone breaks the connection in the middle of a body.
func TestClientGone(t *testing.T) {
	f := bucketFront(t, nil)
	r, w := io.Pipe()
	req := f.signed(t, "PUT", "/bkt/k", nil, map[string]string{"x-amz-content-sha256": sigv4.UnsignedPayload})
	req.Body, req.ContentLength = r, 1<<20
	go func() {
		w.Write(make([]byte, 100_000))
		w.CloseWithError(errors.New("power cut"))
	}()
	if resp, err := f.Client().Do(req); err == nil {
		resp.Body.Close()
		t.Error("the request went through")
	}
	f.Server.Close() // waits for the handler
	f.wantKeys(t)
}

package sigv4

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// The key pair and the time of all examples in the Amazon S3 API reference.
var (
	exampleSigner = Signer{AccessKey: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Region: "us-east-1"}
	exampleTime   = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
)

const exampleHost = "examplebucket.s3.amazonaws.com"

// TestPublishedHeaderExamples signs and verifies the four requests of "Using the Authorization Header".
func TestPublishedHeaderExamples(t *testing.T) {
	cases := []struct {
		name      string
		req       Request
		hash      string
		signature string
	}{
		{"GetObject", Request{Method: "GET", Path: "/test.txt", Host: exampleHost, Header: map[string][]string{"Range": {"bytes=0-9"}}},
			EmptyHash, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"PutObject", Request{Method: "PUT", Path: "/test$file.text", Host: exampleHost, Header: map[string][]string{
			"Date": {"Fri, 24 May 2013 00:00:00 GMT"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}}},
			"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"GetBucketLifecycle", Request{Method: "GET", Path: "/", RawQuery: "lifecycle", Host: exampleHost, Header: map[string][]string{}},
			EmptyHash, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"ListObjects", Request{Method: "GET", Path: "/", RawQuery: "max-keys=2&prefix=J", Host: exampleHost, Header: map[string][]string{}},
			EmptyHash, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seed, err := exampleSigner.Sign(&c.req, c.hash, exampleTime)
			if err != nil || seed.Signature != c.signature {
				t.Fatalf("signature %s, %v; published %s", seed.Signature, err, c.signature)
			}
			auth := mustParse(t, &c.req)
			if err := auth.CheckScope("us-east-1", exampleTime); err != nil {
				t.Fatal(err)
			}
			if err := auth.Verify(&c.req, exampleSigner.Secret); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPublishedPresignedExample is the request of "Using Query Parameters".
func TestPublishedPresignedExample(t *testing.T) {
	r := Request{Method: "GET", Path: "/test.txt", Host: exampleHost, Header: map[string][]string{}}
	raw, err := exampleSigner.Presign(&r, exampleTime, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	const published = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
		"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	if raw != published {
		t.Fatalf("presigned %s\npublished %s", raw, published)
	}
	r.RawQuery = raw
	if err := mustParse(t, &r).Verify(&r, exampleSigner.Secret); err != nil {
		t.Fatal(err)
	}
}

func exampleChunked(mode string, extra map[string][]string) Request {
	h := map[string][]string{"Content-Encoding": {"aws-chunked"}, "X-Amz-Decoded-Content-Length": {"66560"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}}
	for k, v := range extra {
		h[k] = v
	}
	return Request{Method: "PUT", Path: "/examplebucket/chunkObject.txt", Host: "s3.amazonaws.com", Header: h}
}

// TestPublishedChunkExample is the body of "Transferring Payload in Multiple Chunks": 65 KiB of "a" in chunks of 64 KiB.
func TestPublishedChunkExample(t *testing.T) {
	r := exampleChunked(StreamingSigned, map[string][]string{"Content-Length": {"66824"}})
	seed, err := exampleSigner.Sign(&r, StreamingSigned, exampleTime)
	if err != nil || seed.Signature != "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9" {
		t.Fatalf("seed signature %s, %v", seed.Signature, err)
	}
	body := encode(t, StreamingSigned, seed, 65536, bytes.Repeat([]byte("a"), 66560))
	for _, signature := range []string{
		"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n",
		"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
		"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n"} {
		if !bytes.Contains(body, []byte(signature)) {
			t.Errorf("body lacks %q", signature)
		}
	}
	if len(body) != 66824 {
		t.Errorf("body is %d bytes, published 66824", len(body))
	}
	checkDecodes(t, body, StreamingSigned, seed)
}

// TestPublishedTrailerExample is the same body with a signed CRC-32C trailer.
func TestPublishedTrailerExample(t *testing.T) {
	r := exampleChunked(StreamingSignedTrailer, map[string][]string{"X-Amz-Trailer": {"x-amz-checksum-crc32c"}})
	seed, err := exampleSigner.Sign(&r, StreamingSignedTrailer, exampleTime)
	if err != nil || seed.Signature != "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e" {
		t.Fatalf("seed signature %s, %v", seed.Signature, err)
	}
	body := encode(t, StreamingSignedTrailer, seed, 65536, bytes.Repeat([]byte("a"), 66560), [2]string{"x-amz-checksum-crc32c", "sOO8/Q=="})
	for _, signature := range []string{
		"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n",
		"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n",
		"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n",
		"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"} {
		if !bytes.Contains(body, []byte(signature)) {
			t.Errorf("body lacks %q", signature)
		}
	}
	checkDecodes(t, body, StreamingSignedTrailer, seed)
	spaced := strings.Replace(string(body), "sOO8/Q==\r\n", "sOO8/Q==\n\r\n", 1)
	checkDecodes(t, []byte(spaced), StreamingSignedTrailer, seed)
}

func mustParse(t *testing.T, r *Request) *Auth {
	t.Helper()
	q, err := ParseQuery(r.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := Parse(r, q)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func encode(t testing.TB, mode string, seed ChunkSeed, size int, data []byte, trailers ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewChunkWriter(&b, mode, seed, size)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(trailers...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func checkDecodes(t *testing.T, body []byte, mode string, seed ChunkSeed) {
	t.Helper()
	got, err := io.ReadAll(NewChunkReader(bytes.NewReader(body), mode, seed, 66560))
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte("a"), 66560)) {
		t.Fatalf("decoded %d bytes, %v", len(got), err)
	}
}

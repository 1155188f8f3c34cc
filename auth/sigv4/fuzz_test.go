package sigv4

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

// oneByte yields a reader's bytes one at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// FuzzChunkReader decodes anything: no panic, never more bytes than declared, the same whatever the reads, and only errors
// of this package.
func FuzzChunkReader(f *testing.F) {
	seed := ChunkSeed{Key: []byte("key"), Scope: Scope{"20130524", "us-east-1", "s3"}, Time: exampleTime, Signature: EmptyHash}
	for _, mode := range []string{StreamingSigned, StreamingSignedTrailer, StreamingTrailer} {
		f.Add(encode(f, mode, seed, 8192, bytes.Repeat([]byte("a"), 100)), mode, int64(100))
		f.Add(encode(f, mode, seed, 8192, make([]byte, 20_000), [2]string{"x-amz-checksum-crc32", "AAAAAA=="}), mode, int64(20_000))
	}
	f.Add([]byte("ffffffffffffffff\r\n"), StreamingTrailer, int64(1<<40))
	f.Fuzz(func(t *testing.T, body []byte, mode string, length int64) {
		if length < 0 {
			return
		}
		r := NewChunkReader(bytes.NewReader(body), mode, seed, length)
		got, err := io.ReadAll(r)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("foreign error %v", err)
		}
		if int64(len(got)) > length || err == nil && int64(len(got)) != length || len(got) > len(body) {
			t.Fatalf("%d bytes of %d, %v", len(got), length, err)
		}
		again, err2 := io.ReadAll(NewChunkReader(oneByte{bytes.NewReader(body)}, mode, seed, length))
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(got, again) {
			t.Fatalf("byte by byte: %d bytes, %v; before %d, %v", len(again), err2, len(got), err)
		}
		if _, err3 := r.Read(make([]byte, 1)); err != nil && err3 == nil {
			t.Fatal("an error does not repeat")
		}
	})
}

// FuzzParse reads anything in the places where a signature may stand.
func FuzzParse(f *testing.F) {
	r := Request{Method: "GET", Path: "/k", Host: exampleHost, Header: map[string][]string{}}
	raw, err := exampleSigner.Presign(&r, exampleTime, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("", raw, "", "/k")
	if _, err := exampleSigner.Sign(&r, EmptyHash, exampleTime); err != nil {
		f.Fatal(err)
	}
	f.Add(r.header("Authorization"), "a=b", r.header("X-Amz-Date"), "/%2F/../")
	f.Fuzz(func(t *testing.T, authorization, query, date, path string) {
		r := Request{Method: "GET", Path: path, RawQuery: query, Host: exampleHost, Header: map[string][]string{"X-Amz-Content-Sha256": {EmptyHash}}}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		if date != "" {
			r.Header["X-Amz-Date"] = []string{date}
		}
		q, err := ParseQuery(query)
		if err != nil {
			return
		}
		auth, err := Parse(&r, q)
		if err != nil {
			return
		}
		auth.CheckScope("us-east-1", exampleTime)
		if auth.Verify(&r, "not the secret of the seeds") == nil {
			t.Fatal("verified with another secret")
		}
	})
}

// FuzzEscape checks that Unescape undoes Escape, and that both agree about what is broken.
func FuzzEscape(f *testing.F) {
	f.Add("a b/ü%+")
	f.Fuzz(func(t *testing.T, s string) {
		for _, slash := range []bool{false, true} {
			for _, plus := range []bool{false, true} {
				if got, ok := Unescape(Escape(s, slash), plus); !ok || got != s {
					t.Fatalf("%q came back as %q", s, got)
				}
			}
		}
		if u, ok := Unescape(s, false); ok {
			if v, ok := Unescape(Escape(u, false), false); !ok || v != u {
				t.Fatalf("%q is no fixed point", s)
			}
		}
	})
}

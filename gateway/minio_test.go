package gateway_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// TestMinio drives the front with minio-go, which signs its chunks over plain HTTP, with and without trailers.
func TestMinio(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		f := newFront(t, useTLS, nil)
		u := must(url.Parse(f.URL))
		for _, trailing := range []bool{false, true} {
			ctx := context.Background()
			c, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(aliceKey, aliceSecret, ""), Secure: useTLS, Transport: f.Client().Transport, TrailingHeaders: trailing})
			if err != nil {
				t.Fatal(err)
			}
			bucket := map[bool]string{false: "minio-a", true: "minio-b"}[trailing]
			if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{0, 5, 200_000, 17 << 20} { // the last in parts
				for _, unknown := range []bool{false, true} {
					if size > 1<<20 && (unknown || !trailing) {
						continue
					}
					data, key, length := random(size), "dir/ü 日本+%?#", int64(size)
					if unknown {
						length = -1
					}
					info, err := c.PutObject(ctx, bucket, key, bytes.NewReader(data), length, minio.PutObjectOptions{PartSize: 5 << 20, UserMetadata: map[string]string{"colour": "blue"}})
					if err != nil {
						t.Fatalf("put %d, unknown %v, trailing %v: %v", size, unknown, trailing, err)
					}
					o, err := c.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(o)
					if err != nil || !bytes.Equal(got, data) {
						t.Fatalf("get %d: %d bytes, %v", size, len(got), err)
					}
					stat, err := c.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
					if err != nil || stat.ETag != info.ETag || stat.UserMetadata["Colour"] != "blue" || stat.Size != int64(size) {
						t.Errorf("stat %+v, %v", stat, err)
					}
				}
			}
			if _, err := c.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "copy"}, minio.CopySrcOptions{Bucket: bucket, Object: "dir/ü 日本+%?#"}); err != nil {
				t.Fatal(err)
			}
			names := make(chan minio.ObjectInfo)
			go func() {
				defer close(names)
				for o := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
					names <- o
				}
			}()
			for r := range c.RemoveObjects(ctx, bucket, names, minio.RemoveObjectsOptions{}) {
				t.Errorf("remove %q: %v", r.ObjectName, r.Err)
			}
			if err := c.RemoveBucket(ctx, bucket); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPresigned uses URLs that the AWS SDK presigned with a plain HTTP client.
func TestPresigned(t *testing.T) {
	f := bucketFront(t, nil)
	p := s3.NewPresignClient(f.sdk(aliceKey, aliceSecret), s3.WithPresignExpires(time.Minute))
	send := func(method, url string, header http.Header, body []byte) (int, []byte, http.Header) {
		t.Helper()
		r := must(http.NewRequest(method, url, bytes.NewReader(body)))
		for name, values := range header {
			if name != "Host" {
				r.Header[name] = values
			}
		}
		status, _, b, h := f.do(t, r)
		return status, b, h
	}
	bucket, key := aws.String("bkt"), aws.String("a/ü +%")
	put := must(p.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, ContentType: aws.String("text/x"), Metadata: map[string]string{"a": "1"}}))
	if status, b, _ := send("PUT", put.URL, put.SignedHeader, []byte("by url")); status != 200 {
		t.Fatalf("put: %d %s", status, b)
	}
	get := must(p.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key, ResponseContentType: aws.String("text/y"), ChecksumMode: "ENABLED"}))
	status, b, h := send("GET", get.URL, get.SignedHeader, nil)
	if status != 200 || string(b) != "by url" || h.Get("Content-Type") != "text/y" || h.Get("X-Amz-Checksum-Crc64nvme") == "" || h.Get("X-Amz-Meta-A") != "1" {
		t.Errorf("get: %d %s %v", status, b, h)
	}
	plain := must(p.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key}))
	if status, b, _ := send("DELETE", plain.URL, nil, nil); status != 403 {
		t.Errorf("a URL for GET used for DELETE: %d %s", status, b)
	}
	// A condition in the query counts as much as one in the header, and so does what is refused.
	conditional := must(p.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, ExpectedBucketOwner: aws.String("bob")}))
	if status, b, _ := send("PUT", conditional.URL, conditional.SignedHeader, []byte("x")); status != 403 {
		t.Errorf("expected owner bob: %d %s", status, b)
	}
	tagged := must(p.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Tagging: aws.String("a=b")}))
	if status, b, _ := send("PUT", tagged.URL, tagged.SignedHeader, []byte("x")); status != 501 {
		t.Errorf("tags: %d %s", status, b)
	}
}

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"larder/integration/cluster"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// client is an SDK client for the endpoint.
func (e *endpoint) client() *s3.Client {
	return e.node.S3Client(func(o *s3.Options) { o.HTTPClient = cluster.HTTPClient(e.roots) })
}

// codeOf is the S3 code in an error, "" where it has none.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// put stores body and returns its ETag.
func put(ctx context.Context, c *s3.Client, bucket, key string, body []byte) (string, error) {
	out, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	if err != nil {
		return "", err
	}
	return *out.ETag, nil
}

// get reads a whole object.
func get(ctx context.Context, c *s3.Client, bucket, key string) ([]byte, error) {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

func makeBucket(t *testing.T, c *s3.Client, bucket string) {
	t.Helper()
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
}

// random is n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = randomBytes().Read(b)
	return b
}

// testSDK puts, reads, lists, uploads in parts and deletes with the AWS SDK for Go as it comes: CRC trailers and chunked bodies.
func testSDK(t *testing.T, e *endpoint) {
	ctx, c, bucket := t.Context(), e.client(), "sdk-bucket"
	makeBucket(t, c, bucket)
	for _, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 4 << 20, 9<<20 + 17} {
		key, body := fmt.Sprint("of/", size), random(size)
		if _, err := put(ctx, c, bucket, key, body); err != nil {
			t.Fatal(err)
		}
		got, err := get(ctx, c, bucket, key)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
	}
	listed, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: aws.String("of/")})
	if err != nil || len(listed.Contents) != 6 {
		t.Fatalf("list: %d, %v", len(listed.Contents), err)
	}
	testSDKUpload(t, c, bucket)
	for {
		page, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Contents) == 0 {
			break
		}
		for _, o := range page.Contents {
			if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: o.Key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := get(ctx, c, bucket, "of/1"); codeOf(err) != "NoSuchKey" {
		t.Errorf("get after delete: %v, want NoSuchKey", err)
	}
	if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
		t.Error(err)
	}
}

func testSDKUpload(t *testing.T, c *s3.Client, bucket string) {
	t.Helper()
	ctx, key, body := t.Context(), aws.String("in parts"), random(11<<20)
	upload, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for number, from := int32(1), 0; from < len(body); number, from = number+1, from+5<<20 {
		part := body[from:min(from+5<<20, len(body))]
		out, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: key, UploadId: upload.UploadId, PartNumber: &number, Body: bytes.NewReader(part)})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(number), ChecksumCRC32: out.ChecksumCRC32})
	}
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &bucket, Key: key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(ctx, c, bucket, *key); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes in parts: %d came back, %v", len(body), len(got), err)
	}
}

// testMinio does the same with minio-go: streaming signatures, uploads of unknown length.
func testMinio(t *testing.T, e *endpoint) {
	host, secure := e.node.S3[len("http://"):], false
	if e.roots != nil {
		host, secure = e.node.S3[len("https://"):], true
	}
	c, err := minio.New(host, &minio.Options{
		Creds: credentials.NewStaticV4(e.node.Keys.Access, e.node.Keys.Secret, ""), Secure: secure, Region: "us-east-1",
		Transport: cluster.HTTPClient(e.roots).Transport.(*http.Transport), MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, bucket := t.Context(), "minio-bucket"
	if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	want := map[string][32]byte{}
	for _, size := range []int64{0, 1, 100_000, 17 << 20} {
		key, body := fmt.Sprint("of ", size), random(int(size))
		length := size
		if size == 17<<20 {
			length = -1 // not told: in parts
		}
		if _, err := c.PutObject(ctx, bucket, key, bytes.NewReader(body), length, minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
			t.Fatal(err)
		}
		want[key] = sha256.Sum256(body)
	}
	for object := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		r, err := c.GetObject(ctx, bucket, object.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil || [32]byte(h.Sum(nil)) != want[object.Key] {
			t.Errorf("%s: %v, or different", object.Key, err)
		}
		r.Close()
		delete(want, object.Key)
		if err := c.RemoveObject(ctx, bucket, object.Key, minio.RemoveObjectOptions{}); err != nil {
			t.Error(err)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %d", len(want))
	}
	if err := c.RemoveBucket(ctx, bucket); err != nil {
		t.Error(err)
	}
}

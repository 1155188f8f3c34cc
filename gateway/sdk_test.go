package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// code returns the S3 error code of an SDK error, "" if there was none.
func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("code %q, want %q (%v)", got, want, err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func getAll(t *testing.T, c *s3.Client, bucket, key string) []byte {
	t.Helper()
	out, err := c.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body) // the SDK checks the checksum here
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return b
}

// TestSDKRoundTrip drives every kind of body the SDK sends: with signed payload over plain HTTP, with CRC trailers over TLS.
func TestSDKRoundTrip(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[useTLS]
		t.Run(name, func(t *testing.T) {
			ctx, f := context.Background(), newFront(t, useTLS, nil)
			c := f.sdk(aliceKey, aliceSecret)
			bucket := aws.String("round-trip")
			if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
				t.Fatal(err)
			}
			for _, algorithm := range []types.ChecksumAlgorithm{"", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"} {
				for _, size := range []int{0, 1, 70_000, 1 << 20} {
					data := random(size)
					key := string(algorithm) + "/ü 日本 𝄞+%?#/" + strconv.Itoa(size)
					put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(data), ChecksumAlgorithm: algorithm,
						Metadata: map[string]string{"Colour": "blue"}, ContentType: aws.String("text/x-test")})
					if err != nil {
						t.Fatalf("%s %d: %v", algorithm, size, err)
					}
					if put.ChecksumType != types.ChecksumTypeFullObject {
						t.Errorf("%s: checksum type %q", algorithm, put.ChecksumType)
					}
					if got := getAll(t, c, *bucket, key); !bytes.Equal(got, data) {
						t.Fatalf("%s %d: other bytes came back", algorithm, size)
					}
					head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &key})
					if err != nil || aws.ToInt64(head.ContentLength) != int64(size) || head.Metadata["colour"] != "blue" || aws.ToString(head.ContentType) != "text/x-test" {
						t.Fatalf("head: %+v, %v", head, err)
					}
					if aws.ToString(head.ETag) != aws.ToString(put.ETag) {
						t.Errorf("ETag %s, put said %s", aws.ToString(head.ETag), aws.ToString(put.ETag))
					}
				}
			}
			_, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
			wantCode(t, err, "BucketNotEmpty")
			p := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(5)})
			count := 0
			for p.HasMorePages() {
				page, err := p.NextPage(ctx)
				if err != nil {
					t.Fatal(err)
				}
				var ids []types.ObjectIdentifier
				for _, o := range page.Contents {
					ids = append(ids, types.ObjectIdentifier{Key: o.Key})
					count++
				}
				del, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: ids}})
				if err != nil || len(del.Deleted) != len(ids) {
					t.Fatalf("delete: %+v, %v", del, err)
				}
			}
			if count != 24 {
				t.Errorf("listed %d objects, put 24", count)
			}
			if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSDKMultipart uploads in parts with every checksum type, reads parts back, and copies parts.
func TestSDKMultipart(t *testing.T) {
	ctx, f := context.Background(), newFront(t, true, nil)
	c := f.sdk(aliceKey, aliceSecret)
	bucket := aws.String("multi")
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	parts := [][]byte{random(5 << 20), random(5<<20 + 1), random(1000)}
	whole := bytes.Join(parts, nil)
	kinds := []struct {
		algorithm types.ChecksumAlgorithm
		kind      types.ChecksumType
	}{{"", ""}, {"CRC32", "COMPOSITE"}, {"CRC32C", "FULL_OBJECT"}, {"SHA256", "COMPOSITE"}}
	if testing.Short() {
		kinds = kinds[1:2]
	}
	for _, kind := range kinds {
		key := aws.String("obj" + string(kind.algorithm))
		up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: kind.algorithm, ChecksumType: kind.kind})
		if err != nil {
			t.Fatal(err)
		}
		var done []types.CompletedPart
		for i, data := range parts {
			p, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)),
				Body: bytes.NewReader(data), ChecksumAlgorithm: kind.algorithm})
			if err != nil {
				t.Fatalf("%v part %d: %v", kind, i+1, err)
			}
			done = append(done, types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32,
				ChecksumCRC32C: p.ChecksumCRC32C, ChecksumSHA256: p.ChecksumSHA256, ChecksumCRC64NVME: p.ChecksumCRC64NVME})
		}
		list, err := c.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MaxParts: aws.Int32(2)})
		if err != nil || len(list.Parts) != 2 || !aws.ToBool(list.IsTruncated) || aws.ToString(list.NextPartNumberMarker) != "2" {
			t.Fatalf("list parts: %+v, %v", list, err)
		}
		out, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
		if err != nil {
			t.Fatalf("%v complete: %v", kind, err)
		}
		if !strings.HasSuffix(aws.ToString(out.ETag), `-3"`) || kind.kind != "" && out.ChecksumType != kind.kind {
			t.Errorf("%v: ETag %s, type %s", kind, aws.ToString(out.ETag), out.ChecksumType)
		}
		if !bytes.Equal(getAll(t, c, *bucket, *key), whole) {
			t.Errorf("%v: other bytes came back", kind)
		}
		two, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, PartNumber: aws.Int32(2), ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(two.Body)
		if err != nil || !bytes.Equal(b, parts[1]) || aws.ToInt32(two.PartsCount) != 3 {
			t.Errorf("%v: part 2 is %d bytes of %d parts, %v", kind, len(b), aws.ToInt32(two.PartsCount), err)
		}
		attr, err := c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: key, ObjectAttributes: types.ObjectAttributes("").Values()})
		if err != nil || aws.ToInt64(attr.ObjectSize) != int64(len(whole)) || aws.ToInt32(attr.ObjectParts.TotalPartsCount) != 3 || attr.Checksum == nil {
			t.Errorf("attributes: %+v, %v", attr, err)
		}
	}
}

// TestSDKCopy copies objects, ranges and metadata, and lists uploads.
func TestSDKCopy(t *testing.T) {
	ctx, f := context.Background(), newFront(t, false, nil)
	c := f.sdk(aliceKey, aliceSecret)
	bucket, src, dst := aws.String("copies"), aws.String("a b+c/ü"), aws.String("dst")
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	data := random(6 << 20)
	put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: src, Body: bytes.NewReader(data), Metadata: map[string]string{"a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	from := aws.String("copies/a%20b%2Bc/%C3%BC")
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: dst, CopySource: from, CopySourceIfMatch: put.ETag, IfNoneMatch: aws.String("*")}); err != nil {
		t.Fatal(err)
	}
	head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: dst})
	if err != nil || head.Metadata["a"] != "1" {
		t.Fatalf("copy lost metadata: %+v, %v", head, err)
	}
	_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: dst, CopySource: from, IfNoneMatch: aws.String("*")})
	wantCode(t, err, "PreconditionFailed")
	_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: dst, CopySource: from, CopySourceIfNoneMatch: put.ETag})
	wantCode(t, err, "PreconditionFailed")
	_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: src, CopySource: from})
	wantCode(t, err, "InvalidRequest")
	if _, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: src, CopySource: from, MetadataDirective: "REPLACE", Metadata: map[string]string{"b": "2"}, ChecksumAlgorithm: "SHA256"}); err != nil {
		t.Fatal(err)
	}
	head, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: src, ChecksumMode: "ENABLED"})
	if err != nil || head.Metadata["a"] != "" || head.Metadata["b"] != "2" || head.ChecksumSHA256 == nil {
		t.Fatalf("copy onto itself: %+v, %v", head, err)
	}
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: dst})
	if err != nil {
		t.Fatal(err)
	}
	uploads, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket})
	if err != nil || len(uploads.Uploads) != 1 || aws.ToString(uploads.Uploads[0].UploadId) != aws.ToString(up.UploadId) {
		t.Fatalf("uploads: %+v, %v", uploads, err)
	}
	p, err := c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: bucket, Key: dst, UploadId: up.UploadId, PartNumber: aws.Int32(7), CopySource: from, CopySourceRange: aws.String("bytes=5-1004")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: dst, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{PartNumber: aws.Int32(7), ETag: p.CopyPartResult.ETag}}}}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(getAll(t, c, *bucket, *dst), data[5:1005]) {
		t.Error("copied part has other bytes")
	}
}

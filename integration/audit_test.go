package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"larder/integration/cluster"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// auditMax bounds how long it may take until an audit has found what a test left behind.
const auditMax = 4 * time.Minute

// upload is a request whose body stops in the middle, for the gateway to be hit just then.
type upload struct {
	rest   io.WriteCloser // the client's end: what comes is sent; nothing more until it is closed
	answer chan answer    // capacity 1
}

type answer struct {
	status int
	err    error
}

// halfUpload begins to send length bytes to a presigned URL, and stops after sent of them.
func halfUpload(t *testing.T, url string, sent, length int) *upload {
	t.Helper()
	body, rest := io.Pipe()
	u := &upload{rest: rest, answer: make(chan answer, 1)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, body)
	must(t, err)
	req.ContentLength = int64(length)
	go func() { // ends with the request, of which the test's end is one
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			u.answer <- answer{err: err}
			return
		}
		res.Body.Close()
		u.answer <- answer{status: res.StatusCode}
	}()
	go func() { _, _ = rest.Write(random(sent)) }() // ends when the request reads no more
	t.Cleanup(func() { rest.Close() })
	return u
}

// presigned are URLs to put an object, and a part of an upload, without a client that tries again.
func presigned(t *testing.T, n *cluster.Node, bucket, key, uploadID string) string {
	t.Helper()
	c := s3.NewPresignClient(n.S3Client())
	if uploadID != "" {
		r, err := c.PresignUploadPart(t.Context(), &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: &uploadID, PartNumber: aws.Int32(1)})
		must(t, err)
		return r.URL
	}
	r, err := c.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key})
	must(t, err)
	return r.URL
}

// wantLive waits until no more than base bytes are live, or, if more is set, until there are so many more.
func wantLive(t *testing.T, r *cluster.Ring, base, more int64) {
	t.Helper()
	must(t, cluster.Poll(auditMax, func() error {
		live := liveBytes(t, r)
		if more > 0 && live < base+more {
			return fmt.Errorf("%d bytes are live, %d more than the objects need; want %d more", live, live-base, more)
		}
		if more == 0 && live > base {
			return fmt.Errorf("%d bytes are live, and the objects need %d", live, base)
		}
		return nil
	}))
}

// audited is a ring of three with a gateway besides that stores nothing, in which what is older than after is judged; objects in it; and
// how many bytes they take.
func audited(t *testing.T, bucket string, after time.Duration) (r *cluster.Ring, gateway *cluster.Node, l *ledger, base int64) {
	t.Helper()
	flags := append([]string{"--audit-after=" + after.String()}, impatient...)
	r = cluster.Dev(t, 3, flags...)
	gateway = r.Join(t, r.Nodes[0], append([]string{"--capacity=0"}, flags...)...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	makeBucket(t, gateway.S3Client(), bucket)
	l = newLedger()
	load(t, l, bucket, "kept", 16, r.Nodes...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	return r, gateway, l, liveBytes(t, r)
}

// TestAuditAfterKills kills gateways in the middle of bodies, of new objects, of ones that replace an object, and of parts. What they stored is found
// and given back, and nothing else is.
func TestAuditAfterKills(t *testing.T) {
	long(t)
	const bucket, stripes = "audited", 6
	r, gateway, l, base := audited(t, bucket, 40*time.Second)
	created, err := r.Nodes[0].S3Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("parts")})
	must(t, err)
	for round, target := range []struct{ key, upload string }{{"new", ""}, {"kept/0002", ""}, {"parts", *created.UploadId}} {
		victim := gateway
		if round == 1 { // one that stores as well
			victim = r.Nodes[1]
		}
		before := liveBytes(t, r)
		u := halfUpload(t, presigned(t, victim, bucket, target.key, target.upload), stripes<<22, 1<<30)
		wantLive(t, r, before, 3*(stripes-2)<<22)
		must(t, victim.Kill())
		must(t, u.rest.Close()) // the client waits for its body else
		if a := <-u.answer; a.err == nil {
			t.Fatalf("a gateway that was killed answered %d", a.status)
		}
		victim.Start(t)
	}
	_, err = r.Nodes[0].S3Client(patient).AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String("parts"), UploadId: created.UploadId})
	must(t, err)
	wantLive(t, r, base, 0)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	l.check(t, bucket, r.Nodes...)
	if listed, err := list(t.Context(), gateway.S3Client(patient), bucket); err != nil || len(listed) != l.size() {
		t.Errorf("%d objects are listed, %d were acknowledged; %v", len(listed), l.size(), err)
	}
	if live := liveBytes(t, r); live != base {
		t.Errorf("%d bytes are live, and the objects need %d", live, base)
	}
}

// TestAuditDuringStandstill stops a gateway in the middle of a body for so long that the audit takes its stripes for garbage, which they are from then
// on: woken up, it refuses to make an object of them.
func TestAuditDuringStandstill(t *testing.T) {
	long(t)
	const bucket, stripes = "standstill", 6
	r, gateway, l, _ := audited(t, bucket, 30*time.Second)
	old := random(100 << 10)
	_, err := put(t.Context(), r.Nodes[0].S3Client(), bucket, "key", old)
	must(t, err)
	l.acknowledged("key", sha256.Sum256(old))
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	base := liveBytes(t, r)

	u := halfUpload(t, presigned(t, gateway, bucket, "key", ""), stripes<<22, stripes<<22+1000)
	wantLive(t, r, base, 3*(stripes-2)<<22)
	must(t, gateway.Pause())
	defer gateway.Continue() //nolint:errcheck // it may have ended
	wantLive(t, r, base, 0)
	must(t, gateway.Continue())
	_, err = u.rest.Write(random(1000))
	must(t, u.rest.Close())
	if a := <-u.answer; a.err == nil && a.status != http.StatusServiceUnavailable {
		t.Fatalf("answered %d after the standstill; %v", a.status, err)
	}
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	l.check(t, bucket, r.Nodes...)
	wantLive(t, r, base, 0)
}

package integration

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"time"

	"larder/integration/cluster"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestSlowReader reads a large object slowly while its key is overwritten again and again: the reader gets the whole of what it began,
// and in the end what the last write stored is all that is live.
func TestSlowReader(t *testing.T) {
	long(t)
	large, overwrites, pace := 48<<20, 24, 0 // bytes, and bytes a second
	if cluster.Soak() {
		large, overwrites, pace = 1<<30, 100, 10<<20
	}
	r := five(t)
	bucket, key := "slow-reader", "large"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	before := liveBytes(t, r)
	body := random(large)
	if _, err := put(t.Context(), r.Nodes[0].S3Client(), bucket, key, body); err != nil {
		t.Fatal(err)
	}
	out, err := r.Nodes[1].S3Client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	must(t, err)
	defer out.Body.Close()
	got, begin := sha256.New(), time.Now()
	const size = 3 << 20
	for i := range overwrites { // an overwrite after each piece read
		step := int64(large / overwrites)
		if _, err := io.CopyN(got, out.Body, step); err != nil {
			t.Fatal(err)
		}
		if pace > 0 {
			<-time.After(time.Until(begin.Add(time.Duration(int64(i+1) * step * int64(time.Second) / int64(pace)))))
		}
		if _, err := put(t.Context(), r.Nodes[i%5].S3Client(), bucket, key, random(size)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(got, out.Body); err != nil {
		t.Fatal(err)
	}
	if [32]byte(got.Sum(nil)) != sha256.Sum256(body) {
		t.Error("the reader got other bytes")
	}
	t.Logf("%d MiB read in %v, its key overwritten %d times meanwhile", large>>20, time.Since(begin).Round(time.Millisecond), overwrites)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	must(t, cluster.Poll(time.Minute, func() error {
		if live := liveBytes(t, r) - before; live > 3*size*102/100 {
			return fmt.Errorf("%d bytes are live for three copies of %d", live, size)
		}
		return nil
	}))
}

// TestSpaceComesBack overwrites and deletes with trash that goes soon: the disks are as empty afterwards as what is left lets them be.
func TestSpaceComesBack(t *testing.T) {
	long(t)
	r := five(t, "--trash-after=5s")
	bucket := "space"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	kept := random(4 << 20)
	for i := range 6 {
		for _, key := range []string{"overwritten", fmt.Sprint("deleted-", i)} {
			if _, err := put(t.Context(), r.Nodes[i%5].S3Client(), bucket, key, random(16<<20)); err != nil {
				t.Fatal(err)
			}
		}
	}
	full := diskBytes(t, r)
	if full < 3*6*16<<20 { // the first trash may be gone already
		t.Fatalf("%d bytes on disks for 36 copies of 16 MiB", full)
	}
	for i := range 6 {
		must(t, remove(t.Context(), r.Nodes[i%5], bucket, fmt.Sprint("deleted-", i)))
	}
	if _, err := put(t.Context(), r.Nodes[0].S3Client(), bucket, "overwritten", kept); err != nil {
		t.Fatal(err)
	}
	must(t, cluster.Poll(2*time.Minute, func() error {
		if now := diskBytes(t, r); now > full/5 {
			return fmt.Errorf("%d bytes are left of %d", now, full)
		}
		return nil
	}))
	t.Logf("%d MiB on disks before, %d MiB after", full>>20, diskBytes(t, r)>>20)
	if got, err := get(t.Context(), r.Nodes[2].S3Client(), bucket, "overwritten"); err != nil || !bytes.Equal(got, kept) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// diskBytes is what all stores take on their disks.
func diskBytes(t *testing.T, r *cluster.Ring) (sum int64) {
	t.Helper()
	var nodes []struct{ UsedBytes int64 }
	must(t, r.Nodes[0].Get("/v1/nodes", &nodes))
	for _, n := range nodes {
		sum += n.UsedBytes
	}
	return sum
}

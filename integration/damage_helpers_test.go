package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"larder/integration/cluster"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// fileKinds are the files of a node's store (docs/notes/blockstore.md), by patterns under DIR/store.
var fileKinds = map[string]string{
	"segments": "segments/*", "index tables": "index/*.sst", "index log": "index/*.log", "index manifest": "index/MANIFEST-*",
	"index options": "index/OPTIONS-*", "entries tables": "entries/*.sst", "entries log": "entries/*.log", "entries manifest": "entries/MANIFEST-*",
	"entries options": "entries/OPTIONS-*", "tide": "entries.tide", "format": "FORMAT",
}

// flip changes one bit at each of n random places of every file of a kind, and reports how many files it damaged. Places are drawn
// from what was written: the zeros that a log ends with are left alone.
func flip(t *testing.T, n *cluster.Node, kind string, places int) (files int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(n.Data, "store", fileKinds[kind]))
	must(t, err)
	for _, name := range names {
		raw, err := os.ReadFile(name)
		must(t, err)
		written := len(bytes.TrimRight(raw, "\x00"))
		if written == 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		must(t, err)
		for range places {
			at := rand.IntN(written)
			_, err := f.WriteAt([]byte{raw[at] ^ 1<<rand.IntN(8)}, int64(at))
			must(t, err)
		}
		must(t, f.Close())
		files++
	}
	return files
}

// load puts objects of all shapes under prefix through the nodes in turn: inline, one stripe, several stripes, in parts.
func load(t *testing.T, l *ledger, bucket, prefix string, objects int, nodes ...*cluster.Node) {
	t.Helper()
	sizes := []int{200, 9_000, 100 << 10, 300, 6<<20 + 5, 40, 12_000, 70_000}
	var work errgroup.Group
	work.SetLimit(8)
	for i := range objects {
		work.Go(func() error {
			size := sizes[i%len(sizes)]
			if size > 1<<20 && i >= 5*len(sizes) { // five large ones do
				size = 1 << 17
			}
			key, body := fmt.Sprintf("%s/%04d", prefix, i), random(size)
			if _, err := put(t.Context(), nodes[i%len(nodes)].S3Client(patient), bucket, key, body); err != nil {
				return fmt.Errorf("put %s: %w", key, err)
			}
			l.acknowledged(key, sha256.Sum256(body))
			return nil
		})
	}
	must(t, work.Wait())
}

// neverWrong reads every acknowledged object through one node, which may be busy finding out that its disk is damaged: it may fail, but
// it does not serve other bytes, and does not say that something is not there.
func neverWrong(t *testing.T, l *ledger, bucket string, n *cluster.Node) (unreadable int) {
	t.Helper()
	var work errgroup.Group
	work.SetLimit(8)
	var failed atomic.Int64
	c := n.S3Client()
	for key, sum := range l.sums {
		work.Go(func() error {
			got, err := get(t.Context(), c, bucket, key)
			switch code := codeOf(err); {
			case err == nil && sha256.Sum256(got) != sum:
				t.Errorf("%s: other bytes through the damaged node", key)
			case code == "NoSuchKey" || code == "NoSuchBucket" || code == "InvalidAccessKeyId":
				t.Errorf("%s through the damaged node: %v", key, err)
			case err != nil:
				failed.Add(1)
			}
			return nil
		})
	}
	_ = work.Wait() // errors were told one by one
	if listed, err := list(t.Context(), c, bucket); err == nil && len(listed) != len(l.sums) {
		t.Errorf("%d objects are listed by the damaged node, %d were acknowledged", len(listed), len(l.sums))
	}
	t.Logf("%d of %d objects could not be read at once through the damaged node", failed.Load(), len(l.sums))
	return int(failed.Load())
}

// logged reports whether any of the words is in what the node has logged since an offset, and returns the offset of the end.
func logged(t *testing.T, n *cluster.Node, since int64, words ...string) (found bool, end int64) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.Data, "log"))
	must(t, err)
	for _, w := range words {
		found = found || strings.Contains(string(raw[since:]), w)
	}
	return found, int64(len(raw))
}

// scrub reads and checks everything on a node's disk.
func scrub(t *testing.T, n *cluster.Node) (last string) {
	t.Helper()
	must(t, cluster.Poll(time.Minute, func() error { // it ends early where it finds that the node has to start again
		res, err := http.Post(n.Admin+"/v1/scrub", "", nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		lines := strings.Split(strings.TrimSpace(string(body)), "\n")
		if last = lines[len(lines)-1]; err == nil && !strings.Contains(last, `"done":true`) {
			err = fmt.Errorf("scrub: %s: %s", res.Status, last)
		}
		return err
	}))
	return last
}

// others are the nodes of the ring but some.
func others(r *cluster.Ring, but ...*cluster.Node) (out []*cluster.Node) {
next:
	for _, n := range r.Nodes {
		for _, b := range but {
			if n == b {
				continue next
			}
		}
		out = append(out, n)
	}
	return out
}

// remove deletes an object through a node.
func remove(ctx context.Context, n *cluster.Node, bucket, key string) error {
	_, err := n.S3Client(patient).DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	return err
}

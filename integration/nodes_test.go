package integration

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"larder/integration/cluster"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// TestEmptiedStore takes the store of a node away and keeps its identity. A founder does so alone, and refuses to begin its realm a
// second time; in a ring the node comes back, never says that anything is not there, and is filled again.
func TestEmptiedStore(t *testing.T) {
	t.Run("Alone", func(t *testing.T) {
		n := cluster.Start(t)
		must(t, n.Terminate())
		must(t, os.RemoveAll(filepath.Join(n.Data, "store")))
		err := n.TryStart(t)
		if err == nil || !strings.Contains(err.Error(), "was begun here before") {
			t.Errorf("start of a founder whose store is gone: %v", err)
		}
	})
	t.Run("Ring", func(t *testing.T) {
		long(t)
		r := five(t)
		const bucket = "emptied"
		makeBucket(t, r.Nodes[0].S3Client(), bucket)
		l := newLedger()
		load(t, l, bucket, "before", 60, r.Nodes...)
		for _, victim := range r.Nodes[:2] { // the founder, and another
			must(t, victim.Kill())
			must(t, os.RemoveAll(filepath.Join(victim.Data, "store")))
			victim.Start(t)
			l.check(t, bucket, victim)
			cluster.WaitWhole(t, wholeMax, r.Nodes...)
		}
		twoLost(t, r, l, bucket, r.Nodes[2:4]...)
	})
}

// twoLost kills nodes, reads everything from those that are left, and starts them again.
func twoLost(t *testing.T, r *cluster.Ring, l *ledger, bucket string, lost ...*cluster.Node) {
	t.Helper()
	for _, n := range lost {
		must(t, n.Kill())
	}
	l.check(t, bucket, others(r, lost...)...)
	for _, n := range lost {
		n.Start(t)
	}
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
}

// TestRolledBack puts an old copy of a node's disk back, after much was written and deleted. Nothing of it comes back with it.
func TestRolledBack(t *testing.T) {
	long(t)
	r := five(t)
	const bucket = "rolled-back"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	l := newLedger()
	load(t, l, bucket, "old", 40, r.Nodes...)
	load(t, l, bucket, "gone", 10, r.Nodes...)
	for round, victim := range []*cluster.Node{r.Nodes[0], r.Nodes[3]} {
		must(t, victim.Terminate())
		copied := filepath.Join(t.TempDir(), "copy")
		if out, err := exec.Command("cp", "-a", victim.Data, copied).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		victim.Start(t)
		load(t, l, bucket, "old", 40, r.Nodes...) // replaced
		load(t, l, bucket, fmt.Sprint("new-", round), 20, r.Nodes...)
		for i := range 10 {
			key := fmt.Sprintf("gone/%04d", i)
			must(t, remove(t.Context(), r.Nodes[i%5], bucket, key))
			delete(l.sums, key)
		}
		must(t, victim.Terminate())
		must(t, os.RemoveAll(victim.Data))
		must(t, os.Rename(copied, victim.Data))
		_, since := logged(t, victim, 0)
		victim.Start(t)
		l.check(t, bucket, r.Nodes...)
		must(t, cluster.Poll(time.Minute, func() error {
			if told, _ := logged(t, victim, since, "rolled back"); !told {
				return fmt.Errorf("node %d: the rolled-back disk was not noticed", round)
			}
			return nil
		}))
		cluster.WaitWhole(t, wholeMax, r.Nodes...)
		l.check(t, bucket, r.Nodes...)
		for _, n := range r.Nodes {
			listed, err := list(t.Context(), n.S3Client(patient), bucket)
			must(t, err)
			for key := range listed {
				if strings.HasPrefix(key, "gone/") {
					t.Errorf("%s was deleted and is listed by %s", key, n.ID[:8])
				}
			}
		}
		load(t, l, bucket, "gone", 10, r.Nodes...)
	}
	twoLost(t, r, l, bucket, r.Nodes[1:3]...)
}

// TestGatewayOnly adds a node of capacity 0 to a ring with data, and then one with storage: the one serves and holds nothing, the
// other takes its share.
func TestGatewayOnly(t *testing.T) {
	long(t)
	r := five(t, "--capacity=1GiB")
	const bucket = "shares"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	l := newLedger()
	load(t, l, bucket, "before", 400, r.Nodes...)
	flags := append([]string{}, impatient...)
	gateway := r.Join(t, r.Nodes[1], append(flags, "--capacity=0")...)
	storage := r.Join(t, r.Nodes[2], append(flags, "--capacity=1GiB")...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	load(t, l, bucket, "after", 40, gateway)
	l.check(t, bucket, gateway, storage)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	var nodes []struct {
		Node          string
		CapacityBytes int64
		Blocks        struct{ Fragments, LiveBytes int64 }
	}
	must(t, gateway.Get("/v1/nodes", &nodes))
	var all, mine int64
	for _, n := range nodes {
		all += n.Blocks.LiveBytes
		switch n.Node {
		case gateway.ID:
			if n.Blocks.Fragments != 0 || n.CapacityBytes != 0 {
				t.Errorf("a node without storage holds %d fragments and offers %d bytes", n.Blocks.Fragments, n.CapacityBytes)
			}
		case storage.ID:
			mine = n.Blocks.LiveBytes
		}
	}
	if share := float64(mine) / float64(all); share < 0.08 || share > 0.26 {
		t.Errorf("one of six equal nodes holds %.1f %% of the bytes", 100*share)
	} else {
		t.Logf("one of six equal nodes holds %.1f %% of the bytes", 100*share)
	}
	var partitions []struct{ Members []struct{ Node string } }
	must(t, gateway.Get("/v1/partitions", &partitions))
	for _, p := range partitions {
		for _, m := range p.Members {
			if m.Node == gateway.ID {
				t.Error("a node without storage is a member of a partition")
			}
		}
	}
	// What the gateway has on disk must not grow with the data.
	var usage int64
	must(t, filepath.WalkDir(filepath.Join(gateway.Data, "store"), func(_ string, d os.DirEntry, err error) error {
		if info, e := d.Info(); err == nil && e == nil && !d.IsDir() {
			usage += info.Size()
		}
		return err
	}))
	if usage > 1<<20 {
		t.Errorf("a node without storage has %d bytes on disk", usage)
	}
}

// skewed signs requests as if its clock were off, as that of the gateway is.
type skewed struct {
	*v4.Signer
	by time.Duration
}

func (s skewed) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payloadHash, service, region string, at time.Time, f ...func(*v4.SignerOptions)) error {
	return s.Signer.SignHTTP(ctx, c, r, payloadHash, service, region, at.Add(s.by), f...)
}

// TestClocks sets the clocks of gateways an hour and a bit less ahead and behind, and of others two hours. The last write wins,
// whatever the clocks say, and nobody is locked out.
func TestClocks(t *testing.T) {
	long(t)
	r := five(t)
	const bucket = "clocks"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	var clients []*s3.Client
	for _, offset := range []time.Duration{58 * time.Minute, -58 * time.Minute, 2 * time.Hour, -2 * time.Hour} {
		n := r.Join(t, r.Nodes[0], append([]string{"--capacity=0", "--clock-offset=" + offset.String()}, impatient...)...)
		clients = append(clients, n.S3Client(patient, func(o *s3.Options) { o.HTTPSignerV4 = skewed{v4.NewSigner(), offset} }))
	}
	clients = append(clients, r.Nodes[0].S3Client(patient))
	for round := range 8 {
		for i, writer := range clients {
			key, body := fmt.Sprint(round%3), fmt.Appendf(nil, "%d by %d", round, i)
			if _, err := put(t.Context(), writer, bucket, key, body); err != nil {
				t.Errorf("round %d, put through %d: %v", round, i, err)
				continue
			}
			for j, reader := range clients {
				if got, err := get(t.Context(), reader, bucket, key); err != nil || string(got) != string(body) {
					t.Errorf("round %d, written by %d, read by %d: %q, %v", round, i, j, got, err)
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	if _, err := clients[1].DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("0")}); err != nil {
		t.Error(err)
	}
	if _, err := get(t.Context(), clients[2], bucket, "0"); codeOf(err) != "NoSuchKey" {
		t.Errorf("deleted through one that is behind, read through the one two hours ahead: %v", err)
	}
	// A node that those admit who are ahead is let in by all.
	late := r.Join(t, r.Nodes[7], append([]string{"--capacity=0"}, impatient...)...)
	if got, err := get(t.Context(), late.S3Client(patient), bucket, "1"); err != nil {
		t.Errorf("read through a node that was admitted two hours ahead of time: %q, %v", got, err)
	}
}

// TestFull fills a small ring until it refuses, which it does with the right error and nothing half done; then deletes, which works
// on a full ring, and finds the space again.
func TestFull(t *testing.T) {
	long(t)
	r := five(t, "--capacity=64MiB")
	const bucket = "full"
	c := r.Nodes[0].S3Client()
	makeBucket(t, c, bucket)
	l := newLedger()
	var refused error
	for i := 0; refused == nil && i < 100; i++ {
		key, body := fmt.Sprintf("large/%02d", i), random(8<<20)
		if _, refused = put(t.Context(), c, bucket, key, body); refused == nil {
			l.acknowledged(key, sha256.Sum256(body))
		}
	}
	if code := codeOf(refused); code != "InsufficientStorage" && code != "SlowDown" && code != "ServiceUnavailable" {
		t.Fatalf("a full ring says %v", refused)
	}
	t.Logf("%d objects of 8 MiB fit; then: %v", l.size(), refused)
	l.check(t, bucket, r.Nodes...)
	listed, err := list(t.Context(), c, bucket)
	must(t, err)
	if len(listed) != l.size() {
		t.Errorf("%d objects are listed, %d were acknowledged", len(listed), l.size())
	}
	// What the refused upload had stored is given back.
	must(t, cluster.Poll(time.Minute, func() error {
		if live, stored := liveBytes(t, r), int64(l.size())*8<<20; live > 3*stored*102/100 {
			return fmt.Errorf("%d bytes are live for three copies of %d", live, stored)
		}
		return nil
	}))
	// Records have room of their own.
	small := newLedger()
	load(t, small, bucket, "small", 2, r.Nodes...)
	var work errgroup.Group
	for key := range l.sums {
		work.Go(func() error { return remove(t.Context(), r.Nodes[1], bucket, key) })
	}
	must(t, work.Wait())
	if listed, err = list(t.Context(), c, bucket); err != nil || len(listed) != small.size() {
		t.Errorf("%d objects are listed after the deletes, %v", len(listed), err)
	}
	must(t, cluster.Poll(time.Minute, func() error { // the trash is emptied an hour later at the earliest
		if live := liveBytes(t, r); live > 8<<20 { // a fragment of the refused upload may have to wait for the audit
			return fmt.Errorf("%d bytes are live after the deletes", live)
		}
		return nil
	}))
}

// liveBytes is what the fragments of all nodes take that are not in the trash.
func liveBytes(t *testing.T, r *cluster.Ring) (sum int64) {
	t.Helper()
	var nodes []struct{ Blocks struct{ LiveBytes int64 } }
	must(t, r.Nodes[0].Get("/v1/nodes", &nodes))
	for _, n := range nodes {
		sum += n.Blocks.LiveBytes
	}
	return sum
}

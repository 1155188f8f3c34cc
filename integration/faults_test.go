package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/integration/cluster"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// impatient makes nodes replace who is away within a test's time.
var impatient = []string{"--replace-after=10s", "--repair-after=5s"}

// wholeMax bounds how long a ring may take to heal. The machine may be busy.
const wholeMax = 3 * time.Minute

// long skips a test that takes more than a few seconds.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short")
	}
	enough(t)
}

// five is a ring of five that is whole.
func five(t *testing.T, flags ...string) *cluster.Ring {
	t.Helper()
	r := cluster.Dev(t, 5, append(slices.Clone(impatient), flags...)...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	return r
}

// patient tries again as the SDK does for its users.
func patient(o *s3.Options) { o.Retryer = retry.NewStandard() }

// ledger is what was acknowledged: SHA-256 by key.
type ledger struct {
	mu   sync.Mutex
	sums map[string][32]byte
}

func newLedger() *ledger { return &ledger{sums: map[string][32]byte{}} }

func (l *ledger) acknowledged(key string, sum [32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sums[key] = sum
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sums)
}

// check reads every acknowledged object through each of the nodes in turn, and looks for it in their listings.
func (l *ledger) check(t *testing.T, bucket string, nodes ...*cluster.Node) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	begin := time.Now()
	var clients []*s3.Client
	for _, n := range nodes {
		clients = append(clients, n.S3Client(patient))
	}
	var lost, wrong atomic.Int64
	var work errgroup.Group
	work.SetLimit(8)
	i := 0
	for key, sum := range l.sums {
		n := i % len(nodes)
		i++
		work.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := clients[n].GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
			if err != nil {
				if lost.Add(1) < 5 {
					t.Errorf("%s through %s: %v", key, nodes[n].ID[:8], err)
				}
				return nil
			}
			defer out.Body.Close()
			h := sha256.New()
			if _, err := io.Copy(h, out.Body); err != nil || [32]byte(h.Sum(nil)) != sum {
				if wrong.Add(1) < 5 {
					t.Errorf("%s through %s: %v, or other bytes", key, nodes[n].ID[:8], err)
				}
			}
			return nil
		})
	}
	_ = work.Wait() // errors were told one by one
	if lost.Load()+wrong.Load() > 0 {
		t.Fatalf("of %d acknowledged objects %d cannot be read and %d are wrong", len(l.sums), lost.Load(), wrong.Load())
	}
	for n, c := range clients {
		listed, err := list(t.Context(), c, bucket)
		if err != nil {
			t.Fatalf("list through %s: %v", nodes[n].ID[:8], err)
		}
		for key := range l.sums {
			if !listed[key] {
				t.Fatalf("%s is not in the listing of %s", key, nodes[n].ID[:8])
			}
		}
	}
	t.Logf("%d objects checked in %v", len(l.sums), time.Since(begin).Round(time.Millisecond))
}

func list(ctx context.Context, c *s3.Client, bucket string) (map[string]bool, error) {
	keys := map[string]bool{}
	for pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			keys[*o.Key] = true
		}
	}
	return keys, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestart ends a single node both ways. What was acknowledged is there afterwards, and so are its keys.
func TestRestart(t *testing.T) {
	n := cluster.Start(t)
	const bucket = "restart"
	makeBucket(t, n.S3Client(), bucket)
	l := newLedger()
	for i, end := range []func() error{n.Terminate, n.Kill} {
		for j, size := range []int{0, 100, 40 << 10, 5 << 20} {
			key, body := fmt.Sprint(i, "/", j), random(size)
			if _, err := put(t.Context(), n.S3Client(), bucket, key, body); err != nil {
				t.Fatal(err)
			}
			l.acknowledged(key, sha256.Sum256(body))
		}
		must(t, end())
		n.Start(t)
		l.check(t, bucket, n)
	}
}

// TestKilledDuringSync kills a node in the middle of an `aws s3 sync` through another, and one more after it.
func TestKilledDuringSync(t *testing.T) {
	needs(t, "aws")
	r := five(t)
	gateway, bucket := r.Nodes[0], "killed-sync"
	s := newShell(t, &endpoint{node: gateway})
	up := filepath.Join(s.home, "up")
	tree(t, up, 600)
	makeBucket(t, gateway.S3Client(), bucket)
	synced := make(chan error, 1)
	go func() {
		_, err := s.try(t, "aws", s.awsArgs("s3", "sync", "--only-show-errors", up, "s3://"+bucket)...)
		synced <- err
	}()
	must(t, cluster.Poll(commandMax, func() error {
		there, err := list(t.Context(), r.Nodes[1].S3Client(), bucket)
		if err == nil && len(there) < 100 {
			err = fmt.Errorf("%d objects", len(there))
		}
		return err
	}))
	must(t, r.Nodes[2].Kill())
	select {
	case err := <-synced:
		t.Logf("the sync was over before the kill took effect: %v", err)
		must(t, err)
	default:
		must(t, <-synced)
	}
	l := newLedger()
	for name, sum := range sums(t, up) {
		l.acknowledged(strings.TrimPrefix(name, "/"), sum)
	}
	l.check(t, bucket, gateway, r.Nodes[1])
	must(t, r.Nodes[4].Kill())
	left := []*cluster.Node{gateway, r.Nodes[1], r.Nodes[3]}
	l.check(t, bucket, left...)
	cluster.WaitWhole(t, wholeMax, left...)
	l.check(t, bucket, left...)
	// They come back, and all is as it was.
	r.Nodes[2].Start(t)
	r.Nodes[4].Start(t)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	l.check(t, bucket, r.Nodes...)
}

// TestAllKilled kills all five nodes at once while clients write, and starts them again.
func TestAllKilled(t *testing.T) {
	long(t)
	r := five(t)
	const bucket = "all-killed"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	l := newLedger()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for w := range 10 {
		writers.Go(func() {
			c := r.Nodes[w%5].S3Client()
			for i := 0; ctx.Err() == nil; i++ {
				key, body := fmt.Sprintf("%d/%d", w, i), random([]int{10, 3000, 50_000, 5 << 20}[i%4])
				if _, err := put(ctx, c, bucket, key, body); err == nil {
					l.acknowledged(key, sha256.Sum256(body))
				}
			}
		})
	}
	err := cluster.Poll(time.Minute, func() error {
		if n := l.size(); n < 200 {
			return fmt.Errorf("%d objects written", n)
		}
		return nil
	})
	if err == nil {
		err = together(r.Nodes, (*cluster.Node).Kill)
	}
	stop()
	writers.Wait()
	must(t, err)
	must(t, together(r.Nodes, func(n *cluster.Node) error { return n.TryStart(t) }))
	l.check(t, bucket, r.Nodes...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
}

// together does f to all nodes at once.
func together(nodes []*cluster.Node, f func(*cluster.Node) error) error {
	var all errgroup.Group
	for _, n := range nodes {
		all.Go(func() error { return f(n) })
	}
	return all.Wait()
}

// TestFounderLost fills a single node, lets four join, and then takes the first one's disk away.
func TestFounderLost(t *testing.T) {
	long(t)
	const bucket = "founder"
	first := cluster.Start(t, impatient...)
	r := &cluster.Ring{Nodes: []*cluster.Node{first}, Keys: first.Keys}
	makeBucket(t, first.S3Client(), bucket)
	l := newLedger()
	large := 256 << 20
	if cluster.Soak() {
		large = 1 << 30
	}
	for left, i := large, 0; left > 0; i++ {
		size := min(left, []int{64 << 20, 100, 20 << 10, 3 << 20}[i%4])
		key, body := fmt.Sprint(i), random(size)
		if _, err := put(t.Context(), first.S3Client(), bucket, key, body); err != nil {
			t.Fatal(err)
		}
		l.acknowledged(key, sha256.Sum256(body))
		left -= size
	}
	for range 4 {
		r.Join(t, first, impatient...)
	}
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	must(t, first.Kill())
	must(t, os.RemoveAll(first.Data))
	r.Nodes = r.Nodes[1:]
	l.check(t, bucket, r.Nodes...)
	r.Join(t, r.Nodes[1], impatient...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	l.check(t, bucket, r.Nodes...)
}

// TestPaused stops a node for a while (SIGSTOP): its sockets stay open and nothing answers. Nobody else's requests suffer.
func TestPaused(t *testing.T) {
	long(t)
	r := five(t)
	const bucket = "paused"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	l := newLedger()
	must(t, r.Nodes[3].Pause())
	var worst time.Duration
	length := 25 * time.Second
	if cluster.Soak() {
		length = time.Minute
	}
	for begin, i := time.Now(), 0; time.Since(begin) < length; i++ {
		size := []int{100, 30_000, 300_000}[i%3]
		if i%30 == 2 || cluster.Soak() && i%3 == 2 {
			size = 6 << 20 // few: what is written meanwhile has to be moved twice until the ring is whole
		}
		key, body := fmt.Sprint(i), random(size)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		writer, reader := r.Nodes[i%3], r.Nodes[(i+1)%3]
		at := time.Now()
		_, err := put(ctx, writer.S3Client(), bucket, key, body)
		if err != nil {
			t.Errorf("put %d, %v after the stop: %v", i, time.Since(begin), err)
		} else {
			l.acknowledged(key, sha256.Sum256(body))
			if got, err := get(ctx, reader.S3Client(), bucket, key); err != nil || !bytes.Equal(got, body) {
				t.Errorf("get %d, %v after the stop: %d of %d bytes, %v", i, time.Since(begin), len(got), len(body), err)
			}
		}
		worst = max(worst, time.Since(at))
		cancel()
	}
	t.Logf("%d objects written and read, the slowest in %v", l.size(), worst)
	must(t, r.Nodes[3].Continue())
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	l.check(t, bucket, r.Nodes...)
}

// TestManyNodes runs a ring of more nodes than a leaf set holds, so that lookups go through others.
func TestManyNodes(t *testing.T) {
	long(t)
	r := cluster.Dev(t, 24, append(slices.Clone(impatient), "--leaf-set-size=8", "--log-level=warn")...)
	const bucket = "many-nodes"
	makeBucket(t, r.Nodes[0].S3Client(patient), bucket)
	l := newLedger()
	var work errgroup.Group
	work.SetLimit(8)
	for i := range 240 {
		work.Go(func() error {
			key, body := fmt.Sprint(i), random([]int{100, 30_000, 1 << 20}[i%3])
			_, err := put(t.Context(), r.Nodes[i%24].S3Client(patient), bucket, key, body)
			if err == nil {
				l.acknowledged(key, sha256.Sum256(body))
			}
			return err
		})
	}
	must(t, work.Wait())
	l.check(t, bucket, r.Nodes...)
	var far uint64
	for _, n := range r.Nodes {
		var ring struct{ FarLookups uint64 }
		must(t, n.Get("/v1/ring", &ring))
		far += ring.FarLookups
	}
	t.Logf("%d lookups of two hops or more", far)
	if far == 0 {
		t.Error("no lookup took more than one hop: nothing was routed")
	}
}

// TestDeleteBucketRace deletes a bucket through one gateway while others put into it. Either the bucket goes or the objects are there.
func TestDeleteBucketRace(t *testing.T) {
	long(t)
	r := five(t)
	rounds := 40
	if cluster.Soak() {
		rounds = 200
	}
	var clients []*s3.Client
	for _, n := range r.Nodes {
		clients = append(clients, n.S3Client())
	}
	gone, kept := 0, 0
	for round := range rounds {
		bucket := fmt.Sprint("race-", round)
		makeBucket(t, clients[0], bucket)
		var deleted error
		written := make([]error, 4)
		var all sync.WaitGroup
		all.Go(func() {
			_, deleted = clients[4].DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket})
		})
		for i := range written {
			late := time.Duration(mathrand.Int64N(int64(round%8+1) * int64(15*time.Millisecond)))
			all.Go(func() {
				<-time.After(late) // the puts of a round meet the deletion at different stages
				_, written[i] = put(t.Context(), clients[i], bucket, fmt.Sprint(i), []byte("x"))
			})
		}
		all.Wait()
		acknowledged := 0
		for i, err := range written {
			if err == nil {
				acknowledged++
			} else if code := codeOf(err); code != "NoSuchBucket" && code != "OperationAborted" && code != "SlowDown" && code != "ServiceUnavailable" {
				t.Errorf("round %d, put %d: %v", round, i, err)
			}
		}
		switch code := codeOf(deleted); {
		case deleted == nil:
			gone++
			if acknowledged > 0 {
				t.Errorf("round %d: the bucket was deleted, and %d puts into it acknowledged", round, acknowledged)
			}
			if _, err := clients[1].HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket}); err == nil {
				t.Errorf("round %d: the bucket was deleted and is there", round)
			}
			continue
		case code != "BucketNotEmpty" && code != "OperationAborted" && code != "SlowDown" && code != "ServiceUnavailable":
			t.Errorf("round %d, delete: %v", round, deleted)
		}
		kept++
		for i, err := range written {
			if err != nil {
				continue
			}
			if got, err := get(t.Context(), clients[(i+1)%5], bucket, fmt.Sprint(i)); err != nil || string(got) != "x" {
				t.Errorf("round %d: put %d was acknowledged and reads %q, %v", round, i, got, err)
			}
		}
	}
	t.Logf("%d buckets deleted, %d kept", gone, kept)
	if gone == 0 || kept == 0 {
		t.Error("always the same side won: this was no race")
	}
}

// TestConditionalRaces lets 50 writers through five gateways make one object (If-None-Match: *), then replace it (If-Match): each time
// exactly one wins, and what the object holds is the winner's.
func TestConditionalRaces(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	r := five(t)
	const bucket = "races"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	for round := range rounds {
		key := fmt.Sprint("object ", round)
		etag := race(t, r, bucket, key, "", nil)
		race(t, r, bucket, key, etag, nil)
	}
}

// TestConditionalRacesKilled does the same while a node is killed in each round.
func TestConditionalRacesKilled(t *testing.T) {
	long(t)
	rounds := 5
	if cluster.Soak() {
		rounds = 20
	}
	r := five(t)
	const bucket = "races"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	for round := range rounds {
		key, victim := fmt.Sprint("object ", round), r.Nodes[round%5]
		etag := race(t, r, bucket, key, "", victim)
		victim.Start(t)
		if etag != "" {
			victim = r.Nodes[(round+2)%5]
			race(t, r, bucket, key, etag, victim)
			victim.Start(t)
		}
	}
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
}

// race runs one round. With match "" the writers say If-None-Match: *. A victim is killed meanwhile, and then a writer may be left
// without an answer: its write may have been done or not. It returns the ETag of the object, "" where there is none.
func race(t *testing.T, r *cluster.Ring, bucket, key, match string, victim *cluster.Node) (etag string) {
	t.Helper()
	const writers = 50
	// No round writes what another does: a winner that leaves the ETag as it was would leave the condition true for the next one.
	name := func(w int) string { return fmt.Sprintf("writer %d after %q", w, match) }
	var results [writers]error
	var all sync.WaitGroup
	begin := make(chan struct{})
	for w := range writers {
		c := r.Nodes[w%5].S3Client()
		all.Go(func() {
			in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(name(w))}
			if match == "" {
				in.IfNoneMatch = aws.String("*")
			} else {
				in.IfMatch = &match
			}
			<-begin
			_, results[w] = c.PutObject(t.Context(), in)
		})
	}
	close(begin)
	if victim != nil {
		must(t, victim.Kill())
	}
	all.Wait()
	var won, unknown []string
	for w, err := range results {
		name := name(w)
		switch code := codeOf(err); {
		case err == nil:
			won = append(won, name)
		case code == "PreconditionFailed": // not done
		case code == "ConditionalRequestConflict": // done or not (design.md §5)
			unknown = append(unknown, name)
		case victim != nil && (code == "" || code == "SlowDown" || code == "ServiceUnavailable" || code == "InternalError"):
			unknown = append(unknown, name)
		default:
			t.Errorf("%s: %s: %v", key, name, err)
		}
	}
	reader := r.Nodes[0]
	if reader == victim {
		reader = r.Nodes[1]
	}
	out, err := reader.S3Client(patient).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if victim != nil && len(won) == 0 && codeOf(err) == "NoSuchKey" {
		return ""
	}
	if err != nil {
		t.Fatalf("%s: %v wrote it, and: %v", key, won, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	must(t, err)
	switch {
	case len(won) > 1:
		t.Errorf("%s: %d winners: %v", key, len(won), won)
	case len(won) == 1 && string(body) != won[0]: // nobody else says that the object is his, so nobody replaced it
		t.Errorf("%s: %s won, and it holds %q", key, won[0], body)
	case len(won) == 0 && victim == nil:
		t.Errorf("%s: nobody won", key)
	case len(won) == 0 && *out.ETag != match && !slices.Contains(unknown, string(body)):
		t.Errorf("%s: holds %q, of a writer that was refused", key, body)
	}
	return *out.ETag
}

package linearizability

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"larder/integration/cluster"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

func TestMain(m *testing.M) { cluster.Main(m) }

const (
	bucket  = "registers"
	clients = 15               // at work at once
	slots   = 6                // keys in use at once
	renewal = 4 * time.Second  // how long keys are in use: longer histories take long to judge
	patient = 10 * time.Second // for an answer
	skew    = time.Hour        // of one gateway's clock
)

// TestLinearizable runs clients over five gateways, one of whose clocks is an hour fast, while nodes are killed and stopped one at a time.
func TestLinearizable(t *testing.T) {
	length := time.Minute
	switch {
	case cluster.Soak():
		length = 10 * time.Minute
	case testing.Short():
		length = 15 * time.Second
	}
	impatient := []string{"--replace-after=10s", "--repair-after=5s"}
	ring := cluster.Dev(t, 4, impatient...)
	ring.Join(t, ring.Nodes[0], append(impatient, fmt.Sprintf("--clock-offset=%v", skew))...)
	cluster.WaitWhole(t, 3*time.Minute, ring.Nodes...)
	if _, err := ring.Nodes[0].S3Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	h := &history{begin: time.Now()}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var work sync.WaitGroup
	for i := range clients {
		node := ring.Nodes[i%5]
		c := node.S3Client(func(o *s3.Options) {
			if i%5 == 4 {
				o.HTTPSignerV4 = ahead{v4.NewSigner()}
			}
		})
		work.Go(func() { h.client(ctx, c, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	work.Go(func() {
		if err := trouble(ctx, t, ring.Nodes, rand.New(rand.NewPCG(1, 2))); err != nil {
			t.Error(err)
			cancel()
		}
	})
	work.Wait()
	h.judge(t)
}

// trouble kills or stops one node after another, and brings each back, until ctx ends.
func trouble(ctx context.Context, t *testing.T, nodes []*cluster.Node, random *rand.Rand) error {
	pause := func(most time.Duration) { // or less, where ctx ends
		select {
		case <-time.After(most/2 + time.Duration(random.Int64N(int64(most/2)))):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		n := nodes[random.IntN(len(nodes))]
		down, up := n.Kill, func() error { return n.TryStart(t) }
		if random.IntN(2) == 0 {
			down, up = n.Pause, n.Continue
		}
		if err := down(); err != nil {
			return err
		}
		pause(5 * time.Second)
		if err := up(); err != nil {
			return err
		}
		pause(3 * time.Second)
	}
	return nil
}

// ahead signs for a gateway whose clock is ahead.
type ahead struct{ *v4.Signer }

func (a ahead) SignHTTP(ctx context.Context, creds aws.Credentials, r *http.Request, payload, service, region string, at time.Time, options ...func(*v4.SignerOptions)) error {
	return a.Signer.SignHTTP(ctx, creds, r, payload, service, region, at.Add(skew), options...)
}

// history is what the clients did and saw.
type history struct {
	begin time.Time

	mu       sync.Mutex
	ops      []porcupine.Operation
	unknowns int
	unsent   int
	odd      []string // answers that no request may get
	lists    int
}

// tag is the ETag of an object that holds value.
func tag(value string) string { return fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum([]byte(value)))) }

// client makes one request after another until ctx ends. What it last saw of a key it uses in conditions.
func (h *history) client(ctx context.Context, c *s3.Client, random *rand.Rand) {
	seen := map[string]string{}
	for ctx.Err() == nil {
		generation := fmt.Sprintf("g%04d/", time.Since(h.begin)/renewal)
		in := request{key: generation + fmt.Sprint(random.IntN(slots)), value: fmt.Sprintf("%016x", random.Uint64())}
		switch n := random.IntN(20); {
		case n == 0:
			h.list(ctx, c, generation)
			continue
		case n < 5:
			in.kind = put
		case n < 8:
			in.kind = putAbsent
		case n < 12 && seen[in.key] != "":
			in.kind, in.want = putMatch, seen[in.key]
		case n < 14:
			in.kind, in.value = remove, ""
		default:
			in.kind, in.value = read, ""
		}
		out, sent := h.record(in, func() (answer, error) {
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
			defer cancel()
			return ask(limited, c, in)
		})
		switch {
		case !sent:
			select { // the node is down: others have the floor for a moment
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		case out.outcome == done && in.kind == read:
			seen[in.key] = out.value
		case out.outcome == done:
			seen[in.key] = in.value
		}
	}
}

// errNotSent says that a request reached nobody.
var errNotSent = errors.New("nobody listens")

// record makes a request and notes it, unless it reached nobody.
func (h *history) record(in request, f func() (answer, error)) (out answer, sent bool) {
	call := time.Since(h.begin).Nanoseconds()
	out, err := f()
	back := time.Since(h.begin).Nanoseconds()
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, errNotSent) {
		h.unsent++
		return answer{outcome: unknown}, false
	}
	if err != nil {
		h.odd = append(h.odd, fmt.Sprintf("%+v: %v", in, err))
		out.outcome = unknown
	}
	if out.outcome == unknown {
		h.unknowns++
		if in.kind == read {
			return out, true // saw nothing
		}
		back = never
	}
	h.ops = append(h.ops, porcupine.Operation{Input: in, Call: call, Output: out, Return: back})
	return out, true
}

// ask makes a request. An error is an answer that is wrong whatever happened.
func ask(ctx context.Context, c *s3.Client, in request) (answer, error) {
	name, key := aws.String(bucket), &in.key
	switch in.kind {
	case read:
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: name, Key: key})
		if err != nil {
			return judgeError(err, "NoSuchKey", answer{})
		}
		defer out.Body.Close()
		body, err := io.ReadAll(out.Body)
		if err != nil {
			return answer{outcome: unknown}, nil
		}
		if *out.ETag != tag(string(body)) {
			return answer{}, fmt.Errorf("ETag %s of %q", *out.ETag, body)
		}
		return answer{value: string(body)}, nil
	case remove:
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: name, Key: key})
		return judgeError(err, "", answer{})
	}
	object := &s3.PutObjectInput{Bucket: name, Key: key, Body: strings.NewReader(in.value)}
	switch in.kind {
	case putAbsent:
		object.IfNoneMatch = aws.String("*")
	case putMatch:
		object.IfMatch = aws.String(tag(in.want))
	}
	_, err := c.PutObject(ctx, object)
	a, odd := judgeError(err, "PreconditionFailed", answer{outcome: refused})
	if in.kind == putMatch && code(err) == "NoSuchKey" {
		return answer{outcome: refused}, nil
	}
	if in.kind == put && a.outcome == refused {
		return a, errors.New("refused by a condition that it did not have")
	}
	return a, odd
}

// judgeError says what an error means: expected, for a code that is an answer; unknown, for those after which a client may try again.
func judgeError(err error, expectedCode string, expected answer) (answer, error) {
	switch code(err) {
	case "":
		if err == nil {
			return answer{}, nil
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return answer{}, errNotSent
		}
		return answer{outcome: unknown}, nil // no answer at all
	case expectedCode:
		return expected, nil
	case "SlowDown", "ServiceUnavailable", "InternalError", "ConditionalRequestConflict", "OperationAborted", "RequestTimeout":
		return answer{outcome: unknown}, nil
	}
	return answer{}, err
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// list reads all keys of a generation at once. Each key is a read by itself: a listing is no snapshot.
func (h *history) list(ctx context.Context, c *s3.Client, generation string) {
	call := time.Since(h.begin).Nanoseconds()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
	defer cancel()
	out, err := c.ListObjectsV2(limited, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &generation})
	if err != nil {
		return
	}
	back := time.Since(h.begin).Nanoseconds()
	listed := map[string]string{}
	for _, o := range out.Contents {
		listed[*o.Key] = *o.ETag
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lists++
	for slot := range slots {
		key := generation + fmt.Sprint(slot)
		// The listing shows an ETag; judge puts the value in its place.
		h.ops = append(h.ops, porcupine.Operation{Input: request{key: key, kind: read}, Call: call, Output: answer{value: listed[key]}, Return: back})
		delete(listed, key)
	}
	for key := range listed {
		h.odd = append(h.odd, fmt.Sprintf("listing of %s shows %s", generation, key))
	}
}

// resolve replaces the ETags that listings showed by the values that have them.
func (h *history) resolve() {
	values := map[string]string{}
	for _, op := range h.ops {
		if in := op.Input.(request); in.value != "" {
			values[tag(in.value)] = in.value
		}
	}
	for i, op := range h.ops {
		if out := op.Output.(answer); op.Input.(request).kind == read && values[out.value] != "" {
			h.ops[i].Output = answer{value: values[out.value]}
		}
	}
}

// judgeMax bounds how long the judging may take.
const judgeMax = 2 * time.Minute

// leastOps is a rate of answered requests below which the test shows nothing, a second.
const leastOps = 5

func (h *history) judge(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, o := range h.odd {
		if i < 10 {
			t.Error("odd answer:", o)
		}
	}
	h.resolve()
	length := time.Since(h.begin)
	t.Logf("%d operations, %d of unknown outcome, %d never sent, %d listings in %v", len(h.ops), h.unknowns, h.unsent, h.lists, length.Round(time.Second))
	if float64(len(h.ops)-h.unknowns) < leastOps*length.Seconds() {
		t.Errorf("%d of %d operations had an answer: too few to judge by", len(h.ops)-h.unknowns, len(h.ops))
	}
	bad := 0
	deadline := time.Now().Add(judgeMax)
	for _, part := range register.Partition(h.ops) {
		result, info := porcupine.CheckOperationsVerbose(register, part, max(time.Second, time.Until(deadline)))
		if result == porcupine.Ok {
			continue
		}
		key := part[0].Input.(request).key
		t.Errorf("%s: %v, %d operations", key, result, len(part))
		if bad++; bad == 1 {
			h.show(t, part, info)
		}
	}
}

// show prints the history of a key, and draws it where LARDER_TEST_LOGS says.
func (h *history) show(t *testing.T, part []porcupine.Operation, info porcupine.LinearizationInfo) {
	for _, op := range part {
		end := "never"
		if op.Return != never {
			end = time.Duration(op.Return).Round(10 * time.Microsecond).String()
		}
		t.Logf("%v to %s: %s", time.Duration(op.Call).Round(10*time.Microsecond), end, register.DescribeOperation(op.Input, op.Output))
	}
	if dir := os.Getenv("LARDER_TEST_LOGS"); dir != "" {
		if err := porcupine.VisualizePath(register, info, filepath.Join(dir, "linearizability.html")); err != nil {
			t.Log(err)
		}
	}
}

package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"larder/auth/sigv4"
	"larder/gateway"
	"larder/gateway/gatewaytest"
)

// patient is a Backend that looks for the bucket "never" until the request ends.
type patient struct {
	*gatewaytest.Memory
	entered chan struct{}
}

func (b *patient) Bucket(ctx context.Context, name string) (gateway.Bucket, error) {
	if name != "never" {
		return b.Memory.Bucket(ctx, name)
	}
	close(b.entered)
	<-ctx.Done()
	return gateway.Bucket{}, fmt.Errorf("find bucket: %w", ctx.Err())
}

// TestGetsGone has clients close the connection in the middle of an object and before an answer: neither is an error of ours.
func TestGetsGone(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	b := &patient{gatewaytest.NewMemory(), make(chan struct{})}
	f := bucketFront(t, func(c *gateway.Config) { c.Backend, c.Log = b, zap.New(core) })
	b.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt", Owner: "alice"})
	must(b.Put(t.Context(), "bkt", "k", gatewaytest.Input(make([]byte, 32<<20))))

	resp := must(f.Client().Do(f.signed(t, "GET", "/bkt/k", nil, nil)))
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-b.entered
		leave()
	}()
	if _, err := f.Client().Do(f.signed(t, "GET", "/never", nil, nil).WithContext(ctx)); err == nil {
		t.Error("an answer without the bucket")
	}
	f.Server.Close()
	if got := f.counters(t, "larder_s3_requests_total"); got != "[ClientGone/GetObject/ 1 ClientGone/ListObjects/ 1]" {
		t.Errorf("requests %s", got)
	}
	if got := f.counters(t, "larder_s3_answers_aborted_total"); got != "[ 0]" {
		t.Errorf("answers that we cut off: %s", got)
	}
	for _, l := range logs.FilterMessage("s3 request").All() {
		if m := l.ContextMap(); l.Level != zapcore.InfoLevel || m["code"] != "ClientGone" || m["cause"] == "" {
			t.Errorf("access log: %v %v", l.Level, m)
		}
	}
}

// digesting is a Backend whose Put hashes what has come, says so once, and goes on.
type digesting struct {
	*gatewaytest.Memory
	begun *sync.WaitGroup
}

func (b *digesting) Put(_ context.Context, _, _ string, in gateway.PutInput) (gateway.Object, error) {
	_, err := io.CopyN(in.Digest, in.Body, 128<<10)
	b.begun.Done()
	if err == nil {
		_, err = io.Copy(in.Digest, in.Body)
	}
	return gateway.Object{}, err
}

// stalled yields some zeros and then nothing until ctx ends.
type stalled struct {
	ctx  context.Context
	from io.Reader
}

func (s stalled) Read(p []byte) (int, error) {
	if n, _ := s.from.Read(p); n > 0 {
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// TestPutsGone has so many clients go away while their bodies are hashed together: nothing of that stays behind.
func TestPutsGone(t *testing.T) {
	const clients = 6
	b := &digesting{gatewaytest.NewMemory(), new(sync.WaitGroup)}
	b.begun.Add(clients)
	f := bucketFront(t, func(c *gateway.Config) { c.Backend = b })
	b.CreateBucket(t.Context(), gateway.Bucket{Name: "bkt", Owner: "alice"})
	hashing := func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "md5Server).process(")
	}
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range clients {
		r := must(http.NewRequestWithContext(ctx, "PUT", fmt.Sprintf("%s/bkt/%d", f.URL, i), stalled{ctx, bytes.NewReader(make([]byte, 200<<10))}))
		r.ContentLength = 1 << 20
		sign(t, sigv4.Signer{AccessKey: aliceKey, Secret: aliceSecret, Region: "us-east-1"}, r, sigv4.UnsignedPayload, time.Now())
		all.Go(func() {
			if resp, err := f.Client().Do(r); err == nil {
				resp.Body.Close()
				t.Errorf("half a body was answered with %d", resp.StatusCode)
			}
		})
	}
	b.begun.Wait()
	if !hashing() {
		t.Error("the bodies are not hashed together")
	}
	leave()
	all.Wait()
	f.Server.Close()
	if got, want := f.counters(t, "larder_s3_requests_total"), fmt.Sprintf("[IncompleteBody/PutObject/ %d]", clients); got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		if !hashing() {
			return
		}
		runtime.Gosched() // it ends by itself
	}
	t.Error("after the last request the hashing goroutine still runs")
}

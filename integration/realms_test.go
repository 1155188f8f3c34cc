package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/integration/cluster"
)

// realm is a ring with something in it.
type realm struct {
	*cluster.Ring
	l *ledger
}

const realmBucket = "realm"

// pairOf founds a realm of two nodes, and fills it a little.
func pairOf(t *testing.T, flags ...string) *realm {
	t.Helper()
	first := cluster.Start(t, flags...)
	r := &realm{&cluster.Ring{Nodes: []*cluster.Node{first}, Keys: first.Keys}, newLedger()}
	r.Join(t, first, flags...)
	makeBucket(t, first.S3Client(), realmBucket)
	load(t, r.l, realmBucket, "before", 16, r.Nodes...)
	return r
}

// overlayOf is where the other nodes reach n.
func overlayOf(t *testing.T, n *cluster.Node) (addr string) {
	t.Helper()
	for _, other := range nodesOf(t, n) {
		if other.Node == n.ID {
			return other.Address
		}
	}
	t.Fatalf("%s does not know itself", n.ID)
	return ""
}

func nodesOf(t *testing.T, n *cluster.Node) (nodes []struct{ Node, Address string }) {
	t.Helper()
	must(t, n.Get("/v1/nodes", &nodes))
	return nodes
}

// moved ends node i and starts it again, on its own directory, with flags beside those.
func (r *realm) moved(t *testing.T, i int, flags ...string) *cluster.Node {
	t.Helper()
	old := r.Nodes[i]
	must(t, old.Terminate())
	n := cluster.Prepare(t, append([]string{"--data=" + old.Data}, flags...)...)
	n.Data = old.Data
	n.Start(t)
	n.Keys = r.Keys
	if n.ID != old.ID {
		t.Fatalf("node %s came back as %s", old.ID, n.ID)
	}
	r.Nodes[i] = n
	return n
}

// right checks that every node of a realm knows its own nodes and no others, and serves what the realm holds.
func (r *realm) right(t *testing.T, name string) {
	t.Helper()
	var want []string
	for _, n := range r.Nodes {
		want = append(want, n.ID)
	}
	slices.Sort(want)
	for _, n := range r.Nodes {
		must(t, cluster.Poll(time.Minute, func() error {
			var is []string
			for _, other := range nodesOf(t, n) {
				is = append(is, other.Node)
			}
			if slices.Sort(is); !slices.Equal(is, want) {
				return fmt.Errorf("%s: %s knows the nodes %v of %v", name, n.ID, is, want)
			}
			return nil
		}))
	}
	load(t, r.l, realmBucket, fmt.Sprint("later-", r.l.size()), 8, r.Nodes...)
	r.l.check(t, realmBucket, r.Nodes...)
}

// says waits until a node has logged a refusal with all of the words, since an offset of its log.
func says(t *testing.T, n *cluster.Node, since int64, words ...string) {
	t.Helper()
	must(t, cluster.Poll(time.Minute, func() error {
		for _, line := range lines(t, n, since) {
			all := strings.Contains(line, `"level":"warn"`)
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("%s does not warn of %q", n.ID, words)
	}))
}

// TestTwoRealms brings two realms together by mistake: a node of one is told to join the other, and a node of one comes up where a
// node of the other was. Strangers are refused by name, and each realm stays what it is.
func TestTwoRealms(t *testing.T) {
	a, b := pairOf(t), pairOf(t)
	fresh := cluster.Prepare(t, "--join="+overlayOf(t, a.Nodes[0]))
	if err := fresh.TryStart(t); err == nil || !strings.Contains(err.Error(), "--ticket") {
		t.Errorf("a node without a ticket: %v", err)
	}

	seed := overlayOf(t, a.Nodes[0])
	_, since := logged(t, b.Nodes[1], 0)
	lost := b.moved(t, 1, "--join="+seed)
	says(t, lost, since, "connection refused", "not of this realm", a.Nodes[0].ID, seed)
	b.right(t, "b, told to join a")
	a.right(t, "a, which b was told to join")

	place := overlayOf(t, lost)
	must(t, lost.Kill())
	_, since = logged(t, b.Nodes[0], 0)
	stranger := a.moved(t, 1, "--overlay="+place)
	if at := overlayOf(t, stranger); at != place {
		t.Fatalf("the stranger is at %s, not %s", at, place)
	}
	says(t, b.Nodes[0], since, "connection refused", "not of this realm", stranger.ID, place)
	a.right(t, "a, with a node in b's place")
	b.moved(t, 1)
	b.right(t, "b, with its node elsewhere")
	a.right(t, "a, in the end")
}

// metrics are the samples of a node without labels, by name.
func metrics(t *testing.T, n *cluster.Node) map[string]float64 {
	t.Helper()
	res, err := http.Get(n.Admin + "/metrics")
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	samples := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name[0] != '#' {
			samples[name], _ = strconv.ParseFloat(value, 64) // those with labels do not matter
		}
	}
	return samples
}

// assaults are what strangers without a certificate throw at a node's overlay address. Each goes on until ctx ends.
var assaults = map[string]func(ctx context.Context, addr string) error{
	"garbage": overTCP(func(c net.Conn) {
		_, _ = c.Write(random(1 + mathrand.IntN(4096)))
	}),
	"an endless TLS record": overTCP(func(c net.Conn) {
		head := []byte{22, 3, 1, 0x3f, 0xff}
		for _, err := c.Write(head); err == nil; _, err = c.Write(random(16 << 10)) {
		}
	}),
	"a ClientHello drop by drop": overTCP(func(c net.Conn) {
		for _, err := c.Write([]byte{22, 3, 1, 2, 0}); err == nil; _, err = c.Write([]byte{1}) {
			<-time.After(200 * time.Millisecond)
		}
	}),
	"no certificate": overTCP(func(c net.Conn) {
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"larder-bulk/1"}})
		for _, err := s.Write(random(16 << 10)); err == nil; _, err = s.Write(random(16 << 10)) { // an endless hello
		}
	}),
	"silence": overTCP(func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c) // until the node hangs up
	}),
	"random datagrams": overUDP(func() []byte { return random(1 + mathrand.IntN(1400)) }),
	"QUIC's first packets, with nothing in them": overUDP(func() []byte {
		b := append([]byte{0xc3, 0, 0, 0, 1, 8}, random(8)...)       // Initial, version 1, destination (RFC 9000 §17.2.2)
		b = append(append(b, 8), random(8)...)                       // source
		b = append(b, 0)                                             // no token
		b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(1200-26)) // length
		return append(b, random(1200-len(b))...)
	}),
}

// overTCP runs one kind of stranger, 64 at a time. Each waits until the node hangs up, but for 10 s at most.
func overTCP(say func(c net.Conn)) func(ctx context.Context, addr string) error {
	return func(ctx context.Context, addr string) error {
		var all sync.WaitGroup
		defer all.Wait()
		hung := make(chan error, 64)
		for range 64 {
			all.Go(func() {
				for ctx.Err() == nil {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						continue // its queue is full
					}
					_ = c.SetDeadline(time.Now().Add(10 * time.Second))
					say(c)
					_, err = io.Copy(io.Discard, c)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						select {
						case hung <- fmt.Errorf("the node keeps a connection: %w", err):
						default:
						}
					}
					c.Close()
				}
			})
		}
		all.Wait()
		select {
		case err := <-hung:
			return err
		default:
			return nil
		}
	}
}

// overUDP sends a thousand datagrams a second.
func overUDP(make func() []byte) func(ctx context.Context, addr string) error {
	return func(ctx context.Context, addr string) error {
		c, err := net.Dial("udp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for range 10 {
				_, _ = c.Write(make())
			}
			<-tick.C
		}
		return nil
	}
}

// TestAssaulted throws what no node sends at a node's TCP and UDP port while clients write and read through it. It goes on serving, hangs
// up on whoever keeps it waiting, counts, and in the end holds no more than before.
func TestAssaulted(t *testing.T) {
	long(t)
	r := pairOf(t)
	n := r.Nodes[0]
	addr := overlayOf(t, n)
	writer, reader := n.S3Client(), r.Nodes[1].S3Client()
	served := func() {
		t.Helper()
		body := random(200_000)
		key := fmt.Sprint("during-", r.l.size())
		_, err := put(t.Context(), writer, realmBucket, key, body)
		must(t, err)
		got, err := get(t.Context(), reader, realmBucket, key)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(body), err)
		}
		r.l.acknowledged(key, sha256.Sum256(body))
	}
	for range 20 {
		served()
	}
	before := metrics(t, n)
	for name, assault := range assaults {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- assault(ctx, addr) }()
		times := 0
		for ; ctx.Err() == nil; times++ {
			served() // or the test fails
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		during := metrics(t, n)
		t.Logf("%s: %d objects meanwhile, %.0f MiB, %.0f goroutines, %.0f files, %.0f refused", name, times, during["process_resident_memory_bytes"]/(1<<20),
			during["go_goroutines"], during["process_open_fds"], during["larder_quic_refused_total"])
	}
	must(t, cluster.Poll(30*time.Second, func() error { // the heap, since the race detector's memory stays
		after := metrics(t, n)
		for name, more := range map[string]float64{"go_memstats_heap_inuse_bytes": 96 << 20, "go_goroutines": 60, "process_open_fds": 30} {
			if before[name] == 0 || after[name] > before[name]+more {
				return fmt.Errorf("%s was %.0f and is %.0f", name, before[name], after[name])
			}
		}
		return nil
	}))
	if was, is := before["larder_quic_refused_total"], metrics(t, n)["larder_quic_refused_total"]; is <= was {
		t.Errorf("of the strangers %.0f were counted", is-was)
	}
	r.right(t, "after the assaults")
}

// lines are what a node has logged since an offset.
func lines(t *testing.T, n *cluster.Node, since int64) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.Data, "log"))
	must(t, err)
	return strings.Split(string(raw[since:]), "\n")
}

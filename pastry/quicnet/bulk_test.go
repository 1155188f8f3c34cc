package quicnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/wire"
)

func TestBulkConnectionsAreReused(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	ctx := ctxFor(t)
	for range 20 {
		if _, err := ask(ctx, a, b.Self(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.Stats(); s.BulkStreams != 20 || s.BulkConns != 1 {
		t.Fatalf("20 requests one after the other: %+v", s)
	}
	// Answers whose length the asker knows are not read to the end; the connection is kept all the same.
	b.handle(func(_ context.Context, _ wire.Peer, s wire.Stream) {
		io.ReadFull(s, make([]byte, 1))
		s.Write([]byte("yes"))
		s.CloseWrite()
	})
	for range 5 {
		s, err := a.Open(ctx, b.Self(), wire.ServicePast)
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte("x"))
		s.CloseWrite()
		if _, err := io.ReadFull(s, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		s.Cancel()
		await(t, "the connection to be free", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.pools[poolKey(b)].idle) == 1
		})
	}
	if s := b.Stats(); s.BulkStreams != 25 || s.BulkConns != 1 {
		t.Fatalf("%+v", s)
	}
}

func poolKey(n *node) bulkKey { return bulkKey{n.Self().ID, n.instance} }

func TestBulkCancelledStreamIsNotReused(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	ctx := ctxFor(t)
	for range 5 {
		s, err := a.Open(ctx, b.Self(), wire.ServicePast)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(bytes.Repeat([]byte("old"), 1000))
		s.Cancel()
		if got, err := ask(ctx, a, b.Self(), []byte("new")); err != nil || !bytes.HasPrefix(got, []byte("new")) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	await(t, "cancelled connections to go", func() bool { return a.Stats().BulkConns == 1 && b.Stats().BulkConns == 1 })
	if l := a.linkTo(b.Self().ID); l.active.Load() != 0 {
		t.Fatalf("%d streams counted as active", l.active.Load())
	}
	await(t, "the answering end to be done", func() bool { return b.linkTo(a.Self().ID).active.Load() == 0 })
}

// The handler refuses before it has read the request: the asker, still writing, gets the answer.
func TestBulkEarlyAnswerArrives(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	b.handle(func(_ context.Context, _ wire.Peer, s wire.Stream) {
		s.Write([]byte("no space"))
		s.CloseWrite()
	})
	for range 5 {
		got, err := ask(ctxFor(t), a, b.Self(), make([]byte, 8<<20))
		if err != nil || string(got) != "no space" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if s := a.Stats(); s.BulkConns != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestBulkManyAtOnce(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	ctx := ctxFor(t)
	var wg sync.WaitGroup
	for i := range 2 * bulkMax {
		wg.Go(func() {
			request := bytes.Repeat([]byte{byte(i)}, 1+i*100)
			got, err := ask(ctx, a, b.Self(), request)
			if err != nil || !bytes.HasPrefix(got, request) {
				t.Errorf("request %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	await(t, "surplus connections to go", func() bool { return a.Stats().BulkConns <= bulkIdleMax })
	a.clean(time.Now().Add(2 * bulkIdle))
	if s := a.Stats(); s.BulkConns != 0 {
		t.Fatalf("%d connections kept after a time", s.BulkConns)
	}
	if got, err := ask(ctx, a, b.Self(), []byte("x")); err != nil || len(got) == 0 {
		t.Fatal(err)
	}
}

// The peer's TCP port is not to be had, or only there: streams go over QUIC.
func TestBulkFallsBackToQUIC(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	b.bulkListener.Close()
	ctx := ctxFor(t)
	for range 3 {
		if _, err := ask(ctx, a, b.Self(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.Stats(); s.BulkStreams != 0 || s.StreamsOpened != 3 || s.BulkConns != 0 {
		t.Fatalf("%+v", s)
	}
	if !a.logged("peer not reached over TCP", b.Self().ID.String()) {
		t.Fatal("nothing in the log")
	}
	plain := w.start(w.member(storage, time.Now()), func(c *Config) { c.NoBulk = true })
	if _, err := ask(ctx, a, plain.Self(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(ctx, plain, a.Self(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if s := plain.Stats(); s.BulkStreams != 0 {
		t.Fatalf("%+v", s)
	}
}

// A number that is given stays without a bulk lane where TCP has it already; a free one is free in both.
func TestBulkPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w := newWorld(t)
	n := w.start(w.member(storage, time.Now()), func(c *Config) { c.Listen = taken.Addr().String() })
	if n.bulkListener != nil || !n.logged("no bulk lane", "") {
		t.Fatal("a bulk lane on a port of somebody else's")
	}
	if f := w.start(w.member(storage, time.Now())); f.bulkListener == nil {
		t.Fatal("no bulk lane on a free port")
	}
	if _, err := ask(ctxFor(t), n, w.start(w.member(storage, time.Now())).Self(), []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// A pooled connection that the peer has closed is noticed before it is used.
func TestBulkClosedWhileIdle(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	ctx := ctxFor(t)
	for range 5 {
		if _, err := ask(ctx, a, b.Self(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		for _, pool := range b.pools {
			for c := range pool.conns {
				c.close()
			}
		}
		b.mu.Unlock()
		await(t, "the other end to be closed", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			pool := a.pools[poolKey(b)]
			return len(pool.idle) == 1 && !quiet(pool.idle[0].tcp)
		})
	}
}

func TestBulkStrangersAreRefused(t *testing.T) {
	w, elsewhere := newWorld(t), newWorld(t)
	b := w.start(w.member(storage, time.Now()))
	addr := addrOf(b.Self()).String()
	dial := func(id *realm.Identity, protocol string) error {
		cfg := realm.NewCredentials(id, time.Now).ClientConfig(pastry.NodeID{}, 0, protocol)
		cfg.VerifyConnection = nil
		c, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		c.Write(hello{instance: 1, addr: addrOf(b.Self())}.encode())
		c.Write([]byte{byte(wire.ServicePast), 0, 0, 0, 1, 'x', 0, 0, 0, 0})
		_, err = c.Read(make([]byte, 1))
		return err
	}
	if err := dial(elsewhere.member(storage, time.Now()), realm.ProtocolBulk); err == nil {
		t.Fatal("a node of another realm was served")
	}
	await(t, "the refusal in the log", func() bool { return b.logged("connection refused", "not of this realm") })
	if err := dial(w.member(storage, time.Now()), realm.ProtocolBulk); err != io.EOF && !isClosed(err) {
		t.Fatalf("a node without a QUIC connection was served: %v", err)
	}
	if err := dial(w.member(storage, time.Now()), realm.Protocol); err == nil {
		t.Fatal("another protocol was served")
	}
	for range 5 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		garbage := make([]byte, 1000)
		rand.Read(garbage)
		c.Write(garbage)
		c.SetDeadline(time.Now().Add(patience))
		io.Copy(io.Discard, c)
		c.Close()
	}
	await(t, "each to be counted once", func() bool { return b.Stats().Refused == 8 })
	if s := b.Stats(); s.StreamsAccepted != 0 || s.BulkConns != 0 {
		t.Fatalf("%+v", s)
	}
}

// isClosed says whether the peer closed the connection, by whatever word of TCP.
func isClosed(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) && !op.Timeout()
}

// A proper member sends chunks that are too long, or an unknown service, over TCP.
func TestBulkGarbage(t *testing.T) {
	for _, garbage := range [][]byte{{byte(wire.ServicePast), 255, 255, 255, 255}, {99}} {
		b, bulk := openBulk(t)
		bulk.conn.tls.Write(garbage)
		if _, err := bulk.conn.tls.Read(make([]byte, 1)); err == nil {
			t.Fatal("garbage was answered")
		}
		bulk.Cancel()
		if s := b.Stats(); s.Offences != 1 {
			t.Fatalf("%+v", s)
		}
	}
}

// openBulk returns a member and a stream to it over TCP. On a machine so slow that the handshake is given up QUIC stands in, as it
// should; then it begins again with other members.
func openBulk(t *testing.T) (*node, *bulkStream) {
	for range 10 {
		w := newWorld(t)
		a, b := w.pair()
		b.handle(func(_ context.Context, _ wire.Peer, s wire.Stream) { io.ReadAll(s) })
		s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
		if err != nil {
			t.Fatal(err)
		}
		if bulk, ok := s.(*bulkStream); ok {
			return b, bulk
		}
		s.Cancel()
	}
	t.Fatal("ten pairs of members, and none opened the bulk lane")
	return nil, nil
}

// FuzzChunkReader feeds what a peer may send into a stream: no panic, no more out than in, an end only where there was one,
// and nothing taken that comes after it.
func FuzzChunkReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 'h', 'i', 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 'a', 0, 0, 0, 1, 'b', 0, 0, 0, 0, 2, 'n', 'e', 'x', 't'})
	f.Add([]byte{255, 255, 255, 255})
	f.Add([]byte{0, 0, 0, 9, 'c', 'u', 't'})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		chunks := chunkReader{r: r}
		got, err := io.ReadAll(&chunks)
		rest, restErr := io.ReadAll(r)
		if restErr != nil || !bytes.HasSuffix(data, rest) {
			t.Fatal("the rest is not what followed")
		}
		used := data[:len(data)-len(rest)]
		if err == nil && !bytes.HasSuffix(used, []byte{0, 0, 0, 0}) {
			t.Fatal("an end that nobody wrote")
		}
		if len(got) > len(used) || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errBadChunk) && err != nil {
			t.Fatalf("%d bytes out of %d, %v", len(got), len(used), err)
		}
	})
}

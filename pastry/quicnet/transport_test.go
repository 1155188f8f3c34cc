package quicnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// echo answers a request with itself and the sender's nodeId.
func echo(_ context.Context, from wire.Peer, s wire.Stream) {
	request, err := io.ReadAll(s)
	if err != nil {
		return
	}
	s.Write(append(request, from.Handle.ID[:]...))
	s.CloseWrite()
}

// ask sends one request and returns the answer.
func ask(ctx context.Context, from *node, to pastry.NodeHandle, request []byte) ([]byte, error) {
	s, err := from.Open(ctx, to, wire.ServicePast)
	if err != nil {
		return nil, err
	}
	defer s.Cancel()
	if deadline, ok := ctx.Deadline(); ok {
		s.SetDeadline(deadline)
	}
	if _, err := s.Write(request); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	return io.ReadAll(s)
}

func TestMessagesBothWays(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	for _, text := range []string{"", "small", strings.Repeat("x", 1100), strings.Repeat("y", 5000), strings.Repeat("z", wire.MessageMax)} {
		for _, way := range []struct{ from, to *node }{{a, b}, {b, a}} {
			way.from.Send(way.to.Self(), []byte(text))
			select {
			case got := <-way.to.messages:
				if got.text != text || got.from != way.from.Self() {
					t.Fatalf("%d bytes from %v, want %d from %v", len(got.text), got.from, len(text), way.from.Self())
				}
			case <-time.After(patience):
				t.Fatalf("message of %d bytes did not arrive", len(text))
			}
		}
	}
	if s := a.Stats(); s.MessagesSent != 5 || s.DatagramsSent < 2 || s.DatagramsSent > 4 || s.MessagesReceived != 5 || s.Links != 1 {
		t.Fatalf("%+v", s)
	}
	a.Send(b.Self(), make([]byte, wire.MessageMax+1))
	a.Send(a.Self(), nil)
	if s := a.Stats(); s.MessagesDropped != 2 {
		t.Fatalf("%+v", s)
	}
}

func TestStreams(t *testing.T) { lanes(t, testStreams) }

func testStreams(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	a, b := w.pair(lane)
	ctx := ctxFor(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	for _, request := range [][]byte{nil, []byte("x"), big} {
		answer, err := ask(ctx, a, b.Self(), request)
		if err != nil {
			t.Fatal(err)
		}
		id := a.Self().ID
		if !bytes.Equal(answer, append(bytes.Clone(request), id[:]...)) {
			t.Fatalf("%d bytes came back for %d", len(answer), len(request))
		}
	}
	if rtt, ok := a.RTT(b.Self().ID); !ok || rtt <= 0 || rtt > time.Second {
		t.Fatalf("RTT %v %v", rtt, ok)
	}
	if _, ok := a.RTT(pastry.NodeID{1}); ok {
		t.Fatal("RTT to nobody")
	}
	if _, err := a.Open(ctx, a.Self(), wire.ServicePast); !errors.Is(err, ErrSelf) {
		t.Fatalf("stream to itself: %v", err)
	}
}

func TestPeerIsWhoItsCertificateSays(t *testing.T) { lanes(t, testPeerIsWhoItsCertificateSays) }

func testPeerIsWhoItsCertificateSays(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	a, b := w.pair(lane)
	peers := make(chan wire.Peer, 1)
	b.handle(func(_ context.Context, from wire.Peer, s wire.Stream) { peers <- from })
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("x"))
	if got := take(t, peers); got.Handle != a.Self() || got.Roles != storage {
		t.Fatalf("%+v, want %+v as storage", got, a.Self())
	}
	s.Cancel()
}

func TestIdentify(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair(func(c *Config) { c.DialTimeout = time.Second })
	ctx := ctxFor(t)
	for range 3 {
		got, err := a.Identify(ctx, addrOf(b.Self()))
		if err != nil || got != b.Self() {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if s := a.Stats(); s.Dials != 1 || s.Links != 1 {
		t.Fatalf("asking again made more connections: %+v", s)
	}
	if got, err := a.Identify(ctx, addrOf(a.Self())); err != nil || got != a.Self() {
		t.Fatalf("own address: %v, %v", got, err)
	}
	if _, err := a.Identify(ctx, freePort(t, w)); err == nil {
		t.Fatal("identified nobody")
	}
}

// A node advertises another address than it listens on; others learn that one.
func TestAdvertisedAddressIsTheHandle(t *testing.T) {
	w := newWorld(t)
	a := w.start(w.member(storage, time.Now()))
	b := w.start(w.member(storage, time.Now()), func(c *Config) { c.Advertise = "192.0.2.7:7007" })
	c := w.start(w.member(storage, time.Now()), func(c *Config) { c.Advertise = "0.0.0.0" })
	if got := addrOf(b.Self()); got != netip.MustParseAddrPort("192.0.2.7:7007") {
		t.Fatalf("advertises %v", got)
	}
	b.Send(a.Self(), []byte("b"))
	if got := take(t, a.messages); got.from != b.Self() {
		t.Fatalf("message from %v", got.from)
	}
	a.Send(b.Self(), []byte("a")) // by the connection that exists: nobody is at 192.0.2.7
	if got := take(t, b.messages); got.text != "a" {
		t.Fatal(got)
	}
	c.Send(a.Self(), []byte("c"))
	if got := take(t, a.messages); addrOf(got.from) != netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.Self().Port) {
		t.Fatalf("unspecified address became %v", addrOf(got.from))
	}
}

func TestSimultaneousConnectsEndWithOneInUse(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		a, b := w.pair()
		var wg sync.WaitGroup
		ctx := ctxFor(t)
		for range 8 {
			wg.Go(func() {
				if _, err := ask(ctx, a, b.Self(), []byte("ab")); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := ask(ctx, b, a.Self(), []byte("ba")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := a.Stats(); s.Dials > 1 {
			t.Fatalf("concurrent opens made %d dials", s.Dials)
		}
		// Both ends agree which connection is in use, as soon as both know of both.
		await(t, "agreement on one connection", func() bool {
			la, lb := a.linkTo(b.Self().ID), b.linkTo(a.Self().ID)
			return la != nil && lb != nil && la.dialed != lb.dialed
		})
		// The other one goes once its grace is over, and nothing is lost by it.
		a.clean(time.Now().Add(2 * retireGrace))
		b.clean(time.Now().Add(2 * retireGrace))
		await(t, "one connection", func() bool { return a.Stats().Links == 1 && b.Stats().Links == 1 })
		if _, err := ask(ctx, a, b.Self(), []byte("again")); err != nil {
			t.Fatal(err)
		}
		a.Close()
		b.Close()
	}
}

func TestRestartedPeerIsReachedAtOnce(t *testing.T) {
	w := newWorld(t)
	first, id := w.member(storage, time.Now()), w.member(storage, time.Now())
	if first.NodeID().Compare(id.NodeID()) > 0 {
		first, id = id, first // a's connection would win, were the two made at the same time
	}
	a, b := w.start(first), w.start(id)
	ctx := ctxFor(t)
	if _, err := ask(ctx, a, b.Self(), []byte("1")); err != nil {
		t.Fatal(err)
	}
	old := a.linkTo(b.Self().ID)
	// The new process connects while the old one's connection still stands, as after a crash.
	again := w.start(id)
	if _, err := ask(ctx, again, a.Self(), []byte("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(ctx, a, again.Self(), []byte("3")); err != nil {
		t.Fatal(err)
	}
	if l := a.linkTo(id.NodeID()); l == old || l.hello.instance != again.instance {
		t.Fatal("the connection in use leads to the process before")
	}
	await(t, "the old connection to end", func() bool { return a.Stats().Links == 1 })
}

func TestIdleConnectionsAreClosedAndMadeAnew(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	ctx := ctxFor(t)
	hold := newGate()
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) { hold.wait() })
	s, err := a.Open(ctx, b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("x"))
	a.clean(time.Now().Add(time.Hour))
	if a.linkTo(b.Self().ID) == nil || a.linkTo(b.Self().ID).conn.Context().Err() != nil {
		t.Fatal("a connection with an open stream was closed")
	}
	hold.open()
	s.Cancel()
	a.clean(time.Now().Add(time.Hour))
	await(t, "both ends to forget", func() bool { return a.Stats().Links == 0 && b.Stats().Links == 0 })
	a.mu.Lock()
	peers := len(a.peers)
	a.mu.Unlock()
	if peers != 0 {
		t.Fatalf("%d peers remembered", peers)
	}
	b.handle(echo)
	if _, err := ask(ctx, a, b.Self(), []byte("again")); err != nil {
		t.Fatal(err)
	}
}

// Nothing listens there: Open says so in bounded time, remembers it, and Send does not dial again meanwhile.
func TestUnreachablePeer(t *testing.T) {
	w := newWorld(t)
	a := w.start(w.member(storage, time.Now()), func(c *Config) {
		c.DialTimeout = 300 * time.Millisecond
		c.DialBackoff = time.Hour
	})
	to := handleOf(pastry.NodeID{1}, freePort(t, w))
	start := time.Now()
	if _, err := a.Open(ctxFor(t), to, wire.ServicePast); err == nil {
		t.Fatal("opened a stream to nobody")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("took %v", took)
	}
	for range 10 {
		a.Send(to, []byte("x"))
		if _, err := a.Open(ctxFor(t), to, wire.ServicePast); err == nil {
			t.Fatal("opened a stream to nobody")
		}
	}
	await(t, "messages to be dropped", func() bool { return a.Stats().MessagesDropped == 10 })
	if s := a.Stats(); s.Dials != 1 || s.DialsFailed != 1 {
		t.Fatalf("the failure was not remembered: %+v", s)
	}
	to.Port++ // it has moved
	a.Open(ctxFor(t), to, wire.ServicePast)
	if s := a.Stats(); s.Dials != 2 {
		t.Fatalf("a new address was not tried: %+v", s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	to.ID[1]++
	if _, err := a.Open(ctx, to, wire.ServicePast); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

func TestSendQueueIsBounded(t *testing.T) {
	w := newWorld(t)
	a := w.start(w.member(storage, time.Now()), func(c *Config) { c.QueueMax = 10; c.DialTimeout = time.Second })
	to := handleOf(pastry.NodeID{1}, freePort(t, w))
	for range 100 {
		a.Send(to, make([]byte, 100)) // while the first is waiting for the dial
	}
	if s := a.Stats(); s.MessagesDropped < 80 {
		t.Fatalf("kept %d messages for a peer that is not there", 100-s.MessagesDropped)
	}
	await(t, "the queue to be dropped", func() bool { return a.Stats().MessagesDropped == 100 })
}

// The peer vanishes without a word: streams fail within LinkTimeout, and opening says so within DialTimeout.
func TestVanishedPeer(t *testing.T) { lanes(t, testVanishedPeer) }

func testVanishedPeer(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	quick := func(c *Config) { c.LinkTimeout = time.Second; c.DialTimeout = 500 * time.Millisecond }
	a, b := w.pair(lane, quick)
	reached := newGate()
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) { reached.open(); <-ctx.Done() })
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Cancel()
	s.Write([]byte("x"))
	reached.wait()
	b.udp.Close() // no goodbye, no more answers
	start := time.Now()
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Fatalf("read from a vanished peer: %v", err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Fatalf("noticed after %v", took)
	}
	await(t, "the connection to be forgotten", func() bool { return a.linkTo(b.Self().ID) == nil })
	start = time.Now()
	if _, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast); err == nil {
		t.Fatal("opened a stream to a vanished peer")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("said so after %v", took)
	}
}

func TestCancelResetsBothSides(t *testing.T) { lanes(t, testCancelResetsBothSides) }

func testCancelResetsBothSides(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	a, b := w.pair(lane)
	result := make(chan error, 2)
	reached := newGate()
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) {
		reached.open()
		_, err := io.ReadAll(s)
		result <- err
		for err = nil; err == nil; _, err = s.Write(make([]byte, 1<<16)) {
		}
		result <- err
	})
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("x"))
	reached.wait()
	s.Cancel()
	s.Cancel()
	if err := take(t, result); err == nil {
		t.Fatal("the peer read an end where there was a reset")
	}
	if err := take(t, result); err == nil {
		t.Fatal("the peer could still write")
	}
	if _, err := s.Write([]byte("y")); err == nil {
		t.Fatal("wrote after Cancel")
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Fatal("read after Cancel")
	}
}

// An answer much larger than the window arrives whole though the handler cancels right after CloseWrite.
func TestCancelAfterCloseWriteLosesNothing(t *testing.T) {
	lanes(t, testCancelAfterCloseWriteLosesNothing)
}

func testCancelAfterCloseWriteLosesNothing(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	a, b := w.pair(lane)
	answer := bytes.Repeat([]byte("larder"), 1<<18)
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) {
		io.ReadAll(s)
		s.Write(answer)
		s.CloseWrite() // Stream's defer cancels
	})
	for range 5 {
		got, err := ask(ctxFor(t), a, b.Self(), []byte("x"))
		if err != nil || !bytes.Equal(got, answer) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(answer), err)
		}
	}
}

// The handler takes a request whose length it knows and cancels before its end was said: the asker is not disturbed.
func TestCloseWriteAfterThePeerHasReadEnough(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair(func(c *Config) { c.NoBulk = true })
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) {
		io.ReadFull(s, make([]byte, 1))
		s.Write([]byte("y"))
		s.CloseWrite()
	})
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Cancel()
	s.Write([]byte("x"))
	qs := s.(*stream).qs
	select { // the peer's STOP_SENDING has arrived
	case <-qs.Context().Done():
	case <-time.After(patience):
		t.Fatal("the peer did not cancel")
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(s); err != nil || string(answer) != "y" {
		t.Fatalf("%q, %v", answer, err)
	}
}

func TestDeadline(t *testing.T) { lanes(t, testDeadline) }

func testDeadline(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	a, b := w.pair(lane)
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) { io.ReadAll(s) })
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Cancel()
	s.SetDeadline(time.Now().Add(20 * time.Millisecond))
	var timeout interface{ Timeout() bool }
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("read past the deadline: %v", err)
	}
}

// After Close nothing of ours runs, whatever was going on: streams, messages, a dial to nobody, a queue.
func TestCloseLeavesNoGoroutines(t *testing.T) {
	w := newWorld(t)
	a, b := w.pair()
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) { io.ReadAll(s) })
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("x"))
	nobody := handleOf(pastry.NodeID{1}, freePort(t, w))
	for range 100 {
		a.Send(nobody, []byte("x"))
		a.Send(b.Self(), make([]byte, 4000))
	}
	a.Close()
	if stacks := ours(); strings.Contains(stacks, "quicnet.(*Transport).sendQueue") || strings.Contains(stacks, "quicnet.(*Transport).runDial") {
		t.Fatalf("runs after Close:\n%s", stacks)
	}
	b.Close()
	if stacks := ours(); stacks != "" {
		t.Fatalf("runs after Close:\n%s", stacks)
	}
}

// ours are the stacks of goroutines that run this package's code, apart from tests.
func ours() string {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	var found []string
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		if strings.Contains(stack, "quicnet.(*") && !strings.Contains(stack, "_test.go") {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

func TestCloseWaitsAndRefuses(t *testing.T) { lanes(t, testCloseWaitsAndRefuses) }

func testCloseWaitsAndRefuses(t *testing.T, lane func(*Config)) {
	w := newWorld(t)
	a, b := w.pair(lane)
	started, ended := newGate(), false
	b.handle(func(ctx context.Context, from wire.Peer, s wire.Stream) {
		started.open()
		<-ctx.Done()
		ended = true // no lock: Close waits for us
	})
	s, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("x"))
	started.wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !ended {
		t.Fatal("Close did not wait for a stream's handler")
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Fatal("the peer did not learn of the close")
	}
	a.Close()
	if _, err := a.Open(ctxFor(t), b.Self(), wire.ServicePast); !errors.Is(err, ErrClosed) {
		t.Fatalf("open after Close: %v", err)
	}
	if _, err := a.Identify(ctxFor(t), addrOf(b.Self())); !errors.Is(err, ErrClosed) {
		t.Fatalf("identify after Close: %v", err)
	}
	a.Send(b.Self(), nil)
	if err := a.Start(a); !errors.Is(err, ErrClosed) {
		t.Fatalf("start after Close: %v", err)
	}
}

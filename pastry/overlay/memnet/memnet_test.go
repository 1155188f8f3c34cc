package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/wire"
)

var _ overlay.Transport = (*Transport)(nil)

// recorder keeps what it receives, and serves streams with serve.
type recorder struct {
	mu       sync.Mutex
	messages []string
	at       []time.Time
	serve    func(ctx context.Context, from wire.Peer, s wire.Stream)
}

func (r *recorder) Message(from pastry.NodeHandle, m []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, from.ID.String()[:2]+" "+string(m))
	r.at = append(r.at, time.Now())
}

func (r *recorder) Stream(ctx context.Context, from wire.Peer, _ wire.Service, s wire.Stream) {
	r.serve(ctx, from, s)
}

func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.messages...)
}

// pair is two started nodes, 10 ms apart.
func pair(t *testing.T, serve func(context.Context, wire.Peer, wire.Stream)) (*Network, *Transport, *Transport, *recorder) {
	t.Helper()
	net := New(10 * time.Millisecond)
	a := net.Node(wire.Peer{Handle: Handle(pastry.NodeID{0xa}, 1)})
	b := net.Node(wire.Peer{Handle: Handle(pastry.NodeID{0xb}, 2)})
	r := &recorder{serve: serve}
	if err := errors.Join(a.Start(&recorder{serve: serve}), b.Start(r)); err != nil {
		t.Fatal(err)
	}
	return net, a, b, r
}

func TestMessagesTakeTheirTimeAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b, r := pair(t, nil)
		defer a.Close()
		defer b.Close()
		start := time.Now()
		message := []byte("one")
		a.Send(b.Self(), message)
		copy(message, "???") // Send keeps nothing of it
		wrong := b.Self()
		wrong.ID[5]++
		a.Send(wrong, []byte("for somebody else"))
		time.Sleep(time.Second)
		net.Cut(b.Self().ID, a.Self().ID, true)
		a.Send(b.Self(), []byte("cut"))
		net.Cut(a.Self().ID, b.Self().ID, false)
		a.Send(b.Self(), []byte("two"))
		net.SetLoss(1)
		a.Send(b.Self(), []byte("lost"))
		time.Sleep(time.Second)
		if got := r.got(); len(got) != 2 || got[0] != "0a one" || got[1] != "0a two" || r.at[0].Sub(start) != 10*time.Millisecond {
			t.Errorf("%v at %v", got, r.at)
		}
	})
}

func TestStreamsCarryMoreThanTheyHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, _ := pair(t, func(_ context.Context, _ wire.Peer, s wire.Stream) {
			defer s.Cancel()
			if _, err := io.Copy(s, s); err == nil {
				_ = s.CloseWrite()
			}
		})
		defer a.Close()
		defer b.Close()
		s, err := a.Open(t.Context(), b.Self(), wire.ServicePast)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Cancel()
		want := bytes.Repeat([]byte("0123456789abcdef"), pipeSize/4)
		go func() {
			_, _ = s.Write(want)
			_ = s.CloseWrite()
		}()
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes came back (%v)", len(got), len(want), err)
		}
	})
}

func TestStreamsEndAsTheyShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 10)
		net, a, b, _ := pair(t, func(ctx context.Context, _ wire.Peer, s wire.Stream) {
			_, err := s.Read(make([]byte, 1))
			ended <- err
			<-ctx.Done()
		})
		defer a.Close()
		open := func() wire.Stream {
			s, err := a.Open(t.Context(), b.Self(), wire.ServicePast)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		_ = s.SetDeadline(time.Now().Add(time.Second))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read past the deadline: %v", err)
		}
		if _, err := s.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write past the deadline: %v", err)
		}
		_ = s.SetDeadline(time.Time{})
		if _, err := s.Write(make([]byte, 1)); err != nil {
			t.Errorf("write after the deadline was lifted: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the peer's read: %v", err)
		}
		s = open()
		s.Cancel()
		if err := <-ended; err == nil || err == io.EOF {
			t.Errorf("the peer's read of a cancelled stream: %v", err)
		}
		s = open()
		net.Isolate(b.Self().ID, true)
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("read over a cut link: %v", err)
		}
		<-ended
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Open(ctx, b.Self(), wire.ServicePast); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open over a cut link: %v", err)
		}
		net.Isolate(b.Self().ID, false)
		wrong := b.Self()
		wrong.ID[9]++
		if _, err := a.Open(t.Context(), wrong, wire.ServicePast); !errors.Is(err, ErrOtherNode) {
			t.Errorf("open to another's address: %v", err)
		}
		s = open()
		_ = b.Close() // ends its handlers' context, and waits for them
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("read from a closed node: %v", err)
		}
		if _, err := a.Identify(t.Context(), addrOf(b.Self())); !errors.Is(err, ErrUnreachable) {
			t.Errorf("identify a closed node: %v", err)
		}
	})
}

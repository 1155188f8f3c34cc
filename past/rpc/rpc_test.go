package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"larder/past"
	"larder/past/wire"
	"larder/pastry"
	"larder/pastry/overlay/memnet"
	overlaywire "larder/pastry/wire"
)

// end is one node on a network in memory: the Ring of its Peers, and what its transport delivers to.
type end struct {
	Ring
	*memnet.Transport
	peers    *Peers
	other    pastry.NodeHandle
	suspects atomic.Int64
	serving  atomic.Int64
	served   func(ctx context.Context, from overlaywire.Peer, s overlaywire.Stream) // instead of peers
}

func (e *end) Self() pastry.NodeID { return e.Transport.Self().ID }
func (e *end) Open(ctx context.Context, _ pastry.NodeID) (overlaywire.Stream, error) {
	return e.Transport.Open(ctx, e.other, overlaywire.ServicePast)
}
func (e *end) Suspect(pastry.NodeID)             { e.suspects.Add(1) }
func (e *end) Message(pastry.NodeHandle, []byte) {}
func (e *end) RTT(pastry.NodeID) time.Duration   { return 0 }
func (e *end) raw(t *testing.T) (s overlaywire.Stream) {
	return must(e.Open(t.Context(), e.other.ID))(t)
}
func (e *end) rooms() int { return len(e.peers.room) }
func (e *end) do(t *testing.T, c Call) ([]byte, error) {
	return e.peers.Do(t.Context(), e.other.ID, c, nil)
}
func (e *end) handle(role overlaywire.Roles, f Handler) { e.peers.Handle(kind, role, f) }
func (e *end) answers(answer any, data []byte, err error) {
	e.handle(0, func(context.Context, overlaywire.Peer, Request) (any, []byte, error) { return answer, data, err })
}

func (e *end) Stream(ctx context.Context, from overlaywire.Peer, _ overlaywire.Service, s overlaywire.Stream) {
	e.serving.Add(1)
	defer e.serving.Add(-1)
	if e.served != nil {
		e.served(ctx, from, s)
		return
	}
	e.peers.Serve(ctx, from, s)
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const kind = wire.KindInfo

// between runs a test on a storage node a and a gateway b, 1 ms apart, and waits until nothing is served any more.
func between(t *testing.T, test func(t *testing.T, a, b *end)) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(time.Millisecond)
		a, b := &end{}, &end{}
		for i, e := range []*end{a, b} {
			self := overlaywire.Peer{Handle: memnet.Handle(pastry.NodeID{byte(i + 1)}, uint16(i+1)), Roles: []overlaywire.Roles{overlaywire.RoleStorage, overlaywire.RoleGateway}[i]}
			e.Transport = net.Node(self)
			e.peers = NewPeers(e, self)
		}
		a.other, b.other = b.Transport.Self(), a.Transport.Self()
		for _, e := range []*end{a, b} {
			if err := e.Start(e); err != nil {
				t.Fatal(err)
			}
		}
		test(t, a, b)
		time.Sleep(2 * requestMax) // of the bubble's own time
		for _, e := range []*end{a, b} {
			if n := e.serving.Load(); n != 0 {
				t.Errorf("%d requests are still being served", n)
			}
			if n := e.rooms(); n != roomsMax {
				t.Errorf("%d of %d buffers came back", n, roomsMax)
			}
			if n, peers := len(e.peers.places.all), len(e.peers.places.peers); n != 0 || peers != 0 {
				t.Errorf("%d places are still taken, by %d peers", n, peers)
			}
			_ = e.Close()
		}
	})
}

func TestAnswer(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		large := []byte(strings.Repeat("x", roomFrom+1))
		b.handle(0, func(_ context.Context, from overlaywire.Peer, req Request) (any, []byte, error) {
			var q []int
			if err := req.Decode(&q); err != nil || len(req.Data) != 1 || from.Handle.ID != a.Self() || req.Kind != kind {
				t.Errorf("request %v of %v, %v", req.Kind, from.Handle.ID, err)
			}
			return append(q, len(req.Data[0])), req.Data[0], nil // in memory that is the next request's afterwards
		})
		for _, data := range [][][]byte{nil, {large}, {large[:7], nil, large[7:]}, {large[:9]}} {
			total := 0
			for _, d := range data {
				total += len(d)
			}
			into := make([]byte, 0, 100)
			var answer []int
			got, err := a.peers.Do(t.Context(), b.Self(), Call{Kind: kind, Body: []int{1}, Data: data, Into: into}, &answer)
			if err != nil || len(answer) != 2 || answer[1] != total || string(got) != string(large[:total]) {
				t.Errorf("%d bytes: answered %v and %d bytes, %v", total, answer, len(got), err)
			}
			if total > 0 && (&got[0] == &into[:1][0]) != (total <= 100) {
				t.Errorf("%d bytes came into the caller's memory of %d: %v", total, cap(into), total > 100)
			}
		}
		if n := a.suspects.Load(); n != 0 {
			t.Errorf("suspected %d times", n)
		}
	})
}

func TestRoles(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		for _, e := range []*end{a, b} {
			called := false
			e.handle(overlaywire.RoleGateway, func(context.Context, overlaywire.Peer, Request) (any, []byte, error) {
				called = true
				return nil, nil, nil
			})
			asker := map[*end]*end{a: b, b: a}[e]
			_, err := asker.do(t, Call{Kind: kind})
			if asker == b && (err != nil || !called) {
				t.Errorf("a gateway is refused: %v", err)
			}
			if asker == a && (!errors.Is(err, ErrNotAllowed) || called) {
				t.Errorf("a storage node asked as gateways may: %v, answered %v", err, called)
			}
		}
		if _, err := a.peers.Do(t.Context(), a.Self(), Call{Kind: kind}, nil); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("a storage node asked itself as gateways may: %v", err)
		}
		if n := b.peers.stats.Refused.Load(); n != 1 {
			t.Errorf("%d refusals counted", n)
		}
	})
}

func TestUnknownKind(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		for k := range 256 {
			if _, err := a.do(t, Call{Kind: wire.Kind(k)}); !errors.Is(err, wire.ErrFrame) || errors.Is(err, past.ErrUnavailable) {
				t.Errorf("kind %#x: %v", k, err)
			}
		}
		if n := a.suspects.Load(); n != 0 {
			t.Errorf("suspected %d times for saying that it does not know what was asked", n)
		}
	})
}

// TestNoAnswer: whatever comes instead of an answer, the peer is suspected and the request may or may not have been acted on.
func TestNoAnswer(t *testing.T) {
	for name, reply := range map[string]func(s overlaywire.Stream){
		"nothing":     func(s overlaywire.Stream) { _ = s.CloseWrite() },
		"a reset":     func(s overlaywire.Stream) { s.Cancel() },
		"half a head": func(s overlaywire.Stream) { _, _ = s.Write(make([]byte, 5)); _ = s.CloseWrite() },
		"half a body": func(s overlaywire.Stream) {
			_, _ = s.Write([]byte{0, 0, 0, 0, 9, 0, 0, 0, 0, 1, 2})
			_ = s.CloseWrite()
		},
		"a request":     func(s overlaywire.Stream) { _ = wire.Write(s, kind, wire.Marshal(1)) },
		"no CBOR":       func(s overlaywire.Stream) { _ = wire.Write(s, wire.KindOK, []byte{0xff}) },
		"another type":  func(s overlaywire.Stream) { _ = wire.Write(s, wire.KindOK, wire.Marshal("text")) },
		"a wrong error": func(s overlaywire.Stream) { _ = wire.Write(s, wire.KindError, wire.Marshal("text")) },
		"too large":     func(s overlaywire.Stream) { _, _ = s.Write([]byte{0, 0xff, 0, 0, 0, 0, 0, 0, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			between(t, func(t *testing.T, a, b *end) {
				b.served = func(_ context.Context, _ overlaywire.Peer, s overlaywire.Stream) {
					_, _ = io.Copy(io.Discard, s)
					reply(s)
				}
				var answer []int
				if _, err := a.peers.Do(t.Context(), b.Self(), Call{Kind: kind}, &answer); !errors.Is(err, past.ErrUnavailable) {
					t.Error(err)
				}
				if a.suspects.Load() != 1 || a.peers.stats.Failed.Load() != 1 {
					t.Errorf("suspected %d times, failures counted %d", a.suspects.Load(), a.peers.stats.Failed.Load())
				}
			})
		})
	}
}

// TestCancelled: a caller that waits no longer is let go at once, and learns that it does not know what became of the request.
func TestCancelled(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		ends := make(chan struct{})
		b.handle(0, func(context.Context, overlaywire.Peer, Request) (any, []byte, error) { <-ends; return nil, nil, nil })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		begin := time.Now()
		_, err := a.peers.Do(ctx, b.Self(), Call{Kind: kind}, nil)
		if took := time.Since(begin); !errors.Is(err, past.ErrUnavailable) || took != 50*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		if a.suspects.Load() != 0 {
			t.Error("a peer is suspected because the caller went")
		}
		if _, err := a.peers.Do(ctx, b.Self(), Call{Kind: kind}, nil); !errors.Is(err, past.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of its context: %v", err)
		}
		close(ends)
	})
}

package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"larder/past"
	"larder/past/wire"
	"larder/pastry"
	overlaywire "larder/pastry/wire"
)

// TestOversizeRequest: a request that is larger than a frame is the asker's own fault, not the peer's.
func TestOversizeRequest(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		b.answers(nil, nil, nil)
		for _, c := range []Call{{Kind: kind, Body: make([]byte, wire.BodyMax+1)}, {Kind: kind, Data: [][]byte{make([]byte, wire.DataMax), {1}}}} {
			if _, err := a.do(t, c); !errors.Is(err, wire.ErrFrame) || errors.Is(err, past.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		}
		if a.suspects.Load() != 0 || b.peers.stats.BadFrames.Load() != 0 {
			t.Errorf("the peer was suspected %d times and saw %d bad frames", a.suspects.Load(), b.peers.stats.BadFrames.Load())
		}
		if _, err := a.do(t, Call{Kind: kind, Data: [][]byte{make([]byte, wire.DataMax)}}); err != nil {
			t.Errorf("as large as may be: %v", err)
		}
	})
}

// TestOversizeAnswer: an answer that is larger than a frame becomes an error that says so, instead of none.
func TestOversizeAnswer(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		for _, large := range []struct {
			body any
			data []byte
		}{{make([]byte, wire.BodyMax+1), nil}, {nil, make([]byte, wire.DataMax+1)}} {
			b.answers(large.body, large.data, nil)
			if _, err := a.do(t, Call{Kind: kind}); !errors.Is(err, wire.ErrFrame) || errors.Is(err, past.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		}
		if a.suspects.Load() != 0 || b.peers.stats.Refused.Load() != 2 || b.peers.stats.Answered.Load() != 0 {
			t.Errorf("suspected %d times, %d refused, %d answered", a.suspects.Load(), b.peers.stats.Refused.Load(), b.peers.stats.Answered.Load())
		}
	})
}

// TestBadFrames: what is no frame costs a stream and a count, and reaches no handler.
func TestBadFrames(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		b.handle(0, func(context.Context, overlaywire.Peer, Request) (any, []byte, error) {
			t.Error("a handler was called")
			return nil, nil, nil
		})
		frames := [][]byte{
			nil, {byte(kind)}, {byte(kind), 0, 0, 0, 1, 0, 0, 0, 0}, // nothing, half a head, no body
			{byte(kind), 0, 0x40, 0, 1, 0, 0, 0, 0}, {byte(kind), 0, 0, 0, 0, 0, 0x80, 0, 1}, // longer than may be
			{byte(kind), 0, 0, 0, 0, 0, 0x40, 0, 0, 1, 2, 3}, // data that do not come, into a buffer
		}
		for _, f := range frames {
			s := a.raw(t)
			_, _ = s.Write(f)
			_ = s.CloseWrite()
			if _, err := wire.Read(s, nil); err == nil {
				t.Errorf("%x was answered", f)
			}
			s.Cancel()
		}
		if n := b.peers.stats.BadFrames.Load(); n != int64(len(frames)) {
			t.Errorf("%d of %d bad frames counted", n, len(frames))
		}
	})
}

// TestEndlessFrames: streams that never say all that they promised, or that go on for ever behind it, hold a place for requestMax at most.
func TestEndlessFrames(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		b.answers(nil, nil, nil)
		for range answeringPeer {
			s := a.raw(t)
			defer s.Cancel()
			_, _ = s.Write([]byte{byte(kind), 0, 0, 0, 0, 0, 0x40, 0, 0}) // 4 MiB will follow
		}
		synctest.Wait()
		begin := time.Now()
		if !b.peers.places.take(t.Context(), pastry.NodeID{9}) || time.Since(begin) != 0 {
			t.Errorf("another peer waited %v for a place", time.Since(begin))
		}
		b.peers.places.leave(pastry.NodeID{9})
		if _, err := a.do(t, Call{Kind: kind}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > requestMax+time.Second {
			t.Errorf("the next request waited %v", took)
		}
		s := a.raw(t)
		defer s.Cancel()
		_ = wire.Write(s, kind, wire.Marshal(nil))
		go func() { // ends when the peer resets the stream
			for {
				if _, err := s.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}()
		if f, err := wire.Read(s, nil); err != nil || f.Kind != wire.KindOK {
			t.Errorf("a frame with something behind it: %v, %v", f, err)
		}
	})
}

// TestPlaces: no more than so many requests of one peer are answered at once; the others wait their turn.
func TestPlaces(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		begun, end := make(chan struct{}, 2*answeringPeer), make(chan struct{})
		b.handle(0, func(context.Context, overlaywire.Peer, Request) (any, []byte, error) {
			begun <- struct{}{}
			<-end
			return nil, nil, nil
		})
		failed := make(chan error, 2*answeringPeer)
		for range answeringPeer + 10 {
			go func() {
				_, err := a.do(t, Call{Kind: kind})
				failed <- err
			}()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if len(begun) != answeringPeer {
			t.Errorf("%d requests are being answered", len(begun))
		}
		close(end)
		for range answeringPeer + 10 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPlacesOfAll: peers that take all places between them make others wait, and who gives up waiting leaves nothing behind.
func TestPlacesOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces()
		for i := range answering {
			if !p.take(t.Context(), pastry.NodeID{byte(i / answeringPeer)}) {
				t.Fatal("no place")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, peer := range []byte{0, 200} { // one that has its share, and one that has none
			if p.take(ctx, pastry.NodeID{peer}) {
				t.Errorf("peer %d got a place beyond all", peer)
			}
		}
		if len(p.peers) != answering/answeringPeer {
			t.Errorf("%d peers are remembered", len(p.peers))
		}
		for i := range answering {
			p.leave(pastry.NodeID{byte(i / answeringPeer)})
		}
		if len(p.all) != 0 || len(p.peers) != 0 {
			t.Errorf("%d places are taken by %d peers", len(p.all), len(p.peers))
		}
	})
}

// sentinels are the errors that travel.
var sentinels = []error{past.ErrNotFound, past.ErrUnavailable, past.ErrUnknown, past.ErrNoSpace, past.ErrDamaged, ErrNotAllowed, wire.ErrFrame}

// TestErrorsKeepTheirMeaning from a peer and from the node itself, and take on no other.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		for _, said := range append([]error{errors.New("none of them")}, sentinels...) {
			text := fmt.Sprintf("past: lookup: %v", said)
			b.answers(nil, nil, fmt.Errorf("past: lookup: %w", said))
			for _, asker := range []*end{a, b} {
				_, err := asker.peers.Do(t.Context(), b.Self(), Call{Kind: kind}, nil)
				for _, s := range sentinels {
					if errors.Is(err, s) != (s == said) {
						t.Errorf("%v came as %v, which is %q: %v", said, err, s, errors.Is(err, s))
					}
				}
				if err == nil || err.Error() != text {
					t.Errorf("%v came as %v", said, err)
				}
			}
		}
		if a.suspects.Load() != 0 {
			t.Error("a peer is suspected for its answer")
		}
	})
}

// TestErrorOfSeveralKinds travels as the one that promises least, every time.
func TestErrorOfSeveralKinds(t *testing.T) {
	for range 50 {
		for i, less := range codes {
			for _, more := range codes[i+1:] {
				for _, err := range []error{fmt.Errorf("%w: %w", less.sentinel, more.sentinel), fmt.Errorf("%w: %w", more.sentinel, less.sentinel)} {
					if e := asError(err); e.Unwrap() != less.sentinel {
						t.Fatalf("%v travels as %v", err, e.Unwrap())
					}
				}
			}
		}
	}
	if codes[0].sentinel != past.ErrUnknown || codes[1].sentinel != past.ErrUnavailable {
		t.Error("an error that promises something comes before those that promise nothing")
	}
}

// TestErrorText: an error's text may be long, and hold names in any encoding. It arrives all the same, as far as it can.
func TestErrorText(t *testing.T) {
	between(t, func(t *testing.T, a, b *end) {
		b.answers(nil, nil, fmt.Errorf("group \xff\xfe%s: %w", make([]byte, 2*wire.BodyMax), past.ErrNotFound))
		_, err := a.do(t, Call{Kind: kind})
		if !errors.Is(err, past.ErrNotFound) || len(err.Error()) > textMax || a.suspects.Load() != 0 {
			t.Errorf("%.100q of %d bytes, suspected %d times", err, len(err.Error()), a.suspects.Load())
		}
		b.served = func(_ context.Context, _ overlaywire.Peer, s overlaywire.Stream) { // a peer that fills logs
			_ = wire.Write(s, wire.KindError, wire.Marshal(&Error{Code: 1, Text: string(make([]byte, 1<<20))}))
		}
		if _, err := a.do(t, Call{Kind: kind}); !errors.Is(err, past.ErrNotFound) || len(err.Error()) > textMax {
			t.Errorf("%d bytes of text", len(err.Error()))
		}
	})
}

package quicnet

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// stream is a wire.Stream over QUIC.
type stream struct {
	qs   *quic.Stream
	link *link

	pending  bool // service is not sent yet: it goes with the first write
	service  byte
	finished atomic.Bool // CloseWrite succeeded
	released atomic.Bool
}

// joinedMax is the longest first write that is copied to go out in one piece with the service, in bytes.
const joinedMax = 4 << 10

func (l *link) newStream(qs *quic.Stream) *stream {
	l.active.Add(1)
	l.touch()
	return &stream{qs: qs, link: l}
}

// Read reads what the peer wrote.
func (s *stream) Read(p []byte) (int, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	return s.qs.Read(p)
}

// Write writes p, blocking while the peer's window is full.
func (s *stream) Write(p []byte) (int, error) {
	if s.pending && len(p) > 0 && len(p) <= joinedMax {
		s.pending = false
		joined := make([]byte, 0, 1+len(p))
		n, err := s.qs.Write(append(append(joined, s.service), p...))
		return max(n-1, 0), err
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	return s.qs.Write(p)
}

// CloseWrite ends the sending side.
func (s *stream) CloseWrite() error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.qs.Close(); err != nil && !s.stopped() {
		return err
	}
	s.finished.Store(true)
	return nil
}

// stopped says whether the peer, in peace, wants to read no more: it may have taken a request whose length it knew, and
// answered, before our end of it went out.
func (s *stream) stopped() bool {
	var reset *quic.StreamError
	return errors.As(context.Cause(s.qs.Context()), &reset) && reset.Remote && reset.ErrorCode == streamDone
}

// Cancel ends both sides. What was written before a CloseWrite still arrives: a reset after it would take back what is on its
// way (RFC 9000 §3.1).
func (s *stream) Cancel() {
	s.qs.CancelRead(streamDone)
	if !s.finished.Load() {
		s.qs.CancelWrite(streamDone)
	}
	s.release()
}

// SetDeadline sets when reads and writes fail.
func (s *stream) SetDeadline(t time.Time) error { return s.qs.SetDeadline(t) }

// flush sends the service alone, where the opener reads before it writes.
func (s *stream) flush() error {
	if !s.pending {
		return nil
	}
	s.pending = false
	_, err := s.qs.Write([]byte{s.service})
	return err
}

// release lets the connection go idle.
func (s *stream) release() {
	if s.released.CompareAndSwap(false, true) {
		s.link.touch()
		s.link.active.Add(-1)
	}
}

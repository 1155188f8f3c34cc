package memnet

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"larder/pastry"
)

// pipeSize is how many bytes a stream holds in each direction before writes wait.
const pipeSize = 64 << 10

var errCancelled = errors.New("memnet: stream cancelled")

// stream is one end of two pipes.
type stream struct {
	owner         *Transport
	local, remote pastry.NodeID
	in, out       *pipe
}

func newStreams(a, b *Transport) (*stream, *stream) {
	x, y := newPipe(), newPipe()
	idA, idB := a.self.Handle.ID, b.self.Handle.ID
	return &stream{a, idA, idB, x, y}, &stream{b, idB, idA, y, x}
}

func (s *stream) Read(p []byte) (int, error)  { return s.in.read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.out.write(p) }

// CloseWrite ends the sending side. A stream of which both sides have ended is done, but stays on its owner's books until
// Cancel or Close: there is nothing to release.
func (s *stream) CloseWrite() error { return s.out.closeWrite() }

// Cancel breaks both directions, for both ends, except that what was properly ended can still be read.
func (s *stream) Cancel() {
	s.breakWith(errCancelled)
	s.owner.forget(s)
}

func (s *stream) breakWith(err error) {
	s.in.breakWith(err)
	s.out.breakWith(err)
}

// SetDeadline bounds reads and writes of this end. The zero time is no bound.
func (s *stream) SetDeadline(t time.Time) error {
	s.in.readBy.set(s.in, t)
	s.out.writeBy.set(s.out, t)
	return nil
}

// pipe is one direction: a bounded buffer.
type pipe struct {
	mu      sync.Mutex
	changed *sync.Cond // any field below
	buf     []byte
	ended   bool  // by closeWrite: io.EOF after buf
	err     error // broken: everything fails, but an ended buf can be read
	readBy  deadline
	writeBy deadline
}

// deadline is guarded by its pipe's mu. The timer only wakes who waits: what has passed is for the clock to say, since two timers
// of one moment fire one after the other.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newPipe() *pipe {
	p := &pipe{}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (d *deadline) set(p *pipe, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() && !d.passed() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changed.Broadcast()
		})
	}
	p.changed.Broadcast()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case p.err != nil && !p.ended:
			return 0, p.err
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.changed.Broadcast()
			return n, nil
		case p.ended:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for {
		switch {
		case p.writeBy.passed():
			return written, os.ErrDeadlineExceeded
		case p.err != nil:
			return written, p.err
		case p.ended:
			return written, io.ErrClosedPipe
		case len(b) == 0:
			return written, nil
		}
		if room := pipeSize - len(p.buf); room > 0 {
			n := min(room, len(b))
			p.buf = append(p.buf, b[:n]...)
			b, written = b[n:], written+n
			p.changed.Broadcast()
			continue
		}
		p.changed.Wait()
	}
}

func (p *pipe) closeWrite() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.ended = true
	p.changed.Broadcast()
	return nil
}

func (p *pipe) breakWith(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.changed.Broadcast()
}

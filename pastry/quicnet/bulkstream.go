package quicnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// There is no reset on a bulk connection: who cancels a stream that has not ended closes the connection.
const (
	// firstRecord is how much of a write goes out together with its header: about one TLS record (RFC 8446 §5.1).
	firstRecord = 16<<10 - 64
	// drainMax and drainTimeout bound reading on after a stream was answered early, in bytes: an asker that is still
	// writing would otherwise lose the answer to a TCP reset.
	drainMax     = 32 << 20
	drainTimeout = 10 * time.Second
	// restMax and restTimeout are the same for the asking end, which only ever misses the final empty chunk.
	restMax     = 64 << 10
	restTimeout = time.Second
)

// errStreamEnded is what reads and writes of a cancelled stream return.
var errStreamEnded = fmt.Errorf("stream was cancelled: %w", net.ErrClosed)

// bulkStream is a wire.Stream on a bulk connection. Two locks, never both: a Cancel that finds readMu free knows that nobody
// is reading.
type bulkStream struct {
	conn *bulkConn
	link *link

	readMu sync.Mutex
	chunks chunkReader

	writeMu sync.Mutex
	prefix  []byte      // goes out before the next write: the service
	started atomic.Bool // prefix is out

	writeEnded atomic.Bool
	broken     atomic.Bool
	cancelled  atomic.Bool
}

func (l *link) newBulkStream(c *bulkConn) *bulkStream {
	l.active.Add(1)
	l.touch()
	return &bulkStream{conn: c, link: l, chunks: chunkReader{r: c.r}}
}

// Read reads what the peer wrote.
func (s *bulkStream) Read(p []byte) (int, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if s.cancelled.Load() {
		return 0, errStreamEnded
	}
	return s.readLocked(p)
}

func (s *bulkStream) readLocked(p []byte) (int, error) {
	n, err := s.chunks.Read(p)
	if errors.Is(err, errBadChunk) {
		s.link.offend("bulk chunk too long", nil)
	}
	if err != nil && err != io.EOF {
		err = s.failed(err)
	}
	return n, err
}

// failed notes that the connection cannot be used again, unless a deadline has passed.
func (s *bulkStream) failed(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.broken.Store(true)
	}
	if s.cancelled.Load() {
		return errStreamEnded
	}
	return err
}

// Write writes p, blocking while the peer does not read.
func (s *bulkStream) Write(p []byte) (int, error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	written := 0
	for len(p) > 0 {
		chunk := p[:min(len(p), bulkChunkMax)]
		n, err := s.writeChunk(chunk)
		written += n
		if err != nil {
			return written, err
		}
		p = p[len(chunk):]
	}
	return written, nil
}

// CloseWrite ends the sending side.
func (s *bulkStream) CloseWrite() error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.writeEnded.Load() {
		return nil
	}
	if _, err := s.writeChunk(nil); err != nil {
		return err
	}
	s.writeEnded.Store(true)
	return nil
}

// firstRecords are buffers for a header and what goes out with it, and for what is read to be thrown away.
var firstRecords = sync.Pool{New: func() any { b := make([]byte, 0, firstRecord); return &b }}

// writeChunk writes one chunk: its header in one TLS record with what it is the header of.
func (s *bulkStream) writeChunk(chunk []byte) (int, error) {
	if s.cancelled.Load() || s.writeEnded.Load() || s.broken.Load() {
		return 0, errStreamEnded
	}
	buf := firstRecords.Get().(*[]byte)
	defer firstRecords.Put(buf)
	first := append((*buf)[:0], s.prefix...)
	s.prefix = nil
	s.started.Store(true)
	first = binary.BigEndian.AppendUint32(first, uint32(len(chunk)))
	n := min(len(chunk), firstRecord-len(first))
	first = append(first, chunk[:n]...)
	if _, err := s.conn.tls.Write(first); err != nil {
		s.broken.Store(true) // TLS cannot go on after half a record
		return 0, s.failed(err)
	}
	if n < len(chunk) {
		more, err := s.conn.tls.Write(chunk[n:])
		if err != nil {
			s.broken.Store(true)
			return n + more, s.failed(err)
		}
	}
	return len(chunk), nil
}

// flush sends the service alone, where the opener reads before it writes.
func (s *bulkStream) flush() error {
	if s.started.Load() {
		return nil
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.started.Store(true)
	if len(s.prefix) == 0 || s.cancelled.Load() {
		return nil
	}
	_, err := s.conn.tls.Write(s.prefix)
	s.prefix = nil
	if err != nil {
		s.broken.Store(true)
		return s.failed(err)
	}
	return nil
}

// SetDeadline sets when reads and writes fail. A write that fails so ends the stream.
func (s *bulkStream) SetDeadline(t time.Time) error {
	if s.cancelled.Load() {
		return errStreamEnded
	}
	return s.conn.tls.SetDeadline(t)
}

// Cancel ends both sides. At the asking end it frees the connection for the next stream where this one ended properly; a
// stream that was answered but not read to its very end is read on for a moment, elsewhere.
func (s *bulkStream) Cancel() {
	if !s.cancelled.CompareAndSwap(false, true) {
		return
	}
	t := s.link.t
	if !s.conn.dialed {
		s.cancelAnswer()
		return
	}
	defer s.release()
	if s.broken.Load() || !s.writeEnded.Load() || !s.readMu.TryLock() {
		t.forgetBulk(s.conn)
		return
	}
	if s.chunks.eof {
		s.readMu.Unlock()
		t.keepBulk(s.conn)
		return
	}
	t.mu.Lock()
	going := t.goLocked(func() {
		ended := s.drain(restMax, restTimeout)
		s.readMu.Unlock()
		if ended {
			t.keepBulk(s.conn)
		} else {
			t.forgetBulk(s.conn)
		}
	})
	t.mu.Unlock()
	if !going {
		s.readMu.Unlock()
		t.forgetBulk(s.conn)
	}
}

// cancelAnswer is Cancel at the answering end: it interrupts whoever reads or writes, unless all is written; finish does the
// rest when the handler has returned.
func (s *bulkStream) cancelAnswer() {
	if s.broken.Load() || !s.writeEnded.Load() || !s.readMu.TryLock() {
		s.conn.close()
		return
	}
	s.readMu.Unlock()
}

// finish ends a stream at the answering end, after its handler, and says whether the connection can carry another.
func (s *bulkStream) finish() bool {
	defer s.release()
	s.cancelled.Store(true)
	if s.broken.Load() || !s.writeEnded.Load() || !s.readMu.TryLock() {
		return false
	}
	defer s.readMu.Unlock()
	return s.chunks.eof || s.drain(drainMax, drainTimeout)
}

// drain reads to the end of the stream, within limits, and says whether it got there. The caller holds readMu.
func (s *bulkStream) drain(bytesMax int, timeout time.Duration) bool {
	s.conn.tls.SetDeadline(time.Now().Add(timeout))
	buf := firstRecords.Get().(*[]byte)
	defer firstRecords.Put(buf)
	for bytesMax > 0 {
		n, err := s.readLocked((*buf)[:cap(*buf)])
		bytesMax -= n
		if err != nil {
			return err == io.EOF
		}
	}
	return false
}

// release lets the QUIC connection go idle. It is called once, by Cancel or by finish.
func (s *bulkStream) release() {
	s.link.touch()
	s.link.active.Add(-1)
}

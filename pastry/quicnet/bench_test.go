package quicnet

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"larder/auth/realm"
	"larder/pastry"
	"larder/pastry/wire"
)

// Both ends run in one process, so that the CPU time reported is that of sender and receiver together.

// cpuTime is the processor time this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measured reports processor time beside b's own figures.
func measured(b *testing.B, f func()) {
	b.ReportAllocs()
	before := cpuTime()
	b.ResetTimer()
	f()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1000, "cpu-µs/op")
}

// serveSized answers a request of 8 bytes, a size, with that many bytes.
func serveSized(s interface {
	io.Reader
	io.Writer
}, chunk []byte) error {
	var head [8]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return err
	}
	for n := int(binary.BigEndian.Uint64(head[:])); n > 0; n -= len(chunk) {
		if _, err := s.Write(chunk[:min(n, len(chunk))]); err != nil {
			return err
		}
	}
	return nil
}

var benchChunk = make([]byte, 256<<10)

func benchPair(b *testing.B, change ...func(*Config)) (x, y *node) {
	w := newWorld(b)
	x, y = w.pair(change...)
	y.handle(func(_ context.Context, _ wire.Peer, s wire.Stream) {
		if serveSized(s, benchChunk) == nil {
			s.CloseWrite()
		}
	})
	return x, y
}

// fetch gets size bytes on a stream of their own.
func fetch(from *node, to pastry.NodeHandle, size int, buf []byte) error {
	s, err := from.Open(context.Background(), to, wire.ServicePast)
	if err != nil {
		return err
	}
	defer s.Cancel()
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(size))
	if _, err := s.Write(head[:]); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	got := 0
	for {
		n, err := s.Read(buf)
		got += n
		if err == io.EOF && got == size {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
}

// parallel shares b.N operations among workers.
func parallel(b *testing.B, workers int, op func(buf []byte) error) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	for range workers {
		wg.Go(func() {
			buf := make([]byte, 64<<10)
			for left.Add(-1) >= 0 {
				if err := op(buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchTransfer(b *testing.B, workers, size int, change ...func(*Config)) {
	x, y := benchPair(b, change...)
	if err := fetch(x, y.Self(), size, make([]byte, 64<<10)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	measured(b, func() {
		parallel(b, workers, func(buf []byte) error { return fetch(x, y.Self(), size, buf) })
	})
}

// The lanes of a Transport, end to end.

func bothLanes(b *testing.B, workers, size int) {
	b.Run("quic", func(b *testing.B) { benchTransfer(b, workers, size, func(c *Config) { c.NoBulk = true }) })
	b.Run("bulk", func(b *testing.B) { benchTransfer(b, workers, size) })
}

func BenchmarkBulk1Stream(b *testing.B)   { bothLanes(b, 1, 4<<20) }
func BenchmarkBulk4Streams(b *testing.B)  { bothLanes(b, 4, 4<<20) }
func BenchmarkMiB4Streams(b *testing.B)   { bothLanes(b, 4, 1<<20) }
func BenchmarkRequest(b *testing.B)       { bothLanes(b, 16, 200) }
func BenchmarkRequestSerial(b *testing.B) { bothLanes(b, 1, 200) }

// BenchmarkMessage compares the two ways of a small message, one way; delivered is the share that had
// arrived when the last was sent.
func BenchmarkMessage(b *testing.B) {
	for _, way := range []string{"datagram", "stream"} {
		b.Run(way, func(b *testing.B) {
			x, y := benchPair(b)
			if _, err := x.Identify(context.Background(), addrOf(y.Self())); err != nil {
				b.Fatal(err)
			}
			l := x.linkTo(y.Self().ID)
			frame := append([]byte{byte(wire.ServiceOverlay)}, make([]byte, 200)...)
			send := l.sendMessage
			if way == "stream" {
				send = l.sendOnStream
			}
			measured(b, func() {
				for range b.N {
					if err := send(frame); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(y.Stats().MessagesReceived)/float64(b.N), "delivered")
		})
	}
}

// tlsPool is the twin: the same exchanges over TCP and TLS with the same certificates, connections reused.
type tlsPool struct {
	addr string
	cfg  *tls.Config
	mu   sync.Mutex
	free []*tls.Conn
}

func (p *tlsPool) get() (*tls.Conn, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return tls.Dial("tcp", p.addr, p.cfg)
}

func (p *tlsPool) put(c *tls.Conn) {
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
}

func (p *tlsPool) fetch(size int, buf []byte) error {
	c, err := p.get()
	if err != nil {
		return err
	}
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(size))
	if _, err := c.Write(head[:]); err != nil {
		return err
	}
	for got := 0; got < size; {
		n, err := c.Read(buf[:min(len(buf), size-got)])
		if err != nil {
			return err
		}
		got += n
	}
	p.put(c)
	return nil
}

func benchTLS(b *testing.B, workers, size int) {
	w := newWorld(b)
	server := realm.NewCredentials(w.member(storage, time.Now()), time.Now)
	client := realm.NewCredentials(w.member(storage, time.Now()), time.Now)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server.ServerConfig(nil, realm.ProtocolBulk))
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for serveSized(c, benchChunk) == nil {
				}
			})
		}
	})
	pool := &tlsPool{addr: ln.Addr().String(), cfg: client.ClientConfig(pastry.NodeID{}, 0, realm.ProtocolBulk)}
	defer func() {
		ln.Close()
		for _, c := range pool.free {
			c.Close()
		}
		wg.Wait()
	}()
	if err := pool.fetch(size, make([]byte, 64<<10)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	measured(b, func() { parallel(b, workers, func(buf []byte) error { return pool.fetch(size, buf) }) })
}

func BenchmarkTLSBulk1(b *testing.B)   { benchTLS(b, 1, 4<<20) }
func BenchmarkTLSBulk4(b *testing.B)   { benchTLS(b, 4, 4<<20) }
func BenchmarkTLSRequest(b *testing.B) { benchTLS(b, 16, 200) }

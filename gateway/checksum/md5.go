package checksum

import (
	"crypto/md5"
	"errors"
	"hash"
	"sync"

	md5simd "github.com/minio/md5-simd"
)

const (
	// laneMin is the least number of long streams under way, the new one included, from which on a new one takes a lane. By
	// BenchmarkMD5 with AVX-512, a stream of 1 MiB that is alone in the lanes costs a third more processor time than crypto/md5, two
	// cost a fifth more; three cost a third less, four 45 % less, eight 70 % less. One more than breaks even, since not all
	// streams under way have bytes to hash all the time.
	laneMin = 4
	// lanesMax is how many streams have lanes at most: as many as AVX-512 has 32-bit words.
	lanesMax = md5simd.Lanes
	// longFrom is the least length in bytes of a stream that counts as long: handing a shorter one over costs what it saves.
	longFrom = 64 << 10
)

// lanes hashes several streams at once, one in each 32-bit word of the processor's vector registers (md5-simd: AVX-512 or AVX2;
// where there is neither, its lanes are crypto/md5). Its server has one goroutine, which begins with the first stream that
// takes a lane and ends when no long stream is under way; then the server's 1.5 MiB of buffers go, too.
//
// Lanes are lent out and come back; they are never closed, since md5-simd 1.1.2 keeps a few words of each one for ever.
type lanes struct {
	mu     sync.Mutex
	long   int              // long streams begun and not closed
	server md5simd.Server   // nil: no goroutine
	made   int              // lanes of server
	free   []md5simd.Hasher // those of them that nobody has
}

// shared are the lanes of the process: the more streams meet, the cheaper is each.
var shared lanes

// MD5 is the MD5 of one stream, a hash.Hash. Whoever made it closes it. Methods but Close belong to one goroutine at a time.
type MD5 struct {
	lanes *lanes // where it counts as long, else nil

	mu     sync.Mutex // orders Close and what is under way
	hash   hash.Hash  // nil before the first byte, and after Close
	lane   md5simd.Hasher
	closed bool
}

// NewMD5 begins a stream of size bytes, -1 if that is not known. size decides how it is computed, and not what comes out.
func NewMD5(size int64) *MD5 { return shared.newMD5(size) }

func (l *lanes) newMD5(size int64) *MD5 {
	if size < longFrom {
		return &MD5{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.long++
	return &MD5{lanes: l}
}

// take lends a lane, nil if there are too few long streams or no lane is free.
func (l *lanes) take() md5simd.Hasher {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.long < laneMin {
		return nil
	}
	if n := len(l.free); n > 0 {
		lane := l.free[n-1]
		l.free = l.free[:n-1]
		lane.Reset()
		return lane
	}
	if l.made == lanesMax {
		return nil
	}
	if l.server == nil {
		l.server = md5simd.NewServer()
	}
	l.made++
	return l.server.NewHash()
}

// done takes back the lane of a stream that ended, if it had one.
func (l *lanes) done(lane md5simd.Hasher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane != nil {
		l.free = append(l.free, lane)
	}
	if l.long--; l.long == 0 && l.server != nil {
		l.server.Close() // its goroutine ends by itself; whatever an aborted stream left in it is dropped
		l.server, l.made, l.free = nil, 0, nil
	}
}

var errClosed = errors.New("checksum: MD5 written to after Close")

// Write fails only after Close. In a lane it may return while the last 96 KiB of p are still being hashed, from buffers of its own.
func (d *MD5) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, errClosed
	}
	return d.state().Write(p)
}

// Sum appends the sum of what was written so far.
func (d *MD5) Sum(b []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state().Sum(b)
}

// Reset begins a new stream.
func (d *MD5) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state().Reset()
}

// state chooses how to compute the sum when it is first needed: how many streams there are is known better then.
func (d *MD5) state() hash.Hash {
	switch {
	case d.closed:
		panic("checksum: sum of an MD5 after Close")
	case d.hash != nil:
		return d.hash
	case d.lanes != nil:
		if d.lane = d.lanes.take(); d.lane != nil {
			d.hash = d.lane
			return d.hash
		}
	}
	d.hash = md5.New()
	return d.hash
}

// Size returns 16.
func (d *MD5) Size() int { return md5.Size }

// BlockSize returns 64.
func (d *MD5) BlockSize() int { return md5.BlockSize }

// Close gives up what d holds, wherever its stream stands. It waits for a Write under way; closing again does nothing.
func (d *MD5) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	if d.lanes != nil {
		d.lanes.done(d.lane)
	}
	d.hash, d.lane = nil, nil
}

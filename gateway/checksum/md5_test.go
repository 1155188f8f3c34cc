package checksum

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"math/rand"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// servers counts the goroutines of servers.
func servers() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "md5Server).process(")
}

// awaitServers waits until n servers run: they end by themselves soon after they were told to.
func awaitServers(t *testing.T, n int) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		if servers() == n {
			return
		}
		runtime.Gosched()
	}
	t.Fatalf("%d servers run, want %d", servers(), n)
}

// TestMD5Random has streams of random lengths begun, written in random pieces, summed halfway, reset, ended and aborted at random,
// many at once. Each sum must be crypto/md5's, and in the end no goroutine is left.
func TestMD5Random(t *testing.T) {
	before := servers()
	var l lanes
	var all sync.WaitGroup
	for worker := range 24 {
		all.Go(func() {
			rng := rand.New(rand.NewSource(int64(worker)))
			for range 12 {
				n := rng.Intn(400_000)
				if rng.Intn(4) == 0 {
					n = rng.Intn(200)
				}
				stream(t, &l, rng, n)
			}
		})
	}
	all.Wait()
	if l.long != 0 || l.server != nil || l.made != 0 || len(l.free) != 0 {
		t.Errorf("after all streams ended: %d long, %d lanes, %d free", l.long, l.made, len(l.free))
	}
	awaitServers(t, before)
}

// stream is one of TestMD5Random's. Its size may be unknown.
func stream(t *testing.T, l *lanes, rng *rand.Rand, n int) {
	data := make([]byte, n)
	rng.Read(data)
	size := int64(n)
	if rng.Intn(8) == 0 {
		size = longFrom // what it says need not be true
	}
	d, twin := l.newMD5(size), md5.New()
	defer d.Close()
	for len(data) > 0 {
		p := data[:min(len(data), 1+rng.Intn([]int{1, 63, 65, 4096, 40_000, 1 << 20}[rng.Intn(6)]))]
		data = data[len(p):]
		scratch := bytes.Clone(p)
		d.Write(scratch)
		clear(scratch) // the caller's again
		twin.Write(p)
		switch rng.Intn(40) {
		case 0:
			return // aborted
		case 1:
			d.Reset()
			twin.Reset()
		case 2:
			if got, want := d.Sum(nil), twin.Sum(nil); !bytes.Equal(got, want) {
				t.Errorf("after some of %d bytes: %x, want %x", n, got, want)
			}
		}
	}
	if got, want := d.Sum([]byte("x")), twin.Sum([]byte("x")); !bytes.Equal(got, want) {
		t.Errorf("%d bytes: %x, want %x", n, got, want)
	}
}

// TestMD5Lanes pins who gets a lane: long streams, once there are laneMin of them, while there are lanes; and that lanes come back.
func TestMD5Lanes(t *testing.T) {
	before := servers()
	var l lanes
	begin := func(size int64) *MD5 {
		d := l.newMD5(size)
		d.Write([]byte("x"))
		return d
	}
	var open []*MD5
	for i := range lanesMax + laneMin {
		d := begin(longFrom)
		open = append(open, d)
		if inLane, want := d.lane != nil, i >= laneMin-1 && i < laneMin-1+lanesMax; inLane != want {
			t.Fatalf("long stream %d has a lane: %v, want %v", i, inLane, want)
		}
	}
	if d := begin(longFrom - 1); d.lane != nil {
		t.Error("a short stream has a lane")
	}
	awaitServers(t, before+1)
	open[laneMin].Close() // with a byte in its buffer
	open[laneMin].Close()
	next := begin(longFrom)
	want := md5.Sum([]byte("x"))
	if next.lane == nil || !bytes.Equal(next.Sum(nil), want[:]) {
		t.Errorf("the next stream has lane %v and sum %x, want %x in the lane given back", next.lane, next.Sum(nil), want)
	}
	for _, d := range append(open, next) {
		d.Close()
	}
	awaitServers(t, before)
	if _, err := next.Write([]byte("x")); err == nil {
		t.Error("a Write after Close went well")
	}
}

// processor is the processor time of this process so far.
func processor() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkMD5 is the processor time of a MiB in streams of several lengths, so many at once, with crypto/md5 and in lanes: laneMin is
// where the second is below the first, longFrom the length at which it still is.
func BenchmarkMD5(b *testing.B) {
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20} {
		for _, at := range []int{1, 2, 3, 4, 6, 8, 16} {
			for _, kind := range []string{"crypto", "lanes"} {
				b.Run(fmt.Sprintf("KiB=%d/streams=%d/%s", size>>10, at, kind), func(b *testing.B) { benchmarkMD5(b, size, at, kind == "lanes") })
			}
		}
	}
}

func benchmarkMD5(b *testing.B, size, at int, inLanes bool) {
	l := lanes{long: laneMin} // as if there were enough
	said := int64(0)
	if inLanes {
		said = longFrom
	}
	b.SetBytes(int64(size * at))
	data := make([]byte, size)
	start := processor()
	var all sync.WaitGroup
	for range at {
		all.Go(func() {
			for range b.N {
				d := l.newMD5(said)
				d.Write(data)
				d.Sum(nil)
				d.Close()
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(processor()-start)/1e3/float64(b.N)/(float64(size*at)/(1<<20)), "cpu-µs/MiB")
	if l.server != nil {
		l.server.Close()
	}
}

package chb

import (
	"context"
	"math/bits"
	"sync"
)

// buffers recycles byte slices by size classes. The zero value is ready for use.
type buffers struct {
	classes [bufferClasses]sync.Pool // of *[]byte
}

const (
	bufferMin     = 4 << 10
	bufferClasses = 4*11 + 1 // up to 8 MiB and a bit
)

// bufferLen is the length of the buffers of a class: four classes to each doubling from bufferMin, and 1/64 more, so that a stripe
// of 4 MiB, which is 1 KiB longer when it is sealed, does not take 8.
func bufferLen(class int) int {
	n := bufferMin << (class / 4) / 4 * (4 + class%4)
	return n + n/64
}

// bufferClass is the class of the smallest buffers of at least n bytes; bufferClasses or more if n is too long for any.
func bufferClass(n int) int {
	class := max(0, 4*(bits.Len(uint(n/bufferMin))-2))
	for class < bufferClasses && bufferLen(class) < n {
		class++
	}
	return class
}

// get returns a slice of length n whose content is undefined.
func (p *buffers) get(n int) *[]byte {
	class := bufferClass(n)
	if class >= len(p.classes) {
		b := make([]byte, n)
		return &b
	}
	if b, ok := p.classes[class].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, bufferLen(class))
	return &b
}

// put gives b back. Nobody may use it afterwards.
func (p *buffers) put(b *[]byte) {
	class := bufferClass(cap(*b))
	if class < len(p.classes) && cap(*b) == bufferLen(class) {
		p.classes[class].Put(b)
	}
}

// budget bounds how many bytes inserts hold together; those beyond it wait in order.
type budget struct {
	mu      sync.Mutex
	free    int64
	waiting []*waiter // first come, first served
}

type waiter struct {
	n     int64
	ready chan struct{} // closed by release when the bytes are the waiter's
}

// acquire waits until n bytes are free. n must not exceed the whole budget.
func (b *budget) acquire(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // it came at the same time
		b.free += n
	default:
		for i := range b.waiting {
			if b.waiting[i] == w {
				b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
				break
			}
		}
	}
	b.wake()
	return ctx.Err()
}

func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.wake()
}

// wake hands out what is free. b.mu is held.
func (b *budget) wake() {
	for len(b.waiting) > 0 && b.free >= b.waiting[0].n {
		b.free -= b.waiting[0].n
		close(b.waiting[0].ready)
		b.waiting = b.waiting[1:]
	}
}

// tasks counts goroutines that outlive the call that started them, so that Run can await them. Unlike a WaitGroup it can be closed.
type tasks struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when the last task ends after close
}

// start runs f on a goroutine of its own, unless the tasks are closed.
func (t *tasks) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.n++
	go func() {
		defer t.end()
		f()
	}()
	return true
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.closed {
		close(t.idle)
	}
}

// close lets no further task start and waits for those that run.
func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.idle = make(chan struct{})
	if t.n == 0 {
		close(t.idle)
	}
	t.mu.Unlock()
	<-t.idle
}

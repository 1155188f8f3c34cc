package objects

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"larder/past"

	"golang.org/x/sync/semaphore"
)

// pool gives out buffers up to a number of bytes in all. Nobody who holds buffers of a pool waits for another of it unless those
// he holds come back by themselves, so that waiting always ends.
type pool struct {
	limit   int64 // bytes
	room    *semaphore.Weighted
	used    atomic.Int64 // bytes given out
	usedMax atomic.Int64 // the most so far
	classes [len(classBytes)]sync.Pool
}

// classBytes are the sizes of buffers: small bodies do not hold 4 MiB.
var classBytes = [...]int{past.InlineMax, 64 << 10, 256 << 10, 1 << 20, past.StripeMax}

// buffer is one buffer. It goes back when all its holders have dropped it.
type buffer struct {
	b       []byte
	class   int
	pool    *pool
	holders atomic.Int32
}

func newPool(limit int64) *pool {
	p := &pool{limit: limit, room: semaphore.NewWeighted(limit)}
	for i, n := range classBytes {
		p.classes[i].New = func() any { return &buffer{b: make([]byte, n), class: i, pool: p} }
	}
	return p
}

// get returns a buffer of at least n bytes, at most past.StripeMax, with one holder. It waits for room.
func (p *pool) get(ctx context.Context, n int) (*buffer, error) {
	class := classOf(n)
	if err := p.room.Acquire(ctx, int64(classBytes[class])); err != nil {
		return nil, fmt.Errorf("objects: wait for a buffer: %w", err)
	}
	return p.take(class), nil
}

// tryGet is get for those who can do without: it returns nil rather than wait, or take the last half.
func (p *pool) tryGet(n int) *buffer {
	class := classOf(n)
	if p.used.Load()+int64(classBytes[class]) > p.limit/2 || !p.room.TryAcquire(int64(classBytes[class])) {
		return nil
	}
	return p.take(class)
}

func (p *pool) take(class int) *buffer {
	used := p.used.Add(int64(classBytes[class]))
	for was := p.usedMax.Load(); used > was && !p.usedMax.CompareAndSwap(was, used); was = p.usedMax.Load() {
	}
	b := p.classes[class].Get().(*buffer)
	b.holders.Store(1)
	return b
}

func classOf(n int) int {
	for i, size := range classBytes {
		if n <= size {
			return i
		}
	}
	panic(fmt.Sprintf("objects: buffer of %d bytes", n))
}

// drop gives up one holder's share.
func (b *buffer) drop() {
	if b.holders.Add(-1) == 0 {
		n := int64(classBytes[b.class])
		b.pool.used.Add(-n)
		b.pool.classes[b.class].Put(b)
		b.pool.room.Release(n)
	}
}

package objects

import (
	"sync"
	"time"
)

// cacheMax is how many entries a cache has at most; it is emptied when it is full.
const cacheMax = 10_000

// cache remembers system records for a short time.
type cache[T any] struct {
	keep time.Duration

	mu      sync.Mutex
	entries map[string]cached[T]
}

type cached[T any] struct {
	value   T
	expires time.Time
}

func (c *cache[T]) get(name string) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[name]
	if !ok || time.Now().After(e.expires) {
		return value, false
	}
	return e.value, true
}

func (c *cache[T]) put(name string, value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= cacheMax {
		c.entries = map[string]cached[T]{}
	}
	c.entries[name] = cached[T]{value, time.Now().Add(c.keep)}
}

func (c *cache[T]) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
}

package chb

import (
	"slices"
	"sync"
	"time"
)

// latency remembers how long the newest answers took, for hedging (design.md §4: after the observed p95).
type latency struct {
	mu      sync.Mutex
	newest  [128]time.Duration
	n       int           // answers seen
	current time.Duration // of the last computation
}

// Hedging begins no sooner and no later than this.
const (
	hedgeMin = 5 * time.Millisecond
	hedgeMax = 500 * time.Millisecond
)

func (l *latency) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest[l.n%len(l.newest)] = d
	l.n++
	if every := 16; l.n%every == 0 || l.n < every {
		sorted := slices.Sorted(slices.Values(l.newest[:min(l.n, len(l.newest))]))
		l.current = sorted[len(sorted)*95/100]
	}
}

// hedge is how long to wait for an answer before somebody else is asked too.
func (l *latency) hedge() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 {
		return 100 * time.Millisecond
	}
	return min(max(l.current, hedgeMin), hedgeMax)
}

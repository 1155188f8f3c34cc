package blockstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/blockstore"
)

// fragmentSize is a size for fragment i, mostly small.
func fragmentSize(i uint64) int {
	rng := rand.New(rand.NewPCG(i, 11))
	switch rng.IntN(8) {
	case 0:
		return 0
	case 1:
		return rng.IntN(100_000)
	default:
		return rng.IntN(5000)
	}
}

// model is the twin: what a store must hold.
type model struct {
	fragments map[uint64]bool // number -> trashed
	entries   map[string]string
}

func (m *model) check(t *testing.T, s blockstore.Store) {
	t.Helper()
	ctx := context.Background()
	var got []string
	must(t, s.Each(ctx, nil, func(f blockstore.FragmentInfo) bool {
		got = append(got, fmt.Sprintf("%s %d %v", f.Key, f.Size, !f.Trashed.IsZero()))
		return true
	}))
	var want []string
	for i, trashed := range m.fragments {
		want = append(want, fmt.Sprintf("%s %d %v", fragmentKey(i), fragmentSize(i), trashed))
		checkFragment(t, s, i, fragmentSize(i))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("fragments are %q, want %q", got, want)
	}
	var wantEntries []string
	for k, v := range m.entries {
		wantEntries = append(wantEntries, k+"="+v)
	}
	slices.Sort(wantEntries) // keys have one length: key order
	gotEntries, err := entriesOf(s, nil, nil)
	if err != nil || !slices.Equal(gotEntries, wantEntries) {
		t.Fatalf("entries are %q, %v, want %q", gotEntries, err, wantEntries)
	}
	checkUsage(t, s)
	if c := s.Usage().Corrupt; c != 0 {
		t.Fatalf("%d corrupt", c)
	}
}

// testModel runs random operations on the store and on a twin of maps.
func testModel(t *testing.T, d Device) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 2))
	clock := NewClock()
	o := Options{Now: clock.Now}
	s := open(t, d, o)
	m := &model{fragments: map[uint64]bool{}, entries: map[string]string{}}
	for step := range 2000 {
		clock.Add(time.Second)
		i := rng.Uint64N(200)
		key := fmt.Sprintf("%02d", rng.IntN(50))
		switch rng.IntN(20) {
		case 0, 1, 2, 3, 4, 5:
			put(t, s, i, fragmentSize(i))
			m.fragments[i] = false
		case 6, 7, 8:
			j := rng.Uint64N(200)
			must(t, s.Trash(ctx, fragmentKey(i), fragmentKey(j)))
			for _, k := range []uint64{i, j} {
				if _, ok := m.fragments[k]; ok {
					m.fragments[k] = true
				}
			}
		case 9:
			err := s.Restore(ctx, fragmentKey(i))
			if _, ok := m.fragments[i]; !ok {
				wantErr(t, err, blockstore.ErrNotFound)
				break
			}
			must(t, err)
			m.fragments[i] = false
		case 10:
			if _, err := s.Empty(ctx, clock.Now()); err != nil {
				t.Fatal(err)
			}
			for k, trashed := range m.fragments {
				if trashed {
					delete(m.fragments, k)
				}
			}
		case 11, 12, 13, 14, 15:
			other := fmt.Sprintf("%02d", rng.IntN(50))
			set(t, s, rng.IntN(2) == 0, key, fmt.Sprint(step), other, fmt.Sprint(-step))
			m.entries[key] = fmt.Sprint(step)
			m.entries[other] = fmt.Sprint(-step)
		case 16, 17:
			upper := fmt.Sprintf("%02d", rng.IntN(50))
			var b blockstore.Batch
			b.DeleteRange([]byte(key), []byte(upper))
			must(t, s.Apply(ctx, &b, rng.IntN(2) == 0))
			for k := range m.entries {
				if k >= key && k < upper {
					delete(m.entries, k)
				}
			}
		default:
			v, err := s.Get(ctx, []byte(key))
			if want, ok := m.entries[key]; ok != (err == nil) || err == nil && string(v) != want || err != nil && !errors.Is(err, blockstore.ErrNotFound) {
				t.Fatalf("step %d: Get(%s) = %q, %v, want %q, %v", step, key, v, err, want, ok)
			}
		}
		if step%300 == 299 {
			m.check(t, s)
			closeStore(t, s)
			s = open(t, d, o)
			m.check(t, s)
		}
	}
	closeStore(t, s)
}

// load is what concurrent writers did, by worker. Each worker owns its keys.
type load struct {
	acked atomic.Int64
	work  []worker
}

type worker struct {
	next uint64 // number of the next fragment and batch, not yet tried
	done map[uint64]bool
	// synced is the newest batch known durable, and tried the newest begun.
	synced, tried uint64
}

// step does one operation. It returns an error once the store no longer works.
func (l *load) step(w int, s blockstore.Store, rng *rand.Rand) error {
	ctx, k := context.Background(), &l.work[w]
	k.next++
	i := uint64(w)<<32 | k.next
	if rng.IntN(2) == 0 {
		if err := s.Put(ctx, loadKey(i), Body(i, fragmentSize(i))); err != nil {
			return err
		}
		k.done[i] = true
		l.acked.Add(1)
		return nil
	}
	var b blockstore.Batch
	for j := range 5 {
		b.Set(loadEntry(w, j), fmt.Append(nil, k.next))
	}
	k.tried = k.next
	sync := rng.IntN(3) > 0
	if err := s.Apply(ctx, &b, sync); err != nil {
		return err
	}
	if sync {
		k.synced = k.next
	}
	l.acked.Add(1)
	return nil
}

func loadKey(i uint64) []byte   { return fmt.Appendf(nil, "load-%016x", i) }
func loadEntry(w, j int) []byte { return fmt.Appendf(nil, "worker-%02d-%d", w, j) }

// run has all workers work until cut, which it calls after n acknowledged operations, has returned. A worker's last
// operation, which the cut interrupts, is as good as never acknowledged unless it was so before the cut.
func (l *load) run(s blockstore.Store, n int64, seed uint64, cut func()) {
	target := l.acked.Load() + n
	var wg sync.WaitGroup
	var mu sync.RWMutex // held for reading around each operation's accounting, for writing during the cut
	stopped := false
	cutDue := make(chan struct{}, 1)
	for w := range l.work {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for {
				mu.RLock()
				stop := stopped
				mu.RUnlock()
				if stop || l.step1(&mu, &stopped, w, s, rng) != nil {
					return
				}
				if l.acked.Load() >= target {
					select {
					case cutDue <- struct{}{}:
					default:
					}
				}
			}
		}()
	}
	<-cutDue
	mu.Lock()
	stopped = true
	cut()
	mu.Unlock()
	wg.Wait()
}

// step1 is step, but what returns after the cut is not acknowledged.
func (l *load) step1(mu *sync.RWMutex, stopped *bool, w int, s blockstore.Store, rng *rand.Rand) error {
	k := &l.work[w]
	synced, n := k.synced, len(k.done)
	err := l.step(w, s, rng)
	mu.RLock()
	defer mu.RUnlock()
	if *stopped {
		if len(k.done) > n {
			delete(k.done, uint64(w)<<32|k.next)
		}
		k.synced = synced
	}
	return err
}

// check compares a store that was opened after the cut with what was acknowledged before it.
func (l *load) check(t *testing.T, s blockstore.Store) {
	t.Helper()
	ctx := context.Background()
	for w := range l.work {
		k := &l.work[w]
		for i := range k.done {
			got, err := s.Read(ctx, nil, loadKey(i))
			if err != nil || !bytes.Equal(got, Body(i, fragmentSize(i))) {
				t.Fatalf("acknowledged fragment %x: %d bytes, %v", i, len(got), err)
			}
		}
		var values []string
		for j := range 5 {
			v, err := s.Get(ctx, loadEntry(w, j))
			if err != nil && !errors.Is(err, blockstore.ErrNotFound) {
				t.Fatal(err)
			}
			values = append(values, string(v))
		}
		var at uint64
		_, _ = fmt.Sscan(values[0], &at) // absent is 0
		for _, v := range values {
			if v != values[0] {
				t.Fatalf("worker %d: batch is torn: %q", w, values)
			}
		}
		if at < k.synced || at > k.tried {
			t.Fatalf("worker %d: entries are of batch %d, acknowledged %d, tried %d", w, at, k.synced, k.tried)
		}
		k.synced = at
	}
	// Nothing that is there is wrong.
	must(t, s.Each(ctx, nil, func(f blockstore.FragmentInfo) bool {
		var i uint64
		if _, err := fmt.Sscanf(string(f.Key), "load-%x", &i); err != nil {
			t.Fatalf("stray fragment %q", f.Key)
		}
		got, err := s.Read(ctx, nil, f.Key)
		if err != nil || !bytes.Equal(got, Body(i, fragmentSize(i))) {
			t.Fatalf("fragment %x: %d bytes, %v", i, len(got), err)
		}
		return true
	}))
	checkUsage(t, s)
	if c := s.Usage().Corrupt; c != 0 {
		t.Fatalf("a power cut is not damage, and %d are called corrupt", c)
	}
}

func newLoad(workers int) *load {
	l := &load{work: make([]worker, workers)}
	for w := range l.work {
		l.work[w].done = make(map[uint64]bool)
	}
	return l
}

func rounds(t *testing.T, n int) int {
	if testing.Short() {
		return n / 4
	}
	return n
}

// testPowerCut cuts the power at random moments, again and again on what the last cut left.
func testPowerCut(t *testing.T, d Device) {
	rng := rand.New(rand.NewPCG(3, 4))
	l := newLoad(6)
	for round := range rounds(t, 12) {
		s := open(t, d, Options{})
		var next Device
		l.run(s, 1+rng.Int64N(120), uint64(round), func() { next = d.Cut(rng) })
		_ = s.Close() // of the store that lives on in the world where the power stayed
		d = next
		s = open(t, d, Options{})
		l.check(t, s)
		closeStore(t, s)
	}
}

// testKilled is testPowerCut with kill -9: what was written is there, synced or not.
func testKilled(t *testing.T, d Device) {
	rng := rand.New(rand.NewPCG(5, 6))
	l := newLoad(6)
	for round := range rounds(t, 6) {
		s := open(t, d, Options{})
		var next Device
		l.run(s, 1+rng.Int64N(100), uint64(round), func() { next = d.Copy() })
		_ = s.Close()
		d = next
		s = open(t, d, Options{})
		l.check(t, s)
		closeStore(t, s)
	}
}

// testConcurrent has everything happen at once: what is put stays readable, whatever is compacted.
func testConcurrent(t *testing.T, d Device) {
	ctx := context.Background()
	s := open(t, d, Options{})
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(w, 1))
			mine := map[uint64]bool{}
			for n := range uint64(150) {
				i := w<<32 | n
				if err := s.Put(ctx, loadKey(i), Body(i, fragmentSize(i))); err != nil {
					t.Error(err)
					return
				}
				mine[i] = true
				for j := range mine {
					if rng.IntN(4) > 0 {
						if err := s.Trash(ctx, loadKey(j)); err != nil {
							t.Error(err)
						}
						delete(mine, j)
						break
					}
					got, err := s.Read(ctx, nil, loadKey(j))
					if err != nil || !bytes.Equal(got, Body(j, fragmentSize(j))) {
						t.Errorf("fragment %x: %d bytes, %v", j, len(got), err)
						return
					}
				}
				set(t, s, n%8 == 0, string(loadEntry(int(w), int(n))), fmt.Sprint(n))
			}
			for j := range mine {
				got, err := s.Read(ctx, nil, loadKey(j))
				if err != nil || !bytes.Equal(got, Body(j, fragmentSize(j))) {
					t.Errorf("fragment %x at the end: %d bytes, %v", j, len(got), err)
				}
			}
		}()
	}
	stop := make(chan struct{})
	var empties sync.WaitGroup
	for range 2 {
		empties.Add(1)
		go func() {
			defer empties.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.Empty(ctx, time.Now()); err != nil {
					t.Error(err)
					return
				}
				must(t, s.Each(ctx, nil, func(blockstore.FragmentInfo) bool { return true }))
				_ = s.Usage()
			}
		}()
	}
	wg.Wait()
	close(stop)
	empties.Wait()
	checkUsage(t, s)
	if got, err := entriesOf(s, nil, nil); err != nil || len(got) != 600 {
		t.Fatalf("%d entries, %v, want 600", len(got), err)
	}
	closeStore(t, s)
}

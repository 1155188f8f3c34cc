// Package blockstoretest is the contract of blockstore.Store as tests. Every implementation passes all of them, on a device
// that loses power, refuses writes and rots (design.md §6; house-style.md §7).
package blockstoretest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"larder/blockstore"
)

// Device is a disk. One Store at a time is open on it.
type Device interface {
	// Open opens the store on the device.
	Open(o Options) (blockstore.Store, error)
	// Copy returns a device with the present contents: what kill -9 leaves. A store may be open on the receiver.
	Copy() Device
	// Cut returns a device as a power cut leaves it: all that was synced, and an arbitrary part of what was not.
	Cut(rng *rand.Rand) Device
	// FailWrites makes all writes and syncs fail with err; nil ends it.
	FailWrites(err error)
	// Flip changes one bit somewhere on the device, on which no store is open, and says where.
	Flip(rng *rand.Rand) string
}

// Options are what every implementation is opened with.
type Options struct {
	CapacityBytes int64
	Now           func() time.Time
}

// Run runs the suite; newDevice returns an empty device.
func Run(t *testing.T, newDevice func(t testing.TB) Device) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, d Device)
	}{
		{"Fragments", testFragments},
		{"Trash", testTrash},
		{"Entries", testEntries},
		{"Cursor", testCursor},
		{"Closed", testClosed},
		{"Model", testModel},
		{"PowerCut", testPowerCut},
		{"Killed", testKilled},
		{"Concurrent", testConcurrent},
		{"Capacity", testCapacity},
		{"ReadOnly", testReadOnly},
		{"DiskFull", testDiskFull},
		{"Flip", testFlip},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, newDevice(t)) })
	}
}

// Clock is a wall clock that tests set.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at some moment.
func NewClock() *Clock { return &Clock{now: time.Unix(1_700_000_000, 0)} }

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock on.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t testing.TB, d Device, o Options) blockstore.Store {
	t.Helper()
	s, err := d.Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func closeStore(t testing.TB, s blockstore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// fragmentKey names fragment i. Its contents follow from its number too (Body), so that anything else is wrong.
func fragmentKey(i uint64) []byte { return fmt.Appendf(nil, "fragment-%08d", i) }

// bodies remembers what Body returned: making bytes is most of what the suite does under the race detector.
var bodies sync.Map

// Body returns the contents of fragment i, of n bytes. The caller does not change them.
func Body(i uint64, n int) []byte {
	type id struct {
		i uint64
		n int
	}
	if b, ok := bodies.Load(id{i, n}); ok {
		return b.([]byte)
	}
	b := makeBody(i, n)
	if n <= 100_000 {
		bodies.Store(id{i, n}, b)
	}
	return b
}

func makeBody(i uint64, n int) []byte {
	b := make([]byte, n+8)
	rng := rand.New(rand.NewPCG(i, 7))
	for j := 0; j < n; j += 8 {
		binary.LittleEndian.PutUint64(b[j:], rng.Uint64())
	}
	return b[:n:n]
}

func put(t testing.TB, s blockstore.Store, i uint64, n int) {
	t.Helper()
	must(t, s.Put(context.Background(), fragmentKey(i), Body(i, n)))
}

func checkFragment(t testing.TB, s blockstore.Store, i uint64, n int) {
	t.Helper()
	got, err := s.Read(context.Background(), nil, fragmentKey(i))
	if err != nil || !bytes.Equal(got, Body(i, n)) {
		t.Fatalf("fragment %d: %d bytes, error %v; want its %d bytes", i, len(got), err, n)
	}
}

func set(t testing.TB, s blockstore.Store, sync bool, kv ...string) {
	t.Helper()
	var b blockstore.Batch
	for i := 0; i < len(kv); i += 2 {
		b.Set([]byte(kv[i]), []byte(kv[i+1]))
	}
	must(t, s.Apply(context.Background(), &b, sync))
}

// entriesOf returns all entries as "key=value" strings, and the scan's error.
func entriesOf(s blockstore.Store, lower, upper []byte) (out []string, err error) {
	err = s.Scan(context.Background(), lower, upper, func(k, v []byte) bool {
		out = append(out, string(k)+"="+string(v))
		return true
	})
	return out, err
}

// checkUsage compares the counters with what Each shows.
func checkUsage(t testing.TB, s blockstore.Store) {
	t.Helper()
	var n, live, trash int64
	must(t, s.Each(context.Background(), nil, func(f blockstore.FragmentInfo) bool {
		if f.Trashed.IsZero() {
			n++
			live += f.Size
		} else {
			trash += f.Size
		}
		return true
	}))
	u := s.Usage()
	if u.Fragments != n || u.LiveBytes < live || u.TrashBytes < trash || u.DiskBytes < u.LiveBytes+u.TrashBytes {
		t.Fatalf("usage %+v, and there are %d live fragments of %d bytes and %d bytes of trash", u, n, live, trash)
	}
	if n == 0 && u.LiveBytes != 0 || trash == 0 && live > 0 && u.TrashBytes > live {
		t.Fatalf("usage %+v of %d fragments", u, n)
	}
}

package blockstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"larder/blockstore"
)

// testCapacity fills the store: fragments are refused before entries are, and what is trashed makes room.
func testCapacity(t *testing.T, d Device) {
	ctx := context.Background()
	clock := NewClock()
	const capacity = 4 << 20
	o := Options{CapacityBytes: capacity, Now: clock.Now}
	s := open(t, d, o)
	var n uint64
	for ; ; n++ {
		err := s.Put(ctx, fragmentKey(n), Body(n, 50_000))
		if errors.Is(err, blockstore.ErrNoSpace) {
			break
		}
		must(t, err)
	}
	if n < 60 || n > capacity/50_000 {
		t.Fatalf("%d fragments of 50 kB went into 4 MiB", n)
	}
	if u := s.Usage(); u.CapacityBytes != capacity || u.FreeBytes > 60_000 || u.DiskBytes > capacity {
		t.Fatalf("usage of a full store: %+v", u)
	}
	_, err := s.Stat(ctx, fragmentKey(n))
	wantErr(t, err, blockstore.ErrNotFound)
	set(t, s, true, "entries", "still fit")
	put(t, s, 0, 50_000) // held already: needs no room
	for i := range n {
		checkFragment(t, s, i, 50_000)
	}
	for i := range n - 5 {
		must(t, s.Trash(ctx, fragmentKey(i)))
	}
	clock.Add(time.Second)
	for range 10 {
		if _, err := s.Empty(ctx, clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, n, 50_000)
	for i := n - 5; i <= n; i++ {
		checkFragment(t, s, i, 50_000)
	}
	if s.Usage().FreeBytes < capacity/2 {
		t.Fatalf("usage after emptying: %+v", s.Usage())
	}
	closeStore(t, s)
}

// testReadOnly makes the disk fail with EIO: nothing more is acknowledged, all that was stays readable.
func testReadOnly(t *testing.T, d Device) {
	ctx := context.Background()
	for _, first := range []string{"put", "apply"} {
		s := open(t, d, Options{})
		put(t, s, 1, 5000)
		set(t, s, true, "a", "1", "b", "2")
		if err := s.Err(); err != nil {
			t.Fatalf("Err on a sound disk: %v", err)
		}
		d.FailWrites(syscall.EIO)
		var b blockstore.Batch
		b.Set([]byte("a"), []byte("3"))
		if first == "put" {
			wantErr(t, s.Put(ctx, fragmentKey(2), Body(2, 100)), blockstore.ErrReadOnly)
		} else {
			wantErr(t, s.Apply(ctx, &b, true), blockstore.ErrReadOnly)
		}
		d.FailWrites(nil) // the disk recovers; what it dropped meanwhile is not known
		wantErr(t, s.Err(), blockstore.ErrReadOnly)
		wantErr(t, s.Put(ctx, fragmentKey(3), Body(3, 100)), blockstore.ErrReadOnly)
		wantErr(t, s.Apply(ctx, &b, true), blockstore.ErrReadOnly)
		wantErr(t, s.Apply(ctx, &b, false), blockstore.ErrReadOnly)
		wantErr(t, s.Trash(ctx, fragmentKey(1)), blockstore.ErrReadOnly)
		wantErr(t, s.Restore(ctx, fragmentKey(1)), blockstore.ErrReadOnly)
		_, err := s.Empty(ctx, time.Now())
		wantErr(t, err, blockstore.ErrReadOnly)
		checkFragment(t, s, 1, 5000)
		if v, err := s.Get(ctx, []byte("b")); err != nil || string(v) != "2" {
			t.Fatalf("Get on a read-only store: %q, %v", v, err)
		}
		if got, err := entriesOf(s, nil, nil); err != nil || len(got) != 2 {
			t.Fatalf("entries of a read-only store: %q, %v", got, err)
		}
		_ = s.Close() // may report the failure again
		s = open(t, d, Options{})
		checkFragment(t, s, 1, 5000)
		got, err := entriesOf(s, nil, nil)
		if err != nil || len(got) != 2 || got[1] != "b=2" || got[0] != "a=1" && got[0] != "a=3" {
			t.Fatalf("entries after the restart: %q, %v", got, err)
		}
		put(t, s, 2, 100)
		set(t, s, true, "a", "1")
		closeStore(t, s)
	}
}

// testDiskFull makes the disk fail with ENOSPC: the Put fails and keeps nothing, and the store goes on.
func testDiskFull(t *testing.T, d Device) {
	ctx := context.Background()
	s := open(t, d, Options{})
	put(t, s, 1, 5000)
	for round := range uint64(3) {
		d.FailWrites(syscall.ENOSPC)
		for i := range uint64(3) {
			wantErr(t, s.Put(ctx, fragmentKey(10+i), Body(10+i, 200_000)), blockstore.ErrNoSpace)
			_, err := s.Stat(ctx, fragmentKey(10+i))
			wantErr(t, err, blockstore.ErrNotFound)
		}
		checkFragment(t, s, 1, 5000)
		d.FailWrites(nil)
		put(t, s, 20+round, 200_000)
		set(t, s, true, fmt.Sprint(round), "x")
	}
	for range 2 {
		for i := range uint64(3) {
			checkFragment(t, s, 20+i, 200_000)
		}
		if u := s.Usage(); u.Fragments != 4 || u.Corrupt != 0 {
			t.Fatalf("usage %+v, want 4 fragments", u)
		}
		if got, err := entriesOf(s, nil, nil); err != nil || len(got) != 3 {
			t.Fatalf("entries %q, %v", got, err)
		}
		closeStore(t, s)
		s = open(t, d, Options{})
	}
	closeStore(t, s)
}

// testFlip changes one bit anywhere: what is served afterwards is right, and what is lost is said to be.
func testFlip(t *testing.T, d Device) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(8, 9))
	s := open(t, d, Options{})
	var want []string
	write := func(from, to uint64) {
		for i := from; i < to; i++ {
			put(t, s, i, fragmentSize(i))
			kv := []string{fmt.Sprintf("key-%03d", i), fmt.Sprintf("%x", Body(i, 40))}
			set(t, s, i%4 > 0, kv...)
			want = append(want, kv[0]+"="+kv[1])
		}
		set(t, s, true, "key-000", fmt.Sprintf("%x", Body(0, 40)))
	}
	write(0, 40)
	closeStore(t, s) // so that some is in tables
	s = open(t, d, Options{})
	write(40, 80)
	killed := d.Copy() // and some in logs
	closeStore(t, s)

	detected := 0
	for round := range rounds(t, 100) {
		d := []Device{killed, d}[round%2].Copy()
		where := d.Flip(rng)
		s, err := d.Open(Options{})
		if err != nil {
			if !errors.Is(err, blockstore.ErrCorrupt) && !errors.Is(err, blockstore.ErrFormat) {
				t.Fatalf("%s: open: %v", where, err)
			}
			detected++
			continue
		}
		for i := range uint64(80) {
			body, err := s.Read(ctx, nil, fragmentKey(i))
			if err != nil && !errors.Is(err, blockstore.ErrCorrupt) && !errors.Is(err, blockstore.ErrNotFound) {
				t.Fatalf("%s: fragment %d: %v", where, i, err)
			}
			if err == nil && !bytes.Equal(body, Body(i, fragmentSize(i))) {
				t.Fatalf("%s: fragment %d: wrong bytes are served", where, i)
			}
			if err != nil {
				detected++
				must(t, s.Put(ctx, fragmentKey(i), Body(i, fragmentSize(i)))) // repair
				checkFragment(t, s, i, fragmentSize(i))
			}
			v, err := s.Get(ctx, fmt.Appendf(nil, "key-%03d", i))
			if err == nil && string(v) != fmt.Sprintf("%x", Body(i, 40)) || err != nil && !errors.Is(err, blockstore.ErrCorrupt) {
				t.Fatalf("%s: entry %d: %q, %v", where, i, v, err)
			}
		}
		got, err := entriesOf(s, nil, nil)
		switch {
		case err == nil && !slices.Equal(got, want):
			t.Fatalf("%s: scan shows %d entries of %d and no error", where, len(got), len(want))
		case err != nil && !errors.Is(err, blockstore.ErrCorrupt):
			t.Fatalf("%s: scan: %v", where, err)
		case err != nil:
			detected++
			if s.Usage().Corrupt == 0 {
				t.Fatalf("%s: damage was reported and not counted", where)
			}
		}
		_ = s.Close() // may fail: the flipped file is part of the database
	}
	if detected == 0 {
		t.Fatal("no flip was detected: the test does not reach the data")
	}
}

package blockstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"larder/blockstore"
)

func testFragments(t *testing.T, d Device) {
	ctx := context.Background()
	clock := NewClock()
	o := Options{Now: clock.Now}
	s := open(t, d, o)
	sizes := []int{0, 1, 63, 64, 4096, 70_000, 300_000}
	for i, n := range sizes {
		body := Body(uint64(i), n)
		must(t, s.Put(ctx, fragmentKey(uint64(i)), body[:n/3], nil, body[n/3:n/2], body[n/2:]))
	}
	check := func() {
		t.Helper()
		for i, n := range sizes {
			checkFragment(t, s, uint64(i), n)
			info, err := s.Stat(ctx, fragmentKey(uint64(i)))
			if err != nil || info.Size != int64(n) || !info.Stored.Equal(clock.Now()) || !info.Trashed.IsZero() || !bytes.Equal(info.Key, fragmentKey(uint64(i))) {
				t.Fatalf("stat of %d: %+v, %v", i, info, err)
			}
		}
		checkUsage(t, s)
	}
	check()
	closeStore(t, s)
	s = open(t, d, o)
	check()

	// Ranges, as io.ReaderAt has them.
	body := Body(4, 4096)
	for _, c := range []struct{ off, n, want int }{{0, 10, 10}, {4000, 96, 96}, {4000, 200, 96}, {4096, 1, 0}, {5000, 1, 0}, {7, 0, 0}} {
		dst := make([]byte, c.n)
		n, err := s.ReadAt(ctx, fragmentKey(4), dst, int64(c.off))
		if n != c.want || (err == io.EOF) != (c.want < c.n) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", c.off, c.n, n, err)
		}
		if !bytes.Equal(dst[:n], body[min(c.off, 4096):min(c.off, 4096)+n]) {
			t.Fatalf("ReadAt(%d, %d): wrong bytes", c.off, c.n)
		}
	}
	// Read appends.
	got, err := s.Read(ctx, []byte("head"), fragmentKey(1))
	if err != nil || string(got) != "head"+string(Body(1, 1)) {
		t.Fatalf("Read onto a prefix: %q, %v", got, err)
	}
	// A second Put of a held key changes nothing.
	must(t, s.Put(ctx, fragmentKey(2), []byte("something else")))
	checkFragment(t, s, 2, 63)
	// What is not there.
	absent := []byte("absent")
	_, err = s.Read(ctx, nil, absent)
	wantErr(t, err, blockstore.ErrNotFound)
	_, err = s.ReadAt(ctx, absent, make([]byte, 1), 0)
	wantErr(t, err, blockstore.ErrNotFound)
	_, err = s.Stat(ctx, absent)
	wantErr(t, err, blockstore.ErrNotFound)
	wantErr(t, s.Restore(ctx, absent), blockstore.ErrNotFound)
	must(t, s.Trash(ctx, absent))
	// What is not allowed.
	for _, key := range [][]byte{nil, make([]byte, blockstore.KeyMax+1)} {
		if s.Put(ctx, key, []byte("x")) == nil {
			t.Fatalf("key of %d bytes was taken", len(key))
		}
	}
	if s.Put(ctx, []byte("big"), make([]byte, blockstore.FragmentMax), []byte{1}) == nil {
		t.Fatal("fragment above FragmentMax was taken")
	}
	must(t, s.Put(ctx, make([]byte, blockstore.KeyMax), []byte("x")))
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(t, s.Put(canceled, []byte("late"), nil), context.Canceled)
	closeStore(t, s)
}

func testTrash(t *testing.T, d Device) {
	ctx := context.Background()
	clock := NewClock()
	o := Options{Now: clock.Now}
	s := open(t, d, o)
	for i := range uint64(20) {
		put(t, s, i, 5000)
	}
	live := s.Usage().LiveBytes
	must(t, s.Trash(ctx, fragmentKey(0), fragmentKey(1), fragmentKey(2)))
	trashed := clock.Now()
	clock.Add(time.Hour)
	must(t, s.Trash(ctx, fragmentKey(0), fragmentKey(3))) // 0 keeps its first time
	must(t, s.Restore(ctx, fragmentKey(1)))
	must(t, s.Restore(ctx, fragmentKey(7))) // live already
	closeStore(t, s)
	s = open(t, d, o)
	checkUsage(t, s)
	if u := s.Usage(); u.Fragments != 17 || u.LiveBytes+u.TrashBytes != live {
		t.Fatalf("usage %+v, want 17 fragments and %d bytes in all", u, live)
	}
	if i, err := s.Stat(ctx, fragmentKey(0)); err != nil || !i.Trashed.Equal(trashed) {
		t.Fatalf("stat of trashed fragment: %+v, %v", i, err)
	}
	checkFragment(t, s, 0, 5000) // readable still

	freed, err := s.Empty(ctx, trashed) // nothing is older than that
	if err != nil || freed != 0 {
		t.Fatalf("Empty freed %d, %v, want nothing", freed, err)
	}
	clock.Add(time.Hour)
	if _, err := s.Empty(ctx, trashed.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(20) {
		if i == 0 || i == 2 {
			_, err := s.Read(ctx, nil, fragmentKey(i))
			wantErr(t, err, blockstore.ErrNotFound)
			continue
		}
		checkFragment(t, s, i, 5000)
	}
	// A trashed fragment that is put again is live.
	put(t, s, 3, 5000)
	if _, err := s.Empty(ctx, clock.Now()); err != nil {
		t.Fatal(err)
	}
	checkFragment(t, s, 3, 5000)
	checkUsage(t, s)

	// With nearly all gone, the space comes back.
	before := s.Usage().DiskBytes
	for i := range uint64(19) {
		must(t, s.Trash(ctx, fragmentKey(i)))
	}
	clock.Add(time.Second)
	for range 10 {
		n, err := s.Empty(ctx, clock.Now())
		must(t, err)
		freed += n
	}
	if freed < 16*5000 || s.Usage().DiskBytes > before-16*5000 {
		t.Fatalf("Empty freed %d bytes, disk %d before and %d after", freed, before, s.Usage().DiskBytes)
	}
	checkFragment(t, s, 19, 5000)
	closeStore(t, s)
	s = open(t, d, o)
	checkFragment(t, s, 19, 5000)
	if u := s.Usage(); u.Fragments != 1 || u.TrashBytes != 0 || u.Corrupt != 0 {
		t.Fatalf("usage %+v, want 1 fragment", u)
	}

	// Each, with f calling the store.
	for i := range uint64(600) {
		put(t, s, i, 1)
	}
	var seen []string
	must(t, s.Each(ctx, fragmentKey(10), func(f blockstore.FragmentInfo) bool {
		if _, err := s.Stat(ctx, f.Key); err != nil {
			t.Errorf("stat inside Each: %v", err)
		}
		seen = append(seen, string(f.Key))
		return len(seen) < 580
	}))
	if len(seen) != 580 || seen[0] != string(fragmentKey(10)) || !slices.IsSorted(seen) {
		t.Fatalf("Each showed %d keys from %q", len(seen), seen[0])
	}
	closeStore(t, s)
}

func testEntries(t *testing.T, d Device) {
	ctx := context.Background()
	s := open(t, d, Options{})
	set(t, s, true, "b", "1", "a", "2", "", "empty key", "c", "")
	var b blockstore.Batch
	b.Set([]byte("d"), []byte("gone"))
	b.Delete([]byte("d"))
	b.DeleteRange([]byte("x"), []byte("z"))
	b.Set([]byte("y"), []byte("after the range"))
	b.Delete([]byte("never was"))
	b.DeleteRange([]byte("z"), []byte("a")) // empty
	must(t, s.Apply(ctx, &b, false))
	want := []string{"=empty key", "a=2", "b=1", "c=", "y=after the range"}
	check := func(lower, upper []byte, want []string) {
		t.Helper()
		got, err := entriesOf(s, lower, upper)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("entries in [%q, %q): %q, %v, want %q", lower, upper, got, err, want)
		}
	}
	check(nil, nil, want)
	closeStore(t, s)
	s = open(t, d, Options{})
	check(nil, nil, want)
	check([]byte("b"), []byte("y"), want[2:4])
	check([]byte("aa"), nil, want[2:])
	check([]byte("b"), []byte("b"), nil)
	if v, err := s.Get(ctx, []byte("a")); err != nil || string(v) != "2" {
		t.Fatalf("Get: %q, %v", v, err)
	}
	if v, err := s.Get(ctx, []byte("c")); err != nil || len(v) != 0 {
		t.Fatalf("Get of an empty value: %q, %v", v, err)
	}
	_, err := s.Get(ctx, []byte("d"))
	wantErr(t, err, blockstore.ErrNotFound)

	// The batch's slices are the caller's again after Apply.
	key, value := []byte("mine"), []byte("first")
	b = blockstore.Batch{}
	b.Set(key, value)
	must(t, s.Apply(ctx, &b, true))
	copy(value, "wrong")
	copy(key, "your")
	if v, err := s.Get(ctx, []byte("mine")); err != nil || string(v) != "first" {
		t.Fatalf("Get after the caller reused its slices: %q, %v", v, err)
	}
	// Scan stops, and shows one moment.
	n := 0
	must(t, s.Scan(ctx, nil, nil, func(k, v []byte) bool { n++; return n < 2 }))
	if n != 2 {
		t.Fatalf("scan went on for %d entries", n)
	}
	// Bounds.
	b = blockstore.Batch{}
	b.Set(bytes.Repeat([]byte("k"), blockstore.EntryKeyMax), make([]byte, blockstore.EntryValueMax))
	must(t, s.Apply(ctx, &b, true))
	b.Set([]byte("k"), make([]byte, blockstore.EntryValueMax+1))
	if s.Apply(ctx, &b, true) == nil {
		t.Fatal("value above EntryValueMax was taken")
	}
	// A large batch, larger than any buffer below.
	b = blockstore.Batch{}
	for i := range 12 {
		b.Set(fmt.Appendf(nil, "large-%02d", i), Body(uint64(i), 900_000))
	}
	must(t, s.Apply(ctx, &b, true))
	closeStore(t, s)
	s = open(t, d, Options{})
	for i := range 12 {
		if v, err := s.Get(ctx, fmt.Appendf(nil, "large-%02d", i)); err != nil || !bytes.Equal(v, Body(uint64(i), 900_000)) {
			t.Fatalf("large entry %d: %d bytes, %v", i, len(v), err)
		}
	}
	closeStore(t, s)
}

func testCursor(t *testing.T, d Device) {
	ctx := context.Background()
	s := open(t, d, Options{})
	for i := range 100 {
		set(t, s, false, fmt.Sprintf("k%02d", i), fmt.Sprint(i))
	}
	c, err := s.Iterate(ctx, []byte("k10"), []byte("k20"))
	must(t, err)
	var b blockstore.Batch
	b.DeleteRange([]byte("k"), []byte("l"))
	must(t, s.Apply(ctx, &b, true)) // the cursor does not see it
	if !c.Next() || string(c.Key()) != "k10" || string(c.Value()) != "10" {
		t.Fatalf("first entry is %q", c.Key())
	}
	if !c.Seek([]byte("k15x")) || string(c.Key()) != "k16" || !c.Next() || string(c.Key()) != "k17" {
		t.Fatalf("after Seek the cursor stands on %q", c.Key())
	}
	if !c.Seek([]byte("a")) || string(c.Key()) != "k10" {
		t.Fatal("Seek below the lower bound leaves it")
	}
	if !c.Seek([]byte("k19")) || c.Next() || c.Next() {
		t.Fatal("cursor goes beyond its upper bound")
	}
	if c.Seek([]byte("k20")) || c.Seek([]byte("z")) {
		t.Fatal("Seek finds an entry beyond the upper bound")
	}
	must(t, c.Close())
	if got, err := entriesOf(s, nil, nil); err != nil || len(got) != 0 {
		t.Fatalf("%d entries are left, %v", len(got), err)
	}
	closeStore(t, s)
}

func testClosed(t *testing.T, d Device) {
	ctx := context.Background()
	s := open(t, d, Options{})
	put(t, s, 1, 10)
	closeStore(t, s)
	_, errRead := s.Read(ctx, nil, fragmentKey(1))
	_, errAt := s.ReadAt(ctx, fragmentKey(1), make([]byte, 1), 0)
	_, errStat := s.Stat(ctx, fragmentKey(1))
	_, errEmpty := s.Empty(ctx, time.Now())
	_, errGet := s.Get(ctx, []byte("x"))
	_, errIter := s.Iterate(ctx, nil, nil)
	for i, err := range []error{
		errRead, errAt, errStat, errEmpty, errGet, errIter, s.Close(),
		s.Put(ctx, fragmentKey(1), nil), s.Trash(ctx, fragmentKey(1)), s.Restore(ctx, fragmentKey(1)),
		s.Apply(ctx, new(blockstore.Batch), true),
		s.Each(ctx, nil, func(blockstore.FragmentInfo) bool { return true }),
		s.Scan(ctx, nil, nil, func(k, v []byte) bool { return true }),
	} {
		if !errors.Is(err, blockstore.ErrClosed) {
			t.Errorf("call %d on a closed store: %v", i, err)
		}
	}
}

package register

import (
	"fmt"
	"slices"
	"testing"
)

func TestJournal(t *testing.T) {
	var j Journal
	j.Note(3, "before") // nobody copies
	first := j.Begin(3, [16]byte{1})
	j.Note(3, "b")
	j.Note(3, "a")
	second := j.Begin(3, [16]byte{2})
	j.Note(3, "b")
	j.Note(3, "c")
	j.Note(4, "of the next epoch")
	since := func(p Point, after string, limit int, want ...string) {
		t.Helper()
		names, more, ok := j.Since(3, p, after, limit)
		if !ok || !slices.Equal(names, want) || more != (len(want) == limit && limit < 3) {
			t.Errorf("since %d after %q: %q, more %v, ok %v, want %q", p.Seq, after, names, more, ok, want)
		}
	}
	since(first, "", 3, "a", "b", "c")
	since(first, "", 2, "a", "b")
	since(first, "a", 3, "b", "c")
	since(second, "", 3, "b", "c")
	stale := func(what string, epoch uint64, p Point) {
		t.Helper()
		if names, _, ok := j.Since(epoch, p, "", 9); ok {
			t.Errorf("%s: %q", what, names)
		}
	}
	stale("another epoch", 4, first)
	stale("another journal", 3, Point{Journal: [16]byte{2}})
	stale("no journal", 3, Point{})
	j.End(3)
	since(second, "", 3, "b", "c")
	j.Begin(4, [16]byte{3})
	stale("a journal that went before", 3, second)
	stale("a journal that went before, of this epoch", 4, second)
	j.End(5)
	stale("ended", 4, Point{Journal: [16]byte{3}})
	stale("ended, zero", 0, Point{})
}

func TestJournalIsBounded(t *testing.T) {
	var j Journal
	p := j.Begin(1, [16]byte{1})
	for i := range journalMax {
		j.Note(1, fmt.Sprint(i))
	}
	if names, _, ok := j.Since(1, p, "", journalMax); !ok || len(names) != journalMax {
		t.Fatalf("%d names, ok %v", len(names), ok)
	}
	j.Note(1, "one more")
	if _, _, ok := j.Since(1, p, "", 1); ok || len(j.changed) > 0 {
		t.Error("the journal goes on beyond its bound")
	}
	if again := j.Begin(1, [16]byte{2}); again == p {
		t.Error("a new journal under an old name")
	}
}

package gatewaytest

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"

	"larder/gateway"
)

// pages lists everything in pages of limit entries, and holds each page to its own rules.
func (f *fixture) pages(q gateway.ListQuery) []string {
	f.Helper()
	var all []string
	for {
		page, err := f.b.List(f.ctx, bucketName, q)
		if err != nil {
			f.Fatalf("list %+v: %v", q, err)
		}
		var entries []string
		for _, o := range page.Objects {
			entries = append(entries, o.Key)
		}
		if !slices.IsSorted(entries) || !slices.IsSorted(page.CommonPrefixes) {
			f.Fatalf("list %+v: not sorted: %q %q", q, entries, page.CommonPrefixes)
		}
		for _, p := range page.CommonPrefixes {
			entries = append(entries, p+"*")
		}
		all = append(all, entries...)
		switch {
		case len(entries) > q.Max:
			f.Fatalf("list %+v: %d entries", q, len(entries))
		case page.Truncated && len(entries) != q.Max:
			f.Fatalf("list %+v: a truncated page has %d entries", q, len(entries))
		case !page.Truncated:
			slices.SortFunc(all, func(a, b string) int { return strings.Compare(strings.TrimSuffix(a, "*"), strings.TrimSuffix(b, "*")) })
			return all
		case page.Next <= q.After:
			f.Fatalf("list %+v: goes on at %q", q, page.Next)
		}
		q.After = page.Next
	}
}

func (f *fixture) wantPages(q gateway.ListQuery, want ...string) {
	f.Helper()
	for _, limit := range []int{1, 2, 1000} {
		q.Max = limit
		if got := f.pages(q); !slices.Equal(got, want) {
			f.Errorf("list %+v: %q, want %q", q, got, want)
		}
	}
}

func testList(f *fixture) {
	f.wantPages(gateway.ListQuery{})
	for _, key := range []string{"a", "a/", "a/b", "a/c/d", "a0", "b/x", "b/y", "é", "z"} {
		f.put(key, []byte(key))
	}
	f.wantPages(gateway.ListQuery{}, "a", "a/", "a/b", "a/c/d", "a0", "b/x", "b/y", "z", "é")
	f.wantPages(gateway.ListQuery{Delimiter: "/"}, "a", "a/*", "a0", "b/*", "z", "é")
	f.wantPages(gateway.ListQuery{Prefix: "a/", Delimiter: "/"}, "a/", "a/b", "a/c/*")
	f.wantPages(gateway.ListQuery{Prefix: "a", Delimiter: "/"}, "a", "a/*", "a0")
	f.wantPages(gateway.ListQuery{Prefix: "b/"}, "b/x", "b/y")
	f.wantPages(gateway.ListQuery{Prefix: "nothing"})
	f.wantPages(gateway.ListQuery{After: "a/b"}, "a/c/d", "a0", "b/x", "b/y", "z", "é")
	f.wantPages(gateway.ListQuery{After: "a/", Delimiter: "/"}, "a0", "b/*", "z", "é")
	f.wantPages(gateway.ListQuery{After: "a/b", Delimiter: "/"}, "a0", "b/*", "z", "é")
	f.wantPages(gateway.ListQuery{After: "zzz"}, "é")
	f.wantPages(gateway.ListQuery{Delimiter: "c/"}, "a", "a/", "a/b", "a/c/*", "a0", "b/x", "b/y", "z", "é")
	page, err := f.b.List(f.ctx, bucketName, gateway.ListQuery{Max: 0})
	if err != nil || page.Truncated || len(page.Objects)+len(page.CommonPrefixes) != 0 {
		f.Errorf("a page of none: %+v, %v", page, err)
	}
	page, err = f.b.List(f.ctx, bucketName, gateway.ListQuery{Prefix: "a/b", Max: 1})
	if err != nil || len(page.Objects) != 1 {
		f.Fatalf("list: %+v, %v", page, err)
	}
	want := sumsOf([]byte("a/b"), "")
	if o := page.Objects[0]; o.ETag != want.ETag || o.Size != 3 || o.Modified.IsZero() || o.Owner != "alice" {
		f.Errorf("listed object %+v", o)
	}
}

// testListTwin compares listings of random keys with those of a sorted slice.
func testListTwin(f *fixture) {
	rng := rand.New(rand.NewSource(3))
	const alphabet = "ab/-é"
	name := func() string {
		var s strings.Builder
		for range rng.Intn(6) {
			s.WriteRune([]rune(alphabet)[rng.Intn(5)])
		}
		return s.String()
	}
	keys := map[string]bool{}
	for range 60 {
		if key := name(); key != "" {
			keys[key] = true
			f.put(key, nil)
		}
		if key := name(); keys[key] && rng.Intn(2) == 0 {
			delete(keys, key)
			if err := f.b.Delete(f.ctx, bucketName, key, nil); err != nil {
				f.Fatal(err)
			}
		}
	}
	sorted := sortedKeys(keys)
	for range 80 {
		q := gateway.ListQuery{Prefix: name()[:0], Max: 1 + rng.Intn(5)}
		if rng.Intn(2) == 0 {
			q.Prefix = name()
		}
		if rng.Intn(2) == 0 {
			q.Delimiter = []string{"/", "-", "a", "b/", "é"}[rng.Intn(5)]
		}
		if rng.Intn(2) == 0 {
			q.After = name()
		}
		var want []string
		for _, key := range sorted {
			entry, isPrefix, ok := group(key, q.Prefix, q.Delimiter)
			if !ok || entry <= q.After {
				continue
			}
			if isPrefix {
				entry += "*"
			}
			if len(want) == 0 || want[len(want)-1] != entry {
				want = append(want, entry)
			}
		}
		if got := f.pages(q); fmt.Sprint(got) != fmt.Sprint(want) {
			f.Fatalf("list %+v of %q:\n got %q\nwant %q", q, sorted, got, want)
		}
	}
}

func testListUploads(f *fixture) {
	ids := map[string]string{}
	var order []string
	for _, key := range []string{"b", "a/1", "b", "a/2", "c", "b"} {
		u := f.upload(key, gateway.UploadInput{Owner: "alice"})
		if u.ID == "" || u.Key != key || ids[u.ID] != "" {
			f.Fatalf("upload %+v", u)
		}
		ids[u.ID] = key
		order = append(order, u.ID)
	}
	walk := func(q gateway.UploadQuery) (keys, found []string) {
		for {
			page, err := f.b.ListUploads(f.ctx, bucketName, q)
			if err != nil {
				f.Fatal(err)
			}
			for _, u := range page.Uploads {
				if u.Owner != "alice" || u.Initiated.IsZero() {
					f.Errorf("listed upload %+v", u)
				}
				keys = append(keys, u.Key)
				found = append(found, u.ID)
			}
			for _, p := range page.CommonPrefixes {
				keys = append(keys, p+"*")
			}
			if !page.Truncated {
				return keys, found
			}
			if page.NextKey == "" || page.NextKey == q.KeyMarker && page.NextUpload == q.UploadIDAfter {
				f.Fatalf("page %+v does not go on", page)
			}
			q.KeyMarker, q.UploadIDAfter = page.NextKey, page.NextUpload
		}
	}
	want := []string{order[1], order[3], order[0], order[2], order[5], order[4]}
	for _, limit := range []int{1, 2, 3, 100} {
		if keys, found := walk(gateway.UploadQuery{Max: limit}); !slices.Equal(found, want) {
			f.Errorf("in pages of %d: uploads of %q in order %q, want %q", limit, keys, found, want)
		}
		if keys, _ := walk(gateway.UploadQuery{Max: limit, Delimiter: "/"}); limit == 100 && !slices.Equal(keys, []string{"b", "b", "b", "c", "a/*"}) || len(keys) != 5 {
			f.Errorf("grouped in pages of %d: %q", limit, keys)
		}
	}
	if keys, _ := walk(gateway.UploadQuery{Max: 10, Prefix: "a/"}); !slices.Equal(keys, []string{"a/1", "a/2"}) {
		f.Errorf("with prefix: %q", keys)
	}
	if keys, _ := walk(gateway.UploadQuery{Max: 10, KeyMarker: "b"}); !slices.Equal(keys, []string{"c"}) {
		f.Errorf("after b: %q", keys)
	}
	if err := f.b.Abort(f.ctx, bucketName, "c", order[4]); err != nil {
		f.Fatal(err)
	}
	if keys, _ := walk(gateway.UploadQuery{Max: 10, KeyMarker: "b"}); len(keys) != 0 {
		f.Errorf("after abort: %q", keys)
	}
	f.wantErr(f.b.Abort(f.ctx, bucketName, "c", order[4]), gateway.ErrNoSuchUpload)
}

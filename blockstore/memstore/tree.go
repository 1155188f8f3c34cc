package memstore

import (
	"strings"

	"github.com/zeebo/xxh3"
)

// tree is an immutable ordered map: a treap whose priorities are hashes of the keys, so that equal contents have equal
// shapes. Every change returns a new tree that shares what it did not touch; keeping an old root is a snapshot.
// The nil tree is empty.
type tree[V any] struct {
	key         string
	value       V
	left, right *tree[V]
}

func (t *tree[V]) get(key string) (v V, ok bool) {
	for t != nil {
		switch c := strings.Compare(key, t.key); {
		case c == 0:
			return t.value, true
		case c < 0:
			t = t.left
		default:
			t = t.right
		}
	}
	return v, false
}

// set returns t with key = value.
func (t *tree[V]) set(key string, value V) *tree[V] {
	less, more := t.split(key)
	_, more = more.split(key + "\x00")
	return merge(merge(less, &tree[V]{key: key, value: value}), more)
}

// deleteRange returns t without the keys in [lower, upper).
func (t *tree[V]) deleteRange(lower, upper string) *tree[V] {
	less, rest := t.split(lower)
	_, more := rest.split(upper)
	return merge(less, more)
}

// split returns the part of t below key and the rest.
func (t *tree[V]) split(key string) (less, rest *tree[V]) {
	if t == nil {
		return nil, nil
	}
	n := *t
	if t.key < key {
		n.right, rest = t.right.split(key)
		return &n, rest
	}
	less, n.left = t.left.split(key)
	return less, &n
}

// merge joins two trees; all keys of a are below those of b.
func merge[V any](a, b *tree[V]) *tree[V] {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	if pa, pb := xxh3.HashString(a.key), xxh3.HashString(b.key); pa > pb || pa == pb && a.key < b.key {
		n := *a
		n.right = merge(a.right, b)
		return &n
	}
	n := *b
	n.left = merge(a, b.left)
	return &n
}

// ceiling returns the entry with the smallest key >= key, or nil.
func (t *tree[V]) ceiling(key string) (best *tree[V]) {
	for t != nil {
		if t.key >= key {
			best, t = t, t.left
		} else {
			t = t.right
		}
	}
	return best
}

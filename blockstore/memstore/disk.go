package memstore

import (
	"sync"
)

// Disk is what a Store keeps its data on. It outlives the Store, so that a node in a test can be restarted, lose power, or
// meet a bad disk. The zero Disk is empty and ready for use.
type Disk struct {
	mu        sync.Mutex
	owner     *Store // nil: no store is on it
	fragments *tree[fragment]
	entries   *tree[entry] // as readers see it
	synced    *tree[entry] // as a power cut leaves it
	fail      error
}

type fragment struct {
	body            []byte
	sum             uint64
	stored, trashed int64 // wall time, ns since 1970; trashed is 0 if live
	corrupt         bool
}

type entry struct {
	value []byte
	sum   uint64
}

// Cut takes the power away: what was applied without a sync is gone, and the Store on the disk, if any, answers ErrClosed.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = d.synced
	d.owner = nil
}

// Copy returns a disk with the same contents, those that were not synced included: what a killed process leaves behind.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{fragments: d.fragments, entries: d.entries, synced: d.entries}
}

// FailWrites makes every later write fail with err, until it is called with nil.
func (d *Disk) FailWrites(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

// Flip changes one bit of the i-th stored value, counted over fragments and entries in order of their keys and modulo their
// number. It reports whether there was one.
func (d *Disk) Flip(i, bit int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	type slot struct {
		key      string
		fragment bool
	}
	var all []slot
	for n := d.fragments.ceiling(""); n != nil; n = d.fragments.ceiling(n.key + "\x00") {
		if len(n.value.body) > 0 {
			all = append(all, slot{n.key, true})
		}
	}
	for n := d.entries.ceiling(""); n != nil; n = d.entries.ceiling(n.key + "\x00") {
		if len(n.value.value) > 0 {
			all = append(all, slot{n.key, false})
		}
	}
	if len(all) == 0 {
		return false
	}
	s := all[i%len(all)]
	flip := func(b []byte) []byte {
		b = append([]byte(nil), b...)
		b[bit/8%len(b)] ^= 1 << (bit % 8)
		return b
	}
	if s.fragment {
		f, _ := d.fragments.get(s.key)
		f.body = flip(f.body)
		d.fragments = d.fragments.set(s.key, f)
		return true
	}
	e, _ := d.entries.get(s.key)
	e.value = flip(e.value)
	d.entries = d.entries.set(s.key, e)
	d.synced = d.entries
	return true
}

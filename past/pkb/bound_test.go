package pkb

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"larder/past"
)

// bounded is a record that may be proposed until the clock shows notAfter.
func bounded(value string, notAfter uint64) past.Record {
	r := rec(value)
	r.NotAfter = notAfter
	return r
}

// TestNotAfter: within its bound a record is written, blindly and by an update, and is bound no more; beyond it never.
func TestNotAfter(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	r := c.node(1).registers
	update := func(next past.Record) error {
		_, err := r.Update(t.Context(), reg(testBucket, "a"), func(past.Record) (past.Record, error) { return next, nil })
		return err
	}
	write := func(next past.Record) error {
		_, err := r.Write(t.Context(), reg(testBucket, "a"), next)
		return err
	}
	for name, do := range map[string]func(past.Record) error{"write": write, "update": update} {
		if err := do(bounded(name, r.Clock()+uint64(time.Hour))); err != nil {
			t.Errorf("%s within the bound: %v", name, err)
		}
		if err := do(bounded("late", r.Clock()-1)); !errors.Is(err, past.ErrUnknown) && !errors.Is(err, past.ErrUnavailable) {
			t.Errorf("%s beyond the bound: %v", name, err)
		}
		if got, err := c.node(2).registers.Read(t.Context(), reg(testBucket, "a")); err != nil || string(got.Value) != name {
			t.Errorf("after %s: %q, %v", name, got.Value, err)
		}
	}
	if err := write(rec("unbound")); err != nil {
		t.Error(err)
	}
}

// TestStandstill: a gateway whose clocks stood still for three days finishes what it began before them. Where somebody rewrote the register
// meanwhile, as an audit does that found nothing in it, its record does not come in; where nobody did, it may.
func TestStandstill(t *testing.T) {
	for _, rewritten := range []bool{true, false} {
		c := newCluster(t, 3)
		c.whole(3)
		c.bucket(testBucket)
		for i := 1; i <= 3; i++ {
			c.node(i).skew.Store(int64(3 * 24 * time.Hour))
		}
		late := c.node(2)
		late.skew.Store(0)
		notAfter := uint64(time.Now().Add(24 * time.Hour).UnixNano())
		if rewritten {
			_, err := c.node(1).registers.Update(t.Context(), reg(testBucket, "a"), func(cur past.Record) (past.Record, error) {
				if cur.Exists() {
					t.Errorf("found %+v", cur)
				}
				return past.Record{Kind: past.Tombstone}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err := late.registers.Write(t.Context(), reg(testBucket, "a"), bounded("late", notAfter))
		got, readErr := c.node(3).registers.Read(t.Context(), reg(testBucket, "a"))
		if readErr != nil {
			t.Fatal(readErr)
		}
		if rewritten && (err == nil || got.Exists()) || !rewritten && (err != nil || !got.Exists()) {
			t.Errorf("rewritten %v: %v, then %+v", rewritten, err, got)
		}
	}
}

// TestRewrite: what an audit writes again as it is stays as it is, body and all.
func TestRewrite(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	if _, err := c.node(1).registers.Write(t.Context(), reg(testBucket, "a"), rec("1")); err != nil {
		t.Fatal(err)
	}
	before, err := c.node(2).registers.Read(t.Context(), reg(testBucket, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // more often than operation ids are remembered
		if _, err := c.node(2).registers.Update(t.Context(), reg(testBucket, "a"), func(cur past.Record) (past.Record, error) { return cur, nil }); err != nil {
			t.Fatal(err)
		}
	}
	after, err := c.node(3).registers.Read(t.Context(), reg(testBucket, "a"))
	if err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("%+v, %v, was %+v", after, err, before)
	}
}

// TestForgottenBucket: a bucket is forgotten once it is dropped, and not before.
func TestForgottenBucket(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	c.whole(3)
	r := c.node(1).registers
	forgotten := func(want bool) {
		t.Helper()
		if got, err := c.node(2).registers.Forgotten(t.Context(), testBucket); err != nil || got != want {
			t.Errorf("forgotten: %v, %v", got, err)
		}
	}
	forgotten(false)
	if empty, err := r.CloseBucket(t.Context(), testBucket); err != nil || !empty {
		t.Fatalf("closed: empty %v, %v", empty, err)
	}
	forgotten(false)
	if err := r.DropBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	forgotten(true)
}

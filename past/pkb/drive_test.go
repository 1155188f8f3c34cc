package pkb

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"larder/blockstore"
	"larder/blockstore/memstore"
	"larder/past"
	"larder/past/register"
)

// TestReadHedged: where a majority has to be made to agree, a member that neither answers nor refuses does not hold that up, be it among
// those that are asked first or not.
func TestReadHedged(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	c.whole(3)
	for _, missed := range []int{2, 3} {
		silent, key := 5-missed, reg(testBucket, fmt.Sprint(missed))
		c.node(missed).stuck.Store(true)
		if _, err := c.node(1).registers.Write(t.Context(), key, rec("x")); err != nil {
			t.Fatal(err)
		}
		c.node(missed).stuck.Store(false)
		c.node(silent).stuck.Store(true)
		begin := time.Now()
		got, err := c.node(1).registers.Read(t.Context(), key)
		if err != nil || string(got.Value) != "x" {
			t.Fatalf("read while node %d is stuck: %+v, %v", silent, got, err)
		}
		if took := time.Since(begin); took > callTimeout*2/3 {
			t.Errorf("read while node %d is stuck took %v", silent, took)
		}
		c.node(silent).stuck.Store(false)
	}
}

// rotten is a store that lost what it kept under some keys.
type rotten struct {
	blockstore.Store
	lost atomic.Pointer[string] // the end of the keys
}

func (s *rotten) Get(ctx context.Context, key []byte) ([]byte, error) {
	if end := s.lost.Load(); end != nil && strings.HasSuffix(string(key), *end) {
		return nil, fmt.Errorf("row: %w", blockstore.ErrCorrupt)
	}
	return s.Store.Get(ctx, key)
}

// Iterate fails for everything: a walk that ends in damage is worth nothing.
func (s *rotten) Iterate(ctx context.Context, lower, upper []byte) (blockstore.Cursor, error) {
	if s.lost.Load() != nil {
		return nil, fmt.Errorf("rows: %w", blockstore.ErrCorrupt)
	}
	return s.Store.Iterate(ctx, lower, upper)
}

// rot makes a node's disk lose the rows of a key of the test bucket.
func (n *node) rot(key string) {
	name := groupName(past.SpaceHead, key, "")
	n.store.(*rotten).lost.Store(&name)
}

// addRotten starts node i for the first time, on a disk that can rot.
func (c *cluster) addRotten(i int) *node {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	c.keys[nodeID(i)] = key
	return c.start(i, &rotten{Store: memstore.New(memstore.Options{})}, uint64(100+i))
}

// operations are every kind of operation on one register; the update changes nothing.
func operations(ctx context.Context, r *Registers, key string) map[string]error {
	_, read := r.Read(ctx, reg(testBucket, key))
	_, update := r.Update(ctx, reg(testBucket, key), func(cur past.Record) (past.Record, error) { return rec("u"), nil })
	_, write := r.Write(ctx, reg(testBucket, key), rec("w"))
	return map[string]error{"read": read, "update": update, "write": write}
}

func scanAll(ctx context.Context, r *Registers) error {
	_, err := r.Scan(ctx, past.ScanQuery{Bucket: testBucket, Space: past.SpaceHead, Max: 10})
	return err
}

// TestDamagedAlone: what the only member lost is told at once, as damage and not as something that trying again could mend; and the rest
// is served.
func TestDamagedAlone(t *testing.T) {
	c := newCluster(t, 0)
	r := c.addRotten(1).registers
	c.bucket(testBucket)
	for _, key := range []string{"good", "bad"} {
		if _, err := r.Write(t.Context(), reg(testBucket, key), rec("x")); err != nil {
			t.Fatal(err)
		}
	}
	c.node(1).rot("bad")
	begin := time.Now()
	for op, err := range operations(t.Context(), r, "bad") {
		if !errors.Is(err, past.ErrDamaged) || errors.Is(err, past.ErrUnavailable) || errors.Is(err, past.ErrUnknown) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := scanAll(t.Context(), r); !errors.Is(err, past.ErrDamaged) || errors.Is(err, past.ErrUnavailable) {
		t.Errorf("scan: %v", err)
	}
	if took := time.Since(begin); took > operationMax/4 {
		t.Errorf("took %v", took)
	}
	for op, err := range operations(t.Context(), r, "good") {
		if err != nil {
			t.Errorf("%s of what is sound: %v", op, err)
		}
	}
	select {
	case id := <-c.node(1).damaged:
		if id != register.PartitionID(testBucket) {
			t.Errorf("damage of %v was reported", id)
		}
	default:
		t.Error("the damage was not reported")
	}
}

// TestDamagedOfThree: one damaged member of three is done without. With two nothing can be known any more: a read says so at once, and
// a write does not say that it had no effect, for the third member may hold it.
func TestDamagedOfThree(t *testing.T) {
	c := newCluster(t, 0)
	for i := range 3 {
		c.addRotten(i + 1)
	}
	c.whole(3)
	c.bucket(testBucket)
	c.whole(3)
	r := c.node(1).registers
	if _, err := r.Write(t.Context(), reg(testBucket, "a"), rec("x")); err != nil {
		t.Fatal(err)
	}
	c.node(1).rot("a")
	for op, err := range operations(t.Context(), r, "a") {
		if err != nil {
			t.Errorf("%s with one of three damaged: %v", op, err)
		}
	}
	if err := scanAll(t.Context(), r); err != nil {
		t.Errorf("scan with one of three damaged: %v", err)
	}
	c.node(2).rot("a")
	begin := time.Now()
	for op, err := range operations(t.Context(), r, "a") {
		if want := map[string]error{"read": past.ErrDamaged, "update": past.ErrDamaged, "write": past.ErrUnknown}[op]; !errors.Is(err, want) {
			t.Errorf("%s with two of three damaged: %v, want %v", op, err, want)
		}
	}
	if took := time.Since(begin); took > operationMax/4 {
		t.Errorf("took %v", took)
	}
}

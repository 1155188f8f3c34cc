package pkb

import (
	"fmt"
	"testing"
	"time"

	"larder/past"
	"larder/past/register"
)

// TestActiveElsewhere: a disk that was a partition's only member may be lost once all later members are active, and not before; what
// it believes itself does not count, for it may be an old copy.
func TestActiveElsewhere(t *testing.T) {
	c := newCluster(t, 1)
	c.bucket(testBucket)
	id := register.PartitionID(testBucket)
	old := c.node(1).members.Partitions()[id]
	if c.node(1).members.ActiveElsewhere(t.Context(), id) {
		t.Fatal("the only member of a partition is said to have others")
	}
	c.add(2)
	c.add(3)
	c.whole(3)
	m := c.node(1).members
	if !m.ActiveElsewhere(t.Context(), id) {
		t.Fatal("three members are active, and the first is said to be needed")
	}
	// It learns of the members from one that it knows, where its own state is of the first epoch. It knows only itself, so nobody tells.
	p := m.partition(id)
	p.mu.Lock()
	now := p.m
	p.m = old
	p.mu.Unlock()
	if m.ActiveElsewhere(t.Context(), id) {
		t.Fatal("a disk that knows of no other member says that it is not needed")
	}
	p.mu.Lock()
	p.m = now
	p.mu.Unlock()
	c.node(3).kill()
	if m.ActiveElsewhere(t.Context(), id) {
		t.Fatal("one of three members is gone, and the first is said not to be needed")
	}
}

// TestNoStorageAnyMore: a member whose node no longer offers storage, since its disk takes no writes, is replaced although it answers.
func TestNoStorageAnyMore(t *testing.T) {
	c := newCluster(t, 6)
	c.whole(5)
	c.bucket(testBucket)
	r := c.node(6).registers
	if _, err := r.Write(t.Context(), reg(testBucket, "a"), rec("x")); err != nil {
		t.Fatal(err)
	}
	rt, _ := r.route(testBucket)
	_, before := rt.current()
	victim := before.Members[0].Node
	c.node(int(victim[0])).full.Store(true)
	c.eventually("not replaced", func() string {
		l, err := r.readLineage(t.Context(), register.PartitionID(testBucket))
		if err != nil {
			return err.Error()
		}
		if now := l.Current(); now.IndexNode(victim) >= 0 || len(now.Members) != 5 {
			return fmt.Sprintf("epoch %d still has the member without storage", now.Epoch)
		}
		return ""
	})
	if got, err := r.Read(t.Context(), reg(testBucket, "a")); err != nil || got.Kind != past.Live {
		t.Fatalf("read: %+v, %v", got, err)
	}
}

// TestForgotten: groups of an old epoch are not there to be pulled once they were forgotten.
func TestForgotten(t *testing.T) {
	c := newCluster(t, 6)
	c.whole(5)
	c.bucket(testBucket)
	r := c.node(6).registers
	rt, _ := r.route(testBucket)
	_, before := rt.current()
	victim := c.node(int(before.Members[0].Node[0]))
	victim.full.Store(true)
	id := register.PartitionID(testBucket)
	c.eventually("not forgotten", func() string {
		m := victim.members.Partitions()[id]
		if m.Active || m.Frozen(before.Epoch) {
			return fmt.Sprintf("epoch %d is active %v, frozen %v", m.Epoch, m.Active, m.Frozen(before.Epoch))
		}
		return ""
	})
}

// TestScanHedged: a member that neither answers nor refuses, as a process that is stopped, does not hold up a listing.
func TestScanHedged(t *testing.T) {
	c := newCluster(t, 5)
	c.whole(5)
	c.bucket(testBucket)
	c.whole(5)
	if _, err := c.node(1).registers.Write(t.Context(), reg(testBucket, "a"), rec("x")); err != nil {
		t.Fatal(err)
	}
	for i := 2; i <= 5; i++ { // one of them is among those that node 1 asks first
		c.node(i).stuck.Store(true)
		begin := time.Now()
		page, err := c.node(1).registers.Scan(t.Context(), past.ScanQuery{Bucket: testBucket, Space: past.SpaceHead, Max: 10})
		if err != nil || len(page.Entries) != 1 {
			t.Fatalf("scan while node %d is stuck: %+v, %v", i, page, err)
		}
		if took := time.Since(begin); took > callTimeout*2/3 {
			t.Errorf("scan while node %d is stuck took %v", i, took)
		}
		c.node(i).stuck.Store(false)
	}
}

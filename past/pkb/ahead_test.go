package pkb

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"larder/past"
	"larder/past/register"
)

// spare returns a cluster of four, a gateway of it with the test bucket's route, and the configuration in which the spare node takes
// the place of the last member.
func spare(t testing.TB) (c *cluster, r *Registers, rt *route, want register.Configuration) {
	c = newCluster(t, 4)
	c.whole(3)
	c.bucket(testBucket)
	r = c.node(1).registers
	rt, err := r.route(testBucket)
	if err != nil {
		t.Fatal(err)
	}
	_, now := rt.current()
	want = *now
	want.Members = slices.Clone(now.Members)
	for i := 1; i <= 4; i++ {
		if now.IndexNode(nodeID(i)) < 0 {
			want.Members[2] = c.node(i).self.Member
		}
	}
	return c, r, rt, want
}

// TestCopiedAhead changes much between a copy and the change that it was made for.
func TestCopiedAhead(t *testing.T) {
	c, r, rt, want := spare(t)
	write := func(key int, value string) {
		t.Helper()
		next := rec(value)
		if value == "" {
			next = past.Record{Kind: past.Tombstone}
		}
		if _, err := r.Write(t.Context(), reg(testBucket, fmt.Sprint(key)), next); err != nil {
			t.Fatal(err)
		}
	}
	for key := range 60 {
		write(key, "first")
	}
	for key := range 20 { // some of which stay deleted
		write(key, "")
	}
	for pass := range 2 {
		if !r.copyAhead(t.Context(), rt, &want) {
			t.Fatal("not done")
		}
		for key := 10 + pass; key < 40; key += 3 {
			write(key, fmt.Sprint("pass", pass))
		}
	}
	write(60, "new")
	write(59, "")
	p := c.node(int(want.Members[2].Node[0])).members.partition(register.PartitionID(testBucket))
	p.inMu.Lock()
	if p.in == nil || len(p.in.points) < 2 || p.in.whole {
		t.Errorf("nothing is copied: %+v", p.in)
	}
	p.inMu.Unlock()
	if err := r.change(t.Context(), rt, want); err != nil {
		t.Fatal(err)
	}
	c.whole(3)
	for key := range 61 {
		value := "first"
		switch {
		case key == 60:
			value = "new"
		case key == 59 || key < 10:
			value = ""
		case key >= 11 && key < 40 && (key-11)%3 == 0:
			value = "pass1"
		case key >= 10 && key < 40 && (key-10)%3 == 0:
			value = "pass0"
		case key < 20:
			value = ""
		}
		got, err := r.Read(t.Context(), reg(testBucket, fmt.Sprint(key)))
		if err != nil || string(got.Value) != value {
			t.Errorf("%d is %q, want %q, %v", key, got.Value, value, err)
		}
	}
}

// TestUnusedCopyGoes: what was copied for a change that does not come leaves the disk, at a start at the latest.
func TestUnusedCopyGoes(t *testing.T) {
	for _, restart := range []bool{false, true} {
		c, r, rt, want := spare(t)
		if _, err := r.Write(t.Context(), reg(testBucket, "a"), rec("1")); err != nil {
			t.Fatal(err)
		}
		if !r.copyAhead(t.Context(), rt, &want) {
			t.Fatal("not done")
		}
		n := c.node(int(want.Members[2].Node[0]))
		rows := func() (rows int) {
			lower := rowKey(tagGroup, register.PartitionID(testBucket), 0, "")
			if err := n.store.Scan(context.Background(), lower, after(lower[:17]), func(_, _ []byte) bool { rows++; return true }); err != nil {
				t.Fatal(err)
			}
			return rows
		}
		if rows() != 1 {
			t.Fatalf("%d rows are copied", rows())
		}
		if restart {
			n.kill()
			n = c.start(int(n.id[0]), n.store, n.self.Member.Incarnation)
		} else {
			n.skew.Store(int64(2 * aheadKeep))
		}
		c.eventually("the copy stays", func() string {
			if rows() > 0 {
				return "rows are left"
			}
			return ""
		})
	}
}

// TestOutage measures how long a writer of a large partition gets no answer while a member is replaced, with what was there copied ahead and
// without. LARDER_OUTAGE is the number of groups.
func TestOutage(t *testing.T) {
	groups, _ := strconv.Atoi(os.Getenv("LARDER_OUTAGE"))
	if groups == 0 {
		t.Skip("LARDER_OUTAGE is not set")
	}
	for _, ahead := range []bool{false, true} {
		c, r, rt, want := spare(t)
		var work sync.WaitGroup
		for w := range 16 {
			work.Go(func() {
				for i := w; i < groups; i += 16 {
					if _, err := r.Write(t.Context(), reg(testBucket, fmt.Sprint("k", i)), past.Record{Kind: past.Live, Value: []byte("v")}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		work.Wait()
		stop, outage := make(chan struct{}), time.Duration(0)
		work.Go(func() {
			for last, i := time.Now(), 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := r.Write(t.Context(), reg(testBucket, fmt.Sprint("k", i%1000)), past.Record{Kind: past.Live, Value: []byte("w")}); err == nil {
					outage, last = max(outage, time.Since(last)), time.Now()
				}
			}
		})
		begin := time.Now()
		for ahead && !r.copyAhead(t.Context(), rt, &want) {
		}
		copied := time.Since(begin)
		if err := r.change(t.Context(), rt, want); err != nil {
			t.Fatal(err)
		}
		close(stop)
		work.Wait()
		t.Logf("%d groups, ahead %v: copied in %v, outage %v", groups, ahead, copied.Round(time.Millisecond), outage.Round(time.Millisecond))
		for i := 1; i <= 4; i++ {
			c.node(i).kill()
		}
	}
}

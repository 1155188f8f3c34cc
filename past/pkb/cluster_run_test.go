package pkb

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"larder/blockstore"
	"larder/past"
	"larder/past/register"

	"github.com/anishathalye/porcupine"
)

var testBucket = past.BucketID{7}

func TestOneNode(t *testing.T) {
	c := newCluster(t, 1)
	c.bucket(testBucket)
	r := c.node(1).registers
	if got, err := r.Read(t.Context(), reg(testBucket, "a")); err != nil || got.Kind != past.Absent {
		t.Fatalf("read of nothing: %+v, %v", got, err)
	}
	if _, err := r.Write(t.Context(), reg(testBucket, "a"), rec("1")); err != nil {
		t.Fatal(err)
	}
	replaced, err := r.Write(t.Context(), reg(testBucket, "a"), rec("2"))
	if err != nil || len(replaced) != 1 || string(replaced[0].Value) != "1" {
		t.Fatalf("second write replaced %+v, %v", replaced, err)
	}
	got, err := r.Read(t.Context(), reg(testBucket, "a"))
	if err != nil || string(got.Value) != "2" || string(got.Body) != "body of 2" {
		t.Fatalf("read %+v, %v", got, err)
	}
	refused := errors.New("refused")
	if _, err := r.Update(t.Context(), reg(testBucket, "a"), func(past.Record) (past.Record, error) { return past.Record{}, refused }); !errors.Is(err, refused) {
		t.Fatalf("refused update: %v", err)
	}
	if _, err := r.Update(t.Context(), reg(testBucket, "a"), func(cur past.Record) (past.Record, error) { return cur, past.ErrUnchanged }); err != nil {
		t.Fatalf("unchanged update: %v", err)
	}
}

// TestGrowth has the system partition and a bucket's go from one member to three to five as nodes come, without losing anything.
func TestGrowth(t *testing.T) {
	c := newCluster(t, 1)
	c.bucket(testBucket)
	for i := range 50 {
		if _, err := c.node(1).registers.Write(t.Context(), reg(testBucket, fmt.Sprint("k", i)), rec(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []struct{ nodes, k int }{{3, 3}, {5, 5}} {
		for i := len(c.nodes) + 1; i <= n.nodes; i++ {
			c.add(i)
		}
		c.whole(n.k)
	}
	c.node(1).kill()
	r := c.node(2).registers
	c.openOn(2)
	for i := range 50 {
		if got, err := r.Read(t.Context(), reg(testBucket, fmt.Sprint("k", i))); err != nil || string(got.Value) != fmt.Sprint(i) || string(got.Body) != fmt.Sprint("body of ", i) {
			t.Fatalf("k%d: %+v, %v", i, got, err)
		}
	}
}

// openOn opens the test bucket on a node that came after it was made.
func (c *cluster) openOn(i int) {
	c.t.Helper()
	if err := c.node(i).registers.OpenBucket(c.t.Context(), testBucket, past.Register{}, c.made); err != nil {
		c.t.Fatal(err)
	}
}

// TestMemberReplaced has a spare node take the place of one that stays away.
func TestMemberReplaced(t *testing.T) {
	c := newCluster(t, 6)
	c.whole(5)
	c.bucket(testBucket)
	r := c.node(6).registers
	for i := range 20 {
		if _, err := r.Write(t.Context(), reg(testBucket, fmt.Sprint(i)), rec("x")); err != nil {
			t.Fatal(err)
		}
	}
	rt, _ := r.route(testBucket)
	_, before := rt.current()
	victim := before.Members[0].Node
	if victim == nodeID(6) {
		victim = before.Members[1].Node
	}
	c.node(int(victim[0])).kill()
	c.eventually("not replaced", func() string {
		l, err := r.readLineage(t.Context(), register.PartitionID(testBucket))
		if err != nil {
			return err.Error()
		}
		if now := l.Current(); now.IndexNode(victim) >= 0 || len(now.Members) != 5 {
			return fmt.Sprintf("epoch %d still has the dead member", now.Epoch)
		}
		return ""
	})
	c.whole(5)
	for i := range 20 {
		if got, err := r.Read(t.Context(), reg(testBucket, fmt.Sprint(i))); err != nil || string(got.Value) != "x" {
			t.Fatalf("%d: %+v, %v", i, got, err)
		}
	}
}

// TestRestart stops every node at once and starts them again on their disks.
func TestRestart(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	if _, err := c.node(1).registers.Write(t.Context(), reg(testBucket, "a"), rec("1")); err != nil {
		t.Fatal(err)
	}
	stores := map[int]blockstore.Store{}
	for i := 1; i <= 3; i++ {
		n := c.node(i)
		stores[i] = n.store
		n.kill()
	}
	for i := 1; i <= 3; i++ {
		c.start(i, stores[i], uint64(100+i))
	}
	c.eventually("not open after restart", func() string {
		if err := c.node(2).registers.OpenBucket(t.Context(), testBucket, past.Register{}, c.made); err != nil {
			return err.Error()
		}
		return ""
	})
	c.eventually("not readable after restart", func() string {
		got, err := c.node(2).registers.Read(t.Context(), reg(testBucket, "a"))
		if err != nil || string(got.Value) != "1" {
			return fmt.Sprintf("%+v, %v", got, err)
		}
		return ""
	})
}

// TestClockTwoHoursAhead: members refuse a blind ballot that far ahead, and the gateway has to ask first; others go on after it.
func TestClockTwoHoursAhead(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	c.node(2).skew.Store(int64(2 * time.Hour))
	for i, n := range []int{1, 2, 3, 2, 1} {
		if _, err := c.node(n).registers.Write(t.Context(), reg(testBucket, "a"), rec(fmt.Sprint(i))); err != nil {
			t.Fatalf("write %d through node %d: %v", i, n, err)
		}
		if got, err := c.node(3).registers.Read(t.Context(), reg(testBucket, "a")); err != nil || string(got.Value) != fmt.Sprint(i) {
			t.Fatalf("read after write %d: %q, %v", i, got.Value, err)
		}
	}
}

// TestDroppedBucket closes a bucket that has something in it, reopens it, empties it, and drops it.
func TestDroppedBucket(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	r := c.node(1).registers
	if _, err := r.Write(t.Context(), reg(testBucket, "a"), rec("1")); err != nil {
		t.Fatal(err)
	}
	if empty, err := r.CloseBucket(t.Context(), testBucket); err != nil || empty {
		t.Fatalf("closed with something in it: empty %v, %v", empty, err)
	}
	if _, err := c.node(2).registers.Write(t.Context(), reg(testBucket, "b"), rec("1")); err == nil {
		t.Fatal("a closed bucket took a write")
	}
	if err := r.ReopenBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	if got, err := c.node(3).registers.Read(t.Context(), reg(testBucket, "a")); err != nil || string(got.Value) != "1" {
		t.Fatalf("after reopening: %+v, %v", got, err)
	}
	if _, err := r.Write(t.Context(), reg(testBucket, "a"), past.Record{Kind: past.Tombstone}); err != nil {
		t.Fatal(err)
	}
	if empty, err := r.CloseBucket(t.Context(), testBucket); err != nil || !empty {
		t.Fatalf("closed after emptying: empty %v, %v", empty, err)
	}
	if err := r.DropBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	if _, err := c.node(2).registers.Write(t.Context(), reg(testBucket, "c"), rec("1")); !errors.Is(err, past.ErrClosed) {
		t.Fatalf("write into a dropped bucket: %v", err)
	}
}

// TestScan compares listings with the sorted truth, with delimiters, pages, deletions and one member dead.
func TestScan(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	rnd := rand.New(rand.NewSource(1))
	live := map[string]bool{}
	write := func(n int) {
		for range n {
			key := fmt.Sprintf("%c/%c/%d", 'a'+rnd.Intn(3), 'a'+rnd.Intn(3), rnd.Intn(20))
			r := c.node(1 + rnd.Intn(len(c.nodes))).registers
			record := rec(key)
			if rnd.Intn(3) == 0 {
				record = past.Record{Kind: past.Tombstone}
			}
			if _, err := r.Write(t.Context(), reg(testBucket, key), record); err != nil {
				t.Fatal(err)
			}
			live[key] = record.Kind == past.Live
		}
	}
	compare := func() {
		t.Helper()
		for _, q := range []past.ScanQuery{
			{Max: 1000}, {Max: 7}, {Max: 3, Delimiter: "/"}, {Max: 1, Delimiter: "/"}, {Max: 5, Prefix: "a/", Delimiter: "/"}, {Max: 4, Prefix: "b/b/"}, {Max: 10, Prefix: "zz"},
		} {
			q.Bucket, q.Space = testBucket, past.SpaceHead
			want := expected(live, q.Prefix, q.Delimiter)
			var got []string
			for {
				page, err := c.node(1).registers.Scan(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Entries {
					q.After, q.AfterPrefix = e.Key, false
					if e.CommonPrefix != "" {
						q.After, q.AfterPrefix = e.CommonPrefix, true
					}
					got = append(got, q.After)
				}
				if !page.Truncated {
					break
				}
				if len(page.Entries) != q.Max {
					t.Fatalf("%+v: truncated page of %d", q, len(page.Entries))
				}
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Fatalf("%+v:\n got %v\nwant %v", q, got, want)
			}
		}
	}
	write(150)
	compare()
	c.node(3).kill()
	write(50)
	compare()
}

// expected is what a listing should be.
func expected(live map[string]bool, prefix, delimiter string) (out []string) {
	seen := map[string]bool{}
	for key, ok := range live {
		if !ok || !strings.HasPrefix(key, prefix) {
			continue
		}
		if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			key = key[:len(prefix)+i+len(delimiter)]
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// registerModel is a register of strings for porcupine: read, write, compare-and-swap.
type input struct {
	op             byte // r w c
	value, expects string
}
type output struct {
	value   string
	refused bool
	unknown bool
}

var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(string), in.(input), out.(output)
		switch i.op {
		case 'r':
			return o.unknown || o.value == s, s
		case 'w':
			return true, i.value
		}
		if o.unknown {
			if s == i.expects {
				return true, i.value
			}
			return true, s
		}
		if s == i.expects {
			return !o.refused, i.value
		}
		return o.refused, s
	},
}

// TestLinearizable has every node read and write three keys while nodes are cut off, killed and started again, and members replaced.
func TestLinearizable(t *testing.T) {
	c := newCluster(t, 5)
	c.whole(5)
	c.bucket(testBucket)
	c.node(4).skew.Store(int64(time.Hour)) // one gateway's clock
	length := 6 * time.Second
	if testing.Short() {
		length = 2 * time.Second
	}
	end := time.Now().Add(length)
	var mu sync.Mutex
	histories := map[string][]porcupine.Operation{}
	var work sync.WaitGroup
	begin := time.Now()
	for client := range 10 {
		work.Go(func() {
			rnd := rand.New(rand.NewSource(int64(client)))
			for i := 0; time.Now().Before(end); i++ {
				n := c.node(1 + client%5)
				if n == nil || !n.knows(testBucket) {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				key := fmt.Sprint("k", rnd.Intn(3))
				in := input{op: "rwc"[rnd.Intn(3)], value: fmt.Sprintf("%d.%d", client, i)}
				call := time.Since(begin).Nanoseconds()
				out := do(t, n.registers, key, &in)
				ret := time.Since(begin).Nanoseconds()
				if out.unknown {
					ret = 1 << 62 // it may take effect at any time from now on
				}
				mu.Lock()
				histories[key] = append(histories[key], porcupine.Operation{ClientId: client*100_000 + i, Input: in, Call: call, Output: out, Return: ret})
				mu.Unlock()
			}
		})
	}
	rnd := rand.New(rand.NewSource(99))
	for time.Now().Before(end.Add(-time.Second)) {
		victim := 2 + rnd.Intn(3)
		n := c.node(victim)
		if rnd.Intn(2) == 0 {
			c.cut(victim, true)
			time.Sleep(300 * time.Millisecond)
			c.cut(victim, false)
		} else {
			rt, err := n.registers.route(testBucket)
			if err != nil {
				t.Fatal(err)
			}
			n.kill()
			time.Sleep(300 * time.Millisecond)
			again := c.start(victim, n.store, uint64(100+victim))
			again.registers.mu.Lock()
			again.registers.routes[testBucket] = rt
			again.registers.mu.Unlock()
		}
		time.Sleep(300 * time.Millisecond)
	}
	work.Wait()
	operations, unknown := 0, 0
	for key, h := range histories {
		operations += len(h)
		for _, o := range h {
			if o.Output.(output).unknown {
				unknown++
			}
		}
		if porcupine.CheckOperationsTimeout(registerModel, h, 30*time.Second) == porcupine.Illegal {
			t.Errorf("%s: %d operations are not linearizable", key, len(h))
		}
	}
	t.Logf("%d operations, %d of unknown outcome", operations, unknown)
	if operations < 50 || unknown > operations/2 {
		t.Errorf("%d operations, %d of unknown outcome: the test saw too little", operations, unknown)
	}
}

func (n *node) knows(b past.BucketID) bool {
	_, err := n.registers.route(b)
	return err == nil
}

func (c *cluster) cut(i int, deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf[nodeID(i)] = deaf
}

// do runs one operation and says what it returned.
func do(t *testing.T, r *Registers, key string, in *input) output {
	ctx := t.Context()
	switch in.op {
	case 'r':
		got, err := r.Read(ctx, reg(testBucket, key))
		return output{value: string(got.Value), unknown: err != nil}
	case 'w':
		_, err := r.Write(ctx, reg(testBucket, key), past.Record{Kind: past.Live, Value: []byte(in.value)})
		return output{unknown: err != nil}
	}
	cur, err := r.Read(ctx, reg(testBucket, key))
	if err != nil {
		in.op = 'r'
		return output{unknown: true}
	}
	in.expects = string(cur.Value)
	refused := errors.New("refused")
	_, err = r.Update(ctx, reg(testBucket, key), func(cur past.Record) (past.Record, error) {
		if string(cur.Value) != in.expects {
			return cur, refused
		}
		return past.Record{Kind: past.Live, Value: []byte(in.value)}, nil
	})
	return output{refused: errors.Is(err, refused), unknown: err != nil && !errors.Is(err, refused)}
}

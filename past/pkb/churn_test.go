package pkb

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"larder/past"
	"larder/past/register"
)

// expectation is what one key must show: only its writer changes it.
type expectation struct {
	live    bool
	unsure  bool // a write of it ended unknown
	changes int  // odd while a write is under way
}

// churned is a bucket that is written while its partition changes.
type churned struct {
	c    *cluster
	mu   sync.Mutex
	keys map[string]*expectation

	writes, failed, lists, changes atomic.Int64
}

// TestListedThroughChanges writes, deletes, reads and lists keys through every node while members are replaced one after another, killed,
// and cut off. What was acknowledged before a listing began and not touched until its end is in it or not, as it should be.
func TestListedThroughChanges(t *testing.T) {
	length := 4 * time.Second
	if testing.Short() {
		length = time.Second
	}
	if s, err := time.ParseDuration(os.Getenv("LARDER_CHURN")); err == nil {
		length = s
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	c := newCluster(t, 7)
	c.whole(5)
	c.bucket(testBucket)
	s := &churned{c: c, keys: map[string]*expectation{}}
	ctx, cancel := context.WithTimeout(t.Context(), length+90*time.Second)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { // long enough to have seen something, on a busy machine too
		for begin := time.Now(); ctx.Err() == nil && (time.Since(begin) < length || s.lists.Load() < 5 || s.changes.Load() < 3); {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	})
	for w := range 6 {
		work.Go(func() { s.write(ctx, t, w, rand.New(rand.NewSource(seed+int64(w)))) })
	}
	for w := range 2 {
		work.Go(func() { s.list(ctx, t, rand.New(rand.NewSource(seed+int64(100+w)))) })
	}
	work.Go(func() { s.change(ctx, rand.New(rand.NewSource(seed+200))) })
	work.Go(func() { s.harm(ctx, t, rand.New(rand.NewSource(seed+300))) })
	work.Wait()
	for i := range 7 {
		c.cut(1+i, false)
	}
	defer func() {
		if t.Failed() {
			t.Log(s.where("0/0000"))
		}
	}()
	c.whole(5)
	for i := range 7 {
		if n := c.node(1 + i); n != nil && n.knows(testBucket) {
			s.compare(t.Context(), t, n, 1000)
		}
	}
	t.Logf("%d writes, %d of them failed, %d listings, %d changes", s.writes.Load(), s.failed.Load(), s.lists.Load(), s.changes.Load())
	if s.lists.Load() < 5 || s.changes.Load() < 3 {
		t.Error("the test saw too little")
	}
}

func (s *churned) write(ctx context.Context, t *testing.T, w int, rnd *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		n := s.c.node(1 + rnd.Intn(7))
		if n == nil || !n.knows(testBucket) {
			time.Sleep(time.Millisecond)
			continue
		}
		key := fmt.Sprintf("%d/%04d", w, rnd.Intn(1+min(i/2, 50)))
		record := rec(fmt.Sprint(i))
		if rnd.Intn(4) == 0 {
			record = past.Record{Kind: past.Tombstone}
		}
		s.mu.Lock()
		e := s.keys[key]
		if e == nil {
			e = &expectation{}
			s.keys[key] = e
		}
		e.changes++
		s.mu.Unlock()
		s.writes.Add(1)
		_, err := n.registers.Write(ctx, reg(testBucket, key), record)
		s.mu.Lock()
		if e.changes++; err == nil {
			e.live, e.unsure = record.Kind == past.Live, false
		} else {
			s.failed.Add(1)
			e.unsure = true
		}
		s.mu.Unlock()
		if err != nil && !errors.Is(err, past.ErrUnavailable) && !errors.Is(err, past.ErrUnknown) {
			t.Errorf("write %s: %v", key, err)
		}
	}
}

// list compares listings with what is expected, and reads single keys.
func (s *churned) list(ctx context.Context, t *testing.T, rnd *rand.Rand) {
	for ctx.Err() == nil && !t.Failed() {
		n := s.c.node(1 + rnd.Intn(7))
		if n == nil || !n.knows(testBucket) {
			time.Sleep(time.Millisecond)
			continue
		}
		s.compare(ctx, t, n, 1+rnd.Intn(300))
	}
}

func (s *churned) compare(ctx context.Context, t *testing.T, n *node, pageMax int) {
	s.mu.Lock()
	before := map[string]expectation{}
	for key, e := range s.keys {
		if e.changes%2 == 0 && !e.unsure {
			before[key] = *e
		}
	}
	s.mu.Unlock()
	listed := map[string]bool{}
	q := past.ScanQuery{Bucket: testBucket, Space: past.SpaceHead, Max: pageMax}
	for more := true; more; {
		page, err := n.registers.Scan(ctx, q)
		if err != nil {
			if !errors.Is(err, past.ErrUnavailable) {
				t.Errorf("list: %v", err)
			}
			return
		}
		for _, e := range page.Entries {
			listed[e.Key], q.After = true, e.Key
		}
		more = page.Truncated
	}
	s.lists.Add(1)
	for key, want := range before {
		s.mu.Lock()
		now := *s.keys[key]
		s.mu.Unlock()
		if now.changes == want.changes && listed[key] != want.live {
			got, err := n.registers.Read(t.Context(), reg(testBucket, key))
			t.Errorf("%s: live %v and listed %v by %v; read %+v, %v; %s", key, want.live, listed[key], n.id, got, err, s.where(key))
		}
	}
}

// where says what each member has of a key.
func (s *churned) where(key string) (out string) {
	for i := range 7 {
		n := s.c.node(1 + i)
		if n == nil {
			continue
		}
		p := n.members.partition(register.PartitionID(testBucket))
		p.mu.RLock()
		g, err := n.members.load(context.Background(), p, p.m.Epoch, groupName(past.SpaceHead, key, ""), false)
		out += fmt.Sprintf("\n  node %d: %v; %+v chosen %v, %v", 1+i, p, g.Accepted, g.Chosen, err)
		p.mu.RUnlock()
		p = n.members.partition(register.System)
		p.mu.RLock()
		out += fmt.Sprintf("\n    system: %v", p)
		p.mu.RUnlock()
	}
	return out
}

// String is for failures of tests. p.mu is held.
func (p *partition) String() string {
	var members []string
	for _, m := range p.m.Lineage.Current().Members {
		members = append(members, fmt.Sprint(m.Node[0]))
	}
	kept := "nothing"
	if p.m.Kept != nil {
		kept = fmt.Sprint("epoch ", p.m.Kept.Epoch)
	}
	return fmt.Sprintf("epoch %d of lineage to %d %v, active %v, fenced %v, entering %v, keeps %s, confirmed %v, greeting %+v",
		p.m.Epoch, p.m.Lineage.Epoch(), members, p.m.Active, p.m.Fenced, p.entering, kept, p.confirmed(), p.greeting)
}

// change replaces members of the bucket's partition, mostly by way of a copy ahead.
func (s *churned) change(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		n := s.c.node(1 + rnd.Intn(7))
		if n == nil || !n.knows(testBucket) {
			time.Sleep(time.Millisecond)
			continue
		}
		rt, _ := n.registers.route(testBucket)
		_, now := rt.current()
		want := *now
		want.Members = slices.Clone(now.Members)
		for i := range 7 {
			if spare := s.c.node(1 + i); spare != nil && now.IndexNode(spare.id) < 0 {
				want.Members[rnd.Intn(len(want.Members))] = spare.self.Member
				break
			}
		}
		if rnd.Intn(4) > 0 {
			ahead, cancel := context.WithTimeout(ctx, 2*time.Second)
			n.registers.copyAhead(ahead, rt, &want)
			cancel()
			time.Sleep(time.Duration(rnd.Intn(100)) * time.Millisecond)
		}
		try, cancel := context.WithTimeout(ctx, 15*time.Second)
		if err := n.registers.change(try, rt, want); err == nil {
			s.changes.Add(1)
		}
		cancel()
		time.Sleep(time.Duration(rnd.Intn(200)) * time.Millisecond)
	}
}

// harm cuts nodes off, and kills them and starts them again, one at a time. On a slow machine it lets a change come through in between.
func (s *churned) harm(ctx context.Context, t *testing.T, rnd *rand.Rand) {
	for ctx.Err() == nil {
		changes, pause := s.changes.Load(), time.Duration(100+rnd.Intn(300))*time.Millisecond
		for begin := time.Now(); ctx.Err() == nil && (time.Since(begin) < pause || s.changes.Load() == changes && time.Since(begin) < 4*time.Second); {
			time.Sleep(10 * time.Millisecond)
		}
		i := 1 + rnd.Intn(7)
		n := s.c.node(i)
		if rnd.Intn(2) == 0 {
			s.c.cut(i, true)
			time.Sleep(time.Duration(rnd.Intn(600)) * time.Millisecond)
			s.c.cut(i, false)
			continue
		}
		rt, err := n.registers.route(testBucket)
		if err != nil {
			t.Error(err)
			return
		}
		n.kill()
		time.Sleep(time.Duration(rnd.Intn(600)) * time.Millisecond)
		again := s.c.start(i, n.store, uint64(100+i))
		again.registers.mu.Lock()
		again.registers.routes[testBucket] = rt
		again.registers.mu.Unlock()
	}
}

// TestScanWithoutMajority: members that refuse before one answers do not make a listing empty.
func TestScanWithoutMajority(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	c.whole(3)
	n := c.node(1)
	if _, err := n.registers.Write(t.Context(), reg(testBucket, "a"), rec("x")); err != nil {
		t.Fatal(err)
	}
	p := n.members.partition(register.PartitionID(testBucket))
	p.mu.Lock() // its own member answers last
	c.cut(2, true)
	c.cut(3, true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	refused := c.refused.Load()
	go func() {
		for c.refused.Load() < refused+2 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		p.mu.Unlock()
	}()
	page, err := n.registers.Scan(ctx, past.ScanQuery{Bucket: testBucket, Space: past.SpaceHead, Max: 10})
	if !errors.Is(err, past.ErrUnavailable) {
		t.Fatalf("%+v, %v", page, err)
	}
}

// TestUnwrittenLineage: a change whose driver ends before it has written the new lineage down is found and written by a caretaker.
func TestUnwrittenLineage(t *testing.T) {
	c := newCluster(t, 4)
	c.whole(3)
	c.bucket(testBucket)
	c.whole(3)
	r := c.node(1).registers
	rt, err := r.route(testBucket)
	if err != nil {
		t.Fatal(err)
	}
	lineage, now := rt.current()
	want := *now
	want.Epoch++
	want.Members = slices.Clone(now.Members)
	for i := range 4 {
		if n := c.node(1 + i); now.IndexNode(n.id) < 0 {
			want.Members[0] = n.self.Member
		}
	}
	d := &changeDrive{r: r, ctx: t.Context(), rt: rt, lineage: lineage, from: now, inputs: make(chan any, 64)}
	if err := d.run(register.NewChange(*now, register.Succession{Partition: now.Partition, Epoch: now.Epoch, Next: []register.Configuration{want}}, r.proposer, r.counter)); err != nil {
		t.Fatal(err)
	}
	c.eventually("not written", func() string {
		l, err := r.readLineage(t.Context(), now.Partition)
		if err != nil {
			return err.Error()
		}
		if l.Epoch() <= now.Epoch {
			return fmt.Sprintf("epoch %d is written", l.Epoch())
		}
		return ""
	})
	c.whole(3)
}

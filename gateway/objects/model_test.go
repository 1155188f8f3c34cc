package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand"
	"sync"
	"sync/atomic"
	"testing"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

// model is what a sequence of operations should have left.
type model struct {
	t       *testing.T
	b       *bench
	rnd     *mathrand.Rand
	stores  []*Store
	objects map[string][]byte
	uploads map[string]map[int][]byte // by key + " " + id
}

// TestRandomOperations does what clients do through two gateways, one after the other, and compares contents, listings and
// the account of stripes with a model.
func TestRandomOperations(t *testing.T) {
	for seed := range int64(6) {
		b, s := one(t, pasttest.Options{})
		b.tables = seed%2 == 0
		m := &model{t, b, mathrand.New(mathrand.NewSource(seed)), []*Store{s, b.store()}, map[string][]byte{}, map[string]map[int][]byte{}}
		for _, s := range m.stores {
			s.rowsMax = 0 // manifests everywhere
		}
		for range 150 {
			m.step()
		}
		m.check()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (m *model) step() {
	m.t.Helper()
	s := m.stores[m.rnd.Intn(len(m.stores))]
	key := fmt.Sprintf("key%d", m.rnd.Intn(3))
	body := data(m.rnd.Int63(), []int{0, 100, past.InlineMax + 1, 50_000}[m.rnd.Intn(4)])
	switch m.rnd.Intn(10) {
	case 0, 1:
		put(m.t, s, key, body)
		m.objects[key] = body
	case 2:
		m.conditionalPut(s, key, body)
	case 3:
		m.b.must(nil, s.Delete(ctx, "bucket", key, nil))
		delete(m.objects, key)
	case 4:
		m.copy(s, key, fmt.Sprintf("key%d", m.rnd.Intn(3)))
	case 5:
		m.uploads[key+" "+createUpload(m.t, s, key)] = map[int][]byte{}
	case 6, 7:
		m.upload(s, body)
	case 8:
		m.complete(s)
	case 9:
		m.check()
	}
}

func (m *model) conditionalPut(s *Store, key string, body []byte) {
	in := input(body)
	in.Check = func(cur *gateway.Object) error {
		if cur == nil || cur.Size == 100 {
			return gateway.ErrPrecondition
		}
		return nil
	}
	_, err := s.Put(ctx, "bucket", key, in)
	if cur, ok := m.objects[key]; ok && len(cur) != 100 {
		m.b.must(nil, err)
		m.objects[key] = body
	} else if !errors.Is(err, gateway.ErrPrecondition) {
		m.t.Errorf("conditional put: %v", err)
	}
}

func (m *model) copy(s *Store, from, to string) {
	src, err := s.Open(ctx, "bucket", from)
	if m.objects[from] == nil {
		if !errors.Is(err, gateway.ErrNoSuchKey) {
			m.t.Errorf("open: %v", err)
		}
		return
	}
	m.b.must(src, err)
	_, err = s.Copy(ctx, src, "bucket", to, gateway.CopyInput{Metadata: &gateway.Metadata{ContentType: "x"}})
	m.b.must(nil, err)
	m.objects[to] = m.objects[from]
}

// any picks one of the uploads.
func (m *model) any() (key, id string, parts map[int][]byte) {
	n := 0
	for name := range m.uploads {
		n++
		if m.rnd.Intn(n) == 0 {
			fmt.Sscan(name, &key, &id)
		}
	}
	return key, id, m.uploads[key+" "+id]
}

func (m *model) upload(s *Store, body []byte) {
	key, id, parts := m.any()
	if id == "" {
		return
	}
	if m.rnd.Intn(6) == 0 {
		m.b.must(nil, s.Abort(ctx, "bucket", key, id))
		delete(m.uploads, key+" "+id)
		return
	}
	number := 1 + m.rnd.Intn(2)
	_, err := s.PutPart(ctx, "bucket", key, id, number, input(body))
	m.b.must(nil, err)
	parts[number] = body
}

// complete makes an object of one part, since parts are small.
func (m *model) complete(s *Store) {
	key, id, parts := m.any()
	body, ok := parts[1]
	if !ok {
		return
	}
	for range 1 + m.rnd.Intn(2) {
		_, err := s.Complete(ctx, "bucket", key, id, named(body))
		m.b.must(nil, err)
	}
	delete(m.uploads, key+" "+id)
	m.objects[key] = body
}

func (m *model) check() {
	m.t.Helper()
	m.b.wantNoWaste(m.stores...)
	for i := range 3 {
		key := fmt.Sprintf("key%d", i)
		wantObject(m.t, m.stores[i%2], key, m.objects[key])
	}
	page, err := m.stores[0].List(ctx, "bucket", gateway.ListQuery{Max: 10})
	if err != nil || len(page.Objects) != len(m.objects) {
		m.t.Errorf("%d objects listed, %v, want %d", len(page.Objects), err, len(m.objects))
	}
	uploads, err := m.stores[1].ListUploads(ctx, "bucket", gateway.UploadQuery{Max: 1000})
	if err != nil || len(uploads.Uploads) != len(m.uploads) {
		m.t.Errorf("%d uploads listed, %v, want %d", len(uploads.Uploads), err, len(m.uploads))
	}
}

// TestConcurrentOperations has clients write, complete and read the same few keys through two gateways at once. Every read gives
// one body whole, and in the end nothing is lost or wasted.
func TestConcurrentOperations(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	b.tables = true
	stores := []*Store{s, b.store()}
	var wg sync.WaitGroup
	var reads atomic.Int64
	for client := range 6 {
		wg.Go(func() {
			rnd := mathrand.New(mathrand.NewSource(int64(client)))
			for range 60 {
				s, key := stores[rnd.Intn(2)], fmt.Sprintf("key%d", rnd.Intn(2))
				if err := concurrentStep(s, key, rnd, &reads); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.wantNoWaste(stores...)
	if reads.Load() == 0 {
		t.Error("nothing was read")
	}
}

func concurrentStep(s *Store, key string, rnd *mathrand.Rand, reads *atomic.Int64) error {
	fill := bytes.Repeat([]byte{byte(rnd.Intn(256))}, 20_000+rnd.Intn(20_000))
	switch rnd.Intn(5) {
	case 0:
		_, err := s.Put(ctx, "bucket", key, input(fill))
		return err
	case 1:
		return s.Delete(ctx, "bucket", key, nil)
	case 2:
		u, err := s.CreateUpload(ctx, "bucket", key, gateway.UploadInput{})
		if err != nil {
			return err
		}
		if _, err := s.PutPart(ctx, "bucket", key, u.ID, 1, input(fill)); err != nil {
			return err
		}
		_, err = s.Complete(ctx, "bucket", key, u.ID, named(fill))
		return err
	case 3:
		src, err := s.Open(ctx, "bucket", key)
		if errors.Is(err, gateway.ErrNoSuchKey) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = s.Copy(ctx, src, "bucket", key, gateway.CopyInput{Metadata: &gateway.Metadata{}})
		return err
	}
	got, _, err := get(s, key)
	if errors.Is(err, gateway.ErrNoSuchKey) {
		return nil
	}
	if err == nil && (len(got) < 20_000 || bytes.Count(got, got[:1]) != len(got)) {
		err = errors.New("a mixture was read")
	}
	reads.Add(1)
	return err
}

// TestMemoryStaysBounded streams 1 GiB in, copies it and reads it, from many clients at once.
func TestMemoryStaysBounded(t *testing.T) {
	b := newBench(t, pasttest.Options{Discard: true})
	s := New(Config{Past: b.past, Sealer: b.sealer, BufferBytes: bufferLeast})
	t.Cleanup(func() { s.Close() })
	b.must(s.CreateBucket(ctx, gateway.Bucket{Name: "bucket"}))
	const clients, size = 8, 128 << 20
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			key := fmt.Sprint(client)
			_, err := s.Put(ctx, "bucket", key, gateway.PutInput{Body: zeros(size), Size: size, Digest: noDigest{}})
			if err != nil {
				t.Error(err)
				return
			}
			o, err := s.Open(ctx, "bucket", key)
			if err != nil {
				t.Error(err)
				return
			}
			var n counter
			if err := o.WriteRange(ctx, &n, 0, size); err != nil || n != size {
				t.Errorf("read %d, %v", n, err)
			}
			if client == 0 {
				if _, err := s.Copy(ctx, o, "bucket", "copy", gateway.CopyInput{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for name, p := range map[string]*pool{"writes": s.writes, "reads": s.reads} {
		if p.used.Load() != 0 || p.usedMax.Load() > p.limit || p.usedMax.Load() < p.limit/4 {
			t.Errorf("%s: %d bytes in use, %d at most, of %d", name, p.used.Load(), p.usedMax.Load(), p.limit)
		}
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// TestWaitingForABufferEndsWithTheContext fills the pool with puts whose clients send nothing.
func TestWaitingForABufferEndsWithTheContext(t *testing.T) {
	b := newBench(t, pasttest.Options{})
	s := New(Config{Past: b.past, Sealer: b.sealer, BufferBytes: bufferLeast})
	t.Cleanup(func() { s.Close() })
	b.must(s.CreateBucket(ctx, gateway.Bucket{Name: "bucket"}))
	stuck := make(chan struct{})
	started := make(chan struct{})
	var wg sync.WaitGroup
	silent := readerFunc(func([]byte) (int, error) { started <- struct{}{}; <-stuck; return 0, errors.New("gone") })
	n := int(s.writes.limit / past.StripeMax)
	for range n {
		wg.Go(func() { s.Put(ctx, "bucket", "key", gateway.PutInput{Body: silent, Size: past.StripeMax}) })
	}
	for range n {
		<-started
	}
	ending, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Put(ending, "bucket", "key", input(data(1, 100))); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	close(stuck)
	wg.Wait()
	put(t, s, "key", data(1, 100))
}

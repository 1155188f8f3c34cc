// Package gatewaytest helps to test both sides of gateway.Backend: Memory is the simplest Backend there can be, and RunBackend
// is the contract that every Backend keeps.
package gatewaytest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"larder/gateway"
)

// Memory keeps everything in maps under one lock. It is for tests and for trying clients by hand.
type Memory struct {
	// Now is the clock of LastModified; NewMemory sets time.Now. Not to be changed once in use.
	Now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket // guarded by mu, and all below it
	uploads int                // started so far
}

type bucket struct {
	info    gateway.Bucket
	objects map[string]*object
	uploads map[string]*upload
}

// object is immutable once it is in a bucket, so that readers need no lock.
type object struct {
	info  gateway.Object
	data  []byte
	parts []gateway.Part // of a multipart object, in order
}

type upload struct {
	gateway.Upload
	seq   int // order of initiation
	parts map[int]*part
	done  *gateway.Object // of a Complete that succeeded
}

type part struct {
	gateway.Part
	data []byte
}

// NewMemory returns an empty Backend.
func NewMemory() *Memory { return &Memory{Now: time.Now, buckets: map[string]*bucket{}} }

var _ gateway.Backend = (*Memory)(nil)

// CreateBucket implements gateway.Backend, as do all methods below.
func (m *Memory) CreateBucket(_ context.Context, b gateway.Bucket) (gateway.Bucket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.buckets[b.Name]; old != nil {
		return old.info, gateway.ErrBucketExists
	}
	m.buckets[b.Name] = &bucket{info: b, objects: map[string]*object{}, uploads: map[string]*upload{}}
	return b, nil
}

func (m *Memory) DeleteBucket(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err != nil {
		return err
	}
	if len(b.objects) > 0 {
		return gateway.ErrBucketNotEmpty
	}
	delete(m.buckets, name)
	return nil
}

func (m *Memory) Bucket(_ context.Context, name string) (gateway.Bucket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err != nil {
		return gateway.Bucket{}, err
	}
	return b.info, nil
}

func (m *Memory) Buckets(context.Context) ([]gateway.Bucket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []gateway.Bucket
	for _, name := range sortedKeys(m.buckets) {
		out = append(out, m.buckets[name].info)
	}
	return out, nil
}

// bucket finds a bucket; mu is held.
func (m *Memory) bucket(name string) (*bucket, error) {
	if b := m.buckets[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("memory: bucket %q: %w", name, gateway.ErrNoSuchBucket)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// readBody reads and digests a body.
func readBody(in gateway.PutInput) ([]byte, gateway.Sums, error) {
	data, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, gateway.Sums{}, fmt.Errorf("memory: read body: %w", err)
	}
	if in.Size >= 0 && int64(len(data)) != in.Size {
		return nil, gateway.Sums{}, fmt.Errorf("memory: body has %d bytes, not %d", len(data), in.Size)
	}
	in.Digest.Write(data)
	sums, err := in.Digest.Finish()
	return data, sums, err
}

func (m *Memory) Put(_ context.Context, bucketName, key string, in gateway.PutInput) (gateway.Object, error) {
	data, sums, err := readBody(in)
	if err != nil {
		return gateway.Object{}, err
	}
	return m.store(bucketName, in.Check, &object{data: data, info: gateway.Object{Key: key, Size: int64(len(data)), ETag: sums.ETag,
		Metadata: in.Metadata, Checksums: sums.Checksums, Owner: in.Owner}})
}

// store puts o in its place, if check lets it.
func (m *Memory) store(bucketName string, check gateway.Check, o *object) (gateway.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(bucketName)
	if err != nil {
		return gateway.Object{}, err
	}
	return m.storeLocked(b, check, o)
}

func (m *Memory) storeLocked(b *bucket, check gateway.Check, o *object) (gateway.Object, error) {
	if err := b.check(o.info.Key, check); err != nil {
		return gateway.Object{}, err
	}
	o.info.Modified = m.Now()
	b.objects[o.info.Key] = o
	return o.info, nil
}

// check evaluates a Check on what is under key.
func (b *bucket) check(key string, check gateway.Check) error {
	if check == nil {
		return nil
	}
	var cur *gateway.Object
	if o := b.objects[key]; o != nil {
		info := o.info
		cur = &info
	}
	if err := check(cur); err != nil {
		return fmt.Errorf("memory: check: %w", err)
	}
	return nil
}

func (m *Memory) Open(_ context.Context, bucketName, key string) (gateway.OpenObject, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(bucketName)
	if err != nil {
		return nil, err
	}
	o := b.objects[key]
	if o == nil {
		return nil, fmt.Errorf("memory: object %q: %w", key, gateway.ErrNoSuchKey)
	}
	return opened{o}, nil
}

// opened is an object being read.
type opened struct{ *object }

func (o opened) Info() gateway.Object { return o.info }

func (o opened) Part(number int) (gateway.Part, int64, bool) {
	if number < 1 || number > len(o.parts) {
		return gateway.Part{}, 0, false
	}
	var off int64
	for _, p := range o.parts[:number-1] {
		off += p.Size
	}
	return o.parts[number-1], off, true
}

func (o opened) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if off < 0 || n < 0 || off+n > int64(len(o.data)) {
		return fmt.Errorf("memory: range %d+%d outside of %d bytes", off, n, len(o.data))
	}
	data := o.data[off : off+n]
	for len(data) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := min(len(data), 64<<10)
		if _, err := w.Write(data[:c]); err != nil {
			return err
		}
		data = data[c:]
	}
	return nil
}

func (o opened) Close() error { return nil }

func (m *Memory) Delete(_ context.Context, bucketName, key string, check gateway.Check) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(bucketName)
	if err != nil {
		return err
	}
	if err := b.check(key, check); err != nil {
		return err
	}
	delete(b.objects, key)
	return nil
}

func (m *Memory) Copy(_ context.Context, src gateway.OpenObject, bucketName, key string, in gateway.CopyInput) (gateway.Object, error) {
	from := src.(opened).object
	o := &object{info: from.info, data: from.data, parts: from.parts}
	o.info.Key, o.info.Owner = key, in.Owner
	if in.Metadata != nil {
		o.info.Metadata = *in.Metadata
	}
	if in.Digest != nil {
		in.Digest.Write(from.data)
		sums, err := in.Digest.Finish()
		if err != nil {
			return gateway.Object{}, err
		}
		o.info.Checksums = sums.Checksums
	}
	return m.store(bucketName, in.Check, o)
}

func (m *Memory) List(_ context.Context, bucketName string, q gateway.ListQuery) (gateway.ListPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(bucketName)
	if err != nil || q.Max <= 0 {
		return gateway.ListPage{}, err
	}
	var page gateway.ListPage
	for _, key := range sortedKeys(b.objects) {
		entry, isPrefix, ok := group(key, q.Prefix, q.Delimiter)
		if !ok || entry <= q.After || isPrefix && entry == page.Next {
			continue
		}
		if len(page.Objects)+len(page.CommonPrefixes) == q.Max {
			page.Truncated = true
			return page, nil
		}
		if isPrefix {
			page.CommonPrefixes = append(page.CommonPrefixes, entry)
		} else {
			page.Objects = append(page.Objects, b.objects[key].info)
		}
		page.Next = entry
	}
	return page, nil
}

// group returns what stands for key in a listing: itself, or the common prefix that it belongs to.
func group(key, prefix, delimiter string) (entry string, isPrefix, ok bool) {
	if !strings.HasPrefix(key, prefix) {
		return "", false, false
	}
	if delimiter != "" {
		if i := strings.Index(key[len(prefix):], delimiter); i >= 0 {
			return key[:len(prefix)+i+len(delimiter)], true, true
		}
	}
	return key, false, true
}

func newUploadID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func (m *Memory) CreateUpload(_ context.Context, bucketName, key string, in gateway.UploadInput) (gateway.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(bucketName)
	if err != nil {
		return gateway.Upload{}, err
	}
	m.uploads++
	u := &upload{Upload: gateway.Upload{Key: key, ID: newUploadID(), Initiated: m.Now(), UploadInput: in}, seq: m.uploads, parts: map[int]*part{}}
	b.uploads[u.ID] = u
	return u.Upload, nil
}

// upload finds an upload; mu is held. A completed one is found only if done is set.
func (m *Memory) upload(bucketName, key, id string, done bool) (*bucket, *upload, error) {
	b, err := m.bucket(bucketName)
	if err != nil {
		return nil, nil, err
	}
	u := b.uploads[id]
	if u == nil || u.Key != key || u.done != nil && !done {
		return nil, nil, fmt.Errorf("memory: upload %q: %w", id, gateway.ErrNoSuchUpload)
	}
	return b, u, nil
}

func (m *Memory) Upload(_ context.Context, bucketName, key, id string) (gateway.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, u, err := m.upload(bucketName, key, id, false)
	if err != nil {
		return gateway.Upload{}, err
	}
	return u.Upload, nil
}

func (m *Memory) PutPart(_ context.Context, bucketName, key, id string, number int, in gateway.PutInput) (gateway.Part, error) {
	data, sums, err := readBody(in)
	if err != nil {
		return gateway.Part{}, err
	}
	return m.storePart(bucketName, key, id, data, gateway.Part{Number: number, Size: int64(len(data)), ETag: sums.ETag, Checksums: sums.Checksums})
}

func (m *Memory) storePart(bucketName, key, id string, data []byte, p gateway.Part) (gateway.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, u, err := m.upload(bucketName, key, id, false)
	if err != nil {
		return gateway.Part{}, err
	}
	p.Modified = m.Now()
	u.parts[p.Number] = &part{p, data}
	return p, nil
}

func (m *Memory) CopyPart(ctx context.Context, src gateway.OpenObject, off, n int64, bucketName, key, id string, number int) (gateway.Part, error) {
	u, err := m.Upload(ctx, bucketName, key, id)
	if err != nil {
		return gateway.Part{}, err
	}
	data := src.(opened).data[off : off+n]
	sums := sumsOf(data, u.ChecksumAlgorithm)
	return m.storePart(bucketName, key, id, data, gateway.Part{Number: number, Size: n, ETag: sums.ETag, Checksums: sums.Checksums})
}

func (m *Memory) Complete(_ context.Context, bucketName, key, id string, in gateway.CompleteInput) (gateway.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, u, err := m.upload(bucketName, key, id, true)
	if err != nil {
		return gateway.Object{}, err
	}
	if u.done != nil {
		return *u.done, nil
	}
	a, err := gateway.Assemble(u.Upload, func(n int) (gateway.Part, bool) {
		p := u.parts[n]
		if p == nil {
			return gateway.Part{}, false
		}
		return p.Part, true
	}, in)
	if err != nil {
		return gateway.Object{}, err
	}
	o := &object{info: gateway.Object{Key: key, Size: a.Size, ETag: a.Sums.ETag, Metadata: u.Metadata, Checksums: a.Sums.Checksums,
		PartsCount: len(a.Parts), Owner: u.Owner}}
	for i, p := range a.Parts {
		o.data = append(o.data, u.parts[p.Number].data...)
		p.Number = i + 1
		o.parts = append(o.parts, p)
	}
	info, err := m.storeLocked(b, in.Check, o)
	if err == nil {
		u.done, u.parts = &info, nil
	}
	return info, err
}

func (m *Memory) Abort(_ context.Context, bucketName, key, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, u, err := m.upload(bucketName, key, id, false)
	if err != nil {
		return err
	}
	delete(b.uploads, u.ID)
	return nil
}

func (m *Memory) ListParts(_ context.Context, bucketName, key, id string, after, limit int) ([]gateway.Part, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, u, err := m.upload(bucketName, key, id, false)
	if err != nil {
		return nil, false, err
	}
	var numbers []int
	for n := range u.parts {
		if n > after {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var out []gateway.Part
	for _, n := range numbers[:min(limit, len(numbers))] {
		out = append(out, u.parts[n].Part)
	}
	return out, len(numbers) > limit, nil
}

func (m *Memory) ListUploads(_ context.Context, bucketName string, q gateway.UploadQuery) (gateway.UploadPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.bucket(bucketName)
	if err != nil || q.Max <= 0 {
		return gateway.UploadPage{}, err
	}
	var all []*upload
	for _, u := range b.uploads {
		if u.done == nil {
			all = append(all, u)
		}
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].Key != all[j].Key {
			return all[i].Key < all[j].Key
		}
		return all[i].seq < all[j].seq
	})
	after := -1 // seq of UploadIDAfter
	if u := b.uploads[q.UploadIDAfter]; u != nil {
		after = u.seq
	}
	var page gateway.UploadPage
	for _, u := range all {
		entry, isPrefix, ok := group(u.Key, q.Prefix, q.Delimiter)
		same := entry == q.KeyMarker && !isPrefix && q.UploadIDAfter != "" && u.seq > after
		if !ok || entry <= q.KeyMarker && !same || isPrefix && entry == page.NextKey {
			continue
		}
		if len(page.Uploads)+len(page.CommonPrefixes) == q.Max {
			page.Truncated = true
			return page, nil
		}
		page.NextKey, page.NextUpload = entry, ""
		if isPrefix {
			page.CommonPrefixes = append(page.CommonPrefixes, entry)
		} else {
			page.Uploads = append(page.Uploads, u.Upload)
			page.NextUpload = u.ID
		}
	}
	return page, nil
}

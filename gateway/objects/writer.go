package objects

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"larder/gateway"
	"larder/gateway/checksum"
	"larder/past"
	"larder/past/stripe"

	"golang.org/x/sync/errgroup"
)

// stored is one body that is durable: where it lies, and its sealed bytes if they are to be in the record.
type stored struct {
	body   body
	inline []byte
	sums   gateway.Sums
}

// target says what a body is stored for.
type target struct {
	bucket   *bucket
	key      string // object key
	uploadID string // "" for an object put whole
	inline   bool   // the body may lie in the record if it is small
}

// store reads in.Body to its end and keeps it under a new dataID. Digest gets the bytes on a goroutine of its own, since MD5 takes as
// long as all the rest. At most s.inFlight stripes and the one being read are in memory. Where it fails, for whatever reason, it
// leaves nothing behind.
func (s *Store) store(ctx context.Context, t target, in gateway.PutInput) (*stored, error) {
	w := s.newWriter(ctx, t, in.Digest)
	err := w.readAll(in.Body, in.Size)
	if finished := w.finish(err); finished != nil {
		s.past.Reclaim(w.refs()...)
		return nil, finished
	}
	return &w.out, nil
}

// chunk is the first n bytes of a buffer.
type chunk struct {
	buf *buffer
	n   int
}

// writer cuts one body into stripes. It belongs to one goroutine.
type writer struct {
	s      *Store
	ctx    context.Context
	target target
	claim  past.Claim
	key    *stripe.Key
	out    stored

	digest  gateway.Digest
	feed    chan chunk // to digestLoop, which drops each; closed by finish. Capacity inFlight; the reader waits when it is full
	fed     chan error // digestLoop's result; capacity 1
	inserts *errgroup.Group
	insert  context.Context // ends with the first failed insert

	mu   sync.Mutex
	rows []past.StripeRef // those inserted, by stripe number; zero while under way
}

func (s *Store) newWriter(ctx context.Context, t target, digest gateway.Digest) *writer {
	if digest == nil {
		digest = newMD5(-1)
	}
	w := &writer{s: s, ctx: ctx, target: t, digest: digest}
	w.out.body.Data, w.out.body.Secret = random16(), random32()
	w.key = w.out.body.key()
	w.claim = s.claim(t, w.out.body.Data)
	w.inserts, w.insert = errgroup.WithContext(ctx)
	w.inserts.SetLimit(s.inFlight)
	return w
}

var errTooLong = errors.New("objects: body is longer than its size")

// readAll cuts what r yields. size is -1 if it is not known. r is read until io.EOF, since its last Read may be what refuses it.
func (w *writer) readAll(r io.Reader, size int64) error {
	var probe [1]byte
	carried := 0 // bytes of probe that begin the next stripe
	for {
		want := past.StripeMax
		if size >= 0 {
			want = int(min(past.StripeMax, max(0, size-w.out.body.Length)))
		}
		buf, err := w.s.writes.get(w.insert, want)
		if err != nil {
			return err
		}
		n := copy(buf.b[:want], probe[:carried])
		read, err := io.ReadFull(r, buf.b[n:want])
		n += read
		carried = 0
		switch {
		case err == nil && w.out.body.Length+int64(n) < size:
		case err == nil:
			if carried, err = io.ReadFull(r, probe[:]); err == nil && size >= 0 {
				err = errTooLong
			}
		case size >= 0 && (err == io.EOF || err == io.ErrUnexpectedEOF):
			err = io.ErrUnexpectedEOF
		case err == io.ErrUnexpectedEOF:
			err = io.EOF
		}
		if err != nil && err != io.EOF {
			buf.drop()
			return err
		}
		if done, putErr := w.put(buf, n, err == io.EOF); putErr != nil || done {
			return putErr
		}
	}
}

// put takes over buf with the body's next n bytes.
func (w *writer) put(buf *buffer, n int, last bool) (done bool, err error) {
	first := w.out.body.Length == 0
	w.out.body.Length += int64(n)
	if first && last && (n == 0 || w.target.inline && n <= past.InlineMax) {
		defer buf.drop()
		w.out.body.Inline = true
		if n > 0 {
			w.out.inline = w.key.Seal(nil, 0, buf.b[:n])
		}
		_, err = w.digest.Write(buf.b[:n])
		return true, err
	}
	if n == 0 {
		buf.drop()
		return true, nil
	}
	w.insertStripe(buf, n)
	return last, w.insert.Err()
}

// insertStripe begins to insert one stripe, and to digest it. It waits while s.inFlight are under way.
func (w *writer) insertStripe(buf *buffer, n int) {
	if w.feed == nil {
		w.feed, w.fed = make(chan chunk, w.s.inFlight), make(chan error, 1)
		go w.digestLoop() // awaited by finish
	}
	w.mu.Lock()
	index := len(w.rows)
	w.rows = append(w.rows, past.StripeRef{})
	w.mu.Unlock()
	buf.holders.Add(1)
	w.feed <- chunk{buf, n}
	w.inserts.Go(func() error {
		defer buf.drop()
		ref, err := w.s.past.Insert(w.insert, w.key, uint64(index), buf.b[:n], w.claim)
		if err != nil {
			return fmt.Errorf("objects: insert stripe %d: %w", index, err)
		}
		w.mu.Lock()
		w.rows[index] = ref
		w.mu.Unlock()
		return nil
	})
}

// digestLoop feeds the digest until feed is closed, and leaves its first error in fed.
func (w *writer) digestLoop() {
	var failed error
	for c := range w.feed {
		if failed == nil {
			_, failed = w.digest.Write(c.buf.b[:c.n])
		}
		c.buf.drop()
	}
	w.fed <- failed
}

// finish waits for what is under way, has the digest judge the body, and lists the stripes. err is why the body ended early.
func (w *writer) finish(err error) error {
	var digestErr error
	if w.feed != nil {
		close(w.feed)
		digestErr = <-w.fed
	}
	if insertErr := w.inserts.Wait(); insertErr != nil && w.ctx.Err() == nil {
		return insertErr // err, if any, follows from it
	}
	if err == nil {
		err = digestErr
	}
	if err == nil {
		err = w.ctx.Err()
	}
	if err == nil {
		w.out.sums, err = w.digest.Finish()
	}
	if err != nil {
		return err
	}
	return w.list()
}

// list writes the rows of the stripes into the body, or into a manifest where they are many.
func (w *writer) list() error {
	b := &w.out.body
	rows := make([]byte, 0, len(w.rows)*rowBytes)
	for _, ref := range w.rows {
		rows = appendRow(rows, ref)
	}
	if len(w.rows) <= w.s.rowsMax {
		b.Rows = rows
		return nil
	}
	if len(w.rows) > manifestMax*manifestRows {
		return fmt.Errorf("objects: body of %d bytes is too long", b.Length)
	}
	b.Manifest = true
	for m := int64(0); len(rows) > 0; m++ {
		n := b.manifestLen(m)
		ref, err := w.s.past.Insert(w.ctx, w.key, manifestBase+uint64(m), rows[:n], w.claim)
		if err != nil {
			return fmt.Errorf("objects: insert manifest: %w", err)
		}
		w.rows = append(w.rows, ref)
		b.Rows = appendRow(b.Rows, ref)
		rows = rows[n:]
	}
	return nil
}

// refs are the stripes inserted so far.
func (w *writer) refs() []past.StripeRef {
	var refs []past.StripeRef
	for _, ref := range w.rows {
		if ref.Length > 0 {
			refs = append(refs, ref)
		}
	}
	return refs
}

// claim says what a stripe is for. Its sealed key is the object key's length (2 bytes), the object key and the upload's id.
func (s *Store) claim(t target, data past.DataID) past.Claim {
	plain := binary.BigEndian.AppendUint16(nil, uint16(len(t.key)))
	plain = append(append(plain, t.key...), t.uploadID...)
	return past.Claim{Bucket: t.bucket.id, Data: data, SealedKey: s.sealer.Seal(plain, claimAD(t.bucket.id, data))}
}

func claimAD(bucket past.BucketID, data past.DataID) []byte {
	return append(append([]byte("claim"), bucket[:]...), data[:]...)
}

func random32() (secret [32]byte) {
	a, b := random16(), random16()
	copy(secret[:16], a[:])
	copy(secret[16:], b[:])
	return secret
}

// md5Digest is the digest of bodies for which the front has none: copies.
type md5Digest struct{ *checksum.MD5 }

// newMD5 begins a body of size bytes, -1 if that is not known. If it is, the caller closes it.
func newMD5(size int64) md5Digest { return md5Digest{checksum.NewMD5(size)} }

func (d md5Digest) Finish() (gateway.Sums, error) {
	return gateway.Sums{ETag: hex.EncodeToString(d.Sum(nil))}, nil
}

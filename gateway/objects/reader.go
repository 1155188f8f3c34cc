package objects

import (
	"context"
	"fmt"
	"io"
	"sort"

	"larder/past"
	"larder/past/stripe"
)

// pieceMax is the largest piece of a stripe that a read asks for at once: several small ones fill a pipe as well as one large,
// and the first byte comes sooner. A multiple of stripe.SegmentPlain that divides past.StripeMax.
const pieceMax = 1 << 20

// pieces walks a range of bodies, piece by piece. It belongs to one goroutine.
type pieces struct {
	s     *Store
	parts []part // in order; those of an object put whole are one
	ends  []int64
	at    int64 // offset of the next piece in the whole
	end   int64

	current int         // part that key and rows belong to; -1 before the first
	key     *stripe.Key // of parts[current]
	rows    []byte      // rows from number first of parts[current]
	first   int64
}

// piece is a range of one stripe.
type piece struct {
	key   *stripe.Key
	index uint64
	ref   past.StripeRef
	off   int // within the stripe
	n     int // bytes
}

// rowsAhead is how many rows of a manifest are read at once: 34 KiB, for 4 GiB of bytes.
const rowsAhead = 1024

func (s *Store) pieces(parts []part, off, n int64) *pieces {
	p := &pieces{s: s, parts: parts, ends: make([]int64, len(parts)), at: off, end: off + n, current: -1}
	var sum int64
	for i := range parts {
		sum += parts[i].Body.Length
		p.ends[i] = sum
	}
	return p
}

// next returns the next piece of at most max bytes, ok is false at the end.
func (p *pieces) next(ctx context.Context, max int) (out piece, ok bool, err error) {
	if p.at >= p.end {
		return out, false, nil
	}
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > p.at })
	if i == len(p.ends) {
		return out, false, io.ErrUnexpectedEOF
	}
	b := &p.parts[i].Body
	if i != p.current {
		p.current, p.key, p.rows, p.first = i, b.key(), nil, 0
	}
	inBody := p.at - (p.ends[i] - b.Length)
	number := inBody / past.StripeMax
	length := b.stripeLen(number)
	if out.ref, err = p.row(ctx, b, number, length); err != nil {
		return out, false, err
	}
	out.key, out.index = p.key, uint64(number)
	out.off = int(inBody % past.StripeMax)
	// Up to the next multiple of max, so that pieces end where segments do.
	out.n = min(max-out.off%max, length-out.off)
	out.n = int(min(int64(out.n), p.end-p.at))
	p.at += int64(out.n)
	return out, true, nil
}

// row finds the row of a stripe, in the record or in the manifest.
func (p *pieces) row(ctx context.Context, b *body, number int64, length int) (past.StripeRef, error) {
	if !b.Manifest {
		return row(b.Rows[number*rowBytes:], length)
	}
	if have := int64(len(p.rows)) / rowBytes; number < p.first || number >= p.first+have {
		if err := p.loadRows(ctx, b, number); err != nil {
			return past.StripeRef{}, err
		}
	}
	return row(p.rows[(number-p.first)*rowBytes:], length)
}

// loadRows reads the rows from number on, as far as they lie in one stripe of the manifest.
func (p *pieces) loadRows(ctx context.Context, b *body, number int64) error {
	m, at := number/manifestRows, int(number%manifestRows)*rowBytes
	ref, err := row(b.Rows[m*rowBytes:], b.manifestLen(m))
	if err != nil {
		return err
	}
	p.rows, p.first = make([]byte, min(rowsAhead*rowBytes, ref.Length-at)), number
	if err := p.s.past.Lookup(ctx, p.key, manifestBase+uint64(m), ref, p.rows, at); err != nil {
		p.rows = nil
		return fmt.Errorf("objects: manifest: %w", err)
	}
	return nil
}

// fetch is a piece under way.
type fetch struct {
	piece piece
	buf   *buffer
	done  chan error // capacity 1
}

// copyRange writes the bytes that walk yields to w, in order, looking up to s.inFlight+1 pieces ahead while there are buffers
// to spare. Every byte was verified. What it started has ended when it returns.
func (s *Store) copyRange(ctx context.Context, w io.Writer, walk *pieces) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var ahead []*fetch
	defer func() {
		cancel()
		for _, f := range ahead {
			<-f.done
			f.buf.drop()
		}
	}()
	for more := true; ; {
		for more && len(ahead) <= s.inFlight {
			f, err := s.begin(ctx, walk, len(ahead) == 0)
			if err != nil {
				return err
			}
			if f == nil {
				more = walk.at < walk.end
				break
			}
			ahead = append(ahead, f)
		}
		if len(ahead) == 0 {
			return nil
		}
		f := ahead[0]
		ahead = ahead[1:]
		err := <-f.done
		if err == nil {
			_, err = w.Write(f.buf.b[:f.piece.n])
		}
		f.buf.drop()
		if err != nil {
			return err
		}
	}
}

// begin starts the lookup of the next piece; nil if there is none, or, unless must is set, no buffer to spare.
func (s *Store) begin(ctx context.Context, walk *pieces, must bool) (*fetch, error) {
	left := walk.end - walk.at
	if left <= 0 {
		return nil, nil
	}
	n := int(min(left, pieceMax))
	buf := s.reads.tryGet(n)
	if buf == nil && !must {
		return nil, nil
	}
	if buf == nil {
		var err error
		if buf, err = s.reads.get(ctx, n); err != nil {
			return nil, err
		}
	}
	p, ok, err := walk.next(ctx, pieceMax)
	if err != nil || !ok {
		buf.drop()
		return nil, err
	}
	f := &fetch{piece: p, buf: buf, done: make(chan error, 1)}
	go func() { // awaited by copyRange through done
		err := s.past.Lookup(ctx, p.key, p.index, p.ref, buf.b[:p.n], p.off)
		if err != nil {
			err = fmt.Errorf("objects: stripe %d: %w", p.index, err)
		}
		f.done <- err
	}()
	return f, nil
}

// readerFunc is an io.Reader.
type readerFunc func(dst []byte) (int, error)

func (f readerFunc) Read(dst []byte) (int, error) { return f(dst) }

// reader reads what walk yields straight into the buffers of whoever stores it again: it holds none of its own, so that copies
// cannot wait for each other.
func (s *Store) reader(ctx context.Context, walk *pieces) io.Reader {
	return readerFunc(func(dst []byte) (int, error) {
		if len(dst) == 0 {
			return 0, nil
		}
		p, ok, err := walk.next(ctx, past.StripeMax)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, io.EOF
		}
		if p.n > len(dst) {
			walk.at -= int64(p.n - len(dst))
			p.n = len(dst)
		}
		if err := s.past.Lookup(ctx, p.key, p.index, p.ref, dst[:p.n], p.off); err != nil {
			return 0, fmt.Errorf("objects: stripe %d: %w", p.index, err)
		}
		return p.n, nil
	})
}

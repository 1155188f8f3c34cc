package diskstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// scanned is one record that scanSegment found.
type scanned struct {
	recordHeader
	off     int64
	corrupt bool // the header is good, the body was durable, and its checksum is wrong
}

// scanResult is what a scan found out about a segment's tail and its damage.
type scanResult struct {
	end     int64 // where the last good record ends; segmentDataStart where there is none
	clean   bool  // nothing but whole records lies between the start and the end of the file
	corrupt int64 // places that were durable and hold no good record
}

// scanSegment calls f, in order of offset, for each record of the segment in r at or after from, which is the start of a
// record. size is the file's length. Keys are valid only during the call.
//
// Bodies are read and checked only where that decides something: verifyAll is set, or no later record vouches that they
// were durable. A record whose body is bad is passed to f as corrupt if it was durable once, and is otherwise what a power
// cut left of a write that nobody was told of: dropped. The same question, asked of a place with no good header, tells
// damage from a hole (design.md §6; Pebble's WAL sync chunks rest on the same idea).
func scanSegment(r io.ReaderAt, seed uint64, from, size int64, verifyAll bool, f func(scanned) error) (scanResult, error) {
	s := scanner{r: r, seed: seed, size: size}
	recs, gaps, err := s.headers(from)
	if err != nil {
		return scanResult{}, err
	}
	res := scanResult{end: from, clean: len(gaps) == 0}
	var durable int64
	for _, rec := range recs {
		durable = max(durable, rec.Durable)
	}
	for _, off := range gaps {
		if off < durable {
			res.corrupt++
		}
	}
	for _, rec := range recs {
		end := rec.off + rec.len()
		vouched := end <= durable
		if verifyAll || !vouched {
			good, err := s.bodyGood(&rec)
			if err != nil {
				return scanResult{}, err
			}
			if !good && !vouched {
				res.clean = false
				continue
			}
			rec.corrupt = !good
		}
		if rec.corrupt {
			res.corrupt++
		}
		res.end = end
		if err := f(rec); err != nil {
			return scanResult{}, err
		}
	}
	return res, nil
}

// scanner reads a segment through one buffer.
type scanner struct {
	r    io.ReaderAt
	seed uint64
	size int64
	buf  []byte
	at   int64 // offset of buf[0]
}

// scanWindow is how much of a segment is read at a time while looking for headers, in bytes.
const scanWindow = 64 << 10

// window returns at least n bytes at off, fewer only at the end of the file. They are valid until the next call.
func (s *scanner) window(off int64, n int) ([]byte, error) {
	if off < s.at || off+int64(n) > s.at+int64(len(s.buf)) {
		if s.buf == nil {
			s.buf = make([]byte, scanWindow)
		}
		s.buf = s.buf[:cap(s.buf)]
		m, err := s.r.ReadAt(s.buf[:min(int64(len(s.buf)), max(0, s.size-off))], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read at %d: %w", off, err)
		}
		s.buf, s.at = s.buf[:m], off
	}
	return s.buf[off-s.at:], nil
}

// headers returns the records from offset from on, and the offsets at which good headers were expected and missing.
func (s *scanner) headers(from int64) (recs []scanned, gaps []int64, err error) {
	inGap := false
	for off := from; off < s.size; {
		b, err := s.window(off, recordHeaderSize+blockstore.KeyMax)
		if err != nil {
			return nil, nil, err
		}
		h, ok := decodeRecordHeader(b, s.seed, off)
		if !ok {
			if !inGap {
				inGap = true
				gaps = append(gaps, off)
			}
			off += s.skip(b)
			continue
		}
		inGap = false
		h.Key = append([]byte(nil), h.Key...)
		recs = append(recs, scanned{recordHeader: h, off: off})
		off += h.len()
	}
	return recs, gaps, nil
}

// skip returns how far ahead in b, in multiples of recordAlign, the next magic is.
func (s *scanner) skip(b []byte) int64 {
	i := recordAlign
	for ; i+4 <= len(b); i += recordAlign {
		if binary.LittleEndian.Uint32(b[i:]) == recordMagic {
			break
		}
	}
	return int64(i)
}

// bodyGood reads the body of rec and says whether it has its checksum.
func (s *scanner) bodyGood(rec *scanned) (bool, error) {
	off := bodyOffset(len(rec.Key), rec.off)
	if off+rec.Size > s.size {
		return false, nil
	}
	h := xxh3.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(s.r, off, rec.Size)}, make([]byte, scanWindow)); err != nil {
		return false, fmt.Errorf("read body at %d: %w", off, err)
	}
	return h.Sum64() == rec.BodySum, nil
}

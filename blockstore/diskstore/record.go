package diskstore

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"larder/blockstore"
)

// Sizes of what a segment file consists of, in bytes. docs/notes/blockstore.md draws the frames.
const (
	segmentVersion    = 1
	segmentHeaderSize = 64                    // one copy; a segment begins with two
	segmentDataStart  = 2 * segmentHeaderSize // offset of the first record

	recordVersion    = 1
	recordHeaderSize = 48
	recordAlign      = 64 // records start at multiples of it, so that a search for the next one is cheap
)

const (
	segmentMagic = "LRDRSEG\n"
	recordMagic  = 0x4752464c // "LFRG"
)

// segmentHeader is the head of a segment file: {magic [8]byte, version u32, zero u32, id u64, seed u64, created i64 ns,
// zero [16]byte, xxh3 u64}, little-endian.
type segmentHeader struct {
	ID      uint64
	Seed    uint64 // random; keys the checksums of record headers
	Created int64  // wall time, ns since 1970
}

// appendTo appends both copies of the header to dst.
func (h segmentHeader) appendTo(dst []byte) []byte {
	var b [segmentHeaderSize]byte
	copy(b[:], segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], segmentVersion)
	binary.LittleEndian.PutUint64(b[16:], h.ID)
	binary.LittleEndian.PutUint64(b[24:], h.Seed)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Created))
	binary.LittleEndian.PutUint64(b[56:], xxh3.Hash(b[:56]))
	return append(append(dst, b[:]...), b[:]...)
}

// decodeSegmentHeader reads the first good copy in b. It returns an error wrapping blockstore.ErrFormat for a segment of a
// newer release and blockstore.ErrCorrupt where neither copy is good.
func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	for ; len(b) >= segmentHeaderSize; b = b[segmentHeaderSize:] {
		c := b[:segmentHeaderSize]
		if string(c[:8]) != segmentMagic || binary.LittleEndian.Uint64(c[56:]) != xxh3.Hash(c[:56]) {
			if len(b) < 2*segmentHeaderSize {
				break
			}
			continue
		}
		if v := binary.LittleEndian.Uint32(c[8:]); v != segmentVersion {
			return segmentHeader{}, fmt.Errorf("segment has format %d, this release knows %d: %w", v, segmentVersion, blockstore.ErrFormat)
		}
		return segmentHeader{
			ID:      binary.LittleEndian.Uint64(c[16:]),
			Seed:    binary.LittleEndian.Uint64(c[24:]),
			Created: int64(binary.LittleEndian.Uint64(c[32:])),
		}, nil
	}
	return segmentHeader{}, fmt.Errorf("segment header: %w", blockstore.ErrCorrupt)
}

// recordHeader is the head of a record: {magic u32, version u8, keyLen u8, zero u16, size u32, zero u32, stored i64 ns,
// durable u64, bodySum u64, headSum u64}, little-endian; then the key and the body follow, padded to recordAlign.
//
// headSum is xxh3 over the fields before it, the key and the record's offset, seeded with the segment's seed. A peer
// chooses the bytes of a body but does not know the seed, so a body cannot pose as a record, and a record that was
// written to the wrong place is not taken for the right one.
type recordHeader struct {
	Key     []byte
	Size    int64  // bytes of the body
	Stored  int64  // wall time, ns since 1970
	Durable int64  // all records of this segment below this offset were durable when this one was written
	BodySum uint64 // xxh3 of the body
}

// recordSize returns how many bytes of a segment a record takes, padding included.
func recordSize(keyLen int, size int64) int64 {
	return (recordHeaderSize + int64(keyLen) + size + recordAlign - 1) &^ (recordAlign - 1)
}

// len returns recordSize of h.
func (h *recordHeader) len() int64 { return recordSize(len(h.Key), h.Size) }

// bodyOffset is where the body of the record at off begins.
func bodyOffset(keyLen int, off int64) int64 { return off + recordHeaderSize + int64(keyLen) }

// appendTo appends the encoded header and the key to dst. off is where the record will stand in its segment.
func (h *recordHeader) appendTo(dst []byte, seed uint64, off int64) []byte {
	var b [recordHeaderSize]byte
	binary.LittleEndian.PutUint32(b[0:], recordMagic)
	b[4], b[5] = recordVersion, byte(len(h.Key))
	binary.LittleEndian.PutUint32(b[8:], uint32(h.Size))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.Stored))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.Durable))
	binary.LittleEndian.PutUint64(b[32:], h.BodySum)
	binary.LittleEndian.PutUint64(b[40:], headSum(b[:40], h.Key, seed, off))
	return append(append(dst, b[:]...), h.Key...)
}

// decodeRecordHeader reads the header at the start of b, which stands at off in its segment. The key aliases b. ok is
// false where there is none: too few bytes, another magic or version, or a wrong checksum.
func decodeRecordHeader(b []byte, seed uint64, off int64) (h recordHeader, ok bool) {
	if len(b) < recordHeaderSize || binary.LittleEndian.Uint32(b) != recordMagic || b[4] != recordVersion {
		return h, false
	}
	keyLen := int(b[5])
	if keyLen == 0 || keyLen > blockstore.KeyMax || len(b) < recordHeaderSize+keyLen {
		return h, false
	}
	h = recordHeader{
		Key:     b[recordHeaderSize : recordHeaderSize+keyLen : recordHeaderSize+keyLen],
		Size:    int64(binary.LittleEndian.Uint32(b[8:])),
		Stored:  int64(binary.LittleEndian.Uint64(b[16:])),
		Durable: int64(binary.LittleEndian.Uint64(b[24:])),
		BodySum: binary.LittleEndian.Uint64(b[32:]),
	}
	if h.Size > blockstore.FragmentMax || h.Durable < 0 || h.Durable > off {
		return recordHeader{}, false
	}
	return h, binary.LittleEndian.Uint64(b[40:]) == headSum(b[:40], h.Key, seed, off)
}

func headSum(fields, key []byte, seed uint64, off int64) uint64 {
	var b [40 + blockstore.KeyMax + 8]byte
	n := copy(b[:], fields)
	n += copy(b[n:], key)
	binary.LittleEndian.PutUint64(b[n:], uint64(off))
	return xxh3.HashSeed(b[:n+8], seed)
}

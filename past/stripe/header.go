package stripe

import (
	"encoding/binary"
	"fmt"

	"larder/past"

	"github.com/zeebo/blake3"
)

const (
	format1     = 1
	fixedBytes  = 1 + 1 + 1 + 4 // format, d, p, length
	hashBytes   = 32
	headerLabel = "larder 2026 stripe header v1"
	// HeaderMax is the largest header, in bytes.
	HeaderMax = fixedBytes + past.FragmentsMax*hashBytes
)

// Hash is the BLAKE3-256 of a fragment's bytes.
type Hash [hashBytes]byte

// Header names a stripe's fragments; its hash is the stripe's id.
type Header struct {
	Redundancy past.Redundancy
	Length     int    // sealed bytes, at most SealedMax; PlainLen of it is valid
	Hashes     []Hash // of fragments 0 … d+p-1
}

// HeaderLen is the length of a header for r, in bytes.
func HeaderLen(r past.Redundancy) int { return fixedBytes + r.Total()*hashBytes }

// Append appends the canonical bytes of h to dst: format, d, p (1 byte each), length (4), hashes (32 each).
func (h *Header) Append(dst []byte) []byte {
	dst = append(dst, format1, byte(h.Redundancy.Data), byte(h.Redundancy.Parity))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Length))
	for i := range h.Hashes {
		dst = append(dst, h.Hashes[i][:]...)
	}
	return dst
}

// ID is the stripe's name: BLAKE3-256 of the header in derive-key mode, so that it is no fragment's hash.
func (h *Header) ID() past.BlockID {
	var room [HeaderMax]byte
	var id past.BlockID
	blake3.DeriveKey(headerLabel, h.Append(room[:0]), id[:])
	return id
}

// ShardLen is the length of each fragment's bytes: ceil(length / d).
func (h *Header) ShardLen() int { return shardLen(h.Length, h.Redundancy.Data) }

func shardLen(length, data int) int { return (length + data - 1) / data }

// PlainLen is the stripe's plaintext length, in bytes.
func (h *Header) PlainLen() int {
	n, _ := PlainLen(h.Length)
	return n
}

// ParseHeader reads the header that b begins with and returns what follows. The header keeps nothing of b. ErrFormat.
func ParseHeader(b []byte) (h Header, rest []byte, err error) {
	if len(b) < fixedBytes {
		return h, nil, fmt.Errorf("%w: header of %d bytes", ErrFormat, len(b))
	}
	if b[0] != format1 {
		return h, nil, fmt.Errorf("%w: format %d, this release knows %d", ErrFormat, b[0], format1)
	}
	h.Redundancy = past.Redundancy{Data: int(b[1]), Parity: int(b[2])}
	length := binary.BigEndian.Uint32(b[3:])
	if !h.Redundancy.Valid() || length > SealedMax {
		return h, nil, fmt.Errorf("%w: d = %d, p = %d, %d bytes", ErrFormat, b[1], b[2], length)
	}
	h.Length = int(length)
	if _, ok := PlainLen(h.Length); !ok {
		return h, nil, fmt.Errorf("%w: %d is no sealed length", ErrFormat, length)
	}
	n := HeaderLen(h.Redundancy)
	if len(b) < n {
		return h, nil, fmt.Errorf("%w: header cut at %d of %d bytes", ErrFormat, len(b), n)
	}
	h.Hashes = make([]Hash, h.Redundancy.Total())
	for i := range h.Hashes {
		copy(h.Hashes[i][:], b[fixedBytes+i*hashBytes:])
	}
	return h, b[n:], nil
}

// Verify reports whether data are the bytes of fragment index.
func (h *Header) Verify(index int, data []byte) bool {
	return index >= 0 && index < len(h.Hashes) && len(data) == h.ShardLen() && blake3.Sum256(data) == h.Hashes[index]
}

// Fragment is one share of a stripe as stored and sent: it proves itself.
type Fragment struct {
	Header Header
	Index  int
	Data   []byte // ShardLen bytes
}

// FragmentLen is the length of a fragment of a stripe with length sealed bytes, in bytes.
func FragmentLen(r past.Redundancy, length int) int {
	return FragmentDataAt(r) + shardLen(length, r.Data)
}

// FragmentDataAt is where the data begin within a stored fragment, in bytes.
func FragmentDataAt(r past.Redundancy) int { return HeaderLen(r) + 1 }

// AppendFragmentPrefix appends what stands before the bytes of fragment index: the header and the index. The stored fragment
// is this prefix and the bytes, so that they need not be copied together.
func (h *Header) AppendFragmentPrefix(dst []byte, index int) []byte {
	return append(h.Append(dst), byte(index))
}

// ParseFragment reads a stored fragment and checks its bytes against its header's hash. Data is part of b. The caller
// compares Header.ID() with the id it asked for. Errors: ErrFormat, ErrHash.
func ParseFragment(b []byte) (Fragment, error) {
	f, err := SplitFragment(b)
	if err == nil && !f.Header.Verify(f.Index, f.Data) {
		err = fmt.Errorf("%w: index %d", ErrHash, f.Index)
	}
	return f, err
}

// SplitFragment is ParseFragment without the hash: for readers whose proof is the AES-GCM tag. Errors: ErrFormat.
func SplitFragment(b []byte) (Fragment, error) {
	h, rest, err := ParseHeader(b)
	if err != nil {
		return Fragment{}, err
	}
	if len(rest) != 1+h.ShardLen() || int(rest[0]) >= h.Redundancy.Total() {
		return Fragment{}, fmt.Errorf("%w: fragment of %d bytes for d = %d of %d", ErrFormat, len(rest), h.Redundancy.Data, h.Length)
	}
	return Fragment{Header: h, Index: int(rest[0]), Data: rest[1:]}, nil
}

package pastry

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
)

// NodeID is a place on the 128-bit ring, big-endian: the first 128 bits of BLAKE3(public key, realm salt). The realm's
// certificate binds it, so that nobody picks his place (Pastry §2; design.md §1).
type NodeID [16]byte

// Key is a point on the same ring that a message is routed to. It is not an S3 object key.
type Key = NodeID

// NodeHandle is what one node must know of another to talk to it: 34 bytes without a pointer, so that 100,000 nodes with
// 139 peers each cost the collector nothing.
type NodeHandle struct {
	ID   NodeID
	Addr [16]byte // IPv6, or IPv4 mapped into it (RFC 4291 §2.5.5.2)
	Port uint16   // UDP
}

// IsZero reports whether h names nobody.
func (h NodeHandle) IsZero() bool { return h.ID == NodeID{} }

// String returns the 32 hexadecimal digits of id.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// Compare orders ids as unsigned numbers: -1, 0 or 1.
func (id NodeID) Compare(other NodeID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText writes the 32 hexadecimal digits, so that ids read the same in JSON, YAML and logs.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *NodeID) UnmarshalText(text []byte) error {
	parsed, err := ParseNodeID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseNodeID reads 32 hexadecimal digits.
func ParseNodeID(s string) (NodeID, error) {
	var id NodeID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, errors.New("pastry: a nodeId is 32 hexadecimal digits")
	}
	copy(id[:], b)
	return id, nil
}

// Digit returns digit row of id in base 2ᵇ, the most significant first. b is 1, 2, 4 or 8; row is less than 128/b.
func (id NodeID) Digit(row, b int) int {
	bit := row * b
	return int(id[bit/8]>>(8-b-bit%8)) & (1<<b - 1)
}

// SharedPrefixLen is the paper's shl(A, B): how many leading digits of base 2ᵇ a and other have in common, 128/b if they are
// equal.
func (id NodeID) SharedPrefixLen(other NodeID, b int) int {
	x, y := id.number(), other.number()
	if x.hi != y.hi {
		return bits.LeadingZeros64(x.hi^y.hi) / b
	}
	return (64 + bits.LeadingZeros64(x.lo^y.lo)) / b
}

// Closer reports whether a is numerically closer to key than b is, round the ring. Of two that are equally close the smaller
// nodeId counts as the closer, so that any two nodes agree.
func Closer(key Key, a, b NodeID) bool {
	da, db := distance(key, a), distance(key, b)
	if da != db {
		return da.less(db)
	}
	return a.Compare(b) < 0
}

// uint128 is a distance on the ring.
type uint128 struct{ hi, lo uint64 }

// halfRing is the largest distance between two points.
var halfRing = uint128{hi: 1 << 63}

func (id NodeID) number() uint128 {
	return uint128{binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])}
}

func (x uint128) less(y uint128) bool { return x.hi < y.hi || x.hi == y.hi && x.lo < y.lo }

// sub returns x - y modulo 2¹²⁸.
func (x uint128) sub(y uint128) uint128 {
	lo, borrow := bits.Sub64(x.lo, y.lo, 0)
	hi, _ := bits.Sub64(x.hi, y.hi, borrow)
	return uint128{hi, lo}
}

// Side is a direction on the ring, and the half of a leaf set that lies that way.
type Side uint8

// The two directions.
const (
	Smaller Side = iota // towards smaller nodeIds, wrapping at zero
	Larger              // towards larger nodeIds, wrapping at 2¹²⁸
)

func (s Side) opposite() Side { return 1 - s }

// offset is how far to lies from from in direction s, all the way round the ring if need be.
func (s Side) offset(from, to NodeID) uint128 {
	if s == Larger {
		return to.number().sub(from.number())
	}
	return from.number().sub(to.number())
}

// distance is the shorter way between a and b.
func distance(a, b NodeID) uint128 {
	d := Larger.offset(a, b)
	if other := Smaller.offset(a, b); other.less(d) {
		return other
	}
	return d
}

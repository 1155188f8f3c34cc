package pastry

import (
	"bytes"
	"encoding/hex"
	"errors"
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

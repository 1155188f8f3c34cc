// Package wire is the overlay's messages as bytes, and the vocabulary that transports share. It decides nothing: pastry.Node
// does. Integers are big-endian; nothing is aligned; a message is at most MessageMax bytes and fills its frame.
//
//	 0         1        2        3                 19
//	+---------+--------+--------+-----------------+---------------------------
//	| version | kind   | flags  | sender          | the fields of the kind ...
//	| 1       | 1      | 1      | 16              |
//	+---------+--------+--------+-----------------+---------------------------
//
//	version  1
//	flags    1: the sender is a member, 2: it is ready
//	sender   the nodeId that the sender claims; the receiver compares it with the one that the transport proves
//
// Fields, in this order, each present if the kind has it (see the table fieldsOf):
//
//	hops 1 | row 1 | seq 4 | retryAfter 4 (ms) | nonce 8 | key 16 | origin 23 or 35 | count 2, then count handles of 23 or 35
//
//	+-----------------+--------+---------------+------+
//	| nodeId          | family | address       | port |      family 4: address is 4 bytes; family 6: address is 16 bytes,
//	| 16              | 1      | 4 or 16       | 2    |      and not an IPv4 address mapped into IPv6
//	+-----------------+--------+---------------+------+
//
// There is one encoding of each message: whatever decodes encodes to the same bytes.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"larder/pastry"
)

// Version is the first byte of each message.
const Version = 1

// What Decode finds wrong. All but ErrVersion mean a broken or hostile peer.
var (
	ErrVersion   = errors.New("pastry/wire: unknown version")
	ErrMalformed = errors.New("pastry/wire: malformed message")
	ErrTooLong   = errors.New("pastry/wire: message longer than MessageMax")
)

const (
	headerSize = 19
	handleMin  = 16 + 1 + 4 + 2
	flagsKnown = pastry.FlagMember | pastry.FlagReady
)

// fields is the set of fields that a kind has, as bits.
type fields uint8

const (
	hasHops fields = 1 << iota
	hasRow
	hasSeq
	hasRetryAfter
	hasNonce
	hasKey
	hasOrigin
	hasHandles
)

var fieldsOf = [pastry.KindMax]fields{
	pastry.Heartbeat:   0,
	pastry.Ping:        hasSeq,
	pastry.Pong:        hasSeq,
	pastry.Ack:         hasSeq,
	pastry.Nack:        hasSeq,
	pastry.Lookup:      hasHops | hasSeq | hasNonce | hasKey | hasOrigin,
	pastry.LookupReply: hasHops | hasNonce | hasKey | hasHandles,
	pastry.Join:        hasHops | hasSeq | hasNonce | hasOrigin,
	pastry.JoinReply:   hasNonce | hasHandles,
	pastry.JoinBusy:    hasRetryAfter | hasNonce,
	pastry.Place:       hasHops | hasSeq | hasNonce | hasOrigin,
	pastry.LeafProbe:   hasSeq | hasHandles,
	pastry.LeafReply:   hasSeq | hasHandles,
	pastry.RowRequest:  hasRow | hasSeq,
	pastry.Rows:        hasSeq | hasHandles,
	pastry.Suspect:     hasHandles,
	pastry.Leave:       0,
}

// Append appends m as bytes to b. It returns ErrMalformed if m has no kind or too many handles, and ErrTooLong.
func Append(b []byte, m *pastry.Message) ([]byte, error) {
	if m.Kind == 0 || m.Kind >= pastry.KindMax || m.Flags&^flagsKnown != 0 || len(m.Handles) > pastry.HandlesMax {
		return b, fmt.Errorf("%w: kind %v, flags %x, %d handles", ErrMalformed, m.Kind, m.Flags, len(m.Handles))
	}
	start, has := len(b), fieldsOf[m.Kind]
	b = append(b, Version, byte(m.Kind), byte(m.Flags))
	b = append(b, m.Sender[:]...)
	if has&hasHops != 0 {
		b = append(b, m.Hops)
	}
	if has&hasRow != 0 {
		b = append(b, m.Row)
	}
	if has&hasSeq != 0 {
		b = binary.BigEndian.AppendUint32(b, m.Seq)
	}
	if has&hasRetryAfter != 0 {
		b = binary.BigEndian.AppendUint32(b, m.RetryAfter)
	}
	if has&hasNonce != 0 {
		b = binary.BigEndian.AppendUint64(b, m.Nonce)
	}
	if has&hasKey != 0 {
		b = append(b, m.Key[:]...)
	}
	if has&hasOrigin != 0 {
		b = AppendHandle(b, m.Origin)
	}
	if has&hasHandles != 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Handles)))
		for _, h := range m.Handles {
			b = AppendHandle(b, h)
		}
	}
	if len(b)-start > MessageMax {
		return b[:start], ErrTooLong
	}
	return b, nil
}

// Decode reads the message that b is into m, whose Handles it reuses. It keeps nothing of b. Where it returns an error, which
// is or wraps one of this package's, m means nothing.
func Decode(b []byte, m *pastry.Message) error {
	*m = pastry.Message{Handles: m.Handles[:0]}
	switch {
	case len(b) > MessageMax:
		return ErrTooLong
	case len(b) > 0 && b[0] != Version:
		return fmt.Errorf("%w %d", ErrVersion, b[0])
	case len(b) < headerSize:
		return fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	m.Kind, m.Flags = pastry.Kind(b[1]), pastry.Flags(b[2])
	if m.Kind == 0 || m.Kind >= pastry.KindMax || m.Flags&^flagsKnown != 0 {
		return fmt.Errorf("%w: kind %d, flags %x", ErrMalformed, b[1], b[2])
	}
	copy(m.Sender[:], b[3:])
	r := reader{rest: b[headerSize:]}
	has := fieldsOf[m.Kind]
	if has&hasHops != 0 {
		m.Hops = r.take(1)[0]
	}
	if has&hasRow != 0 {
		m.Row = r.take(1)[0]
	}
	if has&hasSeq != 0 {
		m.Seq = binary.BigEndian.Uint32(r.take(4))
	}
	if has&hasRetryAfter != 0 {
		m.RetryAfter = binary.BigEndian.Uint32(r.take(4))
	}
	if has&hasNonce != 0 {
		m.Nonce = binary.BigEndian.Uint64(r.take(8))
	}
	if has&hasKey != 0 {
		copy(m.Key[:], r.take(16))
	}
	if has&hasOrigin != 0 {
		m.Origin = r.handle()
	}
	if has&hasHandles != 0 {
		r.handles(m)
	}
	if r.bad || len(r.rest) > 0 {
		return fmt.Errorf("%w: %v of %d bytes", ErrMalformed, m.Kind, len(b))
	}
	return nil
}

// reader takes fields from the front of rest; bad says that something was missing or wrong.
type reader struct {
	rest []byte
	bad  bool
	zero [16]byte
}

// take returns the next n bytes, at most 16, or zeros where there are fewer.
func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.bad, r.rest = true, nil
		return r.zero[:n]
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) handles(m *pastry.Message) {
	count := int(binary.BigEndian.Uint16(r.take(2)))
	if count > pastry.HandlesMax || count*handleMin > len(r.rest) {
		r.bad = true
		return
	}
	for range count {
		m.Handles = append(m.Handles, r.handle())
	}
}

func (r *reader) handle() pastry.NodeHandle {
	var h pastry.NodeHandle
	copy(h.ID[:], r.take(16))
	switch r.take(1)[0] {
	case 4:
		h.Addr = netip.AddrFrom4([4]byte(r.take(4))).As16()
	case 6:
		copy(h.Addr[:], r.take(16))
		r.bad = r.bad || netip.AddrFrom16(h.Addr).Is4In6()
	default:
		r.bad = true
	}
	h.Port = binary.BigEndian.Uint16(r.take(2))
	return h
}

// AppendHandle appends h as it stands in messages: 23 bytes for IPv4, 35 for IPv6.
func AppendHandle(b []byte, h pastry.NodeHandle) []byte {
	b = append(b, h.ID[:]...)
	if addr := netip.AddrFrom16(h.Addr); addr.Is4In6() {
		v4 := addr.As4()
		b = append(append(b, 4), v4[:]...)
	} else {
		b = append(append(b, 6), h.Addr[:]...)
	}
	return binary.BigEndian.AppendUint16(b, h.Port)
}

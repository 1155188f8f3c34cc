package quicnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"larder/pastry"
)

// hello is what both ends of a connection say first.
type hello struct {
	instance uint64 // random for each start of a process: tells a restarted peer from a second connection
	features uint64
	addr     netip.AddrPort // unspecified address: the one the packets come from
	bulkPort uint16         // TCP; 0 for none
}

const (
	helloFormat = 1
	helloSize   = 1 + 8 + 8 + 16 + 2 + 2
	helloMax    = 512 // later formats may be longer
)

var errBadHello = errors.New("malformed hello")

// encode returns h with its length before it.
func (h hello) encode() []byte {
	b := make([]byte, 0, 2+helloSize)
	b = binary.BigEndian.AppendUint16(b, helloSize)
	b = append(b, helloFormat)
	b = binary.BigEndian.AppendUint64(b, h.instance)
	b = binary.BigEndian.AppendUint64(b, h.features)
	addr := h.addr.Addr().As16()
	b = append(b, addr[:]...)
	b = binary.BigEndian.AppendUint16(b, h.addr.Port())
	return binary.BigEndian.AppendUint16(b, h.bulkPort)
}

// readHello reads one hello.
func readHello(r io.Reader) (hello, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return hello{}, fmt.Errorf("hello: %w", err)
	}
	n := binary.BigEndian.Uint16(head[:])
	if n > helloMax {
		return hello{}, fmt.Errorf("%w: %d bytes", errBadHello, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, fmt.Errorf("hello: %w", err)
	}
	return decodeHello(body)
}

// decodeHello reads what follows the length.
func decodeHello(b []byte) (hello, error) {
	if len(b) < helloSize || b[0] < helloFormat {
		return hello{}, fmt.Errorf("%w: %d bytes", errBadHello, len(b))
	}
	h := hello{instance: binary.BigEndian.Uint64(b[1:]), features: binary.BigEndian.Uint64(b[9:])}
	addr := netip.AddrFrom16([16]byte(b[17:33])).Unmap()
	h.addr = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[33:]))
	h.bulkPort = binary.BigEndian.Uint16(b[35:])
	if h.addr.Port() == 0 {
		return hello{}, fmt.Errorf("%w: no port", errBadHello)
	}
	return h, nil
}

// handle is the peer with id as h wants it reached, when its packets come from remote.
func (h hello) handle(id pastry.NodeID, remote netip.Addr) pastry.NodeHandle {
	addr := h.addr.Addr()
	if addr.IsUnspecified() {
		addr = remote
	}
	return handleOf(id, netip.AddrPortFrom(addr, h.addr.Port()))
}

// handleOf puts an address into a handle.
func handleOf(id pastry.NodeID, addr netip.AddrPort) pastry.NodeHandle {
	return pastry.NodeHandle{ID: id, Addr: addr.Addr().As16(), Port: addr.Port()}
}

// addrOf takes the address out of a handle.
func addrOf(h pastry.NodeHandle) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port)
}

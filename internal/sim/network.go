package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"larder/pastry"
)

// network carries messages: each takes the topology's delay, unless it is lost or its way is cut.
type network struct {
	rand     *rand.Rand
	topology Topology
	loss     float64 // share of messages lost, each by itself; 0 to 1
	jitter   float64 // each delay is lengthened by up to this share of it, so that messages overtake each other

	flights []flight // under way or free
	free    []int32  // which of flights are free

	carried  [pastry.KindMax]uint64 // sent, by Kind
	joinHops uint64                 // of carried: Join messages that are not the joiner's own
	dropped  uint64                 // of carried: lost, cut off, or sent to nobody
}

// flight is a message under way. Its memory is used again, with that of the handles.
type flight struct {
	received pastry.Received
	from, to int32
}

// delay is how long the next message from a to b will take.
func (w *network) delay(a, b int32) time.Duration {
	d := w.topology.Delay(int(a), int(b))
	if w.jitter > 0 {
		d += time.Duration(w.rand.Float64() * w.jitter * float64(d))
	}
	return d
}

// lost decides whether the next message is lost. Without loss it draws nothing.
func (w *network) lost() bool { return w.loss > 0 && w.rand.Float64() < w.loss }

// takeOff copies a message into a free flight and returns its number.
func (w *network) takeOff(from, to int32, self pastry.NodeHandle, m *pastry.Message) int32 {
	if len(w.free) == 0 {
		w.flights = append(w.flights, flight{})
		w.free = append(w.free, int32(len(w.flights)-1))
	}
	last := len(w.free) - 1
	i := w.free[last]
	w.free = w.free[:last]
	f := &w.flights[i]
	handles := append(f.received.Message.Handles[:0], m.Handles...)
	f.received = pastry.Received{From: self, Message: *m}
	f.received.Message.Handles = handles
	f.from, f.to = from, to
	return i
}

// land gives a flight back.
func (w *network) land(i int32) { w.free = append(w.free, i) }

// handle is how others know node i in its life: its address is its number, its port the life.
func handle(id pastry.NodeID, i int32, life uint16) pastry.NodeHandle {
	h := pastry.NodeHandle{ID: id, Port: life}
	h.Addr[0] = 0xfd // a private network (RFC 4193)
	binary.BigEndian.PutUint32(h.Addr[12:], uint32(i))
	return h
}

// number is the inverse of handle; it is -1 for an address that no node has.
func number(h *pastry.NodeHandle, nodes int) int32 {
	i := binary.BigEndian.Uint32(h.Addr[12:])
	if h.Addr[0] != 0xfd || i >= uint32(nodes) {
		return -1
	}
	return int32(i)
}

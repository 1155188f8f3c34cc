package pastry

import "strconv"

// Kind says what a message is. Values are those of the wire.
type Kind uint8

// The messages. Those marked "hop" are acknowledged by each node that takes them on (Ack, or Nack: not a member, go round me).
const (
	Heartbeat   Kind = iota + 1 // I am alive
	Ping                        // are you alive, and how far?                         Seq
	Pong                        // answers Ping                                        Seq
	Ack                         // I took on your hop                                  Seq
	Nack                        // I am no member and took on nothing                  Seq
	Lookup                      // hop: who is around Key? routed to its root          Seq Hops Nonce Key Origin
	LookupReply                 // answers Lookup, from the root: itself, its leafs    Hops Nonce Key Handles
	Join                        // hop: let me in; routed to the root of Origin.ID     Seq Hops Nonce Origin
	JoinReply                   // answers Join, from the root: its leafs              Nonce Handles
	JoinBusy                    // answers Join: not now                               Nonce RetryAfter
	Place                       // hop: who is around me in your ring? routed likewise Seq Hops Nonce Origin
	LeafProbe                   // my leafs; what are yours?                           Seq Handles
	LeafReply                   // my leafs; answers LeafProbe, or unasked (Seq 0)     Seq Handles
	RowRequest                  // what have you in this row?                          Seq Row
	Rows                        // entries of mine; to a joiner unasked (Seq 0)        Seq Handles
	Suspect                     // these answer me no more; see for yourself           Handles
	Leave                       // I am going

	KindMax // one more than the last
)

var kindNames = [KindMax]string{"", "Heartbeat", "Ping", "Pong", "Ack", "Nack", "Lookup", "LookupReply", "Join", "JoinReply", "JoinBusy",
	"Place", "LeafProbe", "LeafReply", "RowRequest", "Rows", "Suspect", "Leave"}

// String returns the name of k, or its number.
func (k Kind) String() string {
	if k > 0 && k < KindMax {
		return kindNames[k]
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Flags say how far the sender has come.
type Flags uint8

// Flags of a message.
const (
	FlagMember Flags = 1 << iota // it has a leaf set: it may stand in others'
	FlagReady                    // it delivers
)

// HandlesMax is the most handles that a message carries.
const HandlesMax = 256

// Message is one overlay message. Which fields count depends on Kind; the others are zero.
type Message struct {
	Kind       Kind
	Flags      Flags
	Hops       uint8  // nodes that this one has passed, the origin not counted
	Row        uint8  // of the routing table
	Seq        uint32 // chosen by the asker, given back in the answer; 0 where there is none
	RetryAfter uint32 // ms
	Nonce      uint64 // chosen by the origin, given back in the answer from the far end
	Sender     NodeID // who sent this hop, as it says; Step drops what the transport does not confirm
	Key        Key
	Origin     NodeHandle
	Handles    []NodeHandle // at most HandlesMax
}

// target is the point that a routed message goes to, and the node that it must not be handed to: a joiner, and one that asks
// for its place, looks for the root of its own nodeId apart from itself.
func (m *Message) target() (key Key, without NodeID) {
	if m.Kind == Lookup {
		return m.Key, NodeID{}
	}
	return m.Origin.ID, m.Origin.ID
}

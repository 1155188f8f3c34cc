package admin

import (
	"crypto/rand"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"larder/auth/realm"
	"larder/past/node"
	"larder/pastry"
	"larder/pastry/wire"
)

// Node is what one node says of itself, and what this node sees of it.
type Node struct {
	Node          pastry.NodeID `json:"node"`
	Self          bool          `json:"self"`
	Live          bool          `json:"live"` // it answered just now
	Roles         []string      `json:"roles"`
	Zone          string        `json:"zone"`
	Host          string        `json:"host"`
	Address       string        `json:"address"`
	S3            string        `json:"s3"`
	Admin         string        `json:"admin"`
	Version       string        `json:"version"`
	Boot          uint64        `json:"boot"` // how often its disk was started
	CapacityBytes int64         `json:"capacityBytes"`
	UsedBytes     int64         `json:"usedBytes"`
	FreeBytes     int64         `json:"freeBytes"`
	RTTMicros     int64         `json:"rttMicros"` // 0 for this node, -1 where it was not measured
	Blocks        NodeBlocks    `json:"blocks"`
}

// NodeBlocks is the state of one node's blocks; past/chb.Status says what the figures mean.
type NodeBlocks struct {
	Whole        bool      `json:"whole"`
	Fragments    int64     `json:"fragments"`
	LiveBytes    int64     `json:"liveBytes"`
	TrashBytes   int64     `json:"trashBytes"`
	Missing      int       `json:"missing"`
	Debts        int       `json:"debts"`
	Troubled     int       `json:"troubledBlocks"`
	Corrupt      int       `json:"corrupt"`
	CorruptFound int64     `json:"corruptFound"`
	Mended       int64     `json:"mended"`
	Checked      int       `json:"checked"`
	ToCheck      int       `json:"toCheck"`
	Passes       int       `json:"passes"`
	Scrubbed     time.Time `json:"scrubbed,omitzero"`
}

func (s *server) nodes(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	silent := s.Node.Refresh(r.Context())
	out := []Node{}
	for _, info := range s.Node.Nodes() {
		out = append(out, s.describe(&info, !slices.Contains(silent, info.ID)))
	}
	return out, nil
}

func (s *server) describe(i *node.Info, live bool) Node {
	b := &i.Blocks
	n := Node{
		Node: i.ID, Self: i.ID == s.Node.Overlay().Self().ID, Live: live, Roles: roleNames(i.Roles), Zone: i.Zone, Host: i.Host, Address: i.Address,
		S3: i.S3, Admin: i.Admin, Version: i.Version, Boot: i.Boot, CapacityBytes: i.CapacityBytes, UsedBytes: i.UsedBytes, FreeBytes: i.FreeBytes,
		Blocks: NodeBlocks{
			Whole: b.Whole, Fragments: b.Fragments, LiveBytes: b.LiveBytes, TrashBytes: b.TrashBytes, Missing: b.Missing, Debts: b.Debts, Troubled: b.Troubles,
			Corrupt: b.CorruptNow, CorruptFound: b.CorruptFound, Mended: b.Mended, Checked: b.PassDone, ToCheck: b.PassTotal, Passes: b.Passes, Scrubbed: b.Scrubbed,
		},
	}
	if !n.Self {
		n.RTTMicros = -1
		if rtt, ok := s.Node.Overlay().RTT(i.ID); ok {
			n.RTTMicros = rtt.Microseconds()
		}
	}
	return n
}

func roleNames(roles wire.Roles) []string {
	if text := realm.FormatRoles(roles); text != "" {
		return strings.Split(text, ",")
	}
	return []string{}
}

// Ring is this node's place in the ring: Pastry's state, and what it counted since start.
type Ring struct {
	Node     pastry.NodeID `json:"node"`
	Address  string        `json:"address"`
	Ready    bool          `json:"ready"` // it delivers now
	Nodes    int           `json:"nodes"` // leaf set and this node
	RingSize float64       `json:"ringSize"`
	// Smaller and Larger are the leaf set, nearest first; in a ring of at most |L| nodes a node may be on both sides.
	Smaller      []Neighbour `json:"smaller"`
	Larger       []Neighbour `json:"larger"`
	RowsFilled   []int       `json:"rowsFilled"` // of the routing table: filled entries, by row
	Neighborhood []Neighbour `json:"neighborhood"`
	// LookupsByHops[i] of this node's own lookups took i hops, the last one that many or more. FarLookups took two or more.
	LookupsByHops []uint64 `json:"lookupsByHops"`
	FarLookups    uint64   `json:"farLookups"`
	LookupRetries uint64   `json:"lookupRetries"`
	LookupsLost   uint64   `json:"lookupsLost"`
	Delivered     uint64   `json:"delivered"` // routed messages that ended here
	Forwarded     uint64   `json:"forwarded"`
	Rerouted      uint64   `json:"rerouted"`
	Failures      uint64   `json:"failures"` // nodes declared failed
	Returned      uint64   `json:"returned"`
	// Sent and Received count overlay messages by kind; kinds that were not seen are left out.
	Sent     map[string]uint64 `json:"sent"`
	Received map[string]uint64 `json:"received"`
	Dropped  uint64            `json:"dropped"`
	Refused  uint64            `json:"refused"`
}

// Neighbour is a node that this one knows.
type Neighbour struct {
	Node    pastry.NodeID `json:"node"`
	Address string        `json:"address"`
}

func (s *server) ring(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	st := s.Node.Overlay().State()
	c := &st.Stats
	out := &Ring{
		Node: st.Self.ID, Address: addressOf(st.Self), Ready: st.Ready, Nodes: len(s.Node.Overlay().Leafs()) + 1, RingSize: st.RingSize,
		Smaller: neighbours(st.Smaller), Larger: neighbours(st.Larger), RowsFilled: []int{}, Neighborhood: neighbours(st.Near),
		LookupsByHops: c.Lookups[:], FarLookups: st.FarLookups(), LookupRetries: c.LookupRetries, LookupsLost: c.LookupsLost,
		Delivered: c.Delivered, Forwarded: c.Forwarded, Rerouted: c.Rerouted, Failures: c.Failures, Returned: c.Returned,
		Sent: byKind(&c.Sent), Received: byKind(&c.Received), Dropped: st.Dropped, Refused: st.Refused,
	}
	for _, row := range st.Rows {
		out.RowsFilled = append(out.RowsFilled, len(row))
	}
	return out, nil
}

func neighbours(handles []pastry.NodeHandle) []Neighbour {
	out := make([]Neighbour, len(handles))
	for i, h := range handles {
		out[i] = Neighbour{h.ID, addressOf(h)}
	}
	return out
}

func addressOf(h pastry.NodeHandle) string { return addrPort(h).String() }

func addrPort(h pastry.NodeHandle) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port)
}

func byKind(counts *[pastry.KindMax]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for kind, n := range counts {
		if n > 0 {
			out[pastry.Kind(kind).String()] = n
		}
	}
	return out
}

// Ticket admits nodes to the realm until it expires.
type Ticket struct {
	Ticket  string    `json:"ticket"`
	Expires time.Time `json:"expires"`
}

// ticketSeedsMax is how many nodes a ticket names as seeds.
const ticketSeedsMax = 8

func (s *server) ticket(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	seeds := []netip.AddrPort{addrPort(s.Node.Overlay().Self())}
	for _, h := range s.Node.Overlay().Leafs() {
		if len(seeds) < ticketSeedsMax {
			seeds = append(seeds, addrPort(h))
		}
	}
	t, err := s.Identity().NewTicket(rand.Reader, s.Now(), realm.TicketLifetime, wire.RoleStorage|wire.RoleGateway|wire.RoleIssuer, seeds)
	if err != nil {
		return nil, err
	}
	s.log.Info("ticket made")
	return &Ticket{t.String(), s.Now().Add(realm.TicketLifetime)}, nil
}

// Started says that something goes on in the background.
type Started struct {
	Node pastry.NodeID `json:"node"`
}

// repair begins a repair pass on this node.
func (s *server) repair(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	s.Node.Blocks().MembershipChanged()
	s.log.Info("repair pass asked for")
	return &Started{s.Node.Overlay().Self().ID}, nil
}

package register

import (
	"cmp"
	"slices"

	"larder/past"
)

// pulledMax is how many older epochs a member can testify about; operations that are older end undecided.
const pulledMax = 8

// Status says whether a member answers operations of an epoch.
type Status uint8

// The statuses. All but StatusReady mean that nothing was done.
const (
	StatusReady     Status = iota
	StatusUnknown          // never heard of the partition, or not of so late an epoch: tell me its lineage
	StatusMoved            // a later configuration holds the partition: here is its lineage
	StatusNotActive        // a member, but it has not pulled the state of the epoch before yet; it does not mean "empty"
	StatusNotMember        // this disk is none of the epoch's members
	StatusClosed           // the bucket is being deleted
)

// Member is one disk's state of one partition, apart from its groups. It is small, and on disk before anything that
// depends on it is said.
type Member struct {
	Lineage Lineage `cbor:"1,keyasint"`
	// Epoch is the one whose groups this disk holds. Active: it answers for it, or did until Fenced.
	Epoch  uint64 `cbor:"2,keyasint"`
	Active bool   `cbor:"3,keyasint"`
	// Fenced: no operation of Epoch is answered any more, for ever; the groups are frozen and may be pulled.
	Fenced bool `cbor:"4,keyasint"`
	// Pulled is whose frozen groups, epoch by epoch, the groups of Epoch came from: newest first, at most pulledMax.
	Pulled []PulledEpoch `cbor:"5,keyasint,omitempty"`
	// Forgotten is the highest ballot in the memory of groups that were dropped: the floor of every group that is not there.
	Forgotten past.Ballot `cbor:"6,keyasint"`
	Slot      Slot        `cbor:"7,keyasint"`
	// Kept is the epoch before Epoch, if this disk was active in that too. Its frozen groups stay, for the members of Epoch that
	// have not pulled yet: a majority of those before may all be survivors. Nil: released.
	Kept *Kept `cbor:"8,keyasint,omitempty"`
}

// Kept is an epoch whose frozen groups lie on this disk beside those of the next.
type Kept struct {
	Epoch uint64     `cbor:"1,keyasint"`
	Head  FrozenHead `cbor:"2,keyasint"`
}

// Slot is a member's acceptor state in the choice of what follows the newest configuration that it knows.
type Slot struct {
	Epoch    uint64      `cbor:"1,keyasint"` // of the configuration whose successor is chosen
	Promised past.Ballot `cbor:"2,keyasint"`
	Accepted past.Ballot `cbor:"3,keyasint"`
	Value    Succession  `cbor:"4,keyasint"`
}

// Genesis makes m an active member of a partition's first configuration. The caller has made sure, by a linearizable read of the
// record that made it, that this is its genesis and that it has not been dropped since.
func (m *Member) Genesis(l Lineage) {
	m.Learn(l)
	m.Epoch, m.Active, m.Fenced = l.Genesis.Epoch, true, false
}

// Learn replaces the lineage by a longer, verified one and reports whether it was longer. It fences nothing. The genesis of a
// partition stays the same, and is not written again: others may be reading it.
func (m *Member) Learn(l Lineage) bool {
	switch {
	case len(m.Lineage.Genesis.Members) == 0:
		m.Lineage = l
	case l.Epoch() <= m.Lineage.Epoch():
		return false
	default:
		m.Lineage.Certificates = l.Certificates
	}
	return true
}

// Configuration is the one whose groups this disk holds or is to hold, nil if the lineage does not have it.
func (m *Member) Configuration() *Configuration { return m.Lineage.At(m.Epoch) }

// Check says whether self answers an operation that was addressed to the members of epoch.
func (m *Member) Check(epoch uint64, self MemberID) Status {
	switch c := m.Lineage.At(epoch); {
	case c == nil:
		return StatusUnknown
	case epoch < m.Epoch || epoch == m.Epoch && m.Fenced || epoch < m.Lineage.Epoch():
		return StatusMoved
	case c.Index(self) < 0:
		return StatusNotMember
	case epoch > m.Epoch || !m.Active:
		return StatusNotActive
	case c.Closed:
		return StatusClosed
	}
	return StatusReady
}

// Fence makes the member refuse its epoch from now on. Only an active member has a state worth freezing; one that has not
// pulled yet must not be counted. It reports whether the groups of epoch are frozen here.
func (m *Member) Fence(epoch uint64) (frozen bool) {
	if m.Epoch == epoch && m.Active {
		m.Fenced = true
	}
	return m.Frozen(epoch)
}

// Frozen reports whether the groups of epoch may be pulled from here.
func (m *Member) Frozen(epoch uint64) bool {
	_, ok := m.HeadOf(epoch)
	return ok
}

// FrozenHead is what a member says of itself with its frozen groups.
type FrozenHead struct {
	Pulled    []PulledEpoch `cbor:"1,keyasint,omitempty"`
	Forgotten past.Ballot   `cbor:"2,keyasint"`
}

// Head is m's part of what it gives to those who pull its frozen groups of m.Epoch.
func (m *Member) Head() FrozenHead { return FrozenHead{Pulled: m.Pulled, Forgotten: m.Forgotten} }

// HeadOf is m's part of what it gives to those who pull its frozen groups of epoch; ok is false if none are frozen here.
func (m *Member) HeadOf(epoch uint64) (head FrozenHead, ok bool) {
	if m.Kept != nil && m.Kept.Epoch == epoch {
		return m.Kept.Head, true
	}
	return m.Head(), m.Epoch == epoch && m.Active && m.Fenced
}

// Release ends the keeping of the epoch before m.Epoch. The caller knows that every member of m.Epoch, or of a later epoch, is active.
func (m *Member) Release() { m.Kept = nil }

// Entrance is a member's way into an epoch: pull the frozen groups of a majority of the epoch before, merge them (Group.Merge),
// drop what is Droppable, then Enter.
type Entrance struct {
	Epoch   uint64
	heads   map[int]FrozenHead
	before  *Configuration
	dropped past.Ballot
}

// Entrance begins self's way into the newest epoch, or returns nil if self has no place or no business there. A survivor of
// the epoch before fences itself first: m must be durable before the first pull.
func (m *Member) Entrance(self MemberID) *Entrance {
	c := m.Lineage.Current()
	if c.Epoch <= m.Epoch && m.Active || c.Index(self) < 0 || c.Epoch == m.Lineage.Genesis.Epoch {
		return nil
	}
	m.Fence(c.Epoch - 1)
	return &Entrance{Epoch: c.Epoch, heads: map[int]FrozenHead{}, before: m.Lineage.At(c.Epoch - 1)}
}

// Pulled notes that every frozen group of member from of the epoch before has been merged, and reports whether that
// was the last one needed.
func (e *Entrance) Pulled(from int, head FrozenHead) (enough bool) {
	e.heads[from] = head
	return len(e.heads) >= e.before.Quorum()
}

// Dropped notes that g was not kept.
func (e *Entrance) Dropped(g *Group) { e.Dropping(g.LastRemembered()) }

// Dropping is Dropped for groups whose highest LastRemembered is known.
func (e *Entrance) Dropping(last past.Ballot) {
	if e.dropped.Less(last) {
		e.dropped = last
	}
}

// Settle is Configuration.Settle for the epoch before.
func (e *Entrance) Settle(g *Group) (news bool) { return e.before.Settle(g) }

// Settle marks g as chosen if a majority of c's members accepted its value in c's epoch, as far as was pulled or copied, and reports
// whether that is news. What was accepted stays so: it holds for copies that are not frozen too.
func (c *Configuration) Settle(g *Group) (news bool) {
	if g.Chosen || g.Accepted.Epoch != c.Epoch || len(g.Log) == 0 {
		return false
	}
	newest := g.Log[len(g.Log)-1]
	g.Chosen = newest.Ballot == g.Accepted && newest.Voters.Count() >= c.Quorum()
	return g.Chosen
}

// Enter makes m an active member of the epoch. The groups are durable before, m after; then it may answer. The frozen
// groups of m.Kept stay on disk.
func (m *Member) Enter(e *Entrance) {
	m.Kept = nil
	if head, ok := m.HeadOf(e.before.Epoch); ok {
		m.Kept = &Kept{Epoch: e.before.Epoch, Head: head}
	}
	pulled := PulledEpoch{Epoch: e.before.Epoch, Total: len(e.before.Members)}
	older := map[uint64]PulledEpoch{}
	m.Forgotten = e.dropped
	for from, head := range e.heads {
		pulled.From |= 1 << from
		if m.Forgotten.Less(head.Forgotten) {
			m.Forgotten = head.Forgotten
		}
		for _, p := range head.Pulled {
			p.From |= older[p.Epoch].From
			older[p.Epoch] = p
		}
	}
	m.Pulled = []PulledEpoch{pulled}
	for _, p := range older {
		m.Pulled = append(m.Pulled, p)
	}
	slices.SortFunc(m.Pulled, func(a, b PulledEpoch) int { return cmp.Compare(b.Epoch, a.Epoch) })
	m.Pulled = m.Pulled[:min(len(m.Pulled), pulledMax)]
	m.Epoch, m.Active, m.Fenced = e.Epoch, true, false
}

// Absent is the state of a group that m has no row for.
func (m *Member) Absent() Group { return Group{Floor: m.Forgotten} }

// slot returns the acceptor state for the choice of epoch's successor, fresh if the slot was used for an earlier epoch.
func (m *Member) slot(epoch uint64) *Slot {
	if m.Slot.Epoch != epoch {
		m.Slot = Slot{Epoch: epoch}
	}
	return &m.Slot
}

// SlotPrepare promises b for the choice of epoch's successor, for the members of epoch who know no successor yet.
func (m *Member) SlotPrepare(epoch uint64, b past.Ballot, self MemberID) (s Slot, ok bool) {
	if !m.votes(epoch, self) {
		return Slot{}, false
	}
	slot := m.slot(epoch)
	if !slot.Promised.Less(b) {
		return *slot, false
	}
	before := *slot
	slot.Promised = b
	return before, true
}

// SlotAccept accepts the succession at b. The caller signs VoteMessage once m is durable; s is the slot as it is afterwards.
func (m *Member) SlotAccept(next Succession, b past.Ballot, self MemberID) (s Slot, ok bool) {
	if !m.votes(next.Epoch, self) || next.follows(m.Lineage.At(next.Epoch)) != nil {
		return Slot{}, false
	}
	slot := m.slot(next.Epoch)
	if b.Less(slot.Promised) {
		return *slot, false
	}
	slot.Promised, slot.Accepted, slot.Value = b, b, next
	return *slot, true
}

// votes reports whether self has a vote on what follows epoch. Where a successor is known there is nothing left to choose,
// and an older epoch's slot is gone: to answer for it would be to forget what was promised. Only active members vote, so
// that an epoch with a successor has a majority whose groups can be frozen: who is not active by then never will be.
func (m *Member) votes(epoch uint64, self MemberID) bool {
	c := m.Lineage.At(epoch)
	return c != nil && epoch == m.Lineage.Epoch() && epoch >= m.Slot.Epoch && c.Index(self) >= 0 && m.Active && m.Epoch == epoch
}

package register

import (
	"larder/past"
)

// Change drives one step of a partition's configuration chain from outside: it has the members of From choose a successor, fences
// them, and has the members of the successor pull and turn active. Any number of Changes may run at once, for the same
// step or not: the Synod lets one succession win, the other steps can be repeated at will.
//
// It ends when a majority of the new members are active; whoever is not yet goes on by itself.
type Change struct {
	from     Configuration
	want     Succession
	proposer past.ProposerID
	counter  func(seen uint64) uint64

	phase    changePhase
	ballot   past.Ballot
	seen     uint64
	promises map[int]Slot
	votes    map[int]Vote
	failed   Members
	attempts int
	value    Succession // being accepted
	cert     Certificate
	fenced   Members
	active   map[PartitionID]Members
}

type changePhase uint8

const (
	changePrepare changePhase = iota
	changeAccept
	changeWait
	changeFence
	changeDone
)

// ChangeOutbox collects what a Change wants done.
type ChangeOutbox struct {
	Sends []ChangeSend
	Wait  int // as in Outbox
	// Chosen is set once: the certificate of what was chosen, which need not be what was wanted.
	Chosen *Certificate
	Done   bool
}

// ChangeSend asks a member: SlotAsk, VoteAsk and FenceAsk go to members of From, EnterAsk to members of Next[Successor].
type ChangeSend struct {
	Successor int // of EnterAsk
	To        int
	Message   any
}

type (
	// SlotAsk asks for a promise in the choice of the successor.
	SlotAsk struct{ Ballot past.Ballot }
	// VoteAsk asks to accept Next at Ballot, and for a signature over that.
	VoteAsk struct {
		Ballot past.Ballot
		Next   Succession
	}
	// FenceAsk asks to refuse From's epoch from now on; Certificate is the reason.
	FenceAsk struct{ Certificate Certificate }
	// EnterAsk asks to pull and to turn active.
	EnterAsk struct{ Certificate Certificate }
)

// Inputs of a Change.
type (
	// SlotPromised is the answer to SlotAsk: the slot as it was before.
	SlotPromised struct {
		From   int
		Ballot past.Ballot
		Slot   Slot
	}
	// Voted is the answer to VoteAsk. The driver has checked the signature.
	Voted struct {
		From      int
		Ballot    past.Ballot
		Signature []byte
	}
	// SlotRefused is the answer of a member that promised more.
	SlotRefused struct {
		From             int
		Ballot, Promised past.Ballot
	}
	// SlotFailed says that no answer of this member is to be expected in the attempt at Ballot.
	SlotFailed struct {
		From   int
		Ballot past.Ballot
	}
	// FencedBy says that a member of From refuses its epoch and has frozen its groups.
	FencedBy struct{ From int }
	// EnteredBy says that a member of Next[Successor] is active.
	EnteredBy struct{ Successor, From int }
)

// NewChange returns a Change that wants succession want after from.
func NewChange(from Configuration, want Succession, proposer past.ProposerID, counter func(seen uint64) uint64) *Change {
	return &Change{from: from, want: want, proposer: proposer, counter: counter, phase: changeWait, active: map[PartitionID]Members{}}
}

// ResumeChange returns a Change that knows what was chosen and only has to carry it out.
func ResumeChange(from Configuration, chosen Certificate) *Change {
	return &Change{from: from, cert: chosen, phase: changeFence, active: map[PartitionID]Members{}}
}

// Start begins, or after a Wait begins again; what was done already is not done twice.
func (c *Change) Start(out *ChangeOutbox) {
	switch c.phase {
	case changeFence:
		c.carryOut(out)
	case changeDone:
	default:
		c.phase, c.failed, c.promises = changePrepare, 0, map[int]Slot{}
		c.seen = c.counter(c.seen)
		c.ballot = past.Ballot{Epoch: c.from.Epoch, Counter: c.seen, Proposer: c.proposer}
		for i := range c.from.Members {
			c.send(0, i, SlotAsk{c.ballot}, out)
		}
	}
}

func (c *Change) send(successor, to int, message any, out *ChangeOutbox) {
	out.Sends = append(out.Sends, ChangeSend{Successor: successor, To: to, Message: message})
}

// Step applies one fact. Facts of earlier attempts, or from places that do not exist, are ignored.
func (c *Change) Step(in any, out *ChangeOutbox) {
	switch in := in.(type) {
	case SlotPromised:
		if c.phase == changePrepare && in.Ballot == c.ballot && c.from.has(in.From) {
			c.promises[in.From] = in.Slot
			c.concludePrepare(out)
		}
	case Voted:
		if c.phase == changeAccept && in.Ballot == c.ballot && c.from.has(in.From) {
			c.votes[in.From] = Vote{Member: in.From, Signature: in.Signature}
			c.concludeVote(out)
		}
	case SlotRefused:
		c.seen = max(c.seen, in.Promised.Counter)
		c.lost(in.From, in.Ballot, out)
	case SlotFailed:
		c.lost(in.From, in.Ballot, out)
	case FencedBy:
		if c.from.has(in.From) {
			c.fenced |= 1 << in.From
		}
	case EnteredBy:
		next := c.cert.Succession.Next
		if c.phase != changeFence || in.Successor < 0 || in.Successor >= len(next) || !next[in.Successor].has(in.From) {
			return
		}
		c.active[next[in.Successor].Partition] |= 1 << in.From
		c.concludeEnter(out)
	}
}

func (c *Change) concludePrepare(out *ChangeOutbox) {
	if len(c.promises) < c.from.Quorum() {
		return
	}
	c.value = c.want
	var highest past.Ballot
	for _, s := range c.promises {
		if highest.Less(s.Accepted) {
			highest, c.value = s.Accepted, s.Value
		}
	}
	c.phase, c.failed, c.votes = changeAccept, 0, map[int]Vote{}
	for i := range c.from.Members {
		c.send(0, i, VoteAsk{c.ballot, c.value}, out)
	}
}

func (c *Change) concludeVote(out *ChangeOutbox) {
	if len(c.votes) < c.from.Quorum() {
		return
	}
	c.cert = Certificate{Succession: c.value, Ballot: c.ballot}
	for i := range c.from.Members {
		if v, ok := c.votes[i]; ok {
			c.cert.Votes = append(c.cert.Votes, v)
		}
	}
	c.phase = changeFence
	out.Chosen = &c.cert
	c.carryOut(out)
}

// carryOut fences the old members and calls the new ones. The new ones pull from whoever is frozen, so the two need no order.
func (c *Change) carryOut(out *ChangeOutbox) {
	for i := range c.from.Members {
		if c.fenced&(1<<i) == 0 {
			c.send(0, i, FenceAsk{c.cert}, out)
		}
	}
	for s := range c.cert.Succession.Next {
		next := &c.cert.Succession.Next[s]
		for i := range next.Members {
			if c.active[next.Partition]&(1<<i) == 0 {
				c.send(s, i, EnterAsk{c.cert}, out)
			}
		}
	}
	out.Wait = 1
}

func (c *Change) concludeEnter(out *ChangeOutbox) {
	for i := range c.cert.Succession.Next {
		next := &c.cert.Succession.Next[i]
		if c.active[next.Partition].Count() < next.Quorum() {
			return
		}
	}
	c.phase = changeDone
	out.Done = true
}

func (c *Change) lost(from int, ballot past.Ballot, out *ChangeOutbox) {
	if ballot != c.ballot || c.phase != changePrepare && c.phase != changeAccept || !c.from.has(from) {
		return
	}
	c.failed |= 1 << from
	if c.failed.Count() <= len(c.from.Members)-c.from.Quorum() {
		return
	}
	c.attempts++
	c.phase = changeWait
	out.Wait = c.attempts
}

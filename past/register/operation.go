package register

import (
	"errors"
	"fmt"
	"slices"

	"larder/past"
)

// Op says what an Operation does.
type Op uint8

// The operations of design.md §5.
const (
	OpRead   Op = iota // return the newest value
	OpBlind            // replace it whatever it is
	OpUpdate           // evaluate a function on it, and write what that returns
)

// Request is one operation on one group.
type Request struct {
	Op Op
	ID past.OpID
	// Blind is the value that OpBlind writes; its Chain is set by the operation.
	Blind Value
	// Update is evaluated by OpUpdate on the newest value, perhaps several times. Its error refuses the operation.
	Update func(cur Value) (Value, error)
}

// Quorum is the configuration that an operation works with at the moment.
type Quorum struct {
	Epoch   uint64
	Members int
	// Nearest lists the members' places, nearest first. It decides who is asked first, nothing else.
	Nearest []int
}

func (q Quorum) majority() int { return Majority(q.Members) }

// has reports whether place is a member's place.
func (q Quorum) has(place int) bool { return place >= 0 && place < q.Members }

// Send is a wish: ask member To. Message is a ReadAsk, PrepareAsk or Accept; the driver adds the Proof to an Accept.
type Send struct {
	To      int
	Message any
}

// ReadAsk asks for what is accepted; with its value, or only the ballot.
type ReadAsk struct {
	Round     int
	WithValue bool
}

// PrepareAsk asks for a promise.
type PrepareAsk struct{ Ballot past.Ballot }

// Outbox collects what an Operation wants done after one input.
type Outbox struct {
	Sends []Send
	// Wait asks for a RetryNow after a pause, longer and more jittered the larger it is; 0 asks for nothing.
	Wait int
	// Hedge asks for a HedgeNow after the time in which an answer is to be expected, counted from now; it replaces an earlier wish.
	Hedge bool
	// Chosen, if not zero, is a ballot that is now known to be chosen: tell the members with the next message.
	Chosen past.Ballot
	// Done is the end of the operation.
	Done *Result
}

// Result is how an operation ended.
type Result struct {
	// Value is what the group holds after the operation, or for OpRead, what it held.
	Value Value
	// Replaced is what members said that the operation's own accept replaced.
	Replaced []Value
	// Err is nil, what Request.Update refused with, past.ErrUnavailable, past.ErrDamaged or past.ErrUnknown. Only with ErrUnknown may
	// the operation have had an effect.
	Err error
}

// Input is a fact for Operation.Step: one of the types below.
type Input interface{ input() }

type (
	// ReadAnswer is a member's answer to ReadAsk.
	ReadAnswer struct {
		From, Round int
		Accepted    past.Ballot
		Chosen      bool
		HasValue    bool // always if nothing was accepted
		Value       Value
	}
	// Promised is a member's answer to PrepareAsk.
	Promised struct {
		From    int
		Promise Promise
	}
	// AcceptedBy is a member's answer to Accept.
	AcceptedBy struct {
		From     int
		Ballot   past.Ballot
		Accepted Accepted
	}
	// Refused is a member's answer to a PrepareAsk or, if Accept is set, an Accept at Ballot: it promised Promised.
	Refused struct {
		From             int
		Ballot, Promised past.Ballot
		Accept           bool
	}
	// Failed says that no answer to the ReadAsk of Round, or the PrepareAsk or Accept at Ballot, is to be expected. It does not
	// say that the member did not act on it. Damaged says that the member lost what it would answer with, until it is replaced.
	Failed struct {
		From    int
		Round   int
		Ballot  past.Ballot
		Damaged bool
	}
	// Declined says that a member did nothing about the PrepareAsk or, if Accept is set, the Accept at Ballot, and never will: it is
	// not active, or not a member any more, or Damaged, and the message is used up.
	Declined struct {
		From    int
		Ballot  past.Ballot
		Accept  bool
		Damaged bool
	}
	// HedgeNow and RetryNow are the answers of time to Outbox.Hedge and Outbox.Wait.
	HedgeNow struct{}
	RetryNow struct{}
	// Moved says that the partition has a newer configuration.
	Moved struct{ Quorum Quorum }
	// GiveUp ends the operation: its caller waits no longer.
	GiveUp struct{}
)

func (ReadAnswer) input() {}
func (Promised) input()   {}
func (AcceptedBy) input() {}
func (Refused) input()    {}
func (Failed) input()     {}
func (Declined) input()   {}
func (HedgeNow) input()   {}
func (RetryNow) input()   {}
func (Moved) input()      {}
func (GiveUp) input()     {}

type phase uint8

const (
	phaseRead phase = iota
	phasePrepare
	phaseAccept
	phaseWait
	phaseDone
)

// intent is what it means when the value being accepted is chosen.
type intent uint8

const (
	intentOwn    intent = iota // the operation's own value: success
	intentCarry                // a value whose chain holds the operation: success
	intentRead                 // the value found, for a read
	intentReject               // the value that refused the operation
)

// Operation is one operation on one group through all its attempts: the proposer of CASPaxos with the short-cuts and the rule
// for trying again of design.md §5. It belongs to one goroutine.
type Operation struct {
	req      Request
	quorum   Quorum
	proposer past.ProposerID
	counter  func(seen uint64) uint64

	phase    phase
	attempts int
	seen     uint64      // highest counter met
	mine     []ownBallot // where the operation's own value was sent out

	round   int // of the read
	asked   Members
	reads   map[int]ReadAnswer
	ballot  past.Ballot // of the prepare or accept
	promise map[int]Promise
	acks    Members
	failed  Members // refused or lost, in this phase
	damaged Members // of those, the damaged ones

	intent   intent
	value    Value // being accepted
	refusal  error
	replaced []Value
}

// NewOperation returns an operation that has not started. counter gives the next ballot counter above seen; it never gives one
// twice to a process.
func NewOperation(req Request, proposer past.ProposerID, counter func(seen uint64) uint64) *Operation {
	return &Operation{req: req, proposer: proposer, counter: counter, phase: phaseDone}
}

// Start begins the operation with the configuration q.
func (o *Operation) Start(q Quorum, out *Outbox) {
	o.quorum = q
	o.begin(out)
}

// begin starts the first attempt in a configuration. A write whose own value is out already may not be written blindly again.
func (o *Operation) begin(out *Outbox) {
	switch {
	case o.req.Op == OpRead:
		o.startRead(out)
	case o.req.Op == OpBlind && len(o.mine) == 0:
		o.ballot = o.nextBallot()
		o.startAccept(o.req.Blind.after(Group{}, o.req.ID), intentOwn, out)
	default:
		o.startPrepare(out)
	}
}

// Step applies one fact. Facts that belong to an earlier attempt, or come from a place that is none of the configuration's, are ignored. A
// Quorum is trusted: it comes from a verified lineage.
func (o *Operation) Step(in Input, out *Outbox) {
	if o.phase == phaseDone {
		return
	}
	switch in := in.(type) {
	case ReadAnswer:
		if o.phase == phaseRead && in.Round == o.round && o.quorum.has(in.From) {
			o.reads[in.From] = in
			o.concludeRead(out)
		}
	case Promised:
		if o.phase == phasePrepare && in.Promise.Ballot == o.ballot && o.quorum.has(in.From) {
			o.promise[in.From] = in.Promise
			o.see(in.Promise.Group.Promised)
			o.see(in.Promise.Group.Accepted)
			o.concludePrepare(out)
		}
	case AcceptedBy:
		if o.phase == phaseAccept && in.Ballot == o.ballot && o.quorum.has(in.From) {
			if o.acks&(1<<in.From) == 0 && len(in.Accepted.Replaced.Entries) > 0 {
				o.replaced = append(o.replaced, in.Accepted.Replaced)
			}
			o.acks |= 1 << in.From
			o.concludeAccept(out)
		}
	case Refused:
		o.see(in.Promised)
		if in.Accept {
			o.disown(in.From, in.Ballot)
		}
		o.lost(in.From, in.Ballot, false, out)
	case Declined:
		if in.Accept {
			o.disown(in.From, in.Ballot)
		}
		o.lost(in.From, in.Ballot, in.Damaged, out)
	case Failed:
		if o.phase == phaseRead && in.Round == o.round && in.Ballot.IsZero() && o.quorum.has(in.From) {
			if o.fail(in.From, in.Damaged, out) {
				o.askRest(out)
				o.concludeRead(out)
			}
			return
		}
		o.lost(in.From, in.Ballot, in.Damaged, out)
	case HedgeNow:
		if o.phase == phaseRead {
			o.hedge(out)
		}
	case RetryNow:
		if o.phase == phaseWait {
			o.begin(out)
		}
	case Moved:
		if in.Quorum.Epoch > o.quorum.Epoch {
			o.quorum = in.Quorum
			o.begin(out)
		}
	case GiveUp:
		o.giveUp(past.ErrUnavailable, out)
	}
}

// ownBallot is a ballot at which an operation's own value was sent to so many members.
type ownBallot struct {
	ballot  past.Ballot
	members int
	without Members // who did not accept there and never will
}

// disown forgets a ballot of the operation's own once every member has said that it did not accept there: the value lies nowhere, and
// nobody can carry it.
func (o *Operation) disown(from int, b past.Ballot) {
	i := slices.IndexFunc(o.mine, func(own ownBallot) bool { return own.ballot == b })
	if i < 0 || from < 0 || from >= o.mine[i].members {
		return
	}
	o.mine[i].without |= 1 << from
	if o.mine[i].without.Count() == o.mine[i].members {
		o.mine = slices.Delete(o.mine, i, i+1)
	}
}

func (o *Operation) see(b past.Ballot) {
	if b.Epoch == o.quorum.Epoch {
		o.seen = max(o.seen, b.Counter)
	}
}

func (o *Operation) nextBallot() past.Ballot {
	o.seen = o.counter(o.seen)
	return past.Ballot{Epoch: o.quorum.Epoch, Counter: o.seen, Proposer: o.proposer}
}

func (o *Operation) send(to int, message any, out *Outbox) {
	out.Sends = append(out.Sends, Send{To: to, Message: message})
}

// --- reading

func (o *Operation) startRead(out *Outbox) {
	o.phase, o.round, o.asked, o.failed, o.damaged = phaseRead, o.round+1, 0, 0, 0
	o.reads = make(map[int]ReadAnswer, o.quorum.Members)
	for i, member := range o.quorum.Nearest[:o.quorum.majority()] {
		o.asked |= 1 << member
		o.send(member, ReadAsk{Round: o.round, WithValue: i == 0}, out)
	}
	out.Hedge = o.quorum.Members > o.quorum.majority()
}

// askRest asks the members that were not asked yet, with value, since the one that had it may be the one that is slow. It reports
// whether there were any; they have until the next hedge to answer.
func (o *Operation) askRest(out *Outbox) (asked bool) {
	for _, member := range o.quorum.Nearest {
		if o.asked&(1<<member) == 0 {
			o.asked |= 1 << member
			o.send(member, ReadAsk{Round: o.round, WithValue: true}, out)
			asked = true
		}
	}
	out.Hedge = out.Hedge || asked
	return asked
}

// hedge has waited long enough for those that were asked: it asks the rest; where all were asked, whoever has not answered by now may
// never, and a majority that shows nothing chosen has to be made to agree without it.
func (o *Operation) hedge(out *Outbox) {
	switch {
	case o.askRest(out):
	case len(o.reads) >= o.quorum.majority():
		o.startPrepare(out)
	default:
		out.Hedge = true
	}
}

// concludeRead ends the read if a majority shows one ballot that is thereby chosen: one of this epoch, or one that a member
// knows to be chosen. Copies that a member pulled from an older epoch are not votes.
func (o *Operation) concludeRead(out *Outbox) {
	for _, a := range o.reads {
		same, chosen := 0, a.Accepted.IsZero() || a.Accepted.Epoch == o.quorum.Epoch
		var with *ReadAnswer
		for _, b := range o.reads {
			if b.Accepted == a.Accepted {
				same++
				chosen = chosen || b.Chosen
				if b.HasValue {
					with = &b
				}
			}
		}
		if same >= o.quorum.majority() && chosen && with != nil {
			o.finish(Result{Value: with.Value}, out)
			return
		}
	}
	if len(o.reads) >= o.quorum.majority() {
		o.askRest(out) // they differ: somebody is behind, or a write is under way
	}
	heard := o.failed
	for from := range o.reads {
		heard |= 1 << from
	}
	if heard.Count() == o.quorum.Members {
		o.startPrepare(out)
	}
}

// --- preparing

func (o *Operation) startPrepare(out *Outbox) {
	o.phase, o.failed, o.damaged = phasePrepare, 0, 0
	o.ballot = o.nextBallot()
	o.promise = make(map[int]Promise, o.quorum.Members)
	for member := range o.quorum.Members {
		o.send(member, PrepareAsk{o.ballot}, out)
	}
}

// concludePrepare goes on once a majority has promised, and again with each further promise while it is undecided.
func (o *Operation) concludePrepare(out *Outbox) {
	if len(o.promise) < o.quorum.majority() {
		return
	}
	cur, settled := o.highest()
	if len(o.mine) > 0 {
		switch o.examine(cur) {
		case fateCarried:
			o.startAccept(cur.Value, intentCarry, out)
			return
		case fateChosen:
			o.finish(Result{Value: cur.Value}, out)
			return
		case fateUndecided:
			if len(o.promise)+o.failed.Count() >= o.quorum.Members {
				o.finish(Result{Err: past.ErrUnknown}, out)
			}
			return
		}
	}
	switch o.req.Op {
	case OpRead:
		o.report(cur, settled, intentRead, nil, out)
	case OpBlind:
		o.startAccept(o.req.Blind.after(Group{}, o.req.ID), intentOwn, out)
	case OpUpdate:
		next, err := o.req.Update(cur.Value)
		if err != nil {
			o.report(cur, settled, intentReject, err, out)
			return
		}
		o.startAccept(next.after(cur, o.req.ID), intentOwn, out)
	}
}

// highest returns the highest accepted group among the promises, and whether it is known to be chosen: a majority shows it at
// one ballot of this epoch, or a member says so. Nothing at all is chosen, too: no lower ballot can be from now on.
func (o *Operation) highest() (cur Group, settled bool) {
	for _, p := range o.promise {
		if cur.Accepted.Less(p.Group.Accepted) {
			cur = p.Group
		}
	}
	if cur.Accepted.IsZero() {
		return cur, true
	}
	same := 0
	for _, p := range o.promise {
		if p.Group.Accepted == cur.Accepted {
			same++
			settled = settled || p.Group.Chosen
		}
	}
	return cur, settled || same >= o.quorum.majority() && cur.Accepted.Epoch == o.quorum.Epoch
}

// report ends a read or a refused update: at once if what it is based on is chosen, else after it has been made so. Where the
// operation's own value is out, a ballot of it may be dead and the value still lie at a member, for somebody to carry: only
// something accepted above it makes the refusal true.
func (o *Operation) report(cur Group, settled bool, why intent, refusal error, out *Outbox) {
	o.refusal = refusal
	if settled && len(o.mine) == 0 {
		o.finish(Result{Value: cur.Value, Err: refusal}, out)
		return
	}
	o.startAccept(cur.Value, why, out)
}

// --- accepting

func (o *Operation) startAccept(v Value, why intent, out *Outbox) {
	o.phase, o.acks, o.failed, o.damaged = phaseAccept, 0, 0, 0
	o.value, o.intent = v, why
	if why == intentOwn {
		o.mine = append(o.mine, ownBallot{ballot: o.ballot, members: o.quorum.Members})
	}
	for member := range o.quorum.Members {
		o.send(member, Accept{Ballot: o.ballot, Value: v}, out)
	}
}

func (o *Operation) concludeAccept(out *Outbox) {
	if o.acks.Count() < o.quorum.majority() {
		return
	}
	out.Chosen = o.ballot
	r := Result{Value: o.value}
	switch o.intent {
	case intentReject:
		r.Err = o.refusal
	case intentOwn:
		r.Replaced = o.replaced
	}
	o.finish(r, out)
}

// lost notes that a member will not help the attempt at ballot; without a majority left the operation tries again.
func (o *Operation) lost(from int, ballot past.Ballot, damaged bool, out *Outbox) {
	if ballot != o.ballot || o.phase != phasePrepare && o.phase != phaseAccept || !o.quorum.has(from) {
		return
	}
	if !o.fail(from, damaged, out) {
		return
	}
	if o.phase == phasePrepare && len(o.promise) >= o.quorum.majority() {
		o.concludePrepare(out) // it was waiting for this one
		return
	}
	if o.failed.Count() <= o.quorum.Members-o.quorum.majority() {
		return
	}
	o.attempts++
	o.phase = phaseWait
	if o.attempts == 1 && o.req.Op == OpBlind {
		o.startPrepare(out)
		return
	}
	out.Wait = o.attempts
}

// fail notes that a member does not help the present phase. It ends the operation, and returns false, once so many members are damaged that
// there is no majority without one of them: nothing heals that but an operator, so there is no use in trying again.
func (o *Operation) fail(from int, damaged bool, out *Outbox) (goOn bool) {
	o.failed |= 1 << from
	if damaged {
		o.damaged |= 1 << from
	}
	if o.damaged.Count() > o.quorum.Members-o.quorum.majority() {
		o.giveUp(past.ErrDamaged, out)
		return false
	}
	return true
}

// giveUp ends the operation with err, unless its own value is out: then nobody knows.
func (o *Operation) giveUp(err error, out *Outbox) {
	if len(o.mine) > 0 {
		err = past.ErrUnknown
	}
	o.finish(Result{Err: err}, out)
}

func (o *Operation) finish(r Result, out *Outbox) {
	o.phase = phaseDone
	out.Done = &r
}

// String describes the operation's state, for logs and failures of tests.
func (o *Operation) String() string {
	return fmt.Sprintf("op %x kind %d phase %d ballot %v attempts %d", o.req.ID[:3], o.req.Op, o.phase, o.ballot, o.attempts)
}

// Outcome says what an error of an operation means for its caller.
func Outcome(err error) (happened, unknown bool) {
	return err == nil, errors.Is(err, past.ErrUnknown)
}

// nearestFirst is the order 0, 1, …, for callers that know no better.
func nearestFirst(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return slices.Clip(order)
}

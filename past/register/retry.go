package register

import (
	"slices"

	"larder/past"
)

// PulledEpoch says which members of an older configuration a member knows the frozen state of, its own pull and the pulls
// of those that it pulled from together.
type PulledEpoch struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64
	Total int // members of that configuration
	From  Members
}

// fate is what became of the earlier attempts of an operation.
type fate uint8

const (
	fateUndecided fate = iota // some attempt may yet be chosen, or may have been
	fateDead                  // none was chosen and none can be
	fateChosen                // one was
	fateCarried               // the highest value descends from one: choose that, and it was
)

// examine applies the rule for trying again (design.md §5) to the promises of a majority. cur is the highest accepted value
// among them. That somebody carried the operation is not enough: carried is not chosen.
func (o *Operation) examine(cur Group) fate {
	if cur.Value.carries(o.req.ID) {
		return fateCarried
	}
	voters := o.votesFor(o.req.ID)
	fate := fateDead
	for ballot, accepted := range voters {
		witnesses, total := o.witnesses(ballot.Epoch)
		if total > 0 && accepted.Count() >= Majority(total) {
			return fateChosen
		}
		// A witness that does not remember accepting never will: it promised more, or its epoch is over.
		if denied := witnesses &^ accepted; total == 0 || total-denied.Count() >= Majority(total) {
			fate = fateUndecided
		}
	}
	if o.forgotten() {
		return fateUndecided
	}
	return fate
}

// votesFor returns each ballot at which the operation's own value or one that carried it was accepted, and by whom; its own
// ballots are listed even if nobody among the promises accepted them.
func (o *Operation) votesFor(id past.OpID) map[past.Ballot]Members {
	voters := make(map[past.Ballot]Members, len(o.mine))
	for _, own := range o.mine {
		voters[own.ballot] = 0
	}
	for from, p := range o.promise {
		for _, e := range p.Group.Log {
			switch {
			case !slices.Contains(e.Ops, id):
			case e.Ballot.Epoch == o.quorum.Epoch:
				voters[e.Ballot] |= e.Voters & (1 << from) // a member speaks for itself alone
			default:
				voters[e.Ballot] |= e.Voters
			}
		}
	}
	return voters
}

// witnesses returns the members of an epoch whose memory is in the promises, and how many members that epoch had (0 if
// nobody knows any more).
func (o *Operation) witnesses(epoch uint64) (seen Members, total int) {
	if epoch == o.quorum.Epoch {
		for member := range o.promise {
			seen |= 1 << member
		}
		return seen, o.quorum.Members
	}
	for _, p := range o.promise {
		for _, e := range p.Pulled {
			if e.Epoch == epoch {
				seen |= e.From
				total = e.Total
			}
		}
	}
	return seen, total
}

// forgotten reports whether an accept of this operation may be missing from what the members remember: it is below a floor,
// or it was carried by a value whose chain has lost it. Whoever carried it did so above the operation's own first ballot.
func (o *Operation) forgotten() bool {
	first := o.mine[0].ballot
	for _, p := range o.promise {
		if !p.Group.Floor.Less(first) {
			return true
		}
		for _, e := range p.Group.Log {
			if !e.Lost.Less(first) && !slices.Contains(e.Ops, o.req.ID) {
				return true
			}
		}
	}
	return false
}

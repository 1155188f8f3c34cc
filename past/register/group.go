package register

import (
	"math/bits"
	"slices"

	"larder/past"
)

const (
	// LogMax is how many accepts a member remembers for each group; older ones are below its Floor.
	LogMax = 64
	// ChainMax is how many operation ids a value lists; older ones are below its Lost.
	ChainMax = 16
	// MembersMax bounds a configuration, so that a set of members is a Members bit set.
	MembersMax = 16
)

// The limits as variables: random tests shorten them, since their runs are short.
var logMax, chainMax = LogMax, ChainMax

// Members is a set of members of one configuration, by their place in it.
type Members uint16

// Count is the number of members in s.
func (s Members) Count() int { return bits.OnesCount16(uint16(s)) }

// Value is what a group holds: the records of its registers, sorted by name, and the operations that led to it.
type Value struct {
	Entries []Entry     `cbor:"1,keyasint,omitempty"`
	Chain   []past.OpID `cbor:"2,keyasint,omitempty"` // newest last, at most ChainMax
	// Lost is a ballot that no operation that fell off Chain was accepted above: an operation that began at or below it may
	// have led to this value although Chain does not list it. Turn is what Lost becomes when ids fall off again.
	Lost past.Ballot `cbor:"3,keyasint,omitempty"`
	Turn past.Ballot `cbor:"4,keyasint,omitempty"`
}

// Entry is one register of a group.
type Entry struct {
	Name   string      `cbor:"1,keyasint,omitempty"`
	Record past.Record `cbor:"2,keyasint"`
}

// Entry returns the record of the named register, Absent if there is none.
func (v Value) Entry(name string) past.Record {
	if i, ok := slices.BinarySearchFunc(v.Entries, name, compareName); ok {
		return v.Entries[i].Record
	}
	return past.Record{}
}

// With returns v with the named register set to r; v is unchanged.
func (v Value) With(name string, r past.Record) Value {
	entries := slices.Clone(v.Entries)
	if i, ok := slices.BinarySearchFunc(entries, name, compareName); ok {
		entries[i].Record = r
	} else {
		entries = slices.Insert(entries, i, Entry{name, r})
	}
	v.Entries = entries
	return v
}

func compareName(e Entry, name string) int {
	switch {
	case e.Name < name:
		return -1
	case e.Name > name:
		return 1
	}
	return 0
}

// deleted reports whether nothing in v is live.
func (v Value) deleted() bool {
	return !slices.ContainsFunc(v.Entries, func(e Entry) bool { return e.Record.Kind == past.Live })
}

// carries reports whether op is in v's chain.
func (v Value) carries(op past.OpID) bool { return slices.Contains(v.Chain, op) }

// after returns v as what op made of cur: cur's chain and op. A chain that grows too long loses its older half, all of which
// was accepted at or below Turn.
func (v Value) after(cur Group, op past.OpID) Value {
	half := chainMax / 2
	v.Chain, v.Lost, v.Turn = append(slices.Clone(cur.Value.Chain), op), cur.Value.Lost, cur.Value.Turn
	if len(v.Chain) > chainMax {
		v.Chain, v.Lost = slices.Clone(v.Chain[half:]), v.Turn
	}
	if len(v.Chain) == half+1 {
		v.Turn = cur.Accepted // everything but op, and so the half that goes next, is in cur's chain
	}
	return v
}

// Group is what one member keeps of one group, in one configuration. The zero Group was never written.
type Group struct {
	Promised past.Ballot `cbor:"1,keyasint"`
	Accepted past.Ballot `cbor:"2,keyasint"` // zero: nothing accepted
	// Chosen says that Accepted is known to be accepted by a majority of the members of its epoch.
	Chosen bool  `cbor:"3,keyasint,omitempty"`
	Value  Value `cbor:"4,keyasint"`
	// Proof shows that a gateway proposed Value at Accepted. The protocol does not look into it.
	Proof []byte `cbor:"5,keyasint,omitempty"`
	// Log is what this member, and after a configuration change those whose snapshots it pulled, accepted: ascending
	// ballots, the newest LogMax. An accept at or below Floor may have been forgotten.
	Log   []LogEntry  `cbor:"6,keyasint,omitempty"`
	Floor past.Ballot `cbor:"7,keyasint,omitempty"`
}

// LogEntry says that a value with Ops in its chain was accepted at Ballot by Voters, members of the configuration
// of Ballot's epoch.
type LogEntry struct {
	_      struct{} `cbor:",toarray"`
	Ballot past.Ballot
	Ops    []past.OpID
	Lost   past.Ballot // of the value
	Voters Members
}

// Promise is a member's answer to Prepare that lets the proposer go on.
type Promise struct {
	Ballot past.Ballot   `cbor:"1,keyasint"` // the one promised
	Group  Group         `cbor:"2,keyasint"` // as it was, Promised included
	Pulled []PulledEpoch `cbor:"3,keyasint,omitempty"`
}

// Accept asks a member to accept Value at Ballot.
type Accept struct {
	Ballot past.Ballot `cbor:"1,keyasint"`
	Value  Value       `cbor:"2,keyasint"`
	Proof  []byte      `cbor:"3,keyasint,omitempty"`
}

// Accepted is a member's answer to Accept: it is on disk, in place of Replaced.
type Accepted struct {
	Replaced Value `cbor:"1,keyasint"`
}

// Prepare promises ballot b, if nothing higher was promised, and returns the promise. ok is false if it refuses: the
// caller answers with g.Promised. g must be on disk before the promise is sent.
func (g *Group) Prepare(b past.Ballot) (p Promise, ok bool) {
	if !g.Promised.Less(b) {
		return Promise{}, false
	}
	p = Promise{Ballot: b, Group: *g}
	g.Promised = b
	return p, true
}

// Accept accepts a, unless something higher was promised. self is this member's place in the configuration. ok is false
// if it refuses: the caller answers with g.Promised. g must be on disk before the answer is sent.
func (g *Group) Accept(a Accept, self int) (done Accepted, ok bool) {
	if a.Ballot.Less(g.Promised) {
		return Accepted{}, false
	}
	if a.Ballot == g.Accepted { // the same message again: a ballot is used for one value
		return Accepted{}, true
	}
	done.Replaced = g.Value
	g.Promised, g.Accepted, g.Chosen = a.Ballot, a.Ballot, false
	g.Value, g.Proof = a.Value, a.Proof
	g.remember(LogEntry{Ballot: a.Ballot, Ops: a.Value.Chain, Lost: a.Value.Lost, Voters: 1 << self})
	return done, true
}

// MarkChosen notes that what was accepted at b is chosen and reports whether that is news. It need not be synced.
func (g *Group) MarkChosen(b past.Ballot) bool {
	if g.Accepted != b || b.IsZero() || g.Chosen {
		return false
	}
	g.Chosen = true
	return true
}

// remember adds e to the log; the oldest entry beyond LogMax raises the floor.
func (g *Group) remember(e LogEntry) {
	i, found := slices.BinarySearchFunc(g.Log, e.Ballot, func(have LogEntry, b past.Ballot) int { return have.Ballot.Compare(b) })
	if found {
		g.Log = slices.Clone(g.Log) // snapshots may share it
		g.Log[i].Voters |= e.Voters
		return
	}
	if !g.Floor.Less(e.Ballot) {
		return
	}
	g.Log = slices.Insert(slices.Clip(g.Log), i, e)
	if over := len(g.Log) - logMax; over > 0 {
		g.Floor = g.Log[over-1].Ballot
		g.Log = slices.Clone(g.Log[over:])
	}
}

// Merge makes g what a new member keeps after it pulled the frozen group of one more member of the configuration before:
// the highest accepted value, the union of the logs, the higher floor. The order of the merges does not matter.
func (g *Group) Merge(frozen Group) {
	if g.Floor.Less(frozen.Floor) {
		g.Floor = frozen.Floor
		g.Log = slices.DeleteFunc(slices.Clone(g.Log), func(e LogEntry) bool { return !g.Floor.Less(e.Ballot) })
	}
	for _, e := range frozen.Log {
		g.remember(e)
	}
	switch c := g.Accepted.Compare(frozen.Accepted); {
	case c < 0:
		g.Accepted, g.Chosen, g.Value, g.Proof = frozen.Accepted, frozen.Chosen, frozen.Value, frozen.Proof
	case c == 0:
		g.Chosen = g.Chosen || frozen.Chosen
	}
	g.Promised = past.Ballot{} // the new epoch is above every old promise
}

// Droppable reports whether a new member may forget g: all its registers are deleted, and that is known to be chosen.
func (g *Group) Droppable() bool { return g.Chosen && g.Value.deleted() }

// LastRemembered is the highest ballot in g's memory: the floor that forgetting g leaves behind.
func (g *Group) LastRemembered() past.Ballot {
	b := g.Floor
	if n := len(g.Log); n > 0 && b.Less(g.Log[n-1].Ballot) {
		b = g.Log[n-1].Ballot
	}
	return b
}

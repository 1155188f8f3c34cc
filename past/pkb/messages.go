package pkb

import (
	"larder/past"
	"larder/past/register"
)

// Requests and answers, as CBOR maps with small integer keys. Every request names a partition and the epoch that the asker believes
// in; every answer begins with a Status. If that is not StatusReady nothing was done, and Lineage, where it is longer than the
// asker's, says why.

// scope addresses one epoch of a partition.
type scope struct {
	Partition register.PartitionID `cbor:"1,keyasint"`
	Epoch     uint64               `cbor:"2,keyasint"`
}

// standing is the member's answer to a scope.
type standing struct {
	Status  register.Status   `cbor:"1,keyasint"`
	Lineage *register.Lineage `cbor:"2,keyasint,omitempty"`
}

type readRequest struct {
	scope
	Group     string `cbor:"3,keyasint"`
	WithValue bool   `cbor:"4,keyasint,omitempty"`
}

type readAnswer struct {
	standing
	Accepted past.Ballot    `cbor:"3,keyasint"`
	Chosen   bool           `cbor:"4,keyasint,omitempty"`
	HasValue bool           `cbor:"5,keyasint,omitempty"`
	Value    register.Value `cbor:"6,keyasint"`
	Proof    []byte         `cbor:"7,keyasint,omitempty"`
}

type prepareRequest struct {
	scope
	Group  string      `cbor:"3,keyasint"`
	Ballot past.Ballot `cbor:"4,keyasint"`
}

type prepareAnswer struct {
	standing
	Refused  bool             `cbor:"3,keyasint,omitempty"`
	Promised past.Ballot      `cbor:"4,keyasint"`
	Promise  register.Promise `cbor:"5,keyasint"`
}

type acceptRequest struct {
	scope
	Group  string          `cbor:"3,keyasint"`
	Accept register.Accept `cbor:"4,keyasint"`
	Blind  bool            `cbor:"5,keyasint,omitempty"`
}

type acceptAnswer struct {
	standing
	Refused  bool              `cbor:"3,keyasint,omitempty"`
	Promised past.Ballot       `cbor:"4,keyasint"`
	Accepted register.Accepted `cbor:"5,keyasint"`
}

// chosenRequest tells of ballots that are known to be chosen. It has no answer worth waiting for.
type chosenRequest struct {
	scope
	Marks []chosenMark `cbor:"3,keyasint"`
}

type chosenMark struct {
	_      struct{} `cbor:",toarray"`
	Group  string
	Ballot past.Ballot
}

// scanRequest asks for the rows of group names in [Lower, Upper).
type scanRequest struct {
	scope
	Lower string `cbor:"3,keyasint"`
	Upper string `cbor:"4,keyasint"`
	// Fold, if not empty, is a delimiter: of the groups whose object key has it after its first Skip bytes, only the first of each
	// common prefix is returned.
	Fold       string `cbor:"5,keyasint,omitempty"`
	Skip       int    `cbor:"6,keyasint,omitempty"`
	Max        int    `cbor:"7,keyasint"`
	WithValues bool   `cbor:"8,keyasint,omitempty"`
	// Closing lets the scan of a closed epoch through: the bucket's emptiness is being judged.
	Closing bool `cbor:"9,keyasint,omitempty"`
}

type scanAnswer struct {
	standing
	Rows []scanRow `cbor:"3,keyasint,omitempty"`
	// More says that the rows end before Upper: there may be others behind the last one.
	More bool `cbor:"4,keyasint,omitempty"`
}

// scanRow is one group as a member has it, without bodies. Groups whose deletion is known to be chosen are left out.
type scanRow struct {
	_        struct{} `cbor:",toarray"`
	Group    string
	Prefix   string // the common prefix that the row stands for, or ""
	Accepted past.Ballot
	Chosen   bool
	Live     bool
	Value    register.Value // empty unless asked for
	Proof    []byte
}

// lineageRequest asks what the member knows of a partition, and may tell it more.
type lineageRequest struct {
	Partition register.PartitionID `cbor:"1,keyasint"`
	Tell      *register.Lineage    `cbor:"2,keyasint,omitempty"`
}

type lineageAnswer struct {
	Known   bool             `cbor:"1,keyasint,omitempty"`
	Lineage register.Lineage `cbor:"2,keyasint"`
	Epoch   uint64           `cbor:"3,keyasint"`
	Active  bool             `cbor:"4,keyasint,omitempty"`
}

// slotRequest, voteRequest and fenceRequest are register.SlotAsk, VoteAsk and FenceAsk or EnterAsk, with the lineage that they build on.
type slotRequest struct {
	Lineage register.Lineage `cbor:"1,keyasint"`
	Ballot  past.Ballot      `cbor:"2,keyasint"`
}

type slotAnswer struct {
	standing
	Refused   bool          `cbor:"3,keyasint,omitempty"`
	Slot      register.Slot `cbor:"4,keyasint"`
	Signature []byte        `cbor:"5,keyasint,omitempty"`
}

type voteRequest struct {
	Lineage register.Lineage    `cbor:"1,keyasint"`
	Ballot  past.Ballot         `cbor:"2,keyasint"`
	Next    register.Succession `cbor:"3,keyasint"`
}

type fenceRequest struct {
	Lineage register.Lineage `cbor:"1,keyasint"`
}

type fenceAnswer struct {
	standing
	Done bool `cbor:"3,keyasint,omitempty"`
}

type pullRequest struct {
	scope
	After string `cbor:"3,keyasint,omitempty"`
	// Ahead asks for groups that are not frozen: a copy ahead of a change.
	Ahead bool `cbor:"4,keyasint,omitempty"`
	// Since asks for the groups that changed since the point alone.
	Since *register.Point `cbor:"5,keyasint,omitempty"`
}

type pullAnswer struct {
	standing
	Head register.FrozenHead `cbor:"3,keyasint"`
	Rows []pullRow           `cbor:"4,keyasint,omitempty"`
	More bool                `cbor:"5,keyasint,omitempty"` // the rows end before the last group: at Last
	// Boots comes with the first page: newcomers remember what those before them did.
	Boots *register.Boots `cbor:"6,keyasint,omitempty"`
	Last  string          `cbor:"7,keyasint,omitempty"`
	// Begun comes with the first page of a copy ahead: the point before which everything is in this answer and the pages behind it.
	Begun *register.Point `cbor:"8,keyasint,omitempty"`
	// Stale: this member does not know what changed since the point. There are no rows.
	Stale bool `cbor:"9,keyasint,omitempty"`
}

type pullRow struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Group register.Group // bodies included
}

// aheadRequest asks a disk that may be a member of the epoch after the lineage's newest to copy its groups now.
type aheadRequest struct {
	Lineage register.Lineage `cbor:"1,keyasint"`
}

// aheadAnswer: Done says that the copy is made, or failed; it is asked again while it is under way.
type aheadAnswer struct {
	Done bool `cbor:"1,keyasint,omitempty"`
}

// forgetRequest says that every member of the lineage's newest epoch is active, so that older groups may go; Drop, that the
// partition itself is gone.
type forgetRequest struct {
	Lineage register.Lineage `cbor:"1,keyasint"`
	Drop    bool             `cbor:"2,keyasint,omitempty"`
}

// What every operation sends is handed over as it is where a node asks itself: proposers make values and never change them, members
// decode them anew from disk. A lineage would be shared with a partition's state and goes through its encoding.

func (readRequest) Shareable() bool    { return true }
func (prepareRequest) Shareable() bool { return true }
func (acceptRequest) Shareable() bool  { return true }
func (scanRequest) Shareable() bool    { return true }

func (s standing) Shareable() bool { return s.Lineage == nil }

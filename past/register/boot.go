package register

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"larder/past"

	"github.com/zeebo/blake3"
)

// startsMax is how many earlier starts a disk lists: 1 KiB.
const startsMax = 64

// Boot is one start of a disk. Count is durable and one larger at each start. A count alone forgives too much: a rolled-back disk
// that is refused once has only to start again until it is past what its fellows remember. So each start draws a number
// as well, and lists those of the starts before it: a fellow finds the one that it remembers there, or refuses for ever.
type Boot struct {
	_         struct{} `cbor:",toarray"`
	Count     uint64
	Start     past.ProposerID
	Earlier   []past.ProposerID // of the starts before, newest last, at most startsMax; nil in what fellows remember
	Signature []byte            // over BootMessage, by the disk's node key. Drivers check it; the rules here do not look into it
}

// Next returns the start after b, with a number drawn for it. It is on disk before anything is said.
func (b Boot) Next(start past.ProposerID) Boot {
	next := Boot{Count: b.Count + 1, Start: start}
	if b.Count > 0 {
		next.Earlier = append(slices.Clone(b.Earlier), b.Start)
		next.Earlier = next.Earlier[max(0, len(next.Earlier)-startsMax):]
	}
	return next
}

// BootMessage is the bytes that the member signs to greet with b.
func BootMessage(m MemberID, b Boot) []byte {
	body, err := encoding.Marshal([]any{m, b.Count, b.Start})
	if err != nil {
		panic(fmt.Sprintf("register: encode boot: %v", err)) // plain fields
	}
	sum := blake3.Sum256(body)
	return append([]byte("larder/1 boot\x00"), sum[:]...)
}

// follows reports whether a disk that once started as old may now be running as b: the same start, or one after it. What is older
// than b's list passes.
func (b Boot) follows(old Boot) bool {
	switch ago := b.Count - old.Count; {
	case b.Count < old.Count:
		return false
	case ago == 0:
		return b.Start == old.Start
	case ago > uint64(len(b.Earlier)):
		return true
	default:
		return b.Earlier[len(b.Earlier)-int(ago)] == old.Start
	}
}

// Boots is what a disk remembers of its fellow members' starts, in all partitions. The zero Boots knows nobody.
type Boots struct {
	Seen []Seen `cbor:"1,keyasint,omitempty"` // sorted by node, then incarnation
}

// Seen is the newest start of a member that was heard of.
type Seen struct {
	_      struct{} `cbor:",toarray"`
	Member MemberID
	Boot   Boot
}

func (b *Boots) find(m MemberID) (int, bool) {
	return slices.BinarySearchFunc(b.Seen, m, func(s Seen, m MemberID) int {
		return cmp.Or(bytes.Compare(s.Member.Node[:], m.Node[:]), cmp.Compare(s.Member.Incarnation, m.Incarnation))
	})
}

// Greet is a fellow's side of a greeting: ok says that boot is, or comes after, the newest start of m that this disk knows, and
// changed that it is news, which must be on disk before the answer is sent. If ok is false the answer is Last(m): m's disk was
// rolled back, or this is a late message of an earlier start, which is no longer there to hear.
func (b *Boots) Greet(m MemberID, boot Boot) (ok, changed bool) {
	i, found := b.find(m)
	told := boot
	boot.Earlier = nil
	switch {
	case !found:
		b.Seen = slices.Insert(b.Seen, i, Seen{Member: m, Boot: boot})
		return true, true
	case !told.follows(b.Seen[i].Boot):
		return false, false
	case boot.Count == b.Seen[i].Boot.Count:
		return true, false
	}
	b.Seen[i].Boot = boot
	return true, true
}

// Last returns the newest start of m that this disk knows.
func (b *Boots) Last(m MemberID) (Boot, bool) {
	if i, found := b.find(m); found {
		return b.Seen[i].Boot, true
	}
	return Boot{}, false
}

// Learn adds what another disk remembers: a newcomer takes over the memory of those it pulls from. It reports whether
// anything was news.
func (b *Boots) Learn(other Boots) (changed bool) {
	for _, s := range other.Seen {
		if _, news := b.Greet(s.Member, s.Boot); news {
			changed = true
		}
	}
	return changed
}

// Greeting is one start of one disk as a member of one configuration: who has confirmed that it is the newest. Until a majority
// has, the disk itself counted, the member does nothing: it answers no operation, promises no succession, and gives no frozen
// groups. It goes on greeting the others afterwards, since whoever was greeted remembers.
type Greeting struct {
	boot      Boot
	self      int // -1: no member, and so nothing to be confirmed
	members   []MemberID
	confirmed Members
	refused   bool
}

// NewGreeting begins the greeting of the members of c by self, started as boot.
func NewGreeting(c *Configuration, self MemberID, boot Boot) *Greeting {
	g := &Greeting{boot: boot, self: c.Index(self), members: c.Members}
	if g.self >= 0 {
		g.confirmed = 1 << g.self
	}
	return g
}

// Missing returns the fellows who have not answered, in the configuration's order: greet them, and again after a while.
func (g *Greeting) Missing() []MemberID {
	var out []MemberID
	for i, m := range g.members {
		if g.confirmed&(1<<i) == 0 {
			out = append(out, m)
		}
	}
	return out
}

// Confirm notes that a fellow knows no start that this one does not follow, and has it on disk.
func (g *Greeting) Confirm(fellow MemberID) {
	if i := slices.Index(g.members, fellow); i >= 0 {
		g.confirmed |= 1 << i
	}
}

// Refuse notes that a fellow remembers this disk's start last, whose signature the driver has checked: a fellow that lies has
// none to show. It reports whether the disk was thereby found to be rolled back.
func (g *Greeting) Refuse(last Boot) bool {
	if !g.boot.follows(last) {
		g.refused = true
	}
	return g.refused
}

// RolledBack reports whether somebody remembers a start of this disk that the disk does not. It holds for good, after further starts
// too: the disk has to come back as a new incarnation, by a configuration change.
func (g *Greeting) RolledBack() bool { return g.refused }

// Confirmed reports whether the member may answer.
func (g *Greeting) Confirmed() bool {
	return !g.refused && g.self >= 0 && g.confirmed.Count() >= Majority(len(g.members))
}

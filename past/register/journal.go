package register

import "slices"

// journalMax is how many changed groups a journal lists; one that would list more ends, and its copies are made anew.
const journalMax = 1 << 16

// Journal notes which groups of one epoch a member changes while others copy them ahead of a change of configuration (design.md §5),
// so that under the fence only those are pulled again. It lies in memory alone: a member that starts anew has none. The zero
// Journal notes nothing until the first Begin.
//
// What an operation leaves in a group only grows, by Merge's order: the accepted ballot, the log, the floor, the mark of one
// ballot. So an older copy merged with the frozen group is the frozen group; and a group that did not change is frozen as it
// was copied.
type Journal struct {
	id      [16]byte // zero: nobody copies
	epoch   uint64
	seq     uint64            // number of the newest change
	changed map[string]uint64 // by name, the number of a group's newest change
}

// Point is the moment of a journal from which a copy has to be brought up to date.
type Point struct {
	_       struct{} `cbor:",toarray"`
	Journal [16]byte
	Seq     uint64
}

// IsZero reports whether p is no journal's.
func (p Point) IsZero() bool { return p.Journal == [16]byte{} }

// Begin returns the present point. The caller reads the groups of epoch after it. Where there is no journal of that epoch one is
// begun under the name of draw, which is never used twice.
func (j *Journal) Begin(epoch uint64, draw [16]byte) Point {
	if j.id == [16]byte{} || j.epoch != epoch {
		*j = Journal{id: draw, epoch: epoch, changed: map[string]uint64{}}
	}
	return Point{Journal: j.id, Seq: j.seq}
}

// Note says that a group of epoch may have changed. The caller notes after the change can be seen, so that who begins later reads it,
// and before the group can be frozen. Promises need no note: Merge forgets them.
func (j *Journal) Note(epoch uint64, group string) {
	if j.id == [16]byte{} || j.epoch != epoch {
		return
	}
	j.seq++
	j.changed[group] = j.seq
	if len(j.changed) > journalMax {
		*j = Journal{}
	}
}

// Since returns the names of the groups that changed after p, ascending, behind after and at most limit of them; more says that there are
// others. ok is false if the journal does not know: all groups are to be read then.
func (j *Journal) Since(epoch uint64, p Point, after string, limit int) (names []string, more, ok bool) {
	if p.IsZero() || p.Journal != j.id || epoch != j.epoch {
		return nil, false, false
	}
	for name, seq := range j.changed {
		if seq > p.Seq && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	more = len(names) > limit
	return names[:min(len(names), limit)], more, true
}

// End ends the journal if it is of an epoch before the given one.
func (j *Journal) End(epoch uint64) {
	if j.epoch < epoch {
		*j = Journal{}
	}
}

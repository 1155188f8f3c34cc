package node

import (
	"context"
	"errors"
	"time"

	"larder/blockstore"
	"larder/past/register"

	"go.uber.org/zap"
)

// Why Run may end so that whoever called it opens the disk anew and starts again.
var (
	// ErrReborn says that the disk lost register state that others have: it forgot all of it and comes back as a new incarnation.
	ErrReborn = errors.New("node: register state damaged; starting again as a new incarnation")
	// ErrDiscard says that the disk's entries are damaged beyond what it can forget, and that others have what was in them: discard
	// them (diskstore.DiscardEntries) before the next start, which is then that of a new incarnation.
	ErrDiscard = errors.New("node: entries damaged; discarding them and starting again as a new incarnation")
	// ErrReopen says that the store has to be closed and opened again, which mends it.
	ErrReopen = errors.New("node: store damaged; opening it again")
)

// diskCheckEvery is how often the node asks whether its disk still takes writes.
const diskCheckEvery = time.Second

func (n *Node) reportDamage(id register.PartitionID) {
	select {
	case n.damaged <- id:
	default:
	}
}

// watchDamage ends the node when its disk lost something that a start mends: state of partitions that all have other members, and
// files that the store can make anew. Where there is nobody to get the state back from, the damage stays reported and the rest goes
// on being served. A disk that only refuses writes goes on serving reads, and offers no room (info).
func (n *Node) watchDamage(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(diskCheckEvery)
	defer tick.Stop()
	told := map[register.PartitionID]bool{}
	readOnly := false
	for {
		var end error
		select {
		case <-ctx.Done():
			return
		case id := <-n.damaged:
			end = n.forget(ctx, id, told)
		case <-tick.C:
			err := n.cfg.Store.Err()
			if err != nil && !readOnly {
				readOnly = true
				n.log.Error("disk takes no more writes: this node offers no storage until it is started again", zap.Error(err))
			}
			end = n.remedy(ctx, err)
		}
		if end != nil {
			stop(end)
			return
		}
	}
}

// forget draws a new incarnation, if others have all that this disk has. It returns how the node is to end, nil if it goes on.
func (n *Node) forget(ctx context.Context, damaged register.PartitionID, told map[register.PartitionID]bool) error {
	if alone := n.alone(ctx); alone != nil {
		if !told[damaged] {
			told[damaged] = true
			n.log.Error("damaged register state has no other copy", zap.Stringer("damaged", damaged), zap.Stringer("alone", *alone))
		}
		return nil
	}
	switch err := n.memory.rebirth(ctx); {
	case err == nil:
		return ErrReborn
	case errors.Is(err, blockstore.ErrCorrupt):
		return ErrDiscard
	default:
		n.log.Error("new incarnation not written", zap.Error(err))
		return nil
	}
}

// remedy says how the node is to end because of what its store suffers from, nil if an end does not help.
func (n *Node) remedy(ctx context.Context, broken error) error {
	switch {
	case !errors.Is(broken, blockstore.ErrCorrupt):
		return nil
	case !errors.Is(broken, blockstore.ErrEntriesDamaged):
		return ErrReopen
	case n.alone(ctx) == nil:
		return ErrDiscard
	}
	return nil
}

// alone returns a partition whose state nobody else has, or may not have yet; nil if there is none. It asks the other members where this
// disk does not know: what it knows may be old.
func (n *Node) alone(ctx context.Context) *register.PartitionID {
	self := n.identity().Member
	for id, m := range n.members.Partitions() {
		if needed(&m, self) && !n.members.ActiveElsewhere(ctx, id) {
			return &id
		}
	}
	return nil
}

// needed reports whether m is the state of an epoch that self was the only member of and that the members of the next epoch may still
// have to pull: m holds that epoch's groups, or keeps them beside its own. What a deleted bucket leaves is of no use to anybody.
func needed(m *register.Member, self register.MemberID) bool {
	only := func(epoch uint64) bool {
		c := m.Lineage.At(epoch)
		return c != nil && len(c.Members) == 1 && c.Members[0] == self
	}
	return len(m.Lineage.Genesis.Members) > 0 && !m.Lineage.Current().Closed && (m.Active && only(m.Epoch) || m.Kept != nil && only(m.Kept.Epoch))
}

// Replicated reports whether this disk knows that other nodes have all its register state, so that it can be lost.
func (n *Node) Replicated() bool {
	self := n.identity().Member
	for _, m := range n.members.Partitions() {
		if needed(&m, self) {
			return false
		}
	}
	return true
}

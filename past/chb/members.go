package chb

import (
	"sync"
	"time"

	"larder/past"
	"larder/past/rpc"
	"larder/pastry"
)

// members remembers the storage nodes that were seen: a node that is gone may return, and until it is given up what it held is
// unknown, not lost.
type members struct {
	mu    sync.Mutex
	known map[pastry.NodeID]*member
}

type member struct {
	past.Candidate
	lostSince   time.Time // the ring believes it dead; zero if not
	silentSince time.Time // it has not answered us; zero if it has
	fullUntil   time.Time // it refused a fragment for want of room
}

// membersMax bounds the memory; a ring that large has no use for it.
const membersMax = 1 << 16

// rememberLost is how long a dead node makes "not found" mean "perhaps on the dead node".
const rememberLost = 24 * time.Hour

// fullPause is how long a node that refused a fragment is not offered others by repair, lostPause one that took a fragment and then could
// not show it.
const (
	fullPause = time.Minute
	lostPause = time.Hour
)

func (m *members) seen(found []past.Candidate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range found {
		if k := m.known[c.ID]; k != nil {
			k.Candidate = c
		} else if len(m.known) < membersMax {
			m.known[c.ID] = &member{Candidate: c}
		}
	}
}

func (m *members) heard(id pastry.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.known[id]; k != nil {
		k.silentSince = time.Time{}
	}
}

func (m *members) silent(id pastry.NodeID, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.known[id]; k != nil && k.silentSince.IsZero() {
		k.silentSince = now
	}
}

// isSilent reports whether the last request to the node went unanswered.
func (m *members) isSilent(id pastry.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.known[id]
	return k != nil && !k.silentSince.IsZero()
}

// refused notes that repair should offer nothing to a node for a while.
func (m *members) refused(id pastry.NodeID, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.known[id]; k != nil {
		k.fullUntil = until
	}
}

func (m *members) isFull(id pastry.NodeID, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.known[id]
	return k != nil && now.Before(k.fullUntil)
}

// look asks the ring which members are alive. changed is true if one was lost or came back since the last look.
func (m *members) look(ring rpc.Ring, now time.Time) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, k := range m.known {
		switch alive := ring.Reachable(id); {
		case alive && !k.lostSince.IsZero():
			k.lostSince, changed = time.Time{}, true
		case !alive && k.lostSince.IsZero():
			k.lostSince, changed = now, true
		case !alive && now.Sub(k.lostSince) > rememberLost:
			delete(m.known, id)
		}
	}
	return changed
}

// silentOnes returns the members that did not answer the last request.
func (m *members) silentOnes() (ids []pastry.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, k := range m.known {
		if !k.silentSince.IsZero() && k.lostSince.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids
}

// nextGivenUp returns how long it is until a member that is lost or silent is given up; 0 if there is none.
func (m *members) nextGivenUp(now time.Time, delay time.Duration) (next time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.known {
		for _, since := range []time.Time{k.lostSince, k.silentSince} {
			if left := delay - now.Sub(since); !since.IsZero() && left >= 0 && (next == 0 || left < next) {
				next = max(left, time.Millisecond)
			}
		}
	}
	return next
}

// reckon adjusts the ring's candidates of key for repair: without those that have been silent for delay, and with those that the ring
// lost less than delay ago, which may come back with what they held. These are away.
func (m *members) reckon(key pastry.Key, found []past.Candidate, now time.Time, delay time.Duration) (all []past.Candidate, away map[pastry.NodeID]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	away = map[pastry.NodeID]bool{}
	present := map[pastry.NodeID]bool{}
	var farthest pastry.NodeID
	for i, c := range found {
		present[c.ID] = true
		if i == 0 || pastry.Closer(key, farthest, c.ID) {
			farthest = c.ID
		}
		if k := m.known[c.ID]; k == nil || k.silentSince.IsZero() || now.Sub(k.silentSince) < delay {
			all = append(all, c)
		}
	}
	for id, k := range m.known {
		near := len(found) < leafSetFull || pastry.Closer(key, id, farthest)
		if !present[id] && near && !k.lostSince.IsZero() && now.Sub(k.lostSince) < delay {
			all = append(all, k.Candidate)
			away[id] = true
		}
	}
	return all, away
}

// leafSetFull is from how many candidates on there may be nodes that are none.
const leafSetFull = 16

// anyLost reports whether a node that may have held something is dead, given up or not.
func (m *members) anyLost(ring rpc.Ring) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.known {
		if !ring.Reachable(id) {
			return true
		}
	}
	return false
}

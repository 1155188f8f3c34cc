package sim

import "time"

// eventKind says what happens at an event.
type eventKind uint8

const (
	eventTimer   eventKind = iota + 1 // node wakes
	eventMessage                      // flight arrives at node
	eventSeed                         // node learns who answers at its seed's address
)

// event is one thing that will happen: 32 bytes without a pointer.
type event struct {
	at     time.Duration // since the simulation began
	order  uint64        // of pushing: breaks ties
	node   int32         // whose event it is
	flight int32         // eventMessage: which of Sim.flights; eventSeed: who is the seed
	life   uint16        // of the node that it is meant for
	kind   eventKind
}

func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.order < f.order }

// queue is a heap of events, earliest first, with four children a parent: half as deep as with two, and the children of a
// parent lie beside each other.
type queue struct {
	events []event
	pushed uint64
}

const children = 4

func (q *queue) push(e event) {
	q.pushed++
	e.order = q.pushed
	q.events = append(q.events, e)
	i := len(q.events) - 1
	for i > 0 {
		parent := (i - 1) / children
		if !e.before(&q.events[parent]) {
			break
		}
		q.events[i] = q.events[parent]
		i = parent
	}
	q.events[i] = e
}

// next returns the time of the earliest event; ok is false if there is none.
func (q *queue) next() (at time.Duration, ok bool) {
	if len(q.events) == 0 {
		return 0, false
	}
	return q.events[0].at, true
}

// pop takes the earliest event out. There is one.
func (q *queue) pop() event {
	first := q.events[0]
	last := len(q.events) - 1
	e := q.events[last]
	q.events = q.events[:last]
	if last == 0 {
		return first
	}
	i := 0
	for {
		child := i*children + 1
		if child >= last {
			break
		}
		for c := child + 1; c < min(child+children, last); c++ {
			if q.events[c].before(&q.events[child]) {
				child = c
			}
		}
		if !q.events[child].before(&e) {
			break
		}
		q.events[i] = q.events[child]
		i = child
	}
	q.events[i] = e
	return first
}

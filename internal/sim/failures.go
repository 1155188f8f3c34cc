package sim

import (
	"fmt"
	"time"

	"larder/pastry"
)

// FailuresPlan is the scenario of Pastry §3.4: nodes of a quiet ring fail, all at once and without a word, while lookups go on.
type FailuresPlan struct {
	Ring    HopsPlan // its Lookups are asked before, right after the failures, and once more after Repair
	Failed  int
	Repair  time.Duration // how long after the failures the ring counts as repaired
	Looking time.Duration // over how long the lookups right after the failures are spread
}

// DefaultFailures fails a tenth of so many nodes, as the paper's Figure 10 does.
func DefaultFailures(nodes int) FailuresPlan {
	ring := DefaultHops(nodes)
	ring.Lookups = 5000
	return FailuresPlan{Ring: ring, Failed: nodes / 10, Repair: 10 * time.Minute, Looking: time.Minute}
}

// FailuresResult is what came of it.
type FailuresResult struct {
	Before, During, After LookupStats
	LeafsTrue             time.Duration // after the failures; to the second

	// Messages is what was sent per failed node during Repair, by Kind, above what the ring sent at rest; lookups are left out.
	Messages [pastry.KindMax]float64
}

// Failures runs the plan on a simulation without nodes. It returns an error if the ring does not come to be, or does not come
// to have true leaf sets again.
func Failures(s *Sim, plan FailuresPlan) (*FailuresResult, error) {
	if err := grow(s, plan.Ring); err != nil {
		return nil, err
	}
	s.Run(plan.Ring.Settle)
	if err := s.CheckLeafs(); err != nil {
		return nil, err
	}
	r := &FailuresResult{Before: ask(s, func() { askMany(s, plan.Ring.Lookups) })}
	quiet := s.Sent()
	s.Run(plan.Repair)
	failed, sent := s.Now(), s.Sent()
	crashSome(s, plan.Failed)
	if !s.RunUntil(plan.Repair, time.Second, func() bool { return s.CheckLeafs() == nil }) {
		return nil, fmt.Errorf("%v after %d failed: %w", plan.Repair, plan.Failed, s.CheckLeafs())
	}
	r.LeafsTrue = s.Now() - failed
	s.Run(failed + plan.Repair - s.Now())
	left := float64(s.Ready()) / float64(plan.Ring.Nodes) // fewer nodes are at rest now
	for kind, n := range s.Sent() {
		r.Messages[kind] = (float64(n-sent[kind]) - left*float64(sent[kind]-quiet[kind])) / float64(plan.Failed)
	}
	r.After = ask(s, func() { askMany(s, plan.Ring.Lookups) })

	crashSome(s, plan.Failed) // once more, now asking, which would have blurred the count
	r.During = ask(s, func() {
		for range plan.Ring.Lookups {
			s.Lookup(s.RandomReady(), s.RandomKey())
			s.Run(plan.Looking / time.Duration(plan.Ring.Lookups))
		}
		s.RunUntil(2*lookupPatience, time.Second, func() bool { return s.Pending() == 0 })
	})
	return r, nil
}

// crashSome crashes any count nodes.
func crashSome(s *Sim, count int) {
	for range count {
		s.Crash(s.RandomReady())
	}
}

// ask returns how the lookups ended that asking asks.
func ask(s *Sim, asking func()) LookupStats {
	s.Lookups = LookupStats{}
	asking()
	return s.Lookups
}

// String is a report of several lines.
func (r *FailuresResult) String() string {
	text := ""
	for _, l := range []struct {
		when string
		*LookupStats
	}{{"before", &r.Before}, {"after repair", &r.After}, {"right after as many failed again", &r.During}} {
		text += fmt.Sprintf("%s: %d lookups, mean %.3f hops, at most %d; lost %d, wrong %d, misdelivered %d\n",
			l.when, l.Asked, l.MeanHops(), l.MaxHops(), l.Lost, l.Wrong, l.Misdelivered)
	}
	sum := 0.0
	for kind, n := range r.Messages {
		if sum += n; n > 0.5 || n < -0.5 {
			text += fmt.Sprintf("%v %.1f, ", pastry.Kind(kind), n)
		}
	}
	return text + fmt.Sprintf("together %.1f messages for each failed node; leaf sets true after %v\n", sum, r.LeafsTrue)
}

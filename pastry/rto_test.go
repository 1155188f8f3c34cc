package pastry

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestSteadyRoundTripsAreNotTimedOut measures the same long round trip until its variation is nothing. The wait for an
// acknowledgement must still be longer than it: one that fires just before suspects the innocent and doubles the message at
// each hop, which in a ring of 5,000 without any loss became a storm.
func TestSteadyRoundTripsAreNotTimedOut(t *testing.T) {
	n := New(DefaultConfig(rand.New(rand.NewPCG(1, 1))), NodeHandle{ID: id8(1)})
	var out Outbox
	n.Step(0, &Started{}, &out)
	n.out = &out
	for _, rtt := range []time.Duration{time.Millisecond, 99999500 * time.Nanosecond, 150*time.Millisecond + 900*time.Nanosecond, time.Second} {
		h := NodeHandle{ID: id8(byte(2 + rtt%250)), Port: 1}
		for range 200 {
			n.admit(h, rtt)
		}
		if rto := n.rto(h.ID); rto < rtt+rtt/8 || rto < n.cfg.RTOMin || rto > 2*rtt+n.cfg.RTOMin {
			t.Errorf("round trips take %v, always; the wait is %v", rtt, rto)
		}
	}
}

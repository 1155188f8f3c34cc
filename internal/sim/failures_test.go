package sim

import (
	"testing"
	"time"
)

// TestFailures fails a tenth of a ring at once. LARDER_SIM_NODES and LARDER_SIM_SEED are as for TestHops.
func TestFailures(t *testing.T) {
	size := int(setting("LARDER_SIM_NODES", 300))
	if testing.Short() {
		size = 40
	}
	plan, seed := DefaultFailures(size), setting("LARDER_SIM_SEED", 1)
	if testing.Short() {
		plan.Ring.Lookups, plan.Ring.Settle, plan.Repair = 300, time.Minute, 2*time.Minute
	}
	r, err := Failures(New(ForHops(plan.Ring, seed, NewSphere(100*time.Millisecond))), plan)
	if err != nil {
		t.Fatalf("LARDER_SIM_NODES=%d LARDER_SIM_SEED=%d: %v", size, seed, err)
	}
	t.Logf("LARDER_SIM_NODES=%d LARDER_SIM_SEED=%d: %v", size, seed, r)
	for when, l := range map[string]*LookupStats{"before": &r.Before, "after": &r.After} {
		if int(l.Found) != plan.Ring.Lookups || l.Wrong+l.Misdelivered > 0 {
			t.Errorf("%s: %+v", when, *l)
		}
	}
	// Right after, an asker may name one of its leafs as the root that has just died: wrong, but not delivered wrongly.
	if l := &r.During; l.Lost+l.Misdelivered > 0 || l.Found == 0 || l.Wrong*100 > l.Found {
		t.Errorf("right after the failures: %+v", *l)
	}
	if r.LeafsTrue > 2*time.Minute {
		t.Errorf("leaf sets true only after %v", r.LeafsTrue)
	}
}

package node

import (
	"testing"

	"larder/past"
	"larder/pastry"
)

// TestNearest: of all gateways that know each other, exactly one takes a key for its own; what it is, and where it lies, does not matter.
func TestNearest(t *testing.T) {
	gateways := []past.Candidate{{ID: pastry.NodeID{10}}, {ID: pastry.NodeID{20}}, {ID: pastry.NodeID{200}}}
	for _, c := range []struct{ key, want byte }{{10, 10}, {0, 10}, {14, 10}, {16, 20}, {100, 20}, {190, 200}, {230, 200}, {255, 10}} {
		for _, g := range gateways {
			if got := nearest(pastry.Key{c.key}, g.ID, gateways); got != (g.ID == pastry.NodeID{c.want}) {
				t.Errorf("key %d, gateway %d: %v", c.key, g.ID[0], got)
			}
		}
	}
	if !nearest(pastry.Key{1}, pastry.NodeID{99}, nil) {
		t.Error("the only gateway does nothing")
	}
	// Two at the same distance: one of them.
	twins := []past.Candidate{{ID: pastry.NodeID{10}}, {ID: pastry.NodeID{20}}}
	if nearest(pastry.Key{15}, twins[0].ID, twins) == nearest(pastry.Key{15}, twins[1].ID, twins) {
		t.Error("a key between two gateways is nobody's, or both's")
	}
}

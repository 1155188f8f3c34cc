package past

import (
	"math/rand"
	"testing"

	"larder/pastry"
)

func candidates(rnd *rand.Rand, n int) []Candidate {
	out := make([]Candidate, n)
	for i := range out {
		rnd.Read(out[i].ID[:])
		out[i].CapacityBytes = 1 << 40
	}
	return out
}

func TestPlaceSharesByCapacity(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	nodes := candidates(rnd, 12)
	nodes[3].CapacityBytes *= 2
	const keys = 20_000
	count := map[pastry.NodeID]int{}
	for range keys {
		var key pastry.Key
		rnd.Read(key[:])
		count[Place(key, nodes, 1)[0]]++
	}
	for i, c := range nodes {
		want := float64(keys) / 13
		if i == 3 {
			want *= 2
		}
		if got := float64(count[c.ID]); got < 0.8*want || got > 1.2*want {
			t.Errorf("node %d: %v of %d keys, want %.0f within 20 %%", i, got, keys, want)
		}
	}
}

func TestPlaceMovesOnlyWhatTheLostNodeHeld(t *testing.T) {
	rnd := rand.New(rand.NewSource(2))
	nodes := candidates(rnd, 20)
	for range 1000 {
		var key pastry.Key
		rnd.Read(key[:])
		before := Place(key, nodes, 5)
		after := Place(key, nodes[1:], 5)
		moved := 0
		for _, id := range after {
			if !contains(before, id) {
				moved++
			}
		}
		if want := map[bool]int{true: 1, false: 0}[contains(before, nodes[0].ID)]; moved != want {
			t.Fatalf("key %v: %d holders changed, want %d", key, moved, want)
		}
	}
}

func contains(ids []pastry.NodeID, id pastry.NodeID) bool {
	for _, have := range ids {
		if have == id {
			return true
		}
	}
	return false
}

func TestPlaceSpreadsOverZonesAndHosts(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	nodes := candidates(rnd, 12)
	for i := range nodes {
		nodes[i].Zone = string(rune('a' + i%3))
		nodes[i].Host = string(rune('p' + i%6))
	}
	for range 200 {
		var key pastry.Key
		rnd.Read(key[:])
		zones, hosts := map[string]int{}, map[string]int{}
		for _, id := range Place(key, nodes, 6) {
			for _, c := range nodes {
				if c.ID == id {
					zones[c.Zone]++
					hosts[c.Host]++
				}
			}
		}
		for z, n := range zones {
			if n != 2 {
				t.Fatalf("zone %s has %d of 6 fragments, want 2", z, n)
			}
		}
		if len(hosts) != 6 {
			t.Fatalf("6 fragments on %d hosts", len(hosts))
		}
	}
}

func TestPlaceLeavesOutNodesWithoutCapacity(t *testing.T) {
	rnd := rand.New(rand.NewSource(4))
	nodes := candidates(rnd, 3)
	nodes[1].CapacityBytes = 0
	if got := Place(pastry.Key{}, nodes, 3); len(got) != 2 || contains(got, nodes[1].ID) {
		t.Fatalf("placed on %v", got)
	}
}

func TestStandardRedundancy(t *testing.T) {
	for _, c := range []struct{ length, nodes, data int }{
		{1, 1, 1}, {StripeMax, 1, 1}, {StripeMax, 5, 1}, {StripeMax, 6, 2}, {StripeMax, 11, 7}, {StripeMax, 12, 8}, {StripeMax, 100, 8}, {100 << 10, 100, 2}, {0, 9, 1},
	} {
		if got := Standard(c.length, c.nodes); got != (Redundancy{c.data, 2}) {
			t.Errorf("Standard(%d, %d) = %v, want d = %d", c.length, c.nodes, got, c.data)
		}
	}
}

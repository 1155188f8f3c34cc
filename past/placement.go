package past

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"larder/pastry"

	"github.com/zeebo/blake3"
)

// Candidate is a storage node as placement sees it.
type Candidate struct {
	ID            pastry.NodeID
	CapacityBytes int64
	Zone, Host    string
}

// Place chooses the nodes that keep the fragments 0 … n-1 of what lies at key, best first: weighted rendezvous hashing
// among candidates, weight = capacity rounded down to a power of two, spread over zones and hosts as far as there are enough
// (design.md §4). It returns fewer than n nodes if there are fewer candidates; those with capacity 0 are not candidates.
//
// The score of node i is -ln(u)/w with u uniform in (0, 1) from hash(key, i): its minimum falls on i with probability w_i/Σw,
// and a node that comes or goes moves only what it wins or held (Thaler and Ravishankar, 1998; Schindelhauer and Schomaker, 2005).
//
// The order is that of the scores after spreading, so index f of a stripe belongs on Place(...)[f]. When a node leaves, those
// after it move up: repair therefore asks who holds which index before it moves anything.
func Place(key pastry.Key, candidates []Candidate, n int) []pastry.NodeID {
	ranked := rank(key, candidates)
	chosen := make([]pastry.NodeID, 0, min(n, len(ranked)))
	taken := make([]bool, len(ranked))
	zones, hosts := map[string]int{}, map[string]int{}
	for len(chosen) < n && len(chosen) < len(ranked) {
		best := -1
		for i := range ranked {
			if !taken[i] && (best < 0 || lessUsed(zones, hosts, ranked[i].Candidate, ranked[best].Candidate)) {
				best = i
			}
		}
		taken[best] = true
		c := ranked[best].Candidate
		zones[c.Zone]++
		hosts[c.Zone+"\x00"+c.hostName()]++
		chosen = append(chosen, c.ID)
	}
	return chosen
}

// lessUsed reports whether a's zone, then its host, has fewer fragments already than b's.
func lessUsed(zones, hosts map[string]int, a, b Candidate) bool {
	if byZone := cmp.Compare(zones[a.Zone], zones[b.Zone]); byZone != 0 {
		return byZone < 0
	}
	return hosts[a.Zone+"\x00"+a.hostName()] < hosts[b.Zone+"\x00"+b.hostName()]
}

// hostName is the host, or the node itself where no host is named.
func (c Candidate) hostName() string {
	if c.Host != "" {
		return c.Host
	}
	return string(c.ID[:])
}

type ranked struct {
	Candidate
	score float64
}

// rank sorts the candidates with room by score, ties by nodeId.
func rank(key pastry.Key, candidates []Candidate) []ranked {
	out := make([]ranked, 0, len(candidates))
	for _, c := range candidates {
		if c.CapacityBytes > 0 {
			out = append(out, ranked{c, score(key, c)})
		}
	}
	slices.SortFunc(out, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.score, b.score), a.ID.Compare(b.ID))
	})
	return out
}

func score(key pastry.Key, c Candidate) float64 {
	var in [32]byte
	copy(in[:16], key[:])
	copy(in[16:], c.ID[:])
	sum := blake3.Sum256(in[:])
	u := (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 0.5) / (1 << 53)
	return -math.Log(u) / math.Exp2(float64(bits.Len64(uint64(c.CapacityBytes))-1))
}

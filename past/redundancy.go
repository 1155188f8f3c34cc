package past

// Redundancy is the shape of a stripe: any Data of its Data + Parity fragments give it back. Data = 1 is replication.
type Redundancy struct {
	Data   int `cbor:"1,keyasint"`
	Parity int `cbor:"2,keyasint"`
}

// Total is n, the number of fragments.
func (r Redundancy) Total() int { return r.Data + r.Parity }

// Valid reports whether r can be coded.
func (r Redundancy) Valid() bool {
	return r.Data >= 1 && r.Parity >= 0 && r.Total() <= FragmentsMax
}

// Durable is how many fragments must be durable before a write is acknowledged, with storageNodes live (design.md §4):
// Data + 1, so that any one node may be lost, or as many as there are nodes.
func (r Redundancy) Durable(storageNodes int) int {
	return max(1, min(r.Data+1, r.Total(), storageNodes))
}

// shardMinBytes keeps small stripes from being cut into slivers: one data fragment per 64 KiB.
const shardMinBytes = 64 << 10

// Standard returns the redundancy of the STANDARD storage class for a stripe of length bytes among storageNodes live
// nodes: p = 2, d = min(8, N - 2p, ceil(length / 64 KiB)), at least 1. It names three fragments even where there are fewer
// nodes; those are debts that repair pays as nodes join.
func Standard(length, storageNodes int) Redundancy {
	const parity = 2
	shards := (length + shardMinBytes - 1) / shardMinBytes
	return Redundancy{Data: max(1, min(8, storageNodes-2*parity, shards)), Parity: parity}
}

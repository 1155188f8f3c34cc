// Package sim runs the pure cores in virtual time: an event heap, a network with delays and faults, and an oracle that sees
// every node. The same code that serves S3 runs here with up to 100,000 nodes in one process, and equal seeds give equal runs.
//
// It leaves to others: what nodes do (pastry), and who shows its figures. It covers the overlay so far: no disks, no PAST. It
// reads no clock and starts no goroutine; a Sim belongs to one goroutine at a time.
//
// Where to start: hops.go, a scenario from end to end, and docs/notes/sim.md.
//
//	queue.go     events in virtual time
//	topology.go  how far hosts are from each other
//	network.go   messages under way; loss, jitter, partitions
//	sim.go       nodes and what drives them
//	lookup.go    lookups and how they ended
//	ring.go      the true ring
//	oracle.go    what every node's state should be
//	hops.go      scenario: joins, then lookups                      Pastry §3.1, §3.2
//	failures.go  scenario: many nodes fail at once                  Pastry §3.4
package sim

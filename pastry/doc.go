// Package pastry is prefix routing on a ring of 128-bit nodeIds, as a pure state machine: Pastry (Rowstron and Druschel,
// Middleware 2001) with the liveness of MSPastry (Castro, Costa, Rowstron, DSN 2004), the consistent join of LuPastry (Lu,
// Merz, Weidenbach, 2011), the periodic repair of Bamboo (Rhea et al., USENIX 2004), and seeds that are probed for ever.
//
// Node is one member. Its driver feeds it facts (Input) with the time since its creation, and carries out its wishes
// (Outbox): messages to send, the time at which to wake it, seeds to look up. It reads no clock, starts no goroutine and
// draws randomness only from Config.Rand, so that equal inputs give equal outputs.
//
// It leaves to others: who may be on the ring and whether a peer is who it says (auth/realm and the transport), how messages
// look as bytes (pastry/wire), clocks and connections (pastry/overlay, internal/sim), and everything that is kept (past).
// It does not promise that a key has one root: with failures nobody can (design.md §3).
//
// Where to start: leafset.go and its test, then testdata/*.txt, then node.go.
//
//	id.go            the ring: distances and digits                            Pastry §2
//	leafset.go       the |L| nearest nodeIds                                   Pastry §2.1
//	routingtable.go  one node per prefix and digit                             Pastry §2.1
//	neighborhood.go  the |M| nearest nodes by round-trip time                  Pastry §2.1
//	peers.go         when each known node was heard, and how far it is         MSPastry §4
//	route.go         the next hop                                              Pastry §2.3
//	hop.go           one hop: acknowledgement, retransmission, re-route        MSPastry §3.2
//	lookup.go        finding the nodes around a key, from end to end
//	join.go          becoming a member, and helping one joiner at a time       Pastry §2.4; LuPastry
//	probe.go         suspecting, probing, failing, and failed nodes' return    MSPastry §3.1
//	repair.go        the periodic tasks                                        Bamboo; MSPastry §4.1
package pastry

// Package register is the protocol of design.md §5 as pure state machines: CASPaxos registers with blind writes and
// one-round reads, the rule for trying an operation again, and the chain of configurations of a partition. It knows no
// disk, network, clock or cipher: drivers persist what changed before they send an answer, sign what an Operation wants
// accepted, and check the proofs of what members return.
//
// Two sides:
//
//	Group, Member   one member's state: of one group of registers, and of its partition (acceptor)
//	Operation       one read or write of one group, through all its attempts (proposer)
//	Change          one step of the configuration chain, driven from outside the members
//
// A group is the unit of promise and of acceptance: registers that change together (an object key's head and its versions)
// are entries of one group's value, accepted at one ballot or not at all. Most groups have one entry.
//
// The protocol is Rystsov, "CASPaxos: Replicated State Machines without logs" (2018), with Lamport's single-decree Synod
// for the choice of the next configuration. The checks are in check_test.go; docs/notes/register.md gives the rules and
// says which test fails without each.
package register

// Majority is the size of the smallest majority of n members.
func Majority(n int) int { return n/2 + 1 }

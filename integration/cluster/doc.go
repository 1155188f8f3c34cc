// Package cluster runs real larder processes on loopback for the integration tests: one node, or the ring of `larder dev`. It builds
// the program, waits for its ready line, kills (-9), stops, continues and starts again, and asks the admin API how the ring is. It
// imports nothing else of ours: it sees what a user sees (design.md §10).
//
// LARDER_BINARY names a program to be tested instead of one built from the tree.
package cluster

// Package realm is admission: a realm's Ed25519 root key, the certificates that bind a node's public key to its nodeId and
// roles, the tickets that let a new machine ask for one, and the TLS 1.3 configurations that make every link prove both ends
// (design.md §8). It opens no sockets and keeps no clock: callers pass bytes, times and randomness.
package realm

// Package realm is admission: a realm's Ed25519 root key, the certificates that bind a node's public key to its nodeId and
// roles, the tickets that let a new machine ask for one, the secrets that gateways share, and the TLS 1.3 configurations that
// make every link prove both ends (design.md §1, §8).
//
// It opens no sockets and keeps no clock: callers pass bytes, times and randomness (crypto/rand outside tests). Only files.go
// touches the disk, to keep an Identity. Carrying the join exchange is left to pastry/quicnet; who is revoked, to the system
// partition; the keys of buckets, to past.
//
// The chain of trust, each arrow a signature:
//
//	realm root (self-signed, names realm id and salt; may live offline)
//	  -> issuer certificate (CA, path length 0; a few nodes)
//	       -> node certificate (nodeId, roles; one year)
//	       -> ticket (roles, seeds, expiry; a day) -> join request -> node certificate
//	  -> node certificate, ticket                            the same, signed by the root itself
//
// Names stand in one URI subject alternative name (RFC 5280 §4.2.1.6) of each certificate, in exactly these forms:
//
//	larder://REALMID/root?salt=64 hexadecimal digits
//	larder://REALMID/issuer/NODEID
//	larder://REALMID/node/NODEID?roles=storage,gateway,issuer
//
// docs/notes/realm.md gives the reasons and the bytes.
package realm

// Package quicnet carries Pastry's messages and PAST's streams between nodes over QUIC (RFC 9000): one connection for each
// pair of nodes, mutual TLS 1.3 by the realm's certificates, messages in datagrams (RFC 9221) where they fit. It is the
// Transport of pastry/overlay, which it does not import; it knows the realm's certificates and nothing of Pastry's protocol.
// What messages mean, when to try again and who is alive is left to the overlay.
//
// A connection (ALPN larder/1) begins with one hello each way, on the dialer's first bidirectional stream:
//
//	length 2 | format 1 = 1 | instance 8 | features 8 | address 16 | port 2 | bulk port 2 | later formats' fields, ignored
//
// all big-endian; length counts what follows it. Address and port are where the sender wants to be reached; an unspecified
// address stands for the one its packets come from. After that each bidirectional stream is one request, its first byte the
// service; each datagram, and each unidirectional stream to its end, is one message after a byte of service:
//
//	datagram, unidirectional stream    service 1 = ServiceOverlay | message, at most wire.MessageMax bytes
//	bidirectional stream               service 1 | what the service makes of it
//
// A connection of ALPN larder-join/1 carries one admission (auth/realm) on its first bidirectional stream:
//
//	joiner   length 4 | request, at most realm.JoinMax bytes
//	issuer   status 1: 0 granted, 1 refused | length 4 | answer, or the reason as text
//
// Streams of wire.ServicePast go over a pool of TCP connections with TLS 1.3 where both ends have the bulk lane (ALPN
// larder-bulk/1, the TCP port of the overlay's number), since that costs a quarter of the processor time; the QUIC connection
// stays, and the lane ends with it. A bulk connection begins with the same hello each way; then each stream is
//
//	dialer     service 1 | chunks
//	acceptor   chunks
//	chunk      length 4, at most 1 MiB | bytes          length 0 ends the direction
//
// and the next stream begins where both directions have ended.
//
// docs/notes/quicnet.md gives the settings, and the figures behind them.
package quicnet

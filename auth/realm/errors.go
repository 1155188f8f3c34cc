package realm

import (
	"errors"
	"strings"

	"larder/pastry"
)

// Reasons of a RefusedError; errors.Is finds them through it.
var (
	ErrMalformed      = errors.New("malformed certificate")
	ErrOtherRealm     = errors.New("not of this realm")
	ErrExpired        = errors.New("certificate has expired")
	ErrNotYetValid    = errors.New("certificate is not yet valid")
	ErrNodeIDMismatch = errors.New("nodeId does not match the public key")
	ErrLacksRole      = errors.New("certificate lacks a role")
	ErrUnexpectedNode = errors.New("another node answers at this address")
	ErrRevoked        = errors.New("certificate was revoked")
)

// Reasons why a join request is refused.
var (
	ErrTicketExpired   = errors.New("ticket has expired")
	ErrTicketForged    = errors.New("ticket was not signed by an issuer of this realm")
	ErrRoleNotAllowed  = errors.New("role not allowed")
	ErrNoProof         = errors.New("no proof of the key")
	ErrCannotIssue     = errors.New("this node cannot issue that")
	ErrUnknownFormat   = errors.New("unsupported format")
	ErrDamaged         = errors.New("damaged")
	ErrUnknownSealing  = errors.New("sealed under a key generation that is not held")
	ErrSealBroken      = errors.New("sealed bytes do not open")
	ErrNoIdentityFound = errors.New("no identity")
)

// RefusedError says who was refused and why.
type RefusedError struct {
	NodeID pastry.NodeID // as its certificate claims; zero where it claims none
	Reason error         // one of the Err values above
	Detail string        // what was found; may be empty
}

// Error reads "realm: node 3f2a… refused: certificate has expired: not after 2027-01-01T00:00:00Z".
func (e *RefusedError) Error() string {
	var b strings.Builder
	b.WriteString("realm: node ")
	if e.NodeID == (pastry.NodeID{}) {
		b.WriteString("of unknown nodeId")
	} else {
		b.WriteString(e.NodeID.String())
	}
	b.WriteString(" refused: ")
	b.WriteString(e.Reason.Error())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	return b.String()
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

package realm

import (
	"crypto/x509"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"larder/pastry/wire"
)

// epoch is when the tests' realms are founded.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const allRoles = wire.RoleStorage | wire.RoleGateway | wire.RoleIssuer

// testRand is a deterministic source: a failing test fails again.
func testRand(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func found(t testing.TB, seed byte) *Identity {
	t.Helper()
	id, err := Found(testRand(seed), epoch, wire.RoleStorage|wire.RoleGateway)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func ticketFor(t testing.TB, issuer *Identity, roles wire.Roles) *Ticket {
	t.Helper()
	ticket, err := issuer.NewTicket(testRand(77), epoch, TicketLifetime, roles, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7000")})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// admit takes a new node through the whole exchange.
func admit(t testing.TB, issuer *Identity, seed byte, roles wire.Roles) *Identity {
	t.Helper()
	a, err := NewApplicant(testRand(seed), ticketFor(t, issuer, roles), roles)
	if err != nil {
		t.Fatal(err)
	}
	answer, _, err := issuer.Admit(testRand(seed+100), epoch, a.Request(), publicOf(a.Key), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Accept(answer, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func chainOf(t testing.TB, id *Identity) []*x509.Certificate {
	t.Helper()
	certs, err := parseChain(id.Chain)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

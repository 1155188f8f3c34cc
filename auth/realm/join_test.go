package realm

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

func TestTicketText(t *testing.T) {
	founder := found(t, 1)
	ticket := ticketFor(t, founder, wire.RoleStorage)
	text := ticket.String()
	if strings.ContainsAny(text, " \n") || len(text) > TicketTextMax {
		t.Fatalf("not one word of at most %d bytes: %d", TicketTextMax, len(text))
	}
	back, err := ParseTicket(" " + text + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if back.Roles != wire.RoleStorage || !back.NotAfter.Equal(epoch.Add(TicketLifetime)) || len(back.Seeds) != 1 ||
		back.Realm.ID != founder.Realm.ID || back.Realm.Salt != founder.Realm.Salt || back.ID() != ticket.ID() {
		t.Fatalf("ticket came back as %+v", back)
	}
	if _, err := ParseTicket("larder-ticket-2.abc"); !errors.Is(err, ErrUnknownFormat) {
		t.Fatalf("newer ticket: %v", err)
	}
	// No other text of one changed character is a ticket.
	for i := len(ticketPrefix); i < len(text); i += 7 {
		bad := []byte(text)
		bad[i] = map[bool]byte{true: 'B', false: 'A'}[bad[i] == 'A']
		if _, err := ParseTicket(string(bad)); err == nil {
			t.Fatalf("character %d changed and nobody noticed", i)
		}
	}
}

func TestJoinGivesWhatWasAskedFor(t *testing.T) {
	founder := found(t, 1)
	storage := admit(t, founder, 2, wire.RoleStorage)
	if storage.Secrets != nil || storage.IssuerKey != nil || storage.RootKey != nil || storage.Node.Roles != wire.RoleStorage {
		t.Fatal("a storage node got more than its certificate")
	}
	gateway := admit(t, founder, 3, wire.RoleGateway)
	if gateway.Secrets == nil || !bytes.Equal(gateway.Secrets.Encode(), founder.Secrets.Encode()) {
		t.Fatal("a gateway did not get the secrets")
	}
	issuer := admit(t, founder, 4, allRoles)
	second := admit(t, issuer, 5, wire.RoleStorage)
	if _, err := founder.Realm.Verify(chainOf(t, second), epoch, wire.RoleStorage); err != nil {
		t.Fatalf("admitted by the second issuer: %v", err)
	}
	// A ticket of one issuer serves at another.
	a, _ := NewApplicant(testRand(6), ticketFor(t, founder, wire.RoleStorage), wire.RoleStorage)
	if _, granted, err := issuer.Admit(testRand(7), epoch, a.Request(), publicOf(a.Key), nil); err != nil || granted.NodeID != founder.Realm.Salt.NodeID(publicOf(a.Key)) {
		t.Fatalf("%v, %+v", err, granted)
	}
}

func TestAdmitRefuses(t *testing.T) {
	founder, other := found(t, 1), found(t, 2)
	plainIssuer := admit(t, founder, 3, wire.RoleStorage|wire.RoleIssuer) // neither root key nor secrets
	storage := admit(t, founder, 4, wire.RoleStorage)
	applicant := func(ticket *Ticket, roles wire.Roles) *Applicant {
		a, err := NewApplicant(testRand(5), ticket, roles)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ticket, foreign := ticketFor(t, founder, allRoles), ticketFor(t, other, allRoles)
	// A node that signs tickets with the key of its node certificate.
	selfMade := *storage
	selfMade.IssuerKey, selfMade.IssuerCert = storage.Key, storage.Chain[0]
	forgedTicket := func() *Applicant {
		body := ticketBody{Root: founder.Realm.Root.Raw, Issuer: storage.Chain[0], Seeds: []string{}, Roles: uint8(allRoles), NotAfter: epoch.Add(time.Hour).Unix()}
		raw := encode(&body)
		a := applicant(ticket, wire.RoleStorage)
		a.ticket = encode(&signed{Body: raw, Signature: Sign(storage.Key, domainTicket, raw)})
		return a
	}()
	// One bit of a good ticket's roles raised.
	raised := applicant(ticketFor(t, founder, wire.RoleStorage), wire.RoleGateway)
	raised.ticket = bytes.Replace(raised.ticket, []byte{0x04, 0x01, 0x05}, []byte{0x04, 0x07, 0x05}, 1)
	if bytes.Equal(raised.ticket, ticketFor(t, founder, wire.RoleStorage).raw) {
		t.Fatal("the test did not find the roles in the ticket")
	}

	for _, test := range []struct {
		name   string
		issuer *Identity
		who    *Applicant
		at     time.Time
		cause  error
	}{
		{"expired ticket", founder, applicant(ticket, wire.RoleStorage), epoch.Add(TicketLifetime + ClockSkew + time.Second), ErrTicketExpired},
		{"ticket of another realm", founder, applicant(foreign, wire.RoleStorage), epoch, ErrTicketForged},
		{"ticket by a plain node", founder, forgedTicket, epoch, ErrTicketForged},
		{"ticket with raised roles", founder, raised, epoch, ErrTicketForged},
		{"role beyond the ticket", founder, applicant(ticketFor(t, founder, wire.RoleStorage), wire.RoleGateway), epoch, ErrRoleNotAllowed},
		{"gateway from an issuer without secrets", plainIssuer, applicant(ticket, wire.RoleGateway), epoch, ErrCannotIssue},
		{"issuer from an issuer without the root key", plainIssuer, applicant(ticket, wire.RoleIssuer), epoch, ErrCannotIssue},
		{"node that is no issuer", storage, applicant(ticket, wire.RoleStorage), epoch, ErrCannotIssue},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, _, err := test.issuer.Admit(testRand(8), test.at, test.who.Request(), publicOf(test.who.Key), nil)
			if !errors.Is(err, test.cause) || answer != nil {
				t.Fatalf("got %v, want %v", err, test.cause)
			}
		})
	}
	if _, err := storage.NewTicket(testRand(1), epoch, time.Hour, wire.RoleStorage, nil); !errors.Is(err, ErrCannotIssue) {
		t.Fatalf("ticket from a node that is no issuer: %v", err)
	}
	if _, err := selfMade.NewTicket(testRand(1), epoch, time.Hour, wire.RoleStorage, nil); err == nil {
		t.Fatal("a node certificate signed a ticket")
	}
}

// A request carried by somebody else is worth nothing: the link proves the key, and the answer goes to that key only.
func TestAdmitNeedsTheKey(t *testing.T) {
	founder := found(t, 1)
	a, _ := NewApplicant(testRand(2), ticketFor(t, founder, allRoles), wire.RoleGateway)
	thief, _ := NewKey(testRand(3))
	if _, _, err := founder.Admit(testRand(4), epoch, a.Request(), publicOf(thief), nil); !errors.Is(err, ErrNoProof) {
		t.Fatalf("request over another's link: %v", err)
	}
	// The thief puts the victim's public key, which it cannot sign for, into its own request.
	body := requestBody{PublicKey: publicOf(a.Key), Roles: uint8(wire.RoleStorage), Ticket: a.ticket}
	raw := encode(&body)
	forged := encode(&signed{Body: raw, Signature: Sign(thief, domainJoin, raw)})
	if _, _, err := founder.Admit(testRand(4), epoch, forged, publicOf(a.Key), nil); !errors.Is(err, ErrNoProof) {
		t.Fatalf("signed by another key: %v", err)
	}
	refused := errors.New("revoked")
	if _, _, err := founder.Admit(testRand(4), epoch, a.Request(), publicOf(a.Key), func(pastry.NodeID) error { return refused }); !errors.Is(err, refused) {
		t.Fatalf("refuse was not asked: %v", err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	founder := found(t, 1)
	a, _ := NewApplicant(testRand(2), ticketFor(t, founder, allRoles), wire.RoleStorage|wire.RoleGateway)
	b, _ := NewApplicant(testRand(3), ticketFor(t, founder, allRoles), wire.RoleStorage)
	forB, _, err := founder.Admit(testRand(4), epoch, b.Request(), publicOf(b.Key), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Accept(forB, epoch); err == nil {
		t.Fatal("took a certificate of another key")
	}
	c := *b
	c.Roles |= wire.RoleGateway
	if _, err := c.Accept(forB, epoch); !errors.Is(err, ErrLacksRole) {
		t.Fatalf("got fewer roles than asked for: %v", err)
	}
	b.Realm = found(t, 5).Realm
	if _, err := b.Accept(forB, epoch); !errors.Is(err, ErrOtherRealm) {
		t.Fatalf("another realm's answer: %v", err)
	}
}

func TestRenewal(t *testing.T) {
	founder := found(t, 1)
	node := admit(t, founder, 2, wire.RoleStorage)
	issuer := admit(t, founder, 3, wire.RoleStorage|wire.RoleIssuer)
	due := epoch.Add(NodeLifetime * 3 / 4)
	a := node.Renew()
	answer, granted, err := issuer.Admit(testRand(4), due, a.Request(), publicOf(a.Key), nil)
	if err != nil || !granted.Renewal {
		t.Fatal(err)
	}
	fresh, err := a.Accept(answer, due)
	if err != nil {
		t.Fatal(err)
	}
	next := node.Renewed(fresh)
	if next.NodeID() != node.NodeID() || !next.Node.NotAfter.Equal(due.Add(NodeLifetime)) || next.Node.NeedsRenewal(due) {
		t.Fatal("the new certificate is not a year from now for the same node")
	}
	more := node.Renew()
	more.Roles |= wire.RoleGateway
	if _, _, err := founder.Admit(testRand(4), due, more.Request(), publicOf(more.Key), nil); !errors.Is(err, ErrLacksRole) {
		t.Fatalf("renewal added a role: %v", err)
	}
	if _, _, err := issuer.Admit(testRand(4), epoch.Add(2*NodeLifetime), a.Request(), publicOf(a.Key), nil); !errors.Is(err, ErrExpired) {
		t.Fatalf("an expired certificate renewed itself: %v", err)
	}
	thief := &Applicant{Realm: node.Realm, Roles: node.Node.Roles, chain: node.Chain}
	thief.Key, _ = NewKey(testRand(9))
	if _, _, err := issuer.Admit(testRand(4), due, thief.Request(), publicOf(thief.Key), nil); !errors.Is(err, ErrNoProof) {
		t.Fatalf("renewed another's certificate: %v", err)
	}
}

func FuzzParseTicket(f *testing.F) {
	founder := found(f, 1)
	f.Add(ticketFor(f, founder, allRoles).String())
	f.Add("larder-ticket-1.")
	f.Add("larder-ticket-9.AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		ticket, err := ParseTicket(text)
		if err != nil {
			return
		}
		again, err := ParseTicket(ticket.String())
		if err != nil || again.String() != ticket.String() {
			t.Fatalf("decode, encode, decode is not a fixed point: %v", err)
		}
	})
}

func FuzzAdmit(f *testing.F) {
	founder := found(f, 1)
	a, _ := NewApplicant(testRand(2), ticketFor(f, founder, allRoles), allRoles)
	f.Add(a.Request())
	f.Add(founder.Renew().Request())
	f.Fuzz(func(t *testing.T, request []byte) {
		_, granted, err := founder.Admit(testRand(3), epoch, request, publicOf(a.Key), nil)
		if err == nil && granted.NodeID != founder.Realm.Salt.NodeID(publicOf(a.Key)) {
			t.Fatal("admitted another key than the one proved")
		}
	})
}

func FuzzAccept(f *testing.F) {
	founder := found(f, 1)
	a, _ := NewApplicant(testRand(2), ticketFor(f, founder, allRoles), allRoles)
	answer, _, err := founder.Admit(testRand(3), epoch, a.Request(), publicOf(a.Key), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer)
	f.Fuzz(func(t *testing.T, answer []byte) {
		id, err := a.Accept(answer, epoch)
		if err == nil && !id.PublicKey().Equal(ed25519.PublicKey(publicOf(a.Key))) {
			t.Fatal("accepted an identity of another key")
		}
	})
}

package realm

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"larder/pastry/wire"
)

// TicketLifetime is how long a ticket admits unless its maker says otherwise. Until then it admits any number of nodes: it is
// a bearer secret, to be handed over like a password.
const TicketLifetime = 24 * time.Hour

const (
	ticketPrefix = "larder-ticket-1."
	seedsMax     = 64
	ticketMax    = 12 << 10 // bytes of CBOR
	// TicketTextMax is the largest printed ticket, in bytes.
	TicketTextMax = len(ticketPrefix) + (ticketMax*4+2)/3
)

// Ticket admits new nodes: whoever holds it knows the realm's root, where to ask, and what may be asked for.
type Ticket struct {
	Realm    *Realm
	Seeds    []netip.AddrPort // nodes to ask, best first; issuers among them
	Roles    wire.Roles       // the most that a joiner may ask for
	NotAfter time.Time        // seconds
	raw      []byte           // as signed
}

// ticketBody is the signed part. Secret makes tickets of equal contents differ; its use is that ID can be logged and one
// ticket told from another without the log admitting anybody.
type ticketBody struct {
	Root     []byte   `cbor:"1,keyasint"`
	Issuer   []byte   `cbor:"2,keyasint"` // issuer certificate; empty if the root signed
	Seeds    []string `cbor:"3,keyasint"`
	Roles    uint8    `cbor:"4,keyasint"`
	NotAfter int64    `cbor:"5,keyasint"` // Unix seconds
	Secret   [16]byte `cbor:"6,keyasint"`
}

// signed is a body and the signatures over it, the way tickets and join requests travel.
type signed struct {
	Body            []byte `cbor:"1,keyasint"`
	Signature       []byte `cbor:"2,keyasint"`
	IssuerSignature []byte `cbor:"3,keyasint,omitempty"` // join requests only
}

// NewTicket makes a ticket signed by this node's issuer key (or the root key). It returns ErrCannotIssue if this node has
// neither.
func (id *Identity) NewTicket(rand io.Reader, now time.Time, lifetime time.Duration, roles wire.Roles, seeds []netip.AddrPort) (*Ticket, error) {
	a, err := id.signer()
	if err != nil {
		return nil, err
	}
	if len(seeds) > seedsMax || roles&^rolesKnown != 0 {
		return nil, fmt.Errorf("realm: ticket: too many seeds or unknown roles")
	}
	body := ticketBody{Root: id.Realm.Root.Raw, Seeds: []string{}, Roles: uint8(roles), NotAfter: now.Add(lifetime).Unix(), Issuer: []byte{}}
	if !a.cert.Equal(id.Realm.Root) {
		body.Issuer = a.cert.Raw
	}
	for _, s := range seeds {
		body.Seeds = append(body.Seeds, s.String())
	}
	if _, err := io.ReadFull(rand, body.Secret[:]); err != nil {
		return nil, fmt.Errorf("realm: ticket: %w", err)
	}
	raw := encode(&body)
	return decodeTicket(encode(&signed{Body: raw, Signature: Sign(a.key, domainTicket, raw)}))
}

// String returns the ticket as one line of text. It is a secret.
func (t *Ticket) String() string { return ticketPrefix + base64.RawURLEncoding.EncodeToString(t.raw) }

// ID names the ticket in logs, without being one.
func (t *Ticket) ID() string { return shortHash(t.raw) }

// ParseTicket reads a printed ticket, white space round it allowed. It checks the signature against the realm that the ticket
// itself names, which finds copying mistakes; that it is the right realm's, Admit checks. Errors wrap ErrUnknownFormat,
// ErrDamaged or ErrTicketForged.
func ParseTicket(text string) (*Ticket, error) {
	text = strings.TrimSpace(text)
	if len(text) > TicketTextMax {
		return nil, fmt.Errorf("realm: ticket: %w: too long", ErrDamaged)
	}
	encoded, ok := strings.CutPrefix(text, ticketPrefix)
	if !ok {
		if strings.HasPrefix(text, "larder-ticket-") {
			return nil, fmt.Errorf("realm: ticket: %w: made by a newer release", ErrUnknownFormat)
		}
		return nil, fmt.Errorf("realm: ticket: %w: it does not begin with %q", ErrDamaged, ticketPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("realm: ticket: %w: %w", ErrDamaged, err)
	}
	return decodeTicket(raw)
}

// decodeTicket reads a ticket's CBOR.
func decodeTicket(raw []byte) (*Ticket, error) {
	var s signed
	var body ticketBody
	if err := decode(raw, ticketMax, &s); err != nil {
		return nil, fmt.Errorf("realm: ticket: %w", err)
	}
	if err := decode(s.Body, ticketMax, &body); err != nil {
		return nil, fmt.Errorf("realm: ticket: %w", err)
	}
	if len(body.Seeds) > seedsMax || wire.Roles(body.Roles)&^rolesKnown != 0 {
		return nil, fmt.Errorf("realm: ticket: %w: too many seeds or unknown roles", ErrDamaged)
	}
	r, err := ParseRealm(body.Root)
	if err != nil {
		return nil, fmt.Errorf("realm: ticket: %w", err)
	}
	t := &Ticket{Realm: r, Roles: wire.Roles(body.Roles), NotAfter: time.Unix(body.NotAfter, 0).UTC(), raw: raw}
	for _, text := range body.Seeds {
		seed, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("realm: ticket: %w: seed: %w", ErrDamaged, err)
		}
		t.Seeds = append(t.Seeds, seed)
	}
	signer := r.Root
	if len(body.Issuer) > 0 {
		cert, err := parseCertificate(body.Issuer)
		if err != nil {
			return nil, fmt.Errorf("realm: ticket: issuer: %w", err)
		}
		// Valid when it was made is all that matters here; checkTicket looks at the clock.
		if signer, err = r.authority([]*x509.Certificate{cert}, cert.NotBefore); err != nil {
			return nil, fmt.Errorf("realm: ticket: %w: %w", ErrTicketForged, err)
		}
	}
	if err := VerifySignature(issuerKey(signer), domainTicket, s.Body, s.Signature); err != nil || len(s.IssuerSignature) > 0 {
		return nil, fmt.Errorf("realm: ticket: %w", ErrTicketForged)
	}
	return t, nil
}

// checkTicket is an issuer's judgement of a ticket that was presented: that it is this realm's, and not too old.
func (r *Realm) checkTicket(t *Ticket, now time.Time) error {
	if !t.Realm.Root.Equal(r.Root) {
		return fmt.Errorf("realm: ticket %s: %w: it is of realm %s", t.ID(), ErrTicketForged, t.Realm.ID)
	}
	if now.After(t.NotAfter.Add(ClockSkew)) {
		return fmt.Errorf("realm: ticket %s: %w at %s", t.ID(), ErrTicketExpired, t.NotAfter.Format(time.RFC3339))
	}
	return nil
}

package realm

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// JoinMax is the largest join request or answer, in bytes.
const JoinMax = 64 << 10

// Applicant is a node on its way in, or one that renews: its key, and what it asks for.
type Applicant struct {
	Realm     *Realm
	Key       ed25519.PrivateKey
	IssuerKey ed25519.PrivateKey // made when wire.RoleIssuer is asked for; nil otherwise
	Roles     wire.Roles
	ticket    []byte
	chain     [][]byte // for renewal; nil with a ticket
}

// requestBody is what the applicant signs with its key, and with its issuer key if it has one. Either Ticket or Chain is there.
type requestBody struct {
	PublicKey []byte   `cbor:"1,keyasint"`
	Roles     uint8    `cbor:"2,keyasint"`
	Ticket    []byte   `cbor:"3,keyasint,omitempty"`
	Chain     [][]byte `cbor:"4,keyasint,omitempty"` // the certificates to renew
	IssuerKey []byte   `cbor:"5,keyasint,omitempty"` // public
}

// answerWire is what an issuer hands out.
type answerWire struct {
	Root    []byte   `cbor:"1,keyasint"`
	Chain   [][]byte `cbor:"2,keyasint"`
	Issuer  []byte   `cbor:"3,keyasint,omitempty"` // issuer certificate
	Secrets []byte   `cbor:"4,keyasint,omitempty"` // encoded Secrets, gateways only
}

// NewApplicant makes a key and asks for roles with ticket.
func NewApplicant(rand io.Reader, ticket *Ticket, roles wire.Roles) (*Applicant, error) {
	a := &Applicant{Realm: ticket.Realm, Roles: roles, ticket: ticket.raw}
	var err error
	if a.Key, err = NewKey(rand); err != nil {
		return nil, err
	}
	if roles.Has(wire.RoleIssuer) {
		a.IssuerKey, err = NewKey(rand)
	}
	return a, err
}

// Renew asks for a new certificate for the key and roles that id has.
func (id *Identity) Renew() *Applicant {
	return &Applicant{Realm: id.Realm, Key: id.Key, Roles: id.Node.Roles, chain: id.Chain}
}

// Request returns the join request, for an issuer's Admit.
func (a *Applicant) Request() []byte {
	body := requestBody{PublicKey: publicOf(a.Key), Roles: uint8(a.Roles), Ticket: a.ticket, Chain: a.chain}
	if a.IssuerKey != nil {
		body.IssuerKey = publicOf(a.IssuerKey)
	}
	raw := encode(&body)
	s := signed{Body: raw, Signature: Sign(a.Key, domainJoin, raw)}
	if a.IssuerKey != nil {
		s.IssuerSignature = Sign(a.IssuerKey, domainJoin, raw)
	}
	return encode(&s)
}

// Accept turns an issuer's answer into an identity, after checking that it is of the realm asked, for the key asked, valid at
// now, and has every role asked for.
func (a *Applicant) Accept(answer []byte, now time.Time) (*Identity, error) {
	var w answerWire
	if err := decode(answer, JoinMax, &w); err != nil {
		return nil, fmt.Errorf("realm: join answer: %w", err)
	}
	r, err := ParseRealm(w.Root)
	if err != nil {
		return nil, fmt.Errorf("realm: join answer: %w", err)
	}
	if !r.Root.Equal(a.Realm.Root) {
		return nil, fmt.Errorf("realm: join answer: %w: realm %s", ErrOtherRealm, r.ID)
	}
	id := &Identity{Realm: r, Key: a.Key, Chain: w.Chain}
	if err := id.readChain(); err != nil {
		return nil, fmt.Errorf("realm: join answer: %w", err)
	}
	certs, err := parseChain(id.Chain)
	if err != nil {
		return nil, fmt.Errorf("realm: join answer: %w", err)
	}
	if id.Node, err = r.Verify(certs, now, a.Roles); err != nil {
		return nil, fmt.Errorf("realm: join answer: %w", err)
	}
	if a.IssuerKey != nil {
		id.IssuerKey, id.IssuerCert = a.IssuerKey, w.Issuer
		if err := id.checkIssuer(); err != nil {
			return nil, fmt.Errorf("realm: join answer: issuer certificate: %w", err)
		}
	}
	if len(w.Secrets) > 0 {
		if id.Secrets, err = DecodeSecrets(w.Secrets); err != nil {
			return nil, fmt.Errorf("realm: join answer: %w", err)
		}
	}
	return id, nil
}

// Renewed returns a copy of id with the certificate of a renewal's Accept, and its secrets if it brought any.
func (id *Identity) Renewed(fresh *Identity) *Identity {
	next := *id
	next.Chain, next.Node = fresh.Chain, fresh.Node
	if fresh.Secrets != nil {
		next.Secrets = fresh.Secrets
	}
	return &next
}

// Admission is what an issuer granted, for its log.
type Admission struct {
	NodeID  pastry.NodeID
	Roles   wire.Roles
	Ticket  string // its ID; "" for a renewal
	Renewal bool
}

// Admit judges a join request that came from the holder of proven, the key that the TLS handshake proved, and answers it with
// a certificate; with an issuer certificate where one is asked for and allowed; with the gateways' secrets for a gateway.
// refuse, if not nil, may turn a node away (revocation). The answer holds secrets: it goes to that peer and nowhere else.
//
// It returns errors that wrap ErrDamaged, ErrNoProof, ErrTicketForged, ErrTicketExpired, ErrRoleNotAllowed, ErrCannotIssue (an
// issuer certificate needs the root key, a gateway needs an issuer that is one too), or a *RefusedError for a renewal.
func (id *Identity) Admit(rand io.Reader, now time.Time, request []byte, proven ed25519.PublicKey, refuse func(pastry.NodeID) error) ([]byte, Admission, error) {
	body, err := decodeRequest(request)
	if err != nil {
		return nil, Admission{}, err
	}
	key, roles := ed25519.PublicKey(body.PublicKey), wire.Roles(body.Roles)
	granted := Admission{NodeID: id.Realm.Salt.NodeID(key), Roles: roles, Renewal: len(body.Chain) > 0}
	if !key.Equal(proven) {
		return nil, granted, fmt.Errorf("realm: join: %w: the link was made with another one", ErrNoProof)
	}
	if refuse != nil {
		if err := refuse(granted.NodeID); err != nil {
			return nil, granted, err
		}
	}
	if granted.Renewal {
		err = id.checkRenewal(body, now)
	} else {
		granted.Ticket, err = id.checkTicketFor(body, now)
	}
	if err != nil {
		return nil, granted, err
	}
	answer, err := id.grant(rand, now, body)
	return answer, granted, err
}

// checkRenewal checks that the node has a valid certificate for what it asks for.
func (id *Identity) checkRenewal(body *requestBody, now time.Time) error {
	certs, err := parseChain(body.Chain)
	if err != nil {
		return fmt.Errorf("realm: renew: %w: %w", ErrDamaged, err)
	}
	c, err := id.Realm.Verify(certs, now, wire.Roles(body.Roles))
	if err != nil {
		return err
	}
	if !c.PublicKey.Equal(ed25519.PublicKey(body.PublicKey)) {
		return fmt.Errorf("realm: renew: %w", ErrNoProof)
	}
	if len(body.IssuerKey) > 0 {
		return fmt.Errorf("realm: renew: %w: an issuer certificate needs a ticket", ErrRoleNotAllowed)
	}
	return nil
}

// checkTicketFor checks that the ticket allows what is asked for, and returns its ID.
func (id *Identity) checkTicketFor(body *requestBody, now time.Time) (string, error) {
	ticket, err := decodeTicket(body.Ticket)
	if err != nil {
		return "", err
	}
	if err := id.Realm.checkTicket(ticket, now); err != nil {
		return ticket.ID(), err
	}
	roles := wire.Roles(body.Roles)
	if over := roles &^ ticket.Roles; over != 0 {
		return ticket.ID(), fmt.Errorf("realm: ticket %s: %w: %s", ticket.ID(), ErrRoleNotAllowed, FormatRoles(over))
	}
	if roles.Has(wire.RoleIssuer) != (len(body.IssuerKey) > 0) {
		return ticket.ID(), fmt.Errorf("realm: join: %w: an issuer, and only one, brings an issuer key", ErrDamaged)
	}
	return ticket.ID(), nil
}

// grant makes the answer to a request that was found good.
func (id *Identity) grant(rand io.Reader, now time.Time, body *requestBody) ([]byte, error) {
	key, roles := ed25519.PublicKey(body.PublicKey), wire.Roles(body.Roles)
	w := answerWire{Root: id.Realm.Root.Raw}
	var err error
	if len(body.IssuerKey) > 0 {
		if id.RootKey == nil {
			return nil, fmt.Errorf("realm: join: %w: issuer certificates are made where the realm's root key is", ErrCannotIssue)
		}
		root := authority{key: id.RootKey, cert: id.Realm.Root}
		if w.Issuer, err = root.issuer(rand, id.Realm, id.Realm.Salt.NodeID(key), body.IssuerKey, now); err != nil {
			return nil, err
		}
	}
	if roles.Has(wire.RoleGateway) {
		if id.Secrets == nil {
			return nil, fmt.Errorf("realm: join: %w: gateways are admitted by issuers that hold the gateways' secrets", ErrCannotIssue)
		}
		w.Secrets = id.Secrets.Encode()
	}
	if w.Chain, err = id.Issue(rand, now, key, roles); err != nil {
		return nil, err
	}
	return encode(&w), nil
}

// decodeRequest reads a request and checks its proofs of possession.
func decodeRequest(request []byte) (*requestBody, error) {
	var s signed
	var body requestBody
	if err := decode(request, JoinMax, &s); err != nil {
		return nil, fmt.Errorf("realm: join request: %w", err)
	}
	if err := decode(s.Body, JoinMax, &body); err != nil {
		return nil, fmt.Errorf("realm: join request: %w", err)
	}
	if wire.Roles(body.Roles)&^rolesKnown != 0 {
		return nil, fmt.Errorf("realm: join request: %w: unknown role", ErrRoleNotAllowed)
	}
	if (len(body.Ticket) > 0) == (len(body.Chain) > 0) {
		return nil, fmt.Errorf("realm: join request: %w: either a ticket or a certificate", ErrDamaged)
	}
	if VerifySignature(body.PublicKey, domainJoin, s.Body, s.Signature) != nil {
		return nil, fmt.Errorf("realm: join request: %w", ErrNoProof)
	}
	if len(body.IssuerKey) > 0 && VerifySignature(body.IssuerKey, domainJoin, s.Body, s.IssuerSignature) != nil {
		return nil, fmt.Errorf("realm: join request: %w: issuer key", ErrNoProof)
	}
	return &body, nil
}

// selfSigned is the certificate an applicant shows in the handshake: it says nothing but the key that the handshake proves.
func selfSigned(rand io.Reader, key ed25519.PrivateKey, now time.Time) ([]byte, error) {
	template := &x509.Certificate{NotBefore: now.Add(-ClockSkew), NotAfter: now.Add(TicketLifetime)}
	return authority{key: key, cert: template}.sign(rand, template, publicOf(key))
}

// errNotOneKey refuses a joiner's handshake.
var errNotOneKey = errors.New("realm: a joiner presents one Ed25519 certificate")

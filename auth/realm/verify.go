package realm

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/zeebo/blake3"

	"larder/pastry"
	"larder/pastry/wire"
)

// chainMax is the most certificates a chain has: node, issuer, root.
const chainMax = 3

// Verify checks that chain, a node's certificate first and then its issuer's if it has one, proves a node of this realm with
// all roles of want at time now. Chains have a fixed depth, so that this says more, and more simply, than a general path
// builder: it returns a *RefusedError that names the node and what is wrong with it.
func (r *Realm) Verify(chain []*x509.Certificate, now time.Time, want wire.Roles) (*NodeCertificate, error) {
	if len(chain) == 0 || len(chain) > chainMax {
		return nil, &RefusedError{Reason: ErrMalformed, Detail: "chain of the wrong length"}
	}
	leaf := chain[0]
	c, err := ParseNodeCertificate(leaf)
	if err != nil {
		return nil, &RefusedError{Reason: ErrMalformed, Detail: err.Error()}
	}
	refuse := func(reason error, detail string) (*NodeCertificate, error) {
		return nil, &RefusedError{NodeID: c.NodeID, Reason: reason, Detail: detail}
	}
	if c.Realm != r.ID {
		return refuse(ErrOtherRealm, "certificate of realm "+c.Realm.String())
	}
	if leaf.IsCA || len(leaf.UnhandledCriticalExtensions) > 0 {
		return refuse(ErrMalformed, "not a node certificate")
	}
	parent, err := r.authority(chain[1:], now)
	if err != nil {
		err.(*RefusedError).NodeID = c.NodeID
		return nil, err
	}
	if err := leaf.CheckSignatureFrom(parent); err != nil {
		return refuse(ErrOtherRealm, "signature does not lead to the realm's root")
	}
	if detail, reason := validity(leaf, now); reason != nil {
		return refuse(reason, detail)
	}
	if r.Salt.NodeID(c.PublicKey) != c.NodeID {
		return refuse(ErrNodeIDMismatch, "")
	}
	if missing := want &^ c.Roles; missing != 0 {
		return refuse(ErrLacksRole, FormatRoles(missing))
	}
	return c, nil
}

// authority returns the certificate that signs nodes: the root, or the issuer certificate that rest begins with, verified. A
// root at the end of rest is ignored, since we have our own.
func (r *Realm) authority(rest []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	if detail, reason := validity(r.Root, now); reason != nil {
		return nil, &RefusedError{Reason: reason, Detail: "root: " + detail}
	}
	if len(rest) == 0 || rest[0].Equal(r.Root) {
		return r.Root, nil
	}
	issuer := rest[0]
	id, _, err := parseIssuerName(issuer)
	switch {
	case err != nil:
		return nil, &RefusedError{Reason: ErrMalformed, Detail: "issuer: " + err.Error()}
	case id != r.ID:
		return nil, &RefusedError{Reason: ErrOtherRealm, Detail: "issuer of realm " + id.String()}
	case !issuer.IsCA || len(issuer.UnhandledCriticalExtensions) > 0:
		return nil, &RefusedError{Reason: ErrMalformed, Detail: "issuer: not an issuer certificate"}
	case issuer.CheckSignatureFrom(r.Root) != nil:
		return nil, &RefusedError{Reason: ErrOtherRealm, Detail: "issuer's signature does not lead to the realm's root"}
	}
	if detail, reason := validity(issuer, now); reason != nil {
		return nil, &RefusedError{Reason: reason, Detail: "issuer: " + detail}
	}
	return issuer, nil
}

// validity says why cert is not valid at now, give or take ClockSkew; nil if it is.
func validity(cert *x509.Certificate, now time.Time) (detail string, reason error) {
	if now.Before(cert.NotBefore.Add(-ClockSkew)) {
		return "not before " + cert.NotBefore.UTC().Format(time.RFC3339), ErrNotYetValid
	}
	if now.After(cert.NotAfter.Add(ClockSkew)) {
		return "not after " + cert.NotAfter.UTC().Format(time.RFC3339), ErrExpired
	}
	return "", nil
}

// issuerKey returns the public key of an authority's certificate; parseCertificate made sure of its type.
func issuerKey(cert *x509.Certificate) ed25519.PublicKey { return cert.PublicKey.(ed25519.PublicKey) }

// shortHash names bytes in logs without giving them away.
func shortHash(b []byte) string { return hex.EncodeToString(hash256(b)[:8]) }

func hash256(b []byte) []byte {
	sum := blake3.Sum256(b)
	return sum[:]
}

// checkExpected refuses everybody but expect, unless expect is zero.
func checkExpected(c *NodeCertificate, expect pastry.NodeID) error {
	if expect != (pastry.NodeID{}) && c.NodeID != expect {
		return &RefusedError{NodeID: c.NodeID, Reason: ErrUnexpectedNode, Detail: "expected node " + expect.String()}
	}
	return nil
}

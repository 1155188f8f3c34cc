package realm

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"strings"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// Lifetimes of certificates. A node's is short and renewed by any issuer at two thirds; an issuer's can be renewed by the root
// key only, which may be in a safe, and the root's cannot be renewed at all.
const (
	NodeLifetime   = 365 * 24 * time.Hour
	IssuerLifetime = 10 * NodeLifetime
	RootLifetime   = 50 * NodeLifetime
)

// ClockSkew is how far a verifier's clock and an issuer's may differ: validity is stretched by it at both ends.
const ClockSkew = 5 * time.Minute

// Backdating is how long before its making a certificate is valid already. A node whose clock is hours behind must be able to take part,
// and so must one that was admitted by an issuer whose clock is hours ahead: the time from which a certificate holds keeps nobody out.
const Backdating = 24 * time.Hour

// certificateMax is the largest certificate that is parsed, in bytes. Ours are below 600.
const certificateMax = 4 << 10

// Realm is what everybody in a realm knows of it: enough to verify its certificates, not to make any.
type Realm struct {
	ID   ID
	Salt Salt
	Root *x509.Certificate // self-signed; its URI names ID and Salt
}

// NodeCertificate is what a node certificate says.
type NodeCertificate struct {
	Realm     ID
	NodeID    pastry.NodeID
	Roles     wire.Roles
	PublicKey ed25519.PublicKey
	NotBefore time.Time
	NotAfter  time.Time
}

// NeedsRenewal reports whether two thirds of the certificate's life are over at now.
func (c *NodeCertificate) NeedsRenewal(now time.Time) bool {
	return !now.Before(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3))
}

// ParseRealm reads a realm's root certificate, as DER. It checks that the certificate is one and signed by itself; whether it
// is the right realm's is for the caller to know, from a ticket or from its own directory.
func ParseRealm(rootDER []byte) (*Realm, error) {
	cert, err := parseCertificate(rootDER)
	if err != nil {
		return nil, fmt.Errorf("realm: root certificate: %w", err)
	}
	r := &Realm{Root: cert}
	if r.ID, r.Salt, err = parseRootName(cert); err != nil {
		return nil, fmt.Errorf("realm: root certificate: %w", err)
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("realm: root certificate: %w", err)
	}
	return r, nil
}

// Fingerprint returns the hexadecimal BLAKE3-256 of the root certificate, for people to compare.
func (r *Realm) Fingerprint() string {
	return hex.EncodeToString(hash256(r.Root.Raw))
}

// ParseNodeCertificate reads what a node certificate says and believes it: for certificates that Verify has accepted.
func ParseNodeCertificate(cert *x509.Certificate) (*NodeCertificate, error) {
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("realm: not an Ed25519 certificate")
	}
	c := &NodeCertificate{PublicKey: key, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
	u, err := nameOf(cert)
	if err != nil {
		return nil, err
	}
	if c.Realm, err = ParseID(u.Host); err != nil {
		return nil, err
	}
	if c.NodeID, err = pastry.ParseNodeID(strings.TrimPrefix(u.Path, "/node/")); err != nil {
		return nil, err
	}
	if c.Roles, err = ParseRoles(u.Query().Get("roles")); err != nil {
		return nil, err
	}
	if u.String() != nodeName(c.Realm, c.NodeID, c.Roles).String() {
		return nil, fmt.Errorf("realm: %q is not a node's name", u)
	}
	return c, nil
}

// authority is a key that signs certificates, with its own certificate.
type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

// newRoot makes a realm and its root key.
func newRoot(rand io.Reader, now time.Time) (*Realm, ed25519.PrivateKey, error) {
	var id ID
	var salt Salt
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return nil, nil, fmt.Errorf("realm: new realm: %w", err)
	}
	if _, err := io.ReadFull(rand, salt[:]); err != nil {
		return nil, nil, fmt.Errorf("realm: new realm: %w", err)
	}
	key, err := NewKey(rand)
	if err != nil {
		return nil, nil, err
	}
	template := caTemplate("larder realm "+id.String(), rootName(id, salt), now, RootLifetime)
	template.MaxPathLen = 1
	der, err := authority{key: key, cert: template}.sign(rand, template, publicOf(key))
	if err != nil {
		return nil, nil, err
	}
	r, err := ParseRealm(der)
	return r, key, err
}

// issuer makes an issuer certificate for the node with id, whose issuing key is key.
func (a authority) issuer(rand io.Reader, r *Realm, id pastry.NodeID, key ed25519.PublicKey, now time.Time) ([]byte, error) {
	template := caTemplate("larder issuer "+id.String(), issuerName(r.ID, id), now, IssuerLifetime)
	template.MaxPathLenZero = true
	return a.sign(rand, template, key)
}

// node makes a node certificate.
func (a authority) node(rand io.Reader, r *Realm, key ed25519.PublicKey, roles wire.Roles, now time.Time) ([]byte, error) {
	id := r.Salt.NodeID(key)
	return a.sign(rand, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "larder node " + id.String()},
		URIs:                  []*url.URL{nodeName(r.ID, id, roles)},
		NotBefore:             now.Truncate(time.Second).Add(-Backdating),
		NotAfter:              now.Truncate(time.Second).Add(NodeLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, key)
}

// sign signs template for key. No certificate outlives the one that signs it.
func (a authority) sign(rand io.Reader, template *x509.Certificate, key ed25519.PublicKey) ([]byte, error) {
	var serial [16]byte
	if _, err := io.ReadFull(rand, serial[:]); err != nil {
		return nil, fmt.Errorf("realm: sign certificate: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive and never zero (RFC 5280 §4.1.2.2)
	template.SerialNumber = new(big.Int).SetBytes(serial[:])
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("realm: sign certificate: %w", err)
	}
	return der, nil
}

// caTemplate is what root and issuer certificates share.
func caTemplate(commonName string, name *url.URL, now time.Time, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		URIs:                  []*url.URL{name},
		NotBefore:             now.Truncate(time.Second).Add(-Backdating),
		NotAfter:              now.Truncate(time.Second).Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// The three names of doc.go.

func rootName(id ID, salt Salt) *url.URL {
	return &url.URL{Scheme: "larder", Host: id.String(), Path: "/root", RawQuery: "salt=" + hex.EncodeToString(salt[:])}
}

func issuerName(id ID, node pastry.NodeID) *url.URL {
	return &url.URL{Scheme: "larder", Host: id.String(), Path: "/issuer/" + node.String()}
}

func nodeName(id ID, node pastry.NodeID, roles wire.Roles) *url.URL {
	return &url.URL{Scheme: "larder", Host: id.String(), Path: "/node/" + node.String(), RawQuery: "roles=" + FormatRoles(roles)}
}

// parseRootName reads the name of a root certificate.
func parseRootName(cert *x509.Certificate) (ID, Salt, error) {
	var salt Salt
	u, err := nameOf(cert)
	if err != nil {
		return ID{}, salt, err
	}
	id, err := ParseID(u.Host)
	if err != nil {
		return ID{}, salt, err
	}
	raw, err := hex.DecodeString(u.Query().Get("salt"))
	if err != nil || copy(salt[:], raw) != SaltSize || u.String() != rootName(id, salt).String() {
		return ID{}, salt, fmt.Errorf("realm: %q is not a realm's name", u)
	}
	return id, salt, nil
}

// parseIssuerName reads the name of an issuer certificate.
func parseIssuerName(cert *x509.Certificate) (ID, pastry.NodeID, error) {
	u, err := nameOf(cert)
	if err != nil {
		return ID{}, pastry.NodeID{}, err
	}
	id, err := ParseID(u.Host)
	if err != nil {
		return ID{}, pastry.NodeID{}, err
	}
	node, err := pastry.ParseNodeID(strings.TrimPrefix(u.Path, "/issuer/"))
	if err != nil || u.String() != issuerName(id, node).String() {
		return ID{}, pastry.NodeID{}, fmt.Errorf("realm: %q is not an issuer's name", u)
	}
	return id, node, nil
}

// nameOf returns the one URI of a certificate.
func nameOf(cert *x509.Certificate) (*url.URL, error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "larder" {
		return nil, errors.New("realm: certificate does not name a member of a realm")
	}
	return cert.URIs[0], nil
}

// parseCertificate parses DER of bounded size and refuses what we would not have made.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > certificateMax {
		return nil, fmt.Errorf("realm: certificate of %d bytes, at most %d", len(der), certificateMax)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok {
		return nil, errors.New("realm: not an Ed25519 certificate")
	}
	return cert, nil
}

// parseChain parses certificates in order.
func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) > chainMax {
		return nil, fmt.Errorf("realm: chain of %d certificates", len(chain))
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = parseCertificate(der); err != nil {
			return nil, err
		}
	}
	return certs, nil
}

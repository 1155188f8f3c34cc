package realm

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// Identity is what one node is: its key, the certificates that prove it, and what more it was entrusted with. It is not
// changed after it is made; renewal and rotation make a new one.
type Identity struct {
	Realm *Realm
	Key   ed25519.PrivateKey
	// Chain is the node's certificate and, unless the root signed it, its issuer's, as DER: what TLS presents.
	Chain [][]byte
	// Node is what Chain[0] says.
	Node *NodeCertificate

	IssuerKey  ed25519.PrivateKey // nil unless this node is an issuer
	IssuerCert []byte             // DER, signed by the root; nil unless this node is an issuer
	RootKey    ed25519.PrivateKey // nil except where the realm was founded, and there once it was taken offline
	Secrets    *Secrets           // nil unless this node is a gateway
}

// identityMax is the largest encoding of an Identity without its secrets, in bytes.
const identityMax = 32 << 10

// Found makes a realm and its first node, which holds the root key, an issuer certificate and the gateways' secrets, and has
// the roles given and wire.RoleIssuer. now becomes the start of all its certificates.
func Found(rand io.Reader, now time.Time, roles wire.Roles) (*Identity, error) {
	r, rootKey, err := newRoot(rand, now)
	if err != nil {
		return nil, err
	}
	id := &Identity{Realm: r, RootKey: rootKey}
	if id.Key, err = NewKey(rand); err != nil {
		return nil, err
	}
	if id.IssuerKey, err = NewKey(rand); err != nil {
		return nil, err
	}
	root := authority{key: rootKey, cert: r.Root}
	if id.IssuerCert, err = root.issuer(rand, r, r.Salt.NodeID(publicOf(id.Key)), publicOf(id.IssuerKey), now); err != nil {
		return nil, err
	}
	if id.Secrets, err = NewSecrets(rand); err != nil {
		return nil, err
	}
	if id.Chain, err = id.Issue(rand, now, publicOf(id.Key), roles|wire.RoleIssuer); err != nil {
		return nil, err
	}
	return id, id.readChain()
}

// NodeID returns the node's place on the ring.
func (id *Identity) NodeID() pastry.NodeID { return id.Node.NodeID }

// PublicKey returns the node's public key.
func (id *Identity) PublicKey() ed25519.PublicKey { return publicOf(id.Key) }

// Certificate is the node's certificate as TLS presents it.
func (id *Identity) Certificate() *tls.Certificate {
	return &tls.Certificate{Certificate: id.Chain, PrivateKey: id.Key}
}

// Issue makes a certificate chain for a node's key, signed by this node's issuer key or else by the root key. Whether the key
// deserves it is the caller's to know: Admit checks. It returns ErrCannotIssue if this node has neither key.
func (id *Identity) Issue(rand io.Reader, now time.Time, key ed25519.PublicKey, roles wire.Roles) ([][]byte, error) {
	if len(key) != ed25519.PublicKeySize || roles&^rolesKnown != 0 {
		return nil, fmt.Errorf("realm: issue: unusable key or unknown roles")
	}
	a, err := id.signer()
	if err != nil {
		return nil, err
	}
	der, err := a.node(rand, id.Realm, key, roles, now)
	if err != nil {
		return nil, err
	}
	if a.cert.Equal(id.Realm.Root) {
		return [][]byte{der}, nil
	}
	return [][]byte{der, id.IssuerCert}, nil
}

// WithSecrets returns a copy of id with other gateway secrets.
func (id *Identity) WithSecrets(s *Secrets) *Identity {
	next := *id
	next.Secrets = s
	return &next
}

// WithoutRootKey returns a copy of id that no longer holds the realm's root key, once that was exported.
func (id *Identity) WithoutRootKey() *Identity {
	next := *id
	next.RootKey = nil
	return &next
}

// signer returns what this node signs certificates and tickets with. The issuer key comes first, so that the root key can
// leave the machine without anything changing.
func (id *Identity) signer() (authority, error) {
	if id.IssuerKey != nil {
		cert, err := parseCertificate(id.IssuerCert)
		return authority{key: id.IssuerKey, cert: cert}, err
	}
	if id.RootKey != nil {
		return authority{key: id.RootKey, cert: id.Realm.Root}, nil
	}
	return authority{}, fmt.Errorf("realm: %w: it holds no issuer key", ErrCannotIssue)
}

// identityWire is an Identity on disk, but for its secrets and root key, which have their own files.
type identityWire struct {
	Root       []byte   `cbor:"1,keyasint"`
	Key        []byte   `cbor:"2,keyasint"`
	Chain      [][]byte `cbor:"3,keyasint"`
	IssuerKey  []byte   `cbor:"4,keyasint,omitempty"`
	IssuerCert []byte   `cbor:"5,keyasint,omitempty"`
}

// Encode writes id in deterministic CBOR, without the root key and the gateways' secrets.
func (id *Identity) Encode() []byte {
	return encode(&identityWire{
		Root: id.Realm.Root.Raw, Key: id.Key, Chain: id.Chain, IssuerKey: id.IssuerKey, IssuerCert: id.IssuerCert,
	})
}

// DecodeIdentity reads what Encode wrote and checks that its parts belong together. Whether the certificates are still valid
// is for the caller to check, with Verify or Node.NeedsRenewal: an expired identity can be loaded and say so.
func DecodeIdentity(data []byte) (*Identity, error) {
	var w identityWire
	if err := decode(data, identityMax, &w); err != nil {
		return nil, fmt.Errorf("realm: identity: %w", err)
	}
	r, err := ParseRealm(w.Root)
	if err != nil {
		return nil, fmt.Errorf("realm: identity: %w", err)
	}
	id := &Identity{Realm: r, Key: w.Key, Chain: w.Chain, IssuerKey: w.IssuerKey, IssuerCert: w.IssuerCert}
	if err := checkPrivate(w.Key); err != nil {
		return nil, fmt.Errorf("realm: identity: %w: %w", ErrDamaged, err)
	}
	if err := id.readChain(); err != nil {
		return nil, fmt.Errorf("realm: identity: %w", err)
	}
	if err := id.checkIssuer(); err != nil {
		return nil, fmt.Errorf("realm: identity: %w: %w", ErrDamaged, err)
	}
	return id, nil
}

// readChain sets id.Node from id.Chain, after checking that the chain is id.Key's in id.Realm at the time it was made.
func (id *Identity) readChain() error {
	certs, err := parseChain(id.Chain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(certs) == 0 {
		return fmt.Errorf("%w: no certificate", ErrDamaged)
	}
	if id.Node, err = id.Realm.Verify(certs, certs[0].NotBefore, 0); err != nil {
		return err
	}
	if !id.Node.PublicKey.Equal(publicOf(id.Key)) {
		return fmt.Errorf("%w: certificate of another key", ErrDamaged)
	}
	return nil
}

// checkIssuer checks that issuer key and certificate are both there or both not, and belong together.
func (id *Identity) checkIssuer() error {
	if len(id.IssuerKey) == 0 && len(id.IssuerCert) == 0 {
		id.IssuerKey, id.IssuerCert = nil, nil
		return nil
	}
	if err := checkPrivate(id.IssuerKey); err != nil {
		return err
	}
	cert, err := parseCertificate(id.IssuerCert)
	if err != nil {
		return err
	}
	if _, err := id.Realm.authority([]*x509.Certificate{cert}, cert.NotBefore); err != nil {
		return err
	}
	if !issuerKey(cert).Equal(publicOf(id.IssuerKey)) {
		return fmt.Errorf("issuer certificate of another key")
	}
	return nil
}

package realm

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"larder/pastry/wire"
)

// The nodeId is a contract between releases: a change here moves every node of every realm.
func TestNodeIDGolden(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	salt := Salt{1, 2, 3}
	if got, want := salt.NodeID(publicOf(key)).String(), "f7043ebad8a54913a06c4b18f830825a"; got != want {
		t.Fatalf("nodeId %s, want %s", got, want)
	}
	if salt.NodeID(publicOf(key)) == (Salt{}).NodeID(publicOf(key)) {
		t.Fatal("nodeId does not depend on the salt")
	}
}

func TestVerifyAcceptsRootIssuedAndIssuerIssued(t *testing.T) {
	founder := found(t, 1)
	byIssuer := admit(t, founder, 2, wire.RoleStorage)
	if len(byIssuer.Chain) != 2 {
		t.Fatalf("chain of %d, want node and issuer", len(byIssuer.Chain))
	}
	rootOnly := *founder
	rootOnly.IssuerKey, rootOnly.IssuerCert = nil, nil
	byRoot := admit(t, &rootOnly, 3, wire.RoleStorage)
	if len(byRoot.Chain) != 1 {
		t.Fatalf("chain of %d, want the node alone", len(byRoot.Chain))
	}
	for _, id := range []*Identity{founder, byIssuer, byRoot} {
		c, err := founder.Realm.Verify(chainOf(t, id), epoch, wire.RoleStorage)
		if err != nil {
			t.Fatal(err)
		}
		if c.NodeID != founder.Realm.Salt.NodeID(id.PublicKey()) || c.NodeID != id.NodeID() {
			t.Fatal("verified nodeId is not the key's")
		}
	}
}

// Everything that Verify refuses, by reason and by name.
func TestVerifyRefuses(t *testing.T) {
	founder, other := found(t, 1), found(t, 2)
	node := admit(t, founder, 3, wire.RoleStorage)
	stranger := admit(t, other, 4, wire.RoleStorage)
	r := founder.Realm
	certs := chainOf(t, node)
	issuer := authority{key: founder.IssuerKey, cert: certs[1]}
	year := NodeLifetime

	// A node that was given a name that is not its key's.
	wrongName := forge(t, issuer, func(c *x509.Certificate) {
		c.URIs = []*url.URL{nodeName(r.ID, stranger.NodeID(), wire.RoleStorage)}
	}, node.PublicKey())
	// A node's key signing certificates: its certificate is not a CA's.
	byNode := forge(t, authority{key: node.Key, cert: certs[0]}, func(c *x509.Certificate) {
		c.URIs = []*url.URL{nodeName(r.ID, r.Salt.NodeID(stranger.PublicKey()), allRoles)}
	}, stranger.PublicKey())
	// An issuer's certificate, presented as a node's.
	noNode := chainOf(t, &Identity{Chain: [][]byte{founder.IssuerCert}})
	// A stranger's realm whose root claims our id: only the signature tells.
	impostor := forge(t, authority{key: other.RootKey, cert: other.Realm.Root}, func(c *x509.Certificate) {
		c.URIs = []*url.URL{nodeName(r.ID, r.Salt.NodeID(stranger.PublicKey()), allRoles)}
	}, stranger.PublicKey())

	for _, test := range []struct {
		name  string
		chain []*x509.Certificate
		at    time.Time
		want  wire.Roles
		cause error
		says  string
	}{
		{"other realm", chainOf(t, stranger), epoch, 0, ErrOtherRealm, stranger.NodeID().String()},
		{"impostor realm", []*x509.Certificate{impostor}, epoch, 0, ErrOtherRealm, "root"},
		{"impostor with real issuer", []*x509.Certificate{impostor, certs[1]}, epoch, 0, ErrOtherRealm, "root"},
		{"foreign issuer", []*x509.Certificate{certs[0], chainOf(t, stranger)[1]}, epoch, 0, ErrOtherRealm, other.Realm.ID.String()},
		{"no issuer", certs[:1], epoch, 0, ErrOtherRealm, node.NodeID().String()},
		{"expired", certs, epoch.Add(year + ClockSkew + time.Second), 0, ErrExpired, node.NodeID().String()},
		{"not yet valid", certs, epoch.Add(-Backdating - ClockSkew - time.Second), 0, ErrNotYetValid, node.NodeID().String()},
		{"issuer expired", certs, epoch.Add(11 * year), 0, ErrExpired, "issuer"},
		{"nodeId", []*x509.Certificate{wrongName, certs[1]}, epoch, 0, ErrNodeIDMismatch, stranger.NodeID().String()},
		{"role", certs, epoch, wire.RoleStorage | wire.RoleGateway, ErrLacksRole, "gateway"},
		{"signed by a node", []*x509.Certificate{byNode, certs[0]}, epoch, 0, ErrMalformed, "issuer"},
		{"an issuer as a node", noNode, epoch, 0, ErrMalformed, "malformed"},
		{"nothing", nil, epoch, 0, ErrMalformed, "length"},
		{"long", []*x509.Certificate{certs[0], certs[1], r.Root, r.Root}, epoch, 0, ErrMalformed, "length"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := r.Verify(test.chain, test.at, test.want)
			var refused *RefusedError
			if !errors.As(err, &refused) || !errors.Is(err, test.cause) {
				t.Fatalf("got %v, want %v", err, test.cause)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%q does not say %q", err, test.says)
			}
		})
	}
	for _, at := range []time.Time{epoch.Add(-Backdating - ClockSkew), epoch.Add(year + ClockSkew)} {
		if _, err := r.Verify(certs, at, 0); err != nil {
			t.Fatalf("within the skew allowed: %v", err)
		}
	}
}

// forge signs a node certificate that has been tampered with.
func forge(t *testing.T, a authority, change func(*x509.Certificate), key ed25519.PublicKey) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{NotBefore: epoch, NotAfter: epoch.Add(NodeLifetime), BasicConstraintsValid: true}
	change(template)
	der, err := a.sign(testRand(9), template, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := parseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestNeedsRenewalAtTwoThirds(t *testing.T) {
	node := admit(t, found(t, 1), 2, wire.RoleStorage).Node
	due := epoch.Add(-Backdating + (NodeLifetime+Backdating)*2/3)
	if node.NeedsRenewal(due.Add(-time.Second)) || !node.NeedsRenewal(due) {
		t.Fatal("renewal is not due at two thirds of the lifetime")
	}
}

func TestNodeSignature(t *testing.T) {
	founder := found(t, 1)
	r, message := founder.Realm, []byte("epoch 7")
	signature := Sign(founder.Key, "configuration", message)
	if err := r.VerifyNodeSignature(founder.NodeID(), founder.PublicKey(), "configuration", message, signature); err != nil {
		t.Fatal(err)
	}
	if err := r.VerifyNodeSignature(founder.NodeID(), founder.PublicKey(), "receipt", message, signature); !errors.Is(err, ErrBadSignature) {
		t.Fatalf("other domain: %v", err)
	}
	if err := r.VerifyNodeSignature(founder.NodeID(), founder.PublicKey(), "configuratio", append([]byte("n"), message...), signature); !errors.Is(err, ErrBadSignature) {
		t.Fatalf("domain and message run together: %v", err)
	}
	other := found(t, 2)
	forged := Sign(other.Key, "configuration", message)
	if err := r.VerifyNodeSignature(founder.NodeID(), other.PublicKey(), "configuration", message, forged); !errors.Is(err, ErrNodeIDMismatch) {
		t.Fatalf("other key: %v", err)
	}
	if err := VerifySignature(nil, "configuration", message, signature); !errors.Is(err, ErrBadSignature) {
		t.Fatalf("no key: %v", err)
	}
}

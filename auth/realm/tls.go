package realm

import (
	"crypto/ed25519"
	"crypto/tls"
	"io"
	"sync/atomic"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// Application protocols (ALPN, RFC 7301).
const (
	Protocol     = "larder/1"      // between nodes
	ProtocolJoin = "larder-join/1" // a joiner, who has no certificate yet, to an issuer
	ProtocolBulk = "larder-bulk/1" // between nodes, over TCP
)

// Credentials are a node's identity in use: what its TLS configurations present, replaceable while they run, and whom they
// refuse. Safe for concurrent use.
type Credentials struct {
	identity atomic.Pointer[Identity]
	revoked  atomic.Pointer[map[pastry.NodeID]struct{}]
	now      func() time.Time
}

// NewCredentials returns credentials that present id and judge validity by now.
func NewCredentials(id *Identity, now func() time.Time) *Credentials {
	c := &Credentials{now: now}
	c.identity.Store(id)
	return c
}

// Identity returns the identity in use.
func (c *Credentials) Identity() *Identity { return c.identity.Load() }

// Replace makes id what new handshakes present. It must be of the same realm and key.
func (c *Credentials) Replace(id *Identity) { c.identity.Store(id) }

// Revoke sets the nodes that new handshakes refuse, in place of those of the call before. Links that exist are the caller's
// to close.
func (c *Credentials) Revoke(nodes []pastry.NodeID) {
	set := make(map[pastry.NodeID]struct{}, len(nodes))
	for _, id := range nodes {
		set[id] = struct{}{}
	}
	c.revoked.Store(&set)
}

// CheckRevoked returns a *RefusedError if the node is revoked.
func (c *Credentials) CheckRevoked(id pastry.NodeID) error {
	if set := c.revoked.Load(); set != nil {
		if _, ok := (*set)[id]; ok {
			return &RefusedError{NodeID: id, Reason: ErrRevoked}
		}
	}
	return nil
}

// ServerConfig accepts nodes of the realm by the given protocols, and joiners by ProtocolJoin if that is among them. refused,
// if not nil, is told of everybody who is turned away.
func (c *Credentials) ServerConfig(refused func(error), protocols ...string) *tls.Config {
	cfg := baseConfig(protocols...)
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Identity().Certificate(), nil }
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		err := c.verify(state, pastry.NodeID{}, 0)
		if err != nil && refused != nil {
			refused(err)
		}
		return err
	}
	return cfg
}

// ClientConfig reaches a node of the realm that has the roles of want and, unless expect is zero, the nodeId expect.
func (c *Credentials) ClientConfig(expect pastry.NodeID, want wire.Roles, protocol string) *tls.Config {
	cfg := baseConfig(protocol)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Identity().Certificate(), nil }
	cfg.InsecureSkipVerify = true // no host names here: VerifyConnection checks the chain, nodeId and roles
	cfg.VerifyConnection = func(state tls.ConnectionState) error { return c.verify(state, expect, want) }
	return cfg
}

// JoinConfig is a joiner's: it proves key, and accepts a node of its realm that may issue certificates. now also dates the
// certificate that shows the key.
func (a *Applicant) JoinConfig(rand io.Reader, now time.Time) (*tls.Config, error) {
	der, err := selfSigned(rand, a.Key, now)
	if err != nil {
		return nil, err
	}
	cfg := baseConfig(ProtocolJoin)
	cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.Key}}
	cfg.InsecureSkipVerify = true // as in ClientConfig
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := a.Realm.Verify(state.PeerCertificates, now, wire.RoleIssuer)
		return err
	}
	return cfg, nil
}

// JoinerKey returns the key that a joiner proved in its handshake.
func JoinerKey(state tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(state.PeerCertificates) != 1 {
		return nil, errNotOneKey
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, errNotOneKey
	}
	return key, nil
}

// verify judges the peer of a handshake.
func (c *Credentials) verify(state tls.ConnectionState, expect pastry.NodeID, want wire.Roles) error {
	if state.NegotiatedProtocol == ProtocolJoin {
		_, err := JoinerKey(state)
		return err
	}
	cert, err := c.Identity().Realm.Verify(state.PeerCertificates, c.now(), want)
	if err != nil {
		return err
	}
	if err := c.CheckRevoked(cert.NodeID); err != nil {
		return err
	}
	return checkExpected(cert, expect)
}

// baseConfig is TLS 1.3 without resumption: a resumed session would skip the proof of the key, and links are few and long.
func baseConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             protocols,
		SessionTicketsDisabled: true,
	}
}

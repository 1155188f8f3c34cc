package realm

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// shake runs one handshake over a pipe and returns what each end thinks of it.
func shake(t *testing.T, client, server *tls.Config) (state tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(10 * time.Second)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	c, s := tls.Client(a, client), tls.Server(b, server)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // what tells a TLS 1.3 client that its certificate was taken
		}
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	} else {
		a.Close()
	}
	serverErr = <-done
	return c.ConnectionState(), clientErr, serverErr
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

func TestTLSProvesBothEnds(t *testing.T) {
	founder, other := found(t, 1), found(t, 2)
	node := admit(t, founder, 3, wire.RoleStorage)
	f, n, o := NewCredentials(founder, at(epoch)), NewCredentials(node, at(epoch)), NewCredentials(other, at(epoch))

	state, cErr, sErr := shake(t, n.ClientConfig(founder.NodeID(), wire.RoleGateway, Protocol), f.ServerConfig(nil, Protocol, ProtocolJoin))
	if cErr != nil || sErr != nil {
		t.Fatalf("two nodes of one realm: %v, %v", cErr, sErr)
	}
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != Protocol {
		t.Fatalf("%x %q", state.Version, state.NegotiatedProtocol)
	}

	var told error
	refused := func(err error) { told = err }
	lax := o.ClientConfig(pastry.NodeID{}, 0, Protocol)
	lax.VerifyConnection = nil // a stranger that does not care who we are
	if _, _, sErr = shake(t, lax, f.ServerConfig(refused, Protocol)); !errors.Is(sErr, ErrOtherRealm) || !errors.Is(told, ErrOtherRealm) {
		t.Fatalf("server took a stranger: %v, told %v", sErr, told)
	}
	if _, cErr, _ = shake(t, n.ClientConfig(pastry.NodeID{}, 0, Protocol), o.ServerConfig(nil, Protocol)); !errors.Is(cErr, ErrOtherRealm) {
		t.Fatalf("client took a stranger: %v", cErr)
	}
	if _, cErr, _ = shake(t, n.ClientConfig(node.NodeID(), 0, Protocol), f.ServerConfig(nil, Protocol)); !errors.Is(cErr, ErrUnexpectedNode) {
		t.Fatalf("client took another node: %v", cErr)
	}
	if _, cErr, _ = shake(t, f.ClientConfig(pastry.NodeID{}, wire.RoleGateway, Protocol), n.ServerConfig(nil, Protocol)); !errors.Is(cErr, ErrLacksRole) {
		t.Fatalf("client took a storage node for a gateway: %v", cErr)
	}
	late := NewCredentials(founder, at(epoch.Add(2*NodeLifetime)))
	if _, _, sErr = shake(t, n.ClientConfig(pastry.NodeID{}, 0, Protocol), late.ServerConfig(nil, Protocol)); !errors.Is(sErr, ErrExpired) {
		t.Fatalf("server took an expired node: %v", sErr)
	}
	none := n.ClientConfig(pastry.NodeID{}, 0, Protocol)
	none.GetClientCertificate = nil
	if _, _, sErr = shake(t, none, f.ServerConfig(nil, Protocol)); sErr == nil {
		t.Fatal("server took a client without a certificate")
	}
	old := n.ClientConfig(pastry.NodeID{}, 0, Protocol)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, sErr = shake(t, old, f.ServerConfig(nil, Protocol)); sErr == nil {
		t.Fatal("server spoke TLS 1.2")
	}
	f.Revoke([]pastry.NodeID{node.NodeID()})
	if _, _, sErr = shake(t, n.ClientConfig(pastry.NodeID{}, 0, Protocol), f.ServerConfig(nil, Protocol)); !errors.Is(sErr, ErrRevoked) {
		t.Fatalf("server took a revoked node: %v", sErr)
	}
}

func TestTLSReplacedCertificateIsPresented(t *testing.T) {
	founder := found(t, 1)
	f := NewCredentials(founder, at(epoch))
	n := NewCredentials(admit(t, founder, 2, wire.RoleStorage), at(epoch))
	client, server := n.ClientConfig(pastry.NodeID{}, 0, Protocol), f.ServerConfig(nil, Protocol)
	chain, err := founder.Issue(testRand(9), epoch.Add(time.Minute), founder.PublicKey(), allRoles)
	if err != nil {
		t.Fatal(err)
	}
	next := *founder
	next.Chain = chain
	f.Replace(&next)
	state, cErr, sErr := shake(t, client, server)
	if cErr != nil || sErr != nil || !state.PeerCertificates[0].NotBefore.Equal(epoch.Add(time.Minute-Backdating)) {
		t.Fatalf("old certificate presented: %v, %v", cErr, sErr)
	}
}

func TestTLSJoin(t *testing.T) {
	founder := found(t, 1)
	f := NewCredentials(founder, at(epoch))
	a, err := NewApplicant(rand.Reader, ticketFor(t, founder, wire.RoleStorage), wire.RoleStorage)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := a.JoinConfig(rand.Reader, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, cErr, sErr := shake(t, cfg, f.ServerConfig(nil, Protocol, ProtocolJoin)); cErr != nil || sErr != nil {
		t.Fatalf("joiner: %v, %v", cErr, sErr)
	}
	storage := NewCredentials(admit(t, founder, 3, wire.RoleStorage), at(epoch))
	if _, cErr, _ := shake(t, cfg, storage.ServerConfig(nil, Protocol, ProtocolJoin)); !errors.Is(cErr, ErrLacksRole) {
		t.Fatalf("joiner took a storage node for an issuer: %v", cErr)
	}
	stranger := NewCredentials(found(t, 4), at(epoch))
	if _, cErr, _ := shake(t, cfg, stranger.ServerConfig(nil, Protocol, ProtocolJoin)); !errors.Is(cErr, ErrOtherRealm) {
		t.Fatalf("joiner gave its ticket to a stranger: %v", cErr)
	}
	// A joiner's certificate opens nothing else.
	cfg.NextProtos = []string{Protocol}
	if _, _, sErr := shake(t, cfg, f.ServerConfig(nil, Protocol, ProtocolJoin)); !errors.Is(sErr, ErrMalformed) {
		t.Fatalf("joiner came in as a node: %v", sErr)
	}
}

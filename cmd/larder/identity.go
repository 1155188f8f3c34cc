package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"larder/auth/realm"
	"larder/pastry/quicnet"
	"larder/pastry/wire"

	"go.uber.org/zap"
)

// identify loads this node's identity from the data directory, or founds a realm, or asks to be admitted to one. founded says
// that this node holds the realm's root and began it.
func (p *process) identify(ctx context.Context) (id *realm.Identity, err error) {
	dir := filepath.Join(p.s.data, "realm")
	id, err = realm.Load(dir)
	if err == nil {
		return id, nil
	}
	if !errors.Is(err, realm.ErrNoIdentityFound) {
		return nil, err
	}
	roles := p.roles()
	if p.s.ticket == "" {
		if len(p.s.join) > 0 {
			return nil, errors.New("--join needs --ticket FILE on a node's first start: make one with 'larder admin ticket' on a node of the realm")
		}
		if id, err = realm.Found(rand.Reader, p.now(), roles); err != nil {
			return nil, err
		}
		p.log.Info("realm founded", zap.Stringer("realm", id.Realm.ID), zap.Stringer("nodeId", id.NodeID()))
	} else if id, err = p.apply(ctx, roles); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return id, realm.Save(dir, id)
}

// found begins the system partition of a realm that was founded here, once for ever: a disk that was lost since then must not begin
// it again, empty.
func (p *process) found(ctx context.Context, id *realm.Identity) error {
	if id.RootKey == nil || p.s.ticket != "" || len(p.s.join) > 0 || len(p.remembered().Peers) > 0 {
		return nil
	}
	mark := filepath.Join(p.s.data, "realm", "begun")
	_, err := os.Stat(mark)
	switch {
	case err == nil && p.node.Begun():
		return nil
	case err == nil:
		return fmt.Errorf("%s is empty, and realm %v was begun here before: name another node of it with --join, or remove %s to found a new realm",
			p.storeDir(), id.Realm.ID, filepath.Join(p.s.data, "realm"))
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := p.node.Found(ctx); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o600)
}

// roles are what the settings make of this node.
func (p *process) roles() (roles wire.Roles) {
	if p.s.s3 != "" {
		roles |= wire.RoleGateway
	}
	if p.capacity > 0 {
		roles |= wire.RoleStorage
	}
	return roles
}

// apply asks the ticket's seeds for admission, as an issuer if they can make one.
func (p *process) apply(ctx context.Context, roles wire.Roles) (*realm.Identity, error) {
	ticket, err := p.readTicket()
	if err != nil {
		return nil, err
	}
	issuers := append(parseSeeds(p.s.join), ticket.Seeds...)
	if ticket.Roles.Has(wire.RoleIssuer) && roles.Has(wire.RoleGateway) {
		if id, err := p.applyFor(ctx, issuers, ticket, roles|wire.RoleIssuer); err == nil {
			return id, nil
		}
		p.log.Info("no issuer certificate to be had: asking for a plain one")
	}
	return p.applyFor(ctx, issuers, ticket, roles)
}

func (p *process) readTicket() (*realm.Ticket, error) {
	raw, err := os.ReadFile(p.s.ticket)
	if err != nil {
		return nil, fmt.Errorf("ticket: %w", err)
	}
	ticket, err := realm.ParseTicket(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("ticket: %w", err)
	}
	return ticket, nil
}

func (p *process) applyFor(ctx context.Context, issuers []netip.AddrPort, ticket *realm.Ticket, roles wire.Roles) (*realm.Identity, error) {
	applicant, err := realm.NewApplicant(rand.Reader, ticket, roles)
	if err != nil {
		return nil, err
	}
	id, err := quicnet.Join(ctx, issuers, applicant)
	if err == nil {
		p.log.Info("admitted", zap.Stringer("realm", id.Realm.ID), zap.Stringer("nodeId", id.NodeID()), zap.String("roles", realm.FormatRoles(id.Node.Roles)))
	}
	return id, err
}

// admit answers join requests.
func (p *process) admit(_ context.Context, request []byte, from quicnet.Joiner) ([]byte, error) {
	answer, granted, err := p.credentials.Identity().Admit(rand.Reader, p.now(), request, from.Key, p.credentials.CheckRevoked)
	if err == nil {
		p.log.Info("node admitted", zap.Stringer("nodeId", granted.NodeID), zap.String("roles", realm.FormatRoles(granted.Roles)), zap.String("ticket", granted.Ticket), zap.Bool("renewal", granted.Renewal))
	}
	return answer, err
}

// renewEvery is how often the node looks whether its certificate is old.
const renewEvery = time.Hour

// renew keeps the certificate young until ctx ends.
func (p *process) renew(ctx context.Context, seeds func() []netip.AddrPort) {
	for {
		if id := p.credentials.Identity(); id.Node.NeedsRenewal(p.now()) {
			if fresh, err := quicnet.Join(ctx, seeds(), id.Renew()); err != nil {
				p.log.Warn("certificate not renewed", zap.Error(err))
			} else if err := realm.Save(filepath.Join(p.s.data, "realm"), id.Renewed(fresh)); err != nil {
				p.log.Error("renewed certificate not saved", zap.Error(err))
			} else {
				p.credentials.Replace(id.Renewed(fresh))
				p.log.Info("certificate renewed", zap.Time("notAfter", fresh.Node.NotAfter))
			}
		}
		select {
		case <-time.After(renewEvery):
		case <-ctx.Done():
			return
		}
	}
}

func parseSeeds(addresses []string) (out []netip.AddrPort) {
	for _, a := range addresses {
		if addr, err := netip.ParseAddrPort(strings.TrimSpace(a)); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"larder/pastry"

	"go.uber.org/zap"
)

// peersFile is what the next start should know although the store may be damaged: where others are, and whether they have
// everything that is here.
type peersFile struct {
	Peers      []string `json:"peers"`
	Replicated bool     `json:"replicated"`
}

func (p *process) peersPath() string { return filepath.Join(p.s.data, "peers.json") }

// remembered reads the file; an absent or damaged one is an empty one.
func (p *process) remembered() (f peersFile) {
	raw, err := os.ReadFile(p.peersPath())
	if err != nil || json.Unmarshal(raw, &f) != nil {
		return peersFile{}
	}
	return f
}

// remember writes it, when it has changed. Nodes that are gone for the moment stay in it while there is nobody else.
func (p *process) remember(handles []pastry.NodeHandle) {
	now := peersFile{Replicated: p.node.Replicated()}
	for _, h := range handles {
		now.Peers = append(now.Peers, netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port).String())
	}
	slices.Sort(now.Peers)
	before := p.remembered()
	if len(now.Peers) == 0 {
		now.Peers = before.Peers
	}
	if slices.Equal(now.Peers, before.Peers) && now.Replicated == before.Replicated {
		return
	}
	raw, err := json.Marshal(now)
	if err == nil {
		err = os.WriteFile(p.peersPath()+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(p.peersPath()+".new", p.peersPath())
	}
	if err != nil {
		p.log.Warn("known nodes not written down", zap.Error(err))
	}
}

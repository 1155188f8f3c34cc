package node

import (
	"testing"

	"larder/past/register"
)

// TestNeeded: a disk is needed while it holds, or keeps, the groups of an epoch that it was the only member of.
func TestNeeded(t *testing.T) {
	self, other := register.MemberID{Node: [16]byte{1}, Incarnation: 1}, register.MemberID{Node: [16]byte{2}, Incarnation: 1}
	first := register.Configuration{Members: []register.MemberID{self}}
	second := register.Certificate{Succession: register.Succession{Next: []register.Configuration{{Epoch: 1, Members: []register.MemberID{self, other, {Node: [16]byte{3}}}}}}}
	alone, grown := register.Lineage{Genesis: first}, register.Lineage{Genesis: first, Certificates: []register.Certificate{second}}
	for _, c := range []struct {
		name string
		m    register.Member
		want bool
	}{
		{"never heard of", register.Member{}, false},
		{"only member", register.Member{Lineage: alone, Active: true}, true},
		{"frozen, the others have to pull", register.Member{Lineage: grown, Active: true, Fenced: true}, true},
		{"entered, the old groups kept", register.Member{Lineage: grown, Epoch: 1, Active: true, Kept: &register.Kept{}}, true},
		{"entered, the old groups released", register.Member{Lineage: grown, Epoch: 1, Active: true}, false},
		{"forgotten", register.Member{Lineage: grown}, false},
		{"another's", register.Member{Lineage: register.Lineage{Genesis: register.Configuration{Members: []register.MemberID{other}}}, Active: true}, false},
		{"of a deleted bucket", register.Member{Lineage: register.Lineage{Genesis: register.Configuration{Members: []register.MemberID{self}, Closed: true}}, Active: true}, false},
	} {
		if got := needed(&c.m, self); got != c.want {
			t.Errorf("%s: needed %v, want %v", c.name, got, c.want)
		}
	}
}

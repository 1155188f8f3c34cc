package realm

import (
	"fmt"
	"strings"

	"larder/pastry/wire"
)

// roleNames are the words for roles in certificates, flags and logs, by ascending bit.
var roleNames = []struct {
	role wire.Roles
	name string
}{
	{wire.RoleStorage, "storage"},
	{wire.RoleGateway, "gateway"},
	{wire.RoleIssuer, "issuer"},
}

// rolesKnown is every role of larder/1.
const rolesKnown = wire.RoleStorage | wire.RoleGateway | wire.RoleIssuer

// FormatRoles returns the names of roles, joined by commas, in one order; "" for none.
func FormatRoles(roles wire.Roles) string {
	var names []string
	for _, r := range roleNames {
		if roles.Has(r.role) {
			names = append(names, r.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRoles reads what FormatRoles writes, in any order.
func ParseRoles(s string) (wire.Roles, error) {
	var roles wire.Roles
	if s == "" {
		return 0, nil
	}
next:
	for word := range strings.SplitSeq(s, ",") {
		for _, r := range roleNames {
			if word == r.name {
				roles |= r.role
				continue next
			}
		}
		return 0, fmt.Errorf("realm: unknown role %q", word)
	}
	return roles, nil
}

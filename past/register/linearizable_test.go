package register

import (
	"slices"
	"strings"
)

// linearizable looks for an order of the operations that explains what they returned, by brute force.
func linearizable(ops []*op) bool {
	type point struct {
		done  uint32
		state string
	}
	seen := map[point]bool{}
	var returned uint32
	for i, o := range ops {
		if o.returned != 0 {
			returned |= 1 << i
		}
	}
	var search func(p point) bool
	search = func(p point) bool {
		if p.done&returned == returned {
			return true
		}
		if seen[p] {
			return false
		}
		seen[p] = true
		horizon := 1 << 30
		for i, o := range ops {
			if p.done>>i&1 == 0 && o.returned != 0 {
				horizon = min(horizon, o.returned)
			}
		}
		for i, o := range ops {
			if p.done>>i&1 == 1 || o.none || o.invoked > horizon {
				continue
			}
			next, result := o.effect(p.state)
			if (o.returned == 0 || o.result == result) && search(point{p.done | 1<<i, next}) {
				return true
			}
		}
		return false
	}
	return search(point{})
}

// effect is the sequential specification.
func (o *op) effect(before string) (after, result string) {
	h, versions, _ := strings.Cut(before, ",")
	switch o.kind {
	case 'p':
		return o.arg, "ok"
	case 'd':
		return "", "ok"
	case 'c':
		if h != o.expected {
			return before, "refused"
		}
		return join(o.arg, versions), "ok"
	case 'v':
		all := strings.FieldsFunc(versions, func(r rune) bool { return r == ',' })
		if h != "" && !slices.Contains(all, h) {
			all = append(all, h)
			slices.Sort(all)
		}
		return join(o.arg, strings.Join(all, ",")), "ok"
	default:
		return before, before
	}
}

func join(head, versions string) string {
	if versions == "" {
		return head
	}
	return head + "," + versions
}

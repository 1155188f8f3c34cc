package bench

import (
	"cmp"
	"fmt"
	"strings"
)

// Verb is what a load does again and again.
type Verb string

// The verbs.
const (
	Put    Verb = "PUT"
	Get    Verb = "GET"
	List   Verb = "LIST"
	Delete Verb = "DELETE"
)

// Load is one kind of request, some of them in flight at all times.
type Load struct {
	Name     string
	Verb     Verb
	Size     int // of one body, in bytes
	InFlight int // connections
}

// Loads are the known ones, in the order in which they are best run: GET and DELETE use what PUT left.
var Loads = []Load{
	{"put4k", Put, 4 << 10, 16},
	{"get4k", Get, 4 << 10, 16},
	{"put1m", Put, 1 << 20, 8},
	{"get1m", Get, 1 << 20, 8},
	{"put64m", Put, 64 << 20, 2},
	{"get64m", Get, 64 << 20, 2},
	{"list", List, 4 << 10, 4},
	{"delete", Delete, 4 << 10, 16},
	// For memory: what a server holds must not depend on how many objects there are (put4k lies in records, put32k beside them) ...
	{"put32k", Put, 32 << 10, 16},
	// ... nor on how long they are.
	{"put1g", Put, 1 << 30, 4},
	{"get1g", Get, 1 << 30, 4},
}

// Standard names the loads of docs/figures.md.
const Standard = "put4k,get4k,put1m,get1m,put64m,get64m,list,delete"

// listKeys is how many keys one LIST returns: a full page.
const listKeys = 1000

// ParseLoads takes names of Loads, separated by commas; "" stands for Standard.
func ParseLoads(names string) ([]Load, error) {
	names = cmp.Or(names, Standard)
	var out []Load
next:
	for _, name := range strings.Split(names, ",") {
		for _, l := range Loads {
			if l.Name == strings.TrimSpace(name) {
				out = append(out, l)
				continue next
			}
		}
		return nil, fmt.Errorf("bench: no load %q", name)
	}
	return out, nil
}

// counted reports whether the load is measured in requests and not in bytes.
func (l Load) counted() bool { return l.Verb == List || l.Verb == Delete || l.Size < 64<<10 }

// source is the load that leaves the objects that l uses.
func (l Load) source() Load {
	switch l.Verb {
	case List:
		return Load{Name: "list", Verb: Put, Size: l.Size, InFlight: 16}
	case Get, Delete:
		for _, s := range Loads {
			if s.Verb == Put && s.Size == l.Size {
				return s
			}
		}
	}
	return Load{Name: l.Name, Verb: Put, Size: l.Size, InFlight: l.InFlight}
}

// atLeast is how many objects l wants to find.
func (l Load) atLeast() int64 {
	switch l.Verb {
	case List:
		return listKeys
	case Delete:
		return 4096
	case Get:
		return int64(max(l.InFlight, min(1024, 64<<20/l.Size)))
	}
	return 0
}

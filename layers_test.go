package larder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room is one package of the module and what it may know of the others. Paths are without the module's name.
type room struct {
	path    string
	imports []string          // packages of ours that it may import
	tests   []string          // those that its tests may import besides
	why     string            // said when an import breaks the rule
	pure    bool              // design.md §2: inputs and now in, effects out
	but     map[string]string // what a pure package imports all the same, and why that does no harm
}

// wiring is what cmd and admin may import: everything but one another, bench and the tests.
var wiring = []string{
	"auth/realm", "auth/sigv4", "blockstore", "blockstore/diskstore", "gateway", "gateway/objects", "past", "past/chb", "past/node", "past/pkb", "past/register",
	"pastry", "pastry/overlay", "pastry/quicnet", "pastry/wire",
}

// lattice is the order of the packages, the lowest first: a package imports only from rows above its own.
var lattice = []room{
	{path: "", why: "the root holds no code"},

	{path: "pastry", pure: true,
		why: "the routing core runs alike under a simulator with 100,000 nodes and over QUIC with five; it must not see either"},
	{path: "blockstore",
		why: "a store is one node's disk: it keeps bytes under keys and knows neither ring nor S3, so that it can be tested by power cuts alone"},
	{path: "auth/sigv4", pure: true,
		why: "a signature is a function of bytes, a secret and a time, and is tested against published examples"},
	{path: "gateway/s3xml", why: "documents of S3 as Go types; what they mean is gateway's"},
	{path: "gateway/checksum", why: "sums of bytes; which of them a request must carry is gateway's"},
	{path: "past/wire", why: "messages of PAST as bytes; who sends them to whom is decided above"},

	{path: "blockstore/memstore", imports: []string{"blockstore"}, tests: []string{"blockstore/blockstoretest"},
		why: "a store knows the contract and nothing else"},
	{path: "blockstore/blockstoretest", imports: []string{"blockstore"},
		why: "the contract's test must hold for any store, so it may know none"},
	{path: "blockstore/diskstore", imports: []string{"blockstore"}, tests: []string{"blockstore/blockstoretest"},
		why: "a store knows the contract and nothing else"},

	{path: "past", imports: []string{"pastry"}, pure: true,
		why: "PAST's rules (placement, redundancy, repair) stand on keys and nodeIds alone and simulate as one with Pastry"},
	{path: "past/stripe", imports: []string{"past"}, pure: true,
		why: "a stripe proves itself wherever it lies: no ring, disk or wire in it",
		but: map[string]string{"sync": "an encoder for each (d, p) is made once and kept; the result of a call does not depend on it"}},
	{path: "past/register", imports: []string{"past", "pastry"}, pure: true,
		why: "the protocol that decides is explored by schedules of its inputs; anything else it saw would escape them"},

	{path: "pastry/wire", imports: []string{"pastry"},
		why: "messages of Pastry as bytes; transports and overlay meet here and not in each other"},
	{path: "pastry/overlay/memnet", imports: []string{"pastry", "pastry/wire"}, tests: []string{"pastry/overlay"},
		why: "a transport knows messages, not who drives them"},
	{path: "pastry/overlay", imports: []string{"pastry", "pastry/wire"}, tests: []string{"pastry/overlay/memnet"},
		why: "the overlay declares the Transport that it needs, and cmd introduces one: with quicnet imported here no test could run without sockets"},
	{path: "auth/realm", imports: []string{"pastry", "pastry/wire"},
		why: "a certificate binds a key to a nodeId and roles; who connects with it is the transport's matter"},
	{path: "pastry/quicnet", imports: []string{"auth/realm", "pastry", "pastry/wire"}, tests: []string{"pastry/overlay"},
		why: "overlay and quicnet are siblings, and cmd introduces them to each other; PAST's bytes pass through unread"},

	{path: "past/rpc", imports: []string{"past", "past/wire", "pastry", "pastry/wire"}, tests: []string{"pastry/overlay/memnet"},
		why: "requests and answers between nodes, whatever they are about"},
	{path: "past/chb", imports: []string{"blockstore", "past", "past/rpc", "past/stripe", "past/wire", "pastry", "pastry/wire"}, tests: []string{"blockstore/memstore"},
		why: "content-hash blocks and public-key blocks are siblings that past/node wires together; the overlay is met through a small interface"},
	{path: "past/pkb", imports: []string{"blockstore", "past", "past/register", "past/rpc", "past/wire", "pastry", "pastry/wire"}, tests: []string{"blockstore/memstore"},
		why: "content-hash blocks and public-key blocks are siblings that past/node wires together; the overlay is met through a small interface"},
	{path: "past/node",
		imports: []string{"auth/realm", "blockstore", "past", "past/chb", "past/pkb", "past/register", "past/rpc", "past/stripe", "past/wire", "pastry", "pastry/overlay", "pastry/wire"},
		tests:   []string{"blockstore/memstore", "pastry/overlay/memnet"},
		why:     "a node knows no S3 (gateway/objects meets it through an interface of its own), no socket and no disk: cmd brings them"},

	{path: "gateway", imports: []string{"auth/sigv4", "gateway/checksum", "gateway/s3xml"}, tests: []string{"gateway/gatewaytest"},
		why: "the S3 front knows no ring: it meets what keeps the objects through Backend alone, and runs in tests on memory"},
	{path: "gateway/gatewaytest", imports: []string{"gateway", "gateway/checksum"},
		why: "the backends' test must hold for any backend, so it may know none"},
	{path: "gateway/objects/pasttest", imports: []string{"past", "past/stripe"},
		why: "a PAST in memory, for whom a ring would be too slow: it stands in for one, so it may use none"},
	{path: "gateway/objects", imports: []string{"auth/realm", "gateway", "gateway/checksum", "past", "past/stripe", "past/wire"},
		tests: []string{"gateway/gatewaytest", "gateway/objects/pasttest"},
		why:   "objects are records and stripes, kept through the interface Past: with past/node imported here no test could run without a ring"},

	{path: "internal/sim", imports: []string{"pastry"}, pure: true,
		why: "a simulation is a function of its seed: whatever else it saw of the world would make equal seeds unequal"},

	{path: "bench", imports: []string{"auth/sigv4"},
		why: "it loads any S3 server and must not know ours; the signer is no more than S3"},

	{path: "admin", imports: wiring, tests: []string{"blockstore/memstore", "gateway/gatewaytest", "pastry/overlay/memnet"},
		why: "the admin API looks at a node from outside; nothing that it looks at may need it"},
	{path: "cmd/larder", imports: append([]string{"admin", "bench"}, wiring...),
		why: "cmd has flags, wiring and signals; logic that others could want belongs below it"},
	{path: "integration/cluster",
		why: "integration tests see what users see: processes, sockets and files. A package imported there would be tested twice and its process never"},
	{path: "integration", imports: []string{"integration/cluster"},
		why: "integration tests see what users see: processes, sockets and files. A package imported there would be tested twice and its process never"},
	{path: "integration/linearizability", imports: []string{"integration/cluster"},
		why: "integration tests see what users see: processes, sockets and files. A package imported there would be tested twice and its process never"},
}

// impure is what a pure package may not import, packages below these included.
var impure = map[string]string{
	"net":             "a core sends nothing: it appends to its outbox what is to be sent",
	"os":              "a core reads no file and no environment: all it knows came as an input",
	"syscall":         "a core asks nothing of the machine",
	"sync":            "a core belongs to one goroutine, so there is nothing to guard",
	"context":         "a core never waits, so there is nothing to give up",
	"crypto/rand":     "randomness is a *rand.Rand in Config: equal seeds must give equal traces",
	"log":             "a core appends trace outputs, and its driver logs them",
	"go.uber.org/zap": "a core appends trace outputs, and its driver logs them",
}

// clocks are the functions of package time that a pure package may not name.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// listed is what the go command says of a package.
type listed struct {
	ImportPath, Dir                             string
	GoFiles, Imports, TestImports, XTestImports []string
}

// TestLayers holds the packages to the lattice.
func TestLayers(t *testing.T) {
	module, packages := list(t)
	rooms := map[string]room{}
	for i, r := range lattice {
		if _, twice := rooms[r.path]; twice {
			t.Errorf("%s: two rows in the lattice", r.path)
		}
		for _, p := range slices.Concat(r.imports, r.tests) {
			if !slices.ContainsFunc(lattice, func(o room) bool { return o.path == p }) {
				t.Errorf("%s: may import %s, which has no row", r.path, p)
			}
		}
		for _, p := range r.imports {
			if _, above := rooms[p]; !above {
				t.Errorf("lattice: row %d, %s, may import %s, which is not in a row above it: imports point one way", i, r.path, p)
			}
		}
		rooms[r.path] = r
	}
	for _, p := range packages {
		name := ours(module, p.ImportPath)
		r, ok := rooms[name]
		if !ok {
			t.Errorf("%s: has no row in layers_test.go. Say there what it may import and why, and who may import it", p.ImportPath)
			continue
		}
		checkImports(t, module, r, p.Imports, r.imports, "imports")
		own := append([]string{r.path}, slices.Concat(r.imports, r.tests)...)
		checkImports(t, module, r, slices.Concat(p.TestImports, p.XTestImports), own, "is tested with")
	}
}

func checkImports(t *testing.T, module string, r room, imports, may []string, verb string) {
	t.Helper()
	for _, imported := range imports {
		if imported != module && !strings.HasPrefix(imported, module+"/") {
			continue
		}
		if name := ours(module, imported); !slices.Contains(may, name) {
			t.Errorf("%s %s %s, and may not: %s. It may know of %s", r.path, verb, name, r.why, orNothing(may))
		}
	}
}

// TestPure holds the protocol cores to design.md §2: no world in them.
func TestPure(t *testing.T) {
	module, packages := list(t)
	for _, r := range lattice {
		i := slices.IndexFunc(packages, func(p listed) bool { return ours(module, p.ImportPath) == r.path })
		if !r.pure || i < 0 {
			continue
		}
		used := map[string]bool{}
		for _, file := range packages[i].GoFiles {
			for _, problem := range impurities(t, filepath.Join(packages[i].Dir, file), r.but, used) {
				t.Errorf("%s is pure, and %s. %s", r.path, problem, capital(r.why))
			}
		}
		for exception := range r.but {
			if !used[exception] {
				t.Errorf("%s does not import %s any more: take the exception out of its row", r.path, exception)
			}
		}
	}
}

// impurities reads one file. It notes in used which exceptions the file needs.
func impurities(t *testing.T, file string, but map[string]string, used map[string]bool) (problems []string) {
	t.Helper()
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	say := func(at token.Pos, format string, args ...any) {
		p := set.Position(at)
		problems = append(problems, fmt.Sprintf("%s:%d ", filepath.Base(p.Filename), p.Line)+fmt.Sprintf(format, args...))
	}
	timeIs := ""
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if imported == "time" {
			timeIs = "time"
			if spec.Name != nil {
				timeIs = spec.Name.Name
			}
		}
		if but[imported] != "" {
			used[imported] = true
			continue
		}
		for up := imported; up != "."; up = path.Dir(up) {
			if reason := impure[up]; reason != "" {
				say(spec.Pos(), "imports %s: %s", imported, reason)
				break
			}
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n.Pos(), "starts a goroutine: the order in which two run is no input, and no schedule would repeat it")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && timeIs != "" && x.Name == timeIs && slices.Contains(clocks, n.Sel.Name) {
				say(n.Pos(), "uses time.%s: the time is an input, now", n.Sel.Name)
			}
		}
		return true
	})
	return problems
}

// list asks the go command for the module's name and packages.
func list(t *testing.T) (module string, packages []listed) {
	t.Helper()
	module = strings.TrimSpace(string(goCommand(t, "list", "-m")))
	dec := json.NewDecoder(bytes.NewReader(goCommand(t, "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")))
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return module, packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// ours is an import path without the module's name; the root is "".
func ours(module, importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing of ours"
	}
	return strings.Join(names, ", ")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

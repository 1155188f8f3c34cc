package pastry

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestScenarios runs testdata/*.txt: one command a line, its expected trace indented below it. -update rewrites the traces.
//
//	ring leafs=4 seed=1        an empty network; |L|, and the seed of all randomness; one way takes 10 ms
//	join ID [via ID...]        starts a node and waits until it is ready; without via it founds a ring
//	start ID via ID...         the same without waiting
//	messages on|off            whether messages are traced
//	drop|stop|continue|leave ID
//	cut ID... / ID...          no messages between the two groups; heal ends that
//	stabilize DURATION         lets time pass, then shows every leaf set
//	route FROM KEY             looks KEY up from FROM and shows the way
//	table ID                   shows a routing table
//
// A nodeId is given by its first digits; the others are zero.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "figure") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{t: t}
			for line := range strings.Lines(string(want)) {
				if strings.HasPrefix(line, "  ") {
					continue // a trace
				}
				s.out.WriteString(line)
				if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
					s.do(strings.Fields(line))
				}
			}
			golden(t, file, s.out.String())
		})
	}
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d: got\n%s\nwant\n%s", file, i+1, gotLines[i], strings.Join(wantLines[min(i, len(wantLines)):min(i+1, len(wantLines))], ""))
		}
	}
	t.Fatalf("%s: the trace ends early", file)
}

type scenario struct {
	t        *testing.T
	net      *network
	out      strings.Builder
	messages bool
	way      []string // of the lookup under way
}

func (s *scenario) print(format string, args ...any) { fmt.Fprintf(&s.out, "  "+format+"\n", args...) }

func (s *scenario) id(text string) NodeID {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) > 16 {
		s.t.Fatalf("%q is no nodeId", text)
	}
	var id NodeID
	copy(id[:], b)
	return id
}

func (s *scenario) ids(texts []string) (ids []NodeID) {
	for _, text := range texts {
		if text != "via" {
			ids = append(ids, s.id(text))
		}
	}
	return ids
}

func (s *scenario) do(words []string) {
	args := words[1:]
	switch words[0] {
	case "ring":
		s.ring(args)
	case "join", "start":
		m := s.net.add(s.id(args[0]), s.ids(args[1:])...)
		if words[0] == "join" {
			start := s.net.now
			s.net.runUntil(time.Minute, m.n.Ready)
			s.print("%s is ready after %v: %s", args[0], (s.net.now - start).Round(time.Millisecond), s.leafs(m))
		}
	case "messages":
		s.messages = args[0] == "on"
	case "drop":
		s.net.kill(s.id(args[0]))
	case "stop":
		s.net.nodes[s.id(args[0])].stopped = true
	case "continue":
		m := s.net.nodes[s.id(args[0])]
		m.stopped = false
		s.net.step(m, &TimerFired{})
	case "leave":
		s.net.step(s.net.nodes[s.id(args[0])], &Leaving{})
		s.net.kill(s.id(args[0]))
	case "cut":
		slash := slices.Index(args, "/")
		a, b := s.ids(args[:slash]), s.ids(args[slash+1:])
		s.net.cut = func(from, to NodeID) bool { return slices.Contains(a, from) && slices.Contains(b, to) }
	case "heal":
		s.net.cut = nil
	case "stabilize":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		s.net.run(d)
		for _, m := range s.net.live() {
			s.print("%s: %s", short(m.n.self.ID), s.leafs(m))
		}
	case "route":
		s.route(s.id(args[0]), s.id(args[1]))
	case "table":
		n := s.net.nodes[s.id(args[0])].n
		for row := range n.table.Rows() {
			s.print("row %d: %s", row, shorts(n.table.AppendRow(nil, row)))
		}
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
	s.net.check()
}

func (s *scenario) ring(args []string) {
	leafs, seed := 8, uint64(1)
	for _, arg := range args {
		var err error
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "leafs":
			_, err = fmt.Sscan(value, &leafs)
		case "seed":
			_, err = fmt.Sscan(value, &seed)
		default:
			err = fmt.Errorf("unknown setting %q", arg)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.net = newNetwork(s.t, seed)
	s.net.adjust = func(c *Config) { c.LeafSetSize = leafs }
	s.net.trace = func(now time.Duration, from NodeHandle, send *Send) {
		if send.Message.Kind == Lookup {
			s.way = append(s.way, short(from.ID)+" > "+short(send.To.ID))
		}
		if s.messages {
			handles := ""
			if len(send.Message.Handles) > 0 {
				handles = " " + shorts(send.Message.Handles)
			}
			s.print("%8v  %s > %s  %v%s", now.Round(time.Millisecond), short(from.ID), short(send.To.ID), send.Message.Kind, handles)
		}
	}
}

func (s *scenario) route(from NodeID, key Key) {
	s.way = nil
	token := s.net.lookup(from, key)
	s.net.runUntil(31*time.Second, func() bool { _, ok := s.net.found[token]; return ok })
	f := s.net.found[token]
	switch {
	case f.Lost:
		s.print("lost")
	case len(s.way) == 0:
		s.print("known: the root of %s is %s; hops %d; near %s", short(key), short(f.Root.ID), f.Hops, shorts(f.Near))
	default:
		s.print("%s; the root of %s is %s; hops %d; near %s", strings.Join(s.way, ", "), short(key), short(f.Root.ID), f.Hops, shorts(f.Near))
	}
	if want := s.net.root(key); f.Root != want && !f.Lost && s.net.cut == nil {
		s.t.Errorf("the true root of %s is %s", short(key), short(want.ID))
	}
}

// leafs shows a leaf set as it lies on the ring: the smaller side farthest first, the node, the larger side.
func (s *scenario) leafs(m *member) string {
	smaller := slices.Clone(m.n.leafs.Smaller())
	slices.Reverse(smaller)
	state := [...]string{" (joining)", " (probing)", ""}[m.n.phase]
	return fmt.Sprintf("%s %s %s%s", shorts(smaller), short(m.n.self.ID), shorts(m.n.leafs.Larger()), state)
}

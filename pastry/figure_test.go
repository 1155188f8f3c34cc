package pastry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// base4 reads a nodeId of the paper's figure: eight digits of base 4, here the most significant of 64.
func base4(t *testing.T, digits string) NodeID {
	t.Helper()
	var id NodeID
	for i, d := range digits {
		if d < '0' || d > '3' {
			t.Fatalf("%q is not base 4", digits)
		}
		id[i/4] |= byte(d-'0') << (6 - i%4*2)
	}
	return id
}

func toBase4(id NodeID) string {
	s := ""
	for row := range 8 {
		s += string(rune('0' + id.Digit(row, 2)))
	}
	return s
}

// TestFigure1 hears from every node that Figure 1 of the Pastry paper shows, in an order that is not the figure's, and wants the
// state that the figure shows: nodeId 10233102, b = 2, |L| = 8.
func TestFigure1(t *testing.T) {
	cfg := DefaultConfig(rand.New(rand.NewPCG(1, 1)))
	cfg.DigitBits, cfg.LeafSetSize, cfg.NeighborhoodSize = 2, 8, 8
	n := New(cfg, NodeHandle{ID: base4(t, "10233102"), Port: 1})
	var out Outbox
	n.Step(0, &Started{}, &out)
	hear := func(digits string, rtt time.Duration) {
		n.out = &out
		n.admit(NodeHandle{ID: base4(t, digits), Port: 1}, rtt)
		n.out = nil
		out.Reset()
	}
	for i, digits := range strings.Fields("31203203 22301203 02212102 31301233 11301233 10200230 13021022 33213321") {
		place := []int{6, 5, 4, 3, 2, 1, 0, 7}[i] // by distance; all so alike that none takes another's place in the table
		hear(digits, 10*time.Millisecond+time.Duration(place)*100*time.Microsecond)
	}
	for _, digits := range strings.Fields(`10233232 10233001 10233120 10233000 10233122 10233021 10233230 10233033
		12230203 10031203 10132102 10323302 10211302 10222302
		10230322 10231000 10232121`) {
		hear(digits, 20*time.Millisecond)
	}
	golden(t, "testdata/figure1.txt", figure(n))
}

// figure prints n's state as the figure does: self's digits in its own columns, where the paper shades them.
func figure(n *Node) string {
	var s strings.Builder
	fmt.Fprintf(&s, "NodeId %s\n\nLeaf set\n", toBase4(n.self.ID))
	list := func(title string, hs []NodeHandle) {
		fmt.Fprintf(&s, "%s", title)
		for _, h := range hs {
			fmt.Fprintf(&s, " %s", toBase4(h.ID))
		}
		s.WriteString("\n")
	}
	list("smaller", n.leafs.Smaller())
	list("larger ", n.leafs.Larger())
	s.WriteString("\nRouting table\n")
	for row := range 8 {
		cells := make([]string, 4)
		for col := range cells {
			cells[col] = "-"
			if col == n.self.ID.Digit(row, 2) {
				cells[col] = fmt.Sprint(col)
			} else if entries := n.table.Row(row); entries != nil && !entries[col].IsZero() {
				id := toBase4(entries[col].ID)
				cells[col] = id[:row] + "-" + id[row:row+1] + "-" + id[row+1:]
			}
		}
		fmt.Fprintf(&s, "%-11s%-11s%-11s%s\n", cells[0], cells[1], cells[2], cells[3])
	}
	s.WriteString("\nNeighborhood set\n")
	list("nearest", n.near.AppendMembers(nil))
	return s.String()
}

// TestFigure1Routes hands the node of Figure 1 some keys: in its leaf set's range, with a table entry, and the rare case.
func TestFigure1Routes(t *testing.T) {
	cfg := DefaultConfig(rand.New(rand.NewPCG(1, 1)))
	cfg.DigitBits, cfg.LeafSetSize, cfg.NeighborhoodSize = 2, 8, 8
	n := New(cfg, NodeHandle{ID: base4(t, "10233102")})
	var out Outbox
	n.Step(0, &Started{}, &out)
	n.out = &out
	for _, digits := range strings.Fields("10233033 10233021 10233001 10233000 10233120 10233122 10233230 10233232 02212102 22301203 10031203 10323302 10230322") {
		n.admit(NodeHandle{ID: base4(t, digits), Port: 1}, 0)
	}
	for key, want := range map[string]string{
		"10233111": "10233102", // nearest to self
		"10233112": "10233120", // in the leaf set: numerically closest, though 10233102 shares as many digits
		"10233222": "10233230",
		"22000000": "22301203", // row 0
		"10300000": "10323302", // row 2
		"10230000": "10230322", // row 4
		"31000000": "22301203", // row 0 has no 3: a node as near in prefix and closer in number
		"10321000": "10323302",
		"10310000": "10323302",
	} {
		got := n.next(base4(t, key), NodeID{})
		if got.IsZero() {
			got = n.self
		}
		if toBase4(got.ID) != want {
			t.Errorf("%s goes to %s, not %s", key, toBase4(got.ID), want)
		}
	}
}

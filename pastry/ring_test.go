package pastry

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

var ringModulus = new(big.Int).Lsh(big.NewInt(1), 128)

func toBig(id NodeID) *big.Int { return new(big.Int).SetBytes(id[:]) }

func uint128ToBig(x uint128) *big.Int {
	hi := new(big.Int).Lsh(new(big.Int).SetUint64(x.hi), 64)
	return hi.Or(hi, new(big.Int).SetUint64(x.lo))
}

// bigOffset is the twin of Side.offset.
func bigOffset(s Side, from, to NodeID) *big.Int {
	d := new(big.Int).Sub(toBig(to), toBig(from))
	if s == Smaller {
		d.Neg(d)
	}
	return d.Mod(d, ringModulus)
}

// bigDistance is the twin of distance.
func bigDistance(a, b NodeID) *big.Int {
	d := bigOffset(Larger, a, b)
	if e := bigOffset(Smaller, a, b); e.Cmp(d) < 0 {
		return e
	}
	return d
}

// edgePoints are where carries and wraps go wrong.
func edgePoints(r *rand.Rand) []NodeID {
	var max, half, halfLess, lowMax NodeID
	for i := range max {
		max[i] = 0xff
		halfLess[i] = 0xff
		if i >= 8 {
			lowMax[i] = 0xff
		}
	}
	half[0], halfLess[0] = 0x80, 0x7f
	points := []NodeID{{}, {15: 1}, {7: 1}, {8: 0x80}, max, half, halfLess, lowMax}
	for range 12 {
		points = append(points, randomID(r))
	}
	return points
}

func TestRingArithmeticAgainstBig(t *testing.T) {
	points := edgePoints(rand.New(rand.NewPCG(1, 1)))
	for _, a := range points {
		for _, b := range points {
			for _, s := range []Side{Smaller, Larger} {
				if got, want := uint128ToBig(s.offset(a, b)), bigOffset(s, a, b); got.Cmp(want) != 0 {
					t.Fatalf("side %d from %v to %v: %x, want %x", s, a, b, got, want)
				}
			}
			if got, want := uint128ToBig(distance(a, b)), bigDistance(a, b); got.Cmp(want) != 0 {
				t.Fatalf("distance of %v and %v: %x, want %x", a, b, got, want)
			}
			for _, key := range points {
				want := bigDistance(key, a).Cmp(bigDistance(key, b))
				if want == 0 {
					want = toBig(a).Cmp(toBig(b))
				}
				if got := Closer(key, a, b); got != (want < 0) {
					t.Fatalf("Closer(%v, %v, %v) = %v", key, a, b, got)
				}
			}
		}
	}
}

func TestDigitsAgainstBig(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for _, b := range []int{1, 2, 4, 8} {
		for range 200 {
			x, y := randomID(r), randomID(r)
			copy(y[:], x[:r.IntN(17)])
			shared := 0
			for row := range 128 / b {
				dx := bigDigit(x, row, b)
				if got := x.Digit(row, b); got != dx {
					t.Fatalf("digit %d of %v, b = %d: %d, want %d", row, x, b, got, dx)
				}
				if shared == row && dx == bigDigit(y, row, b) {
					shared++
				}
			}
			if got := x.SharedPrefixLen(y, b); got != shared {
				t.Fatalf("shl(%v, %v), b = %d: %d, want %d", x, y, b, got, shared)
			}
		}
	}
}

func bigDigit(id NodeID, row, b int) int {
	d := new(big.Int).Rsh(toBig(id), uint(128-b*(row+1)))
	return int(d.Mod(d, big.NewInt(1<<b)).Int64())
}

func TestNodeIDText(t *testing.T) {
	id := randomID(rand.New(rand.NewPCG(3, 1)))
	text, err := id.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back NodeID
	if err := back.UnmarshalText(text); err != nil || back != id {
		t.Errorf("%s reads as %v (%v)", text, back, err)
	}
	for _, bad := range []string{"", "12", string(text) + "00", "x" + string(text[1:])} {
		if _, err := ParseNodeID(bad); err == nil {
			t.Errorf("%q is taken for a nodeId", bad)
		}
	}
}

// TestLeafSetAgainstSorting adds and removes nodes at random on an 8-bit ring, and compares with sorting them all.
func TestLeafSetAgainstSorting(t *testing.T) {
	for _, size := range []int{2, 4, 8, 16} {
		for seed := range uint64(10) {
			r := rand.New(rand.NewPCG(seed, uint64(size)))
			self := id8(byte(1 + r.IntN(255))) // the zero nodeId is nobody
			leafs := NewLeafSet(self, size)
			var in []NodeHandle // who is in the ring; no more than a leaf set holds, or only joining, so that the twin is exact
			for step := range 60 {
				h := NodeHandle{ID: id8(byte(1 + r.IntN(255))), Port: uint16(step)}
				at := slices.IndexFunc(in, func(o NodeHandle) bool { return o.ID == h.ID })
				switch {
				case h.ID == self:
					if leafs.Add(h) || leafs.Wants(self) {
						t.Fatal("a leaf set took its own node in")
					}
				case at >= 0 && len(in) <= size:
					if !leafs.Remove(h.ID) || leafs.Remove(h.ID) {
						t.Fatalf("remove %v: not there, or there twice", short(h.ID))
					}
					in = slices.Delete(in, at, at+1)
				case at < 0 && (len(in) < size || seed%2 == 0):
					wants := leafs.Wants(h.ID)
					if leafs.Add(h) != wants {
						t.Fatalf("Wants said %v of %v", wants, short(h.ID))
					}
					in = append(in, h)
				case at >= 0:
					in[at] = h
					leafs.Add(h) // renews the address
				}
				checkLeafs(t, &leafs, in)
			}
		}
	}
}

func checkLeafs(t *testing.T, leafs *LeafSet, in []NodeHandle) {
	t.Helper()
	distinct := map[NodeID]bool{}
	for s := range leafs.sides {
		want := sortedSide(leafs.self, Side(s), in, leafs.half)
		if !slices.Equal(leafs.sides[s], want) {
			t.Fatalf("%v, side %d of %v: %v, want %v", short(leafs.self), s, shorts(in), shorts(leafs.sides[s]), shorts(want))
		}
		for _, h := range want {
			distinct[h.ID] = true
		}
	}
	if leafs.Len() != len(distinct) || len(leafs.AppendMembers(nil)) != len(distinct) {
		t.Fatalf("Len %d, AppendMembers %d, distinct %d", leafs.Len(), len(leafs.AppendMembers(nil)), len(distinct))
	}
	if small := len(in) < 2*leafs.half && len(in) > 0; leafs.Wraps() != small {
		t.Fatalf("Wraps is %v with %d others and |L| = %d", leafs.Wraps(), len(in), 2*leafs.half)
	}
	for k := 0; k < 256; k += 17 {
		key := id8(byte(k))
		want := NodeHandle{ID: leafs.self}
		for _, h := range leafs.AppendMembers(nil) {
			if Closer(key, h.ID, want.ID) {
				want = h
			}
		}
		if want.ID == leafs.self {
			want = NodeHandle{}
		}
		if got := leafs.Closest(key, NodeID{}); got != want {
			t.Fatalf("closest to %02x: %v, want %v", k, short(got.ID), short(want.ID))
		}
		if !leafs.Wraps() {
			if got, want := leafs.Covers(key), bigCovers(leafs, key); got != want {
				t.Fatalf("%v covers %02x: %v, want %v", short(leafs.self), k, got, want)
			}
		}
	}
}

// bigCovers is the twin of Covers where sides do not overlap: key is on the arc from the farthest smaller to the farthest
// larger member.
func bigCovers(leafs *LeafSet, key Key) bool {
	from, to := leafs.self, leafs.self
	if s := leafs.Smaller(); len(s) > 0 {
		from = s[len(s)-1].ID
	}
	if l := leafs.Larger(); len(l) > 0 {
		to = l[len(l)-1].ID
	}
	return bigOffset(Larger, from, key).Cmp(bigOffset(Larger, from, to)) <= 0
}

func TestNeighborhoodKeepsTheNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	m := NewNeighborhoodSet(8)
	rtts := map[NodeID]uint32{}
	for range 40 {
		h := NodeHandle{ID: randomID(r)}
		n := neighbor{h, uint32(r.IntN(20))}
		rtts[h.ID] = n.rtt
		m.Add(h, 1000*1000)
		m.Add(h, asDuration(n.rtt))
	}
	var want []neighbor
	for id, rtt := range rtts {
		want = append(want, neighbor{NodeHandle{ID: id}, rtt})
	}
	slices.SortFunc(want, func(a, b neighbor) int {
		if a.rtt != b.rtt {
			return int(a.rtt) - int(b.rtt)
		}
		return a.ID.Compare(b.ID)
	})
	worst := want[7].rtt
	for i, n := range m.members {
		if n.rtt != want[i].rtt || n.rtt > worst {
			t.Errorf("member %d is at %d µs, want %d", i, n.rtt, want[i].rtt)
		}
	}
	if m.Len() != 8 || m.Wants(asDuration(worst)) || !m.Wants(0) && worst > 0 {
		t.Errorf("%d members, farthest %d", m.Len(), worst)
	}
}

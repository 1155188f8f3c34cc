package pkb

import (
	"unicode/utf8"

	"larder/past"
	"larder/past/register"
	"larder/past/wire"
)

// The rows of groups and what proofs cover, by hand: byte for byte what wire.Marshal gives (codec_test.go). The decoder reads what the
// encoder writes; for anything else it asks wire.Unmarshal.

func appendBallot(b []byte, v past.Ballot) []byte {
	b = wire.AppendHead(b, wire.MajorArray, 3)
	b = wire.AppendHead(b, wire.MajorUint, v.Epoch)
	b = wire.AppendHead(b, wire.MajorUint, v.Counter)
	return wire.AppendBytes(b, v.Proposer[:])
}

func appendOps(b []byte, ops []past.OpID) []byte {
	if ops == nil {
		return wire.AppendNull(b)
	}
	b = wire.AppendHead(b, wire.MajorArray, uint64(len(ops)))
	for i := range ops {
		b = wire.AppendBytes(b, ops[i][:])
	}
	return b
}

// key appends the key of a map's next pair and counts it.
func key(b []byte, n *byte, k byte) []byte {
	*n++
	return append(b, k)
}

// appendMap appends a map of fewer than 24 pairs whose number is known only when they are written.
func appendMap(b []byte, pairs func(b []byte, n *byte) []byte) []byte {
	at := len(b)
	var n byte
	b = pairs(append(b, wire.MajorMap<<5), &n)
	b[at] |= n
	return b
}

func appendRecord(b []byte, r *past.Record, body bool) []byte {
	return appendMap(b, func(b []byte, n *byte) []byte {
		b = wire.AppendHead(key(b, n, 1), wire.MajorUint, uint64(r.Kind))
		if r.Version != "" {
			b = wire.AppendText(key(b, n, 2), r.Version)
		}
		if r.Length != 0 {
			b = wire.AppendInt(key(b, n, 3), r.Length)
		}
		if r.Modified != 0 {
			b = wire.AppendInt(key(b, n, 4), r.Modified)
		}
		if len(r.Value) > 0 {
			b = wire.AppendBytes(key(b, n, 5), r.Value)
		}
		if body && len(r.Body) > 0 {
			b = wire.AppendBytes(key(b, n, 6), r.Body)
		}
		if len(r.BodyHash) > 0 {
			b = wire.AppendBytes(key(b, n, 7), r.BodyHash)
		}
		return b
	})
}

// appendValue leaves bodies out.
func appendValue(b []byte, v *register.Value) []byte {
	return appendMap(b, func(b []byte, n *byte) []byte {
		if len(v.Entries) > 0 {
			b = wire.AppendHead(key(b, n, 1), wire.MajorArray, uint64(len(v.Entries)))
			for i := range v.Entries {
				e := &v.Entries[i]
				b = appendMap(b, func(b []byte, n *byte) []byte {
					if e.Name != "" {
						b = wire.AppendText(key(b, n, 1), e.Name)
					}
					return appendRecord(key(b, n, 2), &e.Record, false)
				})
			}
		}
		if len(v.Chain) > 0 {
			b = appendOps(key(b, n, 2), v.Chain)
		}
		b = appendBallot(key(b, n, 3), v.Lost)
		return appendBallot(key(b, n, 4), v.Turn)
	})
}

// appendGroup is a row: a group without its bodies.
func appendGroup(b []byte, g *register.Group) []byte {
	return appendMap(b, func(b []byte, n *byte) []byte {
		b = appendBallot(key(b, n, 1), g.Promised)
		b = appendBallot(key(b, n, 2), g.Accepted)
		if g.Chosen {
			b = wire.AppendBool(key(b, n, 3), true)
		}
		b = appendValue(key(b, n, 4), &g.Value)
		if len(g.Proof) > 0 {
			b = wire.AppendBytes(key(b, n, 5), g.Proof)
		}
		if len(g.Log) > 0 {
			b = wire.AppendHead(key(b, n, 6), wire.MajorArray, uint64(len(g.Log)))
			for i := range g.Log {
				e := &g.Log[i]
				b = appendBallot(wire.AppendHead(b, wire.MajorArray, 4), e.Ballot)
				b = appendBallot(appendOps(b, e.Ops), e.Lost)
				b = wire.AppendHead(b, wire.MajorUint, uint64(e.Voters))
			}
		}
		return appendBallot(key(b, n, 7), g.Floor)
	})
}

// decodeGroup decodes a row. What it returns has parts of raw in it.
func decodeGroup(raw []byte) (g register.Group, err error) {
	r := wire.NewReader(raw)
	readGroup(r, &g)
	if r.Done() {
		return g, nil
	}
	g = register.Group{}
	return g, wire.Unmarshal(raw, &g)
}

// readMap calls pair for each key of a map, which must rise.
func readMap(r *wire.Reader, pair func(k uint64)) {
	last := uint64(0)
	for n := r.Count(wire.MajorMap); n > 0 && r.OK(); n-- {
		k := r.Head(wire.MajorUint)
		if k <= last {
			r.Fail()
			return
		}
		last = k
		pair(k)
	}
}

func readBallot(r *wire.Reader) (v past.Ballot) {
	if r.Head(wire.MajorArray) != 3 {
		r.Fail()
	}
	v.Epoch, v.Counter = r.Head(wire.MajorUint), r.Head(wire.MajorUint)
	r.Fixed(v.Proposer[:])
	return v
}

func readOps(r *wire.Reader) []past.OpID {
	if r.Null() {
		return nil
	}
	n := r.Count(wire.MajorArray)
	if n > register.ChainMax {
		r.Fail()
		return nil
	}
	ops := make([]past.OpID, n)
	for i := range ops {
		r.Fixed(ops[i][:])
	}
	return ops
}

func readRecord(r *wire.Reader, out *past.Record) {
	readMap(r, func(k uint64) {
		switch k {
		case 1:
			kind := r.Head(wire.MajorUint)
			if kind > 255 {
				r.Fail()
			}
			out.Kind = past.Kind(kind)
		case 2:
			out.Version = readText(r)
		case 3:
			out.Length = r.Int()
		case 4:
			out.Modified = r.Int()
		case 5:
			out.Value = r.Bytes()
		case 6:
			out.Body = r.Bytes()
		case 7:
			out.BodyHash = r.Bytes()
		default:
			r.Fail()
		}
	})
}

func readText(r *wire.Reader) string {
	s := r.Text()
	if !utf8.ValidString(s) {
		r.Fail()
	}
	return s
}

// entriesMax bounds how many registers of a group the decoder by hand sets aside memory for.
const entriesMax = 64

func readValue(r *wire.Reader, v *register.Value) {
	readMap(r, func(k uint64) {
		switch k {
		case 1:
			n := r.Count(wire.MajorArray)
			if n > entriesMax {
				r.Fail()
				return
			}
			v.Entries = make([]register.Entry, n)
			for i := range v.Entries {
				readEntry(r, &v.Entries[i])
			}
		case 2:
			v.Chain = readOps(r)
		case 3:
			v.Lost = readBallot(r)
		case 4:
			v.Turn = readBallot(r)
		default:
			r.Fail()
		}
	})
}

func readEntry(r *wire.Reader, e *register.Entry) {
	readMap(r, func(k uint64) {
		switch k {
		case 1:
			e.Name = readText(r)
		case 2:
			readRecord(r, &e.Record)
		default:
			r.Fail()
		}
	})
}

func readGroup(r *wire.Reader, g *register.Group) {
	readMap(r, func(k uint64) {
		switch k {
		case 1:
			g.Promised = readBallot(r)
		case 2:
			g.Accepted = readBallot(r)
		case 3:
			g.Chosen = r.Bool()
		case 4:
			readValue(r, &g.Value)
		case 5:
			g.Proof = r.Bytes()
		case 6:
			readLog(r, g)
		case 7:
			g.Floor = readBallot(r)
		default:
			r.Fail()
		}
	})
}

func readLog(r *wire.Reader, g *register.Group) {
	n := r.Count(wire.MajorArray)
	if n > register.LogMax {
		r.Fail()
		return
	}
	g.Log = make([]register.LogEntry, n)
	for i := range g.Log {
		e := &g.Log[i]
		if r.Head(wire.MajorArray) != 4 {
			r.Fail()
			return
		}
		e.Ballot, e.Ops, e.Lost = readBallot(r), readOps(r), readBallot(r)
		voters := r.Head(wire.MajorUint)
		if voters > 1<<16-1 {
			r.Fail()
		}
		e.Voters = register.Members(voters)
	}
}

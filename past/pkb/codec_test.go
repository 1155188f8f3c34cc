package pkb

import (
	"bytes"
	"context"
	"math/rand/v2"
	"reflect"
	"testing"

	"larder/blockstore"
	"larder/blockstore/memstore"
	"larder/past"
	"larder/past/register"
	"larder/past/wire"

	"github.com/zeebo/blake3"
)

func randomBallot(r *rand.Rand) (b past.Ballot) {
	if r.IntN(4) == 0 {
		return b
	}
	b.Epoch, b.Counter = r.Uint64()>>r.IntN(64), r.Uint64()>>r.IntN(64)
	b.Proposer[r.IntN(16)] = byte(r.Uint32())
	return b
}

func randomBytes(r *rand.Rand, most int) []byte {
	n := r.IntN(most + 1)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomOps(r *rand.Rand) (ops []past.OpID) {
	for range r.IntN(4) {
		ops = append(ops, past.OpID(bytes.Repeat([]byte{byte(r.Uint32())}, 16)))
	}
	return ops
}

// randomGroup is a group without bodies, fields empty often.
func randomGroup(r *rand.Rand) (g register.Group) {
	g.Promised, g.Accepted, g.Floor = randomBallot(r), randomBallot(r), randomBallot(r)
	g.Chosen, g.Proof = r.IntN(2) == 0, randomBytes(r, 300)
	g.Value = register.Value{Chain: randomOps(r), Lost: randomBallot(r), Turn: randomBallot(r)}
	for range r.IntN(3) {
		rec := past.Record{Kind: past.Kind(r.IntN(256)), Version: string(bytes.Repeat([]byte("é"), r.IntN(20))), Length: r.Int64() >> r.IntN(63),
			Modified: r.Int64() >> r.IntN(63), Value: randomBytes(r, 70000>>r.IntN(16)), BodyHash: randomBytes(r, 32)}
		g.Value.Entries = append(g.Value.Entries, register.Entry{Name: string(bytes.Repeat([]byte("n"), r.IntN(30))), Record: rec})
	}
	for range r.IntN(4) {
		g.Log = append(g.Log, register.LogEntry{Ballot: randomBallot(r), Ops: randomOps(r), Lost: randomBallot(r), Voters: register.Members(r.Uint32())})
	}
	return g
}

// The codec by hand and the one by reflection are twins.
func TestRowsAreAsMarshalGivesThem(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		g := randomGroup(r)
		want := wire.Marshal(&g)
		with := g
		with.Value.Entries = append([]register.Entry(nil), g.Value.Entries...)
		for i := range with.Value.Entries {
			with.Value.Entries[i].Record.Body = []byte("a body, which is no part of a row")
		}
		if got := appendGroup(nil, &with); !bytes.Equal(got, want) {
			t.Fatalf("%+v\n got %x\nwant %x", g, got, want)
		}
		var fast register.Group
		reader := wire.NewReader(want)
		if readGroup(reader, &fast); !reader.Done() || !reflect.DeepEqual(fast, g) {
			t.Fatalf("%x read as\n%+v, want\n%+v", want, fast, g)
		}
		id, name, b := register.PartitionID{byte(r.Uint32())}, string(randomBytes(r, 40)), randomBallot(r)
		sum := blake3.Sum256(append([]byte("larder/1 value\x00"), wire.Marshal([]any{id, name, b, g.Value})...))
		if got := digest(id, name, b, with.Value); got != sum {
			t.Fatalf("digest of %+v", g.Value)
		}
	}
}

// A negative length is none that we write; the other decoder says what it means.
func TestRowsThatNobodyWrites(t *testing.T) {
	g := register.Group{Value: register.Value{Entries: []register.Entry{{Record: past.Record{Kind: past.Live, Length: -5}}}}}
	for _, raw := range [][]byte{wire.Marshal(&g), appendGroup(nil, &g)} {
		if got, err := decodeGroup(raw); err != nil || !reflect.DeepEqual(got, g) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := decodeGroup([]byte{0xa1, 0x01, 0x05}); err == nil {
		t.Error("a number for a ballot accepted")
	}
}

// All of a value but its bodies lies in the row: operations that fell off the chain are known from Lost and Turn alone.
func TestRowsKeepWhatFellOffTheChain(t *testing.T) {
	m := &Members{store: memstore.New(memstore.Options{CapacityBytes: 1 << 20})}
	p := &partition{}
	g := randomGroup(rand.New(rand.NewPCG(3, 4)))
	g.Value.Lost, g.Value.Turn = past.Ballot{Epoch: 1, Counter: 2}, past.Ballot{Epoch: 3, Counter: 4}
	var b blockstore.Batch
	put(&b, p, 1, "g", &g, false)
	if err := m.store.Apply(context.Background(), &b, true); err != nil {
		t.Fatal(err)
	}
	if got, err := m.load(context.Background(), p, 1, "g", false); err != nil || !reflect.DeepEqual(got, g) {
		t.Fatalf("%+v, %v; want %+v", got, err, g)
	}
	other := g.Value
	other.Turn.Counter++
	if digest(p.id, "g", g.Accepted, g.Value) == digest(p.id, "g", g.Accepted, other) {
		t.Error("Turn is no part of what is proved")
	}
}

func FuzzDecodeGroup(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 8 {
		g := randomGroup(r)
		f.Add(appendGroup(nil, &g))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var fast, slow register.Group
		reader := wire.NewReader(raw)
		if readGroup(reader, &fast); !reader.Done() {
			return
		}
		if err := wire.Unmarshal(raw, &slow); err != nil || !reflect.DeepEqual(fast, slow) {
			t.Fatalf("%x: by hand\n%+v, by reflection\n%+v, %v", raw, fast, slow, err)
		}
	})
}

func BenchmarkDecodeGroup(b *testing.B) {
	g := randomGroup(rand.New(rand.NewPCG(7, 8)))
	g.Value.Entries = []register.Entry{{Record: past.Record{Kind: past.Live, Length: 4096, Modified: 1 << 60, Value: make([]byte, 250), BodyHash: make([]byte, 32)}}}
	raw := appendGroup(nil, &g)
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = decodeGroup(raw)
		}
	})
	b.Run("by reflection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var g register.Group
			_ = wire.Unmarshal(raw, &g)
		}
	})
}

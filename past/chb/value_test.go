package chb

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"testing"

	"larder/past"
	"larder/past/rpc"
	"larder/past/stripe"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"
)

// storedValue returns fragment index of a small stripe as it is stored.
func storedValue(t testing.TB, index int) (raw []byte, id past.BlockID) {
	t.Helper()
	claim, err := encodeClaim(past.Claim{SealedKey: []byte("who")})
	if err != nil {
		t.Fatal(err)
	}
	h, fragments := stripe.Encode([]byte("sixteen or more sealed bytes"), past.Redundancy{Data: 2, Parity: 1})
	v := value{stripe.Fragment{Header: h, Index: index, Data: fragments[index]}, claim}
	return bytes.Join(v.pieces(), nil), h.ID()
}

func TestValueGolden(t *testing.T) {
	raw, id := storedValue(t, 1)
	h, _, err := stripe.ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	tail := raw[stripe.HeaderLen(h.Redundancy):]
	const want = "01" + // index
		"65207365616c6564206279746573" + // 14 bytes of data
		"a3" + "0150" + "00000000000000000000000000000000" + "0250" + "00000000000000000000000000000000" + "0343" + "77686f" // the claim
	if got := hex.EncodeToString(tail); got != want {
		t.Errorf("value behind its header\n got %s\nwant %s", got, want)
	}
	if v, err := checkValue(raw, id, 1); err != nil || v.Index != 1 || string(v.Data) != "e sealed bytes" {
		t.Errorf("%+v, %v", v, err)
	}
	key := keyOf(id, 1)
	if back, ok := parseKey(key[:]); !ok || back.id() != id || back.index() != 1 || len(key) != 33 {
		t.Errorf("key %x", key)
	}
}

func TestEveryFlippedBitOfAFragmentIsRefused(t *testing.T) {
	raw, id := storedValue(t, 2)
	v, err := splitValue(raw)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range (len(raw) - len(v.claim)) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		if _, err := checkValue(raw, id, 2); err == nil {
			t.Fatalf("bit %d flipped and accepted", bit)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	if _, err := encodeClaim(past.Claim{SealedKey: make([]byte, claimMax)}); err == nil {
		t.Error("a claim that is too long")
	}
}

func FuzzCheckValue(f *testing.F) {
	for i := range 3 {
		raw, _ := storedValue(f, i)
		f.Add(raw)
	}
	f.Add([]byte{1, 1, 2, 0, 0, 0, 16})
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := splitValue(raw)
		if err != nil {
			return
		}
		if again := bytes.Join(v.pieces(), nil); !bytes.Equal(again, raw) {
			t.Fatalf("read and written: %x, was %x", again, raw)
		}
		if _, err := checkValue(raw, v.Header.ID(), v.Index); err == nil && !v.Header.Verify(v.Index, v.Data) {
			t.Fatal("accepted without proof")
		}
	})
}

// FuzzRequests lets a node answer arbitrary bodies and data of every kind.
func FuzzRequests(f *testing.F) {
	raw, id := storedValue(f, 1)
	f.Add(uint8(wire.KindFragmentPut), wire.Marshal(putRequest{ID: id, Index: 1}), raw)
	f.Add(uint8(wire.KindFragmentGet), wire.Marshal(getRequest{ID: id, Index: 1, Any: true, Offset: 3, Length: 9}), []byte(nil))
	f.Add(uint8(wire.KindFragmentStat), wire.Marshal(statRequest{IDs: id[:], Verify: true, Look: true, Pins: []past.Indexes{2}}), []byte(nil))
	f.Add(uint8(wire.KindFragmentTrash), wire.Marshal(trashRequest{IDs: id[:], Reason: trashReclaimed}), []byte(nil))
	f.Add(uint8(wire.KindFragmentRestore), wire.Marshal(restoreRequest{ID: id, Index: 1}), []byte(nil))
	f.Add(uint8(wire.KindFragmentList), wire.Marshal(listRequest{Max: 5}), []byte(nil))
	w := newWorld(f)
	n := w.add(1 << 30)
	f.Cleanup(w.end)
	peer := overlaywire.Peer{Roles: overlaywire.RoleGateway | overlaywire.RoleStorage}
	f.Fuzz(func(t *testing.T, kind uint8, body, data []byte) {
		if len(body) > wire.BodyMax || len(data) > wire.DataMax {
			return
		}
		here, there := newPipe()
		_ = wire.Write(here, wire.Kind(kind), body, data)
		n.peers.Serve(t.Context(), peer, there)
		f, err := wire.Read(here, nil)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if f.Kind == wire.KindOK && wire.Kind(kind) == wire.KindFragmentPut {
			var ask putRequest
			if err := wire.Unmarshal(body, &ask); err != nil {
				t.Fatal(err)
			}
			if _, err := checkValue(data, ask.ID, ask.Index); err != nil {
				t.Fatalf("kept what does not prove itself: %v", err)
			}
		}
	})
}

func TestRequestsBeyondTheirLimitsAreRefused(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		id := past.BlockID{1}
		tooMany := bytes.Repeat(id[:], askMax+1)
		for name, call := range map[string]rpc.Call{
			"ids":          {Kind: wire.KindFragmentStat, Body: statRequest{IDs: tooMany}},
			"odd ids":      {Kind: wire.KindFragmentStat, Body: statRequest{IDs: id[:31]}},
			"verify":       {Kind: wire.KindFragmentStat, Body: statRequest{IDs: tooMany[:32*(verifyMax+1)], Verify: true}},
			"pins":         {Kind: wire.KindFragmentStat, Body: statRequest{IDs: id[:], Pins: make([]past.Indexes, 2)}},
			"trash":        {Kind: wire.KindFragmentTrash, Body: trashRequest{IDs: tooMany, Reason: trashReclaimed}},
			"trash reason": {Kind: wire.KindFragmentTrash, Body: trashRequest{IDs: id[:], Reason: 9}},
			"get length":   {Kind: wire.KindFragmentGet, Body: getRequest{ID: id, Length: valueMax + 1}},
			"get offset":   {Kind: wire.KindFragmentGet, Body: getRequest{ID: id, Offset: -1, Length: 5}},
			"get index":    {Kind: wire.KindFragmentGet, Body: getRequest{ID: id, Index: past.FragmentsMax}},
			"get sum":      {Kind: wire.KindFragmentGet, Body: getRequest{ID: id, Offset: 1<<63 - 1, Length: 1<<63 - 1}},
			"list key":     {Kind: wire.KindFragmentList, Body: listRequest{From: make([]byte, keyLen+1)}},
		} {
			if _, err := w.order[0].peers.Do(context.Background(), w.order[0].id, call, nil); !errors.Is(err, wire.ErrFrame) {
				t.Errorf("%s: %v, want ErrFrame", name, err)
			}
		}
	})
}

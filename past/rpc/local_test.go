package rpc

import (
	"context"
	"testing"

	"larder/past/wire"
	"larder/pastry"
	overlaywire "larder/pastry/wire"
)

type shared struct {
	List  []int `cbor:"1,keyasint"`
	Keeps bool  `cbor:"2,keyasint"` // it may be handed over
}

func (s shared) Shareable() bool { return s.Keeps }

// self is a ring of one node.
type self struct{ Ring }

func (self) Self() pastry.NodeID { return pastry.NodeID{1} }

// A node that asks itself gets what it would get from afar; it shares memory with the handler only where both allow it.
func TestLocalSharesOnlyWhatIsShareable(t *testing.T) {
	p := NewPeers(self{}, overlaywire.Peer{})
	var got, given shared
	p.Handle(wire.KindInfo, 0, func(_ context.Context, _ overlaywire.Peer, req Request) (any, []byte, error) {
		return &given, nil, req.Decode(&got)
	})
	for _, keeps := range []bool{false, true} {
		body := shared{[]int{1, 2}, keeps}
		given = shared{[]int{3, 4}, keeps}
		var answer shared
		if _, err := p.Do(t.Context(), pastry.NodeID{1}, Call{Kind: wire.KindInfo, Body: body}, &answer); err != nil {
			t.Fatal(err)
		}
		if len(got.List) != 2 || got.List[1] != 2 || len(answer.List) != 2 || answer.List[1] != 4 {
			t.Fatalf("asked %v, answered %v", got, answer)
		}
		if (&got.List[0] == &body.List[0]) != keeps || (&answer.List[0] == &given.List[0]) != keeps {
			t.Errorf("shareable %v: memory shared is %v and %v", keeps, &got.List[0] == &body.List[0], &answer.List[0] == &given.List[0])
		}
	}
	// A type that the handler does not ask for goes through its encoding.
	var other struct {
		List []int `cbor:"1,keyasint"`
		Rest bool  `cbor:"2,keyasint"`
	}
	if _, err := p.Do(t.Context(), pastry.NodeID{1}, Call{Kind: wire.KindInfo, Body: shared{[]int{5}, true}}, &other); err != nil || other.List[0] != 3 || got.List[0] != 5 {
		t.Errorf("%v, %v, %v", other, got, err)
	}
}

// Buffers are for large requests, as many as there are, and come back.
func TestRoom(t *testing.T) {
	p := NewPeers(self{}, overlaywire.Peer{})
	if p.takeRoom(roomFrom) != nil || p.takeRoom(roomBytes+1) != nil || len(p.room) != roomsMax {
		t.Error("a buffer for a request that is not large, or too large")
	}
	for range roomsMax {
		if len(p.takeRoom(roomBytes)) != roomBytes {
			t.Error("no buffer")
		}
	}
	if p.takeRoom(roomBytes) != nil {
		t.Error("more buffers than there are")
	}
}

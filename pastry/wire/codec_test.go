package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"larder/pastry"
)

var update = flag.Bool("update", false, "rewrite testdata")

func handle(first byte, addr string) pastry.NodeHandle {
	ap := netip.MustParseAddrPort(addr)
	return pastry.NodeHandle{ID: pastry.NodeID{first, 0x11}, Addr: ap.Addr().As16(), Port: ap.Port()}
}

// examples is one message of each kind, every field that it has set.
func examples() []pastry.Message {
	a, b := handle(0xaa, "192.0.2.1:7000"), handle(0xbb, "[2001:db8::2]:7001")
	var all []pastry.Message
	for kind := pastry.Kind(1); kind < pastry.KindMax; kind++ {
		m := pastry.Message{Kind: kind, Flags: pastry.FlagMember | pastry.FlagReady, Sender: a.ID}
		has := fieldsOf[kind]
		if has&hasHops != 0 {
			m.Hops = 3
		}
		if has&hasRow != 0 {
			m.Row = 5
		}
		if has&hasSeq != 0 {
			m.Seq = 0x01020304
		}
		if has&hasRetryAfter != 0 {
			m.RetryAfter = 250
		}
		if has&hasNonce != 0 {
			m.Nonce = 0x1112131415161718
		}
		if has&hasKey != 0 {
			m.Key = pastry.Key{0xcc, 15: 0xdd}
		}
		if has&hasOrigin != 0 {
			m.Origin = b
		}
		if has&hasHandles != 0 {
			m.Handles = []pastry.NodeHandle{a, b}
		}
		all = append(all, m)
	}
	return all
}

func TestGoldenFrames(t *testing.T) {
	const path = "testdata/frames.txt"
	var got strings.Builder
	for _, m := range examples() {
		b, err := Append(nil, &m)
		if err != nil {
			t.Fatalf("%v: %v", m.Kind, err)
		}
		fmt.Fprintf(&got, "%-12v%x\n", m.Kind, b)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("frames differ from %s: this breaks running rings. Got\n%s", path, got.String())
	}
	lines := bufio.NewScanner(bytes.NewReader(want))
	for i := 0; lines.Scan(); i++ {
		frame, err := hex.DecodeString(strings.Fields(lines.Text())[1])
		if err != nil {
			t.Fatal(err)
		}
		var m pastry.Message
		if err := Decode(frame, &m); err != nil {
			t.Errorf("%s: %v", lines.Text(), err)
		}
		want := examples()[i]
		if len(m.Handles) == 0 {
			m.Handles = nil
		}
		if !reflect.DeepEqual(m, want) {
			t.Errorf("%v decodes to\n%+v, want\n%+v", want.Kind, m, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	var m pastry.Message
	for _, example := range examples() {
		whole, err := Append(nil, &example)
		if err != nil {
			t.Fatal(err)
		}
		for cut := range whole {
			if err := Decode(whole[:cut], &m); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v cut to %d bytes: %v", example.Kind, cut, err)
			}
		}
		if err := Decode(append(whole, 0), &m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v with a byte more: %v", example.Kind, err)
		}
		newer := bytes.Clone(whole)
		newer[0] = 2
		if err := Decode(newer, &m); !errors.Is(err, ErrVersion) {
			t.Errorf("%v of version 2: %v", example.Kind, err)
		}
	}
	base, _ := Append(nil, &pastry.Message{Kind: pastry.Suspect})
	for name, b := range map[string][]byte{
		"kind 0":             append([]byte{1, 0, 0}, base[3:]...),
		"unknown kind":       append([]byte{1, byte(pastry.KindMax), 0}, base[3:]...),
		"unknown flag":       append([]byte{1, base[1], 4}, base[3:]...),
		"count without data": append(bytes.Clone(base[:19]), 0, 200),
		"count over limit":   append(append(bytes.Clone(base[:19]), 1, 1), make([]byte, 257*handleMin)...),
		"family 5":           append(append(append(bytes.Clone(base[:19]), 0, 1), make([]byte, 16)...), 5, 1, 2, 3, 4, 0, 0),
		"IPv4 as IPv6": append(append(append(bytes.Clone(base[:19]), 0, 1), make([]byte, 16)...),
			6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4, 0, 0),
	} {
		if err := Decode(b, &m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Decode(make([]byte, MessageMax+1), &m); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}

func TestLargestMessageFits(t *testing.T) {
	m := pastry.Message{Kind: pastry.LookupReply}
	for range pastry.HandlesMax {
		m.Handles = append(m.Handles, handle(1, "[2001:db8::1]:1"))
	}
	if _, err := Append(nil, &m); err != nil {
		t.Error(err)
	}
	m.Handles = append(m.Handles, m.Handles[0])
	if _, err := Append(nil, &m); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d handles: %v", len(m.Handles), err)
	}
}

func TestDecodeDoesNotAllocateTwice(t *testing.T) {
	whole, _ := Append(nil, &examples()[pastry.LeafReply-1])
	var m pastry.Message
	buf := make([]byte, 0, 256)
	if err := Decode(whole, &m); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		_ = Decode(whole, &m)
		buf, _ = Append(buf[:0], &m)
	}); n != 0 {
		t.Errorf("decoding and encoding again allocates %v times", n)
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range examples() {
		b, _ := Append(nil, &m)
		f.Add(b)
		b = bytes.Clone(b)
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pastry.Message
		if err := Decode(b, &m); err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrTooLong) {
				t.Fatalf("not one of the package's errors: %v", err)
			}
			return
		}
		if cap(m.Handles)*handleMin > 4*len(b)+512 {
			t.Fatalf("%d handles allocated for %d bytes", cap(m.Handles), len(b))
		}
		again, err := Append(nil, &m)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\ndecodes and encodes to\n%x (%v)", b, again, err)
		}
	})
}

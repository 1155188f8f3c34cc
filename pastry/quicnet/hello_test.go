package quicnet

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"larder/auth/realm"
)

func TestHelloGolden(t *testing.T) {
	h := hello{instance: 0x0102030405060708, features: 3, addr: netip.MustParseAddrPort("192.0.2.1:7000"), bulkPort: 7001}
	const want = "0025" + "01" + "0102030405060708" + "0000000000000003" + "00000000000000000000ffffc0000201" + "1b58" + "1b59"
	if got := hex.EncodeToString(h.encode()); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	longer := append(h.encode(), "a later format"...)
	longer[1] += byte(len("a later format"))
	longer[2] = 2
	if got, err := readHello(bytes.NewReader(longer)); err != nil || got != h {
		t.Fatalf("a later format: %+v, %v", got, err)
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add(hello{instance: 1, features: 2, addr: netip.MustParseAddrPort("[2001:db8::1]:9"), bulkPort: 3}.encode())
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHello(bytes.NewReader(data))
		if err != nil {
			return
		}
		if again, err := readHello(bytes.NewReader(h.encode())); err != nil || again != h {
			t.Fatalf("decode, encode, decode is not a fixed point: %+v, %+v, %v", h, again, err)
		}
	})
}

func FuzzReadJoin(f *testing.F) {
	f.Add(frameJoin([]byte("request")))
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		message, err := readJoin(bytes.NewReader(data))
		if err == nil && (len(message) > realm.JoinMax || !bytes.HasPrefix(data, frameJoin(message))) {
			t.Fatalf("%d bytes out of %d", len(message), len(data))
		}
	})
}

func TestBucket(t *testing.T) {
	b := bucket{rate: 3}
	now := time.Unix(1000, 0)
	takes := func(at time.Time) (n int) {
		for b.take(at) {
			n++
		}
		return n
	}
	if got := takes(now); got != 3 {
		t.Fatalf("%d at first", got)
	}
	if got := takes(now.Add(time.Second / 2)); got != 1 {
		t.Fatalf("%d after half a second", got)
	}
	if got := takes(now.Add(time.Hour)); got != 3 {
		t.Fatalf("%d after an hour", got)
	}
}

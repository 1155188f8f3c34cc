package checksum

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand"
	"testing"
)

func sumOf(a *Algorithm, b []byte) string {
	h := a.New()
	h.Write(b)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// TestKnownValues pins the CRCs and digests to their published values for "123456789", and the XXH family to those of the
// empty string in its specification.
func TestKnownValues(t *testing.T) {
	want := map[string][2]string{
		"CRC32":     {"123456789", "cbf43926"},
		"CRC32C":    {"123456789", "e3069283"},
		"CRC64NVME": {"123456789", "ae8b14860a799888"},
		"SHA1":      {"123456789", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"},
		"SHA256":    {"123456789", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"},
		"SHA512":    {"", "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"},
		"MD5":       {"123456789", "25f9e794323b453885f5181f1b624d0b"},
		"XXHASH64":  {"", "ef46db3751d8e999"},
		"XXHASH3":   {"", "2d06800538d394c2"},
		"XXHASH128": {"", "99aa06d3014798d86001c324468d497f"},
	}
	for _, a := range Algorithms {
		got := sumOf(a, []byte(want[a.Name][0]))
		raw, _ := base64.StdEncoding.DecodeString(got)
		if !a.Valid(got) || hex.EncodeToString(raw) != want[a.Name][1] {
			t.Errorf("%s(%q) = %x, want %s", a.Name, want[a.Name][0], raw, want[a.Name][1])
		}
		if ByHeader(a.Header()) != a || ByName(a.Name) != a {
			t.Errorf("%s is not found by its names", a.Name)
		}
	}
}

// TestCombine cuts random bytes anywhere and compares with the CRC of the whole.
func TestCombine(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for _, a := range Algorithms {
		if !a.Combines() {
			if _, ok := a.OfParts(FullObject, nil); ok {
				t.Errorf("%s combines but should not", a.Name)
			}
			continue
		}
		for range 50 {
			data := make([]byte, rng.Intn(100_000))
			rng.Read(data)
			var parts []Part
			rest := data
			for len(rest) > 0 {
				n := 1 + rng.Intn(len(rest))
				parts = append(parts, Part{sumOf(a, rest[:n]), int64(n)})
				rest = rest[n:]
			}
			parts = append(parts, Part{sumOf(a, nil), 0})
			if got, ok := a.OfParts(FullObject, parts); !ok || got != sumOf(a, data) {
				t.Fatalf("%s of %d parts, %d bytes: %s, want %s", a.Name, len(parts), len(data), got, sumOf(a, data))
			}
		}
	}
}

func TestComposite(t *testing.T) {
	a := ByName("sha256")
	parts := []Part{{sumOf(a, []byte("a")), 1}, {sumOf(a, []byte("b")), 1}}
	d1, _ := base64.StdEncoding.DecodeString(parts[0].Value)
	d2, _ := base64.StdEncoding.DecodeString(parts[1].Value)
	want := sumOf(a, append(d1, d2...)) + "-2"
	if got, ok := a.OfParts(Composite, parts); !ok || got != want {
		t.Errorf("composite %s, want %s", got, want)
	}
	if _, ok := a.OfParts(Composite, []Part{{"AAAA", 1}}); ok {
		t.Error("a value of the wrong length was accepted")
	}
	if ByName("CRC64NVME").AllowsType(Composite) || a.AllowsType(FullObject) {
		t.Error("a type that S3 refuses is allowed")
	}
}

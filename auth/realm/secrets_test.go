package realm

import (
	"bytes"
	"errors"
	"testing"
)

func TestSealOpensAfterRotation(t *testing.T) {
	old, err := NewSecrets(testRand(1))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := old.Seal(testRand(2), []byte("bucket key"), []byte("bucket 7"))
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := old.Rotate(testRand(3))
	if err != nil {
		t.Fatal(err)
	}
	if rotated.Generation() != 2 || old.Generation() != 1 || rotated.MAC == old.MAC || len(old.Sealing) != 1 {
		t.Fatal("rotation makes generation 2 and a new MAC key, and leaves the old secrets alone")
	}
	if got, err := rotated.Open(sealed, []byte("bucket 7")); err != nil || string(got) != "bucket key" {
		t.Fatalf("old generation: %q, %v", got, err)
	}
	fresh, _ := rotated.Seal(testRand(4), []byte("bucket key"), nil)
	if _, err := old.Open(fresh, nil); !errors.Is(err, ErrUnknownSealing) {
		t.Fatalf("removed gateway opened a newer generation: %v", err)
	}
	if len(fresh) != len("bucket key")+SealOverhead {
		t.Fatalf("overhead is %d", len(fresh)-len("bucket key"))
	}
}

func TestSealRefusesEveryChangedByte(t *testing.T) {
	s, _ := NewSecrets(testRand(1))
	sealed, _ := s.Seal(testRand(2), []byte("data key"), []byte("ad"))
	if _, err := s.Open(sealed, []byte("AD")); !errors.Is(err, ErrSealBroken) {
		t.Fatalf("other additional data: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := s.Open(bad, []byte("ad")); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
		if _, err := s.Open(sealed[:i], []byte("ad")); err == nil {
			t.Fatalf("cut at %d and nobody noticed", i)
		}
	}
}

func FuzzDecodeSecrets(f *testing.F) {
	s, _ := NewSecrets(testRand(1))
	two, _ := s.Rotate(testRand(2))
	f.Add(s.Encode())
	f.Add(two.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeSecrets(data)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), data) {
			t.Fatal("decode, encode is not the identity")
		}
		sealed, err := s.Seal(testRand(3), data, nil)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := s.Open(sealed, nil); err != nil || !bytes.Equal(opened, data) {
			t.Fatalf("what was decoded does not seal and open: %v", err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	s, _ := NewSecrets(testRand(1))
	sealed, _ := s.Seal(testRand(2), []byte("x"), nil)
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := s.Open(data, nil); err == nil && !bytes.Equal(data, sealed) {
			t.Fatal("a forgery opened")
		}
	})
}

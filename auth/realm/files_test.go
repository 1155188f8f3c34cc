package realm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"larder/pastry/wire"
)

func TestSaveAndLoad(t *testing.T) {
	founder := found(t, 1)
	for _, id := range []*Identity{founder, admit(t, founder, 2, wire.RoleStorage), admit(t, founder, 3, allRoles)} {
		dir := t.TempDir()
		if err := Save(dir, id); err != nil {
			t.Fatal(err)
		}
		back, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Encode(), id.Encode()) || !bytes.Equal(back.RootKey, id.RootKey) || (back.Secrets == nil) != (id.Secrets == nil) {
			t.Fatal("another identity came back")
		}
		if id.Secrets != nil && !bytes.Equal(back.Secrets.Encode(), id.Secrets.Encode()) {
			t.Fatal("other secrets came back")
		}
		if back.NodeID() != id.NodeID() || back.Node.Roles != id.Node.Roles {
			t.Fatal("another node came back")
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%s has mode %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
}

func TestSaveRemovesTheRootKeyThatWasTakenOffline(t *testing.T) {
	dir := t.TempDir()
	founder := found(t, 1)
	for _, id := range []*Identity{founder, founder.WithoutRootKey()} {
		if err := Save(dir, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, RootKeyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the root key is still there")
	}
	back, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if admit(t, back, 2, wire.RoleStorage) == nil {
		t.Fatal("an issuer without the root key admits nobody")
	}
}

func TestLoadRefuses(t *testing.T) {
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrNoIdentityFound) {
		t.Fatalf("empty directory: %v", err)
	}
	founder, other := found(t, 1), found(t, 2)
	damage := func(name string, change func([]byte) []byte) error {
		dir := t.TempDir()
		if err := Save(dir, founder); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(data), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Load(dir)
		return err
	}
	for _, name := range []string{IdentityFile, RootKeyFile, SecretsFile} {
		flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
		cut := func(b []byte) []byte { return b[:len(b)-1] }
		newer := func(b []byte) []byte { return bytes.Replace(b, []byte(" 1\n"), []byte(" 2\n"), 1) }
		empty := func(b []byte) []byte { return nil }
		if err := damage(name, flip); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s flipped: %v", name, err)
		}
		if err := damage(name, cut); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s cut: %v", name, err)
		}
		if err := damage(name, empty); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s empty: %v", name, err)
		}
		if err := damage(name, newer); !errors.Is(err, ErrUnknownFormat) {
			t.Fatalf("%s of a newer release: %v", name, err)
		}
	}
	foreign := func([]byte) []byte { return seal(magicRootKey, other.RootKey) }
	if err := damage(RootKeyFile, foreign); !errors.Is(err, ErrDamaged) {
		t.Fatalf("another realm's root key: %v", err)
	}
	mixed := *founder
	mixed.Key = other.Key
	if _, err := DecodeIdentity(mixed.Encode()); !errors.Is(err, ErrDamaged) {
		t.Fatalf("key and certificate of two nodes: %v", err)
	}
	mixed = *founder
	mixed.IssuerKey = other.IssuerKey
	if _, err := DecodeIdentity(mixed.Encode()); !errors.Is(err, ErrDamaged) {
		t.Fatalf("issuer key and certificate of two nodes: %v", err)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	founder := found(f, 1)
	f.Add(founder.Encode())
	f.Add(admit(f, founder, 2, wire.RoleStorage).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := DecodeIdentity(data)
		if err == nil && !bytes.Equal(id.Encode(), data) {
			t.Fatal("decode, encode is not the identity")
		}
	})
}

func FuzzUnseal(f *testing.F) {
	f.Add(seal(magicSecrets, []byte("body")))
	f.Add([]byte("larder secrets 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := unseal(magicSecrets, data)
		if err == nil && !bytes.Equal(seal(magicSecrets, body), data) {
			t.Fatal("unseal, seal is not the identity")
		}
	})
}

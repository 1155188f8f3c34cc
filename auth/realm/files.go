package realm

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files of an identity's directory, all of mode 0600. The root key has a file of its own, so that it can be moved to a safe
// place, and the secrets have one, since they change when a gateway is removed.
const (
	IdentityFile = "identity.larder"
	RootKeyFile  = "root-key.larder"
	SecretsFile  = "secrets.larder"
)

// fileMax is the largest file that is read, in bytes.
const fileMax = 128 << 10

// Each file is a line that says what it is and in which version, the BLAKE3-256 of the rest, and the rest: CBOR, or 64 bytes
// of Ed25519 private key.
const (
	magicPrefix   = "larder "
	magicIdentity = "larder identity 1\n"
	magicRootKey  = "larder root-key 1\n"
	magicSecrets  = "larder secrets 1\n"
)

// Save writes id into dir, which must exist. Each file is replaced as a whole and is durable before Save returns; a crash
// leaves each as it was or as it will be. The identity comes last, so that where it is, all is. Files of what id does not hold
// (root key, secrets) are removed.
func Save(dir string, id *Identity) error {
	if err := saveOptional(dir, RootKeyFile, magicRootKey, id.RootKey); err != nil {
		return err
	}
	var secrets []byte
	if id.Secrets != nil {
		secrets = id.Secrets.Encode()
	}
	if err := saveOptional(dir, SecretsFile, magicSecrets, secrets); err != nil {
		return err
	}
	return writeFile(dir, IdentityFile, seal(magicIdentity, id.Encode()))
}

// Load reads what Save wrote. It returns ErrNoIdentityFound if dir has no identity, ErrUnknownFormat for files of a newer
// release and ErrDamaged for files that are not what was written.
func Load(dir string) (*Identity, error) {
	body, err := readFile(dir, IdentityFile, magicIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("realm: load %s: %w", dir, ErrNoIdentityFound)
	}
	if err != nil {
		return nil, err
	}
	id, err := DecodeIdentity(body)
	if err != nil {
		return nil, fmt.Errorf("realm: load %s: %w", filepath.Join(dir, IdentityFile), err)
	}
	if body, err = readFile(dir, RootKeyFile, magicRootKey); err == nil {
		if err := checkPrivate(body); err != nil || !publicOf(body).Equal(issuerKey(id.Realm.Root)) {
			return nil, fmt.Errorf("realm: load %s: %w: not this realm's root key", dir, ErrDamaged)
		}
		id.RootKey = ed25519.PrivateKey(body)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if body, err = readFile(dir, SecretsFile, magicSecrets); err == nil {
		if id.Secrets, err = DecodeSecrets(body); err != nil {
			return nil, fmt.Errorf("realm: load %s: %w", filepath.Join(dir, SecretsFile), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return id, nil
}

// saveOptional writes body, or removes the file if there is none.
func saveOptional(dir, name, magic string, body []byte) error {
	if body != nil {
		return writeFile(dir, name, seal(magic, body))
	}
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("realm: save: %w", err)
	}
	return nil
}

// seal puts the file's first line and checksum before body.
func seal(magic string, body []byte) []byte {
	return append(append([]byte(magic), hash256(body)...), body...)
}

// unseal is the inverse of seal.
func unseal(magic string, data []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		if line, _, found := bytes.Cut(data, []byte("\n")); found && bytes.HasPrefix(line, []byte(magicPrefix)) && len(line) < 64 {
			return nil, fmt.Errorf("%w: %q", ErrUnknownFormat, line)
		}
		return nil, fmt.Errorf("%w: not %q", ErrDamaged, magic[:len(magic)-1])
	}
	if len(rest) < 32 || !bytes.Equal(rest[:32], hash256(rest[32:])) {
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	return rest[32:], nil
}

// readFile returns the body of one file.
func readFile(dir, name, magic string) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("realm: load: %w", err)
	}
	if info.Size() > fileMax {
		return nil, fmt.Errorf("realm: load %s: %w: %d bytes", path, ErrDamaged, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("realm: load: %w", err)
	}
	body, err := unseal(magic, data)
	if err != nil {
		return nil, fmt.Errorf("realm: load %s: %w", path, err)
	}
	return body, nil
}

// writeFile replaces a file: a temporary one of mode 0600 is written and synced, renamed, and the directory synced.
func writeFile(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("realm: save: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("realm: save %s: %w", name, err)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

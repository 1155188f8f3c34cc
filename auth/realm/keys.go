package realm

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"larder/pastry"
)

// ID names a realm: 128 random bits, chosen once when the realm is founded.
type ID [16]byte

// String returns the 32 hexadecimal digits of id.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads 32 hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return id, errors.New("realm: a realm id is 32 hexadecimal digits")
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, errors.New("realm: a realm id is 32 hexadecimal digits")
	}
	return id, nil
}

// SaltSize is the length of a realm's salt, in bytes: the key size of BLAKE3's keyed mode.
const SaltSize = 32

// Salt is a realm's public random value that places keys on the ring, so that work spent on finding a key with a wanted
// nodeId serves in one realm only.
type Salt [SaltSize]byte

// Domains keep what one key signs or one salt hashes for one purpose from meaning anything for another.
const (
	domainNodeID = "larder/1 nodeId\x00"
	domainSign   = "larder/1 signature\x00"
	domainTicket = "ticket"
	domainJoin   = "join request"
)

// NodeID returns the place of key on the ring: the first 128 bits of BLAKE3, keyed with the realm's salt, over a domain and
// the public key (design.md §1).
func (s Salt) NodeID(key ed25519.PublicKey) pastry.NodeID {
	h, err := blake3.NewKeyed(s[:])
	if err != nil {
		panic("realm: BLAKE3 refuses a key of 32 bytes: " + err.Error())
	}
	h.Write([]byte(domainNodeID))
	h.Write(key)
	var sum [32]byte
	return pastry.NodeID(h.Sum(sum[:0])[:16])
}

// NewKey makes an Ed25519 key from 32 bytes of rand.
func NewKey(rand io.Reader) (ed25519.PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("realm: new key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// publicOf is key.Public() with its type.
func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// checkPrivate says whether b can be used as an Ed25519 private key: its public half must follow from its seed, or signing
// with it would leak the seed.
func checkPrivate(b []byte) error {
	if len(b) != ed25519.PrivateKeySize {
		return errors.New("wrong length of a private key")
	}
	if !ed25519.NewKeyFromSeed(b[:ed25519.SeedSize]).Equal(ed25519.PrivateKey(b)) {
		return errors.New("private key does not match its public key")
	}
	return nil
}

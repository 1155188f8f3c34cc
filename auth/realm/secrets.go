package realm

import (
	"crypto/cipher"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/crypto/chacha20poly1305"
)

// SealingKey is one generation of the key under which bucket keys, secrets and data keys are sealed.
type SealingKey struct {
	Generation uint32   `cbor:"1,keyasint"`
	Key        [32]byte `cbor:"2,keyasint"`
}

// Secrets are what the gateways of a realm share. Only nodes with wire.RoleGateway ever get them.
type Secrets struct {
	// Sealing is in order of generation, newest last, never empty. Seal uses the newest; the others open what was sealed
	// before a rotation.
	Sealing []SealingKey
	// System signs the records and configurations of the realm's system partition.
	System ed25519.PrivateKey
	// MAC is the key of gateways' own checks of records they read back (design.md §5).
	MAC [32]byte
}

const (
	// sealFormat is the first byte of sealed bytes.
	sealFormat = 1
	// sealHeader is format (1 byte) and generation (4 bytes, big-endian).
	sealHeader = 1 + 4
	// SealOverhead is how much longer sealed bytes are than what they hold, in bytes: header, nonce and tag.
	SealOverhead = sealHeader + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	// generationsMax bounds Secrets.Sealing. A realm that removes a gateway a week reaches it after ten years; Rotate then
	// fails, and old data has to be sealed afresh.
	generationsMax = 512
	// secretsMax is the largest encoding of Secrets, in bytes.
	secretsMax = 64 << 10
)

// NewSecrets makes a new realm's secrets, with sealing generation 1.
func NewSecrets(rand io.Reader) (*Secrets, error) {
	s := &Secrets{}
	var err error
	if s.System, err = NewKey(rand); err != nil {
		return nil, err
	}
	if _, err = io.ReadFull(rand, s.MAC[:]); err != nil {
		return nil, fmt.Errorf("realm: new secrets: %w", err)
	}
	return s.Rotate(rand)
}

// Rotate returns a copy of s with one more sealing generation and a new MAC key. The system key stays: certificates of the
// system partition's configurations refer to it.
func (s *Secrets) Rotate(rand io.Reader) (*Secrets, error) {
	if len(s.Sealing) >= generationsMax {
		return nil, errors.New("realm: rotate: too many sealing generations")
	}
	key := SealingKey{Generation: 1}
	if n := len(s.Sealing); n > 0 {
		if s.Sealing[n-1].Generation == math.MaxUint32 {
			return nil, errors.New("realm: rotate: generations are used up")
		}
		key.Generation = s.Sealing[n-1].Generation + 1
	}
	next := &Secrets{System: s.System}
	if _, err := io.ReadFull(rand, key.Key[:]); err != nil {
		return nil, fmt.Errorf("realm: rotate: %w", err)
	}
	if _, err := io.ReadFull(rand, next.MAC[:]); err != nil {
		return nil, fmt.Errorf("realm: rotate: %w", err)
	}
	next.Sealing = append(append(next.Sealing, s.Sealing...), key)
	return next, nil
}

// Generation returns the newest sealing generation.
func (s *Secrets) Generation() uint32 { return s.Sealing[len(s.Sealing)-1].Generation }

// Seal encrypts plaintext under the newest sealing key (XChaCha20-Poly1305, whose 192-bit nonces may be random however much
// one key seals) and binds it to ad, which Open must be given again. The result is SealOverhead bytes longer:
//
//	format 1 | generation 4, big-endian | nonce 24 | ciphertext | tag 16
func (s *Secrets) Seal(rand io.Reader, plaintext, ad []byte) ([]byte, error) {
	key := s.Sealing[len(s.Sealing)-1]
	out := make([]byte, sealHeader+chacha20poly1305.NonceSizeX, SealOverhead+len(plaintext))
	out[0] = sealFormat
	binary.BigEndian.PutUint32(out[1:], key.Generation)
	nonce := out[sealHeader:]
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("realm: seal: %w", err)
	}
	return key.aead().Seal(out, nonce, plaintext, sealAD(out[:sealHeader], ad)), nil
}

// Open returns what Seal sealed with the same ad, under any generation that s holds. It returns ErrUnknownSealing for a
// generation that s does not hold, ErrUnknownFormat, and ErrSealBroken for everything else that does not open.
func (s *Secrets) Open(sealed, ad []byte) ([]byte, error) {
	generation, err := SealedGeneration(sealed)
	if err != nil {
		return nil, err
	}
	for i := len(s.Sealing) - 1; i >= 0; i-- {
		if s.Sealing[i].Generation != generation {
			continue
		}
		rest := sealed[sealHeader:]
		nonce, box := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
		plaintext, err := s.Sealing[i].aead().Open(nil, nonce, box, sealAD(sealed[:sealHeader], ad))
		if err != nil {
			return nil, fmt.Errorf("realm: open: %w", ErrSealBroken)
		}
		return plaintext, nil
	}
	return nil, fmt.Errorf("realm: open: generation %d: %w", generation, ErrUnknownSealing)
}

// SealedGeneration returns the generation of the key that sealed was sealed under, so that what is old can be sealed afresh.
func SealedGeneration(sealed []byte) (uint32, error) {
	if len(sealed) < SealOverhead {
		return 0, fmt.Errorf("realm: open: %w: too short", ErrSealBroken)
	}
	if sealed[0] != sealFormat {
		return 0, fmt.Errorf("realm: open: format %d: %w", sealed[0], ErrUnknownFormat)
	}
	return binary.BigEndian.Uint32(sealed[1:]), nil
}

// Encode writes s in deterministic CBOR.
func (s *Secrets) Encode() []byte {
	return encode(&secretsWire{Sealing: s.Sealing, System: s.System, MAC: s.MAC})
}

// DecodeSecrets reads what Encode wrote. It returns ErrDamaged for anything else.
func DecodeSecrets(data []byte) (*Secrets, error) {
	var w secretsWire
	if err := decode(data, secretsMax, &w); err != nil {
		return nil, fmt.Errorf("realm: secrets: %w", err)
	}
	if len(w.Sealing) == 0 || len(w.Sealing) > generationsMax {
		return nil, fmt.Errorf("realm: secrets: %w: %d sealing keys", ErrDamaged, len(w.Sealing))
	}
	for i := 1; i < len(w.Sealing); i++ {
		if w.Sealing[i].Generation <= w.Sealing[i-1].Generation {
			return nil, fmt.Errorf("realm: secrets: %w: generations out of order", ErrDamaged)
		}
	}
	if err := checkPrivate(w.System); err != nil {
		return nil, fmt.Errorf("realm: secrets: %w: system key: %w", ErrDamaged, err)
	}
	return &Secrets{Sealing: w.Sealing, System: w.System, MAC: w.MAC}, nil
}

type secretsWire struct {
	Sealing []SealingKey `cbor:"1,keyasint"`
	System  []byte       `cbor:"2,keyasint"`
	MAC     [32]byte     `cbor:"3,keyasint"`
}

// sealAD is the additional data of one box: the header, whose length is fixed, and the caller's.
func sealAD(header, ad []byte) []byte { return append(append([]byte(nil), header...), ad...) }

func (k *SealingKey) aead() cipher.AEAD {
	aead, err := chacha20poly1305.NewX(k.Key[:])
	if err != nil {
		panic("realm: XChaCha20-Poly1305 refuses a key of 32 bytes: " + err.Error())
	}
	return aead
}

package realm

import (
	"crypto/ed25519"
	"errors"

	"larder/pastry"
)

// ErrBadSignature says that a signature was not made by the key over the message in the domain.
var ErrBadSignature = errors.New("bad signature")

// domainMax is the largest length of a domain, in bytes: its length is written in one byte.
const domainMax = 255

// Sign signs message with key for one purpose, named by domain (at most 255 bytes, a constant of the caller's): a signature
// made in one domain verifies in no other.
func Sign(key ed25519.PrivateKey, domain string, message []byte) []byte {
	return ed25519.Sign(key, signedBytes(domain, message))
}

// VerifySignature checks what Sign made. It returns ErrBadSignature, also for a key or signature of the wrong length.
func VerifySignature(key ed25519.PublicKey, domain string, message, signature []byte) error {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signedBytes(domain, message), signature) {
		return ErrBadSignature
	}
	return nil
}

// VerifyNodeSignature checks that the node with id signed message in domain: that key is the node's, by the realm's salt, and
// that the signature is the key's. It says nothing of the node's certificate or roles. It returns a *RefusedError for a key
// that is not the node's and ErrBadSignature otherwise.
func (r *Realm) VerifyNodeSignature(id pastry.NodeID, key ed25519.PublicKey, domain string, message, signature []byte) error {
	if r.Salt.NodeID(key) != id {
		return &RefusedError{NodeID: id, Reason: ErrNodeIDMismatch}
	}
	return VerifySignature(key, domain, message, signature)
}

// signedBytes is an unambiguous concatenation: the domain's length comes before it.
func signedBytes(domain string, message []byte) []byte {
	if len(domain) > domainMax {
		panic("realm: signature domain longer than 255 bytes")
	}
	b := make([]byte, 0, len(domainSign)+1+len(domain)+len(message))
	b = append(b, domainSign...)
	b = append(b, byte(len(domain)))
	b = append(b, domain...)
	return append(b, message...)
}

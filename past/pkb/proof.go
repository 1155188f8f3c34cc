package pkb

import (
	"crypto/ed25519"
	"crypto/subtle"
	"errors"
	"sync"

	"larder/past"
	"larder/past/register"
	"larder/past/wire"

	"github.com/zeebo/blake3"
)

// A proof shows that a gateway proposed a value for a group at a ballot: an Ed25519 signature by the bucket's key, which anybody
// can check, and a keyed BLAKE3 that gateways check instead, a hundred times faster.
//
//	signature 64 | mac 32
//
// It covers the ballot that the value was accepted at, anew at every accept: a record's own ballot would let one lying member
// show an old record at a high ballot, and roll the register back (docs/notes/register.md).
const (
	signatureLen = ed25519.SignatureSize
	macLen       = 32
	proofLen     = signatureLen + macLen
)

var errProof = errors.New("past/pkb: value without a valid proof")

// digest is what a proof covers. Bodies are in it by their hashes.
func digest(p register.PartitionID, group string, b past.Ballot, v register.Value) [32]byte {
	const domain = "larder/1 value\x00"
	buf := append(make([]byte, 0, 1024), domain...)
	buf = wire.AppendHead(buf, wire.MajorArray, 4)
	buf = wire.AppendBytes(buf, p[:])
	buf = wire.AppendText(buf, group)
	buf = appendBallot(buf, b)
	return blake3.Sum256(appendValue(buf, &v))
}

// keyed is a hasher with a key. Making one costs as much as a hundred sums of 32 bytes, so they are kept.
type keyed struct {
	key [32]byte
	h   *blake3.Hasher
}

var keyedPool sync.Pool // of *keyed

func mac(key [32]byte, sum [32]byte) [macLen]byte {
	k, _ := keyedPool.Get().(*keyed)
	if k == nil || k.key != key {
		h, err := blake3.NewKeyed(key[:])
		if err != nil {
			panic(err) // 32 bytes are always right
		}
		k = &keyed{key, h}
	}
	k.h.Reset()
	_, _ = k.h.Write(sum[:])
	var out [macLen]byte
	k.h.Sum(out[:0])
	keyedPool.Put(k)
	return out
}

func prove(key ed25519.PrivateKey, macKey [32]byte, sum [32]byte) []byte {
	proof := make([]byte, 0, proofLen)
	proof = append(proof, ed25519.Sign(key, sum[:])...)
	m := mac(macKey, sum)
	return append(proof, m[:]...)
}

// checkSignature is the members' check.
func checkSignature(key [32]byte, sum [32]byte, proof []byte) error {
	if len(proof) != proofLen || !ed25519.Verify(key[:], sum[:], proof[:signatureLen]) {
		return errProof
	}
	return nil
}

// checkMAC is the gateways' check.
func checkMAC(key [32]byte, sum [32]byte, proof []byte) error {
	m := mac(key, sum)
	if len(proof) != proofLen || subtle.ConstantTimeCompare(m[:], proof[signatureLen:]) != 1 {
		return errProof
	}
	return nil
}

// checkBodies compares every body that is there with its hash.
func checkBodies(v register.Value) error {
	for _, e := range v.Entries {
		if e.Record.Body == nil {
			continue
		}
		if sum := blake3.Sum256(e.Record.Body); subtle.ConstantTimeCompare(sum[:], e.Record.BodyHash) != 1 {
			return errProof
		}
	}
	return nil
}

// setBodyHashes fills in the hashes of bodies, as every value has them before it is proposed.
func setBodyHashes(v register.Value) {
	for i := range v.Entries {
		if r := &v.Entries[i].Record; r.Body != nil && r.BodyHash == nil {
			sum := blake3.Sum256(r.Body)
			r.BodyHash = sum[:]
		}
	}
}

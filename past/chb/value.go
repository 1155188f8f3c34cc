package chb

import (
	"fmt"

	"larder/past"
	"larder/past/stripe"
	"larder/past/wire"

	"github.com/zeebo/blake3"
)

// claimMax is the largest claim, in bytes of CBOR. A sealed object key of 1,024 bytes and its upload are below 1.5 KiB.
const claimMax = 4 << 10

// keyLen is the length of a store key: BlockID (32), index (1).
const keyLen = 33

// storeKey is the key of one fragment on this node's disk.
type storeKey [keyLen]byte

func keyOf(id past.BlockID, index int) (k storeKey) {
	copy(k[:], id[:])
	k[32] = byte(index)
	return k
}

func (k storeKey) id() past.BlockID { return past.BlockID(k[:32]) }
func (k storeKey) index() int       { return int(k[32]) }

// parseKey reads a store key; ok is false for keys that are not a fragment's.
func parseKey(b []byte) (k storeKey, ok bool) {
	if len(b) != keyLen || b[32] >= past.FragmentsMax {
		return k, false
	}
	return storeKey(b), true
}

// value is what is stored and sent of one fragment: the fragment, which proves itself, and behind it what it is kept for.
type value struct {
	stripe.Fragment
	claim []byte // deterministic CBOR of a past.Claim
}

// encodeClaim is the inverse of parseClaim. It fails if the sealed key is too long.
func encodeClaim(c past.Claim) ([]byte, error) {
	b := wire.Marshal(c)
	if len(b) > claimMax {
		return nil, fmt.Errorf("chb: claim of %d bytes, want at most %d", len(b), claimMax)
	}
	return b, nil
}

func parseClaim(b []byte) (c past.Claim, err error) {
	if len(b) > claimMax {
		return c, fmt.Errorf("%w: claim of %d bytes", stripe.ErrFormat, len(b))
	}
	return c, wire.Unmarshal(b, &c)
}

// pieces returns the value as it is written: what stands before the bytes, the bytes, what stands behind.
func (v *value) pieces() [][]byte {
	return [][]byte{v.Header.AppendFragmentPrefix(make([]byte, 0, stripe.FragmentDataAt(v.Header.Redundancy)), v.Index), v.Data, v.claim}
}

// splitValue reads a value without checking its hash. Its slices are parts of b. Errors: stripe.ErrFormat.
func splitValue(b []byte) (v value, err error) {
	h, _, err := stripe.ParseHeader(b)
	if err != nil {
		return v, err
	}
	n := stripe.FragmentLen(h.Redundancy, h.Length)
	if len(b) < n || len(b) > n+claimMax {
		return v, fmt.Errorf("%w: value of %d bytes, the fragment has %d", stripe.ErrFormat, len(b), n)
	}
	v.Fragment, err = stripe.SplitFragment(b[:n])
	v.claim = b[n:]
	return v, err
}

// checkValue reads the value of fragment index of block id and proves that it is that. Errors: stripe.ErrFormat, stripe.ErrHash.
func checkValue(b []byte, id past.BlockID, index int) (value, error) {
	v, err := splitValue(b)
	switch {
	case err != nil:
	case v.Header.ID() != id:
		err = fmt.Errorf("%w: fragment of %v", stripe.ErrFormat, v.Header.ID())
	case v.Index != index:
		err = fmt.Errorf("%w: fragment %d, want %d", stripe.ErrFormat, v.Index, index)
	case blake3.Sum256(v.Data) != v.Header.Hashes[index]:
		err = fmt.Errorf("%w: index %d", stripe.ErrHash, index)
	default:
		_, err = parseClaim(v.claim)
	}
	return v, err
}

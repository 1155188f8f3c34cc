package stripe

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"sync"

	"larder/past"
)

// Sizes of the sealed form, in bytes.
const (
	SegmentPlain  = 64 << 10 // plaintext in one segment
	tagBytes      = 16
	segmentSealed = SegmentPlain + tagBytes
	// SealedMax is the sealed length of a stripe of past.StripeMax bytes.
	SealedMax = past.StripeMax + past.StripeMax/SegmentPlain*tagBytes
)

// Key seals the stripes of one body: a random AES-256 key used for this DataID alone, so that the nonce can be the segment's
// number (design.md §4). A Key from NewKey keeps its cipher; a literal one makes it anew at each call, about 0.5 µs.
// It is safe for concurrent use.
type Key struct {
	Secret [32]byte
	Data   past.DataID

	aead cipher.AEAD // of Secret; nil if the Key was not made by NewKey
}

// NewKey returns a key with its cipher prepared.
func NewKey(secret [32]byte, data past.DataID) *Key {
	return &Key{Secret: secret, Data: data, aead: newAEAD(secret)}
}

func newAEAD(secret [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic(err) // 32 bytes are a valid key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has GCM's block size
	}
	return aead
}

func (k *Key) cipher() cipher.AEAD {
	if k.aead != nil {
		return k.aead
	}
	return newAEAD(k.Secret)
}

// SealedLen is the number of bytes that plainBytes become when sealed.
func SealedLen(plainBytes int) int { return plainBytes + segments(plainBytes)*tagBytes }

// PlainLen is the inverse of SealedLen; ok is false for what is no sealed length.
func PlainLen(sealedBytes int) (plainBytes int, ok bool) {
	n := (sealedBytes + segmentSealed - 1) / segmentSealed
	plainBytes = sealedBytes - n*tagBytes
	return plainBytes, sealedBytes > 0 && plainBytes >= 0 && SealedLen(plainBytes) == sealedBytes
}

func segments(plainBytes int) int { return max(1, (plainBytes+SegmentPlain-1)/SegmentPlain) }

// SealedRange returns which of the sealed bytes hold the n > 0 bytes of plaintext from offset off, in whole segments:
// sealed[from:to]. plainBytes is the stripe's plaintext length, at least off + n.
func SealedRange(plainBytes, off, n int) (from, to int) {
	from = off / SegmentPlain * segmentSealed
	to = ((off+n-1)/SegmentPlain + 1) * segmentSealed
	return from, min(to, SealedLen(plainBytes))
}

// Seal appends plain, sealed as stripe number index of k's data, to dst. It allocates nothing for a segment, and nothing
// at all but the result where dst has SealedLen(len(plain)) bytes of room. dst's room and plain must not overlap.
//
// The caller seals each index once: sealing two different plaintexts as the same one would use its nonces twice.
func (k *Key) Seal(dst []byte, index uint64, plain []byte) []byte {
	aead, place := k.cipher(), newPlace(k.Data, index, len(plain))
	for i := range segments(len(plain)) {
		nonce, ad := place.segment(i)
		dst = aead.Seal(dst, nonce, plain[:min(len(plain), SegmentPlain)], ad)
		plain = plain[min(len(plain), SegmentPlain):]
	}
	return dst
}

// Open appends the plaintext of sealed, the whole stripe number index, to dst. It leaves sealed as it is; dst's room and sealed
// must not overlap. It allocates as Seal does. It returns ErrSealed, and nothing of the plaintext, if any segment does not verify.
func (k *Key) Open(dst []byte, index uint64, sealed []byte) ([]byte, error) {
	plainBytes, ok := PlainLen(len(sealed))
	if !ok {
		return dst, ErrSealed
	}
	aead, place := k.cipher(), newPlace(k.Data, index, plainBytes)
	out := dst
	for i := 0; len(sealed) > 0; i++ {
		segment := sealed[:min(len(sealed), segmentSealed)]
		sealed = sealed[len(segment):]
		nonce, ad := place.segment(i)
		opened, err := aead.Open(out, nonce, segment, ad)
		if err != nil {
			clear(out[len(dst):])
			return dst, ErrSealed
		}
		out = opened
	}
	return out, nil
}

// OpenRange fills dst with the plaintext from offset off of stripe number index, which has plainBytes in all. sealed is what
// SealedRange names; it stays as it is. It returns ErrSealed if a segment does not verify; dst is then undefined.
func (k *Key) OpenRange(dst []byte, index uint64, plainBytes, off int, sealed []byte) error {
	if off < 0 || len(dst) == 0 || off+len(dst) > plainBytes {
		return ErrSealed
	}
	if from, to := SealedRange(plainBytes, off, len(dst)); len(sealed) != to-from {
		return ErrSealed
	}
	aead, place := k.cipher(), newPlace(k.Data, index, plainBytes)
	skip := off % SegmentPlain
	for i := off / SegmentPlain; len(dst) > 0; i++ {
		segment := sealed[:min(len(sealed), segmentSealed)]
		sealed = sealed[len(segment):]
		nonce, ad := place.segment(i)
		n, err := openPart(aead, dst, skip, nonce, segment, ad)
		if err != nil {
			return ErrSealed
		}
		dst, skip = dst[n:], 0
	}
	return nil
}

// edges are buffers for segments of which only a part is wanted.
var edges = sync.Pool{New: func() any { return new([SegmentPlain]byte) }}

// openPart opens one segment, copies its plaintext from offset skip to dst as far as there is room, and returns how much.
func openPart(aead cipher.AEAD, dst []byte, skip int, nonce, segment, ad []byte) (n int, err error) {
	if plainBytes := len(segment) - tagBytes; skip == 0 && len(dst) >= plainBytes {
		_, err = aead.Open(dst[:0], nonce, segment, ad)
		return plainBytes, err
	}
	edge := edges.Get().(*[SegmentPlain]byte)
	defer edges.Put(edge)
	plain, err := aead.Open(edge[:0], nonce, segment, ad)
	if err != nil {
		return 0, err
	}
	n = copy(dst, plain[skip:])
	clear(plain)
	return n, nil
}

// place is where a segment belongs: its nonce and its additional data, made once for a stripe and changed for each segment.
type place struct {
	nonce [12]byte // stripe (8), segment (4)
	ad    [32]byte // dataID (16), stripe (8), segment (4), plaintext bytes of the stripe (4)
}

func newPlace(data past.DataID, index uint64, plainBytes int) *place {
	p := new(place)
	binary.BigEndian.PutUint64(p.nonce[:8], index)
	copy(p.ad[:16], data[:])
	binary.BigEndian.PutUint64(p.ad[16:24], index)
	binary.BigEndian.PutUint32(p.ad[28:], uint32(plainBytes))
	return p
}

func (p *place) segment(i int) (nonce, ad []byte) {
	binary.BigEndian.PutUint32(p.nonce[8:], uint32(i))
	binary.BigEndian.PutUint32(p.ad[24:28], uint32(i))
	return p.nonce[:], p.ad[:]
}

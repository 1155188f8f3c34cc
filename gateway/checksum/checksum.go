// Package checksum is the additional checksums of S3: the algorithms, how their values are written, and how the value of a
// multipart object follows from its parts. It knows no request and no storage.
//
// A FULL_OBJECT checksum is that of the object's bytes; for CRCs it can be combined from the parts' without reading them
// again (Combine). A COMPOSITE checksum is the checksum of the parts' concatenated checksums, followed by "-" and their
// number. See "Checking object integrity" in the Amazon S3 User Guide.
package checksum

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"
)

// Types of a checksum of an object.
const (
	FullObject = "FULL_OBJECT"
	Composite  = "COMPOSITE"
)

// Default is the algorithm that S3 computes when the client names none.
const Default = "CRC64NVME"

// Algorithm is one checksum algorithm.
type Algorithm struct {
	Name string // as in x-amz-checksum-algorithm
	Size int    // bytes of a value
	New  func() hash.Hash
	// poly is the reversed polynomial of a CRC, 0 for other algorithms: only CRCs combine.
	poly uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Algorithms lists all of them.
var Algorithms = []*Algorithm{
	{Name: "CRC32", Size: 4, New: func() hash.Hash { return crc32.NewIEEE() }, poly: crc32.IEEE},
	{Name: "CRC32C", Size: 4, New: func() hash.Hash { return crc32.New(castagnoli) }, poly: crc32.Castagnoli},
	{Name: "CRC64NVME", Size: 8, New: func() hash.Hash { return crc64nvme.New() }, poly: 0x9a6c9329ac4bc9b5},
	{Name: "SHA1", Size: sha1.Size, New: sha1.New},
	{Name: "SHA256", Size: sha256.Size, New: sha256.New},
	{Name: "SHA512", Size: sha512.Size, New: sha512.New},
	{Name: "MD5", Size: md5.Size, New: md5.New},
	{Name: "XXHASH64", Size: 8, New: func() hash.Hash { return xxhash.New() }},
	{Name: "XXHASH3", Size: 8, New: func() hash.Hash { return xxh3.New() }},
	{Name: "XXHASH128", Size: 16, New: func() hash.Hash { return &xxh128{xxh3.New()} }},
}

// xxh128 is xxh3 with its 128-bit value.
type xxh128 struct{ *xxh3.Hasher }

func (h *xxh128) Size() int { return 16 }

func (h *xxh128) Sum(b []byte) []byte {
	v := h.Sum128().Bytes()
	return append(b, v[:]...)
}

// ByName returns the algorithm of that name in any case, nil if there is none.
func ByName(name string) *Algorithm {
	for _, a := range Algorithms {
		if strings.EqualFold(a.Name, name) {
			return a
		}
	}
	return nil
}

// ByHeader returns the algorithm of a header or trailer named x-amz-checksum-NAME in any case, nil if there is none.
func ByHeader(header string) *Algorithm {
	const prefix = "x-amz-checksum-"
	if len(header) < len(prefix) || !strings.EqualFold(header[:len(prefix)], prefix) {
		return nil
	}
	return ByName(header[len(prefix):])
}

// Header returns x-amz-checksum-NAME in lower case.
func (a *Algorithm) Header() string { return "x-amz-checksum-" + strings.ToLower(a.Name) }

// Valid says whether value is the base64 of a value of a.
func (a *Algorithm) Valid(value string) bool {
	b, err := base64.StdEncoding.DecodeString(value)
	return err == nil && len(b) == a.Size
}

// Combines says whether a full-object value follows from those of the parts.
func (a *Algorithm) Combines() bool { return a.poly != 0 }

// MultipartType returns the type of a multipart object's checksum when the client names none.
func (a *Algorithm) MultipartType() string {
	if a.Name == Default {
		return FullObject
	}
	return Composite
}

// AllowsType says whether a multipart object may have a checksum of a with this type.
func (a *Algorithm) AllowsType(kind string) bool {
	switch kind {
	case FullObject:
		return a.Combines()
	case Composite:
		return a.Name != Default
	}
	return false
}

// Part is the checksum of one part in base64, and the part's length in bytes.
type Part struct {
	Value string
	Size  int64
}

// OfParts returns the value of a multipart object's checksum of the given type. ok is false if a part's value is malformed or
// a does not allow the type.
func (a *Algorithm) OfParts(kind string, parts []Part) (value string, ok bool) {
	if !a.AllowsType(kind) {
		return "", false
	}
	h := a.New()
	var crc uint64
	for i, p := range parts {
		sum, err := base64.StdEncoding.DecodeString(p.Value)
		if err != nil || len(sum) != a.Size {
			return "", false
		}
		if kind == Composite {
			h.Write(sum)
			continue
		}
		if i == 0 {
			crc = a.decode(sum)
		} else {
			crc = a.combine(crc, a.decode(sum), p.Size)
		}
	}
	if kind == Composite {
		return base64.StdEncoding.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), true
	}
	return base64.StdEncoding.EncodeToString(a.encode(crc)), true
}

func (a *Algorithm) decode(sum []byte) uint64 {
	if a.Size == 4 {
		return uint64(binary.BigEndian.Uint32(sum))
	}
	return binary.BigEndian.Uint64(sum)
}

func (a *Algorithm) encode(crc uint64) []byte {
	if a.Size == 4 {
		return binary.BigEndian.AppendUint32(nil, uint32(crc))
	}
	return binary.BigEndian.AppendUint64(nil, crc)
}

// combine returns the CRC of the concatenation of two byte strings of which the second is n bytes long:
// crc1 times x^8n plus crc2, modulo the polynomial. The all-ones start and end values cancel out.
func (a *Algorithm) combine(crc1, crc2 uint64, n int64) uint64 {
	top := uint64(1) << (8*a.Size - 1)
	shift := top      // x^0 in reversed bit order
	power := top >> 8 // x^8
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			shift = a.mul(shift, power, top)
		}
		power = a.mul(power, power, top)
	}
	return a.mul(crc1, shift, top) ^ crc2
}

// mul multiplies two polynomials over GF(2) modulo a.poly, all in reversed bit order; top is the bit of x^0.
func (a *Algorithm) mul(x, y, top uint64) uint64 {
	var product uint64
	for m := top; m != 0; m >>= 1 {
		if x&m != 0 {
			product ^= y
		}
		if y&1 != 0 {
			y = y>>1 ^ a.poly
		} else {
			y >>= 1
		}
	}
	return product
}

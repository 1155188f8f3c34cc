package gateway

import (
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"testing"

	"larder/gateway/checksum"
)

// BenchmarkDigest is the cost of what S3 asks of one body, with and without a signed payload hash.
func BenchmarkDigest(b *testing.B) {
	data := make([]byte, 1<<20)
	for _, algorithm := range []string{"CRC64NVME", "CRC32", "SHA256"} {
		for _, signed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/signed=%v", algorithm, signed), func(b *testing.B) {
				a := checksum.ByName(algorithm)
				d := &bodyDigest{md5: md5.New(), algorithm: a, sum: a.New()}
				if signed {
					d.sha256 = sha256.New()
				}
				b.SetBytes(int64(len(data)))
				for range b.N {
					d.Write(data)
				}
			})
		}
	}
	b.Run("MD5 alone", func(b *testing.B) {
		h := md5.New()
		b.SetBytes(int64(len(data)))
		for range b.N {
			h.Write(data)
		}
	})
}

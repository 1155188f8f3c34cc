package gatewaytest

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"hash"

	"larder/gateway"
	"larder/gateway/checksum"
)

// digest is a gateway.Digest that verifies nothing.
type digest struct {
	md5, sum  hash.Hash
	algorithm *checksum.Algorithm
	refuse    error
	finished  int
}

// newDigest computes MD5 and the named checksum; "" is the default one.
func newDigest(algorithm string) *digest {
	if algorithm == "" {
		algorithm = checksum.Default
	}
	a := checksum.ByName(algorithm)
	return &digest{md5: md5.New(), sum: a.New(), algorithm: a}
}

func (d *digest) Write(p []byte) (int, error) {
	d.md5.Write(p)
	return d.sum.Write(p)
}

// Finish returns d.refuse, if it is set.
func (d *digest) Finish() (gateway.Sums, error) {
	d.finished++
	if d.refuse != nil {
		return gateway.Sums{}, d.refuse
	}
	return gateway.Sums{ETag: hex.EncodeToString(d.md5.Sum(nil)), Checksums: []gateway.Checksum{{Algorithm: d.algorithm.Name,
		Value: base64.StdEncoding.EncodeToString(d.sum.Sum(nil)), Type: checksum.FullObject}}}, nil
}

func sumsOf(data []byte, algorithm string) gateway.Sums {
	d := newDigest(algorithm)
	d.Write(data)
	sums, _ := d.Finish() // refuse is nil
	return sums
}

// Input returns what a Put of data needs, with a Digest that verifies nothing.
func Input(data []byte) gateway.PutInput {
	return gateway.PutInput{Body: bytes.NewReader(data), Size: int64(len(data)), Digest: newDigest("")}
}

package gateway

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"strings"

	"larder/auth/sigv4"
	"larder/gateway/checksum"
)

// bodyDigest computes what one request says of its body, and what S3 keeps of it: the MD5 that becomes the ETag, the SHA-256
// of x-amz-content-sha256, and one checksum. It is a Digest.
type bodyDigest struct {
	md5     hash.Hash
	wantMD5 []byte // Content-MD5, or nil

	sha256     hash.Hash // nil if the payload's hash is not signed
	wantSHA256 string    // lower-case hex

	algorithm *checksum.Algorithm
	sum       hash.Hash // of algorithm; shares sha256 or md5 where they are the same
	wantSum   string    // from a header
	trailer   string    // name of the trailer that will hold wantSum, or ""
	chunks    *sigv4.ChunkReader
	named     bool // the client named algorithm
	skipMD5   bool // the caller needs no ETag
}

// newDigest reads the headers about the body. algorithm is what to compute when the client names nothing; "" is the default.
// It may be called once; what it holds is given up with the request.
func (q *request) newDigest(algorithm string) (*bodyDigest, error) {
	h := q.r.Header
	q.md5 = checksum.NewMD5(q.body.size)
	d := &bodyDigest{md5: q.md5, chunks: q.body.chunks}
	if v, ok := h["Content-Md5"]; ok {
		b, err := base64.StdEncoding.DecodeString(v[0])
		if err != nil || len(b) != md5.Size {
			return nil, refuse("InvalidDigest", [2]string{"Content-MD5", v[0]})
		}
		d.wantMD5 = b
	}
	if sigv4.IsHash(q.auth.PayloadHash) {
		d.sha256, d.wantSHA256 = sha256.New(), strings.ToLower(q.auth.PayloadHash)
	}
	if err := d.readChecksum(h, algorithm); err != nil {
		return nil, err
	}
	switch {
	case d.algorithm.Name == "SHA256" && d.sha256 != nil:
		d.sum = d.sha256
	case d.algorithm.Name == "MD5":
		d.sum = d.md5
	default:
		d.sum = d.algorithm.New()
	}
	return d, nil
}

// readChecksum finds out which checksum is to be computed and what it must be.
func (d *bodyDigest) readChecksum(h http.Header, fallback string) error {
	for name, values := range h {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-checksum-") || lower == "x-amz-checksum-algorithm" || lower == "x-amz-checksum-type" || lower == "x-amz-checksum-mode" {
			continue
		}
		a := checksum.ByHeader(lower)
		switch {
		case a == nil:
			return headerRefused(name, values[0])
		case d.algorithm != nil || len(values) > 1:
			return refusef("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		d.algorithm, d.wantSum = a, values[0]
	}
	if d.algorithm != nil && !d.algorithm.Valid(d.wantSum) {
		return refusef("InvalidRequest", "Value for %s header is invalid.", d.algorithm.Header())
	}
	if name := strings.ToLower(strings.TrimSpace(h.Get("X-Amz-Trailer"))); name != "" {
		a := checksum.ByHeader(name)
		switch {
		case a == nil:
			return refusef("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
		case d.algorithm != nil:
			return refusef("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		case d.chunks == nil:
			return refusef("InvalidRequest", "x-amz-trailer needs a body in aws-chunked form")
		}
		d.algorithm, d.trailer = a, name
	}
	if name := h.Get("X-Amz-Sdk-Checksum-Algorithm"); name != "" {
		a := checksum.ByName(name)
		if a == nil || d.algorithm != nil && a != d.algorithm {
			return refusef("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
		d.algorithm = a
	}
	d.named = d.algorithm != nil
	if !d.named {
		if fallback == "" {
			fallback = checksum.Default
		}
		d.algorithm = checksum.ByName(fallback)
	}
	return nil
}

// claimed says whether the client itself gives a checksum or an MD5 of the body.
func (d *bodyDigest) claimed() bool { return d.wantSum != "" || d.trailer != "" || d.wantMD5 != nil }

// parallelFrom is the size of a Write from which on a SHA runs beside the MD5, in bytes. On two cores MD5 and SHA-256 of 1 MiB
// then take what MD5 alone does (BenchmarkDigest); a CRC is too cheap to be worth a goroutine.
const parallelFrom = 64 << 10

// Write takes the next bytes of the body. It never fails. The goroutine it may start has ended when it returns.
func (d *bodyDigest) Write(p []byte) (int, error) {
	needMD5 := !d.skipMD5 || d.wantMD5 != nil || d.sum == d.md5
	if needMD5 && len(p) >= parallelFrom && (d.sha256 != nil || d.sum.Size() >= sha1.Size) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.writeOthers(p)
		}()
		d.md5.Write(p)
		<-done
		return len(p), nil
	}
	if needMD5 {
		d.md5.Write(p)
	}
	d.writeOthers(p)
	return len(p), nil
}

// writeOthers feeds all sums but the MD5.
func (d *bodyDigest) writeOthers(p []byte) {
	if d.sha256 != nil {
		d.sha256.Write(p)
	}
	if d.sum != d.sha256 && d.sum != d.md5 {
		d.sum.Write(p)
	}
}

// Finish compares with what was claimed. It may be called only after the body returned io.EOF, because trailers come last.
func (d *bodyDigest) Finish() (Sums, error) {
	etag := d.md5.Sum(nil)
	if d.wantMD5 != nil && string(etag) != string(d.wantMD5) {
		return Sums{}, &Error{Code: "BadDigest", Message: "The Content-MD5 you specified did not match what we received.", Facts: [][2]string{
			{"CalculatedDigest", base64.StdEncoding.EncodeToString(etag)}, {"ExpectedDigest", base64.StdEncoding.EncodeToString(d.wantMD5)}}}
	}
	if d.sha256 != nil {
		if got := hex.EncodeToString(d.sha256.Sum(nil)); got != d.wantSHA256 {
			return Sums{}, refuse("XAmzContentSHA256Mismatch", [2]string{"ClientComputedContentSHA256", d.wantSHA256},
				[2]string{"S3ComputedContentSHA256", got})
		}
	}
	if err := d.readTrailer(); err != nil {
		return Sums{}, err
	}
	value := base64.StdEncoding.EncodeToString(d.sum.Sum(nil))
	if d.wantSum != "" && value != d.wantSum {
		return Sums{}, refusef("BadDigest", "The %s you specified did not match the calculated checksum.", d.algorithm.Name)
	}
	return Sums{ETag: hex.EncodeToString(etag), Checksums: []Checksum{{Algorithm: d.algorithm.Name, Value: value, Type: checksum.FullObject}}}, nil
}

// readTrailer takes wantSum from the trailer that x-amz-trailer announced, and refuses any other.
func (d *bodyDigest) readTrailer() error {
	if d.chunks == nil {
		return nil
	}
	found := d.chunks.Trailer()
	for name := range found {
		if name != d.trailer {
			return refuse("MalformedTrailerError")
		}
	}
	if d.trailer == "" {
		return nil
	}
	value, ok := found[d.trailer]
	if !ok {
		return refuse("MalformedTrailerError")
	}
	if !d.algorithm.Valid(value) {
		return refusef("InvalidRequest", "Value for %s trailing header is invalid.", d.trailer)
	}
	d.wantSum = value
	return nil
}

// plainDigest computes MD5 and one checksum and verifies nothing.
func plainDigest(a *checksum.Algorithm) *bodyDigest {
	return &bodyDigest{md5: md5.New(), algorithm: a, sum: a.New()}
}

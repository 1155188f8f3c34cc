package gateway

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"larder/gateway/checksum"
)

// Assembly is the object that a Complete makes, without its bytes.
type Assembly struct {
	Parts []Part // those named, in order
	Size  int64  // bytes
	Sums  Sums   // the ETag is md5-N
}

// Assemble checks a Complete against the parts that an upload has, and returns what the object will be. It is a pure function
// for the use of Backends: have is asked for the stored part of a number. The errors are ErrInvalidPart, ErrInvalidPartOrder,
// ErrPartTooSmall, or an *Error.
func Assemble(u Upload, have func(number int) (Part, bool), in CompleteInput) (Assembly, error) {
	var out Assembly
	digest := md5.New()
	for i, want := range in.Parts {
		if i > 0 && want.Number <= in.Parts[i-1].Number {
			return out, ErrInvalidPartOrder
		}
		p, ok := have(want.Number)
		if err := checkPartSums(u, want, i); err != nil {
			return out, err
		}
		if !ok || p.ETag != want.ETag || !sumsAgree(p.Checksums, want.Checksums) {
			return out, &Error{Code: "InvalidPart", Facts: [][2]string{{"PartNumber", strconv.Itoa(want.Number)}, {"ETag", want.ETag}}, cause: ErrInvalidPart}
		}
		if i < len(in.Parts)-1 && p.Size < MinPart {
			return out, &Error{Code: "EntityTooSmall", Facts: [][2]string{{"PartNumber", strconv.Itoa(p.Number)}, {"ETag", p.ETag},
				{"ProposedSize", itoa(p.Size)}, {"MinSizeAllowed", itoa(MinPart)}}, cause: ErrPartTooSmall}
		}
		sum, err := hex.DecodeString(p.ETag)
		if err != nil {
			return out, fmt.Errorf("gateway: part %d has ETag %q", p.Number, p.ETag)
		}
		digest.Write(sum)
		out.Parts = append(out.Parts, p)
		out.Size += p.Size
	}
	if len(out.Parts) == 0 {
		return out, ErrInvalidPart
	}
	if out.Size > MaxMultipart {
		return out, refuse("EntityTooLarge", [2]string{"ProposedSize", itoa(out.Size)}, [2]string{"MaxSizeAllowed", itoa(MaxMultipart)})
	}
	if in.Size >= 0 && in.Size != out.Size {
		return out, refusef("InvalidRequest", "The provided 'x-amz-mp-object-size' header value %d does not match what was computed: %d", in.Size, out.Size)
	}
	out.Sums.ETag = hex.EncodeToString(digest.Sum(nil)) + "-" + strconv.Itoa(len(out.Parts))
	var err error
	out.Sums.Checksums, err = objectChecksum(u, out.Parts, in.Checksum)
	return out, err
}

// checkPartSums requires of a part in a Complete the checksum that the upload was created with, and no other.
func checkPartSums(u Upload, want CompletedPart, index int) error {
	if u.ChecksumType == checksum.Composite && len(want.Checksums) == 0 {
		return refusef("InvalidRequest", "The upload was created using a %s checksum. The complete request must include the checksum for each part. It was missing for part %d in the request.",
			strings.ToLower(u.ChecksumAlgorithm), index+1)
	}
	for _, c := range want.Checksums {
		if u.ChecksumAlgorithm != "" && c.Algorithm != u.ChecksumAlgorithm {
			return refusef("BadDigest", "The %s you specified for part %d did not match what we received.", strings.ToLower(c.Algorithm), want.Number)
		}
	}
	return nil
}

// sumsAgree says whether all checksums that the client names of a part are those stored.
func sumsAgree(have, want []Checksum) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || h.Algorithm == w.Algorithm && h.Value == w.Value
		}
		if !found {
			return false
		}
	}
	return true
}

// objectChecksum computes the object's checksum from its parts' and compares it with the one claimed.
func objectChecksum(u Upload, parts []Part, claim Checksum) ([]Checksum, error) {
	algorithm, kind := u.ChecksumAlgorithm, u.ChecksumType
	if algorithm == "" {
		algorithm, kind = checksum.Default, checksum.FullObject
	}
	a := checksum.ByName(algorithm)
	if a == nil {
		return nil, fmt.Errorf("gateway: upload has unknown checksum algorithm %q", algorithm)
	}
	if claim.Type != "" && claim.Type != kind {
		return nil, refusef("InvalidRequest", "The upload was created using the %s checksum mode. The complete request must use the same checksum mode.", kind)
	}
	values := make([]checksum.Part, len(parts))
	for i, p := range parts {
		for _, c := range p.Checksums {
			if c.Algorithm == a.Name {
				values[i] = checksum.Part{Value: c.Value, Size: p.Size}
			}
		}
		if values[i].Value == "" { // a part whose client chose another algorithm, in an upload without one
			if claim.Value != "" {
				return nil, badObjectDigest(claim.Algorithm)
			}
			return nil, nil
		}
	}
	value, ok := a.OfParts(kind, values)
	if !ok {
		return nil, fmt.Errorf("gateway: a part's %s is malformed", a.Name)
	}
	if claim.Value != "" {
		if kind == checksum.Composite && !strings.Contains(claim.Value, "-") {
			claim.Value += "-" + strconv.Itoa(len(parts))
		}
		if claim.Algorithm != a.Name || claim.Value != value {
			return nil, badObjectDigest(claim.Algorithm)
		}
	}
	return []Checksum{{Algorithm: a.Name, Value: value, Type: kind}}, nil
}

func badObjectDigest(algorithm string) *Error {
	return refusef("BadDigest", "The %s you specified did not match the calculated checksum.", algorithm)
}

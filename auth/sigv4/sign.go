package sigv4

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Signer signs requests with one access key.
type Signer struct {
	AccessKey string
	Secret    string
	Region    string
}

func (s Signer) scope(at time.Time) Scope {
	return Scope{Date: at.UTC().Format(dateFormat), Region: s.Region, Service: "s3"}
}

// Sign adds X-Amz-Date, X-Amz-Content-Sha256 and Authorization to r.Header, and returns the seed for the signatures of its
// chunks. payloadHash is a hash in hexadecimal or one of the keywords.
func (s Signer) Sign(r *Request, payloadHash string, at time.Time) (ChunkSeed, error) {
	query, err := ParseQuery(r.RawQuery)
	if err != nil {
		return ChunkSeed{}, err
	}
	path, ok := canonicalPath(r.Path)
	if !ok {
		return ChunkSeed{}, fail(ErrURI, "")
	}
	r.Header["X-Amz-Date"] = []string{at.UTC().Format(timeFormat)}
	r.Header["X-Amz-Content-Sha256"] = []string{payloadHash}
	signed := sortedNames(r)
	scope := s.scope(at)
	key := scope.Key(s.Secret)
	text := stringToSign(at, scope, canonicalRequest(r, path, query.canonical(false), signed, payloadHash))
	signature := hex.EncodeToString(mac(key, text))
	r.Header["Authorization"] = []string{Algorithm + " Credential=" + s.AccessKey + "/" + scope.String() +
		",SignedHeaders=" + strings.Join(signed, ";") + ",Signature=" + signature}
	return ChunkSeed{Key: key, Scope: scope, Time: at, Signature: signature}, nil
}

// Presign returns the raw query that makes r good for expires from at on, its body unsigned. The headers that r has are signed.
func (s Signer) Presign(r *Request, at time.Time, expires time.Duration) (string, error) {
	scope := s.scope(at)
	signed := sortedNames(r)
	add := [][2]string{
		{"X-Amz-Algorithm", Algorithm},
		{"X-Amz-Credential", s.AccessKey + "/" + scope.String()},
		{"X-Amz-Date", at.UTC().Format(timeFormat)},
		{"X-Amz-Expires", strconv.FormatInt(int64(expires/time.Second), 10)},
		{"X-Amz-SignedHeaders", strings.Join(signed, ";")},
	}
	raw := r.RawQuery
	for _, p := range add {
		if raw != "" {
			raw += "&"
		}
		raw += p[0] + "=" + Escape(p[1], false)
	}
	query, err := ParseQuery(raw)
	if err != nil {
		return "", err
	}
	path, ok := canonicalPath(r.Path)
	if !ok {
		return "", fail(ErrURI, "")
	}
	text := stringToSign(at, scope, canonicalRequest(r, path, query.canonical(true), signed, UnsignedPayload))
	return raw + "&X-Amz-Signature=" + hex.EncodeToString(mac(scope.Key(s.Secret), text)), nil
}

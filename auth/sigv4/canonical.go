package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"strings"
	"time"
)

// Values of x-amz-content-sha256 other than a hash, and the algorithm's name.
const (
	Algorithm              = "AWS4-HMAC-SHA256"
	UnsignedPayload        = "UNSIGNED-PAYLOAD"
	StreamingSigned        = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	StreamingSignedTrailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	StreamingTrailer       = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	// EmptyHash is the SHA-256 of no bytes.
	EmptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"
)

// Request is what a signature covers, as it came over the wire.
type Request struct {
	Method   string
	Path     string // still escaped; "" means "/"
	RawQuery string
	Host     string              // with the port, if it was sent
	Header   map[string][]string // names in MIME canonical form (X-Amz-Date); Host is not among them
}

// header returns the first value of a header given in MIME canonical form.
func (r *Request) header(name string) string {
	if v := r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Scope is the credential scope: {date}/{region}/{service}/aws4_request.
type Scope struct {
	Date    string // YYYYMMDD
	Region  string
	Service string
}

func (s Scope) String() string { return s.Date + "/" + s.Region + "/" + s.Service + "/aws4_request" }

// Key derives the signing key of a scope from a secret. It is good for a day, and worth keeping for those who verify much.
func (s Scope) Key(secret string) []byte {
	k := mac([]byte("AWS4"+secret), s.Date)
	k = mac(k, s.Region)
	k = mac(k, s.Service)
	return mac(k, "aws4_request")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// canonicalPath escapes a path once, whatever the client escaped, and normalises nothing.
func canonicalPath(raw string) (string, bool) {
	if raw == "" {
		return "/", true
	}
	p, ok := Unescape(raw, false)
	if !ok {
		return "", false
	}
	return Escape(p, true), true
}

// canonicalRequest puts the request into the form that is hashed. signed is sorted and in lower case.
func canonicalRequest(r *Request, path, query string, signed []string, payloadHash string) string {
	var b strings.Builder
	b.Grow(512)
	for _, s := range []string{r.Method, path, query} {
		b.WriteString(s)
		b.WriteByte('\n')
	}
	for _, name := range signed {
		b.WriteString(name)
		b.WriteByte(':')
		b.WriteString(headerValue(r, name))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(strings.Join(signed, ";"))
	b.WriteByte('\n')
	b.WriteString(payloadHash)
	return b.String()
}

// headerValue joins the values of a header with commas, blanks trimmed and runs of them made one.
func headerValue(r *Request, lower string) string {
	if lower == "host" {
		return r.Host
	}
	values := r.Header[mimeName(lower)]
	if len(values) == 1 {
		return strings.Join(strings.Fields(values[0]), " ")
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(out, ",")
}

// mimeName puts a lower-case header name into MIME canonical form: x-amz-date becomes X-Amz-Date.
func mimeName(lower string) string {
	b := []byte(lower)
	start := true
	for i, c := range b {
		if start && 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
		start = c == '-'
	}
	return string(b)
}

func stringToSign(at time.Time, scope Scope, canonical string) string {
	return Algorithm + "\n" + at.UTC().Format(timeFormat) + "\n" + scope.String() + "\n" + hexHash(canonical)
}

// sortedNames returns the headers of r that a signer covers: host and all others but those that proxies change.
func sortedNames(r *Request) []string {
	names := []string{"host"}
	for name := range r.Header {
		switch lower := strings.ToLower(name); lower {
		case "authorization", "user-agent", "expect", "accept-encoding", "connection", "transfer-encoding", "te", "host":
		default:
			names = append(names, lower)
		}
	}
	sort.Strings(names)
	return names
}

package sigv4

import (
	"crypto/hmac"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxSkew is how far a request's time may lie from the server's.
	MaxSkew = 15 * time.Minute
	// MaxExpires is the longest life of a presigned request.
	MaxExpires = 7 * 24 * time.Hour
)

// Auth is what a request says of its signature. Nothing in it is proved before Verify returned nil.
type Auth struct {
	AccessKey     string
	Scope         Scope
	Time          time.Time
	Presigned     bool
	Expires       time.Duration // presigned only
	SignedHeaders []string      // sorted, lower case
	Signature     string        // 64 hex digits
	PayloadHash   string        // a hash or one of the keywords

	query Query
}

// Parse reads the signature of r out of its header or its query, and checks its form. It returns an *Error of kind
// ErrAnonymous if there is none, ErrUnsupported for other signature versions, and one of the malformed kinds otherwise.
func Parse(r *Request, query Query) (*Auth, error) {
	authorization, hasHeader := r.Header["Authorization"]
	_, v4 := query.Lookup("X-Amz-Algorithm")
	_, v4sig := query.Lookup("X-Amz-Signature")
	_, v2 := query.Lookup("AWSAccessKeyId")
	inQuery := v4 || v4sig
	switch {
	case hasHeader && (inQuery || v2) || len(authorization) > 1:
		return nil, fail(ErrTwoMechanisms, "")
	case inQuery:
		return parseQueryAuth(r, query)
	case v2:
		return nil, fail(ErrUnsupported, "")
	case hasHeader:
		return parseHeaderAuth(r, query, authorization[0])
	}
	return nil, fail(ErrAnonymous, "")
}

func parseHeaderAuth(r *Request, query Query, header string) (*Auth, error) {
	algorithm, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if algorithm != Algorithm {
		if algorithm == "AWS" || algorithm == "AWS4-ECDSA-P256-SHA256" {
			return nil, fail(ErrUnsupported, "")
		}
		return nil, fail(ErrAuthType, "Unsupported Authorization Type",
			[2]string{"ArgumentName", "Authorization"}, [2]string{"ArgumentValue", algorithm})
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || fields[name] != "" {
			return nil, fail(ErrHeaderMalformed, "The authorization header is malformed; the authorization component \""+strings.TrimSpace(part)+"\" is malformed.")
		}
		fields[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" && len(fields) >= 3 {
			return nil, fail(ErrHeaderMalformed, "The authorization header is malformed; missing "+name+".")
		}
		if fields[name] == "" {
			return nil, fail(ErrHeaderMalformed, "The authorization header is malformed; the authorization header requires three components: Credential, SignedHeaders, and Signature.")
		}
	}
	a := &Auth{Signature: fields["Signature"], query: query}
	if msg := a.parseCredential(fields["Credential"]); msg != "" {
		return nil, fail(ErrHeaderMalformed, "The authorization header is malformed; "+msg)
	}
	if msg := a.parseSigned(fields["SignedHeaders"]); msg != "" {
		return nil, fail(ErrHeaderMalformed, "The authorization header is malformed; "+msg)
	}
	var ok bool
	if a.Time, ok = requestTime(r); !ok {
		return nil, fail(ErrMissingDate, "")
	}
	if a.Time.UTC().Format(dateFormat) != a.Scope.Date {
		return nil, fail(ErrHeaderMalformed, "The authorization header is malformed; Invalid credential date \""+a.Scope.Date+
			"\". This date is not the same as X-Amz-Date: \""+a.Time.UTC().Format(dateFormat)+"\".")
	}
	hash, ok := r.Header["X-Amz-Content-Sha256"]
	if !ok {
		return nil, fail(ErrMissingHash, "")
	}
	if len(hash) != 1 || !ValidPayloadHash(hash[0]) {
		return nil, fail(ErrInvalidHash, "", [2]string{"ArgumentName", "x-amz-content-sha256"}, [2]string{"ArgumentValue", hash[0]})
	}
	a.PayloadHash = hash[0]
	return a, a.checkSigned(r)
}

func parseQueryAuth(r *Request, query Query) (*Auth, error) {
	malformed := func(msg string) (*Auth, error) { return nil, fail(ErrQueryMalformed, msg) }
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"} {
		if query.Get(name) == "" {
			return malformed("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, " +
				"X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	if query.Get("X-Amz-Algorithm") != Algorithm {
		return malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"")
	}
	a := &Auth{Presigned: true, Signature: query.Get("X-Amz-Signature"), PayloadHash: UnsignedPayload, query: query}
	if msg := a.parseCredential(query.Get("X-Amz-Credential")); msg != "" {
		return malformed("Error parsing the X-Amz-Credential parameter; " + msg)
	}
	if msg := a.parseSigned(query.Get("X-Amz-SignedHeaders")); msg != "" {
		return malformed(msg)
	}
	at, err := time.Parse(timeFormat, query.Get("X-Amz-Date"))
	if err != nil {
		return malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
	}
	a.Time = at
	if at.Format(dateFormat) != a.Scope.Date {
		return malformed("Invalid credential date \"" + a.Scope.Date + "\". This date is not the same as X-Amz-Date: \"" + at.Format(dateFormat) + "\".")
	}
	seconds, err := strconv.ParseInt(query.Get("X-Amz-Expires"), 10, 64)
	switch {
	case err != nil:
		return malformed("X-Amz-Expires should be a number")
	case seconds < 0:
		return malformed("X-Amz-Expires must be non-negative")
	case seconds > int64(MaxExpires/time.Second):
		return malformed("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	a.Expires = time.Duration(seconds) * time.Second
	if hash, ok := r.Header["X-Amz-Content-Sha256"]; ok && len(hash) > 0 {
		a.PayloadHash = hash[0]
	} else if hash, ok := query.Lookup("X-Amz-Content-Sha256"); ok {
		a.PayloadHash = hash
	}
	if !ValidPayloadHash(a.PayloadHash) {
		return nil, fail(ErrInvalidHash, "", [2]string{"ArgumentName", "x-amz-content-sha256"}, [2]string{"ArgumentValue", a.PayloadHash})
	}
	return a, a.checkSigned(r)
}

// parseCredential reads {access key}/{date}/{region}/{service}/aws4_request and returns what is wrong with it.
func (a *Auth) parseCredential(s string) string {
	parts := strings.Split(s, "/")
	if len(parts) != 5 {
		return "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
	}
	a.AccessKey = parts[0]
	a.Scope = Scope{Date: parts[1], Region: parts[2], Service: parts[3]}
	switch _, err := time.Parse(dateFormat, a.Scope.Date); {
	case parts[4] != "aws4_request":
		return "incorrect terminal \"" + parts[4] + "\". This endpoint uses \"aws4_request\"."
	case a.Scope.Service != "s3":
		return "incorrect service \"" + a.Scope.Service + "\". This endpoint belongs to \"s3\"."
	case err != nil:
		return "incorrect date format \"" + a.Scope.Date + "\". This date in the credential must be in the format \"yyyyMMdd\"."
	case a.AccessKey == "" || a.Scope.Region == "":
		return "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
	}
	return ""
}

func (a *Auth) parseSigned(list string) string {
	names := strings.Split(list, ";")
	for _, n := range names {
		if n == "" || n != strings.ToLower(n) {
			return "SignedHeaders must be a list of lower-case header names separated by semicolons."
		}
	}
	if !slices.IsSorted(names) {
		return "SignedHeaders must be sorted."
	}
	if !slices.Contains(names, "host") {
		return "the host header must be signed."
	}
	a.SignedHeaders = names
	return ""
}

// checkSigned requires that every x-amz- header of r is covered.
func (a *Auth) checkSigned(r *Request) error {
	var missing []string
	for name := range r.Header {
		if !strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		lower := strings.ToLower(name)
		if a.Presigned && lower == "x-amz-content-sha256" {
			continue // it is in the canonical request as the payload hash
		}
		if _, found := slices.BinarySearch(a.SignedHeaders, lower); !found {
			missing = append(missing, lower)
		}
	}
	if missing != nil {
		slices.Sort(missing)
		return fail(ErrUnsignedHeaders, "", [2]string{"HeadersNotSigned", strings.Join(missing, ", ")})
	}
	return nil
}

// requestTime returns the time of x-amz-date, or else of Date.
func requestTime(r *Request) (time.Time, bool) {
	if s := r.header("X-Amz-Date"); s != "" {
		t, err := time.Parse(timeFormat, s)
		return t, err == nil
	}
	s := r.header("Date")
	for _, format := range []string{time.RFC1123, time.RFC1123Z, timeFormat} {
		if t, err := time.Parse(format, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// ValidPayloadHash says whether s may stand in x-amz-content-sha256.
func ValidPayloadHash(s string) bool {
	switch s {
	case UnsignedPayload, StreamingSigned, StreamingSignedTrailer, StreamingTrailer:
		return true
	}
	return IsHash(s)
}

// IsHash says whether s is a SHA-256 in hexadecimal.
func IsHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if unhex(s[i]) < 0 {
			return false
		}
	}
	return true
}

// CheckScope compares the region, and the time with now. The error is of kind ErrHeaderMalformed or ErrQueryMalformed with
// the fact Region, ErrSkewed, ErrNotYetValid or ErrExpired.
func (a *Auth) CheckScope(region string, now time.Time) error {
	if a.Scope.Region != region {
		kind, where := ErrHeaderMalformed, "The authorization header is malformed; "
		if a.Presigned {
			kind, where = ErrQueryMalformed, "Error parsing the X-Amz-Credential parameter; "
		}
		return fail(kind, where+"the region '"+a.Scope.Region+"' is wrong; expecting '"+region+"'", [2]string{"Region", region})
	}
	iso := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
	if a.Presigned {
		if a.Time.Sub(now) > MaxSkew {
			return fail(ErrNotYetValid, "", [2]string{"X-Amz-Date", a.Time.UTC().Format(timeFormat)}, [2]string{"ServerTime", iso(now)})
		}
		if end := a.Time.Add(a.Expires); now.After(end) {
			return fail(ErrExpired, "", [2]string{"X-Amz-Expires", strconv.Itoa(int(a.Expires / time.Second))},
				[2]string{"Expires", iso(end)}, [2]string{"ServerTime", iso(now)})
		}
		return nil
	}
	if d := a.Time.Sub(now); d > MaxSkew || d < -MaxSkew {
		return fail(ErrSkewed, "", [2]string{"RequestTime", a.Time.UTC().Format(timeFormat)}, [2]string{"ServerTime", iso(now)},
			[2]string{"MaxAllowedSkewMilliseconds", strconv.Itoa(int(MaxSkew / time.Millisecond))})
	}
	return nil
}

// Verify is VerifyKey with the signing key derived from secret.
func (a *Auth) Verify(r *Request, secret string) error { return a.VerifyKey(r, a.Scope.Key(secret)) }

// VerifyKey recomputes the signature of r with key, which is a.Scope.Key of the secret, and compares in constant time. The error is
// of kind ErrSignature, with the canonical request and the string to sign for the client to compare.
//
// A client that escapes its path in another way than Signature Version 4 does ("%2F", or unescaped brackets) has signed
// either what it sent or what the rules ask for; both are accepted, since both name the same bytes.
func (a *Auth) VerifyKey(r *Request, key []byte) error {
	path, ok := canonicalPath(r.Path)
	if !ok {
		return fail(ErrURI, "")
	}
	query := a.query.canonical(a.Presigned)
	canonical := canonicalRequest(r, path, query, a.SignedHeaders, a.PayloadHash)
	text := stringToSign(a.Time, a.Scope, canonical)
	if sameSignature(key, text, a.Signature) {
		return nil
	}
	if r.Path != "" && r.Path != path {
		other := canonicalRequest(r, r.Path, query, a.SignedHeaders, a.PayloadHash)
		if sameSignature(key, stringToSign(a.Time, a.Scope, other), a.Signature) {
			return nil
		}
	}
	return fail(ErrSignature, "", [2]string{"AWSAccessKeyId", a.AccessKey}, [2]string{"StringToSign", text},
		[2]string{"SignatureProvided", a.Signature}, [2]string{"CanonicalRequest", canonical})
}

// sameSignature compares the signature of text with one in lower-case hexadecimal, in constant time.
func sameSignature(key []byte, text, signature string) bool {
	want := hex.EncodeToString(mac(key, text))
	return hmac.Equal([]byte(want), []byte(signature))
}

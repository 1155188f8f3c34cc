package sigv4

import "errors"

// What can be wrong with a signature or with a framed body. Functions of this package return an *Error of one of these kinds.
var (
	ErrAnonymous       = errors.New("request is not signed")
	ErrTwoMechanisms   = errors.New("more than one authentication mechanism")
	ErrAuthType        = errors.New("unknown authorization type")
	ErrUnsupported     = errors.New("unsupported signature version")
	ErrHeaderMalformed = errors.New("authorization header malformed")
	ErrQueryMalformed  = errors.New("authorization query parameters malformed")
	ErrMissingDate     = errors.New("no valid date")
	ErrMissingHash     = errors.New("no x-amz-content-sha256")
	ErrInvalidHash     = errors.New("x-amz-content-sha256 is neither a keyword nor a hash")
	ErrSkewed          = errors.New("clock skew too large")
	ErrNotYetValid     = errors.New("presigned request is not valid yet")
	ErrExpired         = errors.New("presigned request has expired")
	ErrUnsignedHeaders = errors.New("headers that must be signed are not")
	ErrSignature       = errors.New("signature does not match")
	ErrToken           = errors.New("security tokens are not known here")
	ErrURI             = errors.New("path or query cannot be decoded")

	ErrIncompleteBody   = errors.New("body ends early or late")
	ErrChunkFraming     = errors.New("aws-chunked framing malformed")
	ErrChunkTooSmall    = errors.New("a chunk before the last is too small")
	ErrChunkSignature   = errors.New("chunk signature does not match")
	ErrTrailer          = errors.New("trailer malformed")
	ErrTrailerSignature = errors.New("trailer signature does not match")
)

// Error is one failure: its kind, what to tell the client, and facts that S3 adds to the body of its answer.
type Error struct {
	Kind    error
	Message string      // "" leaves the choice to the caller
	Facts   [][2]string // element name and text, in order
}

func (e *Error) Error() string {
	if e.Message == "" {
		return "sigv4: " + e.Kind.Error()
	}
	return "sigv4: " + e.Kind.Error() + ": " + e.Message
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

func fail(kind error, message string, facts ...[2]string) *Error {
	return &Error{Kind: kind, Message: message, Facts: facts}
}

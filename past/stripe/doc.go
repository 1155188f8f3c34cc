// Package stripe turns up to 4 MiB of an object into self-certifying fragments and back: it seals (AES-256-GCM in segments),
// codes (Reed-Solomon) and names (BLAKE3) them. Where fragments are kept is left to others, as is what a sequence of stripes
// means. It does no I/O; it starts goroutines only to hash several fragments at once, and awaits them before it returns.
//
// It implements design.md §4. docs/notes/stripes.md draws the byte formats.
package stripe

import "errors"

// Errors that callers branch on.
var (
	// ErrSealed says that sealed bytes are not what the key sealed at that place: altered, cut, moved or of another body.
	ErrSealed = errors.New("stripe: sealed bytes do not verify")
	// ErrFormat says that bytes are no header or fragment of a known format.
	ErrFormat = errors.New("stripe: malformed")
	// ErrHash says that a fragment's bytes are not those its header names.
	ErrHash = errors.New("stripe: fragment does not match its hash")
	// ErrInconsistent says that good fragments give a fragment that the header does not name: whoever made the header lied.
	ErrInconsistent = errors.New("stripe: header is not that of one code word")
)

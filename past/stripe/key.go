package stripe

import "larder/past"

// Key seals the stripes of one body: a random AES-256 key used for this DataID alone, so that the nonce can be the segment's
// number (design.md §4).
type Key struct {
	Secret [32]byte
	Data   past.DataID
}

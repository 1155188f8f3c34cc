package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
)

// payload is a body: block again and again, up to size. Read-only once made, so that workers share it.
type payload struct {
	block  []byte
	size   int
	sha256 string // in hexadecimal; "" if bodies are not signed
}

// blockMax is the length of what a long body repeats: it fits the second-level cache, so that sending it costs the copy alone.
const blockMax = 1 << 20

// newPayload makes a body of size bytes that do not compress.
func newPayload(size int, sign bool) *payload {
	p := &payload{block: make([]byte, min(size, blockMax)), size: size}
	random := rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'})
	_, _ = random.Read(p.block)
	if !sign {
		return p
	}
	h := sha256.New()
	for left := size; left > 0; left -= len(p.block) {
		h.Write(p.block[:min(left, len(p.block))])
	}
	p.sha256 = hex.EncodeToString(h.Sum(nil))
	return p
}

func (p *payload) len() int {
	if p == nil {
		return 0
	}
	return p.size
}

// comparer compares a body that arrives in pieces with a payload.
type comparer struct {
	p  *payload
	at int
	ok bool
}

func (c *comparer) add(b []byte) {
	for len(b) > 0 && c.ok {
		want := c.p.block[c.at%len(c.p.block):]
		want = want[:min(len(want), len(b), c.p.size-c.at)]
		if len(want) == 0 || !bytes.Equal(want, b[:len(want)]) {
			c.ok = false
			return
		}
		c.at += len(want)
		b = b[len(want):]
	}
}

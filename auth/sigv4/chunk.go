package sigv4

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// maxChunkLine bounds a chunk header or one trailer line, in bytes.
	maxChunkLine = 4096
	// maxTrailers bounds the number of trailer lines.
	maxTrailers = 16
	// minChunk is the least size of a chunk before the last, in bytes.
	minChunk = 8192
)

// ChunkSeed is what the first chunk signature starts from.
type ChunkSeed struct {
	Key       []byte // signing key of Scope
	Scope     Scope
	Time      time.Time
	Signature string // of the request
}

// Seed returns the seed of a request that was verified with key.
func (a *Auth) Seed(key []byte) ChunkSeed {
	return ChunkSeed{Key: key, Scope: a.Scope, Time: a.Time, Signature: a.Signature}
}

// next returns the signature of a chunk whose bytes have the given SHA-256, after the previous signature.
func (s *ChunkSeed) next(sum []byte) string {
	return hex.EncodeToString(mac(s.Key, "AWS4-HMAC-SHA256-PAYLOAD\n"+s.Time.UTC().Format(timeFormat)+"\n"+s.Scope.String()+"\n"+
		s.Signature+"\n"+EmptyHash+"\n"+hex.EncodeToString(sum)))
}

// trailer returns the signature of the canonical trailer lines.
func (s *ChunkSeed) trailer(lines string) string {
	return hex.EncodeToString(mac(s.Key, "AWS4-HMAC-SHA256-TRAILER\n"+s.Time.UTC().Format(timeFormat)+"\n"+s.Scope.String()+"\n"+
		s.Signature+"\n"+hexHash(lines)))
}

// ChunkReader decodes an aws-chunked body:
//
//	{size in hex}[;chunk-signature={64 hex}] CRLF {size bytes} CRLF      repeated; the last has size 0 and no bytes
//	{name}:{value} CRLF                                                  trailers, where there are any
//	x-amz-trailer-signature:{64 hex} CRLF                                signed trailers only
//	CRLF
//
// Bytes are handed out before the signature of their chunk is known: whoever reads must not act on them before io.EOF.
// Errors are *Error of kind ErrIncompleteBody, ErrChunkFraming, ErrChunkTooSmall, ErrChunkSignature, ErrTrailer or
// ErrTrailerSignature, or the source's own; they repeat. Memory is one 4 KiB buffer.
type ChunkReader struct {
	src      *bufio.Reader
	seed     *ChunkSeed // nil: unsigned
	trailers bool       // trailers may follow
	left     int64      // decoded bytes still to come, by x-amz-decoded-content-length
	inChunk  int64      // bytes left in this chunk
	small    bool       // a chunk below minChunk was seen: it must be the last
	sum      hash.Hash  // of this chunk; nil: unsigned
	claimed  string     // signature of this chunk
	found    map[string]string
	err      error
}

// NewChunkReader decodes src, which must yield length bytes. mode is one of the STREAMING keywords; seed is used by the
// signed ones alone.
func NewChunkReader(src io.Reader, mode string, seed ChunkSeed, length int64) *ChunkReader {
	c := &ChunkReader{src: bufio.NewReaderSize(src, maxChunkLine), left: length}
	if mode != StreamingTrailer {
		c.seed, c.sum = &seed, sha256.New()
	}
	c.trailers = mode != StreamingSigned
	return c
}

// Trailer returns the trailers, names in lower case, once Read has returned io.EOF.
func (c *ChunkReader) Trailer() map[string]string { return c.found }

func (c *ChunkReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for c.inChunk == 0 {
		if c.err = c.nextChunk(); c.err != nil {
			return 0, c.err
		}
	}
	if int64(len(p)) > c.inChunk {
		p = p[:c.inChunk]
	}
	n, err := c.src.Read(p)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	c.inChunk -= int64(n)
	c.left -= int64(n)
	if err != nil {
		c.err = incomplete(err)
		return n, c.err
	}
	if c.inChunk == 0 {
		c.err = c.endChunk()
	}
	return n, c.err
}

// nextChunk reads a chunk header, and everything to the end of the body if it is the last. It returns io.EOF then.
func (c *ChunkReader) nextChunk() error {
	line, err := c.line(true)
	if err != nil {
		return err
	}
	digits, extension, _ := strings.Cut(line, ";")
	if len(digits) == 0 || len(digits) > 16 {
		return fail(ErrChunkFraming, "")
	}
	size, err := strconv.ParseUint(digits, 16, 63)
	if err != nil {
		return fail(ErrChunkFraming, "")
	}
	if c.seed != nil {
		signature, ok := strings.CutPrefix(extension, "chunk-signature=")
		if !ok || !IsHash(signature) {
			return fail(ErrChunkFraming, "")
		}
		c.claimed = signature
	}
	if size > 0 {
		if int64(size) > c.left {
			return fail(ErrIncompleteBody, "")
		}
		if c.small {
			return fail(ErrChunkTooSmall, "")
		}
		c.small = size < minChunk
		c.inChunk = int64(size)
		return nil
	}
	if c.left > 0 {
		return fail(ErrIncompleteBody, "")
	}
	if err := c.verifyChunk(); err != nil {
		return err
	}
	return c.end()
}

// endChunk reads the CRLF after a chunk's bytes and checks its signature.
func (c *ChunkReader) endChunk() error {
	line, err := c.line(true)
	if err != nil {
		return err
	}
	if line != "" {
		return fail(ErrChunkFraming, "")
	}
	return c.verifyChunk()
}

func (c *ChunkReader) verifyChunk() error {
	if c.seed == nil {
		return nil
	}
	want := c.seed.next(c.sum.Sum(nil))
	c.sum.Reset()
	if !hmac.Equal([]byte(want), []byte(c.claimed)) {
		return fail(ErrChunkSignature, "")
	}
	c.seed.Signature = want
	return nil
}

// end reads the trailers and what closes the body, and returns io.EOF if all is well.
func (c *ChunkReader) end() error {
	var canonical strings.Builder
	signature, blank := "", false
	c.found = map[string]string{}
	for {
		line, err := c.line(false)
		if err != nil {
			// Some clients leave out the CRLF that closes a body without trailers.
			if errors.Is(err, ErrIncompleteBody) && line == "" && !c.trailers {
				break
			}
			return err
		}
		if line == "" {
			// The published example, and clients after it, have one blank line more behind the trailers.
			if _, err := c.src.Peek(1); err == nil && len(c.found) > 0 && signature == "" && !blank {
				blank = true
				continue
			}
			break
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		_, twice := c.found[name]
		if !ok || name == "" || twice || !c.trailers || signature != "" || len(c.found) >= maxTrailers {
			return fail(ErrTrailer, "")
		}
		if name == "x-amz-trailer-signature" {
			signature = value
			continue
		}
		c.found[name] = value
		canonical.WriteString(name + ":" + value + "\n")
	}
	if c.trailers && c.seed != nil && len(c.found) > 0 {
		if !hmac.Equal([]byte(c.seed.trailer(canonical.String())), []byte(signature)) {
			return fail(ErrTrailerSignature, "")
		}
	}
	if _, err := c.src.ReadByte(); err != io.EOF {
		if err == nil {
			return fail(ErrChunkFraming, "")
		}
		return incomplete(err)
	}
	return io.EOF
}

// line reads to the next LF and drops CR LF; strict requires the CR. A body that ends here is ErrIncompleteBody, a line too
// long ErrChunkFraming.
func (c *ChunkReader) line(strict bool) (string, error) {
	b, err := c.src.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fail(ErrChunkFraming, "")
	case err != nil && len(b) > 0:
		return string(b), incomplete(err)
	case err != nil:
		return "", incomplete(err)
	}
	line, hasCR := strings.CutSuffix(string(b[:len(b)-1]), "\r")
	if strict && !hasCR {
		return "", fail(ErrChunkFraming, "")
	}
	return line, nil
}

// incomplete turns an early end into ErrIncompleteBody and leaves other errors as they are.
func incomplete(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fail(ErrIncompleteBody, "")
	}
	return err
}

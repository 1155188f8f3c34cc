package quicnet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// A stream on a bulk connection begins with its service, one byte. Each direction is a run of chunks, the last one empty:
//
//	length 4, big-endian, at most bulkChunkMax | bytes
//
// When both directions have ended the connection is free for the next stream.
const (
	bulkChunkMax = 1 << 20
	chunkHeader  = 4
)

var errBadChunk = errors.New("malformed chunk")

// chunkReader takes one stream's bytes out of what a connection receives.
type chunkReader struct {
	r    *bufio.Reader
	left int  // bytes of the current chunk not read yet
	eof  bool // the final chunk was read; nothing after it was
}

// Read returns io.EOF after the final chunk only, and io.ErrUnexpectedEOF where the connection ends before. After a deadline
// it can be called again.
func (c *chunkReader) Read(p []byte) (int, error) {
	if c.eof {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		head, err := c.r.Peek(chunkHeader) // what came of a header before a deadline stays in r
		if err != nil {
			return 0, unexpected(err)
		}
		n := binary.BigEndian.Uint32(head)
		if n > bulkChunkMax {
			return 0, errBadChunk
		}
		c.r.Discard(chunkHeader)
		if n == 0 {
			c.eof = true
			return 0, io.EOF
		}
		c.left = int(n)
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, unexpected(err)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

package sigv4

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
)

// ChunkWriter encodes a body in aws-chunked form: what NewChunkReader reads. Each Write becomes chunks of at most Size
// bytes; Close writes the last chunk and the trailers.
type ChunkWriter struct {
	dst      io.Writer
	seed     *ChunkSeed
	size     int
	trailers bool
	buf      []byte
}

// NewChunkWriter writes chunks of size bytes to dst; mode and seed are as in NewChunkReader.
func NewChunkWriter(dst io.Writer, mode string, seed ChunkSeed, size int) *ChunkWriter {
	w := &ChunkWriter{dst: dst, size: size, trailers: mode != StreamingSigned}
	if mode != StreamingTrailer {
		w.seed = &seed
	}
	return w
}

func (w *ChunkWriter) Write(p []byte) (int, error) {
	n := len(p)
	w.buf = append(w.buf, p...)
	for len(w.buf) >= w.size {
		if err := w.chunk(w.buf[:w.size]); err != nil {
			return 0, err
		}
		w.buf = w.buf[w.size:]
	}
	return n, nil
}

// chunk writes one chunk; the one without bytes has no CRLF of its own after them.
func (w *ChunkWriter) chunk(data []byte) error {
	extension := ""
	if w.seed != nil {
		sum := sha256.Sum256(data)
		w.seed.Signature = w.seed.next(sum[:])
		extension = ";chunk-signature=" + w.seed.Signature
	}
	if _, err := fmt.Fprintf(w.dst, "%x%s\r\n", len(data), extension); err != nil || len(data) == 0 {
		return err
	}
	if _, err := w.dst.Write(data); err != nil {
		return err
	}
	_, err := io.WriteString(w.dst, "\r\n")
	return err
}

// Close ends the body with these trailers, names in lower case.
func (w *ChunkWriter) Close(trailers ...[2]string) error {
	if len(w.buf) > 0 {
		if err := w.chunk(w.buf); err != nil {
			return err
		}
	}
	if err := w.chunk(nil); err != nil {
		return err
	}
	var lines, canonical strings.Builder
	for _, t := range trailers {
		lines.WriteString(t[0] + ":" + t[1] + "\r\n")
		canonical.WriteString(t[0] + ":" + t[1] + "\n")
	}
	if w.trailers && w.seed != nil && len(trailers) > 0 {
		lines.WriteString("x-amz-trailer-signature:" + w.seed.trailer(canonical.String()) + "\r\n")
	}
	_, err := io.WriteString(w.dst, lines.String()+"\r\n")
	return err
}

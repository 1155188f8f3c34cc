package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"larder/auth/sigv4"
)

const (
	// maxObject is the longest body of one PutObject or UploadPart, in bytes.
	maxObject = 5 << 30
	// maxDocument is the longest XML body, in bytes.
	maxDocument = 2 << 20
	// maxIgnored is how much of a body is read that the operation has no use for, in bytes.
	maxIgnored = 64 << 10
)

// errBodyTimeout says that the client sent nothing for Config.IdleBody.
var errBodyTimeout = errors.New("client sent nothing for too long")

// body is a request's body, decoded and held to the length that the header promised.
type body struct {
	src      io.Reader
	chunks   *sigv4.ChunkReader // nil if it is not aws-chunked
	control  *http.ResponseController
	idle     time.Duration
	deadline time.Time
	size     int64 // decoded bytes promised
	read     int64 // decoded bytes so far
	err      error // why it ended, if not by io.EOF; Read repeats it
	done     bool
}

// openBody sets up the body, and reads it where the operation has no use for one: its hash is checked all the same.
func (q *request) openBody() error {
	if q.op.access == anybody {
		return nil
	}
	r := q.r
	b := &body{src: r.Body, control: q.w.control, idle: q.g.IdleBody, size: r.ContentLength}
	mode := q.auth.PayloadHash
	streaming := strings.HasPrefix(mode, "STREAMING-")
	if !streaming && strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") && r.Header.Get("X-Amz-Decoded-Content-Length") != "" {
		mode, streaming = sigv4.StreamingTrailer, true
	}
	if streaming {
		n, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || n < 0 {
			return refuse("MissingContentLength")
		}
		b.size = n
		b.chunks = sigv4.NewChunkReader(r.Body, mode, q.auth.Seed(q.signing), n)
		b.src = b.chunks
	} else if _, ok := r.Header["Content-Length"]; q.op.streams && !ok || b.size < 0 {
		return refuse("MissingContentLength")
	}
	if b.size > maxObject {
		return refuse("EntityTooLarge", [2]string{"ProposedSize", itoa(b.size)}, [2]string{"MaxSizeAllowed", itoa(maxObject)})
	}
	q.body = b
	if isWrite(r.Method) && (q.op.streams || documents[q.op.name]) {
		return nil
	}
	_, err := q.readDocument(maxIgnored)
	return err
}

// documents are the operations that read their body themselves.
var documents = map[string]bool{"CreateBucket": true, "DeleteObjects": true, "CompleteMultipartUpload": true}

// readDocument returns the whole body, of at most limit bytes, once its hash and checksums are proved.
func (q *request) readDocument(limit int64) ([]byte, error) {
	if q.body.size > limit {
		return nil, refuse("EntityTooLarge", [2]string{"MaxSizeAllowed", itoa(limit)})
	}
	d, err := q.newDigest("")
	if err != nil {
		return nil, err
	}
	d.skipMD5 = true
	b, err := io.ReadAll(q.body)
	if err != nil {
		return nil, err
	}
	d.Write(b)
	_, err = d.Finish()
	return b, err
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done {
		return 0, io.EOF
	}
	if now := time.Now(); b.deadline.Sub(now) < b.idle*3/4 {
		b.deadline = now.Add(b.idle)
		b.control.SetReadDeadline(b.deadline) // not every server has deadlines
	}
	n, err := b.src.Read(p)
	b.read += int64(n)
	switch {
	case b.read > b.size:
		b.err = fmt.Errorf("gateway: body is longer than %d bytes: %w", b.size, sigv4.ErrIncompleteBody)
	case err == io.EOF && b.read < b.size, err == io.ErrUnexpectedEOF:
		b.err = fmt.Errorf("gateway: body ends after %d of %d bytes: %w", b.read, b.size, sigv4.ErrIncompleteBody)
	case err == io.EOF:
		b.done = true
		b.control.SetReadDeadline(time.Time{}) // else it would end the wait for the client to go away
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.err = fmt.Errorf("gateway: after %d of %d bytes: %w", b.read, b.size, errBodyTimeout)
	case err != nil:
		b.err = bodyError(err)
	}
	if b.err != nil {
		return n, b.err
	}
	return n, err
}

// bodyError names a failure to read: the client's, if the connection is at fault.
func bodyError(err error) error {
	var s *sigv4.Error
	if errors.As(err, &s) {
		return err
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return fmt.Errorf("gateway: read body: %w: %v", errBodyTimeout, err)
	}
	return fmt.Errorf("gateway: read body: %w: %v", sigv4.ErrIncompleteBody, err)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

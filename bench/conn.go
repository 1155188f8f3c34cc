package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"larder/auth/sigv4"
)

// endpoint is where requests go and how they are signed. It is read-only and shared.
type endpoint struct {
	scheme, host string // host with the port
	signer       sigv4.Signer
	insecure     bool
	size         int // of the largest body
}

func parseEndpoint(text string) (scheme, host string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
		return "", "", fmt.Errorf("bench: %q is no endpoint: give http://host:port", text)
	}
	host = u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return u.Scheme, host, nil
}

// conn is one HTTP/1.1 connection, kept alive. It belongs to one worker, and dials again where it broke.
type conn struct {
	to      *endpoint
	nc      net.Conn // nil if there is none
	br      *bufio.Reader
	out     []byte // the request's head; kept for the next
	scratch []byte // where bodies are dropped
}

const (
	requestPatience = time.Minute // and as much again for each 256 MiB
	scratchBytes    = 256 << 10
)

func newConn(to *endpoint) *conn { return &conn{to: to, scratch: make([]byte, scratchBytes)} }

func (c *conn) close() {
	if c.nc != nil {
		_ = c.nc.Close()
		c.nc = nil
	}
}

func (c *conn) dial(ctx context.Context) error {
	if c.nc != nil {
		return nil
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", c.to.host)
	if err != nil {
		return err
	}
	if c.to.scheme == "https" {
		host, _, _ := net.SplitHostPort(c.to.host)
		nc = tls.Client(nc, &tls.Config{ServerName: host, InsecureSkipVerify: c.to.insecure})
	}
	c.nc, c.br = nc, bufio.NewReaderSize(nc, 64<<10)
	return nil
}

// call is one request.
type call struct {
	method, path, query string
	body                *payload // nil for none
	signBody            bool
	// sink, if not nil, gets the body of the answer piece by piece.
	sink func([]byte)
}

// statusError is an answer that is not 2xx.
type statusError struct {
	status int
	body   string // its beginning
}

func (e *statusError) Error() string { return fmt.Sprintf("bench: status %d: %s", e.status, e.body) }

// do sends a request and reads its answer to the end. It returns the length of the answer's body. A *statusError leaves the
// connection in order.
func (c *conn) do(ctx context.Context, q call) (int64, error) {
	if err := c.dial(ctx); err != nil {
		return 0, err
	}
	n, err := c.exchange(q)
	var status *statusError
	if err != nil && !errors.As(err, &status) {
		c.close()
	}
	return n, err
}

func (c *conn) exchange(q call) (int64, error) {
	if err := c.head(q); err != nil {
		return 0, err
	}
	patience := requestPatience * time.Duration(1+c.to.size>>28)
	if err := c.nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if err := c.send(q); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(c.br, &http.Request{Method: q.method})
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		_, _ = io.CopyBuffer(io.Discard, res.Body, c.scratch)
		if res.Close {
			c.close()
		}
		return 0, &statusError{res.StatusCode, string(text)}
	}
	n, err := c.drain(res.Body, q.sink)
	if res.Close {
		c.close()
	}
	return n, err
}

// head writes the signed head of the request into c.out.
func (c *conn) head(q call) error {
	hash := sigv4.EmptyHash
	switch {
	case q.body != nil && q.signBody:
		hash = q.body.sha256
	case q.body != nil:
		hash = sigv4.UnsignedPayload
	}
	r := sigv4.Request{Method: q.method, Path: q.path, RawQuery: q.query, Host: c.to.host, Header: make(map[string][]string, 4)}
	if _, err := c.to.signer.Sign(&r, hash, time.Now()); err != nil {
		return err
	}
	b := append(c.out[:0], q.method...)
	b = append(append(b, ' '), q.path...)
	if q.query != "" {
		b = append(append(b, '?'), q.query...)
	}
	b = append(append(b, " HTTP/1.1\r\nHost: "...), c.to.host...)
	for name, values := range r.Header {
		b = append(append(b, "\r\n"...), name...)
		b = append(append(b, ": "...), values[0]...)
	}
	if q.body != nil || q.method == http.MethodPut {
		b = fmt.Appendf(b, "\r\nContent-Length: %d", q.body.len())
	}
	c.out = append(b, "\r\n\r\n"...)
	return nil
}

// joinMax is the largest body, in bytes, that is sent in one piece with its head.
const joinMax = 16 << 10

func (c *conn) send(q call) error {
	if n := q.body.len(); n > 0 && n <= joinMax {
		c.out = append(c.out, q.body.block[:n]...)
		_, err := c.nc.Write(c.out)
		return err
	}
	if _, err := c.nc.Write(c.out); err != nil {
		return err
	}
	for left := q.body.len(); left > 0; {
		n, err := c.nc.Write(q.body.block[:min(left, len(q.body.block))])
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

func (c *conn) drain(r io.Reader, sink func([]byte)) (total int64, err error) {
	for {
		n, err := r.Read(c.scratch)
		total += int64(n)
		if sink != nil {
			sink(c.scratch[:n])
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

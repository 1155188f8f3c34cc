package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"larder/admin"
)

// adminClient talks to one node's admin server.
type adminClient struct{ base string }

// straight is an HTTP client that goes where it is told and nowhere else: the addresses of other nodes are theirs to say.
var straight = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

const (
	adminPatience  = time.Minute
	adminAnswerMax = 64 << 20 // bytes
)

// newAdminClient takes a URL, or host:port. A listener's address stands for the loopback one where it is unspecified.
func newAdminClient(address string) (*adminClient, error) {
	text := address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no admin address: give host:port or http://host:port", address)
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if u.Port() != "" {
		host = net.JoinHostPort(host, u.Port())
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return &adminClient{base: u.Scheme + "://" + host}, nil
}

// do sends one request, with body as JSON unless it is nil, decodes its answer into v, and returns it as it came.
func (c *adminClient) do(ctx context.Context, method, path string, body, v any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, adminAnswerMax+1))
	if err == nil && len(raw) > adminAnswerMax {
		err = errors.New("too long an answer")
	}
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", c.base, path, err)
	}
	return raw, nil
}

// send sends one request. The caller closes the answer's body. An answer that is not a success becomes an error with its text.
func (c *adminClient) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := straight.Do(req)
	if err != nil {
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err
		}
		return nil, fmt.Errorf("no answer from the node at %s: %w", c.base, err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	var f admin.Failure
	if raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20)); err != nil || json.Unmarshal(raw, &f) != nil || f.Error == "" {
		return nil, fmt.Errorf("%s%s: %s", c.base, path, res.Status)
	}
	return nil, errors.New(f.Error)
}

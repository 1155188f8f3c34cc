package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"larder/auth/sigv4"
	"larder/gateway/checksum"
)

// request is one request on its way through the chain. It belongs to the goroutine that serves it.
type request struct {
	g   *Gateway
	w   *reply
	r   *http.Request
	id  string
	raw sigv4.Request // as it came, for the signature

	op          *operation // nil until it is known
	query       sigv4.Query
	bucket, key string // decoded; "" where the path has none
	virtual     bool   // the bucket came from the host name

	auth    *sigv4.Auth // nil if the operation takes anybody
	who     AccessKey
	signing []byte // the key of auth's scope
	info    Bucket // of bucket, where the operation is on one that exists
	body    *body
	told    error         // was answered inside a 200, or nil
	md5     *checksum.MD5 // of body, where there is a digest; closed when the request ends, however it ends
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if r.ContentLength == 0 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		// net/http leaves the 100 out where there is no body to read. botocore then takes the final status line for that of
		// the next request on the connection, too, and waits a minute for what it misses of it.
		w.WriteHeader(http.StatusContinue)
	}
	q := &request{g: g, r: r, w: newReply(w, r, g.IdleBody), id: newID(16)}
	h := q.w.Header()
	h.Set("Server", "Larder")
	h.Set("X-Amz-Request-Id", q.id)
	h.Set("X-Amz-Id-2", g.hostID)
	g.metrics.inFlight.Inc()
	code, cause := "Panic", error(nil)
	defer func() {
		if q.md5 != nil {
			q.md5.Close()
		}
		g.metrics.inFlight.Dec()
		q.log(code, cause, start)
	}()
	err := q.serve()
	if err == nil {
		code = "OK"
		if q.told != nil {
			code, cause = q.code(q.told), q.told
		}
		q.w.finish()
		return
	}
	code, cause = q.code(err), err
	if code == clientGone {
		panic(http.ErrAbortHandler)
	}
	if q.w.status != 0 { // bytes of a 200 are on their way: only a cut connection can tell the client
		g.metrics.aborted.Inc()
		panic(http.ErrAbortHandler)
	}
	q.fail(asError(err))
	q.w.finish()
}

// clientGone is what is logged and counted in place of an S3 code where the client closed the connection, or took nothing for
// Config.IdleBody: nobody is told, and nothing of ours failed. The body of a request that ends early is IncompleteBody.
const clientGone = "ClientGone"

// code names err for the log and the counters.
func (q *request) code(err error) string {
	gone := q.r.Context().Err() != nil // net/http ends it when a read or write fails
	if gone && (q.body == nil || q.body.err == nil) {
		return clientGone
	}
	return asError(err).Code
}

// serve takes the request through the chain. An error returned has not been answered yet.
func (q *request) serve() error {
	release, err := q.g.admit(q.r.Context())
	if err != nil {
		return err
	}
	defer release()
	for _, step := range []func() error{q.target, q.match, q.headers, q.authenticate, q.authorise, q.cors, q.openBody} {
		if err := step(); err != nil {
			return err
		}
	}
	err = q.op.handle(q)
	if q.body != nil && q.body.err != nil && err != nil {
		return q.body.err // whatever the Backend made of it, the body was the cause
	}
	return err
}

// admit waits for one of the slots and returns what gives it back. The error is ErrOverloaded, or the context's.
func (g *Gateway) admit(ctx context.Context) (func(), error) {
	release := func() { <-g.slots }
	select {
	case g.slots <- struct{}{}:
		return release, nil
	default:
	}
	timer := time.NewTimer(g.MaxWait)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return release, nil
	case <-timer.C:
		return nil, fmt.Errorf("gateway: %d requests in progress: %w", g.MaxRequests, ErrOverloaded)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// target finds bucket and key in host and path.
func (q *request) target() error {
	r := q.r
	path := r.URL.EscapedPath()
	if strings.HasPrefix(r.RequestURI, "/") { // else in absolute form, or not from a server
		path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	q.raw = sigv4.Request{Method: r.Method, Path: path, RawQuery: r.URL.RawQuery, Host: r.Host, Header: r.Header}
	var err error
	if q.query, err = sigv4.ParseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	path = strings.TrimPrefix(path, "/")
	if bucket, ok := q.g.virtualHost(r.Host); ok {
		q.bucket, q.virtual = bucket, true
	} else {
		q.bucket, path, _ = strings.Cut(path, "/")
	}
	var ok1, ok2 bool
	q.bucket, ok1 = sigv4.Unescape(q.bucket, false)
	q.key, ok2 = sigv4.Unescape(path, false)
	if !ok1 || !ok2 {
		return refuse("InvalidURI")
	}
	return nil
}

// virtualHost returns the bucket of a host name BUCKET.Domain[:port].
func (g *Gateway) virtualHost(host string) (string, bool) {
	if g.Domain == "" {
		return "", false
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	bucket, ok := strings.CutSuffix(strings.ToLower(host), "."+g.Domain)
	return bucket, ok && bucket != ""
}

// resource returns what the request is about, for error bodies.
func (q *request) resource() string {
	switch {
	case q.bucket == "":
		return "/"
	case q.key == "":
		return "/" + q.bucket
	}
	return "/" + q.bucket + "/" + q.key
}

// cors answers for the configuration that buckets do not have: nothing is added to an answer, and a preflight is refused.
func (q *request) cors() error {
	if q.r.Method != http.MethodOptions {
		return nil
	}
	if q.r.Header.Get("Origin") == "" {
		return refusef("BadRequest", "Insufficient information. Origin request header needed.")
	}
	method := q.r.Header.Get("Access-Control-Request-Method")
	switch method {
	case "GET", "PUT", "HEAD", "POST", "DELETE":
	case "":
		return refusef("BadRequest", "Insufficient information. Access-Control-Request-Method request header needed.")
	default:
		return refusef("BadRequest", "Invalid Access-Control-Request-Method: %s", printable(method))
	}
	if _, err := q.g.Backend.Bucket(q.r.Context(), q.bucket); err != nil {
		return err
	}
	return refuse("AccessForbidden", [2]string{"Method", method}, [2]string{"ResourceType", "OBJECT"})
}

// log writes the access log and the counters.
func (q *request) log(code string, cause error, start time.Time) {
	took := time.Since(start)
	name := "Unknown"
	if q.op != nil {
		name = q.op.name
	}
	var in int64
	if q.body != nil {
		in = q.body.read
	}
	q.g.metrics.done(name, code, took, in, q.w.bytes)
	log := q.g.log.Info
	fields := []zap.Field{zap.String("requestId", q.id), zap.String("operation", name), zap.String("code", code), zap.Int("status", q.w.status),
		zap.String("bucket", q.bucket), zap.String("objectKey", q.key), zap.String("user", q.who.User), zap.String("remote", q.r.RemoteAddr),
		zap.Int64("inBytes", in), zap.Int64("outBytes", q.w.bytes), zap.Duration("took", took)}
	switch {
	case code == clientGone:
		fields = append(fields, zap.NamedError("cause", cause))
	case code == "InternalError":
		log = q.g.log.Error
		fields = append(fields, zap.Error(cause))
	case code == "ServiceUnavailable" || code == "InsufficientStorage" || q.w.status == http.StatusOK && cause != nil:
		log = q.g.log.Warn
		fields = append(fields, zap.Error(cause))
	}
	log("s3 request", fields...)
}

// Package gateway is Larder's S3 front: HTTP requests in, calls of a Backend out (design.md §7). It owns everything that S3
// says about names, headers, conditions, ranges, bodies, documents and errors; it keeps nothing itself and knows no ring.
//
// A request passes, in this order: request id and access log, limits, virtual host, operation, SigV4, authorisation, CORS,
// aws-chunked decoding, payload hash and checksums, handler. What the operation table does not name is refused before
// anything runs: never is a condition or a subresource answered with 200 that was not honoured.
//
// Bodies are streamed both ways. The memory of a request is one buffer of the HTTP server, one of the chunk reader and what
// the Backend needs; documents (DeleteObjects, CompleteMultipartUpload) are bounded at 2 MiB.
package gateway

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Config is what a front needs. Backend, Keyring and Log must be set.
type Config struct {
	Backend Backend
	Keyring Keyring
	Region  string // default us-east-1
	// Domain, if set, enables virtual hosts: BUCKET.Domain. Paths work as well.
	Domain string
	Log    *zap.Logger
	// Now tells the time, for signatures and presigned requests. Default time.Now.
	Now func() time.Time
	// MaxRequests bounds the requests in progress; one more waits up to MaxWait and then gets SlowDown. Default 1024.
	MaxRequests int
	// MaxWait defaults to 500 ms.
	MaxWait time.Duration
	// IdleBody is how long a client may neither send nor take a byte of a body. Default one minute.
	IdleBody time.Duration
	// KeepAlive is after what time a slow Complete or Copy starts sending blanks. Default 5 s.
	KeepAlive time.Duration
	// Metrics is where counters are registered; nil registers nowhere.
	Metrics prometheus.Registerer
}

// Gateway is an http.Handler that speaks S3. All its methods are safe for concurrent use; it starts no goroutine that
// outlives a request.
type Gateway struct {
	Config
	log     *zap.Logger
	slots   chan struct{} // capacity MaxRequests: one token per request in progress
	metrics *metrics
	signing signingKeys
	hostID  string
}

// New returns the front for cfg.
func New(cfg Config) *Gateway {
	setDefault(&cfg.Region, "us-east-1")
	setDefault(&cfg.MaxRequests, 1024)
	setDefault(&cfg.MaxWait, 500*time.Millisecond)
	setDefault(&cfg.IdleBody, time.Minute)
	setDefault(&cfg.KeepAlive, 5*time.Second)
	cfg.Domain = strings.ToLower(cfg.Domain)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Gateway{
		Config:  cfg,
		log:     cfg.Log.Named("gateway"),
		slots:   make(chan struct{}, cfg.MaxRequests),
		metrics: newMetrics(cfg.Metrics),
		hostID:  newID(48),
	}
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// NewServer returns an HTTP server for h with bounds on what a client may make it wait for. Bodies have no overall limit of
// time; Config.IdleBody bounds their pauses.
func NewServer(h http.Handler, log *zap.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          zap.NewStdLog(log.Named("http")),
	}
}

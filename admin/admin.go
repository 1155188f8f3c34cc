// Package admin is the HTTP server for operators: health, metrics, profiles, and a JSON API under /v1/ that `larder admin`
// calls (design.md §10). It shows what other packages know and hands on what they are told to do; the types of its answers are
// what the command line decodes. docs/notes/admin.md lists the resources and says what each state means.
//
// It has no authentication. It is to listen on loopback, or behind something that has some, and it refuses what a web page can
// make a browser on that machine send (guard.go).
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync"
	"time"

	"larder/auth/realm"
	"larder/gateway"
	"larder/gateway/objects"
	"larder/past"
	"larder/past/node"
	"larder/pastry/quicnet"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Config is what the server shows. All fields are required but where it says otherwise.
type Config struct {
	Node     *node.Node
	Objects  func() *objects.Store // nil while there is no gateway
	Identity func() *realm.Identity
	Seeds    func() []netip.AddrPort
	// Registry gets a collector of the node's figures, besides what is in it. No other server may have the same.
	Registry *prometheus.Registry
	// Transport returns the transport's counters. It may be nil: then they are not among the metrics.
	Transport func() quicnet.Stats
	Log       *zap.Logger
	Now       func() time.Time
}

type server struct {
	Config
	log       *zap.Logger
	mux       *http.ServeMux
	scrubbing sync.Mutex // held while a scrub runs
}

const (
	requestMax  = 64 << 10         // bytes of a request's body
	requestTime = 10 * time.Second // for it to arrive
	answerTime  = 30 * time.Second // for what a request asks for
)

// New returns the handler.
func New(cfg Config) http.Handler {
	s := &server{Config: cfg, log: cfg.Log.Named("admin"), mux: http.NewServeMux()}
	cfg.Registry.MustRegister(&collector{node: cfg.Node, objects: cfg.Objects, transport: cfg.Transport})
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{}))
	s.mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /v1/status":          s.status,
		"GET /v1/nodes":           s.nodes,
		"GET /v1/ring":            s.ring,
		"GET /v1/partitions":      s.partitions,
		"GET /v1/object":          s.object,
		"POST /v1/ticket":         s.ticket,
		"GET /v1/users":           s.users,
		"POST /v1/users":          s.addUser,
		"DELETE /v1/users/{name}": s.removeUser,
		"GET /v1/keys":            s.keys,
		"POST /v1/keys":           s.addKey,
		"DELETE /v1/keys/{id}":    s.removeKey,
		"GET /v1/buckets":         s.buckets,
		"POST /v1/repair":         s.repair,
	} {
		s.mux.HandleFunc(pattern, s.api(f))
	}
	s.mux.HandleFunc("POST /v1/scrub", s.scrub)
	s.mux.HandleFunc("/v1/", s.noSuchResource)
	return guard(s.mux)
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if !s.isReady() {
		http.Error(w, "not in the ring yet", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func (s *server) isReady() bool {
	select {
	case <-s.Node.Ready():
		return true
	default:
		return false
	}
}

// api is an operation as a handler: bounded in time, its result or its error as JSON.
func (s *server) api(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Now().Add(2 * answerTime)) // not every writer can
		ctx, cancel := context.WithTimeout(r.Context(), answerTime)
		defer cancel()
		var v any
		err := readBody(w, r)
		if err == nil {
			v, err = f(r.WithContext(ctx))
		}
		if err != nil {
			s.fail(w, err)
			return
		}
		s.answer(w, http.StatusOK, v)
	}
}

// readBody takes a request's body into memory, within requestTime. The deadline ends with it: one that passed while the request is worked
// on would cancel the context of its connection, and so of every later request there (net/http reads ahead to notice a client's end).
func readBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(requestTime)) // not every writer can
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestMax))
	_ = control.SetReadDeadline(time.Time{})
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return refuse(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", long.Limit)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "body: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func (s *server) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer cut off", zap.Error(err))
	}
}

// Failure is the body of every answer that is not a success.
type Failure struct {
	Error string `json:"error"`
}

// refusal is an error with the HTTP status that goes with it.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return refusal{status, fmt.Sprintf(format, args...)}
}

// statuses are those of the errors of other packages; what is not here is 500.
var statuses = []struct {
	err    error
	status int
}{
	{objects.ErrNoSuchUser, http.StatusNotFound},
	{objects.ErrUserExists, http.StatusConflict},
	{objects.ErrKeyExists, http.StatusConflict},
	{objects.ErrBadName, http.StatusBadRequest},
	{gateway.ErrNoSuchAccessKey, http.StatusNotFound},
	{gateway.ErrNoSuchBucket, http.StatusNotFound},
	{gateway.ErrNoSuchKey, http.StatusNotFound},
	{gateway.ErrConflict, http.StatusConflict},
	{gateway.ErrUnavailable, http.StatusServiceUnavailable},
	{gateway.ErrOverloaded, http.StatusServiceUnavailable},
	{past.ErrUnavailable, http.StatusServiceUnavailable},
	{past.ErrUnknown, http.StatusServiceUnavailable},
	{realm.ErrCannotIssue, http.StatusForbidden},
	{context.DeadlineExceeded, http.StatusGatewayTimeout},
}

// fail answers with an error and its text.
func (s *server) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var r refusal
	if errors.As(err, &r) {
		status = r.status
	} else {
		for _, row := range statuses {
			if errors.Is(err, row.err) {
				status = row.status
				break
			}
		}
	}
	if status == http.StatusInternalServerError {
		s.log.Warn("admin request failed", zap.Error(err))
	}
	s.answer(w, status, Failure{err.Error()})
}

// noSuchResource answers what no other pattern takes: 405 where another method would do.
func (s *server) noSuchResource(w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/v1/" {
			w.Header().Add("Allow", method)
		}
	}
	if w.Header().Get("Allow") != "" {
		s.fail(w, refuse(http.StatusMethodNotAllowed, "%s is not for %s", r.Method, r.URL.Path))
		return
	}
	s.fail(w, refuse(http.StatusNotFound, "no such resource: %s", r.URL.Path))
}

// decode reads the JSON object that is a request's body into v. What v has no field for is refused.
func decode(r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "the body must be application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more than one value")
	}
	return refuse(http.StatusBadRequest, "body: %v", err)
}

// query refuses parameters that an operation does not know.
func query(r *http.Request, known ...string) error {
	for name := range r.URL.Query() {
		found := false
		for _, k := range known {
			found = found || k == name
		}
		if !found {
			return refuse(http.StatusBadRequest, "unknown parameter %q", name)
		}
	}
	return nil
}

// store is the gateway's half of this node.
func (s *server) store() (*objects.Store, error) {
	if store := s.Objects(); store != nil {
		return store, nil
	}
	return nil, refuse(http.StatusServiceUnavailable, "this node has no gateway, or it is not open yet: ask a node that serves S3")
}

// Package admin is the HTTP server for operators: health, metrics, profiles, and a JSON API under /v1/ that `larder admin`
// calls (design.md §10). It shows what other packages know and hands on what they are told to do.
package admin

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"larder/auth/realm"
	"larder/gateway/objects"
	"larder/past/node"
	"larder/pastry/wire"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Config is what the server shows. All fields are required.
type Config struct {
	Node     *node.Node
	Objects  func() *objects.Store // nil while there is no gateway
	Identity func() *realm.Identity
	Seeds    func() []netip.AddrPort
	Registry *prometheus.Registry
	Log      *zap.Logger
	Now      func() time.Time
}

type server struct {
	Config
	log *zap.Logger
}

// New returns the handler. It has no authentication: it is to listen on loopback, or behind something that has.
func New(cfg Config) http.Handler {
	s := &server{Config: cfg, log: cfg.Log.Named("admin")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /v1/ticket", s.ticket)
	mux.HandleFunc("GET /v1/ring", s.ring)
	mux.HandleFunc("GET /v1/nodes", s.nodes)
	return mux
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	select {
	case <-s.Node.Ready():
		_, _ = w.Write([]byte("ready\n"))
	default:
		http.Error(w, "not in the ring yet", http.StatusServiceUnavailable)
	}
}

// ticketLifetime is how long a ticket admits nodes.
const ticketLifetime = 24 * time.Hour

func (s *server) ticket(w http.ResponseWriter, _ *http.Request) {
	self := s.Node.Overlay().Self()
	seeds := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom16(self.Addr).Unmap(), self.Port)}
	for _, h := range s.Node.Overlay().Leafs() {
		if len(seeds) < 8 {
			seeds = append(seeds, netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port))
		}
	}
	t, err := s.Identity().NewTicket(rand.Reader, s.Now(), ticketLifetime, wire.RoleStorage|wire.RoleGateway|wire.RoleIssuer, seeds)
	if err != nil {
		s.fail(w, err)
		return
	}
	s.answer(w, map[string]any{"ticket": t.String(), "expires": s.Now().Add(ticketLifetime)})
}

func (s *server) ring(w http.ResponseWriter, _ *http.Request) {
	state := s.Node.Overlay().State()
	s.answer(w, map[string]any{"nodes": len(s.Node.Overlay().Leafs()) + 1, "ringSize": state.RingSize, "ready": state.Ready, "farLookups": state.FarLookups(), "state": state})
}

func (s *server) nodes(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.Node.Nodes()) }

func (s *server) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer cut off", zap.Error(err))
	}
}

// fail answers with an error and its text.
func (s *server) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, realm.ErrCannotIssue) {
		status = http.StatusForbidden
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

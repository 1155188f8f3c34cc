package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"larder/admin"
	"larder/auth/realm"
	"larder/blockstore"
	"larder/blockstore/diskstore"
	"larder/gateway"
	"larder/gateway/objects"
	"larder/past/node"
	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/quicnet"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func serveCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run one node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd); err != nil {
				return err
			}
			return serve(cmd.Context(), s)
		},
	}
	s.bind(cmd.Flags())
	return cmd
}

// memoryLimit is where the collector begins to work harder, in bytes: the whole process is to stay under 200 MB (docs/figures.md).
const memoryLimit = 128 << 20

// gcPercent lets the heap grow to five times what is in use before it is collected, memoryLimit permitting: little is in use, and at
// Go's default of 100 a quarter of the processor time of small requests went to the collector.
const gcPercent = 400

// serve runs a node until ctx ends. A node whose disk has to be opened anew, perhaps as a new incarnation, starts again here.
func serve(ctx context.Context, s settings) error {
	debug.SetMemoryLimit(memoryLimit)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log, err := newLog(s.logLevel)
	if err != nil {
		return err
	}
	defer log.Sync()    //nolint:errcheck // standard error
	var again time.Time // when it was started again last
	for {
		p := &process{s: s, log: log}
		err := p.run(ctx)
		if errors.Is(err, node.ErrDiscard) {
			if e := diskstore.DiscardEntries(nil, p.storeDir()); e != nil {
				return errors.Join(err, e)
			}
		} else if !errors.Is(err, node.ErrReborn) && !errors.Is(err, node.ErrReopen) {
			return err
		}
		log.Warn("starting again", zap.Error(err))
		select { // what one start does not mend, the next will hardly
		case <-time.After(againAfter - time.Since(again)):
		case <-ctx.Done():
			return nil
		}
		again = time.Now()
	}
}

// againAfter is the least time from one start to the next but one of the same process.
const againAfter = 5 * time.Second

func newLog(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	cfg := zap.NewProductionConfig()
	cfg.Level = zap.NewAtomicLevelAt(l)
	cfg.Sampling = nil
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.DisableStacktrace = true
	return cfg.Build()
}

// process is one node with its servers, from start to stop.
type process struct {
	s           settings
	log         *zap.Logger
	capacity    int64
	credentials *realm.Credentials
	store       blockstore.Store
	transport   *quicnet.Transport
	node        *node.Node
	objects     atomic.Pointer[objects.Store] // nil until the gateway is open
	s3URL       string                        // "" if there is no gateway
	adminURL    string
}

func (p *process) now() time.Time { return time.Now().Add(p.s.clockOffset) }

// run starts everything, says so, and stops it in the opposite order when ctx ends.
func (p *process) run(ctx context.Context) (err error) {
	if err := p.measure(); err != nil {
		return err
	}
	id, err := p.identify(ctx)
	if err != nil {
		return err
	}
	p.credentials = realm.NewCredentials(id, p.now)
	if p.store, err = p.openStore(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	p.transport, err = quicnet.Listen(quicnet.Config{Listen: p.s.overlay, Advertise: p.s.advertise, Credentials: p.credentials, Join: p.admit}, p.log)
	if err != nil {
		return err
	}
	defer p.transport.Close() //nolint:errcheck // nothing is written through it any more
	s3Listener, adminListener, err := p.listen()
	if err != nil {
		return err
	}
	defer adminListener.Close() //nolint:errcheck // closed before, unless the start failed
	if s3Listener != nil {
		defer s3Listener.Close() //nolint:errcheck // the same
	}
	if err := p.wire(ctx, id); err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { cancel(p.node.Run(ctx)) })
	work.Go(func() { p.renew(ctx, p.seeds) })
	registry := newRegistry()
	stopAdmin := p.serveAdmin(adminListener, registry, cancel)
	defer stopAdmin()
	select {
	case <-p.node.Ready():
	case <-ctx.Done():
		return stopped(ctx)
	}
	stopS3, err := p.serveS3(ctx, s3Listener, registry, cancel)
	if err != nil {
		cancel(err) // which does nothing if ctx ended, and err is because of that
		return stopped(ctx)
	}
	<-ctx.Done()
	stopS3()
	return stopped(ctx)
}

// stopped is why ctx ended, nil where that is what was asked for.
func stopped(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// measure finds out what this node offers.
func (p *process) measure() error {
	if err := os.MkdirAll(p.s.data, 0o700); err != nil {
		return err
	}
	if p.s.capacity != "" {
		var err error
		if p.capacity, err = parseSize(p.s.capacity); err == nil && p.capacity > 0 && p.capacity < capacityMin {
			err = fmt.Errorf("capacity %s: less than 64 MiB is of no use; 0 is for no storage", p.s.capacity)
		}
		return err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(p.s.data, &fs); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	p.capacity = int64(fs.Blocks) * int64(fs.Bsize)
	return nil
}

// A node without storage may use metadataBytes for what it remembers. One with less than capacityMin has no room to keep its own records
// beside what it keeps for others.
const (
	metadataBytes = 1 << 30
	capacityMin   = 64 << 20
)

func (p *process) storeDir() string { return filepath.Join(p.s.data, "store") }

// openStore opens the disk. Errors wrap node.ErrDiscard where what it remembers is damaged and others have it all.
func (p *process) openStore() (blockstore.Store, error) {
	o := diskstore.Options{Dir: p.storeDir(), CapacityBytes: p.capacity, Log: p.log}
	if p.capacity == 0 {
		o.CapacityBytes = metadataBytes
	}
	store, err := diskstore.Open(o)
	if err != nil { // a nil *diskstore.Store is no nil blockstore.Store
		return nil, p.afterDamage(err)
	}
	return store, nil
}

// afterDamage adds to an error of a start what follows from it, where it says that what the disk remembers is damaged.
func (p *process) afterDamage(err error) error {
	if !errors.Is(err, blockstore.ErrCorrupt) {
		return err
	}
	if !p.remembered().Replicated {
		return fmt.Errorf("%w; no other node is known to have what is lost here, so nothing was touched", err)
	}
	p.log.Error("store damaged: coming back as a new incarnation, to be filled by the other members", zap.Error(err))
	return fmt.Errorf("%w: %w", node.ErrDiscard, err)
}

// listen binds the TCP addresses, so that a taken port is found before anything is begun. A nil listener is for no gateway.
func (p *process) listen() (s3, admin net.Listener, err error) {
	if admin, err = net.Listen("tcp", p.s.admin); err != nil {
		return nil, nil, fmt.Errorf("admin: %w", err)
	}
	p.adminURL = "http://" + admin.Addr().String()
	if p.s.s3 == "" {
		return nil, admin, nil
	}
	if s3, err = net.Listen("tcp", p.s.s3); err != nil {
		admin.Close()
		return nil, nil, fmt.Errorf("s3: %w", err)
	}
	p.s3URL = "http://" + s3.Addr().String()
	if p.s.tlsCert != "" {
		p.s3URL = "https://" + s3.Addr().String()
	}
	return s3, admin, nil
}

// wire makes the node.
func (p *process) wire(ctx context.Context, id *realm.Identity) error {
	core := pastry.DefaultConfig(nil)
	core.LeafSetSize = p.s.leafSetSize
	member := overlay.New(overlay.Config{Node: core, Seeds: p.seeds()}, p.transport, p.log)
	cfg := node.Config{
		Identity: id, Overlay: member, LeafSetSize: core.LeafSetSize, Store: p.store, CapacityBytes: p.capacity, Zone: p.s.zone, Host: p.s.host, S3: p.s3URL, Admin: p.adminURL,
		Version: version, ReplaceAfter: p.s.replaceAfter, RepairAfter: p.s.repairAfter, TrashAfter: p.s.trashAfter, Remember: p.remember, Log: p.log, Now: p.now,
	}
	var err error
	if p.node, err = node.New(ctx, cfg); err != nil {
		return p.afterDamage(err)
	}
	return p.found(ctx, id)
}

// seeds are where others of the ring may be: as told, as the ticket says, and as remembered.
func (p *process) seeds() []netip.AddrPort {
	seeds := append(parseSeeds(p.s.join), parseSeeds(p.remembered().Peers)...)
	if p.s.ticket != "" {
		if ticket, err := p.readTicket(); err == nil { // on later starts it may be gone
			seeds = append(seeds, ticket.Seeds...)
		}
	}
	return seeds
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// serveAdmin serves the admin API until the returned function is called.
func (p *process) serveAdmin(l net.Listener, registry *prometheus.Registry, cancel context.CancelCauseFunc) (stop func()) {
	h := admin.New(admin.Config{
		Node: p.node, Objects: p.objects.Load, Identity: p.credentials.Identity, Seeds: p.seeds,
		Registry: registry, Transport: p.transport.Stats, Log: p.log, Now: p.now,
	})
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: zap.NewStdLog(p.log.Named("admin"))}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("admin: %w", err))
		}
	}()
	return func() { _ = server.Close() }
}

// drainMax is how long requests in progress may go on after a stop was asked for.
const drainMax = 20 * time.Second

// serveS3 opens the gateway, if there is one, and prints the ready line. The returned function drains it.
func (p *process) serveS3(ctx context.Context, l net.Listener, registry *prometheus.Registry, cancel context.CancelCauseFunc) (stop func(), err error) {
	id := p.credentials.Identity()
	if l == nil {
		p.sayReady()
		return func() {}, nil
	}
	store := objects.New(objects.Config{Past: p.node.Past(), Sealer: node.Sealer{Secrets: id.Secrets}, AuditAfter: p.s.auditAfter, Now: p.now, Log: p.log})
	p.objects.Store(store)
	if err := p.bootstrap(ctx, id); err != nil {
		return nil, err
	}
	front := gateway.New(gateway.Config{Backend: store, Keyring: store, Region: p.s.region, Domain: p.s.domain, Log: p.log, Now: p.now, Metrics: registry})
	server := gateway.NewServer(front, p.log)
	go func() {
		var err error
		if p.s.tlsCert != "" {
			server.TLSConfig = reloading(p.s.tlsCert, p.s.tlsKey)
			err = server.ServeTLS(l, "", "")
		} else {
			err = server.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("s3: %w", err))
		}
	}()
	ctx, stopAudit := context.WithCancel(ctx)
	var audit sync.WaitGroup // awaited by stop
	audit.Go(func() { store.Audit(ctx, p.node.Shelves()) })
	p.sayReady()
	return func() {
		stopAudit()
		audit.Wait()
		drain, cancel := context.WithTimeout(context.Background(), drainMax)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			p.log.Warn("requests cut off at stop", zap.Error(err))
			_ = server.Close()
		}
		_ = store.Close()
	}, nil
}

// sayReady prints the line that other tools wait for (design.md §10).
func (p *process) sayReady() {
	fmt.Printf("larder: ready s3=%s admin=%s node=%s\n", p.s3URL, p.adminURL, p.credentials.Identity().NodeID())
}

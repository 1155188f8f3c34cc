package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"larder/auth/sigv4"
)

// Config says what to load, and how.
type Config struct {
	Endpoint             string // http://host:port or https://host:port
	AccessKey, SecretKey string
	Region               string // "us-east-1" if ""
	Bucket               string // made if it is not there, and then removed at the end with all that is in it
	Duration             time.Duration
	Loads                []Load
	SignBody             bool // send the SHA-256 of bodies instead of UNSIGNED-PAYLOAD
	Verify               bool // compare bodies that are read
	Insecure             bool // take any TLS certificate
	Keep                 bool // leave the bucket and its objects
	// PIDs are the server's processes, where they run on this machine: their processor time is measured along. On a machine that
	// is busy with other things it says more than the rate.
	PIDs []int
}

// Runner runs loads against one endpoint. Its methods are not safe for concurrent use.
type Runner struct {
	cfg      Config
	to       *endpoint
	made     bool             // the bucket is ours
	written  map[string]int64 // by name of the source: objects [deleted, written) are there
	deleted  map[string]int64
	payloads map[int]*payload // by size
}

// New returns a Runner with its bucket made.
func New(ctx context.Context, cfg Config) (*Runner, error) {
	scheme, host, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	r := &Runner{
		cfg:     cfg,
		to:      &endpoint{scheme, host, sigv4.Signer{AccessKey: cfg.AccessKey, Secret: cfg.SecretKey, Region: cfg.Region}, cfg.Insecure, 0},
		written: map[string]int64{}, deleted: map[string]int64{}, payloads: map[int]*payload{},
	}
	for _, l := range cfg.Loads {
		r.to.size = max(r.to.size, l.Size)
	}
	return r, r.makeBucket(ctx)
}

func (r *Runner) makeBucket(ctx context.Context) error {
	c := newConn(r.to)
	defer c.close()
	_, err := c.do(ctx, call{method: http.MethodHead, path: "/" + r.cfg.Bucket})
	var status *statusError
	if !errors.As(err, &status) || status.status != http.StatusNotFound {
		return err
	}
	r.made = true
	_, err = c.do(ctx, call{method: http.MethodPut, path: "/" + r.cfg.Bucket})
	return err
}

// Run measures the loads one after the other.
func (r *Runner) Run(ctx context.Context) ([]Result, error) {
	var out []Result
	for _, l := range r.cfg.Loads {
		if err := r.prepare(ctx, l); err != nil {
			return out, fmt.Errorf("bench: prepare %s: %w", l.Name, err)
		}
		res, err := r.measure(ctx, l)
		if err != nil {
			return out, fmt.Errorf("bench: %s: %w", l.Name, err)
		}
		out = append(out, res)
	}
	return out, nil
}

// prepare puts what l needs and nobody has put yet. That is not measured.
func (r *Runner) prepare(ctx context.Context, l Load) error {
	src := l.source()
	if r.payloads[l.Size] == nil {
		r.payloads[l.Size] = newPayload(l.Size, r.cfg.SignBody)
	}
	want := l.atLeast() - (r.written[src.Name] - r.deleted[src.Name])
	if want <= 0 {
		return nil
	}
	w := r.work(src, src.Name, want)
	res := w.run(ctx)
	r.written[src.Name] += want
	if res.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed, the first with: %s", res.Errors, want, res.FirstError)
	}
	return ctx.Err()
}

// measure runs l for Config.Duration, or until it runs out of objects.
func (r *Runner) measure(ctx context.Context, l Load) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, r.cfg.Duration)
	defer cancel()
	most := int64(1) << 40
	name := l.source().Name
	if l.Verb == Delete {
		most = r.written[name] - r.deleted[name]
	}
	before, err := cpuTime(r.cfg.PIDs)
	if err != nil {
		return Result{}, err
	}
	w := r.work(l, name, most)
	res := w.run(limited)
	after, err := cpuTime(r.cfg.PIDs)
	if err != nil {
		return Result{}, err
	}
	res.CPU = (after - before) / time.Duration(max(res.Requests, 1))
	switch done := min(w.next.Load(), most); l.Verb {
	case Put:
		r.written[name] += done
	case Delete:
		r.deleted[name] += done
	}
	return res, ctx.Err()
}

// Close removes the bucket, if New made it, and all objects that were put into it.
func (r *Runner) Close(ctx context.Context) error {
	if r.cfg.Keep {
		return nil
	}
	for _, l := range Loads {
		src := l.source()
		left := r.written[src.Name] - r.deleted[src.Name]
		if left <= 0 {
			continue
		}
		r.work(Load{Name: "clean", Verb: Delete, InFlight: 16}, src.Name, left).run(ctx)
		r.deleted[src.Name] += left
	}
	if !r.made {
		return ctx.Err()
	}
	c := newConn(r.to)
	defer c.close()
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/" + r.cfg.Bucket})
	return err
}

// work is one load under way: its workers take numbers from next.
type work struct {
	r     *Runner
	l     Load
	from  string // the source whose objects it is about
	body  *payload
	first int64 // object of number 0
	have  int64 // GET: objects to choose from
	most  int64 // requests
	next  atomic.Int64
}

// work is l on the objects of a source, for at most so many requests.
func (r *Runner) work(l Load, source string, most int64) *work {
	w := &work{r: r, l: l, from: source, body: r.payloads[l.Size], most: most}
	switch l.Verb {
	case Put:
		w.first = r.written[source]
	case Get, Delete:
		w.first, w.have = r.deleted[source], r.written[source]-r.deleted[source]
	}
	return w
}

// run runs the load's workers until ctx ends or the requests run out, and sums up. Requests under way at the end are finished and
// count, with the time they took.
func (w *work) run(ctx context.Context) Result {
	tallies := make([]tally, w.l.InFlight)
	var all sync.WaitGroup
	start := time.Now()
	for i := range tallies {
		all.Go(func() { w.worker(ctx, &tallies[i]) })
	}
	all.Wait()
	return sum(w.l, tallies, time.Since(start))
}

// errorPause keeps a worker whose requests fail at once from spinning.
const errorPause = 10 * time.Millisecond

func (w *work) worker(ctx context.Context, t *tally) {
	c := newConn(w.r.to)
	defer c.close()
	for ctx.Err() == nil {
		i := w.next.Add(1) - 1
		if i >= w.most {
			return
		}
		begin := time.Now()
		n, err := w.request(context.WithoutCancel(ctx), c, i)
		t.note(time.Since(begin), n, err)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(errorPause):
			}
		}
	}
}

var errWrongBody = errors.New("bench: body differs from what was put")

// request does number i and returns how many bytes of body it moved.
func (w *work) request(ctx context.Context, c *conn, i int64) (int64, error) {
	bucket := "/" + w.r.cfg.Bucket
	switch w.l.Verb {
	case Put:
		_, err := c.do(ctx, call{method: http.MethodPut, path: bucket + "/" + w.key(i), body: w.body, signBody: w.r.cfg.SignBody})
		return int64(w.body.len()), err
	case Get:
		// A stride that is prime to most counts visits all objects, in no order that a cache or a disk could guess.
		q := call{method: http.MethodGet, path: bucket + "/" + w.key(i*7919%w.have)}
		same := comparer{p: w.body, ok: true}
		if w.r.cfg.Verify {
			q.sink = same.add
		}
		n, err := c.do(ctx, q)
		if err == nil && (n != int64(w.body.len()) || !same.ok) {
			err = errWrongBody
		}
		return n, err
	case Delete:
		_, err := c.do(ctx, call{method: http.MethodDelete, path: bucket + "/" + w.key(i)})
		return 0, err
	}
	return c.do(ctx, call{method: http.MethodGet, path: bucket, query: "list-type=2&max-keys=1000&prefix=list%2F"})
}

// key is the name of an object of the source, the i-th of those that were there at the beginning or of those to come.
func (w *work) key(i int64) string { return fmt.Sprintf("%s/%07d", w.from, w.first+i) }

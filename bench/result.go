package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Result is what one load showed.
type Result struct {
	Load           string        `json:"load"`
	Requests       int           `json:"requests"` // those that succeeded
	Errors         int           `json:"errors"`
	FirstError     string        `json:"firstError,omitempty"`
	Took           time.Duration `json:"tookNs"`
	PerSecond      float64       `json:"requestsPerSecond"`
	MiBPerSecond   float64       `json:"mibPerSecond"`
	P50            time.Duration `json:"p50Ns"`
	P95            time.Duration `json:"p95Ns"`
	P99            time.Duration `json:"p99Ns"`
	Max            time.Duration `json:"maxNs"`
	CPU            time.Duration `json:"cpuPerRequestNs,omitempty"` // of the server; 0 if it was not measured
	CountsRequests bool          `json:"countsRequests,omitempty"`
}

// Figure is the load's number: requests a second, or MiB a second where bodies are large.
func (r *Result) Figure() (value float64, unit string) {
	if r.CountsRequests {
		return r.PerSecond, "req/s"
	}
	return r.MiBPerSecond, "MiB/s"
}

// tally is what one worker saw. It belongs to that worker until it ends.
type tally struct {
	took   []time.Duration // of requests that succeeded
	bytes  int64
	errors int
	first  error
}

func (t *tally) note(took time.Duration, n int64, err error) {
	if err != nil {
		if t.errors++; t.first == nil {
			t.first = err
		}
		return
	}
	t.took = append(t.took, took)
	t.bytes += n
}

func sum(l Load, tallies []tally, took time.Duration) Result {
	res := Result{Load: l.Name, Took: took, CountsRequests: l.counted()}
	var all []time.Duration
	var bytes int64
	for _, t := range tallies {
		all = append(all, t.took...)
		bytes += t.bytes
		res.Errors += t.errors
		if t.first != nil && res.FirstError == "" {
			res.FirstError = t.first.Error()
		}
	}
	slices.Sort(all)
	res.Requests = len(all)
	res.PerSecond = float64(len(all)) / took.Seconds()
	res.MiBPerSecond = float64(bytes) / (1 << 20) / took.Seconds()
	res.P50, res.P95, res.P99, res.Max = percentile(all, 50), percentile(all, 95), percentile(all, 99), percentile(all, 100)
	return res
}

// percentile returns the smallest of sorted that p percent do not exceed (the nearest rank), 0 if there are none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// Print writes results as a table.
func Print(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "load\trate\t\tp50\tp95\tp99\trequests\terrors\tcpu/req\t")
	for _, r := range results {
		v, unit := r.Figure()
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t\n", r.Load, v, unit, round(r.P50), round(r.P95), round(r.P99), r.Requests, r.Errors, r.CPU.Round(time.Microsecond))
	}
	return t.Flush()
}

func round(d time.Duration) time.Duration {
	if d > 100*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

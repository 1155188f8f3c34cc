package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the front does. Labels are operations and codes of the tables, clientGone besides, so their number
// is bounded.
type metrics struct {
	requests *prometheus.CounterVec   // by operation and code
	bytes    *prometheus.CounterVec   // by direction
	latency  *prometheus.HistogramVec // by operation
	inFlight prometheus.Gauge
	aborted  prometheus.Counter
}

// newMetrics registers with reg unless it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_s3_requests_total", Help: "S3 requests by operation and by error code, OK if there was none, ClientGone if the client did not wait for its answer."},
			[]string{"operation", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "larder_s3_body_bytes_total", Help: "Bytes of request bodies, decoded (in), and of answers (out)."},
			[]string{"direction"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "larder_s3_request_seconds", Help: "Time from the header of a request to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, []string{"operation"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "larder_s3_requests_in_flight", Help: "S3 requests in progress."}),
		aborted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "larder_s3_answers_aborted_total", Help: "Answers that were cut off because the object's bytes could not be read on."}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.bytes, m.latency, m.inFlight, m.aborted)
	}
	return m
}

func (m *metrics) done(operation, code string, took time.Duration, in, out int64) {
	m.requests.WithLabelValues(operation, code).Inc()
	m.latency.WithLabelValues(operation).Observe(took.Seconds())
	m.bytes.WithLabelValues("in").Add(float64(in))
	m.bytes.WithLabelValues("out").Add(float64(out))
}

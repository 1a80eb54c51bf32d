package ingest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of one Handler. They are one collector, so they are
// registered all or none.
type metrics struct {
	requests *prometheus.CounterVec // nil if requests are not counted
	size     *prometheus.HistogramVec
	duration *prometheus.HistogramVec
	refused  *prometheus.CounterVec

	put, post pushMetrics
}

// pushMetrics are the metrics of one method.
type pushMetrics struct{ size, duration prometheus.Observer }

func newMetrics(requests *prometheus.CounterVec) *metrics {
	m := &metrics{
		requests: requests,
		size: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "promspool_http_push_size_bytes",
			Help:    "Size of the bodies of pushes as sent.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 9), // to 16 MiB
		}, []string{"method"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "promspool_http_push_duration_seconds",
			Help:    "Duration of pushes from the request header to the answer, including rejected ones.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method"}),
	}
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promspool_push_refusals_total",
		Help: "Rejected pushes by reason.",
	}, []string{"reason"})
	for _, reason := range bodyReasons {
		m.refused.WithLabelValues(string(reason))
	}
	for _, reason := range reasonsOf {
		m.refused.WithLabelValues(reason)
	}
	m.put = pushMetrics{m.size.WithLabelValues("put"), m.duration.WithLabelValues("put")}
	m.post = pushMetrics{m.size.WithLabelValues("post"), m.duration.WithLabelValues("post")}
	return m
}

func (m *metrics) of(method string) pushMetrics {
	if method == http.MethodPut {
		return m.put
	}
	return m.post
}

// received records the size of a complete body.
func (m *metrics) received(method string, bytes int) {
	m.of(method).size.Observe(float64(bytes))
}

// pushed notes the end of a push, good or bad.
func (m *metrics) pushed(method string, d time.Duration) {
	m.of(method).duration.Observe(d.Seconds())
}

// answered counts an answer.
func (m *metrics) answered(handler, method string, code int) {
	if m.requests != nil {
		m.requests.WithLabelValues(handler, strconv.Itoa(code), methodLabel(method)).Inc()
	}
}

// methodLabel returns the value of the label for a method. Clients may make up
// methods, which must not become series.
func methodLabel(method string) string {
	switch method {
	case http.MethodPut:
		return "put"
	case http.MethodPost:
		return "post"
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return strings.ToLower(method)
	}
	return "other"
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.size.Describe(ch)
	m.duration.Describe(ch)
	m.refused.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.size.Collect(ch)
	m.duration.Collect(ch)
	m.refused.Collect(ch)
}

package watcher

import "github.com/prometheus/client_golang/prometheus"

// A cause is the reason of a Rescan.
type cause string

const (
	causeStart     cause = "start"     // the first pass
	causeResync    cause = "resync"    // the interval has passed
	causePoll      cause = "poll"      // the same, without a watch
	causeOverflow  cause = "overflow"  // the kernel's queue was full
	causeError     cause = "error"     // the watch failed
	causeDirectory cause = "directory" // the directory was removed, replaced or changed its mode
)

// metrics are the metrics of one Watcher. They are one collector, so they are
// registered all or none.
type metrics struct {
	events    prometheus.Counter
	overflows prometheus.Counter
	armed     prometheus.Gauge
	duration  prometheus.Histogram
	rescans   map[cause]prometheus.Counter

	all []prometheus.Collector
}

func newMetrics(b *inbox) *metrics {
	byCause := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promspool_watch_rescans_total",
		Help: "Scans of the whole directory by cause.",
	}, []string{"cause"})
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "promspool_watch_events_total",
			Help: "Notifications of the kernel, including those for ignored files.",
		}),
		overflows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "promspool_watch_overflows_total",
			Help: "Overflows of the kernel's queue of notifications.",
		}),
		armed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "promspool_watch_armed",
			Help: "0 if the kernel cannot watch the directory, which is then polled, or if it is unreadable; else 1, also for a missing directory.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "promspool_rescan_duration_seconds",
			Help:    "Duration of scans of the whole directory.",
			Buckets: []float64{.001, .01, .1, 1, 10},
		}),
		rescans: make(map[cause]prometheus.Counter),
	}
	for _, c := range []cause{causeStart, causeResync, causePoll, causeOverflow, causeError, causeDirectory} {
		m.rescans[c] = byCause.WithLabelValues(string(c))
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promspool_watch_pending_files",
		Help: "Changed files that wait to be read.",
	}, func() float64 { return float64(b.len()) })
	m.all = []prometheus.Collector{m.events, m.overflows, m.armed, m.duration, byCause, waiting}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
}

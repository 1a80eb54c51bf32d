package exporter

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	limitGroupsDesc = prometheus.NewDesc("promspool_spool_limit_groups", "Number of pushed groups up to which pushes may create new ones; +Inf if there is no limit.", nil, nil)
	limitBytesDesc  = prometheus.NewDesc("promspool_spool_limit_bytes", "Size up to which the files of pushed groups may grow all together; +Inf if there is no limit.", nil, nil)
	sizeDesc        = prometheus.NewDesc("promspool_spool_size_bytes", "Size of the file system that the spool is on.", nil, nil)
	freeDesc        = prometheus.NewDesc("promspool_spool_free_bytes", "What the agent may still use of the file system that the spool is on.", nil, nil)
)

// NewRoom returns metrics about how much may still be pushed: the limits, of
// which zero means none, and what space says of the file system. If that does not
// know, the metrics about it are missing. The Collector is safe for concurrent
// use.
func NewRoom(space func() (size, free uint64, err error), maxGroups int, maxBytes int64) prometheus.Collector {
	return room{space, maxGroups, maxBytes}
}

type room struct {
	space     func() (size, free uint64, err error)
	maxGroups int
	maxBytes  int64
}

// Describe implements prometheus.Collector.
func (r room) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{limitGroupsDesc, limitBytesDesc, sizeDesc, freeDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r room) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	limit := func(n float64) float64 {
		if n <= 0 {
			return math.Inf(1)
		}
		return n
	}
	gauge(limitGroupsDesc, limit(float64(r.maxGroups)))
	gauge(limitBytesDesc, limit(float64(r.maxBytes)))
	if size, free, err := r.space(); err == nil {
		gauge(sizeDesc, float64(size))
		gauge(freeDesc, float64(free))
	}
}

package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"github.com/promspool/promspool/filestore"
)

// newRegistry returns the registry of the agent's own metrics, the one of those
// about the process and the machine, and the counter of the agent's answers.
func newRegistry() (reg, process *prometheus.Registry, requests *prometheus.CounterVec) {
	reg, process = prometheus.NewRegistry(), prometheus.NewRegistry()
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promspool_http_requests_total",
		Help: "Requests answered, by handler, status code and method.",
	}, []string{"handler", "code", "method"})
	requests.WithLabelValues("push", "200", "put") // there from the start, so that it is known as ours
	reg.MustRegister(requests, legacyCounter{requests})
	process.MustRegister(
		versioncollector.NewCollector("promspool"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg, process, requests
}

// observers registers histograms of how long the steps of a commit take.
func observers(reg prometheus.Registerer) filestore.Observers {
	buckets := prometheus.ExponentialBuckets(0.0001, 2.5, 12)
	flush := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "promspool_flush_duration_seconds", Help: "How long it took to flush a file or the directory to the disk.", Buckets: buckets,
	})
	commit := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "promspool_commit_duration_seconds", Help: "How long it took to make a push durable, from the first byte written.", Buckets: buckets,
	})
	reg.MustRegister(flush, commit)
	return filestore.Observers{Flush: flush.Observe, Commit: commit.Observe}
}

func buildInfo() map[string]string {
	return map[string]string{
		"version": version.Version, "revision": version.Revision, "branch": version.Branch,
		"buildUser": version.BuildUser, "buildDate": version.BuildDate, "goVersion": runtime.Version(),
	}
}

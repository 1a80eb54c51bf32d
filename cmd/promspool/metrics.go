package main

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/version"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// newRegistry returns the registry of the agent's own metrics, that of the process
// and machine metrics, and the counter of requests.
func newRegistry() (reg, process *prometheus.Registry, requests *prometheus.CounterVec) {
	reg, process = prometheus.NewRegistry(), prometheus.NewRegistry()
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promspool_http_requests_total",
		Help: "Requests by handler, status code and method.",
	}, []string{"handler", "code", "method"})
	requests.WithLabelValues("push", "200", "put") // present from the start, so that the name is reserved
	reg.MustRegister(requests, gatewayCounter{requests})
	process.MustRegister(
		versioncollector.NewCollector("promspool"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg, process, requests
}

// observers registers histograms of the duration of commits and fsyncs.
func observers(reg prometheus.Registerer) filestore.Observers {
	buckets := prometheus.ExponentialBuckets(0.0001, 2.5, 12)
	flush := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "promspool_flush_duration_seconds", Help: "Duration of syncs of a file or the directory to disk.", Buckets: buckets,
	})
	commit := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "promspool_commit_duration_seconds", Help: "Duration from the first byte written for a push until it is durable.", Buckets: buckets,
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

// expiryReporter logs and counts the steps of expiry.
type expiryReporter struct {
	logger                                   *slog.Logger
	groups, files, archived, removed, failed prometheus.Counter
}

func newExpiryReporter(reg prometheus.Registerer, logger *slog.Logger) *expiryReporter {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &expiryReporter{
		logger:   logger,
		groups:   counter("promspool_expired_groups_total", "Groups that expired."),
		files:    counter("promspool_expired_files_total", "Dropped files that expired."),
		archived: counter("promspool_archived_files_total", "Files moved to the archive."),
		removed:  counter("promspool_archive_removed_files_total", "Files deleted from the archive."),
		failed:   counter("promspool_expiry_failures_total", "Failures to expire, archive or delete a file; each is retried."),
	}
}

func (t *expiryReporter) report(a filestore.ExpiryEvent) {
	if a.Err != nil {
		t.failed.Inc()
		t.logger.Error("Cannot archive or delete an expired file; retrying", "file", record.PrintableName(a.File), "err", a.Err)
		return
	}
	what := ""
	switch {
	case a.Stage == filestore.Archived:
		t.archived.Inc()
		what = "Moved an expired file to the archive"
	case a.Stage == filestore.Removed:
		t.removed.Inc()
		what = "Deleted a file from the archive"
	case a.Group.IsZero():
		t.files.Inc()
		what = "A dropped file has expired: it is not served"
	default:
		t.groups.Inc()
		what = "A group has expired: only its push times are served"
	}
	t.logger.Info(what, "file", record.PrintableName(a.File), "since", a.Since.UTC().Format(time.RFC3339))
}

// gatewayRequests is the only metric of Pushgateway that documented alert rules
// use. Its values are those of promspool_http_requests_total.
const gatewayRequests = "pushgateway_http_requests_total"

// gatewayCounter exposes the request counter under Pushgateway's name as well.
type gatewayCounter struct{ requests *prometheus.CounterVec }

var gatewayDesc = prometheus.NewDesc(gatewayRequests,
	"Same as promspool_http_requests_total, for alert rules written for Pushgateway.", []string{"handler", "code", "method"}, nil)

// Describe implements prometheus.Collector.
func (c gatewayCounter) Describe(ch chan<- *prometheus.Desc) { ch <- gatewayDesc }

// Collect implements prometheus.Collector.
func (c gatewayCounter) Collect(ch chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric)
	go func() {
		c.requests.Collect(all)
		close(all)
	}()
	for m := range all {
		var d dto.Metric
		if m.Write(&d) != nil {
			continue // never: counters always write
		}
		value := map[string]string{}
		for _, l := range d.GetLabel() {
			value[l.GetName()] = l.GetValue()
		}
		ch <- prometheus.MustNewConstMetric(gatewayDesc, prometheus.CounterValue, d.GetCounter().GetValue(), value["handler"], value["code"], value["method"])
	}
}

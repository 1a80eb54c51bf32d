package exporter_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"

	dto "github.com/prometheus/client_model/go"

	"github.com/promspool/promspool/exporter"
)

func TestFamiliesOfFileAndAgentStayTogether(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shared", Help: "Ours."}, []string{"x"})
	gone := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vanishing"})
	reg.MustRegister(g, gone)
	g.WithLabelValues("1").Set(7)
	fs := files{"a.prom": "# HELP shared Theirs.\n# TYPE shared gauge\nshared{y=\"2\"} 8\nshared{x=\"1\"} 9\n# TYPE vanishing gauge\nvanishing{z=\"1\"} 3\nother 1\n"}
	e := serve(t, fs, reg)
	reg.Unregister(gone)
	w := get(e.Metrics, "/")
	mfs := parse(t, w.Body.Bytes())
	if got := w.Body.String(); !strings.Contains(got, "# HELP shared Ours.\n# TYPE shared gauge\nshared{x=\"1\"} 7\nshared{y=\"2\"} 8\n") {
		t.Errorf("the shared family is not one:\n%s", got)
	}
	if len(mfs["vanishing"].GetMetric()) != 1 || mfs["other"] == nil {
		t.Errorf("families are missing:\n%s", w.Body)
	}
	for _, mf := range decode(t, get(e.Metrics, "/", "Accept", protobuf)) {
		if mf.GetName() == "shared" && len(mf.Metric) != 2 {
			t.Errorf("protobuf has %v", mf)
		}
	}
	if got, want := get(e.Metrics, "/?name[]=shared").Body.String(), "# HELP shared Ours.\n# TYPE shared gauge\nshared{x=\"1\"} 7\nshared{y=\"2\"} 8\n"; got != want {
		t.Errorf("name[]=shared gives\n%s", got)
	}
}

type brokenGatherer struct{ prometheus.Gatherer }

func (b brokenGatherer) Gather() ([]*dto.MetricFamily, error) {
	mfs, _ := b.Gatherer.Gather()
	return append(mfs, &dto.MetricFamily{}), errors.New("something is inconsistent")
}

func TestTroubleWithOwnMetricsIsNoTroubleForTheRest(t *testing.T) {
	v := viewOf(nil, files{"a.prom": "a 1\n# TYPE go_goroutines gauge\ngo_goroutines 5\n"})
	e := exporter.New(exporter.Config{View: func() *merge.View { return v }, Own: brokenGatherer{registry()}})
	w := get(e.Metrics, "/")
	mfs := parse(t, w.Body.Bytes())
	if w.Code != 200 || mfs["a"] == nil || mfs["go_threads"] == nil || len(mfs["go_goroutines"].GetMetric()) != 1 {
		t.Errorf("scrape: %d\n%s", w.Code, w.Body)
	}
	if _, err := exporter.OwnFamilies(brokenGatherer{registry()}); err == nil {
		t.Error("OwnFamilies reports no error")
	}
}

func TestOwnFamiliesAreDescribed(t *testing.T) {
	reg := registry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, []string{"b", "a"})
	c.WithLabelValues("1", "2")
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h"})
	reg.MustRegister(c, h, prometheus.NewGauge(prometheus.GaugeOpts{Name: "promspool_x"}))
	own, err := exporter.OwnFamilies(reg)
	if err != nil {
		t.Fatal(err)
	}
	if o := own["c_total"]; o.Type != exposition.Counter || !slices.Equal(o.Labels, []string{"a", "b"}) {
		t.Errorf("c_total is %v", o)
	}
	if own["h"].Type != exposition.Histogram || own["go_gc_duration_seconds"].Type != exposition.Summary || own["go_goroutines"].Type != exposition.Gauge {
		t.Errorf("types are %v", own)
	}
	if _, ok := own["promspool_x"]; ok {
		t.Error("promspool_x needs no description")
	}
}

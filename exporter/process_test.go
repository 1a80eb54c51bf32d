package exporter_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/merge"
)

// serveProcess returns an Exporter of these files whose process has the one
// metric process_asked, which counts how often it was asked for.
func serveProcess(t *testing.T, fs files, told bool) *exporter.Exporter {
	t.Helper()
	asked, own := prometheus.NewRegistry(), prometheus.NewRegistry()
	n := 0.0
	asked.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "process_asked", Help: "How often."}, func() float64 { n++; return n }))
	own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "promspool_own", Help: "Seven."}, func() float64 { return 7 }))
	cfg := exporter.Config{Own: own, Process: asked}
	if told {
		var err error
		if cfg.OwnFamilies, err = exporter.OwnFamilies(prometheus.Gatherers{own, asked}); err != nil {
			t.Fatal(err)
		}
	}
	v := viewOf(cfg.OwnFamilies, fs)
	cfg.View = func() *merge.View { return v }
	return exporter.New(cfg)
}

func TestProcessIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveProcess(t, files{"a.prom": "a 1\n"}, true)
		const first = "# TYPE a untyped\na 1\n# HELP process_asked How often.\n# TYPE process_asked gauge\nprocess_asked 2\n# HELP promspool_own Seven.\n# TYPE promspool_own gauge\npromspool_own 7\n"
		second := strings.Replace(first, "asked 2\n", "asked 3\n", 1)
		scrape := func(want string) {
			t.Helper()
			if diff := cmp.Diff(want, get(e.Metrics, "/").Body.String()); diff != "" {
				t.Errorf("plain (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, string(one(t, get(e.Metrics, "/", "Accept-Encoding", "gzip").Body))); diff != "" {
				t.Errorf("gzip (-want +got):\n%s", diff)
			}
		}
		scrape(first)
		time.Sleep(time.Second - 1)
		scrape(first)
		time.Sleep(time.Nanosecond)
		scrape(second)
	})
}

// TestFileBesideTheProcess: what is ready is not sent where a file has a part.
func TestFileBesideTheProcess(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "not told": false} {
		t.Run(name, func(t *testing.T) {
			e := serveProcess(t, files{"a.prom": "# TYPE process_asked gauge\nprocess_asked{job=\"x\"} 9\n"}, told)
			got := string(one(t, get(e.Metrics, "/", "Accept-Encoding", "gzip").Body))
			if strings.Count(got, "# TYPE process_asked gauge\n") != 1 || !strings.Contains(got, "process_asked{job=\"x\"} 9\n") || strings.Contains(got, "process_asked 2\n") != told {
				t.Errorf("scrape:\n%s", got)
			}
			parse(t, []byte(got))
		})
	}
}

package peertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A realPrometheus is a running Prometheus, with an empty database at first.
type realPrometheus struct{ *agenttest.Server }

// startPrometheus starts a Prometheus with a configuration of the examples, with the
// given targets and a short interval.
func startPrometheus(t *testing.T, name string, targets ...string) *realPrometheus {
	t.Helper()
	program := agenttest.Need(t, "prometheus")
	config := example(t, "prometheus/"+name)
	config = replace(t, config, "- localhost:9091\n", "- "+strings.Join(targets, "\n          - ")+"\n")
	config = replace(t, config, "scrape_interval: 15s", "scrape_interval: 1s")
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	agenttest.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	return &realPrometheus{agenttest.StartServer(t, listensOn, program,
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")}
}

// TestPrometheusScrapesSocket scrapes over the socket, which Prometheus can from 3.15 on.
func TestPrometheusScrapesSocket(t *testing.T) {
	t.Parallel()
	program := newestProgram(t, "prometheus")
	config := example(t, "prometheus/unix-socket.yml")
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "config", filepath.Join(examples, "prometheus", "unix-socket.yml")}}.Must(t)
	unit, err := os.ReadFile(agenttest.Repository + "/systemd/promspool-metrics.socket")
	agenttest.NoError(t, err)
	if _, path, _ := strings.Cut(config, "__unix_socket__: "); !strings.Contains(string(unit), "ListenStream="+strings.TrimSpace(path)+"\n") {
		t.Errorf("the unit does not listen at %q", path)
	}
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "metrics.sock"), filepath.Join(dir, "prometheus.yml")
	a := agenttest.StartAgent(t, "", "--web.metrics-socket="+socket)
	a.Push("/metrics/job/backup", "backup_ok 1\n")
	config = replace(t, replace(t, config, "/run/promspool/metrics.sock", socket), "scrape_interval: 15s", "scrape_interval: 1s")
	agenttest.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	p := &realPrometheus{agenttest.StartServer(t, listensOn, program,
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")}
	agenttest.WaitFor(t, "the push is scraped over the socket", func() bool {
		series, value := p.query(`backup_ok{job="backup",instance="localhost:9091"}`)
		return len(series) == 1 && value == "1"
	})
}

// labels is the labels of a series.
type labels = map[string]string

// query returns the series of an instant query, and the value of the last.
func (p *realPrometheus) query(expr string) (series []labels, value string) {
	p.T.Helper()
	resp, err := agenttest.Client.Get("http://" + p.Addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	agenttest.NoError(p.T, err)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable { // still starting
		return nil, ""
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric labels
				Value  [2]any
			}
		}
	}
	agenttest.NoError(p.T, json.NewDecoder(resp.Body).Decode(&answer))
	if answer.Status != "success" {
		p.T.Fatalf("query %s: %s", expr, answer.Error)
	}
	for _, r := range answer.Data.Result {
		series = append(series, r.Metric)
		value = fmt.Sprint(r.Value[1])
	}
	return series, value
}

// has waits until the expression has one series with this value and these labels.
func (p *realPrometheus) has(expr, value string, want labels) {
	p.T.Helper()
	var series []labels
	var got string
	agenttest.WaitFor(p.T, expr+" has a value", func() bool {
		series, got = p.query(expr)
		return len(series) > 0
	})
	delete(series[0], "__name__")
	if len(series) != 1 || got != value || !maps.Equal(series[0], want) {
		p.T.Errorf("%s = %v with value %s, want %v with value %s", expr, series, got, want, value)
	}
}

func TestPromtoolAcceptsTheExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"prometheus.yml", "target-labels.yml"} {
		agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "config", filepath.Join(examples, "prometheus", name)}}.Must(t)
	}
}

func TestPrometheusHasTheLabelsOfTheTarget(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus")
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/backup", "backup_size_bytes 1\n")
	a.Push("/metrics/job/backup/instance/db1", "named_bytes 2\n")
	p := startPrometheus(t, "target-labels.yml", a.Addr)
	p.has("backup_size_bytes", "1", labels{"job": "promspool", "instance": a.Addr, "exported_job": "backup"})
	p.has("named_bytes", "2", labels{"job": "promspool", "instance": a.Addr, "exported_job": "backup", "exported_instance": "db1"})
}

func TestPrometheusHasTheLabelsThatTheExamplePromises(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus")
	here := agenttest.StartAgent(t, "")
	here.Push("/metrics/job/backup", "backup_size_bytes 1\n")
	here.Push("/metrics/job/backup/instance/db1", "named_bytes 2\n")
	here.Drop("dropped.prom", "dropped_bytes{team=\"a\"} 3\n")
	here.Serves(`dropped_bytes{team="a"} 3`)
	cluster := agenttest.StartAgent(t, "", "--push.empty-instance-label")
	cluster.Push("/metrics/job/cluster", "cluster_bytes 4\n")
	cluster.Push("/metrics/job/cluster/instance/db2", "cluster_named_bytes 5\n")
	cluster.Drop("dropped.prom", "cluster_dropped_bytes 6\n")
	cluster.Serves("cluster_dropped_bytes 6")

	p := startPrometheus(t, "prometheus.yml", here.Addr, cluster.Addr)
	p.has("backup_size_bytes", "1", labels{"job": "backup", "instance": here.Addr})
	p.has("named_bytes", "2", labels{"job": "backup", "instance": "db1"})
	p.has("dropped_bytes", "3", labels{"job": "promspool", "instance": here.Addr, "team": "a"})
	p.has("cluster_bytes", "4", labels{"job": "cluster"})
	p.has("cluster_named_bytes", "5", labels{"job": "cluster", "instance": "db2"})
	p.has("cluster_dropped_bytes", "6", labels{"job": "promspool", "instance": cluster.Addr})
	p.has(fmt.Sprintf("up{instance=%q}", cluster.Addr), "1", labels{"job": "promspool", "instance": cluster.Addr})
	p.has(fmt.Sprintf("promspool_groups{instance=%q}", here.Addr), "2", labels{"job": "promspool", "instance": here.Addr})

	// Changes and deletions between scrapes arrive as well.
	here.Push("/metrics/job/backup", "backup_size_bytes 10\n")
	agenttest.WaitFor(t, "Prometheus has the second value", func() bool { _, v := p.query("backup_size_bytes"); return v == "10" })
	here.Send("DELETE", "/metrics/job/backup", "")
	agenttest.WaitFor(t, "Prometheus knows that the group is gone", func() bool { s, _ := p.query("backup_size_bytes"); return len(s) == 0 })
	p.Stop()
}

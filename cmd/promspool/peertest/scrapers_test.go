package peertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// metricsSocket is the socket in the examples.
const metricsSocket = "/run/promspool/metrics.sock"

// scraperConfig writes a configuration of the examples to a file, for an agent with the
// given address and socket, with a short interval and the host "a".
func scraperConfig(t *testing.T, name, addr, socket string) (file string) {
	t.Helper()
	config := replace(t, example(t, name), "localhost:9091", addr)
	config = replace(t, config, "instance: HOST", "instance: a")
	config = replace(t, config, "scrape_interval: 15s", "scrape_interval: 1s")
	if socket != "" {
		config = replace(t, config, metricsSocket, socket)
	}
	file = filepath.Join(t.TempDir(), filepath.Base(name))
	agenttest.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	return file
}

// rewrite replaces a text in a file that occurs exactly once.
func rewrite(t *testing.T, file, from, to string) {
	t.Helper()
	text, err := os.ReadFile(file)
	agenttest.NoError(t, err)
	agenttest.NoError(t, os.WriteFile(file, []byte(replace(t, string(text), from, to)), 0o644))
}

// startScraped starts an agent with a socket and series of all origins.
func startScraped(t *testing.T) (a *agenttest.Agent, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "metrics.sock")
	a = agenttest.StartAgent(t, "", "--web.metrics-socket="+socket)
	a.Push("/metrics/job/backup", "backup_size_bytes 1\n")
	a.Push("/metrics/job/backup/instance/db1", "named_bytes 2\n")
	a.Drop("dropped.prom", "dropped_bytes{team=\"a\"} 3\n")
	a.Serves(`dropped_bytes{team="a"} 3`)
	return a, socket
}

// keepsLabels checks that an engine has the series of startScraped with their labels, and
// deletes a group.
func keepsLabels(t *testing.T, engine *realPrometheus, a *agenttest.Agent) {
	t.Helper()
	engine.has("backup_size_bytes", "1", labels{"job": "backup", "instance": "a"})
	engine.has("named_bytes", "2", labels{"job": "backup", "instance": "db1"})
	engine.has("dropped_bytes", "3", labels{"job": "promspool", "instance": "a", "team": "a"})
	engine.has("up", "1", labels{"job": "promspool", "instance": "a"})
	a.Send("DELETE", "/metrics/job/backup/instance/db1", "")
	agenttest.WaitFor(t, "the engine stops returning the deleted group", func() bool { s, _ := engine.query("named_bytes"); return len(s) == 0 })
}

// A victoria is a program of VictoriaMetrics that scrapes.
type victoria struct {
	name    string
	newest  bool
	central bool // it is itself the engine
}

// start starts it with a configuration and returns the engine to ask.
func (v victoria) start(t *testing.T, config string) *realPrometheus {
	t.Helper()
	program := v.program(t)
	addr := freeAddress(t)
	if v.central {
		return &realPrometheus{startListening(t, addr, program, "-httpListenAddr="+addr,
			"-storageDataPath="+t.TempDir(), "-promscrape.config="+config, "-search.latencyOffset=1s")}
	}
	engine := startVictoria(t, t.TempDir(), addr)
	args := commandOf(t, "vmagent/scrape.yml", "vmagent", "")
	set(t, args, "-promscrape.config", config)
	set(t, args, "-remoteWrite.url", "http://"+addr+"/api/v1/write")
	set(t, args, "-remoteWrite.tmpDataPath", t.TempDir())
	addr = freeAddress(t)
	startListening(t, addr, program, append(args[1:], "-httpListenAddr="+addr)...)
	return engine
}

func (v victoria) program(t *testing.T) string {
	t.Helper()
	if v.newest {
		return newestProgram(t, v.name)
	}
	return agenttest.Need(t, v.name)
}

var victorias = map[string]victoria{
	"vmagent, Debian's":         {name: "vmagent"},
	"vmagent, newest":           {name: "vmagent", newest: true},
	"VictoriaMetrics, Debian's": {name: "victoria-metrics", central: true},
	"VictoriaMetrics, newest":   {name: "victoria-metrics", newest: true, central: true},
}

func TestVictoriaMetricsScrapes(t *testing.T) {
	t.Parallel()
	for name, v := range victorias {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v.program(t)
			a, _ := startScraped(t)
			keepsLabels(t, v.start(t, scraperConfig(t, "vmagent/scrape.yml", a.Addr, "")), a)
		})
	}
}

// TestVictoriaMetricsScrapesSocket scrapes an agent without a port.
func TestVictoriaMetricsScrapesSocket(t *testing.T) {
	t.Parallel()
	for name, v := range victorias {
		if !v.newest {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v.program(t)
			a, socket := startScraped(t)
			config := scraperConfig(t, "vmagent/unix-socket.yml", "localhost:1", socket)
			stdout, _, _ := agenttest.Command{Name: agenttest.Promspool, Args: []string{
				"doctor", "--spool.directory=" + a.Spool, "--url=unix://" + socket, "--prometheus.config=" + config, "--node-exporter.defaults=none",
			}}.Run(t)
			if !strings.Contains(stdout, "scrapes the agent with honor_labels") {
				t.Errorf("doctor does not find the job in the configuration:\n%s", stdout)
			}
			keepsLabels(t, v.start(t, config), a)
		})
	}
}

// TestVictoriaMetricsRenamesLabelsWithoutHonorLabels states the default.
func TestVictoriaMetricsRenamesLabelsWithoutHonorLabels(t *testing.T) {
	t.Parallel()
	for name, v := range victorias {
		if !v.central { // vmagent has the same code
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v.program(t)
			a, _ := startScraped(t)
			config := scraperConfig(t, "vmagent/scrape.yml", a.Addr, "")
			rewrite(t, config, "honor_labels: true", "honor_labels: false")
			v.start(t, config).has("named_bytes", "2", labels{"job": "promspool", "instance": "a", "exported_job": "backup", "exported_instance": "db1"})
		})
	}
}

// TestVictoriaMetricsReadsText has native histograms arrive as their sum and count.
func TestVictoriaMetricsReadsText(t *testing.T) {
	t.Parallel()
	v := victorias["VictoriaMetrics, newest"]
	v.program(t)
	a := agenttest.StartAgent(t, "")
	pushRun(t, a)
	engine := v.start(t, scraperConfig(t, "vmagent/scrape.yml", a.Addr, ""))
	engine.has("native_seconds_count", "200", labels{"job": "nightly", "instance": "a"})
	engine.has("native_seconds_bucket", "200", labels{"job": "nightly", "instance": "a", "le": "+Inf"})
	engine.has(`mixed_seconds_bucket{le="0.1"}`, "100", labels{"job": "nightly", "instance": "a", "le": "0.1"})
}

// TestVictoriaMetricsAddsNoInstance has a push without an instance stay without one, if the
// agent asks for that.
func TestVictoriaMetricsAddsNoInstance(t *testing.T) {
	t.Parallel()
	for name, v := range victorias {
		if !v.central { // vmagent has the same code
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v.program(t)
			a := agenttest.StartAgent(t, "", "--push.empty-instance-label")
			a.Push("/metrics/job/cluster", "cluster_bytes 4\n")
			v.start(t, scraperConfig(t, "vmagent/scrape.yml", a.Addr, "")).has("cluster_bytes", "4", labels{"job": "cluster"})
		})
	}
}

// TestVmagentChecksTheExamples has vmagent check both files, and reject a misspelled key.
func TestVmagentChecksTheExamples(t *testing.T) {
	t.Parallel()
	for _, v := range []victoria{victorias["vmagent, Debian's"], victorias["vmagent, newest"]} {
		program := v.program(t)
		for _, name := range []string{"scrape.yml", "unix-socket.yml"} {
			file := scraperConfig(t, "vmagent/"+name, "localhost:1", "")
			check := agenttest.Command{Name: program, Args: []string{"-dryRun", "-promscrape.config.strictParse", "-promscrape.config=" + file, "-remoteWrite.url=http://localhost:1"}}
			check.Must(t)
			rewrite(t, file, "honor_labels: true", "honour_labels: true")
			if _, stderr, status := check.Run(t); status == 0 || !strings.Contains(stderr, "honour_labels") {
				t.Errorf("with a misspelled key %s exits with %d: %s", program, status, stderr)
			}
		}
	}
}

// startCollector starts an OpenTelemetry collector without metrics of its own.
func startCollector(t *testing.T, config, url string) {
	t.Helper()
	rewrite(t, config, "http://central:8428/api/v1/write", url)
	text, err := os.ReadFile(config)
	agenttest.NoError(t, err)
	agenttest.NoError(t, os.WriteFile(config, append(text, "  telemetry: {metrics: {level: none}}\n"...), 0o644))
	agenttest.StartServer(t, `(Everything is ready)`, newestProgram(t, "otelcol"), "--config="+config)
}

// startNewestReceiver starts the newest Prometheus, which receives samples.
func startNewestReceiver(t *testing.T) *realPrometheus {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	agenttest.NoError(t, os.WriteFile(file, nil, 0o644))
	return &realPrometheus{agenttest.StartServer(t, listensOn, newestProgram(t, "prometheus"), "--config.file="+file,
		"--storage.tsdb.path="+t.TempDir(), "--web.enable-remote-write-receiver", "--web.listen-address=127.0.0.1:0")}
}

// collectorConfig writes the example for a scrape over TCP or over the socket.
func collectorConfig(t *testing.T, addr, socket string) string {
	t.Helper()
	config := scraperConfig(t, "otel-collector/collector.yaml", addr, "")
	if socket != "" {
		rewrite(t, config, "# __unix_socket__: "+metricsSocket, "__unix_socket__: "+socket)
	}
	return config
}

// TestCollectorExample scrapes with an OpenTelemetry collector that writes to others.
func TestCollectorExample(t *testing.T) {
	t.Parallel()
	newestProgram(t, "otelcol")
	for name, start := range map[string]func(t *testing.T) *realPrometheus{
		"VictoriaMetrics": func(t *testing.T) *realPrometheus { return startVictoria(t, t.TempDir(), freeAddress(t)) },
		"Prometheus":      startNewestReceiver,
	} {
		for _, over := range []string{"TCP", "socket"} {
			t.Run(name+" "+over, func(t *testing.T) {
				t.Parallel()
				engine := start(t)
				a, socket := startScraped(t)
				config := collectorConfig(t, a.Addr, "")
				if over == "socket" {
					config = collectorConfig(t, "localhost:1", socket)
				}
				startCollector(t, config, "http://"+engine.Addr+"/api/v1/write")
				keepsLabels(t, engine, a)
			})
		}
	}
}

// TestCollectorKeepsNativeHistograms has them arrive as such in Prometheus, and the other
// metrics with the names that were pushed.
func TestCollectorKeepsNativeHistograms(t *testing.T) {
	t.Parallel()
	newestProgram(t, "otelcol")
	engine := startNewestReceiver(t)
	a := agenttest.StartAgent(t, "")
	pushRun(t, a)
	a.Push("/metrics/job/names", "# TYPE files counter\nfiles 3\n# TYPE age gauge\n# UNIT age seconds\nage 4\n")
	startCollector(t, collectorConfig(t, a.Addr, ""), "http://"+engine.Addr+"/api/v1/write")
	engine.has("histogram_count(native_seconds)", "200", labels{"job": "nightly", "instance": "a"})
	engine.about("histogram_quantile(0.5, native_seconds)", 0.09, 0.11)
	engine.has("rows_total", "42", labels{"job": "nightly", "instance": "a"})
	engine.has("files", "3", labels{"job": "names", "instance": "a"})
	engine.has("age", "4", labels{"job": "names", "instance": "a"})
	if series, _ := engine.query("target_info"); len(series) != 0 {
		t.Errorf("the collector adds %v", series)
	}
}

// TestCollectorAddsInstance has a push without an instance get that of the target, even
// if the agent asks for none.
func TestCollectorAddsInstance(t *testing.T) {
	t.Parallel()
	newestProgram(t, "otelcol")
	engine := startNewestReceiver(t)
	a := agenttest.StartAgent(t, "", "--push.empty-instance-label")
	a.Push("/metrics/job/cluster", "cluster_bytes 4\n")
	startCollector(t, collectorConfig(t, a.Addr, ""), "http://"+engine.Addr+"/api/v1/write")
	engine.has("cluster_bytes", "4", labels{"job": "cluster", "instance": "a"})
}

// TestCollectorWithoutHonorLabels states the default.
func TestCollectorWithoutHonorLabels(t *testing.T) {
	t.Parallel()
	newestProgram(t, "otelcol")
	engine := startNewestReceiver(t)
	a, _ := startScraped(t)
	config := collectorConfig(t, a.Addr, "")
	rewrite(t, config, "honor_labels: true", "honor_labels: false")
	startCollector(t, config, "http://"+engine.Addr+"/api/v1/write")
	engine.has("named_bytes", "2", labels{"job": "promspool", "instance": "a", "exported_job": "backup", "exported_instance": "db1"})
}

// TestCollectorChecksTheExample has the collector check the file, and reject misspelled
// keys of its own and of Prometheus.
func TestCollectorChecksTheExample(t *testing.T) {
	t.Parallel()
	program := newestProgram(t, "otelcol")
	agenttest.Command{Name: program, Args: []string{"validate", "--config=" + filepath.Join(examples, "otel-collector", "collector.yaml")}}.Must(t)
	for _, key := range []string{"honor_labels", "endpoint", "exporters: [", "scrape_native_histograms"} {
		config := collectorConfig(t, "localhost:1", "")
		rewrite(t, config, key, "x"+key)
		if _, stderr, status := (agenttest.Command{Name: program, Args: []string{"validate", "--config=" + config}}).Run(t); status == 0 || !strings.Contains(stderr, "x"+strings.TrimSuffix(key, ": [")) {
			t.Errorf("with a misspelled %q the collector exits with %d: %s", key, status, stderr)
		}
	}
}

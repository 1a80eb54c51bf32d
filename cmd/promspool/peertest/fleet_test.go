package peertest

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// freeAddress returns a free address, for programs that do not report the port that
// they choose.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	agenttest.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// commandOf returns the command of a program in an example's README, or in the comments
// of another file.
func commandOf(t *testing.T, readme, program, with string) []string {
	t.Helper()
	for line := range strings.Lines(example(t, readme)) {
		line = strings.TrimPrefix(line, "# ")
		if fields := strings.Fields(line); strings.HasPrefix(line, "    "+program+" ") && strings.Contains(line, with) {
			return fields
		}
	}
	t.Fatalf("%s shows no command of %s with %s", readme, program, with)
	return nil
}

// lineOf returns the one line of an example with the text.
func lineOf(t *testing.T, name, text string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(example(t, name)) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %q with %q, want one line", name, found, text)
	}
	return found[0]
}

// set replaces the value of a flag that occurs exactly once.
func set(t *testing.T, args []string, flag, value string) {
	t.Helper()
	n := 0
	for i, arg := range args {
		if name, _, _ := strings.Cut(arg, "="); name == flag {
			args[i] = flag + "=" + value
			n++
		}
	}
	if n != 1 {
		t.Fatalf("the flag %s is there %d times, want once, in %q", flag, n, args)
	}
}

// startHost starts the programs of a host of the example, with a short interval.
func startHost(t *testing.T, name, writeURL string) (*agenttest.Agent, *agenttest.Server) {
	t.Helper()
	agenttest.Need(t, "prometheus")
	a := agenttest.StartAgent(t, "")
	config := example(t, "fleet/host.yml")
	config = replace(t, config, `"localhost:9091"`, `"`+a.Addr+`"`)
	config = replace(t, config, "instance: HOST", "instance: "+name)
	config = replace(t, config, "scrape_interval: 15s", "scrape_interval: 1s")
	config = replace(t, config, "- url: http://central:8428/api/v1/write", "- url: "+writeURL+"\n    queue_config: {batch_send_deadline: 100ms, max_backoff: 500ms}")
	dir := t.TempDir()
	agenttest.NoError(t, os.WriteFile(dir+"/host.yml", []byte(config), 0o644))
	args := commandOf(t, "fleet/README.md", "prometheus", "--enable-feature=agent")
	set(t, args, "--config.file", dir+"/host.yml")
	set(t, args, "--storage.agent.path", dir+"/data")
	return a, agenttest.StartServer(t, listensOn, args[0], append(args[1:], "--web.listen-address=127.0.0.1:0")...)
}

// startVictoria starts a VictoriaMetrics that returns new samples immediately.
func startVictoria(t *testing.T, dir, addr string) *realPrometheus {
	t.Helper()
	agenttest.Need(t, "victoria-metrics")
	args := commandOf(t, "fleet/README.md", "victoria-metrics", "")
	set(t, args, "-httpListenAddr", addr)
	set(t, args, "-storageDataPath", dir)
	return &realPrometheus{startListening(t, addr, args[0], append(args[1:], "-search.latencyOffset=1s")...)}
}

// startListening starts a program of VictoriaMetrics and waits until it listens, which is
// after it has logged so.
func startListening(t *testing.T, addr, program string, args ...string) *agenttest.Server {
	t.Helper()
	s := agenttest.StartServer(t, `(?:starting|started) (?:http )?server at http://([0-9.:]+)`, program, args...)
	waitListening(t, s, addr)
	return s
}

// startReceiver starts the central Prometheus of the example.
func startReceiver(t *testing.T, dir, addr string) *realPrometheus {
	t.Helper()
	rules, err := filepath.Abs(examples + "/fleet/fleet-rules.yml")
	agenttest.NoError(t, err)
	config := replace(t, example(t, "fleet/central.yml"), "/etc/prometheus/fleet-rules.yml", rules)
	file := filepath.Join(t.TempDir(), "central.yml")
	agenttest.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	args := commandOf(t, "fleet/README.md", "prometheus", "--web.enable-remote-write-receiver")
	set(t, args, "--config.file", file)
	set(t, args, "--storage.tsdb.path", dir)
	return &realPrometheus{agenttest.StartServer(t, listensOn, args[0], append(args[1:], "--web.listen-address="+addr, "--query.lookback-delta=5s")...)}
}

func TestFleetExample(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, dir, addr string) *realPrometheus{
		"victoria-metrics": startVictoria,
		"prometheus":       startReceiver,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, addr := t.TempDir(), freeAddress(t)
			engine := start(t, dir, addr)
			a, collector := startHost(t, "a", "http://"+addr+"/api/v1/write")
			b, _ := startHost(t, "b", "http://"+addr+"/api/v1/write")
			a.Push("/metrics/job/backup", "backup_size_bytes 1\n")
			b.Push("/metrics/job/backup", "backup_size_bytes 2\n")
			b.Push("/metrics/job/backup/instance/db1", "named_bytes 3\n")
			a.Drop("dropped.prom", "dropped_bytes 4\n")
			engine.has(`backup_size_bytes{instance="a"}`, "1", labels{"job": "backup", "instance": "a"})
			engine.has(`backup_size_bytes{instance="b"}`, "2", labels{"job": "backup", "instance": "b"})
			engine.has("named_bytes", "3", labels{"job": "backup", "instance": "db1"})
			engine.has("dropped_bytes", "4", labels{"job": "promspool", "instance": "a"})
			engine.has(`up{instance="b"}`, "1", labels{"job": "promspool", "instance": "b"})
			engine.has("sum(backup_size_bytes)", "3", labels{})

			// A deletion on a host arrives in the center.
			b.Send("DELETE", "/metrics/job/backup", "")
			agenttest.WaitFor(t, "the centre knows that the group is gone", func() bool { s, _ := engine.query(`backup_size_bytes{instance="b"}`); return len(s) == 0 })

			// Samples scraped during an outage of the engine arrive later.
			engine.Stop()
			a.Push("/metrics/job/backup", "backup_size_bytes 100\n")
			scraped(t, collector)
			a.Push("/metrics/job/backup", "backup_size_bytes 5\n")
			engine = start(t, dir, addr)
			agenttest.WaitFor(t, "the engine has the last push", func() bool { _, v := engine.query(`backup_size_bytes{instance="a"}`); return v == "5" })
			engine.has(`max_over_time(backup_size_bytes{instance="a"}[5m])`, "100", labels{"job": "backup", "instance": "a"})
		})
	}
}

var newest = regexp.MustCompile(`(?m)^prometheus_remote_storage_highest_timestamp_in_seconds (\S+)$`)

// scraped returns after the next scrape of a Prometheus.
func scraped(t *testing.T, p *agenttest.Server) {
	t.Helper()
	now := float64(time.Now().UnixMilli()) / 1000
	agenttest.WaitFor(t, "the host's Prometheus has scraped", func() bool {
		found := newest.FindStringSubmatch(fetch(t, p.Addr, "/metrics"))
		if found == nil {
			return false
		}
		at, err := strconv.ParseFloat(found[1], 64)
		return err == nil && at > now+1 // Prometheus rounds the time
	})
}

// TestFleetRules has the expressions of the rules find missing hosts.
func TestFleetRules(t *testing.T) {
	t.Parallel()
	agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "rules", examples + "/fleet/fleet-rules.yml"}}.Must(t)
	for _, name := range []string{"host.yml", "central.yml"} { // the rules of the second file are elsewhere
		agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "config", "--syntax-only", examples + "/fleet/" + name}}.Must(t)
	}
	rules := regexp.MustCompile(`(?m)expr: (.*)$`).FindAllStringSubmatch(example(t, "fleet/fleet-rules.yml"), -1)
	if len(rules) != 2 {
		t.Fatalf("the rules are %q, want two", rules)
	}
	silent, down := rules[0][1], rules[1][1]
	addr := freeAddress(t)
	engine := startReceiver(t, t.TempDir(), addr)
	a, _ := startHost(t, "a", "http://"+addr+"/api/v1/write")
	_, collector := startHost(t, "b", "http://"+addr+"/api/v1/write")
	agenttest.WaitFor(t, "both send", func() bool { _, v := engine.query("count(up)"); return v == "2" })
	if series, _ := engine.query(silent); len(series) != 0 {
		t.Errorf("while all send, silent are %v", series)
	}
	if series, _ := engine.query(down); len(series) != 0 {
		t.Errorf("while all run, down are %v", series)
	}
	a.Kill()
	collector.Kill()
	engine.has(down, "0", labels{"job": "promspool", "instance": "a"})
	agenttest.WaitFor(t, "b is silent", func() bool {
		series, _ := engine.query(silent)
		return len(series) == 1 && series[0]["instance"] == "b"
	})
}

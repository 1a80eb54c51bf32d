package peertest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// wantParses checks a text with promtool. It ignores recommendations, such as on names,
// which depend on the client.
func wantParses(t *testing.T, text string) {
	t.Helper()
	const lint = 3
	stdout, stderr, status := agenttest.Command{Name: agenttest.Need(t, "promtool"), Args: []string{"check", "metrics"}, Stdin: text}.Run(t)
	if status != 0 && status != lint {
		t.Errorf("promtool check metrics: exit status %d: %s%s", status, stdout, stderr)
	}
}

func TestPromtoolParsesPageAndFiles(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "promtool")
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/a", "# HELP h_seconds Has a \\\\ and a \\n in it.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"+Inf\"} 1\nh_seconds_sum 1\nh_seconds_count 1\n")
	a.Push("/metrics/job/b/path@base64/L3Zhci90bXA", "# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1\ns_count 1\n")
	a.Push("/metrics/job/c", "n{text=\"\\\"quoted\\\" \\\\ and\\nbroken é\"} +Inf\n")
	a.Drop("dropped.prom", "# HELP  n\tblanks \n n{ text = \"x\" , } \t-1e-300\n")
	a.Serves(`n{text="x"} -1e-300`)
	wantParses(t, a.Page())
	// Without temporary files: the agent gives job=c.prom the HELP text of the dropped file.
	names := slices.DeleteFunc(agenttest.Files(t, a.Spool), func(name string) bool { return name[0] == '.' })
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(a.Spool, name))
		agenttest.NoError(t, err)
		if name != "dropped.prom" { // not written by promspool
			wantParses(t, string(text))
		}
	}
	if len(names) != 4 {
		t.Errorf("the spool has %q, want four files", names)
	}
}

// TestNeighboursReadWhatClientsSend has lines beside the text in the spool: native
// histograms, exemplars, start times and units. Other readers see comments.
func TestNeighboursReadWhatClientsSend(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "promtool")
	agenttest.Need(t, "prometheus-node-exporter")
	a := agenttest.StartAgent(t, "")
	pushRun(t, a)
	a.Drop("dropped.prom", "# TYPE size_bytes counter\n# UNIT size_bytes bytes\nsize_bytes 7\n# promspool:om2 size_bytes 7.0 st@1795907660.5 # {trace_id=\"x\"} 1.0\n")
	a.Serves("size_bytes 7")
	extra := 0
	for _, name := range agenttest.Files(t, a.Spool) {
		text, err := os.ReadFile(filepath.Join(a.Spool, name))
		agenttest.NoError(t, err)
		extra += strings.Count(string(text), "\n# promspool:om2 ")
		wantParses(t, string(text))
	}
	if extra != 4 {
		t.Errorf("the files have %d lines beside the text, want one for each of 4 metrics", extra)
	}
	wantParses(t, a.Page())
	agenttest.WantNone(t, a.Merge(), "promspool_file_error")
	page := nodePage(t, startNodeExporter(t, a.Spool, "--web.disable-exporter-metrics"))
	agenttest.WantLines(t, page, "node_textfile_scrape_error 0", "size_bytes 7", `rows_total{job="nightly"} 42`,
		`native_seconds_bucket{job="nightly",le="+Inf"} 200`, `native_seconds_count{job="nightly"} 200`, `mixed_seconds_bucket{job="nightly",le="0.1"} 100`)
}

// listensOn is how node_exporter and Prometheus log their address.
const listensOn = `msg="Listening on"(?: component=web)? address=([0-9.:]+)`

// startNodeExporter starts a node_exporter that serves a directory.
func startNodeExporter(t *testing.T, dir string, flags ...string) *agenttest.Server {
	t.Helper()
	args := append([]string{
		"--web.listen-address=127.0.0.1:0", "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory=" + dir,
	}, flags...)
	return agenttest.StartServer(t, listensOn, agenttest.Need(t, "prometheus-node-exporter"), args...)
}

// nodePage returns the metrics of a node_exporter.
func nodePage(t *testing.T, node *agenttest.Server) string {
	t.Helper()
	resp, err := agenttest.Client.Get("http://" + node.Addr + "/metrics")
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	agenttest.NoError(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("node_exporter answers %s %s", resp.Status, page)
	}
	return string(page)
}

func TestNodeExporterServesTheSameSpool(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus-node-exporter")
	a := agenttest.StartAgent(t, "")
	for i := range 20 {
		help := fmt.Sprintf("# HELP shared_gauge Text %d.\n# HELP shared_seconds Text %d.\n", i%4, i%3)
		if i%5 == 0 {
			help = ""
		}
		a.Push(fmt.Sprintf("/metrics/job/job%d/instance/host%d", i%6, i), help+fmt.Sprintf(
			"# TYPE shared_gauge gauge\nshared_gauge{n=\"%d\"} %d\nshared_gauge{other=\"\\\"\"} NaN\n", i, i)+
			"# TYPE shared_seconds histogram\nshared_seconds_bucket{le=\"0.5\"} 1\nshared_seconds_bucket{le=\"+Inf\"} 2\nshared_seconds_sum 1.5\nshared_seconds_count 2\n"+
			fmt.Sprintf("untyped_%d 1e-10\n", i))
	}
	a.Push("/metrics/job/empty", "")
	a.Drop("dropped.prom", "# HELP dropped A script's.\n# TYPE dropped counter\ndropped{a=\"b\"} 7\n")
	a.Serves(`dropped{a="b"} 7`)
	node := startNodeExporter(t, a.Spool)

	// Until the HELP texts are aligned it may drop a family, but must not exit.
	same := func() {
		t.Helper()
		var theirs string
		var want, got []string
		agenttest.WaitFor(t, "node_exporter serves what the agent does", func() bool {
			if node.HasExited() {
				t.Fatal("node_exporter has exited")
			}
			theirs = nodePage(t, node)
			want, got = agenttest.Samples(a.Merge()), agenttest.Samples(theirs)
			return slices.Equal(got, want) && agenttest.HasLine(theirs, "node_textfile_scrape_error 0")
		})
		agenttest.WantLines(t, theirs, `node_scrape_collector_success{collector="textfile"} 1`)
	}
	same()
	a = a.Restart()
	same()
	// A text that all clients change, and one that the first client drops.
	a.Push("/metrics/job/job0/instance/host0", "# HELP shared_gauge Another text.\n# TYPE shared_gauge gauge\nshared_gauge 1\n")
	a.Push("/metrics/job/job1/instance/host1", "shared_late 1\n")
	a.Push("/metrics/job/job2/instance/host2", "# HELP shared_late With a text.\nshared_late 1\n")
	same()
	a = a.Restart()
	same()
	// Two texts and a file without one make node_exporter exit.
	a.Push("/metrics/job/z", "shared_few{n=\"z\"} 1\n")
	for _, job := range []string{"y", "x", "w"} {
		a.Push("/metrics/job/"+job, fmt.Sprintf("# HELP shared_few Text of %s.\nshared_few{n=%q} 1\n", job, job))
		nodePage(t, node)
	}
	same()
	if node.HasExited() {
		t.Error("node_exporter has exited")
	}
}

// TestAlertsForNodeExporterFindTheirMetrics compares with a node_exporter on the same
// directory. Pushed groups are excluded, as they have a push time.
func TestAlertsForNodeExporterFindTheirMetrics(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus-node-exporter")
	a := agenttest.StartAgent(t, "", "--spool.node-exporter-metrics")
	node := startNodeExporter(t, a.Spool)
	series := func(page string) string {
		var all strings.Builder
		for line := range strings.Lines(page) {
			name, _, _ := strings.Cut(line, " ")
			if strings.HasPrefix(name, "node_textfile_") && !strings.Contains(name, "job=") {
				all.WriteString(name + "\n")
			}
		}
		return all.String()
	}
	same := func() {
		t.Helper()
		agenttest.WaitFor(t, "the agent has the series of node_exporter", func() bool { return series(a.Page()) == series(nodePage(t, node)) })
	}
	same()
	a.Push("/metrics/job/backup", "pushed 1\n")
	a.Drop("good.prom", "good 1\n")
	a.Serves("good 1")
	same()
	agenttest.WantLines(t, a.Page(), "node_textfile_scrape_error 0")
	a.Drop("bad.prom", "bad\n")
	a.Serves("node_textfile_scrape_error 1")
	same()

	modified := time.Unix(1_700_000_000, 0)
	agenttest.NoError(t, os.Chtimes(filepath.Join(a.Spool, "good.prom"), modified, modified))
	mtime := `node_textfile_mtime_seconds{file="` + a.Spool + `/good.prom"} 1.7e+09`
	agenttest.WantLines(t, nodePage(t, node), mtime)
	a.Serves(mtime)
}

package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wantParses asks promtool. What it only advises against, such as a name, is
// the pusher's.
func wantParses(t *testing.T, text string) {
	t.Helper()
	const lint = 3
	stdout, stderr, status := command{name: need(t, "promtool"), args: []string{"check", "metrics"}, stdin: text}.run(t)
	if status != 0 && status != lint {
		t.Errorf("promtool check metrics: exit status %d: %s%s", status, stdout, stderr)
	}
}

func TestPromtoolParsesPageAndFiles(t *testing.T) {
	t.Parallel()
	need(t, "promtool")
	a := startAgent(t, "")
	a.push("/metrics/job/a", "# HELP h_seconds Has a \\\\ and a \\n in it.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"+Inf\"} 1\nh_seconds_sum 1\nh_seconds_count 1\n")
	a.push("/metrics/job/b/path@base64/L3Zhci90bXA", "# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1\ns_count 1\n")
	a.push("/metrics/job/c", "n{text=\"\\\"quoted\\\" \\\\ and\\nbroken é\"} +Inf\n")
	a.drop("dropped.prom", "# HELP  n\tblanks \n n{ text = \"x\" , } \t-1e-300\n")
	a.serves(`n{text="x"} -1e-300`)
	wantParses(t, a.page())
	names := files(t, a.spool)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(a.spool, name))
		done(t, err)
		if name != "dropped.prom" { // that is not ours
			wantParses(t, string(text))
		}
	}
	if len(names) != 4 {
		t.Errorf("the spool has %q, want four files", names)
	}
}

// listensOn is how node_exporter and Prometheus log their address.
const listensOn = `msg="Listening on" address=([0-9.:]+)`

// startNodeExporter starts a node_exporter that serves a directory.
func startNodeExporter(t *testing.T, dir string, flags ...string) *server {
	t.Helper()
	args := append([]string{
		"--web.listen-address=127.0.0.1:0", "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory=" + dir,
	}, flags...)
	return startServer(t, listensOn, need(t, "prometheus-node-exporter"), args...)
}

// nodePage returns what a node_exporter serves.
func nodePage(t *testing.T, node *server) string {
	t.Helper()
	resp, err := client.Get("http://" + node.addr + "/metrics")
	done(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	done(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("node_exporter answers %s %s", resp.Status, page)
	}
	return string(page)
}

var (
	emptyLabels = regexp.MustCompile(`[a-zA-Z_]\w*="",?`)
	nodeOnly    = regexp.MustCompile(`^node_|^promhttp_|^go_|^process_`)
)

// samples returns the samples of a page, sorted. Labels that are empty, which
// node_exporter adds, are left out: to Prometheus they are none.
func samples(page string) []string {
	var all []string
	for line := range strings.Lines(page) {
		if line[0] == '#' || nodeOnly.MatchString(line) {
			continue
		}
		line = emptyLabels.ReplaceAllString(line, "")
		line = strings.NewReplacer(",}", "}", "{}", "").Replace(line)
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

func TestNodeExporterServesTheSameSpool(t *testing.T) {
	t.Parallel()
	need(t, "prometheus-node-exporter")
	a := startAgent(t, "")
	for i := range 20 {
		help := fmt.Sprintf("# HELP shared_gauge Text %d.\n# HELP shared_seconds Text %d.\n", i%4, i%3)
		if i%5 == 0 {
			help = ""
		}
		a.push(fmt.Sprintf("/metrics/job/job%d/instance/host%d", i%6, i), help+fmt.Sprintf(
			"# TYPE shared_gauge gauge\nshared_gauge{n=\"%d\"} %d\nshared_gauge{other=\"\\\"\"} NaN\n", i, i)+
			"# TYPE shared_seconds histogram\nshared_seconds_bucket{le=\"0.5\"} 1\nshared_seconds_bucket{le=\"+Inf\"} 2\nshared_seconds_sum 1.5\nshared_seconds_count 2\n"+
			fmt.Sprintf("untyped_%d 1e-10\n", i))
	}
	a.push("/metrics/job/empty", "")
	a.drop("dropped.prom", "# HELP dropped A script's.\n# TYPE dropped counter\ndropped{a=\"b\"} 7\n")
	a.serves(`dropped{a="b"} 7`)
	node := startNodeExporter(t, a.spool)

	// Until the HELP texts are aligned it may drop a family, and must not end.
	same := func() {
		t.Helper()
		var theirs string
		var want, got []string
		waitFor(t, "node_exporter serves what the agent does", func() bool {
			if node.hasExited() {
				t.Fatal("node_exporter has exited")
			}
			theirs = nodePage(t, node)
			want, got = samples(a.merge()), samples(theirs)
			return slices.Equal(got, want) && hasLine(theirs, "node_textfile_scrape_error 0")
		})
		wantLines(t, theirs, `node_scrape_collector_success{collector="textfile"} 1`)
	}
	same()
	a = a.restart()
	same()
	// A text that all its pushers change, and one that the first of them drops.
	a.push("/metrics/job/job0/instance/host0", "# HELP shared_gauge Another text.\n# TYPE shared_gauge gauge\nshared_gauge 1\n")
	a.push("/metrics/job/job1/instance/host1", "shared_late 1\n")
	a.push("/metrics/job/job2/instance/host2", "# HELP shared_late With a text.\nshared_late 1\n")
	same()
	a = a.restart()
	same()
	// Two texts and a file without one would end node_exporter.
	a.push("/metrics/job/z", "shared_few{n=\"z\"} 1\n")
	for _, job := range []string{"y", "x", "w"} {
		a.push("/metrics/job/"+job, fmt.Sprintf("# HELP shared_few Text of %s.\nshared_few{n=%q} 1\n", job, job))
		nodePage(t, node)
	}
	same()
	if node.hasExited() {
		t.Error("node_exporter has exited")
	}
}

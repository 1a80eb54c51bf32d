package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDirectoriesBesideTheSpoolAreServed has the directories of two packages,
// one of which is installed later.
func TestDirectoriesBesideTheSpoolAreServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	apt, raid := filepath.Join(dir, "apt.d"), filepath.Join(dir, "raid.d")
	done(t, os.Mkdir(apt, 0o755))
	done(t, os.WriteFile(apt+"/upgrades.prom", []byte("upgrades 7\n"), 0o644))
	for i := range 300 { // to read them takes a moment
		done(t, os.WriteFile(fmt.Sprintf("%s/package%d.prom", apt, i), fmt.Appendf(nil, "package_%d 1\n", i), 0o644))
	}
	flags := []string{"--spool.textfile-directory=" + dir + "/*.d", "--spool.resync=200ms"}
	a := startAgent(t, filepath.Join(dir, "spool"), flags...)
	a.push("/metrics/job/backup", "pushed 1\n")
	a.serves("upgrades 7")

	done(t, os.Mkdir(raid, 0o755))
	done(t, os.WriteFile(raid+"/raid.prom", []byte("raid_ok 1\n"), 0o644))
	a.serves("raid_ok 1")
	done(t, os.WriteFile(apt+"/upgrades.prom", []byte("upgrades 8\n"), 0o644))
	a.serves("upgrades 8")

	before := a.merge()
	if after := a.restart(flags...).merge(); after != before {
		t.Errorf("the first scrape after a restart has %d lines, want the %d that it had before", strings.Count(after, "\n"), strings.Count(before, "\n"))
	}
	if n := len(files(t, apt)); n != 301 {
		t.Errorf("%s has %d files, want only those that were dropped there", apt, n)
	}
}

// TestAlertsForNodeExporterFindTheirMetrics compares with a node_exporter on
// the same directory, but for what it says of pushed groups: they have a push
// time of their own.
func TestAlertsForNodeExporterFindTheirMetrics(t *testing.T) {
	t.Parallel()
	need(t, "prometheus-node-exporter")
	a := startAgent(t, "", "--spool.node-exporter-metrics")
	node := startNodeExporter(t, a.spool)
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
		waitFor(t, "the agent has the series of node_exporter", func() bool { return series(a.page()) == series(nodePage(t, node)) })
	}
	same()
	a.push("/metrics/job/backup", "pushed 1\n")
	a.drop("good.prom", "good 1\n")
	a.serves("good 1")
	same()
	wantLines(t, a.page(), "node_textfile_scrape_error 0")
	a.drop("bad.prom", "bad\n")
	a.serves("node_textfile_scrape_error 1")
	same()

	modified := time.Unix(1_700_000_000, 0)
	done(t, os.Chtimes(filepath.Join(a.spool, "good.prom"), modified, modified))
	mtime := `node_textfile_mtime_seconds{file="` + a.spool + `/good.prom"} 1.7e+09`
	wantLines(t, nodePage(t, node), mtime)
	a.serves(mtime)
}

// TestResyncOfZeroIsTheDefault with a further directory, which has one of its own.
func TestResyncOfZeroIsTheDefault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startAgent(t, "", "--spool.resync=0s", "--spool.textfile-directory="+dir)
	done(t, os.WriteFile(dir+"/beside.prom", []byte("beside 1\n"), 0o644))
	a.serves("beside 1")
	a.stop()
}

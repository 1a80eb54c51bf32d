package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// doctorOf runs promspool doctor against an agent.
func doctorOf(t *testing.T, a *agenttest.Agent) string {
	t.Helper()
	stdout, _, _ := agenttest.Command{
		Name: agenttest.Promspool, Args: []string{"--spool.directory=" + a.Spool, "doctor", "--url=" + a.URL, "--prometheus.config=none", "--node-exporter.defaults=none"},
	}.Run(t)
	return stdout
}

// TestTextfileDirectoryThatCannotBeRead checks that series never vanish without a
// message.
func TestTextfileDirectoryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pattern      string // below the directory of the test
		spoil, mend  func(dir string) error
		reason, says string
	}{
		"missing":         {"t", os.RemoveAll, func(string) error { return nil }, "missing", "does not exist (ENOENT)"},
		"a file":          {"t", func(dir string) error { _ = os.RemoveAll(dir); return os.WriteFile(dir, nil, 0o644) }, os.Remove, "not-a-directory", "is not a directory (ENOTDIR)"},
		"without rights":  {"t", func(dir string) error { return os.Chmod(dir, 0) }, func(dir string) error { return os.Chmod(dir, 0o755) }, "unreadable", "may not be read by the agent (EACCES)"},
		"without a match": {"[t-u]", os.RemoveAll, func(string) error { return nil }, "missing", "does not exist (ENOENT)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := openDir(t)
			dir, literal := filepath.Join(base, "t"), filepath.Join(base, test.pattern)
			create := func() {
				t.Helper()
				agenttest.NoError(t, os.MkdirAll(dir, 0o755))
				agenttest.NoError(t, os.WriteFile(filepath.Join(dir, "a.prom"), []byte("a 1\n"), 0o644))
			}
			a := startAgentAsNobody(t, base, "--spool.textfile-directory="+literal, "--spool.node-exporter-metrics", "--spool.resync=1h")
			failing := func(dir, reason, says string) {
				t.Helper()
				a.Serves(fmt.Sprintf("promspool_directory_error{directory=%q,reason=%q} 1", dir, reason))
				agenttest.WantLines(t, a.Page(), "node_textfile_scrape_error 1")
				if page := a.Page(); agenttest.HasLine(page, "a 1") || reason != "unreadable" && regexp.MustCompile(`(?m)^promspool_watch_armed\{.*\} 0$`).MatchString(page) {
					t.Errorf("a file of it is served, or the watch is reported to fail:\n%s", page)
				}
				if got := doctorOf(t, a); !strings.Contains(got, "wrong    agent-directory: "+dir+" "+says) || strings.Contains(got, "inotify") {
					t.Errorf("doctor says:\n%s", got)
				}
				if code, answer := a.Send("GET", "/-/healthy", ""); code != 200 {
					t.Errorf("/-/healthy = %d %q, though the spool is fine", code, answer)
				}
			}
			failing(literal, "missing", "does not exist (ENOENT)")
			create()
			a.Serves("a 1")
			a.Serves("node_textfile_scrape_error 0")
			if strings.Contains(a.Page(), "promspool_directory_error{") {
				t.Errorf("a directory is still named:\n%s", a.Page())
			}
			agenttest.NoError(t, test.spoil(dir))
			failing(literal, test.reason, test.says)
			agenttest.NoError(t, test.mend(dir))
			create()
			a.Serves("a 1")
			a.Serves("node_textfile_scrape_error 0")
		})
	}
}

// TestWatchArmed checks that promspool_watch_armed is 0 while the spool is polled because
// it is unreadable, and 1 with a watch, also on another directory in its place.
func TestWatchArmed(t *testing.T) {
	t.Parallel()
	a := startAgentAsNobody(t, openDir(t), "--spool.resync=1h")
	armed := func(value, mode string) {
		t.Helper()
		a.Serves(fmt.Sprintf("promspool_watch_armed{directory=%q} %s", a.Spool, value))
		agenttest.WaitFor(t, "the page has the mode "+mode, func() bool {
			_, page := a.Send("GET", "/?view=status", "")
			return strings.Contains(page, "<th scope=\"row\">Changes detected by</th><td>"+mode)
		})
	}
	armed("1", "inotify")
	agenttest.NoError(t, os.Chmod(a.Spool, 0))
	armed("0", "polling")
	if got := doctorOf(t, a); strings.Contains(got, "inotify") {
		t.Errorf("doctor blames the kernel:\n%s", got)
	}
	agenttest.NoError(t, os.Chmod(a.Spool, 0o755))
	armed("1", "inotify")
	agenttest.NoError(t, os.Rename(a.Spool, a.Spool+".old"))
	armed("1", "polling")
	agenttest.NoError(t, os.Mkdir(a.Spool, 0o700))
	armed("0", "polling")
	agenttest.NoError(t, os.Chown(a.Spool, 65534, 65534))
	armed("1", "inotify")
}

// TestDirectoriesOfAPatternThatAreGone checks that they leave nothing behind.
func TestDirectoriesOfAPatternThatAreGone(t *testing.T) {
	t.Parallel()
	const many = 60
	dir := t.TempDir()
	stays := filepath.Join(dir, "stays", "m")
	agenttest.NoError(t, os.MkdirAll(stays, 0o755))
	agenttest.NoError(t, os.WriteFile(filepath.Join(stays, "stays.prom"), []byte("stays 1\n"), 0o644))
	a := agenttest.StartAgent(t, "", "--spool.textfile-directory="+dir+"/*/m", "--spool.node-exporter-metrics")
	a.Serves("stays 1")
	number := func(name string) int {
		t.Helper()
		found := regexp.MustCompile(`(?m)^` + name + ` ([0-9]+)$`).FindStringSubmatch(a.Page())
		if found == nil {
			t.Fatalf("no %s", name)
		}
		n, err := strconv.Atoi(found[1])
		agenttest.NoError(t, err)
		return n
	}
	lines := func() int { return strings.Count(a.Page(), `directory="`) }
	before, goroutines := lines(), number("go_goroutines")
	for round := range 2 {
		for i := range many {
			sub := filepath.Join(dir, fmt.Sprint(round, "-", i), "m")
			agenttest.NoError(t, os.MkdirAll(sub, 0o755))
			agenttest.NoError(t, os.WriteFile(filepath.Join(sub, "one.prom"), fmt.Appendf(nil, "one{i=\"%d\"} 1\n", i), 0o644))
		}
		agenttest.WaitFor(t, "all are served", func() bool { return strings.Count(a.Page(), "\none{") == many })
		for i := range many {
			agenttest.NoError(t, os.RemoveAll(filepath.Join(dir, fmt.Sprint(round, "-", i))))
		}
		agenttest.WaitFor(t, "all are given up", func() bool { return lines() == before && !strings.Contains(a.Page(), "\none{") })
		agenttest.WaitFor(t, "no goroutines are left", func() bool { return number("go_goroutines") < goroutines+10 })
	}
	agenttest.WantLines(t, a.Page(), "stays 1", "node_textfile_scrape_error 0")
}

// TestLinksWhoseTargetsChange checks that a changed target is detected long before the
// next rescan.
func TestLinksWhoseTargetsChange(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	flip := func(n int) {
		t.Helper()
		sub := fmt.Sprintf("..%d", n)
		agenttest.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
		agenttest.NoError(t, os.WriteFile(filepath.Join(dir, sub, "cm.prom"), fmt.Appendf(nil, "cm %d\n", n), 0o644))
		agenttest.NoError(t, os.Symlink(sub, filepath.Join(dir, "..data_tmp")))
		agenttest.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	target := filepath.Join(elsewhere, "target")
	flip(1)
	agenttest.NoError(t, os.Symlink("..data/cm.prom", filepath.Join(dir, "cm.prom")))
	agenttest.NoError(t, os.WriteFile(target, []byte("elsewhere 1\n"), 0o644))
	agenttest.NoError(t, os.Symlink(target, filepath.Join(dir, "elsewhere.prom")))
	a := agenttest.StartAgent(t, "", "--spool.resync=1h", "--spool.textfile-directory="+dir)
	a.Serves("cm 1")
	a.Serves("elsewhere 1")
	for n := 2; n < 5; n++ {
		flip(n)
		a.Serves(fmt.Sprint("cm ", n))
		agenttest.NoError(t, os.WriteFile(target, fmt.Appendf(nil, "elsewhere %d\n", n), 0o644))
		a.Serves(fmt.Sprint("elsewhere ", n))
	}
}

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// doctorOf runs the doctor for an agent.
func doctorOf(t *testing.T, a *agent) string {
	t.Helper()
	stdout, _, _ := command{
		name: promspool, args: []string{"--spool.directory=" + a.spool, "doctor", "--url=" + a.url, "--prometheus.config=none", "--node-exporter.defaults=none"},
	}.run(t)
	return stdout
}

// TestTextfileDirectoryThatCannotBeRead: series that vanish must not do so
// without a word.
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
				done(t, os.MkdirAll(dir, 0o755))
				done(t, os.WriteFile(filepath.Join(dir, "a.prom"), []byte("a 1\n"), 0o644))
			}
			a := startAgentAsNobody(t, base, "--spool.textfile-directory="+literal, "--spool.node-exporter-metrics", "--spool.resync=1h")
			failing := func(dir, reason, says string) {
				t.Helper()
				a.serves(fmt.Sprintf("promspool_directory_error{directory=%q,reason=%q} 1", dir, reason))
				wantLines(t, a.page(), "node_textfile_scrape_error 1")
				if page := a.page(); hasLine(page, "a 1") || regexp.MustCompile(`(?m)^promspool_watch_armed\{.*\} 0$`).MatchString(page) {
					t.Errorf("a file of it is served, or watching is said to fail:\n%s", page)
				}
				if got := doctorOf(t, a); !strings.Contains(got, "wrong    agent-directory: "+dir+" "+says) || strings.Contains(got, "inotify") {
					t.Errorf("doctor says:\n%s", got)
				}
				if code, answer := a.send("GET", "/-/healthy", ""); code != 200 {
					t.Errorf("/-/healthy = %d %q, though the spool is fine", code, answer)
				}
			}
			failing(literal, "missing", "does not exist (ENOENT)")
			create()
			a.serves("a 1")
			a.serves("node_textfile_scrape_error 0")
			if strings.Contains(a.page(), "promspool_directory_error{") {
				t.Errorf("a directory is still named:\n%s", a.page())
			}
			done(t, test.spoil(dir))
			failing(literal, test.reason, test.says)
			done(t, test.mend(dir))
			create()
			a.serves("a 1")
			a.serves("node_textfile_scrape_error 0")
		})
	}
}

// TestDirectoriesOfAPatternThatAreGone leave nothing behind.
func TestDirectoriesOfAPatternThatAreGone(t *testing.T) {
	t.Parallel()
	const many = 60
	dir := t.TempDir()
	stays := filepath.Join(dir, "stays", "m")
	done(t, os.MkdirAll(stays, 0o755))
	done(t, os.WriteFile(filepath.Join(stays, "stays.prom"), []byte("stays 1\n"), 0o644))
	a := startAgent(t, "", "--spool.textfile-directory="+dir+"/*/m", "--spool.node-exporter-metrics")
	a.serves("stays 1")
	number := func(name string) int {
		t.Helper()
		found := regexp.MustCompile(`(?m)^` + name + ` ([0-9]+)$`).FindStringSubmatch(a.page())
		if found == nil {
			t.Fatalf("no %s", name)
		}
		n, err := strconv.Atoi(found[1])
		done(t, err)
		return n
	}
	lines := func() int { return strings.Count(a.page(), `directory="`) }
	before, goroutines := lines(), number("go_goroutines")
	for round := range 2 {
		for i := range many {
			sub := filepath.Join(dir, fmt.Sprint(round, "-", i), "m")
			done(t, os.MkdirAll(sub, 0o755))
			done(t, os.WriteFile(filepath.Join(sub, "one.prom"), fmt.Appendf(nil, "one{i=\"%d\"} 1\n", i), 0o644))
		}
		waitFor(t, "all are served", func() bool { return strings.Count(a.page(), "\none{") == many })
		for i := range many {
			done(t, os.RemoveAll(filepath.Join(dir, fmt.Sprint(round, "-", i))))
		}
		waitFor(t, "all are given up", func() bool { return lines() == before && !strings.Contains(a.page(), "\none{") })
		waitFor(t, "no goroutines are left", func() bool { return number("go_goroutines") < goroutines+10 })
	}
	wantLines(t, a.page(), "stays 1", "node_textfile_scrape_error 0")
}

// TestLinksWhoseTargetsChange are noticed long before everything is looked at
// again.
func TestLinksWhoseTargetsChange(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	flip := func(n int) {
		t.Helper()
		sub := fmt.Sprintf("..%d", n)
		done(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
		done(t, os.WriteFile(filepath.Join(dir, sub, "cm.prom"), fmt.Appendf(nil, "cm %d\n", n), 0o644))
		done(t, os.Symlink(sub, filepath.Join(dir, "..data_tmp")))
		done(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	target := filepath.Join(elsewhere, "target")
	flip(1)
	done(t, os.Symlink("..data/cm.prom", filepath.Join(dir, "cm.prom")))
	done(t, os.WriteFile(target, []byte("elsewhere 1\n"), 0o644))
	done(t, os.Symlink(target, filepath.Join(dir, "elsewhere.prom")))
	a := startAgent(t, "", "--spool.resync=1h", "--spool.textfile-directory="+dir)
	a.serves("cm 1")
	a.serves("elsewhere 1")
	for n := 2; n < 5; n++ {
		flip(n)
		a.serves(fmt.Sprint("cm ", n))
		done(t, os.WriteFile(target, fmt.Appendf(nil, "elsewhere %d\n", n), 0o644))
		a.serves(fmt.Sprint("elsewhere ", n))
	}
}

package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestChangeOfAFileIsSoonServed is not parallel, since it takes the time. The
// resync is out of the way, so it is the kernel that tells the agent.
func TestChangeOfAFileIsSoonServed(t *testing.T) {
	a := startAgent(t, "", "--spool.resync=1h")
	path := filepath.Join(a.spool, "dropped.prom")
	aside := filepath.Join(a.spool, "aside")
	write := func(path, text string) { done(t, os.WriteFile(path, []byte(text), 0o644)) }
	rename := func(from, to string) { done(t, os.Rename(from, to)) }
	for _, step := range []struct {
		name   string
		change func()
		want   string // the one sample, or none
	}{
		{"written", func() { write(path, "dropped 1\n") }, "dropped 1\n"},
		{"written over", func() { write(path, "dropped 22\n") }, "dropped 22\n"},
		{"replaced", func() { write(aside, "dropped 3\n"); rename(aside, path) }, "dropped 3\n"},
		{"removed", func() { done(t, os.Remove(path)) }, ""},
		{"renamed into place", func() { write(aside, "dropped 4\n"); rename(aside, path) }, "dropped 4\n"},
		{"renamed away", func() { rename(path, aside) }, ""},
		{"linked", func() { done(t, os.Link(aside, path)) }, "dropped 4\n"},
	} {
		step.change()
		start := time.Now()
		waitFor(t, "the page shows that the file was "+step.name, func() bool {
			return strings.TrimPrefix(a.merge(), "# TYPE dropped untyped\n") == step.want
		})
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("the page showed that the file was %s after %v, want 500ms at most", step.name, took)
		}
	}
}

// TestTwoAgentsOnOneSpoolServeTheSame has two of them take pushes, as while one
// takes over from another.
func TestTwoAgentsOnOneSpoolServeTheSame(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "", "--spool.resync=1h")
	b := startAgent(t, a.spool, "--spool.resync=1h")
	a.push("/metrics/job/a", "# HELP shared One.\nshared 1\n")
	b.push("/metrics/job/b", "# HELP shared Two.\nshared 2\n")
	a.push("/metrics/job/c", "shared 3\n")
	if code, _ := b.send("DELETE", "/metrics/job/c", ""); code != http.StatusAccepted {
		t.Errorf("DELETE of the other's group = %d, want 202", code)
	}
	waitFor(t, "both serve two groups", func() bool {
		merge := a.merge()
		return merge == b.merge() && hasLine(merge, `shared{job="a"} 1`) && hasLine(merge, `shared{job="b"} 2`) && !strings.Contains(merge, `job="c"`)
	})
}

func TestPushGoesToTheSpoolThatIsThere(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	a.push("/metrics/job/old", "old 1\n")
	done(t, os.Rename(a.spool, a.spool+".old"))
	if code, answer := a.send("PUT", "/metrics/job/nowhere", "nowhere 1\n"); code != http.StatusInternalServerError || !strings.Contains(answer, a.spool) {
		t.Errorf("a push without a spool = %d %q, want 500 and its name", code, answer)
	}
	done(t, os.Mkdir(a.spool, 0o755))
	waitFor(t, "a push is taken", func() bool {
		code, _ := a.send("PUT", "/metrics/job/new", "new 1\n")
		return code == http.StatusOK
	})
	merge := a.merge()
	wantLines(t, merge, `new{job="new"} 1`)
	wantNone(t, merge, "old", "nowhere")
	if got := files(t, a.spool); !slices.Equal(got, []string{"job=new.prom"}) {
		t.Errorf("the spool has %q, want what was pushed to it", got)
	}
}

func TestFilesThatAreNoneAreToldAndLeftAlone(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	done(t, syscall.Mkfifo(spool+"/fifo.prom", 0o644))
	done(t, os.Mkdir(spool+"/directory.prom", 0o755))
	done(t, os.Symlink("/dev/zero", spool+"/device.prom"))
	done(t, os.Symlink("loop.prom", spool+"/loop.prom"))
	done(t, os.Symlink("nowhere", spool+"/dangling.prom"))
	done(t, os.WriteFile(spool+"/good.prom", []byte("good 1\n"), 0o644))
	a := startAgent(t, spool)
	page := a.page()
	wantLines(t, page, "good 1", `promspool_files_with_errors{reason="not-regular"} 3`, `promspool_files_with_errors{reason="unreadable"} 2`)
	for _, name := range []string{"fifo", "directory", "device", "loop", "dangling"} {
		if !strings.Contains(page, `promspool_file_error{file="`+name+`.prom"`) {
			t.Errorf("no promspool_file_error of %s.prom in:\n%s", name, page)
		}
	}
	a.stop()
	if got := len(files(t, spool)); got != 6 {
		t.Errorf("%d files are left, want all 6", got)
	}
}

func TestRoutesAreBelowThePrefix(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--web.route-prefix=/spool/", "--web.external-url=http://metrics.example.org/spool"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t, "", flag)
			for _, tt := range []struct {
				method, path, body string
				want               int
			}{
				{"PUT", "/spool/metrics/job/a", "b 1\n", http.StatusOK},
				{"GET", "/spool/metrics", "", http.StatusOK},
				{"GET", "/spool/", "", http.StatusOK},
				{"GET", "/spool/-/healthy", "", http.StatusOK},
				{"GET", "/spool/-/ready", "", http.StatusOK},
				{"GET", "/spool/api/v1/status", "", http.StatusOK},
				{"PUT", "/metrics/job/a", "b 1\n", http.StatusNotFound},
				{"GET", "/metrics", "", http.StatusNotFound},
				{"GET", "/spoolmetrics", "", http.StatusNotFound},
				{"DELETE", "/spool/metrics/job/a", "", http.StatusAccepted},
			} {
				if code, answer := a.send(tt.method, tt.path, tt.body); code != tt.want {
					t.Errorf("%s %s = %d %q, want %d", tt.method, tt.path, code, answer, tt.want)
				}
			}
			a.stop()
		})
	}
}

func TestTelemetryPath(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "", "--web.telemetry-path=/everything")
	a.push("/metrics/job/a", "b 1\n") // pushes stay where clients look for them
	if _, page := a.send("GET", "/everything", ""); !hasLine(page, `b{job="a"} 1`) {
		t.Errorf("GET /everything lacks the push:\n%s", page)
	}
}

func TestJSONLogIsJSONThroughout(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "", "--log.format=json", "--log.level=debug")
	a.send("PUT", "/metrics/job/a", "no metric\n")
	a.drop("broken.prom", "no metric\n")
	waitFor(t, "the log has the broken file", func() bool { return strings.Contains(a.log.String(), "broken.prom") })
	a.stop()
	named := false
	for line := range strings.Lines(a.log.String()) {
		var entry struct{ Time, Level, Msg, File string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
			t.Errorf("log line %s: %v, want an object with time, level and msg", line, err)
		}
		if named = named || entry.File == "broken.prom"; strings.Contains(entry.File, `"`) {
			t.Errorf("log line %s quotes the file twice", line)
		}
	}
	if !named {
		t.Error("no line has the broken file under its name")
	}
}

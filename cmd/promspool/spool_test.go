package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestChangeOfAFileIsServed checks that the kernel reports each change to the agent,
// without a rescan.
func TestChangeOfAFileIsServed(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--spool.resync=1h")
	path := filepath.Join(a.Spool, "dropped.prom")
	aside := filepath.Join(a.Spool, "aside")
	write := func(path, text string) { agenttest.NoError(t, os.WriteFile(path, []byte(text), 0o644)) }
	rename := func(from, to string) { agenttest.NoError(t, os.Rename(from, to)) }
	for _, step := range []struct {
		name   string
		change func()
		want   string // the one sample, or none
	}{
		{"written", func() { write(path, "dropped 1\n") }, "dropped 1\n"},
		{"written over", func() { write(path, "dropped 22\n") }, "dropped 22\n"},
		{"replaced", func() { write(aside, "dropped 3\n"); rename(aside, path) }, "dropped 3\n"},
		{"removed", func() { agenttest.NoError(t, os.Remove(path)) }, ""},
		{"renamed into place", func() { write(aside, "dropped 4\n"); rename(aside, path) }, "dropped 4\n"},
		{"renamed away", func() { rename(path, aside) }, ""},
		{"linked", func() { agenttest.NoError(t, os.Link(aside, path)) }, "dropped 4\n"},
	} {
		step.change()
		agenttest.WaitFor(t, "the page shows that the file was "+step.name, func() bool {
			return strings.TrimPrefix(a.Merge(), "# TYPE dropped untyped\n") == step.want
		})
	}
	page := a.Page()
	agenttest.WantLines(t, page, `promspool_watch_armed{directory="`+a.Spool+`"} 1`)
	counts := regexp.MustCompile(`(?m)^promspool_watch_rescans_total\{cause="(\w+)",.*\} (.*)$`).FindAllStringSubmatch(page, -1)
	if len(counts) == 0 {
		t.Error("passes over the directory are not counted")
	}
	for _, c := range counts {
		if c[1] != "start" && c[2] != "0" {
			t.Errorf("%s passes over the directory had the cause %s, want none", c[2], c[1])
		}
	}
}

// TestTwoAgentsOnOneSpoolServeTheSame pushes to both, as during a handover from one
// agent to the next.
func TestTwoAgentsOnOneSpoolServeTheSame(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--spool.resync=1h")
	b := agenttest.StartAgent(t, a.Spool, "--spool.resync=1h")
	a.Push("/metrics/job/a", "# HELP shared One.\nshared 1\n")
	b.Push("/metrics/job/b", "# HELP shared Two.\nshared 2\n")
	a.Push("/metrics/job/c", "shared 3\n")
	if code, _ := b.Send("DELETE", "/metrics/job/c", ""); code != http.StatusAccepted {
		t.Errorf("DELETE of the other's group = %d, want 202", code)
	}
	agenttest.WaitFor(t, "both serve two groups", func() bool {
		merge := a.Merge()
		return merge == b.Merge() && agenttest.HasLine(merge, `shared{job="a"} 1`) && agenttest.HasLine(merge, `shared{job="b"} 2`) && !strings.Contains(merge, `job="c"`)
	})
}

func TestPushGoesToTheSpoolThatIsThere(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	a.Push("/metrics/job/old", "old 1\n")
	agenttest.NoError(t, os.Rename(a.Spool, a.Spool+".old"))
	if code, answer := a.Send("PUT", "/metrics/job/nowhere", "nowhere 1\n"); code != http.StatusInternalServerError || !strings.Contains(answer, a.Spool) {
		t.Errorf("a push without a spool = %d %q, want 500 and its name", code, answer)
	}
	agenttest.NoError(t, os.Mkdir(a.Spool, 0o755))
	agenttest.WaitFor(t, "a push is taken", func() bool {
		code, _ := a.Send("PUT", "/metrics/job/new", "new 1\n")
		return code == http.StatusOK
	})
	merge := a.Merge()
	agenttest.WantLines(t, merge, `new{job="new"} 1`)
	agenttest.WantNone(t, merge, "old", "nowhere")
	if got := agenttest.Files(t, a.Spool); !slices.Equal(got, []string{"job=new.prom"}) {
		t.Errorf("the spool has %q, want the pushed group", got)
	}
}

func TestFilesThatAreNoneAreToldAndLeftAlone(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	agenttest.NoError(t, syscall.Mkfifo(spool+"/fifo.prom", 0o644))
	agenttest.NoError(t, os.Mkdir(spool+"/directory.prom", 0o755))
	agenttest.NoError(t, os.Symlink("/dev/zero", spool+"/device.prom"))
	agenttest.NoError(t, os.Symlink("loop.prom", spool+"/loop.prom"))
	agenttest.NoError(t, os.Symlink("nowhere", spool+"/dangling.prom"))
	agenttest.NoError(t, os.WriteFile(spool+"/good.prom", []byte("good 1\n"), 0o644))
	a := agenttest.StartAgent(t, spool)
	page := a.Page()
	agenttest.WantLines(t, page, "good 1", `promspool_files_with_errors{reason="not-regular"} 3`, `promspool_files_with_errors{reason="unreadable"} 2`)
	for _, name := range []string{"fifo", "directory", "device", "loop", "dangling"} {
		if !strings.Contains(page, `promspool_file_error{file="`+name+`.prom"`) {
			t.Errorf("no promspool_file_error of %s.prom in:\n%s", name, page)
		}
	}
	a.Stop()
	if got := len(agenttest.Files(t, spool)); got != 6 {
		t.Errorf("%d files are left, want all 6", got)
	}
}

func TestRoutesAreBelowThePrefix(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--web.route-prefix=/spool/", "--web.external-url=http://metrics.example.org/spool"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "", flag)
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
				if code, answer := a.Send(tt.method, tt.path, tt.body); code != tt.want {
					t.Errorf("%s %s = %d %q, want %d", tt.method, tt.path, code, answer, tt.want)
				}
			}
			a.Stop()
		})
	}
}

func TestTelemetryPath(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--web.telemetry-path=/everything")
	a.Push("/metrics/job/a", "b 1\n") // pushes keep their path
	if _, page := a.Send("GET", "/everything", ""); !agenttest.HasLine(page, `b{job="a"} 1`) {
		t.Errorf("GET /everything lacks the push:\n%s", page)
	}
}

func TestJSONLogIsJSONThroughout(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--log.format=json", "--log.level=debug")
	a.Send("PUT", "/metrics/job/a", "no metric\n")
	a.Drop("broken.prom", "no metric\n")
	agenttest.WaitFor(t, "the log has the broken file", func() bool { return strings.Contains(a.Log.String(), "broken.prom") })
	a.Stop()
	named := false
	for line := range strings.Lines(a.Log.String()) {
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

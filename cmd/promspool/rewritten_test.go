package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// openDir returns a directory that every user can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "promspool-test-")
	agenttest.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	agenttest.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// startAgentAsNobody starts an agent without capabilities that owns only its spool
// below dir. It cannot ask the kernel whether root's files are open for writing.
func startAgentAsNobody(t *testing.T, dir string, flags ...string) *agenttest.Agent {
	t.Helper()
	agenttest.NeedRoot(t, "to run the agent as another user")
	spool := filepath.Join(dir, "spool")
	agenttest.NoError(t, os.Mkdir(spool, 0o755))
	agenttest.NoError(t, os.Chown(spool, 65534, 65534))
	args := append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", agenttest.Promspool, "--web.listen-address=127.0.0.1:0", "--spool.directory=" + spool}, flags...)
	s := agenttest.StartServer(t, `msg=Serving .* on=([0-9.:]+)`, agenttest.Need(t, "setpriv"), args...)
	return &agenttest.Agent{Server: s, URL: "http://" + s.Addr, Spool: spool}
}

// generation matches the first series of a rewritten file.
var generation = regexp.MustCompile(`(?m)^rewritten\{i="([0-9]+)"\} ([0-9]+)$`)

// TestFileThatIsRewrittenAllTheTime checks that such a file is served complete and up
// to date, however it is written.
func TestFileThatIsRewrittenAllTheTime(t *testing.T) {
	t.Parallel()
	const series = 200
	inPlace := func(f *os.File, text string) error {
		for len(text) > 0 {
			n := min(len(text), 4096)
			if _, err := f.WriteString(text[:n]); err != nil {
				return err
			}
			text = text[n:]
		}
		return f.Close()
	}
	truncating := func(path, text string) error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		return inPlace(f, text)
	}
	for name, test := range map[string]struct {
		every time.Duration
		write func(path, text string) error
		flags []string
	}{
		"truncated 10 a second": {100 * time.Millisecond, truncating, nil},
		"truncated 70 a second": {time.Second / 70, truncating, nil},
		"overwritten 70 a second": {time.Second / 70, func(path, text string) error {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			return inPlace(f, text)
		}, nil},
		"renamed under a settle time": {100 * time.Millisecond, func(path, text string) error {
			if err := truncating(path+".tmp", text); err != nil {
				return err
			}
			return os.Rename(path+".tmp", path)
		}, []string{"--spool.settle=2s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			files := filepath.Join(dir, "t")
			agenttest.NoError(t, os.Mkdir(files, 0o755))
			a := startAgentAsNobody(t, dir, append(test.flags, "--spool.resync=1h", "--spool.textfile-directory="+files)...)
			ctx, stop := context.WithCancel(t.Context())
			var mu sync.Mutex
			last, failed := 100_000, error(nil) // all of the same length, without an exponent
			written := func() int {
				mu.Lock()
				defer mu.Unlock()
				agenttest.NoError(t, failed)
				return last
			}
			var writing sync.WaitGroup
			writing.Go(func() {
				tick := time.NewTicker(test.every)
				defer tick.Stop()
				for n := last + 1; ; n++ {
					var text strings.Builder
					for i := range series {
						fmt.Fprintf(&text, "rewritten{i=\"%d\"} %d\n", i, n)
					}
					err := test.write(filepath.Join(files, "a.prom"), text.String())
					mu.Lock()
					last, failed = n, err
					mu.Unlock()
					if err != nil {
						return
					}
					select {
					case <-ctx.Done():
						return
					case <-tick.C:
					}
				}
			})
			defer writing.Wait()
			defer stop()
			for range 10 {
				least := written()
				agenttest.WaitFor(t, "the content served is newer", func() bool {
					found := generation.FindAllStringSubmatch(a.Page(), -1)
					if len(found) == 0 {
						return false // at first
					}
					if len(found) != series {
						t.Fatalf("%d series are served, want %d", len(found), series)
					}
					for _, f := range found {
						if f[2] != found[0][2] {
							t.Fatalf("series of generations %s and %s are served together", found[0][2], f[2])
						}
					}
					return found[0][2] > fmt.Sprintf("%06d", least)
				})
			}
		})
	}
}

// TestHalfWrittenOpenFileIsNotServed checks that an incomplete open file is named and
// not served, however long the writer pauses.
func TestHalfWrittenOpenFileIsNotServed(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	files := filepath.Join(dir, "t")
	agenttest.NoError(t, os.Mkdir(files, 0o755))
	a := startAgentAsNobody(t, dir, "--spool.textfile-directory="+files)
	open := func(name string) *os.File {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(files, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		agenttest.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	write := func(f *os.File, text string) {
		t.Helper()
		_, err := f.WriteString(text)
		agenttest.NoError(t, err)
	}
	agenttest.NoError(t, os.WriteFile(filepath.Join(files, "b.prom"), []byte("b 1\nb_end 1\n"), 0o644))
	a.Serves("b_end 1")
	first, second := open("a.prom"), open("b.prom")
	write(first, "a 1\n")
	write(second, "b 2\n")
	a.Serves(`promspool_file_error{file="` + files + `/a.prom",reason="busy"} 1`)
	a.Serves(`promspool_file_error{file="` + files + `/b.prom",reason="busy"} 1`)
	page := a.Page()
	agenttest.WantLines(t, page, "b 1", "b_end 1", `promspool_files_with_errors{reason="busy"} 2`)
	if agenttest.HasLine(page, "a 1") || agenttest.HasLine(page, "b 2") {
		t.Errorf("half of a file is served:\n%s", a.Merge())
	}
	if n := strings.Count(a.Log.String(), "a writer has it open"); n != 2 {
		t.Errorf("the log says %d times why, want once for each file", n)
	}
	write(first, "a_end 1\n")
	write(second, "b_end 2\n")
	agenttest.NoError(t, first.Close())
	agenttest.NoError(t, second.Close())
	a.Serves("a_end 1")
	a.Serves("b_end 2")
	page = a.Page()
	agenttest.WantLines(t, page, "a 1", "b 2")
	if strings.Contains(page, `reason="busy"} 1`) {
		t.Errorf("still named:\n%s", page)
	}
}

// TestTruncatedFileIsServed changes a file with truncate(2), while no process has it
// open. The agent must not wait for a writer.
func TestTruncatedFileIsServed(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	files := filepath.Join(dir, "t")
	agenttest.NoError(t, os.Mkdir(files, 0o755))
	a := startAgentAsNobody(t, dir, "--spool.textfile-directory="+files)
	path, aside := filepath.Join(files, "a.prom"), filepath.Join(dir, "a.prom")
	for _, placed := range []func(){
		func() { agenttest.NoError(t, os.WriteFile(path, []byte("a 1\nb 2\nc 3\n"), 0o644)) },
		func() {
			agenttest.NoError(t, os.WriteFile(aside, []byte("a 1\nb 2\nc 3\n"), 0o644))
			agenttest.NoError(t, os.Rename(aside, path))
		},
	} {
		placed()
		a.Serves("c 3")
		for _, last := range []string{"c 3", "b 2"} {
			fi, err := os.Stat(path)
			agenttest.NoError(t, err)
			agenttest.NoError(t, os.Truncate(path, fi.Size()-int64(len(last)+1)))
			agenttest.WaitFor(t, "the file without "+last, func() bool {
				page := a.Page()
				if strings.Contains(page, `reason="busy"} 1`) {
					t.Fatal("the file counts as open")
				}
				return !agenttest.HasLine(page, last)
			})
			a.Serves("a 1")
		}
	}
}

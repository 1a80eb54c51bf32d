package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// onTerminal runs promspool with standard output on a terminal and returns the
// output.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	agenttest.NoError(t, err)
	defer master.Close()
	agenttest.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	agenttest.NoError(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	agenttest.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), agenttest.Promspool, args...)
	cmd.Stdout = terminal
	agenttest.NoError(t, cmd.Start())
	agenttest.NoError(t, terminal.Close())
	var shown strings.Builder
	for b := make([]byte, 4096); ; {
		n, err := master.Read(b) // returns EIO after the other end is closed
		shown.Write(b[:n])
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("promspool %q: %v", args, err)
	}
	return strings.ReplaceAll(shown.String(), "\r\n", "\n")
}

// TestNoArguments starts promspool without arguments: on a terminal it prints its help on
// one screen, elsewhere it is the agent, which fails here for its spool.
func TestNoArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	agenttest.NoError(t, os.WriteFile(file, nil, 0o644))
	t.Setenv("PROMSPOOL_SPOOL_DIRECTORY", file)
	help := onTerminal(t)
	if lines := strings.Count(help, "\n"); !strings.Contains(help, "\n  serve    Run the agent") || lines > 30 {
		t.Errorf("on a terminal it prints %d lines:\n%s", lines, help)
	}
	for line := range strings.Lines(help) {
		if len(line) > 82 {
			t.Errorf("a line of the help is longer than 80 columns: %s", line)
		}
	}
	refuses(t, agenttest.Command{}, 1, file)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	agenttest.NoError(t, err)
	defer null.Close()
	cmd := exec.CommandContext(t.Context(), agenttest.Promspool)
	cmd.Stdout = null
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("with the output in %s: %v, want exit status 1", os.DevNull, err)
	}
}

// TestTerminal looks at what people see: a table, and nothing that could act upon
// their terminal.
func TestTerminal(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		agenttest.NoError(t, os.WriteFile(filepath.Join(spool, name), []byte(text), 0o644))
	}
	write("job=a.prom", "# promspool:group {job=\"a\"}\n# TYPE push_failure_time_seconds gauge\npush_failure_time_seconds{job=\"a\"} 1.6e+09\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"a\"} 1.5e+09\n")
	write("\x1b[31m.prom", "broken \x1b[31m\n")
	text := onTerminal(t, "--spool.directory="+spool, "ls")
	want := regexp.MustCompile(`^NAME             STATE    AGE    REFUSED  SAMPLES  SIZE
job=a            refused  \d+d  \d+d    2        176 B
"\\x1b\[31m.prom"  broken   \d+m?s    +-        0        13 B
$`)
	if !want.MatchString(text) {
		t.Errorf("it shows\n%s", text)
	}
	if strings.Contains(text, "\x1b") || strings.Contains(onTerminal(t, "--spool.directory="+spool, "show", "\x1b[31m.prom"), "\x1b") {
		t.Error("an escape sequence reaches the terminal")
	}
}

package peertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A reader executes a document.
type reader struct {
	t      *testing.T
	dir    string
	agent  *agenttest.Agent
	prom   string // address for the reader's Prometheus
	groups []int  // processes, by their leader
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{t: t, dir: t.TempDir()}
	agenttest.NoError(t, os.Mkdir(r.dir+"/bin", 0o755))
	agenttest.NoError(t, os.Symlink(agenttest.Promspool, r.dir+"/bin/promspool"))
	agenttest.NoError(t, os.WriteFile(r.dir+"/.curlrc", []byte("silent\nfail-with-body\n"), 0o644))
	r.agent = agenttest.StartAgent(t, r.dir+"/spool")
	r.prom = freeAddress(t)
	t.Cleanup(func() {
		for _, leader := range r.groups {
			_ = syscall.Kill(-leader, syscall.SIGKILL) // usually there are none
		}
	})
	return r
}

// follow executes one block.
func (r *reader) follow(t *testing.T, b docBlock) {
	t.Helper()
	if why, ok := b.notes["skip"]; ok {
		t.Logf("not run: %s", why) // no t.Skip: no program is missing
		return
	}
	for _, program := range strings.Fields(b.notes["needs"]) {
		agenttest.Need(t, program)
	}
	if name, ok := b.notes["file"]; ok {
		agenttest.NoError(t, os.WriteFile(filepath.Join(r.dir, name), []byte(r.here(b.text)), 0o644))
		return
	}
	var do func() error
	_, fails := b.notes["fails"]
	switch b.kind {
	case "agent":
		r.agent.Stop()
		r.agent = agenttest.StartAgent(r.t, r.agent.Spool, strings.Fields(r.here(b.args))...)
		return
	case "sh", "bash":
		do = func() error { return r.script(b.kind, b.text, fails) }
	case "python":
		python := needPython(t)
		do = func() error { return r.script(python, b.text, fails) }
	case "console":
		do = func() error { return r.dialogue(b.text, fails) }
	case "yaml":
		do = func() error { return r.yaml(t, b.text) }
	default:
		return
	}
	err := do()
	if _, again := b.notes["retry"]; again {
		for deadline := time.Now().Add(agenttest.Timeout); err != nil && time.Now().Before(deadline); err = do() {
			time.Sleep(20 * time.Millisecond)
		}
	}
	agenttest.NoError(t, err)
}

// here replaces the addresses and paths of the document by those of this test, and
// there does the reverse.
func (r *reader) here(text string) string {
	return strings.NewReplacer("localhost:9091", r.agent.Addr, "localhost:9090", r.prom, "/var/lib/promspool/spool", r.agent.Spool, "/run/promspool", r.dir).Replace(text)
}

func (r *reader) there(text string) string {
	return strings.NewReplacer("\r\n", "\n", r.agent.Addr, "localhost:9091", r.agent.Spool, "/var/lib/promspool/spool", r.dir, "/somewhere").Replace(text)
}

// run passes a text to a program. It returns the output and the exit status.
func (r *reader) run(text, program string, args ...string) (output string, status int, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), agenttest.Timeout)
	defer cancel()
	// Use a file, as background processes would keep a pipe open.
	out, err := os.CreateTemp(r.t.TempDir(), "output")
	if err != nil {
		return "", 0, err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = r.dir, strings.NewReader(text), out, out
	cmd.Env = append(os.Environ(), "HOME="+r.dir, "PATH="+r.dir+"/bin:"+os.Getenv("PATH"),
		"PROMSPOOL_SPOOL_DIRECTORY="+r.agent.Spool, "PROMSPOOL_URL="+r.agent.URL, "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err = cmd.Start(); err == nil {
		r.groups = append(r.groups, cmd.Process.Pid)
		err = cmd.Wait()
	}
	printed, readErr := os.ReadFile(out.Name())
	output = r.there(string(printed))
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return output, 0, fmt.Errorf("does not end within %v, having printed\n%s", agenttest.Timeout, output)
	case err != nil && !errors.As(err, &failed):
		return output, 0, err
	}
	return output, cmd.ProcessState.ExitCode(), readErr
}

// script runs a block. The shell reads it from a file, so that its commands have an
// empty standard input.
func (r *reader) script(program, text string, fails bool) error {
	file := filepath.Join(r.t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(r.here(text)), 0o644); err != nil {
		return err
	}
	args := []string{file}
	if program == "sh" || program == "bash" {
		args = []string{"-e", file}
	}
	out, status, err := r.run("", program, args...)
	if err == nil && (status != 0) != fails {
		err = fmt.Errorf("%s\nexits with status %d, having printed\n%s", text, status, out)
	}
	return err
}

// dialogue runs a block of commands with their output.
func (r *reader) dialogue(text string, fails bool) error {
	const end = "=== the command has ended"
	var commands, outputs []string
	for line := range strings.Lines(text) {
		last := len(commands) - 1
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands, outputs = append(commands, command), append(outputs, "")
		} else if more, ok := strings.CutPrefix(line, "> "); ok && last >= 0 && outputs[last] == "" {
			commands[last] += more
		} else if last < 0 {
			return fmt.Errorf("the block begins with %q, want a command", line)
		} else {
			outputs[last] += line
		}
	}
	var script bytes.Buffer
	for _, command := range commands {
		fmt.Fprintf(&script, "%sprintf '\\n%%s %%d\\n' '%s' $?\n", command, end)
	}
	file := filepath.Join(r.t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(r.here(script.String())), 0o644); err != nil {
		return err
	}
	printed, _, err := r.run("", "sh", file)
	if err != nil {
		return err
	}
	for i, command := range commands {
		out, rest, ok := strings.Cut(printed, "\n"+end+" ")
		status := -1
		if ok {
			_, err := fmt.Sscanf(rest, "%d\n", &status)
			ok = err == nil
			_, printed, _ = strings.Cut(rest, "\n")
		}
		switch last := i == len(commands)-1; {
		case !ok:
			return fmt.Errorf("%sprints\n%sand ends the shell", command, out)
		case (status != 0) != (fails && last):
			return fmt.Errorf("%sexits with status %d, having printed\n%s", command, status, out)
		case !matches(outputs[i], out):
			return fmt.Errorf("%sprints\n%s\nwant\n%s", command, out, outputs[i])
		}
	}
	return nil
}

// matches compares an output with the text of the document.
func matches(want, got string) bool {
	var b strings.Builder
	for line := range strings.Lines(want) {
		if line == "…\n" {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	if got != "" && !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	return regexp.MustCompile("^" + b.String() + "$").MatchString(got)
}

// yaml checks a configuration with promtool.
func (r *reader) yaml(t *testing.T, text string) error {
	t.Helper()
	what := ""
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "scrape_configs:"):
			what = "config"
		case strings.HasPrefix(line, "groups:"):
			what = "rules"
		}
	}
	if what == "" {
		return nil
	}
	file := filepath.Join(t.TempDir(), what+".yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	out, status, err := r.run("", agenttest.Need(t, "promtool"), "check", what, file)
	if err == nil && status != 0 {
		err = fmt.Errorf("promtool check %s: %s", what, out)
	}
	return err
}

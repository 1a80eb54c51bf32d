package main_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestManualIsWhole checks that the manual includes the help of every command and
// flag and that man reports no errors.
func TestManualIsWhole(t *testing.T) {
	t.Parallel()
	mandoc := agenttest.Need(t, "mandoc")
	page := t.TempDir() + "/promspool.1"
	source := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--help-man"}, Env: []string{"SOURCE_DATE_EPOCH=1700000000"}}.Must(t)
	agenttest.NoError(t, os.WriteFile(page, []byte(source), 0o644))
	if out := (agenttest.Command{Name: mandoc, Args: []string{"-T", "lint", "-W", "warning", page}}).Must(t); out != "" {
		t.Errorf("mandoc complains:\n%s", out)
	}
	if !strings.Contains(source, `"2023-11-14"`) {
		t.Error("the page has not the date of the sources")
	}
	text := agenttest.Command{Name: mandoc, Args: []string{"-T", "ascii", "-O", "width=1000", page}}.Must(t)
	text = regexp.MustCompile(".\b").ReplaceAllString(text, "") // bold and underlined
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"} {
		if !agenttest.HasLine(text, section) {
			t.Errorf("no section %s", section)
		}
	}
	help := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--help-long"}}.Must(t)
	names := regexp.MustCompile(`(?m)^ {2,8}(?:-\w, )?(--(?:\[no-\])?[a-z][-.a-z0-9]*)|^  ([a-z]+)(?: |$)`).FindAllStringSubmatch(help, -1)
	if len(names) < 40 {
		t.Fatalf("%d flags and commands in --help-long, want 40 or more", len(names))
	}
	for _, name := range names {
		word := strings.Replace(name[1]+name[2], "[no-]", "", 1)
		if word != "help" && !regexp.MustCompile(`(?m)^ +(?:-\w, )?`+regexp.QuoteMeta(word)+`(?:[ =]|$)`).MatchString(text) {
			t.Errorf("%s is not in the manual", word)
		}
	}
	if t.Failed() {
		t.Logf("the page:\n%s", text)
	}
}

// TestCompletionsComplete runs the completion script in bash.
func TestCompletionsComplete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--completion-script-bash"}}.Must(t)
	agenttest.NoError(t, os.WriteFile(dir+"/bash", []byte(script), 0o644))
	for _, tt := range []struct{ words, last, want string }{
		{"promspool wr", "1", "write"},
		{"promspool write --all", "2", "--allow-empty"},
		{"promspool --spool.dir", "1", "--spool.directory"},
	} {
		ask := "source " + dir + "/bash; COMP_WORDS=(" + tt.words + "); COMP_CWORD=" + tt.last + `; _promspool; echo "${COMPREPLY[@]}"`
		path := "PATH=" + strings.TrimSuffix(agenttest.Promspool, "/promspool") + ":" + os.Getenv("PATH")
		if got := (agenttest.Command{Name: agenttest.Need(t, "bash"), Args: []string{"-c", ask}, Env: []string{path}}).Must(t); got != tt.want+"\n" {
			t.Errorf("%q is completed to %q, want %q", tt.words, got, tt.want)
		}
	}
	script = agenttest.Command{Name: agenttest.Promspool, Args: []string{"--completion-script-zsh"}}.Must(t)
	agenttest.NoError(t, os.WriteFile(dir+"/_promspool", []byte(script), 0o644))
	agenttest.Command{Name: agenttest.Need(t, "zsh"), Args: []string{"-n", dir + "/_promspool"}}.Must(t)
}

func TestHealth(t *testing.T) { runScripts(t, "health") }

package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestScriptCheck(t *testing.T) { runScripts(t, "check") }

// runScripts runs the scripts whose names start with that of the command. It adds
// these commands to those of testscript:
//
//	status N PROGRAM ARG…   run the program; it must exit with status N
//	entries DIR NAME…       the directory must contain exactly these entries
//	agent FLAG…             start an agent on the script's spool until the script
//	                        ends; $URL is its address
//	atport FILE…            replace the port 9091 in the files by the agent's
//	eventually PATTERN PROGRAM ARG…  run the program until its output matches
func runScripts(t *testing.T, name string) {
	t.Helper()
	t.Parallel()
	files, err := filepath.Glob("testdata/script/" + name + "*.txtar")
	agenttest.NoError(t, err)
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(agenttest.Promspool)+string(os.PathListSeparator)+env.Getenv("PATH"))
			// Its last line has no newline, which a txtar archive cannot express.
			return os.WriteFile(filepath.Join(env.WorkDir, "unfinished"), []byte("m 1\nm 2"), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": wantStatus, "entries": wantEntries, "agent": scriptAgent, "atport": atPort, "eventually": eventually,
		},
	})
}

func scriptAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: agent FLAG…")
	}
	cmd := exec.Command(agenttest.Promspool, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PROMSPOOL_SPOOL_DIRECTORY="+ts.MkAbs("spool"))
	log := &agenttest.Buffer{}
	cmd.Stderr = log
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have exited
		_ = cmd.Wait()
	})
	listens := regexp.MustCompile(`msg=Serving .* on=([0-9.:]+)`)
	within(ts, "the agent listens:\n"+log.String(), func() bool {
		found := listens.FindStringSubmatch(log.String())
		if found != nil {
			ts.Setenv("URL", "http://"+found[1])
		}
		return found != nil
	})
}

func atPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: atport FILE…")
	}
	url := ts.Getenv("URL")
	for _, name := range args {
		text := strings.ReplaceAll(ts.ReadFile(name), ":9091", url[strings.LastIndexByte(url, ':'):])
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN PROGRAM ARG…")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	within(ts, args[0], func() bool {
		_ = ts.Exec(args[1], args[2:]...) // only its output matters
		return want.MatchString(ts.ReadFile("stdout"))
	})
}

func within(ts *testscript.TestScript, what string, holds func() bool) {
	for deadline := time.Now().Add(agenttest.Timeout); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("waited %v in vain until %s", agenttest.Timeout, what)
		}
	}
}

func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARG…")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if args[0] != strconv.Itoa(got) {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

func wantEntries(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: entries DIR NAME…")
	}
	// An agent may have a temporary file there for a moment.
	for deadline := time.Now().Add(agenttest.Timeout); ; time.Sleep(20 * time.Millisecond) {
		list, err := os.ReadDir(ts.MkAbs(args[0]))
		ts.Check(err)
		got := []string{}
		for _, e := range list {
			if e.Name() != ".promspool.lock" {
				got = append(got, e.Name())
			}
		}
		if slices.Equal(got, args[1:]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s holds %q, want %q", args[0], got, args[1:])
		}
	}
}

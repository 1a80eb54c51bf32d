package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// actedUpon returns the characters that a terminal interprets.
func actedUpon() (all []rune) {
	for _, r := range [][2]rune{{0, 0x1f}, {0x7f, 0x9f}, {0x61c, 0x61c}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2066, 0x206f}} {
		for c := r[0]; c <= r[1]; c++ {
			all = append(all, c)
		}
	}
	return all
}

// All commands run on a spool with such characters in every possible place: in the
// names of files, groups, families and labels, in values, texts, invalid lines and
// arguments.
func TestOutputHasNothingThatATerminalActsUpon(t *testing.T) {
	t.Cleanup(agenttest.UnignoreSignals) // some commands ignore them while they write
	spool := t.TempDir()
	bad := map[rune]bool{}
	var evil, jobs []string
	for part := range slices.Chunk(actedUpon(), 10) {
		value := "a"
		for _, r := range part {
			if bad[r] = r != '\n' && r != '\t'; r != 0 { // labels cannot contain NUL
				value += string(r) + "b"
			}
		}
		evil = append(evil, value)
	}
	var out, errs strings.Builder
	runs := func(stdin string, args ...string) (stdout string, status int) {
		t.Helper()
		out.Reset()
		errs.Reset()
		status = run(append([]string{"--spool.directory=" + spool}, args...), strings.NewReader(stdin), &out, &errs)
		for name, text := range map[string]string{"output": out.String(), "errors": errs.String()} {
			for line := range strings.Lines(text) {
				if i := strings.IndexFunc(line, func(r rune) bool { return bad[r] }); i >= 0 || !utf8.ValidString(line) {
					t.Errorf("%q has in its %s %q at %d", args, name, line, i)
					break
				}
			}
		}
		return out.String(), status
	}
	must := func(stdin string, args ...string) string {
		t.Helper()
		out, status := runs(stdin, args...)
		if status != exitDone {
			t.Fatalf("%q: exit status %d, %s", args, status, errs.String())
		}
		return out
	}
	quote := strings.NewReplacer("\n", `\n`).Replace // as in the text format
	for i, value := range evil {
		job := fmt.Sprintf("{job=%q}", value)
		jobs = append(jobs, job)
		must(fmt.Sprintf("# HELP helped_%d %s\n# TYPE helped_%d gauge\nhelped_%d{l=\"%s\"} 1\n{\"%s_%d\",\"%s\"=\"%s\"} 1\n", i, quote(value), i, i, quote(value), quote(value), i, quote(value), quote(value)),
			"push", "--push.enable-utf8-names", job)
		for _, name := range []string{value + ".prom", value + "\xff.prom"} {
			text := fmt.Sprintf("# HELP dropped_%d %s\xc3\xa9\ndropped_%d %s\n# promspool:ttl %s\n", i, value, i, value, value)
			if err := os.WriteFile(filepath.Join(spool, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}

	for i, job := range jobs {
		value := evil[i]
		must("", "show", job)
		if doc := must("", "show", "--json", job); !json.Valid([]byte(doc)) {
			t.Errorf("show --json of %q is no JSON", job)
		} else {
			var got struct {
				File struct {
					Labels map[string]string `json:"labels"`
				} `json:"file"`
				Content string `json:"content"`
			}
			if err := json.Unmarshal([]byte(doc), &got); err != nil || got.File.Labels["job"] != value {
				t.Errorf("show --json of %q has the labels %q, %v", job, got.File.Labels, err)
			}
			data, err := os.ReadFile(filepath.Join(spool, nameOfFile(t, doc)))
			if err != nil || got.Content != string(data) {
				t.Errorf("show --json of %q has the content %q, want %q, %v", job, got.Content, data, err)
			}
		}
		runs("", "show", value)
		runs("", "show", value+".prom")
		runs("", "show", "--json", value+".prom")
		runs("m 1\n", "explain", job)
		runs("m 1\n", "explain", "--json", job)
		runs("m "+value+"\n", "push", job)
		runs("m 1\n", "push", value)
		runs("m "+value+"\n", "write", "x")
		runs("m 1\n", "write", value)
		runs("", "rm", value)
		runs("", "rm", "--match="+job, "--older-than=1s")
		runs("", "rm", "--match="+job, "--json")
		runs("", "ls", "--match="+value)
		runs("", "restore", value)
		runs("", "job", "forget", value)
		runs("", "job", "declare", value)
		runs("", "job", "declare", value, "--label=a="+value)
		runs("", "job", "declare", "x", "--label="+value+"=a")
		runs("", "health", "--url="+value)
		runs("", "health", "--url=unix:/"+value)
		runs("", "check", value)
		runs("", "--"+value)
		runs("", value)
		runs("", "ls", "--sort="+value)
	}
	for _, args := range [][]string{
		{"ls"},
		{"ls", "--json"},
		{"check"},
		{"check", "--json"},
		{"check", "--node-exporter"},
		{"expire", "--dry-run"},
		{"expire"},
		{"restore"},
		{"doctor", "--url=http://127.0.0.1:1", "--prometheus.config=none", "--node-exporter.defaults=none"},
		{"doctor", "--json", "--url=http://127.0.0.1:1", "--prometheus.config=none", "--node-exporter.defaults=none"},
		{"rm", `--match=job!=""`},
		{"rm", "--json", `--match=job!=""`, "--yes"},
		{"migrate", "--from=http://127.0.0.1:1"},
		{"--help-long"},
		{"--version"},
	} {
		out, _ := runs("", args...)
		if slices.Contains(args, "--json") && !json.Valid([]byte(out)) {
			t.Errorf("%q prints no JSON: %.200q", args, out)
		}
	}
}

func nameOfFile(t *testing.T, doc string) string {
	t.Helper()
	var got struct {
		File struct {
			Name string `json:"name"`
		} `json:"file"`
	}
	if err := json.Unmarshal([]byte(doc), &got); err != nil {
		t.Fatal(err)
	}
	return got.File.Name
}

// Other characters are printed unchanged.
func TestPlainTextKeepsTheRest(t *testing.T) {
	var b strings.Builder
	text := "a\tb\n é 漢 👩‍💻 a\u00a0b \ufffd"
	if n, err := (plainText{&b}).Write([]byte(text)); err != nil || n != len(text) || b.String() != text {
		t.Errorf("%q became %q, %d, %v", text, b.String(), n, err)
	}
}

// A second writer would bypass the escaping.
func TestCommandsPrintThroughOneWriter(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	runs, err := filepath.Glob("internal/jobrun/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(sources, runs...) {
		if strings.HasSuffix(name, "_test.go") || name == "main.go" || name == "internal/jobrun/command.go" { // the command that run starts inherits our output
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range []string{"os.Stdout", "os.Stderr", "fmt.Print(", "fmt.Println(", "fmt.Printf("} {
			if strings.Contains(string(text), way) {
				t.Errorf("%s uses %s", name, way)
			}
		}
	}
}

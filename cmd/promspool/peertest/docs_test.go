package peertest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestDocs executes README.md and the documents in docs/. A document with this line
// is skipped:
//
//	<!-- test: none WHY -->
//
// Each document is executed from top to bottom, in its own directory, with an agent
// whose spool is the directory "spool", empty at first. The language of a fenced
// block decides how it is tested:
//
//	sh, bash   run as one script, which must exit with 0; the first command that
//	           fails ends it. Its output is ignored.
//	console    a dialogue: lines that begin with "$ " are commands, following
//	           lines that begin with "> " continue them, and the other lines are
//	           the output, stdout and stderr. Each command must succeed. A "…"
//	           matches any text within a line, a line "…" any lines.
//	python     run as one script, by Debian's Python
//	yaml       checked by promtool if it has scrape_configs: or groups: at the
//	           beginning of a line
//	others     not tested; a fence without a language is an error
//
// The commands run like those of a reader on a host with promspool installed:
//
//   - "promspool" is the program under test and PROMSPOOL_SPOOL_DIRECTORY is set. The
//     directory "bin" comes first in PATH, for stand-ins of the reader's programs;
//   - localhost:9091 is the agent and /var/lib/promspool/spool its spool, in the
//     commands and in the output; /run/promspool is the directory;
//   - curl fails silently if the status is 400 or higher;
//   - variables and "cd" last for one block; background processes are killed at the
//     end of the document.
//
// Comments, which are invisible in print, control the test. These apply to the next
// block and can be combined, one per line:
//
//	<!-- test: retry -->           retry until it succeeds, for up to 2 min: for
//	                               delayed effects, such as of dropped files
//	<!-- test: fails -->           the script, or the last command, must fail
//	<!-- test: needs curl cron --> skip it if these programs are missing
//	<!-- test: file NAME -->       write it to a file instead of running it
//	<!-- test: skip WHY -->        it cannot run here
//
// These are executed in place:
//
//	<!-- test: agent --flag … -->  restart the agent with these flags
//	<!-- test: sh                  run commands that the reader need not see,
//	mkdir -p bin                   such as those that create a stand-in
//	-->
func TestDocs(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	paths, err := filepath.Glob(agenttest.Repository + "/docs/*.md")
	agenttest.NoError(t, err)
	for _, path := range append(paths, agenttest.Repository+"/README.md") {
		text, err := os.ReadFile(path)
		agenttest.NoError(t, err)
		blocks, errs := parseDocument(string(text))
		if slices.ContainsFunc(blocks, func(b docBlock) bool { return b.kind == "none" }) {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			for _, err := range errs {
				t.Error(err)
			}
			r := newReader(t)
			for _, b := range blocks {
				if !t.Run(fmt.Sprintf("line_%d", b.line), func(t *testing.T) { r.follow(t, b) }) {
					break // later blocks may depend on it
				}
			}
		})
	}
}

// A docBlock is a fenced block, or a comment that is executed in place.
type docBlock struct {
	line  int
	kind  string // the language, or the first word of the comment
	args  string // the other words of the comment
	text  string
	notes map[string]string // of the comments before it
}

var (
	docComment = regexp.MustCompile(`^<!-- test: (\w+)(?: +(.*?))?(?: *-->)?$`)
	docFence   = regexp.MustCompile("^( *)(```+)([a-z]*)$")
)

// parseDocument returns the blocks of a document.
func parseDocument(text string) (blocks []docBlock, errs []error) {
	notes := map[string]string{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		complain := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("line %d: "+format, append([]any{i + 1}, args...)...))
		}
		if strings.HasPrefix(strings.TrimSpace(lines[i]), "<!-- test:") {
			m := docComment.FindStringSubmatch(lines[i])
			if m == nil {
				complain("cannot be understood: %s", lines[i])
				continue
			}
			b := docBlock{line: i + 1, kind: m[1], args: m[2]}
			switch b.kind {
			case "run", "none", "agent":
				if b.kind == "none" && b.args == "" {
					complain("none says why")
				}
				blocks = append(blocks, b) // run is the default
			case "sh":
				for i++; i < len(lines) && lines[i] != "-->"; i++ {
					b.text += lines[i] + "\n"
				}
				blocks = append(blocks, b)
			case "skip", "retry", "fails", "needs", "file":
				if wants := b.kind != "retry" && b.kind != "fails"; wants != (b.args != "") {
					complain("%s has the argument %q", b.kind, b.args)
				}
				notes[b.kind] = b.args
			default:
				complain("there is no %q", b.kind)
			}
			continue
		}
		m := docFence.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		indent, fence := m[1], m[2]
		b := docBlock{line: i + 1, kind: m[3], notes: notes}
		notes = map[string]string{}
		if b.kind == "" {
			complain("a block without a language; if there is none for it, text")
		}
		for i++; i < len(lines) && lines[i] != indent+fence; i++ {
			b.text += strings.TrimPrefix(lines[i], indent) + "\n"
		}
		blocks = append(blocks, b)
	}
	if len(notes) > 0 {
		errs = append(errs, fmt.Errorf("no block comes after the last of %v", notes))
	}
	return blocks, errs
}

// TestDocsNoticesWhatIsWrong runs wrong documents, which must fail.
func TestDocsNoticesWhatIsWrong(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	r := newReader(t)
	for name, c := range map[string]struct {
		kind, text string
		fails      bool
		want       string // part of the error; "" for success
	}{
		"script":                 {"sh", "echo 'a 1' | curl --data-binary @- http://localhost:9091/metrics/job/a\ntest -e /var/lib/promspool/spool/job=a.prom\ntest -e spool/job=a.prom\n", false, ""},
		"script fails early":     {"sh", "false\ntrue\n", false, "status 1"},
		"script ought to fail":   {"sh", "true\n", true, "status 0"},
		"refused by the agent":   {"sh", "echo 'a b' | curl --data-binary @- http://localhost:9091/metrics/job/b\n", false, "not a number"},
		"python":                 {"python", "raise SystemExit(3)\n", false, "status 3"},
		"dialogue":               {"console", "$ echo 1\n1\n$ printf '2 and %s' \\\n> three\n2 and …\n$ seq 9\n1\n…\n9\n$ echo $PROMSPOOL_SPOOL_DIRECTORY\n/var/lib/promspool/spool\n", false, ""},
		"dialogue with variable": {"console", "$ a=1\n$ echo $a\n1\n", false, ""},
		"other output":           {"console", "$ echo 1\n2\n", false, "want\n2"},
		"more output":            {"console", "$ seq 2\n1\n", false, "want\n1"},
		"less output":            {"console", "$ true\n1\n", false, "want\n1"},
		"command fails":          {"console", "$ false\n$ true\n", false, "status 1"},
		"last fails":             {"console", "$ true\n$ false\n", true, ""},
		"only the last may fail": {"console", "$ false\n$ false\n", true, "status 1"},
		"no command":             {"console", "1\n", false, "want a command"},
		"shell ends":             {"console", "$ exit 0\n$ true\n", false, "ends the shell"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			switch c.kind {
			case "console":
				err = r.dialogue(c.text, c.fails)
			case "python":
				err = r.script(needPython(t), c.text, c.fails)
			default:
				err = r.script(c.kind, c.text, c.fails)
			}
			if c.want == "" && err != nil {
				t.Errorf("complains: %v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("complains of %v, want %q", err, c.want)
			}
		})
	}
	for _, text := range []string{"```\nx\n```\n", "<!-- test: skip -->\n```sh\n```\n", "<!-- test: retry 3 -->\n```sh\n```\n", "<!-- test: foo -->\n", "<!-- test: fails -->\n", "<!-- test: none -->\n", "<!-- test: file -->\n```ini\n```\n"} {
		if _, errs := parseDocument(text); len(errs) == 0 {
			t.Errorf("nothing is found wrong with\n%s", text)
		}
	}
	blocks, errs := parseDocument("<!-- test: sh\na\nb\n-->\n- x\n\n  ```sh\n  c\n    d\n  ```\n\n    no block\n<!-- test: agent --x --y -->\n<!-- test: needs a b -->\n<!-- test: retry -->\n```text\n```\n")
	want := []docBlock{
		{line: 1, kind: "sh", text: "a\nb\n"},
		{line: 7, kind: "sh", text: "c\n  d\n"},
		{line: 13, kind: "agent", args: "--x --y"},
		{line: 16, kind: "text"},
	}
	if len(errs) > 0 || !slices.EqualFunc(blocks, want, func(a, b docBlock) bool {
		return a.line == b.line && a.kind == b.kind && a.text == b.text && a.args == b.args
	}) {
		t.Errorf("found %+v with %v, want %+v", blocks, errs, want)
	}
	if n := blocks[len(blocks)-1].notes; n["needs"] != "a b" || len(n) != 2 {
		t.Errorf("the last block has the notes %v", n)
	}
}

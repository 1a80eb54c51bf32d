package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestEachCommandIsExplained looks for examples in the help of each command and
// for a word about it in the document of the commands, where they are tried.
func TestEachCommandIsExplained(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(agenttest.Repository + "/docs/commands.md")
	agenttest.NoError(t, err)
	names := strings.Fields(agenttest.Command{Name: agenttest.Promspool, Args: []string{"--completion-bash"}}.Must(t))
	if len(names) < 10 || !slices.Contains(names, "push") {
		t.Fatalf("the commands are %q", names)
	}
	for _, name := range names {
		if name == "help" {
			continue
		}
		if !strings.Contains(string(doc), "promspool "+name) {
			t.Errorf("docs/commands.md does not mention promspool %s", name)
		}
		ways := []string{name}
		if more := strings.Fields(agenttest.Command{Name: agenttest.Promspool, Args: []string{"--completion-bash", name}}.Must(t)); len(more) > 0 && !strings.HasPrefix(more[0], "-") {
			ways = nil
			for _, m := range more {
				ways = append(ways, name+" "+m)
			}
		}
		for _, way := range ways {
			help := agenttest.Command{Name: agenttest.Promspool, Args: append(strings.Fields(way), "--help")}.Must(t)
			if way != "serve" && !strings.Contains(help, "\nExample") {
				t.Errorf("promspool %s --help has no example:\n%s", way, help)
			}
		}
	}
}

// TestDocsLinks follows the links to files of the repository and to headings in them.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	var paths []string
	for _, pattern := range []string{"/*.md", "/docs/*.md", "/examples/*.md", "/examples/*/*.md"} {
		found, err := filepath.Glob(agenttest.Repository + pattern)
		agenttest.NoError(t, err)
		paths = append(paths, found...)
	}
	linked := map[string]bool{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		agenttest.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^):]*?)(?:#([^)]*))?\)`).FindAllStringSubmatch(string(text), -1) {
			target := path
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(path), link[1])
			}
			linked[target] = true
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, link[1], err)
			} else if link[2] != "" && !slices.Contains(anchors(t, target), link[2]) {
				t.Errorf("%s links to %s#%s: there are the headings %q", path, link[1], link[2], anchors(t, target))
			}
		}
	}
	pages, err := filepath.Glob(agenttest.Repository + "/docs/*.md")
	agenttest.NoError(t, err)
	for _, page := range pages {
		if !linked[page] {
			t.Errorf("no document links to %s", page)
		}
	}
}

// anchors returns the names that GitHub gives the headings of a document.
func anchors(t *testing.T, path string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	agenttest.NoError(t, err)
	fenced := false
	for line := range strings.Lines(string(text)) {
		heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if ok && !fenced && strings.HasPrefix(line, "#") {
			name := strings.ToLower(strings.TrimSpace(heading))
			name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
			names = append(names, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return names
}

// TestDocsNameFlagsThatExist looks for all that the documents have of the agent's
// flags in its help.
func TestDocsNameFlagsThatExist(t *testing.T) {
	t.Parallel()
	help := agenttest.Command{Name: agenttest.Promspool, Args: []string{"help", "serve"}}.Must(t)
	paths, err := filepath.Glob(agenttest.Repository + "/docs/*.md")
	agenttest.NoError(t, err)
	flag := regexp.MustCompile(`--(?:web|push|spool|job|ping)\.[a-z0-9.-]*[a-z0-9]`)
	for _, path := range append(paths, agenttest.Repository+"/README.md") {
		text, err := os.ReadFile(path)
		agenttest.NoError(t, err)
		for _, name := range flag.FindAllString(string(text), -1) {
			if !regexp.MustCompile(regexp.QuoteMeta(name) + `[\s=]`).MatchString(strings.ReplaceAll(help, "[no-]", "")) {
				t.Errorf("%s names the flag %s, which is not in the help", filepath.Base(path), name)
			}
		}
	}
}

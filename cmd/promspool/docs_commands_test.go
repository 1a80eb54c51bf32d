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

// TestDocsLinkToWhatIsThere follows the links to files of the repository.
func TestDocsLinkToWhatIsThere(t *testing.T) {
	t.Parallel()
	var paths []string
	for _, pattern := range []string{"/*.md", "/docs/*.md", "/examples/*.md", "/examples/*/*.md"} {
		found, err := filepath.Glob(agenttest.Repository + pattern)
		agenttest.NoError(t, err)
		paths = append(paths, found...)
	}
	links := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		agenttest.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), link[1])); err != nil {
				t.Errorf("%s has a link to %s: %v", path, link[1], err)
			}
		}
	}
	if links == 0 {
		t.Error("no links were found")
	}
}

// TestDocsNameFlagsThatExist looks for all that the documents have of the agent's
// flags in its help.
func TestDocsNameFlagsThatExist(t *testing.T) {
	t.Parallel()
	help := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--help"}}.Must(t)
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

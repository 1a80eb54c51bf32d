package main_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestEachCommandIsExplained looks for examples in the help of each command and
// for a word about it in the document of the commands, where they are tried.
func TestEachCommandIsExplained(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(repository + "/docs/commands.md")
	done(t, err)
	names := strings.Fields(command{name: promspool, args: []string{"--completion-bash"}}.must(t))
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
		if more := strings.Fields(command{name: promspool, args: []string{"--completion-bash", name}}.must(t)); len(more) > 0 && !strings.HasPrefix(more[0], "-") {
			ways = nil
			for _, m := range more {
				ways = append(ways, name+" "+m)
			}
		}
		for _, way := range ways {
			help := command{name: promspool, args: append(strings.Fields(way), "--help")}.must(t)
			if way != "serve" && !strings.Contains(help, "\nExample") {
				t.Errorf("promspool %s --help has no example:\n%s", way, help)
			}
		}
	}
}

package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/promspool/promspool"

// arrows are the imports that packages of this module may have of each other.
// Unlisted packages may have none.
var arrows = map[string][]string{
	"cmd/promspool": {"cmd/promspool/internal/agents", "cmd/promspool/internal/jobrun", "cmd/promspool/internal/listen", "exporter", "filestore", "filestore/exposition", "filestore/grouping", "filestore/jobstate", "filestore/merge", "filestore/record", "filestore/wording", "ingest", "ingest/job", "systemd", "watcher"},
	// No flags: running jobs could be a program of its own.
	"cmd/promspool/internal/jobrun": {"filestore", "filestore/exposition", "filestore/grouping", "filestore/merge", "filestore/record", "filestore/wording", "ingest", "ingest/job"},
	// No knowledge of the metrics served.
	"cmd/promspool/internal/listen": {},

	// The exporter only sees values, never the Store.
	"exporter":   {"filestore/exposition", "filestore/grouping", "filestore/jobstate", "filestore/merge", "filestore/record", "filestore/wording"},
	"ingest":     {"filestore", "filestore/exposition", "filestore/grouping", "filestore/record", "filestore/wording", "ingest/job"},
	"ingest/job": {"filestore", "filestore/exposition", "filestore/grouping", "filestore/jobstate", "filestore/record"},

	"filestore":              {"filestore/disk", "filestore/exposition", "filestore/grouping", "filestore/merge", "filestore/nodeexporter", "filestore/record"},
	"filestore/merge":        {"filestore/exposition", "filestore/grouping", "filestore/record"},
	"filestore/record":       {"filestore/exposition", "filestore/grouping"},
	"filestore/grouping":     {"filestore/exposition"},
	"filestore/nodeexporter": {"filestore/exposition"},
}

// homes lists the packages that may import a dependency, including the packages
// below them. A dependency with one home can be replaced there.
var homes = map[string][]string{
	"github.com/google/renameio":          {"filestore/disk"},
	"github.com/fsnotify/fsnotify":        {"watcher"},
	"github.com/prometheus/common/expfmt": {"exporter", "filestore/exposition", "filestore/nodeexporter", "ingest"},
	"github.com/alecthomas/kingpin":       {"cmd/promspool"},
	"github.com/mdlayher/vsock":           {"cmd/promspool/internal/listen"},
}

// TestImports compares the imports with the map of packages in DESIGN.md. It checks
// each operating system, as files for one of them could hide an import.
func TestImports(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "freebsd"} {
		t.Run(system, func(t *testing.T) {
			cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", module+"/...")
			cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			packages := 0
			for list := json.NewDecoder(strings.NewReader(string(out))); ; packages++ {
				var pkg struct {
					ImportPath string
					Imports    []string
				}
				if err := list.Decode(&pkg); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("go list: %v", err)
				}
				from := strings.TrimPrefix(pkg.ImportPath, module+"/")
				for _, to := range pkg.Imports {
					checkImport(t, from, to)
				}
			}
			if packages == 0 {
				t.Error("go list found no packages")
			}
		})
	}
}

func checkImport(t *testing.T, from, to string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(to, module+"/"); ok && !slices.Contains(arrows[from], ours) {
		t.Errorf("%s imports %s, may import of this module only %q", from, ours, arrows[from])
	}
	for dependency, home := range homes {
		if strings.HasPrefix(to+"/", dependency+"/") && !slices.Contains(home, from) {
			t.Errorf("%s imports %s, which only %q may do", from, to, home)
		}
	}
}

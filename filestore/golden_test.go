package filestore_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
)

var update = flag.Bool("update", false, "write the results to the golden files")

// TestGoldenMerges compares merges with golden files. Each archive has files and, as
// "served", the exposition, the samples in the agent's own families, and the conflicts.
func TestGoldenMerges(t *testing.T) {
	names, err := filepath.Glob("testdata/merge/*.txtar")
	must(t, err)
	if len(names) == 0 {
		t.Fatal("no golden files")
	}
	own := map[string]merge.Own{"go_goroutines": {Type: exposition.Gauge}}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			must(t, err)
			files, want := map[string][]byte{}, ""
			for _, f := range archive.Files {
				if f.Name == "served" {
					want = string(f.Data)
				} else {
					files[f.Name] = f.Data
				}
			}
			v := merge.Merge(own, files)
			got := string(v.AppendTo(nil))
			for _, name := range v.Beside() {
				got += "agent's own " + name + ":\n" + string(v.AppendBeside(nil, name))
			}
			for _, c := range v.Conflicts() {
				got += c.File + ": " + string(c.Reason) + ": " + c.Error() + "\n"
			}
			if *update {
				kept := archive.Files[:0]
				for _, f := range archive.Files {
					if f.Name != "served" {
						kept = append(kept, f)
					}
				}
				archive.Files = append(kept, txtar.File{Name: "served", Data: []byte(got)})
				must(t, os.WriteFile(name, txtar.Format(archive), 0o644))
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("served (-want +got):\n%s", diff)
			}
		})
	}
}

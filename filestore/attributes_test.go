package filestore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore/record"
)

// What a later version has written about a group stays, whatever this one does
// to the group's file.
func TestUnknownAttributesStay(t *testing.T) {
	dir := t.TempDir()
	g := group(t, "job", "j")
	path := filepath.Join(dir, g.FileName())
	const lines = "# promspool:future a \\\\ b\n# promspool:zone\n# promspool:zone 2\n"
	must(t, os.WriteFile(path, []byte("# promspool:group {job=\"j\"}\n# promspool:zone\n# promspool:future a \\\\ b\n# TYPE m gauge\nm 1\n# promspool:zone 2\n"), 0o644))
	s := open(t, dir, nil)
	check := func(what string) {
		t.Helper()
		data, err := os.ReadFile(path)
		must(t, err)
		if want := "# promspool:group {job=\"j\"}\n" + lines + "# "; !strings.HasPrefix(string(data), want) {
			t.Errorf("%s: the file is\n%s\nwant it to begin with\n%s", what, data, want)
		}
	}
	must(t, s.Fail(g))
	check("a failure")
	must(t, s.Update(g, families(t, "# TYPE n gauge\nn 1\n"), record.PushOptions{}))
	check("POST")
	must(t, s.Replace(g, families(t, "# TYPE n gauge\nn 1\n"), record.PushOptions{}))
	check("PUT")
}

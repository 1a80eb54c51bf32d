package filestore_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

// TestDryRun pushes without writing. Rejected pushes leave no record either.
func TestDryRun(t *testing.T) {
	s := open(t, t.TempDir(), &filestore.Options{MaxGroups: 2})
	a, b := group(t, "job", "a"), group(t, "job", "b")
	must(t, s.Replace(a, families(t, "kept 1\nm 1\n"), record.PushOptions{}))
	must(t, s.Replace(b, families(t, "m 2\n"), record.PushOptions{}))
	before, err := os.ReadFile(s.Path() + "/" + a.FileName())
	must(t, err)
	dry := record.PushOptions{DryRun: true}

	must(t, s.Update(a, families(t, "m 2\nnew 3\n"), dry))
	if text := string(s.View().AppendTo(nil)); !strings.Contains(text, `kept{job="a"} 1`) || !strings.Contains(text, `m{job="a"} 2`) || !strings.Contains(text, `new{job="a"} 3`) {
		t.Errorf("the view does not have the push:\n%s", text)
	}
	var conflict *record.Conflict
	if err := s.Replace(b, families(t, "# TYPE kept counter\nkept 1\n"), dry); !errors.As(err, &conflict) || conflict.Kept != a.FileName() {
		t.Errorf("a conflicting push: %v", err)
	}
	if err := s.Replace(group(t, "job", "c"), families(t, "m 2\n"), dry); !errors.Is(err, filestore.ErrFull) {
		t.Errorf("a push without room: %v", err)
	}
	if got := entries(t, s.Path()); !slices.Equal(got, []string{a.FileName(), b.FileName()}) {
		t.Errorf("the spool has %q", got)
	}
	after, err := os.ReadFile(s.Path() + "/" + a.FileName())
	must(t, err)
	if string(after) != string(before) {
		t.Errorf("the file has changed to\n%s", after)
	}
}

package filestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/record"
)

func TestOwners(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	ann, bob := &record.Writer{UID: 1001, Known: true}, &record.Writer{UID: 1002, Known: true}
	root, unknown := &record.Writer{UID: 0, Known: true, Admin: true}, &record.Writer{}
	put := func(job string, w *record.Writer) error {
		return s.Replace(group(t, "job", job), families(t, "m 1\n"), record.PushOptions{By: w})
	}
	post := func(job string, w *record.Writer) error {
		return s.Update(group(t, "job", job), families(t, "n 1\n"), record.PushOptions{By: w})
	}
	remove := func(job string, w *record.Writer) error { return s.DeleteAs(group(t, "job", job), w) }
	file := func(job string) string {
		b, err := os.ReadFile(filepath.Join(dir, group(t, "job", job).FileName()))
		must(t, err)
		return string(b)
	}
	must(t, put("a", ann))
	before := file("a")
	if !strings.Contains(before, "\n# promspool:owner 1001\n") {
		t.Errorf("the file is\n%s", before)
	}
	for _, w := range []*record.Writer{bob, unknown} {
		for what, err := range map[string]error{"PUT": put("a", w), "POST": post("a", w), "DELETE": remove("a", w), "MayChange": s.MayChange(group(t, "job", "a"), w)} {
			if !errors.Is(err, record.ErrNotOwner) || !strings.Contains(err.Error(), "1001") {
				t.Errorf("%s by %v gives %v", what, w, err)
			}
		}
	}
	if after := file("a"); after != before {
		t.Errorf("rejected changes have changed the file to\n%s", after)
	}
	must(t, post("a", ann))
	must(t, put("a", root))
	must(t, s.Fail(group(t, "job", "a")))
	must(t, filestore.SettleHelp(s))
	must(t, put("a", ann)) // still the owner
	must(t, put("a", nil)) // without a check the owner stays
	if err := put("a", bob); !errors.Is(err, record.ErrNotOwner) {
		t.Errorf("PUT by another user after that gives %v", err)
	}

	// The next known user who pushes becomes the owner of a group without one.
	must(t, put("b", unknown))
	must(t, post("b", unknown))
	must(t, post("b", bob))
	if err := post("b", unknown); !errors.Is(err, record.ErrNotOwner) {
		t.Errorf("POST by an unknown user to a group with an owner gives %v", err)
	}
	must(t, remove("b", bob))
	must(t, put("b", ann)) // a new group

	// The owner of an invalid file is unknown.
	must(t, os.WriteFile(filepath.Join(dir, "job=c.prom"), []byte("broken"), 0o644))
	rescan(t, s)
	for what, err := range map[string]error{"PUT": put("c", ann), "POST": post("c", ann), "MayChange": s.MayChange(group(t, "job", "c"), ann)} {
		if !errors.Is(err, record.ErrNotOwner) {
			t.Errorf("%s to an invalid file gives %v", what, err)
		}
	}
	must(t, put("c", root))

	// An owner line without a user ID gives the group to no user.
	must(t, os.WriteFile(filepath.Join(dir, "job=d.prom"), []byte("# promspool:group {job=\"d\"}\n# promspool:owner ann\n# TYPE m gauge\nm{job=\"d\"} 1\n"), 0o644))
	rescan(t, s)
	if err := put("d", ann); !errors.Is(err, record.ErrNotOwner) {
		t.Errorf("PUT to a group of no user gives %v", err)
	}
}

// TestOwnerOfWrittenFile writes a group's file with an owner line that names another
// user. The owner of the file wins, except for files of root.
func TestOwnerOfWrittenFile(t *testing.T) {
	needRoot(t, "becomes other users")
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o775))
	path := filepath.Join(dir, "job=a.prom")
	must(t, os.WriteFile(path, []byte("# promspool:group {job=\"a\"}\n# promspool:owner 4002\n# TYPE m gauge\nm{job=\"a\"} 1\n"), 0o644))
	must(t, os.Chown(path, mallory, mallory))
	s, err := filestore.Open(dir, &filestore.Options{Hold: 1})
	must(t, err)
	defer s.Close()
	g := group(t, "job", "a")
	owner := func() uint32 {
		uid, _ := s.View().File(g.FileName()).Owner()
		return uid
	}
	if got := owner(); got != mallory {
		t.Errorf("the owner is %d, want %d", got, mallory)
	}
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{By: &record.Writer{Admin: true}}))
	if got := owner(); got != mallory {
		t.Errorf("after a push by an administrator the owner is %d, want %d", got, mallory)
	}
	must(t, os.WriteFile(path, []byte("# promspool:group {job=\"a\"}\n# promspool:owner 4002\n# TYPE m gauge\nm{job=\"a\"} 1\n"), 0o644))
	rescan(t, s)
	if got := owner(); got != alice {
		t.Errorf("the owner of a file of root is %d, want %d", got, alice)
	}
	must(t, os.Chown(path, mallory, mallory))
	rescan(t, s)
	if got := owner(); got != mallory {
		t.Errorf("after chown the owner is %d, want %d", got, mallory)
	}
}

package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// The users of these tests. The agent is root. Users mallory and alice may write files to
// the spool, which is sticky.
const mallory, alice = 4001, 4002

// hostile makes a spool with the mode of /tmp, and another directory with a file that
// only root may read and a subdirectory of mallory.
func hostile(t *testing.T) (spool, outside string) {
	t.Helper()
	needRoot(t, "becomes other users")
	top := t.TempDir()
	spool, outside = filepath.Join(top, "spool"), filepath.Join(top, "outside")
	for _, dir := range []string{spool, outside, filepath.Join(outside, "mallory")} {
		must(t, os.Mkdir(dir, 0o755))
	}
	must(t, os.Chmod(filepath.Dir(top), 0o755))
	must(t, os.Chmod(top, 0o755))
	must(t, os.Chmod(spool, 0o777|fs.ModeSticky))
	must(t, os.Chown(filepath.Join(outside, "mallory"), mallory, mallory))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret_metric 1\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(outside, "shadow"), []byte("root:secret-hash:1\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(outside, "alice"), []byte("of_alice 1\n"), 0o644))
	must(t, os.Chown(filepath.Join(outside, "alice"), alice, alice))
	return spool, outside
}

// wantReason checks the reason that is reported for a file; empty for none.
func wantReason(t *testing.T, s *filestore.Store, name string, reason exposition.Reason) {
	t.Helper()
	f := s.View().File(name)
	if f == nil {
		t.Errorf("%s is not in the view", name)
		return
	}
	p := f.Problem()
	switch {
	case p == nil && reason != "":
		t.Errorf("no problem with %s, want %s", name, reason)
	case p != nil && p.Reason != reason:
		t.Errorf("%s: %v (%s), want %q", name, p, p.Reason, reason)
	case p != nil && strings.Contains(p.Error(), "secret_metric") || p != nil && strings.Contains(p.Error(), "hash"):
		t.Errorf("the message has the secret: %v", p)
	}
}

func TestLinks(t *testing.T) {
	spool, outside := hostile(t)
	link := func(uid int, target, path string) {
		as(uid, uid, func() { must(t, os.Symlink(target, path)) })
	}
	must(t, os.Mkdir(filepath.Join(outside, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "sub", "secret"), []byte("secret_metric 1\n"), 0o600))
	must(t, unix.Mkfifo(filepath.Join(outside, "pipe"), 0o666))
	as(mallory, mallory, func() {
		must(t, os.WriteFile(filepath.Join(outside, "mallory", "own"), []byte("of_mallory 1\n"), 0o600))
	})
	link(mallory, outside+"/secret", outside+"/mallory/chain")
	link(mallory, outside+"/sub", outside+"/mallory/dir")
	link(mallory, "loop", outside+"/mallory/loop")
	link(0, "../alice", outside+"/sub/alice")
	for name, x := range map[string]struct {
		uid    int
		target string
		want   exposition.Reason
	}{
		"to-secret":        {mallory, outside + "/secret", exposition.Unreadable},
		"to-shadow":        {mallory, outside + "/shadow", exposition.Unreadable},
		"to-secret-dotdot": {mallory, "../outside/secret", exposition.Unreadable},
		"by-root":          {0, outside + "/secret", ""},
		"chain-by-root":    {0, outside + "/mallory/chain", exposition.Unreadable},
		"dir-by-root":      {0, outside + "/mallory/dir/secret", exposition.Unreadable},
		"own":              {mallory, outside + "/mallory/own", ""},
		"of-alice":         {0, outside + "/alice", ""},
		"of-alice-dotdot":  {0, "../outside/./sub//../alice", ""},
		"of-alice-twice":   {0, outside + "/sub/alice", ""},
		"of-alice-not":     {mallory, outside + "/alice", exposition.Unreadable},
		"nowhere":          {mallory, "none", exposition.Unreadable},
		"loop":             {0, outside + "/mallory/loop", exposition.Unreadable},
		"root":             {0, "/", exposition.NotRegular},
		"dir":              {0, outside, exposition.NotRegular},
		"here":             {0, ".", exposition.NotRegular},
		"pipe":             {0, outside + "/pipe", exposition.NotRegular},
		"device":           {0, "/dev/zero", exposition.NotRegular},
	} {
		link(x.uid, x.target, filepath.Join(spool, name+".prom"))
		defer func() {
			if t.Failed() {
				t.Logf("%s is %d's link to %s", name, x.uid, x.target)
			}
		}()
		s, err := filestore.Open(spool, &filestore.Options{Hold: 1})
		must(t, err)
		wantReason(t, s, name+".prom", x.want)
		if got := string(s.View().AppendTo(nil)); strings.Contains(got, "secret_metric") != (name == "by-root") {
			t.Errorf("with %s the secret must be served for by-root only:\n%s", name, got)
		}
		must(t, s.Close())
		must(t, os.Remove(filepath.Join(spool, name+".prom")))
	}
}

func TestHardLinks(t *testing.T) {
	spool, outside := hostile(t)
	must(t, os.Link(outside+"/secret", spool+"/secret.prom")) // any user may do this if fs.protected_hardlinks is 0
	must(t, os.Link(outside+"/alice", spool+"/alice.prom"))
	s, err := filestore.Open(spool, &filestore.Options{Hold: 1})
	must(t, err)
	defer s.Close()
	wantReason(t, s, "secret.prom", exposition.Unreadable)
	wantReason(t, s, "alice.prom", "")
	must(t, os.Chmod(spool, 0o755)) // now only root can create files there
	own, err := filestore.Open(spool, &filestore.Options{Hold: 1})
	must(t, err)
	defer own.Close()
	wantReason(t, own, "secret.prom", "")
}

const planted = "# promspool:group {job=\"a\"}\n# TYPE m gauge\nm{job=\"a\"} 1\n"

// TestPlantedGroup writes a file with a group's name as an untrusted user.
func TestPlantedGroup(t *testing.T) {
	spool, _ := hostile(t)
	g := group(t, "job", "a")
	path := filepath.Join(spool, g.FileName())
	s, err := filestore.Open(spool, &filestore.Options{Hold: 1})
	must(t, err)
	defer s.Close()
	for what, put := range map[string]func() error{
		"file": func() error { return os.WriteFile(path, []byte(planted), 0o644) },
		"link": func() error {
			aside := filepath.Join(spool, "aside")
			if err := os.WriteFile(aside, []byte(planted), 0o644); err != nil {
				return err
			}
			return os.Symlink("aside", path)
		},
	} {
		as(mallory, mallory, func() { must(t, put()) })
		rescan(t, s)
		if f := s.View().File(g.FileName()); f == nil || !f.Group().IsZero() || f.Err() != nil {
			t.Fatalf("%s: the view has %+v, want a dropped file that is served", what, f)
		}
		wantReason(t, s, g.FileName(), exposition.Reserved)
		if err := s.Delete(g); (err != nil) != (what == "link") || err != nil && !strings.HasSuffix(err.Error(), `"job=a.prom" is a link: delete it`) {
			t.Errorf("%s: DELETE gives %v", what, err)
		}
		must(t, s.Wipe())
		must(t, s.Fail(g))
		if err := s.Update(g, families(t, "n 1\n"), record.PushOptions{}); err == nil || !strings.Contains(err.Error(), "not written by promspool") {
			t.Errorf("%s: POST gives %v", what, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != planted {
			t.Errorf("%s: the planted file is now %q, %v", what, b, err)
		}
		must(t, s.Replace(g, families(t, "n 1\n"), record.PushOptions{})) // allowed for root
		if f := s.View().File(g.FileName()); f.Group() != g || f.Problem() != nil {
			t.Errorf("%s: after PUT the view has %+v", what, f)
		}
		must(t, s.Delete(g))
		_ = os.Remove(filepath.Join(spool, "aside"))
	}

	// In a directory for a Unix group its members may push by writing the file.
	must(t, os.Chmod(spool, 0o775))
	must(t, os.WriteFile(path, []byte(planted), 0o644))
	must(t, os.Chown(path, mallory, mallory))
	again, err := filestore.Open(spool, &filestore.Options{Hold: 1})
	must(t, err)
	defer again.Close()
	if f := again.View().File(g.FileName()); f == nil || f.Group() != g || f.Problem() != nil {
		t.Errorf("the view has %+v, want a group", f)
	}
}

// TestStickySpoolKeepsOthersFiles pushes to a group whose file the agent may not replace,
// because it belongs to another user.
func TestStickySpoolKeepsOthersFiles(t *testing.T) {
	spool, _ := hostile(t)
	must(t, os.Chown(spool, alice, alice))
	g := group(t, "job", "a")
	as(mallory, mallory, func() { must(t, os.WriteFile(filepath.Join(spool, g.FileName()), []byte(planted), 0o644)) })
	as(4003, 4003, func() {
		s, err := filestore.Open(spool, &filestore.Options{Hold: 1})
		must(t, err)
		defer s.Close()
		err = s.Replace(g, families(t, "n 1\n"), record.PushOptions{})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is owned by another user", g.FileName())) {
			t.Errorf("PUT gives %v", err)
		}
	})
	if names := entries(t, spool); len(names) != 1 {
		t.Errorf("the spool has %q", names)
	}
}

func TestDirectoryInPlaceOfGroup(t *testing.T) {
	spool := t.TempDir()
	g := group(t, "job", "a")
	path := filepath.Join(spool, g.FileName())
	must(t, os.Mkdir(path, 0o755))
	s := open(t, spool, nil)
	if err := s.Replace(g, families(t, "m 1\n"), record.PushOptions{}); err == nil || !strings.Contains(err.Error(), `"job=a.prom" is a directory: delete it`) {
		t.Errorf("Replace = %v", err)
	}
	if err := s.Update(g, families(t, "m 1\n"), record.PushOptions{}); err == nil || err.Error() != `storing group {job="a"}: "job=a.prom" is a directory: delete it` {
		t.Errorf("Update = %v", err)
	}
	if err := s.Delete(g); err == nil || err.Error() != `deleting group {job="a"}: "job=a.prom" is a directory: delete it` {
		t.Errorf("Delete = %v", err)
	}
	must(t, os.Remove(path))
	must(t, s.Delete(g))
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{}))
	want(t, s, "m{job=\"a\"} 1\n")
}

// TestPlantedArchive expects that an archive of an untrusted user is rejected if all
// users may write the spool. Its owner could change the files.
func TestPlantedArchive(t *testing.T) {
	spool, _ := hostile(t)
	archive := filepath.Join(spool, filestore.ArchiveName)
	must(t, os.Mkdir(archive, 0o755))
	must(t, os.WriteFile(filepath.Join(archive, "job=p.prom.20200101T000000Z"), []byte("# promspool:group {job=\"p\"}\np{job=\"p\"} 1\n"), 0o644))
	s := open(t, spool, nil)
	if list, err := s.Archive(); err != nil || len(list) != 1 {
		t.Errorf("Archive = %v, %v", list, err)
	}
	must(t, os.Chown(archive, mallory, mallory))
	if list, err := s.Archive(); err == nil || !strings.Contains(err.Error(), "is owned by user 4001") {
		t.Errorf("Archive of an untrusted user = %v, %v", list, err)
	}
	if err := s.RestoreArchived("job=p.prom"); err == nil || s.View().File("job=p.prom") != nil {
		t.Errorf("RestoreArchived = %v", err)
	}
}

// TestRacers replaces files with links, pipes, directories and files as fast as possible,
// as an untrusted user, while the agent reads, pushes and deletes. The view must not
// have content that the user may not read, and no file outside of the spool may change.
func TestRacers(t *testing.T) {
	t.Parallel()
	spool, outside := hostile(t)
	before := describe(t, outside)
	g := group(t, "job", "a")
	names := []string{"x.prom", "y.prom", g.FileName(), "." + g.FileName() + "1"}
	stop := make(chan struct{})
	raced := make(chan struct{})
	var exchanges atomic.Int64
	go as(mallory, mallory, func() {
		defer close(raced)
		for {
			select {
			case <-stop:
				return
			default:
			}
			exchanges.Add(1)
			path, aside := filepath.Join(spool, names[rand.IntN(len(names))]), filepath.Join(spool, fmt.Sprint(".aside", rand.IntN(2)))
			if rand.IntN(200) == 0 { // a user who may do this can delay pushes, and some must succeed
				path = filepath.Join(spool, spoolLock)
			}
			_ = os.Remove(aside) // most of these fail because the name exists
			switch rand.IntN(7) {
			case 0:
				_ = os.WriteFile(aside, []byte("of_mallory 1\n"), 0o600)
			case 1:
				_ = os.Symlink(outside+"/secret", aside)
			case 2:
				_ = os.Symlink(outside+"/shadow", aside)
			case 3:
				_ = unix.Mkfifo(aside, 0o666)
			case 4:
				_ = os.Mkdir(aside, 0o755)
			case 5:
				_ = os.WriteFile(aside, []byte(planted), 0o644)
			case 6:
				_ = os.Symlink(outside, aside)
			}
			if rand.IntN(4) == 0 {
				_ = os.Remove(path)
			}
			_ = os.Rename(aside, path)
		}
	})
	s, err := filestore.Open(spool, &filestore.Options{Hold: 1})
	must(t, err)
	defer s.Close()
	looks, pushed := 0, 0
	start := time.Now()
	for ; (looks < 500 || exchanges.Load() < 2000 || pushed == 0) && time.Since(start) < 2*time.Minute; looks++ {
		rescan(t, s)
		switch looks % 8 {
		case 0:
			if s.Replace(g, families(t, "n 1\n"), record.PushOptions{}) == nil {
				pushed++
			}
		case 4:
			_ = s.Delete(g) // the file may be mallory's
		}
		if text := string(s.View().AppendTo(nil)); strings.Contains(text, "secret") {
			t.Fatalf("the secret is served:\n%s", text)
		}
		for f := range s.View().Files() {
			if p := f.Problem(); p != nil && strings.Contains(p.Error(), "hash") {
				t.Fatalf("a message quotes: %v", p)
			}
		}
	}
	close(stop)
	<-raced
	t.Logf("%d replacements, %d rescans, %d pushes", exchanges.Load(), looks, pushed)
	if pushed == 0 {
		t.Error("no push succeeded")
	}
	if after := describe(t, outside); after != before {
		t.Errorf("outside of the spool there is now\n%s\nwas\n%s", after, before)
	}
}

// describe returns the mode, mtime and content of each file of a tree.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys()
		text := []byte(nil)
		if fi.Mode().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %v %v %q %v\n", path, fi.Mode(), fi.ModTime(), text, st != nil)
		return nil
	}))
	return b.String()
}

// TestValuesLikeBounds expects that label values that look like labels of buckets and
// quantiles affect no other file, dropped or pushed.
func TestValuesLikeBounds(t *testing.T) {
	for _, value := range []string{`b,quantile=`, `b,le=`, `,le=`, `le=`, `x\",le=\"1`, `\\\",quantile=\"0.5\",`, `}`, `} 1`, `{`, `\n# TYPE x gauge`} {
		for _, typ := range []string{"summary", "histogram"} {
			text := fmt.Sprintf("# TYPE go_gc_duration_seconds %[1]s\ngo_gc_duration_seconds_sum{a=\"%[2]s\"} 1\ngo_gc_duration_seconds_count{a=\"%[2]s\"} 1\n# TYPE x %[1]s\nx_sum{a=\"%[2]s\"} 1\nx_count{a=\"%[2]s\"} 2\n", typ, value)
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "x.prom"), []byte(text), 0o644))
			own := map[string]merge.Own{"go_gc_duration_seconds": {Type: exposition.Summary, Labels: []string{"quantile"}}}
			s, err := filestore.Open(dir, &filestore.Options{Own: own})
			must(t, err)
			served := string(s.View().AppendTo(nil))
			if want := fmt.Sprintf("x_sum{a=\"%[1]s\"} 1\nx_count{a=\"%[1]s\"} 2\n", value); !strings.Contains(served, want) {
				t.Errorf("dropped, %s with %s: missing\n%sin\n%s", typ, value, want, served)
			}
			if err := s.Replace(group(t, "job", "j"), families(t, text), record.PushOptions{}); typ == "summary" && err != nil {
				t.Errorf("pushed, %s with %s: %v", typ, value, err)
			}
			var x *record.Conflict
			if err := s.Replace(group(t, "job", "k"), families(t, text), record.PushOptions{}); typ == "histogram" && !errors.As(err, &x) {
				t.Errorf("pushed, %s with %s: %v, want a conflict with the agent's type", typ, value, err)
			}
			for f := range s.View().Files() {
				for _, fam := range s.View().Families(f) {
					for _, m := range fam.Metrics {
						if fam.Name == "x" && (m.Sum != 1 || m.Count < 2 || len(m.Labels) == 0) {
							t.Errorf("%s of %s is parsed as %+v", fam.Name, f.Name(), m)
						}
					}
				}
			}
			must(t, s.Close())
		}
	}
}

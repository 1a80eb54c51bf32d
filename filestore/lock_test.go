package filestore_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, nil), open(t, dir, nil)
	g := group(t, "job", "A", "instance", "x")
	wantLocked := func(locked, known bool) {
		t.Helper()
		if l, k := b.Locked(g); l != locked || k != known {
			t.Errorf("Locked = %v, %v, want %v, %v", l, k, locked, known)
		}
	}
	wantLocked(false, false)
	alone, err := a.Lock(g, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLocked(true, true)
	for _, share := range []bool{false, true} {
		if _, err := b.Lock(g, share, nil); !errors.Is(err, filestore.ErrLocked) {
			t.Errorf("a second Lock = %v, want ErrLocked", err)
		}
	}
	if l, err := b.Lock(group(t, "job", "other"), false, nil); err != nil {
		t.Error(err)
	} else {
		l.Release(always)
	}
	alone.Release(nil)
	wantLocked(false, true)

	called := 0
	one, err := a.Lock(g, true, func() { called++; wantLocked(true, true) })
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Lock(g, true, func() { t.Error("called although another holds the lock") })
	if err != nil {
		t.Fatal(err)
	}
	if called != 1 {
		t.Errorf("called %d times, want once", called)
	}
	one.Release(always)
	wantLocked(true, true)
	two.Release(always)
	wantLocked(false, false)
	if names, _ := filepath.Glob(dir + "/.job=*"); len(names) > 0 {
		t.Errorf("%q are left", names)
	}
}

// TestLockIsInherited passes the lock to a child process. The child keeps it after the
// parent has closed it, as after the parent's death. Release ends it for both.
func TestLockIsInherited(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	g := group(t, "job", "a")
	inherit := func(l *filestore.Lock) (end func()) {
		cmd := exec.Command("cat")
		cmd.ExtraFiles = []*os.File{l.File()}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		}
	}
	l, err := s.Lock(g, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := inherit(l)
	_ = l.File().Close()
	if locked, _ := s.Locked(g); !locked {
		t.Error("the lock is not held by the process that inherited it")
	}
	end()
	if locked, _ := s.Locked(g); locked {
		t.Error("the lock is held although no process has it")
	}
	if l, err = s.Lock(g, false, nil); err != nil {
		t.Fatal(err)
	}
	end = inherit(l)
	defer end()
	l.Release(always)
	if locked, _ := s.Locked(g); locked {
		t.Error("Release did not end the lock of the process that inherited it")
	}
}

// TestLockIsExclusive takes the lock from several stores. Each deletes the lock file at
// the end.
func TestLockIsExclusive(t *testing.T) {
	dir := t.TempDir()
	g := group(t, "job", "a")
	var group sync.WaitGroup
	var inside sync.Mutex
	for range 4 {
		s := open(t, dir, nil)
		group.Go(func() {
			for n := 0; n < 20; {
				l, err := s.Lock(g, false, nil)
				if errors.Is(err, filestore.ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				n++
				if !inside.TryLock() {
					t.Error("two stores hold the lock")
				} else {
					runtime.Gosched()
					inside.Unlock()
				}
				l.Release(always)
			}
		})
	}
	group.Wait()
}

func TestOnlyOneFile(t *testing.T) {
	dir := t.TempDir()
	all := open(t, dir, nil)
	g, other := group(t, "job", "b"), group(t, "job", "a")
	for _, push := range []struct {
		g    grouping.Key
		text string
	}{{other, "# HELP shared The text of the spool.\nshared 1\n"}, {g, "# HELP shared Another text.\nshared 2\n"}} {
		if err := all.Replace(push.g, families(t, push.text), record.PushOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	one := openOnly(t, dir, g.FileName())
	if n := one.View().Totals().Groups; n != 1 {
		t.Errorf("%d groups, want the only one", n)
	}
	if err := one.Amend(g, addOne(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Rescan(); err != nil {
		t.Fatal(err)
	}
	if n := one.View().Totals().Groups; n != 1 {
		t.Errorf("%d groups after a rescan, want the only one", n)
	}
	// The old families of the group get the HELP text of the spool.
	data, err := os.ReadFile(filepath.Join(dir, g.FileName()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n# HELP shared The text of the spool.\n", " shared Another text.\n", "\ncounted_total{job=\"b\"} 1\n"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	// So do families that replace them.
	if err := one.Update(g, families(t, "# HELP shared Another text.\nshared 3\n"), record.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, g.FileName())); !strings.Contains(string(data), "\n# HELP shared The text of the spool.\n") {
		t.Errorf("another text in\n%s", data)
	}
}

// openOnly opens a store on one file. Its view does not have the rest of the directory.
func openOnly(t *testing.T, dir, name string) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir, &filestore.Options{Only: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestPutKeepsJobRecord(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	g := group(t, "job", "a")
	mark := func(attributes map[string][]string) {
		t.Helper()
		err := s.Amend(g, func(*record.Held) (*record.Edit, error) {
			return &record.Edit{Put: families(t, "promspool_job_running 1\nold 1\n"), Attributes: attributes}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(text string) string {
		t.Helper()
		if err := s.Replace(g, families(t, text), record.PushOptions{}); err != nil {
			t.Fatal(err)
		}
		return string(s.View().AppendTo(nil))
	}
	mark(map[string][]string{record.RecordAttribute: {"declared=1"}})
	if got := put("new 1\n"); !strings.Contains(got, "promspool_job_running{job=\"a\"} 1\n") || strings.Contains(got, "old") || !strings.Contains(got, "new{job=\"a\"} 1\n") {
		t.Errorf("after PUT:\n%s", got)
	}
	if got := put("promspool_job_running 2\n"); !strings.Contains(got, "promspool_job_running{job=\"a\"} 2\n") || strings.Contains(got, "new") {
		t.Errorf("after PUT of a recorded metric:\n%s", got)
	}
	// Without the attribute of the record these are ordinary metrics.
	mark(map[string][]string{record.RecordAttribute: {}})
	if got := put("new 1\n"); strings.Contains(got, "promspool_job_running") {
		t.Errorf("after PUT without a record:\n%s", got)
	}
}

func always() bool { return true }

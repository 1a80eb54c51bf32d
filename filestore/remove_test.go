package filestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

func names(files []*record.File) []string {
	list := []string{}
	for _, f := range files {
		list = append(list, f.Name())
	}
	return list
}

func matching(t testing.TB, match ...string) *record.Selection {
	t.Helper()
	sel := &record.Selection{Now: time.Now()}
	for _, m := range match {
		ms, err := grouping.ParseMatchers(m)
		if err != nil {
			t.Fatal(err)
		}
		sel.Match = append(sel.Match, ms)
	}
	return sel
}

// TestRemove deletes some of a thousand groups, in several batches.
func TestRemove(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	dir := s.Path()
	for i := range 1000 {
		g := group(t, "job", fmt.Sprintf("j%03d", i), "odd", fmt.Sprint(i%2))
		text := fmt.Sprintf("# promspool:group %s\n# TYPE m gauge\nm{job=%q,odd=%q} 1\n", g, g.Label("job"), g.Label("odd"))
		must(t, os.WriteFile(filepath.Join(dir, g.FileName()), []byte(text), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, "mine.prom"), []byte("mine{odd=\"1\"} 1\n"), 0o644))
	rescan(t, s)
	removed, err := s.Remove(matching(t, `odd="1"`, `job="j000"`, `job="none"`).Has)
	if err != nil || len(removed) != 501 || removed[0].Group() != group(t, "job", "j000", "odd", "0") {
		t.Fatalf("removed %d files, %v", len(removed), err)
	}
	if left := entries(t, dir); len(left) != 500 {
		t.Errorf("%d files are left", len(left))
	}
	if got := s.View().Totals(); got.Groups != 499 || got.Dropped != 1 {
		t.Errorf("the view has %d groups, %d dropped files", got.Groups, got.Dropped)
	}
	again := open(t, dir, nil)
	if string(again.View().AppendTo(nil)) != string(s.View().AppendTo(nil)) {
		t.Error("the view after a restart differs")
	}
}

// TestRemoveByAge deletes by the age of groups: with pushes, with failed pushes only, and
// with none.
func TestRemoveByAge(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := now.Add(-48 * time.Hour)
	s := open(t, t.TempDir(), &filestore.Options{Now: func() time.Time { return clock }})
	for _, job := range []string{"old", "renewed", "failing"} {
		must(t, s.Replace(group(t, "job", job), families(t, "m 1\n"), record.PushOptions{}))
	}
	must(t, s.Fail(group(t, "job", "failed")))
	clock = now.Add(-time.Hour)
	must(t, s.Fail(group(t, "job", "failing"))) // a failed push does not renew it
	must(t, s.Fail(group(t, "job", "failed_lately")))
	must(t, s.Replace(group(t, "job", "renewed"), families(t, "m 1\n"), record.PushOptions{}))
	clock = now.Add(time.Hour)
	must(t, s.Replace(group(t, "job", "tomorrow"), families(t, "m 1\n"), record.PushOptions{}))
	old := filepath.Join(s.Path(), "mine.prom")
	must(t, errors.Join(os.WriteFile(old, []byte("n 1\n"), 0o644), os.Chtimes(old, now.Add(-72*time.Hour), now.Add(-72*time.Hour))))
	rescan(t, s)
	removed, err := s.Remove((&record.Selection{OlderThan: 24 * time.Hour, Now: now}).Has)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(removed), []string{"job=failed.prom", "job=failing.prom", "job=old.prom"}; !slices.Equal(got, want) {
		t.Errorf("removed %q, want %q", got, want)
	}
}

// TestRemoveChecksAgain pushes to a group from another process after it was picked for
// its age. The group must stay.
func TestRemoveChecksAgain(t *testing.T) {
	clock := time.Now().Add(-time.Hour)
	s := open(t, t.TempDir(), &filestore.Options{Now: func() time.Time { return clock }})
	g := group(t, "job", "a")
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{}))
	other := open(t, s.Path(), nil)
	must(t, other.Replace(g, families(t, "m 2\n"), record.PushOptions{}))
	removed, err := s.Remove((&record.Selection{OlderThan: time.Minute, Now: time.Now()}).Has)
	if err != nil || len(removed) != 0 {
		t.Errorf("removed %q, %v", names(removed), err)
	}
	if text := string(s.View().AppendTo(nil)); !strings.Contains(text, `m{job="a"} 2`) {
		t.Errorf("it serves\n%s", text)
	}
}

// TestRemoveDropped deletes files by name, valid or not, but no directory.
func TestRemoveDropped(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	must(t, os.WriteFile(filepath.Join(s.Path(), "mine.prom"), []byte("n 1\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.Path(), "other.prom"), []byte("o 1\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.Path(), "job=broken.prom"), []byte("rubbish"), 0o644))
	must(t, os.Symlink("nowhere", filepath.Join(s.Path(), "link.prom")))
	must(t, os.Mkdir(filepath.Join(s.Path(), "dir.prom"), 0o755))
	rescan(t, s)
	for _, name := range []string{"mine.prom", "job=broken.prom", "link.prom"} {
		removed, err := s.Remove(func(f *record.File) bool { return f.Name() == name })
		if err != nil || !slices.Equal(names(removed), []string{name}) {
			t.Errorf("removed %q, %v", names(removed), err)
		}
	}
	removed, err := s.Remove(func(f *record.File) bool { return f.Name() == "dir.prom" })
	if err == nil || !strings.Contains(err.Error(), `"dir.prom"`) || len(removed) > 0 {
		t.Errorf("removed %q, %v", names(removed), err)
	}
	if got, want := entries(t, s.Path()), []string{"dir.prom", "other.prom"}; !slices.Equal(got, want) {
		t.Errorf("the spool has %q, want %q", got, want)
	}
	must(t, os.Remove(filepath.Join(s.Path(), "dir.prom"))) // a merge of files has no directories
}

func rescan(t testing.TB, s *filestore.Store) {
	t.Helper()
	_, err := s.Rescan()
	must(t, err)
}

// TestRemoveDuringPushes pushes to groups while they are deleted by age. No acknowledged
// push may be lost.
func TestRemoveDuringPushes(t *testing.T) {
	var clock struct {
		sync.Mutex
		ahead time.Duration
	}
	now := func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return time.Now().Add(clock.ahead)
	}
	s := open(t, t.TempDir(), &filestore.Options{Now: now})
	var groups []grouping.Key
	for i := range 40 {
		groups = append(groups, group(t, "job", fmt.Sprintf("j%d", i)))
		must(t, s.Replace(groups[i], families(t, "m 1\n"), record.PushOptions{}))
	}
	clock.Lock()
	clock.ahead = time.Hour
	clock.Unlock()
	var all sync.WaitGroup
	for _, g := range groups[:20] {
		all.Go(func() {
			if err := s.Replace(g, families(t, "m 2\n"), record.PushOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	total := 0
	for range 5 {
		removed, err := s.Remove((&record.Selection{OlderThan: time.Minute, Now: now()}).Has)
		if err != nil {
			t.Fatal(err)
		}
		total += len(removed)
	}
	all.Wait()
	if got := s.View().Totals().Groups; got != 20 {
		t.Errorf("%d groups are left, want the 20 that were pushed to", got)
	}
	if total < 20 || total > 40 {
		t.Errorf("%d were removed", total)
	}
}

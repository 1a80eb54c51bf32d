package filestore_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

func TestImport(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	a, b := group(t, "job", "a"), group(t, "job", "b", "x", "1")
	// A time in nanoseconds would lose the last digits of these numbers.
	at := record.ImportOptions{Pushed: 1.7951823907525506e+09, Failed: 1.7951823907525508e+09}
	must(t, s.Import(a, families(t, "# TYPE m gauge\nm{instance=\"\"} 1\npush_time_seconds 5\n"), at))
	want(t, s, `m{instance="",job="a"} 1`+"\n")
	before, err := os.ReadFile(dir + "/" + a.FileName())
	must(t, err)
	for _, line := range []string{`push_failure_time_seconds{job="a"} 1.7951823907525508e+09`, `push_time_seconds{job="a"} 1.7951823907525506e+09`} {
		if !strings.Contains(string(before), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, before)
		}
	}

	if err := s.Import(a, families(t, "m 2\n"), at); !errors.Is(err, filestore.ErrExists) {
		t.Errorf("an existing group: %v", err)
	}
	var conflict *record.Conflict
	if err := s.Import(b, families(t, "# TYPE m counter\nm 2\nn 1\n"), at); !errors.As(err, &conflict) {
		t.Errorf("another type: %v", err)
	}
	var bad *exposition.SyntaxError
	if err := s.Import(b, families(t, "n{x=\"1\"} 1\nn{x=\"2\"} 1\n"), at); !errors.As(err, &bad) {
		t.Errorf("a series twice: %v", err)
	}
	must(t, os.WriteFile(dir+"/"+b.FileName(), []byte("broken\n"), 0o644))
	_, err = s.Reload(b.FileName())
	must(t, err)
	if err := s.Import(b, families(t, "n 1\n"), at); !errors.Is(err, filestore.ErrExists) {
		t.Errorf("an existing file: %v", err)
	}
	must(t, os.Remove(dir+"/"+b.FileName()))
	_, err = s.Reload(b.FileName())
	must(t, err)
	after, err := os.ReadFile(dir + "/" + a.FileName())
	must(t, err)
	if string(after) != string(before) || s.View().Totals().Groups != 1 {
		t.Errorf("after rejected imports there are %d groups, and\n%s", s.View().Totals().Groups, after)
	}

	at = record.ImportOptions{Overwrite: true}
	must(t, s.Import(a, families(t, "n 3\n"), at))
	want(t, s, `n{job="a"} 3`+"\n")
	if at := s.View().File(a.FileName()).LastPush(); !at.IsZero() {
		t.Errorf("the last push of a group without one is %v", at)
	}
}

// TestImportKeepsJobRecord expects that Overwrite keeps the metrics and attributes that
// promspool records for a job.
func TestImportKeepsJobRecord(t *testing.T) {
	dir := t.TempDir()
	g := group(t, "job", "a")
	const text = "# promspool:group {job=\"a\"}\n# promspool:job declared=1\n# promspool:ttl 1d\n# TYPE m gauge\nm{job=\"a\"} 1\n" +
		"# TYPE promspool_job_running gauge\npromspool_job_running{job=\"a\"} 0\n"
	must(t, os.WriteFile(dir+"/"+g.FileName(), []byte(text), 0o644))
	s := open(t, dir, nil)
	must(t, s.Import(g, families(t, "# TYPE n gauge\nn 2\n"), record.ImportOptions{Pushed: 1, Overwrite: true}))
	want(t, s, "n{job=\"a\"} 2\npromspool_job_running{job=\"a\"} 0\n")
	after, err := os.ReadFile(dir + "/" + g.FileName())
	must(t, err)
	if !strings.HasPrefix(string(after), "# promspool:group {job=\"a\"}\n# promspool:job declared=1\n# ") || strings.Contains(string(after), "promspool:ttl") {
		t.Errorf("the file is\n%s", after)
	}
}

func TestImportDryRun(t *testing.T) {
	dir := t.TempDir()
	s, err := filestore.Open(dir, nil)
	must(t, err)
	defer s.Close() //nolint:errcheck // nothing to lose
	dry := record.ImportOptions{Pushed: float64(time.Now().Unix()), DryRun: true}
	must(t, s.Import(group(t, "job", "a"), families(t, "# TYPE m gauge\nm 1\n"), dry))
	var conflict *record.Conflict
	if err := s.Import(group(t, "job", "b"), families(t, "# TYPE m counter\nm 1\n"), dry); !errors.As(err, &conflict) {
		t.Errorf("a conflict with an earlier dry run: %v", err)
	}
	must(t, s.Import(group(t, "job", "c"), families(t, "# HELP m Text.\n# TYPE m gauge\nm 1\n"), dry))
	if n := s.View().Totals().Groups; n != 2 {
		t.Errorf("the view has %d groups, want two", n)
	}
	if left := entries(t, dir); len(left) != 0 {
		t.Errorf("the directory has %q", left)
	}
}

package filestore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
)

// A script writes one file repeatedly. Its clock is behind that of the file system,
// because the ctime of a file cannot be set.
type script struct {
	t    *testing.T
	s    *filestore.Store
	path string
	now  time.Time
}

func newScript(t *testing.T, opts filestore.Options) *script {
	t.Helper()
	x := &script{t: t, path: filepath.Join(t.TempDir(), "a.prom"), now: time.Now().Add(-24 * time.Hour)}
	opts.Now = func() time.Time { return x.now }
	s, err := filestore.Open(filepath.Dir(x.path), &opts)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	x.s = s
	return x
}

// write writes the file in place.
func (x *script) write(text string) {
	x.t.Helper()
	must(x.t, os.WriteFile(x.path, []byte(text), 0o644))
	must(x.t, os.Chtimes(x.path, x.now, x.now))
}

// rename writes another file and renames it over the first.
func (x *script) rename(text string) {
	x.t.Helper()
	temp := filepath.Join(filepath.Dir(x.path), ".tmp")
	must(x.t, os.WriteFile(temp, []byte(text), 0o644))
	must(x.t, os.Chtimes(temp, x.now, x.now))
	must(x.t, os.Rename(temp, x.path))
}

// after lets time pass and reloads the file.
func (x *script) after(d time.Duration) {
	x.t.Helper()
	x.now = x.now.Add(d)
	_, err := x.s.Reload("a.prom")
	must(x.t, err)
}

// is checks the payload of the view and the reason that the view reports for the file.
func (x *script) is(text string, reason exposition.Reason) {
	x.t.Helper()
	if got := payload(x.s.View()); got != text {
		x.t.Errorf("the view has %q, want %q", got, text)
	}
	var got exposition.Reason
	if f := x.s.View().File("a.prom"); f != nil && f.Problem() != nil {
		got = f.Problem().Reason
	}
	if got != reason {
		x.t.Errorf("the reason is %q, want %q", got, reason)
	}
	page := string(x.s.View().AppendTo(nil))
	if reported := strings.Contains(page, `promspool_file_error{file="a.prom",reason="busy"} 1`); reported != (reason == exposition.Busy) {
		x.t.Errorf("promspool_file_error reports it as busy: %v, want %v", reported, !reported)
	}
	if n := x.s.View().Totals().Faults[exposition.Busy]; n != map[bool]int{true: 1}[reason == exposition.Busy] {
		x.t.Errorf("%d files count as busy", n)
	}
}

// TestBusyFile expects that a file is reported after 5 s if a writer prevents every
// read, for each such reason and each earlier content.
func TestBusyFile(t *testing.T) {
	const settle = "# promspool:settle 2s\n"
	for name, test := range map[string]struct {
		opts   filestore.Options
		prefix string
		text   string // written by the script, after the prefix
		open   bool   // another writer keeps the file open
	}{
		"settle by flag":   {filestore.Options{Settle: 2 * time.Second}, "", "a 2\n", false},
		"settle by a line": {filestore.Options{}, settle, "a 2\n", false},
		"open for long":    {filestore.Options{}, "", "a 2\n", true},
		"mostly invalid":   {filestore.Options{}, "", "a\n", false},
	} {
		for _, before := range []string{"", "a 1\n", "b\n"} {
			if name == "mostly invalid" && before != "a 1\n" {
				continue // reported as invalid
			}
			t.Run(name+" after "+strings.TrimSpace(before), func(t *testing.T) {
				x := newScript(t, test.opts)
				served, reason := before, exposition.Reason("")
				if before == "b\n" {
					served, reason = "", exposition.Syntax
				}
				if before != "" {
					x.write(before)
					x.after(time.Minute)
					x.is(served, reason)
				}
				if test.open {
					f, err := os.OpenFile(x.path, os.O_CREATE|os.O_WRONLY, 0o644)
					must(t, err)
					defer f.Close()
				}
				for i := range 9 {
					x.write(test.prefix + test.text)
					x.after(500 * time.Millisecond)
					if i < 8 {
						x.is(served, reason)
					}
				}
				for range 3 {
					x.write(test.prefix + test.text)
					x.after(500 * time.Millisecond)
				}
				x.is(served, exposition.Busy)
				view := x.s.View()
				x.write(test.prefix + test.text)
				x.after(500 * time.Millisecond)
				if x.s.View() != view {
					t.Error("each look at the file publishes a view")
				}
				x.after(time.Hour) // without a write
				if test.text == "a\n" {
					x.is("", exposition.Syntax)
				} else {
					x.is("a 2\n", "")
				}
				must(t, os.Remove(x.path))
				x.after(0)
				x.is("", "")
			})
		}
	}
}

// TestDeletedBusyFile expects an empty view after a busy file is deleted.
func TestDeletedBusyFile(t *testing.T) {
	x := newScript(t, filestore.Options{Settle: 2 * time.Second})
	for range 20 {
		x.write("a 1\n")
		x.after(500 * time.Millisecond)
	}
	x.is("", exposition.Busy)
	must(t, os.Remove(x.path))
	x.after(0)
	x.is("", "")
	if page := string(x.s.View().AppendTo(nil)); page != "" {
		t.Errorf("the view still has\n%s", page)
	}
}

// TestSettleAfterRename expects that a renamed file is read at once. The rename shows
// in the report, or without reports in the inode. A file that was written in place
// must settle, and so must every file at the start.
func TestSettleAfterRename(t *testing.T) {
	for name, test := range map[string]struct {
		opts   filestore.Options
		prefix string
	}{
		"by flag":   {filestore.Options{Settle: 2 * time.Second}, ""},
		"by a line": {filestore.Options{}, "# promspool:settle 2s\n"},
	} {
		for _, reported := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " with reports"}[reported], func(t *testing.T) {
				x := newScript(t, test.opts)
				serial, renamed := uint64(0), false
				if reported {
					x.s.UseReports(func(string, uint64) (uint64, bool, bool, bool) { return serial, true, renamed, false })
				}
				x.rename(test.prefix + "a 0\n")
				x.after(time.Second)
				x.is("", "")
				x.after(time.Minute)
				x.is("a 0\n", "")
				for _, text := range []string{"a 1\n", "a 2\n", "a 3\n", "a 4\n"} {
					x.rename(test.prefix + text)
					serial, renamed = serial+1, true
					x.after(time.Second)
					x.is(text, "")
				}
				for range 3 {
					x.write(test.prefix + "a 5\n")
					serial, renamed = serial+1, false
					x.after(time.Second)
					x.is("a 4\n", "")
				}
				x.after(2 * time.Second)
				x.is("a 5\n", "")
			})
		}
	}
}

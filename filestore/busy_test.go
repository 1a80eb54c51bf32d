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

// A script writes a file again and again, on a clock of its own, which is behind
// that of the file system: the times of changes of inodes cannot be set.
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

// write writes in place.
func (x *script) write(text string) {
	x.t.Helper()
	must(x.t, os.WriteFile(x.path, []byte(text), 0o644))
	must(x.t, os.Chtimes(x.path, x.now, x.now))
}

// rename writes aside.
func (x *script) rename(text string) {
	x.t.Helper()
	temp := filepath.Join(filepath.Dir(x.path), ".tmp")
	must(x.t, os.WriteFile(temp, []byte(text), 0o644))
	must(x.t, os.Chtimes(temp, x.now, x.now))
	must(x.t, os.Rename(temp, x.path))
}

// after lets time pass and looks.
func (x *script) after(d time.Duration) {
	x.t.Helper()
	x.now = x.now.Add(d)
	_, err := x.s.Reload("a.prom")
	must(x.t, err)
}

// is checks what is served and what the file is named for.
func (x *script) is(text string, reason exposition.Reason) {
	x.t.Helper()
	if got := payload(x.s.View()); got != text {
		x.t.Errorf("served is %q, want %q", got, text)
	}
	var got exposition.Reason
	if f := x.s.View().File("a.prom"); f != nil && f.Problem() != nil {
		got = f.Problem().Reason
	}
	if got != reason {
		x.t.Errorf("the reason is %q, want %q", got, reason)
	}
	page := string(x.s.View().AppendTo(nil))
	if named := strings.Contains(page, `promspool_file_error{file="a.prom",reason="busy"} 1`); named != (reason == exposition.Busy) {
		x.t.Errorf("promspool_file_error names it as busy: %v, want %v", named, !named)
	}
	if n := x.s.View().Totals().Faults[exposition.Busy]; n != map[bool]int{true: 1}[reason == exposition.Busy] {
		x.t.Errorf("%d files count as busy", n)
	}
}

// TestFileThatIsNeverReadIsNamed after 5 s, whatever keeps it from being read and
// whatever was served before.
func TestFileThatIsNeverReadIsNamed(t *testing.T) {
	const settle = "# promspool:settle 2s\n"
	for name, test := range map[string]struct {
		opts   filestore.Options
		prefix string
		text   string // what the script writes, after the prefix
		open   bool   // another writer has the file open all the time
	}{
		"settle by flag":   {filestore.Options{Settle: 2 * time.Second}, "", "a 2\n", false},
		"settle by a line": {filestore.Options{}, settle, "a 2\n", false},
		"open for long":    {filestore.Options{}, "", "a 2\n", true},
		"mostly broken":    {filestore.Options{}, "", "a\n", false},
	} {
		for _, before := range []string{"", "a 1\n", "b\n"} {
			if name == "mostly broken" && before != "a 1\n" {
				continue // it is named as what it is
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
					t.Error("a view is published for each look at the file")
				}
				x.after(time.Hour) // and then it rests
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

// TestBusyFileThatIsRemoved leaves nothing behind.
func TestBusyFileThatIsRemoved(t *testing.T) {
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
		t.Errorf("what is left:\n%s", page)
	}
}

// TestRenamedFileNeedsNoRest, which a report says, or where there is none another
// inode. What is written in place does, and so does what is not known at a start.
func TestRenamedFileNeedsNoRest(t *testing.T) {
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

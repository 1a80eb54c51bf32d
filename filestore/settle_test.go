package filestore_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// servedHelp returns the HELP text of a family in the exposition.
func servedHelp(v *merge.View, name string) string {
	for l := range strings.Lines(string(v.AppendFamily(nil, name))) {
		if text, ok := strings.CutPrefix(l, "# HELP "+name+" "); ok {
			return strings.TrimSuffix(text, "\n")
		}
	}
	return ""
}

// helpInFiles returns the files of groups with the family, by their HELP text.
func helpInFiles(t *testing.T, dir, name string) map[string][]string {
	t.Helper()
	in := map[string][]string{}
	for _, file := range must1(filepath.Glob(filepath.Join(dir, "job=*.prom"))) {
		text, has := "", false
		for l := range strings.Lines(read(t, file)) {
			if rest, ok := strings.CutPrefix(l, "# HELP "+name+" "); ok {
				text = strings.TrimSuffix(rest, "\n")
			}
			has = has || strings.HasPrefix(l, "# TYPE "+name+" ")
		}
		if has {
			in[text] = append(in[text], filepath.Base(file))
		}
	}
	return in
}

// helpLine returns a HELP line for the family m, or none without a text.
func helpLine(text string) string {
	if text == "" {
		return ""
	}
	return "# HELP m " + text + "\n"
}

// A helpModel has the text that each file with the family m asks for, by file name.
type helpModel struct{ dropped, pushed map[string]string }

// text returns the text that must be served.
func (m helpModel) text() string {
	for _, files := range []map[string]string{m.dropped, m.pushed} {
		for _, name := range sortedNames(files) {
			if files[name] != "" {
				return files[name]
			}
		}
	}
	return ""
}

// sortedNames returns the names in the order of the merge. Files in other directories,
// which are paths, come last.
func sortedNames(m map[string]string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(strings.Count(a, "/")-strings.Count(b, "/"), strings.Compare(a, b))
	})
}

// TestHelpDependsOnFilesOnly pushes, drops and deletes at random. After each step the
// text must be that of the model. After the alignment all files must have it, and must
// still record the texts that the groups asked for.
func TestHelpDependsOnFilesOnly(t *testing.T) {
	t.Parallel()
	texts := []string{"", "", "One.", "Two.", "Three.", `Th\\ree\nlines. `}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		dir, other := t.TempDir(), t.TempDir()
		opts := &filestore.Options{Hold: time.Nanosecond}
		s, err := filestore.Open(dir, opts)
		must(t, err)
		src := s.AddSource(other)
		must1(src.Rescan())
		model := helpModel{map[string]string{}, map[string]string{}}
		for step := range 40 {
			text := texts[r.IntN(len(texts))]
			body := helpLine(text) + "# TYPE m gauge\n"
			g := group(t, "job", string("abcB"[r.IntN(4)]))
			what := ""
			switch k := r.IntN(12); k {
			case 0, 1, 2, 3:
				what = fmt.Sprintf("a push of %q to %v", text, g)
				f := families(t, body+fmt.Sprintf("m %d\n", step))
				if k%2 == 0 {
					must(t, s.Replace(g, f, record.PushOptions{}))
				} else {
					must(t, s.Update(g, f, record.PushOptions{}))
				}
				model.pushed[g.FileName()] = text
			case 4:
				what = fmt.Sprintf("a push of another family to %v", g)
				must(t, s.Update(g, families(t, "n 1\n"), record.PushOptions{}))
			case 5:
				what = fmt.Sprintf("a failed push to %v", g)
				must(t, s.Fail(g))
			case 6:
				what = fmt.Sprintf("a deletion of %v", g)
				must(t, s.Delete(g))
				delete(model.pushed, g.FileName())
			case 7, 8, 9:
				name := fmt.Sprintf("%d.prom", r.IntN(2))
				path, load := filepath.Join(dir, name), s.Reload
				if r.IntN(2) == 0 {
					path, load = filepath.Join(other, name), src.Reload
					name = path
				}
				if r.IntN(2) == 0 {
					what = "no file " + name
					delete(model.dropped, name)
					_ = os.Remove(path)
				} else {
					what = fmt.Sprintf("a file %s with %q", name, text)
					model.dropped[name] = text
					must(t, os.WriteFile(path, []byte(body+fmt.Sprintf("m{file=%q} %d\n", name, step)), 0o644))
				}
				must1(load(filepath.Base(name)))
			case 10:
				n := r.IntN(4)
				what = fmt.Sprintf("aligning up to %d files", n)
				must(t, filestore.AlignSome(s, n))
			case 11:
				what = "a restart"
				must(t, s.Close())
				s, err = filestore.Open(dir, opts)
				must(t, err)
				src = s.AddSource(other)
				must1(src.Rescan())
			}
			if got, want := servedHelp(s.View(), "m"), model.text(); got != want {
				t.Fatalf("seed %d, step %d: after %s HELP is %q, want %q; the files ask for %q", seed, step, what, got, want, model)
			}
			if in := helpInFiles(t, dir, "m"); len(in) > 2 {
				t.Fatalf("seed %d, step %d: after %s the files have three texts, %q", seed, step, what, in)
			}
		}
		must(t, filestore.SettleHelp(s))
		in := helpInFiles(t, dir, "m")
		if n := len(in[model.text()]); n != len(model.pushed) || len(in) > 1 {
			t.Errorf("seed %d: the files have %q, want %q in all %d", seed, in, model.text(), len(model.pushed))
		}
		must(t, s.Close())
	}
}

// TestAnyHelpBeatsNone tests the common cases.
func TestAnyHelpBeatsNone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	push := func(job, text string) {
		t.Helper()
		must(t, s.Replace(group(t, "job", job), families(t, helpLine(text)+"# TYPE m gauge\nm 1\n"), record.PushOptions{}))
	}
	check := func(want string, files map[string][]string) {
		t.Helper()
		if got := servedHelp(s.View(), "m"); got != want {
			t.Fatalf("HELP is %q, want %q", got, want)
		}
		for text, names := range helpInFiles(t, dir, "m") {
			if !slices.Equal(names, files[text]) {
				t.Fatalf("%q in %q, want it in %q", text, names, files[text])
			}
		}
	}
	push("b", "")
	push("a", "")
	check("", map[string][]string{"": {"job=a.prom", "job=b.prom"}})
	push("c", "C.")
	check("C.", map[string][]string{"": {"job=a.prom", "job=b.prom"}, "C.": {"job=c.prom"}})
	must(t, filestore.SettleHelp(s))
	check("C.", map[string][]string{"C.": {"job=a.prom", "job=b.prom", "job=c.prom"}})
	push("b", "B.")
	check("B.", map[string][]string{"B.": {"job=b.prom"}, "C.": {"job=a.prom", "job=c.prom"}})
	must(t, filestore.SettleHelp(s))
	if text := read(t, filepath.Join(dir, "job=c.prom")); !strings.Contains(text, "\n# promspool:help 0 m C.\n") {
		t.Errorf("the text that group c asked for is not in\n%s", text)
	}
	if text := read(t, filepath.Join(dir, "job=a.prom")); !strings.Contains(text, "\n# promspool:help 0 m\n") {
		t.Errorf("that group a asked for no text is not in\n%s", text)
	}
	// After a deletion the text is the one that the remaining group asked for, not the
	// one in its file.
	must(t, s.Delete(group(t, "job", "b")))
	check("C.", map[string][]string{"B.": {"job=a.prom", "job=c.prom"}})
	must(t, s.Delete(group(t, "job", "c")))
	check("", map[string][]string{"B.": {"job=a.prom"}})
	must(t, filestore.SettleHelp(s))
	check("", map[string][]string{"": {"job=a.prom"}})
	// Group a asks for no text, and then for one, with a dropped file.
	must(t, os.WriteFile(filepath.Join(dir, "drop.prom"), []byte("# HELP m Dropped.\nm{x=\"1\"} 1\n"), 0o644))
	must1(s.Reload("drop.prom"))
	push("a", "A.")
	check("Dropped.", map[string][]string{"Dropped.": {"job=a.prom"}})
	must(t, os.Remove(filepath.Join(dir, "drop.prom")))
	must1(s.Reload("drop.prom"))
	check("A.", map[string][]string{"Dropped.": {"job=a.prom"}})
}

// TestHelpOfEarlierVersions reads the lines that earlier versions wrote.
func TestHelpOfEarlierVersions(t *testing.T) {
	const head = "# promspool:group {job=\"j\"}\n"
	const body = "# HELP m In the file.\n# TYPE m gauge\nm{job=\"j\"} 1\n"
	for line, want := range map[string]string{
		"":                                  "In the file.",
		"help 1.7636e+09 m Asked for.":      "Asked for.",
		"help 0 m As\\\\ked\\nfor.\r\r":     "As\\\\ked\\nfor.",
		"help 0 m   Asked for. ":            "Asked for. ",
		"help 0 m":                          "",
		"help 0 m ":                         "",
		"help 0 n Asked for.":               "In the file.",
		"help m Asked for.":                 "In the file.",
		"help 0 m As\\ked":                  "In the file.",
		"help 0 m As\x00ked":                "As\uFFFDked",
		"help 0 {\"m\"} no name of a group": "In the file.",
	} {
		if line != "" {
			line = "# promspool:" + line + "\n"
		}
		v := merge.Merge(nil, map[string][]byte{"job=j.prom": []byte(head + line + body)})
		if got := servedHelp(v, "m"); got != want {
			t.Errorf("with %q HELP is %q, want %q", line, got, want)
		}
		// A copy is a dropped file, so its own text counts.
		v = merge.Merge(nil, map[string][]byte{"copy.prom": []byte(head + line + body)})
		if got := servedHelp(v, "m"); got != "In the file." {
			t.Errorf("in a copy with %q HELP is %q", line, got)
		}
	}
}

// TestHelpAfterRestart serves texts that need escapes, from pushed and dropped files,
// before and after a restart.
func TestHelpAfterRestart(t *testing.T) {
	texts := []string{
		"abc\r", "abc\r\r\r", "\r", "\r\r", " \r", "\r ", "a\rb", " a", "\ta", "a ", "a \r", "a\r ", "a \t", "  ", "\\\\", "\\\\\r", "\\\\r", "\\n", "\\n\r", "\\na", "\\\"\r", "é\u2028\r", "\u00a0a\u00a0", "\v\fa\x7f", "{a=\"b\"} 1", "# TYPE m counter",
	}
	r := rand.New(rand.NewPCG(4, 4))
	for range 100 {
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteString([]string{"\r", "\r", " ", "\t", "a", "\\n", "\\\\", "\\\"", "ü"}[r.IntN(9)])
		}
		texts = append(texts, b.String())
	}
	for _, text := range texts {
		dir := quickDirectory(t)
		s := open(t, dir, nil)
		reopened := func() *filestore.Store {
			t.Helper()
			again, err := filestore.Open(dir, nil)
			must(t, err)
			t.Cleanup(func() { must(t, again.Close()) })
			return again
		}
		same := func(when string) string {
			t.Helper()
			before, after := servedHelp(s.View(), "m"), servedHelp(reopened().View(), "m")
			if before != after {
				t.Errorf("HELP %q is served as %q, and %s as %q", text, before, when, after)
			}
			return before
		}
		body := "# HELP m " + text + "\n# TYPE m gauge\n"
		must(t, s.Replace(group(t, "job", "b"), families(t, body+"m 1\n"), record.PushOptions{}))
		own := same("after a restart")
		// The text moves to a comment and back.
		must(t, s.Replace(group(t, "job", "a"), families(t, "# HELP m Another.\n# TYPE m gauge\nm 1\n"), record.PushOptions{}))
		must(t, filestore.SettleHelp(s))
		must(t, s.Delete(group(t, "job", "a")))
		if got := same("after a restart, from the comment"); got != own {
			t.Errorf("HELP %q is served as %q, and from the comment as %q", text, own, got)
		}
		must(t, filestore.SettleHelp(s))
		same("after a restart, from the file again")
		must(t, s.Delete(group(t, "job", "b")))
		must(t, os.WriteFile(filepath.Join(dir, "drop.prom"), []byte(body+"m 1\n"), 0o644))
		must1(s.Reload("drop.prom"))
		if got := same("after a restart, from a dropped file"); got != own {
			t.Errorf("HELP %q is served as %q pushed, and as %q dropped", text, own, got)
		}
		if own != strings.TrimRight(own, "\r") {
			t.Errorf("HELP %q is served as %q, which parsers read differently", text, own)
		}
	}
}

// TestAlignHelpRate changes the text of a family with each push. The other files must be
// rewritten at a limited rate by a fake clock, and all must have the last text at the
// end.
func TestAlignHelpRate(t *testing.T) {
	dir := quickDirectory(t)
	const groups, pushes = 60, 40
	filestore.SetHelpRate(t, 30, 5)
	synctest.Test(t, func(t *testing.T) {
		s, err := filestore.Open(dir, nil)
		must(t, err)
		var flushes atomic.Int64 // two syncs for each commit: of the file and of the directory
		s.Observe(filestore.Observers{Flush: func(float64) { flushes.Add(1) }})
		push := func(i, version int) {
			t.Helper()
			must(t, s.Replace(group(t, "job", fmt.Sprintf("%03d", i)), families(t, fmt.Sprintf("# HELP m Text %d.\n# TYPE m gauge\nm 1\n", version)), record.PushOptions{}))
		}
		for i := range groups {
			push(i, 0)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.AlignHelp(ctx, func(err error) { t.Error(err) })
		}()
		flushes.Store(0)
		start := time.Now()
		for version := range pushes {
			push(0, version+1)
			time.Sleep(100 * time.Millisecond)
		}
		took := time.Since(start)
		rewritten := (flushes.Load() - 2*pushes) / 2
		if most := 30 + int64(5*took.Seconds()) + 5; rewritten > most || rewritten < 30 {
			t.Errorf("%d pushes of %d texts in %v have rewritten %d files, want 30 to %d", pushes, pushes, took, rewritten, most)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if in := helpInFiles(t, dir, "m"); len(in) != 1 || len(in[fmt.Sprintf("Text %d.", pushes)]) != groups {
			t.Errorf("in the end the files have %q", in)
		}
		if n := flushes.Load(); n > 2*(pushes+rewritten+groups*3) {
			t.Errorf("%d syncs in all", n)
		}
		// Nothing is synced without a change.
		n := flushes.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if flushes.Load() != n {
			t.Errorf("%d syncs without a change", flushes.Load()-n)
		}
		// A change is aligned soon, and concurrent changes at once.
		for version := range 5 {
			push(0, 100+version)
		}
		push(groups+1, 0)
		n = flushes.Load()
		time.Sleep(time.Second)
		synctest.Wait()
		if rewritten := (flushes.Load() - n) / 2; rewritten < 30 || rewritten > 36 {
			t.Errorf("a second after six pushes %d files are rewritten", rewritten)
		}
		cancel()
		<-ended
		checkPure(t, s, dir, nil)
		must(t, s.Close())
	})
}

// TestAlignHelpRetries has a file that is too large with the served text. It must be
// retried every 30 seconds, and no other file may wait for it.
func TestAlignHelpRetries(t *testing.T) {
	dir := quickDirectory(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := filestore.Open(dir, &filestore.Options{MaxFileBytes: 1000})
		must(t, err)
		push := func(job, text, rest string) {
			t.Helper()
			must(t, s.Replace(group(t, "job", job), families(t, helpLine(text)+"# TYPE m gauge\nm 1\n"+rest), record.PushOptions{}))
		}
		push("b", "B.", "# HELP n "+strings.Repeat("x", 400)+"\n# TYPE n gauge\nn 1\n")
		push("c", "C.", "")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var failures atomic.Int64
		go func() {
			defer close(ended)
			s.AlignHelp(ctx, func(err error) {
				if failures.Add(1); !strings.Contains(err.Error(), "--spool.max-file-bytes=1000") {
					t.Error(err)
				}
			})
		}()
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		long := strings.Repeat("y", 300)
		push("a", long, "")
		wait(time.Second)
		if in := helpInFiles(t, dir, "m"); len(in[long]) != 2 || len(in["B."]) != 1 {
			t.Errorf("the files have %q", in)
		}
		for i := range 20 { // makes the family searched again
			push("a", fmt.Sprint(long, i), "")
			wait(time.Second)
		}
		if n := failures.Load(); n != 1 {
			t.Errorf("%d failures in 21 seconds, want 1", n)
		}
		wait(time.Minute)
		if n := failures.Load(); n != 3 {
			t.Errorf("%d failures in 81 seconds, want 3", n)
		}
		push("a", "A.", "")
		wait(31 * time.Second)
		if in := helpInFiles(t, dir, "m"); failures.Load() != 3 || len(in["A."]) != 3 {
			t.Errorf("in the end, after %d failures, the files have %q", failures.Load(), in)
		}
		cancel()
		<-ended
		must(t, s.Close())
	})
}

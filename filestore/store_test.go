package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// open opens a store. At the end of the test checkPure compares its view with the
// directory.
func open(t testing.TB, dir string, opts *filestore.Options) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			checkPure(t, s, dir, opts)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkPure compares the live view with a merge of the files and with the view of another
// store on the directory.
func checkPure(t testing.TB, s *filestore.Store, dir string, opts *filestore.Options) {
	t.Helper()
	if _, err := s.Rescan(); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if grouping.IsSpoolFile(e.Name()) && e.Type().IsRegular() {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[e.Name()] = data
		} else if strings.HasPrefix(e.Name(), ".job=") {
			t.Errorf("leftover %s", e.Name())
		}
	}
	var own map[string]merge.Own
	if opts != nil {
		own = opts.Own
	}
	again, err := filestore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	live := show(s.View())
	timeless := true // Merge has no clock
	for f := range s.View().Files() {
		if !f.Expired().IsZero() && !strings.Contains(string(files[f.Name()]), "# promspool:expired ") {
			timeless = false
		}
	}
	if diff := cmp.Diff(show(merge.Merge(own, files)), live); timeless && diff != "" {
		t.Errorf("the live view differs from the merge of the files (-merge +live):\n%s", diff)
	}
	if diff := cmp.Diff(show(again.View()), live); diff != "" {
		t.Errorf("the live view differs from that of another store (-again +live):\n%s", diff)
	}
}

// show returns the exposition, files and conflicts of a view, without the times of files,
// which Merge does not have.
func show(v *merge.View) string {
	var b strings.Builder
	for line := range strings.Lines(string(v.AppendTo(nil))) {
		if !strings.Contains(line, "promspool_file_mtime_seconds") {
			b.WriteString(line)
		}
	}
	for f := range v.Files() {
		fmt.Fprintf(&b, "%s %v %d series, %d bytes, %v %v", f.Name(), f.Group(), f.Series(), f.Size(), f.LastPush(), f.LastFailure())
		if f.Problem() != nil {
			fmt.Fprintf(&b, ": %v", f.Problem())
		}
		b.WriteByte('\n')
	}
	for _, c := range v.Conflicts() {
		fmt.Fprintf(&b, "conflict: %s: %v\n", c.File, c)
	}
	return b.String()
}

func group(t testing.TB, pairs ...string) grouping.Key {
	t.Helper()
	var labels []exposition.Label
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, exposition.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	g, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func families(t testing.TB, text string) *exposition.Families {
	t.Helper()
	f, err := exposition.Parse([]byte(text), exposition.Limits{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// samples returns the lines of the view that are not comments and not about times.
func samples(v *merge.View) string {
	var b strings.Builder
	for line := range strings.Lines(string(v.AppendTo(nil))) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "_time_seconds") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// payload is samples without those about files.
func payload(v *merge.View) string {
	var b strings.Builder
	for line := range strings.Lines(samples(v)) {
		if !strings.HasPrefix(line, "promspool_file_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func want(t *testing.T, s *filestore.Store, text string) {
	t.Helper()
	if diff := cmp.Diff(text, payload(s.View())); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
}

func TestReplaceUpdateDelete(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	g := group(t, "job", "j", "instance", "i")
	must(t, s.Replace(g, families(t, "a 1\nb 2\n"), record.PushOptions{}))
	want(t, s, `a{instance="i",job="j"} 1`+"\n"+`b{instance="i",job="j"} 2`+"\n")
	must(t, s.Update(g, families(t, "b{x=\"1\"} 3\nc 4\n"), record.PushOptions{}))
	want(t, s, `a{instance="i",job="j"} 1`+"\n"+`b{instance="i",job="j",x="1"} 3`+"\n"+`c{instance="i",job="j"} 4`+"\n")
	must(t, s.Replace(g, families(t, "c 5\n"), record.PushOptions{}))
	want(t, s, `c{instance="i",job="j"} 5`+"\n")
	must(t, s.Delete(group(t, "job", "j")))
	want(t, s, `c{instance="i",job="j"} 5`+"\n")
	must(t, s.Delete(g))
	want(t, s, "")
	must(t, s.Delete(g))
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDocumentedFileFormat(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1763628000, 500_000_000)
	s := open(t, dir, &filestore.Options{Now: func() time.Time { return now }})
	g := group(t, "instance", "db1", "job", "backup")
	must(t, s.Replace(g, families(t, "# HELP backup_duration_seconds How long it took.\n# TYPE backup_duration_seconds gauge\nbackup_duration_seconds{job=\"other\"} 1.8e3\n"), record.PushOptions{}))
	got, err := os.ReadFile(filepath.Join(dir, "job=backup,instance=db1.prom"))
	must(t, err)
	const text = `# promspool:group {job="backup",instance="db1"}
# HELP backup_duration_seconds How long it took.
# TYPE backup_duration_seconds gauge
backup_duration_seconds{instance="db1",job="backup"} 1800
# HELP push_failure_time_seconds Last Unix time when changing this group in the spool failed.
# TYPE push_failure_time_seconds gauge
push_failure_time_seconds{instance="db1",job="backup"} 0
# HELP push_time_seconds Last Unix time when changing this group in the spool succeeded.
# TYPE push_time_seconds gauge
push_time_seconds{instance="db1",job="backup"} 1.7636280005e+09
`
	if diff := cmp.Diff(text, string(got)); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
	fi, err := os.Stat(filepath.Join(dir, "job=backup,instance=db1.prom"))
	must(t, err)
	if fi.Mode() != 0o644 {
		t.Errorf("mode %v, want 0644", fi.Mode())
	}
}

func TestConflictingPushIsRecorded(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "drop.prom"), []byte("# TYPE d gauge\nd 1\nx{job=\"b\"} 1\n"), 0o644))
	s := open(t, dir, &filestore.Options{Own: map[string]merge.Own{"go_goroutines": {Type: exposition.Gauge}}})
	a, b := group(t, "job", "a"), group(t, "job", "b")
	must(t, s.Replace(a, families(t, "# TYPE m gauge\nm 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\nh_sum 1\n"), record.PushOptions{}))
	must(t, s.Replace(b, families(t, "keep 1\n"), record.PushOptions{}))
	before := samples(s.View())
	for name, text := range map[string]string{
		"another type":                "# TYPE m counter\nm 1\n",
		"a type against none":         "m 1\n",
		"type of a dropped file":      "# TYPE d counter\nd 1\n",
		"series of a dropped file":    "x 2\n",
		"part of a histogram":         "h_count 1\n",
		"the agent's own":             "promspool_groups 1\n",
		"the agent's, another type":   "# TYPE go_goroutines counter\ngo_goroutines 1\n",
		"twice in itself":             "z 1\nz 2\n",
		"twice by the group's labels": "z{job=\"1\"} 1\nz{job=\"2\"} 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, push := range []func(grouping.Key, *exposition.Families, record.PushOptions) error{s.Replace, s.Update} {
				at := time.Now().Truncate(time.Microsecond).Add(-time.Microsecond)
				err := push(b, families(t, text), record.PushOptions{})
				var conflict *record.Conflict
				var bad *exposition.SyntaxError
				if !errors.As(err, &conflict) && !errors.As(err, &bad) {
					t.Fatalf("push = %v, want a conflict", err)
				}
				if diff := cmp.Diff(before, samples(s.View())); diff != "" {
					t.Errorf("the rejected push changed the view:\n%s", diff)
				}
				if got := s.View().File(b.FileName()).LastFailure(); got.Before(at) {
					t.Errorf("LastFailure = %v, want %v or later", got, at)
				}
			}
		})
	}
	must(t, s.Update(b, families(t, "# TYPE go_goroutines gauge\ngo_goroutines 7\n"), record.PushOptions{}))
	if got := string(s.View().AppendBeside(nil, "go_goroutines")); got != "go_goroutines{job=\"b\"} 7\n" {
		t.Errorf("the samples in the agent's own family are %q", got)
	}
	// A group does not conflict with its own old content.
	must(t, s.Replace(b, families(t, "# TYPE own gauge\nown 1\n"), record.PushOptions{}))
	must(t, s.Replace(b, families(t, "# TYPE own counter\nown 1\n"), record.PushOptions{}))
}

func TestUpdateAgainstItsOwnHistogram(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	g := group(t, "job", "a")
	must(t, s.Replace(g, families(t, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\nh_sum 1\n"), record.PushOptions{}))
	var conflict *record.Conflict
	if err := s.Update(g, families(t, "h_count 1\n"), record.PushOptions{}); !errors.As(err, &conflict) {
		t.Errorf("Update = %v, want a conflict", err)
	}
}

func TestNamesOfGroups(t *testing.T) {
	for _, tc := range []struct {
		want  string
		pairs []string
	}{
		{"job=backup,instance=db1.prom", []string{"instance", "db1", "job", "backup"}},
		{"job=a%2fb,path=%2f..%2f%3d%2c%25.prom", []string{"job", "a/b", "path", "/../=,%"}},
		{"job=.prom.prom", []string{"job", ".prom"}},
		{"job=%e6%97%a5.prom", []string{"job", "日"}},
	} {
		if got := group(t, tc.pairs...).FileName(); got != tc.want {
			t.Errorf("FileName of %q = %s, want %s", tc.pairs, got, tc.want)
		}
	}
	seen := map[string]string{}
	for _, v := range []string{"a", "A", "aB", "Ab", "ab", strings.Repeat("x", 300), strings.Repeat("x", 301), strings.Repeat("X", 300), "a\nb", "a%0ab", "a~b", "é", "e\u0301"} {
		name := group(t, "job", v).FileName()
		if other, ok := seen[strings.ToLower(name)]; ok {
			t.Errorf("%q and %q have file names that some file systems treat as equal: %s", v, other, name)
		}
		seen[strings.ToLower(name)] = v
		if len(name) > 220 || strings.ContainsAny(name, "/\n") {
			t.Errorf("%q has the name %q", v, name)
		}
	}
}

func TestCopyOfPushedFileIsDropped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	g := group(t, "job", "a")
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{}))
	data, err := os.ReadFile(filepath.Join(dir, g.FileName()))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "copy.prom"), data, 0o644))
	_, err = s.Reload("copy.prom")
	must(t, err)
	want(t, s, "m{job=\"a\"} 1\n")
	if f := s.View().File("copy.prom"); !f.Group().IsZero() || f.Series() != 3 {
		t.Errorf("the copy is %v with %d series", f.Group(), f.Series())
	}
	must(t, s.Wipe())
	want(t, s, "m{job=\"a\"} 1\n") // the dropped copy stays
}

func TestTwoStoresOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, nil), open(t, dir, nil)
	g := group(t, "job", "j")
	var wg sync.WaitGroup
	const n = 40
	for i, s := range []*filestore.Store{a, b} {
		wg.Go(func() {
			for k := range n {
				if err := s.Update(g, families(t, fmt.Sprintf("m%d_%d 1\n", i, k)), record.PushOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, err := a.Rescan()
	must(t, err)
	if got := strings.Count(samples(a.View()), "\n"); got != 2*n {
		t.Errorf("%d of %d merged families exist", got, 2*n)
	}
	must(t, b.Delete(g))
	must(t, a.Delete(g))
}

func TestReplacedDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "spool")
	must(t, os.Mkdir(dir, 0o755))
	s := open(t, dir, nil)
	g, h := group(t, "job", "g"), group(t, "job", "h")
	must(t, s.Replace(g, families(t, "m 1\n"), record.PushOptions{}))
	must(t, os.Rename(dir, dir+".old"))
	if err := s.Replace(h, families(t, "m 2\n"), record.PushOptions{}); err == nil {
		t.Error("a push without a directory was acknowledged")
	}
	if got := samples(s.View()); got != "" {
		t.Errorf("without a directory the view has\n%s", got)
	}
	must(t, os.Mkdir(dir, 0o755))
	must(t, s.Replace(h, families(t, "m 2\n"), record.PushOptions{}))
	want(t, s, "m{job=\"h\"} 2\n")
	if _, err := os.Stat(filepath.Join(dir, h.FileName())); err != nil {
		t.Error(err)
	}
	must(t, os.Rename(dir, dir+".second"))
	must(t, os.Rename(dir+".old", dir))
	must(t, s.Delete(h))
	want(t, s, "m{job=\"g\"} 1\n")
}

func TestLeftoversAreSwept(t *testing.T) {
	dir := t.TempDir()
	spare := []string{".job=a.prom", "job=a.prom123", ".other.prom123", ".job=a.prom12x", "x.prom.tmp"}
	for _, name := range append(spare, ".job=a.prom4711", ".job=a,x=1.prom1") {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("m 1\n"), 0o600))
	}
	s, err := filestore.Open(dir, nil)
	must(t, err)
	defer s.Close()
	if left := entries(t, dir); len(left) != len(spare) {
		t.Errorf("after the sweep there are %q, want only %q", left, spare)
	}
}

// TestViewDependsOnFilesOnly runs random pushes, drops, deletions and renames. It compares
// the view with the directory in between, and open does at the end.
func TestViewDependsOnFilesOnly(t *testing.T) {
	filestore.SetLoadChunk(t, 2)
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(seed, 2))
			c := newCalendar()
			opts := &filestore.Options{Unchecked: seed%2 == 0, Hold: time.Nanosecond, Now: c.now}
			if seed%3 == 0 {
				opts.Lifetimes = record.Lifetimes{Retention: 3 * time.Hour, Dropped: true}
				opts.Lifetimes.Policy = []record.Lifetime{must1(record.ParseLifetime(`{job="1"}=2h`))}
			}
			s := open(t, dir, opts)
			body := func() string {
				var b strings.Builder
				for _, name := range []string{"a", "b", "c", "h", "h_sum"} {
					if r.IntN(2) == 0 {
						continue
					}
					if r.IntN(2) == 0 {
						fmt.Fprintf(&b, "# HELP %s %d\n", name, r.IntN(3))
					}
					if name == "h" {
						fmt.Fprintf(&b, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum %d\nh_count 1\n", r.IntN(3))
						continue
					}
					fmt.Fprintf(&b, "# TYPE %s %s\n%s{x=\"%d\"} %d\n", name, []string{"gauge", "gauge", "counter"}[r.IntN(3)], name, r.IntN(2), r.IntN(3))
				}
				return b.String()
			}
			push := func() (o record.PushOptions) {
				if r.IntN(2) == 0 {
					o.TTL = ttl(time.Duration(r.IntN(3)) * time.Hour)
				}
				o.Accumulate = r.IntN(3) == 0
				return o
			}
			for range 50 {
				g := group(t, "job", fmt.Sprint(r.IntN(3)))
				if r.IntN(2) == 0 {
					g = group(t, "job", fmt.Sprint(r.IntN(3)), "x", "0")
				}
				drop := fmt.Sprintf("%d.prom", r.IntN(3))
				var err error
				switch r.IntN(10) {
				case 9:
					sel := &record.Selection{Now: c.now(), OlderThan: time.Duration(r.IntN(3)) * time.Hour}
					sel.Match = []grouping.Matchers{must1(grouping.ParseMatchers(fmt.Sprintf(`job=~"%d|1"`, r.IntN(3))))}
					pick := sel.Has
					if r.IntN(3) == 0 { // dropped files as well
						pick = func(f *record.File) bool { return sel.Has(f) || f.Name() == drop }
					}
					must1(s.Rescan())
					want := []string{}
					for f := range s.View().Files() {
						if pick(f) {
							want = append(want, f.Name())
						}
					}
					var removed []*record.File
					if removed, err = s.Remove(pick); !slices.Equal(names(removed), want) {
						t.Fatalf("removed %q, want %q", names(removed), want)
					}
				case 0:
					err = s.Replace(g, families(t, body()), push())
				case 1:
					err = s.Update(g, families(t, body()), push())
				case 2:
					err = s.Delete(g)
				case 3:
					text := body()
					if r.IntN(2) == 0 {
						text = "# promspool:ttl 1h\n" + text
					}
					must(t, os.WriteFile(filepath.Join(dir, drop), []byte(text), 0o644))
					must(t, os.Chtimes(filepath.Join(dir, drop), c.Time, c.Time))
				case 4:
					if err := os.Remove(filepath.Join(dir, drop)); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
				case 5:
					to := fmt.Sprintf("%d.prom", r.IntN(3))
					if err := os.Rename(filepath.Join(dir, drop), filepath.Join(dir, to)); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
					_, _ = s.Reload(to)
				case 6:
					if err = s.Restore(g); errors.Is(err, fs.ErrNotExist) {
						err = nil
					}
				case 7, 8:
					c.pass(time.Duration(r.IntN(120)) * time.Minute)
					must1(s.Rescan())
					// A store that is opened before the sweep has the view of after the sweep.
					fresh := must1(filestore.Open(dir, &filestore.Options{Unchecked: opts.Unchecked, Now: c.now, Lifetimes: opts.Lifetimes}))
					expire(t, s)
					if opts.Lifetimes.Retention == 0 {
						if diff := cmp.Diff(string(fresh.View().AppendTo(nil)), string(s.View().AppendTo(nil))); diff != "" {
							t.Fatalf("before and after the sweep (-before +after):\n%s", diff)
						}
					}
					must(t, fresh.Close())
				}
				var conflict *record.Conflict
				var bad *exposition.SyntaxError
				if err != nil && !errors.As(err, &conflict) && !errors.As(err, &bad) {
					t.Fatal(err)
				}
				if r.IntN(3) == 0 {
					_, err = s.Reload(drop)
				} else {
					_, err = s.Rescan()
				}
				must(t, err)
				if v := s.View(); string(inflate(t, v.Deflated())) != string(v.AppendTo(nil)) {
					t.Fatal("the compressed text differs from the text")
				}
			}
			expire(t, s)
			checkPure(t, s, dir, opts)
		})
	}
}

func TestOtherDirectoriesAreReadOnly(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "textfiles")
	s := open(t, dir, nil)
	src := s.AddSource(other)
	if _, err := src.Rescan(); err == nil {
		t.Error("a missing directory was read")
	}
	must(t, os.Mkdir(other, 0o755))
	drop := func(dir, name, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	drop(dir, "a.prom", "m{x=\"1\"} 1\n")
	drop(other, "a.prom", "m{x=\"2\"} 2\n")
	g := group(t, "job", "j")
	drop(other, g.FileName(), "# promspool:group {job=\"j\"}\nm{x=\"3\"} 3\n")
	drop(other, ".job=x.prom123", "m 1\n")
	_, err := s.Rescan()
	must(t, err)
	_, err = src.Rescan()
	must(t, err)
	want(t, s, "m{x=\"1\"} 1\nm{x=\"2\"} 2\nm{x=\"3\"} 3\n")
	must(t, s.Delete(g))
	must(t, s.Wipe())
	want(t, s, "m{x=\"1\"} 1\nm{x=\"2\"} 2\nm{x=\"3\"} 3\n")
	drop(other, "a.prom", "m{x=\"1\"} 5\n")
	_, err = src.Reload("a.prom")
	must(t, err)
	want(t, s, "m{x=\"1\"} 1\nm{x=\"3\"} 3\n")
	if c := s.View().Conflicts(); len(c) != 1 || c[0].File != filepath.Join(other, "a.prom") || c[0].Kept != "a.prom" {
		t.Errorf("conflicts: %v", c)
	}
	if _, err := os.Stat(filepath.Join(other, ".job=x.prom123")); err != nil {
		t.Errorf("another directory was swept: %v", err)
	}
	must(t, os.RemoveAll(other))
	if _, err := src.Rescan(); err == nil {
		t.Error("a deleted directory was read")
	}
	want(t, s, "m{x=\"1\"} 1\n")
}

func TestSettleLine(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	s := open(t, dir, &filestore.Options{Now: func() time.Time { return now }})
	name := filepath.Join(dir, "two-steps.prom")
	must(t, os.WriteFile(name, []byte("# promspool:settle 5s\na 1\n"), 0o644))
	now = time.Now()
	retry, err := s.Reload("two-steps.prom")
	must(t, err)
	want(t, s, "")
	if len(retry) != 1 {
		t.Errorf("Reload = %v, want the file", retry)
	}
	must(t, os.WriteFile(name, []byte("# promspool:settle 5s\na 1\nb 2\n"), 0o644))
	now = time.Now().Add(6 * time.Second)
	retry, err = s.Reload("two-steps.prom")
	must(t, err)
	want(t, s, "a 1\nb 2\n")
	if len(retry) != 0 {
		t.Errorf("Reload = %v, want nothing", retry)
	}
}

func TestPushDoesNotWaitForWriter(t *testing.T) {
	dir := t.TempDir()
	g := group(t, "job", "j")
	f, err := os.Create(filepath.Join(dir, g.FileName()))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("# promspool:group {job=\"j\"}\nm 1\n")
	must(t, err)
	s := open(t, dir, nil)
	must(t, s.Replace(g, families(t, "m 2\n"), record.PushOptions{}))
	want(t, s, "m{job=\"j\"} 2\n")
}

func TestMaxFailedGroups(t *testing.T) {
	s := open(t, t.TempDir(), &filestore.Options{MaxFailedGroups: 3})
	bad := "m 1\nm 2\n"
	for i := range 5 {
		var syntax *exposition.SyntaxError
		if err := s.Replace(group(t, "job", fmt.Sprint(i)), families(t, bad), record.PushOptions{}); !errors.As(err, &syntax) {
			t.Fatalf("Replace = %v, want a syntax error", err)
		}
	}
	if got := s.View().Totals(); got.Groups != 3 || got.Failed != 3 {
		t.Errorf("%d groups, %d of them failed, want 3 and 3", got.Groups, got.Failed)
	}
	must(t, s.Replace(group(t, "job", "0"), families(t, "m 1\n"), record.PushOptions{}))
	if got := s.View().Totals(); got.Groups != 3 || got.Failed != 2 {
		t.Errorf("%d groups, %d of them failed, want 3 and 2", got.Groups, got.Failed)
	}
}

func TestPostToInvalidFile(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	s := open(t, dir, &filestore.Options{Now: func() time.Time { return now }})
	g := group(t, "job", "j")
	must(t, s.Replace(g, families(t, "keep 1\na 1\n"), record.PushOptions{}))
	name := filepath.Join(dir, g.FileName())
	good, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, append(good, "half"...), 0o644))
	now = time.Now()
	_, err = s.Rescan()
	must(t, err)
	// For a moment the last valid content stays, and a push adds to it.
	must(t, s.Update(g, families(t, "b 1\n"), record.PushOptions{}))
	want(t, s, "a{job=\"j\"} 1\nb{job=\"j\"} 1\nkeep{job=\"j\"} 1\n")
	// After that the content of the group is unknown.
	must(t, os.WriteFile(name, []byte("half"), 0o644))
	now = time.Now().Add(time.Minute)
	_, err = s.Rescan()
	must(t, err)
	if err := s.Update(g, families(t, "c 1\n"), record.PushOptions{}); err == nil || !strings.Contains(err.Error(), g.FileName()) {
		t.Errorf("Update = %v, want an error that names the file", err)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "half" {
		t.Errorf("the file has %q, %v", data, err)
	}
	must(t, s.Replace(g, families(t, "c 1\n"), record.PushOptions{}))
	want(t, s, "c{job=\"j\"} 1\n")
}

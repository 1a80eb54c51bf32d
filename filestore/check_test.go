package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
)

// spoolOf makes a directory with files. The text "|" makes a pipe, "/" a directory, and a
// text that begins with -> a link.
func spoolOf(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		target, link := strings.CutPrefix(text, "->")
		switch {
		case text == "|":
			must(t, unix.Mkfifo(path, 0o644))
		case text == "/":
			must(t, os.Mkdir(path, 0o755))
		case link:
			must(t, os.Symlink(target, path))
		default:
			must(t, os.WriteFile(path, []byte(text), 0o644))
		}
	}
	return dir
}

// found returns the findings of a directory, with relative paths.
func found(t testing.TB, dir string, opts *filestore.CheckOptions, paths ...string) []string {
	t.Helper()
	if len(paths) == 0 {
		paths = []string{dir}
	}
	report, err := filestore.Check(paths, opts)
	must(t, err)
	list := []string{}
	for _, f := range report.Findings {
		list = append(list, fmt.Sprintf("%s:%d %s %s: %s", strings.TrimPrefix(f.File, dir+"/"), f.Line, f.Reason, f.Family, f.NodeExporter))
		if f.Message == "" || strings.Contains(f.Message, "secret") {
			t.Errorf("message %q", f.Message)
		}
	}
	return list
}

func TestCheck(t *testing.T) {
	own := map[string]merge.Own{"go_info": {Type: exposition.Gauge}}
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"nothing", map[string]string{}, nil},
		{"fine", map[string]string{"a.prom": "m 1\n", "b.prom": "m{x=\"1\"} 1\n", ".c.prom": "secret\n", "c.txt": "secret\n"}, nil},
		{"syntax", map[string]string{"a.prom": "m 1\nm secret\n"}, []string{"a.prom:2 syntax : refuses the file"}},
		{"incomplete", map[string]string{"a.prom": "m 1"}, []string{"a.prom:1 incomplete : refuses the file"}},
		{"timestamp", map[string]string{"a.prom": "\nm 1 2\n"}, []string{"a.prom:2 timestamp : refuses the file"}},
		{"encoding", map[string]string{"a.prom": "m{x=\"secret\xff\"} 1\n"}, []string{"a.prom:1 encoding : refuses the file"}},
		{"reserved label", map[string]string{"a.prom": "m{__x=\"secret\"} 1\n"}, []string{"a.prom:1 reserved : dies"}},
		{"no name", map[string]string{"a.prom": "# TYPE m gauge\n{x=\"secret\"} 1\n"}, []string{"a.prom:2 syntax : dies"}},
		{"no name after a sample", map[string]string{"a.prom": "m 1\n{x=\"secret\"} 1\n"}, []string{"a.prom:2 syntax : serves other values"}},
		{"gauge histogram", map[string]string{"a.prom": "# TYPE m gaugehistogram\nm_bucket{le=\"+Inf\"} 1\n"}, []string{"a.prom:1 syntax : dies"}},
		{
			"not regular",
			map[string]string{"a.prom": "/", "b.prom": "|", "c.prom": "->b.prom", "d.prom": "->secret", "e.prom": "->f.txt", "f.txt": "m 1\n"},
			[]string{"a.prom:0 not-regular : refuses the file", "b.prom:0 not-regular : hangs", "c.prom:0 not-regular : hangs", "d.prom:0 unreadable : refuses the file"},
		},
		{"too large", map[string]string{"a.prom": strings.Repeat("# filler\n", 1000)}, []string{"a.prom:0 too-large : reads it"}},
		{"twice in a file", map[string]string{"a.prom": "x 1\nm{a=\"secret\"} 1\nm{a=\"secret\"} 2\n"}, []string{"a.prom:3 duplicate m: drops some series"}},
		{
			"twice in two files",
			map[string]string{"a.prom": "m{a=\"secret\"} 1\n", "b.prom": "m 3\nm{a=\"secret\"} 2\n"},
			[]string{"b.prom:2 duplicate m: drops some series"},
		},
		{"empty label", map[string]string{"a.prom": "m 1\n", "b.prom": "m{a=\"\"} 2\n"}, []string{"b.prom:1 duplicate m: serves a series twice"}},
		{"two types", map[string]string{"a.prom": "# TYPE m gauge\nm 1\n", "b.prom": "n 1\n# TYPE m counter\nm{a=\"b\"} 1\n"}, []string{"b.prom:3 type-conflict m: drops the family"}},
		{
			"part of a histogram",
			map[string]string{"a.prom": "h_count 1\n", "b.prom": "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"},
			[]string{"b.prom:2 duplicate h: drops the family"},
		},
		{"the agent's", map[string]string{"a.prom": "# TYPE go_info gauge\ngo_info 1\npromspool_x 1\n"}, []string{
			"a.prom:2 reserved go_info: may drop the family", "a.prom:3 reserved promspool_x: serves it",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := spoolOf(t, tt.files)
			got := found(t, dir, &filestore.CheckOptions{Own: own, MaxFileBytes: 1000})
			if diff := cmp.Diff(tt.want, got, equateEmpty); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

var equateEmpty = cmp.Transformer("empty", func(l []string) []string { return append([]string{}, l...) })

// The message about a series in two files names what differs.
func TestCheckNamesWhatDiffers(t *testing.T) {
	const om2 = "start times, exemplars or native histograms (om2 lines)"
	counter := func(value, start string) string {
		text := "d_total{a=\"" + value + "\"} " + value + "\n"
		if start != "" {
			text += "# promspool:om2 d_total{a=\"" + value + "\"} " + value + ".0 st@" + start + "\n"
		}
		return text
	}
	for _, tt := range []struct{ name, a, b, want string }{
		{"values", "d_total{a=\"1\"} 2\n", counter("1", ""), "a.prom\" already, with other values"},
		{"values and lines", "d_total{a=\"1\"} 2\n", counter("1", "5"), "with other values"},
		{"lines", counter("1", "5"), counter("1", "6"), "with equal values but other " + om2},
		{"a line is missing in the first file", counter("1", ""), counter("1", "6"), "with equal values but other " + om2},
		{"both", "d_total{a=\"1\"} 2\n" + counter("3", "5"), counter("1", "") + counter("3", "6"), "a.prom\" already, with other values, " + om2},
		{"a line is missing in the second file", counter("1", "5"), counter("1", ""), ""},
		{"nothing", counter("1", "5"), counter("1", "5"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"a.prom": tt.a, "b.prom": tt.b} {
				must(t, os.WriteFile(filepath.Join(dir, name), []byte("# TYPE d_total counter\n"+text), 0o644))
			}
			report, err := filestore.Check([]string{dir}, nil)
			must(t, err)
			if tt.want == "" {
				if len(report.Findings) != 0 {
					t.Errorf("findings %+v, want none", report.Findings)
				}
				return
			}
			if len(report.Findings) != 1 || !strings.HasSuffix(report.Findings[0].Message, tt.want) || report.Findings[0].Reason != exposition.Duplicate {
				t.Errorf("findings %+v, want the message %q", report.Findings, tt.want)
			}
		})
	}
}

func TestCheckMergesDirectories(t *testing.T) {
	a := spoolOf(t, map[string]string{"m.prom": "m 1\n", "n.txt": "n 1\n"})
	b := spoolOf(t, map[string]string{"m.prom": "m 2\n", "o.prom": "n 2\n"})
	report, err := filestore.Check([]string{a, b}, nil)
	must(t, err)
	if report.Files != 3 || report.Series != 3 || len(report.Findings) != 0 {
		t.Errorf("two directories: %+v", report)
	}
	paths := []string{b + "/m.prom", b + "/o.prom", a + "/m.prom", a + "/./m.prom", a + "/n.txt"}
	report, err = filestore.Check(paths, nil)
	must(t, err)
	if report.Files != 4 || len(report.Findings) != 2 || report.Findings[0].Family != "m" || report.Findings[1].File != b+"/o.prom" {
		t.Errorf("their files: %+v", report)
	}
}

func TestCheckUnreadablePath(t *testing.T) {
	dir := spoolOf(t, map[string]string{"a.prom": "m one\n", "b.prom": "->nowhere"})
	report, err := filestore.Check([]string{dir + "/none.prom", dir + "/a.prom", dir + "/b.prom", dir + "/none"}, nil)
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("Check = %v, want three errors", err)
	}
	if len(report.Findings) != 1 || report.Files != 1 {
		t.Errorf("of the other file: %+v", report)
	}
}

// TestCheckMatchesStore compares Check with a Store on random files. Check must report
// exactly the files and series that the Store excludes.
func TestCheckMatchesStore(t *testing.T) {
	lines := []string{
		"m 1\n", "m 2\n", "m{a=\"b\"} 1\n", "m{a=\"\"} 1\n", "m_count 1\n", "# TYPE m gauge\n", "# TYPE m counter\n", "# HELP m One.\n", "# HELP m Two.\n",
		"# TYPE h histogram\n", "h_bucket{le=\"+Inf\"} 1.5\n", "h_sum 1\n", "h_count 1\n", "h 1\n", "# TYPE h summary\n", "n 1 1\n", "n one\n", "n 1", "{\"ü\"} 1 \r\n",
		"{a=\"b\"} 1\n", "m{__a=\"b\"} 1\n", "# TYPE n unknown\n", "promspool_x 1\n", "# HELP n \xff\n", "n 1\n",
	}
	rapid.Check(t, func(r *rapid.T) {
		files := map[string]string{}
		for i := range rapid.IntRange(1, 4).Draw(r, "files") {
			files[fmt.Sprintf("%d.prom", i)] = strings.Join(rapid.SliceOfN(rapid.SampledFrom(lines), 0, 5).Draw(r, "lines"), "")
		}
		dir := spoolOf(t, files)
		s, err := filestore.Open(dir, nil)
		must(t, err)
		defer s.Close()
		var faults []string
		for f := range s.View().Files() {
			if p := f.Problem(); p != nil {
				faults = append(faults, f.Name()+" "+string(p.Reason))
			}
		}
		for _, x := range s.View().Conflicts() {
			faults = append(faults, x.File+" "+string(x.Reason))
		}
		for _, all := range []bool{false, true} {
			report, err := filestore.Check([]string{dir}, &filestore.CheckOptions{NodeExporter: all})
			must(t, err)
			var got []string
			for _, f := range report.Findings {
				if f.NodeExporter == "" || f.Message == "" || f.File == "" {
					r.Fatalf("incomplete: %+v", f)
				}
				if f.Reason != filestore.NodeExporterOnly {
					got = append(got, filepath.Base(f.File)+" "+string(f.Reason))
				}
			}
			slices.Sort(got)
			slices.Sort(faults)
			if diff := cmp.Diff(faults, got, equateEmpty); diff != "" {
				r.Fatalf("%q: findings (-store +check):\n%s", files, diff)
			}
		}
	})
}

// TestCheckNodeExporter compares the findings of Check about node_exporter with that
// program. The label f of each sample names its file.
func TestCheckNodeExporter(t *testing.T) {
	const program = "prometheus-node-exporter"
	if _, err := exec.LookPath(program); err != nil && os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	version, err := exec.Command(program, "--version").CombinedOutput()
	must(t, err)
	imitated := strings.Contains(string(version), "version "+filestore.NodeExporterVersion)
	const a, b, c = "m{f=\"a\"} 1\n", "m{f=\"b\"} 1\n", "m{f=\"c\"} 1\n"
	const gauge, one, two = "# TYPE m gauge\n", "# HELP m One.\n", "# HELP m Two.\n"
	histogram := func(bucket, rest string) string {
		return "# TYPE h histogram\nh_bucket{f=\"a\",le=\"+Inf\"} " + bucket + "\n" + rest
	}
	for _, tt := range []struct {
		name  string // with a plus if other versions behave differently
		files map[string]string
		want  []string
	}{
		{"fine", map[string]string{"a.prom": one + gauge + a, "b.prom": one + gauge + b}, nil},
		{"no headers", map[string]string{"a.prom": a, "b.prom": b}, nil},
		{"blanks at an end", map[string]string{"a.prom": "m{f=\"a\"} 1 \n", "b.prom": b}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"blanks after a type", map[string]string{"a.prom": "# TYPE m gauge \n" + a}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"carriage return", map[string]string{"a.prom": "m{f=\"a\"} 1\r\n"}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"byte order mark", map[string]string{"a.prom": "\ufeff" + a}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"UTF-8 name", map[string]string{"a.prom": "{\"ü\",f=\"a\"} 1\n"}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"UTF-8 label", map[string]string{"a.prom": "m{f=\"a\",\"ü\"=\"\"} 1\n"}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"unknown", map[string]string{"a.prom": "# TYPE m unknown\n" + a}, []string{"a.prom:1 node_exporter : refuses the file"}},
		{"second type", map[string]string{"a.prom": gauge + gauge + a}, []string{"a.prom:2 node_exporter : refuses the file"}},
		{"syntax", map[string]string{"a.prom": a + "m one\n", "b.prom": b}, []string{"a.prom:2 syntax : refuses the file"}},
		{"incomplete", map[string]string{"a.prom": "m{f=\"a\"} 1"}, []string{"a.prom:1 incomplete : refuses the file"}},
		{"timestamp", map[string]string{"a.prom": "m{f=\"a\"} 1 1\n"}, []string{"a.prom:1 timestamp : refuses the file"}},
		{"hidden", map[string]string{".b.prom": b, "a.prom": a}, []string{".b.prom:0 node_exporter : reads it"}},
		{"other help+", map[string]string{"a.prom": one + a, "b.prom": two + b, "c.prom": one + c}, []string{"b.prom:2 node_exporter m: drops the family", "c.prom:2 node_exporter m: drops the family"}},
		{"help in the first", map[string]string{"a.prom": one + a, "b.prom": b}, []string{"b.prom:1 node_exporter m: drops the family"}},
		{"help in the second", map[string]string{"a.prom": a, "b.prom": one + b}, []string{"b.prom:2 node_exporter m: drops the family"}},
		{"type in the first", map[string]string{"a.prom": gauge + a, "b.prom": b}, []string{"b.prom:1 node_exporter m: drops the family"}},
		{"other type", map[string]string{"a.prom": gauge + a, "b.prom": "# TYPE m counter\n" + b}, []string{"b.prom:2 type-conflict m: drops the family"}},
		{"part", map[string]string{"a.prom": histogram("1", "h_sum{f=\"a\"} 1\nh_count{f=\"a\"} 1\n"), "b.prom": "h_count{f=\"b\"} 1\n"}, []string{"b.prom:1 duplicate h_count: drops the family"}},
		{"fractions", map[string]string{"a.prom": histogram("1.5", "h_sum{f=\"a\"} 1\nh_count{f=\"a\"} 1\n")}, []string{"a.prom:2 node_exporter h: serves other values"}},
		{"no sum", map[string]string{"a.prom": histogram("1", "")}, []string{"a.prom:2 node_exporter h: serves other values"}},
		{"empty labels", map[string]string{"a.prom": a, "b.prom": "m{f=\"a\",x=\"\"} 1\n" + b}, []string{"b.prom:1 node_exporter m: serves a series twice"}},
		{"broken help", map[string]string{"a.prom": "# HELP m \xff\n" + a}, []string{"a.prom:2 node_exporter m: serves a page that Prometheus refuses"}},
		{"own name", map[string]string{"a.prom": "node_textfile_scrape_error{f=\"a\"} 1\n"}, []string{"a.prom:1 node_exporter node_textfile_scrape_error: loses metrics of its own"}},
		{"reserved label", map[string]string{"a.prom": "m{f=\"a\",__x=\"y\"} 1\n"}, []string{"a.prom:1 reserved : dies"}},
		{"gauge histogram+", map[string]string{"a.prom": "# TYPE h gaugehistogram\nh_bucket{le=\"+Inf\"} 1\n"}, []string{"a.prom:1 syntax : dies"}},
		{"gauge histogram of OpenMetrics+", map[string]string{"a.prom": "# TYPE m gaugehistogram\nm_bucket{le=\"+Inf\"} 1\nm_gcount 1\n# EOF\n"}, []string{"a.prom:2 node_exporter m: dies"}},
		{"no name+", map[string]string{"a.prom": gauge + "{f=\"a\"} 1\n"}, []string{"a.prom:2 syntax : dies"}},
		{"no name after a sample+", map[string]string{"a.prom": "m 1\n{f=\"a\"} 2\n"}, []string{"a.prom:2 syntax : serves other values"}},
		{"no name, same label+", map[string]string{"a.prom": "m{f=\"a\"} 1\n\n{x=\"y\"} 1\n{f=\"a\"} 2\n"}, []string{"a.prom:3 syntax : dies"}},
		{"file name", map[string]string{"\xff.prom": a}, []string{"\\xff.prom:0 node_exporter : dies"}},
		{"two texts and none+", map[string]string{"a.prom": one + a, "b.prom": two + b, "c.prom": c}, []string{"b.prom:2 node_exporter m: drops the family", "c.prom:1 node_exporter m: dies"}},
		{"directory+", map[string]string{"a.prom": a, "b.prom": "/", "c.prom": "->nowhere"}, []string{"b.prom:0 not-regular : refuses the file", "c.prom:0 unreadable : refuses the file"}},
		{"pipe", map[string]string{"a.prom": a, "b.prom": "|"}, []string{"b.prom:0 not-regular : hangs"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := spoolOf(t, tt.files)
			got := found(t, dir, &filestore.CheckOptions{NodeExporter: true})
			if diff := cmp.Diff(tt.want, got, equateEmpty); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if strings.HasSuffix(tt.name, "+") && !imitated {
				return
			}
			all := strings.Join(got, "\n")
			within := 2 * time.Minute
			if strings.HasSuffix(all, ": hangs") {
				within = 2 * time.Second
			}
			page, err := nodePage(t, program, dir, within)
			switch {
			case strings.HasSuffix(all, ": dies"), strings.HasSuffix(all, ": hangs"):
				if err == nil || strings.HasSuffix(all, ": hangs") != errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s, but it answers %q, %v", all, page, err)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			for name := range tt.files {
				served := strings.Contains(page, "{file=\""+filepath.Join(dir, name)+"\"}")
				said := func(verdict string) bool {
					return slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, name) && strings.HasSuffix(f, verdict) })
				}
				if refused := said(": refuses the file"); served == refused {
					t.Errorf("%s: refused %v, served %v", name, refused, served)
				}
				label, dropped := "f=\""+strings.Trim(name, ".")[:1]+"\"", said(": drops the family")
				if has := strings.Contains(page, label); served && has == dropped {
					t.Errorf("%s: dropped %v, on the page %v:\n%s", name, dropped, has, page)
				}
			}
		})
	}
}

// nodePage returns the response of a node_exporter on the directory within a time.
func nodePage(t *testing.T, program, dir string, within time.Duration) (string, error) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	defer log.Close()
	cmd := exec.Command(program, "--web.listen-address=127.0.0.1:0", "--web.disable-exporter-metrics", "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+dir)
	cmd.Stderr = log
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill() // it may have exited
		_ = cmd.Wait()
	}()
	address := ""
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); address == ""; <-tick.C {
		said, err := os.ReadFile(log.Name())
		must(t, err)
		if _, rest, ok := strings.Cut(string(said), `msg="Listening on" address=`); ok && strings.Contains(rest, "\n") {
			address = strings.Fields(rest)[0]
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not listen: %s", said)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	return string(page), err
}

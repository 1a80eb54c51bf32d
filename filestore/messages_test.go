package filestore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// faultyTexts have a word that must not be quoted to readers who may not read the file.
var faultyTexts = map[string]string{
	"dash":               "s3cr3t-name 1\n",
	"comma":              "s3cr3t 1,5\n",
	"word":               "m s3cr3t\n",
	"unit":               "m 12s3cr3t\n",
	"message":            "Warning: s3cr3t busy\n",
	"no-break space":     "s3cr3t\u00a01\n",
	"name":               "s3cr3t x\n",
	"no name":            "  !s3cr3t 1\n",
	"digit":              "5s3cr3t 1\n",
	"quotes":             "m{a=\"x\" s3cr3t\"} 1\n",
	"text after a label": "m{a=\"x\" s3cr3t} 1\n",
	"value of a label":   "m{a=s3cr3t} 1\n",
	"label name":         "m{s3cr3t-x=\"\"} 1\n",
	"open quotes":        "m{s3cr3t=\"x} 1\n",
	"escape":             "m{s3cr3t=\"\\d\"} 1\n",
	"label twice":        "m{s3cr3t=\"\",s3cr3t=\"x\"} 1\n",
	"reserved label":     "m{__s3cr3t=\"\"} 1\n",
	"two names":          "m{\"s3cr3t\"} 1\n",
	"after the value":    "m 1 s3cr3t\n",
	"after a timestamp":  "m 1 2 s3cr3t\n",
	"timestamp":          "s3cr3t 1 2\n",
	"type":               "# TYPE m s3cr3t\n",
	"second type":        "# TYPE s3cr3t gauge\n# TYPE s3cr3t counter\n",
	"help":               "# HELP s3cr3t \\d\n",
	"name of a type":     "# TYPE s3cr3t-x gauge\n",
	"no newline":         "s3cr3t 1",
	"not UTF-8":          "s3cr3t{a=\"\xfc\"} 1\n",
	"bound":              "# TYPE h histogram\nh_bucket{le=\"s3cr3t\"} 1\n",
	"part":               "# TYPE s3cr3t histogram\ns3cr3t 1\n",
	"collision":          "# TYPE s3cr3t histogram\ns3cr3t_sum 1\ns3cr3t_count 1\ns3cr3t_bucket{le=\"1\"} 1\n# TYPE s3cr3t_sum gauge\ns3cr3t_sum 1\n",
	"duplicate":          "m{a=\"s3cr3t\"} 1\nm{a=\"s3cr3t\"} 2\n",
}

// TestFaultsOfFilesQuoteWhatEverybodyMayRead: the page and the log are open to readers who
// may not read the file, and so are metrics.
func TestFaultsOfFilesQuoteWhatEverybodyMayRead(t *testing.T) {
	tests := []struct {
		name      string
		file, dir os.FileMode
		quoted    bool
	}{
		{"everybody", 0o644, 0o755, true},
		{"the group", 0o640, 0o755, false},
		{"everybody in the directory", 0o644, 0o750, false},
	}
	for _, who := range tests {
		for name, text := range faultyTexts {
			t.Run(name+" for "+who.name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "spool")
				must(t, os.Mkdir(dir, 0o700))
				path := filepath.Join(dir, "x.prom")
				must(t, os.WriteFile(path, []byte(text), 0o600))
				must(t, os.Chmod(path, who.file))
				must(t, os.Chmod(dir, who.dir))
				s, err := filestore.Open(dir, &filestore.Options{Hold: 1})
				must(t, err)
				defer s.Close()
				p := s.View().File("x.prom").Problem()
				if p == nil {
					t.Fatalf("%q has no fault", text)
				}
				if quoted := strings.Contains(p.Report(), "s3cr3t"); quoted != who.quoted {
					t.Errorf("%q: the sentence %q quotes: %v, want %v", text, p.Report(), quoted, who.quoted)
				}
				if !who.quoted && (strings.ContainsAny(p.Report(), "\x00") || strings.Contains(p.Report(), "  ")) {
					t.Errorf("%q: the sentence %q has a gap", text, p.Report())
				}
				if strings.Contains(p.Error(), "s3cr3t") {
					t.Errorf("%q: the error %q quotes", text, p)
				}
			})
		}
	}
}

// TestFaultsOfFilesAreQuotedAnew: a file may become readable for fewer than before.
func TestFaultsOfFilesAreQuotedAnew(t *testing.T) {
	for name, text := range map[string]string{"whole": "m s3cr3t\n", "part": "m{a=\"s3cr3t\"} 1\nm{a=\"s3cr3t\"} 2\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Chmod(dir, 0o755))
			path := filepath.Join(dir, "x.prom")
			must(t, os.WriteFile(path, []byte(text), 0o644))
			must(t, os.Chmod(path, 0o644))
			s, err := filestore.Open(dir, &filestore.Options{Hold: 1})
			must(t, err)
			defer s.Close()
			for _, mode := range []os.FileMode{0o644, 0o600, 0o644} {
				must(t, os.Chmod(path, mode))
				rescan(t, s)
				p := s.View().File("x.prom").Problem()
				if quoted := strings.Contains(p.Report(), "s3cr3t"); quoted != (mode == 0o644) {
					t.Errorf("with the mode %o the sentence is %q", mode, p.Report())
				}
			}
		})
	}
}

// TestUntypedBesideTheAgentsOwn: what other programs push without a type takes the
// agent's, as it does in dropped files.
func TestUntypedBesideTheAgentsOwn(t *testing.T) {
	own := map[string]merge.Own{
		"cpu_total": {Type: exposition.Counter},
		"open_fds":  {Type: exposition.Gauge},
		"gc":        {Type: exposition.Summary, Labels: []string{"quantile"}},
	}
	tests := []struct {
		text string
		ok   bool
		want string
	}{
		{"cpu_total 1\n", true, "# TYPE cpu_total counter\n"},
		{"# TYPE cpu_total untyped\ncpu_total 1\n", true, "# TYPE cpu_total counter\n"},
		{"open_fds 1\n", true, "# TYPE open_fds gauge\n"},
		{"another 1\n", true, "# TYPE another untyped\n"},
		{"# TYPE cpu_total gauge\ncpu_total 1\n", false, ""},
		{"gc 1\n", false, ""},
		{"gc_sum 1\n", false, ""},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			dir := t.TempDir()
			s, err := filestore.Open(dir, &filestore.Options{Own: own})
			must(t, err)
			defer s.Close()
			g := group(t, "job", "j")
			for _, push := range []func() error{
				func() error { return s.Replace(g, families(t, test.text), record.PushOptions{}) },
				func() error { return s.Update(g, families(t, test.text), record.PushOptions{}) },
			} {
				if err := push(); (err == nil) != test.ok {
					t.Fatalf("the push of %q ends with %v", test.text, err)
				}
			}
			data, err := os.ReadFile(filepath.Join(dir, g.FileName()))
			must(t, err)
			if !strings.Contains(string(data), test.want) {
				t.Errorf("the file is\n%swant %q in it", data, test.want)
			}
			again, err := filestore.Open(dir, &filestore.Options{Own: own})
			must(t, err)
			defer again.Close()
			if c := again.View().Conflicts(); len(c) > 0 {
				t.Errorf("read again, there is %v", c[0])
			}
		})
	}
}

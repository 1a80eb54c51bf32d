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

// faultyTexts have a word that must not be quoted to users without access to the file.
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

// TestMessagesQuotePublicFilesOnly expects that messages quote a file only if all users
// may read it. Users without access to the file may read the page, the log and metrics.
func TestMessagesQuotePublicFilesOnly(t *testing.T) {
	tests := []struct {
		name      string
		file, dir os.FileMode
		quoted    bool
	}{
		{"everybody", 0o644, 0o755, true},
		{"the group", 0o640, 0o755, false},
		{"private directory", 0o644, 0o750, false},
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
					t.Fatalf("%q is valid", text)
				}
				if quoted := strings.Contains(p.Report(), "s3cr3t"); quoted != who.quoted {
					t.Errorf("%q: the message %q quotes: %v, want %v", text, p.Report(), quoted, who.quoted)
				}
				if !who.quoted && (strings.ContainsAny(p.Report(), "\x00") || strings.Contains(p.Report(), "  ")) {
					t.Errorf("%q: the message %q has a gap", text, p.Report())
				}
				if strings.Contains(p.Error(), "s3cr3t") {
					t.Errorf("%q: the error %q quotes", text, p)
				}
			})
		}
	}
}

// TestMessagesFollowMode expects that a message changes with the mode of the file.
func TestMessagesFollowMode(t *testing.T) {
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
					t.Errorf("with mode %o the message is %q", mode, p.Report())
				}
			}
		})
	}
}

// TestUntypedOwnFamilies expects that a push without a type gets the type of the agent's
// own family, as in a dropped file.
func TestUntypedOwnFamilies(t *testing.T) {
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
					t.Fatalf("the push of %q = %v", test.text, err)
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
				t.Errorf("after a rescan there is %v", c[0])
			}
		})
	}
}

// TestMessagesOfFiles lists the messages about dropped files, with and without quotes. The
// messages should be consistent, so read the whole table before a change.
func TestMessagesOfFiles(t *testing.T) {
	tests := []struct {
		name, text     string
		quoted, public string
	}{
		{
			"dash in a name", "node-metric 1\n",
			`invalid metric name "node-metric": use letters, digits, underscores and colons, and no digit first, or write the name in quotes within the braces`,
			`invalid metric name: use letters, digits, underscores and colons, and no digit first, or write the name in quotes within the braces`,
		},
		{
			"digit before a name", "5xx 1\n",
			`invalid metric name "5xx": use letters, digits, underscores and colons, and no digit first, or write the name in quotes within the braces`,
			`invalid metric name: use letters, digits, underscores and colons, and no digit first, or write the name in quotes within the braces`,
		},
		{
			"hexadecimal", "# TYPE v gauge\nv{a=\"x\",} 0x10\n",
			`metric "v": invalid value "0x10": write the number in decimal`,
			`invalid value: write the number in decimal`,
		},
		{
			"decimal comma", "m 1,5\n",
			`metric "m": invalid value "1,5": use a decimal point`,
			`invalid value: use a decimal point`,
		},
		{
			"no-break space", "m\u00a01\n",
			`metric "m": no-break space (U+00A0) in "\u00a01": write an ordinary space, or nothing`,
			`no-break space (U+00A0): write an ordinary space, or nothing`,
		},
		{
			"unescaped quote", "# TYPE dev_info gauge\ndev_info{model=\"Acme 2.5\" HDD\",x=\"y\"} 1\n",
			`metric "dev_info": invalid text "HDD" after the value of label "model": write a quote within a value as \", and a comma between labels`,
			`invalid text after the value of a label: write a quote within a value as \", and a comma between labels`,
		},
		{
			"message", "Warning: device busy\nm 1\n",
			`the line "Warning: device busy" is not a sample but looks like a message: keep messages, such as what goes to stderr, out of the metrics`,
			`the line is not a sample but looks like a message: keep messages, such as what goes to stderr, out of the metrics`,
		},
		{
			"value without quotes", "m{a=b} 1\n",
			`metric "m": the value "b" of label "a" is not in quotes: write it in double quotes`,
			`the value of a label is not in quotes: write it in double quotes`,
		},
		{
			"label twice", "m{a=\"\",a=\"x\"} 1\n",
			`metric "m": label "a" is given twice`,
			`a label is given twice`,
		},
		{
			"backslash", "m{path=\"C:\\x\"} 1\n",
			`metric "m": invalid escape "\\x" in the value of label "path": only \\, \n and \" are known; write a backslash as \\`,
			`invalid escape in the value of a label: only \\, \n and \" are known; write a backslash as \\`,
		},
		{
			"quotes not closed", "m{a=\"x} 1\n",
			`metric "m": the quotes around the value of label "a" are not closed: end it with a quote on the same line`,
			`the quotes around the value of a label are not closed: end it with a quote on the same line`,
		},
		{
			"no newline", "m 12",
			`the last line does not end in a newline, so the text "m 12" may be cut off: its writer may have died in the middle of it`,
			`the last line does not end in a newline, so the text may be cut off: its writer may have died in the middle of it`,
		},
		{
			"timestamp", "m 1 1700000000000\n",
			`metric "m": invalid timestamp "1700000000000": samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead`,
			`invalid timestamp: samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead`,
		},
		{
			"text after the value", "m 1 # since yesterday\n",
			`metric "m": the text "# since yesterday" follows the value: comments need lines of their own`,
			`the text follows the value: comments need lines of their own`,
		},
		{
			"NUL bytes", "m 1\n\x00\x00\x00\x00",
			`the line contains NUL bytes, as a crash leaves them: write it again`,
			`the line contains NUL bytes, as a crash leaves them: write it again`,
		},
		{
			"UTF-16", "\xff\xfem\x00 \x001\x00\n\x00",
			`not in the text format, but UTF-16 text: write UTF-8 text`,
			`not in the text format, but UTF-16 text: write UTF-8 text`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.prom")
			must(t, os.WriteFile(path, []byte(test.text), 0o600))
			for _, quote := range []bool{true, false} {
				want := test.public
				if quote {
					want = test.quoted
				}
				report, err := filestore.Check([]string{path}, &filestore.CheckOptions{Quote: quote})
				must(t, err)
				if len(report.Findings) != 1 || report.Findings[0].Message != want {
					t.Errorf("%q, quoted: %v:\n%+v\nwant\n%s", test.text, quote, report.Findings, want)
				}
			}
		})
	}
}

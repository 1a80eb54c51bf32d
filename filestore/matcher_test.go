package filestore_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// TestMatchers compares matchers with selectors of Prometheus.
func TestMatchers(t *testing.T) {
	db1 := group(t, "job", "backup", "instance", "db1")
	ci := group(t, "job", "ci_7", "branch", "line\nbreak", "with.dot", "x")
	for _, tt := range []struct {
		matchers string
		db1, ci  bool
	}{
		{`{job="backup"}`, true, false},
		{`job="backup"`, true, false},
		{`job='backup'`, true, false},
		{"job=`backup`", true, false},
		{`job=backup`, true, false},
		{`{job=backup,instance=db1}`, true, false},
		{` { job = "backup" , instance != "db2" , } `, true, false},
		{`job="backup",instance="db2"`, false, false},
		{`job=~"ci_.*"`, false, true},
		{`job=~"ci"`, false, false}, // anchored
		{`job=~"i_7"`, false, false},
		{`job=~"a|ci_7|backup"`, true, true}, // anchored as a whole
		{`job=~ci_.`, false, true},
		{`job!~"ci_.*"`, true, false},
		{`job!="ci_7"`, true, false},
		{`instance=""`, false, true},
		{`instance!=""`, true, false},
		{`instance=~"|x"`, false, true},
		{`instance=~".+"`, true, false},
		{`nothing!~".+"`, true, true},
		{`branch="line\nbreak"`, false, true},
		{`branch=~"line.break"`, false, true},
		{`"with.dot"="x"`, false, true},
		{`job="b\x61c\u006bup"`, true, false},
		{`job=~"(?i)BACKUP"`, true, false},
	} {
		ms, err := grouping.ParseMatchers(tt.matchers)
		if err != nil {
			t.Errorf("%s: %v", tt.matchers, err)
			continue
		}
		if got := ms.Match(db1); got != tt.db1 {
			t.Errorf("%s matches db1: %v", tt.matchers, got)
		}
		if got := ms.Match(ci); got != tt.ci {
			t.Errorf("%s matches ci: %v", tt.matchers, got)
		}
		if ms.Match(grouping.Key{}) {
			t.Errorf("%s matches a dropped file", tt.matchers)
		}
	}
}

func TestInvalidMatchers(t *testing.T) {
	for in, want := range map[string]string{
		``:                      `names no label`,
		`{}`:                    `names no label`,
		` { } `:                 `names no label`,
		`up{job="x"}`:           `groups have no metric name: begin with the brace at position 3`,
		`{__name__="up"}`:       `groups have no label __name__`,
		`job`:                   `expected one of = != =~ !~ after a label name at position 4`,
		`job==x`:                `expected a value in quotes`,
		`job=`:                  `expected a value in quotes at position 5`,
		`job="x`:                `the quotes are not closed`,
		"job=`x":                `the quotes are not closed`,
		`{job="x"`:              `the braces are not closed`,
		`{job="x"}}`:            `expected a comma or the end`,
		`job="x"}`:              `expected a comma or the end`,
		`job="x" instance="y"`:  `expected a comma or the end at position 9`,
		`job=x y`:               `has to be in quotes`,
		`job=~a\d`:              `has to be in quotes`,
		`{,}`:                   `expected a label name`,
		`job="x",,`:             `expected a label name`,
		`7="x"`:                 `expected a label name`,
		`job=~"("`:              "the regular expression is wrong (missing closing ): `(`) at position 6",
		`job=~")("`:             `the regular expression is wrong`,
		`job="\d"`:              `a backslash begins no known escape`,
		`job="\xff"`:            `the escapes are not valid UTF-8`,
		"job=\"\xff\"":          `is not UTF-8`,
		"job=\"a\nb\"":          `a line ends within quotes`,
		`job=~"a)|(?:b"`:        `the regular expression is wrong`,
		`job="x", up{job="x"}`:  `groups have no metric name`,
		`job=~"((a{1000}){99})`: `the quotes are not closed`,
	} {
		ms, err := grouping.ParseMatchers(in)
		if err == nil {
			t.Errorf("%q is accepted as %s", in, ms)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func TestParseGroup(t *testing.T) {
	for in, want := range map[string]string{
		`job=backup,instance=db1`:          `job=backup,instance=db1`,
		`instance=db1,job=backup`:          `job=backup,instance=db1`,
		`{job="a b"}`:                      `{job="a b"}`,
		`job="backup",instance=""`:         `job=backup`,
		"job='\x1b[1m'":                    `{job="\x1b[1m"}`,
		`"with.dot"=x,job=http://a:9/`:     `{job="http://a:9/","with.dot"="x"}`,
		`job=a,instance=http://db1:9/b?c#`: `job=a,instance=http://db1:9/b?c#`,
	} {
		g, err := grouping.ParseGroup(in)
		if err != nil || g.Name() != want {
			t.Errorf("%s is %s, %v, want %s", in, g.Name(), err, want)
		}
	}
	for in, want := range map[string]string{
		`job=~"a.*"`:     `invalid group "job=~\"a.*\"": it is a selector`,
		`/var/tmp`:       `a group has the form job=backup,instance=db1: "/var/tmp" has no label name`,
		`job!=a`:         `it is a selector`,
		`instance=a`:     `invalid group "instance=a": job name is required`,
		`job=a,job=b`:    `label "job" is given twice`,
		`backup`:         `a group has the form job=backup,instance=db1: "backup" has no label name; write it as job=NAME`,
		`job=a,with.a=b`: `a group has the form`,
	} {
		if g, err := grouping.ParseGroup(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %s, %v, want %s", in, g.Name(), err, want)
		}
	}
}

// FuzzMatchers searches for panics, for matchers that change when their text is parsed,
// and for the text of a group that does not match it.
func FuzzMatchers(f *testing.F) {
	f.Add(`{job="backup",instance=~"db.+"}`, "backup")
	f.Add("job=~`ci_.*`, 'x", `"quo\ted"`)
	f.Add(`"with.dot"!="\u00e4"`, "ä\n")
	f.Fuzz(func(t *testing.T, s, value string) {
		if ms, err := grouping.ParseMatchers(s); err == nil {
			again, err := grouping.ParseMatchers(ms.String())
			if err != nil || again.String() != ms.String() {
				t.Errorf("%q became %s, and that %s, %v", s, ms, again, err)
			}
			ms.Match(group(t, "job", "x"))
		}
		g, err := grouping.New(exposition.Label{Name: "job", Value: "x"}, exposition.Label{Name: "v", Value: value})
		if err != nil {
			return
		}
		if again, err := grouping.ParseGroup(g.Name()); err != nil || again != g {
			t.Errorf("%s is named %s, and that is %s, %v", g, g.Name(), again, err)
		}
		if strings.ContainsFunc(g.Name(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%s has a name with unprintable characters: %q", g, g.Name())
		}
		// The text of a group is a selector that matches it.
		ms, err := grouping.ParseMatchers(strings.ReplaceAll(g.String(), "\n", `\n`))
		if err != nil || !ms.Match(g) {
			t.Errorf("%s does not match itself: %v", g, err)
		}
	})
}

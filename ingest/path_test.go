package ingest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/ingest"
)

func TestParsePath(t *testing.T) {
	tests := []struct {
		name  string
		path  string
		group string
		strip []string
		utf8  bool
	}{
		{name: "job only", path: "job/j", group: `{job="j"}`},
		{name: "one slash after the job", path: "job/j/", group: `{job="j"}`},
		{name: "pairs in any order", path: "job/j/y/2/x/1", group: `{job="j",x="1",y="2"}`},
		{name: "encoded slash separates", path: "job/a%2Fb/c", group: `{job="a",b="c"}`},
		{name: "decoded only once", path: "job/a%252Fb", group: `{job="a%2Fb"}`},
		{name: "plus stays", path: "job/a+b%20c", group: `{job="a+b c"}`},
		{name: "semicolon stays", path: "job/a;b=c", group: `{job="a;b=c"}`},
		{name: "names are decoded", path: "%6aob/j/%6cabel/v", group: `{job="j",label="v"}`},
		{name: "dots when encoded", path: "job/%2e%2E/x/%2e", group: `{job="..",x="."}`},
		{name: "UTF-8 value", path: "job/j/n/%CE%A0", group: `{job="j",n="Π"}`},
		{name: "newline and quote", path: "job/a%0A%22%5C", group: `{job="a\n\"\\"}`},
		{name: "base64 job", path: "job@base64/L3Zhci90bXA", group: `{job="/var/tmp"}`},
		{name: "base64 with padding", path: "job/j/x@base64/YQ==", group: `{job="j",x="a"}`},
		{name: "base64 with wrong padding", path: "job/j/x@base64/YQ=", group: `{job="j",x="a"}`},
		{name: "base64 URL-safe", path: "job/j/x@base64/zqDPgc6_zrzOt864zrXPjc-C", group: `{job="j",x="Προμηθεύς"}`},
		{name: "second job is overruled", path: "job/j/job/other", group: `{job="j"}`},
		{name: "second job in base64 is overruled", path: "job/j/job@base64/=", group: `{job="j"}`},
		{name: "last of repeated labels", path: "job/j/x/1/x@base64/Mg", group: `{job="j",x="2"}`},
		{name: "instance, le and quantile are ordinary", path: "job/j/le/5/quantile/0.5/instance/i", group: `{job="j",instance="i",le="5",quantile="0.5"}`},
		{name: "empty value in base64", path: "job/j/x@base64/=/y/1", group: `{job="j",y="1"}`, strip: []string{"x"}},
		{name: "empty value in much base64", path: "job/j/x@base64/====/y@base64/=", group: `{job="j"}`, strip: []string{"x", "y"}},
		{name: "slash after a job in base64", path: "job@base64/L3Zhci90bXA/", group: `{job="/var/tmp"}`},
		{name: "encoded slashes separate full pairs", path: "job/j/path%2Fa%2Fb%2fc", group: `{job="j",b="c",path="a"}`},
		{name: "encoded slash before the job", path: "job%2Fj", group: `{job="j"}`},
		{name: "empty value overrules", path: "job/j/x/1/x@base64/=", group: `{job="j"}`, strip: []string{"x"}},
		{name: "empty value is overruled", path: "job/j/x@base64/=/x/1", group: `{job="j",x="1"}`},
		{name: "escaping is literal in legacy mode", path: "job/j/U__foo_2e_bar/1", group: `{job="j",U__foo_2e_bar="1"}`},
		{name: "escaped name", path: "job/j/U__foo_2e_bar/1", group: `{job="j","foo.bar"="1"}`, utf8: true},
		{name: "escaped name with base64", path: "job/j/U__foo_2e_bar@base64/MQ", group: `{job="j","foo.bar"="1"}`, utf8: true},
		{name: "raw UTF-8 name", path: "job/j/%CF%80-x/1", group: `{job="j","π-x"="1"}`, utf8: true},
		{name: "broken escape is literal", path: "job/j/U__a_zz_/1", group: `{job="j",U__a_zz_="1"}`, utf8: true},
		{name: "job value is never unescaped", path: "job/U__a_2e_b", group: `{job="U__a_2e_b"}`, utf8: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g, strip, err := ingest.ParsePath(test.path, test.utf8)
			if err != nil || g.String() != test.group || !slices.Equal(strip, test.strip) {
				t.Errorf("ParsePath(%q) = %v, %q, %v, want %s, %q", test.path, g, strip, err, test.group, test.strip)
			}
		})
	}
}

func TestParsePathRefuses(t *testing.T) {
	tests := []struct {
		name, path string
		utf8       bool
	}{
		{name: "nothing", path: ""},
		{name: "no job", path: "foo/bar"},
		{name: "upper case", path: "JOB/j"},
		{name: "job without value", path: "job"},
		{name: "empty job", path: "job/"},
		{name: "empty job in base64", path: "job@base64/="},
		{name: "bad base64 in job", path: "job@base64/!!"},
		{name: "standard alphabet", path: "job/j/x@base64/+A"},
		{name: "one character of base64", path: "job/j/x@base64/Y"},
		{name: "suffix in upper case", path: "job/j/foo@BASE64/YQ"},
		{name: "suffix twice", path: "job/j/foo@base64@base64/YQ"},
		{name: "suffix alone", path: "job/j/@base64/YQ"},
		{name: "odd", path: "job/j/x"},
		{name: "odd by an encoded slash", path: "job/a%2Fb"},
		{name: "odd by a slash at the end", path: "job/j/x/1/"},
		{name: "broken escape", path: "job/%zz"},
		{name: "name with a dash", path: "job/j/a-b/1"},
		{name: "name with a digit first", path: "job/j/1a/1"},
		{name: "UTF-8 name in legacy mode", path: "job/j/%CF%80/1"},
		{name: "reserved name", path: "job/j/__name__/1"},
		{name: "reserved name behind the escaping", path: "job/j/U______foo/1", utf8: true},
		{name: "empty name by the escaping", path: "job/j/U__/1", utf8: true},
		{name: "name not UTF-8", path: "job/j/%ff/1", utf8: true},
		{name: "value not UTF-8", path: "job/j/x/%ff"},
		{name: "value not UTF-8 in base64", path: "job@base64/__4"},
		{name: "NUL", path: "job/a%00b"},
		{name: "empty component", path: "job//j"},
		{name: "dot", path: "job/./x/1"},
		{name: "two dots", path: "job/.."},
		{name: "two dots as a name", path: "job/j/../1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if g, _, err := ingest.ParsePath(test.path, test.utf8); err == nil || err.Error() == "" {
				t.Errorf("ParsePath(%q) = %v, want an error", test.path, g)
			}
		})
	}
}

// An empty component is a value with slashes that was percent-encoded, or a shell
// variable without a value. Each of these paths led to another group.
var emptyComponents = []string{
	"job/j/x/", "job/j/x/1/y/", "job/j/x@base64/", "job/j/x/1/y@base64/", "job@base64/",
	"job/j/path/%2Fvar%2Ftmp", "job/j/path/%2fvar%2ftmp", "job/j/path/%2Fvar%2F", "job/j/path/%2F", "job/j/path/%2Fa%2Fb%2Fc",
	"job/j/path/var%2F", "job/j/path/var%2F/x/1", "job/j/path/a%2F%2Fb", "job/j/path/a%2F%2Fb%2Fc", "job/j/path/a%2F%2F",
	"job/%2Fvar%2Ftmp", "job/%2Fj", "job/j%2F", "job/j%2f", "job/j%2F/", "job/j%2F/x/1", "job/j/%2F", "job/j%2F%2F", "job/%2F",
	"job/j/%2Fx/1", "job/j/x%2F/1", "job/j/x%2F", "job/j/x/1%2F", "job/j/x/1%2Fy/", "job/j/x/1/%2F",
	"job@base64/ag%2F", "job@base64/%2Fag", "job@base64%2F", "job%2Fj%2F", "job%2F/j", "job/j/x@base64/%2F", "job/j/x@base64%2F",
	"job//j", "job/j//x/1", "job/j/x//1", "job/j/x//", "job/j//", "/job/j", "%2Fjob/j",
}

func TestEmptyComponentIsRefused(t *testing.T) {
	for _, path := range emptyComponents {
		for _, utf8Names := range []bool{false, true} {
			if g, _, err := ingest.ParsePath(path, utf8Names); err == nil || !strings.Contains(err.Error(), "@base64") {
				t.Errorf("ParsePath(%q, %t) = %v, %v, want an error that explains @base64", path, utf8Names, g, err)
			}
		}
	}
}

// The groups that such paths led to stay as they are, whatever the method.
func TestEmptyComponentChangesNoGroup(t *testing.T) {
	a := start(t, nil, nil)
	a.want(200, "PUT", "/metrics/job/j", "keep 1\n")
	a.want(200, "PUT", "/metrics/job/j/x/1", "keep 2\n")
	a.want(200, "PUT", "/metrics/job/j/var/tmp", "keep 3\n")
	a.want(200, "PUT", "/metrics/job/j/a/b", "keep 4\n")
	before := a.scrape()
	for _, path := range emptyComponents {
		if !strings.HasPrefix(path, "job") || path == "job@base64/" || path == "job@base64%2F" {
			continue // no push path, for which a.do would find no handler
		}
		for _, method := range []string{"PUT", "POST", "DELETE"} {
			if got := a.want(400, method, "/metrics/"+path, "m 1\n"); !strings.Contains(got.body, "@base64") {
				t.Errorf("%s %s is answered with %q, want @base64 explained", method, path, got.body)
			}
		}
	}
	if got := a.scrape(); got != before {
		t.Errorf("the scrape is %s, want %s", got, before)
	}
}

func TestBadPathIsRefusedByAllMethods(t *testing.T) {
	a := start(t, nil, nil)
	for _, path := range []string{"/metrics/job/j/x", "/metrics/job@base64/!!", "/metrics/job/j/__x/1", "/metrics/job/j/x/%ff"} {
		a.want(400, "PUT", path, "m 1\n")
		a.want(400, "POST", path, "m 1 1000\n")
		a.want(400, "DELETE", path, "")
		if got := a.scrape(); got != "" {
			t.Fatalf("%s left %q", path, got)
		}
	}
}

func TestPathLimits(t *testing.T) {
	a := start(t, nil, func(c *ingest.Config) {
		c.Limits = exposition.Limits{Labels: 3, LabelName: 10, LabelValue: 2000}
	})
	long := func(n int) string { return strings.Repeat("v", n) }
	a.want(200, "PUT", "/metrics/job/j/a/1/b/2", "m 1\n")
	a.want(200, "PUT", "/metrics/job/"+long(2000), "m 1\n")
	a.want(200, "PUT", "/metrics/job/j/"+long(10)+"/1", "m 1\n")
	a.want(400, "PUT", "/metrics/job/j/a/1/b/2/c/3", "m 1\n")
	a.want(400, "PUT", "/metrics/job/"+long(2001), "m 1\n")
	a.want(400, "PUT", "/metrics/job/j/"+long(11)+"/1", "m 1\n")
	a.want(400, "PUT", "/metrics/job/j"+strings.Repeat("/a/1", 50000), "m 1\n")
	if got := len(a.samples()); got != 3 {
		t.Errorf("%d samples are stored, want 3", got)
	}
}

// An empty label is none of the group, and a sample cannot have it either.
func TestEmptyLabelIsStripped(t *testing.T) {
	a := start(t, nil, nil)
	a.want(200, "PUT", "/metrics/job/j/x@base64/=", "m{x=\"1\",y=\"2\"} 1\n")
	a.wantSamples(`m{job="j",y="2"} 1`)
	a.want(200, "POST", "/metrics/job/j", "n{x=\"1\"} 1\n")
	a.wantSamples(`m{job="j",y="2"} 1`, `n{job="j",x="1"} 1`)
}

func TestGroupPath(t *testing.T) {
	for want, path := range map[string]string{
		"job/backup/instance/db1":               "job/backup/instance/db1",
		"job@base64/L3Zhci90bXA/x/a%20b%3F":     "job@base64/L3Zhci90bXA/x/a%20b%3f",
		"job@base64/Lg/x@base64/Li4":            "job/%2e/x/%2e%2e",
		"job/%0A%22/U__with_2e_dot/%CE%A0+%3B=": "job/%0a%22/with.dot/%ce%a0+;=",
	} {
		g, _, err := ingest.ParsePath(path, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := ingest.GroupPath(g); got != want {
			t.Errorf("the path of %v is %s, want %s", g, got, want)
		}
	}
}

func TestCheckGroup(t *testing.T) {
	g, err := grouping.New(exposition.Label{Name: "job", Value: "backup"}, exposition.Label{Name: "with.dot", Value: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want string
		o    ingest.Options
	}{
		{`improper label name "with.dot"`, ingest.Options{}},
		{"", ingest.Options{UTF8Names: true, Limits: exposition.Limits{Labels: 2, LabelName: 8, LabelValue: 6}}},
		{"2 labels, more than --push.max-labels=1", ingest.Options{UTF8Names: true, Limits: exposition.Limits{Labels: 1}}},
		{"a label name of the group is longer than --push.max-label-name-bytes=7 bytes", ingest.Options{UTF8Names: true, Limits: exposition.Limits{LabelName: 7}}},
		{`label "job" of the group is longer than --push.max-label-value-bytes=5 bytes`, ingest.Options{UTF8Names: true, Limits: exposition.Limits{LabelValue: 5}}},
	} {
		if err := ingest.CheckGroup(g, tt.o); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("with %+v: %v, want %q", tt.o, err, tt.want)
		}
	}
}

package exporter_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

func TestNamesAreEscaped(t *testing.T) {
	const mixed = `# HELP a_b Says {"a","b"} "quoted".
# TYPE a_b gauge
a_b 1
# HELP "a.b" Help.
# TYPE "a.b" gauge
{"a.b",x="{\"y\"} \\ z",",l.x"="1","l.x"="2",l_x="3"} 1
{"a.b","--name--"="1"} 2
# TYPE "h.x" histogram
{"h.x_bucket",le="1","l:y"="}"} 1
{"h.x_bucket",le="+Inf","l:y"="}"} 2
{"h.x_sum","l:y"="}"} 3
{"h.x_count","l:y"="}"} 2
# TYPE h_x_count gauge
h_x_count 1
# TYPE z gauge
z{"l.x"="1"} 1
`
	for name, c := range map[string]struct{ accept, want string }{
		"nothing to do": {allowUTF8, `# HELP "a.b" Help.
# TYPE "a.b" gauge
{"a.b",",l.x"="1","l.x"="2",l_x="3",x="{\"y\"} \\ z"} 1
{"a.b","--name--"="1"} 2
# HELP a_b Says {"a","b"} "quoted".
# TYPE a_b gauge
a_b 1
# TYPE "h.x" histogram
{"h.x_bucket","l:y"="}",le="1"} 1
{"h.x_bucket","l:y"="}",le="+Inf"} 2
{"h.x_sum","l:y"="}"} 3
{"h.x_count","l:y"="}"} 2
# TYPE h_x_count gauge
h_x_count 1
# TYPE z gauge
z{"l.x"="1"} 1
`},
		"underscores": {"", `# HELP U__a_2e_b Help.
# TYPE U__a_2e_b gauge
U__a_2e_b{_l_x="1",U__l_2e_x="2",l_x="3",x="{\"y\"} \\ z"} 1
U__a_2e_b{U___2d__2d_name_2d__2d_="1"} 2
# HELP a_b Says {"a","b"} "quoted".
# TYPE a_b gauge
a_b 1
# TYPE U__h_2e_x histogram
U__h_2e_x_bucket{l_y="}",le="1"} 1
U__h_2e_x_bucket{l_y="}",le="+Inf"} 2
U__h_2e_x_sum{l_y="}"} 3
U__h_2e_x_count{l_y="}"} 2
# TYPE h_x_count gauge
h_x_count 1
# TYPE z gauge
z{l_x="1"} 1
`},
		"values": {"text/plain;version=0.0.4;escaping=values", `# HELP U__a_2e_b Help.
# TYPE U__a_2e_b gauge
U__a_2e_b{U___2c_l_2e_x="1",U__l_2e_x="2",l_x="3",x="{\"y\"} \\ z"} 1
U__a_2e_b{U___2d__2d_name_2d__2d_="1"} 2
# HELP a_b Says {"a","b"} "quoted".
# TYPE a_b gauge
a_b 1
# TYPE U__h_2e_x histogram
U__h_2e_x_bucket{U__l_3a_y="}",le="1"} 1
U__h_2e_x_bucket{U__l_3a_y="}",le="+Inf"} 2
U__h_2e_x_sum{U__l_3a_y="}"} 3
U__h_2e_x_count{U__l_3a_y="}"} 2
# TYPE h_x_count gauge
h_x_count 1
# TYPE z gauge
z{U__l_2e_x="1"} 1
`},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, files{"a.prom": mixed}, nil)
			got := string(merged(get(e.Metrics, "/", "Accept", c.accept).Body.String()))
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			parse(t, []byte(got))
		})
	}
	e := serve(t, files{"a.prom": mixed}, nil)
	if got := get(e.Metrics, "/?name[]=a.b").Body.String(); !strings.HasPrefix(got, "# HELP U__a_2e_b ") || strings.Count(got, "\n") != 4 {
		t.Errorf("name[]=a.b gives\n%s", got)
	}
}

// merged removes the families about the files, which tests on text do not want.
func merged(text string) string {
	i := strings.Index(text, "# HELP promspool_file_")
	if i < 0 {
		return text
	}
	rest := text[i:]
	for rest != "" && strings.Contains(rest[:strings.IndexByte(rest, '\n')], "promspool_file_") {
		rest = rest[strings.IndexByte(rest, '\n')+1:]
	}
	return text[:i] + rest
}

func TestEscapedNamesDoNotMeetOwnOnes(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "own_x", Help: "Says {\"a\"}."}))
	e := serve(t, files{"a.prom": "# TYPE \"own.x\" gauge\n{\"own.x\"} 1\n# TYPE own_x gauge\nown_x{\"l.x\"=\"1\",l_x=\"2\"} 1\n"}, reg)
	got := get(e.Metrics, "/").Body.String()
	parse(t, []byte(got))
	if !strings.Contains(got, "U__own_2e_x 1\n") || !strings.Contains(got, "own_x 0\nown_x{U__l_2e_x=\"1\",l_x=\"2\"} 1\n") {
		t.Errorf("got\n%s", got)
	}
}

// However names are made up, the page stays one that Prometheus takes, and
// nothing is lost.
func TestAnyNamesCanBeEscaped(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	word := func() string {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteString(pick("a", "a", ".", "_", ":", "U__", "2e", "\"", "\\", "\n", "ü", "{", ",", "=", "}", " ", "_count"))
		}
		return b.String()
	}
	for range 1500 {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			name := word()
			typ := pick("gauge", "counter", "histogram")
			fmt.Fprintf(&b, "# TYPE %s %s\n", quote(name), typ)
			for i := range 1 + r.IntN(3) {
				labels := fmt.Sprintf(`,i="%d"`, i)
				for range r.IntN(3) {
					if l := word(); !strings.Contains(labels, quote(l)+"=") && !strings.HasPrefix(l, "__") {
						labels += "," + quote(l) + "=" + quote(word())
					}
				}
				if typ == "histogram" {
					fmt.Fprintf(&b, "{%s%s,le=\"+Inf\"} 1\n{%s%s} 1\n{%s%s} 1\n", quote(name+"_bucket"), labels, quote(name+"_sum"), labels, quote(name+"_count"), labels)
				} else {
					fmt.Fprintf(&b, "{%s%s} 1\n", quote(name), labels)
				}
			}
		}
		e := serve(t, files{"a.prom": b.String()}, nil)
		raw := get(e.Metrics, "/", "Accept", allowUTF8).Body.String()
		families := len(parse(t, []byte(raw)))
		for _, scheme := range []string{"underscores", "dots", "values"} {
			w := get(e.Metrics, "/", "Accept", "text/plain;version=0.0.4;escaping="+scheme)
			got := w.Body.String()
			mfs := parse(t, []byte(got))
			if len(mfs) != families || strings.Count(got, "\n") != strings.Count(raw, "\n") {
				t.Fatalf("%s: something is lost:\n%s\nof\n%s", scheme, got, raw)
			}
			for name, mf := range mfs {
				if !model.LegacyValidation.IsValidMetricName(name) {
					t.Fatalf("%s: family %q is not escaped", scheme, name)
				}
				for _, m := range mf.Metric {
					for _, l := range m.Label {
						if !model.LegacyValidation.IsValidLabelName(l.GetName()) {
							t.Fatalf("%s: label %q is not escaped", scheme, l.GetName())
						}
					}
				}
			}
			if n := len(decode(t, get(e.Metrics, "/", "Accept", protobuf+";escaping="+scheme))); n != families {
				t.Fatalf("%s: protobuf has %d families, want %d", scheme, n, families)
			}
		}
	}
}

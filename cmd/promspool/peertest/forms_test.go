package peertest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/scanner"

	"go.yaml.in/yaml/v2"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// Grafana Alloy and Vector cannot be installed from Debian or as a Go package, so their
// examples are checked by form: the syntax, the names and types of the arguments that
// the documentation has, and the references between components.

// An alloyBlock is a component or a block in one.
type alloyBlock struct {
	name, label string
	attributes  map[string]alloyValue
	blocks      []*alloyBlock
}

// An alloyValue is a value and its type in the documentation.
type alloyValue struct {
	kind       string // string, bool, number, list(…), map(…) or reference
	text       string
	references []string
}

// An alloyParser reads the part of the syntax that the examples use.
type alloyParser struct {
	scanner.Scanner
	token rune
	err   error
}

func parseAlloy(text string) ([]*alloyBlock, error) {
	p := &alloyParser{}
	p.Init(strings.NewReader(text))
	p.Whitespace = 1<<' ' | 1<<'\t' // a newline ends an attribute
	p.Mode = scanner.ScanIdents | scanner.ScanStrings | scanner.ScanInts | scanner.ScanFloats | scanner.ScanComments | scanner.SkipComments
	p.Error = func(_ *scanner.Scanner, msg string) { p.fail("%s", msg) }
	p.next()
	blocks := p.body(scanner.EOF).blocks
	return blocks, p.err
}

func (p *alloyParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("line %d: "+format, append([]any{p.Pos().Line}, args...)...)
	}
}

func (p *alloyParser) next() { p.token = p.Scan() }

func (p *alloyParser) newlines() {
	for p.token == '\n' {
		p.next()
	}
}

// expect reads a token and returns its text.
func (p *alloyParser) expect(token rune) string {
	text := p.TokenText()
	if p.token != token {
		p.fail("want %s, have %q", scanner.TokenString(token), text)
	}
	p.next()
	return text
}

// name reads identifiers with dots.
func (p *alloyParser) name() string {
	name := p.expect(scanner.Ident)
	for p.token == '.' && p.err == nil {
		p.next()
		name += "." + p.expect(scanner.Ident)
	}
	return name
}

func (p *alloyParser) body(end rune) *alloyBlock {
	b := &alloyBlock{attributes: map[string]alloyValue{}}
	for p.newlines(); p.token != end && p.err == nil; p.newlines() {
		name := p.name()
		if p.token == '=' {
			p.next()
			if _, twice := b.attributes[name]; twice {
				p.fail("%s is there twice", name)
			}
			b.attributes[name] = p.value()
		} else {
			label := ""
			if p.token == scanner.String {
				label = p.text()
			}
			p.expect('{')
			inner := p.body('}')
			inner.name, inner.label = name, label
			b.blocks = append(b.blocks, inner)
			p.expect('}')
		}
		if p.token != end {
			p.expect('\n')
		}
	}
	return b
}

// text reads a string.
func (p *alloyParser) text() string {
	s, err := strconv.Unquote(p.expect(scanner.String))
	if err != nil {
		p.fail("%v", err)
	}
	return s
}

func (p *alloyParser) value() alloyValue {
	switch p.token {
	case scanner.String:
		return alloyValue{kind: "string", text: p.text()}
	case scanner.Int, scanner.Float:
		return alloyValue{kind: "number", text: p.expect(p.token)}
	case '[':
		return p.elements(']', "list", p.value)
	case '{':
		return p.elements('}', "map", func() alloyValue {
			if p.token == scanner.String {
				p.text()
			} else {
				p.expect(scanner.Ident)
			}
			p.expect('=')
			return p.value()
		})
	}
	name := p.name()
	switch name {
	case "true", "false":
		return alloyValue{kind: "bool", text: name}
	case "constants.hostname":
		return alloyValue{kind: "string", text: name}
	}
	return alloyValue{kind: "reference", text: name, references: []string{name}}
}

// elements reads what is in brackets, separated by commas. A newline needs a comma before
// it, except after the opening bracket.
func (p *alloyParser) elements(end rune, kind string, read func() alloyValue) alloyValue {
	p.next()
	v := alloyValue{}
	kinds := map[string]bool{}
	for p.newlines(); p.token != end && p.err == nil; p.newlines() {
		e := read()
		kinds[e.kind] = true
		v.references = append(v.references, e.references...)
		if p.token != end {
			p.expect(',')
		}
	}
	p.expect(end)
	v.kind = kind + "(" + strings.Join(slices.Sorted(maps.Keys(kinds)), " ") + ")"
	return v
}

// An alloySchema has the arguments of a block with their types. A "!" marks required ones.
type alloySchema struct {
	arguments map[string]string
	blocks    map[string]alloySchema
	exports   map[string]string
}

// alloyComponents has what the examples use of the reference of Grafana Alloy 1.18.
var alloyComponents = map[string]alloySchema{
	"prometheus.scrape": {arguments: map[string]string{
		"targets": "!list(map(string))", "forward_to": "!list(MetricsReceiver)", "job_name": "string", "scrape_interval": "duration",
		"honor_labels": "bool", "scrape_native_histograms": "bool",
	}},
	"prometheus.remote_write": {
		blocks:  map[string]alloySchema{"endpoint": {arguments: map[string]string{"url": "!string", "send_native_histograms": "bool"}}},
		exports: map[string]string{"receiver": "MetricsReceiver"},
	},
	"prometheus.exporter.unix": {
		blocks:  map[string]alloySchema{"textfile": {arguments: map[string]string{"directory": "string"}}},
		exports: map[string]string{"targets": "list(map(string))"},
	},
}

// checkAlloy returns the first error of a configuration.
func checkAlloy(text string) error {
	components, err := parseAlloy(text)
	if err != nil {
		return err
	}
	exports := map[string]string{}
	for _, c := range components {
		for export, kind := range alloyComponents[c.name].exports {
			exports[c.name+"."+c.label+"."+export] = kind
		}
	}
	for _, c := range components {
		schema, ok := alloyComponents[c.name]
		if !ok || c.label == "" {
			return fmt.Errorf("no component %s with the label %q", c.name, c.label)
		}
		if err := schema.check(c, exports); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func (s alloySchema) check(b *alloyBlock, exports map[string]string) error {
	for name, v := range b.attributes {
		kind := v.kind
		for _, r := range v.references {
			if exports[r] == "" {
				return fmt.Errorf("%s: no component exports %s", name, r)
			}
			kind = strings.Replace(kind, "reference", exports[r], 1)
		}
		want, ok := s.arguments[name]
		if !ok {
			return fmt.Errorf("no argument %s", name)
		}
		if want = strings.TrimPrefix(want, "!"); want == "duration" {
			want = "string"
		}
		if kind != want {
			return fmt.Errorf("%s is a %s, want %s", name, kind, want)
		}
	}
	for name, kind := range s.arguments {
		if _, ok := b.attributes[name]; !ok && kind[0] == '!' {
			return fmt.Errorf("no %s", name)
		}
	}
	for _, inner := range b.blocks {
		schema, ok := s.blocks[inner.name]
		if !ok || inner.label != "" {
			return fmt.Errorf("no block %s %q", inner.name, inner.label)
		}
		if err := schema.check(inner, exports); err != nil {
			return fmt.Errorf("%s: %w", inner.name, err)
		}
	}
	return nil
}

// TestAlloyExamplesByForm checks both files, and that mistakes in them are found.
func TestAlloyExamplesByForm(t *testing.T) {
	t.Parallel()
	for name, mistakes := range map[string][][2]string{
		"scrape.alloy": {
			{"honor_labels ", "honour_labels "},                                       // no such argument
			{"honor_labels = true", `honor_labels = "true"`},                          // another type
			{`"__address__" = "localhost:9091",`, `"__address__" = "localhost:9091"`}, // no comma
			{"constants.hostname", "constants.host"},
			{"remote_write.central.receiver", "remote_write.centre.receiver"}, // no such component
			{"remote_write.central.receiver", "remote_write.central.input"},
			{"[prometheus.remote_write.central.receiver]", "prometheus.remote_write.central.receiver"},
			{`prometheus.scrape "promspool"`, "prometheus.scrape"},
			{"prometheus.scrape ", "prometheus.scraper "},
			{"endpoint {", "endpoints {"},
			{"    url ", "    uri "},
			{"  forward_to", "  // forward_to"},
		},
		"textfile.alloy": {
			{"textfile {", "textfiles {"},
			{"directory =", "directories ="},
			{"unix.host.targets", "unix.host.target"},
			{"unix.host.targets", "unix.host.targets\n  honor_labels = false"}, // is there twice
		},
	} {
		text := example(t, "alloy/"+name)
		if err := checkAlloy(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, m := range mistakes {
			if checkAlloy(replace(t, text, m[0], m[1])) == nil {
				t.Errorf("%s with %q in place of %q has no error", name, m[1], m[0])
			}
		}
		if want := "honor_labels = true\n"; !strings.Contains(text, want) {
			t.Errorf("%s has no %s", name, want)
		}
	}
	if want := `directory = "/var/lib/promspool/spool"`; !strings.Contains(example(t, "alloy/textfile.alloy"), want) {
		t.Errorf("textfile.alloy has no %s", want)
	}
}

// A vectorConfig has what the example uses of the reference of Vector 0.58.
type vectorConfig struct {
	Sources map[string]struct {
		Type      string
		Endpoints []string
		Interval  int     `yaml:"scrape_interval_secs"`
		Timeout   float64 `yaml:"scrape_timeout_secs"`
	}
	Transforms map[string]struct {
		Type   string
		Inputs []string
		Source string
	}
	Sinks map[string]struct {
		Type     string
		Inputs   []string
		Endpoint string
	}
}

// checkVector returns the first error of a configuration.
func checkVector(text string) error {
	var c vectorConfig
	if err := yaml.UnmarshalStrict([]byte(text), &c); err != nil {
		return err
	}
	outputs, used := map[string]bool{}, map[string]bool{}
	inputs := map[string][]string{}
	for name, s := range c.Sources {
		outputs[name] = true
		if s.Type != "prometheus_scrape" || len(s.Endpoints) == 0 || !strings.HasSuffix(s.Endpoints[0], "/metrics") || s.Timeout <= 0 || s.Timeout >= float64(s.Interval) {
			return fmt.Errorf("invalid source %s: %v", name, s)
		}
	}
	for name, tr := range c.Transforms {
		outputs[name], inputs[name] = true, tr.Inputs
		if tr.Type != "remap" || strings.Count(tr.Source, "{") != strings.Count(tr.Source, "}") {
			return fmt.Errorf("invalid transform %s: %v", name, tr)
		}
	}
	for name, s := range c.Sinks {
		inputs[name] = s.Inputs
		if s.Type != "prometheus_remote_write" || !strings.HasPrefix(s.Endpoint, "http://") {
			return fmt.Errorf("invalid sink %s: %v", name, s)
		}
	}
	for name, from := range inputs {
		for _, input := range from {
			used[input] = true
			if !outputs[input] {
				return fmt.Errorf("%s: no input %s", name, input)
			}
		}
	}
	if !maps.Equal(outputs, used) || len(outputs) == 0 {
		return fmt.Errorf("the outputs are %v, used are %v", outputs, used)
	}
	return nil
}

// TestVectorExampleByForm checks the file, and that mistakes in it are found.
func TestVectorExampleByForm(t *testing.T) {
	t.Parallel()
	text := example(t, "vector/vector.yaml")
	if err := checkVector(text); err != nil {
		t.Error(err)
	}
	for _, m := range [][2]string{
		{"scrape_interval_secs: 15", "scrape_interval_sec: 15"},
		{"scrape_interval_secs: 15", "scrape_interval_secs: 15s"},
		{"scrape_interval_secs: 15", "scrape_interval_secs: 5"}, // below the timeout
		{"prometheus_scrape", "prometheus_scraper"},
		{"/metrics\"]", "\"]"},
		{"inputs: [promspool]", "inputs: [promspol]"},
		{"inputs: [labelled]", "inputs: [promspool]"},
		{"    endpoint:", "    url:"},
		{"sinks:", "sink:"},
	} {
		if checkVector(replace(t, text, m[0], m[1])) == nil {
			t.Errorf("with %q in place of %q the example has no error", m[1], m[0])
		}
	}
}

// TestNeighboursAreCurrent compares the versions on the page with those that are built.
func TestNeighboursAreCurrent(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(agenttest.Repository, "docs", "neighbours.md"))
	agenttest.NoError(t, err)
	for _, m := range []struct{ tool, module, shown string }{
		{"prometheus", `prometheus/prometheus v0\.(3)(\S+)`, "Prometheus $1.$2"}, // 0.316.0 is 3.16.0
		{"..", `prometheus/client_golang v(\S+)`, "client_golang $1"},
		{"pushgateway", `prometheus/pushgateway v(\S+)`, "Pushgateway $1"},
		{"victoriametrics", `VictoriaMetrics/VictoriaMetrics v(\S+)`, "vmagent $1"},
		{"otelcol", `prometheusreceiver v(\S+)`, "OpenTelemetry collector $1"},
	} {
		file, err := os.ReadFile(filepath.Join(agenttest.Repository, ".tools", m.tool, "go.mod"))
		agenttest.NoError(t, err)
		module := regexp.MustCompile(m.module)
		found := module.Find(file)
		if want := module.ReplaceAllString(string(found), m.shown); found == nil || !strings.Contains(string(page), want) {
			t.Errorf("docs/neighbours.md has no %q, which make peers builds", want)
		}
	}
}

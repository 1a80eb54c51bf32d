package peertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A state is the result of pushes in a comparable form: labels sorted, no empty labels
// but instance, and 1 for every time. It excludes the server's own metrics.
type state struct {
	page string // types, HELP texts and samples, in order
	api  string // response of GET /api/v1/metrics, indented
}

// look returns the state of a server. The address may include USER:PASSWORD@.
func look(t *testing.T, addr string) state {
	t.Helper()
	return state{page: normalPage(t, fetch(t, addr, "/metrics")), api: normalAPI(t, fetch(t, addr, "/api/v1/metrics"))}
}

// fetch returns a page, which must exist.
func fetch(t *testing.T, addr, path string) string {
	t.Helper()
	resp, err := agenttest.Client.Get("http://" + addr + path)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %s %s, %v, want 200", path, resp.Status, body, err)
	}
	// The HELP of the push times is the only text with the name of the server.
	return strings.ReplaceAll(string(body), "changing this group in the Pushgateway", "changing this group in the spool")
}

var unstated = regexp.MustCompile(`^# |^push_(failure_)?time_seconds|job="last"`)

// pushed returns the samples in the notation of the exchanges.
func (s state) pushed() string {
	var lines []string
	for line := range strings.Lines(s.page) {
		if !unstated.MatchString(line) {
			line = strings.Replace(line, `instance="",`, "", 1)
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// parsed parses the page with the parser of Prometheus' tools.
func parsed(t *testing.T, page string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("the page is not in the text format: %v\n%s", err, page)
	}
	return families
}

var typeLines = regexp.MustCompile(`(?m)^# TYPE .*\n`)

// normalPage compares samples line by line, as the parser adds and drops samples of
// histograms and summaries.
func normalPage(t *testing.T, page string) string {
	t.Helper()
	var all []string
	families := parsed(t, page)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if family := families[name]; slices.ContainsFunc(family.Metric, hasJob) {
			all = append(all, fmt.Sprintf("# %s %s %q\n", name, strings.ToLower(family.GetType().String()), family.GetHelp()))
		}
	}
	lines := parsed(t, typeLines.ReplaceAllString(page, ""))
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		var samples []string
		for _, m := range lines[name].Metric {
			if hasJob(m) {
				samples = append(samples, normalSample(t, name, m))
			}
		}
		slices.Sort(samples)
		all = append(all, samples...)
	}
	return strings.Join(all, "")
}

// hasJob distinguishes pushed metrics from the server's own.
func hasJob(m *dto.Metric) bool {
	return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "job" })
}

// normalSample returns the line of a sample without its variable parts.
func normalSample(t *testing.T, name string, m *dto.Metric) string {
	t.Helper()
	m.Label = slices.DeleteFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == "" && l.GetName() != "instance" })
	slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	if isTime(name) && m.GetUntyped().GetValue() != 0 {
		m.Untyped.Value = proto.Float64(1)
	}
	var b strings.Builder
	_, err := expfmt.MetricFamilyToText(&b, &dto.MetricFamily{Name: &name, Type: dto.MetricType_UNTYPED.Enum(), Metric: []*dto.Metric{m}})
	agenttest.NoError(t, err)
	_, line, _ := strings.Cut(b.String(), "\n")
	return line
}

func isTime(family string) bool {
	return family == "push_time_seconds" || family == "push_failure_time_seconds"
}

// normalAPI returns the data of the JSON API.
func normalAPI(t *testing.T, body string) string {
	t.Helper()
	var answer struct {
		Status string
		Data   []map[string]any
	}
	agenttest.NoError(t, json.Unmarshal([]byte(body), &answer))
	if answer.Status != "success" {
		t.Fatalf("the API answers %s", body)
	}
	groups := []string{}
	for _, group := range answer.Data {
		for name, member := range group {
			switch member := member.(type) {
			case map[string]any:
				if name == "labels" {
					normalMember(member)
				} else {
					normalFamily(name, member)
				}
			}
		}
		groups = append(groups, indented(t, group))
	}
	slices.Sort(groups)
	return strings.Join(groups, "\n")
}

var timeStamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT[\d:.]+(Z|[-+]\d\d:\d\d)$`)

// normalFamily normalizes the variable parts.
func normalFamily(name string, family map[string]any) {
	if family["help"] == "" {
		delete(family, "help")
	}
	if stamp, _ := family["time_stamp"].(string); timeStamp.MatchString(stamp) {
		family["time_stamp"] = "a time"
	}
	metrics, _ := family["metrics"].([]any)
	for _, m := range metrics {
		metric, _ := m.(map[string]any)
		if labels, ok := metric["labels"].(map[string]any); ok {
			normalMember(labels)
		}
		if isTime(name) && metric["value"] != "0" {
			metric["value"] = "a time"
		}
		// If a push omits the +Inf bucket, promspool's API has the one from the page and
		// Pushgateway's API has none.
		if buckets, ok := metric["buckets"].(map[string]any); ok && buckets["+Inf"] == metric["count"] {
			delete(buckets, "+Inf")
		}
	}
	slices.SortFunc(metrics, func(a, b any) int { return cmp.Compare(mustJSON(a), mustJSON(b)) })
}

// normalMember removes empty labels.
func normalMember(labels map[string]any) {
	maps.DeleteFunc(labels, func(name string, value any) bool { return value == "" && name != "instance" })
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came from JSON
	}
	return string(text)
}

func indented(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	agenttest.NoError(t, err)
	return string(text)
}

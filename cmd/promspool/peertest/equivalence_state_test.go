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

// A state is what a server shows of what was pushed, in a form in which two can
// be compared: labels in order, none that are empty but instance, and of the
// times only whether there is one. The server's own metrics are left out.
type state struct {
	page string // types, HELP texts and samples, in order
	api  string // of GET /api/v1/metrics, indented
}

// look returns the state of a server, which may have USER:PASSWORD@ before it.
func look(t *testing.T, addr string) state {
	t.Helper()
	return state{page: normalPage(t, fetch(t, addr, "/metrics")), api: normalAPI(t, fetch(t, addr, "/api/v1/metrics"))}
}

// fetch returns the whole of a page, which has to be there.
func fetch(t *testing.T, addr, path string) string {
	t.Helper()
	resp, err := agenttest.Client.Get("http://" + addr + path)
	agenttest.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %s %s, %v, want 200", path, resp.Status, body, err)
	}
	// The HELP of the times of pushes is the one text that names the server.
	return strings.ReplaceAll(string(body), "changing this group in the Pushgateway", "changing this group in the spool")
}

var unstated = regexp.MustCompile(`^# |^push_(failure_)?time_seconds|job="last"`)

// pushed returns the samples as exchanges state them.
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

// parsed has the page go through the parser of Prometheus' own tools.
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

// normalPage takes the samples line by line, since the parser invents and loses
// some where it knows that they are of a histogram or a summary.
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

// hasJob tells what was pushed from a server's own metrics.
func hasJob(m *dto.Metric) bool {
	return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "job" })
}

// normalSample returns the line of a sample, without what may vary.
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

// normalFamily puts what may vary into a form that does not.
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
		// Of a bucket of all that a push did without, promspool's API has what is on
		// the page, and Pushgateway's has none.
		if buckets, ok := metric["buckets"].(map[string]any); ok && buckets["+Inf"] == metric["count"] {
			delete(buckets, "+Inf")
		}
	}
	slices.SortFunc(metrics, func(a, b any) int { return cmp.Compare(mustJSON(a), mustJSON(b)) })
}

// normalMember leaves empty labels out.
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

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/ingest"
)

// migrate copies the groups of a running Pushgateway to the spool.
type migrate struct {
	*common
	pushLimits
	from      remote
	to        remote
	dryRun    bool
	overwrite bool

	seen map[grouping.Key]bool // groups of this run
}

func addMigrate(app *kingpin.Application, c *common, commands map[string]func() error) {
	m := &migrate{common: c, seen: map[grouping.Key]bool{}}
	cmd := app.Command("migrate", `Take over the groups of a running Pushgateway, which is only read.

The groups become files of the spool, with their numbers, types and texts, and with the time of their last push; an agent that serves the spool may run or not. Run it as the user that the agent runs as. With --url they are pushed to an agent instead, which takes the time of the migration for the time of the push.

Each group is taken as a whole or not at all, and a line says what was done. A group that the spool has already is left alone: a job has pushed there since. The exit status is 1 if some group could not be taken.

Pushgateway gives instance="" to what was pushed without an instance; here that label is left out, unless --push.empty-instance-label is given. If the agent has other --push flags than their defaults, give them here as well.

Example, with both running until every job pushes to the new one:

  promspool migrate --from http://pushgateway:9091 --dry-run

  promspool migrate --from http://pushgateway:9091`)
	cmd.Flag("from", "The URL of the Pushgateway, with its route prefix if it has one.").Required().StringVar(&m.from.url)
	cmd.Flag("dry-run", "Only say what would be done.").BoolVar(&m.dryRun)
	cmd.Flag("overwrite", "Replace groups that are there already.").BoolVar(&m.overwrite)
	cmd.Flag("url", "Push the groups to the agent at this URL, instead of writing to the spool.").IsSetByUser(&m.to.given).StringVar(&m.to.url)
	cmd.Flag("timeout", "How long one request may take.").Default("1m").DurationVar(&m.from.timeout)
	m.pushLimits.addFlags(cmd)
	commands[cmd.FullCommand()] = m.run
}

func (m *migrate) run() error {
	if err := checkBounds(m.bounds()...); err != nil {
		return err
	}
	if m.to.given {
		if _, _, err := m.to.parse(); err != nil {
			return &usageError{err}
		}
	}
	m.from.flag = "--from"
	m.to.timeout, m.to.contentType = m.from.timeout, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	groups, err := readGateway(&m.from, m.emptyInstance)
	if err != nil {
		return fmt.Errorf("reading the groups: %w", err)
	}
	take, end, err := m.target()
	if err != nil {
		return err
	}
	defer end()
	// A signal stops it between two groups.
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer release()
	verb := "taken"
	if m.dryRun {
		verb = "would be taken"
	}
	say := func(what string, g *gatewayGroup, more any) {
		fmt.Fprintln(m.stdout, wording.Visible(fmt.Sprintf("%s %s: %v", what, g, more)))
	}
	var taken, left, refused int
	for i := range groups {
		if ctx.Err() != nil {
			return errors.New("stopped by a signal: run it again to migrate the rest")
		}
		g := &groups[i]
		switch err := m.take(g, take); {
		case err == nil:
			taken++
			say(verb, g, g.summary())
		case errors.Is(err, filestore.ErrExists):
			left++
			say("left", g, err)
		default:
			refused++
			say("refused", g, err)
		}
	}
	fmt.Fprintf(m.stdout, "%d %s, %d left, %d refused\n", taken, verb, left, refused)
	if refused > 0 {
		return &findings{refused}
	}
	return nil
}

// summary describes the content of a group.
func (g *gatewayGroup) summary() string {
	when := "never pushed successfully"
	if g.pushed > 0 {
		when = "pushed " + time.UnixMilli(int64(g.pushed*1000)).UTC().Format(time.RFC3339)
	}
	families := "1 family"
	if n := len(g.families); n != 1 {
		families = fmt.Sprintf("%d families", n)
	}
	return fmt.Sprintf("%s in %s, %s", wording.Count(g.samples, "metric"), families, when)
}

// take copies one group.
func (m *migrate) take(g *gatewayGroup, store func(grouping.Key, *gatewayGroup) error) error {
	group, err := g.group()
	switch {
	case g.err != nil:
		return g.err
	case err != nil:
		return err
	case m.seen[group]:
		return errors.New("another group differs only in an empty label, which means no label")
	}
	m.seen[group] = true
	return store(group, g)
}

// target returns the function that stores a group and the one that ends the run.
func (m *migrate) target() (store func(grouping.Key, *gatewayGroup) error, end func(), err error) {
	if m.to.given {
		there, err := m.groupsThere()
		return func(group grouping.Key, g *gatewayGroup) error {
			if there[group] && !m.overwrite {
				return filestore.ErrExists
			}
			return m.send(group, g)
		}, func() {}, err
	}
	s, err := m.open(m.pushLimits.store(nil))
	if err != nil {
		return nil, nil, err
	}
	return func(group grouping.Key, g *gatewayGroup) error {
		families, err := m.families(group, g)
		if err != nil {
			return err
		}
		return s.Adopt(group, families, record.Adoption{Pushed: g.pushed, Failed: g.failed, Overwrite: m.overwrite, DryRun: m.dryRun})
	}, func() { _ = s.Close() }, nil
}

// families returns the families of the group if a push of them is valid.
func (m *migrate) families(group grouping.Key, g *gatewayGroup) (*exposition.Families, error) {
	if err := ingest.CheckGroup(group, m.body()); err != nil {
		return nil, err
	}
	return exposition.FromProto(g.families, m.limits, m.utf8Names)
}

// groupsThere returns the groups of the agent.
func (m *migrate) groupsThere() (map[grouping.Key]bool, error) {
	groups, err := readGateway(&m.to, m.emptyInstance)
	if err != nil {
		return nil, fmt.Errorf("listing the groups of the agent: %w", err)
	}
	there := map[grouping.Key]bool{}
	for i := range groups {
		if group, err := groups[i].group(); err == nil {
			there[group] = true
		}
	}
	return there, nil
}

// send pushes a group to the agent.
func (m *migrate) send(group grouping.Key, g *gatewayGroup) error {
	if _, err := m.families(group, g); err != nil || m.dryRun {
		return err
	}
	var body bytes.Buffer
	for _, f := range g.families {
		if _, err := protodelim.MarshalTo(&body, f); err != nil {
			return err
		}
	}
	_, err := m.to.do(http.MethodPut, "/metrics/"+ingest.GroupPath(group), nil, &body)
	return err
}

// A gatewayGroup is one group from the JSON API of a Pushgateway. No other API
// assigns metrics to groups. Its numbers have enough digits to parse to the same
// float.
type gatewayGroup struct {
	labels         map[string]string // the grouping key
	families       []*dto.MetricFamily
	samples        int
	pushed, failed float64 // Unix time of the last push and the last failed one
	err            error   // the group is invalid
}

// readGateway returns all groups of a Pushgateway or promspool.
func readGateway(from *remote, keepEmptyInstance bool) ([]gatewayGroup, error) {
	text, err := from.do(http.MethodGet, "/api/v1/metrics", nil, nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status string
		Data   *[]map[string]json.RawMessage
	}
	err = json.Unmarshal(text, &answer)
	if err == nil && (answer.Status != "success" || answer.Data == nil) {
		err = errors.New("success or data are missing")
	}
	if err != nil {
		return nil, fmt.Errorf("the response is not a list of groups: %w", err)
	}
	groups := make([]gatewayGroup, len(*answer.Data))
	for i, raw := range *answer.Data {
		groups[i] = parseGatewayGroup(raw, keepEmptyInstance)
	}
	slices.SortFunc(groups, func(a, b gatewayGroup) int { return strings.Compare(a.String(), b.String()) })
	return groups, nil
}

// String returns the grouping key, job first.
func (g *gatewayGroup) String() string {
	if group, err := g.group(); err == nil {
		return group.String()
	}
	return fmt.Sprintf("%q", g.labels)
}

func (g *gatewayGroup) group() (grouping.Key, error) {
	labels := make([]exposition.Label, 0, len(g.labels))
	for name, value := range g.labels {
		labels = append(labels, exposition.Label{Name: name, Value: value})
	}
	return grouping.New(labels...)
}

// The members of a group that are not metric families. A family with such a name
// replaces the member.
const (
	memberLabels  = "labels"
	memberSuccess = "last_push_successful"
)

// The families that a Pushgateway adds to each group.
const (
	pushTimeFamily    = "push_time_seconds"
	failureTimeFamily = "push_failure_time_seconds"
)

type gatewayFamily struct {
	Type    string
	Help    *string
	Metrics []gatewayMetric
}

type gatewayMetric struct {
	Labels     map[string]string
	Value      *number
	Count, Sum *number
	Buckets    json.RawMessage
	Quantiles  map[number]number
}

func parseGatewayGroup(raw map[string]json.RawMessage, keepEmptyInstance bool) gatewayGroup {
	var g gatewayGroup
	hidden := json.Unmarshal(raw[memberLabels], &g.labels) != nil
	for name, text := range raw {
		if name == memberLabels && !hidden || name == memberSuccess && text[0] != '{' {
			continue
		}
		var f gatewayFamily
		if err := json.Unmarshal(text, &f); err != nil {
			g.err = fmt.Errorf("family %s: %w", name, err)
			continue
		}
		switch {
		case name != pushTimeFamily && name != failureTimeFamily:
			mf, err := f.proto(name, keepEmptyInstance)
			if err != nil {
				g.err = fmt.Errorf("family %s: %w", name, err)
			}
			g.families = append(g.families, mf)
			g.samples += len(f.Metrics)
		case len(f.Metrics) != 1 || f.Metrics[0].Value == nil:
		case name == pushTimeFamily:
			g.pushed = float64(*f.Metrics[0].Value)
			if hidden { // its labels are those of the group
				g.labels = f.Metrics[0].Labels
			}
		default:
			g.failed = float64(*f.Metrics[0].Value)
		}
	}
	slices.SortFunc(g.families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return g
}

var errNative = errors.New("native histograms do not exist in the text format")

// proto returns the family in the form that a client would push.
func (f *gatewayFamily) proto(name string, keepEmptyInstance bool) (*dto.MetricFamily, error) {
	kind, ok := dto.MetricType_value[f.Type]
	if !ok || f.Type == dto.MetricType_GAUGE_HISTOGRAM.String() {
		return nil, fmt.Errorf("type %s is not supported", f.Type)
	}
	mf := &dto.MetricFamily{Name: &name, Help: f.Help, Type: dto.MetricType(kind).Enum()}
	for _, m := range f.Metrics {
		metric, err := m.proto(mf.GetType(), keepEmptyInstance)
		if err != nil {
			return nil, err
		}
		mf.Metric = append(mf.Metric, metric)
	}
	return mf, nil
}

func (m *gatewayMetric) proto(kind dto.MetricType, keepEmptyInstance bool) (*dto.Metric, error) {
	metric := &dto.Metric{}
	for name, value := range m.Labels {
		if name != "instance" || value != "" || keepEmptyInstance {
			metric.Label = append(metric.Label, &dto.LabelPair{Name: &name, Value: &value})
		}
	}
	composite := kind == dto.MetricType_HISTOGRAM || kind == dto.MetricType_SUMMARY
	if composite && (m.Count == nil || m.Sum == nil) || !composite && m.Value == nil {
		return nil, errors.New("a number is missing")
	}
	switch kind {
	case dto.MetricType_COUNTER:
		metric.Counter = &dto.Counter{Value: m.Value.float()}
	case dto.MetricType_GAUGE:
		metric.Gauge = &dto.Gauge{Value: m.Value.float()}
	case dto.MetricType_SUMMARY:
		count, _, ok := m.Count.count()
		if !ok {
			return nil, errors.New("the count of a summary is not an integer")
		}
		metric.Summary = &dto.Summary{SampleCount: &count, SampleSum: m.Sum.float()}
		for quantile, value := range m.Quantiles {
			metric.Summary.Quantile = append(metric.Summary.Quantile, &dto.Quantile{Quantile: quantile.float(), Value: value.float()})
		}
	case dto.MetricType_HISTOGRAM:
		var buckets map[number]number
		if err := json.Unmarshal(m.Buckets, &buckets); err != nil {
			return nil, errNative // buckets are a list
		}
		h := &dto.Histogram{SampleSum: m.Sum.float()}
		count, fraction, _ := m.Count.count()
		h.SampleCount, h.SampleCountFloat = &count, fraction
		for bound, value := range buckets {
			count, fraction, _ := value.count()
			h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: bound.float(), CumulativeCount: &count, CumulativeCountFloat: fraction})
		}
		metric.Histogram = h
	default:
		metric.Untyped = &dto.Untyped{Value: m.Value.float()}
	}
	return metric, nil
}

// A number is a float encoded as a JSON string.
type number float64

// UnmarshalText parses a float in the notation of Go and Prometheus.
func (n *number) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("invalid number %q", text)
	}
	*n = number(v)
	return nil
}

func (n number) float() *float64 {
	v := float64(n)
	return &v
}

// count returns the number as an integer, or as a float if it is not one.
func (n number) count() (whole uint64, fraction *float64, ok bool) {
	if v := float64(n); v >= 0 && v < 1<<63 && v == math.Trunc(v) {
		return uint64(v), nil, true
	}
	return 0, n.float(), false
}

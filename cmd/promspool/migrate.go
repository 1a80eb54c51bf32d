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
	"google.golang.org/protobuf/proto"

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
	cmd := app.Command("migrate", `Copy the groups of a running Pushgateway.

The groups become files of the spool with their values, types, HELP texts and the times of their last push. No agent needs to run. Run the command as the user of the agent. With --url the groups are pushed to an agent instead, and the time of the migration becomes the time of the push. The Pushgateway is only read.

Exemplars, start times, units and native histograms come from a scrape of /metrics by protobuf. Each group is copied completely or not at all, and a line reports the result. Groups that exist in the spool are skipped, because a job has pushed to them since. The exit status is 1 if a group could not be copied.

Pushgateway adds instance="" to pushes without an instance. The label is omitted here unless --push.empty-instance-label is given. If the agent has other --push flags than the defaults, repeat them here.

Example, with both running until every job pushes to the new one:

  promspool migrate --from http://pushgateway:9091 --dry-run

  promspool migrate --from http://pushgateway:9091`)
	cmd.Flag("from", "URL of the Pushgateway with its route prefix.").Required().StringVar(&m.from.url)
	cmd.Flag("dry-run", "List the groups only.").BoolVar(&m.dryRun)
	cmd.Flag("overwrite", "Replace existing groups.").BoolVar(&m.overwrite)
	cmd.Flag("url", "URL of an agent to push the groups to, instead of writing to the spool.").IsSetByUser(&m.to.given).StringVar(&m.to.url)
	cmd.Flag("timeout", "Maximum time for a request.").Default("1m").SetValue((*timeout)(&m.from.timeout))
	m.pushLimits.addFlags(cmd)
	commands[cmd.FullCommand()] = m.run
}

func (m *migrate) run() error {
	if err := m.pushLimits.check(); err != nil {
		return err
	}
	if m.to.given {
		if _, _, err := m.to.parse(); err != nil {
			return &usageError{err}
		}
	}
	m.from.flag = "--from"
	m.to.timeout, m.to.contentType = m.from.timeout, protobufFormat
	scrape := scrapeGateway(&m.from)
	groups, err := readGateway(&m.from, m.emptyInstance, scrape)
	if err != nil {
		return fmt.Errorf("reading the groups: %w", err)
	}
	if scrape.err != nil {
		fmt.Fprintf(m.stderr, "promspool: exemplars, start times and units are not taken: scraping the Pushgateway failed: %s\n", wording.Visible(scrape.err.Error()))
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
		return s.Import(group, families, record.ImportOptions{Pushed: g.pushed, Failed: g.failed, Overwrite: m.overwrite, DryRun: m.dryRun})
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
	groups, err := readGateway(&m.to, m.emptyInstance, &gatewayScrape{})
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

// A gatewayGroup is one group as the JSON API of a Pushgateway has it. That API alone
// says which metrics belong to which group, and every number in it has as many digits
// as are needed to get the same one back. It has no exemplars, start times and units,
// and of native histograms only the buckets: these come from a scrape.
type gatewayGroup struct {
	labels         map[string]string // the grouping key
	families       []*dto.MetricFamily
	samples        int
	pushed, failed float64 // Unix time of the last push and the last failed one
	err            error   // the group is invalid
}

// readGateway returns all groups of a Pushgateway, or promspool. What the JSON API does
// not have comes from the scrape.
func readGateway(from *remote, keepEmptyInstance bool, scrape *gatewayScrape) ([]gatewayGroup, error) {
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
		groups[i] = parseGatewayGroup(raw, keepEmptyInstance, scrape)
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

func parseGatewayGroup(raw map[string]json.RawMessage, keepEmptyInstance bool, scrape *gatewayScrape) gatewayGroup {
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
			mf, err := f.proto(name, keepEmptyInstance, scrape)
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

// proto returns the family as a client would push it.
func (f *gatewayFamily) proto(name string, keepEmptyInstance bool, scrape *gatewayScrape) (*dto.MetricFamily, error) {
	kind, ok := dto.MetricType_value[f.Type]
	if !ok {
		return nil, fmt.Errorf("its type is %s, which cannot be kept", f.Type)
	}
	mf := &dto.MetricFamily{Name: &name, Help: f.Help, Type: dto.MetricType(kind).Enum()}
	for _, m := range f.Metrics {
		metric, err := m.proto(mf.GetType())
		if of, scraped := scrape.metric(name, mf.GetType(), m.Labels); scraped != nil && (err != nil || m.agrees(scraped)) {
			metric, err = proto.Clone(scraped).(*dto.Metric), nil
			mf.Unit, mf.Type = of.Unit, of.Type
		}
		if errors.Is(err, errNative) {
			err = scrape.explain(err)
		}
		if err != nil {
			return nil, err
		}
		metric.Label = nil
		for name, value := range m.Labels {
			if name != "instance" || value != "" || keepEmptyInstance {
				metric.Label = append(metric.Label, &dto.LabelPair{Name: &name, Value: &value})
			}
		}
		mf.Metric = append(mf.Metric, metric)
	}
	return mf, nil
}

func (m *gatewayMetric) proto(kind dto.MetricType) (*dto.Metric, error) {
	metric := &dto.Metric{}
	if kind == dto.MetricType_GAUGE_HISTOGRAM {
		return nil, errNative // the API has no shape for these
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

// agrees reports whether a metric of a scrape is the same, and not of a later push.
func (m *gatewayMetric) agrees(scraped *dto.Metric) bool {
	same := func(n *number, v float64) bool {
		return n != nil && (float64(*n) == v || math.IsNaN(float64(*n)) && math.IsNaN(v))
	}
	switch {
	case scraped.Counter != nil:
		return same(m.Value, scraped.Counter.GetValue())
	case scraped.Summary != nil:
		return same(m.Count, float64(scraped.Summary.GetSampleCount())) && same(m.Sum, scraped.Summary.GetSampleSum())
	case scraped.Histogram != nil:
		h := scraped.Histogram
		return same(m.Count, cmp.Or(h.GetSampleCountFloat(), float64(h.GetSampleCount()))) && same(m.Sum, h.GetSampleSum())
	case scraped.Gauge != nil:
		return same(m.Value, scraped.Gauge.GetValue())
	}
	return same(m.Value, scraped.Untyped.GetValue())
}

// A number is a float that stands in JSON as a string.
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

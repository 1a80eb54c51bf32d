package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"

	dto "github.com/prometheus/client_model/go"
)

// A gatewayGroup is one group as the JSON API of a Pushgateway tells it. That
// API alone says what belongs to which group, and it gives every number in as
// many digits as are needed to get the same one back.
type gatewayGroup struct {
	labels         map[string]string // the grouping key
	families       []*dto.MetricFamily
	samples        int
	pushed, failed float64 // Unix time of the last push and the last failed one
	err            error   // why the group cannot be used
}

// readGateway returns all groups of a Pushgateway, or promspool.
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
		return nil, fmt.Errorf("the answer is no list of groups: %w", err)
	}
	groups := make([]gatewayGroup, len(*answer.Data))
	for i, raw := range *answer.Data {
		groups[i] = parseGatewayGroup(raw, keepEmptyInstance)
	}
	slices.SortFunc(groups, func(a, b gatewayGroup) int { return strings.Compare(a.String(), b.String()) })
	return groups, nil
}

// String returns the grouping key, the job first.
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

// The members of a group that are no metric families, unless there are families
// of these names: these then take their place.
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
			if hidden { // what it has for labels is what the group has
				g.labels = f.Metrics[0].Labels
			}
		default:
			g.failed = float64(*f.Metrics[0].Value)
		}
	}
	slices.SortFunc(g.families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return g
}

var errNative = errors.New("it is a native histogram, which the text format cannot hold")

// proto returns the family as a client would push it.
func (f *gatewayFamily) proto(name string, keepEmptyInstance bool) (*dto.MetricFamily, error) {
	kind, ok := dto.MetricType_value[f.Type]
	if !ok || f.Type == dto.MetricType_GAUGE_HISTOGRAM.String() {
		return nil, fmt.Errorf("its type is %s, which cannot be kept", f.Type)
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
			return nil, errors.New("the count of a summary is no integer")
		}
		metric.Summary = &dto.Summary{SampleCount: &count, SampleSum: m.Sum.float()}
		for quantile, value := range m.Quantiles {
			metric.Summary.Quantile = append(metric.Summary.Quantile, &dto.Quantile{Quantile: quantile.float(), Value: value.float()})
		}
	case dto.MetricType_HISTOGRAM:
		var buckets map[number]number
		if err := json.Unmarshal(m.Buckets, &buckets); err != nil {
			return nil, errNative // has a list
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

// A number is a float that stands in JSON as a string.
type number float64

// UnmarshalText takes what Go and Prometheus write for a float.
func (n *number) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("%q is no number", text)
	}
	*n = number(v)
	return nil
}

func (n number) float() *float64 {
	v := float64(n)
	return &v
}

// count returns the number as an integer if it is one, and as a float if not.
func (n number) count() (whole uint64, fraction *float64, ok bool) {
	if v := float64(n); v >= 0 && v < 1<<63 && v == math.Trunc(v) {
		return uint64(v), nil, true
	}
	return 0, n.float(), false
}

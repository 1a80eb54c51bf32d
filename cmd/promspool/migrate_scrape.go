package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
)

const protobufFormat = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

// errNative is why a histogram needs a scrape.
var errNative = errors.New("native and gauge histograms are not in the JSON API, and the scrape by protobuf does not have this one")

// A gatewayScrape has what a Pushgateway serves by protobuf. It does not say to which
// group a metric belongs, but the labels of a metric do.
type gatewayScrape struct {
	families map[string]*dto.MetricFamily
	metrics  map[string]*dto.Metric // by metricKey
	err      error                  // why there are none
}

// scrapeGateway scrapes a Pushgateway, or promspool.
func scrapeGateway(from *remote) *gatewayScrape {
	s := &gatewayScrape{families: map[string]*dto.MetricFamily{}, metrics: map[string]*dto.Metric{}}
	asking := *from
	asking.accept = protobufFormat + "; escaping=allow-utf-8"
	answer, err := asking.do(http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		s.err = err
		return s
	}
	for r := bytes.NewReader(answer); r.Len() > 0; {
		mf := new(dto.MetricFamily)
		if err := (protodelim.UnmarshalOptions{MaxSize: -1}).UnmarshalFrom(r, mf); err != nil {
			return &gatewayScrape{err: fmt.Errorf("the answer is not protobuf: %w", err)}
		}
		s.families[mf.GetName()] = mf
		for _, m := range mf.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			s.metrics[metricKey(mf.GetName(), labels)] = m
		}
	}
	return s
}

// metric returns a metric of a type and its family, or nil. The JSON API of promspool has
// gauge histograms as histograms.
func (s *gatewayScrape) metric(family string, kind dto.MetricType, labels map[string]string) (*dto.MetricFamily, *dto.Metric) {
	mf := s.families[family]
	if mf == nil || mf.GetType() != kind && (kind != dto.MetricType_HISTOGRAM || mf.GetType() != dto.MetricType_GAUGE_HISTOGRAM) {
		return nil, nil
	}
	return mf, s.metrics[metricKey(family, labels)]
}

// explain adds why the scrape failed.
func (s *gatewayScrape) explain(err error) error {
	if s.err == nil {
		return err
	}
	return fmt.Errorf("native and gauge histograms are not in the JSON API, and the scrape by protobuf failed: %w", s.err)
}

// metricKey identifies a metric. A label with an empty value is the same as none.
func metricKey(family string, labels map[string]string) string {
	parts := make([]string, 0, len(labels)+1)
	for name, value := range labels {
		if value != "" {
			parts = append(parts, fmt.Sprintf("%q=%q", name, value))
		}
	}
	slices.Sort(parts)
	return family + "{" + strings.Join(parts, ",")
}

package main

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// legacyRequests is the one metric of Pushgateway's own that alert rules are
// documented to use. It counts the same as promspool_http_requests_total.
const legacyRequests = "pushgateway_http_requests_total"

// legacyCounter exposes a counter of requests under Pushgateway's name as well.
type legacyCounter struct{ requests *prometheus.CounterVec }

var legacyDesc = prometheus.NewDesc(legacyRequests,
	"The same as promspool_http_requests_total, for alert rules written for Pushgateway.", []string{"handler", "code", "method"}, nil)

// Describe implements prometheus.Collector.
func (c legacyCounter) Describe(ch chan<- *prometheus.Desc) { ch <- legacyDesc }

// Collect implements prometheus.Collector.
func (c legacyCounter) Collect(ch chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric)
	go func() {
		c.requests.Collect(all)
		close(all)
	}()
	for m := range all {
		var d dto.Metric
		if m.Write(&d) != nil {
			continue // a counter always can
		}
		value := map[string]string{}
		for _, l := range d.GetLabel() {
			value[l.GetName()] = l.GetValue()
		}
		ch <- prometheus.MustNewConstMetric(legacyDesc, prometheus.CounterValue, d.GetCounter().GetValue(), value["handler"], value["code"], value["method"])
	}
}

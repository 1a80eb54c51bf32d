package exporter

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// OwnFamilies describes the metric families of g for filestore.Options.Own, which
// keeps files from replacing them. Families with reserved names are left out, since no
// file can have them. It gathers once, so each vector must have a series by then.
func OwnFamilies(g prometheus.Gatherer) (map[string]merge.Own, error) {
	mfs, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("describing the program's own metrics: %w", err)
	}
	own := make(map[string]merge.Own)
	for _, mf := range mfs {
		if record.IsReserved(mf.GetName()) {
			continue
		}
		o := merge.Own{Type: typeOf(mf.GetType())}
		for _, m := range mf.Metric {
			for _, l := range m.Label {
				if !slices.Contains(o.Labels, l.GetName()) {
					o.Labels = append(o.Labels, l.GetName())
				}
			}
		}
		slices.Sort(o.Labels)
		own[mf.GetName()] = o
	}
	return own, nil
}

func typeOf(t dto.MetricType) exposition.Type {
	switch t {
	case dto.MetricType_COUNTER:
		return exposition.Counter
	case dto.MetricType_GAUGE:
		return exposition.Gauge
	case dto.MetricType_SUMMARY:
		return exposition.Summary
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		return exposition.Histogram
	}
	return exposition.Untyped
}

// own renders the program's own metrics, each family together with the samples that
// files add to it. The text of the process is returned separately, unless files add to
// it.
func (e *Exporter) own(v *merge.View) (ready *passage, rest []byte) {
	mfs, err := e.cfg.Own.Gather()
	if err != nil {
		e.cfg.Logger.Warn("gathering the program's own metrics", "err", err)
	}
	ready = e.process.get(e.cfg, time.Now())
	beside := v.Beside()
	if len(beside) > 0 || !ready.told {
		mfs = slices.Concat(ready.families, mfs)
		ready = &passage{}
	}
	var b bytes.Buffer
	b.Grow(int(e.ownSize.Load()) + 256) // the last size, and some digits
	e.render(&b, v, beside, mfs)
	return ready, b.Bytes()
}

// render appends the families, each with the samples that files add to it. Families of
// beside that are not among them follow at the end.
func (e *Exporter) render(b *bytes.Buffer, v *merge.View, beside []string, mfs []*dto.MetricFamily) {
	for _, mf := range mfs {
		name := mf.GetName()
		i, shared := slices.BinarySearch(beside, name)
		if !shared && e.displaced(v, name) {
			e.cfg.Logger.Warn("a file has a metric of the program's own, which the store was not told of", "family", name)
			continue
		}
		start := b.Len()
		if _, err := expfmt.MetricFamilyToText(b, mf); err != nil {
			e.cfg.Logger.Warn("rendering the program's own metrics", "family", name, "err", err)
			b.Truncate(start)
			continue
		}
		if shared {
			b.Write(v.AppendBeside(b.AvailableBuffer(), name))
			beside = slices.Delete(beside, i, i+1)
		}
	}
	for _, name := range beside {
		b.Write(v.AppendFamily(b.AvailableBuffer(), name))
	}
}

// displaced reports whether the merge has a family of the program's own. That happens
// only if OwnFamilies lacks it.
func (e *Exporter) displaced(v *merge.View, name string) bool {
	if _, told := e.cfg.OwnFamilies[name]; told || record.IsReserved(name) {
		return false
	}
	return len(v.AppendFamily(nil, name)) > 0
}

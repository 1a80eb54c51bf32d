package exporter

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// metricsAtOnce is how many metrics of a file are shown on one page.
const metricsAtOnce = 500

// A content is what one file holds, in words.
type content struct {
	Row      row
	Families []shownFamily
	From, To int    // the metrics that are shown, from 1
	More     string // link to the next of them
	Back     string // to the list
}

type shownFamily struct {
	Name, Help, Type string
	Metrics          []shownMetric
}

type shownMetric struct {
	Labels []shownLabel // but for those of the group
	Value  string       // of a counter, gauge or untyped metric
	When   *moment      // if the value is a time
	Count  string       // of a histogram or summary
	Sum    string
	Bound  string // what its bounds are
	Bounds []shownBound
}

type shownBound struct{ Bound, Value string }

// newContent takes apart what a file holds, from the metric of that number on.
func newContent(v *merge.View, f *record.File, r row, offset int, now time.Time) *content {
	c := &content{Row: r, Back: "?view=" + viewOf(f)}
	own := f.Group().Labels()
	n := 0
	for fam, m := range v.Metrics(f) {
		n++
		if n <= offset {
			continue
		}
		if n > offset+metricsAtOnce {
			c.More = link(viewFile, "name", f.Name(), "offset", strconv.Itoa(offset+metricsAtOnce))
			break
		}
		if c.From == 0 {
			c.From = n
		}
		c.To = n
		if k := len(c.Families); k == 0 || c.Families[k-1].Name != wording.Visible(fam.Name) {
			c.Families = append(c.Families, shownFamily{Name: wording.Visible(fam.Name), Help: wording.Visible(fam.Help), Type: fam.Type.String()})
		}
		last := &c.Families[len(c.Families)-1]
		last.Metrics = append(last.Metrics, newShownMetric(fam, m, own, now))
	}
	return c
}

func newShownMetric(fam exposition.Family, m exposition.Metric, own []exposition.Label, now time.Time) shownMetric {
	x := shownMetric{Labels: showLabels(slices.DeleteFunc(m.Labels, func(l exposition.Label) bool { return slices.Contains(own, l) }), math.MaxInt)}
	switch fam.Type {
	case exposition.Histogram:
		x.Bound = "le"
	case exposition.Summary:
		x.Bound = "quantile"
	default:
		x.Value = number(m.Value)
		if strings.HasSuffix(fam.Name, "_time_seconds") || strings.HasSuffix(fam.Name, "_timestamp_seconds") {
			x.When = momentOf(now, jobstate.AtUnix(m.Value))
		}
		return x
	}
	x.Count, x.Sum = number(m.Count), number(m.Sum)
	for _, b := range m.Bounds {
		x.Bounds = append(x.Bounds, shownBound{number(b.Bound), number(b.Value)})
	}
	return x
}

// number writes a value, with an exponent only where it would be hard to read without.
func number(x float64) string {
	if a := math.Abs(x); a == 0 || a >= 1e-4 && a < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

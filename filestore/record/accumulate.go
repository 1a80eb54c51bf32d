package record

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
)

// accumulate adds the group's values to the counters and histograms of a push.
// Other families of the push are not changed.
func accumulate(fresh, old []exposition.Part, file string) ([]exposition.Part, error) {
	sum := slices.Clone(fresh)
	for i := range sum {
		d := sum[i].Desc.Value()
		j := slices.IndexFunc(old, func(p exposition.Part) bool { return p.Desc.Value().Name == d.Name })
		if j >= 0 {
			if o := old[j].Desc.Value(); o.Typ != d.Typ && (o.Typ.Adds() || d.Typ.Adds()) {
				return nil, &Conflict{Family: d.Name, File: file, Kept: file, Reason: exposition.TypeConflict, Type: d.Typ, KeptType: o.Typ}
			}
		}
		if !d.Typ.Adds() {
			continue
		}
		a := adder{desc: d}
		if err := a.check(sum[i].Text); err != nil {
			return nil, err
		}
		if j < 0 {
			continue
		}
		if err := a.check(old[j].Text); err != nil {
			return nil, err
		}
		var err error
		if sum[i], err = a.add(sum[i], old[j]); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// adder adds up one family.
type adder struct{ desc exposition.Desc }

func (a adder) fail(msg string) error {
	return &exposition.SyntaxError{Reason: exposition.Syntax, Decoded: true, Msg: fmt.Sprintf("%s %s %s", a.desc.Typ, a.desc.Name, msg)}
}

// check returns an error if canonical text cannot be added up.
func (a adder) check(text string) error {
	for line := range strings.Lines(text) {
		v := exposition.FirstValue(line)
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return a.fail("cannot accumulate: a value is not finite, and the sum would never be finite again")
		case a.desc.Typ == exposition.Counter && v < 0:
			return a.fail("cannot accumulate: a value is negative, and counters only grow")
		case a.desc.Typ == exposition.Summary && a.isQuantile(line):
			return a.fail("cannot accumulate: quantiles cannot be added up; push a histogram, or only the sum and count")
		}
	}
	return nil
}

// isQuantile reports whether a line of a summary is neither its sum nor its count.
func (a adder) isQuantile(line string) bool {
	l, _ := exposition.CutLine(line)
	return exposition.Unquote(l.Name) == a.desc.Name
}

// add returns the sum of two parts.
func (a adder) add(fresh, old exposition.Part) (exposition.Part, error) {
	had := map[string]float64{}
	for line := range strings.Lines(old.Text) {
		had[exposition.SeriesOf(line)] = exposition.FirstValue(line)
	}
	if a.desc.Typ == exposition.Histogram {
		if err := a.sameBuckets(fresh.Text, old.Text); err != nil {
			return exposition.Part{}, err
		}
	}
	text := exposition.AppendHeader(nil, a.desc.Name, "", a.desc.Typ)
	for line := range strings.Lines(fresh.Text) {
		series := exposition.SeriesOf(line)
		sum := exposition.FirstValue(line) + had[series]
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			return exposition.Part{}, a.fail("cannot accumulate: the sum is not finite; delete the group, or replace it with PUT")
		}
		text = append(append(text, series...), ' ')
		text = append(exposition.AppendValue(text, sum), '\n')
		delete(had, series)
	}
	for line := range strings.Lines(old.Text) {
		if _, left := had[exposition.SeriesOf(line)]; left {
			text = append(text, line...)
		}
	}
	families, err := exposition.ParseFile(text)
	if err != nil {
		return exposition.Part{}, a.fail("cannot accumulate: " + err.Error())
	}
	parts, _, _, err := exposition.Canonical(families, exposition.Labelling{}, true)
	if err != nil || len(parts) != 1 {
		return exposition.Part{}, a.fail("cannot accumulate with what the group holds")
	}
	parts[0].Desc = fresh.Desc
	if parts[0].Extra, err = exposition.AddExtras(a.desc, parts[0].Text, fresh, old); err != nil {
		return exposition.Part{}, a.fail("cannot accumulate: it " + err.Error() + "; delete the group, or replace it with PUT")
	}
	return parts[0], nil
}

// sameBuckets returns an error if two histograms differ in their lines.
func (a adder) sameBuckets(fresh, old string) error {
	lines := func(text string) []string {
		var list []string
		for line := range strings.Lines(text) {
			list = append(list, exposition.SeriesOf(line))
		}
		return list
	}
	had := map[string][]string{}
	exposition.EachMetric(a.desc, old, func(base []byte, text string) bool {
		had[string(base)] = lines(text)
		return true
	})
	same := true
	exposition.EachMetric(a.desc, fresh, func(base []byte, text string) bool {
		before, ok := had[string(base)]
		same = !ok || slices.Equal(before, lines(text))
		return same
	})
	if !same {
		return a.fail("cannot accumulate: its buckets are not those that the group holds; delete the group, or replace it with PUT")
	}
	return nil
}

// accumulated calls accumulate with the content of a group, expired or not, and
// counts the samples. old is nil for a new group.
func accumulated(fresh []exposition.Part, old *Content, file string) (parts []exposition.Part, series int, err error) {
	var held []exposition.Part
	if old != nil {
		held = old.Parts
	}
	if old != nil && old.File.age != nil {
		if held, err = old.File.age.parts(); err != nil {
			return nil, 0, err
		}
	}
	if parts, err = accumulate(fresh, held, file); err != nil {
		return nil, 0, err
	}
	for i := range parts {
		series += strings.Count(parts[i].Text, "\n")
	}
	return parts, series, nil
}

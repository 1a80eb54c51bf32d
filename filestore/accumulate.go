package filestore

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// accumulate adds to the counters and histograms of a push what the group has of
// them. Its other families stay as they are.
func accumulate(fresh, old []part, file string) ([]part, error) {
	sum := slices.Clone(fresh)
	for i := range sum {
		d := sum[i].desc.Value()
		j := slices.IndexFunc(old, func(p part) bool { return p.desc.Value().name == d.name })
		if j >= 0 {
			if o := old[j].desc.Value(); o.typ != d.typ && (o.typ.adds() || d.typ.adds()) {
				return nil, &Conflict{Family: d.name, File: file, Kept: file, Reason: TypeConflict}
			}
		}
		if !d.typ.adds() {
			continue
		}
		add := adding{desc: d}
		if err := add.may(sum[i].text); err != nil {
			return nil, err
		}
		if j < 0 {
			continue
		}
		if err := add.may(old[j].text); err != nil {
			return nil, err
		}
		var err error
		if sum[i], err = add.up(sum[i], old[j]); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// adding is the work on one family.
type adding struct{ desc desc }

func (a adding) fail(msg string) error {
	return &SyntaxError{Reason: Syntax, Decoded: true, Msg: fmt.Sprintf("%s %s %s", a.desc.typ, a.desc.name, msg)}
}

// may reports whether canonical text can be added up.
func (a adding) may(text string) error {
	for line := range strings.Lines(text) {
		v := firstValue(line)
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return a.fail("cannot accumulate: a value is no finite number, and would stay so")
		case a.desc.typ == Counter && v < 0:
			return a.fail("cannot accumulate: a value is negative, and counters only grow")
		case a.desc.typ == Summary && a.isQuantile(line):
			return a.fail("cannot accumulate: quantiles cannot be added up; push a histogram, or only the sum and count")
		}
	}
	return nil
}

// isQuantile reports whether a line of a summary is neither its sum nor its count.
func (a adding) isQuantile(line string) bool {
	l, _ := cutLine(line)
	return unquote(l.name) == a.desc.name
}

// up returns the sum of two parts.
func (a adding) up(fresh, old part) (part, error) {
	had := map[string]float64{}
	for line := range strings.Lines(old.text) {
		had[seriesOf(line)] = firstValue(line)
	}
	if a.desc.typ == Histogram {
		if err := a.sameBuckets(fresh.text, old.text); err != nil {
			return part{}, err
		}
	}
	text := appendHeader(nil, a.desc.name, "", a.desc.typ)
	for line := range strings.Lines(fresh.text) {
		series := seriesOf(line)
		sum := firstValue(line) + had[series]
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			return part{}, a.fail("cannot accumulate: a sum would be no finite number, and stay so; delete the group, or replace it with PUT")
		}
		text = append(append(text, series...), ' ')
		text = append(appendValue(text, sum), '\n')
		delete(had, series)
	}
	for line := range strings.Lines(old.text) {
		if _, left := had[seriesOf(line)]; left {
			text = append(text, line...)
		}
	}
	families, err := parseLenient(text)
	if err != nil {
		return part{}, a.fail("cannot accumulate: " + err.Error())
	}
	parts, _, _, err := canonical(families, labelling{}, true)
	if err != nil || len(parts) != 1 {
		return part{}, a.fail("cannot accumulate with what the group holds")
	}
	parts[0].desc = fresh.desc
	return parts[0], nil
}

// sameBuckets returns an error if a histogram has other lines than the one it is
// added to.
func (a adding) sameBuckets(fresh, old string) error {
	lines := func(text string) []string {
		var list []string
		for line := range strings.Lines(text) {
			list = append(list, seriesOf(line))
		}
		return list
	}
	had := map[string][]string{}
	eachMetric(a.desc, old, func(base []byte, text string) bool {
		had[string(base)] = lines(text)
		return true
	})
	same := true
	eachMetric(a.desc, fresh, func(base []byte, text string) bool {
		before, ok := had[string(base)]
		same = !ok || slices.Equal(before, lines(text))
		return same
	})
	if !same {
		return a.fail("cannot accumulate: its buckets are not those that the group holds; delete the group, or replace it with PUT")
	}
	return nil
}

// accumulated is accumulate for what a group holds, withheld or not; old is nil if
// there is no group yet. It counts the samples.
func accumulated(fresh []part, old *content, file string) (parts []part, series int, err error) {
	var held []part
	if old != nil {
		held = old.parts
	}
	if old != nil && old.file.age != nil {
		if held, err = old.file.age.parts(); err != nil {
			return nil, 0, err
		}
	}
	if parts, err = accumulate(fresh, held, file); err != nil {
		return nil, 0, err
	}
	for i := range parts {
		series += strings.Count(parts[i].text, "\n")
	}
	return parts, series, nil
}

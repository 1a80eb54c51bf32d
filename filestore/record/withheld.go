package record

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/promspool/promspool/filestore/exposition"
)

// The file of an expired group has its record, its two times and the metric
// promspool_group_expired. The payload is kept in comments:
//
//	# promspool:group {job="backup"}
//	# promspool:expired 1763628000
//	# promspool:ttl 1d
//	# promspool:withheld # TYPE backup_duration_seconds gauge
//	# promspool:withheld backup_duration_seconds{job="backup"} 1800
//	# HELP promspool_group_expired …
//	# TYPE promspool_group_expired gauge
//	promspool_group_expired{job="backup"} 1
//	…
//
// Alerts on the age of the group keep firing, no program serves the payload, and nothing
// is lost. The next push replaces the file.
//
// A file whose lifetime has ended is read as if it had this form already.
const (
	withheldDirective = "withheld"

	GroupExpired     = "promspool_group_expired"
	groupExpiredHelp = "1 for a group past its lifetime, of which only the push times are served."
)

// isRecord reports whether a family of a group's file belongs to its record and not
// to the payload.
func isRecord(name string) bool {
	return name == pushTime || name == failureTime || name == GroupExpired
}

// records returns isRecord for one group. The metrics of a recorded job belong to
// the record as well.
func (f *File) records(name string) bool {
	if isRecord(name) {
		return true
	}
	_, ok := f.attrs.get(RecordAttribute)
	return ok && strings.HasPrefix(name, RecordPrefix)
}

// Belongs reports whether a file may have a family with a reserved name.
func Belongs(id *ID, name string) bool { return name == GroupExpired && id.Kind == PushedKind }

// Withheld returns the payload of an expired group in the text format.
func (f *File) Withheld() string {
	if f.age == nil {
		return ""
	}
	return f.age.withheld
}

// ageFrom returns the Age that a group's file records.
func ageFrom(a Attributes, withheld string) (*Age, error) {
	text, ok := a.get(expiredAttribute)
	if !ok && withheld == "" {
		return nil, nil
	}
	since, good := parseTime(text)
	if ok && !good {
		return &Age{withheld: withheld}, errors.New("the line # promspool:expired names no Unix time")
	}
	return &Age{Since: since, withheld: withheld}, nil
}

// withheldFrom joins the lines of the payload of an expired group.
func withheldFrom(directives []exposition.Directive) string {
	var b []byte
	for _, d := range directives {
		if d.Key == withheldDirective {
			b = append(b, strings.TrimRight(d.Text, "\r")...)
			b = append(b, '\n')
		}
	}
	return string(b)
}

func (a *Age) appendTo(b []byte) []byte {
	if a == nil {
		return b
	}
	for line := range strings.Lines(a.withheld) {
		b = append(b, exposition.DirectivePrefix+withheldDirective...)
		if line != "\n" {
			b = append(b, ' ')
		}
		b = append(b, line...)
	}
	return b
}

// Withhold returns the content of a file after the end of its lifetime, before that
// is written.
func Withhold(f *File, parts []exposition.Part, since time.Time) *Content {
	c := &Content{File: &File{id: f.id}}
	if f.group.IsZero() {
		ttl, _ := f.attrs.get(ttlAttribute)
		c.File.err = &exposition.SyntaxError{File: f.Name(), Reason: exposition.Expired, Msg: fmt.Sprintf("older than the lifetime of %s that it states; it is served again when it is written", ttl)}
		c.File.age = &Age{Since: Seconds(since)}
	} else {
		var text []byte
		record := make([]exposition.Part, 0, 4)
		series := 0
		for i := range parts {
			d := parts[i].Desc.Value()
			if d.Name == GroupExpired {
				continue
			}
			if f.records(d.Name) {
				record = append(record, parts[i])
				series += strings.Count(parts[i].Text, "\n")
				if d.Name == pushTime {
					record = append(record, expiredPart(parts[i]))
					series++
				}
				continue
			}
			text = exposition.AppendHeader(text, d.Name, d.Help, d.Typ)
			text = append(text, parts[i].Text...)
			text = append(text, parts[i].Extra...)
		}
		slices.SortFunc(record, func(a, b exposition.Part) int { return strings.Compare(a.Desc.Value().Name, b.Desc.Value().Name) })
		c = newContent(f.id, record, series)
		c.File.group = f.group
		c.File.age = &Age{Since: Seconds(since), withheld: string(text), Pending: true}
	}
	c.File.attrs = f.attrs
	c.File.size, c.File.mtime, c.File.stamp, c.File.hash = f.size, f.mtime, f.stamp, f.hash
	return c
}

// expiredPart returns the metric of an expired group, with the labels of its push
// time.
func expiredPart(pushed exposition.Part) exposition.Part {
	labels := strings.TrimPrefix(exposition.SeriesOf(pushed.Text), pushTime)
	p := exposition.Part{Desc: unique.Make(exposition.Desc{Name: GroupExpired, Typ: exposition.Gauge, Help: groupExpiredHelp}), Text: GroupExpired + labels + " 1\n"}
	exposition.EachMetric(p.Desc.Value(), p.Text, func(base []byte, _ string) bool {
		p.Hashes = append(p.Hashes, exposition.IdentityHash(GroupExpired, string(base)))
		return true
	})
	return p
}

// parts parses the payload of an expired group.
func (a *Age) parts() ([]exposition.Part, error) {
	families, err := exposition.ParseFile([]byte(a.withheld))
	if err != nil {
		return nil, fmt.Errorf("what the file withholds cannot be read (%w)", asText(err))
	}
	parts, _, _, err := exposition.Canonical(families, exposition.Labelling{}, true)
	if err != nil {
		return nil, fmt.Errorf("what the file withholds cannot be read (%w)", asText(err))
	}
	return slices.DeleteFunc(parts, func(p exposition.Part) bool { return isRecord(p.Desc.Value().Name) }), nil
}

// Rewritten returns the content to write for a file as it is in memory.
func (c *Content) Rewritten() *Content { return c.with(c.Parts) }

// with is Rewritten with other parts.
func (c *Content) with(parts []exposition.Part) *Content {
	series := 0
	for i := range parts {
		series += strings.Count(parts[i].Text, "\n")
	}
	n := newContent(&ID{PushedKind, c.File.Name()}, parts, series)
	n.File.group, n.File.mtime = c.File.group, c.File.mtime
	n.keepState(c.File)
	n.sameTime = true
	return n
}

// keepState keeps the attributes and the end of the lifetime of old, for a change that
// is not a push.
func (c *Content) keepState(old *File) {
	c.File.attrs = old.attrs
	if old.age != nil {
		c.File.age = &Age{Since: old.age.Since, withheld: old.age.withheld}
		if old.age.Since > 0 {
			c.File.attrs = c.File.attrs.with(expiredAttribute, formatTime(old.age.Since))
		}
	}
}

// Revive returns the content of an expired group as it was before it expired.
func Revive(old *Content) (*Content, error) {
	var parts []exposition.Part
	if old.File.age != nil {
		var err error
		if parts, err = old.File.age.parts(); err != nil {
			return nil, err
		}
	}
	for _, p := range old.Parts {
		name := p.Desc.Value().Name
		if name != GroupExpired && !slices.ContainsFunc(parts, func(o exposition.Part) bool { return o.Desc.Value().Name == name }) {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b exposition.Part) int { return strings.Compare(a.Desc.Value().Name, b.Desc.Value().Name) })
	c := old.with(parts)
	c.File.age = nil
	c.File.attrs = old.File.attrs.without(expiredAttribute).with(ttlAttribute, "0s")
	return c, nil
}

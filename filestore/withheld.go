package filestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"
)

// The file of a group whose lifetime has ended has its record, the two times and
// a metric that says so, and the payload in comments:
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
// So alerts on the age of the group keep firing, no reader takes the payload for
// news, and nothing is lost. The next push makes the file anew without it.
//
// A file whose time has come is read as if it were written like this already.
const (
	withheldDirective = "withheld"

	groupExpired     = "promspool_group_expired"
	groupExpiredHelp = "1 for a group whose lifetime has ended, so that only its push times are served."
)

// isRecord reports whether a family of a group's file is the record and not the
// payload.
func isRecord(name string) bool {
	return name == pushTime || name == failureTime || name == groupExpired
}

// records is isRecord for one group: what promspool itself keeps of a job is
// record as well.
func (f *File) records(name string) bool {
	if isRecord(name) {
		return true
	}
	_, ok := f.attrs.get(RecordAttribute)
	return ok && strings.HasPrefix(name, RecordPrefix)
}

// belongs reports whether a file may have the family although its name is the
// agent's.
func belongs(id *ident, name string) bool { return name == groupExpired && id.kind == pushedKind }

// Withheld returns what the group's file withholds, in the text format; empty if
// nothing.
func (f *File) Withheld() string {
	if f.age == nil {
		return ""
	}
	return f.age.withheld
}

// ageFrom reads what a group's file says about the end of its lifetime.
func ageFrom(a attributes, withheld string) (*age, error) {
	text, ok := a.get(expiredAttribute)
	if !ok && withheld == "" {
		return nil, nil
	}
	since, good := parseTime(text)
	if ok && !good {
		return &age{withheld: withheld}, errors.New("the line # promspool:expired names no Unix time")
	}
	return &age{since: since, withheld: withheld}, nil
}

// withheldFrom collects the lines of a file that are withheld.
func withheldFrom(directives []directive) string {
	var b []byte
	for _, d := range directives {
		if d.key == withheldDirective {
			b = append(b, strings.TrimRight(d.text, "\r")...)
			b = append(b, '\n')
		}
	}
	return string(b)
}

func (a *age) appendTo(b []byte) []byte {
	if a == nil {
		return b
	}
	for line := range strings.Lines(a.withheld) {
		b = append(b, directivePrefix+withheldDirective...)
		if line != "\n" {
			b = append(b, ' ')
		}
		b = append(b, line...)
	}
	return b
}

// withhold returns the content of a file as it is once its lifetime has ended,
// before anybody writes that.
func withhold(f *File, parts []part, since time.Time) *content {
	c := &content{file: &File{id: f.id}}
	if f.group.IsZero() {
		ttl, _ := f.attrs.get(ttlAttribute)
		c.file.err = &SyntaxError{File: f.Name(), Reason: Expired, Msg: fmt.Sprintf("older than the lifetime of %s that it states; it is served again when it is written", ttl)}
		c.file.age = &age{since: seconds(since)}
	} else {
		var text []byte
		record := make([]part, 0, 4)
		series := 0
		for i := range parts {
			d := parts[i].desc.Value()
			if d.name == groupExpired {
				continue
			}
			if f.records(d.name) {
				record = append(record, parts[i])
				series += strings.Count(parts[i].text, "\n")
				if d.name == pushTime {
					record = append(record, expiredPart(parts[i]))
					series++
				}
				continue
			}
			text = appendHeader(text, d.name, d.help, d.typ)
			text = append(text, parts[i].text...)
		}
		slices.SortFunc(record, func(a, b part) int { return strings.Compare(a.desc.Value().name, b.desc.Value().name) })
		c = newContent(f.id, record, series)
		c.file.group = f.group
		c.file.age = &age{since: seconds(since), withheld: string(text), pending: true}
	}
	c.file.attrs = f.attrs
	c.file.size, c.file.mtime, c.file.stamp, c.file.hash = f.size, f.mtime, f.stamp, f.hash
	return c
}

// expiredPart is the metric that says that the group's lifetime has ended, with
// the labels of its push time.
func expiredPart(pushed part) part {
	labels := strings.TrimPrefix(seriesOf(pushed.text), pushTime)
	p := part{desc: unique.Make(desc{groupExpired, Gauge, groupExpiredHelp}), text: groupExpired + labels + " 1\n"}
	eachMetric(p.desc.Value(), p.text, func(base []byte, _ string) bool {
		p.hashes = append(p.hashes, identityHash(groupExpired, string(base)))
		return true
	})
	return p
}

// parts reads what a file withholds.
func (a *age) parts() ([]part, error) {
	families, err := parseLenient([]byte(a.withheld))
	if err != nil {
		return nil, fmt.Errorf("what the file withholds cannot be read (%w)", asText(err))
	}
	parts, _, _, err := canonical(families, labelling{}, true)
	if err != nil {
		return nil, fmt.Errorf("what the file withholds cannot be read (%w)", asText(err))
	}
	return slices.DeleteFunc(parts, func(p part) bool { return isRecord(p.desc.Value().name) }), nil
}

// rewritten returns the content that makes a file say of its group what it does.
func (c *content) rewritten() *content { return c.with(c.parts) }

// with is rewritten with other parts.
func (c *content) with(parts []part) *content {
	series := 0
	for i := range parts {
		series += strings.Count(parts[i].text, "\n")
	}
	n := newContent(&ident{pushedKind, c.file.Name()}, parts, series)
	n.file.group, n.file.mtime = c.file.group, c.file.mtime
	n.stays(c.file)
	n.sameTime = true
	return n
}

// stays makes the content one of a group to which nobody has pushed since old.
func (c *content) stays(old *File) {
	c.file.attrs = old.attrs
	if old.age != nil {
		c.file.age = &age{since: old.age.since, withheld: old.age.withheld}
		if old.age.since > 0 {
			c.file.attrs = c.file.attrs.with(expiredAttribute, formatTime(old.age.since))
		}
	}
}

// revived returns the content of an expired group as it was before.
func revived(old *content) (*content, error) {
	var parts []part
	if old.file.age != nil {
		var err error
		if parts, err = old.file.age.parts(); err != nil {
			return nil, err
		}
	}
	for _, p := range old.parts {
		name := p.desc.Value().name
		if name != groupExpired && !slices.ContainsFunc(parts, func(o part) bool { return o.desc.Value().name == name }) {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.desc.Value().name, b.desc.Value().name) })
	c := old.with(parts)
	c.file.age = nil
	c.file.attrs = old.file.attrs.without(expiredAttribute).with(ttlAttribute, "0s")
	return c, nil
}

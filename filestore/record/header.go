package record

import (
	"maps"
	"slices"
	"strings"

	"github.com/promspool/promspool/filestore/exposition"
)

// Attributes of a group are comments of its file, after the line with the group and
// ordered by key:
//
//	# promspool:KEY VALUE
//
// A value is one line: backslash, line feed and carriage return are escaped. Each
// rewrite of the file keeps these lines, also those with unknown keys, which a later
// version may have written. PushOptions.attributes decides which of them a push
// changes.

// attribute is one such line. The value is escaped as in the file.
type attribute struct {
	key, value string
}

// Attributes are ordered by key, and those of one key as in the file. They are
// immutable, so Files share them.
type Attributes []attribute

// isAttribute reports whether a directive is kept as an attribute. The group, HELP
// texts, the payload of an expired group and lines about one series are kept
// elsewhere.
func isAttribute(key string) bool {
	return key != "" && key != exposition.GroupDirective && key != helpDirective && key != withheldDirective && !exposition.IsExtra(key)
}

// attributesFrom returns the attributes among directives. It copies them, so the
// bytes of the file can be freed.
func attributesFrom(directives []exposition.Directive) Attributes {
	var a Attributes
	for _, d := range directives {
		if isAttribute(d.Key) {
			a = append(a, attribute{strings.Clone(d.Key), strings.Clone(strings.TrimRight(d.Text, "\r"))})
		}
	}
	slices.SortStableFunc(a, func(x, y attribute) int { return strings.Compare(x.key, y.key) })
	return a
}

// get returns the first value of the key, and whether there is one.
func (a Attributes) get(key string) (value string, ok bool) {
	for i := range a {
		if a[i].key == key {
			return unescapeValue(a[i].value), true
		}
	}
	return "", false
}

// Attributes returns the values of the group's attributes of that key, in the order
// of the file; nil if there are none. The caller owns the slice.
func (f *File) Attributes(key string) []string {
	var values []string
	for i := range f.attrs {
		if f.attrs[i].key == key {
			values = append(values, unescapeValue(f.attrs[i].value))
		}
	}
	return values
}

// with returns the attributes with the key set to one value.
func (a Attributes) with(key, value string) Attributes {
	return a.withAll(key, value)
}

// without returns the attributes without those of the key.
func (a Attributes) without(key string) Attributes { return a.withAll(key) }

// withAll returns the attributes with the key set to the values.
func (a Attributes) withAll(key string, values ...string) Attributes {
	from := 0
	for from < len(a) && a[from].key < key {
		from++
	}
	to := from
	for to < len(a) && a[to].key == key {
		to++
	}
	if from == to && len(values) == 0 {
		return a
	}
	list := make(Attributes, 0, len(a)+len(values))
	list = append(list, a[:from]...)
	for _, v := range values {
		list = append(list, attribute{key, escapeValue(v)})
	}
	return append(list, a[to:]...)
}

func (a Attributes) appendTo(b []byte) []byte {
	for i := range a {
		b = append(b, exposition.DirectivePrefix...)
		b = append(b, a[i].key...)
		if a[i].value != "" {
			b = append(b, ' ')
			b = append(b, a[i].value...)
		}
		b = append(b, '\n')
	}
	return b
}

func (a Attributes) size() int {
	n := 0
	for i := range a {
		n += len(exposition.DirectivePrefix) + len(a[i].key) + len(a[i].value) + 2
	}
	return n
}

var (
	valueEscaper   = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)
	valueUnescaper = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r")
)

func escapeValue(s string) string { return valueEscaper.Replace(s) }

func unescapeValue(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return valueUnescaper.Replace(s)
}

// IsReserved reports whether a family of that name is reserved for the agent: all
// that begin with promspool_, except the metrics of jobs, which are pushed.
func IsReserved(name string) bool {
	return strings.HasPrefix(name, "promspool_") && !strings.HasPrefix(name, RecordPrefix)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

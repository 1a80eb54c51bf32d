package filestore

import (
	"bytes"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// withEmptyInstance puts instance="" where it belongs in the order of a
// canonical label set.
func withEmptyInstance(base string) string {
	if base == "" {
		return `{instance=""}`
	}
	labels, err := parseLabelSet(base)
	if err != nil {
		panic("filestore: a canonical label set that does not parse: " + base)
	}
	labels = append(labels, Label{Name: "instance"})
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return string(appendLabels(nil, labels))
}

// identity is what makes a metric one: the family's name and the labels that
// Prometheus sees, so neither empty ones nor, as the lines of a histogram
// belong together, le and quantile.
func identityHash(name, base string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(name)
	_, _ = d.WriteString(base)
	return d.Sum64()
}

// eachMetric calls yield for each metric in the canonical text of a part, with
// the labels of its identity, which are valid until yield returns, and its
// lines.
func eachMetric(d desc, text string, yield func(base []byte, lines string) bool) {
	var last, base []byte
	start := 0
	for at := 0; at < len(text); {
		end := at + strings.IndexByte(text[at:], '\n') + 1
		base = appendIdentity(base[:0], d, text[at:end-1])
		if at > start && !bytes.Equal(base, last) {
			if !yield(last, text[start:at]) {
				return
			}
			start = at
		}
		last = append(last[:0], base...)
		at = end
	}
	if start < len(text) {
		yield(last, text[start:])
	}
}

// appendIdentity appends the label set in braces that is part of the identity
// of a canonical line, or nothing if it is empty.
func appendIdentity(b []byte, d desc, line string) []byte {
	line = line[:strings.LastIndexByte(line, ' ')]
	if plainName(d.name) {
		i := strings.IndexByte(line, '{')
		if i < 0 {
			return b
		}
		line = line[i+1 : len(line)-1]
	} else {
		// {"name",labels}
		p := parser{rest: line[1 : len(line)-1]}
		if _, err := p.quoted("metric name"); err != nil {
			panic("filestore: canonical text that does not parse: " + line)
		}
		line = strings.TrimPrefix(p.rest, ",")
	}
	bound := ""
	switch d.typ {
	case Histogram:
		bound = `le="`
	case Summary:
		bound = `quantile="`
	}
	// The bound is last, it is a number, and a quote in any other value is escaped.
	if i := strings.LastIndex(line, bound); bound != "" && (i == 0 || i > 0 && line[i-1] == ',') {
		line = strings.TrimSuffix(line[:i], ",")
	}
	const empty = `instance=""`
	if i := strings.Index(line, empty); i == 0 || i > 0 && line[i-1] == ',' {
		before, after := strings.TrimSuffix(line[:i], ","), strings.TrimPrefix(line[i+len(empty):], ",")
		if before != "" && after != "" {
			before += ","
		}
		line = before + after
	}
	if line == "" {
		return b
	}
	b = append(b, '{')
	b = append(b, line...)
	return append(b, '}')
}

package filestore

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// parseFloat reads a number as the text format has it: decimal only, and what
// no float64 can hold is an error.
func parseFloat(s string) (float64, error) {
	if strings.ContainsAny(s, "pPxX_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// parseLabelSet reads a label set in braces, as in a header line.
func parseLabelSet(s string) ([]Label, error) {
	p := parser{utf8Names: true, rest: s, slab: make([]Label, 0, 4)} // less than for a whole file
	if s == "" || s[0] != '{' {
		return nil, p.fail("expected a label set in braces")
	}
	name, labels, err := p.labels("")
	if err != nil {
		return nil, err
	}
	if name != "" || p.rest != "" {
		return nil, p.fail("expected nothing but a label set in braces")
	}
	return labels, nil
}

// appendLabels appends a label set in braces. Nothing is sorted or left out.
func appendLabels(b []byte, labels []Label) []byte {
	b = append(b, '{')
	for i, l := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLabel(b, l)
	}
	return append(b, '}')
}

func appendLabel(b []byte, l Label) []byte {
	if model.LegacyValidation.IsValidLabelName(l.Name) {
		b = append(b, l.Name...)
	} else {
		b = appendQuoted(b, l.Name)
	}
	b = append(b, '=')
	return appendQuoted(b, l.Value)
}

// appendQuoted appends s in quotes with the three escapes of the text format.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		i := strings.IndexAny(s, "\\\"\n")
		if i < 0 {
			break
		}
		b = append(b, s[:i]...)
		if s[i] == '\n' {
			b = append(b, '\\', 'n')
		} else {
			b = append(b, '\\', s[i])
		}
		s = s[i+1:]
	}
	b = append(b, s...)
	return append(b, '"')
}

// appendValue appends a number in its shortest form, as expfmt writes it.
func appendValue(b []byte, v float64) []byte {
	switch {
	case v == 1:
		return append(b, '1')
	case v == 0 && !math.Signbit(v):
		return append(b, '0')
	case math.IsNaN(v):
		return append(b, "NaN"...)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// trimHelp cuts off what a HELP line cannot keep: blanks in front of the text, and
// carriage returns at the end, which readers take for a part of the line's end.
func trimHelp(s string) string {
	return strings.TrimRight(strings.TrimLeft(s, " \t"), "\r")
}

// plainText replaces what a reader of the text format refuses in a HELP text.
func plainText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// parseHelp reads a name and a HELP text as they stand in a HELP line.
func parseHelp(s string) (name, text string, ok bool) {
	p := parser{utf8Names: true, rest: s}
	name, err := p.metricName()
	if err != nil {
		return "", "", false
	}
	p.rest = strings.TrimPrefix(p.rest, " ")
	if text, err = p.unescapeHelp(); err != nil {
		return "", "", false
	}
	return name, trimHelp(plainText(text)), true
}

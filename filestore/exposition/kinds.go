package exposition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The functions of this file find the cause of a syntax error, for its message. Only
// the check of the first bytes runs for a text without faults.

// labelRule is the rule for plain label names.
const labelRule = "use letters, digits and underscores, and no digit first"

// nameRule is the rule for metric names.
func (p *parser) nameRule() string {
	const plain = "use letters, digits, underscores and colons, and no digit first"
	if p.utf8Names {
		return plain + `, or write the name in quotes within the braces`
	}
	return plain
}

// Compressed is the remedy in the message for a push that is compressed data.
const Compressed = "set the header Content-Encoding, or send the text itself"

// notText detects a body or file in another format by its first bytes.
func notText(s string, file bool) error {
	r, kind, remedy := Encoding, "", "write UTF-8 text"
	if !file {
		remedy = "send UTF-8 text"
	}
	packed := Compressed
	if file {
		packed = "decompress it"
	}
	head := strings.TrimLeft(s[:min(len(s), 512)], " \t\r\n")
	lower := strings.ToLower(head)
	switch {
	case strings.HasPrefix(s, "\x1f\x8b"):
		kind, remedy = "gzip data", packed
	case strings.HasPrefix(s, "\x28\xb5\x2f\xfd"):
		kind, remedy = "zstd data", packed
	case strings.HasPrefix(s, "\xff\x06\x00\x00sNaPpY"):
		kind, remedy = "snappy data", packed
	case strings.HasPrefix(s, "PK\x03\x04"), strings.HasPrefix(s, "\xfd7zXZ\x00"), strings.HasPrefix(s, "BZh") && len(s) > 3 && '1' <= s[3] && s[3] <= '9' && !strings.ContainsAny(s[:min(len(s), 16)], " \t\n"):
		kind, remedy = "an archive or compressed data", "use the text itself"
	case strings.Trim(s, "\x00") == "":
		kind, remedy = "NUL bytes, as a crash leaves them", "write it again"
	case strings.HasPrefix(s, "\xff\xfe\x00\x00"), strings.HasPrefix(s, "\x00\x00\xfe\xff"), strings.HasPrefix(s, "\x00\x00\x00"), len(s) > 3 && s[0] != 0 && s[1:4] == "\x00\x00\x00":
		kind = "UTF-32 text"
	case strings.HasPrefix(s, "\xff\xfe"), strings.HasPrefix(s, "\xfe\xff"), len(s) > 1 && s[0] != 0 && s[1] == 0, len(s) > 3 && s[0] == 0 && s[1] != 0 && s[2] == 0:
		kind = "UTF-16 text"
	case s[0] == 0:
		kind, remedy = "NUL bytes, as a crash leaves them", "write it again"
	case isProtobuf(s):
		kind, remedy = "protobuf", "set the header Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
		if file {
			remedy = "write the text format"
		}
	case strings.HasPrefix(head, "--") && strings.Contains(lower, "content-disposition:"):
		r, kind, remedy = Syntax, "a form with a file (multipart/form-data)", "send the text itself as the body"
	case strings.HasPrefix(lower, "<!doctype"), strings.HasPrefix(lower, "<html"), strings.HasPrefix(lower, "<?xml"):
		r, kind, remedy = Syntax, "HTML or XML", "use the metrics themselves, not a page"
	case isJSON(head):
		r, kind, remedy = Syntax, "JSON", `write each sample as a line such as name{label="value"} 1`
	case strings.IndexByte(s, '\n') < 0 && strings.IndexByte(strings.TrimRight(s, "\r"), '\r') >= 0:
		r, kind, remedy = Syntax, "text with lines that end in a carriage return alone", "end each line with a newline"
	default:
		return nil
	}
	return &SyntaxError{Line: 1, Reason: r, Msg: "not in the text format, but " + kind + ": " + remedy}
}

// isProtobuf reports whether a text begins like a metric family in protobuf, with or
// without a length prefix.
func isProtobuf(s string) bool {
	if strings.IndexFunc(s[:min(len(s), 64)], func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' }) < 0 {
		return false
	}
	named := func(m string) bool { // field 1, the name
		return len(m) > 2 && m[0] == 0x0a && int(m[1]) <= len(m)-2 && PlainName(m[2:2+int(m[1])])
	}
	head := []byte(s[:min(len(s), binary.MaxVarintLen64)])
	_, n := binary.Uvarint(head)
	return named(s) || n > 0 && named(s[n:])
}

// isJSON reports whether a text begins like an object or a list.
func isJSON(head string) bool {
	if list, ok := strings.CutPrefix(head, "["); ok {
		list = strings.TrimLeft(list, " \t\r\n")
		return list != "" && strings.ContainsRune(`{["]`, rune(list[0]))
	}
	object, ok := strings.CutPrefix(head, "{")
	if !ok {
		return false
	}
	object = strings.TrimLeft(object, " \t\r\n")
	if object == "" || object[0] != '"' {
		return false
	}
	object = strings.TrimLeft(object[quotedLen(object):], " \t\r\n")
	return object != "" && object[0] == ':'
}

// commentAfterValue is what a line is answered with that has a comment at its end.
const commentAfterValue = "the text %s follows the value: comments need lines of their own"

// nulBytes is what a line with NUL bytes is answered with.
const nulBytes = "the line contains NUL bytes, as a crash leaves them: write it again"

// unended is the error for a last line without a newline.
func (p *parser) unended(line string) error {
	if strings.IndexByte(line, 0) >= 0 {
		return p.failf(Encoding, nulBytes)
	}
	if p.lenient {
		return p.failf(Incomplete, "the last line does not end in a newline, so the text %s may be cut off: its writer may have died in the middle of it", token(line))
	}
	return p.failf(Incomplete, "the last line does not end in a newline, so the text %s may be cut off: end it with a newline", token(line))
}

// notUTF8 returns the error for a line in another character set.
func (p *parser) notUTF8() error {
	return p.failf(Encoding, "the line %s is not UTF-8 text: %s", token(p.text), p.firstInvalid(p.text))
}

// firstInvalid describes the first byte of a text that is not valid UTF-8.
func (p *parser) firstInvalid(text string) string {
	if i := strings.IndexByte(text, 0); i >= 0 && utf8.ValidString(text) {
		return fmt.Sprintf("byte %d is NUL", i+1)
	}
	for i, c := range text {
		if _, n := utf8.DecodeRuneInString(text[i:]); c == utf8.RuneError && n == 1 {
			return fmt.Sprintf("byte %d is of another character set; convert it", i+1)
		}
	}
	return "convert it"
}

// noName returns the error for a line that does not begin with a name.
func (p *parser) noName() error {
	if err := p.oddSpace(p.rest); err != nil {
		return err
	}
	word, _, _ := strings.Cut(p.rest, " ")
	word, _, _ = strings.Cut(word, "{")
	if word != "" && '0' <= word[0] && word[0] <= '9' {
		return p.failf(Syntax, "invalid metric name %s: %s", token(word), p.nameRule())
	}
	return p.failf(Syntax, "the line %s does not begin with a metric name: write samples as name value", token(p.text))
}

// oddSpace returns the error for a character that looks like a space or is invisible.
// It is nil if there is none before the first quote.
func (p *parser) oddSpace(s string) error {
	s, _, _ = strings.Cut(s, `"`)
	for i, c := range s {
		name := ""
		switch {
		case c == '\u00a0', c == '\u202f':
			name = "no-break space"
		case c == '\u200b', c == '\u200c', c == '\u200d', c == '\ufeff':
			name = "invisible character"
		case c > unicode.MaxASCII && unicode.IsSpace(c), c == '\v', c == '\f', c == '\r':
			name = "special space"
		case c == '\u2212', c == '\u2013':
			name = "typographic minus"
		default:
			continue
		}
		remedy := "write an ordinary space, or nothing"
		if name == "typographic minus" {
			remedy = "write -"
		}
		return p.failf(Syntax, "%s (U+%04X) in %s: %s", name, c, token(around(s, i, utf8.RuneLen(c))), remedy)
	}
	return nil
}

// around returns the piece of a text around a character.
func around(s string, i, n int) string {
	from, to := max(0, i-16), min(len(s), i+n+16)
	return strings.ToValidUTF8(s[from:to], "")
}

// badType returns the error for a type that the text format does not have.
func (p *parser) badType(word string) error {
	switch strings.ToLower(word) {
	case "info", "stateset":
		return p.failf(Syntax, "invalid type %s: only OpenMetrics has it; use gauge", token(word))
	case "unknown":
		return p.failf(Syntax, "invalid type %s: only OpenMetrics has it; use untyped", token(word))
	}
	return p.failf(Syntax, "invalid type %s: use counter, gauge, histogram, summary or untyped", token(word))
}

// badValue returns the error for an invalid value, which is at that place of the
// line.
func (p *parser) badValue(at int, word string) error {
	if err := p.oddSpace(p.text[at:]); err != nil {
		return err
	}
	first := p.name
	glued := at > 0 && strings.IndexByte(" \t}", p.text[at-1]) < 0
	if glued {
		first += word
	}
	rest := strings.Trim(p.rest, " \t")
	second := word
	if glued {
		second = rest
	}
	switch {
	case word == "":
		return p.fail("the sample has no value: write a number after the name")
	case glued && word[0] == '=':
		p.name = ""
		return p.failf(Syntax, "invalid sample %s: write a space between the name and the value", token(first))
	case strings.HasSuffix(first, ":") && second != "" && !startsNumber(second), !glued && isWord(word) && rest != "" && !startsNumber(rest):
		p.name = ""
		return p.failf(Syntax, "the line %s is not a sample but looks like a message: keep messages, such as what goes to stderr, out of the metrics", token(p.text))
	case glued:
		p.name = ""
		first, _, _ = strings.Cut(first, "{")
		return p.failf(Syntax, "invalid metric name %s: %s", token(first), p.nameRule())
	}
	return p.failf(Syntax, "invalid value %s: %s", token(word), valueFault(word))
}

// isComposite reports whether a text begins like the value of a histogram or summary in
// OpenMetrics 2.0.
func isComposite(s string) bool {
	return strings.HasPrefix(s, "{count:") || strings.HasPrefix(s, "{gcount:")
}

// valueFault returns the fault of a value.
func valueFault(word string) string {
	bare := strings.TrimLeft(word, "+-")
	number := 0 // bytes of what could be one
	for number < len(bare) && ('0' <= bare[number] && bare[number] <= '9' || bare[number] == '.') {
		number++
	}
	rest := bare[number:]
	_, err := strconv.ParseFloat(word, 64)
	switch {
	case word[0] == '"' || word[0] == '\'':
		return "write the number without quotes"
	case strings.Count(bare, ",") == 1 && number > 0 && rest[0] == ',' && isNumber(strings.Replace(bare, ",", ".", 1)):
		return "use a decimal point" // LC_ALL=C makes printf and others do that
	case number > 0 && strings.Trim(bare, "0123456789.,'_") == "":
		return "write the digits without separators"
	case strings.HasPrefix(strings.ToLower(bare), "0x"):
		return "write the number in decimal"
	case errors.Is(err, strconv.ErrRange):
		return "the number is out of the range of a 64-bit float"
	case number > 0 && rest != "" && isNumber(bare[:number]) && isUnit(rest):
		return "write the number without a unit, in base units such as bytes and seconds"
	}
	return "not a number"
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// isUnit reports whether a text looks like a unit of measurement.
func isUnit(s string) bool {
	return len(s) <= 16 && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsLetter(c) && c != '%' && c != '/' && c != '°' })
}

// startsNumber reports whether a text begins like a number.
func startsNumber(s string) bool {
	s = strings.TrimLeft(s, "+-.")
	return s != "" && '0' <= s[0] && s[0] <= '9'
}

// isWord reports whether a text consists of letters, with an optional punctuation
// mark at its end.
func isWord(s string) bool {
	s = strings.TrimRight(s, ",;:.!")
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsLetter(c) && c != '\'' && c != '-' })
}

// badEnd returns the error for the text after a value at that place of the line.
func (p *parser) badEnd(at int) error {
	rest := strings.Trim(p.text[at:], " \t")
	if comment, ok := strings.CutPrefix(rest, "#"); ok && !strings.HasPrefix(strings.TrimLeft(comment, " \t"), "{") {
		return p.failf(Syntax, commentAfterValue, token(rest))
	} else if ok {
		return p.failf(Syntax, "the text %s follows the value: exemplars need the header Content-Type: application/openmetrics-text, and comments need lines of their own", token(rest))
	}
	if err := p.oddSpace(rest); err != nil {
		return err
	}
	if word, _, _ := strings.Cut(rest, " "); isNumber(word) {
		return p.failf(Syntax, "invalid timestamp %s: "+timestampMsg, token(word))
	}
	return p.failf(Syntax, "invalid text %s after the value: end the line after the number", token(rest))
}

// badAfterLabel returns the error for the text after a label.
func (p *parser) badAfterLabel(label string) error {
	if p.rest == "" {
		return p.fail("the braces are not closed: end the labels with }")
	}
	if strings.IndexByte(p.rest, '"') >= 0 {
		return p.failf(Syntax, `invalid text %s after the value of label %s: write a quote within a value as \", and a comma between labels`, token(p.bare()), token(label))
	}
	return p.failf(Syntax, "invalid text %s after the value of label %s: write a comma or a closing brace", token(p.bare()), token(label))
}

// badLabelName returns the error for an invalid label name.
func (p *parser) badLabelName(name string) error {
	switch apart := p.rest != "" && len(p.rest) < len(p.text) && strings.IndexByte(" \t", p.text[len(p.text)-len(p.rest)-1]) >= 0; {
	case p.rest == "":
		return p.fail("the braces are not closed: end the labels with }")
	case name != "" && apart:
		return p.failf(Syntax, `invalid text %s after label name %s: write labels as name="value"`, token(p.bare()), token(name))
	}
	return p.failf(Syntax, "invalid label name %s: %s", token(name+p.bare()), labelRule)
}

// bare returns the text before the next punctuation mark of a label set, at least one
// character.
func (p *parser) bare() string {
	i := strings.IndexAny(p.rest, "\",}= \t")
	switch {
	case i < 0:
		return p.rest
	case i == 0:
		return p.rest[:1]
	}
	return p.rest[:i]
}

// reservedLabel returns the error for a label that is reserved for Prometheus. It
// counts as decoded unless the label is __name__, with which the metric has two
// names.
func (p *parser) reservedLabel(name string) *SyntaxError {
	e := fault(p.line, Reserved, p.kind, p.name, "label name %s begins with two underscores, which is reserved: use another name", token(name))
	e.Decoded = name != "__name__"
	return e
}

package ingest

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
)

// base64Suffix ends a label name whose value is in base64.
const base64Suffix = "@base64"

// ParsePath returns the group that a push path names. The path is what follows
// "/metrics/", still percent-encoded, such as "job/backup/instance/a"; other
// label names than [a-zA-Z_][a-zA-Z0-9_]* are accepted only if utf8Names is set,
// as they are or in the U__ escaping.
//
// An encoded slash separates components, as in Pushgateway. An empty component is
// an error, except for one plain slash after the job: it comes from a value with
// slashes or without content, and the rest would name another group.
//
// Strip lists the labels with an empty value in base64, name@base64/=: they do not
// belong to the group, but pushed samples must lose them.
func ParsePath(path string, utf8Names bool) (g grouping.Key, strip []string, err error) {
	return parsePath(path, utf8Names, exposition.Limits{})
}

func parsePath(path string, utf8Names bool, limits exposition.Limits) (g grouping.Key, strip []string, err error) {
	if dotted(path) {
		return g, nil, refuse(http.StatusBadRequest, "the path has a component that is a dot or two dots: %s", inBase64)
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return g, nil, refuse(http.StatusBadRequest, "the path has a percent sign without two hexadecimal digits after it")
	}
	if strings.HasSuffix(path, "/") && strings.Count(decoded, "/") == 2 {
		decoded = decoded[:len(decoded)-1] // one plain slash after the job, as Pushgateway's routes take it
	}
	if err := checkComponents(decoded); err != nil {
		return g, nil, err
	}
	if n := (strings.Count(decoded, "/") + 1) / 2; limits.Labels > 0 && n > limits.Labels {
		return g, nil, refuse(http.StatusBadRequest, "the path has %d labels, more than --push.max-labels=%d", n, limits.Labels)
	}
	labels, err := splitPath(decoded, utf8Names)
	if err != nil {
		return g, nil, err
	}
	if err := checkLimits(labels, limits); err != nil {
		return g, nil, err
	}
	for _, l := range labels {
		if l.Value == "" {
			strip = append(strip, l.Name)
		}
	}
	if g, err = grouping.New(labels...); err != nil {
		return g, nil, refuse(http.StatusBadRequest, "%v", err)
	}
	return g, strip, nil
}

// GroupPath returns the path of the group, such as "job/backup/instance/a": what
// ParsePath makes the group of, and Pushgateway as well. Values that a path
// cannot have are in base64.
func GroupPath(g grouping.Key) string {
	var b strings.Builder
	for i, l := range g.Labels() {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(url.PathEscape(model.EscapeName(l.Name, model.ValueEncodingEscaping)))
		if strings.Contains(l.Value, "/") || l.Value == "." || l.Value == ".." {
			b.WriteString(base64Suffix + "/" + base64.RawURLEncoding.EncodeToString([]byte(l.Value)))
		} else {
			b.WriteString("/" + url.PathEscape(l.Value))
		}
	}
	return b.String()
}

// CheckGroup refuses a group that a path could not name under these options.
// Only their limits and UTF8Names count.
func CheckGroup(g grouping.Key, o Options) error {
	labels := g.Labels()
	if o.Limits.Labels > 0 && len(labels) > o.Limits.Labels {
		return refuse(http.StatusBadRequest, "the group has %d labels, more than --push.max-labels=%d", len(labels), o.Limits.Labels)
	}
	for _, l := range labels {
		if !o.UTF8Names && !model.LegacyValidation.IsValidLabelName(l.Name) {
			return refuse(http.StatusBadRequest, "improper label name %s", grouping.QuoteShort(l.Name))
		}
	}
	return checkLimits(labels, o.Limits)
}

// inBase64 says how a path has a value that no single component can hold.
const inBase64 = `give a value that is empty or has a slash in base64, such as path@base64/L3Zhci90bXA for /var/tmp, or path@base64/= for the empty value`

// dotted reports whether a path, still encoded, has a component "." or "..".
// Clients and proxies disagree about the meaning of such a path. Encoded dots
// are an ordinary value.
func dotted(path string) bool {
	for c := range strings.SplitSeq(path, "/") {
		if c == "." || c == ".." {
			return true
		}
	}
	return false
}

// checkComponents rejects a decoded path with an empty component.
// Percent-encoded slashes in a value make one, and so does an unset variable of a
// shell. Without it, the rest of the path names another group.
func checkComponents(path string) error {
	before, isValue := "", false
	for c := range strings.SplitSeq(path, "/") {
		switch {
		case c != "":
		case isValue:
			return refuse(http.StatusBadRequest, "the path has an empty value after %s: %s", grouping.QuoteShort(before), inBase64)
		case before == "":
			return refuse(http.StatusBadRequest, "the path begins with an empty component: %s", inBase64)
		default:
			return refuse(http.StatusBadRequest, "the path has an empty label name after the value %s: %s", grouping.QuoteShort(before), inBase64)
		}
		before, isValue = c, !isValue
	}
	return nil
}

// splitPath returns the labels of a decoded path, the job first, each name once.
func splitPath(path string, utf8Names bool) ([]exposition.Label, error) {
	name, path, _ := strings.Cut(path, "/")
	if name != "job" && name != "job"+base64Suffix {
		return nil, refuse(http.StatusBadRequest, "the path does not begin with a job: it has the form job/JOB{/LABEL/VALUE}")
	}
	value, path, more := strings.Cut(path, "/")
	job, err := labelValue(name, value)
	if err != nil {
		return nil, err
	}
	labels := append(make([]exposition.Label, 0, 2+strings.Count(path, "/")/2), exposition.Label{Name: "job", Value: job})
	for more {
		name, path, more = strings.Cut(path, "/")
		if !more {
			return nil, refuse(http.StatusBadRequest, "the path has an odd number of components after the job: label %s has no value; an encoded slash (%%2F) also separates components: %s", grouping.QuoteShort(name), inBase64)
		}
		value, path, more = strings.Cut(path, "/")
		label, err := labelName(name, utf8Names)
		if err != nil {
			return nil, err
		}
		if value, err = labelValue(name, value); err != nil {
			return nil, err
		}
		labels = set(labels, label, value)
	}
	if job == "" {
		return nil, refuse(http.StatusBadRequest, "the job name is empty")
	}
	return labels, nil
}

// set gives a label a value. The last value of a label counts, but the job, the
// first label, keeps its own.
func set(labels []exposition.Label, name, value string) []exposition.Label {
	for i, l := range labels {
		if l.Name == name {
			if i > 0 {
				labels[i].Value = value
			}
			return labels
		}
	}
	return append(labels, exposition.Label{Name: name, Value: value})
}

// labelName returns the name of a label as a path has it.
func labelName(name string, utf8Names bool) (string, error) {
	name = strings.TrimSuffix(name, base64Suffix)
	scheme := model.LegacyValidation
	if utf8Names {
		scheme = model.UTF8Validation
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	switch {
	case !scheme.IsValidLabelName(name):
		return "", refuse(http.StatusBadRequest, "improper label name %s", grouping.QuoteShort(name))
	case strings.HasPrefix(name, model.ReservedLabelPrefix): // of what the escaping hid, too
		return "", refuse(http.StatusBadRequest, "label name %s begins with two underscores, which is reserved", grouping.QuoteShort(name))
	}
	return name, nil
}

// labelValue decodes the value after a name. Whether it is UTF-8 is checked by
// filestore.NewGroup, before anything is kept.
func labelValue(name, value string) (string, error) {
	name, encoded := strings.CutSuffix(name, base64Suffix)
	if !encoded {
		return value, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "", refuse(http.StatusBadRequest, "the value of label %s is not base64 in the URL-safe alphabet: %v", grouping.QuoteShort(name), err)
	}
	return string(b), nil
}

// checkLimits checks the lengths of names and values.
func checkLimits(labels []exposition.Label, limits exposition.Limits) error {
	for _, l := range labels {
		if limits.LabelName > 0 && len(l.Name) > limits.LabelName {
			return refuse(http.StatusBadRequest, "a label name of the group is longer than --push.max-label-name-bytes=%d bytes", limits.LabelName)
		}
		if limits.LabelValue > 0 && len(l.Value) > limits.LabelValue {
			return refuse(http.StatusBadRequest, "the value of label %s of the group is longer than --push.max-label-value-bytes=%d bytes", grouping.QuoteShort(l.Name), limits.LabelValue)
		}
	}
	return nil
}

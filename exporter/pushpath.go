package exporter

import (
	"encoding/base64"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/grouping"
)

// maxPushPath is the length up to which a path is of use: servers on the way,
// too, have limits for what a request may begin with.
const maxPushPath = 32 << 10

// pushPath returns the path of a group in the push API, relative to the root of
// the agent, or "" if it has none that every agent and browser takes for it.
// Values that a browser or a proxy might change on the way are in base64.
func pushPath(g grouping.Key) string {
	b := []byte("metrics")
	for _, l := range g.Labels() {
		name := l.Name
		if !model.LegacyValidation.IsValidLabelName(name) {
			name = model.EscapeName(name, model.ValueEncodingEscaping)
		}
		if model.UnescapeName(name, model.ValueEncodingEscaping) != l.Name {
			return "" // it looks escaped and is not, or is beyond what can be
		}
		b = append(b, '/')
		b = append(b, name...)
		if plainValue(l.Value) {
			b = append(b, '/')
			b = append(b, l.Value...)
		} else {
			b = append(b, "@base64/"...)
			b = base64.RawURLEncoding.AppendEncode(b, []byte(l.Value))
		}
		if len(b) > maxPushPath {
			return ""
		}
	}
	return string(b)
}

// plainValue reports whether a value means the same to everybody in a path.
func plainValue(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.' && i > 0) {
			return false
		}
	}
	return s != ""
}

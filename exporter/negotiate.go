package exporter

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
)

// negotiateFormat returns the format that the client prefers, with the escaping that it
// takes: text 0.0.4 unless it asks for delimited protobuf, or for OpenMetrics where
// that is enabled, by name.
func negotiateFormat(h http.Header, openMetrics bool) expfmt.Format {
	accept := http.Header{"Accept": {strings.Join(h.Values("Accept"), ",")}}
	formats := []expfmt.Format{expfmt.FmtProtoDelim}
	if openMetrics {
		formats = append(formats, openMetricsFormats...)
	}
	format := expfmt.NegotiateAccept(accept, append(formats, text100, expfmt.FmtText)...)
	if escaping, ok := strings.CutPrefix(string(format), string(text100)); ok {
		return expfmt.FmtText + expfmt.Format(escaping)
	}
	return format
}

// text100 is how Prometheus 3 asks for text: as version 1.0.0, which differs from
// 0.0.4 only in that names may be in quotes. The answer keeps its old name, which
// every reader knows.
const text100 expfmt.Format = "text/plain; version=1.0.0; charset=utf-8"

// A coding is a content coding.
type coding string

const (
	identity coding = "identity"
	gzipped  coding = "gzip"
	zstded   coding = "zstd"
)

// negotiateCoding returns the content coding that the client likes best, by
// RFC 9110, section 12.5.3. A coding is taken only if it is named, or if "*"
// allows it and identity is refused. If nothing fits it is identity: an answer
// that the client may not be able to read is better than none.
func negotiateCoding(h http.Header) coding {
	const unnamed = -1
	q := map[coding]int{identity: unnamed, gzipped: unnamed, zstded: unnamed, "*": unnamed}
	for _, value := range h.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(item, ";")
			c := coding(strings.ToLower(strings.TrimSpace(name)))
			if c == "x-gzip" {
				c = gzipped
			}
			if _, ok := q[c]; ok {
				q[c] = weight(params)
			}
		}
	}
	best := gzipped
	if q[zstded] > q[gzipped] {
		best = zstded
	}
	if q[best] > 0 {
		if q[identity] > q[best] {
			return identity
		}
		return best
	}
	if q[identity] == 0 && q["*"] > 0 {
		switch {
		case q[gzipped] == unnamed:
			return gzipped
		case q[zstded] == unnamed:
			return zstded
		}
	}
	return identity
}

// weight returns the q-value among the parameters in thousandths: 1000 if there
// is none, 0 if it cannot be understood.
func weight(params string) int {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return 0
		}
		return int(f * 1000)
	}
	return 1000
}

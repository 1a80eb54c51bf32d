package exporter

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

const noCache = "no-cache, no-store, must-revalidate"

// api passes on requests to the JSON API, with the headers that let pages of
// other origins read it, if that is granted to their origin.
func (e *Exporter) api(next http.Handler, w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", noCache)
	if e.cfg.CORSOrigin != nil {
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" && e.cfg.CORSOrigin.MatchString(origin) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin")
			h.Set("Access-Control-Expose-Headers", "Date")
		}
	}
	read(next, w, r)
}

func (e *Exporter) serveStatus(w http.ResponseWriter, r *http.Request) {
	type data struct {
		Flags map[string]string `json:"flags"`
		Start time.Time         `json:"start_time"`
		Build map[string]string `json:"build_information"`
	}
	info := e.cfg.Info
	doc := struct {
		Status string `json:"status"`
		Data   data   `json:"data"`
	}{"success", data{orEmpty(info.Flags), info.Start, orEmpty(info.Build)}}
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(doc) // it can only fail on the client's side
	}
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (e *Exporter) serveGroups(w http.ResponseWriter, r *http.Request) {
	j := e.list(w, r)
	defer j.release()
	v := e.cfg.View()
	j.hold(v)
	for f := range v.Files() {
		if f.Group().IsZero() {
			break // groups come first
		}
		if !j.next(8 * f.Size()) { // as it is taken apart, and as JSON
			break
		}
		j.buf = appendGroup(j.buf, v, f)
		j.appended()
	}
	j.end("")
}

// appendGroup appends one group as Pushgateway shows it. Its families are
// members beside labels and last_push_successful, so there is no place for
// families of these two names.
func appendGroup(b []byte, v *merge.View, f *record.File) []byte {
	b = append(b, `{"labels":`...)
	b = appendLabels(b, f.Group().Labels())
	b = append(b, `,"last_push_successful":`...)
	if pushed(f) {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	// The file does not tell when each family was pushed.
	at := f.LastPush()
	if at.IsZero() {
		at = f.LastFailure()
	}
	for _, fam := range v.Families(f) {
		if fam.Name == "labels" || fam.Name == "last_push_successful" {
			continue
		}
		b = append(b, ',')
		b = appendString(b, fam.Name)
		b = append(b, `:{"time_stamp":"`...)
		b = at.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, `","type":"`...)
		b = append(b, typeName(fam.Type)...)
		b = append(b, '"')
		if fam.Help != "" {
			b = append(b, `,"help":`...)
			b = appendString(b, fam.Help)
		}
		b = append(b, `,"metrics":[`...)
		for i := range fam.Metrics {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendMetric(b, fam.Type, &fam.Metrics[i])
		}
		b = append(b, "]}"...)
	}
	return append(b, '}')
}

// pushed reports whether the last push to the group succeeded.
func pushed(f *record.File) bool { return !f.LastFailure().After(f.LastPush()) }

func typeName(t exposition.Type) string {
	switch t {
	case exposition.Counter:
		return "COUNTER"
	case exposition.Gauge:
		return "GAUGE"
	case exposition.Summary:
		return "SUMMARY"
	case exposition.Histogram:
		return "HISTOGRAM"
	}
	return "UNTYPED"
}

func appendMetric(b []byte, t exposition.Type, m *exposition.Metric) []byte {
	b = append(b, `{"labels":`...)
	b = appendLabels(b, m.Labels)
	switch t {
	case exposition.Summary:
		b = appendBounds(append(b, `,"quantiles":`...), m.Bounds, appendFloat)
	case exposition.Histogram:
		if m.Native != nil {
			b = appendNative(append(b, `,"buckets":`...), m.Native)
			break
		}
		b = appendBounds(append(b, `,"buckets":`...), m.Bounds, appendCount)
	default:
		b = appendFloat(append(b, `,"value":`...), m.Value)
		return append(b, '}')
	}
	b = appendCount(append(b, `,"count":`...), m.Count)
	b = appendFloat(append(b, `,"sum":`...), m.Sum)
	return append(b, '}')
}

// appendNative appends the buckets of a native histogram as the API of Prometheus has
// them: which bounds are in the bucket, the bounds, and the count.
func appendNative(b []byte, buckets []exposition.NativeBucket) []byte {
	b = append(b, '[')
	for i, x := range buckets {
		if i > 0 {
			b = append(b, ',')
		}
		rule := byte('2') // neither
		switch {
		case x.LowerIn && x.UpperIn:
			rule = '3'
		case x.LowerIn:
			rule = '1'
		case x.UpperIn:
			rule = '0'
		}
		b = append(b, '[', rule, ',')
		b = appendFloat(b, x.Lower)
		b = appendFloat(append(b, ','), x.Upper)
		b = appendFloat(append(b, ','), x.Count)
		b = append(b, ']')
	}
	return append(b, ']')
}

// appendBounds appends an object from each bound to its value.
func appendBounds(b []byte, bounds []exposition.Bound, appendValue func([]byte, float64) []byte) []byte {
	b = append(b, '{')
	for i, x := range bounds {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat(b, x.Bound)
		b = append(b, ':')
		b = appendValue(b, x.Value)
	}
	return append(b, '}')
}

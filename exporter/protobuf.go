package exporter

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/promspool/promspool/filestore/merge"
)

// encodedIdle is how long the view keeps its metrics encoded after a scrape by
// protobuf. Prometheus scrapes far more often.
const encodedIdle = 15 * time.Minute

// idleDrop drops what the view keeps for scrapes by protobuf once they have ended.
type idleDrop struct {
	mu    sync.Mutex // guards timer
	timer *time.Timer
}

func (d *idleDrop) used(drop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil {
		d.timer = time.AfterFunc(encodedIdle, drop)
		return
	}
	d.timer.Reset(encodedIdle)
}

// protobufBody renders the families that are asked for as delimited protobuf. What is
// in files comes from the view as it is kept there, unless names are to be escaped or
// not all families are wanted. It reports false if it would have to render the view
// and must not.
func (e *Exporter) protobufBody(v *merge.View, scheme model.EscapingScheme, only filter, mayRender bool) (body, bool) {
	own := e.ownEncoded(v, only)
	escape := scheme != model.NoEscaping && !e.isPlainEncoded(v)
	if !escape && only == nil {
		e.encoded.used(func() { e.cfg.View().DropEncoded() })
		return body{view: v, encoded: v.Encoded(), tail: own}, true
	}
	if !mayRender {
		return body{}, false
	}
	var out []byte
	if !escape {
		beside := v.Beside()
		for _, name := range slices.Sorted(maps.Keys(only)) {
			if _, shared := slices.BinarySearch(beside, name); !shared {
				out = v.AppendEncoded(out, name)
			}
		}
		return body{tail: append(out, own...)}, true
	}
	for _, mf := range e.decoded(v, scheme, only) {
		out = appendMessage(out, mf, nil)
	}
	return body{tail: out}, true
}

// decoded returns the families that are asked for, with their names escaped.
func (e *Exporter) decoded(v *merge.View, scheme model.EscapingScheme, only filter) []*dto.MetricFamily {
	own := e.ownEncoded(v, nil) // the escaping of a name must not depend on the filter
	all := make([]byte, 0, v.Encoded().Size+len(own))
	for _, p := range v.Encoded().Parts {
		all = append(all, p.Raw()...)
	}
	e.encoded.used(func() { e.cfg.View().DropEncoded() })
	mfs, err := decodeFamilies(append(all, own...))
	if err != nil {
		e.cfg.Logger.Warn("decoding the metrics to render them", "err", err)
	}
	if scheme == model.NoEscaping {
		return slices.DeleteFunc(mfs, func(mf *dto.MetricFamily) bool { return !only.has(mf.GetName()) })
	}
	return escapeFamilies(mfs, scheme, only)
}

// isPlainEncoded reports whether no name in files needs to be escaped. The program's
// own names never do.
func (e *Exporter) isPlainEncoded(v *merge.View) bool {
	if !e.isPlain(v) {
		return false
	}
	if v.PlainNames() {
		return true
	}
	return !slices.ContainsFunc(v.Beside(), func(name string) bool { return !plainNames(v.AppendFamily(nil, name)) })
}

func decodeFamilies(b []byte) (mfs []*dto.MetricFamily, err error) {
	for r := bytes.NewReader(b); r.Len() > 0; {
		mf := new(dto.MetricFamily)
		if err := (protodelim.UnmarshalOptions{MaxSize: -1}).UnmarshalFrom(r, mf); err != nil {
			return mfs, err
		}
		mfs = append(mfs, mf)
	}
	return mfs, nil
}

// appendMessage appends a family with its length in front, and with further metrics.
func appendMessage(b []byte, mf *dto.MetricFamily, metrics []byte) []byte {
	b = protowire.AppendVarint(b, uint64(proto.Size(mf)+len(metrics)))
	b, _ = proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, mf) // its strings are UTF-8
	return append(b, metrics...)
}

// ownEncoded is own as protobuf.
func (e *Exporter) ownEncoded(v *merge.View, only filter) []byte {
	mfs, err := e.cfg.Own.Gather()
	if err != nil {
		e.cfg.Logger.Warn("gathering the program's own metrics", "err", err)
	}
	mfs = slices.Concat(e.process.get(e.cfg, time.Now()).families, mfs)
	beside := v.Beside()
	out := make([]byte, 0, e.ownSize.Load())
	for _, mf := range mfs {
		name := mf.GetName()
		i, shared := slices.BinarySearch(beside, name)
		var metrics []byte
		switch {
		case name == "":
			continue
		case shared:
			beside = slices.Delete(beside, i, i+1)
			if only.has(name) {
				metrics = v.EncodedBeside(name)
			}
		case e.displaced(v, name):
			e.cfg.Logger.Warn("a file has a metric of the program's own, which the store was not told of", "family", name)
			continue
		}
		if only.has(name) {
			out = appendMessage(out, mf, metrics)
		}
	}
	for _, name := range beside {
		if only.has(name) {
			out = v.AppendEncoded(out, name)
		}
	}
	return out
}

// escapeFamilies escapes names as escapeNames does in text, and returns the families
// that are asked for.
func escapeFamilies(mfs []*dto.MetricFamily, scheme model.EscapingScheme, only filter) []*dto.MetricFamily {
	taken := map[string]bool{}
	of := func(mf *dto.MetricFamily) *family {
		f := &family{name: mf.GetName(), quoted: !model.LegacyValidation.IsValidMetricName(mf.GetName())}
		switch mf.GetType() {
		case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			f.typ = "histogram"
		case dto.MetricType_SUMMARY:
			f.typ = "summary"
		}
		return f
	}
	for _, mf := range mfs {
		if f := of(mf); !f.quoted {
			f.take(taken, f.name)
		}
	}
	var out []*dto.MetricFamily
	for _, mf := range mfs {
		f, name := of(mf), mf.GetName()
		if f.quoted {
			name = free(name, scheme, model.EscapeName, func(s string) bool {
				return !f.takes(func(s string) bool { return taken[s] }, s)
			})
			f.take(taken, name)
		}
		if !only.has(f.name) {
			continue
		}
		mf.Name = &name
		escapeLabelsOf(mf, scheme)
		out = append(out, mf)
	}
	return out
}

func escapeLabelsOf(mf *dto.MetricFamily, scheme model.EscapingScheme) {
	taken, escaped := map[string]bool{"le": true, "quantile": true}, map[string]string{}
	for _, m := range mf.Metric {
		for _, l := range m.Label {
			if n := l.GetName(); model.LegacyValidation.IsValidLabelName(n) {
				taken[n] = true
			} else {
				escaped[n] = ""
			}
		}
	}
	if len(escaped) == 0 {
		return
	}
	for _, n := range slices.Sorted(maps.Keys(escaped)) {
		s := free(n, scheme, escapeLabel, func(s string) bool { return !taken[s] && len(s) > 0 && !bytes.HasPrefix([]byte(s), []byte("__")) })
		escaped[n], taken[s] = s, true
	}
	for _, m := range mf.Metric {
		for _, l := range m.Label {
			if s, ok := escaped[l.GetName()]; ok {
				l.Name = &s
			}
		}
	}
}

package exporter

import (
	"maps"
	"net/http"
	"slices"
	"weak"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
)

// A body is the content of an answer, in this order: a view as text or protobuf, a
// passage, and text of this request. Each of them may be missing.
type body struct {
	view    *merge.View
	encoded *merge.Encoded // the view as protobuf; nil if it is sent as text
	ready   *passage
	tail    []byte
}

func (e *Exporter) serveMetrics(w http.ResponseWriter, r *http.Request) {
	var only filter
	query, err := grouping.ParseQuery(r.URL.RawQuery, func(name string) bool { return name == "name[]" })
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, name := range query["name[]"] {
		if only == nil {
			only = make(filter)
		}
		only[name] = true
	}
	format, coding, head := negotiateFormat(r.Header, e.cfg.OpenMetrics), negotiateCoding(r.Header), r.Method == http.MethodHead
	a := e.beginScrape(w, r, format, coding, only)
	if a == nil {
		return
	}
	defer func() {
		if a != nil {
			a.end()
		}
	}()
	format, b, ok := e.body(format, only, a.from == e.replies.renders)
	if !ok { // only the agent's own text has names to be escaped
		a.end()
		if a = e.replies.begin(w, r, e.replies.renders, e.renderSize(format, coding, only)); a == nil {
			return
		}
		format, b, _ = e.body(format, only, true)
	}
	h := w.Header()
	h.Set("Content-Type", string(format))
	h.Set("Vary", "Accept, Accept-Encoding")
	switch {
	case b.view != nil && coding != zstded:
		a.hold(b.view)
	case coding != zstded:
		a.shrink(int64(cap(b.tail)))
	}
	b.send(a, coding, head)
}

// beginScrape waits for the memory of the scrape.
func (e *Exporter) beginScrape(w http.ResponseWriter, r *http.Request, format expfmt.Format, c coding, only filter) *reply {
	if format.FormatType() != expfmt.TypeOpenMetrics && c != zstded && only == nil && (format.ToEscapingScheme() == model.NoEscaping || e.isPlain(e.cfg.View())) {
		return e.replies.begin(w, r, e.replies.scrapes, e.ownSize.Load()*5/4)
	}
	return e.replies.begin(w, r, e.replies.renders, e.renderSize(format, c, only))
}

// renderSize estimates the memory to render a whole scrape.
func (e *Exporter) renderSize(format expfmt.Format, c coding, only filter) int64 {
	text := int64(e.cfg.View().Len()) + e.ownSize.Load()
	n := text/4 + 1<<20 // compressed, and the encoder
	if format.ToEscapingScheme() != model.NoEscaping || only != nil {
		n += 2 * text
	}
	switch format.FormatType() {
	case expfmt.TypeProtoDelim:
		n += 8 * text
	case expfmt.TypeOpenMetrics:
		n += 9 * text
	}
	return n
}

// body renders the families of the filter, and returns their format. It reports false
// if it would have to render the view and must not.
func (e *Exporter) body(format expfmt.Format, only filter, mayRender bool) (expfmt.Format, body, bool) {
	v := e.cfg.View()
	switch format.FormatType() {
	case expfmt.TypeProtoDelim:
		b, ok := e.protobufBody(v, format.ToEscapingScheme(), only, mayRender)
		return format, b, ok
	case expfmt.TypeOpenMetrics:
		if !mayRender {
			return format, body{}, false
		}
		return format, body{tail: appendOpenMetrics(nil, e.decoded(v, format.ToEscapingScheme(), only), format)}, true
	}
	ready, own := e.own(v)
	e.ownSize.Store(int64(len(own)))
	escape := format.ToEscapingScheme() != model.NoEscaping && !(e.isPlain(v) && plainNames(own))
	if !escape && only == nil {
		return format, body{view: v, ready: ready, tail: own}, true
	}
	if !mayRender {
		return format, body{}, false
	}

	own = slices.Concat(ready.text, own)
	var text []byte
	if escape || only == nil {
		// The escaping of a name must not depend on the filter.
		text = append(v.AppendTo(make([]byte, 0, v.Len()+len(own))), own...)
	} else {
		text = pick(v, own, only)
	}
	if escape {
		text = escapeNames(text, format.ToEscapingScheme(), only)
	}
	return format, body{tail: text}, true
}

// pick returns the families of the filter, of the view and of the program's own.
func pick(v *merge.View, own []byte, only filter) []byte {
	var text []byte
	beside := v.Beside()
	for _, name := range slices.Sorted(maps.Keys(only)) {
		if _, shared := slices.BinarySearch(beside, name); !shared {
			text = v.AppendFamily(text, name)
		}
	}
	for f := range families(own) {
		if only.has(f.name) {
			text = append(text, f.text...)
		}
	}
	return text
}

// A filter is a set of names of families; nil is all of them.
type filter map[string]bool

func (f filter) has(name string) bool { return f == nil || f[name] }

// plainView remembers whether a view has no names that need quotes.
type plainView struct {
	view  weak.Pointer[merge.View]
	plain bool
}

// isPlain reports whether all names in the view are classic ones.
func (e *Exporter) isPlain(v *merge.View) bool {
	if v.PlainNames() {
		return true
	}
	p := weak.Make(v)
	if last := e.plain.Load(); last != nil && last.view == p {
		return last.plain
	}
	plain := true
	for chunk := range v.Chunks() {
		if plain = plainNames(chunk); !plain {
			break
		}
	}
	e.plain.Store(&plainView{p, plain})
	return plain
}

package exporter

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

const noCache = "no-cache, no-store, must-revalidate"

// api passes on requests to the JSON API. It sets the headers that let pages of
// allowed origins read the answer.
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
		// Not in Pushgateway, and missing with a single agent.
		Others []string `json:"other_agents,omitempty"`
	}
	info := e.cfg.Info
	others, _ := e.others()
	doc := struct {
		Status string `json:"status"`
		Data   data   `json:"data"`
	}{"success", data{orEmpty(info.Flags), info.Start, orEmpty(info.Build), others}}
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
// members next to labels and last_push_successful, so there is no place for
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
	// The file does not record when each family was pushed.
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

// A fileEntry is one element of /api/v1/files. Members that do not apply are
// left out.
type fileEntry struct {
	Name        string            `json:"name"`
	Kind        string            `json:"kind"`             // group or file
	Labels      map[string]string `json:"labels,omitempty"` // the grouping key
	Size        int64             `json:"size_bytes"`
	ModTime     *time.Time        `json:"mtime,omitempty"`
	Age         *float64          `json:"age_seconds,omitempty"` // since mtime
	Series      int               `json:"series"`                // samples, merged or not
	LastPush    *time.Time        `json:"last_push,omitempty"`
	LastFailure *time.Time        `json:"last_failure,omitempty"`
	TTL         *float64          `json:"ttl_seconds,omitempty"` // as the file states it; 0 for without end
	Expired     *time.Time        `json:"expired,omitempty"`     // since when it is withheld
	Refused     *fileRefusal      `json:"refused,omitempty"`     // the last push, if it was refused
	Error       *fileError        `json:"error,omitempty"`
	HeldSince   *time.Time        `json:"held_since,omitempty"` // since when older content is served
	Conflicts   []fileConflict    `json:"conflicts,omitempty"`  // with other files
}

// A fileError is a fault within the file.
type fileError struct {
	Reason  exposition.Reason `json:"reason"`
	Line    int               `json:"line,omitempty"` // 1-based
	Message string            `json:"message"`
}

// A fileRefusal describes the last push to a group, if it was refused.
type fileRefusal struct {
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
	Client  string    `json:"client"`
	Message string    `json:"message"`
}

// A fileConflict describes series that are not served because of another file.
type fileConflict struct {
	Family string            `json:"family"`
	Kept   string            `json:"kept"` // the file that is served instead; empty for the agent itself
	Reason exposition.Reason `json:"reason"`
	Series int               `json:"series"` // samples that are not served
}

func (e *Exporter) serveFiles(w http.ResponseWriter, r *http.Request) {
	q, err := grouping.ParseQuery(r.URL.RawQuery, nil)
	var l listing
	if err == nil {
		l, err = parseListing(q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	j := e.list(w, r)
	defer j.release()
	var files []*record.File
	var matched int
	var conflicts map[string][]*record.Conflict
	if !e.inTurn(r, func() {
		v := e.cfg.View()
		j.hold(v)
		conflicts = ConflictsByFile(v)
		files, matched = l.find(v, conflicts)
	}) {
		return
	}
	now := time.Now()
	for _, f := range files {
		if !j.next(0) {
			break
		}
		j.buf = append(j.buf, FileJSON(f, conflicts[f.Name()], now)...)
	}
	j.end(`,"matched":` + strconv.Itoa(matched))
}

func newFileEntry(f *record.File, conflicts []*record.Conflict, now time.Time) *fileEntry {
	x := &fileEntry{
		Name:        record.PrintableName(f.Name()),
		Kind:        "file",
		Size:        f.DiskSize(),
		ModTime:     unlessZero(f.ModTime()),
		Series:      f.Series(),
		LastPush:    unlessZero(f.LastPush()),
		LastFailure: unlessZero(f.LastFailure()),
		HeldSince:   unlessZero(f.HeldSince()),
		Expired:     unlessZero(f.Expired()),
	}
	if r, ok := f.Refused(); ok {
		x.Refused = &fileRefusal{r.Time.UTC(), r.Reason, r.Client, r.Message}
	}
	if ttl, stated := f.TTL(); stated {
		seconds := ttl.Seconds()
		x.TTL = &seconds
	}
	if x.ModTime != nil {
		age := now.Sub(*x.ModTime).Seconds()
		x.Age = &age
	}
	if g := f.Group(); !g.IsZero() {
		x.Kind, x.Labels = "group", make(map[string]string)
		for _, l := range g.Labels() {
			x.Labels[l.Name] = l.Value
		}
	}
	if p := f.Problem(); p != nil {
		x.Error = &fileError{p.Reason, p.Line, p.Sentence()}
	}
	for _, c := range conflicts {
		x.Conflicts = append(x.Conflicts, fileConflict{c.Family, record.PrintableName(c.Kept), c.Reason, c.Series})
	}
	return x
}

// ConflictsByFile returns the conflicts of a view by the name of the file whose series
// are dropped.
func ConflictsByFile(v *merge.View) map[string][]*record.Conflict {
	by := make(map[string][]*record.Conflict)
	for _, c := range v.Conflicts() {
		by[c.File] = append(by[c.File], c)
	}
	return by
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// FileJSON returns the element of /api/v1/files for a file, given its conflicts with
// other files.
func FileJSON(f *record.File, conflicts []*record.Conflict, now time.Time) json.RawMessage {
	b, err := json.Marshal(newFileEntry(f, conflicts, now))
	if err != nil {
		panic(err) // every field can be encoded
	}
	return b
}

// A jsonList writes the answer of the JSON API whose data are a list, as the
// elements come.
type jsonList struct {
	r     *http.Request
	a     *reply // nil for HEAD requests and without memory
	buf   []byte // not yet written
	items int
	err   error
}

const (
	jsonFlush = 64 << 10
	// jsonMemory is the memory of a list with small elements.
	jsonMemory = 4 * jsonFlush
	// jsonTimeout bounds the wait for memory in the middle of a list.
	jsonTimeout = time.Minute
)

// list begins the answer. The caller must call release.
func (e *Exporter) list(w http.ResponseWriter, r *http.Request) *jsonList {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "application/json")
		return &jsonList{err: http.ErrBodyNotAllowed}
	}
	j := &jsonList{r: r, a: e.replies.begin(w, r, e.replies.renders, jsonMemory)}
	if j.a == nil {
		j.err = errNoMemory
		return j
	}
	w.Header().Set("Content-Type", "application/json")
	j.buf = []byte(`{"status":"success","data":[`)
	return j
}

var errNoMemory = errors.New("no memory for the answer")

// next makes room for one more element, which takes up to so many bytes in addition to
// the usual ones. The caller appends it to buf. It reports false
// if the list ends here.
func (j *jsonList) next(size int64) bool {
	if len(j.buf) > jsonFlush {
		j.flush()
	}
	if j.err != nil {
		return false
	}
	if j.items > 0 {
		j.buf = append(j.buf, ',')
	}
	j.items++
	if size = min(jsonMemory+size, j.a.from.most); size > j.a.held {
		j.flush()
		j.buf = nil
		j.a.shrink(0) // what waits holds nothing that others wait for
		if j.err == nil && !j.a.acquire(j.r.Context(), size, jsonTimeout) {
			j.err = errNoMemory
		}
	}
	return j.err == nil
}

// appended releases the memory that only the last element needed.
func (j *jsonList) appended() { j.a.shrink(max(jsonMemory, int64(cap(j.buf)))) }

func (j *jsonList) flush() {
	if j.err == nil {
		j.err = j.a.writeAll(j.buf)
	}
	if j.buf = j.buf[:0]; cap(j.buf) > jsonMemory {
		j.buf = nil
		j.a.shrink(jsonMemory)
	}
}

// end ends the list and the answer. more is JSON text with further members, each after
// a comma.
func (j *jsonList) end(more string) {
	if j.a == nil {
		return
	}
	j.buf = append(j.buf, ']')
	j.buf = append(j.buf, more...)
	j.buf = append(j.buf, "}\n"...)
	j.flush()
	if errors.Is(j.err, errNoMemory) {
		panic(http.ErrAbortHandler) // half a list must not look like a whole one
	}
}

// hold records that the list needs the view until its end.
func (j *jsonList) hold(v *merge.View) {
	if j.a != nil {
		j.a.hold(v)
	}
}

// release returns the memory of the list.
func (j *jsonList) release() {
	if j.a != nil {
		j.a.end()
	}
}

// appendLabels appends labels as an object, in name order.
func appendLabels(b []byte, labels []exposition.Label) []byte {
	labels = slices.SortedFunc(slices.Values(labels), func(a, b exposition.Label) int { return cmp.Compare(a.Name, b.Name) })
	b = append(b, '{')
	for i, l := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, l.Name)
		b = append(b, ':')
		b = appendString(b, l.Value)
	}
	return append(b, '}')
}

// appendFloat appends a number as Pushgateway does: a string in Go's notation.
func appendFloat(b []byte, f float64) []byte {
	b = append(b, '"')
	b = strconv.AppendFloat(b, f, 'g', -1, 64)
	return append(b, '"')
}

// appendCount appends a number of observations, which Pushgateway holds as an
// integer if it is one.
func appendCount(b []byte, f float64) []byte {
	if !(f >= 0 && f < 1<<63) || f != math.Trunc(f) {
		return appendFloat(b, f)
	}
	b = append(b, '"')
	b = strconv.AppendUint(b, uint64(f), 10)
	return append(b, '"')
}

// appendString appends a JSON string. Invalid UTF-8 is replaced, and characters of
// HTML tags are escaped.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == '\u2028' || r == '\u2029' { // line ends to JavaScript
				b = append(b, `\u202`...)
				b = append(b, digits[r&0xf])
			} else {
				b = utf8.AppendRune(b, r)
			}
			i += n
			continue
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c < ' ' || c == 0x7f || c == '<' || c == '>' || c == '&':
			b = append(b, `\u00`...)
			b = append(b, digits[c>>4], digits[c&0xf])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}

package exporter

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// The page is made on the server, whole, for each request. The script asks for
// the same page and takes over the part that changed; so all but the removing
// of groups works without it, and there is one place that turns what others
// wrote into HTML.
var pageTemplate = template.Must(template.ParseFS(ui, "ui/*.html"))

// pagePolicy lets nothing take effect but the files of the page. No string can
// become markup in the browser, not even by our own script.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// The views of the page, as the parameter view has them.
const (
	viewGroups = "groups"
	viewFiles  = "files"
	viewJobs   = "jobs"
	viewStatus = "status"
	viewFile   = "file" // what one file holds
)

type pageData struct {
	Title   string
	Host    string
	Spool   string
	Trouble string // why the spool is not healthy or not ready
	Reading bool   // whoever asks may not write
	Metrics string // link
	Tabs    []tab

	// One of these is there.
	List    *listData
	Jobs    *jobsData
	Status  *statusData
	Content *content
	Missing string // the name of the file that is not there
}

type tab struct {
	Title, Link, Count string
	Current            bool
}

func (e *Exporter) servePage(w http.ResponseWriter, r *http.Request) {
	a := e.replies.begin(w, r, e.replies.renders, e.pageSize(r))
	if a == nil {
		return
	}
	defer a.end()
	var p *pageData
	if !e.inTurn(r, func() { p = e.pageData(r, time.Now()) }) {
		return
	}
	var b bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&b, "page.html", p); err != nil {
		panic(err) // the template fits the data, whatever they say
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", noCache)
	if p.Missing != "" {
		w.WriteHeader(http.StatusNotFound)
	}
	body{tail: b.Bytes()}.sendRendered(a, r.Method == http.MethodHead)
}

// pageSize estimates what it takes to render the page. Only what is shown of one
// file may be large.
func (e *Exporter) pageSize(r *http.Request) int64 {
	n := int64(256 << 10)
	if q := r.URL.Query(); q.Get("view") == viewFile {
		if f := e.cfg.View().File(q.Get("name")); f != nil {
			n += 16 * f.Size()
		}
	}
	return n
}

func (e *Exporter) pageData(r *http.Request, now time.Time) *pageData {
	v := e.cfg.View()
	q, malformed := grouping.ParseQuery(r.URL.RawQuery, nil)
	mayWrite := e.cfg.CanWrite != nil && e.cfg.CanWrite(r)
	p := &pageData{
		Host:    e.cfg.Info.Host,
		Spool:   wording.Visible(e.cfg.Info.Spool),
		Metrics: strings.TrimPrefix(e.cfg.Info.MetricsPath, "/"),
		Reading: e.cfg.CanWrite != nil && !mayWrite,
	}
	if err := e.trouble(); err != nil {
		p.Trouble = wording.Visible(err.Error())
	}
	conflicts := ConflictsByFile(v)
	view := q.Get("view")
	switch view {
	case viewFiles:
		p.Title, p.List = "Files", newListData(v, q, view, conflicts, now, mayWrite)
	case viewJobs:
		p.Title, p.Jobs = "Jobs", newJobsData(v, q, now)
	case viewStatus:
		p.Title, p.Status = "Status", e.statusData(v, now)
	case viewFile:
		f := v.File(q.Get("name"))
		if f == nil {
			p.Title, p.Missing = "Not there", wording.Visible(record.PrintableName(wording.Shorten(q.Get("name"), maxLabel)))
			break
		}
		l, _ := parseListing(q) // an offset that is none is the first
		p.Title, p.Content = "Metrics", newContent(v, f, newRow(f, conflicts[f.Name()], now, mayWrite), l.offset, now)
		view = viewOf(f)
	default:
		view = viewGroups
		p.Title, p.List = "Groups", newListData(v, q, view, conflicts, now, mayWrite)
		if mayWrite && e.cfg.Admin {
			p.List.RemoveAll = "All pushed groups are removed (" + count(v.Totals().Groups) + "), whatever is searched for. Dropped files stay."
		}
	}
	if malformed != nil { // what could be read of the query is shown
		switch wrong := wording.Visible(malformed.Error()); {
		case p.List != nil:
			p.List.Wrong = wrong
		case p.Jobs != nil:
			p.Jobs.Wrong = wrong
		}
	}
	totals := v.Totals()
	for _, t := range []tab{
		{"Groups", viewGroups, count(totals.Groups), false}, {"Files", viewFiles, count(totals.Dropped), false}, {"Jobs", viewJobs, "", false}, {"Status", viewStatus, "", false},
	} {
		t.Current, t.Link = t.Link == view, link(t.Link)
		p.Tabs = append(p.Tabs, t)
	}
	return p
}

// trouble returns why the spool is not healthy or not ready.
func (e *Exporter) trouble() error {
	for _, check := range []func() error{e.cfg.Health, e.cfg.Ready} {
		if check != nil {
			if err := check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// viewOf returns the view that lists the file.
func viewOf(f *record.File) string {
	if f.Group().IsZero() {
		return viewFiles
	}
	return viewGroups
}

// link returns a relative link to a view with parameters in pairs; those that
// are empty are left out.
func link(view string, parameters ...string) string {
	q := url.Values{"view": {view}}
	for i := 0; i < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			q.Set(parameters[i], parameters[i+1])
		}
	}
	return "?" + q.Encode()
}

type statusData struct {
	Facts []fact
	Build []fact
	Flags []fact
}

// A fact has a name and a value.
type fact struct {
	Name, Value string
	Bad         bool
}

func (e *Exporter) statusData(v *merge.View, now time.Time) *statusData {
	info, totals := e.cfg.Info, v.Totals()
	s := &statusData{}
	health := fact{"Health", "The spool can be written.", false}
	if err := e.trouble(); err != nil {
		health.Value, health.Bad = wording.Visible(err.Error()), true
	}
	s.Facts = append(s.Facts, health, fact{"Spool", wording.Visible(info.Spool), false})
	if info.Watch != nil {
		s.Facts = append(s.Facts, fact{"Changes are noticed by", info.Watch(), false})
	}
	s.Facts = append(s.Facts,
		fact{"Pushed groups", count(totals.Groups), false},
		fact{"Groups that no push ever reached", count(totals.Failed), totals.Failed > 0},
		fact{"Dropped files", count(totals.Dropped), false},
		fact{"Samples", count(totals.Series), false},
		fact{"Size", wording.Bytes(totals.Bytes), false},
	)
	for _, reason := range exposition.Reasons {
		if n := totals.Faults[reason]; n > 0 {
			s.Facts = append(s.Facts, fact{"Files not wholly served: " + string(reason), count(n), true})
		}
	}
	for _, err := range v.DirectoryErrors() {
		s.Facts = append(s.Facts, fact{"Directory not served", wording.Visible(err.Error()), true})
	}
	if !info.Start.IsZero() {
		s.Facts = append(s.Facts, fact{"Started", ago(now, info.Start) + ", " + exactly(info.Start), false})
	}
	s.Build, s.Flags = facts(info.Build), facts(info.Flags)
	return s
}

func facts(m map[string]string) (list []fact) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fact{name, wording.Visible(m[name]), false})
	}
	return list
}

//go:embed ui
var ui embed.FS

// assetTypes are the files that the page asks for, by the end of their names.
// Templates are none.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func (e *Exporter) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	mime := assetTypes[path.Ext(name)]
	data, err := ui.ReadFile("ui/" + name)
	if err != nil || mime == "" {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	sum := sha256.Sum256(data)
	h := w.Header()
	h.Set("Content-Type", mime)
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	h.Set("Cache-Control", "no-cache") // kept, and asked for whether it still is the one
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
}

// ago says roughly how long ago t was, or in how long it will be; nothing of
// the zero time.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch {
	case d <= -time.Second:
		return "in " + roughly(-d)
	case d < time.Second:
		return "just now"
	}
	return roughly(d) + " ago"
}

// roughly says how long d is, which is not negative.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", math.Floor(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// exactly says when t was.
func exactly(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// count writes a number with commas between thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

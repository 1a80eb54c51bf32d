package exporter

import (
	"bytes"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
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

// The server renders the whole page for each request. The script requests the same
// page and replaces the part that has changed. So everything but deletions works
// without it, and foreign text becomes HTML in one place only.
var pageTemplate = template.Must(template.ParseFS(ui, "ui/*.html"))

// pagePolicy allows only the files of the page. No string can become markup in the
// browser, not even by the page's own script.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// The views of the page, by the parameter view.
const (
	viewGroups = "groups"
	viewFiles  = "files"
	viewJobs   = "jobs"
	viewStatus = "status"
	viewFile   = "file" // content of one file
)

type pageData struct {
	Title    string
	Host     string
	Spool    string
	Trouble  string // why the spool is not healthy or not ready
	Findings []finding
	AsOf     *moment
	Reading  bool   // the client may not write
	Metrics  string // link
	Tabs     []tab

	// One of these is set.
	List    *listData
	Jobs    *jobsData
	Status  *statusData
	Content *content
	Missing string // name of a file that does not exist
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
		panic(err) // the template fits the data
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", noCache)
	h.Set("Vary", "Accept-Encoding")
	coding := negotiateCoding(r.Header)
	if p.Missing != "" {
		if coding != identity {
			h.Set("Content-Encoding", string(coding)) // send sets it too late
		}
		w.WriteHeader(http.StatusNotFound)
	}
	a.shrink(2 * int64(b.Cap())) // the page, and the same compressed
	body{tail: b.Bytes()}.send(a, coding, r.Method == http.MethodHead)
}

// pageSize estimates the memory to render the page. Only the content of a file can be
// large.
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
	var may rights
	may.write = e.cfg.CanWrite != nil && e.cfg.CanWrite(r)
	may.bulk = may.write && e.cfg.Admin
	conflicts := ConflictsByFile(v)
	sum := e.summaries.get(v, conflicts, now)
	_, others := e.others()
	p := &pageData{
		Host:     e.cfg.Info.Host,
		Spool:    wording.Visible(e.cfg.Info.Spool),
		Metrics:  strings.TrimPrefix(e.cfg.Info.MetricsPath, "/"),
		Reading:  e.cfg.CanWrite != nil && !may.write,
		Trouble:  visible(e.trouble()),
		Findings: sum.findings(others),
		AsOf:     momentOf(now, now),
	}
	view := q.Get("view")
	switch view {
	case viewFiles:
		p.Title, p.List = "Files", newListData(v, q, view, conflicts, &sum.files, now, may)
	case viewJobs:
		p.Title, p.Jobs = "Jobs", newJobsData(v, q, sum.jobs, now)
	case viewStatus:
		p.Title, p.Status = "Status", e.statusData(v, sum, may, now)
	case viewFile:
		f := v.File(q.Get("name"))
		if f == nil {
			p.Title, p.Missing = "Not found", wording.Visible(record.PrintableName(wording.Shorten(q.Get("name"), maxLabel)))
			break
		}
		l, _ := parseListing(q) // an invalid offset is 0
		p.Title, p.Content = "Metrics", newContent(v, f, newRow(f, conflicts[f.Name()], now, may), l.offset, now)
		view = viewOf(f)
	default:
		view = viewGroups
		p.Title, p.List = "Groups", newListData(v, q, view, conflicts, &sum.groups, now, may)
		if !p.Reading {
			p.List.PushURL = pushURL(r)
		}
	}
	if malformed != nil { // the readable part of the query applies
		switch wrong := wording.Visible(malformed.Error()); {
		case p.List != nil:
			p.List.Wrong = wrong
		case p.Jobs != nil:
			p.Jobs.Wrong = wrong
		}
	}
	p.Tabs = sum.tabs(view, p.Trouble != "", others)
	return p
}

// pushURL returns the URL of a first push, at the address that the page was asked
// for. A proxy may hide it, so the script puts in the one that the browser has. A host
// that a shell could interpret is replaced, since the URL is part of a command.
func pushURL(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if !plainHost.MatchString(host) {
		host = "localhost:9091"
	}
	return wording.Visible(scheme + "://" + host + strings.TrimSuffix(r.URL.Path, "status") + "metrics/job/some_job")
}

var plainHost = regexp.MustCompile(`^(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$`)

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

// others describes and counts the other agents that serve the spool.
func (e *Exporter) others() (names []string, n int) {
	if e.cfg.Info.Others == nil {
		return nil, 0
	}
	return e.cfg.Info.Others()
}

// viewOf returns the view that lists the file.
func viewOf(f *record.File) string {
	if f.Group().IsZero() {
		return viewFiles
	}
	return viewGroups
}

// link returns a relative link to a view. Parameters are pairs of a name and a value;
// empty ones are left out.
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
	Health    []fact
	Facts     []fact
	Build     []fact
	Flags     []fact
	Groups    string // number of groups
	DeleteAll bool   // may be offered
}

// A fact has a name and a value.
type fact struct {
	Name, Value, Link string
	Look              string // class of the value: bad, mild, good or none
}

func (e *Exporter) statusData(v *merge.View, sum *summary, may rights, now time.Time) *statusData {
	info, totals := e.cfg.Info, v.Totals()
	s := &statusData{Groups: count(totals.Groups), DeleteAll: may.bulk && totals.Groups > 0}
	health := fact{Name: "Spool", Value: "writable", Look: "good"}
	if err := e.trouble(); err != nil {
		health.Value, health.Look = visible(err), "bad"
	}
	s.Health = append(s.Health, health)
	others, _ := e.others()
	for _, other := range others {
		s.Health = append(s.Health, fact{Name: "Other agent of this spool", Value: wording.Visible(other), Look: "bad"})
	}
	for _, err := range v.DirectoryErrors() {
		s.Health = append(s.Health, fact{Name: "Directory not served", Value: visible(err), Look: "bad"})
	}
	for _, check := range []struct {
		name string
		list []finding
	}{{"Groups", sum.groupFindings()}, {"Files", sum.fileFindings()}, {"Jobs", sum.jobFindings()}} {
		if len(check.list) == 0 {
			s.Health = append(s.Health, fact{Name: check.name, Value: "all well", Look: "good"})
		}
		for _, x := range check.list {
			look := "bad"
			if x.Mild {
				look = "mild"
			}
			s.Health = append(s.Health, fact{check.name, x.Text, x.Link, look})
		}
	}
	s.Facts = append(s.Facts, fact{Name: "Spool", Value: wording.Visible(info.Spool)})
	if info.Watch != nil {
		s.Facts = append(s.Facts, fact{Name: "Changes detected by", Value: info.Watch()})
	}
	s.Facts = append(s.Facts,
		fact{Name: "Pushed groups", Value: count(totals.Groups), Link: link(viewGroups)},
		fact{Name: "Dropped files", Value: count(totals.Dropped), Link: link(viewFiles)},
		fact{Name: "Jobs", Value: count(sum.jobs[""]), Link: link(viewJobs)},
		fact{Name: "Samples", Value: count(totals.Series), Link: link(viewGroups, "sort", "-samples")},
		fact{Name: "Size", Value: wording.Bytes(totals.Bytes), Link: link(viewGroups, "sort", "-size")},
	)
	for _, reason := range exposition.Reasons {
		if n := totals.Faults[reason]; n > 0 {
			s.Facts = append(s.Facts, fact{Name: "Files with the fault " + string(reason), Value: count(n)})
		}
	}
	if !info.Start.IsZero() {
		s.Facts = append(s.Facts, fact{Name: "Started", Value: ago(now, info.Start) + ", " + exactly(info.Start)})
	}
	s.Build, s.Flags = facts(info.Build), facts(info.Flags)
	return s
}

func facts(m map[string]string) (list []fact) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fact{Name: name, Value: wording.Visible(m[name])})
	}
	return list
}

// ago returns roughly how long ago t was, or in how long it will be. It is empty for
// the zero time. The script has the same function, see tick.js.
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

// roughly returns a duration for people. It must not be negative.
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

// exactly returns the date and time.
func exactly(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// count returns a number with commas between thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

package exporter

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore"
)

var (
	//go:embed ui/page.html
	pageHTML string
	//go:embed ui/page.css
	pageCSS string

	pageTemplate = template.Must(template.New("page").Parse(pageHTML))

	// Nothing but the one style sheet, known by its hash, may take effect.
	pagePolicy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hash64(pageCSS))
)

func hash64(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// pageRows is how many groups and how many files are shown.
const pageRows = 200

type pageData struct {
	CSS      template.CSS
	Spool    string
	Watch    string
	Metrics  string // link, relative
	Version  string
	Start    time.Time
	Up       string
	Trouble  string // why the spool is not healthy or not ready
	Writing  string
	Totals   filestore.Totals
	Faulty   int
	Groups   []pageRow
	Files    []pageRow
	MoreRows struct{ Groups, Files int }
}

type pageRow struct {
	Name     string // of the file
	Labels   []filestore.Label
	Series   int
	Age      string
	LastPush string
	Failed   bool // the last push did
	Problems []string
}

func (e *Exporter) servePage(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, e.pageData(r, time.Now())); err != nil {
		panic(err) // the template fits the data, whatever they say
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", noCache)
	body{tail: b.Bytes()}.sendPlain(w, r.Method == http.MethodHead)
}

func (e *Exporter) pageData(r *http.Request, now time.Time) *pageData {
	v, info := e.cfg.View(), e.cfg.Info
	p := &pageData{
		CSS:     template.CSS(pageCSS),
		Spool:   info.Spool,
		Metrics: strings.TrimPrefix(info.MetricsPath, "/"),
		Version: info.Build["version"],
		Start:   info.Start.UTC(),
		Up:      ago(now, info.Start),
		Totals:  v.Totals(),
	}
	if info.Watch != nil {
		p.Watch = info.Watch()
	}
	for _, check := range []func() error{e.cfg.Health, e.cfg.Ready} {
		if check != nil && p.Trouble == "" {
			if err := check(); err != nil {
				p.Trouble = err.Error()
			}
		}
	}
	if e.cfg.CanWrite != nil {
		p.Writing = "Pushes and deletions are not accepted from where you are."
		if e.cfg.CanWrite(r) {
			p.Writing = "Pushes and deletions are accepted from where you are."
		}
	}
	conflicts := conflictsByFile(v)
	for f := range v.Files() {
		problem := len(conflicts[f.Name()]) > 0 || f.Problem() != nil
		if problem {
			p.Faulty++
		}
		rows, more := &p.Files, &p.MoreRows.Files
		if !f.Group().IsZero() {
			rows, more = &p.Groups, &p.MoreRows.Groups
		}
		if len(*rows) == pageRows {
			*more++
			continue
		}
		*rows = append(*rows, newPageRow(f, conflicts[f.Name()], now))
	}
	return p
}

func newPageRow(f *filestore.File, conflicts []*filestore.Conflict, now time.Time) pageRow {
	row := pageRow{
		Name:     filestore.PrintableName(f.Name()),
		Labels:   f.Group().Labels(),
		Series:   f.Series(),
		Age:      ago(now, f.ModTime()),
		LastPush: ago(now, f.LastPush()),
		Failed:   !pushed(f),
	}
	if p := f.Problem(); p != nil {
		row.Problems = append(row.Problems, p.Error())
	}
	for _, c := range conflicts {
		row.Problems = append(row.Problems, c.Error())
	}
	if t := f.HeldSince(); !t.IsZero() {
		row.Problems = append(row.Problems, "the last good content is served in place of what it holds now, since "+ago(now, t))
	}
	return row
}

// ago says roughly how long ago t was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch {
	case d < -time.Minute:
		return "in the future"
	case d < time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

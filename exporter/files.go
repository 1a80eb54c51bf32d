package exporter

import (
	"net/http"
	"strconv"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

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

// A fileError is what is wrong with the file taken by itself.
type fileError struct {
	Reason  exposition.Reason `json:"reason"`
	Line    int               `json:"line,omitempty"` // 1-based
	Message string            `json:"message"`
}

// A fileRefusal is why the last push to a group was refused.
type fileRefusal struct {
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
	Client  string    `json:"client"`
	Message string    `json:"message"`
}

// A fileConflict is what the file contradicts, and so cannot be served.
type fileConflict struct {
	Family string            `json:"family"`
	Kept   string            `json:"kept"` // the file that is served instead; empty for the agent itself
	Reason exposition.Reason `json:"reason"`
	Series int               `json:"series"` // samples that are not served
}

func (e *Exporter) serveFiles(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	j := e.list(w, r)
	defer j.release()
	var found found
	var conflicts map[string][]*record.Conflict
	if !e.inTurn(r, func() {
		v := e.cfg.View()
		j.hold(v)
		conflicts = conflictsByFile(v)
		found = l.find(v, conflicts)
	}) {
		return
	}
	now := time.Now()
	for _, f := range found.files {
		if !j.next(0) {
			break
		}
		j.buf = append(j.buf, FileJSON(f, conflicts[f.Name()], now)...)
	}
	j.end(`,"matched":` + strconv.Itoa(found.matched))
}

func newFileEntry(f *record.File, conflicts []*record.Conflict, now time.Time) *fileEntry {
	x := &fileEntry{
		Name:        record.PrintableName(f.Name()),
		Kind:        "file",
		Size:        f.Size(),
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

func conflictsByFile(v *merge.View) map[string][]*record.Conflict {
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

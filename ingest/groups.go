package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
)

// A RemovedGroup is one group in the answer to a deletion in bulk. Its members
// are those of /api/v1/files that last beyond the file.
type RemovedGroup struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Size        int64             `json:"size_bytes"`
	Series      int               `json:"series"`
	LastPush    *time.Time        `json:"last_push,omitempty"`
	LastFailure *time.Time        `json:"last_failure,omitempty"`
}

// Removed is the answer to a bulk deletion: the groups that were deleted, or would
// be in a dry run, the names in the request without a group, and those that cannot be
// deleted.
type Removed struct {
	DryRun   bool           `json:"dry_run"`
	Groups   []RemovedGroup `json:"groups"`
	NotFound []string       `json:"not_found,omitempty"`
	Failed   []FailedName   `json:"failed,omitempty"`
}

// A FailedName is a name in a bulk deletion that is not of a regular file.
type FailedName struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// NewRemoved describes deleted files.
func NewRemoved(files []*record.File, dryRun bool) *Removed {
	r := &Removed{DryRun: dryRun, Groups: make([]RemovedGroup, 0, len(files))}
	for _, f := range files {
		g := RemovedGroup{Name: record.PrintableName(f.Name()), Labels: map[string]string{}, Size: f.Size(), Series: f.Series()}
		for _, l := range f.Group().Labels() {
			g.Labels[l.Name] = l.Value
		}
		if at := f.LastPush().UTC(); !at.IsZero() {
			g.LastPush = &at
		}
		if at := f.LastFailure().UTC(); !at.IsZero() {
			g.LastFailure = &at
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

// RemoveGroups deletes the selected groups. Without Config.Admin it answers 404.
func (h *Handler) RemoveGroups(w http.ResponseWriter, r *http.Request) {
	var none grouping.Key
	switch {
	case !h.admin:
		h.answer(w, r, "groups", none, 0, refuse(http.StatusNotFound, "404 page not found"))
	case r.Method != http.MethodDelete:
		h.otherMethod(w, r, "groups", "DELETE, OPTIONS", "use DELETE to delete groups; add dry_run=1 to list them only")
	default:
		removed, err := h.removeGroups(r)
		if err != nil {
			h.answer(w, r, "groups", none, 0, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(struct { // the client is gone if this fails
			Status string   `json:"status"`
			Data   *Removed `json:"data"`
		}{"success", removed})
		h.metrics.answered("groups", r.Method, http.StatusOK)
	}
}

func (h *Handler) removeGroups(r *http.Request) (*Removed, error) {
	if err := h.guard.check(r); err != nil {
		return nil, err
	}
	if err := h.owners.checkAdmin(r); err != nil {
		return nil, err
	}
	sel, dryRun, err := parseSelection(r.URL.RawQuery, time.Now())
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, err.Error()}
	}
	if dryRun {
		var files []*record.File
		for f := range h.store.View().Files() {
			if sel.Has(f) {
				files = append(files, f)
			}
		}
		return h.withNotFound(NewRemoved(files, true), sel), nil
	}
	files, err := h.store.Remove(sel.Has)
	if len(files) > 0 {
		h.log.Info("groups were removed", "groups", len(files), "match", sel.Match, "names", len(sel.Names), "older_than", sel.OlderThan, "remote", r.RemoteAddr)
	}
	if err != nil && len(files) > 0 {
		err = fmt.Errorf("after %d groups were removed: %w", len(files), err)
	}
	return h.withNotFound(NewRemoved(files, false), sel), err
}

// withNotFound adds the names that no group has or had. They are not an error, so that
// a deletion can be repeated. Names of directories, links and special files are.
func (h *Handler) withNotFound(r *Removed, sel *record.Selection) *Removed {
	if len(sel.Names) == 0 {
		return r
	}
	missing := maps.Clone(sel.Names)
	for _, g := range r.Groups {
		delete(missing, g.Name)
	}
	for f := range h.store.View().Files() {
		if !f.Group().IsZero() {
			delete(missing, record.PrintableName(f.Name())) // too young
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if err := h.store.NotRegular(name); err != nil {
			r.Failed = append(r.Failed, FailedName{name, err.Error()})
		} else {
			r.NotFound = append(r.NotFound, name)
		}
	}
	return r
}

// parseSelection parses the parameters of a deletion. It rejects unknown and
// repeated ones, because ignoring a limit would delete too much.
func parseSelection(query string, now time.Time) (sel *record.Selection, dryRun bool, err error) {
	values, err := grouping.ParseQuery(query, nil)
	if err != nil {
		return nil, false, err
	}
	sel = &record.Selection{Now: now}
	for name, given := range values {
		switch name {
		case "match[]":
			for _, s := range given {
				ms, err := grouping.ParseMatchers(s)
				if err != nil {
					return nil, false, err
				}
				sel.Match = append(sel.Match, ms)
			}
			continue
		case "name[]":
			sel.Names = make(map[string]bool, len(given))
			for _, name := range given {
				if name == "" {
					return nil, false, errors.New("the value of name[] is empty: use e.g. name[]=job=backup.prom")
				}
				sel.Names[name] = true
			}
			continue
		case "older_than":
			var d model.Duration
			d, err = model.ParseDuration(given[0])
			if err != nil {
				err = fmt.Errorf("older_than: invalid duration %q: use e.g. 12h or 7d", given[0])
			}
			sel.OlderThan = time.Duration(d)
		case "dry_run":
			switch strings.ToLower(given[0]) {
			case "", "1", "true":
				dryRun = true
			case "0", "false":
			default:
				err = fmt.Errorf("dry_run: %s is neither true nor false", grouping.QuoteShort(given[0]))
			}
		default:
			err = fmt.Errorf("the parameter %s is not known: there are match[], name[], older_than and dry_run", grouping.QuoteShort(name))
		}
		if err == nil && len(given) > 1 {
			err = fmt.Errorf("the parameter %s is given twice", name)
		}
		if err != nil {
			return nil, false, err
		}
	}
	if sel.Match == nil && sel.Names == nil {
		return nil, false, errors.New(`at least one match[] such as match[]={job="backup"}, or one name[] such as name[]=job=backup.prom, is needed`)
	}
	return sel, dryRun, nil
}

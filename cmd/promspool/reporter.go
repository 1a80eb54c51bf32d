package main

import (
	"fmt"
	"log/slog"

	"github.com/promspool/promspool/filestore"
)

// reporter stands between watcher and store and logs what is wrong with files,
// once for each change of it.
type reporter struct {
	store  *filestore.Store
	logger *slog.Logger
	known  map[string]string // file and family to what was last said of it
}

// observe looks at what the first scan has found.
func (r reporter) observe() reporter {
	r.report()
	return r
}

// Reload brings the named files up to date.
func (r reporter) Reload(names ...string) ([]string, error) {
	defer r.report()
	return r.store.Reload(names...)
}

// Rescan brings everything up to date.
func (r reporter) Rescan() ([]string, error) {
	defer r.report()
	return r.store.Rescan()
}

func (r reporter) report() {
	v := r.store.View()
	faults := 0
	for _, n := range v.Totals().Faults {
		faults += n
	}
	if faults == 0 && len(r.known) == 0 {
		return
	}
	now := map[string]string{}
	for f := range v.Files() {
		if p := f.Problem(); p != nil {
			r.note(now, f.Name(), "", p.Reason, p.Error())
		}
	}
	for _, c := range v.Conflicts() {
		r.note(now, c.File, c.Family, c.Reason, c.Error())
	}
	for key := range r.known {
		if _, still := now[key]; !still {
			delete(r.known, key)
		}
	}
}

func (r reporter) note(now map[string]string, file, family string, reason filestore.Reason, text string) {
	key := file + "\x00" + family
	now[key] = text
	if r.known[key] == text {
		return
	}
	r.known[key] = text
	r.logger.Warn("A file is not served, or not all of it", "file", fmt.Sprintf("%q", file), "reason", string(reason), "err", text)
}

package main

import (
	"log/slog"
	"sync"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// reporter logs what is wrong with files, once for each change of it. It is safe
// for concurrent use.
type reporter struct {
	store  *filestore.Store
	logger *slog.Logger

	mu    sync.Mutex
	known map[string]string // file and family to what was last said of it
	seen  *merge.View       // that was looked through last
}

func newReporter(store *filestore.Store, logger *slog.Logger) *reporter {
	return &reporter{store: store, logger: logger, known: map[string]string{}}
}

// source is a directory as the watcher sees it: what it brings up to date is
// looked at by the reporter.
type source interface {
	Reload(names ...string) (again []string, err error)
	Rescan() (again []string, err error)
	Follow() (again []string, err error)
}

// reported is a watcher.Follower that reports after each change.
type reported struct {
	source
	*reporter
}

// Reload brings the named files up to date.
func (r reported) Reload(names ...string) ([]string, error) {
	defer r.report()
	return r.source.Reload(names...)
}

// Rescan brings everything up to date.
func (r reported) Rescan() ([]string, error) {
	defer r.report()
	return r.source.Rescan()
}

// Follow brings symbolic links up to date.
func (r reported) Follow() ([]string, error) {
	defer r.report()
	return r.source.Follow()
}

// report looks through the view, if it is new and there is or was anything to say.
func (r *reporter) report() {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.store.View()
	if v == r.seen {
		return
	}
	r.seen = v
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
			r.note(now, f.Name(), "", p.Reason, p.Report())
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

func (r *reporter) note(now map[string]string, file, family string, reason exposition.Reason, text string) {
	key := file + "\x00" + family
	now[key] = text
	if r.known[key] == text {
		return
	}
	r.known[key] = text
	r.logger.Warn("A file is not served, or not all of it", "file", record.PrintableName(file), "reason", string(reason), "err", text)
}

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/cmd/promspool/internal/agents"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/watcher"
)

// sources are the directories of --spool.textfile-directory. Its patterns are
// expanded periodically, as in node_exporter. New directories are served, and the watches
// of deleted ones end.
type sources struct {
	patterns []string
	spool    string
	resync   time.Duration
	store    *filestore.Store
	reporter *reporter
	reg      prometheus.Registerer
	logger   *slog.Logger

	served  map[string]*served // key: directory
	refused map[string]string  // directories that even polling cannot watch, with the error
}

// served is one directory other than the spool.
type served struct {
	watch  *watcher.Watcher
	target *filestore.Source
	done   chan struct{} // closed when the watch has ended; nil if it was not started
}

// The interval between two expansions. It is longer if they would take more than
// 1 % of a core.
const (
	expandEvery = time.Second
	expandShare = 100
)

// start reads the existing directories, so that the first scrape includes them.
func (s *sources) start() {
	s.served = map[string]*served{}
	s.refused = map[string]string{}
	s.look()
}

// look starts a watch on each new directory and reads it. It ends the watches of
// directories that no longer match.
func (s *sources) look() (added []*served) {
	dirs := s.expand()
	for dir, d := range s.served {
		if !slices.Contains(dirs, dir) {
			s.remove(dir, d)
		}
	}
	for _, dir := range dirs {
		if s.served[dir] != nil {
			continue
		}
		w, err := watchDirectory(dir, s.resync, s.reg, s.logger)
		if err != nil {
			if s.refused[dir] != err.Error() {
				s.refused[dir] = err.Error()
				s.logger.Error("A directory is not served", "directory", dir, "err", err)
			}
			continue
		}
		d := &served{watch: w, target: s.store.AddSource(dir)}
		d.target.UseReports(w.Written)
		s.served[dir] = d
		if _, err := d.target.Rescan(); err != nil {
			s.logger.Warn("A directory cannot be read yet", "directory", dir, "err", err)
		}
		added = append(added, d)
	}
	return added
}

// remove ends the watch of a directory and removes its files from the merge.
func (s *sources) remove(dir string, d *served) {
	_ = d.watch.Close() // nothing to lose
	if d.done != nil {
		<-d.done
	}
	s.store.RemoveSource(d.target)
	delete(s.served, dir)
	s.logger.Info("A directory was deleted", "directory", dir)
}

// close ends the watches. run must have ended.
func (s *sources) close() {
	for _, d := range s.served {
		_ = d.watch.Close() // nothing to lose
	}
}

// run watches the directories until ctx ends.
func (s *sources) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	watch := func(d *served) {
		d.done = make(chan struct{})
		group.Go(func() {
			defer close(d.done)
			_ = d.watch.Run(ctx, reported{d.target, s.reporter}) // ends with ctx, or when it is closed
		})
	}
	for _, d := range s.served {
		watch(d)
	}
	if len(s.patterns) == 0 {
		return
	}
	timer := time.NewTimer(s.pause(0))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			start := time.Now()
			for _, d := range s.look() {
				watch(d)
			}
			timer.Reset(s.pause(time.Since(start)))
		}
	}
}

// pause returns the time until the next expansion, given the duration of the last.
func (s *sources) pause(took time.Duration) time.Duration {
	pause := expandEvery
	if s.resync > 0 {
		pause = min(pause, s.resync)
	}
	return max(pause, expandShare*took)
}

// expand returns the directories that match the patterns. A pattern without a
// match is used as a name, as in node_exporter.
func (s *sources) expand() []string {
	spool, _ := os.Stat(s.spool)
	var dirs []string
	for _, pattern := range s.patterns {
		if pattern == "" {
			continue // an unset variable, not the working directory
		}
		matches, _ := filepath.Glob(pattern)
		found := false
		for _, dir := range matches {
			fi, err := os.Stat(dir)
			switch {
			case err == nil && !fi.IsDir():
				continue // matches that are not directories
			case err == nil && os.SameFile(fi, spool):
				found = true // the spool itself
			default:
				found = true
				dirs = append(dirs, filepath.Clean(dir))
			}
		}
		if !found {
			dirs = append(dirs, filepath.Clean(pattern))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// watchDirectory starts the watch of one directory. Its metrics have the label
// directory.
func watchDirectory(dir string, resync time.Duration, reg prometheus.Registerer, logger *slog.Logger) (*watcher.Watcher, error) {
	return watcher.New(dir, watcher.Config{
		Match:      grouping.IsSpoolFile,
		Resync:     resync,
		Logger:     logger,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"directory": record.PrintableName(dir)}, reg),
	})
}

// reporter logs each problem with a file once, until it changes. It is safe for
// concurrent use.
type reporter struct {
	store  *filestore.Store
	logger *slog.Logger

	mu    sync.Mutex
	known map[string]string // key: file and family; value: the last message
	seen  *merge.View       // the last view that report compared
}

func newReporter(store *filestore.Store, logger *slog.Logger) *reporter {
	return &reporter{store: store, logger: logger, known: map[string]string{}}
}

// source is a directory as the watcher sees it. The reporter checks each reload.
type source interface {
	Reload(names ...string) (retry []string, err error)
	Rescan() (retry []string, err error)
	Follow() (retry []string, err error)
}

// reported is a watcher.Follower that reports after each change.
type reported struct {
	source
	*reporter
}

// Reload reads the named files again.
func (r reported) Reload(names ...string) ([]string, error) {
	defer r.report()
	return r.source.Reload(names...)
}

// Rescan reads the whole directory again.
func (r reported) Rescan() ([]string, error) {
	defer r.report()
	return r.source.Rescan()
}

// A markedSpool moves the mark of the agent along if the spool is replaced, which the
// watcher follows by a Rescan.
type markedSpool struct {
	reported
	mark *agents.Mark
}

// Rescan reads the whole directory again.
func (m markedSpool) Rescan() ([]string, error) {
	m.mark.Renew()
	return m.reported.Rescan()
}

// Follow reads the targets of symbolic links again.
func (r reported) Follow() ([]string, error) {
	defer r.report()
	return r.source.Follow()
}

// report logs the problems of the view if it is new.
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

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/watcher"
)

// sources are the directories beside the spool that --spool.textfile-directory
// names. A pattern is looked at again from time to time, as node_exporter does
// it, so that a directory made later is served as well.
type sources struct {
	patterns []string
	spool    string
	resync   time.Duration
	store    *filestore.Store
	reporter *reporter
	reg      prometheus.Registerer
	logger   *slog.Logger

	watches map[string]*watcher.Watcher // by directory
	targets map[string]*filestore.Source
}

// start reads the directories that are there, so that the first scrape has them.
func (s *sources) start() {
	s.watches = map[string]*watcher.Watcher{}
	s.targets = map[string]*filestore.Source{}
	s.look()
}

// look arms a watch on each directory that is new, and reads it.
func (s *sources) look() (added []string) {
	for _, dir := range s.expand() {
		if s.watches[dir] != nil {
			continue
		}
		w, err := watchDirectory(dir, s.resync, s.reg, s.logger)
		if err != nil {
			s.logger.Error("A directory is not served", "directory", dir, "err", err)
			continue
		}
		s.watches[dir], s.targets[dir] = w, s.store.AddSource(dir)
		if _, err := s.targets[dir].Rescan(); err != nil {
			s.logger.Warn("A directory cannot be read yet", "directory", dir, "err", err)
		}
		added = append(added, dir)
	}
	return added
}

// run serves them until ctx ends.
func (s *sources) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	watch := func(dir string) {
		w, target := s.watches[dir], reported{s.targets[dir], s.reporter}
		group.Go(func() { _ = w.Run(ctx, target) }) // ends with ctx
	}
	for dir := range s.watches {
		watch(dir)
	}
	if len(s.patterns) == 0 {
		return
	}
	tick := time.NewTicker(s.resync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, dir := range s.look() {
				watch(dir)
			}
		}
	}
}

// expand returns the directories that the patterns stand for. What matches
// nothing is taken for a directory that is yet to come.
func (s *sources) expand() []string {
	spool, _ := os.Stat(s.spool)
	var dirs []string
	for _, pattern := range s.patterns {
		matches, err := filepath.Glob(pattern)
		if err != nil || len(matches) == 0 {
			matches = []string{pattern}
		}
		for _, dir := range matches {
			dir = filepath.Clean(dir)
			fi, err := os.Stat(dir)
			if err == nil && (!fi.IsDir() || os.SameFile(fi, spool)) {
				continue // what matches beside directories, and the spool itself
			}
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// watchDirectory arms the watch of one directory; its metrics say which.
func watchDirectory(dir string, resync time.Duration, reg prometheus.Registerer, logger *slog.Logger) (*watcher.Watcher, error) {
	return watcher.New(dir, watcher.Config{
		Match:      filestore.IsSpoolFile,
		Resync:     resync,
		Logger:     logger,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"directory": dir}, reg),
	})
}

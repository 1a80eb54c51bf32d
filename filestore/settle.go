package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The rate at which the files of groups are rewritten for their HELP texts. A
// group that changes its text with each push makes all files of the family differ
// each time.
const (
	helpPause = 200 * time.Millisecond // for changes that come together
	helpRetry = 30 * time.Second       // after a failure
)

// Tests have smaller ones.
var (
	helpBurst = 1000.0 // files at once
	helpRate  = 50.0   // files per second after that
)

// AlignHelp rewrites the files of groups whose HELP texts are not those that are
// served, until ctx ends. It starts soon after a change, off the path of pushes,
// and at a bounded rate; of the families with such files it takes the smallest
// first. What is served does not depend on it, only what other readers of the
// directory find. Failures are reported to failed and retried.
func (s *Store) AlignHelp(ctx context.Context, failed func(error)) {
	left := map[string][]Group{} // files to rewrite, by family
	retry := map[string]struct{}{}
	again := time.NewTimer(helpRetry)
	defer again.Stop()
	allowed, at := helpBurst, time.Now()
	var retryAt time.Time
	for {
		if !s.findMisfits(left) {
			select {
			case <-ctx.Done():
				return
			case <-s.help.misfits():
			case <-again.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(helpPause):
		}
		now := time.Now()
		if !now.Before(retryAt) {
			s.markHelp(retry)
			clear(retry)
		}
		s.findMisfits(left)
		allowed = min(helpBurst, allowed+helpRate*now.Sub(at).Seconds())
		at = now
		n, err := s.rewriteHelp(ctx, left, int(allowed), retry)
		allowed -= float64(n)
		if err != nil && ctx.Err() == nil {
			retryAt = time.Now().Add(helpRetry)
			again.Reset(helpRetry)
			failed(err)
		}
	}
}

// SettleHelp is AlignHelp for the files that differ now, without a bound of the
// rate. It returns when they are rewritten.
func (s *Store) SettleHelp(ctx context.Context) error {
	left, failed := map[string][]Group{}, map[string]struct{}{}
	for s.findMisfits(left) {
		if _, err := s.rewriteHelp(ctx, left, -1, failed); err != nil {
			for name := range left {
				failed[name] = struct{}{}
			}
			s.markHelp(failed)
			return err
		}
	}
	return nil
}

func (s *Store) markHelp(names map[string]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range names {
		s.merge.markHelp(name)
	}
}

// findMisfits adds the groups whose files have another text than is served, for
// the families that are marked and not among them yet. It reports whether there
// are any.
func (s *Store) findMisfits(left map[string][]Group) bool {
	s.mu.Lock()
	texts := s.merge.takeMisfits(func(name string) bool { return left[name] == nil })
	s.mu.Unlock()
	s.View().misfits(texts, func(name string, g Group) { left[name] = append(left[name], g) })
	return len(left) > 0
}

// rewriteHelp rewrites the files of up to limit groups, those of the smallest
// families first, and takes them out of left. A negative limit is none. It returns
// how many it has rewritten or tried to. The families of those that failed are
// added to failed.
func (s *Store) rewriteHelp(ctx context.Context, left map[string][]Group, limit int, failed map[string]struct{}) (int, error) {
	var mu sync.Mutex // guards what the writers report: n, failures, first, failed
	var n, failures int
	var first error
	var group errgroup.Group
	group.SetLimit(8) // writers that wait for the disk
	names := slices.SortedFunc(maps.Keys(left), func(a, b string) int { return cmp.Or(len(left[a])-len(left[b]), cmp.Compare(a, b)) })
	for _, name := range names {
		for len(left[name]) > 0 && limit != 0 && ctx.Err() == nil {
			g := left[name][0]
			left[name] = left[name][1:]
			limit--
			group.Go(func() error {
				done, err := s.rewriteFile(g)
				mu.Lock()
				defer mu.Unlock()
				if done || err != nil {
					n++
				}
				if err != nil {
					failures++
					failed[name] = struct{}{}
					first = cmp.Or(first, err)
				}
				return nil
			})
		}
		if len(left[name]) == 0 {
			delete(left, name)
		}
	}
	_ = group.Wait() // errors are collected
	if failures > 1 {
		first = fmt.Errorf("%d files failed, the first with: %w", failures, first)
	}
	return n, doing("aligning HELP texts", cmp.Or(first, ctx.Err()))
}

// rewriteFile rewrites a group's file with the texts that are served, and nothing
// else changed. It reports whether that was necessary.
func (s *Store) rewriteFile(g Group) (bool, error) {
	defer s.groups.lock(g.FileName())()
	at, err := s.commit(g, false, func(old *content) (*content, error) {
		if old == nil || old.file.age != nil && old.file.age.pending {
			return nil, errNothing
		}
		c := old.rewritten()
		if s.alignHelp(c, old.file); slices.Equal(c.file.stored, old.file.stored) {
			return nil, errNothing
		}
		return c, nil
	})
	switch {
	case errors.Is(err, errNothing):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, s.flush(at)
}

// errNothing ends a commit that has nothing to write.
var errNothing = errors.New("nothing to write")

// alignHelp gives the file of a group the texts of the spool. They are best known
// here, outside of the lock under which the file is renamed. If one changes
// meanwhile, the merge notices that the file differs.
func (s *Store) alignHelp(c *content, old *File) {
	c.file.clearStored()
	v, mixed := s.View(), s.help.isMixed()
	var others []desc
	for i := range c.parts {
		d := c.parts[i].desc.Value()
		if s.opts.Only != nil { // the other texts are not known, but the old file has them
			if text, ok := old.textOf(d.name); ok {
				c.file.setStored(d, text)
			}
		} else if mixed || !v.hasHelp(d.name, d.help) { // mostly it is the text that is served anyway
			others = append(others, d)
		}
	}
	if len(others) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range others {
		text, had := old.textOf(d.name)
		if text, ok := s.merge.helpToWrite(c.file.id, d, text, had); ok {
			c.file.setStored(d, text)
		}
	}
}

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

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/record"
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
	left := map[string][]grouping.Key{} // files to rewrite, by family
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
			case <-s.help.Misfits():
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
	left, failed := map[string][]grouping.Key{}, map[string]struct{}{}
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
		s.merge.MarkHelp(name)
	}
}

// findMisfits adds the groups whose files have another text than is served, for
// the families that are marked and not among them yet. It reports whether there
// are any.
func (s *Store) findMisfits(left map[string][]grouping.Key) bool {
	s.mu.Lock()
	texts := s.merge.TakeMisfits(func(name string) bool { return left[name] == nil })
	s.mu.Unlock()
	s.View().Misfits(texts, func(name string, g grouping.Key) { left[name] = append(left[name], g) })
	return len(left) > 0
}

// rewriteHelp rewrites the files of up to limit groups, those of the smallest
// families first, and takes them out of left. A negative limit is none. It returns
// how many it has rewritten or tried to. The families of those that failed are
// added to failed.
func (s *Store) rewriteHelp(ctx context.Context, left map[string][]grouping.Key, limit int, failed map[string]struct{}) (int, error) {
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
	return n, disk.Wrap("aligning HELP texts", cmp.Or(first, ctx.Err()))
}

// rewriteFile rewrites a group's file with the texts that are served, and nothing
// else changed. It reports whether that was necessary.
func (s *Store) rewriteFile(g grouping.Key) (bool, error) {
	defer s.groups.lock(g.FileName())()
	at, err := s.commit(g, false, func(old *record.Content) (*record.Content, error) {
		if old == nil || old.File.Ended() != nil && old.File.Ended().Pending {
			return nil, errNothing
		}
		c := old.Rewritten()
		if s.alignHelp(c, old.File); slices.Equal(c.File.Stored(), old.File.Stored()) {
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
	return true, s.syncDirectory(at)
}

// errNothing ends a commit that has nothing to write.
var errNothing = errors.New("nothing to write")

// alignHelp gives the file of a group the texts of the spool. They are best known
// here, outside of the lock under which the file is renamed. If one changes
// meanwhile, the merge notices that the file differs.
func (s *Store) alignHelp(c *record.Content, old *record.File) {
	c.File.ClearStored()
	v, mixed := s.View(), s.help.IsMixed()
	var others []exposition.Desc
	for i := range c.Parts {
		d := c.Parts[i].Desc.Value()
		if s.opts.Only != nil { // the other texts are not known, but the old file has them
			if text, ok := old.TextOf(d.Name); ok {
				c.File.SetStored(d, text)
			}
		} else if mixed || !v.HasHelp(d.Name, d.Help) { // mostly it is the text that is served anyway
			others = append(others, d)
		}
	}
	if len(others) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range others {
		text, had := old.TextOf(d.Name)
		if text, ok := s.merge.HelpToWrite(c.File.ID(), d, text, had); ok {
			c.File.SetStored(d, text)
		}
	}
}

package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	helpPause = 200 * time.Millisecond // collects concurrent changes
	helpRetry = 30 * time.Second       // after a failure
)

// Tests set smaller rates.
var (
	helpBurst = 1000.0 // files at once
	helpRate  = 50.0   // files per second after that
)

// AlignHelp rewrites the files of groups whose HELP texts are not those that are
// served, until ctx ends. It starts soon after a change, outside of pushes, and at a
// limited rate. Only other readers of the directory depend on it, not the merge.
// Failures are reported to failed and retried. It must not be called twice at the same
// time.
func (s *Store) AlignHelp(ctx context.Context, failed func(error)) {
	q := &s.misfits
	allowed, at := helpBurst, time.Now()
	tick := time.After(helpPause)
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.help.Misfits():
		case <-retry:
			q.retry()
			retry = nil
		case now := <-tick:
			tick = nil
			allowed, at = min(helpBurst, allowed+helpRate*now.Sub(at).Seconds()), now
			s.findMisfits()
			n, err := s.rewriteHelp(ctx, q.take(int(allowed)))
			allowed -= float64(n)
			if err != nil && ctx.Err() == nil {
				failed(err)
			}
			if len(q.failed) > 0 && retry == nil {
				retry = time.After(helpRetry)
			}
			if q.isEmpty() {
				continue
			}
		}
		if tick == nil {
			tick = time.After(helpPause)
		}
	}
}

// A helpQueue has the files to rewrite for their HELP texts, each one once for all its
// families. A file of a family of n files is due when n more files have been taken. A file
// of several families is due with the first of them. So families in few files come first,
// and a file that is due comes before all later ones.
type helpQueue struct {
	marked  map[string]struct{} // families to search for files
	waiting map[string]int      // files in the queue by family; it is not searched meanwhile
	files   map[grouping.Key]*misfit
	order   []grouping.Key            // the files, by when they are due; nil after a change
	taken   int                       // files so far
	failed  map[grouping.Key]struct{} // files to retry; they are not in the queue
}

// A misfit is a file in the queue.
type misfit struct {
	due      int      // by helpQueue.taken
	families []string // for which it has waited
}

func newHelpQueue() helpQueue {
	return helpQueue{map[string]struct{}{}, map[string]int{}, map[grouping.Key]*misfit{}, nil, 0, map[grouping.Key]struct{}{}}
}

func (q *helpQueue) isEmpty() bool { return len(q.files) == 0 && len(q.marked) == 0 }

// add queues the files that have another text for a family than is served.
func (q *helpQueue) add(family string, groups []grouping.Key) {
	for _, g := range groups {
		if _, ok := q.failed[g]; ok {
			continue
		}
		m := q.put(g, q.taken+len(groups))
		m.families = append(m.families, family)
		q.waiting[family]++
	}
}

func (q *helpQueue) put(g grouping.Key, due int) *misfit {
	m := q.files[g]
	if m == nil {
		m = &misfit{due: due}
		q.files[g] = m
	}
	m.due, q.order = min(m.due, due), nil
	return m
}

// take removes up to n files from the queue, those that are due first, and returns
// them.
func (q *helpQueue) take(n int) []grouping.Key {
	if q.order == nil {
		q.order = slices.SortedFunc(maps.Keys(q.files), func(a, b grouping.Key) int {
			return cmp.Or(q.files[a].due-q.files[b].due, strings.Compare(a.Set, b.Set))
		})
	}
	n = min(n, len(q.order))
	groups := q.order[:n]
	for _, g := range groups {
		for _, family := range q.files[g].families {
			if q.waiting[family]--; q.waiting[family] == 0 {
				delete(q.waiting, family)
			}
		}
		delete(q.files, g)
	}
	q.order, q.taken = q.order[n:], q.taken+n
	return groups
}

// retry queues the files that failed.
func (q *helpQueue) retry() {
	for g := range q.failed {
		q.put(g, q.taken)
	}
	clear(q.failed)
}

// findMisfits queues the files that have another text than is served, of the
// marked families without a file in the queue.
func (s *Store) findMisfits() {
	q := &s.misfits
	s.mu.Lock()
	marked := s.merge.TakeMisfits()
	s.mu.Unlock()
	maps.Copy(q.marked, marked)
	var names []string
	for name := range q.marked {
		if q.waiting[name] == 0 {
			names = append(names, name)
			delete(q.marked, name)
		}
	}
	texts := make(map[string]string, len(names))
	for part := range slices.Chunk(names, checkAtOnce) {
		s.mu.Lock()
		s.merge.HelpOf(part, texts)
		s.mu.Unlock()
	}
	found := map[string][]grouping.Key{}
	s.View().Misfits(texts, func(name string, g grouping.Key) { found[name] = append(found[name], g) })
	for name, groups := range found {
		q.add(name, groups)
	}
}

// rewriteHelp rewrites the files of groups. It returns how many it has rewritten
// or failed to; others have been aligned meanwhile.
func (s *Store) rewriteHelp(ctx context.Context, groups []grouping.Key) (n int, err error) {
	var mu sync.Mutex // guards n and what failed
	var failures int
	var writers errgroup.Group
	writers.SetLimit(8) // they wait for the disk
	for _, g := range groups {
		if ctx.Err() != nil {
			break
		}
		writers.Go(func() error {
			rewritten, err := s.rewriteFile(g)
			mu.Lock()
			defer mu.Unlock()
			if rewritten || err != nil {
				n++
			}
			if err != nil {
				failures++
				s.misfits.failed[g] = struct{}{}
			}
			return err
		})
	}
	if err = writers.Wait(); failures > 1 {
		err = fmt.Errorf("%d files failed, one with: %w", failures, err)
	}
	return n, disk.Wrap("aligning HELP texts", err)
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

// alignHelp gives the file of a group the texts of the spool. It runs outside of the lock
// under which the file is renamed. If a text changes meanwhile, the merge detects that the
// file differs.
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
		} else if mixed || !v.HasHelp(d.Name, d.Help) { // the served text is usually the same
			others = append(others, d)
		}
	}
	for part := range slices.Chunk(others, checkAtOnce) {
		s.alignParts(c, old, part)
	}
}

// alignParts is alignHelp for some families, under one hold of the lock.
func (s *Store) alignParts(c *record.Content, old *record.File, descs []exposition.Desc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range descs {
		text, had := old.TextOf(d.Name)
		if text, ok := s.merge.HelpToWrite(c.File.ID(), d, text, had); ok {
			c.File.SetStored(d, text)
		}
	}
}

package filestore

import (
	"slices"
	"sync"
	"sync/atomic"
)

// UseReports has f asked about the writers of the directory's files, where the
// kernel does not answer by itself. It returns the number of the last report
// about the content of a file, 0 if nothing is known of it; whether a writer has
// closed the file and nothing was written to it after that; whether it came whole
// under its name by a rename; and whether it was opened since, be it to read. Two
// calls with the same number mean that the content has not changed in between,
// unless a writer has just opened the file. It is called from many goroutines at
// once.
func (src *Source) UseReports(f func(name string) (serial uint64, closed, renamed, opened bool)) {
	src.reports.Store(&f)
}

// UseReports is that of the spool as a [Source].
func (s *Store) UseReports(f func(name string) (serial uint64, closed, renamed, opened bool)) {
	s.spool.UseReports(f)
}

// Follow is Reload for all symbolic links in the directory. What they lead to
// may change without a report.
func (src *Source) Follow() (again []string, err error) {
	names := src.links.list()
	if len(names) == 0 {
		return nil, nil
	}
	return src.Reload(names...)
}

// Follow is that of the spool as a [Source].
func (s *Store) Follow() (again []string, err error) { return s.spool.Follow() }

// linkSet holds the names of the symbolic links in a directory. It is safe for
// concurrent use.
type linkSet struct {
	some atomic.Bool // there may be one
	mu   sync.Mutex  // guards names
	name map[string]struct{}
}

// note notes whether a name is that of a link.
func (l *linkSet) note(name string, isLink bool) {
	if !isLink && !l.some.Load() {
		return // as in nearly every directory
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !isLink {
		delete(l.name, name)
		l.some.Store(len(l.name) > 0)
		return
	}
	if l.name == nil {
		l.name = make(map[string]struct{})
	}
	l.name[name] = struct{}{}
	l.some.Store(true)
}

// list returns the names in order.
func (l *linkSet) list() []string {
	if !l.some.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.name))
	for name := range l.name {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

package filestore

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// Options of a Store. The zero value of a field means its default.
type Options struct {
	// Own describes the metric families that the program serves itself, by
	// name. Files cannot displace them.
	Own map[string]merge.Own
	// EmptyInstance spells out instance="" in pushed samples without an
	// instance, as Pushgateway does.
	EmptyInstance bool
	// Unchecked accepts pushes that contradict other files; what is later in
	// the order of the merge is then left out of it.
	Unchecked bool
	// MaxFileBytes is the size up to which files are read; default 16 MiB.
	MaxFileBytes int64
	// MaxGroups bounds the number of pushed groups; zero means no limit.
	MaxGroups int
	// MaxBytes bounds the size of the files of pushed groups, all together; zero
	// means no limit.
	MaxBytes int64
	// MaxFailedGroups bounds the number of groups that are there only because
	// pushes to them were refused; default 1000, negative for none.
	// Beyond it a refused push to an unknown group leaves no trace.
	MaxFailedGroups int
	// Only, if not nil, are the names of the files in the directory that are
	// looked at, whatever else is there: for a program that changes one group and
	// cannot wait until ten thousand are read. What is not looked at is not
	// compared with what is written, so that has to be such that it cannot
	// contradict others; families that the group has already keep their HELP
	// texts, which are those of the spool.
	Only []string
	// NoSweep leaves what killed processes left of their commits to others, and
	// does not make the lock before it is needed.
	NoSweep bool
	// Settle is how long a dropped file has to rest before a change of it is
	// read; zero means not at all.
	Settle time.Duration
	// Hold is how long the last good content of a file stands after the file
	// turned bad or empty; default 1 s.
	Hold time.Duration
	// Lifetimes say what becomes of files with age.
	Lifetimes record.Lifetimes
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// A Store is a directory and the current View of it. It is safe for concurrent
// use, also by several processes on one directory.
type Store struct {
	path string
	opts Options

	groups keyedMutex // held by the writer of a group from its reading to its rename

	queue     commitQueue    // of commits whose files are ready
	exclusion disk.Exclusion // of those that change files; its comment has the order of the locks

	// mu guards merge, due and sources, and the moment of a commit. It is taken last,
	// and never held while anything is flushed or read, or another process is waited for.
	mu    sync.Mutex
	merge *merge.Merger
	help  *merge.HelpState // of the merge
	due   due

	misfits helpQueue // of AlignHelp

	spool     *Source
	sources   []*Source // the others; guarded by mu
	unsettled []string
	clock     *steadyClock
	pruned    time.Time // when the archive was looked through last; of the one who ages
	view      atomic.Pointer[merge.View]

	reader    reader
	probeMu   sync.Mutex
	probedAt  time.Time
	probeErr  error
	refusal   atomic.Pointer[quotaRefusal] // nil unless the last write was refused for a quota
	observers Observers
	refusals  refusals
}

// Observers are told how long the steps of a commit took, in seconds. They are
// called from many goroutines; nil ones are skipped.
type Observers struct {
	Flush  func(seconds float64) // one flush of a file
	Commit func(seconds float64) // a whole commit, from the temporary file to the flushed directory
}

// Observe sets the observers. It must be called before the first commit.
func (s *Store) Observe(o Observers) { s.observers = o }

// Open reads the whole directory; a returned Store is ready. It removes what
// killed processes left of their commits. opts may be nil.
func Open(dir string, opts *Options) (*Store, error) {
	s := &Store{path: dir, exclusion: disk.NewExclusion()}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.MaxFileBytes <= 0 {
		s.opts.MaxFileBytes = 16 << 20
	}
	if s.opts.MaxFailedGroups == 0 {
		s.opts.MaxFailedGroups = 1000
	}
	if s.opts.Hold == 0 {
		s.opts.Hold = time.Second
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	s.clock, s.due, s.misfits = newSteadyClock(s.opts.Now), newDue(), newHelpQueue()
	s.reader = reader{opts: &s.opts, clock: s.clock, waiting: make(map[string]*wait)}
	s.merge = merge.New(s.opts.Own)
	s.help = s.merge.Signals()
	s.view.Store(s.merge.View())
	s.spool = &Source{store: s, path: dir}
	var err error
	if s.unsettled, err = s.spool.reopen(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Unsettled returns the names of the files that Open could not settle because a
// writer was at work on them: they have to be asked for again, see
// [Source.Reload].
func (s *Store) Unsettled() []string { return s.unsettled }

// AddSource makes the files of a directory part of the merge, which are only
// read; their names in the view are paths. It does not load them yet: that
// takes a Rescan of the Source. The directory need not be there.
func (s *Store) AddSource(dir string) *Source {
	src := &Source{store: s, path: dir, prefix: filepath.Clean(dir) + string(filepath.Separator)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, src)
	return src
}

// RemoveSource takes the files of a directory out of the merge for good. The
// Source must not be used after that.
func (s *Store) RemoveSource(src *Source) {
	s.mu.Lock()
	src.removed = true
	d := src.dir.Swap(nil)
	s.sources = slices.DeleteFunc(slices.Clone(s.sources), func(x *Source) bool { return x == src })
	src.setFailure(nil)
	s.publish(src.removeAll())
	s.mu.Unlock()
	d.Retire()
	s.reader.forget(func(key string) bool {
		base, ok := strings.CutPrefix(key, src.prefix)
		return ok && !strings.ContainsRune(base, filepath.Separator)
	})
}

// Reload is that of the spool as a [Source].
func (s *Store) Reload(names ...string) (again []string, err error) { return s.spool.Reload(names...) }

// Rescan is that of the spool as a [Source].
func (s *Store) Rescan() (again []string, err error) { return s.spool.Rescan() }

// Close gives back what the Store holds of the operating system. Views stay
// valid.
func (s *Store) Close() error {
	s.spool.dir.Load().Retire()
	return nil
}

// Path returns the path that the Store was opened with.
func (s *Store) Path() string { return s.path }

// View returns the current view. It never blocks.
func (s *Store) View() *merge.View { return s.view.Load() }

// Health reports whether the directory can be read and written, by writing. It
// asks the disk at most once a second. After a change that was refused for a quota it
// says so until a write succeeds: another change or, half a minute later, one of the
// same size by Health itself.
func (s *Store) Health() error {
	s.probeMu.Lock()
	defer s.probeMu.Unlock()
	if now := time.Now(); s.probedAt.IsZero() || now.Sub(s.probedAt) >= time.Second {
		s.probedAt = now
		s.probeErr = disk.Wrap("writing to the spool "+s.path, s.probe(0))
	}
	if s.probeErr != nil {
		return s.probeErr
	}
	return disk.Wrap("writing to the spool "+s.path, s.overQuota())
}

// probe writes a file of that size, or of a page if that is more, and deletes it.
func (s *Store) probe(size int64) error {
	d, err := s.spool.inUse()
	if err != nil {
		return err
	}
	defer d.Release()
	return d.Probe(size)
}

// publish brings merge and view up to date. The lock of the Store is held.
func (s *Store) publish(updates []merge.Update) {
	s.merge.Apply(updates)
	s.noteAll(updates)
	s.view.Store(s.merge.View())
}

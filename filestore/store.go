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
	// Own describes the metric families of the agent itself, by name. They have
	// priority over files.
	Own map[string]merge.Own
	// EmptyInstance adds instance="" to pushed samples without an instance, as
	// Pushgateway does.
	EmptyInstance bool
	// Unchecked accepts pushes that conflict with other files. The merge then
	// drops the later series.
	Unchecked bool
	// MaxFileBytes is the maximum size of a file; default 16 MiB.
	MaxFileBytes int64
	// MaxGroups is the maximum number of pushed groups; zero means no limit.
	MaxGroups int
	// MaxBytes is the maximum total size of the files of pushed groups; zero
	// means no limit.
	MaxBytes int64
	// MaxFailedGroups is the maximum number of groups with only rejected pushes;
	// default 1000, negative for none. Beyond it a rejected push to an unknown
	// group is not recorded.
	MaxFailedGroups int
	// Only, if not nil, lists the only files that are read. It is for a program
	// that changes one group and cannot wait until all are read. Its metrics must
	// not conflict with other files, because that is not checked. Families that
	// the group already has keep their HELP texts.
	Only []string
	// NoSweep keeps temporary files of killed processes, and creates the lock
	// only when it is needed.
	NoSweep bool
	// Settle is how long a dropped file must be unchanged before it is read;
	// zero means no wait.
	Settle time.Duration
	// Hold is how long the last good content of a file is served after the file
	// became invalid or empty; default 1 s.
	Hold time.Duration
	// Lifetimes configure when files expire and are archived and deleted.
	Lifetimes record.Lifetimes
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// A Store is a directory and the current View of it. It is safe for concurrent
// use, also by several processes on one directory.
type Store struct {
	path string
	opts Options

	groups keyedMutex // locked for a group from its reading to its rename

	queue     commitQueue    // of commits whose files are ready
	exclusion disk.Exclusion // among changes of files; its comment has the order of the locks

	// mu guards merge, due and sources, and serializes renames and views. It is taken
	// last, and never held during a sync, a read of a file or a wait for another process.
	mu    sync.Mutex
	merge *merge.Merger
	help  *merge.HelpState // of the merge
	due   due

	misfits helpQueue // of AlignHelp

	spool     *Source
	sources   []*Source // the others; guarded by mu
	unsettled []string
	clock     *lifetimeClock
	pruned    time.Time // when the archive was last pruned; used by RunExpiry only
	view      atomic.Pointer[merge.View]

	reader    reader
	probeMu   sync.Mutex
	probedAt  time.Time
	probeErr  error
	refusal   atomic.Pointer[quotaRefusal] // nil unless the last write failed with EDQUOT
	observers Observers
	refusals  refusals
}

// Observers receive the durations of the steps of a commit in seconds. They must be safe
// for concurrent use; nil ones are skipped.
type Observers struct {
	Flush  func(seconds float64) // fsync of a file
	Commit func(seconds float64) // a whole commit, from the temporary file to the fsync of the directory
}

// Observe sets the observers. It must be called before the first commit.
func (s *Store) Observe(o Observers) { s.observers = o }

// Open reads the whole directory and returns a Store that is ready for use. It deletes
// temporary files of killed processes. opts may be nil.
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
	s.clock, s.due, s.misfits = newLifetimeClock(s.opts.Now), newDue(), newHelpQueue()
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

// Unsettled returns the names of the files that Open could not read because they were
// being written. The caller must retry them with [Source.Reload].
func (s *Store) Unsettled() []string { return s.unsettled }

// AddSource adds a directory whose files are merged and never written. Their names in
// the view are paths. The directory need not exist, and is loaded by a Rescan of the
// Source.
func (s *Store) AddSource(dir string) *Source {
	src := &Source{store: s, path: dir, prefix: filepath.Clean(dir) + string(filepath.Separator)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, src)
	return src
}

// RemoveSource removes the files of a directory from the merge. The Source must not be
// used afterwards.
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

// Reload calls [Source.Reload] for the spool.
func (s *Store) Reload(names ...string) (again []string, err error) { return s.spool.Reload(names...) }

// Rescan calls [Source.Rescan] for the spool.
func (s *Store) Rescan() (again []string, err error) { return s.spool.Rescan() }

// Close closes the directory and the lock. Views stay valid.
func (s *Store) Close() error {
	s.spool.dir.Load().Retire()
	return nil
}

// Path returns the path that the Store was opened with.
func (s *Store) Path() string { return s.path }

// View returns the current view. It never blocks.
func (s *Store) View() *merge.View { return s.view.Load() }

// Health checks by a write that the directory is usable, at most once a second. After
// a write that failed with EDQUOT it returns that error until one succeeds: another
// change or, half a minute later, one of the same size by Health itself.
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

// probe writes a file of that size, at least a page, and deletes it.
func (s *Store) probe(size int64) error {
	d, err := s.spool.inUse()
	if err != nil {
		return err
	}
	defer d.Release()
	return d.Probe(size)
}

// publish applies updates to the merge and publishes the view. The caller holds mu.
func (s *Store) publish(updates []merge.Update) {
	s.merge.Apply(updates)
	s.noteAll(updates)
	s.view.Store(s.merge.View())
}

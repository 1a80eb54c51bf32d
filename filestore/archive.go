package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// The archive is a directory for files that expired some time ago. Their names get the
// time of the move as a suffix:
//
//	job=backup.prom.20261120T134000Z
//
// So other programs do not read them as metrics, and a group can be there several
// times.

// ArchiveName is the default name of the archive in the spool.
const ArchiveName = ".archive"

const archiveStamp = "20060102T150405Z"

var archived = regexp.MustCompile(`^(.+\.prom)\.(\d{8}T\d{6}Z)$`)

// archiveOf returns the name of a file and the time of its move, given its name in the
// archive.
func archiveOf(name string) (file string, at time.Time, ok bool) {
	m := archived.FindStringSubmatch(name)
	if m == nil {
		return "", time.Time{}, false
	}
	at, err := time.Parse(archiveStamp, m[2])
	return m[1], at, err == nil
}

// ArchivePath returns the path of the archive.
func (s *Store) ArchivePath() string {
	if s.opts.Lifetimes.Archive != "" {
		return s.opts.Lifetimes.Archive
	}
	return filepath.Join(s.path, ArchiveName)
}

// archive opens the archive of an acquired spool, and creates it if create is set. An
// archive in the spool must not be a link: users who may write the spool could
// redirect moves and deletions elsewhere. If all users may write the spool, the
// archive must also have a trusted owner.
func (s *Store) archive(d *disk.Dir, create bool) (*os.File, error) {
	path := s.ArchivePath()
	var dir *os.File
	var err error
	if s.opts.Lifetimes.Archive != "" {
		if create {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return nil, err
			}
		}
		dir, err = os.Open(path)
	} else {
		if create {
			if err := d.Root.Mkdir(ArchiveName, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		dir, err = d.OpenPlain(ArchiveName)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			err = fmt.Errorf("%s is a link or not a directory: delete it, or set --spool.archive-directory to another one", path)
		}
	}
	if err != nil {
		return nil, err
	}
	var here, there unix.Stat_t
	if err = unix.Fstat(int(d.File.Fd()), &here); err == nil {
		err = unix.Fstat(int(dir.Fd()), &there)
	}
	if err == nil && (here.Dev != there.Dev || here.Ino == there.Ino) {
		err = fmt.Errorf("%s must be another directory on the file system of the spool", path)
	}
	if err == nil && s.opts.Lifetimes.Archive == "" && !d.Trusts(there.Uid) {
		err = fmt.Errorf("%s is owned by user %d, and all users may write the spool: delete it", path, there.Uid)
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// archiveDue moves some files that are due to the archive.
func (s *Store) archiveDue(ctx context.Context, now time.Time, report func(ExpiryEvent)) int {
	s.mu.Lock()
	ids := s.due.archivesAt.take(now, sweepWrite)
	s.mu.Unlock()
	if len(ids) == 0 {
		return 0
	}
	d, err := s.spool.inUse()
	var to *os.File
	if err == nil {
		used := true
		defer func() {
			if used {
				d.Release()
			}
		}()
		if to, err = s.archive(d, true); err == nil {
			defer to.Close() //nolint:errcheck // only flushed
			moved := s.archiveAll(ctx, d, to, ids, now, report)
			used = false // its sync releases it
			s.syncArchived(d, to, moved, report)
			return len(moved)
		}
	}
	s.moveLater(ids, now)
	report(ExpiryEvent{Stage: Archived, Err: disk.Wrap("opening the archive", err)})
	return 0
}

// archiveAll moves the files that are due and returns those that it has moved.
func (s *Store) archiveAll(ctx context.Context, d *disk.Dir, to *os.File, ids []*record.ID, now time.Time, report func(ExpiryEvent)) (moved []ExpiryEvent) {
	since := time.Now()
	for i, id := range ids {
		if ctx.Err() != nil {
			s.moveLater(ids[i:], now)
			break
		}
		a, err := s.archiveOne(d, to, id, now, since)
		switch {
		case errors.Is(err, ErrBusy): // the others would wait, or fail, for the same reason
			s.moveLater(ids[i:], now)
			report(ExpiryEvent{Stage: Archived, File: id.Name, Err: disk.Wrap("moving "+id.Name+" to the archive", err)})
			return moved
		case err != nil:
			s.moveLater(ids[i:i+1], now)
			report(ExpiryEvent{Stage: Archived, File: id.Name, Err: disk.Wrap("moving "+id.Name+" to the archive", err)})
		case a.File != "":
			moved = append(moved, a)
		}
	}
	return moved
}

// syncArchived makes the moves durable and releases the directory.
func (s *Store) syncArchived(d *disk.Dir, to *os.File, moved []ExpiryEvent, report func(ExpiryEvent)) {
	// The archive first, so that after a crash a file may exist twice but is not lost.
	err := to.Sync()
	if flush := s.syncDirectory(pendingSync{d: d}); err == nil {
		err = flush
	}
	for _, a := range moved {
		a.Err = disk.Wrap("moving "+a.File+" to the archive", err)
		report(a)
	}
}

// moveLater schedules the next attempt to move files.
func (s *Store) moveLater(ids []*record.ID, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if f := s.merge.ByID(id); f != nil {
			if _, ok := s.opts.Lifetimes.ArchivesAt(f); ok {
				s.due.archivesAt.set(f.ID(), now.Add(sweepRetry))
			}
		}
	}
}

// archiveOne moves one file if it is still due.
func (s *Store) archiveOne(d *disk.Dir, to *os.File, id *record.ID, now, began time.Time) (a ExpiryEvent, err error) {
	defer s.groups.lock(id.Name)()
	h, err := s.exclusion.Exclude(d, began)
	if err != nil {
		return a, err
	}
	defer h.Release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.CheckPath() != nil {
		return a, disk.ErrReplaced
	}
	f := s.merge.ByID(id)
	if f == nil {
		return a, nil
	}
	since, ok := s.opts.Lifetimes.ArchivesAt(f)
	if !ok || since.After(now) {
		return a, nil // pushed to meanwhile
	}
	if at, _, err := statIn(d, id.Name); err != nil || record.WithoutYoung(at) != record.WithoutYoung(f.Stamp()) {
		return a, nil // changed, and about to be read
	}
	at := now.UTC().Truncate(time.Second)
	target := id.Name + "." + at.Format(archiveStamp)
	var st unix.Stat_t
	for unix.Fstatat(int(to.Fd()), target, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		at = at.Add(time.Second)
		target = id.Name + "." + at.Format(archiveStamp)
	}
	if err := unix.Renameat(int(d.File.Fd()), id.Name, int(to.Fd()), target); err != nil {
		return a, err
	}
	if err := unix.Fstatat(int(to.Fd()), target, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && f.Stamp().Link == 0 && stampOf(&st).Ino != f.Stamp().Ino {
		// The file was replaced before the rename. The new one goes back, unless its name is taken again.
		if unix.Linkat(int(to.Fd()), target, int(d.File.Fd()), id.Name, 0) == nil {
			_ = unix.Unlinkat(int(to.Fd()), target, 0)
		}
		return a, nil
	}
	s.publish([]merge.Update{{Old: f, OldParts: s.View().Parts(f)}})
	return ExpiryEvent{Stage: Archived, File: id.Name, Group: f.Group(), Since: since}, nil
}

// pruneArchive deletes files from the archive after its retention, at most once every
// pruneEvery.
func (s *Store) pruneArchive(now time.Time, report func(ExpiryEvent)) {
	keep := s.opts.Lifetimes.ArchiveRetention
	if keep <= 0 || !s.pruned.IsZero() && now.Sub(s.pruned).Abs() < pruneEvery {
		return
	}
	s.pruned = now
	d, err := s.spool.inUse()
	if err != nil {
		return // reported elsewhere
	}
	defer d.Release()
	dir, err := s.archive(d, false)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			report(ExpiryEvent{Stage: Removed, Err: disk.Wrap("opening the archive", err)})
		}
		return
	}
	defer dir.Close() //nolint:errcheck // only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		report(ExpiryEvent{Stage: Removed, Err: disk.Wrap("listing the archive", err)})
		return
	}
	for _, name := range names {
		_, at, ok := archiveOf(name)
		if since := at.Add(keep); ok && !since.After(now) {
			err := unix.Unlinkat(int(dir.Fd()), name, 0)
			report(ExpiryEvent{Stage: Removed, File: name, Since: since, Err: disk.Wrap("removing "+name+" from the archive", err)})
		}
	}
}

// Archive lists the archive: the names of its files, the latest first for each
// file of the spool.
func (s *Store) Archive() ([]ExpiryEvent, error) {
	d, err := s.spool.inUse()
	if err != nil {
		return nil, disk.Wrap("listing the archive", err)
	}
	defer d.Release()
	dir, err := s.archive(d, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, disk.Wrap("opening the archive", err)
	}
	defer dir.Close() //nolint:errcheck // only read
	list, err := listArchive(dir)
	return list, disk.Wrap("listing the archive", err)
}

func listArchive(dir *os.File) ([]ExpiryEvent, error) {
	names, err := dir.Readdirnames(-1)
	var list []ExpiryEvent
	for _, name := range names {
		if file, at, ok := archiveOf(name); ok {
			list = append(list, ExpiryEvent{Stage: Archived, File: file, Since: at})
		}
	}
	slices.SortStableFunc(list, func(a, b ExpiryEvent) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return b.Since.Compare(a.Since)
	})
	return list, err
}

// RestoreArchived moves the file of that name that was archived last back to the
// spool. A group keeps its push times and does not expire again until its next push.
// The mtime of a dropped file becomes the current time. If the spool has a file of
// that name the error wraps fs.ErrExist. If the archive has none it wraps
// fs.ErrNotExist. If the file conflicts with another one the error is a *Conflict.
func (s *Store) RestoreArchived(name string) error {
	err := s.restoreArchived(name)
	var conflict *record.Conflict
	if errors.As(err, &conflict) {
		return err
	}
	return disk.Wrap("restoring "+name+" from the archive", err)
}

func (s *Store) restoreArchived(name string) error {
	d, err := s.spool.inUse()
	if err != nil {
		return err
	}
	defer d.Release()
	dir, err := s.archive(d, false)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read
	list, err := listArchive(dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(a ExpiryEvent) bool { return a.File == name })
	if i < 0 {
		return fmt.Errorf("it is not there: %w", fs.ErrNotExist)
	}
	from := name + "." + list[i].Since.Format(archiveStamp)
	data, err := s.archivedText(dir, from)
	if err != nil {
		return err
	}
	c := record.Parse(name, data)
	unlock := s.groups.lock(name)
	defer unlock()
	if c.File.Group().IsZero() {
		return s.restoreDropped(d, dir, name, from)
	}
	at, err := s.commit(c.File.Group(), true, func(old *record.Content) (*record.Content, error) {
		if old != nil {
			return nil, fmt.Errorf("the group is in the spool again: %w", fs.ErrExist)
		}
		return record.Revive(c)
	})
	if err == nil {
		err = s.syncDirectory(at)
	}
	if err == nil {
		err = unix.Unlinkat(int(dir.Fd()), from, 0)
	}
	return err
}

// archivedText reads a file of the archive. For a link it returns nil: the spool
// decides whether to follow it.
func (s *Store) archivedText(dir *os.File, name string) ([]byte, error) {
	at := int(dir.Fd())
	var seen unix.Stat_t
	if err := unix.Fstatat(at, name, &seen, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if seen.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, nil
	}
	w := disk.Walk{At: at}
	fd, st, err := w.Open(name, &seen)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if st.Size > s.opts.MaxFileBytes {
		return nil, fmt.Errorf("larger than --spool.max-file-bytes=%d", s.opts.MaxFileBytes)
	}
	return readAll(fd, int(st.Size))
}

func (s *Store) restoreDropped(d *disk.Dir, dir *os.File, name, from string) error {
	at, now := int(dir.Fd()), unix.NsecToTimespec(s.opts.Now().UnixNano())
	if err := unix.UtimesNanoAt(at, from, []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Linkat(at, from, int(d.File.Fd()), name, 0); err != nil { // fails if the name exists
		return err
	}
	in, err := s.spool.inUse()
	if err != nil {
		return err
	}
	if err := s.syncDirectory(pendingSync{d: in}); err != nil {
		return err
	}
	if err := unix.Unlinkat(at, from, 0); err != nil {
		return err
	}
	_, err = s.Reload(name)
	return err
}

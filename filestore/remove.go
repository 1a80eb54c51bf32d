package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// Delete deletes the group. A missing group is not an error, and a dropped file with its
// name is kept. It is an error if the name is that of a directory, a link to a file
// without the group, or a special file.
func (s *Store) Delete(g grouping.Key) error { return s.DeleteAs(g, nil) }

// Wipe deletes every pushed group and no dropped file.
func (s *Store) Wipe() error {
	_, err := s.remove(func() []string { return pickedNames(s.View(), wasPushed) }, wasPushed)
	return disk.Wrap("wiping the spool", err)
}

// Remove deletes the files of the spool for which pick returns true, pushed or dropped,
// and returns them in the order of the View. The returned files are deleted durably,
// also with an error, unless that is [ErrInDoubt]. After a crash each file exists or
// not. pick is called again for a file that has changed meanwhile, so a group with a
// new push is not deleted for its old age.
//
// pick is called under locks, and must not call the Store. Files are deleted some
// hundreds at a time, and other commits run in between.
func (s *Store) Remove(pick func(*record.File) bool) ([]*record.File, error) {
	removed, err := s.remove(func() []string { return pickedNames(s.View(), pick) }, pick)
	return removed, disk.Wrap("removing files from the spool", err)
}

func wasPushed(f *record.File) bool { return !f.Group().IsZero() }

// pickedNames lists the files of the spool that are picked.
func pickedNames(v *merge.View, pick func(*record.File) bool) []string {
	var names []string
	for f := range v.Files() {
		if f.ID().Kind != record.OtherKind && pick(f) {
			names = append(names, f.Name())
		}
	}
	return names
}

// removeAtOnce is how many files are deleted under one lock, in one view. It is a
// compromise between the cost of a view and the wait of pushes.
const removeAtOnce = 256

// remove deletes files by name if pick returns true, and makes that durable. If the
// spool directory is replaced meanwhile, it starts again in the new one, with the
// result of another call of names.
func (s *Store) remove(names func() []string, pick func(*record.File) bool) (removed []*record.File, err error) {
	since := time.Now()
	err = s.inSpool(nil, func(d *disk.Dir) error {
		gone, err := s.removeIn(d, names, since, pick)
		if len(removed) > 0 && len(gone) > 0 { // the new directory may have had the same files
			names := make(map[string]bool, len(gone))
			for _, f := range gone {
				names[f.Name()] = true
			}
			removed = slices.DeleteFunc(removed, func(f *record.File) bool { return names[f.Name()] })
		}
		removed = append(removed, gone...)
		return err
	})
	return removed, err
}

// removeIn is remove in one acquired directory, which it releases.
func (s *Store) removeIn(d *disk.Dir, names func() []string, since time.Time, pick func(*record.File) bool) (removed []*record.File, err error) {
	used := true
	defer func() {
		if used {
			d.Release()
		}
	}()
	if d.CheckPath() != nil {
		return nil, disk.ErrReplaced
	}
	for left := names(); len(left) > 0 && err == nil; {
		batch := left[:min(len(left), removeAtOnce)]
		left = left[len(batch):]
		var gone []*record.File
		gone, err = s.removeBatch(d, batch, since, pick)
		removed = append(removed, gone...)
	}
	if len(removed) == 0 {
		if err == nil {
			err = d.VerifyWritable()
		}
		if err != nil {
			return nil, err
		}
	}
	// Also if nothing was deleted: another change may have deleted the file and not
	// synced yet.
	used = false
	isReplaced := errors.Is(err, disk.ErrReplaced) && d.CheckPath() != nil // then the sync of this one does not matter
	if syncErr := s.syncDirectory(pendingSync{d: d}); syncErr != nil && !isReplaced {
		return removed, syncErr
	}
	return removed, err
}

// removeBatch deletes some files. It stops at the first error, which usually concerns
// the whole directory.
func (s *Store) removeBatch(d *disk.Dir, names []string, since time.Time, pick func(*record.File) bool) (removed []*record.File, err error) {
	for attempt := range 100 {
		if attempt > 3 {
			time.Sleep(time.Duration(min(attempt, 20)) * time.Millisecond) // wait for other writers
		}
		if _, err := s.Reload(names...); err != nil { // another process may have made or changed them
			return removed, err
		}
		gone, again, err := s.tryRemove(d, names, since, pick)
		if removed = append(removed, gone...); err != nil || len(again) == 0 {
			return removed, err
		}
		names = again
	}
	return removed, contendedError(fmt.Sprintf("the file %q changes too often: another process writes to it continuously", names[0]))
}

// tryRemove deletes the files that have not changed since the view, and returns the
// names of the others.
func (s *Store) tryRemove(d *disk.Dir, names []string, since time.Time, pick func(*record.File) bool) (removed []*record.File, again []string, err error) {
	v := s.View()
	before := v.Contents()
	for _, name := range names {
		before.Read(v.File(name))
	}
	h, err := s.exclusion.Exclude(d, since)
	if err != nil {
		return nil, nil, err
	}
	defer h.Release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.CheckPath() != nil || s.spool.dir.Load() != d {
		return nil, nil, disk.ErrReplaced
	}
	var updates []merge.Update
	defer func() {
		if len(updates) > 0 {
			s.publish(updates)
		}
	}()
	for _, name := range names {
		old := s.merge.File(name)
		if old == nil || !pick(old) {
			continue
		}
		at, entry, err := statIn(d, name)
		switch {
		case errors.Is(err, unix.ENOENT), err == nil && record.WithoutYoung(at) != record.WithoutYoung(old.Stamp()):
			again = append(again, name)
			continue
		case err != nil && old.Fault() == nil: // the fault of other files is known
			return removed, nil, fmt.Errorf("looking at %q: %w", record.PrintableName(name), err)
		}
		// Unlinkat, because os.Root would delete an empty directory as well.
		if err := unix.Unlinkat(int(d.File.Fd()), name, 0); errors.Is(err, unix.ENOENT) {
			again = append(again, name)
			continue
		} else if err != nil && entry != nil && entry.Mode&unix.S_IFMT == unix.S_IFDIR {
			return removed, nil, fmt.Errorf("%q is a directory: delete it with rmdir or rm -r", record.PrintableName(name))
		} else if err != nil {
			return removed, nil, fmt.Errorf("removing %q: %w", record.PrintableName(name), err)
		}
		removed = append(removed, old)
		updates = append(updates, merge.Update{Old: old, OldParts: before.Of(old, s.View())})
	}
	return removed, again, nil
}

// DeleteAs is Delete for a writer. Its error may wrap ErrNotOwner.
func (s *Store) DeleteAs(g grouping.Key, w *record.Writer) error {
	var refused error
	name := []string{g.FileName()}
	removed, err := s.remove(func() []string { return name }, func(f *record.File) bool {
		if !wasPushed(f) {
			return false
		}
		refused = w.MayChange(f)
		return refused == nil
	})
	if err == nil {
		err = refused
	}
	if err == nil && len(removed) == 0 {
		err = s.NotRegular(g.FileName())
	}
	return disk.Wrap("deleting group "+g.String(), err)
}

// directoryInPlace returns an error if a directory has the name of the group's file. It
// keeps the group from being stored.
func (s *Store) directoryInPlace(g grouping.Key) error {
	if f := s.fileOf(g); f == nil || f.Err() == nil { // the usual case, without the file system
		return nil
	}
	if mode, ok := s.modeOf(g.FileName()); !ok || !mode.IsDir() {
		return nil
	}
	return disk.DirectoryError(g.FileName())
}

// NotRegular returns an error if a name in the spool is that of a directory, a link or
// a special file, which deletions of groups do not touch.
func (s *Store) NotRegular(name string) error {
	if s.View().File(name) == nil { // the usual case, without the file system
		return nil
	}
	mode, ok := s.modeOf(name)
	kind := "special file"
	switch {
	case !ok || mode.IsRegular():
		return nil
	case mode.IsDir():
		return disk.DirectoryError(record.PrintableName(name))
	case mode&fs.ModeSymlink != 0:
		kind = "link"
	case mode&fs.ModeNamedPipe != 0:
		kind = "named pipe"
	}
	return fmt.Errorf("%q is a %s: delete it", record.PrintableName(name), kind)
}

// modeOf returns the mode of an entry of the spool. ok is false if there is none.
func (s *Store) modeOf(name string) (mode fs.FileMode, ok bool) {
	d, err := s.spool.inUse()
	if err != nil {
		return 0, false // reported by the change itself
	}
	defer d.Release()
	fi, err := d.Root.Lstat(name)
	if err != nil {
		return 0, false
	}
	return fi.Mode(), true
}

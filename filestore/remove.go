package filestore

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// Delete removes the group. Deleting what is not there is no error, and a file
// of the group's name that was not pushed is left alone.
func (s *Store) Delete(g grouping.Key) error { return s.DeleteAs(g, nil) }

// Wipe removes every pushed group and no dropped file.
func (s *Store) Wipe() error {
	_, err := s.remove(func() []string { return pickedNames(s.View(), wasPushed) }, wasPushed)
	return disk.Wrap("wiping the spool", err)
}

// Remove removes the files for which pick reports true, pushed or dropped, and
// returns them in the order of the View. What it returns is gone for good, also
// if there is an error beside it, unless the error is [ErrInDoubt]. A file that
// changes meanwhile is asked for again, so that a group which is pushed to in
// this moment is not removed for its age before that. A crash leaves each file
// as it was or removed. Files of other sources than the spool are left alone.
//
// pick is called under locks, more than once for a file, and must not call the
// Store. Files are removed some hundreds at a time, and other commits take their turn
// in between.
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

// removeAtOnce is how many files go under one lock and into one view: enough for
// the view to cost little beside the files, and few enough for no push to wait
// for long.
const removeAtOnce = 256

// remove deletes files by name, if they are still picked, and makes that durable.
// If the spool directory is replaced meanwhile, it starts over in the new one, as a
// push does; names is asked again then.
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

// removeIn is remove in one directory, which is in use. It ends the use.
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
	// Also if nothing was removed here: what is not there may have been removed a
	// moment ago, by a change whose sync is still to come.
	used = false
	elsewhere := errors.Is(err, disk.ErrReplaced) && d.CheckPath() != nil // then it matters no more whether this one is synced
	if syncErr := s.syncDirectory(pendingSync{d: d}); syncErr != nil && !elsewhere {
		return removed, syncErr
	}
	return removed, err
}

// removeBatch deletes some files. It ends at the first error: what is wrong with
// one removal is wrong with the directory.
func (s *Store) removeBatch(d *disk.Dir, names []string, since time.Time, pick func(*record.File) bool) (removed []*record.File, err error) {
	for attempt := range 100 {
		if attempt > 3 {
			time.Sleep(time.Duration(min(attempt, 20)) * time.Millisecond) // whoever writes there may need a moment
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
	return removed, contendedError(fmt.Sprintf("the file %q changes too often: others write to it all the time", names[0]))
}

// tryRemove deletes the files that are as the view has them and returns the
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
		at, _, err := statIn(d, name)
		switch {
		case errors.Is(err, unix.ENOENT), err == nil && record.WithoutYoung(at) != record.WithoutYoung(old.Stamp()):
			again = append(again, name)
			continue
		case err != nil && old.Fault() == nil: // else it cannot be looked at, which is what is known of it
			return removed, nil, fmt.Errorf("looking at %q: %w", record.PrintableName(name), err)
		}
		// Not by the root, which would remove an empty directory as well.
		if err := unix.Unlinkat(int(d.File.Fd()), name, 0); errors.Is(err, unix.ENOENT) {
			again = append(again, name)
			continue
		} else if err != nil {
			return removed, nil, fmt.Errorf("removing %q: %w", record.PrintableName(name), err)
		}
		removed = append(removed, old)
		updates = append(updates, merge.Update{Old: old, OldParts: before.Of(old, s.View())})
	}
	return removed, again, nil
}

// DeleteAs is Delete in the name of a writer. Its error may wrap ErrNotOwner.
func (s *Store) DeleteAs(g grouping.Key, w *record.Writer) error {
	var refused error
	name := []string{g.FileName()}
	_, err := s.remove(func() []string { return name }, func(f *record.File) bool {
		if !wasPushed(f) {
			return false
		}
		refused = w.MayChange(f)
		return refused == nil
	})
	if err == nil {
		err = refused
	}
	return disk.Wrap("deleting group "+g.String(), err)
}

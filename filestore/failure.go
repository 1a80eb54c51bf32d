package filestore

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A DirectoryReason is the class of a [DirectoryError]. The values are stable:
// they are label values of promspool_directory_error.
type DirectoryReason string

// The reasons why a directory cannot be read.
const (
	DirectoryMissing    DirectoryReason = "missing"         // there is nothing of that name (ENOENT)
	DirectoryIsNone     DirectoryReason = "not-a-directory" // it is something else, or a part of its path is (ENOTDIR)
	DirectoryUnreadable DirectoryReason = "unreadable"      // it may not be read, or its path not be walked (EACCES)
	DirectoryFailed     DirectoryReason = "error"           // something else: a shortage of descriptors, the disk
)

// A DirectoryError says why none of the files in a directory can be read.
type DirectoryError struct {
	Directory string
	Reason    DirectoryReason
	Err       error
	Text      string // of Err alone, without paths
}

func (e *DirectoryError) Error() string {
	return fmt.Sprintf("directory %q cannot be read: %s", e.Directory, e.Text)
}

func (e *DirectoryError) Unwrap() error { return e.Err }

// DirectoryErrors returns which directories cannot be read, the spool first, and
// then in the order in which they were added. It must not be changed.
func (v *View) DirectoryErrors() []*DirectoryError { return v.failures }

// failed notes what came of reading the directory; nil if all is well.
func (src *Source) failed(err error) {
	if err == nil && src.failure.Load() == nil {
		return
	}
	s := src.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if !src.removed && src.setFailure(err) {
		s.view.Store(s.merge.view())
	}
}

// setFailure has the next view say why the directory cannot be read, and reports
// whether that is news. The lock of the Store is held.
func (src *Source) setFailure(err error) bool {
	var now *DirectoryError
	if err != nil {
		now = &DirectoryError{Directory: src.path, Reason: DirectoryFailed, Err: err, Text: plainError(err)}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			now.Reason = DirectoryMissing
		case errors.Is(err, unix.ENOTDIR):
			now.Reason = DirectoryIsNone
		case errors.Is(err, fs.ErrPermission):
			now.Reason = DirectoryUnreadable
		}
	}
	before := src.failure.Load()
	if before == nil && now == nil || before != nil && now != nil && before.Error() == now.Error() {
		return false
	}
	src.failure.Store(now)
	s := src.store
	var failures []*DirectoryError // views have the old one
	for _, x := range append([]*Source{s.spool}, s.sources...) {
		if f := x.failure.Load(); f != nil {
			failures = append(failures, f)
		}
	}
	s.merge.setFailures(failures)
	return true
}

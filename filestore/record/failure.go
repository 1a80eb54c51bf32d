package record

import (
	"fmt"
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

// Error returns the sentence about the directory.
func (e *DirectoryError) Error() string {
	return fmt.Sprintf("directory %q cannot be read: %s", e.Directory, e.Text)
}

// Unwrap returns the error of the operating system.
func (e *DirectoryError) Unwrap() error { return e.Err }

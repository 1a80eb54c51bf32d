package record

import (
	"fmt"
)

// A DirectoryReason is the class of a [DirectoryError]. The values are stable:
// they are label values of promspool_directory_error.
type DirectoryReason string

// The reasons why a directory cannot be read.
const (
	DirectoryMissing    DirectoryReason = "missing"         // no such directory (ENOENT)
	DirectoryIsNone     DirectoryReason = "not-a-directory" // the path or a component of it is not a directory (ENOTDIR)
	DirectoryUnreadable DirectoryReason = "unreadable"      // permission denied (EACCES)
	DirectoryFailed     DirectoryReason = "error"           // any other error, such as EMFILE or EIO
)

// A DirectoryError is the error that keeps a directory from being read.
type DirectoryError struct {
	Directory string
	Reason    DirectoryReason
	Err       error
	Text      string // of Err alone, without paths
}

// Error returns the message with the path of the directory.
func (e *DirectoryError) Error() string {
	return fmt.Sprintf("directory %q cannot be read: %s", e.Directory, e.Text)
}

// Unwrap returns the error of the operating system.
func (e *DirectoryError) Unwrap() error { return e.Err }

package record

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// With --push.owner-check a group is owned by the user who created it. The owner is
// stored as an attribute:
//
//	# promspool:owner 1001
//
// If a user wrote the file directly, as promspool push does, the owner of the file
// is the owner of the group, and the attribute is ignored.
const ownerAttribute = "owner"

// A Writer is the user for whom a group is changed. It is immutable.
type Writer struct {
	UID   uint32
	Known bool // UID is valid; false for an anonymous client
	Admin bool // may change every group
}

// ErrNotOwner is wrapped by the error when the Writer may not change the group.
// Nothing was changed.
var ErrNotOwner = errors.New("only its owner, root and administrators may change it")

// Owner returns the user ID of the group's owner, and whether it has one.
func (f *File) Owner() (uid uint32, ok bool) {
	text, ok := f.attrs.get(ownerAttribute)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return math.MaxUint32, true // invalid: owned by no user
	}
	return uint32(n), true
}

// SetFileUID sets the user who wrote the group's file.
func (f *File) SetFileUID(uid uint32) {
	if f.fileUID = uid; uid != 0 && !f.group.IsZero() {
		f.attrs = f.attrs.with(ownerAttribute, strconv.FormatUint(uint64(uid), 10))
	}
}

// MayChange returns an error if the writer may not change the group. f is nil for a
// new group.
func (w *Writer) MayChange(f *File) error {
	if w == nil || w.Admin || f == nil {
		return nil
	}
	uid, owned := f.Owner()
	if !owned || w.Known && uid == w.UID {
		return nil
	}
	return fmt.Errorf("the group belongs to user %d: %w", uid, ErrNotOwner)
}

// MayReplace returns an error if the writer may not replace a file that has the name
// of a group but is not one. Such a file has no known owner.
func (w *Writer) MayReplace(f *File) error {
	if w == nil || w.Admin || f == nil {
		return nil
	}
	return fmt.Errorf("the file %q of the group was not written by promspool, or is broken, so its owner is unknown: %w", f.Name(), ErrNotOwner)
}

// claim returns the attributes of a group after a push, with the writer as owner if
// there was none.
func (w *Writer) claim(a Attributes) Attributes {
	if _, owned := a.get(ownerAttribute); owned || w == nil || !w.Known {
		return a
	}
	return a.with(ownerAttribute, strconv.FormatUint(uint64(w.UID), 10))
}

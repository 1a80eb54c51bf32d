package record

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Where groups have owners, the owner is the user who created the group. He is an
// attribute of its file:
//
//	# promspool:owner 1001
//
// A user who has written the file himself, as the command push does, owns it
// whatever it says.
const ownerAttribute = "owner"

// A Writer is in whose name a group is changed. It is immutable.
type Writer struct {
	UID   uint32
	Known bool // that it is UID; otherwise it is nobody in particular
	Admin bool // who may change every group
}

// ErrNotOwner is what an error wraps when a group may not be changed in the name
// of that Writer. Nothing was changed.
var ErrNotOwner = errors.New("only its owner, root and administrators may change it")

// Owner returns the user who owns the group, and whether somebody does.
func (f *File) Owner() (uid uint32, ok bool) {
	text, ok := f.attrs.get(ownerAttribute)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return math.MaxUint32, true // which is nobody
	}
	return uint32(n), true
}

// Wrote takes note of the author of a group's file.
func (f *File) Wrote(author uint32) {
	if f.author = author; author != 0 && !f.group.IsZero() {
		f.attrs = f.attrs.with(ownerAttribute, strconv.FormatUint(uint64(author), 10))
	}
}

// MayChange is about a group, nil for one that is new.
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

// MayReplace is about a file that has the name of a group and is none, so that
// nobody knows whose it is.
func (w *Writer) MayReplace(f *File) error {
	if w == nil || w.Admin || f == nil {
		return nil
	}
	return fmt.Errorf("the file %q of the group was put there by somebody else, or is broken, and whose it is is not known: %w", f.Name(), ErrNotOwner)
}

// claim returns the attributes of a group after a push: one that has no owner gets
// one.
func (w *Writer) claim(a Attributes) Attributes {
	if _, owned := a.get(ownerAttribute); owned || w == nil || !w.Known {
		return a
	}
	return a.with(ownerAttribute, strconv.FormatUint(uint64(w.UID), 10))
}

package record

import (
	"time"

	"github.com/promspool/promspool/filestore/grouping"
)

// A Selection picks pushed groups. Its methods are safe for concurrent use.
type Selection struct {
	Match     []grouping.Matchers // a group meets all of one of these, or has one of Names
	Names     map[string]bool     // of files, as in PrintableName
	OlderThan time.Duration       // if positive, a group is at least that old: see File.Age
	Now       time.Time           // from when the age counts back
}

// Has reports whether the file is a group of the selection. Without Match and Names
// every group is, but never a dropped file.
func (sel *Selection) Has(f *File) bool {
	if f.group.IsZero() || sel.OlderThan > 0 && f.Age(sel.Now) < sel.OlderThan {
		return false
	}
	for _, ms := range sel.Match {
		if ms.Match(f.group) {
			return true
		}
	}
	return sel.Match == nil && sel.Names == nil || len(sel.Names) > 0 && sel.Names[PrintableName(f.Name())]
}

// Age returns how long ago the file was given what it holds. For a group that
// is the last push that was accepted, or if none ever was, the last that was
// refused; for a dropped file it is the last modification. It is negative if
// the clock says that this is still to come, and zero if no time is known.
func (f *File) Age(now time.Time) time.Duration {
	at := f.mtime
	if push := f.LastPush(); !push.IsZero() {
		at = push
	} else if failure := f.LastFailure(); !failure.IsZero() {
		at = failure
	}
	if at.IsZero() {
		return 0
	}
	return now.Sub(at)
}

package record

import (
	"time"

	"github.com/promspool/promspool/filestore/grouping"
)

// A Selection selects pushed groups. Its methods are safe for concurrent use.
type Selection struct {
	Match     []grouping.Matchers // a group must match one of these, or have one of Names
	Names     map[string]bool     // of files, as in PrintableName
	OlderThan time.Duration       // minimum age of a group if positive: see File.Age
	Now       time.Time           // the age is relative to this
}

// Has reports whether the file is a selected group. Without Match and Names every
// group is. A dropped file never is.
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

// Age returns the time since the last push to the group that was accepted, or since
// the last rejected one if none was. For a dropped file it is the time since the
// last modification. It is negative for a time in the future and zero if there is
// none.
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

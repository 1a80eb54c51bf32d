package filestore

import (
	"errors"
	"fmt"
)

// A Reason is the class of a refusal. The values are stable: they are label
// values of promspool_file_error and part of what alerts are written against.
type Reason string

// The reasons why a file, or a part of one, is not served.
const (
	Syntax       Reason = "syntax"        // not the text format
	Incomplete   Reason = "incomplete"    // the last line has no newline, so its number may have lost digits
	Timestamp    Reason = "timestamp"     // a sample carries a timestamp
	Encoding     Reason = "encoding"      // not UTF-8 text
	NotRegular   Reason = "not-regular"   // a directory, pipe, socket or device
	Unreadable   Reason = "unreadable"    // permission, a link that leads nowhere or that may not be followed
	TooLarge     Reason = "too-large"     // larger than the limit for files
	TypeConflict Reason = "type-conflict" // another file has the family with another type
	Duplicate    Reason = "duplicate"     // another file has the series with another value
	Reserved     Reason = "reserved"      // a name that belongs to the agent or to Prometheus itself
	Expired      Reason = "expired"       // older than the lifetime that it states
	Busy         Reason = "busy"          // written to so often, or for so long, that the new content cannot be read
)

// Reasons lists every Reason, for metrics that have one series for each.
var Reasons = []Reason{Syntax, Incomplete, Timestamp, Encoding, NotRegular, Unreadable, TooLarge, TypeConflict, Duplicate, Reserved, Expired, Busy}

// A SyntaxError says why a file or the body of a push cannot be used. It never
// quotes the content: what a file holds may not be for the eyes of whoever
// reads the log.
type SyntaxError struct {
	File   string // the file's name; empty for a push
	Line   int    // 1-based; 0 if it is not about a line
	Reason Reason
	Msg    string

	// Decoded says that a push could be read, and that what is wrong is what it
	// says. Such a push counts as one that failed; what cannot be read at all
	// leaves no trace.
	Decoded bool
}

func (e *SyntaxError) Error() string {
	switch {
	case e.File != "" && e.Line > 0:
		return fmt.Sprintf("%q line %d: %s", e.File, e.Line, e.Msg)
	case e.File != "":
		return fmt.Sprintf("%q: %s", e.File, e.Msg)
	case e.Line > 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
	}
	return e.Msg
}

// A Conflict says that one file contradicts another in a family, so that its
// part of that family, or some series of it, cannot be served.
type Conflict struct {
	Family string
	File   string // whose part gives way
	Kept   string // with whose part it clashes; empty if with the agent's own metrics
	Reason Reason
	Line   string // one of the series concerned, without its value; may be empty
	Series int    // how many samples give way

	harmless bool // the very same sample twice: nothing is lost
}

func (c *Conflict) Error() string {
	who := "the agent's own metrics"
	if c.Kept != "" {
		who = fmt.Sprintf("%q", c.Kept)
	}
	switch {
	case c.Reason == TypeConflict:
		return fmt.Sprintf("family %q has another type in %s", c.Family, who)
	case c.Reason == Reserved:
		return fmt.Sprintf("family %q belongs to the agent", c.Family)
	case c.Line != "":
		return fmt.Sprintf("series %s of family %q is already in %s", c.Line, c.Family, who)
	}
	return fmt.Sprintf("family %q collides with one in %s", c.Family, who)
}

// ErrInDoubt is what a commit's error wraps when the change was made but the
// directory could not be flushed: the change is visible, and whether it
// survives a power cut is not known. Doing it again is safe.
var ErrInDoubt = errors.New("it is not known whether the change survives a power cut")

// restless is an ErrBusy that is not about the lock.
type restless string

func (r restless) Error() string        { return string(r) }
func (r restless) Is(target error) bool { return target == ErrBusy }

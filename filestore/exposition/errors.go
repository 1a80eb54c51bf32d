package exposition

import (
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

// Error returns the sentence with the file and the line.
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

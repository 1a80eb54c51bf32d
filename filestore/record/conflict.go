package record

import (
	"fmt"
	"strconv"

	"github.com/promspool/promspool/filestore/exposition"
)

// A Conflict describes a conflict between two files in one family. The part of
// one file, or some of its series, cannot be served.
type Conflict struct {
	Family string
	File   string // the file whose part is dropped
	Kept   string // the file whose part is kept; empty for the agent's own metrics
	Reason exposition.Reason
	Line   string // one of the series concerned, without its value; may be empty
	Series int    // number of dropped samples
	Extra  int    // number of these with equal values, which differ in data that the text format lacks

	Type     exposition.Type // of the family in File
	KeptType exposition.Type // of the family in Kept; both are zero if unknown

	Harmless bool // both have the same sample with the same value, so nothing is lost

	// More are further conflicts of the same push, at most four.
	More []*Conflict
}

// Error returns the message about the family, followed by those of More.
func (c *Conflict) Error() string {
	text := c.sentence()
	for _, m := range c.More {
		text += "; " + m.sentence()
	}
	return text
}

func (c *Conflict) sentence() string {
	who := "the agent's own metrics"
	if c.Kept != "" {
		who = strconv.Quote(c.Kept)
	}
	family := exposition.Quote(c.Family)
	typed := c.Type != c.KeptType
	switch {
	case c.Reason == exposition.TypeConflict && typed && c.Kept == c.File:
		return fmt.Sprintf("family %s has another type in %s: its type is %s there and %s in the push; use one type, or replace the group with PUT", family, who, c.KeptType, c.Type)
	case c.Reason == exposition.TypeConflict && typed:
		return fmt.Sprintf("family %s has another type in %s: its type is %s there and %s in %q; use one type", family, who, c.KeptType, c.Type, c.File)
	case c.Reason == exposition.TypeConflict:
		return fmt.Sprintf("family %s has another type in %s", family, who)
	case c.Reason == exposition.Reserved && IsReserved(c.Family):
		return fmt.Sprintf("family %s belongs to the agent: names that begin with promspool_ are reserved, except for promspool_job_; use another name", family)
	case c.Reason == exposition.Reserved && c.Line != "":
		return fmt.Sprintf("series %s of family %s belongs to the agent: add a label that the agent's own series do not have", exposition.QuoteSeries(c.Line), family)
	case c.Reason == exposition.Reserved && typed && !c.KeptType.Composite():
		return fmt.Sprintf("family %s belongs to the agent, which serves it as a %s: it is a %s in %q; use the type %[2]s", family, c.KeptType, c.Type, c.File)
	case c.Reason == exposition.Reserved:
		return fmt.Sprintf("family %s belongs to the agent, or has the name of a part of a histogram or summary of its own: use another name", family)
	case c.Line != "":
		return fmt.Sprintf("series %s of family %s is already in %s: give it a label with another value, or delete one of the two", exposition.QuoteSeries(c.Line), family, who)
	}
	return fmt.Sprintf("family %s collides with one in %s, as one has the name of a part of the other: rename one of them", family, who)
}

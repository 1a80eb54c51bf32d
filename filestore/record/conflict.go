package record

import (
	"fmt"

	"github.com/promspool/promspool/filestore/exposition"
)

// A Conflict says that one file contradicts another in a family, so that its
// part of that family, or some series of it, cannot be served.
type Conflict struct {
	Family string
	File   string // whose part gives way
	Kept   string // with whose part it clashes; empty if with the agent's own metrics
	Reason exposition.Reason
	Line   string // one of the series concerned, without its value; may be empty
	Series int    // how many samples give way

	Harmless bool // the very same sample twice: nothing is lost
}

// Error returns the sentence about the family.
func (c *Conflict) Error() string {
	who := "the agent's own metrics"
	if c.Kept != "" {
		who = fmt.Sprintf("%q", c.Kept)
	}
	switch {
	case c.Reason == exposition.TypeConflict:
		return fmt.Sprintf("family %q has another type in %s", c.Family, who)
	case c.Reason == exposition.Reserved:
		return fmt.Sprintf("family %q belongs to the agent", c.Family)
	case c.Line != "":
		return fmt.Sprintf("series %s of family %q is already in %s", c.Line, c.Family, who)
	}
	return fmt.Sprintf("family %q collides with one in %s", c.Family, who)
}

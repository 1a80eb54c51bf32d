package filestore

import "fmt"

// Limits bound what is accepted. Zero means no limit. What refuses a push for one
// of them names the flag of the agent that sets it.
type Limits struct {
	Series     int // samples in one push or file
	Labels     int // labels of one sample
	LabelName  int // bytes
	LabelValue int // bytes
}

// fileLimits keep one file from costing more than its size warrants.
var fileLimits = Limits{Labels: 1000}

func (l Limits) samples() string {
	return fmt.Sprintf("more than --push.max-series=%d samples", l.Series)
}

func (l Limits) labels() string {
	if l == fileLimits {
		return fmt.Sprintf("more than %d labels, the limit for files", l.Labels)
	}
	return fmt.Sprintf("more than --push.max-labels=%d labels", l.Labels)
}

func (l Limits) nameBytes() string {
	return fmt.Sprintf("longer than --push.max-label-name-bytes=%d bytes", l.LabelName)
}

func (l Limits) valueBytes() string {
	return fmt.Sprintf("longer than --push.max-label-value-bytes=%d bytes", l.LabelValue)
}

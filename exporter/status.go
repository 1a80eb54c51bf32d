package exporter

import (
	"maps"
	"slices"
	"time"

	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/wording"
)

type statusData struct {
	Facts []fact
	Build []fact
	Flags []fact
}

// A fact has a name and a value.
type fact struct {
	Name, Value string
	Bad         bool
}

func (e *Exporter) statusData(v *merge.View, now time.Time) *statusData {
	info, totals := e.cfg.Info, v.Totals()
	s := &statusData{}
	health := fact{"Health", "The spool can be written.", false}
	if err := e.trouble(); err != nil {
		health.Value, health.Bad = wording.Visible(err.Error()), true
	}
	s.Facts = append(s.Facts, health, fact{"Spool", wording.Visible(info.Spool), false})
	if info.Watch != nil {
		s.Facts = append(s.Facts, fact{"Changes are noticed by", info.Watch(), false})
	}
	s.Facts = append(s.Facts,
		fact{"Pushed groups", count(totals.Groups), false},
		fact{"Groups that no push ever reached", count(totals.Failed), totals.Failed > 0},
		fact{"Dropped files", count(totals.Dropped), false},
		fact{"Samples", count(totals.Series), false},
		fact{"Size", wording.Bytes(totals.Bytes), false},
	)
	for _, reason := range exposition.Reasons {
		if n := totals.Faults[reason]; n > 0 {
			s.Facts = append(s.Facts, fact{"Files not wholly served: " + string(reason), count(n), true})
		}
	}
	for _, err := range v.DirectoryErrors() {
		s.Facts = append(s.Facts, fact{"Directory not served", wording.Visible(err.Error()), true})
	}
	if !info.Start.IsZero() {
		s.Facts = append(s.Facts, fact{"Started", ago(now, info.Start) + ", " + exactly(info.Start), false})
	}
	s.Build, s.Flags = facts(info.Build), facts(info.Flags)
	return s
}

func facts(m map[string]string) (list []fact) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fact{name, wording.Visible(m[name]), false})
	}
	return list
}

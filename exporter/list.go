package exporter

import (
	"net/url"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

type listData struct {
	View, Search, Sort string
	State              string
	Wrong              string // what is wrong with the search
	Said               string // what was found, in a sentence
	States             []stateOption
	Columns            []column
	Rows               []row
	Pages              pages
	RemoveAll          string // what is asked before all groups are removed; empty if that is not offered
}

// A stateOption is a choice of files by their state, and how many there are.
type stateOption struct{ Value, Text string }

type column struct {
	Key, Title, Link string
	Number           bool
	Sorted           string // ascending, descending or nothing, as in aria-sort
}

func newListData(v *merge.View, q url.Values, view string, conflicts map[string][]*record.Conflict, now time.Time, mayWrite bool) *listData {
	l, wrong := parseListing(q)
	if l.limit = rowsAtOnce; q.Get("sort") == "" && view == viewFiles {
		l.order = "name"
	}
	noun, changed := "group", "Last push"
	if l.kind = "group"; view == viewFiles {
		l.kind, noun, changed = "file", "file", "Changed"
	}
	x := l.find(v, conflicts)
	if x.matched > 0 && len(x.files) == 0 { // beyond the end, as after a removal
		l.offset = (x.matched - 1) / rowsAtOnce * rowsAtOnce
		x = l.find(v, conflicts)
	}
	d := &listData{
		View: view, Search: l.search, State: l.state, Sort: q.Get("sort"),
		Said: said(noun, x.matched, l.offset, len(x.files)),
	}
	if wrong != nil {
		d.Wrong = wording.Visible(wrong.Error())
	}
	d.States = []stateOption{{"", "All (" + count(x.total) + ")"}, {stateFaulty, "With problems (" + count(x.faulty) + ")"}, {stateExpired, "Expired (" + count(x.expired) + ")"}}
	to := func(sort string, offset int) string {
		return link(view, "search", l.search, "state", l.state, "sort", sort, "offset", offsetText(offset))
	}
	d.Pages = newPages(x.matched, l.offset, func(offset int) string { return to(q.Get("sort"), offset) })
	for _, c := range []column{{"name", "Labels", "", false, ""}, {"samples", "Samples", "", true, ""}, {"size", "Size", "", true, ""}, {"time", changed, "", false, ""}} {
		if c.Key == "name" && view == viewFiles {
			c.Title = "Name"
		}
		// The first click sorts names up and anything else down.
		first, second := c.Key, "-"+c.Key
		if c.Key != "name" {
			first, second = second, first
		}
		next := first
		if l.order == c.Key {
			c.Sorted = "ascending"
			if l.down {
				c.Sorted = "descending"
			}
			if l.down == strings.HasPrefix(first, "-") {
				next = second
			}
		}
		c.Link = to(next, 0)
		d.Columns = append(d.Columns, c)
	}
	for _, f := range x.files {
		d.Rows = append(d.Rows, newRow(f, conflicts[f.Name()], now, mayWrite))
	}
	return d
}

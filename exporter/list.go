package exporter

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// A listing is what somebody asked to see of the files of a view.
//
// A request costs a look at each file: its labels are searched as the ready
// text that they are, and nothing else is made of a file that is not shown.
type listing struct {
	kind     string // group, file, or both if empty
	search   string // as it was given
	words    []string
	matchers grouping.Matchers
	state    string // only what is faulty, or expired; all if empty
	order    string // name, samples, size or time
	down     bool   // the largest first
	offset   int
	limit    int // 0 for any number
}

// The states that can be asked for. What is expired is not called faulty as well.
const (
	stateFaulty  = "faulty"
	stateExpired = "expired"
)

// maxSearch is the length up to which a search is taken.
const maxSearch = 1000

// orders are what can be sorted by. The view has the order of the names already.
var orders = map[string]func(f *record.File) int64{
	"name":    nil,
	"samples": func(f *record.File) int64 { return int64(f.Series()) },
	"size":    (*record.File).Size,
	"time":    func(f *record.File) int64 { return unixNano(changed(f)) },
}

// parseListing reads the parameters of a request: search, state, sort, offset,
// limit and kind. Of several errors the last is returned, and the listing is
// what the rest says.
func parseListing(q url.Values) (listing, error) {
	l := listing{kind: q.Get("kind"), search: strings.TrimSpace(q.Get("search")), order: "name"}
	var wrong error
	switch {
	case len(l.search) > maxSearch:
		wrong, l.search = fmt.Errorf("search is longer than %d bytes", maxSearch), ""
	case strings.HasPrefix(l.search, "{"):
		if l.matchers, wrong = grouping.ParseMatchers(l.search); wrong != nil {
			l.words = []string{l.search} // it will not match, as it should not
		}
	default:
		l.words = strings.Fields(strings.ToLower(l.search))
	}
	if l.kind != "" && l.kind != "group" && l.kind != "file" {
		wrong, l.kind = fmt.Errorf("kind is %q, and has to be group or file", l.kind), ""
	}
	if l.state = q.Get("state"); l.state != "" && l.state != stateFaulty && l.state != stateExpired {
		wrong, l.state = fmt.Errorf("state is %q, and has to be faulty or expired", l.state), ""
	}
	if s := q.Get("sort"); s != "" {
		order, down := strings.CutPrefix(s, "-")
		if _, ok := orders[order]; ok {
			l.order, l.down = order, down
		} else {
			wrong = fmt.Errorf("sort is %q, and has to be name, samples, size or time, after a dash for the largest first", s)
		}
	}
	for name, to := range map[string]*int{"offset": &l.offset, "limit": &l.limit} {
		if s := q.Get(name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 {
				wrong = fmt.Errorf("%s is %q, and has to be a number from 0", name, s)
				continue
			}
			*to = n
		}
	}
	return l, wrong
}

// A found is what a listing comes to.
type found struct {
	files   []*record.File
	matched int // by the search and the state, shown or not
	total   int // of that kind
	faulty  int // of these
	expired int
}

// find returns the part of the files that the listing shows.
func (l *listing) find(v *merge.View, conflicts map[string][]*record.Conflict) (x found) {
	key := orders[l.order]
	var all []ordered
	for f := range v.Files() {
		if !l.ofKind(f) {
			continue
		}
		x.total++
		state := ""
		switch {
		case !f.Expired().IsZero():
			state = stateExpired
			x.expired++
		case faulty(f, conflicts):
			state = stateFaulty
			x.faulty++
		}
		if l.state != "" && l.state != state || !l.matches(f) {
			continue
		}
		x.matched++
		switch {
		case key != nil:
			all = append(all, ordered{key(f), f})
		case l.down:
			all = append(all, ordered{int64(x.matched), f})
		case x.matched > l.offset && (l.limit == 0 || len(x.files) < l.limit):
			x.files = append(x.files, f)
		}
	}
	if all == nil {
		return x
	}
	slices.SortStableFunc(all, func(a, b ordered) int {
		if l.down {
			return cmp.Compare(b.key, a.key)
		}
		return cmp.Compare(a.key, b.key)
	})
	from := min(l.offset, len(all))
	to := len(all)
	if l.limit > 0 && l.limit < to-from {
		to = from + l.limit
	}
	for _, o := range all[from:to] {
		x.files = append(x.files, o.file)
	}
	return x
}

// ordered is a file with what it is sorted by.
type ordered struct {
	key  int64
	file *record.File
}

func (l *listing) ofKind(f *record.File) bool {
	return l.kind == "" || (l.kind == "group") == !f.Group().IsZero()
}

// matches reports whether the file is what is searched for: all words are in
// what it is called, or its group meets the matchers.
func (l *listing) matches(f *record.File) bool {
	if l.matchers != nil {
		return l.matchers.Match(f.Group())
	}
	if len(l.words) == 0 {
		return true
	}
	name := f.Group().String()
	if name == "" {
		name = f.Name()
	}
	name = strings.ToLower(name)
	for _, w := range l.words {
		if !strings.Contains(name, w) {
			return false
		}
	}
	return true
}

// faulty reports whether there is anything that somebody should look at.
func faulty(f *record.File, conflicts map[string][]*record.Conflict) bool {
	_, refused := f.Refused()
	return f.Problem() != nil || !pushed(f) || refused || !f.HeldSince().IsZero() || len(conflicts) > 0 && len(conflicts[f.Name()]) > 0
}

// changed is when a group was last pushed to, or a file changed.
func changed(f *record.File) time.Time {
	if f.Group().IsZero() {
		return f.ModTime()
	}
	return f.LastPush()
}

// unixNano is for sorting: the zero time comes first.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

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

// rowsAtOnce is how many groups, files or jobs are shown on one page.
const rowsAtOnce = 50

// pages are links; empty where they lead nowhere.
type pages struct{ First, Previous, Next, Last, Where string }

func offsetText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// said says what of how many is shown.
func said(noun string, matched, offset, shown int) string {
	nouns := noun + "s"
	switch {
	case matched == 0:
		return "No " + nouns
	case shown == matched && matched == 1:
		return "1 " + noun
	case shown == matched:
		return count(matched) + " " + nouns
	}
	return fmt.Sprintf("%s to %s of %s %s", count(offset+1), count(offset+shown), count(matched), nouns)
}

func newPages(matched, offset int, to func(offset int) string) (p pages) {
	if matched <= rowsAtOnce && offset == 0 {
		return p
	}
	last := (matched - 1) / rowsAtOnce * rowsAtOnce
	p.Where = fmt.Sprintf("Page %s of %s", count(offset/rowsAtOnce+1), count(last/rowsAtOnce+1))
	if offset > 0 {
		p.First, p.Previous = to(0), to(max(0, offset-rowsAtOnce))
	}
	if offset < last {
		p.Next, p.Last = to(offset+rowsAtOnce), to(last)
	}
	return p
}

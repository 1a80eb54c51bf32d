package exporter

import (
	"cmp"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
)

// A listing selects, sorts and pages the files of a view.
//
// A request costs a look at each file. The search reads the labels as the ready
// text that they are, and only files that are shown are decoded.
type listing struct {
	kind     string // group, file, or both if empty
	search   string // as given
	words    []string
	matchers grouping.Matchers
	state    string // one of fileStates; all files if empty
	order    string // name, samples, size or time
	down     bool   // the largest first
	offset   int
	limit    int // 0 for any number
}

// maxSearch is the maximum length of a search.
const maxSearch = 1000

// orders are the keys to sort by. The view has the order of the names already.
var orders = map[string]func(f *record.File) int64{
	"name":    nil,
	"samples": func(f *record.File) int64 { return int64(f.Series()) },
	"size":    (*record.File).DiskSize,
	"time":    func(f *record.File) int64 { return unixNano(changed(f)) },
}

// parseListing reads the parameters of a request: search, state, sort, offset,
// limit and kind. Of several errors it returns the last one, together with the
// listing that the other parameters ask for.
func parseListing(q url.Values) (listing, error) {
	l := listing{kind: q.Get("kind")}
	wrong := l.parseSearch(q)
	if l.kind != "" && l.kind != "group" && l.kind != "file" {
		wrong, l.kind = fmt.Errorf("invalid kind %q: use group or file", l.kind), ""
	}
	if l.state = q.Get("state"); l.state != "" && !slices.Contains(fileStates, l.state) {
		wrong, l.state = fmt.Errorf("invalid state %q: use one of %s", l.state, strings.Join(fileStates, ", ")), ""
	}
	l.order = "name"
	if s := q.Get("sort"); s != "" {
		order, down := strings.CutPrefix(s, "-")
		if _, ok := orders[order]; ok {
			l.order, l.down = order, down
		} else {
			wrong = fmt.Errorf("invalid sort %q: use name, samples, size or time, after a dash for the largest first", s)
		}
	}
	for name, to := range map[string]*int{"offset": &l.offset, "limit": &l.limit} {
		if s := q.Get(name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 {
				wrong = fmt.Errorf("invalid %s %q: use a number from 0", name, s)
				continue
			}
			*to = n
		}
	}
	return l, wrong
}

// parseSearch reads the parameter search.
func (l *listing) parseSearch(q url.Values) (err error) {
	switch l.search = strings.TrimSpace(q.Get("search")); {
	case len(l.search) > maxSearch:
		l.search, err = "", fmt.Errorf("search is longer than %d bytes", maxSearch)
	case strings.HasPrefix(l.search, "{"):
		if l.matchers, err = grouping.ParseMatchers(l.search); err != nil {
			l.words = []string{l.search} // matches nothing
		}
	default:
		l.words = strings.Fields(strings.ToLower(l.search))
	}
	return err
}

// find returns the files that the listing shows, and the number of files that
// match whether or not they are shown.
func (l *listing) find(v *merge.View, conflicts map[string][]*record.Conflict) (files []*record.File, matched int) {
	key := orders[l.order]
	var all []ordered
	for f := range l.matching(v, conflicts) {
		matched++
		switch {
		case key != nil:
			all = append(all, ordered{key(f), f})
		case l.down:
			all = append(all, ordered{int64(matched), f})
		case matched > l.offset && (l.limit == 0 || len(files) < l.limit):
			files = append(files, f)
		}
	}
	if all == nil {
		return files, matched
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
		files = append(files, o.file)
	}
	return files, matched
}

// matching yields the files that match, in the order of the view.
func (l *listing) matching(v *merge.View, conflicts map[string][]*record.Conflict) iter.Seq[*record.File] {
	return func(yield func(*record.File) bool) {
		for f := range v.Files() {
			if l.kind != "" && (l.kind == "group") == f.Group().IsZero() || l.state != "" && !stateOf(f, conflicts).has(l.state) || !l.matches(f) {
				continue
			}
			if !yield(f) {
				return
			}
		}
	}
}

// ordered is a file with its key to sort by.
type ordered struct {
	key  int64
	file *record.File
}

// matches reports whether the search finds the file: its labels, or its name, have
// all words, or its group meets the matchers.
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

// changed returns the time of the last push to a group, or of the last change of
// a file.
func changed(f *record.File) time.Time {
	if f.Group().IsZero() {
		return f.ModTime()
	}
	return f.LastPush()
}

// unixNano returns a key to sort by: the zero time comes first.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// A filter form is above each list: a search, a choice of states, and an order.
type filterForm struct {
	View, Search, Sort string
	State              string
	Hint               string // in the empty search field
	Wrong              string // error in the search
	Said               string // result in one sentence
	States             []choice
	Sorts              []choice
	Columns            []column
	Pages              pages
}

// A choice is an option of a select element.
type choice struct{ Value, Text string }

type column struct {
	Key, Title, Link string
	Number           bool
	Sorted           string // ascending, descending or nothing, as in aria-sort
	downFirst        bool   // the first click sorts the largest first
}

// sort sets the links and the choices of the columns, given the order that is shown.
// The default order has no parameter.
func (d *filterForm) sort(columns []column, byDefault, key string, down bool, to func(sort string) string) {
	for _, c := range columns {
		up, largest := choice{c.Key, c.Title}, choice{"-" + c.Key, c.Title + ", descending"}
		if c.Key == byDefault {
			up.Value = ""
		}
		first, second := up, largest
		if c.downFirst {
			first, second = second, first
		}
		next := first
		if key == c.Key {
			current := up
			c.Sorted = "ascending"
			if down {
				current = largest
				c.Sorted = "descending"
			}
			if d.Sort = current.Value; current == first {
				next = second
			}
		}
		c.Link = to(next.Value)
		d.Sorts = append(d.Sorts, first, second)
		d.Columns = append(d.Columns, c)
	}
}

type listData struct {
	filterForm
	Rows    []row
	Delete  *bulkDelete
	PushURL string // for the first push
}

// A bulkDelete is the offer to delete all groups that a filter finds.
type bulkDelete struct {
	Title string // of the button
	Query string // for /api/v1/files, which lists the groups
}

// maxBulk is the maximum number of groups that the page deletes at once. A person
// has to read the list of them.
const maxBulk = 1000

// rights say what the client may do.
type rights struct {
	write bool // push and delete groups
	bulk  bool // delete many at once
}

// newListData lists the groups, or the dropped files, that a request asks for.
func newListData(v *merge.View, q url.Values, view string, conflicts map[string][]*record.Conflict, counts *fileCounts, now time.Time, may rights) *listData {
	l, wrong := parseListing(q)
	l.limit = rowsAtOnce
	noun, changed, name := "group", "Last push", "Labels"
	d := &listData{}
	d.Hint = `Search labels, or {job=~"ci_.*"}`
	if l.kind = "group"; view == viewFiles {
		l.kind, noun, changed, name, d.Hint = "file", "file", "Changed", "Name", "Search names"
	}
	files, matched := l.find(v, conflicts)
	if matched > 0 && len(files) == 0 { // beyond the end, as after a deletion
		l.offset = (matched - 1) / rowsAtOnce * rowsAtOnce
		files, _ = l.find(v, conflicts)
	}
	d.View, d.Search, d.State = view, l.search, l.state
	d.Said, d.Wrong = said(noun, matched, l.offset, len(files)), visible(wrong)
	for _, s := range []choice{{"", "All"}, {stateFaulty, "Problems"}, {stateBroken, "Not served"}, {statePartial, "Partly served"}, {stateRefused, "Push refused"}, {stateExpired, "Expired"}} {
		if n := counts.of(s.Value); n > 0 || s.Value == l.state || s.Value == "" || s.Value == stateFaulty {
			d.States = append(d.States, choice{s.Value, s.Text + " (" + count(n) + ")"})
		}
	}
	to := func(sort string, offset int) string {
		return link(view, "search", l.search, "state", l.state, "sort", sort, "offset", offsetText(offset))
	}
	d.Pages = newPages(matched, l.offset, func(offset int) string { return to(q.Get("sort"), offset) })
	d.sort([]column{
		{Key: "name", Title: name},
		{Key: "samples", Title: "Samples", Number: true, downFirst: true},
		{Key: "size", Title: "Size", Number: true, downFirst: true},
		{Key: "time", Title: changed, downFirst: true},
	}, "name", l.order, l.down, func(sort string) string { return to(sort, 0) })
	if filtered := l.search != "" || l.state != ""; filtered && wrong == nil && may.bulk && view == viewGroups && matched > 0 && matched <= maxBulk {
		d.Delete = &bulkDelete{"Delete the " + countOf(matched, "group") + " shown", "?" + url.Values{"kind": {"group"}, "search": {l.search}, "state": {l.state}}.Encode()}
		if len(files) < matched {
			d.Delete.Title = "Delete the " + countOf(matched, "group") + " found"
		}
	}
	for _, f := range files {
		d.Rows = append(d.Rows, newRow(f, conflicts[f.Name()], now, may))
	}
	return d
}

// rowsAtOnce is the number of groups, files or jobs on one page.
const rowsAtOnce = 50

// pages are links to other pages of a list; empty for those that do not exist.
type pages struct{ First, Previous, Next, Last, Where string }

func offsetText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// said returns which part of a list is shown.
func said(noun string, matched, offset, shown int) string {
	switch {
	case matched == 0:
		return "No " + noun + "s"
	case shown == matched:
		return countOf(matched, noun)
	}
	return fmt.Sprintf("%s to %s of %s", count(offset+1), count(offset+shown), countOf(matched, noun))
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

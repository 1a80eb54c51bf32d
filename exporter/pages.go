package exporter

import "fmt"

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

package exporter

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ago says roughly how long ago t was, or in how long it will be; nothing of
// the zero time.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch {
	case d <= -time.Second:
		return "in " + roughly(-d)
	case d < time.Second:
		return "just now"
	}
	return roughly(d) + " ago"
}

// roughly says how long d is, which is not negative.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", math.Floor(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// exactly says when t was.
func exactly(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// count writes a number with commas between thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesOf says roughly how much n bytes are.
func bytesOf(n int64) string {
	units, x := "kMGT", float64(n)
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	for x /= 1000; x >= 999.5 && len(units) > 1; units = units[1:] {
		x /= 1000
	}
	if x < 9.95 {
		return fmt.Sprintf("%.1f %cB", x, units[0])
	}
	return fmt.Sprintf("%.0f %cB", x, units[0])
}

// visible returns text as it can be shown: what a reader cannot see, or what
// would turn the text around it, is written as in a Go string.
func visible(s string) string {
	hidden := func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b []byte
	for i, r := range s {
		if !hidden(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		quoted := strconv.Quote(s[i : i+n])
		b = append(b, quoted[1:len(quoted)-1]...)
	}
	return string(b)
}

// shorten cuts text that is longer than n bytes, and says so.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := n
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%s)", s[:cut], bytesOf(int64(len(s))))
}

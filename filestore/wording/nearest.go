package wording

import "strings"

// Nearest returns the name that a misspelled word probably means: one that differs
// only in case or in one or two letters, "" if there is none. Two exchanged letters
// count as one. In names of up to four letters one letter may differ or two be added.
func Nearest(word string, names ...string) string {
	const far = 3
	best, at := "", far
	lower := strings.ToLower(word)
	for _, name := range names {
		known := strings.ToLower(name)
		d := distance(lower, known)
		if len(known) <= 4 && d == 2 && !(len(lower) == len(known)+2) {
			d = far
		}
		if d < at {
			best, at = name, d
		}
	}
	return best
}

// distance returns the number of edits between two words: letters added, removed,
// changed or exchanged with their neighbor. It is large for words of very different
// lengths.
func distance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 3
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

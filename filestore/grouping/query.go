package grouping

import (
	"fmt"
	"net/url"
	"strings"
)

// ParseQuery parses the query of a URL, as [url.ParseQuery] does. Its error quotes
// the first malformed parameter with a name that is known; nil stands for all
// names. The values have no malformed parameters.
func ParseQuery(query string, known func(name string) bool) (url.Values, error) {
	values, err := url.ParseQuery(query)
	if err == nil {
		return values, nil
	}
	for part := range strings.SplitSeq(query, "&") {
		if _, err := url.ParseQuery(part); err == nil || known != nil && !names(part, known) {
			continue
		}
		if strings.Contains(part, ";") {
			return values, fmt.Errorf("invalid query parameter %s: separate parameters with &, and write %%3B for a semicolon", QuoteShort(part))
		}
		return values, fmt.Errorf("invalid query parameter %s: write %%25 for a percent sign", QuoteShort(part))
	}
	if known == nil {
		return values, fmt.Errorf("invalid query: %w", err)
	}
	return values, nil
}

// names reports whether a malformed part of a query has a known name, perhaps
// after a semicolon.
func names(part string, known func(name string) bool) bool {
	for piece := range strings.SplitSeq(part, ";") {
		name, _, _ := strings.Cut(piece, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if known(name) {
			return true
		}
	}
	return false
}

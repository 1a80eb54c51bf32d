package filestore

import "strings"

// Suffix ends the name of every file that belongs to a spool. It is
// node_exporter's rule.
const Suffix = ".prom"

// IsSpoolFile reports whether a file of that name is read from a spool: it
// ends in [Suffix] and does not begin with a dot. Dot files are the temporary
// names of editors and of other writers, and ours.
func IsSpoolFile(name string) bool {
	return strings.HasSuffix(name, Suffix) && !strings.HasPrefix(name, ".")
}

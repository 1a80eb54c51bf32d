//go:build !linux

package watcher

import "os"

// backend names what reports changes here.
const backend = "kqueue"

// partialFS knows no file system by type here; the resync covers them all.
func partialFS(*os.File) string { return "" }

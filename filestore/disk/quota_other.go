//go:build !linux

package disk

import "os"

// askQuota is not supported here; only a failed write shows a quota.
func askQuota(*os.File, *Quota) bool { return false }

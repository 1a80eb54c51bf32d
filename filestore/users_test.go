package filestore_test

import (
	"os"
	"runtime"
	"testing"
)

// needRoot skips the test with a reason if it cannot become other users.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		return
	}
	if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
		t.Fatalf("needs root on Linux: %s", why)
	}
	t.Skipf("needs root on Linux: %s", why)
}

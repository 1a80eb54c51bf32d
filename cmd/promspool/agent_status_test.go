package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promspool/promspool/filestore/merge"
)

func TestStatusLineSingularAndPlural(t *testing.T) {
	for _, tt := range []struct {
		groups, files int
		want          string
	}{
		{0, 0, "Serving 0 groups and 0 files from /s"},
		{1, 1, "Serving 1 group and 1 file from /s"},
		{2, 1, "Serving 2 groups and 1 file from /s"},
		{1, 21, "Serving 1 group and 21 files from /s"},
	} {
		if got := statusLine(merge.Totals{Groups: tt.groups, Dropped: tt.files}, "/s"); got != tt.want {
			t.Errorf("statusLine(%d, %d) = %q, want %q", tt.groups, tt.files, got, tt.want)
		}
	}
}

// notifySocket opens the receiving end of NOTIFY_SOCKET. The returned function
// reads all messages so far without blocking, under a fake clock as well.
func notifySocket(t *testing.T) (path string, received func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	path = filepath.Join(dir, "notify.sock")
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	return path, func() (all []string) {
		t.Helper()
		for {
			b := make([]byte, 4096)
			n, _, err := syscall.Recvfrom(fd, b, syscall.MSG_DONTWAIT)
			if errors.Is(err, syscall.EAGAIN) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b[:n]))
		}
	}
}

// The status line follows the store. It is sent at most once a minute and only if it
// has changed.
func TestStatusIsUpdated(t *testing.T) {
	path, received := notifySocket(t)
	synctest.Test(t, func(t *testing.T) {
		var totals atomic.Pointer[merge.Totals]
		set := func(groups, dropped int) { totals.Store(&merge.Totals{Groups: groups, Dropped: dropped}) }
		set(3, 0)
		line := func() string { return statusLine(*totals.Load(), "/s") }
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			updateStatus(ctx, line(), line, slog.New(slog.DiscardHandler))
			close(ended)
		}()
		step := func(d time.Duration, want ...string) {
			t.Helper()
			time.Sleep(d) // of the bubble's clock
			synctest.Wait()
			if got := received(); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("after %v the manager received %q, want %q", d, got, want)
			}
		}
		synctest.Wait()
		step(time.Hour)     // nothing has changed
		for i := range 10 { // changes within one minute
			set(4+i, 0)
			step(5 * time.Second)
		}
		step(10*time.Second, "STATUS=Serving 13 groups and 0 files from /s")
		step(time.Hour)
		set(1, 1)
		step(time.Minute, "STATUS=Serving 1 group and 1 file from /s")

		// A failure is retried.
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		set(2, 1)
		step(time.Minute)
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		step(time.Minute, "STATUS=Serving 2 groups and 1 file from /s")
		stop()
		<-ended
	})
}

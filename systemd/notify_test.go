package systemd_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promspool/promspool/systemd"
)

// manager is the receiving end of NOTIFY_SOCKET. It is a descriptor instead of a
// net.Conn, as reading must neither block nor use the network poller: tests with a
// fake clock use it as well.
type manager struct {
	t  *testing.T
	fd int
}

func newManager(t *testing.T) *manager {
	t.Helper()
	// Not t.TempDir: the path of a socket is limited to about 100 bytes.
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	path := filepath.Join(dir, "notify.sock")
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{t: t, fd: fd}
}

// received returns the datagrams since the last call.
func (m *manager) received() []string {
	m.t.Helper()
	var all []string
	for {
		buf := make([]byte, 4096)
		n, _, err := syscall.Recvfrom(m.fd, buf, syscall.MSG_DONTWAIT)
		if errors.Is(err, syscall.EAGAIN) {
			return all
		}
		if err != nil {
			m.t.Fatal(err)
		}
		all = append(all, string(buf[:n]))
	}
}

func TestWordsForTheManager(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  func() error
		want string
	}{
		{"ready", func() error { return systemd.Ready("3 groups") }, "READY=1\nSTATUS=3 groups"},
		{"stopping", systemd.Stopping, "STOPPING=1"},
		{"status", func() error { return systemd.Status("4 groups") }, "STATUS=4 groups"},
		{"status that would be an assignment", func() error { return systemd.Status("a\r\nMAINPID=1\nb") }, "STATUS=a MAINPID=1 b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t)
			if err := tt.say(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.want}, m.received()); diff != "" {
				t.Errorf("datagrams (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoManagerIsNoError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := systemd.Ready("x"); err != nil {
		t.Errorf("Ready() = %v, want nil", err)
	}
	if err := systemd.Status("x"); err != nil {
		t.Errorf("Status() = %v, want nil", err)
	}
	if err := systemd.Stopping(); err != nil {
		t.Errorf("Stopping() = %v, want nil", err)
	}
	check := func() error { t.Error("Watchdog called check"); return nil }
	if err := systemd.Watchdog(t.Context(), check); err != nil {
		t.Errorf("Watchdog() = %v, want nil", err)
	}
	if got, err := systemd.Listeners(); len(got) != 0 || err != nil {
		t.Errorf("Listeners() = %v, %v, want none, nil", got, err)
	}
}

func TestManagerThatIsGoneIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := systemd.Ready("x"); err == nil {
		t.Error("Ready() = nil, want an error")
	}
}

package systemd_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/promspool/promspool/systemd"
)

// The descriptors start at 3 and LISTEN_PID names the process itself. So the receiver
// must be a new process: this test binary, started by a shell, which knows its pid
// before the exec.
const childEnv = "PROMSPOOL_TEST_LISTENERS"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child prints its sockets: one line NAME ADDRESS per listener, or the error.
func child() {
	byName, err := systemd.Listeners()
	if err != nil {
		fmt.Println("error:", err)
	}
	for name, listeners := range byName {
		for _, listener := range listeners {
			fmt.Println(name, listener.Addr())
		}
	}
	if again, err := systemd.Listeners(); len(again) != 0 || err != nil {
		fmt.Println("second call:", again, err)
	}
}

// startWith runs the child with these sockets and returns its lines, sorted.
func startWith(t *testing.T, names string, sockets ...interface{ File() (*os.File, error) }) []string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES="+names)
	for _, socket := range sockets {
		file, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.(*net.TCPListener)
}

func TestListenersHaveTheirNames(t *testing.T) {
	a, b, c := listen(t), listen(t), listen(t)
	got := startWith(t, "push:metrics:push", a, b, c)
	want := []string{"metrics " + b.Addr().String(), "push " + a.Addr().String(), "push " + c.Addr().String()}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Listeners() = %q, want %q", got, want)
	}
}

func TestSocketThatDoesNotListenIsAnError(t *testing.T) {
	packets, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	got := startWith(t, "push:wrong", listen(t), packets)
	if len(got) != 1 || !strings.HasPrefix(got[0], `error: socket "wrong" from the service manager: `) {
		t.Errorf("Listeners() = %q, want an error that names the socket", got)
	}
}

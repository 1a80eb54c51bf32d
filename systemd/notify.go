package systemd

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready reports to the service manager that the start is complete, and sets the line
// that "systemctl status" shows. A unit of Type=notify counts as started only now, and
// units ordered after it wait for this.
//
// After an error the manager stops the process when the start times out, so the caller
// should log it.
func Ready(status string) error {
	return notify(daemon.SdNotifyReady, "STATUS="+oneLine(status))
}

// Stopping reports to the service manager that the shutdown has begun, so that the
// exit is expected.
func Stopping() error {
	return notify(daemon.SdNotifyStopping)
}

// Status sets the line that "systemctl status" shows.
func Status(status string) error {
	return notify("STATUS=" + oneLine(status))
}

// notify sends the assignments in one datagram, which the manager applies together.
// The environment keeps the address for later calls.
func notify(assignments ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	return nil
}

// oneLine removes line ends from a status. In a notification they would start another
// assignment.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

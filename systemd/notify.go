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
// After an error the manager ends the process at its start timeout, so the caller
// should log the error.
func Ready(status string) error {
	return notify(daemon.SdNotifyReady, "STATUS="+oneLine(status))
}

// Stopping tells the service manager that the shutdown has begun, so that it
// expects the process to exit.
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

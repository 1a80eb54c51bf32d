// Package systemd implements the agent's side of the protocol with the service
// manager: it reports readiness, status and liveness, and receives the sockets that
// the manager has opened. The units are in the same directory. Their directives
// specify this code: Type=notify for [Ready], WatchdogSec= for [Watchdog],
// FileDescriptorName= for [Listeners].
//
// Without a service manager, and on other systems, every function does nothing and
// returns no error.
//
// All functions are safe for concurrent use. Listeners removes the sockets from the
// environment, so only its first call returns them.
package systemd

// Package systemd is the agent's side of a conversation with the service
// manager: it says when it is ready and how it fares, shows that it is alive,
// and takes over sockets that the manager has opened for it. The units that
// the other side reads lie in the same directory; their directives are the
// specification of this code (Type=notify of [Ready], WatchdogSec= of
// [Watchdog], FileDescriptorName= of [Listeners]).
//
// Without a service manager, on other systems too, every function does
// nothing and reports no error, so that callers need not ask.
//
// All functions are safe for concurrent use, except that Listeners takes the
// sockets away from the environment: only its first call returns them.
package systemd

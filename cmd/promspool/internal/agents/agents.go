// Package agents finds the agents that serve one spool.
//
// A running agent has a mark: a unix socket that is bound to an abstract name. The
// name has the identity of the spool's directory. The kernel lists such names in
// /proc/net/unix and deletes them with the process, so a killed agent leaves no mark.
// The mark is not in the spool: an open file there would prevent an unmount, and
// readers of the spool would find it. Pushes do not use it.
//
// Abstract names belong to a network namespace. An agent finds the agents of its own
// namespace, and those of the other namespaces whose processes it can see. On a host
// these include containers. An agent in a container does not find agents outside.
//
// Any local user can bind such a name, so a mark is a reason for a message only. There
// are no marks outside of Linux.
package agents

import (
	"fmt"
	"sync"
	"time"
)

// An Agent is a process that serves a spool.
type Agent struct {
	// PID is the ID of the process for the caller; 0 if the process is not visible.
	PID int
	// Own is the ID that the process itself has, possibly in a container.
	Own int
}

func (a Agent) String() string {
	if a.PID == 0 {
		return fmt.Sprintf("a process of another user or container, or a forged mark (process %d there)", a.Own)
	}
	return fmt.Sprintf("process %d", a.PID)
}

// mostNames is the maximum number of agents in a message.
const mostNames = 10

// Names describes at most ten agents for a message, and counts the others in an
// additional entry.
func Names(list []Agent) []string {
	var names []string
	for _, a := range list[:min(len(list), mostNames)] {
		names = append(names, a.String())
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}

// A Mark tells other processes that this process serves a spool.
type Mark struct {
	dir string

	mu     sync.Mutex // guards all below
	name   string     // of the socket; empty without a mark
	socket int        // its descriptor; -1 without a mark
	id     identity
	others []Agent
	at     time.Time // when others was found
	closed bool
}

// mostMarks bounds the marks that are read from one table, since any local user can make
// them.
const mostMarks = 100

// maxAge is the maximum age of the answer of Others.
const maxAge = 5 * time.Second

// New marks the spool as served by this process. Without support by the kernel there
// is no mark, and Others finds what it can.
func New(dir string) *Mark {
	m := &Mark{dir: dir, socket: -1}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.renew()
	return m
}

// Others returns the other agents that serve the spool. The answer is up to some
// seconds old. If the path leads to another directory by now, the mark moves there.
func (m *Mark) Others() []Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if age := time.Since(m.at); m.closed || !m.at.IsZero() && age < maxAge {
		return m.others
	}
	m.renew()
	m.at = time.Now()
	m.others, _ = find("/proc", m.dir, m.name) // an error means that none can be found
	return m.others
}

// Renew moves the mark if the path leads to another directory by now.
func (m *Mark) Renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.renew()
	}
}

// Close deletes the mark.
func (m *Mark) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.release()
}

// Find returns the agents that serve a spool, at most 100 for each network namespace.
// Those with a visible process are first. proc is the path of the process file system.
// The error is errors.ErrUnsupported outside of Linux.
func Find(proc, dir string) ([]Agent, error) { return find(proc, dir, "") }

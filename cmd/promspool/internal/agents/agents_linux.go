package agents

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is the name of the processes whose network namespaces are searched.
const program = "promspool"

// identity identifies a directory on a host, in every mount namespace.
type identity struct {
	dev, ino uint64
	birth    int64
}

func identify(dir string) (identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return identity{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	id := identity{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}

// prefix returns the beginning of the names of all marks of the directory. The ID of
// the process and random digits follow: processes in containers can have the same ID.
func (id identity) prefix() string {
	return fmt.Sprintf("%s-agent-%x-%x-%x-", program, id.dev, id.ino, id.birth)
}

// renew binds the socket, again if the path leads to another directory. The caller
// holds mu.
func (m *Mark) renew() {
	id, err := identify(m.dir)
	if err != nil || m.socket >= 0 && id == m.id {
		return
	}
	m.release()
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	name := id.prefix() + strconv.Itoa(os.Getpid()) + "-" + hex.EncodeToString(salt[:])
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	if unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}) != nil {
		_ = unix.Close(fd)
		return
	}
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // nothing can be sent to it
	m.socket, m.name, m.id = fd, name, id
}

// release closes the socket. The caller holds mu.
func (m *Mark) release() {
	if m.socket >= 0 {
		_ = unix.Close(m.socket) // has no data
	}
	m.socket, m.name = -1, ""
}

// find returns the agents of a directory except for the one with the given name.
func find(proc, dir, except string) ([]Agent, error) {
	id, err := identify(dir)
	if err != nil {
		return nil, err
	}
	prefix := id.prefix()
	table := filepath.Join(proc, "self/net/unix")
	here := inode(table)
	names, err := marks(table, prefix)
	if err != nil {
		return nil, err
	}
	found := map[string]*Agent{}
	for name, own := range names {
		found[name] = &Agent{Own: own}
	}
	// Each network namespace is read once. Its table has the same inode in every process.
	tables := map[uint64]map[string]int{here: names}
	processes, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm")) // the pattern is valid
	for _, comm := range processes {
		if text, err := os.ReadFile(comm); err != nil || strings.TrimSpace(string(text)) != program {
			continue
		}
		dir := filepath.Dir(comm)
		table := filepath.Join(dir, "net/unix")
		net := inode(table)
		if net == 0 {
			continue // ended, or of another user
		}
		if _, ok := tables[net]; !ok {
			tables[net], _ = marks(table, prefix)
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		own := ownID(dir, pid)
		for name, id := range tables[net] {
			a := found[name]
			if a == nil {
				a = &Agent{Own: id}
				found[name] = a
			}
			if id == own {
				a.PID = pid
			}
		}
	}
	delete(found, except)
	list := []Agent{}
	for _, a := range found {
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b Agent) int {
		if (a.PID == 0) != (b.PID == 0) {
			return cmp.Compare(b.PID, a.PID) // forged marks do not hide a process
		}
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Own, b.Own))
	})
	return list, nil
}

// marks returns the marks with the prefix in a table of unix sockets, and the IDs that
// their processes have.
func marks(table, prefix string) (map[string]int, error) {
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	names := map[string]int{}
	for line := range strings.Lines(string(text)) {
		_, name, ok := strings.Cut(line, " @"+prefix)
		if !ok {
			continue
		}
		name = strings.TrimSpace(name)
		digits, _, _ := strings.Cut(name, "-")
		if pid, err := strconv.Atoi(digits); err == nil && pid > 0 {
			names[prefix+name] = pid
		}
		if len(names) >= mostMarks {
			break
		}
	}
	return names, nil
}

func inode(path string) uint64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// ownID returns the ID of a process in its own namespace of IDs.
func ownID(dir string, pid int) int {
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return pid
	}
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(ids)
			if len(fields) == 0 {
				break
			}
			if own, err := strconv.Atoi(fields[len(fields)-1]); err == nil {
				return own
			}
		}
	}
	return pid
}

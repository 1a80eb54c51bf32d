package watcher

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fsnotify does not report that a writer has closed a file, and its events cannot be
// ordered with those of another descriptor. So changes, closes and renames are read here
// from a separate descriptor. All directories share it, because the number of such
// descriptors is limited for each user.

// writerEvents are the requested reports. An open is reported before any write. The first
// write is reported only some time after its data can be read. So only the open shows a
// writer that does not truncate the file.
const writerEvents = unix.IN_OPEN | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CREATE | unix.IN_DELETE

// writerPause is the time between two reads of the descriptor. It merges many events into
// one wake-up. The kernel queues over 16,000.
const writerPause = time.Millisecond

var errNoWriters = errors.New("the descriptor for reports about writers is closed")

// shared is the current descriptor. Its hub is nil while there is none.
var shared struct {
	mu  sync.Mutex // taken before that of the hub
	hub *hub
}

// A hub is a descriptor with reports about the writers in some directories.
type hub struct {
	file  *os.File
	conn  syscall.RawConn
	ended chan struct{} // closed after the last read

	mu     sync.Mutex // guards the fields below and those of the directories
	serial uint64
	dirs   map[int32][]*writers // by watch descriptor; one directory may be watched by several paths
	buf    [16 << 10]byte
}

// writers has the reports about writers in one directory. It is safe for concurrent use.
type writers struct {
	hub   *hub
	wd    int32
	match func(string) bool

	// Guarded by the lock of the hub.
	reports reports
	closed  func(name string) // called after each close and rename; may be nil
}

// watchWriters starts to collect reports about the files in dir that match.
func watchWriters(dir string, match func(string) bool) (*writers, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	h := shared.hub
	if h == nil {
		var err error
		if h, err = newHub(); err != nil {
			return nil, err
		}
		shared.hub = h
	}
	w := &writers{hub: h, match: match}
	if err := h.add(dir, w); err != nil {
		h.closeIfUnused()
		return nil, err
	}
	return w, nil
}

func newHub() (*hub, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	h := &hub{file: os.NewFile(uintptr(fd), "inotify"), ended: make(chan struct{}), dirs: make(map[int32][]*writers)}
	if h.conn, err = h.file.SyscallConn(); err != nil {
		_ = h.file.Close() // nothing was read
		return nil, err
	}
	go h.listen()
	return h, nil
}

func (h *hub) add(dir string, w *writers) error {
	h.mu.Lock() // no event is read before its directory is known
	defer h.mu.Unlock()
	err := errNoWriters
	if ctrl := h.conn.Control(func(fd uintptr) {
		var wd int
		if wd, err = unix.InotifyAddWatch(int(fd), dir, writerEvents|unix.IN_ONLYDIR); err == nil {
			w.wd = int32(wd)
			h.dirs[w.wd] = append(h.dirs[w.wd], w)
		}
	}); ctrl != nil {
		return ctrl
	}
	return os.NewSyscallError("inotify_add_watch", err)
}

// close ends the reports.
func (w *writers) close() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	w.hub.remove(w)
	w.hub.closeIfUnused()
}

func (h *hub) remove(w *writers) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.closed = nil
	w.reports.forgetAll()
	rest := h.dirs[w.wd]
	for i, x := range rest {
		if x == w {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) > 0 {
		h.dirs[w.wd] = rest
		return
	}
	if _, there := h.dirs[w.wd]; there {
		delete(h.dirs, w.wd)
		_ = h.conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(w.wd)) }) // it may have ended by itself
	}
}

// closeIfUnused ends the hub if no directory needs it. The lock of shared is held.
func (h *hub) closeIfUnused() {
	h.mu.Lock()
	used := len(h.dirs) > 0
	h.mu.Unlock()
	if used {
		return
	}
	if shared.hub == h {
		shared.hub = nil
	}
	_ = h.file.Close() // nothing to lose
	<-h.ended
}

// attach sets the function to call for each file that a writer closes or that is renamed
// into the directory. It must not wait.
func (w *writers) attach(closed func(name string)) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.closed = closed
}

// last returns the last report about a file, after it has read the queued ones. If the
// report has the serial mine, the file counts as not opened since.
func (w *writers) last(name string, mine uint64) report {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	alive := false
	if h.conn.Control(func(fd uintptr) { _, alive = h.drain(int(fd)) }) != nil || !alive {
		return report{}
	}
	if mine != 0 {
		w.reports.ignoreOpen(name, mine)
	}
	return w.reports.byName[name]
}

// listen reads reports until the descriptor is closed.
func (h *hub) listen() {
	alive := true
	var err error
	for err == nil && alive {
		err = h.conn.Read(func(fd uintptr) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			var any bool
			any, alive = h.drain(int(fd))
			return any || !alive // else it waits
		})
		if err == nil && alive {
			time.Sleep(writerPause)
		}
	}
	close(h.ended)
	if err == nil {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.hub == h {
			shared.hub = nil // the next directory gets another descriptor
		}
	}
}

// drain reads all queued reports. It returns whether there were any, and whether the
// descriptor can be read. The lock is held.
func (h *hub) drain(fd int) (any, alive bool) {
	for {
		n, err := unix.Read(fd, h.buf[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return any, true
		case err != nil || n <= 0:
			h.forgetAll()
			return any, false
		default:
			any = true
			h.take(h.buf[:n], time.Now())
		}
	}
}

// forgetAll drops all reports. The lock is held.
func (h *hub) forgetAll() {
	for _, dir := range h.dirs {
		for _, w := range dir {
			w.reports.forgetAll()
		}
	}
}

// take processes a block of reports. The lock is held.
func (h *hub) take(b []byte, now time.Time) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			return
		}
		name := b[unix.SizeofInotifyEvent:end]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		b = b[end:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			h.forgetAll()
		case mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0:
			for _, w := range h.dirs[wd] {
				w.reports.forgetAll()
			}
			if mask&unix.IN_IGNORED != 0 {
				delete(h.dirs, wd)
			}
		case len(name) > 0:
			for _, w := range h.dirs[wd] {
				h.serial++
				w.take(string(name), mask, h.serial, now)
			}
		}
	}
}

// take processes one report. The lock of the hub is held.
func (w *writers) take(name string, mask uint32, serial uint64, now time.Time) {
	if !w.match(name) {
		return
	}
	switch {
	case mask&unix.IN_OPEN != 0:
		w.reports.open(name)
		return
	case mask&unix.IN_MODIFY != 0:
		w.reports.note(name, changed, serial, now)
		return
	case mask&unix.IN_CLOSE_WRITE != 0:
		w.reports.note(name, closed, serial, now)
	case mask&unix.IN_MOVED_TO != 0:
		w.reports.note(name, renamed, serial, now)
	default:
		// A new name may be a link to a file that has writers.
		w.reports.forget(name)
		return
	}
	if w.closed != nil {
		w.closed(name)
	}
}

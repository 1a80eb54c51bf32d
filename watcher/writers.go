package watcher

import "time"

// A report is the kernel's last report about the content of a file. The zero value is
// none.
type report struct {
	serial uint64 // numbers all reports of the process, from 1
	kind   reportKind
	opened bool // since, or for a change: since the close or rename before it; see Written
	at     time.Time
}

type reportKind uint8

const (
	changed reportKind = iota // written to or truncated, and not closed since
	closed                    // closed by a writer, and not changed since
	renamed                   // given its name by a rename, and not changed since
)

// reports holds the last report of each file of one directory. It is not safe for
// concurrent use.
type reports struct {
	byName map[string]report
	sweep  int // number of files at which old reports are dropped
}

const (
	// reportsKept is the number of reports below which none is dropped for its age.
	reportsKept = 256

	// reportAge is the age at which a report without a writer is dropped. A change is
	// read long before that.
	reportAge = 10 * time.Second
)

// note replaces the report about a file.
func (r *reports) note(name string, kind reportKind, serial uint64, now time.Time) {
	if r.byName == nil {
		r.byName = make(map[string]report)
	}
	before, known := r.byName[name]
	if kind == closed && known && before.kind == renamed {
		kind = renamed // by a writer that renames first, and has written nothing since
	}
	if !known && len(r.byName) >= max(r.sweep, reportsKept) {
		for old, x := range r.byName {
			if x.kind != changed && now.Sub(x.at) > reportAge {
				delete(r.byName, old)
			}
		}
		r.sweep = 2 * len(r.byName)
	}
	// A change without a reported open is by truncate(2), or by a writer that had the
	// file open before.
	opened := kind == changed && (!known || before.opened)
	r.byName[name] = report{serial: serial, kind: kind, opened: opened, at: now}
}

// open notes that a file was opened, if there is a report about it.
func (r *reports) open(name string) { r.setOpened(name, true) }

// ignoreOpen reverts the note that a file was opened, if the report about it is still
// the one with the serial.
func (r *reports) ignoreOpen(name string, serial uint64) {
	if r.byName[name].serial == serial {
		r.setOpened(name, false)
	}
}

func (r *reports) setOpened(name string, opened bool) {
	if x, ok := r.byName[name]; ok && x.opened != opened {
		x.opened = opened
		r.byName[name] = x
	}
}

// forget drops the report about a file.
func (r *reports) forget(name string) { delete(r.byName, name) }

// forgetAll drops all reports.
func (r *reports) forgetAll() { clear(r.byName) }

// Written returns the kernel's last report about the content of a file. It includes all
// reports up to the call. So a file that was closed before a read and has the same serial
// after it did not change in between.
//
// The serial is 0 if there was no report since the watch was made, or if the report was
// lost. Outside Linux there are no reports. The booleans mean:
//
//   - isClosed: a writer has closed the file, without a write after that.
//   - isRenamed: the file got its name by a rename and is complete. Then isClosed is
//     true as well.
//   - isOpened: the file was opened after the close or rename, by a reader or a writer.
//
// A file that is neither closed nor opened was changed by truncate(2), or by a writer
// that had it open during the rename. Another writer may still have the file open if it
// has written nothing since. Changes through another name, such as a hard link or the
// target of a symbolic link, are not reported.
//
// A caller that has opened the file itself passes the serial of its last call as mine,
// if isOpened was false then. Its own open then does not count. Other callers pass 0.
// Written is safe for concurrent use.
func (w *Watcher) Written(name string, mine uint64) (serial uint64, isClosed, isRenamed, isOpened bool) {
	t := w.writers.Load()
	if t == nil {
		return 0, false, false, false
	}
	r := t.last(name, mine)
	if r.serial == 0 {
		return 0, false, false, false
	}
	return r.serial, r.kind != changed, r.kind == renamed, r.opened
}

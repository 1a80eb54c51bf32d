package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agents"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/jobstate"
	"github.com/promspool/promspool/filestore/wording"
	"github.com/promspool/promspool/watcher"
)

const asSomebodyElse = "run promspool doctor as root, or join the group of the directory"

// checkSpool checks the directory. It returns the open spool, or nil if it is not
// readable.
func (d *doctor) checkSpool() *filestore.Store {
	x, err := filestore.Inspect(d.spool, d.now)
	if errors.Is(err, fs.ErrPermission) {
		d.say(wrong, "spool", asSomebodyElse, "%v", err)
		return nil
	}
	if err != nil {
		d.say(wrong, "spool", "create it, or set --spool.directory or PROMSPOOL_SPOOL_DIRECTORY", "%v", err)
		return nil
	}
	store, err := d.open(&filestore.Options{})
	if err != nil {
		d.say(wrong, "spool", asSomebodyElse, "%v", err)
		return nil
	}
	if _, err := waitForWriters(store); err != nil {
		d.say(wrong, "spool", "retry when no process changes the directory", "%v", err)
	}
	totals := store.View().Totals()
	d.say(fine, "spool", "", "%s holds %s, %s and %s", d.spool, wording.Count(totals.Groups, "group"), wording.Count(totals.Dropped, "dropped file"), wording.Count(totals.Series, "sample"))
	d.checkRights(x)
	d.checkFileSystem(x)
	if filestore.LockHeld(d.spool, time.Second) {
		d.say(wrong, "lock", "find the process (fuser -v "+filepath.Join(d.spool, ".promspool.lock")+") and stop it", "another process holds the lock of the spool: until it releases the lock every push fails after some seconds")
	}
	d.checkAgents()
	d.checkTimes(x, store)
	if err := watcher.Probe(d.spool); watcher.IsDirectoryError(err) {
		d.say(wrong, "limits", asSomebodyElse, "the spool cannot be watched as it cannot be read: %v", err)
	} else if err != nil {
		d.say(wrong, "limits", "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl)", "the kernel does not watch the spool for this user: %v", err)
	} else {
		d.say(fine, "limits", "", "the kernel watches the spool for this user")
	}
	d.checkLeftovers(x)
	d.checkPushes(store)
	d.checkJobs(store)
	return store
}

// checkAgents reports several agents on the spool.
func (d *doctor) checkAgents() {
	found, err := agents.Find(d.proc, d.spool)
	if err != nil {
		d.say(skipped, "agents", "", "cannot determine how many agents serve the spool: %v", err)
		return
	}
	d.agents = found
	if len(found) < 2 {
		return
	}
	var pids []string
	for _, a := range found[:min(len(found), 10)] {
		if a.PID > 0 {
			pids = append(pids, strconv.Itoa(a.PID))
		}
	}
	do := "stop all agents but one, or give each its own --spool.directory"
	if len(pids) > 0 {
		do += "; ps -fp " + strings.Join(pids, ",") + " shows their flags"
	}
	if found[len(found)-1].PID == 0 {
		do += "; any local user can forge the mark of a process that is not visible: as root, ss -xlp | grep promspool-agent shows the process of each mark"
	}
	d.say(wrong, "agents", do, "%d agents serve the spool: %s", len(found), strings.Join(agents.Names(found), ", "))
}

// checkPushes lists the groups whose last push was rejected.
func (d *doctor) checkPushes(store *filestore.Store) {
	const most = 10
	refused := 0
	for f := range store.View().Files() {
		r, ok := f.Refused()
		if !ok {
			continue
		}
		if refused++; refused <= most {
			d.say(note, "pushes", "correct what "+wording.Visible(r.Client)+" pushes; the next push that succeeds clears this", "the last push to %s was refused at %s: %s", f.Group().Name(), r.Time.UTC().Format(time.RFC3339), wording.Visible(r.Message))
		}
	}
	if refused > most {
		d.say(note, "pushes", "promspool ls lists all", "the last push to %s more was refused", wording.Count(refused-most, "group"))
	}
}

// checkJobs lists the jobs that need attention.
func (d *doctor) checkJobs(store *filestore.Store) {
	const most = 10
	bad, v, now := 0, store.View(), time.Now()
	for f := range v.Files() {
		s, ok := jobstate.Of(func(metric string) (float64, bool) { return v.Value(f, metric) }, now)
		if !ok || !s.Bad() || f.Group().IsZero() {
			continue
		}
		if bad++; bad > most {
			continue
		}
		state := s.String()
		if s.Overdue {
			state += ", " + jobstate.Overdue + " since " + s.Due.UTC().Format(time.RFC3339)
		}
		d.say(note, "jobs", "promspool show "+f.Group().Name()+" has its runs; the next run that succeeds clears this", "the job %s: %s", f.Group().Name(), state)
	}
	if bad > most {
		d.say(note, "jobs", "promspool ls lists all", "%s more failed, were lost or are overdue", wording.Count(bad-most, "job"))
	}
}

func (d *doctor) checkRights(x *filestore.Inspection) {
	before := len(d.findings)
	dir := x.Dir
	owner := userName(dir.UID)
	if dir.Mode.Perm()&0o002 != 0 && dir.Mode&os.ModeSticky == 0 {
		d.say(wrong, "rights", "chmod o-w "+d.spool+", and add the users that write files to the group of the directory",
			"every user of this host can replace and delete every file: the spool has mode %s", octal(dir.Mode))
	}
	if d.readByNode() && dir.Mode.Perm()&0o005 != 0o005 {
		d.say(wrong, "rights", "chmod o+rx "+d.spool, "node_exporter serves the spool as well and cannot read it: it has mode %s", octal(dir.Mode))
	}
	if !x.Writable && !d.mountOf(d.spool).readOnly { // else checkFileSystem reports it
		d.say(note, "rights", "push through the agent as this user: promspool push --url=…", "the spool belongs to %s and is not writable for this user", owner)
	}
	var hidden, foreign []string
	for _, f := range x.Files {
		if f.Mode.IsRegular() && f.Mode.Perm()&0o004 == 0 {
			hidden = append(hidden, f.Name)
		}
		if dir.Mode&os.ModeSticky != 0 && strings.HasPrefix(f.Name, "job=") && f.UID != dir.UID && dir.UID != 0 {
			foreign = append(foreign, f.Name)
		}
	}
	if len(hidden) > 0 {
		d.say(wrong, "rights", "write them with mode 0644, as promspool write does, or chmod o+r",
			"other users, such as that of an agent or of node_exporter, may not read %s", few(hidden))
	}
	if len(foreign) > 0 {
		d.say(wrong, "rights", "chown "+owner+" these files, or chmod -t "+d.spool,
			"the directory has the sticky bit, so the agent, as %s, cannot replace %s of other users", owner, few(foreign))
	}
	if len(d.findings) == before {
		d.say(fine, "rights", "", "the spool belongs to %s and has the mode %s, its files are world-readable", owner, octal(dir.Mode))
	}
}

// Minimum free space, relative and absolute. Reaching either is enough.
const (
	leastFree      = 0.05
	plentyOfBytes  = 1 << 30
	plentyOfInodes = 100_000
)

func (d *doctor) checkFileSystem(x *filestore.Inspection) {
	mount := d.mountOf(d.spool)
	switch {
	case mount.readOnly:
		d.say(wrong, "file-system", "mount "+mount.point+" for writing", "the file system of the spool is mounted read-only")
	case isNetwork(mount.kind):
		d.say(wrong, "file-system", "move the spool to a local file system", "the spool is on a network file system (%s): changes from other hosts are detected late, and renames may not be atomic", mount.kind)
	case mount.kind == "tmpfs" || mount.kind == "ramfs":
		d.say(note, "file-system", "move the spool to a disk if pushes must survive a reboot", "the spool is in memory (%s)", mount.kind)
	case mount.kind == "overlay":
		d.say(note, "file-system", "mount a volume at "+d.spool, "the spool is in the layer of a container (%s) and is deleted with it", mount.kind)
	case d.hasNoJournal(mount):
		d.say(note, "file-system", "move the spool to a file system that has one, or give it one (tune2fs -O has_journal, unmounted)",
			"the spool is on %s without a journal, mounted at %s, so a power cut may lose synced data", mount.kind, mount.point)
	case mount.kind != "":
		d.say(fine, "file-system", "", "the spool is on %s, mounted at %s", mount.kind, mount.point)
	default:
		d.say(skipped, "file-system", "", "cannot determine the type of the file system")
	}
	low := func(free, total, plenty int64) bool {
		return total > 0 && free < plenty && float64(free) < leastFree*float64(total)
	}
	for _, q := range x.Quotas {
		of := userName(q.ID)
		if q.Group {
			of = "group " + strconv.FormatUint(uint64(q.ID), 10)
		}
		const do = "raise the quota (setquota), or delete groups: without space pushes fail"
		switch {
		case low(q.BytesLeft, q.Bytes, plentyOfBytes):
			d.say(wrong, "quota", do, "the quota of %s leaves %s of %s", of, wording.Bytes(q.BytesLeft), wording.Bytes(q.Bytes))
		case low(q.InodesLeft, q.Inodes, plentyOfInodes):
			d.say(wrong, "quota", do, "the quota of %s leaves %d of %d inodes", of, q.InodesLeft, q.Inodes)
		default:
			d.say(fine, "quota", "", "the quota of %s leaves %s of %s", of, wording.Bytes(q.BytesLeft), wording.Bytes(q.Bytes))
		}
	}
	switch {
	case low(x.Free, x.Total, plentyOfBytes):
		d.say(wrong, "space", "free some space: without it pushes fail", "%s of %s are free", wording.Bytes(x.Free), wording.Bytes(x.Total))
	case low(x.FreeFiles, x.TotalFiles, plentyOfInodes):
		d.say(wrong, "space", "free some inodes: each group is a file, and without inodes pushes fail", "%d of %d inodes are free", x.FreeFiles, x.TotalFiles)
	default:
		d.say(fine, "space", "", "%s of %s are free", wording.Bytes(x.Free), wording.Bytes(x.Total))
	}
}

// checkTimes looks for times in the future. A clock was wrong, and ages are wrong until
// then.
func (d *doctor) checkTimes(x *filestore.Inspection, store *filestore.Store) {
	var ahead []string
	for _, f := range x.Files {
		if g := store.View().File(f.Name); f.ModTime.Sub(d.now) > clockSlack || g != nil && (g.LastPush().Sub(d.now) > clockSlack || g.LastFailure().Sub(d.now) > clockSlack) {
			ahead = append(ahead, f.Name)
		}
	}
	if len(ahead) > 0 {
		d.say(wrong, "times", "check the clock (timedatectl), then push again or touch the files", "the last change of %s is in the future", few(ahead))
		return
	}
	d.say(fine, "times", "", "no time in the spool is in the future")
}

func (d *doctor) checkLeftovers(x *filestore.Inspection) {
	if len(x.Leftovers) > 0 {
		d.say(note, "leftovers", "start the agent, which deletes them", "killed processes have left %s", few(x.Leftovers))
	}
	if len(x.Unread) > 0 {
		d.say(note, "leftovers", "rename files with metrics to end in .prom", "not served: %s", few(x.Unread))
	}
}

// checkFiles checks the contents of the files.
func (d *doctor) checkFiles(store *filestore.Store) {
	own, err := ownFamilies()
	if err != nil {
		d.say(skipped, "files", "", "%v", err)
		return
	}
	report, err := filestore.Check([]string{store.Path()}, &filestore.CheckOptions{Own: own, NodeExporter: true})
	if err != nil {
		d.say(wrong, "files", "", "%v", err)
		return
	}
	const most = 20
	told, forNode, more := 0, 0, 0
	for _, f := range report.Findings {
		level, check := wrong, "files"
		if f.Reason == filestore.NodeExporterOnly {
			forNode++
			if !d.readByNode() {
				continue
			}
			check = "node_exporter-files"
		}
		if told == most {
			more++
			continue
		}
		told++
		at := oneLine(filepath.Base(f.File))
		if f.Line > 0 {
			at += ":" + strconv.Itoa(f.Line)
		}
		d.say(level, check, whatToDo(f.Reason), "%s: %s: %s (node_exporter: %s)", at, f.Reason, f.Message, f.NodeExporter)
	}
	switch {
	case more > 0:
		d.say(wrong, "files", "promspool check --node-exporter "+d.spool+" lists all", "%s more", wording.Count(more, "finding"))
	case told == 0 && forNode > 0:
		d.say(fine, "files", "", "promspool serves all of them")
		d.say(note, "node_exporter-files", "promspool check --node-exporter "+d.spool+" lists it", "node_exporter, as of version %s, would not serve all of them as they are (%s); it is not seen to read the spool", filestore.NodeExporterVersion, wording.Count(forNode, "finding"))
	case told == 0:
		d.say(fine, "files", "", "promspool serves all of them, and so would node_exporter as of version %s", filestore.NodeExporterVersion)
	}
}

// whatToDo returns the remedy for a file.
func whatToDo(r exposition.Reason) string {
	switch r {
	case exposition.TypeConflict, exposition.Duplicate:
		return "use another name or label in one of the two, or delete the outdated file: promspool rm FILE"
	case exposition.Reserved:
		return "rename the metric: the name is in use"
	case exposition.TooLarge:
		return "make the file smaller, or raise --spool.max-file-bytes"
	case exposition.NotRegular, exposition.Unreadable:
		return "replace it by a regular, world-readable file, or delete it"
	case exposition.Busy:
		return "write to a temporary file and rename it, best by sending its output through promspool write"
	case filestore.NodeExporterOnly:
		return "write it with promspool write, or let Prometheus scrape promspool instead"
	}
	return "correct the program that writes the file, best by sending its output through promspool write, or remove the file: promspool rm FILE"
}

// few lists some of many names.
func few(names []string) string {
	const most = 5
	shown := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		shown = append(shown, oneLine(n))
	}
	text := strings.Join(shown, ", ")
	if n := len(names) - most; n > 0 {
		text += " and " + strconv.Itoa(n) + " more"
	}
	return text
}

func octal(m os.FileMode) string {
	bits := uint32(m.Perm())
	for flag, bit := range map[os.FileMode]uint32{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return "0" + strconv.FormatUint(uint64(bits), 8)
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// mount is a mounted file system.
type mount struct {
	point, kind string
	device      string // major:minor, such as 8:1
	readOnly    bool
}

// mountOf returns the file system of a path, if the system reports it.
func (d *doctor) mountOf(path string) mount {
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return mount{}
	}
	table, err := os.ReadFile(filepath.Join(d.proc, "self/mountinfo"))
	if err != nil {
		return mount{}
	}
	var best mount
	for line := range strings.Lines(string(table)) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		point := unescapeMount(left[4])
		if path != point && !strings.HasPrefix(path, strings.TrimSuffix(point, "/")+"/") || len(point) < len(best.point) {
			continue
		}
		readOnly := slices.Contains(strings.Split(left[5], ","), "ro") || slices.Contains(strings.Split(right[2], ","), "ro")
		best = mount{point, right[0], left[2], readOnly} // the last of several at one point hides the others
	}
	return best
}

// hasNoJournal reports whether a file system of the ext4 family has no journal: the
// kernel lists no journal thread.
func (d *doctor) hasNoJournal(m mount) bool {
	if !strings.HasPrefix(m.kind, "ext") {
		return false
	}
	disk, err := os.Readlink(filepath.Join(d.sys, "dev/block", m.device))
	if err != nil {
		return false
	}
	task, err := os.ReadFile(filepath.Join(d.sys, "fs/ext4", filepath.Base(disk), "journal_task"))
	return err == nil && strings.TrimSpace(string(task)) == "<none>"
}

// unescapeMount decodes the kernel's escapes, such as \040 for a space.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isNetwork reports whether other hosts can change the file system.
func isNetwork(kind string) bool {
	switch kind {
	case "fuse.fuseblk", "fuseblk":
		return false // a local disk
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "ceph", "afs", "coda", "gfs", "gfs2", "ocfs2", "lustre", "beegfs", "gpfs", "vboxsf", "virtiofs":
		return true
	}
	return strings.HasPrefix(kind, "fuse.")
}

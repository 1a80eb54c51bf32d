package filestore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore/disk"
	"github.com/promspool/promspool/filestore/grouping"
)

// An Inspection has properties of a spool in the file system that [Open] does not
// check.
type Inspection struct {
	Dir Owned // the directory itself
	// Free and Total are the bytes of the file system that the caller may use,
	// and all of them. FreeFiles and TotalFiles are the same for inodes; they are
	// zero for a file system without a limit.
	Free, Total           int64
	FreeFiles, TotalFiles int64
	Quotas                []disk.Quota // of the owner and the group of the directory, if the kernel reports them
	Writable              bool         // by the caller
	Files                 []Owned
	Leftovers             []string // temporary files of processes that died at least a minute ago
	Unread                []string // other files that no agent reads
}

// Owned is a file or directory with its owner and mode.
type Owned struct {
	Name     string // in the spool; empty for the spool
	UID, GID uint32
	Mode     fs.FileMode // of the target for a symbolic link
	ModTime  time.Time
}

// Inspect returns an Inspection of a directory and its files. It does not open or change
// the files.
func Inspect(dir string, now time.Time) (*Inspection, error) {
	x := &Inspection{}
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, disk.Wrap("looking at "+dir, err)
	}
	x.Dir = owned("", fi)
	if !fi.IsDir() {
		return nil, disk.Wrap("looking at "+dir, unix.ENOTDIR)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, disk.Wrap("looking at the file system of "+dir, err)
	}
	x.Total, x.Free = int64(st.Blocks)*int64(st.Bsize), int64(st.Bavail)*int64(st.Bsize)
	x.TotalFiles, x.FreeFiles = int64(st.Files), int64(st.Ffree)
	if f, err := os.Open(dir); err == nil {
		x.Quotas = disk.Quotas(f, x.Dir.UID, x.Dir.GID)
		_ = f.Close() // nothing was written
	}
	x.Writable = unix.Access(dir, unix.W_OK|unix.X_OK) == nil
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, disk.Wrap("listing "+dir, err)
	}
	for _, e := range entries {
		name := e.Name()
		fi, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			if fi, err = e.Info(); err != nil {
				continue // deleted, or a broken link
			}
		} else if err != nil {
			continue // the Store reports it as unreadable
		}
		switch {
		case grouping.IsSpoolFile(name):
			x.Files = append(x.Files, owned(name, fi))
		case disk.Leftover.MatchString(name):
			if now.Sub(fi.ModTime()) > time.Minute && !inUse(filepath.Join(dir, name)) {
				x.Leftovers = append(x.Leftovers, name)
			}
		case !strings.HasPrefix(name, ".") && fi.Mode().IsRegular():
			x.Unread = append(x.Unread, name)
		}
	}
	slices.SortFunc(x.Files, func(a, b Owned) int { return strings.Compare(a.Name, b.Name) })
	return x, nil
}

func owned(name string, fi fs.FileInfo) Owned {
	o := Owned{Name: name, Mode: fi.Mode(), ModTime: fi.ModTime()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		o.UID, o.GID = st.Uid, st.Gid
	}
	return o
}

// inUse reports whether a process holds the lock on a temporary file, or that is
// unknown.
func inUse(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return true
	}
	defer f.Close() //nolint:errcheck // only looked at
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

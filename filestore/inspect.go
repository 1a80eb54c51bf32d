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

// An Inspection is what the operating system says of a spool: what [Open] does
// not look at and what may still be wrong with it.
type Inspection struct {
	Dir Owned // the directory itself
	// Free and Total are the bytes of the file system that are free for whoever
	// asks, and all of them; FreeFiles and TotalFiles count inodes the same
	// way and are zero where the file system has no bound of them.
	Free, Total           int64
	FreeFiles, TotalFiles int64
	Quotas                []disk.Quota // of the owner and the group of the directory, as far as the kernel says them
	Writable              bool         // by whoever asks
	Files                 []Owned
	Leftovers             []string // temporary files of commits that have died, a minute ago or longer
	Unread                []string // other files that no agent reads
}

// Owned is a file or directory with its owner and rights.
type Owned struct {
	Name     string // in the spool; empty for the spool
	UID, GID uint32
	Mode     fs.FileMode // of what a symbolic link leads to
	ModTime  time.Time
}

// Inspect looks at a directory and the files in it, by name. Nothing is read or
// written.
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
		_ = f.Close() // only asked
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
				continue // gone; else a link that leads nowhere
			}
		} else if err != nil {
			continue // the Store says of it that it cannot be looked at
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

// inUse reports whether somebody holds the lock on a temporary file, or it
// cannot be told.
func inUse(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return true
	}
	defer f.Close() //nolint:errcheck // only looked at
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

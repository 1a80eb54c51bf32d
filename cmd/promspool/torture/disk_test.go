//go:build linux

package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// page is the unit in which a write may be on the disk or not.
const page = 4096

// A disk is a file in its own FUSE file system, under the loop device of the file
// system under test. It logs writes and flushes in the order of their completion, so
// that it can be rebuilt as after a power cut at any instant. An instant is a length
// of the log.
type disk struct {
	fs.Inode

	mu    sync.Mutex
	first []byte // the content before the log; nil if there is none
	now   []byte
	log   []record
	at    atomic.Int64 // length of the log

	broken atomic.Bool // writes and flushes fail
	failed atomic.Int64

	dir    string // directory of its file
	server *fuse.Server
	once   sync.Once
}

// record is one write, or a flush if it has no data.
type record struct {
	offset int64
	data   []byte
}

var (
	_ fs.NodeGetattrer = (*disk)(nil)
	_ fs.NodeSetattrer = (*disk)(nil)
	_ fs.NodeOpener    = (*disk)(nil)
	_ fs.NodeReader    = (*disk)(nil)
	_ fs.NodeWriter    = (*disk)(nil)
	_ fs.NodeFsyncer   = (*disk)(nil)
)

func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(len(d.now))
	return 0
}

func (d *disk) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, f, out)
}

// Open disables the cache between the loop device and the disk.
func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *disk) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= int64(len(d.now)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(bytes.Clone(d.now[off:min(off+int64(len(dest)), int64(len(d.now)))])), 0
}

func (d *disk) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if d.broken.Load() {
		d.failed.Add(1)
		return 0, syscall.EIO
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if off+int64(len(data)) > int64(len(d.now)) {
		return 0, syscall.ENOSPC
	}
	copy(d.now[off:], data)
	if d.first != nil {
		d.append(record{off, bytes.Clone(data)})
	}
	return uint32(len(data)), 0
}

func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if d.broken.Load() {
		d.failed.Add(1)
		return syscall.EIO
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first != nil {
		d.append(record{})
	}
	return 0
}

func (d *disk) append(r record) {
	d.log = append(d.log, r)
	d.at.Store(int64(len(d.log)))
}

// instant returns the current instant.
func (d *disk) instant() int64 { return d.at.Load() }

// kept selects the writes after the last flush that are on the disk.
type kept int

const (
	keptNothing kept = iota
	keptAll
	keptSome // of each write any page
)

func (k kept) String() string { return []string{"nothing", "all", "some"}[k] }

// cut returns the content of the disk after a power cut at that instant.
func (d *disk) cut(at int64, k kept, rnd *rand.Rand) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	flushed := int64(-1)
	for i := range at {
		if d.log[i].data == nil {
			flushed = i
		}
	}
	content := bytes.Clone(d.first)
	for i, r := range d.log[:at] {
		for from := 0; from < len(r.data); from += page {
			if int64(i) > flushed && (k == keptNothing || k == keptSome && rnd.IntN(2) == 0) {
				continue
			}
			copy(content[r.offset+int64(from):], r.data[from:min(from+page, len(r.data))])
		}
	}
	return content
}

func (d *disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	flushes, size := 0, 0
	for _, r := range d.log {
		size += len(r.data)
		if r.data == nil {
			flushes++
		}
	}
	return fmt.Sprintf("%d writes of %d KiB, %d flushes", len(d.log)-flushes, size>>10, flushes)
}

// A fileSystem is a type of file system for the spool.
type fileSystem struct {
	name    string
	kind    string
	mkfs    []string
	options string // makes the kernel commit rarely, which would hide a missing flush
	mib     int
}

var (
	mkfsExt4    = []string{"mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"}
	ext4        = fileSystem{"ext4", "ext4", mkfsExt4, "commit=600", 48}
	ext4Loose   = fileSystem{"ext4 with data=writeback,noauto_da_alloc", "ext4", mkfsExt4, "commit=600,data=writeback,noauto_da_alloc,errors=remount-ro", 48}
	xfs         = fileSystem{"xfs", "xfs", []string{"mkfs.xfs", "-q", "-f", "-K"}, "", 320}
	btrfs       = fileSystem{"btrfs", "btrfs", []string{"mkfs.btrfs", "-q", "-f", "-K"}, "commit=300", 160}
	fileSystems = []fileSystem{ext4Loose, ext4, xfs, btrfs}
)

// known skips the test if the kernel does not support the file system.
func (f fileSystem) known(t *testing.T) {
	t.Helper()
	list, err := os.ReadFile("/proc/filesystems")
	done(t, err)
	if !strings.Contains(string(list), "\t"+f.kind+"\n") {
		t.Skipf("the kernel does not know %s", f.kind)
	}
}

// make formats an image and returns its bytes.
func (f fileSystem) make(t *testing.T) []byte {
	t.Helper()
	need(t, f.mkfs[0])
	image := filepath.Join(directory(t), "image")
	done(t, os.WriteFile(image, nil, 0o600))
	done(t, os.Truncate(image, int64(f.mib)<<20))
	done(t, command(f.mkfs[0], append(f.mkfs[1:len(f.mkfs):len(f.mkfs)], image)...))
	content, err := os.ReadFile(image)
	done(t, err)
	done(t, os.Remove(image))
	return content
}

// plug creates a disk with that content until the test ends or unplug. A disk to be
// cut needs a log.
func plug(t *testing.T, content []byte, log bool) *disk {
	t.Helper()
	d := &disk{now: content, dir: directory(t)}
	if log {
		d.first = bytes.Clone(content)
	}
	hour := time.Hour
	root := new(fs.Inode)
	var err error
	d.server, err = fs.Mount(d.dir, root, &fs.Options{
		EntryTimeout: &hour, AttrTimeout: &hour,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "torture", Name: "torture", DisableXAttrs: true},
		OnAdd: func(ctx context.Context) {
			root.AddChild("disk", root.NewPersistentInode(ctx, d, fs.StableAttr{Mode: unix.S_IFREG}), true)
		},
	})
	done(t, err)
	t.Cleanup(d.unplug)
	return d
}

// unplug removes the disk. It must not be mounted.
func (d *disk) unplug() {
	d.once.Do(func() {
		_ = unmount(d.dir)
		_ = unix.Unmount(d.dir, unix.MNT_DETACH) // a process still uses it
		d.server.Wait()
		d.now, d.first, d.log = nil, nil, nil // several hundred MiB each
		debug.FreeOSMemory()
	})
}

// mount mounts the file system on the disk and returns the mount point. The loop
// device ends with the mount.
func (f fileSystem) mount(t *testing.T, d *disk) (string, error) {
	t.Helper()
	options := "loop"
	if f.options != "" {
		options += "," + f.options
	}
	at := directory(t)
	t.Cleanup(func() {
		if unmount(at) != nil {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	})
	return at, command("mount", "-t", f.kind, "-o", options, filepath.Join(d.dir, "disk"), at)
}

// unmount unmounts and retries while a process still has a file open there.
func unmount(at string) error {
	return eventually(timeout, func() error {
		err := unix.Unmount(at, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // not mounted
		}
		return err
	})
}

// command runs a program. The error includes its output.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

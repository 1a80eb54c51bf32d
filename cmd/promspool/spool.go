package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/grouping"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/filestore/record"
	"github.com/promspool/promspool/filestore/wording"
)

// stateDirectory is where the package, the unit and the image store state.
const stateDirectory = "/var/lib/promspool"

// spoolMode lets members of the group write files, which inherit the group.
const spoolMode = fs.ModeSetgid | 0o775

// defaultSpool returns the spool that commands use if none is set. It depends on
// the state directory alone: pushes go to an empty volume there, not to the current
// directory of a container.
func defaultSpool(state string) string {
	if _, err := os.Lstat(state); errors.Is(err, fs.ErrNotExist) {
		return "./spool"
	}
	return filepath.Join(state, "spool")
}

// openSpool opens an existing spool. Only the agent creates one.
func openSpool(dir string, opts *filestore.Options) (*filestore.Store, error) {
	store, err := filestore.Open(dir, opts)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s", err, setSpool)
	}
	return store, denied(dir, err, "")
}

// deniedError is a permission error on the spool, with remedies.
type deniedError struct {
	error
	dir, flag string
}

func (e *deniedError) Unwrap() error { return e.error }

func (e *deniedError) Error() string {
	text := fmt.Sprintf("%v: the user lacks permission in the spool %s: join the group of the directory (see ls -ld)", e.error, oneLine(e.dir))
	if e.flag != "" {
		text += ", or send to the agent with " + e.flag
	}
	return text
}

// denied wraps permission errors as a deniedError. flag is the flag with which the
// command uses an agent instead, or empty.
func denied(dir string, err error, flag string) error {
	if before := (*deniedError)(nil); errors.As(err, &before) {
		before.flag = flag
		return err
	}
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &deniedError{err, dir, flag}
}

// createSpool creates the spool if it does not exist, and reports whether it did. It
// does not create its parent: a missing one is a mistyped path or a missing mount. The
// path is that of the kernel: a ".." after a link or a missing directory is not removed.
func createSpool(dir string) (created bool, err error) {
	dir = withoutSlashes(dir)
	if root, err := os.Stat("/"); err == nil {
		if fi, err := os.Stat(dir); err == nil && os.SameFile(fi, root) {
			return false, &usageError{fmt.Errorf("--spool.directory: %s is the root of the file system: use a directory for the spool alone", oneLine(dir))}
		}
	}
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if created, err = true, makeSpool(dir); errors.Is(err, fs.ErrExist) { // made by another process
			created = false
			fi, err = os.Stat(dir)
		}
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("creating the spool: %w", withRemedy(dir, err))
	case !created && !fi.IsDir():
		return false, fmt.Errorf("the spool %s is not a directory: %s", oneLine(dir), setSpool)
	}
	return created, nil
}

// setSpool is the remedy for a wrong path of the spool.
const setSpool = "set --spool.directory or PROMSPOOL_SPOOL_DIRECTORY"

// withRemedy adds a remedy to an error of creating the spool.
func withRemedy(dir string, err error) error {
	at := firstMissing(dir)
	if target, linkErr := os.Readlink(at); linkErr == nil && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is a link to %s, which does not exist: create that directory, correct the link, or %s", oneLine(at), oneLine(target), setSpool)
	}
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is below a file that is not a directory: %s", oneLine(dir), setSpool)
	case errors.Is(err, fs.ErrNotExist) && at != dir:
		err = fmt.Errorf("the directory %s does not exist", oneLine(at))
	case !errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s", err, setSpool)
	}
	return fmt.Errorf("%w: create it with \"install -d -m 2775 -o %d -g %d %s\", or %s", err, os.Geteuid(), os.Getegid(), oneLine(dir), setSpool)
}

// makeSpool creates the directory. It returns fs.ErrExist if the directory exists.
func makeSpool(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	err := handOver(dir)
	if err != nil {
		_ = os.Remove(dir) // it is still empty
	}
	return err
}

// firstMissing returns the topmost part of a path that does not exist. A link without
// a target does not exist.
func firstMissing(dir string) string {
	for {
		above := withoutSlashes(dir[:strings.LastIndexByte(dir, '/')+1])
		if above == "" {
			return dir
		}
		if _, err := os.Stat(above); !errors.Is(err, fs.ErrNotExist) {
			return dir
		}
		dir = above
	}
}

// plainPath returns a path of an existing directory that means the same to the kernel
// and to package filepath. They differ for a ".." after a link.
func plainPath(dir string) string {
	if !strings.Contains(dir, "..") {
		return dir
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	if plain, err := os.Stat(filepath.Clean(dir)); err == nil && os.SameFile(fi, plain) {
		return dir
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// withoutSlashes returns a path without slashes at its end.
func withoutSlashes(dir string) string {
	if short := strings.TrimRight(dir, "/"); short != "" || dir == "" {
		return short
	}
	return "/"
}

// handOver gives a new directory the owner of its parent, and its mode. Only root
// can change the owner; for other users it stays. It works on a descriptor, as the
// owner of the parent may replace the directory by a link.
func handOver(dir string) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	var owner unix.Stat_t
	if err := unix.Fstatat(int(f.Fd()), "..", &owner, 0); err != nil {
		return &fs.PathError{Op: "stat", Path: dir + "/..", Err: err}
	}
	switch {
	case int(owner.Uid) == os.Geteuid():
		_ = f.Chown(-1, int(owner.Gid)) // allowed for members of the group and root
	case os.Geteuid() == 0:
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	// With RestrictSUIDSGID= in a unit, only the mode without the setgid bit is allowed.
	if err = f.Chmod(spoolMode); errors.Is(err, fs.ErrPermission) {
		err = f.Chmod(spoolMode.Perm())
	}
	return err
}

// open opens the spool for a command that uses it directly, whether or not an agent
// is running. The command closes it.
func (c *common) open(opts *filestore.Options) (*filestore.Store, error) {
	if opts.Own == nil {
		own, err := ownFamilies()
		if err != nil {
			return nil, err
		}
		opts.Own = own
	}
	opts.NoSweep = true
	c.spool = plainPath(c.spool)
	return openSpool(c.spool, opts)
}

// waitForWriters waits briefly for files that are being written, as a command has no
// earlier version of them. It returns the names of those that are still being written.
func waitForWriters(store *filestore.Store) (writing []string, err error) {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		writing, err = store.Rescan()
		if err != nil || len(writing) == 0 || time.Now().After(deadline) {
			return writing, err
		}
	}
}

// find returns the file for an argument: a file name, with or without suffix or the
// quotes of ls, or a group. An argument that cannot be a name is a usage error.
func find(v *merge.View, arg string) (*record.File, error) {
	if arg == grouping.Suffix {
		return nil, &usageError{fmt.Errorf("the name of the file is empty except for the suffix %s", grouping.Suffix)}
	}
	unquoted, _ := strconv.Unquote(arg)
	for _, name := range [...]string{arg, arg + grouping.Suffix, unquoted} {
		if f := v.File(name); f != nil {
			return f, nil
		}
	}
	if strings.HasSuffix(arg, grouping.Suffix) || !strings.ContainsAny(arg, "={") {
		return nil, fmt.Errorf("the spool has no file %s", oneLine(arg))
	}
	g, err := grouping.ParseGroup(arg)
	if err != nil {
		return nil, &usageError{err}
	}
	if f := v.File(g.FileName()); f != nil {
		return f, nil
	}
	ms, err := grouping.ParseMatchers(arg)
	if err != nil {
		return nil, err
	}
	more := 0
	for f := range v.Files() {
		if ms.Match(f.Group()) {
			more++
		}
	}
	if more > 0 {
		return nil, fmt.Errorf("the spool has no group %s, but %s with more labels: select them with --match", g.Name(), wording.Count(more, "group"))
	}
	return nil, fmt.Errorf("the spool has no group %s", g.Name())
}

// groupOf returns the group of arguments of the form LABEL=VALUE.
func groupOf(args []string) (grouping.Key, error) {
	g, err := grouping.ParseGroup(strings.Join(args, ","))
	if err != nil {
		return g, &usageError{err}
	}
	return g, nil
}

// selection are the flags --match and the age.
type selection struct {
	match []string
	older duration
}

// parse returns the selection. It may include every group.
func (s *selection) parse(now time.Time) (*record.Selection, error) {
	sel := &record.Selection{OlderThan: time.Duration(s.older), Now: now}
	for _, m := range s.match {
		ms, err := grouping.ParseMatchers(m)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--match: %w", err)}
		}
		sel.Match = append(sel.Match, ms)
	}
	return sel, nil
}

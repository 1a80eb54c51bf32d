package main_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// staticPromspool builds the program as in a release.
func staticPromspool(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/promspool", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir + "/promspool"
}

// owners returns "MODE UID:GID" of a directory.
func owners(t *testing.T, dir string) string {
	t.Helper()
	fi, err := os.Stat(dir)
	agenttest.NoError(t, err)
	stat := fi.Sys().(*syscall.Stat_t)
	mode := fi.Mode().Perm()
	if fi.Mode()&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	return fmt.Sprintf("%o %d:%d", mode, stat.Uid, stat.Gid)
}

// The umask does not reduce the mode, and root gives the spool to the owner of its
// parent directory.
func TestAgentCreatesTheSpoolForTheOwnerOfItsParent(t *testing.T) {
	t.Parallel()
	parents := []string{fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())}
	if os.Geteuid() == 0 {
		parents = append(parents, "65532:65531", "0:65531", "65532:0")
	}
	for _, owner := range parents {
		t.Run(owner, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			var uid, gid int
			_, err := fmt.Sscanf(owner, "%d:%d", &uid, &gid)
			agenttest.NoError(t, err)
			agenttest.NoError(t, os.Chown(parent, uid, gid))
			a := agenttest.StartAgent(t, filepath.Join(parent, "spool")+"/")
			if log := a.Log.String(); !strings.Contains(log, `msg="Created the spool" spool=`+parent) {
				t.Errorf("the log does not have the new spool:\n%s", log)
			}
			if got, want := owners(t, a.Spool), "2775 "+owner; got != want {
				t.Errorf("the spool is %s, want %s", got, want)
			}
			a.Push("/metrics/job/x", "a 1\n")
			agenttest.NoError(t, os.Chmod(a.Spool, 0o755))
			if log := a.Restart().Log.String(); strings.Contains(log, "Created the spool") {
				t.Errorf("the log has a new spool:\n%s", log)
			}
			if got, want := owners(t, a.Spool), "755 "+owner; got != want {
				t.Errorf("the spool that was there is now %s, want %s", got, want)
			}
		})
	}
}

// TestSpoolWithParentOfALink has a path that leads elsewhere if ".." is removed with the
// link before it. All parts of the agent must use one directory.
func TestSpoolWithParentOfALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	agenttest.NoError(t, os.MkdirAll(dir+"/deep/down", 0o755))
	agenttest.NoError(t, os.Symlink("deep/down", dir+"/link"))
	spool := dir + "/link/../spool"
	a := agenttest.StartAgent(t, spool)
	a.Push("/metrics/job/x", "a 1\n")
	agenttest.NoError(t, os.WriteFile(dir+"/deep/spool/b.prom", []byte("b 1\n"), 0o644))
	a.Serves("b 1")
	if log := a.Log.String(); strings.Contains(log, "level=WARN") {
		t.Errorf("the log has a warning:\n%s", log)
	}
	out := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--spool.directory=" + spool, "ls"}}.Must(t)
	if !strings.Contains(out, "job=x") {
		t.Errorf("ls prints\n%s", out)
	}
	if got := strings.Join(agenttest.Files(t, dir), " "); got != "deep link" {
		t.Errorf("the directory has %s", got)
	}
}

// TestDefaultSpool runs promspool in root directories with and without the state
// directory, as its owner, as root and as another user.
func TestDefaultSpool(t *testing.T) {
	t.Parallel()
	agenttest.NeedRoot(t, "changes into a root of its own")
	static := staticPromspool(t)
	const state = "/var/lib/promspool"
	newRoot := func(t *testing.T, parent string) string {
		root := openDir(t)
		agenttest.NoError(t, os.Link(static, root+"/promspool"))
		agenttest.NoError(t, os.MkdirAll(root+parent, 0o755))
		return root
	}
	const user = "65532:65531"
	serving := func(t *testing.T, root, as string) *agenttest.Agent {
		s := agenttest.StartServer(t, `msg=Serving .* on=([0-9.:]+)`, "chroot", "--userspec="+as, root, "/promspool", "--web.listen-address=127.0.0.1:0")
		return &agenttest.Agent{Server: s, URL: "http://" + s.Addr}
	}

	t.Run("empty volume", func(t *testing.T) {
		for _, as := range []string{user, "0:0"} {
			root := newRoot(t, state)
			agenttest.NoError(t, os.Chown(root+state, 65532, 65531))
			for _, args := range [][]string{{"ls"}, {"push", "job=x"}, {"write", "x"}, {"show", "job=x"}, {"rm", "job=x"}, {"explain", "job=x"}, {"job", "declare", "x"}, {"expire"}, {"restore"}} {
				c := agenttest.Command{Name: "chroot", Args: append([]string{"--userspec=" + as, root, "/promspool"}, args...), Stdin: "a 1\n"}
				if out, errs, status := c.Run(t); status != 1 || !strings.Contains(out+errs, state+"/spool") || !strings.Contains(out+errs, "no such file or directory") {
					t.Errorf("%s as %s: %d, %q, %q, want 1 and the path", args, as, status, out, errs)
				}
				if _, err := os.Stat(root + state + "/spool"); err == nil {
					t.Fatalf("%s has created the spool", args)
				}
			}
			a := serving(t, root, as)
			if got := owners(t, root+state+"/spool"); got != "2775 "+user {
				t.Errorf("started as %s the spool is %s, want 2775 %s", as, got, user)
			}
			a.Push("/metrics/job/x", "a 1\n")
			agenttest.Command{Name: "chroot", Args: []string{"--userspec=" + as, root, "/promspool", "show", "job=x"}}.Must(t)
			if _, err := os.Stat(root + state + "/spool/job=x.prom"); err != nil {
				t.Error(err)
			}
			a.Stop()
		}
	})
	t.Run("volume of another user", func(t *testing.T) {
		root := newRoot(t, state)
		c := agenttest.Command{Name: "chroot", Args: []string{"--userspec=" + user, root, "/promspool", "--web.listen-address=127.0.0.1:0"}}
		out, errs, status := c.Run(t)
		want := state + `/spool: permission denied: create it with "install -d -m 2775 -o 65532 -g 65531 ` + state + `/spool"`
		if status != 1 || out != "" || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%d, %q, %q, want 1 and %q", status, out, errs, want)
		}
	})
	t.Run("link to a volume that is not mounted", func(t *testing.T) {
		root := newRoot(t, "/var/lib")
		agenttest.NoError(t, os.Symlink("/srv/promspool", root+state))
		c := agenttest.Command{Name: "chroot", Args: []string{root, "/promspool", "--web.listen-address=127.0.0.1:0"}}
		if out, errs, status := c.Run(t); status != 1 || !strings.Contains(errs, state) {
			t.Errorf("%d, %q, %q, want 1 and the path", status, out, errs)
		}
	})
	t.Run("no state directory", func(t *testing.T) {
		root := newRoot(t, "/var/lib")
		a := serving(t, root, "0:0")
		if got := owners(t, root+"/spool"); got != "2775 0:0" {
			t.Errorf("the spool is %s, want 2775 0:0", got)
		}
		a.Stop()
	})
}

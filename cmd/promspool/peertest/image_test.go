package peertest

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// An image is what .ci/test-container has built for one architecture.
type image struct {
	root         string // its files
	Architecture string
	Config       struct {
		User         string
		Env          []string
		Entrypoint   []string
		Cmd          []string
		Volumes      map[string]struct{}
		ExposedPorts map[string]struct{}
		Healthcheck  struct{ Test []string }
	}
}

const (
	imageUser = 65532
	volume    = "/var/lib/promspool"
)

func readImage(t *testing.T, arch string) *image {
	t.Helper()
	dir := os.Getenv("PROMSPOOL_TEST_IMAGE")
	if dir == "" {
		t.Skip("make test-container builds the image and runs this")
	}
	text, err := os.ReadFile(filepath.Join(dir, arch, "inspect.json"))
	agenttest.NoError(t, err)
	var inspected struct{ Docker image }
	agenttest.NoError(t, json.Unmarshal(text, &inspected))
	inspected.Docker.root = filepath.Join(dir, arch, "root")
	return &inspected.Docker
}

// wantOwned checks a directory's mode, and that it belongs to the image's user.
func wantOwned(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Stat(dir)
	agenttest.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	if info.Mode() != mode|fs.ModeDir || owner.Uid != imageUser || owner.Gid != imageUser {
		t.Errorf("%s has the mode %v and the owner %d:%d, want %v and %d", dir, info.Mode(), owner.Uid, owner.Gid, mode|fs.ModeDir, imageUser)
	}
}

func TestImageHolds(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			i := readImage(t, arch)
			if got, want := i.Config.User, fmt.Sprintf("%d:%d", imageUser, imageUser); got != want || i.Architecture != arch {
				t.Errorf("the image is for %s and runs as %q, want %s and %q", i.Architecture, got, arch, want)
			}
			if !slices.Contains(i.Config.Env, "PROMSPOOL_SPOOL_DIRECTORY="+volume+"/spool") {
				t.Errorf("the environment is %q, want the spool in it", i.Config.Env)
			}
			if got, want := slices.Collect(maps.Keys(i.Config.Volumes)), []string{volume}; !slices.Equal(got, want) {
				t.Errorf("the volumes are %q, want %q", got, want)
			}
			if got, want := slices.Collect(maps.Keys(i.Config.ExposedPorts)), []string{"9091/tcp"}; !slices.Equal(got, want) {
				t.Errorf("the ports are %q, want %q", got, want)
			}
			wantOwned(t, i.root+volume, 0o755)
			wantOwned(t, i.root+volume+"/spool", 0o775|fs.ModeSetgid)
			program, err := elf.Open(i.root + i.Config.Entrypoint[0])
			agenttest.NoError(t, err)
			defer program.Close()
			if libraries, err := program.ImportedLibraries(); program.Machine != machine || len(libraries) != 0 {
				t.Errorf("the program is for %v and needs %q, %v, want a static one for %v", program.Machine, libraries, err, machine)
			}
			var files []string
			agenttest.NoError(t, filepath.WalkDir(i.root, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && !entry.IsDir() {
					files = append(files, strings.TrimPrefix(path, i.root))
				}
				return err
			}))
			if !slices.Equal(files, []string{"/usr/bin/promspool"}) {
				t.Errorf("the files in the image are %q, want the program alone", files)
			}
		})
	}
}

// A container is the program of an image with a volume and no network but its own,
// as the image's user, in a root that is read-only.
type container struct {
	*agenttest.Server
	t   *testing.T
	i   *image
	pid int // of the program
}

// bubblewrap is the command that runs the image. The program has the process ID 1.
func (i *image) bubblewrap(t *testing.T, dir string) agenttest.Command {
	t.Helper()
	// A runtime makes these directories in the root as well.
	for _, mount := range []string{"/proc", "/dev"} {
		agenttest.NoError(t, os.MkdirAll(i.root+mount, 0o755))
	}
	args := []string{
		fmt.Sprintf("--reuid=%d", imageUser), fmt.Sprintf("--regid=%d", imageUser), "--clear-groups", agenttest.Need(t, "bwrap"),
		"--unshare-all", "--as-pid-1", "--ro-bind", i.root, "/", "--bind", dir, volume, "--proc", "/proc", "--dev", "/dev", "--clearenv",
	}
	for _, variable := range i.Config.Env {
		name, value, _ := strings.Cut(variable, "=")
		args = append(args, "--setenv", name, value)
	}
	args = append(append(args, i.Config.Entrypoint...), i.Config.Cmd...)
	return agenttest.Command{Name: agenttest.Need(t, "setpriv"), Args: args}
}

func (i *image) start(t *testing.T, dir string) *container {
	t.Helper()
	command := i.bubblewrap(t, dir)
	c := &container{t: t, i: i, Server: agenttest.StartServer(t, `msg=Serving .* on=(\S+:9091)`, command.Name, command.Args...)}
	parent := strconv.Itoa(c.Cmd.Process.Pid)
	children, err := os.ReadFile("/proc/" + parent + "/task/" + parent + "/children")
	agenttest.NoError(t, err)
	c.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
	agenttest.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(c.pid, syscall.SIGKILL) })
	return c
}

// inNetwork returns the command in the container's network.
func (c *container) inNetwork(args ...string) agenttest.Command {
	return agenttest.Command{Name: "nsenter", Args: append([]string{"--net=/proc/" + strconv.Itoa(c.pid) + "/ns/net"}, args...)}
}

// check returns the arguments of the image's health check as its user.
func (i *image) check(t *testing.T) []string {
	t.Helper()
	kind := i.Config.Healthcheck.Test
	if len(kind) < 2 || kind[0] != "CMD" {
		t.Fatalf("the health check is %q, want one without a shell", kind)
	}
	return append([]string{"chroot", "--userspec=" + i.Config.User, i.root}, kind[1:]...)
}

// stop sends SIGTERM to the program. The container ends with the program's status.
func (c *container) stop() {
	c.t.Helper()
	agenttest.NoError(c.t, syscall.Kill(c.pid, syscall.SIGTERM))
	c.ExitsWith(0)
}

func TestImageRuns(t *testing.T) {
	i := readImage(t, "amd64")
	agenttest.NeedRoot(t, "runs as another user")
	agenttest.Need(t, "curl")
	for name, prepare := range map[string]func(t *testing.T, dir string){
		// A new volume gets what the image has there.
		"empty volume": func(t *testing.T, dir string) {
			agenttest.Command{Name: "cp", Args: []string{"-a", i.root + volume + "/.", dir}}.Must(t)
		},
		"bind mount": func(t *testing.T, dir string) {
			agenttest.NoError(t, os.Chown(dir, imageUser, imageUser))
			agenttest.NoError(t, os.Chmod(dir, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			agenttest.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // another user passes through
			prepare(t, dir)
			c := i.start(t, dir)
			wantOwned(t, dir+"/spool", 0o775|fs.ModeSetgid)
			push := c.inNetwork("curl", "-sS", "--fail", "--data-binary", "@-", "http://127.0.0.1:9091/metrics/job/backup")
			push.Stdin = "backup_size_bytes 42\n"
			push.Must(t)
			if got := agenttest.Files(t, dir+"/spool"); !slices.Equal(got, []string{"job=backup.prom"}) {
				t.Errorf("the volume has %q, want the group", got)
			}
			c.inNetwork(i.check(t)...).Must(t)
			c.stop()

			c = i.start(t, dir)
			agenttest.WantLines(t, c.inNetwork("curl", "-sS", "--fail", "http://127.0.0.1:9091/metrics").Must(t), `backup_size_bytes{job="backup"} 42`)
			c.stop()
			gone := agenttest.Command{Name: "unshare", Args: append([]string{"--net"}, i.check(t)...)}
			if _, _, status := gone.Run(t); status != 1 {
				t.Errorf("without an agent the health check exits with %d, want 1", status)
			}
		})
	}
	t.Run("directory of another user", func(t *testing.T) {
		dir := t.TempDir()
		agenttest.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
		_, said, status := i.bubblewrap(t, dir).Run(t)
		if status == 0 || !strings.Contains(said, volume+"/spool") || !strings.Contains(said, "permission denied") {
			t.Errorf("exit status %d, with\n%swant an error that names the spool", status, said)
		}
	})
}

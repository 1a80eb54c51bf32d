package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flag string
		want []string
	}{
		{"--help", []string{"usage: promspool", "--spool.directory", "--log.level", "serve", "  push     Push standard input", "--help-long"}},
		{"-h", []string{"usage: promspool"}},
		{"--help-long", []string{"--web.listen-address", "push.empty-instance-label", "--persistence.file"}},
		{"--version", []string{"promspool, version ", "go version:"}},
	} {
		t.Run(tt.flag, func(t *testing.T) {
			stdout, stderr, status := agenttest.Command{Name: agenttest.Promspool, Args: []string{tt.flag}}.Run(t)
			if status != 0 || stderr != "" {
				t.Errorf("exit status %d, stderr %q, want 0 and nothing", status, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in:\n%s", want, stdout)
				}
			}
		})
	}
}

func TestSenselessCommandLineExitsWith2(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"--no-such-flag", "no-such-command", "--spool.resync=often", "--spool.max-groups=many", "--log.level=loud"} {
		t.Run(arg, func(t *testing.T) { refuses(t, agenttest.Command{Args: []string{arg}}, 2, "--help") })
	}
}

func TestAgentThatCannotServeSaysWhyAndExits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	agenttest.NoError(t, os.WriteFile(file, nil, 0o644))
	spool, link, loop := filepath.Join(dir, "spool"), filepath.Join(dir, "link"), filepath.Join(dir, "loop")
	agenttest.NoError(t, os.Symlink("gone", link))
	agenttest.NoError(t, os.Symlink("loop", loop))
	free, taken := "127.0.0.1:0", agenttest.StartAgent(t, "").Addr
	for _, tt := range []struct {
		name    string
		address string
		spool   string
		flag    string
		want    string
	}{
		{"spool is a file", free, file, "", file},
		{"spool is below a file", free, file + "/spool", "", file + "/spool is below a file that is not a directory: set --spool.directory"},
		{"spool is a link without a target", free, link, "", link + " is a link to gone, which does not exist: create that directory, correct the link, or set --spool.directory"},
		{"parent of the spool is a link without a target", free, link + "/spool", "", link + " is a link to gone, which does not exist"},
		{"spool is a link to itself", free, loop, "", loop + ": too many levels of symbolic links: set --spool.directory"},
		{"part of the path is missing", free, dir + "/missing/../new", "", "the directory " + dir + "/missing does not exist: create it with"},
		{"parent of the spool is missing", free, dir + "/srv/data/spol", "", "creating the spool: the directory " + dir + "/srv does not exist: create it with \"install -d -m 2775 "},
		{"port is taken", taken, spool, "", taken + ": bind: address already in use: stop the other program (ss -ltnp lists it)"},
		{"no socket from the service manager", free, spool, "--web.systemd-socket", "--web.systemd-socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--web.listen-address=" + tt.address, "--spool.directory=" + tt.spool}
			if tt.flag != "" {
				args = append(args, tt.flag)
			}
			refuses(t, agenttest.Command{Args: args}, 1, tt.want)
		})
	}
	if got := strings.Join(agenttest.Files(t, dir), " "); got != "file link loop" {
		t.Errorf("the agents have left %s", got)
	}
}

// unprivileged returns a user other than root, which can write everywhere, or nil for
// the current user.
func unprivileged() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

func TestAgentThatMayNotWriteItsSpoolSaysWhyAndExits(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	for _, dir := range []string{spool, filepath.Dir(spool)} {
		agenttest.NoError(t, os.Chmod(dir, 0o555))
		t.Cleanup(func() { _ = os.Chmod(dir, 0o755) }) // so that it can be deleted
	}
	for _, dir := range []string{spool, filepath.Join(spool, "new")} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			args := []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + dir}
			refuses(t, agenttest.Command{Args: args, User: unprivileged()}, 1, dir+": permission denied")
		})
	}
}

// A user without permission gets an error with the spool and the remedies.
func TestCommandWithoutPermissionNamesSpoolAndRemedy(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	agenttest.NoError(t, os.WriteFile(filepath.Join(spool, "a.prom"), []byte("a 1\n"), 0o644))
	for _, test := range []struct {
		mode    os.FileMode
		command string
		remedy  string // after that for all commands
	}{
		{0o555, "push job=a", ", or send to the agent with --url"},
		{0o555, "push --delete job=a", ", or send to the agent with --url"},
		{0o555, "rm a.prom", ", or send to the agent with --url"},
		{0o555, "write a", ""},
		{0o555, "job declare a", ""},
		{0o311, "ls", ""},
		{0o311, "show a", ""},
	} {
		agenttest.NoError(t, os.Chmod(spool, test.mode))
		c := agenttest.Command{Args: append([]string{"--spool.directory=" + spool}, strings.Fields(test.command)...), User: unprivileged(), Stdin: "b 1\n"}
		refuses(t, c, 1, "permission denied: the user lacks permission in the spool "+spool+": join the group of the directory (see ls -ld)"+test.remedy+"\n")
	}
	agenttest.NoError(t, os.Chmod(spool, 0o755)) // so that it can be deleted
}

func TestLimitThatIsNoneExitsWith2(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{
		"web.max-connections=-1", "web.read-timeout=0s", "web.read-timeout=-1s", "push.max-bytes=0B", "push.max-bytes=-1B", "push.max-series=-1",
		"push.max-labels=-1", "push.max-buckets=-1", "push.max-exemplars=-1", "push.max-label-name-bytes=-1", "push.max-label-value-bytes=-1", "push.max-failed-groups=-1",
		"spool.max-groups=-1", "spool.max-bytes=-1B", "spool.max-file-bytes=0B", "spool.settle=-1s",
	} {
		t.Run(flag, func(t *testing.T) {
			name, _, _ := strings.Cut(flag, "=")
			refuses(t, agenttest.Command{Args: []string{"--spool.directory=" + t.TempDir(), "--" + flag}}, 2, "--"+name)
		})
	}
}

func TestWhatIsWrongWithAFlagNamesIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"write --max-bytes=xx a", `--max-bytes: invalid size "xx": want e.g. 16MiB or 65536, try --help`},
		{"write --max-bytes=-1 a", "--max-bytes must be greater than zero"},
		{"check --max-file-bytes=1x", `--max-file-bytes: invalid size "1x": want e.g. 16MiB or 65536, try --help`},
		{"push --push.max-bytes=-3 job=a", "--push.max-bytes must be greater than zero"},
		{"push --timeout=3 job=a", `--timeout: invalid duration "3": want e.g. 10s or 5m, try --help`},
		{"push --url= job=a", `--url: invalid URL "": want e.g.`},
		{"ls --stale=soon", `--stale: invalid duration "soon": want e.g. 12h or 7d, try --help`},
		{"ls --sort=what", "--sort: enum value must be one of"},
		{"--log.level=loud ls", "--log.level: unrecognized log level loud, try --help"},
		{"sevre", "unknown command sevre (did you mean serve?), try --help"},
		{"psuh job=a", "unknown command psuh (did you mean push?), try --help"},
		{"something", "unknown command something, try --help"},
		{"job declar a", "unknown command declar (did you mean declare?), try --help"},
		{"ls job=a", "unexpected job=a, try --help"},
		{"ls --stael=1h", "unknown flag --stael (did you mean --stale?), try --help"},
		{"--web.listen-adress=:0", "unknown flag --web.listen-adress (did you mean --web.listen-address?), try --help"},
		{"run --jbo=a true", "unknown flag --jbo (did you mean --job?), try --help"},
		{"ls --something", "unknown flag --something, try --help"},
		{"help nonsense", `expected command but got "nonsense"`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			args := append([]string{"--spool.directory=" + t.TempDir()}, strings.Fields(tt.args)...)
			refuses(t, agenttest.Command{Args: args, Stdin: "a 1\n"}, 2, tt.want)
		})
	}
}

// An empty name is an error in every part of a command line.
func TestEmptyNameExitsWith2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "--job=", "--", "true"}, "--job: the value is empty"},
		{[]string{"run", "--job", "", "--", "true"}, "--job: the value is empty"},
		{[]string{"run", "--", ""}, "give a command"},
		{[]string{"run", "--label=host=", "--", "true"}, `--label: the value of "host" is empty`},
		{[]string{"run", "--label==a", "--", "true"}, `invalid label name ""`},
		{[]string{"run", "--push-url=", "--", "true"}, "--push-url: the value is empty"},
		{[]string{"job", "declare", "", "--every=1d"}, "give a name"},
		{[]string{"job", "declare", "x", "--label=host="}, `--label: the value of "host" is empty`},
		{[]string{"job", "forget", "x", "--label=host="}, `--label: the value of "host" is empty`},
		{[]string{"push", "job="}, "expected a value"},
		{[]string{"push", "job=x", "instance="}, "expected a value"},
		{[]string{"push", "job=x", ""}, "give a label"},
		{[]string{"push", `job=""`}, "job name is required"},
		{[]string{"push", "--file=", "job=x"}, "--file: the value is empty"},
		{[]string{"push", "--ttl=", "job=x"}, "--ttl: the value is empty"},
		{[]string{"push", "--url=", "job=x"}, `--url: invalid URL ""`},
		{[]string{"push", "--delete", "job=x", ""}, "give a label"},
		{[]string{"explain", "job="}, "expected a value"},
		{[]string{"write", ""}, "give a name"},
		{[]string{"write", ".prom"}, "the name of the file is empty"},
		{[]string{"show", ""}, "give a name"},
		{[]string{"show", ".prom"}, "the name of the file is empty"},
		{[]string{"show", "job="}, "expected a value"},
		{[]string{"rm", ""}, "give a name"},
		{[]string{"rm", ".prom"}, "the name of the file is empty"},
		{[]string{"rm", "job=x,instance="}, "expected a value"},
		{[]string{"rm", "--match="}, "--match: the value is empty"},
		{[]string{"rm", "--match={job=}"}, "expected a value"},
		{[]string{"rm", "--url=", "job=x"}, `--url: invalid URL ""`},
		{[]string{"restore", "job="}, "expected a value"},
		{[]string{"restore", ""}, "give a name"},
		{[]string{"check", ""}, "give a path"},
		{[]string{"health", "--url="}, `--url: invalid URL ""`},
		{[]string{"doctor", "--url="}, `--url: invalid URL ""`},
		{[]string{"migrate", "--from=http://localhost:1", "--url="}, `--url: invalid URL ""`},
		{[]string{"migrate", "--from="}, `--from: invalid URL ""`},
		{[]string{"--push.socket="}, "--push.socket: the value is empty"},
		{[]string{"--spool.textfile-directory="}, "--spool.textfile-directory: the value is empty"},
		{[]string{"--spool.directory=", "ls"}, "--spool.directory: the value is empty"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			spool := t.TempDir()
			agenttest.NoError(t, os.WriteFile(filepath.Join(spool, "job=x.prom"), []byte("# promspool:group {job=\"x\"}\n"), 0o644))
			refuses(t, agenttest.Command{Args: tt.args, Stdin: "a 1\n", Env: []string{"PROMSPOOL_SPOOL_DIRECTORY=" + spool}}, 2, tt.want)
			names, err := filepath.Glob(spool + "/*")
			if agenttest.NoError(t, err); len(names) != 1 {
				t.Errorf("the spool then has %q", names)
			}
		})
	}
	refuses(t, agenttest.Command{Args: []string{"run", "--", "true"}, Env: []string{"PROMSPOOL_SPOOL_DIRECTORY="}}, 2, "PROMSPOOL_SPOOL_DIRECTORY is empty")
}

func TestSizeMayBeAPlainNumber(t *testing.T) {
	t.Parallel()
	spool := "--spool.directory=" + t.TempDir()
	agenttest.Command{Name: agenttest.Promspool, Args: []string{spool, "push", "--push.max-bytes=65536", "job=a"}, Stdin: "a 1\n"}.Must(t)
	agenttest.Command{Name: agenttest.Promspool, Args: []string{spool, "write", "--max-bytes=64KiB", "b"}, Stdin: "b 1\n"}.Must(t)
}

func TestHelpThatCannotBePrinted(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil && runtime.GOOS != "linux" {
		t.Skipf("needs a device that is always full: %v", err)
	}
	agenttest.NoError(t, err)
	defer full.Close()
	var stderr strings.Builder
	cmd := exec.Command(agenttest.Promspool, "--help")
	cmd.Stdout, cmd.Stderr = full, &stderr
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || stderr.String() != "promspool: write /dev/stdout: no space left on device\n" {
		t.Errorf("%v and %q, want 1 and a sentence", err, stderr.String())
	}
}

// refuses runs promspool, which must exit with the status and a message.
func refuses(t *testing.T, c agenttest.Command, status int, sentence string) {
	t.Helper()
	c.Name = agenttest.Promspool
	stdout, stderr, got := c.Run(t)
	if got != status || stdout != "" {
		t.Errorf("promspool %q: exit status %d and %q, want %d and nothing", c.Args, got, stdout, status)
	}
	if !strings.HasPrefix(stderr, "promspool: ") || strings.Index(stderr, "\n") != len(stderr)-1 || !strings.Contains(stderr, sentence) {
		t.Errorf("promspool %q complains %q, want one sentence with %q", c.Args, stderr, sentence)
	}
}

// TestSocketOfTheServiceManager starts the agent on the first connection, like its
// socket unit.
func TestSocketOfTheServiceManager(t *testing.T) {
	t.Parallel()
	activate := agenttest.Need(t, "systemd-socket-activate")
	curl := agenttest.Need(t, "curl")
	dir := t.TempDir()
	s := agenttest.StartServer(t, `Listening on (\S+) as 3`, activate, "--listen="+dir+"/socket", agenttest.Promspool, "--web.systemd-socket", "--spool.directory="+dir+"/spool")
	args := []string{"--silent", "--fail-with-body", "--unix-socket", dir + "/socket"}
	agenttest.Command{Name: curl, Args: append(args, "--data-binary", "@-", "http://localhost/metrics/job/a"), Stdin: "b 1\n"}.Must(t)
	agenttest.WantLines(t, agenttest.Command{Name: curl, Args: append(args, "http://localhost/metrics")}.Must(t), `b{job="a"} 1`)
	s.Stop()
}

func TestBadWebConfigIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + dir, "--web.config.file=" + dir + "/none.yml"}}
	_, stderr, status := c.Run(t)
	if status != 1 || !strings.HasPrefix(stderr, "promspool: --web.config.file: ") || !strings.HasSuffix(stderr, "none.yml: no such file or directory: create the file, or correct the path\n") {
		t.Errorf("exit status %d and %q, want 1 and the name of the file", status, stderr)
	}
}

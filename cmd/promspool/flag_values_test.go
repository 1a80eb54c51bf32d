package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestInvalidNumberOfAnyFlag gives every flag with a number, a size or a duration
// values that are none. The error must name the flag, quote the value and have the
// wording of promspool instead of a library's.
func TestInvalidNumberOfAnyFlag(t *testing.T) {
	kinds := map[string]int{}
	for _, c := range allCommands(t) {
		for _, f := range c.flags {
			var want string
			values := []string{"x", "1,5", "NaN", "1x"}
			switch f.Value.(type) {
			case *wholeNumber:
				want = "use a whole number"
				values = append(values, "1.5", "1e3", "0x10")
			case *size:
				want = "want e.g. 16MiB or 65536"
			case *duration:
				want = "want e.g. 12h or 7d"
				values = append(values, "3")
			case *timeout:
				want = "want e.g. 10s or 5m"
				values = append(values, "3")
			default:
				if kind := fmt.Sprintf("%T", f.Value); strings.Contains(kind, "int") || strings.Contains(kind, "float") || strings.Contains(kind, "uration") || strings.Contains(kind, "ytes") {
					t.Errorf("%q --%s has values of type %s, whose errors have the wording of a library", c.name, f.Name, kind)
				}
				continue
			}
			kinds[want]++
			for _, value := range values {
				_, err := parse(append(append(append([]string{}, c.name...), "--"+f.Name+"="+value), c.least("job=x")[len(c.name):]...)...)
				if err == nil || !strings.HasPrefix(err.Error(), "invalid ") || !strings.HasSuffix(err.Error(), fmt.Sprintf(" %q: %s", value, want)) {
					t.Errorf("%q --%s=%s: %v, want %s", c.name, f.Name, value, err, want)
				}
			}
		}
	}
	if len(kinds) != 4 {
		t.Errorf("only these kinds of flags were found: %v", kinds)
	}
}

func TestValuesOfFlags(t *testing.T) {
	for _, tt := range []struct {
		value interface {
			Set(string) error
			String() string
		}
		text, want string // want is empty for an error
	}{
		{new(timeout), "1.5s", "1.5s"},
		{new(timeout), "1d", "24h0m0s"},
		{new(timeout), "0s", "0s"},
		{new(timeout), "0", "0s"},
		{new(timeout), "-1s", ""},
		{new(duration), "7d", "1w"},
		{new(duration), "-7d", ""},
		{new(wholeNumber), "-1", "-1"},
		{new(wholeNumber), "007", "7"},
		{new(wholeNumber), "99999999999999999999", ""},
		{new(size), "65536", "64KiB"},
	} {
		err := tt.value.Set(tt.text)
		if got := tt.value.String(); (err == nil) != (tt.want != "") || err == nil && got != tt.want {
			t.Errorf("%T %q = %q, %v, want %q", tt.value, tt.text, got, err, tt.want)
		}
	}
}

// A flag of the agent is checked even if the feature that it belongs to is off. An
// invalid value is a usage error; one that depends on the host is not.
func TestFlagOfAnUnusedFeatureIsChecked(t *testing.T) {
	const url = "use e.g. http://host.example.org:9091/promspool"
	for _, tt := range []struct {
		flags, want string // a flag or two with a blank
		status      int
	}{
		{"--web.metrics-socket-mode=invalid", `--web.metrics-socket-mode: invalid mode "invalid": want e.g. 0660`, 2},
		{"--web.metrics-socket-mode=1777", `--web.metrics-socket-mode: invalid mode "1777": want e.g. 0660`, 2},
		{"--push.socket-mode=rw", `--push.socket-mode: invalid mode "rw": want e.g. 0660`, 2},
		{"--push.socket-group=no-such-group", `--push.socket-group: no group "no-such-group": create it (groupadd --system), or use`, 1},
		{"--web.metrics-socket-group=no-such-group", `--web.metrics-socket-group: no group "no-such-group": create it`, 1},
		{"--push.admin-group=root", "--push.admin-group is for --push.owner-check", 2},
		{"--push.owner-check --push.socket=DIR/s --push.admin-group=no-such-group", `--push.admin-group: no group "no-such-group": create it`, 1},
		{"--ping.max-slugs=0", "--ping.max-slugs must be greater than zero", 2},
		{"--ping.max-slugs=many", `--ping.max-slugs: invalid value "many": use a whole number`, 2},
		{"--persistence.interval=often", `--persistence.interval: invalid duration "often": want e.g. 10s or 5m`, 2},
		{"--spool.archive-retention=long", `--spool.archive-retention: invalid duration "long": want e.g. 12h or 7d`, 2},
		{"--spool.expire-dropped", "--spool.expire-dropped requires --spool.retention", 2},
		{"--web.max-connections=x", `--web.max-connections: invalid value "x": use a whole number`, 2},
		{"--web.max-connections=99999999999999999999", `--web.max-connections: invalid value "99999999999999999999": use a smaller number`, 2},
		{"--spool.resync=-1s", `--spool.resync: invalid duration "-1s": must not be negative`, 2},
		{"--web.enable-lifecycle=true", `invalid value "true": use --web.enable-lifecycle or --no-web.enable-lifecycle without a value`, 2},
		{"--no-web.enable-admin-api=1", `invalid value "1": use --web.enable-admin-api or --no-web.enable-admin-api without a value`, 2},
		{"--web.cors.origin=(", `--web.cors.origin: invalid regular expression "(" (missing closing )): use e.g. https://`, 2},
		{"--web.cors.origin=a)|(?:b", `--web.cors.origin: invalid regular expression "a)|(?:b" (unexpected )): use`, 2},
		{"--web.external-url=:://", `--web.external-url: invalid URL ":://": ` + url, 2},
		{"--web.external-url=http://[/", `--web.external-url: invalid URL "http://[/": ` + url, 2},
		{"--web.external-url=127.0.0.1:9091", `--web.external-url: invalid URL "127.0.0.1:9091": ` + url, 2},
		{"--web.route-prefix=http://host/promspool", `--web.route-prefix: "http://host/promspool" is not a path: give the path alone, such as /promspool, or the URL with --web.external-url`, 2},
		{"--web.route-prefix=/a%/", `--web.route-prefix: invalid path "/a%/": use e.g. /promspool`, 2},
		{"--web.route-prefix=/a/../b", `--web.route-prefix: invalid path "/a/../b": use e.g. /promspool`, 2},
		{"--web.telemetry-path=/metrics/job/x", `--web.telemetry-path: "/metrics/job/x" is another route of the agent (/metrics/job/): use e.g. /metrics`, 2},
		{"--web.telemetry-path=/metrics/job@base64/eA", `--web.telemetry-path: "/metrics/job@base64/eA" is another route`, 2},
		{"--web.telemetry-path=api/v1/files", `--web.telemetry-path: "api/v1/files" is another route of the agent (/api/)`, 2},
		{"--web.telemetry-path=/", `--web.telemetry-path: "/" is another route of the agent (/)`, 2},
		{"--web.telemetry-path=/status/", `--web.telemetry-path: "/status/" is another route of the agent (/status)`, 2},
		{"--web.telemetry-path=/-/healthy", `--web.telemetry-path: "/-/healthy" is another route of the agent (/-/)`, 2},
		{"--web.telemetry-path=/metrics?a", `--web.telemetry-path: invalid path "/metrics?a": use e.g. /metrics`, 2},
		{"--web.allowed-host=http://x/", `--web.allowed-host: invalid name "http://x/": use the name alone, such as spool.example.org`, 2},
		{"--web.allowed-host=*.example.org", `--web.allowed-host: invalid name "*.example.org": use`, 2},
		{"--web.listen-address=nonsense", `--web.listen-address: invalid address "nonsense": use HOST:PORT or :PORT, such as :9091`, 2},
		{"--web.listen-address=:70000", `--web.listen-address: invalid address ":70000": use a port of at most 65535`, 2},
		{"--web.listen-address=:no-such-port", `--web.listen-address: invalid address ":no-such-port": use a number as the port`, 2},
		{"--web.listen-address=vsock://:x", `--web.listen-address: invalid address "vsock://:x": use e.g. vsock://:9091`, 2},
		{"--web.config.file=/no/such/file", "--web.config.file: open /no/such/file: no such file or directory: create the file, or correct the path", 1},
		{"--web.metrics-socket=DIR/no/x.sock", "--web.metrics-socket: the directory DIR/no does not exist: create it, or use another path", 1},
		{"--push.socket=DIR/file/x.sock", "--push.socket: DIR/file is not a directory: use another path", 1},
		{"--web.metrics-socket=DIR/s --push.socket=DIR/../DIRNAME/s", `--web.metrics-socket and --push.socket have the same path "DIR/s": use another path for one of them`, 2},
		{"--spool.textfile-directory=/tmp/[x", `--spool.textfile-directory: invalid pattern "/tmp/[x": close the bracket, or use \[ for the character`, 2},
		{"--spool.settle=2m", `--spool.settle: invalid duration "2m0s": must be at most 1m0s`, 2},
		{"--push.max-buckets=200000", "--push.max-buckets must be at most 100000, the limit for files", 2},
		{"--push.max-exemplars=10001", "--push.max-exemplars must be at most 10000, the limit for files", 2},
		{"--spool.directory=/", "--spool.directory: / is the root of the file system: use a directory for the spool alone", 2},
		{"--spool.archive-directory=DIR/.", "--spool.archive-directory: DIR/. is the spool: use another directory on the same file system", 2},
		{"--spool.archive-directory=DIR/file", "--spool.archive-directory: DIR/file is not a directory: use another path", 1},
		{"--spool.archive-directory=no-such-archive --spool.retention=1d", "--spool.archive-directory: no-such-archive does not exist in the working directory: create it, or use an absolute path", 1},
	} {
		t.Run(tt.flags, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			agenttest.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
			fill := strings.NewReplacer("DIRNAME", filepath.Base(dir), "DIR", dir).Replace
			args := strings.Fields(fill(tt.flags))
			for _, flag := range []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + dir} {
				if name, _, _ := strings.Cut(flag, "="); !strings.Contains(tt.flags, name) {
					args = append(args, flag)
				}
			}
			stdout, stderr, status := agenttest.Command{Name: agenttest.Promspool, Args: args}.Run(t)
			if status != tt.status || stdout != "" || !strings.Contains(stderr, fill(tt.want)) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit status %d, %q %q, want %d and %q", status, stdout, stderr, tt.status, fill(tt.want))
			}
		})
	}
}

// TestUnusualValuesOfFlags has values that Pushgateway accepts as well, and the limits
// themselves.
func TestUnusualValuesOfFlags(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--web.external-url=/own/a%20b/", "--web.telemetry-path=all", "--web.allowed-host=[::1]:9091", "--web.allowed-host=my_host.example.org.",
		"--spool.settle=1m", "--push.max-buckets=100000", "--push.max-exemplars=10000", "--web.cors.origin=a|b", "--spool.archive-directory=no-such-archive")
	if code, answer := a.Send("PUT", "/own/a%20b/metrics/job/x", "a 1\n"); code != 200 {
		t.Errorf("a push is answered with %d %s", code, answer)
	}
	if code, answer := a.Send("GET", "/own/a%20b/all", ""); code != 200 || !strings.Contains(answer, `a{job="x"} 1`) {
		t.Errorf("a scrape is answered with %d %s", code, answer)
	}
}

// TestExternalURLsOfPushgateway has values that Pushgateway accepts without a host. The
// prefix is the same.
func TestExternalURLsOfPushgateway(t *testing.T) {
	t.Parallel()
	for external, prefix := range map[string]string{"foo:9091": "", "foo": "/foo", "//foo/prefix": "/prefix", "ftp://foo/": "", "http://foo:70000/": "", "http://foo/p?a=b": "/p"} {
		t.Run(external, func(t *testing.T) {
			t.Parallel()
			a := agenttest.StartAgent(t, "", "--web.external-url="+external)
			if code, answer := a.Send("GET", prefix+"/metrics", ""); code != 200 {
				t.Errorf("a scrape of %s/metrics is answered with %d %s", prefix, code, answer)
			}
			if log := a.Log.String(); !strings.Contains(log, "--web.external-url is not a plain URL") {
				t.Errorf("the log has no warning:\n%s", log)
			}
		})
	}
}

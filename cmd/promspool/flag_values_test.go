package main

import (
	"fmt"
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

// A flag of the agent is checked even if the feature that it belongs to is off.
func TestFlagOfAnUnusedFeatureIsChecked(t *testing.T) {
	for flag, want := range map[string]string{
		"--web.metrics-socket-mode=invalid":          `--web.metrics-socket-mode: invalid mode "invalid": want e.g. 0660`,
		"--web.metrics-socket-mode=1777":             `--web.metrics-socket-mode: invalid mode "1777": want e.g. 0660`,
		"--push.socket-mode=rw":                      `--push.socket-mode: invalid mode "rw": want e.g. 0660`,
		"--push.socket-group=no-such-group":          "--push.socket-group: group: unknown group no-such-group",
		"--web.metrics-socket-group=no-such-group":   "--web.metrics-socket-group: group: unknown group no-such-group",
		"--push.admin-group=root":                    "--push.admin-group is for --push.owner-check",
		"--ping.max-slugs=0":                         "--ping.max-slugs must be greater than zero",
		"--ping.max-slugs=many":                      `--ping.max-slugs: invalid value "many": use a whole number`,
		"--persistence.interval=often":               `--persistence.interval: invalid duration "often": want e.g. 10s or 5m`,
		"--spool.archive-retention=long":             `--spool.archive-retention: invalid duration "long": want e.g. 12h or 7d`,
		"--spool.expire-dropped":                     "--spool.expire-dropped requires --spool.retention",
		"--web.max-connections=x":                    `--web.max-connections: invalid value "x": use a whole number`,
		"--web.max-connections=99999999999999999999": `--web.max-connections: invalid value "99999999999999999999": use a smaller number`,
		"--spool.resync=-1s":                         `--spool.resync: invalid duration "-1s": must not be negative`,
		"--web.enable-lifecycle=true":                `invalid value "true": use --web.enable-lifecycle or --no-web.enable-lifecycle without a value`,
		"--no-web.enable-admin-api=1":                `invalid value "1": use --web.enable-admin-api or --no-web.enable-admin-api without a value`,
	} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := agenttest.Command{Name: agenttest.Promspool, Args: []string{"--web.listen-address=127.0.0.1:0", "--spool.directory=" + t.TempDir(), flag}}.Run(t)
			if status == 0 || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit status %d, %q %q, want %q", status, stdout, stderr, want)
			}
		})
	}
}

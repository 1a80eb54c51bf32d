package peertest

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// release returns the directory into which .ci/test-dist has built a release.
func release(t *testing.T) string {
	t.Helper()
	dist := os.Getenv("PROMSPOOL_TEST_DIST")
	if dist == "" {
		t.Skip("make test-dist builds a release and runs this")
	}
	return dist
}

// platforms are the ends of the tarballs' names, with the settings of the program in each.
var platforms = map[string]map[string]string{
	"linux-amd64":   {"GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1"},
	"linux-arm64":   {"GOOS": "linux", "GOARCH": "arm64", "GOARM64": "v8.0"},
	"linux-armv7":   {"GOOS": "linux", "GOARCH": "arm", "GOARM": "7"},
	"darwin-amd64":  {"GOOS": "darwin", "GOARCH": "amd64", "GOAMD64": "v1"},
	"darwin-arm64":  {"GOOS": "darwin", "GOARCH": "arm64", "GOARM64": "v8.0"},
	"freebsd-amd64": {"GOOS": "freebsd", "GOARCH": "amd64", "GOAMD64": "v1"},
}

// tarball returns the path of a platform's tarball and the name of the directory in it.
func tarball(t *testing.T, dist, platform string) (path, name string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dist, "promspool-*."+platform+".tar.gz"))
	if err != nil || len(found) != 1 {
		t.Fatalf("tarballs for %s: %q, %v, want one", platform, found, err)
	}
	return found[0], strings.TrimSuffix(filepath.Base(found[0]), ".tar.gz")
}

// unpack returns the directory that a platform's tarball contains.
func unpack(t *testing.T, dist, platform string) string {
	t.Helper()
	path, name := tarball(t, dist, platform)
	dir := t.TempDir()
	agenttest.Command{Name: "tar", Args: []string{"-C", dir, "-xzf", path}}.Must(t)
	if got := agenttest.Files(t, dir); !slices.Equal(got, []string{name}) {
		t.Errorf("%s holds %q, want %q alone", path, got, name)
	}
	return filepath.Join(dir, name)
}

// TestReleaseChecksums reads the checksums as the Ansible roles of Prometheus and Homebrew do.
func TestReleaseChecksums(t *testing.T) {
	dist := release(t)
	text, err := os.ReadFile(dist + "/sha256sums.txt")
	agenttest.NoError(t, err)
	var names []string
	for line := range strings.Lines(string(text)) {
		found := regexp.MustCompile(`^[0-9a-f]{64}  (promspool[^ /]+)\n$`).FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("line %q, want HASH, two spaces, and FILE", line)
		}
		names = append(names, found[1])
	}
	if got := agenttest.Files(t, dist); !slices.Equal(got, append(names, "sha256sums.txt")) {
		t.Errorf("the checksums are those of %q, the files are %q", names, got)
	}

	copied := t.TempDir()
	agenttest.Command{Name: "cp", Args: []string{"-R", dist + "/.", copied}}.Must(t)
	check := agenttest.Command{Name: "sh", Args: []string{"-c", `cd "$0" && sha256sum --check --quiet sha256sums.txt`, copied}}
	check.Must(t)
	path, name := tarball(t, copied, "linux-amd64")
	changed, err := os.ReadFile(path)
	agenttest.NoError(t, err)
	changed[len(changed)/2] ^= 1
	agenttest.NoError(t, os.WriteFile(path, changed, 0o644))
	if out, _, status := check.Run(t); status != 1 || out != name+".tar.gz: FAILED\n" {
		t.Errorf("with a bit of the tarball changed, sha256sum says %q, exit status %d, want a failure", out, status)
	}
}

// TestReleaseTarball runs the program in the tarball of this machine.
func TestReleaseTarball(t *testing.T) {
	root := unpack(t, release(t), "linux-amd64")
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(root), "promspool-"), ".linux-amd64")
	if out := (agenttest.Command{Name: root + "/promspool", Args: []string{"--version"}}).Must(t); !strings.Contains(out, "version "+version+" ") {
		t.Errorf("promspool --version prints %q, want %s", out, version)
	}
	spool := t.TempDir()
	s := agenttest.StartServer(t, `msg=Serving .* on=([0-9.:]+)`, root+"/promspool", "--web.listen-address=127.0.0.1:0", "--spool.directory="+spool)
	a := &agenttest.Agent{Server: s, URL: "http://" + s.Addr, Spool: spool}
	a.Push("/metrics/job/backup", "backup_size_bytes 42\n")
	agenttest.WantLines(t, a.Page(), `backup_size_bytes{job="backup"} 42`)
	wantVersion(t, a.Page(), version)
	a.Stop()

	agenttest.Command{Name: agenttest.Need(t, "mandoc"), Args: []string{"-T", "lint", "-W", "error", root + "/promspool.1"}}.Must(t)
	agenttest.Command{Name: "bash", Args: []string{"-c", `. "$0" && complete -p promspool`, root + "/completions/promspool.bash"}}.Must(t)
	for _, name := range []string{"LICENSE", "completions/_promspool", "systemd/default"} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, want a file that is not empty", name, err)
		}
	}
	units, err := filepath.Glob(agenttest.Repository + "/systemd/promspool*")
	agenttest.NoError(t, err)
	for _, unit := range units {
		if _, err := os.Stat(filepath.Join(root, "systemd", filepath.Base(unit))); err != nil {
			t.Error(err)
		}
	}
	readme, err := os.ReadFile(root + "/README.md")
	agenttest.NoError(t, err)
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(readme), -1) {
		if _, err := os.Stat(filepath.Join(root, link[1])); err != nil {
			t.Errorf("README.md in the tarball has a link to %s: %v", link[1], err)
		}
	}
}

// TestReleasePrograms checks for each platform what its program was built for,
// and that its SBOM has the modules that are linked in.
func TestReleasePrograms(t *testing.T) {
	dist := release(t)
	if got, err := filepath.Glob(dist + "/*.tar.gz"); len(got) != len(platforms) {
		t.Errorf("the tarballs are %q, %v, want %d", got, err, len(platforms))
	}
	for platform, want := range platforms {
		t.Run(platform, func(t *testing.T) {
			root := unpack(t, dist, platform)
			info, err := buildinfo.ReadFile(root + "/promspool")
			agenttest.NoError(t, err)
			for _, setting := range info.Settings {
				if value, ok := want[setting.Key]; ok && value != setting.Value {
					t.Errorf("the program is for %s=%s, want %s", setting.Key, setting.Value, value)
				}
			}
			var linked []string
			for _, module := range info.Deps {
				linked = append(linked, module.Path+" "+module.Version)
			}
			linked = append(linked, "std "+info.GoVersion)
			slices.Sort(linked)

			text, err := os.ReadFile(filepath.Join(dist, filepath.Base(root)+".cdx.json"))
			agenttest.NoError(t, err)
			var bom struct {
				BomFormat string
				Metadata  struct {
					Component struct{ Name, Version string }
				}
				Components []struct {
					Name, Version string
					Licenses      []any
				}
			}
			agenttest.NoError(t, json.Unmarshal(text, &bom))
			var listed []string
			for _, component := range bom.Components {
				listed = append(listed, component.Name+" "+component.Version)
				if component.Name != "std" && len(component.Licenses) == 0 {
					t.Errorf("the SBOM has no license of %s", component.Name)
				}
			}
			slices.Sort(listed)
			if !slices.Equal(listed, linked) {
				t.Errorf("the SBOM lists\n%q\nwant the linked modules\n%q", listed, linked)
			}
			main := fmt.Sprintf("promspool-%s.%s", bom.Metadata.Component.Version, platform)
			if bom.BomFormat != "CycloneDX" || bom.Metadata.Component.Name != info.Main.Path || main != filepath.Base(root) {
				t.Errorf("the SBOM is of %q %+v", bom.BomFormat, bom.Metadata)
			}
		})
	}
}

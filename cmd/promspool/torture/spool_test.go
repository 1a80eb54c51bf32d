//go:build linux

package torture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// lockFile is the agent's lock file, which is never deleted.
const lockFile = ".promspool.lock"

// readSpool reads a spool like another reader, which treats every .prom file as data.
// It returns an error for other visible files.
func readSpool(dir string) (found map[group]int, hidden []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	found = map[group]int{}
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == lockFile:
			continue
		case strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".prom"):
			hidden = append(hidden, name)
			continue
		case !strings.HasSuffix(name, ".prom") || strings.HasPrefix(name, "."):
			return nil, nil, fmt.Errorf("%s is left, and others might take it for data", name)
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since the listing
		}
		if err != nil {
			return nil, nil, err
		}
		in, err := versions(string(data))
		if err != nil {
			return nil, nil, fmt.Errorf("%s (%d bytes): %w", name, len(data), err)
		}
		for g, version := range in {
			if g.file() != name || len(in) != 1 {
				return nil, nil, fmt.Errorf("%s holds %v", name, in)
			}
			if !g.dropped && (!strings.HasPrefix(string(data), "# promspool:group {") || !strings.Contains(string(data), "\npush_time_seconds{")) {
				return nil, nil, fmt.Errorf("%s is not as a push writes it", name)
			}
			found[g] = version
		}
		if len(in) == 0 && (strings.HasPrefix(name, "job=torture,") || strings.HasPrefix(name, "torture-")) {
			return nil, nil, fmt.Errorf("%s (%d bytes) holds nothing", name, len(data))
		}
	}
	return found, hidden, nil
}

// sound runs promspool's own check on a spool.
func sound(dir string) error {
	if out, err := exec.Command(promspool, "check", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("promspool check: %w: %s", err, out)
	}
	return nil
}

// checkSpool checks an idle spool after a cut at that instant and returns its groups.
func checkSpool(h *history, cut int64, dir string) (map[group]int, error) {
	found, _, err := readSpool(dir)
	if err == nil {
		err = h.check(cut, found)
	}
	if err == nil {
		err = sound(dir)
	}
	return found, err
}

// checkServed checks the metrics of a restarted agent. Its spool may contain no hidden
// files except the given ones.
func checkServed(h *history, cut int64, a *agent, others ...string) error {
	return eventually(5*time.Second, func() error {
		found, err := a.served()
		if err == nil {
			err = h.check(cut, found)
		}
		if err != nil {
			return err
		}
		_, hidden, err := readSpool(a.spool)
		if err == nil && !slices.Equal(hidden, others) {
			return fmt.Errorf("hidden in the spool are %q, want %q", hidden, others)
		}
		return err
	})
}

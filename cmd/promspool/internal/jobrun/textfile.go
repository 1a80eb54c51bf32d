package jobrun

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/promspool/promspool/ingest/job"
)

// textfileVariable is the environment variable with the path of the file to which
// the command may write its own metrics.
const textfileVariable = "PROMSPOOL_TEXTFILE"

// maxTextfile is the maximum size of such a file.
const maxTextfile = 16 << 20

// A textfile is that file. Its directory is private, so the command may also
// create the file by a rename.
type textfile struct{ dir string }

func newTextfile() (*textfile, error) {
	dir, err := os.MkdirTemp("", "promspool-run-")
	return &textfile{dir}, err
}

func (f *textfile) path() string { return filepath.Join(f.dir, "metrics.prom") }

// read returns the metrics of the command, or an error if they are invalid.
func (f *textfile) read() ([]byte, error) {
	if f.dir == "" {
		return nil, nil
	}
	data, err := readRegular(f.path())
	if err == nil && HasSamples(data) {
		err = job.CheckOwn(data)
	}
	if err != nil || !HasSamples(data) {
		return nil, err
	}
	return data, nil
}

// readRegular reads a regular file. It returns nil if the file does not exist.
func readRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	if fi, err := file.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxTextfile+1))
	if len(data) > maxTextfile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxTextfile)
	}
	return data, err
}

func (f *textfile) remove() {
	if f.dir != "" {
		_ = os.RemoveAll(f.dir) // leftover files are harmless
		f.dir = ""
	}
}

// HasSamples reports whether the text has more than comments and blank lines.
func HasSamples(data []byte) bool {
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

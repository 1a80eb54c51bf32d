package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"github.com/promspool/promspool/cmd/promspool/internal/jobrun"
	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// write stores its input as a dropped file.
type write struct {
	*common
	name       string
	allowEmpty bool
	force      bool
	maxBytes   size
	ttl        string
}

func addWrite(app *kingpin.Application, c *common, commands map[string]func() error) {
	w := &write{common: c}
	cmd := app.Command("write", `Store standard input as the file NAME.prom in the spool.

The input is read to its end and checked. Then the file is replaced atomically and synced. If the input is invalid, incomplete, empty or conflicts with other files of the spool, the file stays unchanged and the exit status is 1. HELP and TYPE lines without samples are stored: they are the result of a script that found nothing. No agent needs to run.

A pipe hides the failure of the program before it, whose partial output may be valid. The second example avoids that.

Examples:

  my-script | promspool write my-script

  out=$(my-script) && printf '%s\n' "$out" | promspool write my-script`)
	cmd.Flag("allow-empty", "Accept input without samples, HELP and TYPE lines.").BoolVar(&w.allowEmpty)
	cmd.Flag("force", "Accept conflicting input; the scrape omits conflicting series.").BoolVar(&w.force)
	cmd.Flag("max-bytes", "Maximum size of the input.").Default("16MiB").SetValue(&w.maxBytes)
	cmd.Flag("ttl", "Lifetime of the file from now on, such as 24h or 7d. After it the file is not served until it is written again.").StringVar(&w.ttl)
	cmd.Arg("name", "Name of the file, with or without .prom.").Required().StringVar(&w.name)
	commands[cmd.FullCommand()] = w.run
}

// run does not handle signals while it waits for input: they end the program, and
// nothing needs cleaning up. During the write signals are ignored.
func (w *write) run() error {
	if _, err := filestore.DroppedName(w.name); err != nil {
		return &usageError{err}
	}
	if _, err := record.ParseTTL(w.ttl); w.ttl != "" && err != nil {
		return &usageError{fmt.Errorf("--ttl: %w", err)}
	}
	limit := int64(w.maxBytes)
	if err := checkBounds(bound{"max-bytes", limit, 1}); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(w.stdin, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading standard input: %w", err)
	case int64(len(data)) > limit:
		return fmt.Errorf("standard input is larger than %d bytes, the limit of --max-bytes", limit)
	case !w.allowEmpty && !jobrun.HasSamples(data) && !hasMetadata(data):
		return errors.New("standard input has no samples, HELP or TYPE lines, so the script has probably failed: pass --allow-empty if this is intended")
	}
	if w.ttl != "" && (len(data) == 0 || data[len(data)-1] == '\n') { // else it is rejected, with its own line numbers
		data = append(data, "# promspool:ttl "+w.ttl+"\n"...)
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	store, err := w.open(&filestore.Options{MaxFileBytes: limit})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // nothing to lose
	err = store.Drop(w.name, data, w.force)
	var bad *exposition.SyntaxError
	if errors.As(err, &bad) {
		input := *bad
		input.File = ""
		return fmt.Errorf("standard input: %w", &input)
	}
	return denied(w.spool, err, "")
}

// hasMetadata reports whether there is a HELP or TYPE line. A script that prints only
// those has found nothing, which is a result.
func hasMetadata(data []byte) bool {
	for line := range bytes.Lines(data) {
		if words := bytes.Fields(line); len(words) > 2 && string(words[0]) == "#" && (string(words[1]) == "HELP" || string(words[1]) == "TYPE") {
			return true
		}
	}
	return false
}

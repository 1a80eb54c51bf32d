package watcher_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/promspool/promspool/watcher"
)

// A printer is a Target that prints its calls and stops after the first file.
type printer struct{ done func() }

func (p printer) Reload(names ...string) (retry []string, err error) {
	fmt.Println("look again at", names)
	p.done()
	return nil, nil
}

func (p printer) Rescan() (retry []string, err error) {
	fmt.Println("look at everything")
	return nil, nil
}

func Example() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	w, err := watcher.New(dir, watcher.Config{
		Match: func(name string) bool { return strings.HasSuffix(name, ".prom") },
	})
	if err != nil {
		log.Fatal(err)
	}
	// From here on the kernel queues all events.
	if err := os.WriteFile(filepath.Join(dir, "backup.prom"), []byte("up 1\n"), 0o644); err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	if err := w.Run(ctx, printer{done: cancel}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// look at everything
	// look again at [backup.prom]
}

//go:build linux

package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The faults of agents for control tests. faultVariable selects one. The product's
// code does not contain them: the build changes the calls in a copy of package
// filestore/disk.
const (
	faultVariable = "PROMSPOOL_TORTURE_FAULT"

	noFileFlush      = "no flush of files"
	noDirectoryFlush = "no flush of directories"
	flushAgain       = "a failed flush is tried again"
	inPlace          = "files written in place"
)

// wrongSource replaces the calls.
const wrongSource = `package disk

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

var tortureFault = os.Getenv("` + faultVariable + `")

type tortureFile interface {
	Sync() error
	Stat() (os.FileInfo, error)
}

func tortureSync(f tortureFile) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case tortureFault == "` + noFileFlush + `" && !fi.IsDir(), tortureFault == "` + noDirectoryFlush + `" && fi.IsDir():
		return nil
	}
	err = f.Sync()
	for range 10 {
		if err != nil && tortureFault == "` + flushAgain + `" {
			err = f.Sync()
		}
	}
	return err
}

func tortureFlush(flush func(int) error, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case tortureFault == "` + noFileFlush + `" && !dir, tortureFault == "` + noDirectoryFlush + `" && dir:
		return nil
	}
	err := flush(fd)
	for range 10 {
		if err != nil && tortureFault == "` + flushAgain + `" {
			err = flush(fd)
		}
	}
	return err
}

func tortureRename(rename func(int, string, int, string) error, at int, from string, too int, to string) error {
	if tortureFault != "` + inPlace + `" {
		return rename(at, from, too, to)
	}
	open := func(name string, flags int) (*os.File, error) {
		fd, err := unix.Openat(at, name, flags|unix.O_CLOEXEC, 0o644)
		return os.NewFile(uintptr(fd), name), err
	}
	r, err := open(from, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	w, err := open(to, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer w.Close()
	for len(data) > 0 {
		n := min(len(data), 64)
		if _, err := w.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
		time.Sleep(20 * time.Microsecond)
	}
	if err := w.Sync(); err != nil {
		return err
	}
	return unix.Unlinkat(at, from, 0)
}
`

// faulty returns an agent with that fault and its environment.
func faulty(t *testing.T, fault string) (program string, env []string) {
	t.Helper()
	path, err := buildFaulty()
	if err != nil {
		t.Fatal(err)
	}
	return path, []string{faultVariable + "=" + fault}
}

var buildFaulty = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/promspool/promspool/filestore/disk").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	copies, err := os.MkdirTemp(workDir, "overlay-")
	if err != nil {
		return "", err
	}
	overlay := map[string]string{filepath.Join(dir, "torture_fault.go"): filepath.Join(copies, "torture_fault.go")}
	if err := os.WriteFile(filepath.Join(copies, "torture_fault.go"), []byte(wrongSource), 0o600); err != nil {
		return "", err
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	changed := map[string]int{}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		wrong, err := makeWrong(text, changed)
		if err != nil {
			return "", fmt.Errorf("%s: %w", source, err)
		}
		if wrong == nil {
			continue
		}
		to := filepath.Join(copies, filepath.Base(source))
		if err := os.WriteFile(to, wrong, 0o600); err != nil {
			return "", err
		}
		overlay[source] = to
	}
	if changed["tortureSync"]+changed["tortureFlush"] < 2 || changed["tortureRename"] == 0 {
		return "", fmt.Errorf("the controls find no flush of a file and of a directory, or no rename, in filestore/disk: %v", changed)
	}
	table, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(copies, "overlay.json"), table, 0o600); err != nil {
		return "", err
	}
	program := filepath.Join(workDir, "promspool-faulty")
	if out, err := build(program, "-overlay="+filepath.Join(copies, "overlay.json")); err != nil {
		return "", fmt.Errorf("go build -overlay: %w\n%s", err, out)
	}
	return program, nil
})

// makeWrong replaces the calls in a source file. It returns nil if there are none.
func makeWrong(text []byte, changed map[string]int) ([]byte, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", text, 0)
	if err != nil {
		return nil, err
	}
	type edit struct {
		from, to int
		text     string
	}
	var edits []edit
	at := func(p token.Pos) int { return files.Position(p).Offset }
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		on, _ := sel.X.(*ast.Ident)
		wrong, first := "", string(text[at(sel.X.Pos()):at(sel.X.End())])
		switch name := sel.Sel.Name; {
		case name == "Sync" && len(call.Args) == 0:
			wrong = "tortureSync"
		case on != nil && on.Name == "unix" && (name == "Fsync" || name == "Fdatasync" || name == "Syncfs"):
			wrong, first = "tortureFlush", "unix."+name
		case on != nil && on.Name == "unix" && name == "Renameat":
			wrong, first = "tortureRename", "unix."+name
		default:
			return true
		}
		if len(call.Args) > 0 {
			first += ", "
		}
		changed[wrong]++
		edits = append(edits, edit{at(call.Pos()), at(call.Lparen) + 1, wrong + "(" + first})
		return true
	})
	if len(edits) == 0 {
		return nil, nil
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.from - a.from })
	for _, e := range edits {
		text = slices.Concat(text[:e.from], []byte(e.text), text[e.to:])
	}
	return bytes.Clone(text), nil
}

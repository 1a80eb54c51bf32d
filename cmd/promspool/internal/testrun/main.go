// Command testrun runs go test and reports skipped tests in its last line, with the
// reasons.
//
// Its arguments are those of go test. A "--" begins the arguments of another go
// test, which runs even if the one before has failed. The output is that of go test,
// verbose only with -v. The exit status is the first one of go test that is not 0.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() {
	r := newReport(os.Stdout)
	status := 0
	rest := os.Args[1:]
	for {
		args, more := rest, false
		if i := slices.Index(rest, "--"); i >= 0 {
			args, rest, more = rest[:i], rest[i+1:], true
		}
		status = cmp.Or(status, goTest(r, args))
		if !more {
			break
		}
	}
	fmt.Println(r.summary())
	os.Exit(status)
}

// goTest runs one go test and returns its exit status.
func goTest(r *report, args []string) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r.verbose = slices.Contains(args, "-v")
	r.read(out)
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1) // -1 after a signal
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// An event is a line of go test -json. go doc test2json describes it.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// A report prints what go test prints, and counts skips by their reasons.
type report struct {
	w       io.Writer
	verbose bool
	held    map[string]map[string][]string // output of tests that have not ended, by package and test
	skips   map[string]int                 // tests by reason
	left    []string                       // what whole packages say
}

func newReport(w io.Writer) *report {
	return &report{w: w, held: map[string]map[string][]string{}, skips: map[string]int{}}
}

// read reports all events.
func (r *report) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil && e.Action != "" {
			r.event(e)
		} else {
			fmt.Fprintf(r.w, "%s", line) // not an event, such as of a go command that crashes
		}
		if err != nil {
			return
		}
	}
}

// reason is how the reason of a skip is printed, after the place.
var reason = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)\n?$`)

// frame is what only go test -v prints.
var frame = regexp.MustCompile(`^(=== |\s*--- (PASS|SKIP): )`)

func (r *report) event(e event) {
	switch e.Action {
	case "output":
		if why, ok := strings.CutPrefix(e.Output, "SKIP: "); ok && e.Test == "" {
			r.left = append(r.left, strings.TrimSpace(why))
		}
		if r.held[e.Package] == nil {
			r.held[e.Package] = map[string][]string{}
		}
		r.held[e.Package][e.Test] = append(r.held[e.Package][e.Test], e.Output)
		if r.verbose {
			fmt.Fprint(r.w, e.Output)
		}
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "skip":
		if e.Test != "" {
			r.skip(r.held[e.Package][e.Test])
		}
		r.end(e, e.Test == "")
	case "pass":
		r.end(e, e.Test == "")
	case "fail":
		r.end(e, true)
	}
}

// skip counts a skipped test, whose reason is the last line that it logged.
func (r *report) skip(output []string) {
	why := "no reason given"
	for _, line := range output {
		if m := reason.FindStringSubmatch(line); m != nil {
			why = m[1]
		}
	}
	r.skips[why]++
}

// end prints the output of a failed test or of a package. For a passed package that is
// its last line, else all remaining output, also of tests that have not ended.
func (r *report) end(e event, print bool) {
	tests := r.held[e.Package]
	show := func(lines []string) {
		for _, line := range lines {
			if print && !r.verbose && !frame.MatchString(line) {
				fmt.Fprint(r.w, line)
			}
		}
	}
	if e.Test != "" {
		last := func(line string) bool { return strings.Contains(line, "--- FAIL: ") }
		show(slices.DeleteFunc(slices.Clone(tests[e.Test]), func(line string) bool { return !last(line) }))
		show(slices.DeleteFunc(tests[e.Test], last))
		delete(tests, e.Test)
		return
	}
	own := tests[""]
	delete(tests, "")
	if e.Action == "fail" {
		for _, test := range slices.Sorted(maps.Keys(tests)) {
			show(tests[test])
		}
		show(own)
	} else if len(own) > 0 {
		show(own[len(own)-1:])
	}
	delete(r.held, e.Package)
}

// summary returns the line about skipped tests.
func (r *report) summary() string {
	parts := r.left
	reasons := slices.SortedFunc(maps.Keys(r.skips), func(a, b string) int { return cmp.Or(r.skips[b]-r.skips[a], cmp.Compare(a, b)) })
	for _, why := range reasons {
		parts = append(parts, fmt.Sprintf("%d because: %s", r.skips[why], why))
	}
	if len(parts) == 0 {
		return "skipped: nothing"
	}
	return "skipped: " + strings.Join(parts, "; ")
}

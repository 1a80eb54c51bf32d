package ingest

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/record"
)

// TestStatusOf is a white-box test: full disks and locks that others hold are
// not at hand.
func TestStatusOf(t *testing.T) {
	disk := func(errno syscall.Errno) error {
		return fmt.Errorf("storing group: %w", &fs.PathError{Op: "write", Path: "x", Err: errno})
	}
	conflict := &record.Conflict{Family: "f", File: "a.prom", Kept: "b.prom", Reason: exposition.TypeConflict}
	tests := []struct {
		err  error
		code int
	}{
		{refuse(http.StatusTeapot, "short and stout"), 418},
		{&exposition.SyntaxError{Reason: exposition.Syntax, Line: 3, Msg: "m"}, 400},
		{&exposition.SyntaxError{Reason: exposition.Timestamp, Msg: "m"}, 400},
		{&exposition.SyntaxError{Reason: exposition.TooLarge, Msg: "m"}, 413},
		{conflict, 400},
		{errors.Join(conflict, disk(syscall.ENOSPC)), 400},
		{fmt.Errorf("wrapped: %w", &http.MaxBytesError{Limit: 3}), 413},
		{&readError{fs.ErrClosed}, 400},
		{&readError{disk(syscall.EIO)}, 400},
		{&readError{os.ErrDeadlineExceeded}, 408},
		{disk(syscall.ENOSPC), 507},
		{disk(syscall.EDQUOT), 507},
		{fmt.Errorf("storing: %w", filestore.ErrFull), 507},
		{fmt.Errorf("storing: %w", filestore.ErrBusy), 503},
		{disk(syscall.EMFILE), 503},
		{fmt.Errorf("flushing: %w; %w", disk(syscall.ENOSPC), filestore.ErrInDoubt), 500},
		{disk(syscall.EROFS), 500},
		{disk(syscall.EACCES), 500},
		{disk(syscall.EIO), 500},
		{disk(syscall.ENOENT), 500},
		{errors.New("something else"), 500},
	}
	for _, test := range tests {
		code, sentence := statusOf(test.err)
		if code != test.code || sentence == "" || strings.Contains(sentence, "\n") {
			t.Errorf("statusOf(%v) = %d, %q, want %d", test.err, code, sentence, test.code)
		}
	}
	if err := noteFailed(errors.Join(conflict, disk(syscall.EIO))); !errors.Is(err, syscall.EIO) {
		t.Errorf("noteFailed = %v, want EIO", err)
	}
	if err := noteFailed(errors.Join(conflict, nil)); err != nil {
		t.Errorf("noteFailed = %v, want nil", err)
	}
}

func TestSentencesArePrintable(t *testing.T) {
	for in, want := range map[string]string{
		"all right ☃":              "all right ☃\n",
		"a\nb\x1b[31m\u202e":       `a\nb\x1b[31m\u202e` + "\n",
		"x\xffy":                   "x\uFFFDy\n",
		strings.Repeat("☃", 1000):  strings.Repeat("☃", 682) + "…\n",
		strings.Repeat("x", 10000): strings.Repeat("x", 2048) + "…\n",
	} {
		w := httptest.NewRecorder()
		writeError(w, 503, in)
		if got := w.Body.String(); got != want || w.Header().Get("Retry-After") != "1" {
			t.Errorf("writeError(%.20q) = %.99q, want %.99q", in, got, want)
		}
	}
}

// TestRefusalsQuoteWholeCharacters has names that are too long to be quoted whole.
func TestRefusalsQuoteWholeCharacters(t *testing.T) {
	for _, path := range []string{"job/j/x" + strings.Repeat("☃", 1000) + "/v", "job/j/" + strings.Repeat("ü", 1000), "job/j/__" + strings.Repeat("☃", 1000) + "/v"} {
		_, _, err := ParsePath(path, false)
		if err == nil {
			t.Errorf("%.20s… is accepted", path)
			continue
		}
		if text := err.Error(); !strings.Contains(text, "…") || strings.Contains(text, `\x`) || len(text) > 1000 {
			t.Errorf("%.20s…: %s", path, text)
		}
	}
}

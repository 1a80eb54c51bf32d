package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// injections are texts that change meaning if they are inserted unescaped: as a line,
// a series, a header, a tag or a terminal command.
var injections = map[string]string{
	"line feed":        "a\nevil 1\n",
	"carriage return":  "a\r\nX-Evil: 1\r\n\r\nevil",
	"quote":            `a"} 1` + "\nevil{l=\"",
	"backslash":        `a\`,
	"escaped quote":    `a\"} 1`,
	"colours":          "\x1b[31mred\x1b]0;title\x07",
	"control of C1":    "\u009b31mred\u009d0;title\u009c",
	"right to left":    "\u202egnp.exe\u2066",
	"line separator":   "a\u2028evil 1\u2029\u0085\v\f",
	"delete":           "a\x7f\x7fb\b\b",
	"tag":              "<script>evil()</script><!--]]>",
	"log line":         "a\ntime=2026-01-01T00:00:00Z level=ERROR msg=evil",
	"JSON":             `a","level":"ERROR","msg":"evil`,
	"comment":          "a\n# promspool:group {job=\"evil\"}\n# promspool:owner 0",
	"far away":         "\U000e0001\U0001f4a9\U00010fff",
	"format":           "%s%n%d {{.}} ${HOME} $(id)",
	"path":             "../../evil/..%2f%00",
	"long":             strings.Repeat("\x1b[", 500),
	"zero width":       "a\u200b\ufeffb",
	"other whitespace": "a\u00a0\u3000b",
}

// TestNothingIsInjected pushes and drops them in every place that accepts text. It
// checks all output: files, scrape, log, responses, API and page.
func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			testInjections(t, format)
		})
	}
}

func testInjections(t *testing.T, format string) {
	a := agenttest.StartAgent(t, "", "--log.level=debug", "--log.format="+format, "--push.enable-utf8-names", "--ping.enable")
	wantPlain := func(what, text string) {
		t.Helper()
		for line := range strings.Lines(text) {
			if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%s has %q", what, line)
			}
		}
	}
	request := func(method, path, body string, header ...string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, a.URL+path, strings.NewReader(body))
		agenttest.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := agenttest.Client.Do(req)
		agenttest.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		agenttest.NoError(t, err)
		for name, values := range resp.Header {
			if strings.Contains(name, "Evil") {
				t.Errorf("%s %s is answered with the header %s", method, path, name)
			}
			wantPlain("the header", strings.Join(values, " "))
		}
		if resp.StatusCode >= 400 {
			wantPlain("the answer to "+method+" "+path, string(answer))
			if strings.Count(string(answer), "\n") != 1 {
				t.Errorf("%s %s is answered with %q, want one line", method, path, answer)
			}
		}
		return resp.StatusCode
	}
	escape := func(s string) string {
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
	}
	names := 0
	for name, evil := range injections {
		path := "/metrics/job@base64/" + base64.RawURLEncoding.EncodeToString([]byte(evil)) + "/of@base64/" + base64.RawURLEncoding.EncodeToString([]byte(name))
		if code := request("PUT", path, fmt.Sprintf("# HELP helped %s\nhelped{l=\"%s\"} 1\n", strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(evil), escape(evil))); code != 200 {
			t.Errorf("%s: PUT = %d, want 200", name, code)
		}
		// Rejected, with part of the text in the reason or in the log.
		request("POST", path, fmt.Sprintf("helped{l=\"%s\"} 1 1000\n", escape(evil)))
		other, _, _ := strings.Cut(path, "/of@")
		request("POST", other, "# TYPE helped counter\nhelped 1\n")
		request("POST", path, evil)
		request("POST", path, fmt.Sprintf("{%s=\"1\"} 1\n", strconv.Quote(evil)))
		request("POST", "/metrics/job/a/"+base64.RawURLEncoding.EncodeToString([]byte(evil))+"@base64/"+base64.RawURLEncoding.EncodeToString([]byte(evil)), "m 1\n")
		request("PUT", "/metrics/job/encoding", "m 1\n", "Content-Encoding", strconv.Quote(evil))
		request("PUT", path+"?ttl="+url.QueryEscape(evil), "m 1\n", "X-Promspool-Mode", strconv.QuoteToASCII(evil))
		request("GET", "/ping/"+base64.RawURLEncoding.EncodeToString([]byte(evil)), "")
		request("GET", "/%0d%0aX-Evil:%201", "")
		if !strings.ContainsAny(evil, "/\x00") && len(evil) < 200 {
			for i, text := range []string{fmt.Sprintf("dropped{l=\"%s\"} %d\n", escape(evil), names), "broken" + evil + "\n", "dropped 1"} {
				agenttest.NoError(t, os.WriteFile(filepath.Join(a.Spool, evil+strconv.Itoa(i)+".prom"), []byte(text), 0o644))
				names++
			}
		}
	}
	agenttest.NoError(t, os.WriteFile(filepath.Join(a.Spool, "not \xff utf-8.prom"), []byte("broken \xff\n"), 0o644))
	names++
	agenttest.WaitFor(t, "the files are served", func() bool {
		_, answer := a.Send("GET", "/api/v1/files?kind=file", "")
		return strings.Contains(answer, fmt.Sprintf(`"matched":%d`, names))
	})

	// The scrape and the files have the pushed values only.
	for _, path := range []string{"/metrics", "spool"} {
		text := a.Page()
		if path == "spool" {
			text = ""
			for _, file := range agenttest.Files(t, a.Spool) {
				if !strings.HasPrefix(file, "job=") {
					continue
				}
				wantPlain("the name of a file", file)
				data, err := os.ReadFile(filepath.Join(a.Spool, file))
				agenttest.NoError(t, err)
				if text = string(data); strings.Contains(text, "# TYPE helped") {
					checkInjected(t, file, text, 1)
				}
			}
			continue
		}
		checkInjected(t, path, text, len(injections))
	}
	for _, path := range []string{"/", "/?q=evil", "/api/v1/files", "/api/v1/metrics", "/api/v1/status"} {
		code, text := a.Send("GET", path, "")
		if code != 200 {
			t.Errorf("GET %s = %d", path, code)
		}
		if strings.HasPrefix(path, "/api") {
			if !json.Valid([]byte(text)) {
				t.Errorf("GET %s is no JSON", path)
			}
			continue
		}
		if strings.Contains(text, "<script>evil") || strings.ContainsAny(text, "\x1b\u009b\u202e") {
			t.Errorf("GET %s has something unescaped", path)
		}
	}
	a.Stop()
	log := a.Log.String()
	wantPlain("the log", log)
	for line := range strings.Lines(log) {
		switch {
		case format == "json" && (!json.Valid([]byte(line)) || strings.Contains(line, `"msg":"evil`)),
			format == "logfmt" && (!strings.HasPrefix(line, "time=") || strings.HasPrefix(line, "time=2026-01-01")):
			t.Errorf("the log has the line %q", line)
		}
	}
	for _, part := range []string{"refused a push", "is not served"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log has nothing of what %s", part)
		}
	}
}

// checkInjected parses a scrape or a file. It must have the given number of series of
// helped, with the values pushed.
func checkInjected(t *testing.T, what, text string, want int) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8", what)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, text)
	}
	if families["evil"] != nil {
		t.Errorf("%s has a family evil", what)
	}
	got := families["helped"].GetMetric()
	if len(got) != want {
		t.Errorf("%s has %d series, want %d", what, len(got), want)
	}
	for _, m := range got {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if evil := injections[labels["of"]]; labels["l"] != evil || labels["job"] != evil {
			t.Errorf("%s has the labels %q, want %q", what, labels, evil)
		}
	}
}

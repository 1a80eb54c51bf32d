package exporter_test

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/promspool/promspool/exporter"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
)

// many is a spool of 120 groups and some files; it returns what the groups are
// called, in the order of the view.
func many(t *testing.T) (fs files, names []string) {
	fs = files{"good.prom": "good 1\n", "Bad.prom": "bad\n"}
	for i := range 120 {
		names = append(names, group(t, fs, strings.Repeat(" ", i%7)+fmt.Sprintf("# TYPE push_time_seconds gauge\npush_time_seconds{job=\"J%03d\"} %d\n", i, 1_700_000_000+i*47%120), exposition.Label{Name: "job", Value: fmt.Sprintf("J%03d", i)}))
	}
	return fs, names
}

type listed struct {
	Data []struct {
		Name string
		Size int `json:"size_bytes"`
	}
	Matched int
}

func list(t *testing.T, e *exporter.Exporter, query string) (names []string, matched int) {
	t.Helper()
	w := get(e.APIFiles, "/?"+query)
	var l listed
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 200 {
		t.Fatalf("%s gives %d %v %s", query, w.Code, err, w.Body)
	}
	for _, x := range l.Data {
		names = append(names, x.Name)
	}
	return names, l.Matched
}

func TestFilesAreListedAsAskedFor(t *testing.T) {
	fs, names := many(t)
	e := serve(t, fs, nil)
	byTime := slices.SortedStableFunc(slices.Values(names), func(a, b string) int {
		at := func(name string) int { return slices.Index(names, name) * 47 % 120 }
		return cmp.Compare(at(a), at(b))
	})
	bySize := slices.SortedStableFunc(slices.Values(names), func(a, b string) int { return cmp.Compare(len(fs[b]), len(fs[a])) })
	backwards := slices.Clone(names)
	slices.Reverse(backwards)
	for _, want := range []struct {
		query   string
		names   []string
		matched int
	}{
		{"", slices.Concat(names, []string{"Bad.prom", "good.prom"}), 122},
		{"kind=group", names, 120},
		{"kind=file", []string{"Bad.prom", "good.prom"}, 2},
		{"kind=group&limit=7&offset=50", names[50:57], 120},
		{"kind=group&limit=7&offset=118", names[118:], 120},
		{"kind=group&limit=7&offset=500", nil, 120},
		{"kind=group&sort=-name&limit=3&offset=1", backwards[1:4], 120},
		{"kind=group&sort=time", byTime, 120},
		{"kind=group&sort=-size&limit=60&offset=30", bySize[30:90], 120},
		{"kind=group&sort=-size&limit=9&offset=500", nil, 120},
		{"search=j00+JOB", names[:10], 10},
		{"search=j00+nothing", nil, 0},
		{"search=BAD", []string{"Bad.prom"}, 1},
		{"search=%7Bjob%3D~%22J01.%22%7D&sort=-name", backwards[100:110], 10},
		{"state=faulty", []string{"Bad.prom"}, 1},
		{"state=faulty&search=good", nil, 0},
		{"search=" + url.QueryEscape(`job="J119"`), names[119:], 1},
		{"search=j11&sort=-time&limit=2&kind=group", nil, 10},
		{"search=" + url.QueryEscape(`{job!~"J.*"}`), nil, 0},
		{"search=" + strings.Repeat("x", 1000), nil, 0},
		{"search=&state=&sort=&limit=&kind=file&q=un", []string{"Bad.prom", "good.prom"}, 2},
	} {
		query := want.query
		got, matched := list(t, e, query)
		if query == "search=j11&sort=-time&limit=2&kind=group" {
			if want.matched != matched || len(got) != 2 || slices.Index(byTime, got[0]) < slices.Index(byTime, got[1]) {
				t.Errorf("%s gives %q of %d", query, got, matched)
			}
			continue
		}
		if !slices.Equal(got, want.names) || matched != want.matched {
			t.Errorf("%s gives %d of %d: %q\nwant %d: %q", query, len(got), matched, got, want.matched, want.names)
		}
	}
	for query, word := range map[string]string{
		"limit=x": "limit", "state=faulty;limit=1": `"state=faulty;limit=1"`, "search=%zz": `"search=%zz"`, "offset=-1": "offset", "sort=colour": "sort", "kind=x": "kind", "state=x": "state", "search=%7Bjob%3Dx": "braces", "search=" + strings.Repeat("x", 1001): "search",
	} {
		if w := get(e.APIFiles, "/?"+query); w.Code != 400 || !strings.Contains(w.Body.String(), word) {
			t.Errorf("%s gives %d %q", query, w.Code, w.Body)
		}
	}
}

// page returns the page with its entities as they are.
func page(t *testing.T, e *exporter.Exporter, query string) string {
	t.Helper()
	w := get(e.Page, "/?"+query)
	if ct := w.Header().Get("Content-Type"); w.Code != 200 || ct != "text/html; charset=utf-8" {
		t.Fatalf("the page ?%s is %d %s", query, w.Code, ct)
	}
	return w.Body.String()
}

var (
	links   = regexp.MustCompile(`(?:href|src|action|data-path)="([^"]*)"`)
	scripts = regexp.MustCompile(`<script[^>]*>`)
)

// What others wrote is text, all links are relative and lead to this agent, and
// nothing on the page needs more than its policy allows.
func TestPageIsEscapedAndKeepsToItself(t *testing.T) {
	const evil = "</code><script>alert(1)</script>\"'`{{.}}\u202e\n"
	fs := files{"<b>\"&.prom": "# HELP x <b>Help</b> \u202e\nx{l=\"<i>\"} 1\n", "bad<b>.prom": "a b c\n", "\xff\u202e.prom": "y 1\n"}
	group(t, fs, "# HELP a_seconds <u>\n# TYPE a_seconds gauge\na_seconds{job=\"j\"} 1\n", exposition.Label{Name: "job", Value: evil}, exposition.Label{Name: "path", Value: "/../"})
	v := viewOf(nil, fs)
	e := exporter.New(exporter.Config{
		View: func() *merge.View { return v },
		Info: exporter.Info{
			Host: "<h>", Spool: "/var/spool/<x>", Start: time.Now().Add(-time.Hour), MetricsPath: "/tele/metry",
			Build: map[string]string{"version": "1.2.3<"}, Flags: map[string]string{"a.flag": "<v>"}, Watch: func() string { return "inotify" },
		},
		Ready:    func() error { return errors.New("the first scan is <not> complete") },
		CanWrite: func(*http.Request) bool { return true },
	})
	text := ""
	sought := url.QueryEscape(strings.TrimRight(evil, "\u202e\n")) // comes back as it was given
	queries := []string{"", "view=files", "view=jobs", "view=status", "view=<script>&sort=<script>&offset=<script>", "search=" + sought, "search=%7B" + sought, "view=jobs&search=" + sought}
	for f := range v.Files() {
		queries = append(queries, "view=file&name="+url.QueryEscape(f.Name()))
	}
	for _, query := range queries {
		html := page(t, e, query)
		text += html
		for _, s := range []string{"<b>", "<i>", "<u>", "<x>", "<h>", "<v>", "<not>", "style=", "onclick", "ZgotmplZ", "\u202e", "\xff", "://"} {
			if i := strings.Index(html, s); i >= 0 && !(s == "://" && strings.HasPrefix(html[i-4:], "http://localhost:9091/metrics/job/some_job")) {
				t.Errorf("?%s has %q: %.200s", query, s, html[max(0, i-100):])
			}
		}
		for _, l := range links.FindAllStringSubmatch(html, -1) {
			u, err := url.Parse(strings.ReplaceAll(l[1], "&amp;", "&"))
			if err != nil || u.IsAbs() || u.Host != "" || strings.HasPrefix(u.Path, "/") || strings.Contains(u.Path, "..") {
				t.Errorf("?%s leads to %s", query, l[1])
			}
		}
		if s := scripts.FindAllString(html, -1); len(s) != 1 || s[0] != `<script type="module" src="ui/page.js">` {
			t.Errorf("?%s has the scripts %q", query, s)
		}
	}
	for _, s := range []string{
		"&lt;/code&gt;&lt;script&gt;alert(1)", `\u202e\n`, "bad&lt;b&gt;.prom", "/var/spool/&lt;x&gt;", "inotify", "1.2.3&lt;", "a.flag", `href="tele/metry"`, "first scan is &lt;not&gt; complete",
		"not served", "syntax: ", "line 1", `\xff\u202e.prom`, `data-path="metrics/job@base64/`, `/path@base64/Ly4uLw"`,
	} {
		if !strings.Contains(text, s) {
			t.Errorf("no page has %q", s)
		}
	}
	h := get(e.Page, "/").Header()
	csp := h.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("the policy is %q", csp)
	}
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(h.Get("Cache-Control"), "no-store") {
		t.Errorf("the headers are %v", h)
	}
	for _, coding := range []string{"gzip", "zstd"} {
		if r := get(e.Page, "/?view=file&name=gone", "Accept-Encoding", coding).Result(); r.StatusCode != 404 || r.Header.Get("Content-Encoding") != coding || r.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("a missing file with %s: %s %v", coding, r.Status, r.Header)
		}
	}
	if w := get(e.Page, "/?view=file&name=<b>gone"); w.Code != 404 || !strings.Contains(w.Body.String(), "&lt;b&gt;gone") {
		t.Errorf("a file that is not there gives %d %s", w.Code, w.Body)
	}
}

// Without any script there are links for all but the removal.
func TestPageIsCutIntoPages(t *testing.T) {
	fs, names := many(t)
	e := serve(t, fs, nil)
	seen := map[string]bool{}
	query := ""
	for range 10 {
		html := page(t, e, query)
		for _, name := range names {
			if strings.Contains(html, "name="+url.QueryEscape(name)+"&amp;view=file") {
				seen[name] = true
			}
		}
		i := strings.Index(html, `" rel="next"`)
		if i < 0 {
			break
		}
		link := html[strings.LastIndexByte(html[:i], '"')+2 : i]
		query = strings.ReplaceAll(link, "&amp;", "&")
	}
	if len(seen) != len(names) {
		t.Errorf("following the links shows %d groups, want %d", len(seen), len(names))
	}
	for query, want := range map[string]string{
		"":                        "1 to 50 of 120 groups",
		"offset=100":              "101 to 120 of 120 groups",
		"offset=5000":             "101 to 120 of 120 groups",
		"offset=x":                "1 to 50 of 120 groups",
		"search=J11":              ">10 groups<",
		"search=J111":             ">1 group<",
		"search=none":             ">No groups<",
		"search={job=x":           "are not closed",
		"view=files":              ">2 files<",
		"view=files&state=faulty": ">1 file<",
		"view=jobs":               ">No jobs<",
	} {
		if html := page(t, e, query); !strings.Contains(html, want) {
			t.Errorf("?%s lacks %q", query, want)
		}
	}
}

func TestOnlyThoseWhoMayWriteAreOfferedTo(t *testing.T) {
	fs, _ := many(t)
	v := viewOf(nil, fs)
	for remote, may := range map[string]bool{"127.0.0.1:1": true, "192.0.2.1:1": false} {
		e := exporter.New(exporter.Config{View: func() *merge.View { return v }, CanWrite: func(r *http.Request) bool { return strings.HasPrefix(r.RemoteAddr, "127.") }})
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		e.Page(w, r)
		if n := strings.Count(w.Body.String(), "data-path="); may && n != 50 || !may && n != 0 {
			t.Errorf("from %s there are %d buttons to remove", remote, n)
		}
	}
}

func TestContentIsCutIntoPages(t *testing.T) {
	var b strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&b, "many{i=\"%04d\"} %d.5\n", i, i)
	}
	b.WriteString("# HELP z_seconds Took.\n# TYPE z_seconds histogram\nz_seconds_bucket{le=\"0.5\"} 1\nz_seconds_bucket{le=\"+Inf\"} 2\nz_seconds_sum 3.25\nz_seconds_count 2\n# TYPE z_timestamp_seconds gauge\nz_timestamp_seconds 1.7e+09\n")
	e := serve(t, files{"many.prom": b.String()}, nil)
	for query, want := range map[string][]string{
		"":             {"metrics 1 to 500", ">499.5<", "offset=500"},
		"&offset=500":  {"metrics 501 to 1000", ">500.5<", ">999.5<", "offset=1000"},
		"&offset=1000": {">1000.5<", ">1199.5<", "2 observations, sum 3.25", "2 buckets", "<td>0.5</td><td>1</td>", "# HELP <bdi>z_seconds</bdi> <bdi>Took.</bdi>", "# TYPE <bdi>z_seconds</bdi> histogram", "1700000000", "2023-11-14 22:13:20 UTC"},
		"&offset=9999": {"1,205 samples", "no metrics"},
	} {
		html := page(t, e, "view=file&name=many.prom"+query)
		for _, s := range want {
			if !strings.Contains(strings.ReplaceAll(html, "\n", ""), s) {
				t.Errorf("%s lacks %q", query, s)
			}
		}
		if n := strings.Count(html, "<bdi><span"); n > 501 {
			t.Errorf("%s has %d metrics", query, n)
		}
	}
}

func TestJobsAreToldInWords(t *testing.T) {
	now := time.Now().Unix()
	fs := files{}
	job := func(name, values string) {
		text := ""
		for _, pair := range strings.Fields(values) {
			k, x, _ := strings.Cut(pair, "=")
			if v, relative := strings.CutPrefix(x, "now"); relative {
				var d int64
				_, _ = fmt.Sscan(v, &d)
				x = fmt.Sprint(now + d)
			}
			text += fmt.Sprintf("# TYPE promspool_job_%s gauge\npromspool_job_%s{job=%q} %s\n", k, k, name, x)
		}
		group(t, fs, text+fmt.Sprintf("# TYPE promspool_job_runs_total counter\npromspool_job_runs_total{job=%q,outcome=\"failure\"} 2\npromspool_job_runs_total{job=%[1]q,outcome=\"lost\"} 0\npromspool_job_runs_total{job=%[1]q,outcome=\"success\"} 40\n", name), exposition.Label{Name: "job", Value: name})
	}
	job("done", "start_timestamp_seconds=now-90 end_timestamp_seconds=now-60 success_timestamp_seconds=now-60 exit_code=0 duration_seconds=30 next_due_timestamp_seconds=now+7200")
	job("failed", "start_timestamp_seconds=now-90 end_timestamp_seconds=now-60 success_timestamp_seconds=now-6000 exit_code=3 duration_seconds=30")
	job("running", "start_timestamp_seconds=now-90 running=1 next_due_timestamp_seconds=now-10 max_runtime_seconds=3600")
	job("toolong", "start_timestamp_seconds=now-9000 running=1 max_runtime_seconds=3600")
	job("overdue", "start_timestamp_seconds=now-9000 end_timestamp_seconds=now-8900 success_timestamp_seconds=now-8900 next_due_timestamp_seconds=now-100")
	job("killed", "start_timestamp_seconds=now-90 end_timestamp_seconds=now-60 success_timestamp_seconds=now-6000 exit_code=-1")
	job("both", "start_timestamp_seconds=now-9000 end_timestamp_seconds=now-8900 success_timestamp_seconds=0 exit_code=1 next_due_timestamp_seconds=now-99")
	job("never", "start_timestamp_seconds=0 end_timestamp_seconds=0 next_due_timestamp_seconds=now+100")
	job("lost", "start_timestamp_seconds=now-90 end_timestamp_seconds=now-900 running=0")
	group(t, fs, "# TYPE other gauge\nother{job=\"none\"} 1\n", exposition.Label{Name: "job", Value: "none"})
	html := page(t, serve(t, fs, nil), "view=jobs")
	at := 0
	for _, row := range []struct{ job, state string }{
		{"toolong", "running too long"}, {"overdue", "overdue"}, {"both", "overdue"}, {"killed", "lost"}, {"lost", "lost"}, {"failed", "failed, exit status 3"}, {"running", "running"}, {"never", "never ran"}, {"done", "succeeded"},
	} {
		i := strings.Index(html, ">"+row.job+"</bdi>")
		if i < at {
			t.Errorf("%s is at %d, after what stands at %d", row.job, i, at)
			continue
		}
		at = i
		end := i + strings.Index(html[i:], "</tr>")
		if !strings.Contains(html[i:end], ">"+row.state+"<") {
			t.Errorf("%s is not %s: %s", row.job, row.state, html[i:end])
		}
		if !strings.Contains(html[i:end], "40 succeeded</span>, <span class=\"nowrap\">2 failed") || strings.Contains(html[i:end], "0 lost") {
			t.Errorf("the runs of %s: %s", row.job, html[i:end])
		}
	}
	if i := strings.Index(html, ">both</bdi>"); !strings.Contains(html[i:i+strings.Index(html[i:], "</tr>")], ">failed, exit status 1<") {
		t.Error("what is overdue does not say that it failed")
	}
	if strings.Contains(html, ">none<") {
		t.Error("a group without metrics of a job is one")
	}
}

func TestExpiredGroupsAreMarked(t *testing.T) {
	fs, _ := many(t)
	group(t, fs, "# promspool:expired 1700000000\n# TYPE push_time_seconds gauge\npush_time_seconds{job=\"old\"} 1.6e+09\n", exposition.Label{Name: "job", Value: "old"})
	e := serve(t, fs, nil)
	html := page(t, e, "state=expired")
	if !strings.Contains(html, ">1 group<") || !strings.Contains(html, ">expired ") || !strings.Contains(html, "Expired (1)") || !strings.Contains(html, "Problems (0)") {
		t.Errorf("the page is %s", html)
	}
	if names, n := list(t, e, "state=expired"); n != 1 || names[0] != "job=old.prom" {
		t.Errorf("expired are %q", names)
	}
}

func TestAssets(t *testing.T) {
	e := serve(t, nil, nil)
	for name, mime := range map[string]string{"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		w := get(e.Asset, "/prefix/ui/"+name)
		tag := w.Header().Get("ETag")
		if w.Code != 200 || w.Header().Get("Content-Type") != mime || tag == "" || w.Body.Len() == 0 {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
		if w := get(e.Asset, "/ui/"+name, "If-None-Match", tag); w.Code != 304 || w.Body.Len() > 0 {
			t.Errorf("%s again: %d, want 304", name, w.Code)
		}
	}
	for _, name := range []string{"page.html", "", "gone.js", "..", ".css", "../page.go", "%2e%2e%2fpage.go"} {
		if w := get(e.Asset, "/ui/"+name); w.Code != 404 {
			t.Errorf("%s: %d, want 404", name, w.Code)
		}
	}
}

// Files of the page are compressed for clients that accept gzip. Both forms have their
// own ETag, and a cache keeps them apart.
func TestAssetsAreCompressed(t *testing.T) {
	e := serve(t, nil, nil)
	srv := httptest.NewServer(http.HandlerFunc(e.Asset))
	defer srv.Close()
	fetch := func(method, name string, header ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/ui/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "identity") // else the client decompresses
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for _, coding := range []string{"gzip", "identity"} {
		resp, body := fetch("GET", "page.css", "If-Match", `"zz"`, "Accept-Encoding", coding)
		if h := resp.Header; resp.StatusCode != 412 || body != "" || resp.ContentLength != 0 || h.Get("Content-Encoding") != "" || h.Get("Content-Type") != "" {
			t.Errorf("another version with %s: %s %v %q", coding, resp.Status, h, body)
		}
	}
	all, packed := 0, 0
	for _, name := range []string{"page.css", "page.js", "search.js", "icon.svg"} {
		plain, text := fetch("GET", name)
		if plain.StatusCode != 200 || plain.Header.Get("Content-Encoding") != "" || plain.ContentLength != int64(len(text)) {
			t.Errorf("%s: %s %v", name, plain.Status, plain.Header)
		}
		gz, body := fetch("GET", name, "Accept-Encoding", "gzip, deflate, br, zstd", "Range", "bytes=0-9")
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		unpacked, err := io.ReadAll(z)
		if err != nil || string(unpacked) != text {
			t.Errorf("%s: %v, or another content", name, err)
		}
		all, packed = all+len(text), packed+len(body)
		if gz.StatusCode != 200 || gz.Header.Get("Content-Encoding") != "gzip" || gz.ContentLength != int64(len(body)) || gz.Header.Get("Vary") != "Accept-Encoding" || gz.Header.Get("Content-Type") != plain.Header.Get("Content-Type") {
			t.Errorf("%s with gzip: %s %v", name, gz.Status, gz.Header)
		}
		if gz.Header.Get("ETag") == plain.Header.Get("ETag") {
			t.Errorf("%s has one ETag for two contents", name)
		}
		for coding, tag := range map[string]string{"identity": plain.Header.Get("ETag"), "gzip": gz.Header.Get("ETag")} {
			if again, body := fetch("GET", name, "Accept-Encoding", coding, "If-None-Match", tag); again.StatusCode != 304 || body != "" || again.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s with %s again: %s %v", name, coding, again.Status, again.Header)
			}
		}
		if head, body := fetch("HEAD", name, "Accept-Encoding", "gzip"); head.StatusCode != 200 || body != "" || head.ContentLength != gz.ContentLength {
			t.Errorf("HEAD %s: %s %v", name, head.Status, head.Header)
		}
		if part, body := fetch("GET", name, "Range", "bytes=0-9"); part.StatusCode != 206 || body != text[:10] {
			t.Errorf("part of %s: %s %q", name, part.Status, body)
		}
	}
	if packed > all/2 {
		t.Errorf("%d bytes become %d", all, packed)
	}
	if other, _ := fetch("GET", "page.js", "Accept-Encoding", "zstd"); other.Header.Get("Content-Encoding") != "" {
		t.Errorf("with zstd alone: %v", other.Header)
	}
}

// The page is compressed as scrapes are, and says the same.
func TestPageIsCompressed(t *testing.T) {
	fs, _ := many(t)
	e := serve(t, fs, nil)
	plain := get(e.Page, "/")
	packed := get(e.Page, "/", "Accept-Encoding", "gzip")
	if packed.Header().Get("Content-Encoding") != "gzip" || packed.Header().Get("Vary") != "Accept-Encoding" || packed.Body.Len()*5 > plain.Body.Len() {
		t.Fatalf("the page has %d bytes, compressed %d: %v", plain.Body.Len(), packed.Body.Len(), packed.Header())
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if clock := regexp.MustCompile(`<time[^>]*>[^<]*`); err != nil || clock.ReplaceAllString(string(text), "") != clock.ReplaceAllString(plain.Body.String(), "") {
		t.Errorf("the compressed page is another one: %v", err)
	}
}

// The first push is that to the address that the page was asked for at.
func TestEmptyPageShowsTheFirstPush(t *testing.T) {
	e := serve(t, nil, nil)
	for target, want := range map[string]string{
		"http://host.example:9091/":             "http://host.example:9091/metrics/job/some_job<",
		"http://[::1]:9091/own/prefix/status":   "http://[::1]:9091/own/prefix/metrics/job/some_job<",
		"https://host.example/?search=":         "https://host.example/metrics/job/some_job<",
		"http://a/" + strings.Repeat("x", 5000): "metrics/job/some_job<",
	} {
		if html := get(e.Page, target).Body.String(); !strings.Contains(html, want) {
			t.Errorf("%.100s lacks %s", target, want)
		}
	}
	for _, host := range []string{"$(id).localhost", "a';id;'.localhost", "localhost:1;id", "[::1%25$(id)]", "[::1"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		e.Page(w, r)
		if html := w.Body.String(); strings.Contains(html, "id") && !strings.Contains(html, "http://localhost:9091/metrics/job/some_job<") {
			t.Errorf("the command has the host %q", host)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "<script>\u202e" + strings.Repeat("h", 5000)
	w := httptest.NewRecorder()
	e.Page(w, r)
	if html := w.Body.String(); strings.Contains(html, "<script>\u202e") || strings.Contains(html, "\u202e") || len(html) > 10000 {
		t.Errorf("a hostile host is shown: %d bytes", len(html))
	}
}

// The numbers of the line of problems are those of the lists that it links to, for
// files and jobs in any states.
func TestFindingsAgreeWithTheirLists(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now, fs := time.Now().Unix(), files{}
		for i := range rapid.IntRange(0, 12).Draw(rt, "groups") {
			name := fmt.Sprintf("j%02d", i)
			text := fmt.Sprintf("# TYPE promspool_job_start_timestamp_seconds gauge\npromspool_job_start_timestamp_seconds{job=%q} %d\n", name, now-100)
			for metric, value := range map[string]int64{
				"exit_code": rapid.SampledFrom([]int64{0, 3, 124, -1}).Draw(rt, "exit"), "next_due_timestamp_seconds": now + rapid.SampledFrom([]int64{-50, 5000}).Draw(rt, "due"),
				"running": rapid.Int64Range(0, 1).Draw(rt, "running"), "end_timestamp_seconds": now - 50, "success_timestamp_seconds": now - rapid.SampledFrom([]int64{50, 500}).Draw(rt, "success"), "max_runtime_seconds": 20,
			} {
				text += fmt.Sprintf("# TYPE promspool_job_%s gauge\npromspool_job_%s{job=%q} %d\n", metric, metric, name, value)
			}
			attributes := rapid.SampledFrom([]string{"", "# promspool:expired 1700000000\n", fmt.Sprintf("# promspool:refused %d syntax 127.0.0.1 line 1: m\n", now)}).Draw(rt, "attributes")
			group(t, fs, attributes+text, exposition.Label{Name: "job", Value: name})
		}
		for i := range rapid.IntRange(0, 5).Draw(rt, "files") {
			fs[fmt.Sprintf("f%d.prom", i)] = rapid.SampledFrom([]string{"ok 1\n", "not a sample\n", "# TYPE ok counter\nok{a=\"b\"} 1\n"}).Draw(rt, "file")
		}
		e := serve(t, fs, nil)
		text := page(t, e, "view=status")
		found := regexp.MustCompile(`<a class="(?:bad|mild)" href="\?([^"]*)">([\d,]+) `).FindAllStringSubmatch(text, -1)
		found = append(found, regexp.MustCompile(`<a class="badge[^"]*" href="\?([^"]*)">([\d,]+)<`).FindAllStringSubmatch(text, -1)...)
		for _, f := range found {
			query := html.UnescapeString(f[1])
			if list := page(t, e, query); !strings.Contains(list, `<span id="said">`+f[2]+" ") {
				rt.Errorf("%s leads to a list of another length than %s", query, f[2])
			}
		}
		if well := strings.Contains(text, "All well"); well != (len(found) == 0) {
			rt.Errorf("all is well: %t, with %d problems", well, len(found))
		}
	})
}

func TestJobsAreSortedAndFiltered(t *testing.T) {
	fs, now := files{}, time.Now().Unix()
	for i, name := range []string{"a", "b", "c"} {
		group(t, fs, fmt.Sprintf("# TYPE promspool_job_duration_seconds gauge\npromspool_job_duration_seconds{job=%q} %d\n# TYPE promspool_job_start_timestamp_seconds gauge\npromspool_job_start_timestamp_seconds{job=%[1]q} %[3]d\n# TYPE promspool_job_exit_code gauge\npromspool_job_exit_code{job=%[1]q} %[4]d\n# TYPE promspool_job_end_timestamp_seconds gauge\npromspool_job_end_timestamp_seconds{job=%[1]q} %[5]d\n# TYPE promspool_job_success_timestamp_seconds gauge\npromspool_job_success_timestamp_seconds{job=%[1]q} %[5]d\n",
			name, []int{5, 9, 1}[i], now-int64(100*i+100), []int{0, 124, 0}[i], now-1), exposition.Label{Name: "job", Value: name})
	}
	e := serve(t, fs, nil)
	order := func(query string) (names string) {
		for _, m := range regexp.MustCompile(`class="job">(\w)<`).FindAllStringSubmatch(page(t, e, "view=jobs&"+query), -1) {
			names += m[1]
		}
		return names
	}
	for query, want := range map[string]string{
		"": "bac", "sort=name": "abc", "sort=-name": "cba", "sort=took": "cab", "sort=-took": "bac", "sort=-start": "abc", "sort=start": "cba", "sort=-state": "acb",
		"state=succeeded": "ac", "state=timed+out": "b", "state=faulty": "b", "state=lost": "", "state=x": "bac", "sort=x": "bac", "state=succeeded&sort=-name": "ca",
	} {
		if got := order(query); got != want {
			t.Errorf("%s lists %q, want %q", query, got, want)
		}
	}
	for query, want := range map[string]string{"state=x": "invalid state", "sort=x": "invalid sort"} {
		if !strings.Contains(page(t, e, "view=jobs&"+query), want) {
			t.Errorf("%s lacks %q", query, want)
		}
	}
}

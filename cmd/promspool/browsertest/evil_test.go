package browsertest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// attempts are scripts that attack an agent, whose URL replaces AGENT. Each is a
// promise of the data that the page can read.
var attempts = map[string]string{
	"simple POST":       `fetch("AGENT/metrics/job/evil", {method: "POST", mode: "no-cors", body: "evil 1\n"}).then(r => r.text())`,
	"simple POST twice": `fetch("AGENT/metrics/job/evil", {method: "POST", mode: "no-cors", keepalive: true, credentials: "include", body: "evil 1\n"}).then(r => r.text())`,
	"POST":              `fetch("AGENT/metrics/job/evil", {method: "POST", body: "evil 1\n"}).then(r => r.text())`,
	"POST with header":  `fetch("AGENT/metrics/job/evil", {method: "POST", headers: {"X-Promspool-TTL": "1d"}, body: "evil 1\n"}).then(r => r.text())`,
	"PUT":               `fetch("AGENT/metrics/job/evil", {method: "PUT", body: "evil 1\n"}).then(r => r.text())`,
	"PUT over another":  `fetch("AGENT/metrics/job/victim", {method: "PUT", body: "evil 1\n"}).then(r => r.text())`,
	"POST to another":   `fetch("AGENT/metrics/job/victim", {method: "POST", mode: "no-cors", body: "evil 1\n"}).then(r => r.text())`,
	"DELETE":            `fetch("AGENT/metrics/job/victim", {method: "DELETE"}).then(r => r.text())`,
	"wipe":              `fetch("AGENT/api/v1/admin/wipe", {method: "PUT"}).then(r => r.text())`,
	"bulk removal":      `fetch("AGENT/api/v1/admin/groups?match[]={job=%22victim%22}", {method: "DELETE"}).then(r => r.text())`,
	"quit":              `fetch("AGENT/-/quit", {method: "POST", mode: "no-cors"}).then(r => r.text())`,
	"beacon":            `Promise.resolve(String(navigator.sendBeacon("AGENT/metrics/job/evil", "evil 1\n")))`,
	"XMLHttpRequest": `new Promise(end => { const x = new XMLHttpRequest(); x.onloadend = () => end(x.responseText);
		x.open("POST", "AGENT/metrics/job/evil"); x.setRequestHeader("Content-Type", "text/plain"); x.send("evil 1\n") })`,
	"form":            form(`text/plain`),
	"form of curl":    form(`application/x-www-form-urlencoded`),
	"form in parts":   form(`multipart/form-data`),
	"image of a ping": `new Promise(end => { const i = new Image(); i.onload = i.onerror = () => end(""); i.src = "AGENT/ping/evil" })`,
	"ping":            `fetch("AGENT/ping/evil", {mode: "no-cors"}).then(r => r.text())`,
	"link with ping": `new Promise(end => { const a = document.createElement("a"); a.href = "#here"; a.ping = "AGENT/metrics/job/evil"; document.body.append(a);
		a.click(); setTimeout(() => end(""), 100) })`,
	"read":        `fetch("AGENT/metrics").then(r => r.text())`,
	"read opaque": `fetch("AGENT/metrics", {mode: "no-cors"}).then(r => r.text())`,
	"read API":    `fetch("AGENT/api/v1/metrics", {credentials: "include"}).then(r => r.text())`,
	"read files":  `fetch("AGENT/api/v1/files").then(r => r.text())`,
	"read page":   `fetch("AGENT/").then(r => r.text())`,
	"script": `new Promise(end => { const s = document.createElement("script"); let said = ""; onerror = m => { said = String(m) };
		s.onload = s.onerror = () => end(said); s.src = "AGENT/metrics"; document.head.append(s) })`,
	"style": `new Promise(end => { const l = document.createElement("link"); l.rel = "stylesheet"; l.onload = l.onerror = () => end([...document.styleSheets].map(s => {
		try { return [...s.cssRules].map(r => r.cssText).join() } catch (e) { return "" } }).join()); l.href = "AGENT/metrics"; document.head.append(l) })`,
	"frame": `new Promise(end => { const f = document.createElement("iframe"); f.onload = () => { try { end(f.contentDocument.body.innerText) } catch (e) { end("") } };
		f.src = "AGENT/metrics"; document.body.append(f) })`,
	"web socket":   `new Promise(end => { const w = new WebSocket("AGENT/metrics".replace("http", "ws")); w.onmessage = m => end(m.data); w.onerror = w.onclose = () => end("") })`,
	"event stream": `new Promise(end => { const e = new EventSource("AGENT/metrics"); e.onmessage = m => end(m.data); e.onerror = () => { e.close(); end("") } })`,
	"from a sandbox": `new Promise(end => { const f = document.createElement("iframe"); f.sandbox = "allow-scripts"; onmessage = m => end(String(m.data));
		f.srcdoc = "<script>fetch('AGENT/metrics/job/evil', {method: 'POST', mode: 'no-cors', body: 'evil 1\\n'}).then(() => fetch('AGENT/metrics')).then(r => r.text()).catch(e => '').then(t => parent.postMessage(t, '*'))<\/script>";
		document.body.append(f) })`,
	"from a worker": `new Promise(end => { const w = new Worker(URL.createObjectURL(new Blob(["fetch('AGENT/metrics/job/evil', {method: 'POST', mode: 'no-cors', body: 'evil 1\\n'}).then(() => fetch('AGENT/metrics')).then(r => r.text()).catch(e => '').then(t => postMessage(t))"])));
		w.onmessage = m => end(m.data); w.onerror = () => end("") })`,
}

// form is an attempt by a form that targets a frame, so that the page stays.
func form(enctype string) string {
	return fmt.Sprintf(`new Promise(end => {
		const frame = document.createElement("iframe"); frame.name = "f" + Math.random(); document.body.append(frame);
		const form = document.createElement("form"); form.method = "POST"; form.action = "AGENT/metrics/job/evil"; form.enctype = %q; form.target = frame.name;
		const field = document.createElement("textarea"); field.name = "evil 1\nevil{l"; field.value = "\"x\"} 1\n"; form.append(field); document.body.append(form);
		frame.onload = () => { try { end(frame.contentDocument.body.innerText) } catch (e) { end("") } };
		form.submit() })`, enctype)
}

// TestPagesOfOthersGetNowhere opens the page of an attacker that knows the agent's
// address. The agent allows as much to the programs of this host as flags can.
func TestPagesOfOthersGetNowhere(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	a := agenttest.StartAgent(t, "", "--web.enable-admin-api", "--web.enable-lifecycle", "--web.enable-pprof", "--ping.enable")
	a.Push("/metrics/job/victim", "victim_metric 1\n")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>evil</title><body>")
	}))
	t.Cleanup(evil.Close)
	at, err := url.Parse(evil.URL)
	agenttest.NoError(t, err)
	agentAt, err := url.Parse(a.URL)
	agenttest.NoError(t, err)

	for _, tt := range []struct {
		name, page, agent string
	}{
		{"from elsewhere", "http://attacker.example:" + at.Port(), "http://127.0.0.1:" + agentAt.Port()},
		{"from elsewhere, by name", "http://attacker.example:" + at.Port(), "http://localhost:" + agentAt.Port()},
		{"from another port of this host", "http://localhost:" + at.Port(), "http://localhost:" + agentAt.Port()},
		// The name resolved elsewhere when the page was loaded, and resolves to this host now.
		{"by a name that was bound again", "http://attacker.example:" + agentAt.Port(), "http://attacker.example:" + agentAt.Port()},
		{"by a name like that of this host", "http://localhost.attacker.example:" + agentAt.Port(), "http://localhost.attacker.example:" + agentAt.Port()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tab := b.open(t, tt.page+"/")
			var all strings.Builder
			for name, attempt := range attempts {
				attempt = strings.ReplaceAll(strings.ReplaceAll(attempt, "/job/evil", "/job/evil-"+url.PathEscape(name)), "AGENT", tt.agent)
				fmt.Fprintf(&all, "%q: () => %s,\n", name, attempt)
			}
			read, ok := tab.eval(fmt.Sprintf(`Promise.all(Object.entries({%s}).map(([name, attempt]) => Promise.race([
				Promise.resolve().then(attempt).catch(e => ""), new Promise(end => setTimeout(() => end(""), 10000)),
			]).then(text => [name, text]))).then(Object.fromEntries)`, all.String())).(map[string]any)
			if !ok || len(read) != len(attempts) {
				t.Fatalf("%d attempts end with %v", len(attempts), read)
			}
			for name, text := range read {
				if strings.Contains(fmt.Sprint(text), "victim") {
					t.Errorf("%s reads %q", name, text)
				}
			}
			if code, answer := a.Send("GET", "/api/v1/files", ""); code != http.StatusOK || strings.Contains(answer, "evil") || !strings.Contains(answer, "victim") {
				t.Errorf("the agent holds %d %s", code, answer)
			}
		})
	}
	agenttest.WantLines(t, a.Merge(), `victim_metric{job="victim"} 1`)
	if names := agenttest.Files(t, a.Spool); len(names) != 1 {
		t.Errorf("the spool holds %q", names)
	}
	// The agent rejected it, not the browser.
	page := a.Page()
	for _, part := range []string{`promspool_http_requests_total{code="403",handler="push",method="post"}`, `promspool_http_requests_total{code="403",handler="ping",method="get"}`} {
		if !strings.Contains(page, part) {
			t.Errorf("no request came as far as %s", part)
		}
	}
	// The agent's own page is allowed to.
	own := b.open(t, a.URL+"/")
	if got := own.eval(`fetch("metrics/job/own", {method: "PUT", body: "own 1\n"}).then(r => String(r.status))`); got != "200" {
		t.Errorf("the agent's own page gets %v for a push, want 200", got)
	}
	if got := own.eval(`fetch("metrics").then(r => r.text())`); !strings.Contains(fmt.Sprint(got), "victim_metric") {
		t.Errorf("the agent's own page reads %v", got)
	}
}

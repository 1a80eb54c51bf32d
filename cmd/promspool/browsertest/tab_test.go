package browsertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// A tab shows one page, with its own cookies and cache, and records events.
type tab struct {
	b       *browser
	t       *testing.T
	session string

	// Guarded by the lock of the browser.
	complaints []string // console errors and warnings, policy violations, uncaught exceptions
	requests   []string // METHOD URL of each request
}

// open opens a page and waits until it is loaded.
func (b *browser) open(t *testing.T, url string) *tab {
	t.Helper()
	var context struct{ BrowserContextID string }
	b.must(t, "", "Target.createBrowserContext", nil, &context)
	var target struct{ TargetID string }
	b.must(t, "", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": context.BrowserContextID}, &target)
	var attached struct{ SessionID string }
	b.must(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	tab := &tab{b: b, t: t, session: attached.SessionID}
	b.mu.Lock()
	b.tabs[tab.session] = tab
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		tab.do(domain+".enable", nil)
	}
	tab.do("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true})
	tab.load(url)
	t.Cleanup(func() {
		_, _ = b.call("", "Target.disposeBrowserContext", map[string]any{"browserContextId": context.BrowserContextID}) // it may have ended already
	})
	return tab
}

func (b *browser) must(t *testing.T, session, method string, params, result any) {
	t.Helper()
	answer, err := b.call(session, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(answer, result)
	}
	if err != nil {
		t.Fatalf("chromium: %s: %v", method, err)
	}
}

// do sends a command for the tab.
func (p *tab) do(method string, params any) {
	p.t.Helper()
	p.b.must(p.t, p.session, method, params, nil)
}

// happened handles an event of the tab. The caller holds the lock of the browser.
func (p *tab) happened(method string, params json.RawMessage) {
	var e struct {
		Type    string // console method
		Request struct{ Method, URL string }
		Entry   struct{ Level, Text, URL string }
	}
	if json.Unmarshal(params, &e) != nil {
		return // other events are ignored
	}
	switch {
	case method == "Network.requestWillBeSent":
		p.requests = append(p.requests, e.Request.Method+" "+e.Request.URL)
	case method == "Log.entryAdded" && e.Entry.Level != "verbose" && e.Entry.Level != "info":
		p.complaints = append(p.complaints, strings.TrimSpace(e.Entry.Text+" "+e.Entry.URL))
	case method == "Runtime.exceptionThrown", method == "Runtime.consoleAPICalled" && (e.Type == "error" || e.Type == "warning" || e.Type == "assert"):
		p.complaints = append(p.complaints, string(params))
	}
}

// complained returns the errors since the last call.
func (p *tab) complained() []string {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	c := p.complaints
	p.complaints = nil
	return c
}

// asked returns METHOD URL of all requests of the tab so far.
func (p *tab) asked() []string {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// load opens a page in the tab and waits until it is loaded.
func (p *tab) load(url string) {
	p.t.Helper()
	var answer struct{ ErrorText string }
	p.b.must(p.t, p.session, "Page.navigate", map[string]any{"url": url}, &answer)
	if answer.ErrorText != "" {
		p.t.Fatalf("chromium: %s: %s", url, answer.ErrorText)
	}
	p.waitFor(url+" is loaded", `document.readyState === "complete"`)
}

// eval returns the value of an expression, or the value of its promise.
func (p *tab) eval(expression string) any {
	p.t.Helper()
	v, err := p.try(expression)
	if err != nil {
		p.t.Fatalf("chromium: %s: %v", expression, err)
	}
	return v
}

func (p *tab) try(expression string) (any, error) {
	answer, err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true})
	if err != nil {
		return nil, err
	}
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return nil, err
	}
	if e := r.ExceptionDetails; e != nil {
		return nil, fmt.Errorf("%s %s", e.Text, e.Exception.Description)
	}
	return r.Result.Value, nil
}

// waitFor returns once the expression is true.
func (p *tab) waitFor(what, expression string) {
	p.t.Helper()
	agenttest.WaitFor(p.t, what, func() bool {
		v, err := p.try(expression) // it fails while the tab changes pages
		return err == nil && v == true
	})
}

// text returns the visible text of the first matching element.
func (p *tab) text(selector string) string {
	p.t.Helper()
	s, _ := p.eval(fmt.Sprintf("document.querySelector(%q)?.innerText ?? null", selector)).(string)
	return s
}

// keys are the keys with a name instead of a letter.
var keys = map[string]struct {
	code int
	text string
}{
	"Tab": {9, ""}, "Enter": {13, "\r"}, "Escape": {27, ""}, " ": {32, " "}, "Backspace": {8, ""},
	"ArrowLeft": {37, ""}, "ArrowUp": {38, ""}, "ArrowRight": {39, ""}, "ArrowDown": {40, ""},
}

// press presses and releases keys, named as in KeyboardEvent.key. The prefix "Shift+"
// adds the shift key.
func (p *tab) press(names ...string) {
	p.t.Helper()
	for _, name := range names {
		key, shifted := strings.CutPrefix(name, "Shift+")
		k, ok := keys[key]
		if !ok {
			p.t.Fatalf("no key %q", key)
		}
		modifiers := 0
		if shifted {
			modifiers = 8
		}
		down := map[string]any{"type": "keyDown", "key": key, "code": strings.Replace(key, " ", "Space", 1), "windowsVirtualKeyCode": k.code, "modifiers": modifiers}
		if k.text != "" {
			down["text"] = k.text
		}
		p.do("Input.dispatchKeyEvent", down)
		p.do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": down["code"], "windowsVirtualKeyCode": k.code, "modifiers": modifiers})
	}
}

// write types text into the focused element.
func (p *tab) write(text string) {
	p.t.Helper()
	for _, c := range text {
		p.do("Input.dispatchKeyEvent", map[string]any{"type": "char", "text": string(c)})
	}
}

// click clicks on the center of the first matching element.
func (p *tab) click(selector string) {
	p.t.Helper()
	at, ok := p.eval(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		if (!e) return null;
		e.scrollIntoView({block: "center"});
		const r = e.getBoundingClientRect();
		return {x: r.x + r.width / 2, y: r.y + r.height / 2};
	})()`, selector)).(map[string]any)
	if !ok {
		p.t.Fatalf("nothing on the page matches %s", selector)
	}
	for _, event := range []string{"mousePressed", "mouseReleased"} {
		p.do("Input.dispatchMouseEvent", map[string]any{"type": event, "x": at["x"], "y": at["y"], "button": "left", "clickCount": 1})
	}
}

// sized sets the width of the page in pixels and its colour scheme.
func (p *tab) sized(width int, dark bool) {
	p.t.Helper()
	p.looking(width, dark, false)
}

// looking is sized, with the colours of a high contrast mode if they are forced.
func (p *tab) looking(width int, dark, forced bool) {
	p.t.Helper()
	scheme, active := "light", "none"
	if dark {
		scheme = "dark"
	}
	if forced {
		active = "active"
	}
	p.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
	p.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}, {"name": "forced-colors", "value": active}}})
}

// picture saves a screenshot in the directory PROMSPOOL_TEST_PICTURES, if it is set.
func (p *tab) picture(name string) {
	p.t.Helper()
	if dir := os.Getenv("PROMSPOOL_TEST_PICTURES"); dir != "" {
		p.capture(filepath.Join(dir, name+".png"))
	}
}

// capture stores a picture of the page in a file.
func (p *tab) capture(file string) {
	p.t.Helper()
	var shot struct{ Data []byte }
	p.b.must(p.t, p.session, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	agenttest.NoError(p.t, os.WriteFile(file, shot.Data, 0o644))
}

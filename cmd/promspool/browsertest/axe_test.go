package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// axe returns the source of axe-core, which .ci/packages installs.
func axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(agenttest.Repository, ".tools", "axe", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		if os.Getenv("PROMSPOOL_TEST_NO_SKIP") != "" {
			t.Fatalf("axe-core is missing: %v", err)
		}
		t.Skip("axe-core is missing: run npm ci in .tools/axe")
	}
	return string(source)
}

// TestPageIsAccessible applies the rules of axe-core to each view, and walks over it
// with the Tab key.
func TestPageIsAccessible(t *testing.T) {
	source := axe(t)
	a := startPageAgent(t, "--web.enable-admin-api")
	b := startBrowser(t)
	for _, c := range []struct {
		name   string
		width  int
		dark   bool
		forced bool
	}{{"light", 1280, false, false}, {"dark", 1280, true, false}, {"forced", 1280, true, true}, {"light", 390, false, false}, {"dark", 390, true, false}, {"forced", 390, false, true}} {
		t.Run(fmt.Sprintf("%s at %d", c.name, c.width), func(t *testing.T) {
			p := b.open(t, "about:blank")
			p.looking(c.width, c.dark, c.forced)
			check := func(name string) {
				t.Helper()
				p.eval(source + "; undefined")
				found := p.eval(`axe.run({resultTypes: ["violations"]}).then(r => r.violations.map(v => v.id + ": " + v.help + "\n" + v.nodes.map(n => "  " + n.html).join("\n")).join("\n"))`)
				if found != "" {
					t.Errorf("%s: %v", name, found)
				}
				p.picture(fmt.Sprintf("axe-%s-%s-%d", name, c.name, c.width))
			}
			for _, view := range []string{"groups", "groups&state=faulty", "files", "jobs", "status", "file&name=job%3Dreport.prom", "file&name=broken.prom", "groups&search=nothing"} {
				p.load(a.URL + "/?view=" + view)
				check(view)
				p.walk(view)
			}
			p.load(a.URL + "/?search=backup")
			p.click("a.unfold")
			p.waitFor("it unfolds", `document.querySelector(".below .family") !== null`)
			check("unfolded")
			p.walk("unfolded")
			p.click(".below button.delete")
			p.waitFor("it asks", `document.querySelector("dialog[open]") !== null`)
			check("question")
			if sort := p.eval(`document.querySelector("select[name=sort]").checkVisibility()`); sort != (c.width < 704) {
				t.Errorf("the choice of the order is seen: %v", sort)
			}
		})
	}
}

// walk presses Tab until the focus leaves the page, and complains of places that
// cannot be seen.
func (p *tab) walk(name string) {
	p.t.Helper()
	p.eval(`document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)`)
	for range 200 {
		p.press("Tab")
		switch wrong := p.eval(`(() => {
			const e = document.activeElement;
			if (e === document.body || e.dataset.walked === "yes") return null;
			e.dataset.walked = "yes";
			const s = getComputedStyle(e), r = e.getBoundingClientRect();
			const seen = e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && r.width > 1 && r.height > 1 && r.right > 0 && r.bottom > 0 && r.left < innerWidth;
			const ring = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2;
			return seen && ring ? "" : (seen ? "no ring: " : "not seen: ") + e.outerHTML.slice(0, 200);
		})()`); wrong {
		case nil:
			return
		case "":
		default:
			p.t.Errorf("%s: %v", name, wrong)
		}
	}
	p.t.Errorf("%s: Tab does not come around", name)
}

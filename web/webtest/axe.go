package webtest

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// axe has what npm installs: axe-core, which nobody here wrote.
//
//go:embed axe/package.json axe/package-lock.json
var axe embed.FS

// Axe looks for what keeps people from using a page.
type Axe struct{ script string }

// Barrier is one thing that axe-core has found in a page.
type Barrier struct {
	Rule   string   `json:"id"`
	Impact string   `json:"impact"` // minor, moderate, serious or critical
	Help   string   `json:"help"`
	Where  []string `json:"where"`
}

func (b Barrier) String() string {
	return fmt.Sprintf("%s, %s: %s\n\t%s", b.Rule, b.Impact, b.Help, strings.Join(b.Where, "\n\t"))
}

// Bars tells whether it keeps some people out, and not only slows them down.
func (b Barrier) Bars() bool { return slices.Contains([]string{"serious", "critical"}, b.Impact) }

// NewAxe installs axe-core. Without npm the test is skipped, or fails with COUNTERSIGN_REQUIRE_CLIENTS=1.
func NewAxe(t testing.TB) *Axe {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		missing(t, "COUNTERSIGN_REQUIRE_CLIENTS", "npm is missing: install nodejs and npm to have axe-core look at the pages (Debian: apt-get install nodejs npm)")
	}
	folder := t.TempDir()
	check(t, os.CopyFS(folder, axe))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
	install.Dir = filepath.Join(folder, "axe")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	script, err := os.ReadFile(filepath.Join(install.Dir, "node_modules/axe-core/axe.min.js"))
	check(t, err)
	return &Axe{string(script)}
}

// axeRun asks for the rules of WCAG 2.0 to 2.2, levels A and AA, and for what axe-core calls best practice.
const axeRun = `(async () => {
	const folded = [...document.querySelectorAll("details:not([open])")];
	folded.forEach(d => d.open = true);
	const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
	const found = await axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
	folded.forEach(d => d.open = false);
	return found.violations.map(v => ({ id: v.id, impact: v.impact, help: v.help,
		where: v.nodes.map(n => n.html + " " + n.failureSummary.replace(/\s+/g, " ")) }));
})()`

// Look finds barriers in the page that a tab shows, with everything unfolded. Scripts must be allowed to run there.
func (a *Axe) Look(ctx context.Context) ([]Barrier, error) {
	// What the tab is told to run is not the page's, so its content security policy has no say.
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](a.script+"\n;true")); err != nil {
		return nil, err
	}
	return chromedp.Run(ctx, chromedp.Evaluate[[]Barrier](axeRun, chromedp.EvalAwaitPromise))
}

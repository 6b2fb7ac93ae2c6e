// Package webtest shows pages to a real browser, for tests: it starts Chromium, sets how wide the window is, and finds what does not
// fit into it or keeps people from using it.
//
// It belongs to tests, and knows nothing of our pages.
package webtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Chromium starts a headless browser of its own for one test, and returns its first tab. Without Chromium the test is skipped, or fails
// with COUNTERSIGN_REQUIRE_BROWSER=1.
func Chromium(t testing.TB) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no browser")
	}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		missing(t, "COUNTERSIGN_REQUIRE_BROWSER", "no Chromium found: apt-get install -y chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // containers and CI run as root
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("hide-scrollbars", true),
		// The test servers' certificates are their own.
		chromedp.Flag("ignore-certificate-errors", true),
		// The clients' hosts are this machine.
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"),
	)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a busy machine takes long
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	return tab(t, ctx)
}

// Tab opens another tab, with cookies of its own, in a browser that Chromium started.
func Tab(t testing.TB, browser context.Context) context.Context {
	t.Helper()
	return tab(t, browser, chromedp.WithNewBrowserContext())
}

func tab(t testing.TB, parent context.Context, options ...chromedp.ContextOption) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	// A headless page has no focus, nor the outline that goes with it.
	_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	check(t, err)
	return ctx
}

// Viewport makes the window so wide; below 600 pixels it is a phone's.
func Viewport(width int64) chromedp.Action[chromedp.Void] {
	const height = 844
	return chromedp.EmulateViewport(width, height, func(m *emulation.SetDeviceMetricsOverrideParams, _ *emulation.SetTouchEmulationEnabledParams) {
		m.ScreenWidth, m.ScreenHeight, m.Mobile = width, height, width < 600
	})
}

// ColourScheme is what the person prefers: "light" or "dark".
func ColourScheme(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

// Photograph keeps a picture of the whole page in the folder of COUNTERSIGN_SCREENSHOTS, if there is one.
func Photograph(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	folder := os.Getenv("COUNTERSIGN_SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	check(t, err)
	check(t, os.MkdirAll(folder, 0o755))
	check(t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644))
}

// TooWide, in a page, unfolds what can be unfolded and names what does not fit the window; "" when all does.
const TooWide = `(() => {
	const folded = [...document.querySelectorAll("details:not([open])")];
	folded.forEach(d => d.open = true);
	const root = document.documentElement;
	const width = screen.width; // a phone's innerWidth grows with what does not fit
	const out = [...document.querySelectorAll("body *:not(.unseen)")]
		.filter(e => e.getBoundingClientRect().right > width + 0.5)
		.map(e => e.tagName + "." + e.className + "#" + e.id);
	if (Math.max(root.scrollWidth, innerWidth) > width) out.push(root.scrollWidth + " > " + width);
	folded.forEach(d => d.open = false);
	return out.join(" ");
})()`

// missing skips a test whose tool is not there, or fails it where the environment says that all tools are.
func missing(t testing.TB, required, why string) {
	t.Helper()
	if os.Getenv(required) == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Errorf("webtest: %w", err))
	}
}

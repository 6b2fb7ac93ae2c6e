package web

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/countersign/countersign/web/webtest"
)

// bank serves the gallery's pages by their names, with what a real server puts
// around them.
func bank(t *testing.T, p *Pages) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/static/", p.Static())
	mux.HandleFunc("/clients/logo", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(acorn()) })
	for _, s := range gallery() {
		mux.HandleFunc("GET /"+s.name, func(w http.ResponseWriter, _ *http.Request) {
			if err := s.render(p, w); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		})
	}
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return server
}

func photograph(ctx context.Context, t *testing.T, path string) {
	t.Helper()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPages_FitEveryScreen(t *testing.T) {
	folder := os.Getenv("COUNTERSIGN_SCREENSHOTS")
	if folder != "" {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := newPages(t, meadow())
	server := bank(t, p)
	ctx := webtest.Chromium(t)

	for _, width := range []int64{320, 360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			if scheme == "dark" && (folder == "" || width == 320) {
				continue // the layout is the same; only a person looks at colours
			}
			for _, s := range gallery() {
				if s.name == "form-post" {
					continue // leaves at once: see TestFormPost_ArrivesAtTheClient
				}
				if err := chromedp.Do(ctx, webtest.Viewport(width), webtest.ColourScheme(scheme), chromedp.Navigate(server.URL+"/"+s.name)); err != nil {
					t.Fatalf("%s at %d: %v", s.name, width, err)
				}
				tooWide, err := chromedp.Run(ctx, chromedp.Evaluate[string](webtest.TooWide))
				if err != nil {
					t.Fatalf("%s at %d: %v", s.name, width, err)
				}
				if tooWide != "" {
					t.Errorf("%s at %d px scrolls sideways: %s", s.name, width, tooWide)
				}
				if folder != "" {
					photograph(ctx, t, filepath.Join(folder, fmt.Sprintf("%s-%d-%s.png", s.name, width, scheme)))
				}
			}
		}
	}
}

// Nothing keeps people out of a page (WCAG 2.2, A and AA, as axe-core reads it), in neither scheme of colours.
func TestPages_NoBarriers(t *testing.T) {
	p := newPages(t, meadow())
	server := bank(t, p)
	ctx := webtest.Chromium(t)
	axe := webtest.NewAxe(t)
	for width, scheme := range map[int64]string{390: "light", 1280: "dark"} {
		for _, s := range gallery() {
			if s.name == "form-post" {
				continue // leaves at once
			}
			if err := chromedp.Do(ctx, webtest.Viewport(width), webtest.ColourScheme(scheme), chromedp.Navigate(server.URL+"/"+s.name)); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			found, err := axe.Look(ctx)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			for _, b := range found {
				if b.Bars() {
					t.Errorf("%s, %s: %v", s.name, scheme, b)
				} else {
					t.Logf("%s, %s: %v", s.name, scheme, b)
				}
			}
		}
	}
}

// The keyboard's place shows: an outline of 3 px on whatever has the focus.
func TestPages_FocusShows(t *testing.T) {
	p := newPages(t, meadow())
	server := bank(t, p)
	ctx := webtest.Chromium(t)
	for page, selector := range map[string]string{
		"login": "#username", "second-factor": "#code", "consent": "#account_2", "consents": "summary", "done": "#continue_link", "error": "a",
	} {
		if err := chromedp.Do(ctx, webtest.Viewport(1280), chromedp.Navigate(server.URL+"/"+page)); err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		outline, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`(() => {
			const e = document.querySelector(%q);
			e.focus({focusVisible: true});
			const style = getComputedStyle(e);
			return style.outlineStyle + " " + style.outlineWidth;
		})()`, selector)))
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		if outline != "solid 3px" {
			t.Errorf("%s %s: outline %q", page, selector, outline)
		}
		if folder := os.Getenv("COUNTERSIGN_SCREENSHOTS"); folder != "" {
			photograph(ctx, t, filepath.Join(folder, "focus-"+page+".png"))
		}
	}
}

// The redirect that answers the consent form leads to another host, and on from
// there: CSP form-action has to let the whole chain pass (Chromium checks it),
// and the form has to get through Protect.
func TestConsent_ApprovalReachesTheClient(t *testing.T) {
	for _, test := range []struct {
		name   string
		client func(port string) (redirectURI string)
		tls    bool
	}{
		{"https on another host that redirects on", func(port string) string { return "https://app.acorn-budget.example:" + port + "/callback" }, true},
		{"a native app's loopback http", func(port string) string { return "http://127.0.0.1:" + port + "/callback" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			arrived := make(chan string, 1)
			var tppServer *httptest.Server
			tppServer = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/callback" && test.tls:
					http.Redirect(w, r, "https://www.another.example:"+port(tppServer)+"/home", http.StatusSeeOther)
				case r.URL.Path == "/home" || r.URL.Path == "/callback":
					arrived <- r.Header.Get("Referer")
					fmt.Fprint(w, `<p id="welcome">back at the client`)
				}
			}))
			if test.tls {
				tppServer.StartTLS()
			} else {
				tppServer.Start()
			}
			defer tppServer.Close()
			redirectURI := test.client(port(tppServer))

			p := newPages(t, meadow())
			seen := make(chan http.Header, 1)
			mux := http.NewServeMux()
			mux.Handle("/static/", p.Static())
			mux.HandleFunc("GET /consent", func(w http.ResponseWriter, _ *http.Request) {
				_ = p.Consent(w, 200, Consent{
					Action: "/consent", Client: Client{Name: "Acorn", RedirectURI: redirectURI},
					Accounts: []Account{{ID: "1", Name: "One"}, {ID: "2", Name: "Two"}},
				})
			})
			mux.Handle("POST /consent", p.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- r.Header.Clone()
				if got := r.FormValue("decision") + " " + strings.Join(r.Form["account"], ","); got != "approve 2" {
					t.Errorf("decision and accounts: %q", got)
				}
				http.Redirect(w, r, redirectURI+"?code=abc", http.StatusSeeOther)
			})))
			server := httptest.NewTLSServer(mux)
			defer server.Close()

			if err := chromedp.Do(webtest.Chromium(t),
				chromedp.Navigate(server.URL+"/consent"),
				click("#account_2"),
				click("#approve_button"),
				chromedp.WaitReady(chromedp.CSS("#welcome")),
			); err != nil {
				t.Fatal(err)
			}
			h := <-seen
			t.Logf("Sec-Fetch-Site %q, Origin %q", h.Get("Sec-Fetch-Site"), h.Get("Origin"))
			if h.Get("Sec-Fetch-Site") != "same-origin" || h.Get("Origin") != server.URL {
				t.Errorf("Sec-Fetch-Site %q, Origin %q: an old browser without the first needs the second to be %q",
					h.Get("Sec-Fetch-Site"), h.Get("Origin"), server.URL)
			}
			if referer := <-arrived; referer != "" {
				t.Errorf("the client learnt where the customer came from: %q", referer)
			}
		})
	}
}

func TestFormPost_ArrivesAtTheClient(t *testing.T) {
	for _, script := range []bool{true, false} {
		t.Run(fmt.Sprintf("javascript=%t", script), func(t *testing.T) {
			got := make(chan url.Values, 1)
			tppServer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/callback" {
					_ = r.ParseForm()
					got <- r.PostForm
					fmt.Fprint(w, `<p id="welcome">back at the client`)
				}
			}))
			defer tppServer.Close()
			p := newPages(t, meadow())
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/authorize" {
					p.Static().ServeHTTP(w, r)
					return
				}
				_ = p.FormPost(w, FormPost{
					Action: "https://app.acorn-budget.example:" + port(tppServer) + "/callback",
					Params: []Field{{"code", `"><b>&amp;`}, {"submit", "shadows form.submit"}},
				})
			}))
			defer server.Close()

			ctx := webtest.Chromium(t)
			noScript := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !script})
				return err
			})
			if err := chromedp.Do(ctx, noScript, webtest.Viewport(1280), chromedp.Navigate(server.URL+"/authorize")); err != nil {
				t.Fatal(err)
			}
			if !script {
				if folder := os.Getenv("COUNTERSIGN_SCREENSHOTS"); folder != "" {
					photograph(ctx, t, filepath.Join(folder, "form-post-1280-light.png"))
				}
				if err := chromedp.Do(ctx, click("#continue_button")); err != nil {
					t.Fatal(err)
				}
			}
			if err := chromedp.Do(ctx, chromedp.WaitReady(chromedp.CSS("#welcome"))); err != nil {
				t.Fatal(err)
			}
			if params := <-got; params.Get("code") != `"><b>&amp;` || params.Get("submit") == "" {
				t.Errorf("arrived: %v", params)
			}
		})
	}
}

// Another site's page posts to ours: refused, with our error page.
func TestProtect_RefusesAnotherSitesForm(t *testing.T) {
	p := newPages(t, meadow())
	server := httptest.NewTLSServer(p.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			t.Error("another site's form got through")
		}
	})))
	defer server.Close()
	evil := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<!doctype html><form method="post" action="%s/consent"><button id="go" name="decision" value="approve">win</button></form>`, server.URL)
	}))
	defer evil.Close()
	ctx := webtest.Chromium(t)
	if err := chromedp.Do(ctx, chromedp.Navigate("https://evil.example:"+port(evil)+"/"), click("#go")); err != nil {
		t.Fatal(err)
	}
	code, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#error_page #error_code")))
	if err != nil {
		t.Fatal(err)
	}
	if code != "cross_origin_request" {
		t.Errorf("error code %q", code)
	}
}

func click(selector chromedp.CSS) chromedp.Action[chromedp.Void] { return chromedp.Click(selector) }

func port(s *httptest.Server) string {
	u, err := url.Parse(s.URL)
	if err != nil {
		panic(err)
	}
	return u.Port()
}

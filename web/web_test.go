package web

import (
	"bytes"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostile sets every string of a view to an attack on the place where text is
// expected, or on an attribute, or, for what names an address, on the URL.
func hostile(v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.String:
		switch {
		case strings.HasSuffix(name, "Action"):
			v.SetString("/here")
		case strings.HasSuffix(name, "URL") || strings.HasSuffix(name, "URI"):
			v.SetString("javascript:attack()")
		default:
			v.SetString(`"'><script>attack()</script><img src=x onerror=attack()>&lt;` + "\u202egnp.\u2066\u200b\x00")
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(dots())
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			hostile(v.Index(i), name)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		hostile(v.Elem(), name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(0, 0)))
			return
		}
		for i := range v.NumField() {
			hostile(v.Field(i), v.Type().Field(i).Name)
		}
	}
}

// attacks renders each page of Pages once, with hostile views.
func attacks(p *Pages) map[string]func() (*httptest.ResponseRecorder, error) {
	all := map[string]func() (*httptest.ResponseRecorder, error){}
	pages := reflect.ValueOf(p)
	for i := range pages.NumMethod() {
		name, page := pages.Type().Method(i).Name, pages.Method(i)
		takes := page.Type()
		if takes.NumIn() < 2 || takes.In(0) != reflect.TypeFor[http.ResponseWriter]() || takes.In(takes.NumIn()-1).Kind() != reflect.Struct {
			continue
		}
		all[name] = func() (*httptest.ResponseRecorder, error) {
			w, view := httptest.NewRecorder(), reflect.New(takes.In(takes.NumIn()-1)).Elem()
			hostile(view, "")
			if name == "FormPost" {
				view.FieldByName("Action").SetString(`https://tpp.example/cb?a="><script>attack()</script>`)
			}
			args := []reflect.Value{reflect.ValueOf(w), view}
			if takes.NumIn() == 3 {
				args = slices.Insert(args, 1, reflect.ValueOf(http.StatusOK))
			}
			err, _ := page.Call(args)[0].Interface().(error)
			return w, err
		}
	}
	return all
}

// ourScript is a script that a page of ours may have, at its place.
var ourScript = regexp.MustCompile(`<script src="/static/[a-z]+-[0-9a-f]{16}\.js"( data-worker="")? defer></script>`)

func TestPages_EscapeWhatOthersWrote(t *testing.T) {
	b := meadow()
	b.Name = `Bank <script>attack()</script> & "Sons"`
	b.Short, b.Support = b.Name, b.Name
	all := attacks(newPages(t, b))
	if len(all) < 28 {
		t.Fatalf("only %d pages", len(all))
	}
	for name, render := range all {
		t.Run(name, func(t *testing.T) {
			w, err := render()
			if err != nil {
				t.Fatal(err)
			}
			body := ourScript.ReplaceAllString(w.Body.String(), "")
			if name == "FormPost" {
				body = strings.Replace(body, "<script>"+formPostScript+"</script>", "", 1)
			}
			for _, bad := range []string{"<script", "<img src=x", "javascript:", "ZgotmplZ", "\x00"} {
				if strings.Contains(body, bad) {
					t.Errorf("contains %q:\n%s", bad, body)
				}
			}
			// Hidden values go back as they came; all that is shown is cleaned.
			shown := regexp.MustCompile(`(name|value|id|for|autocomplete|aria-describedby|data-[a-z]+)="[^"]*"`).ReplaceAllString(body, "")
			if strings.ContainsAny(shown, "\u202e\u2066\u200b") {
				t.Errorf("a direction-changing or invisible character is shown:\n%s", shown)
			}
			if name != "Done" && name != "Error" && !strings.Contains(body, "attack()") {
				t.Error("nothing of the attack is shown: the test attacks nothing")
			}
			if strings.Contains(w.Header().Get("Content-Security-Policy"), "javascript") {
				t.Error("javascript: reached the policy")
			}
		})
	}
}

func TestHidden_ValuesComeBackUnchanged(t *testing.T) {
	p := newPages(t, meadow())
	const value = `"'<>&+%20 ünï` + "\u200f"
	w := httptest.NewRecorder()
	if err := p.Login(w, 200, Login{Hidden: []Field{{"request_uri", value}}}); err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`name="request_uri" value="([^"]*)"`).FindStringSubmatch(w.Body.String())
	if found == nil || html.UnescapeString(found[1]) != value {
		t.Errorf("got %q, want %q", found, value)
	}
}

// What load generators, the conformance suite's browser and our own tests rely on.
func TestPages_FirstFormAndIDs(t *testing.T) {
	p := newPages(t, meadow())
	ids := map[string][]string{
		"login_page":         {"username", "password", "submit_button"},
		"second_factor_page": {"submit_button"},
		"enrol_page":         {"code", "submit_button"},
		"sign_up_page":       {"username", "name", "email", "password", "submit_button"},
		"consent_page":       {"account_1", "account_2", "approve_button", "deny_button"},
		"error_page":         {"error_code", "error_reference"},
		"form_post_page":     {"continue_button"},
	}
	oneForm := map[string]bool{"login_page": true, "second_factor_page": true, "enrol_page": true, "sign_up_page": true, "consent_page": true, "form_post_page": true}
	takesNone := map[string]bool{"second-factor-send": true, "second-factor-passkey": true}
	for _, s := range gallery() {
		t.Run(s.name, func(t *testing.T) {
			w, body := rendered(t, p, s)
			if !strings.Contains(body, `<main id="`+s.id+`">`) {
				t.Errorf("main is not %s", s.id)
			}
			if got := w.Body.Len(); w.Header().Get("Content-Length") == "" || got == 0 {
				t.Error("no length")
			}
			wanted := ids[s.id]
			switch {
			case s.name == "second-factor-none":
				wanted = []string{"none"}
			case s.name == "sign-up-invited": // the bank has the address
				wanted = []string{"username", "name", "password", "submit_button"}
			case s.id == "second_factor_page" && !takesNone[s.name]:
				wanted = append([]string{"code"}, wanted...)
			}
			for _, id := range wanted {
				if n := strings.Count(body, `id="`+id+`"`); n != 1 {
					t.Errorf("id %s occurs %d times", id, n)
				}
			}
			every := regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(body, -1)
			seen := map[string]bool{}
			for _, id := range every {
				if seen[id[1]] {
					t.Errorf("id %s occurs twice", id[1])
				}
				seen[id[1]] = true
			}
			for _, reference := range regexp.MustCompile(` (?:for|aria-describedby)="([^"]+)"`).FindAllStringSubmatch(body, -1) {
				for _, id := range strings.Fields(reference[1]) {
					if !seen[id] {
						t.Errorf("%s refers to nothing", reference[0])
					}
				}
			}
			if !oneForm[s.id] || s.name == "second-factor-none" || s.name == "login-providers" || s.name == "login-passkey" {
				return
			}
			start, end := strings.Index(body, `<form method="post"`), strings.Index(body, "</form>")
			if strings.Count(body, "<form") != 1 || start < 0 {
				t.Fatal("not exactly one form with method post")
			}
			form := body[start:end]
			if s.id != "form_post_page" && !strings.Contains(form, "action=") {
				t.Error("the form has no action")
			}
			if strings.Count(body, "<input") != strings.Count(form, "<input") || strings.Count(body, "<button") != strings.Count(form, "<button") {
				t.Error("an input or a button stands outside the form")
			}
			if s.id != "form_post_page" && s.name != "login-plain" && s.name != "sign-up-invited" && !strings.Contains(form, `<input type="hidden" name="client_id" value="acorn">`) {
				t.Error("the journey's hidden field is missing")
			}
		})
	}
	_, body := rendered(t, p, named("consent"))
	approve, deny := `name="decision" value="approve"`, `name="decision" value="deny"`
	if a, d := strings.Index(body, approve), strings.Index(body, deny); a < 0 || d < a {
		t.Errorf("approve at %d, deny at %d: approve comes first", a, d)
	}
	for _, want := range []string{
		"Acorn Budget", "acorn-budget.example", "Alice Example", "3 March 2027", "See balances",
		"app.acorn-budget.example", "withdraw this permission", `href="/consents"`, `<input id="account_1" name="account" value="22289" type="checkbox" checked>`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("consent page lacks %q", want)
		}
	}
}

func TestPages_Headers(t *testing.T) {
	p := newPages(t, meadow())
	for _, s := range gallery() {
		w, _ := rendered(t, p, s)
		for name, want := range map[string]string{
			"Content-Type":               "text/html; charset=utf-8",
			"X-Content-Type-Options":     "nosniff",
			"X-Frame-Options":            "DENY",
			"Cache-Control":              "no-store",
			"Referrer-Policy":            "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Strict-Transport-Security":  "max-age=31536000",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", s.name, name, got, want)
			}
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action "} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %s", s.name, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") != (s.id == "form_post_page" || s.id == "approvals_page" || strings.HasSuffix(s.name, "-passkey")) {
			t.Errorf("%s: policy %q", s.name, policy)
		}
	}
	w, _ := rendered(t, p.WithoutHSTS(), named("login"))
	if got := w.Header().Get("Strict-Transport-Security"); got != "" {
		t.Errorf("WithoutHSTS: %q", got)
	}
}

func TestCSP_FormActionFollowsTheRedirectURI(t *testing.T) {
	for uri, want := range map[string]string{
		"https://tpp.example/cb":      "'self' https:",
		"":                            "'self' https:",
		"http://127.0.0.1:8123/cb":    "'self' https: http://127.0.0.1:*",
		"http://localhost/cb":         "'self' https: http://localhost:*",
		"http://[::1]:9/cb":           "'self' https: http:",
		"http://tpp.example/cb":       "'self' https:",
		"com.example.app:/cb":         "'self' https: com.example.app:",
		"javascript:attack()":         "'self' https:",
		"data:text/html,x":            "'self' https:",
		"com.example;script-src *:/x": "'self' https:",
	} {
		if got := csp(&Client{RedirectURI: uri}); got != cspBase+want {
			t.Errorf("%s: %s", uri, got)
		}
	}
	if got := csp(nil); got != cspBase+"'self'" {
		t.Errorf("no client: %s", got)
	}
}

func TestProtect(t *testing.T) {
	p := newPages(t, meadow())
	handler := p.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, test := range []struct {
		name, method, fetchSite, origin string
		want                            int
	}{
		{"our own form", "POST", "same-origin", "https://bank.example", 204},
		{"our own form, origin withheld", "POST", "same-origin", "null", 204},
		{"typed or bookmarked", "POST", "none", "", 204},
		{"another site", "POST", "cross-site", "https://evil.example", 403},
		{"a sister host", "POST", "same-site", "https://blog.bank.example", 403},
		{"an old browser, our own form", "POST", "", "https://bank.example", 204},
		{"an old browser, another site", "POST", "", "https://evil.example", 403},
		{"an old browser, origin withheld", "POST", "", "null", 403},
		{"curl, HtmlUnit", "POST", "", "", 204},
		{"a link from another site", "GET", "cross-site", "", 204},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "https://bank.example/consent", nil)
			if test.fetchSite != "" {
				r.Header.Set("Sec-Fetch-Site", test.fetchSite)
			}
			if test.origin != "" {
				r.Header.Set("Origin", test.origin)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Fatalf("status %d, want %d", w.Code, test.want)
			}
			if w.Code == 403 && !strings.Contains(w.Body.String(), `<code id="error_code" translate="no">cross_origin_request</code>`) {
				t.Errorf("not our error page:\n%s", w.Body)
			}
		})
	}
}

func TestRender_FailureShowsNothingOfThePage(t *testing.T) {
	p := newPages(t, meadow())
	for name, render := range map[string]func(http.ResponseWriter) error{
		"form action to another host":  func(w http.ResponseWriter) error { return p.Login(w, 200, Login{Action: "https://evil.example/"}) },
		"form action with two slashes": func(w http.ResponseWriter) error { return p.Login(w, 200, Login{Action: "//evil.example/"}) },
		"form action with script":      func(w http.ResponseWriter) error { return p.Login(w, 200, Login{Action: "javascript:attack()"}) },
		"form_post to script":          func(w http.ResponseWriter) error { return p.FormPost(w, FormPost{Action: "javascript:attack()"}) },
		"form_post to plain http":      func(w http.ResponseWriter) error { return p.FormPost(w, FormPost{Action: "http://tpp.example/cb"}) },
		"form_post to ourselves":       func(w http.ResponseWriter) error { return p.FormPost(w, FormPost{Action: "/cb"}) },
		"a picture that is none":       func(w http.ResponseWriter) error { return p.EnrolTOTP(w, 200, EnrolTOTP{QRPNG: []byte("<svg>")}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			err := render(w)
			if err == nil {
				t.Fatal("no error for the log")
			}
			body := w.Body.String()
			if w.Code != 500 || !strings.Contains(body, p.Text("error.internal")) {
				t.Errorf("status %d: %s", w.Code, body)
			}
			if strings.Contains(body, "<form") || strings.Contains(body, "template") || strings.Contains(body, "evil") || strings.Contains(body, "attack") {
				t.Errorf("leaks: %s", body)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Security-Policy") == "" {
				t.Error("headers are missing")
			}
		})
	}
}

type brokenPipe struct{ http.ResponseWriter }

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestRender_ReportsAWriteThatFailed(t *testing.T) {
	p := newPages(t, meadow())
	if err := p.Done(brokenPipe{httptest.NewRecorder()}, 200, Done{Title: "x"}); err == nil {
		t.Error("no error")
	}
}

func TestHref(t *testing.T) {
	for link, allowed := range map[string]bool{
		"/login": true, "/a?b=c#d": true, "https://bank.example/x": true, "http://localhost:8080/": true,
		"": false, "//evil.example": false, `/\evil.example`: false, "/\tevil": false, "http://bank.example": false,
		"javascript:attack()": false, "JaVaScRiPt:attack()": false, "data:text/html,x": false, "vbscript:x": false,
		"https:evil": false, "https://bank.example@evil.example/": false, "relative": false, " https://x.example": false,
	} {
		if got := href(link) != ""; got != allowed {
			t.Errorf("%q: allowed %t", link, got)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"  Acorn\n\tBudget ":       "Acorn Budget",
		"Meadow\u202eknaB":         "MeadowknaB",
		"Mea\u200bdow\u00adBank":   "MeadowBank",
		"bad\xffbyte":              "badbyte",
		"Société Générale 東京 مصرف": "Société Générale 東京 مصرف",
		strings.Repeat("x", 501):   strings.Repeat("x", 500) + "…",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := monogram("«the» acorn budget"); got != "TA" {
		t.Errorf("monogram %q", got)
	}
	if got := group("jbsw y3dpehpk3p"); got != "jbsw y3dp ehpk 3p" {
		t.Errorf("group %q", got)
	}
}

func TestBrand_ReportsEveryMistake(t *testing.T) {
	_, err := New(Brand{Colour: "red", LogoPNG: []byte("GIF"), LogoSVG: []byte("x"), PrivacyURL: "javascript:attack()", TermsURL: "http://bank.example"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"name", "#rrggbb", "two logos", "not a PNG", "not an SVG", "privacy", "terms"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	for _, b := range []Brand{{Name: "B", Language: "xx"}, {Name: "B", Language: "../en"}, {Name: "B", Texts: map[string]string{"no.such": "x"}}, {Name: "B", Texts: map[string]string{"login.title": "{{.}}"}}, {Name: "{{.}}"}} {
		if _, err := New(b); err == nil {
			t.Errorf("%+v: no error", b)
		}
	}
}

func TestBrand_OwnWordsAndLinks(t *testing.T) {
	b := meadow()
	b.Texts = map[string]string{"login.title": "Welcome to {bank}"}
	for support, want := range map[string]string{
		"+44 20 7946 0000":         `<a href="tel:&#43;442079460000">`,
		"help@meadow.example":      `<a href="mailto:help@meadow.example">`,
		"https://meadow.example/h": `<a href="https://meadow.example/h">`,
		"Ask in any branch":        "Ask in any branch</p>",
	} {
		b.Support = support
		_, body := rendered(t, newPages(t, b), named("login"))
		if !strings.Contains(body, want) || !strings.Contains(body, "<h1>Welcome to Meadow Bank</h1>") {
			t.Errorf("%s: %s not found in\n%s", support, want, body)
		}
	}
}

// WCAG 2.2 §1.4.3: text has a contrast of 4.5:1, whatever colour a bank has.
func TestPalette_ContrastOfEveryBrand(t *testing.T) {
	levels := []string{"00", "33", "66", "99", "cc", "ff"}
	for _, r := range levels {
		for _, g := range levels {
			for _, b := range levels {
				colour := "#" + r + g + b
				for i, scheme := range strings.Split(palette(colour), "@media") {
					v := variables(scheme)
					background, least := lightest, 4.5
					if i == 1 {
						background, least = darkest, 7
					}
					if c := contrast(v["ink"], background); c < least {
						t.Errorf("%s: ink %.2f", colour, c)
					}
					if c := contrast(v["fill"], v["on-fill"]); c < 4.5 {
						t.Errorf("%s: label %.2f", colour, c)
					}
					if i == 1 && contrast(v["fill"], background) < 3 {
						t.Errorf("%s: button cannot be seen in the dark", colour)
					}
				}
			}
		}
	}
}

func TestStyle_ContrastOfText(t *testing.T) {
	light, dark, _ := strings.Cut(string(styleSheet), "@media (prefers-color-scheme: dark)")
	for name, v := range map[string]map[string]rgb{"light": variables(light), "dark": variables(dark)} {
		for _, pair := range [][2]string{
			{"text", "page"}, {"text", "surface"}, {"text", "sunken"}, {"muted", "page"}, {"muted", "surface"}, {"muted", "sunken"},
			{"danger", "surface"}, {"danger", "danger-wash"}, {"on-danger", "danger"}, {"good", "good-wash"},
		} {
			if c := contrast(v[pair[0]], v[pair[1]]); c < 4.5 {
				t.Errorf("%s: %s on %s: %.2f", name, pair[0], pair[1], c)
			}
		}
		if c := contrast(v["control"], v["surface"]); c < 3 { // §1.4.11
			t.Errorf("%s: control on surface: %.2f", name, c)
		}
	}
	if v := variables(light); v["page"] != lightest {
		t.Error("brand.go's lightest is not --page")
	}
	if v := variables(dark); v["surface"] != darkest {
		t.Error("brand.go's darkest is not --surface")
	}
}

func variables(css string) map[string]rgb {
	found := make(map[string]rgb)
	for _, m := range regexp.MustCompile(`--([a-z-]+): ?(#[0-9a-f]{6})`).FindAllStringSubmatch(css, -1) {
		found[m[1]] = mustColour(m[2])
	}
	return found
}

func TestStatic(t *testing.T) {
	b := meadow()
	b.LogoPNG = dots()
	p := newPages(t, b)
	get := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if len(header) == 2 {
			r.Header.Set(header[0], header[1])
		}
		w := httptest.NewRecorder()
		p.Static().ServeHTTP(w, r)
		return w
	}
	_, page := rendered(t, p, named("login"))
	urls := regexp.MustCompile(`/static/[^"]+`).FindAllString(page, -1)
	if len(urls) != 3 {
		t.Fatalf("page refers to %v", urls)
	}
	for _, url := range urls {
		w := get(url)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", url, w.Code, w.Header())
		}
		if again := get(url, "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s with its ETag: %d", url, again.Code)
		}
	}
	if w := get(p.style.url()); !bytes.Contains(w.Body.Bytes(), []byte("--fill:#14532d")) || w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Error("the style sheet lacks the brand's colour")
	}
	if w := get("/static/style-0123456789abcdef.css"); w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" {
		t.Errorf("another version's style sheet: %d %v", w.Code, w.Header())
	}
	for _, path := range []string{"/static/", "/static/style.css", "/static/../doc.go", "/static/x-1.css", "/style-1.css"} {
		if w := get(path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	w := httptest.NewRecorder()
	p.Static().ServeHTTP(w, httptest.NewRequest(http.MethodPost, p.style.url(), nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

func BenchmarkConsent(b *testing.B) {
	p, err := New(meadow())
	if err != nil {
		b.Fatal(err)
	}
	consent := named("consent")
	for b.Loop() {
		if err := consent.render(p, httptest.NewRecorder()); err != nil {
			b.Fatal(err)
		}
	}
}

package authztest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Browser is a person's browser: it keeps cookies, follows redirects within the server, and fills in the first form of a
// page.
type Browser struct {
	client *http.Client
	server *Server
}

// Page is where a browser has arrived: a page of the server, or the redirect that leaves it.
type Page struct {
	*Answer
	URL  *url.URL // of the page
	Left *url.URL // where the browser was sent, outside the server; nil while it is still here
}

// Browser opens a new browser.
func (s *Server) Browser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	check(t, err)
	return &Browser{server: s, client: &http.Client{
		Jar: jar, Timeout: 30 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Open goes to a path of the server.
func (b *Browser) Open(t testing.TB, path string) *Page {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.Issuer+path, nil)
	check(t, err)
	return b.follow(t, r)
}

// Authorize goes where a client sends the browser with a pushed request.
func (b *Browser) Authorize(t testing.TB, clientID, requestURI string) *Page {
	t.Helper()
	return b.Open(t, "/authorize?"+url.Values{"client_id": {clientID}, "request_uri": {requestURI}}.Encode())
}

func (b *Browser) follow(t testing.TB, r *http.Request) *Page {
	t.Helper()
	for range 10 {
		page := &Page{Answer: Do(t, b.client, r), URL: r.URL}
		location := page.Header.Get("Location")
		if location == "" {
			return page
		}
		if page.Status != http.StatusSeeOther {
			t.Errorf("redirected with %d, not 303 (RFC 9700 §4.12)", page.Status)
		}
		to, err := r.URL.Parse(location)
		check(t, err)
		if !strings.HasPrefix(to.String(), b.server.Issuer+"/") {
			page.Left = to
			return page
		}
		r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, to.String(), nil)
		check(t, err)
	}
	t.Fatal("redirected in circles")
	return nil
}

var (
	formPattern  = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	inputPattern = regexp.MustCompile(`(?is)<input\b([^>]*)>`)
	attrPattern  = regexp.MustCompile(`(?is)([a-z-]+)="([^"]*)"`)
	mainPattern  = regexp.MustCompile(`<main[^>]*\bid="([^"]*)"`)
)

func attributes(tag string) map[string]string {
	found := map[string]string{}
	for _, a := range attrPattern.FindAllStringSubmatch(tag, -1) {
		found[strings.ToLower(a[1])] = html.UnescapeString(a[2])
	}
	return found
}

// ID is the id of the page's main element: which page it is.
func (p *Page) ID() string {
	if m := mainPattern.FindSubmatch(p.Body); m != nil {
		return string(m[1])
	}
	return ""
}

// Is fails the test unless it is that page.
func (p *Page) Is(t testing.TB, id string) *Page {
	t.Helper()
	if p.ID() != id {
		t.Fatalf("at %v (%d) the page is %q, not %q; left for %v", p.URL, p.Status, p.ID(), id, p.Left)
	}
	return p
}

// Form returns the first form of the page, with what it would send, and its action.
func (p *Page) Form(t testing.TB) (url.Values, *url.URL) {
	t.Helper()
	m := formPattern.FindSubmatch(p.Body)
	if m == nil {
		t.Fatalf("no form on page %q", p.ID())
	}
	form := url.Values{}
	for _, input := range inputPattern.FindAllSubmatch(m[2], -1) {
		if a := attributes(string(input[1])); strings.EqualFold(a["type"], "hidden") {
			form.Set(a["name"], a["value"])
		}
	}
	action, err := p.URL.Parse(attributes(string(m[1]))["action"])
	check(t, err)
	return form, action
}

// Submit fills in the first form of a page and sends it.
func (b *Browser) Submit(t testing.TB, p *Page, fields url.Values) *Page {
	t.Helper()
	form, action := p.Form(t)
	for name, values := range fields {
		form[name] = values
	}
	return b.Post(t, action.String(), form)
}

// Post sends a form to an address of the server.
func (b *Browser) Post(t testing.TB, address string, form url.Values) *Page {
	t.Helper()
	return b.PostWith(t, address, form, http.Header{"Sec-Fetch-Site": {"same-origin"}})
}

// PostWith sends a form with these headers, as another site's page or an old browser would.
func (b *Browser) PostWith(t testing.TB, address string, form url.Values, header http.Header) *Page {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	check(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, values := range header {
		r.Header[name] = values
	}
	return b.follow(t, r)
}

// JSON sends what a page's script would.
func (b *Browser) JSON(t testing.TB, method, path string, body any) *Page {
	t.Helper()
	encoded, err := json.Marshal(body)
	check(t, err)
	r, err := http.NewRequestWithContext(t.Context(), method, b.server.Issuer+path, bytes.NewReader(encoded))
	check(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.follow(t, r)
}

// Continue follows the link by which a page lets the customer go on: from new recovery codes, say.
func (b *Browser) Continue(t testing.TB, p *Page) *Page {
	t.Helper()
	m := regexp.MustCompile(`id="continue_link" href="([^"]*)"`).FindSubmatch(p.Body)
	if m == nil {
		t.Fatalf("page %q leads nowhere", p.ID())
	}
	to, err := p.URL.Parse(html.UnescapeString(string(m[1])))
	check(t, err)
	return b.Open(t, to.RequestURI())
}

// Login fills in the login page.
func (b *Browser) Login(t testing.TB, p *Page) *Page {
	t.Helper()
	return b.Submit(t, p.Is(t, "login_page"), url.Values{"username": {Username}, "password": {Password}})
}

// Decide presses a button of the consent page, with accounts picked.
func (b *Browser) Decide(t testing.TB, p *Page, decision string, accounts ...string) *Page {
	t.Helper()
	return b.Submit(t, p.Is(t, "consent_page"), url.Values{"decision": {decision}, "account": accounts})
}

// Approve takes a pushed request through login and consent, in a new browser, and returns the code.
func (s *Server) Approve(t testing.TB, c *Client, requestURI string) string {
	t.Helper()
	b := s.Browser(t)
	page := b.Decide(t, b.Login(t, b.Authorize(t, c.ID, requestURI)), "approve", "12")
	code := s.Response(t, page).Get("code")
	if code == "" {
		t.Fatalf("no code: page %q, left for %v", page.ID(), page.Left)
	}
	return code
}

package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// browser is what the customer sits at: it keeps cookies, follows redirects and sends forms as they stand on the page.
type browser struct {
	http *http.Client
	stop string // an address that it is not to open: there the walk takes over
	hops []hop  // of the last click
}

// hop is one request of the browser. to is where it was sent on; "" when a page came.
type hop struct {
	method, url string
	form        url.Values
	status      int
	to          string
}

func newBrowser(c *http.Client, stop string) (_ *browser, err error) {
	c.Jar, err = cookiejar.New(nil)
	return &browser{http: c, stop: stop}, err
}

// webPage is where the browser has arrived.
type webPage struct {
	url    *url.URL
	status int // 0 at the address where it was to stop
	body   string
}

func (b *browser) open(ctx context.Context, address string) (*webPage, error) {
	return b.follow(ctx, http.MethodGet, address, nil)
}

const maxRedirects = 10

func (b *browser) follow(ctx context.Context, method, address string, form url.Values) (*webPage, error) {
	b.hops = nil
	for range maxRedirects {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		if b.stop != "" && strings.HasPrefix(address, b.stop) {
			return &webPage{url: u}, nil
		}
		r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		if method == http.MethodPost {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", u.Scheme+"://"+u.Host)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		response, err := b.http.Do(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		response.Body.Close()
		if err != nil {
			return nil, err
		}
		to := response.Header.Get("Location")
		b.hops = append(b.hops, hop{method, address, form, response.StatusCode, to})
		if to == "" {
			return &webPage{u, response.StatusCode, string(body)}, nil
		}
		next, err := u.Parse(to)
		if err != nil {
			return nil, err
		}
		method, address, form = http.MethodGet, next.String(), nil
	}
	return nil, errors.New("the browser was sent round in circles")
}

// submit sends the first form of the page that holds marker, with what it holds already, what was typed, and the button.
func (b *browser) submit(ctx context.Context, p *webPage, marker string, typed url.Values) (*webPage, error) {
	action, fields, err := p.form(marker)
	if err != nil {
		return nil, err
	}
	for name, values := range typed {
		fields[name] = values
	}
	return b.follow(ctx, http.MethodPost, action, fields)
}

var (
	mainTag    = regexp.MustCompile(`<main[^>]*\bid="([a-z_]+)"`)
	titleText  = regexp.MustCompile(`(?s)<title>(.*?)</title>`)
	formText   = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputTag   = regexp.MustCompile(`(?s)<input\b([^>]*)>`)
	attribute  = regexp.MustCompile(`([a-z_-]+)="([^"]*)"`)
	problemTag = regexp.MustCompile(`(?s)<p class="problem"[^>]*>(.*?)</p>`)
	secretText = regexp.MustCompile(`(?s)id="secret"><code[^>]*>(.*?)</code>`)
	errorText  = regexp.MustCompile(`(?s)<code id="error_code"[^>]*>(.*?)</code>`)
	goOnLink   = regexp.MustCompile(`id="continue_link" href="([^"]*)"`)
	heading    = regexp.MustCompile(`(?s)<h1>(.*?)</h1>`)
	itemText   = regexp.MustCompile(`(?s)<li><strong>(.*?)</strong>`)
	untilText  = regexp.MustCompile(`(?s)id="until">(.*?)</dd>`)
	accountTag = regexp.MustCompile(`(?s)<span class="account-name">(.*?)</span></span>`)
	anyTag     = regexp.MustCompile(`<[^>]*>`)
	accountRow = regexp.MustCompile(`(?s)<input id="account_\d+" name="account" value="([^"]*)"`)
)

// is tells whether this is the page with that id.
func (p *webPage) is(id string) error {
	m := mainTag.FindStringSubmatch(p.body)
	if m != nil && m[1] == id {
		return nil
	}
	got := "no page of ours"
	if m != nil {
		got = m[1]
	}
	why := find(problemTag, p.body)
	if why == "" {
		why = find(errorText, p.body)
	}
	return fmt.Errorf("expected %s, the browser is at %s with %s (%d) %s", id, p.url.Redacted(), got, p.status, why)
}

func (p *webPage) title() string {
	title, _, _ := strings.Cut(find(titleText, p.body), " · ")
	return title
}

func (p *webPage) has(text string) bool { return strings.Contains(html.UnescapeString(p.body), text) }

func find(pattern *regexp.Regexp, body string) string {
	if m := pattern.FindStringSubmatch(body); m != nil {
		return strings.TrimSpace(html.UnescapeString(m[1]))
	}
	return ""
}

// form reads a form: its address and the fields that it sends by itself.
func (p *webPage) form(marker string) (action string, fields url.Values, err error) {
	for _, m := range formText.FindAllStringSubmatch(p.body, -1) {
		if !strings.Contains(m[2], marker) {
			continue
		}
		to, err := p.url.Parse(attributesOf(m[1])["action"])
		if err != nil {
			return "", nil, err
		}
		fields = url.Values{}
		for _, tag := range inputTag.FindAllStringSubmatch(m[2], -1) {
			if a := attributesOf(tag[1]); a["type"] == "hidden" {
				fields.Add(a["name"], a["value"])
			}
		}
		return to.String(), fields, nil
	}
	return "", nil, fmt.Errorf("the page %q at %s has no form with %s", p.title(), p.url.Redacted(), marker)
}

func attributesOf(tag string) map[string]string {
	a := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(tag, -1) {
		a[m[1]] = html.UnescapeString(m[2])
	}
	return a
}

// accounts are the ids of the accounts that the page offers.
func (p *webPage) accounts() []string {
	var ids []string
	for _, m := range accountRow.FindAllStringSubmatch(p.body, -1) {
		ids = append(ids, html.UnescapeString(m[1]))
	}
	return ids
}

// summary is what a consent page tells a person: who, what, which accounts, until when.
func (p *webPage) summary() [][2]string {
	lines := [][2]string{{"", plain(find(heading, p.body))}}
	for _, m := range itemText.FindAllStringSubmatch(p.body, -1) {
		lines = append(lines, [2]string{"what", plain(m[1])})
	}
	for _, m := range accountTag.FindAllStringSubmatch(p.body, -1) {
		lines = append(lines, [2]string{"account", plain(m[1])})
	}
	return append(lines, [2]string{"until", plain(find(untilText, p.body))})
}

func plain(markup string) string {
	return strings.Join(strings.Fields(html.UnescapeString(anyTag.ReplaceAllString(markup, ""))), " ")
}

// surf tells what the browser did and where it has arrived.
func (s *story) surf(p *webPage, err error) (*webPage, error) {
	for i, h := range s.browser.hops {
		address, query, _ := strings.Cut(h.url, "?")
		s.n.line("    %s   %s", s.n.paint(blue, "→ "+h.method+" "+address), s.n.paint(faint, "Alice's browser"))
		if i == 0 { // after a redirect it was told already
			s.query(query)
		}
		for _, name := range inOrder(h.form) {
			v := strings.Join(h.form[name], ", ")
			switch name {
			case "client_id", "request_uri", "accounts", "shown": // hidden fields
				continue
			case "password":
				v = "••••••••"
			}
			s.n.pair(name, readable(name, v))
		}
		if h.to != "" {
			s.n.line("    %s", s.n.paint(blue, fmt.Sprintf("← %d %s", h.status, http.StatusText(h.status))))
			to, query, _ := strings.Cut(h.to, "?")
			s.n.pair("Location", to)
			s.query(query)
		}
	}
	if err == nil && p.status != 0 {
		s.n.line("    %s", s.n.paint(blue, fmt.Sprintf("← %d %s   the page “%s”", p.status, http.StatusText(p.status), p.title())))
	}
	return p, err
}

// query tells the parameters in an address, without the whole of what is secret.
func (s *story) query(raw string) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return
	}
	for _, name := range inOrder(values) {
		if values.Get(name) == "" {
			continue
		}
		s.n.pair("  "+name, readable(name, values.Get(name)))
	}
}

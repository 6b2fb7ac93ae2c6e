package authz_test

import (
	"context"
	"encoding/base32"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/authn/federation/federationtest"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

// These tests walk the router: a page or a form that somebody adds is attacked without being named here.

// besiegedAt is what the server calls itself. Passkeys need a name.
const besiegedAt = "https://bank.example"

// sink takes messages, and nobody reads them.
type sink string

func (k sink) Kind() string                            { return string(k) }
func (sink) Reaches(reach.Customer) bool               { return true }
func (sink) Send(context.Context, reach.Message) error { return nil }

// besieged is a server with everything that has pages.
func besieged(t *testing.T) (*authztest.Server, *federationtest.Provider) {
	t.Helper()
	p := federationtest.New(t)
	return authztest.Start(t, authztest.Options{
		Issuer: besiegedAt, MTLSBase: "https://mtls.bank.example",
		Channels: func(*authztest.Server) []reach.Channel {
			return []reach.Channel{sink(reach.KindEmail), sink(reach.KindSMS)}
		},
		Authn: func(c *authn.Config) {
			c.Transactions.Password, c.AddressAttempts, c.MaxFailures = true, 1<<20, 1<<20
			c.Federation = authn.Federation{Calls: p.Calls(), Providers: []federation.Config{{
				ID: "meadow", Name: "Meadow", Issuer: p.URL, ClientID: "bank", Auth: federation.SecretBasic, Secret: "s3cret", Link: []string{federation.LinkLogin},
			}}}
		},
	}), p
}

// paths are the pages, with something in the places of their variables.
func pagePaths(s *authztest.Server) (paths []string) {
	variable := regexp.MustCompile(`\{[a-z_]+(:[^/]*)?\}`)
	for _, path := range s.PagePaths() {
		paths = append(paths, variable.ReplaceAllStringFunc(path, func(v string) string {
			if strings.Contains(v, ":") {
				return "0198f0a0-0000-7000-8000-000000000001"
			}
			return "meadow"
		}))
	}
	return paths
}

// visitor is a browser that goes where it is told and stays there.
type visitor struct {
	*http.Client
	s *authztest.Server
}

func newVisitor(t *testing.T, s *authztest.Server) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Client("web").HTTP()
	c.Jar = jar
	c.Transport.(*http.Transport).DisableKeepAlives = false // some thousand requests
	t.Cleanup(c.CloseIdleConnections)
	return &visitor{c, s}
}

// reply is what a visitor gets.
type reply struct {
	*http.Response
	body string
}

func (v *visitor) do(t *testing.T, method, path string, form url.Values, header ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, v.s.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for pair := range slices.Chunk(header, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	resp, err := v.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp, string(body)}
}

// besiegedSecret is that of alice's authenticator.
var besiegedSecret = []byte("12345678901234567890")

// loggedInFully is alice, with both factors.
func loggedInFully(t *testing.T, s *authztest.Server) *visitor {
	t.Helper()
	c, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
	if err != nil {
		t.Fatal(err)
	}
	id := storage.NewID()
	s.SQL(t, `DELETE FROM second_factors WHERE customer_id = $1`, [16]byte(c.ID))
	s.SQL(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'totp', $3, now())`,
		[16]byte(id), [16]byte(c.ID), s.DB.Keys().Seal("second_factors.secret", id[:], besiegedSecret))
	v := newVisitor(t, s)
	v.do(t, http.MethodPost, "/login", url.Values{"username": {authztest.Username}, "password": {authztest.Password}, "next": {"/self"}})
	v.do(t, http.MethodPost, "/login/second-factor", url.Values{"kind": {"totp"}, "code": {codeOf(t, base32.StdEncoding.EncodeToString(besiegedSecret), time.Now())}, "next": {"/self"}})
	if r := v.do(t, http.MethodGet, "/self", nil); !strings.Contains(r.body, `<main id="self_page"`) {
		t.Fatalf("not logged in: %d\n%s", r.StatusCode, r.body)
	}
	return v
}

// aForm is one that does something at most addresses.
func aForm() url.Values {
	return url.Values{
		"username": {"mallory"}, "name": {"Mallory"}, "email": {"mallory@evil.example"}, "phone": {"+254711000999"}, "password": {"eleven angry geese on ice"},
		"old_password": {authztest.Password}, "code": {"123456"}, "do": {"save"}, "user_code": {"1234"}, "confirm": {"yes"}, "decision": {"approve"}, "kind": {"totp"},
		"send": {"1"}, "given_name": {"Mallory"}, "provider": {"meadow"}, "current": {""},
	}
}

// allRows is what the database has, to the last byte.
func allRows(t *testing.T, s *authztest.Server) map[string]int {
	t.Helper()
	tables := map[string]int{}
	for _, name := range []string{"customers", "second_factors", "logins", "authorizations", "grants", "consents", "events", "notifications", "one_time_codes", "sign_ups", "recoveries",
		"identity_visits", "identity_links", "limits", "approval_devices", "push_subscriptions", "muted_clients", "account_deletions", "transaction_decisions", "fineract_tfa_tokens", "invitations"} {
		tables[name] = s.Count(t, `SELECT (coalesce(sum(hashtext(t::text)::bigint), 0) % 1000000007)::int FROM `+name+` t`)
	}
	return tables
}

// CSRF: no form of another site does anything, at any address, whatever the browser says of where it comes from.
func TestPages_FormsOfOtherSites(t *testing.T) {
	t.Parallel()
	s, _ := besieged(t)
	alice := loggedInFully(t, s)
	before := allRows(t, s)
	sites := map[string][]string{
		"cross-site":             {"Sec-Fetch-Site", "cross-site"},
		"same-site, a neighbour": {"Sec-Fetch-Site", "same-site"},
		"an old browser":         {"Origin", "https://evil.example"},
		"a sandbox":              {"Origin", "null"},
		"http instead of https":  {"Origin", "https://bank.example.evil.example"},
		"both":                   {"Sec-Fetch-Site", "cross-site", "Origin", besiegedAt},
	}
	paths := pagePaths(s)
	if len(paths) < 50 {
		t.Fatalf("the router has only %d pages", len(paths))
	}
	for _, path := range paths {
		for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodPatch} {
			for site, header := range sites {
				if r := alice.do(t, method, path, aForm(), header...); r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, ">cross_origin_request<") || len(r.Header["Set-Cookie"]) != 0 {
					t.Errorf("%s %s, %s: %d", method, path, site, r.StatusCode)
				}
			}
		}
	}
	if after := allRows(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("something was changed:\n%v\n%v", before, after)
	}
	// The same forms of our own pages are taken, or it would be no test.
	for _, path := range paths {
		if r := alice.do(t, http.MethodPost, path, aForm(), "Sec-Fetch-Site", "same-origin"); strings.Contains(r.body, "cross_origin_request") {
			t.Errorf("our own form to %s is refused", path)
		}
	}
	changed := 0
	for table, sum := range allRows(t, s) {
		if sum != before[table] {
			changed++
		}
	}
	if changed < 5 {
		t.Errorf("our own forms changed only %d tables", changed)
	}
}

// Clickjacking, sniffing, caches: every answer at every address has the headers, whoever asks and however wrong.
func TestPages_HeadersEverywhere(t *testing.T) {
	t.Parallel()
	s, _ := besieged(t)
	visitors := map[string]*visitor{"stranger": newVisitor(t, s), "alice": loggedInFully(t, s)}
	kinds := map[string]int{}
	for _, path := range append(pagePaths(s), "/nowhere", "/self/nothing", "/login/idp/nobody") {
		for _, ask := range []struct {
			method string
			query  string
			form   url.Values
		}{
			{method: http.MethodGet}, {method: http.MethodGet, query: "?next=//evil.example&client_id=x"}, {method: http.MethodHead},
			{method: http.MethodPost, form: url.Values{}}, {method: http.MethodPost, form: aForm()}, {method: http.MethodPut},
		} {
			for who, v := range visitors {
				if who == "alice" && ask.form.Has("username") && (path == "/sign-out" || strings.HasPrefix(path, "/self")) {
					continue // she stays
				}
				r := v.do(t, ask.method, path+ask.query, ask.form, "Sec-Fetch-Site", "same-origin")
				h, what := r.Header, fmt.Sprintf("%s: %s %s: %d", who, ask.method, path+ask.query, r.StatusCode)
				for _, c := range r.Cookies() {
					if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite < http.SameSiteLaxMode {
						t.Errorf("%s sets %v", what, c)
					}
				}
				switch kind, _, _ := strings.Cut(h.Get("Content-Type"), ";"); {
				case r.StatusCode >= 500:
					t.Errorf("%s\n%s", what, r.body)
				case h.Get("Location") != "":
					kinds["redirect"]++
					if h.Get("Cache-Control") != "no-store" || r.StatusCode != http.StatusSeeOther {
						t.Errorf("%s leads to %s: %v", what, h.Get("Location"), h)
					}
				case kind == "text/html":
					kinds[kind]++
					csp := h.Get("Content-Security-Policy")
					for _, directive := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
						if !strings.Contains(csp, directive) {
							t.Errorf("%s: %s is not in %q", what, directive, csp)
						}
					}
					if strings.Contains(csp, "unsafe-inline") || strings.Contains(csp, "unsafe-eval") || strings.Contains(csp, "*") {
						t.Errorf("%s: %q", what, csp)
					}
					for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
						if h.Get(name) != want {
							t.Errorf("%s: %s: %q", what, name, h.Get(name))
						}
					}
				default:
					kinds[kind]++
					if h.Get("X-Content-Type-Options") != "nosniff" && len(r.body) > 0 {
						t.Errorf("%s, %q, may be taken for something else", what, kind)
					}
				}
			}
		}
	}
	t.Logf("%v", kinds)
	if kinds["text/html"] < 200 || kinds["redirect"] < 20 {
		t.Errorf("too few to show anything: %v", kinds)
	}
}

// hostileTargets are addresses that a browser takes for another site's, or that would be a script or a second header.
var hostileTargets = []string{
	"https://evil.example/", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "\t//evil.example", "https:evil.example", "http:/evil.example",
	"javascript:alert(1)//evil.example", "data:text/html,evil.example", "/self/..//evil.example", "/self/../..//evil.example", "/self?next=//evil.example", "/self#//evil.example", "/self@evil.example",
	"/self\r\nLocation: https://evil.example", "/approvals\n//evil.example", "/transactions/https://evil.example", "/transactions/00000000-0000-0000-0000-000000000000/..//evil.example",
	"https://bank.example@evil.example", "https://bank.example.evil.example", "/%2f%2fevil.example", "%2f%2fevil.example", "/%09/evil.example", "/login/link//evil.example", "/.evil.example", "//evil.example%2f..",
}

// targetFields are fields that lead somewhere, here or at other servers.
var targetFields = [][]string{
	{"next"}, {"client_id", "request_uri"},
	{"redirect_uri", "return_to", "return_url", "url", "continue", "target", "state", "iss", "post_logout_redirect_uri", "code", "error", "how", "kind", "user_code", "login_hint", "acr", "fresh", "provider", "seen"},
}

var leadsTo = regexp.MustCompile(`(?i)\b(?:href|action|formaction|src|data|content)="([^"]*)"`)

// Open redirects: whatever is in the fields that lead somewhere, no answer at any address leads to another site, and no page links to one.
func TestPages_LeadNowhereElse(t *testing.T) {
	t.Parallel()
	s, provider := besieged(t)
	stranger, alice := newVisitor(t, s), loggedInFully(t, s)
	ours, _ := url.Parse(s.Issuer)
	redirects := 0
	check := func(what string, r reply, path string) {
		t.Helper()
		targets := []string{}
		if location, set := r.Header["Location"]; set {
			redirects++
			targets = append(targets, location...)
		}
		for _, m := range leadsTo.FindAllStringSubmatch(r.body, -1) {
			targets = append(targets, html.UnescapeString(m[1]))
		}
		for _, target := range append(targets, r.Header.Values("Refresh")...) {
			to, err := ours.Parse(target)
			if err != nil || to.Host != ours.Host && to.Host != "bank.example" || to.Scheme != "https" || strings.HasPrefix(strings.TrimLeft(to.Path, `\`), "//") || strings.ContainsAny(target, "\\\t\r\n") {
				if path == "/login/idp/meadow" && err == nil && strings.HasPrefix(target, provider.URL+"/auth?") && r.StatusCode == http.StatusSeeOther {
					continue // the provider, which is what the address is for
				}
				if strings.HasPrefix(target, "data:image/") || !strings.Contains(target, "/") && !strings.Contains(target, ":") {
					continue // a picture of ours, or the content of a meta element
				}
				t.Errorf("%s leads to %q", what, target)
			}
		}
	}
	for _, path := range pagePaths(s) {
		for _, target := range hostileTargets {
			for _, names := range targetFields {
				fields := url.Values{}
				for _, name := range names {
					fields.Set(name, target)
				}
				what := fmt.Sprintf("%s with %s=%q", path, names[0], target)
				check("GET "+what, alice.do(t, http.MethodGet, path+"?"+fields.Encode(), nil), path)
				check("GET by a stranger "+what, stranger.do(t, http.MethodGet, path+"?"+fields.Encode(), nil), path)
				check("POST by a stranger "+what, stranger.do(t, http.MethodPost, path, fields, "Sec-Fetch-Site", "same-origin"), path)
			}
		}
	}
	// At the end of a login, where a redirect there must be.
	for _, target := range hostileTargets {
		for _, names := range targetFields[:2] {
			form := url.Values{"username": {authztest.Username}, "password": {authztest.Password}}
			for _, name := range names {
				form.Set(name, target)
			}
			check(fmt.Sprintf("a login with %s=%q", names[0], target), newVisitor(t, s).do(t, http.MethodPost, "/login", form), "/login")
		}
	}
	if redirects < 100 {
		t.Errorf("only %d redirects were looked at", redirects)
	}
}

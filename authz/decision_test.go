package authz_test

import (
	"bytes"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// shown is a browser in front of a consent page, and what the page would send.
type shown struct {
	browser *authztest.Browser
	page    *authztest.Page
	form    url.Values
	action  string
}

// TestDecision_TakesOnlyWhatThePageOffered posts what no page of ours would. The request stays undecided, and the
// customer can still decide it.
func TestDecision_TakesOnlyWhatThePageOffered(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "99")
	c := s.Client("tpp-mtls")
	set := func(name string, values ...string) func(*testing.T, *shown) {
		return func(_ *testing.T, p *shown) {
			if p.form[name] = values; len(values) == 0 {
				delete(p.form, name)
			}
		}
	}
	for _, k := range []struct {
		name   string
		change func(*testing.T, *shown)
		page   string    // that follows
		status int       // of it
		code   fapi.Code // on an error page
	}{
		{"no decision", set("decision"), "error_page", 400, fapi.InvalidRequest},
		{"an unknown decision", set("decision", "maybe"), "error_page", 400, fapi.InvalidRequest},
		{"two decisions", set("decision", "deny", "approve"), "error_page", 400, fapi.InvalidRequest},
		{"no account", set("account"), "consent_page", 422, ""},
		{"an account of another customer", set("account", "99"), "consent_page", 200, ""},
		{"an account of another customer besides one's own", set("account", "12", "99"), "consent_page", 200, ""},
		{"an account that does not exist", set("account", "no-such-account"), "consent_page", 200, ""},
		{"an empty account", set("account", ""), "consent_page", 200, ""},
		{"no account, and no word that one is needed", func(_ *testing.T, p *shown) { delete(p.form, "account"); delete(p.form, "accounts") }, "consent_page", 200, ""},
		{"no account, and a false word", func(_ *testing.T, p *shown) { delete(p.form, "account"); p.form.Set("accounts", "none") }, "consent_page", 200, ""},
		{"a page that was never shown", set("shown"), "consent_page", 200, ""},
		{"a forged proof of the page", set("shown", "AAAAAAAAAAAAAAAAAAAAAA"), "consent_page", 200, ""},
		{"the page of another customer", func(t *testing.T, p *shown) {
			other := show(t, s, c, "bob", c.Push(t, nil))
			p.form.Set("shown", other.form.Get("shown"))
		}, "consent_page", 200, ""},
		{"the page of another request", func(t *testing.T, p *shown) {
			other := show(t, s, c, authztest.Username, c.Push(t, nil))
			p.form.Set("shown", other.form.Get("shown"))
		}, "consent_page", 200, ""},
		{"no cookie", func(t *testing.T, p *shown) { p.browser = s.Browser(t) }, "login_page", 200, ""},
		{"the login of another customer", func(t *testing.T, p *shown) { p.browser = show(t, s, c, "bob", c.Push(t, nil)).browser }, "consent_page", 200, ""},
		{"no client_id", set("client_id"), "error_page", 400, fapi.InvalidRequestURI},
		{"an unknown client", set("client_id", "nobody"), "error_page", 400, fapi.InvalidRequestURI},
		{"another client", set("client_id", "tpp"), "error_page", 400, fapi.InvalidRequestURI},
		{"two clients", set("client_id", "tpp-mtls", "tpp-mtls"), "error_page", 400, fapi.InvalidRequest},
		{"no request_uri", set("request_uri"), "error_page", 400, fapi.InvalidRequestURI},
		{"an unknown request_uri", set("request_uri", "urn:ietf:params:oauth:request_uri:x"), "error_page", 400, fapi.InvalidRequestURI},
		{"an address as request_uri", set("request_uri", "https://evil.example"), "error_page", 400, fapi.InvalidRequestURI},
		{"a field that is too long", set("x", strings.Repeat("x", 33<<10)), "error_page", 400, fapi.InvalidRequest},
		{"a form that is too large", set("account", strings.Repeat("x", 65<<10)), "error_page", 413, fapi.InvalidRequest},
		{"a NUL", set("x", "\x00"), "error_page", 400, fapi.InvalidRequest},
		{"an account with NUL", set("account", "12\x00"), "error_page", 400, fapi.InvalidRequest},
		{"an account that is no UTF-8", set("account", "\xff"), "error_page", 400, fapi.InvalidRequest},
		{"parameters in the query", func(_ *testing.T, p *shown) { p.action += "?decision=approve" }, "error_page", 400, fapi.InvalidRequest},
		{"a redirect_uri is of no interest", func(_ *testing.T, p *shown) {
			p.form.Set("redirect_uri", "https://evil.example")
			delete(p.form, "account")
		}, "consent_page", 422, ""},
	} {
		t.Run(k.name, func(t *testing.T) {
			consent := c.Consent(t)
			uri := c.Push(t, map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`})
			p := show(t, s, c, authztest.Username, uri)
			mine := p.browser
			k.change(t, p)
			page := p.browser.Post(t, p.action, p.form)
			if page.ID() != k.page || page.Status != k.status || page.Left != nil {
				t.Errorf("page %q with %d, left for %v", page.ID(), page.Status, page.Left)
			}
			if k.code != "" {
				page.Explains(t, k.status, k.code)
			}
			if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE consent_id = $1 AND status = 'pending' AND code_hash IS NULL", consent); n != 1 {
				t.Error("it was decided")
			}
			if n := s.Count(t, "SELECT count(*) FROM consents WHERE id = $1 AND status = 'AwaitingAuthorisation' AND customer_id IS NULL", consent); n != 1 {
				t.Error("it was decided by half: the consent has changed")
			}
			if n := s.Count(t, "SELECT count(*) FROM grants WHERE consent_id = $1", consent); n != 0 {
				t.Errorf("%d grants", n)
			}
			if done := mine.Decide(t, mine.Authorize(t, c.ID, uri), "approve", "12"); done.Left == nil || done.Left.Query().Get("code") == "" {
				t.Errorf("the customer can no longer decide: page %q", done.ID())
			}
		})
	}
}

// show opens a request and logs a customer in.
func show(t *testing.T, s *authztest.Server, c *authztest.Client, username, requestURI string) *shown {
	t.Helper()
	b := s.Browser(t)
	page := b.LoginAs(t, b.Authorize(t, c.ID, requestURI), username).Is(t, "consent_page")
	form, action := page.Form(t)
	form.Set("decision", "approve")
	form.Set("account", "12")
	return &shown{b, page, form, action.String()}
}

// "Not you?" on the page leads to the login, which leads back as whoever logs in.
func TestDecision_AsSomebodyElse(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "21")
	c := s.Client("tpp")
	b := s.Browser(t)
	page := b.LoginAs(t, b.Authorize(t, c.ID, c.Push(t, nil)), authztest.Username).Is(t, "consent_page")
	link := regexp.MustCompile(`href="(/login\?[^"]*)"`).FindSubmatch(page.Body)
	if link == nil {
		t.Fatal("the page has no link to another login")
	}
	page = b.LoginAs(t, b.Open(t, html.UnescapeString(string(link[1]))).Is(t, "login_page"), "bob").Is(t, "consent_page")
	if bytes.Contains(page.Body, []byte("Alice Doe")) {
		t.Error("the page still speaks to the first customer")
	}
}

func TestDecision_RefusesOtherSites(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("tpp-mtls")
	for name, header := range map[string]http.Header{
		"Sec-Fetch-Site cross-site":  {"Sec-Fetch-Site": {"cross-site"}},
		"Sec-Fetch-Site same-site":   {"Sec-Fetch-Site": {"same-site"}},
		"an old browser, by Origin":  {"Origin": {"https://evil.example"}},
		"a page without an origin":   {"Origin": {"null"}},
		"Origin with another port":   {"Origin": {s.MTLSBase}},
		"multipart from our own":     {"Sec-Fetch-Site": {"same-origin"}, "Content-Type": {"multipart/form-data; boundary=x"}},
		"text/plain from our own":    {"Sec-Fetch-Site": {"same-origin"}, "Content-Type": {"text/plain"}},
		"no media type from our own": {"Sec-Fetch-Site": {"same-origin"}, "Content-Type": {""}},
	} {
		for _, decision := range []string{"approve", "deny"} {
			t.Run(decision+" "+name, func(t *testing.T) {
				uri := c.Push(t, nil)
				p := show(t, s, c, authztest.Username, uri)
				p.form.Set("decision", decision)
				page := p.browser.PostWith(t, p.action, p.form, header)
				if want := map[bool]int{true: http.StatusForbidden, false: http.StatusUnsupportedMediaType}[header.Get("Content-Type") == "" && header["Content-Type"] == nil]; page.Status != want || page.ID() != "error_page" {
					t.Errorf("page %q with %d", page.ID(), page.Status)
				}
				p.browser.Authorize(t, c.ID, uri).Is(t, "consent_page") // still undecided
			})
		}
	}
}

func TestDecision_ComesOnce(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("tpp-mtls")
	t.Run("approving twice gives one code", func(t *testing.T) {
		p := show(t, s, c, authztest.Username, c.Push(t, nil))
		first := p.browser.Post(t, p.action, p.form)
		p.browser.Post(t, p.action, p.form).Explains(t, 400, fapi.InvalidRequestURI)
		p.form.Set("decision", "deny")
		p.browser.Post(t, p.action, p.form).Explains(t, 400, fapi.InvalidRequestURI)
		c.Exchange(t, first.Left.Query().Get("code"))
	})
	t.Run("RFC 6749 §4.1.2.1: refusing tells the client so, and rejects the consent", func(t *testing.T) {
		consent := c.Consent(t)
		p := show(t, s, c, authztest.Username, c.Push(t, map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`}))
		p.form.Set("decision", "deny")
		p.browser.Post(t, p.action, p.form).Returns(t, s, fapi.AccessDenied, "state-1")
		if n := s.Count(t, "SELECT count(*) FROM consents WHERE id = $1 AND status = 'Rejected'", consent); n != 1 {
			t.Error("the consent is not rejected")
		}
		p.form.Set("decision", "approve")
		p.browser.Post(t, p.action, p.form).Explains(t, 400, fapi.InvalidRequestURI)
	})
	t.Run("signed out in another window, the page asks for the login", func(t *testing.T) {
		p := show(t, s, c, authztest.Username, c.Push(t, nil))
		p.browser.Post(t, s.Issuer+"/sign-out", url.Values{})
		p.browser.Post(t, p.action, p.form).Is(t, "login_page")
	})
	t.Run("a login that has ended meanwhile", func(t *testing.T) {
		s.AddCustomer(t, "carol", "12")
		p := show(t, s, c, "carol", c.Push(t, nil))
		s.SQL(t, "UPDATE logins SET expires_at = now() - interval '1 second' WHERE customer_id = (SELECT customer_id FROM accounts WHERE id = '12' ORDER BY customer_id DESC LIMIT 1)")
		p.browser.Post(t, p.action, p.form).Is(t, "login_page")
	})
	t.Run("a consent that was revoked meanwhile", func(t *testing.T) {
		consent := c.Consent(t)
		p := show(t, s, c, authztest.Username, c.Push(t, map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`}))
		s.SQL(t, "UPDATE consents SET status = 'Revoked', status_changed_at = now() WHERE id = $1", consent)
		p.browser.Post(t, p.action, p.form).Returns(t, s, fapi.InvalidRequest, "state-1")
	})
}

// PSD2: with RequireSCA, access to accounts is granted only by a login with two factors.
func TestDecision_NeedsStrongAuthentication(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{RequireSCA: true})
	c := s.Client("tpp-mtls")
	consent := c.Consent(t)
	uri := c.Push(t, map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`})
	b := s.Browser(t)
	b.Login(t, b.Authorize(t, c.ID, uri)).Is(t, "enrol_page")
	b.Post(t, s.Issuer+"/authorize/decision", url.Values{"client_id": {c.ID}, "request_uri": {uri}, "decision": {"approve"}, "account": {"12"}}).Is(t, "enrol_page")
	if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE status <> 'pending'"); n != 0 {
		t.Error("it was decided")
	}
	quiet := c.Push(t, map[string]string{"prompt": "none", "claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`})
	b.Authorize(t, c.ID, quiet).Returns(t, s, fapi.LoginRequired, "state-1")
}

// A second factor that the policy does not take for payments does not approve one, however strong its login is.
func TestDecision_PolicyOfPayments(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{RequireSCA: true, LowValue: fapi.AmountLimits{"EUR": "30"}, Authn: func(c *authn.Config) {
		c.Policy = authn.Policy{authn.ApprovePayment: {ACR: authn.SCA, Without: []string{storage.TOTP, storage.RecoveryCodes}}}
	}})
	c := rich(t, s, "shop", nil)
	push := func(amount, prompt string) string {
		asked := map[string]string{"authorization_details": strings.Replace("["+paymentDetail+"]", "123.50", amount, 1), "acr_values": authn.SCA}
		if prompt != "" {
			asked["prompt"] = prompt
		}
		return c.Push(t, asked)
	}
	b, dear := s.Browser(t), push("30.01", "")
	page := enrolled(t, b, b.Login(t, b.Authorize(t, c.ID, dear)))
	says(t, page.Is(t, "second_factor_page"), `id="none"`)
	b.Authorize(t, c.ID, push("29.99", "")).Is(t, "consent_page") // asked for by the client, not by the policy
	b.Authorize(t, c.ID, push("30.01", "none")).Returns(t, s, fapi.LoginRequired, "state-1")
	b.Post(t, s.Issuer+"/authorize/decision", url.Values{"client_id": {c.ID}, "request_uri": {dear}, "decision": {"approve"}}).Is(t, "second_factor_page")
	if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE status = 'approved'"); n != 0 {
		t.Error("it was decided")
	}
	s.SQL(t, "UPDATE logins SET factor_kind = 'email'")
	b.Authorize(t, c.ID, dear).Is(t, "consent_page")
}

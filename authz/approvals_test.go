package authz_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// openApprovals opens the list in a new browser, as a customer.
func openApprovals(t *testing.T, s *authztest.Server, username string) (*authztest.Browser, *authztest.Page) {
	t.Helper()
	b := s.Browser(t)
	return b, b.LoginAs(t, b.Open(t, "/approvals"), username).Is(t, "approvals_page")
}

var decideLink = regexp.MustCompile(`<a class="button" id="decide_\d+" href="([^"]*)"`)

// decideLinks are where the requests on a list are decided.
func decideLinks(p *authztest.Page) (links []string) {
	for _, m := range decideLink.FindAllSubmatch(p.Body, -1) {
		links = append(links, html.UnescapeString(string(m[1])))
	}
	return links
}

func says(t *testing.T, p *authztest.Page, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(string(p.Body), text) {
			t.Errorf("%s lacks %q:\n%s", p.ID(), text, p.Body)
		}
	}
}

func saysNot(t *testing.T, p *authztest.Page, unwanted ...string) {
	t.Helper()
	for _, text := range unwanted {
		if strings.Contains(string(p.Body), text) {
			t.Errorf("%s has %q:\n%s", p.ID(), text, p.Body)
		}
	}
}

func stateOf(t *testing.T, s *authztest.Server, b backchannelRequest) string {
	t.Helper()
	for _, status := range []string{"pending", "approved", "denied", "expired"} {
		if s.Count(t, `SELECT count(*) FROM authorizations WHERE id = $1 AND status = $2`, [16]byte(authorizationOf(t, s, b)), status) == 1 {
			return status
		}
	}
	return ""
}

// From the list to the decision and back.
func TestApprovals_List(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"client_name": "Kitchen speaker", "authorization_details_types": []string{"payment_initiation"}})
	browser, page := openApprovals(t, s, authztest.Username)
	says(t, page, "Nothing waits for you.", `id="consents_link" href="/consents"`, `rel="manifest"`)
	if links := decideLinks(page); links != nil {
		t.Errorf("%v", links)
	}

	payment := beginBackchannel(t, c, url.Values{"scope": {"openid"}, "binding_message": {"Order 0816"}, "authorization_details": {`[{"type":"payment_initiation",
		"instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"Merchant A","creditorAccount":{"iban":"DE02100100109307118603"}}]`}})
	other := beginBackchannel(t, c, url.Values{"binding_message": {"W4SCT"}, "requested_expiry": {"30"}})
	page = browser.Open(t, "/approvals").Is(t, "approvals_page")
	says(t, page, "2 requests wait for you.", "Kitchen speaker", "Order 0816", "W4SCT", "123.50 EUR", "Merchant A", "See your accounts", "4 minutes left to decide", "Less than a minute left to decide")
	links := decideLinks(page)
	if len(links) != 2 || !strings.HasPrefix(links[0], "/authorize?client_id=speaker&") {
		t.Fatalf("links %v", links)
	}
	consent := browser.Open(t, links[1]).Is(t, "consent_page") // the sooner one is first
	says(t, consent, "Order 0816", "123.50 EUR", "4 minutes left to decide", `id="report_button"`, `href="/approvals"`)
	saysNot(t, consent, "Not you?", `name="number"`)
	done := browser.Decide(t, consent, "approve", "12").Is(t, "done_page")
	says(t, done, "You have allowed it", `id="continue_link" href="/approvals"`)
	browser.Decide(t, browser.Open(t, links[0]), "deny", "12").Is(t, "done_page")
	if stateOf(t, s, payment) != "approved" || stateOf(t, s, other) != "denied" {
		t.Errorf("%s, %s", stateOf(t, s, payment), stateOf(t, s, other))
	}
	says(t, browser.Open(t, "/approvals"), "Nothing waits for you.")
	says(t, browser.Open(t, "/consents").Is(t, "consents_page"), `id="approvals_link" href="/approvals"`)
}

// Whoever logs in on the way to the list comes to the list: to no other place, whatever they were sent with.
func TestApprovals_LoginLeadsBack(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, to := range []string{"/consents", "//evil.example", "https://evil.example", "approvals/../consents", "", "Approvals"} {
		page := s.Browser(t).Open(t, "/login?"+url.Values{"next": {to}}.Encode())
		if page.Status != http.StatusBadRequest || page.ID() != "error_page" {
			t.Errorf("next=%q: %d %s", to, page.Status, page.ID())
		}
	}
	for _, query := range []string{"next=%2Fapprovals&next=%2Fapprovals", "next=%2Fapprovals&client_id=a&request_uri=b"} {
		if page := s.Browser(t).Open(t, "/login?"+query); page.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, page.Status, page.ID())
		}
	}
	b := s.Browser(t)
	page := b.Open(t, "/approvals").Is(t, "login_page")
	if page.URL.RawQuery != "next=%2Fapprovals" {
		t.Errorf("at %v", page.URL)
	}
	page = b.Submit(t, page, url.Values{"username": {authztest.Username}, "password": {"wrong"}}).Is(t, "login_page")
	page = b.Login(t, page).Is(t, "approvals_page")
	if page.URL.Path != "/approvals" {
		t.Errorf("at %v", page.URL)
	}
	sameLogin := b.Open(t, "/login?next=%2Fapprovals").Is(t, "approvals_page")
	says(t, sameLogin, "Alice Doe")
}

// Number matching: who approves has seen the number that the client shows, and nobody can leave it out.
func TestApprovals_NumberMatching(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"backchannel_number_matching": true})
	plain := addBackchannel(t, s, "plain", fapi.PrivateKeyJWT, fapi.Poll, nil)
	foreign := func(name string, from *authztest.Client) func(*testing.T, *authztest.Browser, url.Values, string) {
		return func(t *testing.T, browser *authztest.Browser, form url.Values, _ string) {
			other, _ := openBackchannel(t, s, browser, from, beginBackchannel(t, from, nil)).Form(t)
			form[name] = other[name]
			form.Del("number")
		}
	}
	for _, k := range []struct {
		name   string
		change func(t *testing.T, browser *authztest.Browser, form url.Values, right string)
		page   string
		http   int
		want   string // status
		says   string
	}{
		{"the right number", func(_ *testing.T, _ *authztest.Browser, f url.Values, right string) { f.Set("number", right) }, "done_page", 200, "approved", "You have allowed it"},
		{"another of the numbers", func(_ *testing.T, _ *authztest.Browser, f url.Values, right string) {
			f.Set("number", wrongOf(f["choices"], right))
		}, "done_page", 200, "denied", "You picked another number"},
		{"a number that was not offered", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) { f.Set("number", "7") }, "done_page", 200, "denied", "You picked another number"},
		{"the right number and more", func(_ *testing.T, _ *authztest.Browser, f url.Values, right string) { f.Set("number", right+" ") }, "done_page", 200, "denied", ""},
		{"no number", func(*testing.T, *authztest.Browser, url.Values, string) {}, "consent_page", 422, "pending", "Please pick the number"},
		{"an empty number", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) { f.Set("number", "") }, "consent_page", 422, "pending", "Please pick the number"},
		{"two numbers", func(_ *testing.T, _ *authztest.Browser, f url.Values, right string) {
			f["number"] = []string{right, "10"}
		}, "error_page", 400, "pending", ""},
		{"no proof of the number", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) { f.Del("matching") }, "consent_page", 200, "pending", ""},
		{"an empty proof", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) { f.Set("matching", "") }, "consent_page", 200, "pending", ""},
		{"the proof moved into another field", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) {
			f.Set("accounts", f.Get("accounts")+f.Get("matching"))
			f.Del("matching")
		}, "consent_page", 200, "pending", ""},
		{"another request's proof of its number", foreign("matching", c), "consent_page", 200, "pending", ""},
		{"another request's proof of the page", foreign("shown", c), "consent_page", 200, "pending", ""},
		{"the proof of a page without numbers", func(t *testing.T, b *authztest.Browser, f url.Values, right string) {
			foreign("shown", plain)(t, b, f, right)
			f.Del("matching")
		}, "consent_page", 200, "pending", ""},
		{"another login's proofs", func(t *testing.T, _ *authztest.Browser, f url.Values, right string) {
			again := s.Browser(t)
			page := again.Login(t, again.Open(t, "/authorize?"+url.Values{"client_id": f["client_id"], "request_uri": f["request_uri"]}.Encode()))
			other, _ := page.Form(t)
			f["matching"], f["shown"] = other["matching"], other["shown"]
			f.Set("number", right)
		}, "consent_page", 200, "pending", ""},
		{"a refusal needs no number", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) { f.Set("decision", "deny") }, "done_page", 200, "denied", "Nothing was allowed"},
		{"nor does a report", func(_ *testing.T, _ *authztest.Browser, f url.Values, _ string) { f.Set("decision", "report") }, "done_page", 200, "denied", "cannot ask you again"},
	} {
		t.Run(k.name, func(t *testing.T) {
			s.SQL(t, "DELETE FROM muted_clients")
			s.SQL(t, "UPDATE authorizations SET status = 'expired' WHERE status = 'pending'")
			b := beginBackchannel(t, c, nil)
			right, _ := b.answer["match_number"].(string)
			browser := s.Browser(t)
			page := openBackchannel(t, s, browser, c, b).Is(t, "consent_page")
			form, action := page.Form(t)
			choices := numbersOn(page)
			if len(choices) != 3 || !slices.Contains(choices, right) || !slices.IsSorted(choices) {
				t.Fatalf("choices %v, the client shows %q", choices, right)
			}
			if again := browser.Open(t, page.URL.RequestURI()); !slices.Equal(numbersOn(again), choices) {
				t.Errorf("shown again: %v, before %v", numbersOn(again), choices)
			}
			if strings.Contains(form.Encode(), "="+right+"&") {
				t.Errorf("the form tells the number: %v", form)
			}
			form.Set("decision", "approve")
			form.Set("account", "12")
			form["choices"] = choices
			k.change(t, browser, form, right)
			form.Del("choices")
			after := browser.Post(t, action.String(), form)
			if after.ID() != k.page || after.Status != k.http || !strings.Contains(string(after.Body), k.says) {
				t.Errorf("%d %s\n%s", after.Status, after.ID(), after.Body)
			}
			if got := stateOf(t, s, b); got != k.want {
				t.Errorf("the request is %s", got)
			}
		})
	}
}

var numberInput = regexp.MustCompile(`name="number" value="(\d\d)" type="radio">`)

func numbersOn(p *authztest.Page) (all []string) {
	for _, m := range numberInput.FindAllSubmatch(p.Body, -1) {
		all = append(all, string(m[1]))
	}
	return all
}

func wrongOf(choices []string, right string) string {
	return choices[slices.IndexFunc(choices, func(n string) bool { return n != right })]
}

// The place of the right number tells nothing: over many requests it is each of the three.
func TestApprovals_NumbersPlaceTellsNothing(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	places := [3]int{}
	seen := map[string]bool{}
	for range 300 {
		all := s.Choices("42")
		places[slices.Index(all, "42")]++
		seen[strings.Join(all, " ")] = true
	}
	if min(places[0], places[1], places[2]) < 30 || len(seen) < 200 {
		t.Errorf("places %v, %d different choices", places, len(seen))
	}
}

// "I did not ask for this": nothing is allowed, and the client is not heard until the customer allows it again.
func TestApprovals_Report(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "21")
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Ping, map[string]any{"client_name": "Kitchen speaker", "backchannel_client_notification_endpoint": "https://speaker.example/ping"})
	first, second := beginBackchannel(t, c, nil), beginBackchannel(t, c, nil)
	browser, page := openApprovals(t, s, authztest.Username)
	links := decideLinks(page)
	done := browser.Decide(t, browser.Open(t, links[0]), "report").Is(t, "done_page")
	says(t, done, "Thank you, nothing was allowed", "Kitchen speaker cannot ask you again")
	pollBackchannel(t, c, first).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
	if n := s.Count(t, "SELECT count(*) FROM notifications WHERE kind = 'ciba' AND id = $1 AND due_at <= now()", [16]byte(authorizationOf(t, s, first))); n > 1 {
		t.Errorf("%d notifications", n)
	}
	c.Post(t, "/bc-authorize", backchannelForm(c, nil)).Refused(t, http.StatusForbidden, fapi.AccessDenied)
	if answer := c.Post(t, "/bc-authorize", backchannelForm(c, url.Values{"login_hint": {"bob"}})); answer.Status != http.StatusOK {
		t.Errorf("another customer cannot be asked: %d %s", answer.Status, answer.Body)
	}

	page = browser.Open(t, "/approvals")
	says(t, page, "You have blocked <bdi>Kitchen speaker</bdi> until", "Nothing waits for you.")
	bob, list := openApprovals(t, s, "bob")
	saysNot(t, list, "blocked")
	bob.Post(t, s.Issuer+"/approvals/allow", url.Values{"client_id": {"speaker"}}).Is(t, "approvals_page")
	says(t, browser.Open(t, "/approvals"), "You have blocked")

	page = browser.Post(t, s.Issuer+"/approvals/allow", url.Values{"client_id": {"speaker"}}).Is(t, "approvals_page")
	says(t, page, "It can ask you again.", "1 request waits for you.") // what it began before
	saysNot(t, page, "You have blocked")
	beginBackchannel(t, c, nil)
	if stateOf(t, s, second) != "pending" {
		t.Error("the other request was decided too")
	}
}

// Who may not decide does not, and the request stays as it was.
func TestApprovals_Attacks(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "21")
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	sameOrigin := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	for _, k := range []struct {
		name string
		do   func(t *testing.T, b backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page
		page string
		http int
		want string
	}{
		{"another customer opens the link", func(t *testing.T, b backchannelRequest, _ *authztest.Browser, _ url.Values, _ string) *authztest.Page {
			browser := s.Browser(t)
			return browser.LoginAs(t, browser.Open(t, s.ApprovalURL(c.ID, authorizationOf(t, s, b))), "bob")
		}, "error_page", 400, "pending"},
		{"another customer posts what the page of the first would", func(t *testing.T, _ backchannelRequest, _ *authztest.Browser, form url.Values, action string) *authztest.Page {
			bob, _ := openApprovals(t, s, "bob")
			return bob.PostWith(t, action, form, sameOrigin)
		}, "error_page", 400, "pending"},
		{"another customer reports it", func(t *testing.T, _ backchannelRequest, _ *authztest.Browser, form url.Values, action string) *authztest.Page {
			bob, _ := openApprovals(t, s, "bob")
			form.Set("decision", "report")
			return bob.PostWith(t, action, form, sameOrigin)
		}, "error_page", 400, "pending"},
		{"nobody is logged in", func(t *testing.T, _ backchannelRequest, _ *authztest.Browser, form url.Values, action string) *authztest.Page {
			return s.Browser(t).PostWith(t, action, form, sameOrigin)
		}, "login_page", 200, "pending"},
		{"another site posts", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			return victim.PostWith(t, action, form, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}})
		}, "error_page", 403, "pending"},
		{"a sister host posts", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			return victim.PostWith(t, action, form, http.Header{"Sec-Fetch-Site": {"same-site"}})
		}, "error_page", 403, "pending"},
		{"a GET decides nothing", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			return victim.Open(t, strings.TrimPrefix(action, s.Issuer)+"?"+form.Encode())
		}, "", 405, "pending"},
		{"no proof of the page", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			form.Del("shown")
			return victim.PostWith(t, action, form, sameOrigin)
		}, "consent_page", 200, "pending"},
		{"another client's name", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			form.Set("client_id", "tpp")
			return victim.PostWith(t, action, form, sameOrigin)
		}, "error_page", 400, "pending"},
		{"expired", func(t *testing.T, b backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			s.SQL(t, "UPDATE authorizations SET expires_at = now() WHERE id = $1", [16]byte(authorizationOf(t, s, b)))
			return victim.PostWith(t, action, form, sameOrigin)
		}, "error_page", 400, "pending"},
		{"decided twice", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			form.Set("decision", "deny")
			victim.PostWith(t, action, form, sameOrigin).Is(t, "done_page")
			form.Set("decision", "approve")
			return victim.PostWith(t, action, form, sameOrigin)
		}, "error_page", 400, "denied"},
		{"reported after it was approved", func(t *testing.T, _ backchannelRequest, victim *authztest.Browser, form url.Values, action string) *authztest.Page {
			victim.PostWith(t, action, form, sameOrigin).Is(t, "done_page")
			form.Set("decision", "report")
			return victim.PostWith(t, action, form, sameOrigin)
		}, "error_page", 400, "approved"},
	} {
		t.Run(k.name, func(t *testing.T) {
			s.SQL(t, "UPDATE authorizations SET status = 'expired' WHERE status = 'pending'")
			b := beginBackchannel(t, c, nil)
			victim := s.Browser(t)
			form, action := openBackchannel(t, s, victim, c, b).Is(t, "consent_page").Form(t)
			form.Set("decision", "approve")
			form.Set("account", "12")
			page := k.do(t, b, victim, form, action.String())
			if page.ID() != k.page || page.Status != k.http {
				t.Errorf("%d %s\n%s", page.Status, page.ID(), page.Body)
			}
			if got := stateOf(t, s, b); got != k.want {
				t.Errorf("the request is %s", got)
			}
			if n := s.Count(t, "SELECT count(*) FROM muted_clients"); n != 0 {
				t.Error("somebody is muted")
			}
		})
	}
	page := s.Browser(t)
	for _, path := range []string{"/approvals/allow", "/approvals/user-code", "/approvals/silence", "/approvals/subscriptions"} {
		answer := page.PostWith(t, s.Issuer+path, url.Values{}, http.Header{"Sec-Fetch-Site": {"cross-site"}})
		if answer.Status != http.StatusForbidden {
			t.Errorf("another site posts to %s: %d", path, answer.Status)
		}
	}
}

// What a client wrote is text, wherever it stands.
func TestApprovals_ShowsMarkUpAsText(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	const evil = `"><script>alert(1)</script><img src=x>`
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"client_name": evil})
	beginBackchannel(t, c, url.Values{"binding_message": {evil}})
	browser, page := openApprovals(t, s, authztest.Username)
	consent := browser.Open(t, decideLinks(page)[0]).Is(t, "consent_page")
	done := browser.Decide(t, consent, "report").Is(t, "done_page")
	for _, p := range []*authztest.Page{page, consent, done, browser.Open(t, "/approvals")} {
		saysNot(t, p, "<script>", "<img src=x")
		says(t, p, "&lt;script&gt;alert(1)")
	}
	if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "; script-src 'self';") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	if policy := consent.Header.Get("Content-Security-Policy"); strings.Contains(policy, "script-src") {
		t.Errorf("the consent page may run scripts: %q", policy)
	}
}

// CIBA Core §7.1: the user code is the customer's to set, change and remove.
func TestApprovals_UserCode(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"backchannel_user_code_parameter": true})
	browser, page := openApprovals(t, s, authztest.Username)
	says(t, page, "You have none.")
	set := func(form url.Values) *authztest.Page {
		t.Helper()
		return browser.Post(t, s.Issuer+"/approvals/user-code", form).Is(t, "approvals_page")
	}
	ask := func(code string) *authztest.Answer {
		return c.Post(t, "/bc-authorize", backchannelForm(c, url.Values{"user_code": {code}}))
	}
	for _, bad := range []string{"", "123", "1234567890123", "12 34", "ä234", "12-34", "1234\n"} {
		if page := set(url.Values{"do": {"save"}, "user_code": {bad}}); page.Status != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d", bad, page.Status)
		} else {
			says(t, page, "A code has 4 to 12 letters")
		}
	}
	says(t, set(url.Values{"do": {"save"}, "user_code": {"0049"}}), "Your code is set", "You have a code.", `id="remove_code_button"`)
	if answer := ask("0049"); answer.Status != http.StatusOK {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	says(t, set(url.Values{"do": {"save"}, "user_code": {"aB12cD34"}}), "Your code is set")
	ask("0049").Refused(t, http.StatusBadRequest, fapi.InvalidUserCode)
	says(t, set(url.Values{"do": {"remove"}, "user_code": {"ignored"}}), "Your code is removed", "You have none.")
	if n := s.Count(t, "SELECT count(*) FROM customers WHERE user_code_hash IS NOT NULL"); n != 0 {
		t.Error("a code is still there")
	}
	s.Browser(t).Post(t, s.Issuer+"/approvals/user-code", url.Values{"do": {"save"}, "user_code": {"0049"}}).Is(t, "login_page")

	// Elsewhere the customer gets a second factor: from then on the login at hand is not enough.
	elsewhere, tpp := s.Browser(t), s.Client("tpp")
	page = elsewhere.Login(t, elsewhere.Authorize(t, tpp.ID, tpp.Push(t, map[string]string{"acr_values": authn.SCA}))).Is(t, "enrol_page")
	secret, now := secretOf(t, page), time.Now()
	elsewhere.Continue(t, elsewhere.Submit(t, page, url.Values{"code": {codeOf(t, secret, now)}}).Is(t, "recovery_codes_page")).Is(t, "consent_page")
	page = browser.Post(t, s.Issuer+"/approvals/user-code", url.Values{"do": {"save"}, "user_code": {"0049"}}).Is(t, "second_factor_page")
	if n := s.Count(t, "SELECT count(*) FROM customers WHERE user_code_hash IS NOT NULL"); n != 0 {
		t.Error("a code was set without the second factor")
	}
	browser.Submit(t, page, url.Values{"code": {codeOf(t, secret, now.Add(30*time.Second))}}).Is(t, "approvals_page")
	says(t, set(url.Values{"do": {"save"}, "user_code": {"0049"}}), "Your code is set")
}

// p256Point is a key of a browser: an uncompressed point, base64url.
func p256Point(t *testing.T) string {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
}

// The browsers that ring: what is no subscription is refused, and nobody rings for another.
func TestApprovals_Subscriptions(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	browser, _ := openApprovals(t, s, authztest.Username)
	const auth = "AAECAwQFBgcICQoLDA0ODw"
	valid := map[string]any{"endpoint": "https://push.example/send/1", "expirationTime": nil, "keys": map[string]any{"p256dh": p256Point(t), "auth": auth}}
	with := func(name string, value any) any {
		copied := map[string]any{}
		for k, v := range valid {
			copied[k] = v
		}
		copied[name] = value
		return copied
	}
	keys := func(p256dh, auth string) any {
		return with("keys", map[string]any{"p256dh": p256dh, "auth": auth})
	}
	for _, k := range []struct {
		name string
		body any
		want int
	}{
		{"plain http", with("endpoint", "http://push.example/1"), 400},
		{"no endpoint", with("endpoint", ""), 400},
		{"no host", with("endpoint", "https:///1"), 400},
		{"a path of ours", with("endpoint", "/approvals"), 400},
		{"a script", with("endpoint", "javascript:alert(1)"), 400},
		{"a password in it", with("endpoint", "https://user:secret@push.example/1"), 400},
		{"a fragment", with("endpoint", "https://push.example/1#x"), 400},
		{"a long endpoint", with("endpoint", "https://push.example/"+strings.Repeat("x", 1024)), 400},
		{"no keys", with("keys", map[string]any{}), 400},
		{"a point that is none", keys("BAAA", auth), 400},
		{"a point beside the curve", keys("B"+strings.Repeat("A", 86), auth), 400},
		{"a short secret", keys(p256Point(t), "AAEC"), 400},
		{"a list", []any{valid}, 400},
		{"too large", with("more", strings.Repeat("x", 5000)), 413},
		{"as a browser makes it", valid, 204},
	} {
		if answer := browser.JSON(t, http.MethodPost, "/approvals/subscriptions", k.body); answer.Status != k.want {
			t.Errorf("%s: %d %s", k.name, answer.Status, answer.Body)
		}
	}
	kept := func() int { return s.Count(t, "SELECT count(*) FROM push_subscriptions") }
	if kept() != 1 {
		t.Fatalf("%d subscriptions", kept())
	}
	says(t, browser.Open(t, "/approvals"), "1 device of yours rings.")
	if answer := s.Browser(t).JSON(t, http.MethodPost, "/approvals/subscriptions", valid); answer.Status != http.StatusUnauthorized {
		t.Errorf("nobody logged in: %d %s", answer.Status, answer.Body)
	}
	if answer := browser.Post(t, s.Issuer+"/approvals/subscriptions", url.Values{"endpoint": {"https://push.example/2"}}); answer.Status != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", answer.Status)
	}
	s.AddCustomer(t, "bob", "21")
	bob, _ := openApprovals(t, s, "bob")
	if answer := bob.JSON(t, http.MethodDelete, "/approvals/subscriptions", valid); answer.Status != http.StatusNoContent || kept() != 1 {
		t.Errorf("another customer removes it: %d, %d left", answer.Status, kept())
	}
	bob.Post(t, s.Issuer+"/approvals/silence", url.Values{}).Is(t, "approvals_page")
	if kept() != 1 {
		t.Error("another customer silences it")
	}
	if answer := browser.JSON(t, http.MethodDelete, "/approvals/subscriptions", map[string]any{"endpoint": "https://push.example/send/1"}); answer.Status != http.StatusNoContent || kept() != 0 {
		t.Errorf("removed: %d, %d left", answer.Status, kept())
	}
	browser.JSON(t, http.MethodPost, "/approvals/subscriptions", valid)
	says(t, browser.Post(t, s.Issuer+"/approvals/silence", url.Values{}).Is(t, "approvals_page"), "No device rings any more.")
	if kept() != 0 {
		t.Error("a device still rings")
	}
}

// The worker may act for the page above it, and nothing of a customer is in it.
func TestApprovals_Worker(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	page := s.Browser(t).Open(t, "/approvals/worker.js")
	if page.Status != http.StatusOK || page.Header.Get("Service-Worker-Allowed") != "/approvals" || page.Header.Get("Content-Type") != "text/javascript; charset=utf-8" ||
		!bytes.HasPrefix(page.Body, []byte(`const texts = {`)) {
		t.Errorf("%d %v\n%s", page.Status, page.Header, page.Body)
	}
	_, list := openApprovals(t, s, authztest.Username)
	manifest := regexp.MustCompile(`<link rel="manifest" href="([^"]*)"`).FindSubmatch(list.Body)
	if manifest == nil {
		t.Fatal("no manifest")
	}
	var m struct {
		StartURL string `json:"start_url"`
		Icons    []struct{ Src string }
	}
	if err := json.Unmarshal(s.Browser(t).Open(t, string(manifest[1])).Body, &m); err != nil || m.StartURL != "/approvals" || len(m.Icons) == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, icon := range m.Icons {
		if p := s.Browser(t).Open(t, icon.Src); p.Status != http.StatusOK || !bytes.HasPrefix(p.Body, []byte("\x89PNG")) {
			t.Errorf("%s: %d", icon.Src, p.Status)
		}
	}
}

package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// RFC 8628 §6.1: a person types as people do.
func TestDevicePage_ReadsCodesGenerously(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	b := s.Browser(t)
	for _, written := range []func(string) string{
		func(code string) string { return code },
		strings.ToLower,
		func(code string) string { return strings.ReplaceAll(code, "-", "") },
		func(code string) string { return "  " + strings.ReplaceAll(code, "-", " – ") + " " },
	} {
		d := beginDevice(t, c, nil)
		if page := enterDevice(t, s, b, written(d.userCode)); page.ID() != "consent_page" || !strings.Contains(string(page.Body), d.userCode) {
			t.Errorf("%q leads to %q", written(d.userCode), page.ID())
		}
	}
	for _, wrong := range []string{"", "BCDF", "AAAA-AAAA", "BCDF-GHJKL", `"><script>alert(1)</script>`} {
		page := enterDevice(t, s, b, wrong).Is(t, "device_page")
		if page.Status != http.StatusUnprocessableEntity || strings.Contains(string(page.Body), "<script>") {
			t.Errorf("%q: %d %s", wrong, page.Status, page.Body)
		}
	}
	if n := s.Count(t, "SELECT failures FROM user_code_failures WHERE source = ''"); n != 0 {
		t.Errorf("%d slips were counted as guesses", n)
	}
}

// RFC 8628 §3.3.1, §5.4: a link with the code in it asks before it goes on.
func TestDevicePage_CompleteLinkAsks(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	b, d := s.Browser(t), beginDevice(t, c, nil)
	page := b.Open(t, strings.TrimPrefix(d.complete, s.Issuer)).Is(t, "device_page")
	if !strings.Contains(string(page.Body), `value="`+d.userCode+`"`) || !strings.Contains(string(page.Body), "Does your device show exactly this code?") {
		t.Errorf("%s", page.Body)
	}
	if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE opened_at IS NOT NULL"); n != 0 {
		t.Error("to look at the link has opened the request")
	}
	b.Login(t, b.Submit(t, page, url.Values{"user_code": {d.userCode}})).Is(t, "consent_page")
	for _, strange := range []string{"/device?user_code=%22%3E%3Cscript%3E", "/device?user_code=BCDF", "/device?user_code=%ff", "/device?%zz"} {
		if page := b.Open(t, strange).Is(t, "device_page"); page.Status != http.StatusOK || strings.Contains(string(page.Body), "<script>") {
			t.Errorf("%s: %d", strange, page.Status)
		}
	}
}

// RFC 8628 §5.4: the consent page says who asks for what, and warns of codes that others sent. What was agreed to before is
// asked again, for somebody else's device looks the same.
func TestDevicePage_ConsentWarns(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, map[string]any{"client_name": "Living room"})
	b := s.Browser(t)
	for range 2 {
		d := beginDevice(t, c, url.Values{"scope": {"openid"}})
		page := enterDevice(t, s, b, d.userCode).Is(t, "consent_page")
		for _, want := range []string{"Living room", `<strong id="user_code" class="user-code" translate="no">` + d.userCode + "<", "If somebody sent you the code"} {
			if !strings.Contains(string(page.Body), want) {
				t.Errorf("the page lacks %q:\n%s", want, page.Body)
			}
		}
		b.Submit(t, page, url.Values{"decision": {"approve"}}).Is(t, "done_page")
		if answer := pollDevice(t, c, d); answer.Status != http.StatusOK || answer.JSON["refresh_token"] != nil {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	}

	// RFC 9396: what is asked in authorization_details is shown, and granted with the accounts that were picked.
	d := beginDevice(t, c, url.Values{"scope": {"accounts"}, "authorization_details": {`[{"type":"account_information","actions":["read_balances"]}]`}})
	page := enterDevice(t, s, b, d.userCode).Is(t, "consent_page")
	if !strings.Contains(string(page.Body), `id="accounts"`) {
		t.Errorf("%s", page.Body)
	}
	b.Decide(t, page, "approve", "13").Is(t, "done_page")
	answer := pollDevice(t, c, d)
	if details, _ := answer.JSON["authorization_details"].([]any); len(details) != 1 {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
}

// DEV-03: guesses are limited by address, and a right code does not help who is over the limit.
func TestDevicePage_LimitsGuesses(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	c := addDevice(t, one, "tv", fapi.NoAuth, nil)
	knownTo(t, c, two)
	d := beginDevice(t, c, nil)
	for i := range 10 {
		s := []*authztest.Server{one, two}[i%2]
		page := enterDevice(t, s, s.Browser(t), "BCDF-GHJK").Is(t, "device_page") // another browser each time
		if page.Status != http.StatusUnprocessableEntity {
			t.Fatalf("guess %d: %d", i, page.Status)
		}
	}
	for _, s := range []*authztest.Server{one, two} {
		page := enterDevice(t, s, s.Browser(t), d.userCode).Is(t, "device_page")
		if page.Status != http.StatusTooManyRequests || !strings.Contains(string(page.Body), "Too many codes were wrong") {
			t.Errorf("%d %s", page.Status, page.Body)
		}
	}
	one.SQL(t, "UPDATE user_code_failures SET since = since - interval '10 minutes'")
	enterDevice(t, two, two.Browser(t), d.userCode).Is(t, "consent_page")

	one.SQL(t, "UPDATE user_code_failures SET since = now(), failures = 1000 WHERE source = ''")
	if page := enterDevice(t, two, two.Browser(t), d.userCode); page.Status != http.StatusTooManyRequests {
		t.Errorf("over everybody's limit: %d", page.Status)
	}
}

// Whoever began a request cannot enter the code themselves and send the link that follows to a victim.
func TestDevicePage_LinkIsForOneBrowser(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	d := beginDevice(t, c, nil)
	attacker, victim := s.Browser(t), s.Browser(t)
	link := attacker.Submit(t, attacker.Open(t, "/device"), url.Values{"user_code": {d.userCode}}).Is(t, "login_page").URL
	page := victim.Open(t, link.RequestURI())
	page.Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)
	enterDevice(t, s, victim, beginDevice(t, c, nil).userCode).Is(t, "consent_page") // logged in, and with a cookie of its own
	victim.Open(t, link.RequestURI()).Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)

	// The newest entry of a code is the one that counts.
	attacker.Login(t, attacker.Open(t, link.RequestURI())).Is(t, "consent_page")
	decideDevice(t, s, d, "deny")
	attacker.Open(t, link.RequestURI()).Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)
}

// The page's form is refused from other sites, and with what is no form.
func TestDevicePage_Refuses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	d := beginDevice(t, c, nil)
	b := s.Browser(t)
	form := url.Values{"user_code": {d.userCode}}
	if page := b.PostWith(t, s.Issuer+"/device", form, http.Header{"Sec-Fetch-Site": {"cross-site"}}); page.Status != http.StatusForbidden {
		t.Errorf("another site's form: %d", page.Status)
	}
	b.Post(t, s.Issuer+"/device?user_code="+d.userCode, form).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	b.Post(t, s.Issuer+"/device", url.Values{"user_code": {d.userCode, d.userCode}}).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE opened_at IS NOT NULL"); n != 0 {
		t.Error("a refused form has opened the request")
	}
	pollDevice(t, c, d).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
}

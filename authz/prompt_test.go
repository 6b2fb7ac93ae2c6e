package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// idClaims reads the claims of an ID token, whose signature other tests look at.
func idClaims(t *testing.T, tokens map[string]any) map[string]any {
	t.Helper()
	token, _ := tokens["id_token"].(string)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("ID token %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// What a request may demand of the customer's login and consent (OpenID Connect Core §3.1.2.1).
func TestAuthorize_PromptAndLogin(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "99")
	web, tpp := s.Client("web"), s.Client("tpp-mtls")
	web.Scope = "openid profile" // nothing for which accounts must be picked
	ask := func(b *authztest.Browser, t *testing.T, c *authztest.Client, changes map[string]string) *authztest.Page {
		return b.Authorize(t, c.ID, c.Push(t, changes))
	}
	// agreed is a browser of alice, who is logged in and has agreed, now or in another case.
	agreed := func(t *testing.T, c *authztest.Client) (*authztest.Browser, map[string]any) {
		b := s.Browser(t)
		page := b.Login(t, ask(b, t, c, nil))
		if page.Left == nil {
			page = b.Decide(t, page, "approve")
		}
		return b, c.Exchange(t, page.Left.Query().Get("code"))
	}
	_, tokens := agreed(t, web)
	alice := tokens["id_token"].(string)
	b := s.Browser(t)
	page := b.Decide(t, b.LoginAs(t, ask(b, t, web, nil), "bob"), "approve")
	bob := web.Exchange(t, page.Left.Query().Get("code"))["id_token"].(string)

	const needSCA = `{"id_token":{"acr":{"essential":true,"value":"urn:openbanking:psd2:sca"}}}`
	for _, c := range []struct {
		name    string
		client  *authztest.Client
		login   bool
		changes map[string]string
		page    string    // shown
		code    fapi.Code // or sent back; "code" is a success
	}{
		{"prompt none without a login", web, false, map[string]string{"prompt": "none"}, "", fapi.LoginRequired},
		{"prompt none with login and consent", web, true, map[string]string{"prompt": "none"}, "", "code"},
		{"prompt none for more than was agreed", web, true, map[string]string{"prompt": "none", "scope": "openid profile email"}, "", fapi.ConsentRequired},
		{"prompt none of a FAPI client: every authorization is asked", tpp, true, map[string]string{"prompt": "none"}, "", fapi.ConsentRequired},
		{"prompt none and a login that is too old", web, true, map[string]string{"prompt": "none", "max_age": "0"}, "", fapi.LoginRequired},
		{"prompt none and an acr that the login does not have", web, true, map[string]string{"prompt": "none", "claims": needSCA}, "", fapi.LoginRequired},
		{"prompt none with the hint of another customer", web, true, map[string]string{"prompt": "none", "id_token_hint": bob}, "", fapi.LoginRequired},
		{"prompt none with the hint of this customer", web, true, map[string]string{"prompt": "none", "id_token_hint": alice}, "", "code"},
		{"no prompt: what was agreed is not asked again", web, true, nil, "", "code"},
		{"an unknown prompt is none", web, true, map[string]string{"prompt": "create"}, "", "code"},
		{"no prompt, more than was agreed", web, true, map[string]string{"scope": "openid email"}, "consent_page", ""},
		{"accounts are picked every time", web, true, map[string]string{"scope": "openid accounts"}, "consent_page", ""},
		{"prompt login", web, true, map[string]string{"prompt": "login"}, "login_page", ""},
		{"prompt login and consent", web, true, map[string]string{"prompt": "login consent"}, "login_page", ""},
		{"prompt consent", web, true, map[string]string{"prompt": "consent"}, "consent_page", ""},
		{"prompt select_account is never passed over in silence", web, true, map[string]string{"prompt": "select_account"}, "consent_page", ""},
		{"max_age 0 is prompt login", web, true, map[string]string{"max_age": "0"}, "login_page", ""},
		{"max_age that the login meets", web, true, map[string]string{"max_age": "10000"}, "", "code"},
		{"an essential acr that the login does not have", web, true, map[string]string{"claims": needSCA}, "enrol_page", ""},
		{"RFC 9470 §5: acr_values that the login does not have", web, true, map[string]string{"acr_values": "urn:openbanking:psd2:sca"}, "enrol_page", ""},
		{"acr_values of which the login has one", web, true, map[string]string{"acr_values": "urn:openbanking:psd2:sca urn:openbanking:psd2:ca"}, "", "code"},
		{"OpenID Connect Core §3.1.2.1: acr_values that nobody knows", web, true, map[string]string{"acr_values": "1 2"}, "", "code"},
		{"an essential acr that the login has", web, true, map[string]string{"claims": strings.Replace(needSCA, ":sca", ":ca", 1)}, "", "code"},
		{"the hint of another customer asks for that one's login", web, true, map[string]string{"id_token_hint": bob}, "login_page", ""},
		{"authorization_details are asked every time", web, true, map[string]string{"authorization_details": `[{"type":"account_information"}]`}, "consent_page", ""},
		{"a FAPI client's customer is asked every time", tpp, true, nil, "consent_page", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := s.Browser(t)
			if c.login {
				b, _ = agreed(t, web)
			}
			page := ask(b, t, c.client, c.changes)
			switch {
			case c.page != "":
				page.Is(t, c.page)
			case c.code == "code":
				if page.Left == nil || page.Left.Query().Get("code") == "" {
					t.Errorf("page %q, left for %v", page.ID(), page.Left)
				}
			default:
				page.Returns(t, s, c.code, "state-1")
			}
		})
	}
	t.Run("prompt login makes auth_time newer, a later request keeps it", func(t *testing.T) {
		b, tokens := agreed(t, web)
		before := idClaims(t, tokens)["auth_time"].(float64)
		time.Sleep(1100 * time.Millisecond)
		page := b.Login(t, ask(b, t, web, map[string]string{"prompt": "login"}))
		if after := idClaims(t, web.Exchange(t, page.Left.Query().Get("code")))["auth_time"].(float64); after <= before {
			t.Errorf("auth_time %v, was %v", after, before)
		}
	})
	t.Run("the hint of another customer is not met by logging in as oneself", func(t *testing.T) {
		b := s.Browser(t)
		page := ask(b, t, web, map[string]string{"id_token_hint": bob})
		b.Login(t, page).Is(t, "login_page")
		if page := b.LoginAs(t, page, "bob"); page.Left == nil || page.Left.Query().Get("code") == "" {
			t.Errorf("as the one who was named: page %q", page.ID())
		}
	})
	t.Run("a page is answered only by the login that saw it", func(t *testing.T) {
		b := s.Browser(t)
		page := b.Login(t, ask(b, t, tpp, map[string]string{"scope": "openid"})).Is(t, "consent_page")
		second := ask(b, t, tpp, map[string]string{"prompt": "login"})
		b.LoginAs(t, second, "bob").Is(t, "consent_page")
		if again := b.Submit(t, page, url.Values{"decision": {"approve"}}); again.Left != nil {
			t.Errorf("bob has approved what alice was shown: %v", again.Left)
		}
	})
}

func TestAuthorize_RequestURI(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	tpp := s.Client("tpp-mtls")
	age := func(t *testing.T, column string) {
		s.SQL(t, "UPDATE authorizations SET "+column+" = now() - interval '1 second' WHERE status = 'pending'")
	}
	t.Run("FAPI2 F2-10: client_id and request_uri suffice, and what comes beside does not win", func(t *testing.T) {
		b := s.Browser(t)
		params := url.Values{"client_id": {tpp.ID}, "request_uri": {tpp.Push(t, nil)}, "state": {"outside"}, "redirect_uri": {"https://evil.example"}, "scope": {"email"}}
		page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+params.Encode())), "approve", "12")
		if page.Left.Query().Get("state") != "state-1" || page.Left.Host != "app.example" {
			t.Errorf("sent to %v", page.Left)
		}
		if tokens := tpp.Exchange(t, page.Left.Query().Get("code")); tokens["scope"] != "openid profile accounts" {
			t.Errorf("scope %v", tokens["scope"])
		}
	})
	t.Run("X17: it opens again and again before the decision, in any browser", func(t *testing.T) {
		uri := tpp.Push(t, nil)
		for range 3 {
			s.Browser(t).Authorize(t, tpp.ID, uri).Is(t, "login_page")
		}
		if s.Approve(t, tpp, uri) == "" {
			t.Error("no code")
		}
	})
	for _, decision := range []string{"approve", "deny"} {
		t.Run("RFC 9126 §7.3: after the decision it is spent: "+decision, func(t *testing.T) {
			uri := tpp.Push(t, nil)
			b := s.Browser(t)
			shown := b.Login(t, b.Authorize(t, tpp.ID, uri))
			b.Decide(t, shown, decision, "12")
			b.Authorize(t, tpp.ID, uri).Explains(t, 400, fapi.InvalidRequestURI)
			b.Decide(t, shown, "approve", "12").Explains(t, 400, fapi.InvalidRequestURI)
			b.Decide(t, shown, "deny").Explains(t, 400, fapi.InvalidRequestURI)
		})
	}
	t.Run("after prompt none was refused it is spent", func(t *testing.T) {
		uri := tpp.Push(t, map[string]string{"prompt": "none"})
		s.Browser(t).Authorize(t, tpp.ID, uri).Returns(t, s, fapi.LoginRequired, "state-1")
		s.Browser(t).Authorize(t, tpp.ID, uri).Explains(t, 400, fapi.InvalidRequestURI)
	})
	t.Run("RFC 9126 §2.2: one that was not opened in time has expired", func(t *testing.T) {
		uri := tpp.Push(t, nil)
		age(t, "request_uri_expires_at")
		s.Browser(t).Authorize(t, tpp.ID, uri).Explains(t, 400, fapi.InvalidRequestURI)
	})
	t.Run("one that was opened in time may be decided later", func(t *testing.T) {
		uri := tpp.Push(t, nil)
		b := s.Browser(t)
		page := b.Authorize(t, tpp.ID, uri)
		age(t, "request_uri_expires_at")
		if page := b.Decide(t, b.Login(t, page), "approve", "12"); page.Left == nil {
			t.Errorf("page %q", page.ID())
		}
	})
	t.Run("a journey that took too long has expired", func(t *testing.T) {
		b := s.Browser(t)
		page := b.Login(t, b.Authorize(t, tpp.ID, tpp.Push(t, nil)))
		age(t, "expires_at")
		b.Decide(t, page, "approve", "12").Explains(t, 400, fapi.InvalidRequestURI)
		b.Decide(t, page, "deny").Explains(t, 400, fapi.InvalidRequestURI)
	})
	t.Run("by POST it goes on as by GET, with the login's cookie", func(t *testing.T) {
		b := s.Browser(t)
		b.Login(t, b.Authorize(t, tpp.ID, tpp.Push(t, nil)))
		b.Post(t, s.Issuer+"/authorize", url.Values{"client_id": {tpp.ID}, "request_uri": {tpp.Push(t, nil)}}).Is(t, "consent_page")
	})
}

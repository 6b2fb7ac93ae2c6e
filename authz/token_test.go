package authz_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

func TestToken_RefusesGrants(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	web, spa, api, tpp := s.Client("web"), s.Client("spa"), s.Client("bank-api"), s.Client("tpp")
	bare := s.Client("tpp")
	bare.Certificate = nil
	form := func(pairs ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	cc := "client_credentials"
	t.Run("cases", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			client *authztest.Client
			form   url.Values
			status int
			code   fapi.Code
		}{
			{"no grant_type", web, form(), 400, fapi.InvalidRequest},
			{"an empty grant_type", web, form("grant_type", ""), 400, fapi.InvalidRequest},
			{"an unknown grant_type", web, form("grant_type", "x"), 400, fapi.UnsupportedGrantType},
			{"grant_type in capitals", web, form("grant_type", "CLIENT_CREDENTIALS"), 400, fapi.UnsupportedGrantType},
			{"RFC 9700 §2.4: the password grant", web, form("grant_type", "password", "username", "alice", "password", authztest.Password), 400, fapi.UnsupportedGrantType},
			{"the implicit grant", web, form("grant_type", "implicit"), 400, fapi.UnsupportedGrantType},
			{"a grant that is not ours", web, form("grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer", "assertion", "x"), 400, fapi.UnsupportedGrantType},
			{"token exchange, not registered", web, form("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token", "x"), 400, fapi.UnauthorizedClient},
			{"two grants", web, form("grant_type", "client_credentials refresh_token"), 400, fapi.UnsupportedGrantType},
			{"a grant that the client did not register", api, form("grant_type", "authorization_code", "code", "x"), 400, fapi.UnauthorizedClient},
			{"another grant that the client did not register", api, form("grant_type", "refresh_token", "refresh_token", "x"), 400, fapi.UnauthorizedClient},
			{"RFC 6749 §4.4: client credentials of a public client", spa, form("grant_type", cc), 400, fapi.UnauthorizedClient},

			{"no code", web, form("grant_type", "authorization_code", "redirect_uri", authztest.RedirectURI), 400, fapi.InvalidRequest},
			{"an empty code", web, form("grant_type", "authorization_code", "code", ""), 400, fapi.InvalidRequest},
			{"an unknown code", web, web.ExchangeForm(strings.Repeat("x", 43)), 400, fapi.InvalidGrant},
			{"a code that is too long", web, web.ExchangeForm(strings.Repeat("x", 20000)), 400, fapi.InvalidGrant},
			{"a code with a line break", web, web.ExchangeForm("x\r\ny"), 400, fapi.InvalidGrant},
			{"no refresh_token", web, form("grant_type", "refresh_token"), 400, fapi.InvalidRequest},
			{"an unknown refresh_token", web, form("grant_type", "refresh_token", "refresh_token", "x"), 400, fapi.InvalidGrant},
			{"a refresh_token of our form", web, form("grant_type", "refresh_token", "refresh_token", "csrt_"+strings.Repeat("x", 100)), 400, fapi.InvalidGrant},

			{"RFC 6749 §3.3: a scope that the client does not have", web, form("grant_type", cc, "scope", "payments"), 400, fapi.InvalidScope},
			{"a good scope and another", web, form("grant_type", cc, "scope", "accounts payments"), 400, fapi.InvalidScope},
			{"a scope with a quotation mark", web, form("grant_type", cc, "scope", `accounts "`), 400, fapi.InvalidScope},
			{"RFC 8707 §2.2: a resource that the client does not have", web, form("grant_type", cc, "resource", "https://nowhere.example"), 400, fapi.InvalidTarget},
			{"a resource with a fragment", web, form("grant_type", cc, "resource", authztest.Resource+"#x"), 400, fapi.InvalidTarget},
			{"a resource with a slash more", web, form("grant_type", cc, "resource", authztest.Resource+"/"), 400, fapi.InvalidTarget},
			{"a good resource and another", web, form("grant_type", cc, "resource", authztest.Resource, "resource", "https://nowhere.example"), 400, fapi.InvalidTarget},
			{"F2-01: no certificate to bind to", bare, form("grant_type", cc), 400, fapi.InvalidRequest},
			{"DPOP-07: no proof to bind to", func() *authztest.Client { c := s.Client("tpp-dpop"); c.DPoPKey = nil; return c }(), form("grant_type", cc), 400, fapi.InvalidDPoPProof},
		} {
			t.Run(c.name, func(t *testing.T) {
				c.client.Post(t, "/token", c.form).Refused(t, c.status, c.code)
			})
		}
	})
	for _, c := range []struct {
		name  string
		form  url.Values
		scope string
	}{
		{"RFC 6749 §3.3: no scope means all that need no person", form("grant_type", cc), "accounts"},
		{"scopes that need a person are left out", form("grant_type", cc, "scope", "openid accounts offline_access"), "accounts"},
		{"RFC 6749 §3.2: an empty resource is none", form("grant_type", cc, "scope", "accounts", "resource", ""), "accounts"},
		{"a resource twice is one", form("grant_type", cc, "scope", "accounts", "resource", authztest.Resource, "resource", authztest.Resource), "accounts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := tpp.Token(t, c.form)
			if tokens["scope"] != c.scope || tokens["refresh_token"] != nil || tokens["id_token"] != nil || tokens["token_type"] != "Bearer" {
				t.Errorf("F2-14: %v", tokens)
			}
			if said := api.Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}).JSON; len(said["aud"].([]any)) != 1 || said["sub"] != "tpp" {
				t.Errorf("AT-03: %v", said)
			}
		})
	}
}

// codeCase is a redemption that must fail. After it the code is spent or not, as told; nothing is ever issued.
type codeCase struct {
	name   string
	client string            // that owns the code
	params map[string]string // of its authorization request
	as     string            // the client that redeems; "" is the owner
	change url.Values        // replaces parameters
	bare   bool              // without certificate
	status int
	code   fapi.Code
	good   bool // the code stays good
}

func TestToken_RefusesCodes(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	other := rand.Text() + rand.Text()
	plain := base64.RawURLEncoding.EncodeToString(func() []byte { sum := sha256.Sum256([]byte(s.Client("tpp-mtls").Verifier)); return sum[:] }())
	withoutPKCE := map[string]string{"code_challenge": "", "code_challenge_method": ""}
	for _, c := range []codeCase{
		{"RFC 6749 §4.1.3: no redirect_uri", "tpp-mtls", nil, "", url.Values{"redirect_uri": nil}, false, 400, fapi.InvalidGrant, false},
		{"RFC 6749 §4.1.3: another redirect_uri that is registered", "tpp-mtls", nil, "", url.Values{"redirect_uri": {authztest.RedirectURI + "?dummy1=lorem&dummy2=ipsum"}}, false, 400, fapi.InvalidGrant, false},
		{"a redirect_uri with a query", "tpp-mtls", nil, "", url.Values{"redirect_uri": {authztest.RedirectURI + "?x=1"}}, false, 400, fapi.InvalidGrant, false},
		{"a redirect_uri that is encoded twice", "tpp-mtls", nil, "", url.Values{"redirect_uri": {url.QueryEscape(authztest.RedirectURI)}}, false, 400, fapi.InvalidGrant, false},
		{"RFC 7636 §4.6: no code_verifier", "tpp-mtls", nil, "", url.Values{"code_verifier": nil}, false, 400, fapi.InvalidGrant, false},
		{"an empty code_verifier", "tpp-mtls", nil, "", url.Values{"code_verifier": {""}}, false, 400, fapi.InvalidGrant, false},
		{"RFC 7636 §4.6: another code_verifier", "tpp-mtls", nil, "", url.Values{"code_verifier": {other}}, false, 400, fapi.InvalidGrant, false},
		{"the challenge as code_verifier", "tpp-mtls", nil, "", url.Values{"code_verifier": {plain}}, false, 400, fapi.InvalidGrant, false},
		{"a code_verifier that is too short", "tpp-mtls", nil, "", url.Values{"code_verifier": {"short"}}, false, 400, fapi.InvalidGrant, false},
		{"a code_verifier with a character more", "tpp-mtls", nil, "", url.Values{"code_verifier": {s.Client("tpp-mtls").Verifier + "!"}}, false, 400, fapi.InvalidGrant, false},
		{"no code_verifier of a confidential client that sent a challenge", "web", nil, "", url.Values{"code_verifier": nil}, false, 400, fapi.InvalidGrant, false},
		{"RFC 9700 §4.8: a code_verifier though there was no challenge", "web", withoutPKCE, "", nil, false, 400, fapi.InvalidGrant, false},
		{"RFC 8707 §2.2: a resource that was not asked for", "tpp-mtls", map[string]string{"resource": authztest.Resource}, "", url.Values{"resource": {"https://other.example"}}, false, 400, fapi.InvalidTarget, false},

		{"RFC 6749 §5.2: another client's code", "tpp-mtls", nil, "tpp", nil, false, 400, fapi.InvalidGrant, true},
		{"a public client with another's code", "tpp-mtls", nil, "spa", nil, false, 400, fapi.InvalidGrant, true},
		{"F2-01: no certificate to bind to", "tpp", nil, "", nil, true, 400, fapi.InvalidRequest, true},
		{"RFC 6749 §3.2: a parameter twice", "tpp-mtls", nil, "", url.Values{"redirect_uri": {authztest.RedirectURI, authztest.RedirectURI}}, false, 400, fapi.InvalidRequest, true},
		{"the code twice", "tpp-mtls", nil, "", url.Values{"code": {"x", "y"}}, false, 400, fapi.InvalidRequest, true},
		{"another grant_type", "tpp-mtls", nil, "", url.Values{"grant_type": {"refresh_token"}}, false, 400, fapi.InvalidRequest, true},
		{"the code in capitals", "tpp-mtls", nil, "", url.Values{"code": {"CODE"}}, false, 400, fapi.InvalidGrant, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			owner := s.Client(c.client)
			code := s.Approve(t, owner, owner.Push(t, c.params))
			form := owner.ExchangeForm(code)
			if c.params["code_challenge_method"] == "" && c.params != nil && c.change == nil {
				form.Set("code_verifier", owner.Verifier)
			}
			maps.Copy(form, c.change)
			for name, values := range form {
				if values == nil {
					delete(form, name)
				}
			}
			if c.name == "the code in capitals" {
				form.Set("code", swapCase(code))
			}
			caller := owner
			if c.as != "" {
				caller = s.Client(c.as)
			}
			if c.bare {
				caller = s.Client(c.client)
				caller.Certificate = nil
			}
			caller.Post(t, "/token", form).Refused(t, c.status, c.code)
			if again := owner.Post(t, "/token", owner.ExchangeForm(code)); c.good && again.Status != http.StatusOK {
				t.Errorf("the code is no longer good: %d %s", again.Status, again.Body)
			} else if !c.good {
				again.Refused(t, 400, fapi.InvalidGrant)
			}
		})
	}
	t.Run("F2-04: a code that has expired", func(t *testing.T) {
		jwt := s.Client("tpp-jwt")
		code := s.Approve(t, jwt, jwt.Push(t, nil))
		s.SQL(t, "UPDATE authorizations SET code_expires_at = now() - interval '1 second' WHERE client_id = 'tpp-jwt'")
		jwt.Post(t, "/token", jwt.ExchangeForm(code)).Refused(t, 400, fapi.InvalidGrant)
	})
	t.Run("F2-04: a code lives no longer than a minute", func(t *testing.T) {
		if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE code_expires_at > decided_at + interval '60 seconds'"); n != 0 {
			t.Errorf("%d live longer", n)
		}
	})
	t.Run("OP-04: a code that is used twice takes its tokens with it", func(t *testing.T) {
		self := s.Client("tpp-self")
		code := s.Approve(t, self, self.Push(t, nil))
		tokens := self.Exchange(t, code)
		s.SQL(t, "UPDATE authorizations SET redeemed_at = redeemed_at - interval '1 second' WHERE client_id = 'tpp-self'")
		s.Client("tpp").Post(t, "/token", self.ExchangeForm(code)).Refused(t, 400, fapi.InvalidGrant)
		if said := self.Get(t, "/userinfo", tokens["access_token"].(string)); said.Status != http.StatusOK {
			t.Errorf("another client's try has ended the tokens: %d", said.Status)
		}
		self.Post(t, "/token", self.ExchangeForm(code)).Refused(t, 400, fapi.InvalidGrant)
		self.Get(t, "/userinfo", tokens["access_token"].(string)).Challenged(t, 401, "Bearer", fapi.InvalidToken)
		self.Post(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens["refresh_token"].(string)}}).Refused(t, 400, fapi.InvalidGrant)
	})
	t.Run("no PKCE at all is good for a confidential client of the profile openid", func(t *testing.T) {
		web := s.Client("web")
		form := web.ExchangeForm(s.Approve(t, web, web.Push(t, withoutPKCE)))
		form.Del("code_verifier")
		if tokens := web.Token(t, form); tokens["refresh_token"] != nil {
			t.Errorf("OpenID Connect Core §11: a refresh token without offline_access: %v", tokens)
		}
	})
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 32
		case r >= 'A' && r <= 'Z':
			return r + 32
		}
		return r
	}, s)
}

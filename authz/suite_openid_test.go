package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// openidPlan is a response type and mode in which the OpenID plans run their modules.
type openidPlan struct {
	s        *authztest.Server
	one, two *authztest.Client
	typ      string
	formPost bool
}

// params are those of a request in this plan.
func (p *openidPlan) params(c *authztest.Client, changes map[string]string) url.Values {
	params := c.Params(map[string]string{"response_type": p.typ, "code_challenge": "", "code_challenge_method": ""})
	if p.formPost {
		params.Set("response_mode", "form_post")
	}
	for name, value := range changes {
		if params.Set(name, value); value == "" {
			params.Del(name)
		}
	}
	return params
}

// mode is how this plan is answered.
func (p *openidPlan) mode() string {
	switch {
	case p.formPost:
		return "form_post"
	case p.typ == "code":
		return "query"
	}
	return "fragment"
}

// ask opens a request in a browser, which logs in where it must, and returns the answer.
func (p *openidPlan) ask(t *testing.T, b *authztest.Browser, c *authztest.Client, params url.Values) url.Values {
	t.Helper()
	return p.answer(t, p.decide(t, b, b.Open(t, "/authorize?"+params.Encode())))
}

// decide goes on from whatever page is shown.
func (p *openidPlan) decide(t *testing.T, b *authztest.Browser, page *authztest.Page) *authztest.Page {
	t.Helper()
	if page.ID() == "login_page" {
		page = b.Login(t, page)
	}
	if page.ID() == "consent_page" {
		page = b.Decide(t, page, "approve")
	}
	return page
}

// answer returns what the client is sent, in the place that it asked for.
func (p *openidPlan) answer(t *testing.T, page *authztest.Page) url.Values {
	t.Helper()
	answer, mode := page.Answered(t)
	if mode != p.mode() || answer.Get("state") != "state-1" || answer.Get("iss") != p.s.Issuer {
		t.Errorf("answered by %s with %v", mode, answer)
	}
	return answer
}

// redeem exchanges a code that was asked for without PKCE.
func (p *openidPlan) redeem(t *testing.T, c *authztest.Client, answer url.Values) map[string]any {
	t.Helper()
	return c.Token(t, codeForm(c, answer))
}

func codeForm(c *authztest.Client, answer url.Values) url.Values {
	form := c.ExchangeForm(answer.Get("code"))
	form.Del("code_verifier")
	return form
}

// refusedWith checks an error of the authorization endpoint.
func (p *openidPlan) refusedWith(t *testing.T, answer url.Values, code fapi.Code) {
	t.Helper()
	if answer.Get("error") != string(code) || answer.Has("code") || answer.Has("id_token") || answer.Has("access_token") {
		t.Errorf("sent back with %v, want %s", answer, code)
	}
}

// openidRows are the modules that are run for every response type.
var openidRows = map[string]func(t *testing.T, p *openidPlan, b *authztest.Browser){
	"response-type-missing": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		answer, mode := b.Open(t, "/authorize?"+p.params(p.one, map[string]string{"response_type": ""}).Encode()).Answered(t)
		if p.refusedWith(t, answer, fapi.InvalidRequest); mode != map[bool]string{true: "form_post", false: "query"}[p.formPost] {
			t.Errorf("answered by %s", mode)
		}
	},
	"ensure-request-without-nonce-fails": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		params := p.params(p.one, map[string]string{"nonce": ""})
		if strings.Contains(p.typ, "id_token") {
			p.refusedWith(t, p.answer(t, b.Open(t, "/authorize?"+params.Encode())), fapi.InvalidRequest)
			return
		}
		// ensure-request-without-nonce-succeeds-for-code-flow
		if claims := idClaims(t, p.redeem(t, p.one, p.ask(t, b, p.one, params))); claims["nonce"] != nil {
			t.Errorf("nonce %v", claims["nonce"])
		}
	},
	"ensure-registered-redirect-uri": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		for _, uri := range []string{authztest.RedirectURI + "/x7fQ2", authztest.RedirectURI + "?foo=bar", authztest.RedirectURI + "?dummy1=lorem&dummy2=dolor", ""} {
			b.Open(t, "/authorize?"+p.params(p.one, map[string]string{"redirect_uri": uri}).Encode()).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
		}
	},
	"unsigned-request-object-supported-correctly-or-rejected-as-unsupported": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		params := p.params(p.one, map[string]string{"request": "eyJhbGciOiJub25lIn0.e30."})
		p.refusedWith(t, p.answer(t, b.Open(t, "/authorize?"+params.Encode())), fapi.InvalidRequestObject)
	},
	"prompt-none-not-logged-in": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		p.refusedWith(t, p.answer(t, b.Open(t, "/authorize?"+p.params(p.one, map[string]string{"prompt": "none"}).Encode())), fapi.LoginRequired)
	},
	"prompt-none-logged-in": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		p.keepsTheLogin(t, b, func(string) map[string]string { return map[string]string{"prompt": "none"} })
	},
	"max-age-10000": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		p.keepsTheLogin(t, b, func(string) map[string]string { return map[string]string{"max_age": "10000"} })
	},
	"id-token-hint": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		p.keepsTheLogin(t, b, func(idToken string) map[string]string {
			return map[string]string{"prompt": "none", "id_token_hint": idToken}
		})
	},
	"ensure-post-request-succeeds": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		page := b.Post(t, p.s.Issuer+"/authorize", p.params(p.one, nil))
		p.redeem(t, p.one, p.answer(t, p.decide(t, b, page)))
	},
	"alternate-happy-flow": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		page := b.Open(t, "/authorize?"+reordered(p.params(p.one, map[string]string{"scope": "email openid"})))
		tokens := p.redeem(t, p.one, p.answer(t, p.decide(t, b, page)))
		if info := p.one.Get(t, "/userinfo", tokens["access_token"].(string)); info.JSON["email"] != "alice@example.com" {
			t.Errorf("userinfo %s", info.Body)
		}
	},
	"claims-essential": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		answer := p.ask(t, b, p.one, p.params(p.one, map[string]string{"claims": `{"userinfo":{"name":{"essential":true}}}`}))
		tokens := p.redeem(t, p.one, answer)
		if info := p.one.Get(t, "/userinfo", tokens["access_token"].(string)); info.JSON["name"] != "Alice Doe" {
			t.Errorf("userinfo %s", info.Body)
		}
		if later := idClaims(t, tokens); later["name"] != nil {
			t.Errorf("the ID token has a name: %v", later)
		}
		if answer.Has("id_token") && idClaims(t, map[string]any{"id_token": answer.Get("id_token")})["name"] != nil {
			t.Error("the ID token of the front channel has a name")
		}
	},
	"codereuse-30seconds": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		answer := p.ask(t, b, p.one, p.params(p.one, nil))
		tokens := p.redeem(t, p.one, answer)
		p.s.SQL(t, "UPDATE authorizations SET redeemed_at = redeemed_at - interval '31 seconds', code_expires_at = code_expires_at - interval '31 seconds' WHERE code_hash = sha256($1::bytea)", []byte(answer.Get("code")))
		p.one.Post(t, "/token", codeForm(p.one, answer)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
		for _, token := range []string{tokens["access_token"].(string), answer.Get("access_token")} {
			if token != "" {
				p.one.Get(t, "/userinfo", token).Challenged(t, http.StatusUnauthorized, "Bearer", fapi.InvalidToken)
			}
		}
	},
	"userinfo-post-body": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		answer := p.ask(t, b, p.one, p.params(p.one, nil))
		tokens := p.redeem(t, p.one, answer)
		sub := idClaims(t, tokens)["sub"]
		for _, token := range []string{tokens["access_token"].(string), answer.Get("access_token")} {
			if token == "" {
				continue
			}
			header := http.Header{"Authorization": {"Bearer " + token}}
			for name, info := range map[string]*authztest.Answer{
				"userinfo-get":         p.one.Raw(t, "GET", "/userinfo", "", header),
				"userinfo-post-header": p.one.Raw(t, "POST", "/userinfo", "", header),
				"userinfo-post-body":   p.one.Raw(t, "POST", "/userinfo", url.Values{"access_token": {token}}.Encode(), nil),
			} {
				if info.Status != http.StatusOK || info.JSON["sub"] != sub {
					t.Errorf("%s: %d %s", name, info.Status, info.Body)
				}
			}
		}
	},
	"refresh-token": func(t *testing.T, p *openidPlan, b *authztest.Browser) {
		granted := map[*authztest.Client]map[string]any{}
		for _, c := range []*authztest.Client{p.one, p.two} {
			granted[c] = p.redeem(t, c, p.ask(t, b, c, p.params(c, map[string]string{"scope": "openid offline_access", "prompt": "consent"})))
			again := c.Token(t, refreshed(granted[c]["refresh_token"]))
			before, after := idClaims(t, granted[c]), idClaims(t, again)
			for _, name := range []string{"iss", "sub", "aud", "auth_time"} {
				if before[name] != after[name] {
					t.Errorf("%s was %v, is %v", name, before[name], after[name])
				}
			}
		}
		p.one.Post(t, "/token", refreshed(granted[p.two]["refresh_token"])).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
	},
}

// openidTaken are the modules whose parameter must do no harm.
var openidTaken = map[string]map[string]string{
	"display-page":   {"display": "page"},
	"display-popup":  {"display": "popup"},
	"ui-locales":     {"ui_locales": "se"},
	"claims-locales": {"claims_locales": "se"},
	"login-hint":     {"login_hint": "alice"},
	"ensure-request-with-acr-values-succeeds":        {"acr_values": "1 2"},
	"ensure-request-with-unknown-parameter-succeeds": {"extra": "foobar"},
	"redirect-uri-query-OK":                          {"redirect_uri": authztest.RedirectURI + "?dummy1=lorem&dummy2=ipsum"},
}

// keepsTheLogin asks again in the same browser, which must be answered at once and about the same login.
func (p *openidPlan) keepsTheLogin(t *testing.T, b *authztest.Browser, changes func(idToken string) map[string]string) {
	t.Helper()
	first := p.redeem(t, p.one, p.ask(t, b, p.one, p.params(p.one, nil)))
	page := b.Open(t, "/authorize?"+p.params(p.one, changes(first["id_token"].(string))).Encode())
	before, after := idClaims(t, first), idClaims(t, p.redeem(t, p.one, p.answer(t, page)))
	if before["sub"] != after["sub"] || before["auth_time"] != after["auth_time"] || after["auth_time"] == nil {
		t.Errorf("sub %v, %v; auth_time %v, %v", before["sub"], after["sub"], before["auth_time"], after["auth_time"])
	}
}

// openidPlans are all response types, answered in their own way and by form_post.
func openidPlans(t *testing.T, s *authztest.Server) []*openidPlan {
	metadata := map[string]any{"response_types": fapi.FindProfile(fapi.OpenID).ResponseTypes}
	one := s.AddClient(t, "openid-1", fapi.OpenID, fapi.ClientSecretBasic, metadata)
	two := s.AddClient(t, "openid-2", fapi.OpenID, fapi.ClientSecretPost, metadata)
	one.Scope, two.Scope = "openid", "openid"
	var plans []*openidPlan
	for _, typ := range []string{"code", "code id_token", "code token", "code id_token token"} {
		plans = append(plans, &openidPlan{s, one, two, typ, false}, &openidPlan{s, one, two, typ, true})
	}
	return plans
}

func TestSuite_OpenID(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, p := range openidPlans(t, s) {
		for name, run := range openidRows {
			t.Run(name+" "+p.typ+" "+p.mode(), func(t *testing.T) {
				run(t, p, s.Browser(t))
			})
		}
		for name, changes := range openidTaken {
			t.Run(name+" "+p.typ+" "+p.mode(), func(t *testing.T) {
				c := p.two // by client_secret_post: server-client-secret-post
				answer := p.ask(t, s.Browser(t), c, p.params(c, changes))
				form := codeForm(c, answer)
				if uri := changes["redirect_uri"]; uri != "" {
					form.Set("redirect_uri", uri)
				}
				if claims := idClaims(t, c.Token(t, form)); claims["nonce"] != "nonce-1" || claims["aud"] != c.ID {
					t.Errorf("claims %v", claims)
				}
			})
		}
	}
}

// The second request comes two seconds after the login. It must end in another login, and say so in auth_time.
func TestSuite_OpenIDRenewsTheLogin(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	type visit struct {
		module, name, value string
		plan                *openidPlan
		browser             *authztest.Browser
		before              map[string]any
	}
	var visits []visit
	for _, p := range openidPlans(t, s) {
		for _, v := range []visit{{module: "prompt-login", name: "prompt", value: "login"}, {module: "max-age-1", name: "max_age", value: "1"}} {
			v.plan, v.browser = p, s.Browser(t)
			v.before = idClaims(t, p.redeem(t, p.one, p.ask(t, v.browser, p.one, p.params(p.one, nil))))
			visits = append(visits, v)
		}
	}
	time.Sleep(2 * time.Second)
	for _, v := range visits {
		p, b := v.plan, v.browser
		t.Run(v.module+" "+p.typ+" "+p.mode(), func(t *testing.T) {
			page := b.Open(t, "/authorize?"+p.params(p.one, map[string]string{v.name: v.value}).Encode()).Is(t, "login_page")
			after := idClaims(t, p.redeem(t, p.one, p.answer(t, p.decide(t, b, page))))
			if v.before["sub"] != after["sub"] || after["auth_time"].(float64) <= v.before["auth_time"].(float64) {
				t.Errorf("auth_time was %v, is %v", v.before["auth_time"], after["auth_time"])
			}
		})
	}
}

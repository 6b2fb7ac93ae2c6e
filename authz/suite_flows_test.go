package authz_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// reordered writes parameters in the reverse order of their names, as the suite does for its second client.
func reordered(params url.Values) string {
	pairs := strings.Split(params.Encode(), "&")
	slices.Reverse(pairs)
	return strings.Join(pairs, "&")
}

// inverted is the token type in the case that nobody writes: bEARER, dpOp.
func inverted(t *testing.T, tokens map[string]any) string {
	t.Helper()
	word, _ := tokens["token_type"].(string)
	return swapCase(word)
}

// planPair are two clients of a FAPI plan.
type planPair struct {
	name     string
	one, two *authztest.Client
}

func planPairs(t *testing.T, s *authztest.Server) []planPair {
	rsaKey := newRSA(t)
	pair := func(name string, profile fapi.ProfileName, more map[string]any, set func(*authztest.Client)) planPair {
		p := planPair{name, planClient(t, s, name+"-1", profile, rsaKey, more), planClient(t, s, name+"-2", profile, rsaKey, more)}
		set(p.one)
		set(p.two)
		return p
	}
	return []planPair{
		pair("fapi1-plain", fapi.FAPI1Advanced, nil, func(c *authztest.Client) { c.ResponseType = "code id_token" }),
		pair("fapi1-jarm", fapi.FAPI1Advanced, nil, func(c *authztest.Client) { c.ResponseMode = "jwt" }),
		pair("ms-jarm", fapi.FAPI2MessageSigning, nil, func(c *authztest.Client) { c.ResponseMode = "jwt" }),
		pair("fapi2-mtls", fapi.FAPI2, nil, func(c *authztest.Client) { c.Signs = false }),
		pair("fapi2-dpop", fapi.FAPI2, map[string]any{"tls_client_certificate_bound_access_tokens": false, "dpop_bound_access_tokens": true}, func(c *authztest.Client) {
			c.Signs, c.Certificate, c.DPoPKey = false, nil, authztest.NewKey(t)
		}),
	}
}

func TestSuite_FAPIFlows(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	refused := func(t *testing.T, c *authztest.Client, form url.Values, code fapi.Code) {
		t.Helper()
		c.Post(t, "/token", form).Refused(t, http.StatusBadRequest, code)
	}
	visit := func(t *testing.T, b *authztest.Browser, c *authztest.Client, uri string) *authztest.Page {
		t.Helper()
		params := outer(c.Params(nil), "") // the suite repeats these beside request_uri
		params.Del("request")
		params.Set("request_uri", uri)
		return b.Open(t, "/authorize?"+params.Encode())
	}
	rows := map[string]func(t *testing.T, one, two *authztest.Client){
		"happy-flow": func(t *testing.T, _, two *authztest.Client) {
			changes := map[string]string{"redirect_uri": authztest.RedirectURI + "?dummy1=lorem&dummy2=ipsum", "nonce": strings.Repeat("n", 43)}
			key := two.DPoPKey
			if key != nil { // RFC 9449 §10.1: dpop_jkt, and no proof
				changes["dpop_jkt"], two.DPoPKey = jktOf(t, key), nil
			}
			uri := two.Push(t, changes)
			two.DPoPKey = key
			b := s.Browser(t)
			page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+reordered(url.Values{"client_id": {two.ID}, "request_uri": {uri}}))), "approve", "12")
			if !strings.HasPrefix(page.Left.String(), changes["redirect_uri"]) {
				t.Errorf("left for %v", page.Left)
			}
			form := two.ExchangeForm(s.Response(t, page).Get("code"))
			form.Set("redirect_uri", changes["redirect_uri"])
			tokens := two.Token(t, form)
			if claims := idClaims(t, tokens); claims["nonce"] != changes["nonce"] || claims["name"] != nil || claims["email"] != nil {
				t.Errorf("claims %v", claims)
			}
			query := two.Raw(t, "GET", "/userinfo?access_token="+url.QueryEscape(tokens["access_token"].(string)), "", nil)
			if query.Status < 400 {
				t.Errorf("DisallowAccessTokenInQuery: %d", query.Status)
			}
		},
		"access-token-type-header-case-sensitivity": func(t *testing.T, one, _ *authztest.Client) {
			tokens := one.Grant(t, nil)
			token := tokens["access_token"].(string)
			header := http.Header{"Authorization": {inverted(t, tokens) + " " + token}}
			if one.DPoPKey != nil {
				header["DPoP"] = []string{one.Proof(t, "GET", s.Issuer+"/userinfo", token, nil)}
			}
			if answer := one.Raw(t, "GET", "/userinfo", "", header); answer.Status != http.StatusOK {
				t.Errorf("%s: %d %s", header["Authorization"], answer.Status, answer.Header)
			}
		},
		"incorrect-pkce-code-verifier-rejected": func(t *testing.T, one, two *authztest.Client) {
			form := one.ExchangeForm(s.Approve(t, one, one.Push(t, nil)))
			form.Set("code_verifier", two.Verifier)
			refused(t, one, form, fapi.InvalidGrant)
		},
		"ensure-pkce-code-verifier-required": func(t *testing.T, one, _ *authztest.Client) {
			form := one.ExchangeForm(s.Approve(t, one, one.Push(t, nil)))
			form.Del("code_verifier")
			refused(t, one, form, fapi.InvalidGrant)
		},
		"attempt-reuse-authorization-code-after-one-second": func(t *testing.T, one, _ *authztest.Client) {
			code := s.Approve(t, one, one.Push(t, nil))
			token := one.Exchange(t, code)["access_token"].(string)
			s.SQL(t, "UPDATE authorizations SET redeemed_at = redeemed_at - interval '1 second' WHERE code_hash = sha256($1::bytea)", []byte(code))
			refused(t, one, one.ExchangeForm(code), fapi.InvalidGrant)
			one.Get(t, "/userinfo", token).Challenged(t, http.StatusUnauthorized, scheme(one), fapi.InvalidToken)
		},
		"ensure-token-endpoint-fails-with-expired-auth-code": func(t *testing.T, one, _ *authztest.Client) {
			code := s.Approve(t, one, one.Push(t, nil))
			s.SQL(t, "UPDATE authorizations SET code_expires_at = code_expires_at - interval '61 seconds' WHERE code_hash = sha256($1::bytea)", []byte(code))
			refused(t, one, one.ExchangeForm(code), fapi.InvalidGrant)
		},
		"par-attempt-reuse-request_uri": func(t *testing.T, one, _ *authztest.Client) {
			uri, b := one.Push(t, nil), s.Browser(t)
			page := b.Decide(t, b.Login(t, visit(t, b, one, uri)), "approve", "12")
			one.Exchange(t, s.Response(t, page).Get("code"))
			visit(t, b, one, uri).Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)
		},
		"par-attempt-to-use-expired-request_uri": func(t *testing.T, one, _ *authztest.Client) {
			uri := one.Push(t, map[string]string{"state": "expires"})
			s.SQL(t, "UPDATE authorizations SET request_uri_expires_at = now() - interval '1 second' WHERE client_id = $1 AND status = 'pending' AND opened_at IS NULL", one.ID)
			visit(t, s.Browser(t), one, uri).Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)
		},
		"par-attempt-to-use-request_uri-for-different-client": func(t *testing.T, one, two *authztest.Client) {
			uri := one.Push(t, nil)
			visit(t, s.Browser(t), two, uri).Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)
			visit(t, s.Browser(t), one, uri).Is(t, "login_page") // it is open now, for its own client alone
			visit(t, s.Browser(t), two, uri).Explains(t, http.StatusBadRequest, fapi.InvalidRequestURI)
			if s.Approve(t, one, uri) == "" {
				t.Error("no code")
			}
		},
		"par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": func(t *testing.T, one, _ *authztest.Client) {
			uri, b := one.Push(t, nil), s.Browser(t)
			visit(t, b, one, uri).Is(t, "login_page")
			page := b.Decide(t, b.Login(t, visit(t, b, one, uri)), "approve", "12")
			one.Exchange(t, s.Response(t, page).Get("code"))
		},
		"user-rejects-authentication": func(t *testing.T, one, _ *authztest.Client) {
			sent := s.Response(t, decided(t, s, one, "deny", nil))
			if sent.Get("error") != string(fapi.AccessDenied) || sent.Get("state") != "state-1" || sent.Get("iss") != s.Issuer || sent.Has("code") || sent.Has("id_token") {
				t.Errorf("sent back with %v", sent)
			}
		},
		"refresh-token": func(t *testing.T, one, two *authztest.Client) {
			mine, theirs := one.Grant(t, nil), two.Grant(t, nil)
			again := one.Token(t, refreshed(mine["refresh_token"]))
			if again["access_token"] == mine["access_token"] || idClaims(t, again)["sub"] != idClaims(t, mine)["sub"] {
				t.Errorf("refreshed: %v", again)
			}
			refused(t, one, refreshed(theirs["refresh_token"]), fapi.InvalidGrant)
			one.Get(t, "/userinfo", theirs["access_token"].(string)).Challenged(t, http.StatusUnauthorized, scheme(one), fapi.InvalidToken)
			bare, want := *one, fapi.InvalidRequest
			if bare.Certificate = nil; bare.DPoPKey != nil {
				bare.DPoPKey, want = nil, fapi.InvalidDPoPProof
			}
			refused(t, &bare, refreshed(mine["refresh_token"]), want)
			form := refreshed(mine["refresh_token"])
			form.Set("client_id", one.ID) // RFC 6749 §6: without authentication
			one.Send(t, "/token", form, nil).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
			two.Token(t, refreshed(theirs["refresh_token"]))
		},
	}
	for _, pair := range planPairs(t, s) {
		t.Run(pair.name, func(t *testing.T) {
			for name, run := range rows { // one after the other: one of them expires all that is pending
				t.Run(name, func(t *testing.T) {
					one, two := *pair.one, *pair.two
					run(t, &one, &two)
				})
			}
		})
	}
}

// What a FAPI 2.0 request says comes back whole, or not at all if it did not say it.
func TestSuite_FAPI2ComesBack(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	long := strings.Repeat("0123456789abcdef", 24) // 384
	for _, pair := range planPairs(t, s)[2:] {
		for module, changes := range map[string]map[string]string{
			"ensure-authorization-request-with-64-char-nonce-success": {"nonce": long[:64]},
			"ensure-authorization-request-with-long-nonce":            {"nonce": long},
			"ensure-authorization-request-with-long-state":            {"state": long},
			"ensure-authorization-request-without-nonce-success":      {"nonce": ""},
			"ensure-authorization-request-without-state-success":      {"state": ""},
			"ensure-other-scope-order-succeeds":                       {"scope": "accounts profile openid"},
		} {
			t.Run(module+" "+pair.name, func(t *testing.T) {
				sent := s.Response(t, decided(t, s, pair.one, "approve", changes))
				want := pair.one.Params(changes)
				if sent.Get("state") != want.Get("state") || sent.Has("state") != want.Has("state") || sent.Get("iss") != s.Issuer {
					t.Errorf("sent back with %v", sent)
				}
				nonce, _ := idClaims(t, pair.one.Exchange(t, sent.Get("code")))["nonce"].(string)
				if nonce != want.Get("nonce") {
					t.Errorf("nonce %q", nonce)
				}
			})
		}
	}
}

package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// TestSuite_… replays modules of the OpenID Foundation's suite, under their names without the plan's prefix;
// docs/conformance-replay.md says which test keeps which module.

// suiteRSA is the kid of the RSA key of every client of a plan.
const suiteRSA = "rsa"

// planClient registers a client as the FAPI plans want it: an EC and an RSA key, tokens bound to a certificate.
func planClient(t *testing.T, s *authztest.Server, id string, profile fapi.ProfileName, rsaKey *rsa.PrivateKey, more map[string]any) *authztest.Client {
	t.Helper()
	key := authztest.NewKey(t)
	metadata := map[string]any{
		"response_types": fapi.FindProfile(profile).ResponseTypes, "tls_client_certificate_bound_access_tokens": true,
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Use: "sig"}, {Key: rsaKey.Public(), KeyID: suiteRSA, Use: "sig"}}},
	}
	maps.Copy(metadata, more)
	c := s.AddClient(t, id, profile, fapi.PrivateKeyJWT, metadata)
	c.Key, c.Certificate, c.Signs = key, s.Certificate(t, id), true
	return c
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signedPlan is a combination of the plans whose requests are signed.
type signedPlan struct {
	name    string
	client  *authztest.Client
	pushed  bool
	advance bool // FAPI 1.0 Advanced, else FAPI 2.0 Message Signing
	jarm    bool
}

func signedPlans(t *testing.T, s *authztest.Server, rsaKey *rsa.PrivateKey) []signedPlan {
	as := func(c *authztest.Client, typ, mode string) *authztest.Client {
		k := *c
		k.ResponseType, k.ResponseMode = typ, mode
		return &k
	}
	one := planClient(t, s, "plan-fapi1", fapi.FAPI1Advanced, rsaKey, nil)
	two := planClient(t, s, "plan-ms", fapi.FAPI2MessageSigning, rsaKey, nil)
	onlySigned := map[string]any{"response_types": []string{"code"}, "response_modes": []string{"jwt"}}
	hybrid, code := as(one, "code id_token", ""), as(planClient(t, s, "plan-fapi1-jarm", fapi.FAPI1Advanced, rsaKey, onlySigned), "code", "jwt")
	return []signedPlan{
		{"fapi1-advanced by_value plain_response", hybrid, false, true, false},
		{"fapi1-advanced by_value jarm", code, false, true, true},
		{"fapi1-advanced pushed plain_response", hybrid, true, true, false},
		{"fapi1-advanced pushed jarm", code, true, true, true},
		{"fapi2-message-signing plain_response", as(two, "code", ""), true, false, false},
		{"fapi2-message-signing jarm", as(two, "code", "jwt"), true, false, true},
	}
}

// outer is what the suite sends beside the request object: what OpenID Connect Core §6.1 wants there too.
func outer(params url.Values, object string) url.Values {
	form := url.Values{"request": {object}}
	for _, name := range []string{"client_id", "response_type", "scope", "redirect_uri"} {
		form[name] = params[name]
	}
	return form
}

// suiteNone makes the object with alg none.
func suiteNone(t *testing.T, object string) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(object, ".")[1] + "."
}

// suiteClaims are those of an object that another key shall sign.
func suiteClaims(t *testing.T, object string) map[string]any {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(object, ".")[1])
	claims := map[string]any{}
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestSuite_RequestObjectsRefused(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	other := authztest.NewKey(t)
	plans := signedPlans(t, s, rsaKey)
	type claims = map[string]any
	const (
		all = iota
		advanced
		two
		pushed
		hybrid
	)
	for _, row := range []struct {
		module string
		in     int // the plans that have it
		claims claims
		resign func(t *testing.T, object string) string
		beside url.Values // for the object, in the same request; nil values are left out
		code   fapi.Code
		page   bool // the browser is sent nowhere
	}{
		{"ensure-expired-request-object-fails", all, claims{"exp": fromNow(-3600)}, nil, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-with-exp-over-60-fails", all, claims{"exp": fromNow(70 * 60)}, nil, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-with-nbf-over-60-fails", all, claims{"nbf": fromNow(-70 * 60)}, nil, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-without-exp-fails", all, claims{"exp": nil}, nil, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-without-nbf-fails", all, claims{"nbf": nil}, nil, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-with-bad-aud-fails", all, claims{"aud": "https://www.other1.example.com/"}, nil, nil, fapi.InvalidRequestObject, false},
		{"par-pushed-authorization-url-as-audience-in-request-object", all, claims{"aud": s.Issuer + "/par"}, nil, nil, fapi.InvalidRequestObject, false},
		{"par-authorization-request-containing-request_uri", all, claims{"request_uri": "urn%3Aexample%3Abwc4JK-ESC0w8acc191e-Y1LTC2"}, nil, nil, fapi.InvalidRequestObject, false},
		{"par-authorization-request-containing-request_uri-form-param", pushed, nil, nil, url.Values{"request_uri": {"urn%3Aexample%3Abwc4JK-ESC0w8acc191e-Y1LTC2"}}, fapi.InvalidRequest, false},
		{"ensure-request-object-without-redirect-uri-fails", all, claims{"redirect_uri": nil}, nil, nil, fapi.InvalidRequestObject, true},
		{"ensure-redirect-uri-in-authorization-request", all, claims{"redirect_uri": nil}, nil, url.Values{"redirect_uri": nil}, fapi.InvalidRequestObject, true},
		{"ensure-registered-redirect-uri", all, claims{"redirect_uri": authztest.RedirectURI + "/x7fQ2"}, nil, url.Values{"redirect_uri": {authztest.RedirectURI + "/x7fQ2"}}, fapi.InvalidRequest, true},
		{"ensure-request-object-without-scope-fails", all, claims{"scope": nil}, nil, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-without-nonce-fails", advanced, claims{"nonce": nil}, nil, nil, fapi.InvalidRequest, false},
		{"ensure-response-type-code-fails", hybrid, claims{"response_type": "code"}, nil, url.Values{"response_type": {"code"}}, fapi.InvalidRequest, false},
		{"ensure-response-type-code-idtoken-fails", two, claims{"response_type": "code id_token"}, nil, url.Values{"response_type": {"code id_token"}}, fapi.UnsupportedResponseType, false},
		{"ensure-response-type-token-fails", two, claims{"response_type": "token"}, nil, url.Values{"response_type": {"token"}}, fapi.UnsupportedResponseType, false},
		{"ensure-response-mode-query", advanced, claims{"response_mode": "query"}, nil, nil, fapi.InvalidRequest, false},
		{"par-ensure-pkce-required", pushed, claims{"code_challenge": nil, "code_challenge_method": nil}, nil, nil, fapi.InvalidRequest, false},
		{"par-plain-pkce-rejected", all, claims{"code_challenge_method": "plain"}, nil, nil, fapi.InvalidRequest, false},
		{"ensure-request-object-with-invalid-signature-fails", all, nil, func(_ *testing.T, object string) string { return flipped(object, len(object)-20) }, nil, fapi.InvalidRequestObject, false},
		{"ensure-request-object-signature-algorithm-is-not-none", all, nil, suiteNone, nil, fapi.InvalidRequestObject, false},
		{"ensure-matching-key-in-authorization-request", all, nil, func(t *testing.T, object string) string {
			return authztest.Sign(t, jose.ES256, other, nil, suiteClaims(t, object))
		}, nil, fapi.InvalidRequestObject, false},
		{"ensure-signed-request-object-with-RS256-fails", all, nil, func(t *testing.T, object string) string {
			return authztest.Sign(t, jose.RS256, rsaKey, headers{"kid": suiteRSA}, suiteClaims(t, object))
		}, nil, fapi.InvalidRequestObject, false},
		{"ensure-unsigned-request-at-par-endpoint-fails", pushed, nil, func(*testing.T, string) string { return "" }, nil, fapi.InvalidRequest, false},
		{"ensure-authorization-request-without-request-object-fails", advanced, nil, func(*testing.T, string) string { return "" }, nil, fapi.InvalidRequest, false},
	} {
		for _, plan := range plans {
			if row.in == pushed && !plan.pushed || row.in == advanced && !plan.advance || row.in == two && plan.advance || row.in == hybrid && (!plan.advance || plan.jarm) {
				continue
			}
			t.Run(row.module+" "+plan.name, func(t *testing.T) {
				c := plan.client
				params := c.Params(map[string]string{"state": "state-1"})
				signed := c.RequestObject(t, params, at(row.claims))
				form := outer(params, signed)
				if row.resign != nil {
					if form.Set("request", row.resign(t, signed)); form.Get("request") == "" {
						form = params
					}
					form.Set("state", "state-1") // what nobody signed is answered with what stands outside
				}
				bad := badRequest{change: row.beside}
				form = bad.on(form)
				if plan.pushed {
					pushRaw(t, c, form).Refused(t, http.StatusBadRequest, row.code)
					return
				}
				page := s.Browser(t).Open(t, "/authorize?"+form.Encode())
				if row.page {
					page.Explains(t, http.StatusBadRequest, row.code)
					return
				}
				_, other := row.claims["response_mode"] // who asks for another mode hears of it plainly
				if answer, _ := page.Answered(t); answer.Has("response") != (plan.jarm && !other) {
					t.Errorf("signed or not: %v", answer)
				}
				sent := s.Response(t, page)
				if sent.Get("error") != string(row.code) || sent.Get("state") != "state-1" || sent.Get("iss") != s.Issuer || sent.Has("code") || sent.Has("id_token") {
					t.Errorf("sent back with %v, want %s", sent, row.code)
				}
			})
		}
	}
}

// What the object says comes back, whatever stands beside it.
func TestSuite_RequestObjectsTaken(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	type claims = map[string]any
	long := strings.Repeat("0123456789abcdef", 24) // 384
	for _, plan := range signedPlans(t, s, rsaKey) {
		for _, row := range []struct {
			module string
			claims claims
			beside url.Values // in the URL of the authorization endpoint
		}{
			{"ensure-request-object-with-multiple-aud-succeeds", claims{"aud": []string{"https://www.other1.example.com/", s.Issuer}}, nil},
			{"ensure-request-object-with-nbf-8-seconds-in-the-future-is-accepted", claims{"nbf": fromNow(8)}, nil},
			{"ensure-request-object-with-64-char-nonce-success", claims{"nonce": long[:64]}, nil},
			{"ensure-request-object-with-long-nonce", claims{"nonce": long}, nil},
			{"ensure-request-object-with-long-state", claims{"state": long}, nil},
			{"ensure-authorization-request-without-state-success", claims{"state": nil}, nil},
			{"state-only-outside-request-object-not-used", claims{"state": nil}, url.Values{"state": {"outside"}}},
			{"ensure-different-nonce-inside-and-outside-request-object", nil, url.Values{"nonce": {"outside"}}},
			{"ensure-different-state-inside-and-outside-request-object", nil, url.Values{"state": {"outside"}}},
			{"ensure-other-scope-order-succeeds", claims{"scope": "accounts profile openid"}, url.Values{"scope": {"accounts profile openid"}}},
		} {
			t.Run(row.module+" "+plan.name, func(t *testing.T) {
				c := plan.client
				params := c.Params(nil)
				form := outer(params, c.RequestObject(t, params, at(row.claims)))
				if plan.pushed {
					answer := pushRaw(t, c, form)
					if answer.Status != http.StatusCreated {
						t.Fatalf("answered %d %s", answer.Status, answer.Body)
					}
					form.Del("request")
					form.Set("request_uri", answer.JSON["request_uri"].(string))
				}
				maps.Copy(form, row.beside)
				plan.answers(t, s, "/authorize?"+form.Encode(), suiteClaim(row.claims, "state", "state-1"), suiteClaim(row.claims, "nonce", "nonce-1"))
			})
		}
	}
}

// suiteClaim is the claim as a row has it, or as every request has it. nil is none.
func suiteClaim(claims map[string]any, name, usual string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	return usual
}

// answers takes an authorization request through login and consent, and checks what comes back in each plan.
func (p *signedPlan) answers(t *testing.T, s *authztest.Server, path string, state, nonce any) {
	t.Helper()
	b := s.Browser(t)
	page := b.Decide(t, b.Login(t, b.Open(t, path)), "approve", "12")
	answer, mode := page.Answered(t)
	if want := map[bool]string{true: "fragment", false: "query"}[p.advance && !p.jarm]; mode != want || answer.Has("response") != p.jarm {
		t.Errorf("answered by %s with %v", mode, answer)
	}
	sent := s.Response(t, page)
	if got := sent["state"]; state == nil && got != nil || state != nil && sent.Get("state") != state {
		t.Errorf("state %q, want %v", got, state)
	}
	if sent.Get("iss") != s.Issuer {
		t.Errorf("iss %q", sent.Get("iss"))
	}
	if p.advance && !p.jarm {
		header, claims := s.Verified(t, sent.Get("id_token"))
		var hash any
		if state != nil {
			hash = halfHash(header["alg"], state.(string))
		}
		if claims["nonce"] != nonce || claims["s_hash"] != hash || claims["c_hash"] != halfHash(header["alg"], sent.Get("code")) {
			t.Errorf("nonce %v, s_hash %v, c_hash %v", claims["nonce"], claims["s_hash"], claims["c_hash"])
		}
	}
	if claims := idClaims(t, p.client.Exchange(t, sent.Get("code"))); claims["nonce"] != nonce {
		t.Errorf("nonce %v, want %v", claims["nonce"], nonce)
	}
}

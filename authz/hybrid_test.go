package authz_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// decided takes a pushed request through login and consent, in a new browser, to the authorization response.
func decided(t *testing.T, s *authztest.Server, c *authztest.Client, decision string, changes map[string]string) *authztest.Page {
	t.Helper()
	b := s.Browser(t)
	return b.Decide(t, b.Login(t, b.Authorize(t, c.ID, c.Push(t, changes))), decision, "12")
}

// halfHash is c_hash and its like (OpenID Connect Core §3.3.2.11, FAPI 1.0 Part 2 §5.1.1).
func halfHash(alg any, of string) any {
	if alg == "EdDSA" {
		sum := sha512.Sum512([]byte(of))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(of))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func TestHybrid(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api := s.Client("bank-api")
	all := []string{"code", "code id_token", "code token", "code id_token token"}
	fapi1, hybrid := s.Client("fapi1"), s.Client("hybrid")
	ed := s.AddClient(t, "hybrid-ed", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"response_types": all, "id_token_signed_response_alg": "EdDSA"})
	asJWT := s.AddClient(t, "hybrid-jwt", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"response_types": all, "access_token_format": "jwt"})
	asksName := map[string]string{"claims": `{"id_token":{"name":{"essential":true},"email":null}}`}
	for _, test := range []struct {
		name         string
		client       *authztest.Client
		responseType string
		changes      map[string]string
		mode         string
		params       string // those of the answer, sorted
		hashes       string // of the ID token in it
	}{
		{"F1A-08: the ID token is a detached signature", fapi1, "code id_token", nil, "fragment", "code id_token iss state", "c_hash s_hash"},
		{"F1A-08: s_hash only if state was sent", fapi1, "code id_token", map[string]string{"state": ""}, "fragment", "code id_token iss", "c_hash"},
		{"F1A-08: no personal claims in the front channel", fapi1, "code id_token", asksName, "fragment", "code id_token iss state", "c_hash s_hash"},
		{"F1A-08: form_post keeps out of the history", fapi1, "code id_token", map[string]string{"response_mode": "form_post"}, "form_post", "code id_token iss state", "c_hash s_hash"},
		{"OpenID Connect Core §3.3.2.5: code id_token", hybrid, "code id_token", asksName, "fragment", "code id_token iss state", "c_hash s_hash"},
		{"OpenID Connect Core §3.3.2.5: code token", hybrid, "code token", nil, "fragment", "access_token code expires_in iss scope state token_type", ""},
		{"OpenID Connect Core §3.3.2.5: code id_token token", hybrid, "code id_token token", nil, "fragment", "access_token code expires_in id_token iss scope state token_type", "at_hash c_hash s_hash"},
		{"OAuth Multiple Response Types §3: words in any order", hybrid, "token code id_token", nil, "fragment", "access_token code expires_in id_token iss scope state token_type", "at_hash c_hash s_hash"},
		{"OpenID Connect Core §3.3.2.11: EdDSA hashes with SHA-512", ed, "code id_token token", nil, "fragment", "access_token code expires_in id_token iss scope state token_type", "at_hash c_hash s_hash"},
		{"RFC 9068: a JWT access token", asJWT, "code id_token token", nil, "fragment", "access_token code expires_in id_token iss scope state token_type", "at_hash c_hash s_hash"},
		{"RFC 6749 §5.1: the scope, with spaces that every reader knows", hybrid, "code token", map[string]string{"scope": "openid email accounts"}, "fragment", "access_token code expires_in iss scope state token_type", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.client
			changes := map[string]string{"response_type": test.responseType}
			maps.Copy(changes, test.changes)
			page := decided(t, s, c, "approve", changes)
			answer, mode := page.Answered(t)
			if names := strings.Join(slices.Sorted(maps.Keys(answer)), " "); mode != test.mode || names != test.params {
				t.Fatalf("answered by %s with %q", mode, names)
			}
			if answer.Get("iss") != s.Issuer || answer.Has("state") && answer.Get("state") != "state-1" {
				t.Errorf("iss %q, state %q", answer.Get("iss"), answer.Get("state"))
			}
			if page.Left != nil && strings.Contains(page.Left.EscapedFragment(), "+") {
				t.Errorf("a plus for a space: %s", page.Left.EscapedFragment())
			}
			if access := answer.Get("access_token"); access != "" {
				if answer.Get("token_type") != "Bearer" || answer.Get("expires_in") != "300" || !strings.Contains(answer.Get("scope"), "openid ") {
					t.Errorf("answer %v", answer)
				}
				if said := api.Post(t, "/introspect", url.Values{"token": {access}}); said.JSON["active"] != true || said.JSON["fineract_client_id"] != 7.0 || said.JSON["cnf"] != nil {
					t.Errorf("before its code is redeemed: %s", said.Body)
				}
				if info := c.Get(t, "/userinfo", access); info.Status != http.StatusOK {
					t.Errorf("userinfo %d %s", info.Status, info.Body)
				}
			}
			tokens := c.Exchange(t, answer.Get("code"))
			later := idClaims(t, tokens)
			if !answer.Has("id_token") {
				return
			}
			header, claims := s.Verified(t, answer.Get("id_token"))
			if header["typ"] != "JWT" || claims["aud"] != c.ID || claims["nonce"] != "nonce-1" {
				t.Errorf("header %v, claims %v", header, claims)
			}
			for name, of := range map[string]string{"c_hash": answer.Get("code"), "s_hash": answer.Get("state"), "at_hash": answer.Get("access_token")} {
				want := halfHash(header["alg"], of)
				if !strings.Contains(test.hashes, name) {
					want = nil
				}
				if claims[name] != want {
					t.Errorf("%s is %v, want %v", name, claims[name], want)
				}
			}
			for _, name := range []string{"iss", "sub", "aud", "nonce", "auth_time", "acr"} { // §3.3.3.6
				if later[name] == nil || later[name] != claims[name] {
					t.Errorf("%s is %v here, %v there", name, claims[name], later[name])
				}
			}
			if later["at_hash"] != halfHash(header["alg"], tokens["access_token"].(string)) || later["c_hash"] != nil || later["s_hash"] != nil {
				t.Errorf("the token endpoint's ID token: %v", later)
			}
			if claims["name"] != nil || claims["email"] != nil || test.changes["claims"] != "" && later["name"] != "Alice Doe" {
				t.Errorf("name %v here, %v there", claims["name"], later["name"])
			}
		})
	}
}

// OpenID Connect Core §15.2 wants these of a server at which clients register by themselves.
func TestImplicit(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, api := s.Client("hybrid"), s.Client("bank-api")
	for _, test := range []struct{ name, responseType, params, hashes string }{
		{"OpenID Connect Core §3.2.2.5: id_token", "id_token", "id_token iss state", "s_hash"},
		{"OpenID Connect Core §3.2.2.5: id_token token", "id_token token", "access_token expires_in id_token iss scope state token_type", "at_hash s_hash"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Without a code there is nothing that a challenge would protect.
			answer, mode := decided(t, s, c, "approve", map[string]string{"response_type": test.responseType, "scope": "openid email", "prompt": "consent", "code_challenge": "", "code_challenge_method": ""}).Answered(t)
			if names := strings.Join(slices.Sorted(maps.Keys(answer)), " "); mode != "fragment" || names != test.params {
				t.Fatalf("answered by %s with %q", mode, names)
			}
			header, claims := s.Verified(t, answer.Get("id_token"))
			for name, of := range map[string]string{"c_hash": "", "s_hash": "state-1", "at_hash": answer.Get("access_token")} {
				want := halfHash(header["alg"], of)
				if !strings.Contains(test.hashes, name) {
					want = nil
				}
				if claims[name] != want {
					t.Errorf("%s is %v, want %v", name, claims[name], want)
				}
			}
			if alone := test.responseType == "id_token"; (claims["email"] == "alice@example.com") != alone || claims["nonce"] != "nonce-1" {
				t.Errorf("§5.4: scopes ask for claims of the ID token only when there is no access token: %v", claims)
			}
			if access := answer.Get("access_token"); access != "" && (!isActive(t, api, access) || c.Get(t, "/userinfo", access).JSON["email"] != "alice@example.com") {
				t.Error("the access token is not good")
			}
		})
	}
	t.Run("without the grant_type implicit", func(t *testing.T) {
		s.Client("web").Post(t, "/par", s.Client("web").Params(map[string]string{"response_type": "id_token"})).Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient)
	})
}

// A token from the authorization endpoint ends as every other does, redeemed or not.
func TestHybrid_AccessTokenEnds(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, api := s.Client("hybrid"), s.Client("bank-api")
	for name, end := range map[string]func(t *testing.T, answer url.Values){
		"RFC 7009 §2.1: revoked": func(t *testing.T, answer url.Values) {
			c.Post(t, "/revoke", url.Values{"token": {answer.Get("access_token")}})
		},
		"RFC 7009 §2.1: with the refresh token": func(t *testing.T, answer url.Values) {
			c.Post(t, "/revoke", url.Values{"token": {c.Exchange(t, answer.Get("code"))["refresh_token"].(string)}})
		},
		"OP-04: with the code, used twice": func(t *testing.T, answer url.Values) {
			c.Exchange(t, answer.Get("code"))
			s.SQL(t, "UPDATE authorizations SET redeemed_at = redeemed_at - interval '1 second' WHERE code_hash = sha256($1::bytea)", []byte(answer.Get("code")))
			c.Post(t, "/token", c.ExchangeForm(answer.Get("code"))).Refused(t, 400, fapi.InvalidGrant)
		},
		"the grant is withdrawn": func(t *testing.T, answer url.Values) {
			s.SQL(t, "UPDATE grants SET revoked_at = now() WHERE id = (SELECT grant_id FROM authorizations WHERE code_hash = sha256($1::bytea))", []byte(answer.Get("code")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer, _ := decided(t, s, c, "approve", map[string]string{"response_type": "code id_token token", "scope": "openid offline_access", "prompt": "consent"}).Answered(t)
			if !isActive(t, api, answer.Get("access_token")) {
				t.Fatal("inactive before")
			}
			end(t, answer)
			if isActive(t, api, answer.Get("access_token")) {
				t.Error("active after")
			}
			if info := c.Get(t, "/userinfo", answer.Get("access_token")); info.Status != http.StatusUnauthorized {
				t.Errorf("userinfo answers %d", info.Status)
			}
		})
	}
	t.Run("its row outlives the code", func(t *testing.T) {
		answer, _ := decided(t, s, c, "approve", map[string]string{"response_type": "code token"}).Answered(t)
		s.SQL(t, "UPDATE authorizations SET code_expires_at = now() - interval '1 second' WHERE code_hash = sha256($1::bytea)", []byte(answer.Get("code")))
		if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE code_hash = sha256($1::bytea) AND expires_at > now() + interval '4 minutes'", []byte(answer.Get("code"))); n != 1 {
			t.Error("it would be purged before the token expires")
		}
		c.Post(t, "/token", c.ExchangeForm(answer.Get("code"))).Refused(t, 400, fapi.InvalidGrant)
	})
	t.Run("a pending or denied authorization has none", func(t *testing.T) {
		page := decided(t, s, c, "deny", map[string]string{"response_type": "code id_token token"})
		if answer, mode := page.Answered(t); mode != "fragment" || answer.Get("error") != string(fapi.AccessDenied) || answer.Has("access_token") || answer.Has("code") || answer.Has("id_token") {
			t.Errorf("F1A-16: answered by %s with %v", mode, answer)
		}
	})
}

func TestHybrid_Refuses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	all := fapi.FindProfile(fapi.OpenID).ResponseTypes
	bound := s.AddClient(t, "hybrid-bound", fapi.OpenID, fapi.TLSClientAuth, map[string]any{"response_types": all, "tls_client_certificate_bound_access_tokens": true})
	fapi1, hybrid := s.Client("fapi1"), s.Client("hybrid")
	for _, test := range []struct {
		name    string
		client  *authztest.Client
		changes map[string]string
		code    fapi.Code
		mode    string // of the same refusal by way of the browser
	}{
		{"F1A-02: code without JARM", fapi1, map[string]string{"response_type": "code"}, fapi.InvalidRequest, "query"},
		{"F1A-02: an access token", fapi1, map[string]string{"response_type": "code id_token token"}, fapi.UnsupportedResponseType, "fragment"},
		{"F1A-02: code id_token by query", fapi1, map[string]string{"response_mode": "query"}, fapi.InvalidRequest, "fragment"},
		{"F1A-02: code by query", fapi1, map[string]string{"response_type": "code", "response_mode": "query"}, fapi.InvalidRequest, "query"},
		{"F1A-02: code by form_post", fapi1, map[string]string{"response_type": "code", "response_mode": "form_post"}, fapi.InvalidRequest, "query"},
		{"F1A-02: code by fragment", fapi1, map[string]string{"response_type": "code", "response_mode": "fragment"}, fapi.InvalidRequest, "query"},
		{"F1B-18: no nonce", fapi1, map[string]string{"nonce": ""}, fapi.InvalidRequest, "fragment"},
		{"OpenID Connect Core §3.3.2.11: no nonce", hybrid, map[string]string{"response_type": "code id_token", "nonce": ""}, fapi.InvalidRequest, "fragment"},
		{"OpenID Connect Core §3.3: code id_token without openid", hybrid, map[string]string{"response_type": "code id_token", "scope": "accounts"}, fapi.InvalidScope, "fragment"},
		{"RFC 9700 §2.1.2: token alone", hybrid, map[string]string{"response_type": "token"}, fapi.UnsupportedResponseType, "fragment"},
		{"F1A-02: id_token alone", fapi1, map[string]string{"response_type": "id_token"}, fapi.UnsupportedResponseType, "fragment"},
		{"OpenID Connect Core §3.2.2.1: id_token without a nonce", hybrid, map[string]string{"response_type": "id_token", "nonce": ""}, fapi.InvalidRequest, "fragment"},
		{"OAuth Multiple Response Types §5: tokens by query", hybrid, map[string]string{"response_type": "code token", "response_mode": "query"}, fapi.InvalidRequest, "fragment"},
		{"RFC 8705 §3: a token that must be bound", bound, map[string]string{"response_type": "code token"}, fapi.UnauthorizedClient, "fragment"},
		{"RFC 8705 §3: a token that must be bound, with an ID token", bound, map[string]string{"response_type": "code id_token token"}, fapi.UnauthorizedClient, "fragment"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.client.Post(t, "/par", test.client.Request(t, test.changes)).Refused(t, http.StatusBadRequest, test.code)
			page := s.Browser(t).Open(t, "/authorize?"+test.client.Request(t, test.changes).Encode())
			answer, mode := page.Answered(t)
			want := url.Values{"error": {string(test.code)}, "error_description": answer["error_description"], "iss": {s.Issuer}, "state": {"state-1"}}
			if mode != test.mode || answer.Encode() != want.Encode() {
				t.Errorf("F1A-16: refused by %s with %v", mode, answer)
			}
		})
	}
	t.Run("F1A-05: by value, a request needs no challenge", func(t *testing.T) {
		b := s.Browser(t)
		none := map[string]string{"code_challenge": "", "code_challenge_method": ""}
		page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+fapi1.Request(t, none).Encode())), "approve", "12")
		answer, mode := page.Answered(t)
		if mode != "fragment" || !answer.Has("id_token") {
			t.Errorf("answered by %s with %v", mode, answer)
		}
		form := fapi1.ExchangeForm(answer.Get("code"))
		form.Del("code_verifier")
		if tokens := fapi1.Token(t, form); tokens["id_token"] == nil || tokens["expires_in"] != (5*time.Minute).Seconds() {
			t.Errorf("tokens %v", tokens)
		}
	})
}

// F1A-04, F1A-15: what stands outside of the request object is not used, and what stands in it comes back whole.
func TestHybrid_WhatComesBack(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("fapi1")
	for name, test := range map[string]struct {
		changes map[string]string
		outside url.Values
		state   string
		nonce   string
	}{
		"F1A-04: state only outside":       {map[string]string{"state": ""}, url.Values{"state": {"outside"}, "nonce": {"outside"}}, "", "nonce-1"},
		"F1A-15: a nonce of 384":           {map[string]string{"nonce": strings.Repeat("n", 384)}, nil, "state-1", strings.Repeat("n", 384)},
		"F1A-15: a state of 1000":          {map[string]string{"state": strings.Repeat("s", 1000)}, nil, strings.Repeat("s", 1000), "nonce-1"},
		"a state of all characters":        {map[string]string{"state": `a+b &=%#"<é>`}, nil, `a+b &=%#"<é>`, "nonce-1"},
		"F1B-06: a redirect_uri's query":   {map[string]string{"redirect_uri": authztest.RedirectURI + "?dummy1=lorem&dummy2=ipsum"}, nil, "state-1", "nonce-1"},
		"F1B-06: and in the query of JARM": {map[string]string{"redirect_uri": authztest.RedirectURI + "?dummy1=lorem&dummy2=ipsum", "response_type": "code", "response_mode": "jwt"}, nil, "state-1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			form := c.Request(t, test.changes)
			maps.Copy(form, test.outside)
			answer := c.Post(t, "/par", form)
			uri, _ := answer.JSON["request_uri"].(string)
			if uri == "" {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			b := s.Browser(t)
			page := b.Decide(t, b.Login(t, b.Authorize(t, c.ID, uri)), "approve", "12")
			if uri := test.changes["redirect_uri"]; uri != "" && !strings.HasPrefix(page.Left.String(), uri+"#") && !strings.HasPrefix(page.Left.String(), uri+"&response=") {
				t.Errorf("sent to %v", page.Left)
			}
			sent := s.Response(t, page)
			if sent.Get("state") != test.state || sent.Has("state") != (test.state != "") {
				t.Errorf("state %q", sent.Get("state"))
			}
			if test.nonce == "" {
				return
			}
			header, claims := s.Verified(t, sent.Get("id_token"))
			if claims["nonce"] != test.nonce || test.state != "" && claims["s_hash"] != halfHash(header["alg"], test.state) || test.state == "" && claims["s_hash"] != nil {
				t.Errorf("claims %v", claims)
			}
		})
	}
}

package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// The dynamic plan: clients register themselves, and sign with RS256 as the server then does for them.
func TestSuite_Dynamic(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{Signing: []jose.SignatureAlgorithm{jose.RS256}, Registration: authz.Registration{
		Mode: authz.RegistrationOpen, Profiles: []fapi.ProfileName{fapi.OpenID}, Scopes: []string{"openid", "profile", "email", "offline_access"},
	}})
	first, second := newRSA(t), newRSA(t)
	now := func() int64 { return time.Now().Unix() }

	t.Run("idtoken-rs256", func(t *testing.T) {
		c, _ := mustRegister(t, s, members{"id_token_signed_response_alg": "RS256"})
		header, claims := s.Verified(t, c.Grant(t, nil)["id_token"].(string))
		if header["alg"] != "RS256" || claims["aud"] != c.ID {
			t.Errorf("header %v, claims %v", header, claims)
		}
	})
	t.Run("idtoken-unsigned", func(t *testing.T) {
		registerClient(t, s, "", newcomer(members{"id_token_signed_response_alg": "none"})).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
	})
	t.Run("request-uri-unsigned", func(t *testing.T) {
		registerClient(t, s, "", newcomer(members{"request_object_signing_alg": "none"})).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
	})
	t.Run("userinfo-rs256", func(t *testing.T) {
		c, _ := mustRegister(t, s, members{"userinfo_signed_response_alg": "RS256"})
		tokens := c.Grant(t, nil)
		info := c.Get(t, "/userinfo", tokens["access_token"].(string))
		header, claims := s.Verified(t, string(info.Body))
		if info.Header.Get("Content-Type") != "application/jwt" || header["alg"] != "RS256" || claims["iss"] != s.Issuer || claims["aud"] != c.ID || claims["sub"] != idClaims(t, tokens)["sub"] {
			t.Errorf("%s, header %v, claims %v", info.Header.Get("Content-Type"), header, claims)
		}
	})
	t.Run("request-uri-signed-rs256", func(t *testing.T) {
		l := newLibrary(t, s)
		c, _ := mustRegister(t, s, members{
			"request_uris": []string{l.base + "/object#c9f1"}, "request_object_signing_alg": "RS256",
			"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: first.Public(), KeyID: "one", Use: "sig"}}},
		})
		claims := map[string]any{"iss": c.ID, "aud": s.Issuer}
		for name, values := range c.Params(map[string]string{"state": "signed"}) {
			claims[name] = values[0]
		}
		uri := l.put("/object", "application/oauth-authz-req+jwt", authztest.Sign(t, jose.RS256, first, headers{"kid": "one"}, claims)) + "#1a2b"
		b := s.Browser(t)
		page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+refers(c, uri, nil).Encode())), "approve", "12")
		answer, _ := page.Answered(t)
		if answer.Get("state") != "signed" {
			t.Errorf("answered %v", answer)
		}
		c.Exchange(t, answer.Get("code"))
	})
	t.Run("refresh-token-rp-key-rotation", func(t *testing.T) {
		var published atomic.Pointer[jose.JSONWebKey]
		site := s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{*published.Load()}})
		}))
		publish := func(kid string, key *rsa.PrivateKey) {
			published.Store(&jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: "RS256", Use: "sig"})
		}
		publish("one", first)
		answer := registerClient(t, s, "", newcomer(members{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": site + "/jwks", "token_endpoint_auth_signing_alg": "RS256"}))
		id, _ := answer.JSON["client_id"].(string)
		if answer.Status != http.StatusCreated {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		c := s.Client("spa") // sends what it is given
		c.ID = id
		send := func(kid string, key *rsa.PrivateKey, form url.Values) *authztest.Answer {
			claims := map[string]any{"iss": id, "sub": id, "aud": s.Issuer + "/token", "jti": rand.Text(), "iat": now(), "exp": now() + 60}
			return asserted(t, c, "/token", form, authztest.Sign(t, jose.RS256, key, headers{"kid": kid}, claims))
		}
		b := s.Browser(t)
		params := c.Params(map[string]string{"scope": "openid offline_access", "prompt": "consent"})
		page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+params.Encode())), "approve")
		tokens := send("one", first, c.ExchangeForm(page.Left.Query().Get("code")))
		if tokens.Status != http.StatusOK {
			t.Fatalf("%d %s", tokens.Status, tokens.Body)
		}
		publish("two", second)
		s.AgeKeys(id, time.Minute) // the suite waits for as long
		granted(t, send("two", second, refreshed(tokens.JSON["refresh_token"])))
		send("one", first, refreshed(tokens.JSON["refresh_token"])).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	})
	t.Run("redirect-uri-query-OK, -query-added, -query-mismatch", func(t *testing.T) {
		plain, _ := mustRegister(t, s, nil)
		query, _ := mustRegister(t, s, members{"redirect_uris": []string{authztest.RedirectURI + "?foo=bar"}})
		for _, bad := range []struct {
			client *authztest.Client
			uri    string
		}{{plain, authztest.RedirectURI + "?foo=bar"}, {query, authztest.RedirectURI + "?bar=foo"}, {query, authztest.RedirectURI}, {query, ""}} {
			s.Browser(t).Open(t, "/authorize?"+bad.client.Params(map[string]string{"redirect_uri": bad.uri}).Encode()).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
		}
		s.Browser(t).Open(t, "/authorize?"+query.Params(map[string]string{"redirect_uri": authztest.RedirectURI + "?foo=bar"}).Encode()).Is(t, "login_page")
	})
}

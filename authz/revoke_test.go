package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api, tpp := s.Client("bank-api"), s.Client("tpp-mtls")
	active := func(t *testing.T, tokens map[string]any) bool {
		return api.Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}).JSON["active"] == true
	}
	revoke := func(t *testing.T, c *authztest.Client, form url.Values) {
		t.Helper()
		if answer := c.Post(t, "/revoke", form); answer.Status != http.StatusOK || len(answer.Body) != 0 || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("answered %d %s", answer.Status, answer.Body)
		}
	}
	for name, c := range map[string]struct {
		form url.Values
		code fapi.Code
	}{
		"RFC 7009 §2.1: no token": {url.Values{}, fapi.InvalidRequest},
		"an empty token":          {url.Values{"token": {""}, "token_type_hint": {"access_token"}}, fapi.InvalidRequest},
		"two tokens":              {url.Values{"token": {"x", "y"}}, fapi.InvalidRequest},
		"two hints":               {url.Values{"token": {"x"}, "token_type_hint": {"access_token", "refresh_token"}}, fapi.InvalidRequest},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			tpp.Post(t, "/revoke", c.form).Refused(t, 400, c.code)
		})
	}
	t.Run("nothing to revoke", func(t *testing.T) {
		for name, form := range map[string]url.Values{
			"RFC 7009 §2.2: an unknown token": {"token": {"x"}},
			"a hint that nobody knows":        {"token": {"x"}, "token_type_hint": {"pigeon"}},
			"a token of our form":             {"token": {"csrt_" + strings.Repeat("A", 100)}},
			"a JWT of nobody's":               {"token": {foreignIDToken}},
			"a very long one":                 {"token": {strings.Repeat("x", 20000)}},
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); revoke(t, tpp, form) })
		}
	})
	for _, id := range []string{"tpp-mtls", "tpp-jwt", "tpp-dpop", "spa"} {
		t.Run("REV-01: another client's tokens are not revoked: "+id, func(t *testing.T) {
			c := s.Client(id)
			tokens := c.Grant(t, map[string]string{"scope": "openid accounts offline_access"})
			for _, other := range []string{"tpp", "web"} {
				for _, name := range []string{"access_token", "refresh_token"} {
					s.Client(other).Post(t, "/revoke", url.Values{"token": {tokens[name].(string)}}).Refused(t, 400, fapi.UnauthorizedClient)
				}
			}
			if !active(t, tokens) {
				t.Error("the access token is revoked")
			}
			c.Token(t, refreshed(tokens["refresh_token"]))
		})
		for _, hint := range []string{"", "refresh_token", "access_token", "pigeon"} {
			t.Run("REV-02: with an access token the refresh token stays, hint "+hint+": "+id, func(t *testing.T) {
				c := s.Client(id)
				tokens := c.Grant(t, map[string]string{"scope": "openid accounts offline_access"})
				form := url.Values{"token": {tokens["access_token"].(string)}, "token_type_hint": {hint}}
				revoke(t, c, form)
				revoke(t, c, form) // twice is once
				if active(t, tokens) {
					t.Error("REV-03: the access token is active")
				}
				c.Get(t, "/userinfo", tokens["access_token"].(string)).Challenged(t, 401, scheme(c), fapi.InvalidToken)
				if again := c.Token(t, refreshed(tokens["refresh_token"])); !active(t, again) {
					t.Error("the new access token is not active")
				}
			})
		}
		t.Run("REV-02: with a refresh token all goes: "+id, func(t *testing.T) {
			c := s.Client(id)
			tokens := c.Grant(t, map[string]string{"scope": "openid accounts offline_access"})
			again := c.Token(t, refreshed(tokens["refresh_token"]))
			form := url.Values{"token": {again["refresh_token"].(string)}, "token_type_hint": {"access_token"}}
			revoke(t, c, form)
			revoke(t, c, form)
			if active(t, tokens) || active(t, again) {
				t.Error("an access token is active")
			}
			c.Post(t, "/token", refreshed(again["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
		})
	}
	t.Run("a token of client credentials", func(t *testing.T) {
		tokens := tpp.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})
		s.Client("tpp").Post(t, "/revoke", url.Values{"token": {tokens["access_token"].(string)}}).Refused(t, 400, fapi.UnauthorizedClient)
		if !active(t, tokens) {
			t.Error("another client has revoked it")
		}
		revoke(t, tpp, url.Values{"token": {tokens["access_token"].(string)}})
		if active(t, tokens) {
			t.Error("it is active")
		}
	})
}

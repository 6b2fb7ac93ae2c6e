package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

const inactive = `{"active":false}`

func TestIntrospect(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api, other := s.Client("bank-api"), s.Client("other-api")
	opaque, jwt := s.Client("tpp-mtls").Grant(t, nil), s.Client("tpp-jwt").Grant(t, nil)
	own := s.Client("tpp-mtls").Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})
	elsewhere := s.Client("tpp-mtls").Token(t, url.Values{"grant_type": {"client_credentials"}, "resource": {"https://other.example"}})
	token := func(tokens map[string]any) string { return tokens["access_token"].(string) }

	for _, c := range []struct {
		name   string
		client *authztest.Client
		form   url.Values
		status int
		code   fapi.Code
	}{
		{"RFC 7662 §2.1: no token", api, url.Values{}, 400, fapi.InvalidRequest},
		{"an empty token", api, url.Values{"token": {""}}, 400, fapi.InvalidRequest},
		{"two tokens", api, url.Values{"token": {token(opaque), token(opaque)}}, 400, fapi.InvalidRequest},
		{"X16: a client that is no resource server, of its own token", s.Client("tpp-mtls"), url.Values{"token": {token(opaque)}}, 403, fapi.UnauthorizedClient},
		{"X16: a public client", s.Client("spa"), url.Values{"token": {token(opaque)}}, 403, fapi.UnauthorizedClient},
		{"MS-05: a client with a secret", s.Client("web"), url.Values{"token": {token(opaque)}}, 403, fapi.UnauthorizedClient},
	} {
		t.Run("refuses "+c.name, func(t *testing.T) {
			t.Parallel()
			c.client.Post(t, "/introspect", c.form).Refused(t, c.status, c.code)
		})
	}
	revoked := s.Client("tpp-self").Grant(t, nil)
	s.Client("tpp-self").Post(t, "/revoke", url.Values{"token": {token(revoked)}})
	for name, c := range map[string]struct {
		client *authztest.Client
		token  string
	}{
		"INT-02: an unknown token":                  {api, "x"},
		"a token of our form":                       {api, "csat_" + strings.Repeat("A", 200)},
		"the prefix alone":                          {api, "csat_"},
		"a token that is too long for any of ours":  {api, strings.Repeat("x", 20000)},
		"a token that was changed":                  {api, flipped(token(opaque), 20)},
		"a JWT whose signature was changed":         {api, flipped(token(jwt), len(token(jwt))-10)},
		"a JWT of nobody's":                         {api, foreignIDToken},
		"a JWT without signature":                   {api, token(jwt)[:strings.LastIndex(token(jwt), ".")+1]},
		"a refresh token":                           {api, opaque["refresh_token"].(string)},
		"AT-02: an ID token":                        {api, opaque["id_token"].(string)},
		"a token with a line break":                 {api, token(opaque) + "\n"},
		"a token with a blank":                      {api, " " + token(opaque)},
		"X16: of another resource server":           {api, token(elsewhere)},
		"X16: opaque, asked by another server":      {other, token(opaque)},
		"X16: a JWT, asked by another server":       {other, token(jwt)},
		"X16: client credentials, asked by another": {other, token(own)},
		"REV-03: one that was revoked":              {api, token(revoked)},
	} {
		t.Run("inactive: "+name, func(t *testing.T) {
			t.Parallel()
			if answer := c.client.Post(t, "/introspect", url.Values{"token": {c.token}}); answer.Status != http.StatusOK || string(answer.Body) != inactive || answer.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("answered %d %s", answer.Status, answer.Body)
			}
		})
	}
	for name, c := range map[string]struct {
		client *authztest.Client
		form   url.Values
		wants  []string
	}{
		"opaque":                      {api, url.Values{"token": {token(opaque)}}, []string{"scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti", "cnf", "acr", "auth_time", "account_ids", "grant_id", "fineract_tenant"}},
		"a JWT":                       {api, url.Values{"token": {token(jwt)}}, []string{"scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti", "cnf", "acr", "auth_time", "account_ids", "grant_id", "fineract_tenant"}},
		"client credentials":          {api, url.Values{"token": {token(own)}}, []string{"scope", "client_id", "sub", "aud", "exp", "cnf"}},
		"the other server, its own":   {other, url.Values{"token": {token(elsewhere)}}, []string{"client_id"}},
		"RFC 7662 §2.1: a false hint": {api, url.Values{"token": {token(opaque)}, "token_type_hint": {"refresh_token"}}, []string{"sub"}},
		"a hint that nobody knows":    {api, url.Values{"token": {token(opaque)}, "token_type_hint": {"pigeon"}}, []string{"sub"}},
	} {
		t.Run("active: "+name, func(t *testing.T) {
			t.Parallel()
			answer := c.client.Post(t, "/introspect", c.form)
			if answer.Status != http.StatusOK || answer.JSON["active"] != true || answer.JSON["token_type"] != "Bearer" {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			for _, name := range c.wants {
				if answer.JSON[name] == nil {
					t.Errorf("no %s in %s", name, answer.Body)
				}
			}
			if answer.JSON["authorization_id"] != nil {
				t.Error("it shows the authorization's id")
			}
		})
	}
}

// flipped changes one character.
func flipped(s string, at int) string {
	c := byte('A')
	if s[at] == c {
		c = 'B'
	}
	return s[:at] + string(c) + s[at+1:]
}

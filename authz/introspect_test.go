package authz_test

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/resource"
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

// INT-04: a resource server that asks for a signed answer gets one.
func TestIntrospect_Signed(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api, other, c := s.Client("bank-api"), s.Client("other-api"), s.Client("tpp-jwt")
	key := authztest.NewKey(t)
	service := map[string]any{
		"resource_identifiers": []string{authztest.Resource}, "redirect_uris": []string{authztest.RedirectURI},
		"introspection_signed_response_alg": "EdDSA", "introspection_encrypted_response_alg": "ECDH-ES",
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "enc", Use: "enc"}}},
	}
	secret := s.AddClient(t, "secret-api", fapi.FAPI2, fapi.TLSClientAuth, service)
	service["jwks"], service["jwks_uri"] = nil, "https://127.0.0.1:1/"
	keyless := s.AddClient(t, "keyless-api", fapi.FAPI2, fapi.TLSClientAuth, service)
	access := c.Grant(t, nil)["access_token"].(string)
	ask := func(t *testing.T, c *authztest.Client, token string, accept ...string) *authztest.Answer {
		t.Helper()
		return c.Raw(t, "POST", "/introspect", c.Authenticated(t, url.Values{"token": {token}}).Encode(), http.Header{"Accept": accept})
	}
	const asJWT = "application/token-introspection+jwt"
	// said checks the JWT of an answer, and returns what it says of the token.
	said := func(t *testing.T, c *authztest.Client, token, alg string) map[string]any {
		t.Helper()
		header, claims := s.Verified(t, token)
		if header["typ"] != "token-introspection+jwt" || header["alg"] != alg {
			t.Errorf("RFC 9701 §5: header %v", header)
		}
		iat, _ := claims["iat"].(float64)
		if claims["iss"] != s.Issuer || claims["aud"] != c.ID || time.Since(time.Unix(int64(iat), 0)).Abs() > time.Minute || len(claims) != 4 {
			t.Errorf("RFC 9701 §5: claims %v", claims)
		}
		about, _ := claims["token_introspection"].(map[string]any)
		return about
	}
	for name, test := range map[string]struct {
		client *authztest.Client
		token  string
		active bool
	}{
		"active":                    {api, access, true},
		"INT-02: unknown":           {api, "x", false},
		"X16: asked by another":     {other, access, false},
		"a signed answer, as token": {api, string(ask(t, api, access, asJWT).Body), false},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, test.client, test.token, asJWT)
			if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != asJWT || answer.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("answered %d %v %s", answer.Status, answer.Header, answer.Body)
			}
			about := said(t, test.client, string(answer.Body), "ES256")
			if about["active"] != test.active || !test.active && len(about) != 1 || test.active && (about["sub"] == nil || about["exp"] == nil || about["cnf"] == nil) {
				t.Errorf("said %v", about)
			}
		})
	}
	for accept, signed := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "application/*": false, "application/jwt": false, "rubbish;;": false,
		asJWT: true, asJWT + ", application/json": true, "application/json;q=0.5, " + asJWT + ";q=0.9": true, "*/*, " + asJWT: true,
		"Application/Token-Introspection+JWT": true, asJWT + ";q=0": false, "application/json, " + asJWT + ";q=0.5": false, asJWT + ";q=x": false,
	} {
		t.Run("RFC 9701 §4: Accept "+accept, func(t *testing.T) {
			answer := ask(t, api, access, accept)
			if got := answer.Header.Get("Content-Type"); answer.Status != http.StatusOK || (got == asJWT) != signed || (got == "application/json") == signed {
				t.Errorf("answered %d %s", answer.Status, got)
			}
		})
	}
	t.Run("RFC 9701 §6: signed with the alg that was registered, and encrypted", func(t *testing.T) {
		for _, token := range []string{access, "x"} {
			inner, header := authztest.Decrypted(t, string(ask(t, secret, token, asJWT).Body), key)
			if about := said(t, secret, inner, "EdDSA"); about["active"] != (token == access) || header["cty"] != "JWT" {
				t.Errorf("header %v, said %v", header, about)
			}
		}
		if answer := ask(t, keyless, access, asJWT); answer.Status != http.StatusInternalServerError || answer.JSON["error"] != "server_error" {
			t.Errorf("without a key: answered %d %s", answer.Status, answer.Body)
		}
	})
	t.Run("RFC 9701 §8.1: such a JWT is no access token", func(t *testing.T) {
		c.Get(t, "/userinfo", string(ask(t, api, access, asJWT).Body)).Challenged(t, http.StatusUnauthorized, "Bearer", fapi.InvalidToken)
	})
	t.Run("errors are JSON, whatever is asked for", func(t *testing.T) {
		ask(t, api, "", asJWT).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
		ask(t, s.Client("tpp-mtls"), access, asJWT).Refused(t, http.StatusForbidden, fapi.UnauthorizedClient)
	})
}

// MS-05: a service that takes nothing but signed answers, of a real server.
func TestIntrospect_SignedForAService(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api, c := s.Client("bank-api"), s.Client("tpp-mtls")
	guard, err := resource.New(t.Context(), resource.Config{
		Issuer: s.Issuer, Audience: authztest.Resource, ClientID: api.ID, Authentication: resource.Certificate(*api.Certificate),
		RootCAs: s.Roots, SignedIntrospection: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewUnstartedServer(guard.Require(resource.Need{Scopes: []string{"accounts"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(resource.PrincipalFrom(r.Context()).ClientID))
	})))
	service.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	service.StartTLS()
	defer service.Close()
	transport := service.Client().Transport.(*http.Transport)
	transport.TLSClientConfig.Certificates = []tls.Certificate{*c.Certificate}
	call := func(token string) *authztest.Answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		return authztest.Do(t, service.Client(), r)
	}
	access := c.Grant(t, nil)["access_token"].(string)
	if answer := call(access); answer.Status != http.StatusOK || string(answer.Body) != c.ID {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
	c.Post(t, "/revoke", url.Values{"token": {access}})
	if answer := call(access); answer.Status != http.StatusUnauthorized {
		t.Errorf("after revocation: answered %d %s", answer.Status, answer.Body)
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

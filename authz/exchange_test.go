package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

const (
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	otherResource   = "https://other.example"
)

// addService registers a resource server that may exchange tokens.
func addService(t *testing.T, s *authztest.Server, id string, profile fapi.ProfileName, method fapi.AuthMethod, resource string, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{
		"resource_identifiers": []string{resource}, "redirect_uris": []string{authztest.RedirectURI}, "scope": "accounts",
		"grant_types": []string{"authorization_code", "client_credentials", fapi.GrantTokenExchange},
	}
	for name, value := range more {
		all[name] = value
	}
	return s.AddClient(t, id, profile, method, all)
}

func exchangeForm(subject string, more url.Values) url.Values {
	form := url.Values{"grant_type": {fapi.GrantTokenExchange}, "subject_token": {subject}, "subject_token_type": {accessTokenType}}
	for name, values := range more {
		if values == nil {
			form.Del(name)
		} else {
			form[name] = values
		}
	}
	return form
}

// exchangedAt exchanges, and says what introspection says of the new token.
func exchangedAt(t *testing.T, c *authztest.Client, subject string, more url.Values) (token string, said map[string]any) {
	t.Helper()
	answer := c.Post(t, "/token", exchangeForm(subject, more))
	if answer.Status != http.StatusOK {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	if answer.JSON["issued_token_type"] != accessTokenType || answer.JSON["refresh_token"] != nil || answer.JSON["id_token"] != nil {
		t.Errorf("%s", answer.Body)
	}
	token = answer.JSON["access_token"].(string)
	said = c.Post(t, "/introspect", url.Values{"token": {token}}).JSON
	return token, said
}

// RFC 8693 §2: a resource server gets a token of its own for what it was called with.
func TestExchange(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	bound := map[string]any{"tls_client_certificate_bound_access_tokens": true}
	core := addService(t, s, "core", fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, bound)
	jwt := addService(t, s, "core-jwt", fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, map[string]any{"tls_client_certificate_bound_access_tokens": true, "access_token_format": "jwt"})
	ledger := addService(t, s, "ledger", fapi.FAPI2, fapi.PrivateKeyJWT, otherResource, map[string]any{"dpop_bound_access_tokens": true})
	ledger.DPoPKey = authztest.NewKey(t)
	tpp := s.Client("tpp")
	tokens := tppTokens(t, s, tpp)
	subject := tokens["access_token"].(string)

	token, said := exchangedAt(t, core, subject, nil)
	if said["active"] != true || said["client_id"] != "core" || said["authorized_client"] != "tpp" || said["scope"] != "accounts" || said["made_from"] != nil ||
		fmt.Sprint(said["aud"]) != fmt.Sprint([]string{authztest.Resource, otherResource}) || fmt.Sprint(said["account_ids"]) != "[12]" {
		t.Errorf("%v", said)
	}
	if diff := cmp.Diff(map[string]any{"sub": "core"}, said["act"]); diff != "" {
		t.Error(diff)
	}
	first := core.Post(t, "/introspect", url.Values{"token": {subject}}).JSON
	if said["sub"] != first["sub"] || said["exp"].(float64) > first["exp"].(float64) || fmt.Sprint(said["cnf"]) == fmt.Sprint(first["cnf"]) || said["cnf"] == nil {
		t.Errorf("%v of %v", said, first)
	}

	narrow, said := exchangedAt(t, core, subject, url.Values{"audience": {otherResource}, "scope": {"accounts"}, "requested_token_type": {accessTokenType}})
	if said["active"] != false { // it is not for core
		t.Errorf("%v", said)
	}
	_, said = exchangedAt(t, ledger, narrow, nil)
	if diff := cmp.Diff(map[string]any{"sub": "ledger", "act": map[string]any{"sub": "core"}}, said["act"]); diff != "" || said["token_type"] != "DPoP" {
		t.Errorf("%s\n%v", diff, said)
	}
	signed, _ := exchangedAt(t, jwt, subject, url.Values{"resource": {authztest.Resource}})
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(signed, ".")[1])
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil || claims["client_id"] != "core-jwt" || claims["act"] == nil || fmt.Sprint(claims["aud"]) != "["+authztest.Resource+"]" {
		t.Errorf("%v %s", err, payload)
	}
	if info := core.Get(t, "/userinfo", token); info.Status != http.StatusForbidden {
		t.Errorf("userinfo: %d", info.Status)
	}
	// The client itself may make its token narrower.
	own := addService(t, s, "own", fapi.FAPI2, fapi.TLSClientAuth, "https://own.example", map[string]any{
		"tls_client_certificate_bound_access_tokens": true, "resources": []string{authztest.Resource}, "scope": "openid profile accounts", "resource_identifiers": nil,
	})
	ownTokens := own.Exchange(t, s.Approve(t, own, own.Push(t, nil)))
	answer := own.Post(t, "/token", exchangeForm(ownTokens["access_token"].(string), url.Values{"scope": {"accounts"}}))
	if answer.Status != http.StatusOK || answer.JSON["scope"] != "accounts" {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	stolen := *own
	stolen.Certificate = s.Certificate(t, "own")
	stolen.Post(t, "/token", exchangeForm(ownTokens["access_token"].(string), nil)).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
}

// tppTokens are tokens of the tpp for both resource servers.
func tppTokens(t *testing.T, s *authztest.Server, c *authztest.Client) map[string]any {
	t.Helper()
	params := c.Params(nil)
	params["resource"] = []string{authztest.Resource, otherResource}
	answer := c.Post(t, "/par", params)
	uri, _ := answer.JSON["request_uri"].(string)
	return c.Exchange(t, s.Approve(t, c, uri))
}

// RFC 8693 §2.2.2: what is refused, and how.
func TestExchange_Refused(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	bound := map[string]any{"tls_client_certificate_bound_access_tokens": true}
	core := addService(t, s, "core", fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, bound)
	bearer := addService(t, s, "bearer", fapi.OpenID, fapi.ClientSecretBasic, authztest.Resource, nil)
	stranger := addService(t, s, "stranger", fapi.FAPI2, fapi.TLSClientAuth, "https://stranger.example", bound)
	tokens := tppTokens(t, s, s.Client("tpp"))
	subject := tokens["access_token"].(string)
	spa := s.Client("spa")
	free := spa.Exchange(t, s.Approve(t, spa, spa.Push(t, nil)))["access_token"].(string) // not bound
	forItself := s.Client("tpp-mtls").Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).JSON["access_token"].(string)
	coreItself := core.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).JSON["access_token"].(string)
	bearerItself := bearer.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).JSON["access_token"].(string)
	strangerItself := stranger.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).JSON["access_token"].(string)
	deep := subject
	for range 4 {
		deep, _ = exchangedAt(t, core, deep, nil)
	}
	for _, test := range []struct {
		name    string
		client  *authztest.Client
		subject string
		more    url.Values
		want    fapi.Code
	}{
		{"§2.1: a client that did not register the grant", s.Client("bank-api"), subject, nil, fapi.UnauthorizedClient},
		{"§2.1: no subject_token", core, "", nil, fapi.InvalidRequest},
		{"§2.1: no subject_token_type", core, subject, url.Values{"subject_token_type": nil}, fapi.InvalidRequest},
		{"§3: an ID token", core, tokens["id_token"].(string), url.Values{"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"}}, fapi.InvalidRequest},
		{"§3: an ID token for an access token", core, tokens["id_token"].(string), nil, fapi.InvalidRequest},
		{"§3: a refresh token", core, tokens["refresh_token"].(string), nil, fapi.InvalidRequest},
		{"§2.2.2: noise", core, "noise", nil, fapi.InvalidRequest},
		{"§2.2.2: a token that is not meant for the caller", stranger, subject, nil, fapi.InvalidRequest},
		{"a token that speaks for no customer", core, forItself, nil, fapi.InvalidRequest},
		{"a token that was exchanged four times", core, deep, nil, fapi.InvalidRequest},
		{"a bound token for a bearer token", bearer, subject, nil, fapi.InvalidRequest},
		{"§2.1: another requested_token_type", core, subject, url.Values{"requested_token_type": {"urn:ietf:params:oauth:token-type:refresh_token"}}, fapi.InvalidRequest},
		{"§2.1: a resource beyond the token's", core, free, url.Values{"resource": {otherResource}}, fapi.InvalidTarget},
		{"§2.1: an audience beyond the token's", core, subject, url.Values{"audience": {"payments"}}, fapi.InvalidTarget},
		{"§2.1: one of two beyond", core, subject, url.Values{"audience": {otherResource, "payments"}}, fapi.InvalidTarget},
		{"§2.1: a scope beyond the token's", core, subject, url.Values{"scope": {"accounts payments"}}, fapi.InvalidScope},
		{"the customer's name is not handed on", core, subject, url.Values{"scope": {"openid"}}, fapi.InvalidScope},
		{"RFC 9396 §6: details are not changed here", core, subject, url.Values{"authorization_details": {`[{"type":"x"}]`}}, fapi.InvalidAuthorizationDetails},
		{"§2.1: an actor_token without type", core, subject, url.Values{"actor_token": {coreItself}}, fapi.InvalidRequest},
		{"§2.1: an actor_token_type without token", core, subject, url.Values{"actor_token_type": {accessTokenType}}, fapi.InvalidRequest},
		{"another client's actor_token", core, subject, url.Values{"actor_token": {strangerItself}, "actor_token_type": {accessTokenType}}, fapi.InvalidRequest},
		{"another client's actor_token that is not bound", core, subject, url.Values{"actor_token": {bearerItself}, "actor_token_type": {accessTokenType}}, fapi.InvalidRequest},
		{"a customer's token for an actor_token", core, subject, url.Values{"actor_token": {deep}, "actor_token_type": {accessTokenType}}, fapi.InvalidRequest},
		{"RFC 6749 §3.2: a parameter twice", core, subject, url.Values{"scope": {"accounts", "accounts"}}, fapi.InvalidRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := test.client.Post(t, "/token", exchangeForm(test.subject, test.more))
			answer.Refused(t, http.StatusBadRequest, test.want)
		})
	}
	t.Run("an actor_token of its own", func(t *testing.T) {
		exchangedAt(t, core, subject, url.Values{"actor_token": {coreItself}, "actor_token_type": {accessTokenType}})
		if answer := core.Post(t, "/revoke", url.Values{"token": {coreItself}}); answer.Status != http.StatusOK {
			t.Fatal(answer.Status)
		}
		core.Post(t, "/token", exchangeForm(subject, url.Values{"actor_token": {coreItself}, "actor_token_type": {accessTokenType}})).
			Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	})
	t.Run("a bearer token for a bearer token", func(t *testing.T) {
		if answer := bearer.Post(t, "/token", exchangeForm(free, nil)); answer.Status != http.StatusOK || answer.JSON["token_type"] != "Bearer" {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	})
}

// What an exchanged token was made from ends it: the authorization, each token before it, the clients of both.
func TestExchange_Dies(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	core := addService(t, s, "core", fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, map[string]any{"tls_client_certificate_bound_access_tokens": true})
	api, tpp := s.Client("bank-api"), s.Client("tpp-mtls")
	revoke := func(t *testing.T, c *authztest.Client, token string) {
		if answer := c.Post(t, "/revoke", url.Values{"token": {token}}); answer.Status != http.StatusOK {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
	}
	for _, test := range []struct {
		name string
		end  func(t *testing.T, tokens map[string]any, one, two string)
	}{
		{"the authorization", func(t *testing.T, tokens map[string]any, _, _ string) {
			revoke(t, tpp, tokens["refresh_token"].(string))
		}},
		{"the subject token", func(t *testing.T, tokens map[string]any, _, _ string) {
			revoke(t, tpp, tokens["access_token"].(string))
		}},
		{"the token in between", func(t *testing.T, _ map[string]any, one, _ string) { revoke(t, core, one) }},
		{"the token itself", func(t *testing.T, _ map[string]any, _, two string) { revoke(t, core, two) }},
		{"the customer's withdrawal", func(t *testing.T, _ map[string]any, _, _ string) {
			s.SQL(t, "UPDATE grants SET revoked_at = now() WHERE revoked_at IS NULL")
		}},
		{"the first client is disabled", func(t *testing.T, _ map[string]any, _, _ string) { s.DisableClient(t, "tpp-mtls") }}, // the last one
	} {
		t.Run(test.name, func(t *testing.T) {
			tokens := tppTokens(t, s, tpp)
			one, _ := exchangedAt(t, core, tokens["access_token"].(string), nil)
			two, _ := exchangedAt(t, core, one, nil)
			if !isActive(t, api, two) {
				t.Fatal("not active to begin with")
			}
			test.end(t, tokens, one, two)
			if isActive(t, api, two) {
				t.Error("active after the end of what it was made from")
			}
			if answer := core.Get(t, "/open-banking/v3.1/aisp/account-access-consents/x", two); answer.Status != http.StatusUnauthorized {
				t.Errorf("taken by an API: %d", answer.Status)
			}
			core.Post(t, "/token", exchangeForm(two, nil)).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
		})
	}
}

// It is never good for longer than the token that it was made from.
func TestExchange_EndsInTime(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	core := addService(t, s, "core", fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, map[string]any{"tls_client_certificate_bound_access_tokens": true})
	tokens := tppTokens(t, s, s.Client("tpp"))
	time.Sleep(2100 * time.Millisecond)
	answer := core.Post(t, "/token", exchangeForm(tokens["access_token"].(string), nil))
	if left := answer.JSON["expires_in"]; answer.Status != http.StatusOK || left.(float64) > 298 || left.(float64) < 280 {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
}

package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

const (
	accountDetail  = `{"type":"account_information","actions":["list_accounts","read_balances"]}`
	accountGranted = `{"type":"account_information","actions":["list_accounts","read_balances"],"accounts":["12"]}`
	paymentDetail  = `{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"Merchant A","creditorAccount":{"iban":"DE02100100109307118603"}}`
)

// rich is a client of all built-in types that manages grants. more replaces its metadata.
func rich(t *testing.T, s *authztest.Server, id string, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{
		"authorization_details_types": []string{"account_information", "payment_initiation", "customer_information"},
		"scope":                       "openid profile accounts grant_management_query grant_management_revoke",
		"tls_client_certificate_bound_access_tokens": true,
	}
	for name, value := range more {
		all[name] = value
	}
	return s.AddClient(t, id, fapi.FAPI2, fapi.TLSClientAuth, all)
}

// has fails the test unless a member holds these details, in any order of members.
func has(t *testing.T, what string, said map[string]any, details ...string) {
	t.Helper()
	var want any
	if len(details) > 0 {
		if err := json.Unmarshal([]byte("["+strings.Join(details, ",")+"]"), &want); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, said["authorization_details"]); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

// introspected is what the bank's resource server learns of the access token.
func introspected(t *testing.T, s *authztest.Server, tokens map[string]any) map[string]any {
	t.Helper()
	return s.Client("bank-api").Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}).JSON
}

// claimsOf are those of a JWT.
func claimsOf(t *testing.T, tokens map[string]any) (claims map[string]any) {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens["access_token"].(string), ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// RAR-04, RAR-05: what was granted, enriched, is in every place where tokens speak.
func TestRAR_GrantedDetails(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	asked := map[string]string{"authorization_details": "[" + accountDetail + "," + paymentDetail + "]", "scope": ""}
	for _, format := range []string{"opaque", "jwt"} {
		t.Run(format, func(t *testing.T) {
			c := rich(t, s, "rich-"+format, map[string]any{"access_token_format": format})
			tokens := c.Grant(t, asked)
			has(t, "RAR-04: the token response", tokens, accountGranted, paymentDetail)
			has(t, "RAR-05: introspection", introspected(t, s, tokens), accountGranted, paymentDetail)
			again := c.Token(t, refreshed(tokens["refresh_token"]))
			has(t, "RAR-04: refreshing", again, accountGranted, paymentDetail)
			has(t, "RAR-05: introspection of the new token", introspected(t, s, again), accountGranted, paymentDetail)
			if format == "jwt" {
				has(t, "RAR-05: the JWT", claimsOf(t, tokens), accountGranted, paymentDetail)
			}
			if tokens["scope"] != nil || tokens["grant_id"] != nil {
				t.Errorf("RAR-03: without scope, and without an action: %v", tokens)
			}
		})
	}
}

// RFC 9396 §6.1: a token request gets less when it asks for less, and never more.
func TestRAR_TokenRequestNarrows(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	asked := map[string]string{"authorization_details": "[" + accountDetail + "," + paymentDetail + "]"}
	const less, lessGranted = `[{"type":"account_information","actions":["read_balances"]}]`, `{"type":"account_information","actions":["read_balances"],"accounts":["12"]}`
	for _, format := range []string{"opaque", "jwt"} {
		t.Run(format, func(t *testing.T) {
			c := rich(t, s, "rich-"+format, map[string]any{"access_token_format": format})
			form := c.ExchangeForm(s.Approve(t, c, c.Push(t, asked)))
			form.Set("authorization_details", less)
			tokens := c.Token(t, form)
			has(t, "the token response", tokens, lessGranted)
			has(t, "introspection", introspected(t, s, tokens), lessGranted)
			if said := introspected(t, s, tokens); said["only"] != nil {
				t.Errorf("what is ours alone is shown: %v", said)
			}
			all := c.Token(t, refreshed(tokens["refresh_token"]))
			has(t, "the grant is as wide as it was", all, accountGranted, paymentDetail)
			again := c.Token(t, refreshed(tokens["refresh_token"], "authorization_details", "["+paymentDetail+"]"))
			has(t, "refreshing", again, paymentDetail)
			has(t, "introspection of what was refreshed", introspected(t, s, again), paymentDetail)
			if format == "jwt" {
				has(t, "the JWT", claimsOf(t, again), paymentDetail)
			}
			for name, wider := range map[string]string{
				"an amount more":         strings.Replace("["+paymentDetail+"]", "123.50", "1123.50", 1),
				"an action more":         `[{"type":"account_information","actions":["read_balances","pay"]}]`,
				"an account more":        `[{"type":"account_information","actions":["read_balances"],"accounts":["12","13"]}]`,
				"all actions":            `[{"type":"account_information"}]`,
				"another type":           `[{"type":"customer_information"}]`,
				"no list":                `{}`,
				"none":                   `[]`,
				"a member that is twice": `[{"type":"account_information","actions":["read_balances"],"actions":["read_balances"]}]`,
				"too long":               `[{"type":"` + strings.Repeat("x", 33<<10) + `"}]`,
			} {
				answer := c.Post(t, "/token", refreshed(tokens["refresh_token"], "authorization_details", wider))
				if name == "too long" { // all together have a limit too
					answer.Refused(t, 400, fapi.InvalidRequest)
				} else {
					answer.Refused(t, 400, fapi.InvalidAuthorizationDetails)
				}
				if t.Failed() {
					t.Fatalf("%s: %s", name, answer.Body)
				}
			}
		})
	}
	t.Run("with the code: more is refused", func(t *testing.T) {
		c := rich(t, s, "rich-code", nil)
		form := c.ExchangeForm(s.Approve(t, c, c.Push(t, asked)))
		form.Set("authorization_details", `[{"type":"customer_information"}]`)
		c.Post(t, "/token", form).Refused(t, 400, fapi.InvalidAuthorizationDetails)
	})
	t.Run("client credentials have none", func(t *testing.T) {
		rich(t, s, "rich-cc", nil).Post(t, "/token", url.Values{"grant_type": {"client_credentials"}, "authorization_details": {"[" + accountDetail + "]"}}).
			Refused(t, 400, fapi.InvalidAuthorizationDetails)
	})
	t.Run("a public client's refresh token outlives a refusal", func(t *testing.T) {
		spa := s.Client("spa")
		tokens := spa.Grant(t, map[string]string{"scope": "openid offline_access", "authorization_details": "[" + accountDetail + "]"})
		spa.Post(t, "/token", refreshed(tokens["refresh_token"], "authorization_details", `[{"type":"account_information"}]`)).Refused(t, 400, fapi.InvalidAuthorizationDetails)
		has(t, "after it", spa.Token(t, refreshed(tokens["refresh_token"])), accountGranted)
	})
	t.Run("what was narrowed stays narrow when it is exchanged", func(t *testing.T) {
		for _, format := range []string{"opaque", "jwt"} {
			c := rich(t, s, "rich-x-"+format, map[string]any{"access_token_format": format})
			service := addService(t, s, "core-"+format, fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource,
				map[string]any{"tls_client_certificate_bound_access_tokens": true, "access_token_format": format})
			form := c.ExchangeForm(s.Approve(t, c, c.Push(t, asked)))
			form.Set("authorization_details", less)
			_, said := exchangedAt(t, service, c.Token(t, form)["access_token"].(string), nil)
			has(t, format, said, lessGranted)
		}
	})
}

// RAR-03, RES-02: a token speaks to each resource server of what concerns it, and of nothing else.
func TestRAR_Audience(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	here := `{"type":"customer_information","identifier":"here","locations":["` + authztest.Resource + `/v1"]}`
	there := `{"type":"customer_information","identifier":"there","locations":["` + otherResource + `/v1"]}`
	anywhere := `{"type":"customer_information","identifier":"anywhere"}`
	elsewhere := `{"type":"customer_information","identifier":"elsewhere","locations":["https://elsewhere.example"]}`
	both := []string{authztest.Resource, otherResource}
	clients := map[string]*authztest.Client{
		"opaque": rich(t, s, "rich-opaque", nil), "jwt": rich(t, s, "rich-jwt", map[string]any{"access_token_format": "jwt"}),
	}
	for _, c := range []struct {
		name           string
		details        []string
		asked, aimed   []string // resource, of the authorization request and of the token request
		audience, want []string
	}{
		{"no resource: the default, and everything", []string{anywhere, elsewhere}, nil, nil, both[:1], []string{anywhere, elsewhere}},
		{"no resource: locations say where", []string{there, anywhere, elsewhere}, nil, nil, both[1:], []string{there, anywhere}},
		{"no resource: locations at both", []string{there, here}, nil, nil, both, []string{there, here}},
		{"a resource in the authorization request", []string{here, there, anywhere, elsewhere}, both[:1], nil, both[:1], []string{here, anywhere}},
		{"RFC 9396 §3.2: what the resource does not have is granted, for another token", []string{here, there}, both, both[1:], both[1:], []string{there}},
		{"a resource in the token request", []string{here, there, anywhere}, nil, both[1:], both[1:], []string{there, anywhere}},
		{"nothing concerns it", []string{here}, both, both[1:], both[1:], nil},
	} {
		for format, client := range clients {
			t.Run(c.name+", "+format, func(t *testing.T) {
				params := client.Params(map[string]string{"authorization_details": "[" + strings.Join(c.details, ",") + "]"})
				params["resource"] = c.asked
				pushed := client.Post(t, "/par", params)
				form := client.ExchangeForm(s.Approve(t, client, pushed.JSON["request_uri"].(string)))
				form["resource"] = c.aimed
				tokens := client.Token(t, form)
				has(t, "the token response", tokens, c.want...)
				service := s.Client("bank-api")
				if c.audience[0] == otherResource {
					service = s.Client("other-api")
				}
				said := service.Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}).JSON
				has(t, "introspection", said, c.want...)
				var audience []string
				for _, a := range said["aud"].([]any) {
					audience = append(audience, a.(string))
				}
				if diff := cmp.Diff(c.audience, audience); diff != "" {
					t.Errorf("aud: %s", diff)
				}
				if format == "jwt" {
					has(t, "the JWT", claimsOf(t, tokens), c.want...)
				}
			})
		}
	}
}

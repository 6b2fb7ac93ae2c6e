package fapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func registrationRules() *RegistrationRules {
	return &RegistrationRules{
		Profiles: []ProfileName{OpenID, FAPI1Advanced, FAPI2}, Scopes: []string{"openid", "profile", "accounts"},
		DetailTypes: DefaultDetailTypes(), Signing: []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256},
	}
}

// newcomer is a registration of a client with an RSA and an EC key.
func newcomer(changes map[string]any) map[string]any {
	keys := map[string]any{"keys": []any{publicJWK(rsaKey().Public(), map[string]any{"kid": "rsa"}), publicJWK(ecKey().Public(), map[string]any{"kid": "ec", "x-more": 1})}}
	all := with(map[string]any{"redirect_uris": []string{"https://app.example/cb"}, "token_endpoint_auth_method": "private_key_jwt", "jwks": keys}, changes)
	for name, value := range all {
		if value == nil {
			delete(all, name)
		}
	}
	return all
}

func register(rules *RegistrationRules, body map[string]any) (*Client, map[string]any, error) {
	m, err := ParseRegistration(must(json.Marshal(body)))
	if err != nil {
		return nil, nil, err
	}
	c, stored, err := rules.Register("dcr-1", m, nil)
	if err != nil {
		return nil, nil, err
	}
	var effective map[string]any
	must(0, json.Unmarshal(stored, &effective))
	return c, effective, c.CheckKeys()
}

func TestRegister(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	uris := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("https://app.example/%d", i))
		}
		return all
	}
	for _, test := range []struct {
		name    string
		changes m
		want    Code   // "": registered
		members string // that the refusal names
		is      m      // members of what is registered; nil: absent
	}{
		{name: "RFC 7591 §2: defaults", changes: m{"token_endpoint_auth_method": nil}, is: m{
			"client_id": "dcr-1", "token_endpoint_auth_method": "client_secret_basic", "grant_types": []any{"authorization_code"}, "response_types": []any{"code"},
			"scope": "openid profile accounts", "id_token_signed_response_alg": "RS256", "application_type": "web", "profile": "openid", "subject_type": "public",
		}},
		{name: "X4: defaults of the profile where it does not allow the standard's", changes: m{"profile": "fapi2", "token_endpoint_auth_method": nil}, is: m{
			"token_endpoint_auth_method": "private_key_jwt", "id_token_signed_response_alg": "ES256", "authorization_signed_response_alg": "ES256",
		}},
		{name: "RFC 7591 §2: unknown members are left out", changes: m{"frobnicate": m{"a": 1}, "client_name#de": "App", "Client_Name": "X"}, is: m{"frobnicate": nil, "client_name#de": nil, "Client_Name": nil, "client_name": nil}},
		{name: "RFC 7592 §2.2: null is absent", changes: m{"client_name": json.RawMessage("null")}, is: m{"client_name": nil}},
		{name: "the operator's members are not the client's to choose", changes: m{"resources": []string{"https://x.example"}, "resource_identifiers": []string{"https://api.example"}, "roles": []string{"ADMIN"}, "access_token_format": "jwt"},
			is: m{"resources": nil, "resource_identifiers": nil, "roles": nil, "access_token_format": "opaque"}},
		{name: "BCP-06: the id is not the client's to choose", changes: m{"client_id": "tpp"}, is: m{"client_id": "dcr-1"}},
		{name: "a profile that may be chosen", changes: m{"profile": "fapi1-advanced"}, is: m{"profile": "fapi1-advanced"}},
		{name: "a profile that may not", changes: m{"profile": "fapi1-baseline"}, want: InvalidClientMetadata, members: "profile"},
		{name: "a profile that is none", changes: m{"profile": "x"}, want: InvalidClientMetadata, members: "profile"},
		{name: "RFC 7591 §2: scopes that are not to be had are left out", changes: m{"scope": "openid admin accounts accounts"}, is: m{"scope": "openid accounts"}},
		{name: "OpenID Connect Registration §2: hybrid clients name implicit", changes: m{"grant_types": []string{"authorization_code", "implicit"}, "response_types": []string{"code id_token"}},
			is: m{"grant_types": []any{"authorization_code", "implicit"}, "response_types": []any{"code id_token"}}},
		{name: "BCP-02: FAPI has no implicit grant, which is left out", changes: m{"profile": "fapi1-advanced", "grant_types": []string{"authorization_code", "implicit"}, "response_types": []string{"code id_token"}},
			is: m{"grant_types": []any{"authorization_code"}, "response_types": []any{"code id_token"}}},
		{name: "OpenID Connect Core §15.2: id_token", changes: m{"grant_types": []string{"implicit"}, "response_types": []string{"id_token"}},
			is: m{"grant_types": []any{"implicit"}, "response_types": []any{"id_token"}}},
		{name: "implicit for no response_type", changes: m{"grant_types": []string{"implicit"}}, want: InvalidClientMetadata, members: "grant_types"},
		{name: "a client that wants none of our grants", changes: m{"grant_types": []string{"password"}}, want: InvalidClientMetadata, members: "grant_types"},
		{name: "types of authorization_details that are not known are left out", changes: m{"authorization_details_types": []string{"account_information", "x"}}, is: m{"authorization_details_types": []any{"account_information"}}},
		{name: "the keys stay as they were written", is: m{"jwks": newcomer(nil)["jwks"]}},

		{name: "OP:redirect-uri-regfrag", changes: m{"redirect_uris": []string{"https://app.example/cb#x"}}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "RFC 7591 §2: no redirect_uris", changes: m{"redirect_uris": nil}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "redirect_uris: http in FAPI", changes: m{"profile": "fapi2", "redirect_uris": []string{"http://127.0.0.1/cb"}}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "redirect_uris: javascript", changes: m{"redirect_uris": []string{"javascript:alert(1)"}}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "redirect_uris: 32", changes: m{"redirect_uris": uris(32)}},
		{name: "redirect_uris: 33", changes: m{"redirect_uris": uris(33)}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "redirect_uris: too long", changes: m{"redirect_uris": []string{"https://app.example/" + strings.Repeat("a", 2048)}}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "redirect_uris: no array", changes: m{"redirect_uris": "https://app.example/cb"}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "redirect_uris: no strings", changes: m{"redirect_uris": []int{1}}, want: InvalidRedirectURI, members: "redirect_uris"},
		{name: "request_uris: too many", changes: m{"request_uris": uris(33)}, want: InvalidClientMetadata, members: "request_uris"},
		{name: "request_uris: with the hash of their content", changes: m{"request_uris": []string{"https://app.example/r.jwt#abc"}}},
		{name: "request_uris: http", changes: m{"request_uris": []string{"http://app.example/r.jwt"}}, want: InvalidClientMetadata, members: "request_uris"},
		{name: "client_name: too long", changes: m{"client_name": strings.Repeat("a", 129)}, want: InvalidClientMetadata, members: "client_name"},
		{name: "client_name: a line break", changes: m{"client_name": "a\nb"}, want: InvalidClientMetadata, members: "client_name"},
		{name: "client_name: a number", changes: m{"client_name": 5}, want: InvalidClientMetadata, members: "client_name"},
		{name: "logo_uri: a script", changes: m{"logo_uri": "javascript:alert(1)"}, want: InvalidClientMetadata, members: "logo_uri"},
		{name: "OP:3rd_party-init-login-nohttps", changes: m{"initiate_login_uri": "http://app.example/login"}, want: InvalidClientMetadata, members: "initiate_login_uri"},
		{name: "DCR-03: jwks and jwks_uri", changes: m{"jwks_uri": "https://app.example/jwks"}, want: InvalidClientMetadata, members: "jwks_uri"},
		{name: "jwks: none for private_key_jwt", changes: m{"jwks": nil}, want: InvalidClientMetadata, members: "jwks"},
		{name: "jwks: a private key", changes: m{"jwks": m{"keys": []any{publicJWK(ecKey(), nil)}}}, want: InvalidClientMetadata, members: "jwks"},
		{name: "jwks: not a key set", changes: m{"jwks": []string{"a"}}, want: InvalidClientMetadata, members: "jwks"},
		{name: "jwks: no key for requests that must be signed", changes: m{"token_endpoint_auth_method": "client_secret_basic", "jwks": nil, "request_object_signing_alg": "ES256"}, want: InvalidClientMetadata, members: "jwks"},
		{name: "jwks: no key to encrypt to", changes: m{"jwks": m{"keys": []any{publicJWK(edKey().Public(), nil)}}, "id_token_encrypted_response_alg": "ECDH-ES"}, want: InvalidClientMetadata, members: "jwks"},
		{name: "jwks: a key to encrypt to", changes: m{"id_token_encrypted_response_alg": "ECDH-ES"}, is: m{"id_token_encrypted_response_enc": "A128CBC-HS256"}},
		{name: "OP:idtoken-unsigned: none is no algorithm of ours", changes: m{"id_token_signed_response_alg": "none"}, want: InvalidClientMetadata, members: "id_token_signed_response_alg"},
		{name: "X4: RS256 is not for FAPI", changes: m{"profile": "fapi2", "id_token_signed_response_alg": "RS256"}, want: InvalidClientMetadata, members: "id_token_signed_response_alg"},
		{name: "OP:userinfo-rs256", changes: m{"userinfo_signed_response_alg": "RS256"}, is: m{"userinfo_signed_response_alg": "RS256"}},
		{name: "X23: client_secret_jwt", changes: m{"token_endpoint_auth_method": "client_secret_jwt"}, want: InvalidClientMetadata, members: "token_endpoint_auth_method"},
		{name: "X23: a secret in FAPI", changes: m{"profile": "fapi2", "token_endpoint_auth_method": "client_secret_basic"}, want: InvalidClientMetadata, members: "token_endpoint_auth_method"},
		{name: "X23: a public client in FAPI", changes: m{"profile": "fapi2", "token_endpoint_auth_method": "none"}, want: InvalidClientMetadata, members: "token_endpoint_auth_method"},
		{name: "RFC 7591 §2.1: response_types without their grant", changes: m{"grant_types": []string{"client_credentials"}, "response_types": []string{"code"}}, want: InvalidClientMetadata, members: "response_types"},
		{name: "RFC 7591 §2.1: a grant that needs no response_types", changes: m{"grant_types": []string{"client_credentials"}, "redirect_uris": nil}, is: m{"response_types": nil}},
		{name: "response_types without their grant: implicit", changes: m{"grant_types": []string{"authorization_code"}, "response_types": []string{"code", "id_token token"}}, want: InvalidClientMetadata, members: "response_types"},
		{name: "pairwise: several hosts need a sector", changes: m{"subject_type": "pairwise", "redirect_uris": []string{"https://a.example/", "https://b.example/"}}, want: InvalidClientMetadata, members: "sector_identifier_uri"},
		{name: "several members", changes: m{"jwks": nil, "initiate_login_uri": "http://x"}, want: InvalidClientMetadata, members: "initiate_login_uri, jwks"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, effective, err := register(registrationRules(), newcomer(test.changes))
			refused(t, err, test.want)
			if test.want != "" {
				if got := AsError(err).Description; got != "The metadata are not acceptable: "+test.members+"." {
					t.Errorf("the refusal says %q, want it to name %s", got, test.members)
				}
				return
			}
			for name, want := range test.is {
				if diff := cmp.Diff(jsonValue(want), effective[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// jsonValue is a value as it comes back from JSON.
func jsonValue(v any) (out any) {
	must(0, json.Unmarshal(must(json.Marshal(v)), &out))
	return out
}

// The server need not sign with what is the standard's default.
func TestRegister_SigningKeys(t *testing.T) {
	t.Parallel()
	rules := registrationRules()
	rules.Signing = []jose.SignatureAlgorithm{jose.EdDSA}
	_, effective, err := register(rules, newcomer(nil))
	refused(t, err, "")
	if got := effective["id_token_signed_response_alg"]; got != "EdDSA" {
		t.Errorf("signs with %v", got)
	}
	_, _, err = register(rules, newcomer(map[string]any{"id_token_signed_response_alg": "ES256"}))
	refused(t, err, InvalidClientMetadata)
}

// What an operator gave a client stays when the client replaces its metadata.
func TestRegister_Replace(t *testing.T) {
	t.Parallel()
	before := &Client{Roles: []string{"TELLER"}, Resources: []string{"https://api.example"}, ResourceIdentifiers: []string{"https://r.example"}, AccessTokenFormat: JWT}
	c, _, err := registrationRules().Register("dcr-1", must(ParseRegistration(must(json.Marshal(newcomer(map[string]any{"roles": []string{"ADMIN"}}))))), before)
	refused(t, err, "")
	if diff := cmp.Diff([]any{before.Roles, before.Resources, before.ResourceIdentifiers, before.AccessTokenFormat}, []any{c.Roles, c.Resources, c.ResourceIdentifiers, c.AccessTokenFormat}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRegistration(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "null", "[]", "5", `"a"`, "{", `{"a":1,"a":2}`, `{"a":"\u0000"}`, "{}x", strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)} {
		_, err := ParseRegistration([]byte(body))
		refused(t, err, InvalidClientMetadata)
	}
	if m, err := ParseRegistration([]byte(`{"a":null,"b":1}`)); err != nil || len(m) != 1 {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestMetadata_CheckReplacement(t *testing.T) {
	t.Parallel()
	hash := SecretHash("s3cret")
	for _, test := range []struct {
		name, body string
		hash       []byte
		want       Code
	}{
		{"RFC 7592 §2.2: with client_id", `{"client_id":"a"}`, nil, ""},
		{"RFC 7592 §2.2: without", `{}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: another's", `{"client_id":"b"}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: no string", `{"client_id":["a"]}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: with its secret", `{"client_id":"a","client_secret":"s3cret"}`, hash, ""},
		{"RFC 7592 §2.2: with a secret of its choice", `{"client_id":"a","client_secret":"mine"}`, hash, InvalidClientMetadata},
		{"RFC 7592 §2.2: with a secret though it has none", `{"client_id":"a","client_secret":""}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: registration_access_token", `{"client_id":"a","registration_access_token":"x"}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: registration_client_uri", `{"client_id":"a","registration_client_uri":"x"}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: client_secret_expires_at", `{"client_id":"a","client_secret_expires_at":0}`, nil, InvalidClientMetadata},
		{"RFC 7592 §2.2: client_id_issued_at", `{"client_id":"a","client_id_issued_at":0}`, nil, InvalidClientMetadata},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := must(ParseRegistration([]byte(test.body))).CheckReplacement("a", test.hash)
			refused(t, err, test.want)
		})
	}
}

func TestClient_CheckSector(t *testing.T) {
	t.Parallel()
	c := &Client{RedirectURIs: []string{"https://a.example/", "https://b.example/"}}
	for document, want := range map[string]Code{
		`["https://a.example/","https://b.example/","https://c.example/"]`: "",
		`["https://a.example/"]`: InvalidClientMetadata,
		`[]`:                     InvalidClientMetadata,
		`{}`:                     InvalidClientMetadata,
		`null`:                   InvalidClientMetadata,
		`["https://a.example/","https://b.example/",1]`: InvalidClientMetadata,
		`<html>`: InvalidClientMetadata,
		``:       InvalidClientMetadata,
	} {
		refused(t, c.CheckSector([]byte(document)), want)
	}
}

func TestStatementIssuers_Check(t *testing.T) {
	t.Parallel()
	const directory = "https://directory.example"
	keys := must(ReadStatementKeys(must(json.Marshal(map[string]any{"keys": []any{publicJWK(ecKey().Public(), map[string]any{"kid": "ec"}), publicJWK(rsaKey().Public(), map[string]any{"kid": "rsa"})}}))))
	issuers := StatementIssuers{directory: {Keys: keys, MaxAge: 30 * time.Minute}, "https://formatted.example": {Keys: keys, MaxAge: time.Hour,
		Format: func(claims Metadata) (Metadata, error) {
			if claims["org_status"] == nil {
				return nil, Refuse(UnapprovedSoftwareStatement, "The organisation is not active.")
			}
			return Metadata{"client_name": claims["software_client_name"]}, nil
		}}}
	kid := map[string]any{"kid": "ec"}
	claims := map[string]any{"iss": directory, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "client_name": "Vouched", "redirect_uris": []string{"https://vouched.example/"}}
	signed := func(changes map[string]any) string { return signJWT(ecKey(), jose.ES256, kid, with(claims, changes)) }
	type m = map[string]any
	for _, test := range []struct {
		name, statement string
		want            Code
	}{
		{"RFC 7591 §2.3: ES256", signed(nil), ""},
		{"RFC 7591 §2.3: PS256", signJWT(rsaKey(), jose.PS256, m{"kid": "rsa"}, claims), ""},
		{"RFC 7591 §2.3: without kid", signJWT(rsaKey(), jose.PS256, nil, claims), ""},
		{"without exp", signed(m{"exp": nil}), ""},
		{"pinned: RS256", signJWT(rsaKey(), jose.RS256, m{"kid": "rsa"}, claims), InvalidSoftwareStatement},
		{"pinned: none", "eyJhbGciOiJub25lIn0." + strings.Split(signed(nil), ".")[1] + ".", InvalidSoftwareStatement},
		{"another key", signJWT(otherKey(), jose.ES256, kid, claims), InvalidSoftwareStatement},
		{"a kid that is not there", signJWT(ecKey(), jose.ES256, m{"kid": "x"}, claims), InvalidSoftwareStatement},
		{"another issuer", signed(m{"iss": "https://evil.example"}), UnapprovedSoftwareStatement},
		{"no issuer", signed(m{"iss": nil}), UnapprovedSoftwareStatement},
		{"an issuer that is no string", signed(m{"iss": 1}), InvalidSoftwareStatement},
		{"expired", signed(m{"exp": now.Unix()}), InvalidSoftwareStatement},
		{"without iat", signed(m{"iat": nil}), InvalidSoftwareStatement},
		{"too old", signed(m{"iat": now.Add(-30*time.Minute - time.Second).Unix()}), InvalidSoftwareStatement},
		{"from the future", signed(m{"iat": now.Add(time.Minute).Unix()}), InvalidSoftwareStatement},
		{"not yet valid", signed(m{"nbf": now.Add(time.Minute).Unix()}), InvalidSoftwareStatement},
		{"not a JWT", "a.b.c", InvalidSoftwareStatement},
		{"empty", "", InvalidSoftwareStatement},
		{"too long", strings.Repeat("a", maxStatement+1), InvalidSoftwareStatement},
		{"a claim that is there twice", signText(`{"iss":"` + directory + `","iss":"` + directory + `"}`), InvalidSoftwareStatement},
		{"a format of its own", signed(m{"iss": "https://formatted.example", "org_status": "Active", "software_client_name": "Vouched"}), ""},
		{"a format's refusal", signed(m{"iss": "https://formatted.example"}), UnapprovedSoftwareStatement},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			vouched, err := issuers.Check(test.statement, now)
			refused(t, err, test.want)
			if test.want == "" && string(vouched["client_name"]) != `"Vouched"` {
				t.Errorf("vouches for %s", vouched)
			}
		})
	}
}

func signText(claims string) string {
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey()}, nil))
	return must(must(signer.Sign([]byte(claims))).CompactSerialize())
}

func TestReadStatementKeys(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"", "{}", `{"keys":[]}`, string(must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: edKey().Public()}}}))),
		string(must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey()}}})))} {
		if _, err := ReadStatementKeys([]byte(document)); err == nil {
			t.Errorf("%.40q: accepted", document)
		}
	}
}

func FuzzRegistration(f *testing.F) {
	f.Add(must(json.Marshal(newcomer(nil))))
	f.Add(must(json.Marshal(newcomer(map[string]any{"profile": "fapi2", "scope": "openid x", "grant_types": []string{"implicit", "authorization_code"}, "default_max_age": 5}))))
	f.Add(must(json.Marshal(newcomer(map[string]any{"token_endpoint_auth_method": nil, "jwks": nil, "resources": 1, "redirect_uris": []string{"http://127.0.0.1:80/"}}))))
	f.Add([]byte(`{"client_id":"x","client_secret":"y","subject_type":"pairwise","jwks_uri":"https://a.example","redirect_uris":["https://a.example"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := ParseRegistration(body)
		sendable(t, err)
		if err != nil {
			return
		}
		_, err = m.Statement()
		sendable(t, err)
		_, err = m.CheckReplacement("dcr-1", nil)
		sendable(t, err)
		rules := registrationRules()
		c, stored, err := rules.Register("dcr-1", m, nil)
		sendable(t, err)
		if err != nil {
			return
		}
		again, err := ParseClient(stored)
		if err != nil {
			t.Fatalf("what is stored cannot be read: %v\n%s", err, stored)
		}
		switch {
		case again.ID != "dcr-1", len(c.Resources)+len(c.ResourceIdentifiers)+len(c.Roles) > 0, c.AccessTokenFormat != Opaque:
			t.Fatalf("chose what is the operator's: %s", stored)
		case len(c.RedirectURIs) > maxListed, len(c.Name) > maxName, len(stored) > len(body)+4096:
			t.Fatalf("too large: %s", stored)
		}
		for _, scope := range c.Scopes() {
			if !strings.Contains(" openid profile accounts ", " "+scope+" ") {
				t.Fatalf("scope %q", scope)
			}
		}
		if err := c.CheckKeys(); err != nil && !errors.Is(err, InvalidClientMetadata) {
			t.Fatal(err)
		}
	})
}

package fapi

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// registered is the metadata of a client that any profile takes, with changes; nil takes a member away.
func registered(changes map[string]any) []byte {
	metadata := map[string]any{
		"client_id": "tpp", "redirect_uris": []string{"https://tpp.example/cb"}, "scope": "openid accounts",
		"token_endpoint_auth_method": "private_key_jwt", "tls_client_certificate_bound_access_tokens": true,
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey().Public(), KeyID: "ec", Algorithm: "ES256", Use: "sig"}}},
	}
	maps.Copy(metadata, changes)
	maps.DeleteFunc(metadata, func(_ string, v any) bool { return v == nil })
	return must(json.Marshal(metadata))
}

type changes = map[string]any

// ciba are the changes that make it a client with CIBA, and more.
func ciba(more changes) changes {
	return with(changes{
		"grant_types": []string{"authorization_code", GrantCIBA}, "backchannel_token_delivery_mode": "ping",
		"backchannel_client_notification_endpoint": "https://tpp.example/ciba",
	}, more)
}

func TestCheckRegistration(t *testing.T) {
	t.Parallel()
	weak := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: must(rsa.GenerateKey(rand.Reader, 1024)).Public(), KeyID: "weak"}}}
	for _, c := range []struct {
		name    string
		changes changes
		profile ProfileName
		failed  string // ids, sorted; "" is none
		change  string // part of what the first is told
	}{
		{"a good client", nil, FAPI2, "", ""},
		{"a good client, moving to message signing", nil, FAPI2MessageSigning, "", ""},
		{"a good client, moving to FAPI 1.0", nil, FAPI1Advanced, "", ""},
		{"its own profile", changes{"profile": "openid", "token_endpoint_auth_method": "client_secret_basic"}, "", "", ""},
		{"fapi2 when it has none", changes{"token_endpoint_auth_method": "client_secret_basic"}, "", "client-authentication", `wants one of [private_key_jwt`},
		{"FAPI 2.0 SP §5.3.2.1-6: a secret", changes{"profile": "openid", "token_endpoint_auth_method": "client_secret_basic"}, FAPI2, "client-authentication", `"client_secret_basic"`},
		{"FAPI 2.0 SP §5.3.2.1-3: a public client", changes{"token_endpoint_auth_method": "none"}, FAPI2, "client-authentication confidential-client", ""},
		{"FAPI 1.0 Part 1: a public client", changes{"token_endpoint_auth_method": "none"}, FAPI1Baseline, "", ""},
		{"FAPI 2.0 SP §5.4.1-2: a small key", changes{"jwks": weak}, FAPI2, "client-keys", "2048"},
		{"no keys", changes{"jwks": nil}, FAPI2, "client-keys", "private_key_jwt needs"},
		{"FAPI 2.0 SP §5.4.1-1: RS256", changes{"id_token_signed_response_alg": "RS256"}, FAPI2, "signing-algorithms", "RS256"},
		{"FAPI 1.0 Part 2 §8.6: EdDSA", changes{"id_token_signed_response_alg": "EdDSA"}, FAPI1Advanced, "signing-algorithms", "EdDSA"},
		{"FAPI 1.0 Part 2 §8.6.1: RSA1_5", changes{"id_token_encrypted_response_alg": "RSA1_5"}, FAPI1Advanced, "encryption-algorithms", "RSA1_5"},
		{"FAPI 2.0 SP §5.3.2.2-1: a hybrid client", changes{"profile": "openid", "response_types": []string{"code id_token"}}, FAPI2, "response-types", "code id_token"},
		{"FAPI 1.0 Part 2 §5.2.2-2: plain code", changes{"response_types": []string{"code"}, "response_modes": []string{"form_post"}}, FAPI1Advanced, "response-types", "jwt"},
		{"FAPI 1.0 Part 2 §5.2.2-2: code with JARM", changes{"response_types": []string{"code"}, "response_modes": []string{"jwt"}}, FAPI1Advanced, "", ""},
		{"FAPI 2.0 SP §5.3.2.2-8: http", changes{"redirect_uris": []string{"http://127.0.0.1/cb"}}, FAPI2, "redirect-uris", "not https"},
		{"OpenID: http on the loopback address", changes{"redirect_uris": []string{"http://127.0.0.1/cb"}}, OpenID, "", ""},
		{"FAPI 2.0 SP §5.3.2.1-2: the password grant", changes{"grant_types": []string{"authorization_code", "password"}}, FAPI2, "grant-types", "password"},
		{"FAPI 1.0 Part 2 §5.2.2-6: bound by DPoP", changes{"dpop_bound_access_tokens": true}, FAPI1Advanced, "sender-constrained-tokens", "dpop"},
		{"FAPI 2.0 MS §5.3.1-1: no key to sign with", changes{"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=tpp", "jwks": nil}, FAPI2MessageSigning, "client-keys signed-requests", ""},
		{"a typing error", changes{"nmae": "x"}, FAPI2, "metadata", "nmae"},
		{"a typing error, and more", changes{"nmae": "x", "token_endpoint_auth_method": "none"}, FAPI2, "client-authentication confidential-client metadata", ""},
		{"no client_id", changes{"client_id": ""}, FAPI2, "metadata", "client_id"},
		{"CIBA Core §4: a good client", ciba(changes{"backchannel_token_delivery_mode": "push", "tls_client_certificate_bound_access_tokens": nil}), OpenID, "", ""},
		{"FAPI-CIBA: a good client", ciba(nil), FAPICIBA, "", ""},
		{"FAPI-CIBA: without CIBA it is FAPI 1.0", nil, FAPICIBA, "", ""},
		{"FAPI-CIBA §5.2.2-1: a public client", ciba(changes{"token_endpoint_auth_method": "none"}), FAPICIBA, "client-authentication confidential-client grant-types", ""},
		{"FAPI-CIBA §5.2.2-3: push", ciba(changes{"backchannel_token_delivery_mode": "push"}), FAPICIBA, "ciba-delivery", "[poll ping]"},
		{"FAPI-CIBA §5.2.2-6: no key to sign with", ciba(changes{"jwks": nil, "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=tpp"}), FAPICIBA, "ciba-signed-requests client-keys signed-requests", "no key"},
		{"FAPI 1.0 Part 2 §8.6: RS256 for CIBA requests", ciba(changes{"backchannel_authentication_request_signing_alg": "RS256"}), FAPICIBA, "ciba-signed-requests client-keys signing-algorithms", "RS256"},
		{"CIBA Core §4: no delivery mode", ciba(changes{"backchannel_token_delivery_mode": nil, "backchannel_client_notification_endpoint": nil}), OpenID, "ciba-delivery", "poll ping push"},
		{"CIBA Core §4: no notification endpoint", ciba(changes{"backchannel_client_notification_endpoint": nil}), OpenID, "ciba-delivery", "ping and push"},
		{"CIBA in a profile without it", ciba(nil), FAPI1Advanced, "grant-types", "does not have urn:openid:params:grant-type:ciba"},
		{"a resource service has no redirect URIs", changes{"grant_types": []string{"client_credentials"}, "redirect_uris": nil, "resource_identifiers": []string{"https://api.bank.example"}}, FAPI2, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			findings, err := CheckRegistration(registered(c.changes), c.profile)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			change := ""
			for _, f := range findings {
				if f.Clause == "" || f.Requirement == "" || f.ID == "" {
					t.Errorf("not all is said: %+v", f)
				}
				if (f.Verdict == Failed || f.Verdict == Enforced || f.Verdict == Advice) && f.Change == "" {
					t.Errorf("%s: nothing to do", f.ID)
				}
				if f.Verdict == Failed {
					if failed = append(failed, f.ID); change == "" {
						change = f.Change
					}
				}
			}
			slices.Sort(failed)
			if got := strings.Join(failed, " "); got != c.failed || !strings.Contains(change, c.change) || Failures(findings) != len(failed) {
				t.Errorf("failed %q (%s), want %q", got, change, c.failed)
			}
		})
	}
	service := must(CheckRegistration(registered(changes{"grant_types": []string{"client_credentials"}, "redirect_uris": nil}), FAPI2))
	if i := slices.IndexFunc(service, func(f Finding) bool { return f.ID == "redirect-uris" || f.ID == "pkce" }); i >= 0 {
		t.Errorf("a client without a browser is asked for %s", service[i].ID)
	}
	for name, text := range map[string]string{"no JSON": "{", "a list": "[]", "a key that is none": `{"jwks":{"keys":[{"kty":"x"}]}}`} {
		if _, err := CheckRegistration([]byte(text), FAPI2); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := CheckRegistration(registered(nil), "fapi3"); err == nil {
		t.Error("an unknown profile is accepted")
	}
}

// What ParseClient refuses has a finding that failed, in every profile.
func TestCheckRegistration_AgreesWithParseClient(t *testing.T) {
	t.Parallel()
	broken := []changes{
		nil, {"token_endpoint_auth_method": "none"}, {"token_endpoint_auth_method": "client_secret_post"}, {"jwks": nil}, {"redirect_uris": nil},
		{"redirect_uris": []string{"http://x.example"}}, {"scope": "\x00"}, {"subject_type": "x"}, {"default_max_age": -1}, {"policy_uri": "x"},
		{"response_types": []string{"token"}}, {"response_modes": []string{"x"}}, {"userinfo_encrypted_response_alg": "dir"}, {"access_token_format": "x"},
		{"grant_types": []string{"implicit"}}, {"application_type": "x"}, {"backchannel_logout_uri": "http://x"}, {"resources": []string{"x"}},
		ciba(nil), ciba(changes{"backchannel_token_delivery_mode": "push"}), ciba(changes{"backchannel_authentication_request_signing_alg": "RS256"}),
		{"backchannel_number_matching": true}, ciba(changes{"token_endpoint_auth_method": "none"}), {"jwks_uri": "https://tpp.example/jwks"}, {"jwks_uri": "http://tpp.example/jwks", "jwks": nil}, {"tls_client_auth_san_ip": "x", "token_endpoint_auth_method": "tls_client_auth"},
	}
	for _, name := range ProfileNames() {
		for _, change := range broken {
			change = maps.Clone(change)
			if change == nil {
				change = changes{}
			}
			change["profile"] = name
			metadata := registered(change)
			_, refused := ParseClient(metadata)
			findings, err := CheckRegistration(metadata, "")
			if err != nil || (refused != nil) != (Failures(findings) > 0) {
				t.Errorf("%s %v: ParseClient says %v, the check %+v %v", name, change, refused, findings, err)
			}
		}
	}
}

// Every demand of the profile table that a client can miss has its rule in every profile that demands it.
func TestCheckRegistration_Rules(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, r := range clientRules {
		if ids[r.id] {
			t.Errorf("%s is there twice", r.id)
		}
		ids[r.id] = true
	}
	for _, name := range ProfileNames() {
		p := FindProfile(name)
		for id, demanded := range map[string]bool{
			"pushed-requests": p.PAR == Required, "pkce": p.PKCE != Optional, "signed-requests": p.RequestObject == Required,
			"nonce-or-state": p.Nonce == Required, "sender-constrained-tokens": p.SenderConstraint == Required,
			"confidential-client": !slices.Contains(p.ClientAuth, NoAuth), "ciba-delivery": p.grants(GrantCIBA),
			"ciba-signed-requests": p.grants(GrantCIBA) && p.RequestObject == Required, "ciba-context": p.CIBAContext == Required,
		} {
			i := slices.IndexFunc(clientRules, func(r clientRule) bool { return r.id == id })
			if demanded && clientRules[i].clause(name) == "" {
				t.Errorf("%s demands %s, but no clause says so", name, id)
			}
		}
	}
}

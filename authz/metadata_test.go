package authz_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	web, tpp := s.Client("web"), s.Client("tpp-mtls")
	document := web.Raw(t, "GET", "/.well-known/openid-configuration", "", nil)
	oauth := web.Raw(t, "GET", "/.well-known/oauth-authorization-server", "", nil)
	if document.Status != http.StatusOK || string(document.Body) != string(oauth.Body) || document.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("MD-01: %d %s, %d %s", document.Status, document.Header, oauth.Status, oauth.Header)
	}
	if alias := tpp.Raw(t, "GET", "/.well-known/openid-configuration", "", nil); string(alias.Body) != string(document.Body) {
		t.Error("the listener for certificates has another document")
	}
	if head := web.Raw(t, "HEAD", "/.well-known/openid-configuration", "", nil); head.Status != http.StatusOK || len(head.Body) != 0 {
		t.Errorf("HEAD %d", head.Status)
	}
	said := document.JSON
	aliases, _ := said["mtls_endpoint_aliases"].(map[string]any)

	t.Run("MD-02: every value has the type of RFC 8414 §2", func(t *testing.T) {
		for name, value := range said {
			switch value := value.(type) {
			case string:
				if u, err := url.Parse(value); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
					t.Errorf("%s %q is not an https URL", name, value)
				}
				if name != "issuer" && name != "jwks_uri" && !strings.HasSuffix(name, "_endpoint") {
					t.Errorf("%s is not known as a URL", name)
				}
			case bool:
				if !strings.HasSuffix(name, "_supported") && !slices.Contains([]string{"tls_client_certificate_bound_access_tokens", "grant_management_action_required", "require_request_uri_registration"}, name) {
					t.Errorf("%s is not known as a boolean", name)
				}
			case []any:
				if len(value) == 0 || !strings.HasSuffix(name, "_supported") {
					t.Errorf("%s is an empty list, or no list", name)
				}
				seen := map[any]bool{}
				for _, item := range value {
					text, ok := item.(string)
					if name == "response_types_supported" {
						text = strings.ReplaceAll(text, " ", "")
					}
					if !ok || text == "" || strings.ContainsAny(text, " \t\"\\") || seen[item] {
						t.Errorf("%s holds %v", name, item)
					}
					seen[item] = true
				}
			case map[string]any:
				if name != "mtls_endpoint_aliases" {
					t.Errorf("%s is an object", name)
				}
			default:
				t.Errorf("%s is %T", name, value)
			}
		}
	})
	t.Run("MD-03: what OpenID Connect Discovery §3 and the profiles demand is there", func(t *testing.T) {
		if said["issuer"] != s.Issuer {
			t.Errorf("issuer %v", said["issuer"])
		}
		if said["authorization_response_iss_parameter_supported"] != true || said["tls_client_certificate_bound_access_tokens"] != true {
			t.Error("ISS-01, MTLS-05")
		}
		for name, values := range map[string][]string{
			"response_types_supported": {"code", "code id_token", "code token", "code id_token token"}, "subject_types_supported": {"public"}, "code_challenge_methods_supported": {"S256"},
			"id_token_signing_alg_values_supported": {"ES256"}, "scopes_supported": {"openid"}, "dpop_signing_alg_values_supported": {"ES256", "PS256", "EdDSA"},
			"grant_types_supported":                      {"authorization_code", "refresh_token", "client_credentials"},
			"token_endpoint_auth_methods_supported":      {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"},
			"response_modes_supported":                   {"query", "fragment", "form_post", "jwt", "query.jwt", "fragment.jwt", "form_post.jwt"},
			"authorization_signing_alg_values_supported": {"ES256", "EdDSA"}, "userinfo_signing_alg_values_supported": {"ES256", "EdDSA"},
			"introspection_signing_alg_values_supported":    {"ES256", "EdDSA"},
			"id_token_encryption_alg_values_supported":      {"RSA-OAEP-256", "ECDH-ES"},
			"id_token_encryption_enc_values_supported":      {"A256GCM", "A128GCM", "A128CBC-HS256"},
			"userinfo_encryption_alg_values_supported":      {"RSA-OAEP-256", "ECDH-ES"},
			"authorization_encryption_alg_values_supported": {"RSA-OAEP-256", "ECDH-ES"},
			"introspection_encryption_alg_values_supported": {"RSA-OAEP-256", "ECDH-ES"},
			"authorization_details_types_supported":         {"account_information"}, "acr_values_supported": {"urn:openbanking:psd2:sca"},
		} {
			list, _ := said[name].([]any)
			for _, value := range values {
				if !slices.Contains(list, any(value)) {
					t.Errorf("%s %v lacks %s", name, list, value)
				}
			}
		}
		if slices.Contains(said["response_types_supported"].([]any), any("token")) || slices.Contains(said["code_challenge_methods_supported"].([]any), any("plain")) ||
			slices.Contains(said["token_endpoint_auth_signing_alg_values_supported"].([]any), any("none")) {
			t.Error("it offers what is not allowed")
		}
		if said["grant_management_endpoint"] != s.Issuer+"/grants" || aliases["grant_management_endpoint"] != s.MTLSBase+"/grants" ||
			said["grant_management_action_required"] != false || len(said["grant_management_actions_supported"].([]any)) != 5 {
			t.Error("GM-04")
		}
		if said["require_pushed_authorization_requests"] == true {
			t.Error("X2: not all clients must push")
		}
	})
	t.Run("every endpoint is there, at both addresses, and answers", func(t *testing.T) {
		for name, path := range map[string]string{
			"pushed_authorization_request_endpoint": "/par", "token_endpoint": "/token", "introspection_endpoint": "/introspect",
			"revocation_endpoint": "/revoke", "userinfo_endpoint": "/userinfo", "backchannel_authentication_endpoint": "/bc-authorize",
		} {
			if said[name] != s.Issuer+path || aliases[name] != s.MTLSBase+path {
				t.Errorf("%s is %v, alias %v", name, said[name], aliases[name])
			}
			for _, c := range []*authztest.Client{web, tpp} {
				if answer := c.Raw(t, "POST", path, "", nil); answer.Status != http.StatusUnauthorized {
					t.Errorf("%s answers %d", name, answer.Status)
				}
			}
		}
		if said["authorization_endpoint"] != s.Issuer+"/authorize" || said["jwks_uri"] != s.Issuer+"/jwks" || len(aliases) != 9 {
			t.Errorf("authorization_endpoint %v, jwks_uri %v, %d aliases", said["authorization_endpoint"], said["jwks_uri"], len(aliases))
		}
		n := 0
		for name := range said {
			if strings.HasSuffix(name, "_endpoint") {
				n++
			}
		}
		if n != 11 {
			t.Errorf("%d endpoints, want 11: add the new one to this test", n)
		}
	})
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	web := s.Client("web")
	answer := web.Raw(t, "GET", "/jwks", "", nil)
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(answer.Body, &set); err != nil || answer.Status != http.StatusOK || len(set.Keys) < 4 {
		t.Fatalf("MD-04: want a current and a next key per algorithm: %d %s", answer.Status, answer.Body)
	}
	kids := map[any]bool{}
	for _, key := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if key[private] != nil {
				t.Errorf("key %v shows its private part", key["kid"])
			}
		}
		use := "sig"
		if key["alg"] == "ECDH-ES" {
			use = "enc"
		}
		if key["kid"] == nil || kids[key["kid"]] || key["use"] != use || key["alg"] == nil {
			t.Errorf("key %v", key)
		}
		kids[key["kid"]] = true
	}
	if cache := answer.Header.Get("Cache-Control"); !strings.Contains(cache, "max-age") {
		t.Errorf("Cache-Control %q", cache)
	}
}

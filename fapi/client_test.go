package fapi

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// publicJWK is a key as a client sends it, with other members in place of or beside its own.
func publicJWK(key any, members map[string]any) map[string]any {
	jwk := map[string]any{}
	must(0, json.Unmarshal(must(json.Marshal(jose.JSONWebKey{Key: key})), &jwk))
	return with(jwk, members)
}

func TestParseClient(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	keys := func(keys ...any) m { return m{"keys": keys} }
	ec := func(members m) any { return publicJWK(ecKey().Public(), members) }
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	weak := &rsa.PublicKey{N: rsaKey().N, E: 4}
	tlsAuth := m{"token_endpoint_auth_method": "tls_client_auth", "jwks": nil}
	var many []any
	for i := range 21 {
		many = append(many, ec(m{"kid": fmt.Sprint(i)}))
	}
	for _, test := range []struct {
		name    string
		changes m
		want    string // part of the error; "" is accepted
	}{
		{"RFC 7591 §2: accepts a client with keys", nil, ""},
		{"RFC 7523 §2.2: private_key_jwt needs keys", m{"jwks": nil}, "needs the client's public keys"},
		{"RFC 7523 §2.2: private_key_jwt needs a key in its set", m{"jwks": keys()}, "needs the client's public keys"},
		{"RFC 7523 §2.2: private_key_jwt needs a key for an allowed alg", m{"jwks": keys(publicJWK(p384Key().Public(), nil))}, "no key can verify"},
		{"RFC 7523 §2.2: private_key_jwt needs a key for its alg", m{"token_endpoint_auth_signing_alg": "PS256"}, "no key can verify"},
		{"RFC 7517 §4.2: a key for encryption does not authenticate", m{"jwks": keys(ec(m{"use": "enc"}))}, "no key can verify"},
		{"RFC 7517 §4.4: a key for another alg does not authenticate", m{"jwks": keys(ec(m{"alg": "ECDH-ES"}))}, "no key can verify"},
		{"RFC 7517 §4.3: a key without verify does not authenticate", m{"jwks": keys(ec(m{"key_ops": []string{"deriveKey"}}))}, "no key can verify"},
		{"RFC 7517 §4.3: accepts key_ops with verify", m{"jwks": keys(ec(m{"key_ops": []string{"verify"}, "use": "sig"}))}, ""},
		{"RFC 7517 §4.3: refuses key_ops that disagree with use", m{"jwks": keys(ec(m{"key_ops": []string{"encrypt"}, "use": "sig"}))}, "disagree"},
		{"RFC 7517 §4.3: refuses key_ops that are no array", m{"jwks": keys(ec(m{"key_ops": "verify"}))}, "disagree"},
		{"RFC 7517 §4.5: refuses a kid that is there twice", m{"jwks": keys(ec(m{"kid": "a"}), publicJWK(edKey().Public(), m{"kid": "a"}))}, `kid "a" is there twice`},
		{"RFC 7517 §4.5: accepts several keys without kid", m{"jwks": keys(ec(nil), publicJWK(edKey().Public(), nil))}, ""},
		{"RFC 9864 §2.2: accepts a key with alg Ed25519", m{"jwks": keys(publicJWK(edKey().Public(), m{"alg": "Ed25519"}))}, ""},
		{"accepts 20 keys", m{"jwks": keys(many[:20]...)}, ""},
		{"refuses 21 keys", m{"jwks": keys(many...)}, "too many"},
		{"RFC 7517 §9.2: refuses a private EC key", m{"jwks": keys(publicJWK(ecKey(), nil))}, "must not know"},
		{"RFC 7517 §9.2: refuses a private RSA key", m{"jwks": keys(publicJWK(rsaKey(), nil))}, "must not know"},
		{"RFC 7517 §9.2: refuses a private Ed25519 key", m{"jwks": keys(publicJWK(edKey(), nil))}, "must not know"},
		{"RFC 7518 §6.3.2: refuses half a private RSA key", m{"jwks": keys(publicJWK(rsaKey().Public(), m{"p": "AAAA"}))}, "must not know"},
		{"RFC 7518 §6.4: refuses a symmetric key", m{"jwks": keys(m{"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})}, "must not know"},
		{"FAPI2 §5.4.1: refuses RSA with 1024 bits", m{"jwks": keys(publicJWK(small.Public(), nil))}, "2048"},
		{"RFC 8017 §3.1: refuses an even RSA exponent", m{"jwks": keys(publicJWK(weak, nil))}, "odd exponent"},
		{"RFC 7518 §6.2.1: refuses a point beside the curve", m{"jwks": keys(ec(m{"x": strings.Repeat("A", 43)}))}, "curve"},
		{"RFC 8259 §4: refuses a member that is there twice", m{"jwks": json.RawMessage(`{"keys":[],"keys":[]}`)}, "twice"},

		{"RFC 8705 §2.1.2: tls_client_auth needs a name", tlsAuth, "exactly one"},
		{"RFC 8705 §2.1.2: and only one", with(tlsAuth, m{"tls_client_auth_subject_dn": "CN=x", "tls_client_auth_san_dns": "x"}), "exactly one"},
		{"RFC 8705 §2.1.2: accepts a subject", with(tlsAuth, m{"tls_client_auth_subject_dn": "CN=x,C=GB"}), ""},
		{"RFC 8705 §2.1.2: refuses a subject that is none", with(tlsAuth, m{"tls_client_auth_subject_dn": "/CN=x"}), "tls_client_auth_subject_dn"},
		{"RFC 8705 §2.1.2: accepts an IP address", with(tlsAuth, m{"tls_client_auth_san_ip": "2001:db8::1"}), ""},
		{"RFC 8705 §2.1.2: refuses an IP address that is none", with(tlsAuth, m{"tls_client_auth_san_ip": "1.2.3"}), "tls_client_auth_san_ip"},
		{"RFC 8705 §2.1.2: refuses an IP address with a zone", with(tlsAuth, m{"tls_client_auth_san_ip": "fe80::1%eth0"}), "tls_client_auth_san_ip"},
		{"RFC 8705 §2.1.2: refuses a URI that is none", with(tlsAuth, m{"tls_client_auth_san_uri": "x"}), "tls_client_auth_san_uri"},
		{"RFC 8705 §2.2.2: self_signed_tls_client_auth needs keys", m{"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": nil}, "needs the client's certificates"},

		{"FAPI2 §5.3.2.1: refuses client_secret_basic", m{"token_endpoint_auth_method": "client_secret_basic"}, "token_endpoint_auth_method"},
		{"FAPI2 §5.3.2.1: refuses public clients", m{"token_endpoint_auth_method": "none"}, "token_endpoint_auth_method"},
		{"FAPI2 §5.4.1: refuses RS256 for assertions", m{"token_endpoint_auth_signing_alg": "RS256"}, "token_endpoint_auth_signing_alg"},
		{"FAPI2 §5.4.1: refuses RS256 for ID tokens", m{"id_token_signed_response_alg": "RS256"}, "id_token_signed_response_alg"},
		{"FAPI2 §5.3.2.2: refuses code id_token", m{"response_types": []string{"code id_token"}}, "response_types"},
		{"FAPI2 §5.3.2.2: refuses http redirects", m{"redirect_uris": []string{"http://127.0.0.1/cb"}}, "not https"},
		{"RFC 9700 §2.4: refuses the password grant", m{"grant_types": []string{"password"}}, "not supported"},
		{"RFC 6749 §3.1.2: refuses a fragment", m{"redirect_uris": []string{"https://tpp.example/#"}}, "fragment"},
		{"RFC 9700 §2.1: refuses a relative redirect_uri", m{"redirect_uris": []string{"/cb"}}, "absolute"},
		{"RFC 9700 §2.1: refuses a user in a redirect_uri", m{"redirect_uris": []string{"https://a@tpp.example/"}}, "user"},
		{"RFC 9700 §2.1: refuses a backslash in a redirect_uri", m{"redirect_uris": []string{`https://tpp.example/\evil.example`}}, "backslash"},
		{"RFC 6749 §4.1: the code grant needs a redirect_uri", m{"redirect_uris": nil}, "redirect_uris"},
		{"RFC 6749 §3.3: refuses a scope with a quote", m{"scope": `openid "`}, "scope"},
		{"RFC 7591 §2: refuses a client_uri that is a script", m{"client_uri": "javascript:alert(1)"}, "client_uri"},
		{"RFC 8707 §2: refuses a resource with a fragment", m{"resources": []string{"https://api.example/#"}}, "resource"},
		{"RFC 6749 §2.2: refuses an empty client_id", m{"client_id": ""}, "client_id"},
		{"RFC 6749 §2.2: refuses a client_id with a space", m{"client_id": "a b"}, "client_id"},
		{"RFC 6749 §2.2: refuses a client_id of 256 characters", m{"client_id": strings.Repeat("a", 256)}, "client_id"},
		{"refuses an unknown profile", m{"profile": "fapi9"}, "fapi9"},
		{"refuses unknown metadata", m{"client_secrets": "x"}, "unknown field"},
		{"refuses metadata in another case", m{"CLIENT_ID": "x"}, "unknown field"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			metadata := with(m{
				"client_id": "tpp", "redirect_uris": []string{"https://tpp.example/callback"}, "scope": "openid", "jwks": keys(ec(m{"kid": "ec"})),
			}, test.changes)
			for name, value := range metadata {
				if value == nil {
					delete(metadata, name)
				}
			}
			client, err := ParseClient(must(json.Marshal(metadata)))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want an error with %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseClient(must(json.Marshal(client)))
			if err != nil {
				t.Fatalf("stored it cannot be read: %v", err)
			}
			if diff := cmp.Diff(string(must(json.Marshal(client))), string(must(json.Marshal(again)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseClient_namesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := ParseClient([]byte(`{"client_id":"tpp","redirect_uris":["http://a","/b"],"grant_types":["password"],"scope":"\""}`))
	for _, want := range []string{"http://a", "/b", "password", "scope", "jwks"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestKeysFor(t *testing.T) {
	t.Parallel()
	c := tpp(FAPI2)
	c.JWKS.Keys = append(c.JWKS.Keys, jose.JSONWebKey{Key: otherKey().Public(), KeyID: "old"})
	mustPrepare(c)
	for _, test := range []struct {
		name, kid string
		alg       jose.SignatureAlgorithm
		want      string
	}{
		{"RFC 7515 §4.1.4: the key with the kid", "old", jose.ES256, "old"},
		{"all that fit without kid", "", jose.ES256, "ec old"},
		{"no key of another kind", "rsa", jose.ES256, ""},
		{"no key for another alg", "", jose.RS256, ""},
		{"no guess for an unknown kid", "x", jose.ES256, ""},
		{"RSA", "", jose.PS256, "rsa"},
		{"Ed25519", "ed", jose.EdDSA, "ed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var kids []string
			for _, k := range c.keysFor(test.kid, test.alg) {
				kids = append(kids, k.kid)
			}
			if got := strings.Join(kids, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPrepare_programmaticKeys(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]any{
		"a private RSA key": rsaKey(), "a private EC key": ecKey(), "a private Ed25519 key": edKey(), "a symmetric key": []byte("secret"), "nothing": nil,
	} {
		c := tpp(FAPI2)
		c.JWKS.Keys[0].Key = key
		if c.Prepare() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestClient_rules(t *testing.T) {
	t.Parallel()
	if c := strictTPP(); !c.MustBind() || !c.MustPKCE() || c.Public() || c.Rules().Name != FAPI2 || len(c.Scopes()) != 4 {
		t.Error("FAPI2 §5.3.2: tokens are bound, PKCE is required")
	}
	if c := openTPP(); c.MustBind() || c.MustPKCE() {
		t.Error("openid: a client with keys may have bearer tokens and need no PKCE")
	}
	bound := tpp(OpenID)
	bound.DPoPBoundAccessTokens = true
	if !mustPrepare(bound).MustBind() {
		t.Error("RFC 9449 §5.2: dpop_bound_access_tokens binds")
	}
}

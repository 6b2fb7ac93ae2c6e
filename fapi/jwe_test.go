package fapi

import (
	"crypto"
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// JARM §2.2, OpenID Connect Core §10.2: what is encrypted to a client, and with which of its keys.
func TestEncrypt(t *testing.T) {
	t.Parallel()
	key := func(k crypto.Signer, kid, use, alg string) jose.JSONWebKey {
		return jose.JSONWebKey{Key: k.Public(), KeyID: kid, Use: use, Algorithm: alg}
	}
	for _, test := range []struct {
		name string
		keys []jose.JSONWebKey
		alg  jose.KeyAlgorithm
		with any    // decrypts; nil: nothing is encrypted
		kid  string // in the header
	}{
		{"RSA-OAEP-256", []jose.JSONWebKey{key(rsaKey(), "r", "enc", "")}, jose.RSA_OAEP_256, rsaKey(), "r"},
		{"ECDH-ES", []jose.JSONWebKey{key(ecKey(), "e", "enc", "ECDH-ES")}, jose.ECDH_ES, ecKey(), "e"},
		{"no kid", []jose.JSONWebKey{key(ecKey(), "", "enc", "")}, jose.ECDH_ES, ecKey(), ""},
		{"a key for both uses", []jose.JSONWebKey{key(ecKey(), "e", "", "")}, jose.ECDH_ES, ecKey(), "e"},
		{"the key that says it is for encryption", []jose.JSONWebKey{key(otherKey(), "s", "sig", ""), key(edKey(), "d", "", ""), key(rsaKey(), "r", "enc", ""), key(ecKey(), "e", "enc", "")}, jose.ECDH_ES, ecKey(), "e"},
		{"RFC 7517 §4.2: none with a key that signs", []jose.JSONWebKey{key(ecKey(), "e", "sig", "")}, jose.ECDH_ES, nil, ""},
		{"RFC 7517 §4.4: none with a key for another alg", []jose.JSONWebKey{key(ecKey(), "e", "enc", "ECDH-ES+A128KW")}, jose.ECDH_ES, nil, ""},
		{"RFC 7517 §4.4: none with a key whose alg signs", []jose.JSONWebKey{key(ecKey(), "e", "", "ES256")}, jose.ECDH_ES, nil, ""},
		{"none with a key of another kind", []jose.JSONWebKey{key(rsaKey(), "r", "enc", "")}, jose.ECDH_ES, nil, ""},
		{"none with Ed25519", []jose.JSONWebKey{key(edKey(), "d", "enc", "")}, jose.ECDH_ES, nil, ""},
		{"FAPI 1.0 Part 2 §8.6.1: never RSA1_5", []jose.JSONWebKey{key(rsaKey(), "r", "enc", "")}, jose.RSA1_5, nil, ""},
		{"none without keys", nil, jose.ECDH_ES, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := tpp(OpenID)
			c.JWKS, c.TokenEndpointAuthMethod = &jose.JSONWebKeySet{Keys: test.keys}, NoAuth
			mustPrepare(c)
			for _, enc := range ContentEncryptions {
				nested, err := c.EncryptJWT(test.alg, enc, "a.b.c")
				claims, plainErr := c.EncryptClaims(test.alg, enc, []byte("{}"))
				if test.with == nil {
					if nested != "" || claims != "" || !errors.Is(err, errNoEncryptionKey) || !errors.Is(plainErr, errNoEncryptionKey) {
						t.Errorf("encrypted %q, %v; %q, %v", nested, err, claims, plainErr)
					}
					continue
				}
				for text, want := range map[string][2]any{nested: {"a.b.c", "JWT"}, claims: {"{}", nil}} {
					jwe := must(jose.ParseEncryptedCompact(text, []jose.KeyAlgorithm{test.alg}, []jose.ContentEncryption{enc}))
					got := [2]any{string(must(jwe.Decrypt(test.with))), jwe.Header.ExtraHeaders["cty"]}
					if got != want || jwe.Header.KeyID != test.kid {
						t.Errorf("%s: got %v with kid %q, want %v", enc, got, jwe.Header.KeyID, want)
					}
				}
			}
		})
	}
	if jwt, err := openTPP().EncryptJWT("", "", "a.b.c"); jwt != "a.b.c" || err != nil {
		t.Errorf("not registered: got %q, %v", jwt, err)
	}
}

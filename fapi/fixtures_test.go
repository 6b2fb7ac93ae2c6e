package fapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	issuer        = "https://bank.example"
	tokenEndpoint = "https://bank.example/token"
	parEndpoint   = "https://bank.example/par"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Keys are made once: RSA takes a while.
var (
	rsaKey    = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	otherKey  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey     = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); must(k, err); return k })
	p384Key   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	strictTPP = sync.OnceValue(func() *Client { return mustPrepare(tpp(FAPI2)) })
	openTPP   = sync.OnceValue(func() *Client { return mustPrepare(tpp(OpenID)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func mustPrepare(c *Client) *Client {
	must(c, c.Prepare())
	return c
}

// tpp is a client with all kinds of keys, not yet prepared.
func tpp(profile ProfileName) *Client {
	return &Client{
		ID: "tpp", Profile: profile,
		RedirectURIs:              []string{"https://tpp.example/callback"},
		Scope:                     "openid accounts payments offline_access",
		Resources:                 []string{"https://api.bank.example", "https://pay.bank.example/v1"},
		AuthorizationDetailsTypes: []string{"account_information", "payment_initiation"},
		JWKS: &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: rsaKey().Public(), KeyID: "rsa", Use: "sig"},
			{Key: ecKey().Public(), KeyID: "ec"},
			{Key: edKey().Public(), KeyID: "ed", Algorithm: "EdDSA"},
		}},
	}
}

// signJWT makes a compact JWS. A nil member is left out.
func signJWT(key any, alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options))
	claims = maps.Clone(claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

// with returns a copy of base with the changes; nil leaves a member out.
func with(base, changes map[string]any) map[string]any {
	base = maps.Clone(base)
	maps.Copy(base, changes)
	return base
}

// refused checks that err is a refusal that may be sent, with that code.
func refused(t *testing.T, err error, code Code) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	sendable(t, err)
}

// sendable checks the characters of RFC 6749 §5.2 and that the type of an error is right.
func sendable(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	refusal, ok := err.(*Error)
	if !ok {
		t.Fatalf("%T is not *Error: %v", err, err)
	}
	if refusal.Description == "" || strings.ContainsFunc(refusal.Description, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
		t.Fatalf("description %q holds characters that RFC 6749 §5.2 does not allow", refusal.Description)
	}
}

// rawJWK is the client's public EC key with one more member.
func rawJWK(member string) json.RawMessage {
	text := must(json.Marshal(jose.JSONWebKey{Key: ecKey().Public()}))
	return json.RawMessage("{" + member + "," + string(text[1:]))
}

// s256 is the transformation of RFC 7636 §4.2.
func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

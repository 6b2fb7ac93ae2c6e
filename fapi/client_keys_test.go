package fapi

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// fetching is a client whose keys are at its jwks_uri.
func fetching(change func(*Client)) *Client {
	c := tpp(FAPI2)
	c.JWKS, c.JWKSURI = nil, "https://tpp.example/jwks"
	if change != nil {
		change(c)
	}
	return mustPrepare(c)
}

// jwks is a JWK Set as it is served.
func jwks(keys ...any) []byte {
	return must(json.Marshal(map[string]any{"keys": append([]any{}, keys...)}))
}

func publicKey(key any, kid, use string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: kid, Use: use}
}

func TestPrepare_jwksURI(t *testing.T) {
	t.Parallel()
	for _, method := range []AuthMethod{PrivateKeyJWT, SelfSignedTLSClientAuth} {
		fetching(func(c *Client) {
			c.TokenEndpointAuthMethod, c.RequireSignedRequestObject, c.RequestObjectSigningAlg = method, true, jose.ES256
		})
	}
	both := tpp(FAPI2)
	both.JWKSURI = "https://tpp.example/jwks"
	if both.Prepare() == nil {
		t.Error("RFC 7591 §2: jwks and jwks_uri together are accepted")
	}
}

func TestSetKeys(t *testing.T) {
	t.Parallel()
	ec := publicKey(ecKey().Public(), "ec", "sig")
	private := publicKey(ecKey(), "ec", "")
	many := make([]any, maxKeys+1)
	for i := range many {
		many[i] = map[string]any{"kty": "unheard-of"}
	}
	for _, test := range []struct {
		name     string
		document []byte
		ok       bool
		verifies bool // ES256 with kid ec
	}{
		{"RFC 7517 §5: a set", jwks(ec), true, true},
		{"no key at all: all are gone", jwks(), true, false},
		{"RFC 7517 §5: unknown kinds of keys are left out", jwks(map[string]any{"kty": "unheard-of"}, map[string]any{"kty": "OKP", "crv": "X25519", "x": "AAAA"}, map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB"}, ec), true, true},
		{"RFC 7517 §5: a curve that is not supported is left out", jwks(map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}, ec), true, true},
		{"a key for encryption verifies nothing", jwks(publicKey(ecKey().Public(), "ec", "enc")), true, false},
		{"a private key", jwks(private), false, false},
		{"a symmetric key", jwks(map[string]any{"kty": "oct", "k": "AAAA"}), false, false},
		{"RFC 7517 §4.5: a kid twice", jwks(ec, ec), false, false},
		{"too many", must(json.Marshal(map[string]any{"keys": many})), false, false},
		{"not JSON", []byte("<html>"), false, false},
		{"not a set", []byte(`{"kty":"EC"}`), false, false},
		{"keys that are no list", []byte(`{"keys":{}}`), false, false},
		{"keys that are no keys", []byte(`{"keys":["x",5,null]}`), false, false},
		{"a member twice", []byte(`{"keys":[],"keys":[]}`), false, false},
		{"nothing", nil, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := fetching(nil)
			if len(c.keysFor("ec", jose.ES256)) != 0 {
				t.Fatal("keys before any were fetched")
			}
			if err := c.SetKeys(test.document); (err == nil) != test.ok {
				t.Fatal(err)
			}
			if got := len(c.keysFor("ec", jose.ES256)) == 1; got != test.verifies {
				t.Errorf("verifies: %v", got)
			}
		})
	}
	t.Run("a set that is refused leaves the old keys", func(t *testing.T) {
		t.Parallel()
		c := fetching(nil)
		must(0, c.SetKeys(jwks(ec)))
		if c.SetKeys([]byte("{}")) == nil || len(c.keysFor("ec", jose.ES256)) != 1 {
			t.Error("they are gone")
		}
		if c.ForgetKeys(); len(c.keysFor("ec", jose.ES256)) != 0 {
			t.Error("they are not forgotten")
		}
	})
}

func TestShareKeys(t *testing.T) {
	t.Parallel()
	old := fetching(nil)
	same := fetching(func(c *Client) { c.Name = "Renamed" })
	if !same.ShareKeys(old) {
		t.Fatal("the same jwks_uri, and nothing is shared")
	}
	must(0, old.SetKeys(jwks(publicKey(ecKey().Public(), "ec", ""))))
	if len(same.keysFor("ec", jose.ES256)) != 1 {
		t.Error("what is fetched for the one is not there for the other")
	}
	for name, c := range map[string]*Client{
		"another address": fetching(func(c *Client) { c.JWKSURI += "2" }),
		"another profile": fetching(func(c *Client) { c.Profile = OpenID }),
		"registered keys": mustPrepare(tpp(FAPI2)),
	} {
		if c.ShareKeys(old) {
			t.Errorf("%s: shared", name)
		}
	}
}

// A refusal says whether another key might have averted it.
func TestErrUnknownKey(t *testing.T) {
	t.Parallel()
	c := strictTPP()
	sign := func(key any, header map[string]any) string {
		return signJWT(key, jose.ES256, header, map[string]any{"iss": "tpp", "sub": "tpp"})
	}
	for name, test := range map[string]struct {
		assertion string
		unknown   bool
	}{
		"a kid that is not there":        {sign(ecKey(), map[string]any{"kid": "new"}), true},
		"no kid, and no key made it":     {sign(otherKey(), nil), true},
		"a known kid, another signature": {sign(otherKey(), map[string]any{"kid": "ec"}), false},
		"a good signature, bad claims":   {sign(ecKey(), map[string]any{"kid": "ec"}), false},
		"not a JWT":                      {"x", false},
	} {
		_, err := c.CheckAssertion(test.assertion, AssertionContext{Issuer: issuer, Now: now})
		refused(t, err, InvalidClient)
		if errors.Is(err, ErrUnknownKey) != test.unknown {
			t.Errorf("%s: %v", name, err)
		}
		_, err = c.ResolveRequest(beside(test.assertion), objectContext(false))
		refused(t, err, InvalidRequestObject)
		if errors.Is(err, ErrUnknownKey) != test.unknown {
			t.Errorf("request object, %s: %v", name, err)
		}
	}
}

// OpenID Connect Core §10.2: what is encrypted to a client is encrypted with a key for that.
func TestEncryptionKey(t *testing.T) {
	t.Parallel()
	ec, rsa := ecKey().Public(), rsaKey().Public()
	alg := func(k jose.JSONWebKey, alg string) jose.JSONWebKey { k.Algorithm = alg; return k }
	for name, test := range map[string]struct {
		keys []any
		alg  jose.KeyAlgorithm
		kid  string // "": none
	}{
		"use enc before a key without use": {[]any{publicKey(ec, "any", ""), publicKey(ec, "enc", "enc")}, jose.ECDH_ES, "enc"},
		"a key without use":                {[]any{publicKey(otherKey().Public(), "sig", "sig"), publicKey(ec, "any", "")}, jose.ECDH_ES, "any"},
		"none but for signatures":          {[]any{publicKey(ec, "sig", "sig")}, jose.ECDH_ES, ""},
		"RSA":                              {[]any{publicKey(ec, "ec", "enc"), publicKey(rsa, "rsa", "enc")}, jose.RSA_OAEP_256, "rsa"},
		"its alg":                          {[]any{alg(publicKey(rsa, "oaep", "enc"), "RSA-OAEP"), alg(publicKey(rsa, "oaep256", "enc"), "RSA-OAEP-256")}, jose.RSA_OAEP_256, "oaep256"},
		"P-384 is not supported":           {[]any{publicKey(p384Key().Public(), "p384", "enc")}, jose.ECDH_ES, ""},
		"an algorithm without keys":        {[]any{publicKey(ec, "ec", "enc")}, jose.RSA_OAEP_256, ""},
		"an algorithm that is not ours":    {[]any{publicKey(rsa, "rsa", "enc")}, jose.RSA1_5, ""},
		"key_ops":                          {[]any{json.RawMessage(strings.Replace(string(rawJWK(`"key_ops":["verify"]`)), "{", `{"kid":"sig",`, 1)), json.RawMessage(strings.Replace(string(rawJWK(`"key_ops":["deriveKey"]`)), "{", `{"kid":"enc",`, 1))}, jose.ECDH_ES, "enc"},
	} {
		c := fetching(nil)
		must(0, c.SetKeys(jwks(test.keys...)))
		key, ok := c.encryptionKey(test.alg)
		if ok != (test.kid != "") || key.KeyID != test.kid {
			t.Errorf("%s: key %q, %v", name, key.KeyID, ok)
		}
	}
}

// encrypted makes a JWE; nothing is added to its header but what options say.
func encrypted(text string, alg jose.KeyAlgorithm, enc jose.ContentEncryption, key any, options *jose.EncrypterOptions) string {
	encrypter := must(jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: key, KeyID: "server"}, options))
	return must(must(encrypter.Encrypt([]byte(text))).CompactSerialize())
}

// RFC 9101 §6.1, OpenID Connect Registration §2: request objects that are signed and then encrypted.
func TestResolveRequest_encrypted(t *testing.T) {
	t.Parallel()
	server, serverRSA := otherKey(), rsaKey()
	calls := 0
	in := objectContext(false)
	in.Decrypt = func(jwe *jose.JSONWebEncryption) ([]byte, error) {
		calls++
		if jwe.Header.Algorithm == string(jose.ECDH_ES) {
			return jwe.Decrypt(server)
		}
		return jwe.Decrypt(serverRSA)
	}
	object := makeObject(jose.ES256, nil, nil)
	ecdh := func(enc jose.ContentEncryption) string {
		return encrypted(object, jose.ECDH_ES, enc, server.Public(), (&jose.EncrypterOptions{}).WithContentType("JWT"))
	}
	good := ecdh(jose.A256GCM)
	parts := strings.Split(good, ".")
	swap := func(i int, part string) string {
		changed := slices.Clone(parts)
		changed[i] = part
		return strings.Join(changed, ".")
	}
	zip := (&jose.EncrypterOptions{Compression: jose.DEFLATE}).WithContentType("JWT")
	open, must256 := strictTPP(), tpp(FAPI2)
	must256.RequestObjectEncryptionAlg, must256.RequestObjectEncryptionEnc = jose.ECDH_ES, jose.A256GCM
	mustPrepare(must256)
	for _, test := range []struct {
		name   string
		client *Client
		object string
		code   Code
		calls  int
	}{
		{"ECDH-ES, A256GCM", open, good, "", 1},
		{"ECDH-ES, A128GCM", open, ecdh(jose.A128GCM), "", 1},
		{"A128CBC-HS256, the default of OpenID Connect Registration §2", open, ecdh(jose.A128CBC_HS256), "", 1},
		{"RSA-OAEP-256", open, encrypted(object, jose.RSA_OAEP_256, jose.A256GCM, serverRSA.Public(), nil), "", 1},
		{"as registered", must256, good, "", 1},
		{"another enc than registered", must256, ecdh(jose.A128GCM), InvalidRequestObject, 0},
		{"another alg than registered", must256, encrypted(object, jose.RSA_OAEP_256, jose.A256GCM, serverRSA.Public(), nil), InvalidRequestObject, 0},
		{"a client that registered encryption must encrypt", must256, object, InvalidRequestObject, 0},
		{"RSA1_5", open, encrypted(object, jose.RSA1_5, jose.A256GCM, serverRSA.Public(), nil), InvalidRequestObject, 0}, //nolint:staticcheck
		{"RSA-OAEP", open, encrypted(object, jose.RSA_OAEP, jose.A256GCM, serverRSA.Public(), nil), InvalidRequestObject, 0},
		{"dir", open, encrypted(object, jose.DIRECT, jose.A256GCM, make([]byte, 32), nil), InvalidRequestObject, 0},
		{"A256CBC-HS512", open, ecdh(jose.A256CBC_HS512), InvalidRequestObject, 0},
		{"zip", open, encrypted(object, jose.ECDH_ES, jose.A256GCM, server.Public(), zip), InvalidRequestObject, 0},
		{"crit", open, encrypted(object, jose.ECDH_ES, jose.A256GCM, server.Public(), (&jose.EncrypterOptions{}).WithHeader("crit", []string{"x"}).WithHeader("x", 1)), InvalidRequestObject, 0},
		{"to another key", open, encrypted(object, jose.ECDH_ES, jose.A256GCM, ecKey().Public(), nil), InvalidRequestObject, 1},
		{"another tag", open, swap(4, "AAAAAAAAAAAAAAAAAAAAAA"), InvalidRequestObject, 1},
		{"another ciphertext", open, swap(3, "AAAA"), InvalidRequestObject, 1},
		{"no header", open, swap(0, "e30"), InvalidRequestObject, 0},
		{"a line break", open, good + "\n", InvalidRequestObject, 0},
		{"too long", open, swap(3, strings.Repeat("A", maxEncryptedRequestObject)), InvalidRequestObject, 0},
		{"RFC 9101 §6: encrypted and not signed", open, encrypted(string(must(json.Marshal(objectClaims()))), jose.ECDH_ES, jose.A256GCM, server.Public(), nil), InvalidRequestObject, 1},
		{"encrypted twice", open, encrypted(good, jose.ECDH_ES, jose.A256GCM, server.Public(), nil), InvalidRequestObject, 1},
		{"signed by somebody else", open, encrypted(signJWT(otherKey(), jose.ES256, map[string]any{"kid": "ec"}, objectClaims()), jose.ECDH_ES, jose.A256GCM, server.Public(), nil), InvalidRequestObject, 1},
		{"an object within that is too long", open, encrypted(makeObject(jose.ES256, nil, map[string]any{"state": strings.Repeat("s", maxRequestObject)}), jose.ECDH_ES, jose.A256GCM, server.Public(), nil), InvalidRequestObject, 0},
	} {
		calls = 0
		params, err := test.client.ResolveRequest(beside(test.object), in)
		if refusal := (*Error)(nil); test.code != "" && (!errors.As(err, &refusal) || refusal.Code != test.code) || test.code == "" && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if calls != test.calls {
			t.Errorf("%s: %d decryptions", test.name, calls)
		}
		if test.code == "" && params.Get("state") != request().Get("state") {
			t.Errorf("%s: %v", test.name, params)
		}
	}
	if _, err := open.ResolveRequest(beside(good), objectContext(false)); !errors.Is(err, InvalidRequestObject) {
		t.Errorf("a server without keys: %v", err)
	}
}

// JAR-06, OpenID Connect Core §6.2: only what was registered may be fetched.
func TestCheckRequestURI(t *testing.T) {
	t.Parallel()
	long := "https://tpp.example/" + strings.Repeat("a", maxRequestURI)
	client := func(profile ProfileName, uris ...string) *Client {
		c := tpp(profile)
		c.RequestURIs = uris
		return mustPrepare(c)
	}
	registered := client(OpenID, "https://tpp.example/object", "https://tpp.example/other#c9f1", long)
	for _, test := range []struct {
		name   string
		client *Client
		uri    string
		code   Code
	}{
		{"as registered", registered, "https://tpp.example/object", ""},
		{"a fragment that tells of a change", registered, "https://tpp.example/object#1a2b", ""},
		{"registered with a fragment", registered, "https://tpp.example/other#c9f1", ""},
		{"registered with another fragment", registered, "https://tpp.example/other#0000", ""},
		{"another path", registered, "https://tpp.example/object2", InvalidRequestURI},
		{"a query added", registered, "https://tpp.example/object?x=1", InvalidRequestURI},
		{"the host written otherwise", registered, "https://TPP.example/object", InvalidRequestURI},
		{"another host", registered, "https://169.254.169.254/object", InvalidRequestURI},
		{"http", registered, "http://tpp.example/object", InvalidRequestURI},
		{"the beginning of a registered one", registered, "https://tpp.example/", InvalidRequestURI},
		{"RFC 9101 §5.2: longer than 512", registered, long, InvalidRequestURI},
		{"a fragment that makes it longer than 512", registered, "https://tpp.example/object#" + strings.Repeat("a", maxRequestURI), InvalidRequestURI},
		{"none registered", openTPP(), "https://tpp.example/object", RequestURINotSupported},
		{"a profile without", client(FAPI2, "https://tpp.example/object"), "https://tpp.example/object", RequestURINotSupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refused(t, test.client.CheckRequestURI(test.uri), test.code)
		})
	}
}

func FuzzJWKS(f *testing.F) {
	f.Add(jwks(publicKey(ecKey().Public(), "ec", "sig"), publicKey(rsaKey().Public(), "rsa", "enc"), publicKey(edKey().Public(), "ed", "")))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"OKP"},null,{"key_ops":["verify"],"use":"enc"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","x5c":["AAAA"]},{"kty":"oct","k":""}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		c := fetching(nil)
		if c.SetKeys(document) != nil {
			return
		}
		ring := c.keys()
		if len(ring.set.Keys) > maxKeys {
			t.Fatalf("%d keys", len(ring.set.Keys))
		}
		for _, k := range ring.set.Keys {
			if !k.IsPublic() || checkKey(k.Key) != nil {
				t.Fatalf("accepted %T", k.Key)
			}
		}
		for alg, keys := range ring.verify {
			if len(keys) > 0 && !slices.Contains(c.Rules().Algorithms, alg) {
				t.Fatalf("a key for %s", alg)
			}
		}
		for _, alg := range KeyAlgorithms {
			if k, ok := c.encryptionKey(alg); ok && k.Use == "sig" {
				t.Fatal("encrypts with a key for signatures")
			}
		}
	})
}

func FuzzEncryptedRequestObject(f *testing.F) {
	server := otherKey()
	good := encrypted(makeObject(jose.ES256, nil, nil), jose.ECDH_ES, jose.A256GCM, server.Public(), nil)
	f.Add(good, makeObject(jose.EdDSA, nil, nil))
	f.Add("e30....", "..")
	f.Add(strings.Replace(good, ".", "...", 1), good)
	f.Fuzz(func(t *testing.T, object, within string) {
		in, calls := objectContext(false), 0
		in.Decrypt = func(jwe *jose.JSONWebEncryption) ([]byte, error) { calls++; return jwe.Decrypt(server) }
		for _, object := range []string{object, encrypted(within, jose.ECDH_ES, jose.A128CBC_HS256, server.Public(), nil)} {
			calls = 0
			got, err := strictTPP().ResolveRequest(beside(object), in)
			sendable(t, err)
			if calls > 1 {
				t.Fatalf("%d decryptions", calls)
			}
			if err == nil && object != "" && got.Get("client_id") != "tpp" {
				t.Fatalf("accepted %v", got)
			}
		}
	})
}

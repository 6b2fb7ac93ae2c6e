package resource

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/fapi"
)

// What a token must say is the same for both kinds.
func TestClaims(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	in := func(d time.Duration) int64 { return b.clock.at(d) }
	for _, test := range []struct {
		name    string
		changes m
		status  int
	}{
		{"RFC 9068 §4: accepts a token", nil, 200},
		{"RFC 7519 §4.1.3: accepts aud as a string", m{"aud": api}, 200},
		{"RFC 9068 §4: refuses a token for another service", m{"aud": []string{"https://other.example"}}, 401},
		{"RFC 9068 §4: refuses an aud that only begins like ours", m{"aud": api + "/"}, 401},
		{"RFC 9068 §4: refuses a token for nobody", m{"aud": nil}, 401},
		{"RFC 9068 §4: refuses another issuer", m{"iss": "https://evil.example"}, 401},
		{"RFC 9068 §4: refuses an issuer with a slash more", m{"iss": b.URL + "/"}, 401},
		{"A16: refuses a missing iss", m{"iss": nil}, 401},
		{"A16: refuses a missing exp", m{"exp": nil}, 401},
		{"RFC 9068 §2.2: refuses a missing sub", m{"sub": nil}, 401},
		{"RFC 9068 §2.2: refuses a missing client_id", m{"client_id": nil}, 401},
		{"RFC 7519 §4.1.4: accepts one that expired 8 seconds ago", m{"exp": in(-8 * time.Second)}, 200},
		{"RFC 7519 §4.1.4: refuses one that expired 12 seconds ago", m{"exp": in(-12 * time.Second)}, 401},
		{"RFC 7519 §4.1.5: accepts nbf in 8 seconds", m{"nbf": in(8 * time.Second)}, 200},
		{"RFC 7519 §4.1.5: refuses nbf in 15 seconds", m{"nbf": in(15 * time.Second)}, 401},
		{"RFC 7519 §4.1.6: refuses iat in 15 seconds", m{"iat": in(15 * time.Second)}, 401},
		{"B4: refuses a token whose consent has expired", m{"consent_expires_at": b.clock.date(-time.Second)}, 401},
		{"B4: refuses a token whose consent is not authorised", m{"consent_status": "Revoked"}, 401},
		{"B4: accepts a consent without an end", m{"consent_expires_at": nil}, 200},
		{"B4: accepts a token without a consent", m{"consent_id": nil, "consent_status": nil}, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, b.get(t, b.issue(test.changes)), test.status, fapi.InvalidToken)
			expect(t, b.get(t, b.sign(nil, test.changes)), test.status, fapi.InvalidToken)
		})
	}
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	expect(t, b.get(t, b.issue(nil)), 200, "")
	opaque := *b.principal.Load()
	expect(t, b.get(t, b.sign(nil, nil)), 200, "")
	if diff := cmp.Diff(&opaque, b.principal.Load()); diff != "" {
		t.Errorf("opaque and JWT differ: %s", diff)
	}
	p := &opaque
	if p.Subject != "alice" || p.Tenant != "default" || p.FineractClientID != 42 || p.ClientID != "tpp" || !p.IsCustomer() ||
		!slices.Equal(p.Scopes, []string{"accounts", "payments"}) || !p.HasRole("USER") || !p.HasScope("payments") ||
		p.Consent.ID != "aac-1" || p.Consent.Type != "account-access" || p.Consent.ExpiresAt.IsZero() || !p.HasPermission("ReadBalances") ||
		p.Consent.TransactionsFrom.IsZero() || !p.Consent.TransactionsTo.IsZero() || !p.MayUseAccount("7") || p.MayUseAccount("9") ||
		p.MayUseAccount("") || !p.Owns(42) || p.Owns(4) || p.Owns(0) || p.ACR == "" || len(p.AMR) != 2 || p.AuthTime.IsZero() ||
		p.Confirmation.X5TS256 != thumbprint(tppCert) || p.AuthorizationDetails[0].Type != "account_information" ||
		p.TokenID != tokenID || p.GrantID != "g-1" || len(p.Audience) != 2 || p.ExpiresAt.IsZero() {
		t.Errorf("got %+v", p)
	}
	if PrincipalFrom(t.Context()) != nil {
		t.Error("a principal out of nowhere")
	}
}

func TestJWT(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.sign(nil, nil)
	private := must(json.Marshal(jose.JSONWebKey{Key: otherKey, KeyID: "private"}))
	b.keys = append(b.keys,
		jose.JSONWebKey{Key: rsaKey().Public(), KeyID: "rsa"}, jose.JSONWebKey{Key: edKey().Public(), KeyID: "ed"},
		jose.JSONWebKey{Key: rsaKey().Public(), KeyID: "enc", Use: "enc"}, jose.JSONWebKey{Key: otherKey.Public(), KeyID: "es384", Algorithm: "ES384"},
		jose.JSONWebKey{Key: otherKey.Public(), KeyID: "twice"}, jose.JSONWebKey{Key: tppKey.Public(), KeyID: "twice"},
		m{"kty": "oct", "kid": "oct", "k": "AAAA"}, m{"kty": "new", "kid": "new"}, json.RawMessage(private))
	withRS256 := newBundle(t)
	withRS256.keys = []any{jose.JSONWebKey{Key: rsaKey().Public(), KeyID: "rsa"}}
	withRS256.config.Algorithms = []jose.SignatureAlgorithm{jose.RS256}
	withRS256.start(t)

	typ := m{"typ": "at+jwt"}
	es256 := func(header m) string { return b.sign(header, nil) }
	parts := strings.Split(es256(nil), ".")
	b64 := base64.RawURLEncoding.EncodeToString
	for _, test := range []struct {
		name   string
		at     *bundle
		token  string
		status int
	}{
		{"RFC 9068 §2.1: accepts ES256", b, es256(nil), 200},
		{"RFC 7515 §4.1.9: accepts application/at+jwt", b, es256(m{"typ": "application/AT+JWT"}), 200},
		{"FAPI 2.0 §5.4.1: accepts PS256", b, signJWT(rsaKey(), jose.PS256, with(typ, m{"kid": "rsa"}), b.claims(nil)), 200},
		{"FAPI 2.0 §5.4.1: accepts EdDSA", b, signJWT(edKey(), jose.EdDSA, with(typ, m{"kid": "ed"}), b.claims(nil)), 200},
		{"FAPI 2.0 §5.4.1: refuses RS256", b, signJWT(rsaKey(), jose.RS256, with(typ, m{"kid": "rsa"}), b.claims(nil)), 401},
		{"accepts RS256 where it was asked for", withRS256, signJWT(rsaKey(), jose.RS256, with(typ, m{"kid": "rsa"}), withRS256.claims(nil)), 200},
		{"RFC 9068 §4: refuses an ID token", b, es256(m{"typ": "JWT"}), 401},
		{"RFC 9068 §4: refuses a missing typ", b, es256(m{"typ": nil}), 401},
		{"RFC 7515 §4.1.11: refuses crit", b, es256(m{"crit": []string{"b64"}, "b64": true}), 401},
		{"refuses a missing kid", b, es256(m{"kid": nil}), 401},
		{"refuses an unknown kid", b, es256(m{"kid": "unknown"}), 401},
		{"RFC 7517 §4.2: refuses a key for encryption", b, signJWT(rsaKey(), jose.PS256, with(typ, m{"kid": "enc"}), b.claims(nil)), 401},
		{"RFC 7517 §4.4: refuses a key for another alg", b, es256(m{"kid": "es384"}), 401},
		{"RFC 7517 §4.5: refuses a kid that is there twice", b, es256(m{"kid": "twice"}), 401},
		{"RFC 7518 §6: refuses a private key in the set", b, es256(m{"kid": "private"}), 401},
		{"RFC 9068 §4: refuses a signature of another key", b, signJWT(tppKey, jose.ES256, with(typ, m{"kid": "as"}), b.claims(nil)), 401},
		{"RFC 9068 §4: ignores a jwk in the header", b, signJWT(tppKey, jose.ES256, with(typ, m{"kid": "as", "jwk": jose.JSONWebKey{Key: tppKey.Public()}}), b.claims(nil)), 401},
		{"RFC 9068 §4: refuses other claims under the signature", b, parts[0] + "." + b64(must(json.Marshal(b.claims(m{"sub": "bob"})))) + "." + parts[2], 401},
		{"RFC 9068 §4: refuses alg none", b, b64([]byte(`{"alg":"none","typ":"at+jwt","kid":"as"}`)) + "." + parts[1] + ".", 401},
		{"RFC 9068 §2.2: refuses a missing jti", b, b.sign(nil, m{"jti": nil}), 401},
		{"RFC 9068 §2.2: refuses a missing iat", b, b.sign(nil, m{"iat": nil}), 401},
		{"RFC 7519 §4.1: refuses a claim of the wrong type", b, b.sign(nil, m{"sub": 1}), 401},
		{"refuses what only looks like a JWT", b, "a.b.c", 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.at.get(t, test.token), test.status, fapi.InvalidToken)
			if asked := test.at.count(); asked != 0 {
				t.Errorf("the authorization server was asked %d times", asked)
			}
		})
	}
}

func TestJWT_alwaysIntrospect(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.AlwaysIntrospect, c.CacheFor = true, 0 })
	token := b.sign(nil, nil)
	expect(t, b.get(t, token), 401, fapi.InvalidToken) // revoked
	b.set(func() { b.tokens[token] = b.claims(nil) })
	expect(t, b.get(t, token), 200, "")
	if b.count() != 2 || b.fetchedKeys != 0 {
		t.Errorf("asked %d times, keys fetched %d times", b.count(), b.fetchedKeys)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.CacheFor = 0; c.ClientID, c.Authentication = "", Authentication{} })
	fetched := func(want int) {
		t.Helper()
		b.set(func() {
			if b.fetchedKeys != want {
				t.Fatalf("the keys were fetched %d times, want %d", b.fetchedKeys, want)
			}
		})
	}
	old := b.sign(nil, m{"exp": b.clock.at(24 * time.Hour), "consent_expires_at": nil})
	expect(t, b.get(t, old), 200, "")
	expect(t, b.get(t, old), 200, "")
	fetched(1)

	newer := signJWT(tppKey, jose.ES256, m{"typ": "at+jwt", "kid": "next"}, b.claims(m{"exp": b.clock.at(24 * time.Hour), "consent_expires_at": nil}))
	b.set(func() { b.keys = append(b.keys, jose.JSONWebKey{Key: tppKey.Public(), KeyID: "next"}) })
	for range 5 { // unknown kids do not hammer the server
		expect(t, b.get(t, newer), 401, fapi.InvalidToken)
	}
	fetched(1)
	b.clock.advance(keysPause)
	expect(t, b.get(t, newer), 200, "") // RFC 7517: an unknown kid fetches the set anew
	expect(t, b.get(t, b.sign(m{"kid": "none"}, nil)), 401, fapi.InvalidToken)
	fetched(2)

	b.set(func() { b.keysFail = true })
	b.clock.advance(keysFresh + time.Second) // stale: still used, fetched in the background
	expect(t, b.get(t, old), 200, "")
	b.clock.advance(keysUsable) // too old to be used
	expect(t, b.get(t, old), 503, fapi.TemporarilyUnavailable)
	b.set(func() { b.keysFail = false; b.keys = b.keys[1:] })
	b.clock.advance(keysRetry)
	expect(t, b.get(t, old), 401, fapi.InvalidToken) // its key was withdrawn meanwhile
	expect(t, b.get(t, newer), 200, "")

	expect(t, b.get(t, "opaque"), 401, fapi.InvalidToken) // no introspection without authentication
}

func TestKeys_limits(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][]any{
		"too many keys": slices.Repeat([]any{m{"kty": "x"}}, maxKeys+1),
		"too long":      {m{"x": strings.Repeat("x", maxDocument)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			token := b.sign(nil, nil)
			b.set(func() { b.keys = keys })
			expect(t, b.get(t, token), 503, fapi.TemporarilyUnavailable)
		})
	}
}

func TestIntrospection_answers(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	good := string(must(json.Marshal(b.claims(nil))))
	answer := func(status int, mediaType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(status)
			w.Write([]byte(body))
		}
	}
	const plain = "application/json"
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"RFC 7662 §2.2: accepts active", answer(200, plain, good), 200},
		{"RFC 7662 §2.2: accepts a charset", answer(200, plain+"; charset=utf-8", good), 200},
		{"RFC 7662 §2.2: refuses not active", answer(200, plain, `{"active":false}`), 401},
		{"RFC 7662 §2.2: refuses a missing active", answer(200, plain, `{}`), 401},
		{"RFC 7662 §2.2: an active of another type is no answer", answer(200, plain, `{"active":"true"}`), 503},
		{"RFC 8259 §4: a member that is there twice is no answer", answer(200, plain, `{"active":false,`+good[1:]), 503},
		{"an active written otherwise is none", answer(200, plain, strings.Replace(good, `"active"`, `"Active"`, 1)), 401},
		{"two values are no answer", answer(200, plain, good+good), 503},
		{"an empty body is no answer", answer(200, plain, ""), 503},
		{"null is not active", answer(200, plain, "null"), 401},
		{"another media type is no answer", answer(200, "text/html", good), 503},
		{"RFC 9701 §4: a signed answer that nobody asked for is none", answer(200, "application/token-introspection+jwt", "a.b.c"), 503},
		{"more than 64 KiB are no answer", answer(200, plain, good+strings.Repeat(" ", maxAnswer)), 503},
		{"RFC 7662 §2.3: 401 is no answer about the token", answer(401, plain, `{"error":"invalid_client"}`), 503},
		{"500 is no answer", answer(500, plain, good), 503},
		{"201 is no answer", answer(201, plain, good), 503},
		{"redirects are not followed", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/mtls/introspect" {
				writeJSON(w, m{"active": false}) // would be 401
				return
			}
			http.Redirect(w, r, "/mtls/introspect", http.StatusTemporaryRedirect)
		}, 503},
		{"a broken connection is no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 503},
		{"an answer that takes too long is none", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.config.Timeout, b.config.Issuer = 500*time.Millisecond, b.URL
			b.answer = test.answer
			b.start(t)
			// The answer was made for another double: this one takes its issuer.
			if test.status == 200 {
				b.answer = answer(200, plain+"; charset=utf-8", string(must(json.Marshal(b.claims(nil)))))
			}
			code := fapi.TemporarilyUnavailable
			if test.status == 401 {
				code = fapi.InvalidToken
			}
			expect(t, b.get(t, "opaque"), test.status, code)
		})
	}
}

func TestIntrospection_authentication(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		with   Authentication
		method fapi.AuthMethod
		key    any
		status int
	}{
		{"RFC 7523 §2.2: ES256", PrivateKeyJWT(serviceKey, "service", jose.ES256), fapi.PrivateKeyJWT, serviceKey.Public(), 200},
		{"RFC 7523 §2.2: PS256", PrivateKeyJWT(rsaKey(), "service", jose.PS256), fapi.PrivateKeyJWT, rsaKey().Public(), 200},
		{"RFC 7523 §2.2: EdDSA", PrivateKeyJWT(edKey(), "service", jose.EdDSA), fapi.PrivateKeyJWT, edKey().Public(), 200},
		{"RFC 7523 §3: another key is refused, and that is our fault", PrivateKeyJWT(tppKey, "service", jose.ES256), fapi.PrivateKeyJWT, serviceKey.Public(), 503},
		{"RFC 8705 §5: a certificate, at the alias", Certificate(*serviceCert), fapi.SelfSignedTLSClientAuth, serviceCert.Leaf.PublicKey, 200},
		{"RFC 8705 §2: another certificate is refused, and that is our fault", Certificate(*otherCert), fapi.SelfSignedTLSClientAuth, serviceCert.Leaf.PublicKey, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.register(test.method, test.key)
			b.config.Authentication, b.config.CacheFor = test.with, 0
			b.start(t)
			for range 3 { // the double refuses a jti that it has seen
				expect(t, b.get(t, b.issue(nil)), test.status, fapi.TemporarilyUnavailable)
			}
		})
	}
}

func TestIntrospection_retry(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.config.CacheFor = 0
	b.start(t)
	token := b.issue(nil)
	expect(t, b.get(t, token), 200, "")
	b.CloseClientConnections() // as a restart of the authorization server does
	expect(t, b.get(t, token), 200, "")
}

func FuzzIntrospection(f *testing.F) {
	want := &Config{Issuer: "https://bank.example", Audience: api}
	now := time.Unix(1772366400, 0)
	f.Add([]byte(`{"active":true,"iss":"https://bank.example","aud":"` + api + `","sub":"a","client_id":"b","exp":1772366460,"cnf":{"jkt":"x"}}`))
	f.Add([]byte(`{"active":true,"aud":["` + api + `"],"exp":1e300,"authorization_details":[{"type":"x"}],"consent_expires_at":"2026-03-01T12:00:00Z"}`))
	f.Add([]byte(`{"active":false}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseIntrospection(body)
		if err != nil {
			return
		}
		if !bytes.Contains(body, []byte("true")) {
			t.Fatal("active, though nothing is true")
		}
		if err := c.check(want, now); err != nil {
			if fapi.AsError(err).Code != fapi.InvalidToken {
				t.Fatal(err)
			}
			return
		}
		p := c.principal()
		if p.Subject == "" || p.ClientID == "" || !slices.Contains(p.Audience, api) || !p.ExpiresAt.Add(fapi.Skew).After(now) {
			t.Fatalf("accepted %+v", p)
		}
		if c.Confirmation != nil && p.Confirmation.Empty() {
			t.Fatal("a confirmation was lost")
		}
	})
}

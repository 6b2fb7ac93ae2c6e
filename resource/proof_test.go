package resource

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

func TestBinding(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	lenient := setup(t, func(c *Config) { c.AllowBearer = true })
	certificate, key := m{"x5t#S256": thumbprint(tppCert)}, m{"jkt": jkt(tppKey)}
	both := m{"x5t#S256": thumbprint(tppCert), "jkt": jkt(tppKey)}
	for _, test := range []struct {
		name   string
		at     *bundle
		cnf    any
		cert   *tls.Certificate
		scheme scheme
		status int
	}{
		{"RFC 8705 §3: accepts a token with its certificate", b, certificate, tppCert, bearer, 200},
		{"RFC 8705 §3: refuses a token bound to another certificate", b, certificate, otherCert, bearer, 401},
		{"RFC 8705 §3: refuses a bound token without a certificate", b, certificate, nil, bearer, 401},
		{"RFC 8705 §3: refuses it also where bearer tokens are allowed", lenient, certificate, nil, bearer, 401},
		{"RFC 9449 §7.1: accepts a token with its proof", b, key, nil, dpop, 200},
		{"RFC 9449 §7.1: a certificate beside it does not matter", b, key, otherCert, dpop, 200},
		{"RFC 9449 §7.1: refuses a token bound to another key", b, m{"jkt": jkt(otherKey)}, nil, dpop, 401},
		{"RFC 9449 §7.2: refuses a token bound by DPoP as Bearer", b, key, nil, bearer, 401},
		{"RFC 9449 §7.2: refuses it also where bearer tokens are allowed", lenient, key, nil, bearer, 401},
		{"RFC 9449 §7.1: refuses a token bound by certificate as DPoP", b, certificate, tppCert, dpop, 401},
		{"RFC 9449 §7.1: refuses an unbound token as DPoP", lenient, nil, nil, dpop, 401},
		{"RFC 7800: accepts a token bound to both, with both", b, both, tppCert, dpop, 200},
		{"RFC 7800: refuses it without the certificate", b, both, nil, dpop, 401},
		{"RFC 7800: refuses it without the proof", b, both, tppCert, bearer, 401},
		{"FAPI 2.0 §5.3.4: refuses an unbound token", b, nil, tppCert, bearer, 401},
		{"RFC 6750: accepts an unbound token where that is allowed", lenient, nil, nil, bearer, 200},
		{"RFC 7800: refuses a confirmation that is not known here", lenient, m{"kid": "x"}, nil, bearer, 401},
		{"RFC 7800: refuses an empty confirmation", lenient, m{}, nil, bearer, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for kind, token := range map[string]string{
				"opaque": test.at.issue(m{"cnf": test.cnf}),
				"JWT":    test.at.sign(nil, m{"cnf": test.cnf}),
			} {
				header := http.Header{"Authorization": {string(test.scheme) + " " + token}}
				if test.scheme == dpop {
					header.Set("DPoP", test.at.proof(token, nil, nil))
				}
				t.Log(kind)
				expect(t, test.at.call(t, test.cert, "GET", "/accounts", header), test.status, fapi.InvalidToken)
			}
		})
	}
}

func TestDPoP(t *testing.T) { // DPOP-02
	t.Parallel()
	b := setup(t, func(c *Config) { c.URLs = []string{api + "/", "https://mtls.bank.example"} })
	token := b.issue(m{"cnf": m{"jkt": jkt(tppKey)}})
	at := func(d time.Duration) m { return m{"iat": b.clock.at(d)} }
	proof := func(header, claims m) []string { return []string{b.proof(token, header, claims)} }
	signed := func(key any, alg jose.SignatureAlgorithm, jwk any) []string {
		return []string{signJWT(key, alg, m{"typ": "dpop+jwt", "jwk": jwk},
			m{"jti": rand.Text(), "htm": "GET", "htu": api + "/accounts", "iat": b.clock.at(0), "ath": ath(token)})}
	}
	public := func(key any) jose.JSONWebKey { return (&jose.JSONWebKey{Key: key}).Public() }
	parts := strings.Split(proof(nil, nil)[0], ".")
	none := base64.RawURLEncoding.EncodeToString(must(json.Marshal(m{"typ": "dpop+jwt", "alg": "none", "jwk": public(tppKey)})))
	const bad = fapi.InvalidDPoPProof
	for _, test := range []struct {
		name   string
		proofs []string
		code   fapi.Code
	}{
		{"RFC 9449 §7.1: accepts a proof", proof(nil, nil), ""},
		{"RFC 9449 §4.2: ignores other claims", proof(nil, m{"x": 1}), ""},
		{"RFC 9449 §4.3: accepts htu with a query", proof(nil, m{"htu": api + "/accounts?page=1#top"}), ""},
		{"RFC 9449 §4.3: accepts htu written otherwise", proof(nil, m{"htu": "HTTPS://API.bank.example:443/x/../%61ccounts"}), ""},
		{"accepts the service's other URL", proof(nil, m{"htu": "https://mtls.bank.example/accounts"}), ""},
		{"RFC 9449 §4.3: refuses no proof", nil, bad},
		{"RFC 9449 §4.3: refuses two proofs", append(proof(nil, nil), proof(nil, nil)...), bad},
		{"RFC 9449 §4.3: refuses a missing typ", proof(m{"typ": nil}, nil), bad},
		{"RFC 9449 §4.3: refuses another typ", proof(m{"typ": "JWT"}, nil), bad},
		{"RFC 9449 §4.3: refuses a missing jwk", proof(m{"jwk": nil}, nil), bad},
		{"RFC 9449 §4.3: refuses a private jwk", proof(m{"jwk": jose.JSONWebKey{Key: tppKey}}, nil), bad},
		{"RFC 9449 §4.3: refuses the jwk of another key", proof(m{"jwk": public(otherKey)}, nil), bad},
		{"RFC 9449 §4.3: refuses alg none", []string{none + "." + parts[1] + "."}, bad},
		{"FAPI 2.0 §5.4.1: refuses RS256", signed(rsaKey(), jose.RS256, public(rsaKey())), bad},
		{"RFC 9449 §4.3: refuses another signature", []string{parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))}, bad},
		{"RFC 9449 §4.3: refuses a missing jti", proof(nil, m{"jti": nil}), bad},
		{"RFC 9449 §4.3: refuses a missing htm", proof(nil, m{"htm": nil}), bad},
		{"RFC 9449 §4.3: refuses another htm", proof(nil, m{"htm": "POST"}), bad},
		{"RFC 9449 §4.3: refuses a missing htu", proof(nil, m{"htu": nil}), bad},
		{"RFC 9449 §4.3: refuses another path", proof(nil, m{"htu": api + "/payments"}), bad},
		{"RFC 9449 §4.3: refuses another host", proof(nil, m{"htu": "https://evil.example/accounts"}), bad},
		{"RFC 9449 §4.3: refuses http", proof(nil, m{"htu": "http://api.bank.example/accounts"}), bad},
		{"RFC 9449 §4.3: refuses a missing iat", proof(nil, m{"iat": nil}), bad},
		{"RFC 9449 §4.3: refuses iat an hour ago", proof(nil, at(-time.Hour)), bad},
		{"RFC 9449 §4.3: refuses iat in an hour", proof(nil, at(time.Hour)), bad},
		{"FAPI 2.0 §5.3.2.1: accepts iat 8 seconds ahead", proof(nil, at(8*time.Second)), ""},
		{"RFC 9449 §4.3: refuses a missing ath", proof(nil, m{"ath": nil}), bad},
		{"RFC 9449 §4.3: refuses the ath of another token", proof(nil, m{"ath": ath("other")}), bad},
		{"RFC 9449 §7.1: refuses the proof of another key", signed(otherKey, jose.ES256, public(otherKey)), fapi.InvalidToken},
		{"FAPI 2.0 §5.4.1: takes PS256 for a proof, though not of this token's key", signed(rsaKey(), jose.PS256, public(rsaKey())), fapi.InvalidToken},
		{"FAPI 2.0 §5.4.1: takes EdDSA for a proof, though not of this token's key", signed(edKey(), jose.EdDSA, public(edKey())), fapi.InvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status := 200
			if test.code != "" {
				status = 401
			}
			for _, name := range []string{"DPoP", "dpop"} { // RFC 9449 §7.1: the scheme is case-insensitive
				if test.code == "" && name == "dpop" {
					continue // the proof is used up
				}
				expect(t, b.call(t, nil, "GET", "/accounts", http.Header{"Authorization": {name + " " + token}, "Dpop": test.proofs}), status, test.code)
			}
		})
	}
}

func TestDPoP_strippedPrefix(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.service.Config.Handler = http.StripPrefix("/v1", b.service.Config.Handler)
	token := b.issue(m{"cnf": m{"jkt": jkt(tppKey)}})
	for htu, status := range map[string]int{api + "/v1/accounts": 200, api + "/accounts": 401} {
		header := http.Header{"Authorization": {"DPoP " + token}, "Dpop": {b.proof(token, nil, m{"htu": htu})}}
		expect(t, b.call(t, nil, "GET", "/v1/accounts?page=1", header), status, fapi.InvalidDPoPProof)
	}
}

func TestDPoP_replay(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	token := b.issue(m{"cnf": m{"jkt": jkt(tppKey)}})
	call := func(proof string) *http.Response {
		return b.call(t, nil, "GET", "/accounts", http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof}})
	}
	t.Run("RFC 9449 §11.1: of 20 calls at once with one proof, one is good", func(t *testing.T) {
		proof := b.proof(token, nil, nil)
		var good, bad atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				response := call(proof)
				defer response.Body.Close()
				switch response.StatusCode {
				case 200:
					good.Add(1)
				case 401:
					bad.Add(1)
				}
			})
		}
		all.Wait()
		if good.Load() != 1 || bad.Load() != 19 {
			t.Errorf("%d good, %d refused", good.Load(), bad.Load())
		}
		expect(t, call(proof), 401, fapi.InvalidDPoPProof)
	})
	t.Run("RFC 9449 §11.1: a proof that came with a bad token is not used up", func(t *testing.T) {
		proof := b.proof(token, nil, nil)
		other := b.issue(m{"cnf": m{"jkt": jkt(otherKey)}})
		expect(t, b.call(t, nil, "GET", "/accounts", http.Header{"Authorization": {"DPoP " + other}, "Dpop": {b.proof(other, nil, nil)}}), 401, fapi.InvalidToken)
		expect(t, call(proof), 200, "")
	})
	t.Run("RFC 9449 §11.1: refuses what an earlier life of the process may have seen", func(t *testing.T) {
		expect(t, call(b.proof(token, nil, m{"iat": b.clock.at(-3 * time.Second)})), 401, fapi.InvalidDPoPProof)
	})
}

func TestDPoP_nonce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.DPoPNonceKey = []byte("0123456789abcdef0123456789abcdef") })
	token := b.issue(m{"cnf": m{"jkt": jkt(tppKey)}})
	call := func(claims m) *http.Response {
		return b.call(t, nil, "GET", "/accounts", http.Header{"Authorization": {"DPoP " + token}, "Dpop": {b.proof(token, nil, claims)}})
	}
	refused := call(nil)
	nonce := refused.Header.Get("DPoP-Nonce")
	expect(t, refused, 401, fapi.UseDPoPNonce)
	good := call(m{"nonce": nonce})
	if good.Header.Get("DPoP-Nonce") == "" {
		t.Error("RFC 9449 §8.2: a good answer brings no nonce")
	}
	expect(t, good, 200, "")
	expect(t, call(m{"nonce": "other"}), 401, fapi.UseDPoPNonce)
	b.clock.advance(11 * time.Minute)
	token = b.issue(m{"cnf": m{"jkt": jkt(tppKey)}})
	expect(t, call(m{"nonce": nonce}), 401, fapi.UseDPoPNonce)
	if r := b.call(t, nil, "GET", "/accounts", http.Header{"Authorization": {"Bearer x"}}); r.Header.Get("DPoP-Nonce") != "" {
		t.Error("a call without DPoP gets a nonce")
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	c := newClock()
	memory := newMemory(4, c.now)
	n := byte(0)
	first := func(hash byte, life time.Duration) bool {
		ok, err := memory.First(t.Context(), fapi.Use{Hash: [32]byte{hash}, ExpiresAt: c.now().Add(life)})
		return ok && err == nil
	}
	fresh := func(life time.Duration) bool { n++; return first(n, life) }
	if !fresh(time.Minute) || first(n, time.Minute) {
		t.Fatal("a second use is accepted")
	}
	c.advance(31 * time.Second)
	if !fresh(time.Minute) || first(1, time.Minute) {
		t.Fatal("a use is forgotten while the proof is good")
	}
	if !fresh(time.Minute) || fresh(time.Minute) {
		t.Fatal("the memory must refuse when it is full, and not before")
	}
	c.advance(30 * time.Second)
	if !fresh(time.Minute) || len(memory.old.uses)+len(memory.new.uses) != 3 {
		t.Fatal("expired uses are not forgotten")
	}
}

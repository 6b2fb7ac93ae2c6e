package fapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func proofRequest() DPoPRequest {
	return DPoPRequest{
		Method: "POST", URLs: []string{tokenEndpoint, "https://mtls.bank.example/token"},
		Now: now, Algorithms: FindProfile(FAPI2).Algorithms,
	}
}

func makeProof(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, _ := signingKey(alg)
	public := (&jose.JSONWebKey{Key: key}).Public()
	return signJWT(key, alg,
		with(map[string]any{"typ": "dpop+jwt", "jwk": &public}, header),
		with(map[string]any{"jti": "one", "htm": "POST", "htu": tokenEndpoint, "iat": now.Unix()}, claims))
}

func TestCheckDPoP(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	at := func(seconds int64) m { return m{"iat": now.Unix() + seconds} }
	const token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	private := jose.JSONWebKey{Key: ecKey()}
	for _, test := range []struct {
		name           string
		header, claims m
		token          string
		code           Code
	}{
		{"RFC 9449 §4.2: accepts jti, htm, htu and iat", nil, nil, "", ""},
		{"RFC 9449 §4.3: refuses a missing typ", m{"typ": ""}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses another typ", m{"typ": "JWT"}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a missing jwk", m{"jwk": nil}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a private jwk", m{"jwk": private}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a symmetric jwk", m{"jwk": m{"kty": "oct", "k": "AAAA"}}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses the jwk of another key", m{"jwk": jose.JSONWebKey{Key: otherKey().Public()}}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a jwk of another kind", m{"jwk": jose.JSONWebKey{Key: rsaKey().Public()}}, nil, "", InvalidDPoPProof},
		{"RFC 7517 §4.2: refuses a jwk for encryption", m{"jwk": jose.JSONWebKey{Key: ecKey().Public(), Use: "enc"}}, nil, "", InvalidDPoPProof},
		{"RFC 7517 §4.4: refuses a jwk for another alg", m{"jwk": jose.JSONWebKey{Key: ecKey().Public(), Algorithm: "ES384"}}, nil, "", InvalidDPoPProof},
		{"RFC 7515 §4.1.11: refuses crit", m{"crit": []string{"b64"}, "b64": true}, nil, "", InvalidDPoPProof},
		{"RFC 9449 §4.2: ignores other header members and claims", m{"tx_id": 1}, m{"tx_id_key": 1}, "", ""},
		{"RFC 9449 §4.3: refuses a missing jti", nil, m{"jti": nil}, "", InvalidDPoPProof},
		{"RFC 9449 §11.1: accepts a jti of 512 characters", nil, m{"jti": strings.Repeat("j", 512)}, "", ""},
		{"RFC 9449 §11.1: refuses a jti of 513 characters", nil, m{"jti": strings.Repeat("j", 513)}, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a missing htm", nil, m{"htm": nil}, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses another htm", nil, m{"htm": "GET"}, "", InvalidDPoPProof},
		{"RFC 9110 §9.1: methods are case-sensitive", nil, m{"htm": "post"}, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a missing htu", nil, m{"htu": nil}, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses another htu", nil, m{"htu": parEndpoint}, "", InvalidDPoPProof},
		{"RFC 8705 §5: accepts the mTLS alias", nil, m{"htu": "https://mtls.bank.example/token"}, "", ""},
		{"RFC 9449 §4.3: refuses a missing iat", nil, m{"iat": nil}, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses an iat in a string", nil, m{"iat": "1"}, "", InvalidDPoPProof},
		{"F2-06: accepts iat 10 seconds ago", nil, at(-10), "", ""},
		{"F2-06: accepts iat 8 seconds ahead", nil, at(8), "", ""},
		{"F2-06: accepts iat 10 seconds ahead", nil, at(10), "", ""},
		{"F2-06: refuses iat 11 seconds ahead", nil, at(11), "", InvalidDPoPProof},
		{"F2-06: refuses iat 60 seconds ahead", nil, at(60), "", InvalidDPoPProof},
		{"RFC 9449 §11.1: accepts iat 59 seconds ago", nil, at(-59), "", ""},
		{"RFC 9449 §11.1: refuses iat a minute ago", nil, at(-60), "", InvalidDPoPProof},
		{"DPOP-02: refuses iat an hour ago", nil, at(-3600), "", InvalidDPoPProof},
		{"DPOP-02: refuses iat in an hour", nil, at(3600), "", InvalidDPoPProof},
		{"RFC 7519 §4.1.4: refuses an exp that is past", nil, m{"exp": now.Unix() - 11}, "", InvalidDPoPProof},
		{"RFC 7519 §4.1.4: accepts an exp to come", nil, m{"exp": now.Unix() + 300}, "", ""},
		{"RFC 7519 §4.1.5: accepts nbf now", nil, m{"nbf": now.Unix()}, "", ""},
		{"RFC 7519 §4.1.5: refuses an nbf to come", nil, m{"nbf": now.Unix() + 11}, "", InvalidDPoPProof},
		{"RFC 9449 §4.3: accepts the ath of the token", nil, m{"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"}, token, ""},
		{"RFC 9449 §4.3: refuses a missing ath", nil, nil, token, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses another ath", nil, m{"ath": strings.Repeat("f", 43)}, token, InvalidDPoPProof},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want := proofRequest()
			want.AccessToken = test.token
			var proof string
			if jwk, ok := test.header["jwk"]; ok && jwk == nil {
				proof = signJWT(ecKey(), jose.ES256, m{"typ": "dpop+jwt"}, m{"jti": "one", "htm": "POST", "htu": tokenEndpoint, "iat": now.Unix()})
			} else {
				proof = makeProof(jose.ES256, test.header, test.claims)
			}
			got, err := CheckDPoP([]string{proof}, want)
			refused(t, err, test.code)
			if test.code == "" && (got.JKT != must(thumbprint(&jose.JSONWebKey{Key: ecKey().Public()})) || !got.Use.ExpiresAt.After(now)) {
				t.Errorf("got %+v", got)
			}
			if test.code != "" && AsError(err).Status != 400 {
				t.Errorf("RFC 9449 §5: status %d, want 400", AsError(err).Status)
			}
		})
	}
}

func TestCheckDPoP_headers(t *testing.T) {
	t.Parallel()
	good := makeProof(jose.ES256, nil, nil)
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	b64 := base64.RawURLEncoding.EncodeToString
	parts := strings.Split(good, ".")
	with := func(key any, alg jose.SignatureAlgorithm) string {
		public := (&jose.JSONWebKey{Key: key}).Public()
		return signJWT(key, alg, map[string]any{"typ": "dpop+jwt", "jwk": &public},
			map[string]any{"jti": "one", "htm": "POST", "htu": tokenEndpoint, "iat": now.Unix()})
	}
	for _, test := range []struct {
		name    string
		headers []string
		code    Code
	}{
		{"RFC 9449 §4.3: accepts one header", []string{good}, ""},
		{"RFC 9449 §4.3: refuses none", nil, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses two", []string{good, good}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses two in one", []string{good + ", " + good}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses what is no JWT", []string{"x"}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses an empty header", []string{""}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses more than 8 KiB", []string{makeProof(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", 8<<10)})}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses another signature", []string{parts[0] + "." + parts[1] + "." + b64(make([]byte, 64))}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses alg none", []string{b64([]byte(`{"typ":"dpop+jwt","alg":"none"}`)) + "." + parts[1] + "."}, InvalidDPoPProof},
		{"FAPI2 §5.4.1: accepts PS256", []string{makeProof(jose.PS256, nil, nil)}, ""},
		{"FAPI2 §5.4.1: accepts EdDSA", []string{makeProof(jose.EdDSA, nil, nil)}, ""},
		{"FAPI2 §5.4.1: refuses RS256", []string{makeProof(jose.RS256, nil, nil)}, InvalidDPoPProof},
		{"FAPI2 §5.4.1: refuses RSA with 1024 bits", []string{with(small, jose.PS256)}, InvalidDPoPProof},
		{"FAPI2 §5.4.1: refuses ES384", []string{with(p384, jose.ES384)}, InvalidDPoPProof},
		{"RFC 9449 §4.3: refuses a stray private member in jwk", []string{makeProof(jose.ES256, map[string]any{"jwk": rawJWK(`"d":"AAAA"`)}, nil)}, InvalidDPoPProof},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := CheckDPoP(test.headers, proofRequest())
			refused(t, err, test.code)
		})
	}
	t.Run("refuses all when no algorithm is allowed", func(t *testing.T) {
		t.Parallel()
		want := proofRequest()
		want.Algorithms = nil
		_, err := CheckDPoP([]string{good}, want)
		refused(t, err, InvalidDPoPProof)
	})
}

func TestCheckDPoP_use(t *testing.T) {
	t.Parallel()
	check := func(proof string, change func(*DPoPRequest)) (*DPoPProof, error) {
		want := proofRequest()
		if change != nil {
			change(&want)
		}
		return CheckDPoP([]string{proof}, want)
	}
	one := must(check(makeProof(jose.ES256, nil, map[string]any{"nonce": "n"}), nil))
	if one.Nonce != "n" {
		t.Errorf("RFC 9449 §8: nonce is %q", one.Nonce)
	}
	if again := must(check(makeProof(jose.ES256, nil, map[string]any{"iat": now.Unix() - 5}), nil)); again.Use.Hash != one.Use.Hash {
		t.Error("RFC 9449 §11.1: the same jti of the same key is the same use")
	}
	if other := must(check(makeProof(jose.EdDSA, nil, nil), nil)); other.Use.Hash == one.Use.Hash || other.JKT == one.JKT {
		t.Error("RFC 9449 §11.1: a jti of one key does not use up that of another")
	}
	if assertion := must(strictTPP().CheckAssertion(makeAssertion(jose.ES256, nil, nil), assertionContext())); assertion.Hash == one.Use.Hash {
		t.Error("a proof uses up an assertion")
	}
	proof := makeProof(jose.ES256, nil, nil)
	_, err := check(proof, func(r *DPoPRequest) { r.Now = one.Use.ExpiresAt })
	refused(t, err, InvalidDPoPProof)
	_, err = check(proof, func(r *DPoPRequest) { r.Now = one.Use.ExpiresAt.Add(-1) })
	refused(t, err, "")
	_, err = check(proof, func(r *DPoPRequest) { r.Now = one.Use.IssuedAt.Add(-1) })
	refused(t, err, InvalidDPoPProof)
	_, err = check(proof, func(r *DPoPRequest) { r.RememberedSince = one.Use.IssuedAt })
	refused(t, err, "")
	_, err = check(proof, func(r *DPoPRequest) { r.RememberedSince = one.Use.IssuedAt.Add(1) })
	refused(t, err, InvalidDPoPProof)
}

func TestSameTarget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, htu, url string
		same           bool
	}{
		{"the same", "https://a.example/x", "https://a.example/x", true},
		{"RFC 9449 §4.3: without query", "https://a.example/x?y=1", "https://a.example/x", true},
		{"RFC 9449 §4.3: without fragment", "https://a.example/x#y?z", "https://a.example/x", true},
		{"RFC 9449 §4.3: ours has the query", "https://a.example/x", "https://a.example/x?y=1", true},
		{"RFC 3986 §6.2.2.1: case of scheme and host", "HTTPS://A.Example/x", "https://a.example/x", true},
		{"RFC 3986 §6.2.2.1: case of the path counts", "https://a.example/X", "https://a.example/x", false},
		{"RFC 3986 §6.2.2.1: case of escapes", "https://a.example/%c3%a9", "https://a.example/%C3%A9", true},
		{"RFC 3986 §6.2.2.2: needless escapes", "https://a.example/%7e%78", "https://a.example/~x", true},
		{"RFC 3986 §2.2: an escaped slash is no slash", "https://a.example/a%2Fb", "https://a.example/a/b", false},
		{"RFC 3986 §6.2.2.3: dots", "https://a.example/y/.././x", "https://a.example/x", true},
		{"RFC 3986 §6.2.2.3: escaped dots", "https://a.example/y/%2e%2E/x", "https://a.example/x", true},
		{"RFC 3986 §5.2.4: dots at the end leave a slash", "https://a.example/x/y/..", "https://a.example/x/", true},
		{"RFC 3986 §5.2.4: too many dots", "https://a.example/../../x", "https://a.example/x", true},
		{"RFC 3986 §6.2.3: default port", "https://a.example:443/x", "https://a.example/x", true},
		{"RFC 3986 §6.2.3: empty port", "https://a.example:/x", "https://a.example/x", true},
		{"RFC 3986 §6.2.3: default port of http", "http://a.example:80/x", "http://a.example/x", true},
		{"another default port", "https://a.example:80/x", "https://a.example/x", false},
		{"another port", "https://a.example:8443/x", "https://a.example/x", false},
		{"RFC 3986 §6.2.3: empty path", "https://a.example", "https://a.example/", true},
		{"a slash more", "https://a.example/x/", "https://a.example/x", false},
		{"two slashes", "https://a.example//x", "https://a.example/x", false},
		{"another scheme", "http://a.example/x", "https://a.example/x", false},
		{"another host", "https://b.example/x", "https://a.example/x", false},
		{"a user", "https://a.example@b.example/x", "https://b.example/x", false},
		{"IPv6", "https://[::1]:443/X", "https://[::1]/X", true},
		{"no URL", "/x", "https://a.example/x", false},
		{"nothing", "", "", false},
		{"only a query", "?x", "?y", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := sameTarget(test.htu, test.url); got != test.same {
				t.Errorf("sameTarget(%q, %q) is %v", test.htu, test.url, got)
			}
		})
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	ours, replica, foreign := NewNonces(key), NewNonces(key), NewNonces([]byte("another key"))
	key[0] = 'x' // the caller may clear it
	start := now.Truncate(nonceLife)
	for _, test := range []struct {
		name string
		at   time.Time
		want bool
	}{
		{"RFC 9449 §8: valid at once", start, true},
		{"RFC 9449 §8: valid for 5 minutes at least", start.Add(nonceLife - 1), true},
		{"RFC 9449 §8: valid for 10 minutes at most", start.Add(2*nonceLife - 1), true},
		{"RFC 9449 §8: expired after 10 minutes", start.Add(2 * nonceLife), false},
		{"a replica's clock may be ahead", start.Add(-Skew), true},
		{"but not further", start.Add(-Skew - time.Second), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nonce := ours.New(start)
			if got := replica.Check(nonce, test.at); got != test.want {
				t.Errorf("Check is %v", got)
			}
			if foreign.Check(nonce, test.at) || ours.Check("", test.at) || ours.Check(nonce+"x", test.at) {
				t.Error("a nonce of another key is accepted")
			}
			if strings.Trim(nonce, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Errorf("RFC 9449 §8.1: %q", nonce)
			}
		})
	}
}

package fapi

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func assertionContext() AssertionContext {
	return AssertionContext{Issuer: issuer, Endpoints: []string{tokenEndpoint, parEndpoint}, Now: now}
}

func assertionClaimsOf(id string) map[string]any {
	return map[string]any{"iss": id, "sub": id, "aud": issuer, "jti": "one", "iat": now.Unix(), "exp": now.Unix() + 60}
}

func signingKey(alg jose.SignatureAlgorithm) (key any, kid string) {
	switch alg {
	case jose.ES256:
		return ecKey(), "ec"
	case jose.EdDSA:
		return edKey(), "ed"
	}
	return rsaKey(), "rsa"
}

func makeAssertion(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, kid := signingKey(alg)
	return signJWT(key, alg, with(map[string]any{"kid": kid}, header), with(assertionClaimsOf("tpp"), claims))
}

func TestCheckAssertion(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	in := func(seconds int64) int64 { return now.Unix() + seconds }
	for _, test := range []struct {
		name           string
		header, claims m
		fapi2, openid  Code // "" is accepted
	}{
		{name: "RFC 7523 §3: accepts iss, sub, aud, exp, iat and jti"},
		{"RFC 7523 §3: refuses a missing iss", nil, m{"iss": nil}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses another iss", nil, m{"iss": "other"}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses a missing sub", nil, m{"sub": nil}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses another sub", nil, m{"sub": "other"}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses a missing aud", nil, m{"aud": nil}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses an empty aud", nil, m{"aud": ""}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses another aud", nil, m{"aud": "https://other.example"}, InvalidClient, InvalidClient},
		{"RFC 7519 §4.1.3: refuses the issuer with a slash added", nil, m{"aud": issuer + "/"}, InvalidClient, InvalidClient},
		{"FAPI2 §5.3.2.1: refuses the issuer in an array", nil, m{"aud": []string{issuer}}, InvalidClient, ""},
		{"FAPI2 §5.3.2.1: refuses an array of more", nil, m{"aud": []string{"https://x.example", issuer}}, InvalidClient, ""},
		{"FAPI2 §5.3.2.1: refuses the token endpoint as aud", nil, m{"aud": tokenEndpoint}, InvalidClient, ""},
		{"RFC 9126 §2: aud may be the PAR endpoint, but not for FAPI2", nil, m{"aud": parEndpoint}, InvalidClient, ""},
		{"RFC 7523 §3: refuses an empty array", nil, m{"aud": []string{}}, InvalidClient, InvalidClient},
		{"RFC 7519 §4.1.3: refuses an aud that is no string", nil, m{"aud": 5}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: refuses a missing exp", nil, m{"exp": nil}, InvalidClient, InvalidClient},
		{"RFC 7519 §2: refuses an exp in a string", nil, m{"exp": "9999999999"}, InvalidClient, InvalidClient},
		{"RFC 7519 §2: refuses an exp beyond all dates", nil, m{"exp": 1e300}, InvalidClient, InvalidClient},
		{"RFC 7519 §2: refuses a negative exp", nil, m{"exp": -1}, InvalidClient, InvalidClient},
		{"RFC 7519 §2: accepts a fraction", nil, m{"exp": float64(in(60)) + 0.5}, "", ""},
		{"CA-01: refuses exp 5 minutes ago", nil, m{"exp": in(-300)}, InvalidClient, InvalidClient},
		{"X14: accepts exp exactly now", nil, m{"exp": in(0)}, "", ""},
		{"X14: accepts exp 9 seconds ago", nil, m{"exp": in(-9)}, "", ""},
		{"X14: refuses exp 10 seconds ago", nil, m{"exp": in(-10)}, InvalidClient, InvalidClient},
		{"CA-01: accepts exp in an hour", nil, m{"exp": in(3600)}, "", ""},
		{"CA-01: accepts exp in an hour and the skew", nil, m{"exp": in(3610)}, "", ""},
		{"CA-01: refuses exp later", nil, m{"exp": in(3611)}, InvalidClient, InvalidClient},
		{"F2-06: accepts iat 8 seconds ahead", nil, m{"iat": in(8)}, "", ""},
		{"F2-06: accepts iat 10 seconds ahead", nil, m{"iat": in(10)}, "", ""},
		{"F2-06: refuses iat 11 seconds ahead", nil, m{"iat": in(11)}, InvalidClient, InvalidClient},
		{"F2-06: refuses iat 60 seconds ahead", nil, m{"iat": in(60)}, InvalidClient, InvalidClient},
		{"F2-06: accepts nbf 8 seconds ahead", nil, m{"nbf": in(8)}, "", ""},
		{"F2-06: refuses nbf 60 seconds ahead", nil, m{"nbf": in(60)}, InvalidClient, InvalidClient},
		{"RFC 7523 §3: accepts a missing iat", nil, m{"iat": nil}, "", ""},
		{"CA-01: refuses a missing jti", nil, m{"jti": nil}, InvalidClient, InvalidClient},
		{"CA-01: refuses an empty jti", nil, m{"jti": ""}, InvalidClient, InvalidClient},
		{"CA-01: refuses a jti that is no string", nil, m{"jti": 7}, InvalidClient, InvalidClient},
		{"CA-01: accepts a jti of 512 characters", nil, m{"jti": strings.Repeat("j", 512)}, "", ""},
		{"CA-01: refuses a jti of 513 characters", nil, m{"jti": strings.Repeat("j", 513)}, InvalidClient, InvalidClient},
		{"RFC 7519 §4: ignores other claims", nil, m{"client": "x", "ISS": "other", "exP": 1}, "", ""},
		{"RFC 7515 §4.1.9: accepts typ JWT", m{"typ": "JWT"}, nil, "", ""},
		{"RFC 7515 §4.1.9: accepts typ client-authentication+jwt", m{"typ": "application/client-authentication+jwt"}, nil, "", ""},
		{"CA-03: refuses a request object", m{"typ": "oauth-authz-req+jwt"}, nil, InvalidClient, InvalidClient},
		{"CA-03: refuses a request object in full", m{"typ": "application/OAuth-AuthZ-Req+JWT"}, nil, InvalidClient, InvalidClient},
		{"CA-03: refuses a DPoP proof", m{"typ": "dpop+jwt"}, nil, InvalidClient, InvalidClient},
		{"CA-03: refuses an access token", m{"typ": "at+jwt"}, nil, InvalidClient, InvalidClient},
		{"CA-03: refuses a logout token", m{"typ": "logout+jwt"}, nil, InvalidClient, InvalidClient},
		{"CA-01: refuses a kid that is not registered", m{"kid": "other"}, nil, InvalidClient, InvalidClient},
		{"CA-01: refuses the kid of another key", m{"kid": "rsa"}, nil, InvalidClient, InvalidClient},
		{"RFC 7515 §4.1.4: tries the keys that fit without kid", m{"kid": ""}, nil, "", ""},
		{"RFC 7515 §4.1.11: refuses crit", m{"crit": []string{"exp"}, "exp": 1}, nil, InvalidClient, InvalidClient},
		{"RFC 7797 §6: refuses crit b64 too", m{"crit": []string{"b64"}, "b64": true}, nil, InvalidClient, InvalidClient},
	} {
		for _, client := range []struct {
			*Client
			code Code
		}{{strictTPP(), test.fapi2}, {openTPP(), test.openid}} {
			t.Run(test.name+"/"+string(client.Profile), func(t *testing.T) {
				t.Parallel()
				_, err := client.CheckAssertion(makeAssertion(jose.ES256, test.header, test.claims), assertionContext())
				refused(t, err, client.code)
			})
		}
	}
}

func TestCheckAssertion_algorithms(t *testing.T) {
	t.Parallel()
	onlyPS256 := tpp(FAPI2)
	onlyPS256.TokenEndpointAuthSigningAlg = jose.PS256
	mustPrepare(onlyPS256)
	for _, test := range []struct {
		name   string
		client *Client
		alg    jose.SignatureAlgorithm
		code   Code
	}{
		{"FAPI2 §5.4.1: accepts PS256", strictTPP(), jose.PS256, ""},
		{"FAPI2 §5.4.1: accepts ES256", strictTPP(), jose.ES256, ""},
		{"FAPI2 §5.4.1: accepts EdDSA", strictTPP(), jose.EdDSA, ""},
		{"FAPI2 §5.4.1: refuses RS256", strictTPP(), jose.RS256, InvalidClient},
		{"FAPI2 §5.4.1: refuses PS512", strictTPP(), jose.PS512, InvalidClient},
		{"OpenID Connect Core §9: accepts RS256", openTPP(), jose.RS256, ""},
		{"RFC 7591 §2: accepts the registered token_endpoint_auth_signing_alg", onlyPS256, jose.PS256, ""},
		{"RFC 7591 §2: refuses others than token_endpoint_auth_signing_alg", onlyPS256, jose.ES256, InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := test.client.CheckAssertion(makeAssertion(test.alg, nil, nil), assertionContext())
			refused(t, err, test.code)
		})
	}
}

func TestCheckAssertion_refusesWhatIsNoJWT(t *testing.T) {
	t.Parallel()
	good := makeAssertion(jose.ES256, nil, nil)
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	claims := string(must(json.Marshal(assertionClaimsOf("tpp"))))
	hmacKey := must(ecKey().PublicKey.Bytes()) // what a confused server would take for an HMAC key
	for name, assertion := range map[string]string{
		"nothing":                          "",
		"dots":                             "..",
		"two parts":                        parts[0] + "." + parts[1],
		"four parts":                       good + ".x",
		"JSON serialization":               `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"a line break":                     parts[0] + "." + parts[1] + ".\n" + parts[2],
		"padding":                          good + "==",
		"alg none":                         b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"HS256 with the public key":        signJWT(hmacKey, jose.HS256, nil, assertionClaimsOf("tpp")),
		"another signature":                parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)),
		"a signature too short":            parts[0] + "." + parts[1] + "." + b64(make([]byte, 10)),
		"other claims":                     parts[0] + "." + b64([]byte(strings.Replace(claims, "one", "two", 1))) + "." + parts[2],
		"another key":                      signJWT(otherKey(), jose.ES256, map[string]any{"kid": "ec"}, assertionClaimsOf("tpp")),
		"another key without kid":          signJWT(otherKey(), jose.ES256, nil, assertionClaimsOf("tpp")),
		"its own key in jwk":               signJWT(otherKey(), jose.ES256, map[string]any{"jwk": jose.JSONWebKey{Key: otherKey().Public()}}, assertionClaimsOf("tpp")),
		"more than 16 KiB":                 makeAssertion(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", 16<<10)}),
		"a member twice":                   signRaw(`{"iss":"other","iss":"tpp",` + claims[1:]),
		"claims that are no object":        signRaw(`["tpp"]`),
		"claims that are no JSON":          signRaw(`{`),
		"something after the claims":       signRaw(claims + `{}`),
		"an encrypted JWT, with its parts": good + ".." + parts[2],
	} {
		t.Run("RFC 7519 §7.2: refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := strictTPP().CheckAssertion(assertion, assertionContext())
			refused(t, err, InvalidClient)
			if AsError(err).Status != 401 {
				t.Errorf("status %d", AsError(err).Status)
			}
		})
	}
}

// signRaw signs any bytes with the client's EC key.
func signRaw(payload string) string {
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey()}, nil))
	return must(must(signer.Sign([]byte(payload))).CompactSerialize())
}

func TestCheckAssertion_use(t *testing.T) {
	t.Parallel()
	use := func(t *testing.T, client *Client, claims map[string]any) Use {
		t.Helper()
		u, err := client.CheckAssertion(makeAssertion(jose.ES256, nil, claims), assertionContext())
		refused(t, err, "")
		return u
	}
	t.Run("CA-01: the same jti is the same use, whatever else is in it", func(t *testing.T) {
		t.Parallel()
		if use(t, strictTPP(), nil).Hash != use(t, strictTPP(), map[string]any{"exp": now.Unix() + 90}).Hash {
			t.Error("a jti counts twice")
		}
		if use(t, strictTPP(), nil).Hash == use(t, strictTPP(), map[string]any{"jti": "two"}).Hash {
			t.Error("two jtis count as one")
		}
	})
	t.Run("CA-01: another client may use the same jti", func(t *testing.T) {
		t.Parallel()
		other := tpp(FAPI2)
		other.ID = "other"
		mustPrepare(other)
		u, err := other.CheckAssertion(signJWT(ecKey(), jose.ES256, nil, assertionClaimsOf("other")), assertionContext())
		refused(t, err, "")
		if u.Hash == use(t, strictTPP(), nil).Hash {
			t.Error("the jti of one client blocks that of another")
		}
	})
	t.Run("CA-01: it is remembered for as long as it is accepted", func(t *testing.T) {
		t.Parallel()
		u := use(t, strictTPP(), nil)
		in := assertionContext()
		in.Now = u.ExpiresAt
		_, err := strictTPP().CheckAssertion(makeAssertion(jose.ES256, nil, nil), in)
		refused(t, err, InvalidClient)
		in.Now = u.ExpiresAt.Add(-1)
		_, err = strictTPP().CheckAssertion(makeAssertion(jose.ES256, nil, nil), in)
		refused(t, err, "")
	})
	for _, test := range []struct {
		name   string
		claims map[string]any
		want   time.Time
	}{
		{"iat", nil, now},
		{"nbf without iat", map[string]any{"iat": nil, "nbf": now.Unix() - 30}, now.Add(-30 * time.Second)},
		{"the later of iat and nbf", map[string]any{"iat": now.Unix() - 30, "nbf": now.Unix() - 20}, now.Add(-20 * time.Second)},
		{"exp less the longest life", map[string]any{"iat": nil}, now.Add(time.Minute - time.Hour)},
		{"exp less the longest life, if iat is older", map[string]any{"iat": now.Unix() - 9999}, now.Add(time.Minute - time.Hour)},
	} {
		t.Run("CA-01: it cannot have been used before "+test.name, func(t *testing.T) {
			t.Parallel()
			u := use(t, strictTPP(), test.claims)
			if !u.IssuedAt.Equal(test.want.Add(-Skew)) {
				t.Errorf("IssuedAt is %v, want %v less %v", u.IssuedAt, test.want, Skew)
			}
			in := assertionContext()
			in.RememberedSince = u.IssuedAt
			_, err := strictTPP().CheckAssertion(makeAssertion(jose.ES256, nil, test.claims), in)
			refused(t, err, "")
			in.RememberedSince = u.IssuedAt.Add(1)
			_, err = strictTPP().CheckAssertion(makeAssertion(jose.ES256, nil, test.claims), in)
			refused(t, err, InvalidClient)
			// The reason for IssuedAt: at no earlier moment was it acceptable.
			in = assertionContext()
			in.Now = u.IssuedAt.Add(-1)
			_, err = strictTPP().CheckAssertion(makeAssertion(jose.ES256, nil, test.claims), in)
			refused(t, err, InvalidClient)
		})
	}
}

func TestCheckAssertion_refusesOtherMethods(t *testing.T) {
	t.Parallel()
	c := tpp(OpenID)
	c.TokenEndpointAuthMethod = ClientSecretBasic
	mustPrepare(c)
	_, err := c.CheckAssertion(makeAssertion(jose.ES256, nil, nil), assertionContext())
	refused(t, err, InvalidClient)
}

func TestCheckAssertion_failsClosedWithoutIssuer(t *testing.T) {
	t.Parallel()
	for _, client := range []*Client{strictTPP(), openTPP()} {
		for _, aud := range []any{"", []string{""}} {
			_, err := client.CheckAssertion(makeAssertion(jose.ES256, nil, map[string]any{"aud": aud}), AssertionContext{Now: now, Endpoints: []string{""}})
			refused(t, err, InvalidClient)
		}
	}
}

func TestUseHash(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]bool{}
	for _, use := range [][3]string{{"a", "b", "c"}, {"b", "b", "c"}, {"a", "bc", ""}, {"ab", "", "c"}, {"a", "b", "d"}, {"a", "", "b\x00c"}} {
		seen[useHash(use[0], use[1], use[2])] = true
	}
	if len(seen) != 6 {
		t.Error("two uses have the same hash")
	}
	if useHash("a", "b", strings.Repeat("c", 2000)) == useHash("a", "b", strings.Repeat("c", 2001)) {
		t.Error("long jtis are cut")
	}
}

func TestNumericDate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want numericDate
		ok   bool
	}{
		{"1", 1, true}, {"1772366400", 1772366400, true}, {"1.7723664e9", 1772366400, true}, {"1772366400.9", 1772366400, true},
		{"253402300799", 253402300799, true}, {"253402300800", 0, false}, {"1e300", 0, false}, {"0", 0, false}, {"-1", 0, false},
		{`"1772366400"`, 0, false}, {"true", 0, false}, {"{}", 0, false}, {"null", 0, true},
	} {
		t.Run("RFC 7519 §2: "+test.text, func(t *testing.T) {
			t.Parallel()
			var got numericDate
			if err := json.Unmarshal([]byte(test.text), &got); (err == nil) != test.ok || got != test.want {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
}

func TestAssertionIssuer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, assertion, want string }{
		{"RFC 7523 §3: names iss", makeAssertion(jose.ES256, nil, map[string]any{"sub": "x"}), "tpp"},
		{"RFC 7523 §3: names sub when iss is missing", makeAssertion(jose.ES256, nil, map[string]any{"iss": nil}), "tpp"},
		{"refuses neither", makeAssertion(jose.ES256, nil, map[string]any{"iss": nil, "sub": nil}), ""},
		{"refuses a client_id that cannot be", makeAssertion(jose.ES256, nil, map[string]any{"iss": "a\x00b"}), ""},
		{"refuses a client_id of 256 characters", makeAssertion(jose.ES256, nil, map[string]any{"iss": strings.Repeat("a", 256)}), ""},
		{"refuses what is no JWT", "x", ""},
		{"refuses payloads that are no base64url", "a.b.c", ""},
		{"refuses payloads that are no JSON", "a.aaaa.c", ""},
		{"refuses more than 16 KiB", makeAssertion(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", 16<<10)}), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := AssertionIssuer(test.assertion)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if test.want == "" {
				refused(t, err, InvalidClient)
			}
		})
	}
}

func TestSecretMatches(t *testing.T) {
	t.Parallel()
	hash := SecretHash("s3cret")
	if !SecretMatches(hash, "s3cret") || SecretMatches(hash, "s3creT") || SecretMatches(nil, "") || SecretMatches(hash, "") {
		t.Error("RFC 6749 §2.3.1: a secret matches its own hash and no other")
	}
}

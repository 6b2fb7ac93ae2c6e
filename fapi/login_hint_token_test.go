package fapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

const directory = "https://directory.example"

func hintIssuers() HintIssuers {
	one := func(id string, key any) *jose.JSONWebKeySet {
		return must(ReadStatementKeys(must(json.Marshal(map[string]any{"keys": []any{publicJWK(key, map[string]any{"kid": id})}}))))
	}
	return HintIssuers{directory: one("ec", ecKey().Public()), "https://telco.example": one("other", otherKey().Public()), "https://rsa.example": one("rsa", rsaKey().Public())}
}

// makeHint signs a login_hint_token of the directory; nil leaves a claim out.
func makeHint(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, kid := signingKey(alg)
	return signJWT(key, alg, with(map[string]any{"kid": kid}, header), with(map[string]any{"iss": directory, "aud": issuer, "exp": now.Unix() + 60, "preferred_username": "alice"}, claims))
}

func TestHintIssuers(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	in := func(seconds int64) int64 { return now.Unix() + seconds }
	for _, test := range []struct {
		name           string
		header, claims m
		want           Code
	}{
		{name: "accepts a complete token"},
		{"accepts sub instead of preferred_username", nil, m{"preferred_username": nil, "sub": "s1"}, ""},
		{"refuses both", nil, m{"sub": "s1"}, InvalidRequest},
		{"refuses neither", nil, m{"preferred_username": nil}, InvalidRequest},
		{"refuses an empty name", nil, m{"preferred_username": ""}, InvalidRequest},
		{"refuses a name that is no string", nil, m{"preferred_username": []string{"alice"}}, InvalidRequest},
		{"refuses a name that is a number", nil, m{"preferred_username": nil, "sub": 5}, InvalidRequest},
		{"refuses a client assertion", nil, m{"preferred_username": nil, "sub": directory}, InvalidRequest},
		{"refuses a missing iss", nil, m{"iss": nil}, InvalidRequest},
		{"refuses an issuer that is not trusted", nil, m{"iss": "https://evil.example"}, InvalidRequest},
		{"refuses an issuer with a slash added", nil, m{"iss": directory + "/"}, InvalidRequest},
		{"refuses another issuer's signature", nil, m{"iss": "https://telco.example"}, InvalidRequest},
		{"refuses another issuer's signature without kid", m{"kid": ""}, m{"iss": "https://telco.example"}, InvalidRequest},
		{"refuses a missing aud", nil, m{"aud": nil}, InvalidRequest},
		{"refuses another aud", nil, m{"aud": "https://other.example"}, InvalidRequest},
		{"refuses an empty aud", nil, m{"aud": ""}, InvalidRequest},
		{"refuses an empty array", nil, m{"aud": []string{}}, InvalidRequest},
		{"refuses an array without the issuer", nil, m{"aud": []string{"https://other.example"}}, InvalidRequest},
		{"accepts an array with it", nil, m{"aud": []string{"https://other.example", issuer}}, ""},
		{"refuses a missing exp", nil, m{"exp": nil}, InvalidRequest},
		{"refuses an exp in a string", nil, m{"exp": "9999999999"}, InvalidRequest},
		{"CIBA Core §13: says that it has expired", nil, m{"exp": in(-60)}, ExpiredLoginHintToken},
		{"X14: accepts exp 9 seconds ago", nil, m{"exp": in(-9)}, ""},
		{"X14: refuses exp 10 seconds ago", nil, m{"exp": in(-10)}, ExpiredLoginHintToken},
		{"what is another's has not expired", nil, m{"exp": in(-60), "aud": "https://other.example"}, InvalidRequest},
		{"X14: accepts nbf 10 seconds ahead", nil, m{"nbf": in(10)}, ""},
		{"X14: refuses nbf 11 seconds ahead", nil, m{"nbf": in(11)}, InvalidRequest},
		{"X14: accepts iat 10 seconds ahead", nil, m{"iat": in(10)}, ""},
		{"X14: refuses iat 11 seconds ahead", nil, m{"iat": in(11)}, InvalidRequest},
		{"accepts typ JWT", m{"typ": "JWT"}, nil, ""},
		{"refuses an access token", m{"typ": "at+jwt"}, nil, InvalidRequest},
		{"refuses a logout token", m{"typ": "logout+jwt"}, nil, InvalidRequest},
		{"refuses a request object", m{"typ": "oauth-authz-req+jwt"}, nil, InvalidRequest},
		{"accepts no kid", m{"kid": ""}, nil, ""},
		{"refuses another kid", m{"kid": "other"}, nil, InvalidRequest},
		{"refuses crit", m{"crit": []string{"exp"}}, nil, InvalidRequest},
		{"ignores other claims", nil, m{"phone_number": "+44", "jti": "x"}, ""},
	} {
		t.Run("CIBA-03: "+test.name, func(t *testing.T) {
			t.Parallel()
			who, err := hintIssuers().Check(makeHint(jose.ES256, test.header, test.claims), issuer, now)
			refused(t, err, test.want)
			if err == nil && who != (HintedUser{Username: "alice"}) && who != (HintedUser{Subject: "s1"}) || err != nil && who != (HintedUser{}) {
				t.Errorf("%+v", who)
			}
		})
	}
	good := makeHint(jose.ES256, nil, nil)
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"nothing": "", "an ordinary name": "alice", "no signature": parts[0] + "." + parts[1] + ".", "no JSON": signRaw("x"), "null": signRaw("null"), "a list": signRaw("[]"),
		"a member twice":                signRaw(`{"iss":"` + directory + `","aud":"` + issuer + `","exp":9999999999,"sub":"s1","sub":"s2"}`),
		"RS256":                         makeHint(jose.RS256, nil, map[string]any{"iss": "https://rsa.example"}),
		"HS256":                         signJWT([]byte(strings.Repeat("s", 32)), jose.HS256, nil, map[string]any{"iss": directory}),
		"claims under a good signature": parts[0] + "." + strings.Split(makeHint(jose.ES256, nil, map[string]any{"preferred_username": "bob"}), ".")[1] + "." + parts[2],
		"what is too long":              makeHint(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", maxHint)}),
	} {
		_, err := hintIssuers().Check(token, issuer, now)
		t.Run("CIBA-03: refuses "+name, func(t *testing.T) { refused(t, err, InvalidRequest) })
	}
	_, err := hintIssuers().Check(makeHint(jose.PS256, nil, map[string]any{"iss": "https://rsa.example"}), issuer, now)
	refused(t, err, "")
	_, err = HintIssuers(nil).Check(good, issuer, now)
	refused(t, err, InvalidRequest)
	_, err = hintIssuers().Check(makeHint(jose.ES256, nil, map[string]any{"aud": ""}), "", now)
	refused(t, err, InvalidRequest)
}

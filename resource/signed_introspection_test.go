package resource

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// INT-04: only an answer that the authorization server has just signed for this service counts (RFC 9701 §5).
func TestSignedIntrospection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header, claims, about m
		forged                bool
		media                 string
		status                int
	}{
		"a good token":                  {status: 200},
		"RFC 7662 §2.2: not active":     {about: m{"active": false}, status: 401},
		"for several":                   {claims: m{"aud": []string{"x", service}}, status: 200},
		"RFC 9701 §5: another typ":      {header: m{"typ": "JWT"}, status: 503},
		"an access token":               {header: m{"typ": "at+jwt"}, status: 503},
		"no typ":                        {header: m{"typ": nil}, status: 503},
		"another kid":                   {header: m{"kid": "x"}, status: 503},
		"no kid":                        {header: m{"kid": nil}, status: 503},
		"another's signature":           {forged: true, status: 503},
		"another issuer":                {claims: m{"iss": "https://other.example"}, status: 503},
		"no issuer":                     {claims: m{"iss": nil}, status: 503},
		"another's answer":              {claims: m{"aud": "other-api"}, status: 503},
		"for nobody":                    {claims: m{"aud": nil}, status: 503},
		"an old answer":                 {claims: m{"iat": time.Now().Add(-2 * time.Minute).Unix()}, status: 503},
		"an answer from the future":     {claims: m{"iat": time.Now().Add(2 * time.Minute).Unix()}, status: 503},
		"no iat":                        {claims: m{"iat": nil}, status: 503},
		"nothing said":                  {claims: m{"token_introspection": nil}, status: 503},
		"what is said, not nested":      {claims: m{"token_introspection": "x", "active": true}, status: 503},
		"a token for another service":   {about: m{"aud": "https://other.example"}, status: 401},
		"JSON, though a JWT was wanted": {media: "application/json", status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.config.SignedIntrospection = true
			b.sign(nil, nil) // publishes the key
			key := otherKey
			if test.forged {
				key = tppKey
			}
			about := b.claims(test.about)
			if about["active"] == false {
				about = m{"active": false}
			}
			signed := signJWT(key, jose.ES256, with(m{"typ": "token-introspection+jwt", "kid": "as"}, test.header),
				with(m{"iss": b.URL, "aud": service, "iat": b.clock.at(0), "token_introspection": about}, test.claims))
			b.answer = func(w http.ResponseWriter, r *http.Request) {
				if accept := r.Header.Get("Accept"); accept != introspectionMedia {
					t.Errorf("RFC 9701 §4: Accept %q", accept)
				}
				if test.media != "" {
					writeJSON(w, about)
					return
				}
				w.Header().Set("Content-Type", introspectionMedia)
				w.Write([]byte(signed))
			}
			b.start(t)
			code := fapi.TemporarilyUnavailable
			if test.status == 401 {
				code = fapi.InvalidToken
			}
			expect(t, b.get(t, "csat_x"), test.status, code)
		})
	}
	t.Run("such an answer is no access token", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		expect(t, b.get(t, b.sign(m{"typ": "token-introspection+jwt"}, nil)), 401, fapi.InvalidToken)
	})
}

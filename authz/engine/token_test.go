package engine_test

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/authz/keys"
)

// minted are tokens of every kind that a server has issued, and an engine that opens them.
type minted struct {
	*engine.Engine
	opaque, jwt, refresh, id string
}

func mint(t testing.TB) *minted {
	t.Helper()
	s := authztest.Start(t)
	set, err := keys.Open(t.Context(), s.DB, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	one, two := s.Client("tpp-mtls").Grant(t, nil), s.Client("tpp-jwt").Grant(t, nil)
	return &minted{
		engine.New(s.Issuer, authztest.Resource, nil, engine.Customers{}, s.DB, set),
		one["access_token"].(string), two["access_token"].(string), one["refresh_token"].(string), one["id_token"].(string),
	}
}

func (m *minted) opens(token string, now time.Time) (access, refresh bool) {
	_, access = m.OpenAccessToken(token, now)
	_, refresh = m.OpenRefreshToken(token, now)
	return access, refresh
}

func TestOpen_TakesATokenForWhatItIs(t *testing.T) {
	t.Parallel()
	m := mint(t)
	now := time.Now()
	swap := func(token, from, to string) string { return to + strings.TrimPrefix(token, from) }
	for name, c := range map[string]struct {
		token           string
		at              time.Time
		access, refresh bool
	}{
		"an opaque access token":                    {m.opaque, now, true, false},
		"a JWT access token":                        {m.jwt, now, true, false},
		"a refresh token":                           {m.refresh, now, false, true},
		"AT-02: an ID token":                        {m.id, now, false, false},
		"a refresh token as access token":           {swap(m.refresh, "csrt_", "csat_"), now, false, false},
		"an access token as refresh token":          {swap(m.opaque, "csat_", "csrt_"), now, false, false},
		"a JWT with a prefix":                       {"csat_" + m.jwt, now, false, false},
		"a token without its prefix":                {strings.TrimPrefix(m.opaque, "csat_"), now, false, false},
		"nothing":                                   {"", now, false, false},
		"the prefix alone":                          {"csat_", now, false, false},
		"the other prefix alone":                    {"csrt_", now, false, false},
		"an opaque token that has expired":          {m.opaque, now.Add(5*time.Minute + time.Second), false, false},
		"a JWT that has expired":                    {m.jwt, now.Add(5*time.Minute + time.Second), false, false},
		"a refresh token that has expired":          {m.refresh, now.Add(91 * 24 * time.Hour), false, false},
		"a line break behind":                       {m.opaque + "\n", now, false, false},
		"a line break within":                       {m.opaque[:20] + "\r\n" + m.opaque[20:], now, false, false},
		"padding":                                   {m.opaque + "=", now, false, false},
		"a JWT without its signature":               {m.jwt[:strings.LastIndex(m.jwt, ".")+1], now, false, false},
		"a JWT with the header of an ID token":      {strings.Split(m.id, ".")[0] + m.jwt[strings.Index(m.jwt, "."):], now, false, false},
		"an ID token with the header of a JWT":      {strings.Split(m.jwt, ".")[0] + m.id[strings.Index(m.id, "."):], now, false, false},
		"two tokens":                                {m.opaque + " " + m.opaque, now, false, false},
		"a token with another's end":                {m.opaque[:60] + m.refresh[60:], now, false, false},
		"a token that was cut":                      {m.opaque[:len(m.opaque)-8], now, false, false},
		"the prefix in capitals":                    {strings.ToUpper(m.opaque[:5]) + m.opaque[5:], now, false, false},
		"a JWT that says none":                      {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + strings.Split(m.jwt, ".")[1] + ".", now, false, false},
		"base64 of the other alphabet, if it shows": {strings.NewReplacer("-", "+", "_", "/").Replace(m.opaque[5:]), now, false, false},
	} {
		if access, refresh := m.opens(c.token, c.at); access != c.access || refresh != c.refresh {
			t.Errorf("%s: opens as access token %v, as refresh token %v", name, access, refresh)
		}
	}
}

// A sealed token opens only as it was written: every other bit string is refused.
func TestOpen_RefusesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	m := mint(t)
	now := time.Now()
	for _, token := range []string{m.opaque, m.refresh} {
		for i := range len(token) {
			for bit := range 8 {
				changed := []byte(token)
				changed[i] ^= 1 << bit
				if access, refresh := m.opens(string(changed), now); access || refresh {
					t.Errorf("opens with bit %d of character %d of %d flipped", bit, i, len(token))
				}
			}
		}
	}
	// The last character of a part of a JWT has bits that base64 does not use: the bytes behind it count.
	parts := strings.Split(m.jwt, ".")
	for part := range parts {
		raw, err := base64.RawURLEncoding.DecodeString(parts[part])
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			raw[i] ^= 1 << rand.IntN(8)
			changed := append([]string(nil), parts...)
			changed[part] = base64.RawURLEncoding.EncodeToString(raw)
			if access, refresh := m.opens(strings.Join(changed, "."), now); access || refresh {
				t.Errorf("a JWT opens with byte %d of part %d changed", i, part)
			}
			raw, _ = base64.RawURLEncoding.DecodeString(parts[part])
		}
	}
}

func FuzzOpen(f *testing.F) {
	m := mint(f)
	now := time.Now()
	for _, token := range []string{m.opaque, m.jwt, m.refresh, m.id, "", "csat_", "csrt_", "a.b.c", "..", "csat_AAAA"} {
		f.Add(token)
	}
	genuine := map[string]bool{m.opaque: true, m.refresh: true}
	claims := func(token string) string { // what a JWT says: base64 has more than one way to write it
		raw, _ := base64.RawURLEncoding.DecodeString(strings.SplitN(token+"..", ".", 3)[1])
		return string(raw)
	}
	f.Fuzz(func(t *testing.T, token string) {
		access, refresh := m.opens(token, now)
		if access && refresh {
			t.Errorf("%q is both", token)
		}
		if (access || refresh) && !genuine[token] && claims(token) != claims(m.jwt) {
			t.Errorf("%q opens", token)
		}
	})
}

package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// jarm checks a signed answer and returns its claims.
func jarm(t *testing.T, s *authztest.Server, c *authztest.Client, answer url.Values) map[string]any {
	t.Helper()
	if len(answer) != 1 {
		t.Fatalf("JARM-03: more than response: %v", answer)
	}
	header, claims := s.Verified(t, answer.Get("response"))
	if _, ok := header["typ"]; ok || header["kid"] == nil {
		t.Errorf("JARM-04: header %v", header)
	}
	exp, _ := claims["exp"].(float64)
	if left := time.Until(time.Unix(int64(exp), 0)); left < 10*time.Second || left > 10*time.Minute {
		t.Errorf("JARM-02: good for %v", left)
	}
	if claims["iss"] != s.Issuer || claims["aud"] != c.ID || claims["sub"] != nil {
		t.Errorf("JARM-02: claims %v", claims)
	}
	return claims
}

func TestJARM(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	all := map[string]any{"response_types": fapi.FindProfile(fapi.OpenID).ResponseTypes}
	fapi1, ms := s.Client("fapi1"), s.Client("ms")
	ed := s.AddClient(t, "jarm-ed", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"authorization_signed_response_alg": "EdDSA"})
	every := s.AddClient(t, "jarm-all", fapi.OpenID, fapi.ClientSecretBasic, all)
	for _, test := range []struct {
		name      string
		client    *authztest.Client
		changes   map[string]string
		mode, alg string
		claims    string
	}{
		{"JARM-01: jwt of a code is query.jwt", ms, nil, "query", "ES256", "aud code exp iss state"},
		{"JARM-02: no state, no state", ms, map[string]string{"state": ""}, "query", "ES256", "aud code exp iss"},
		{"JARM-01: query.jwt", ms, map[string]string{"response_mode": "query.jwt"}, "query", "ES256", "aud code exp iss state"},
		{"F1A-09: code with JARM", fapi1, map[string]string{"response_type": "code", "response_mode": "jwt"}, "query", "ES256", "aud code exp iss state"},
		{"JARM-01: jwt of an ID token is fragment.jwt", fapi1, map[string]string{"response_mode": "jwt"}, "fragment", "ES256", "aud code exp id_token iss state"},
		{"JARM-01: fragment.jwt of a code", fapi1, map[string]string{"response_type": "code", "response_mode": "fragment.jwt"}, "fragment", "ES256", "aud code exp iss state"},
		{"JARM-01: form_post.jwt", fapi1, map[string]string{"response_mode": "form_post.jwt"}, "form_post", "ES256", "aud code exp id_token iss state"},
		{"JARM-04: the alg that was registered", ed, map[string]string{"response_mode": "jwt"}, "query", "EdDSA", "aud code exp iss state"},
		{"JARM-02: all parameters, as text", every, map[string]string{"response_type": "code id_token token", "response_mode": "jwt"}, "fragment", "ES256", "access_token aud code exp expires_in id_token iss scope state token_type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.client
			answer, mode := decided(t, s, c, "approve", test.changes).Answered(t)
			claims := jarm(t, s, c, answer)
			header, _ := s.Verified(t, answer.Get("response"))
			if names := strings.Join(slices.Sorted(maps.Keys(claims)), " "); mode != test.mode || names != test.claims || header["alg"] != test.alg {
				t.Errorf("answered by %s with %s and %q", mode, header["alg"], names)
			}
			c.Exchange(t, claims["code"].(string))
			answer, mode = decided(t, s, c, "deny", test.changes).Answered(t)
			claims = jarm(t, s, c, answer)
			if mode != test.mode || claims["error"] != string(fapi.AccessDenied) || claims["error_description"] == nil || claims["code"] != nil || len(claims) != strings.Count(test.claims, "state")+5 {
				t.Errorf("F1A-16: refused by %s with %v", mode, claims)
			}
		})
	}
	t.Run("JARM-02: errors of the request itself", func(t *testing.T) {
		c := ed
		for name, test := range map[string]struct {
			changes map[string]string
			code    fapi.Code
		}{
			"a bad scope":                {map[string]string{"scope": "nothing"}, fapi.InvalidScope},
			"a response_type not for it": {map[string]string{"response_type": "code id_token"}, fapi.UnauthorizedClient},
			"prompt=none":                {map[string]string{"prompt": "none"}, fapi.LoginRequired},
		} {
			test.changes["response_mode"] = "jwt"
			answer, _ := s.Browser(t).Open(t, "/authorize?"+c.Request(t, test.changes).Encode()).Answered(t)
			if claims := jarm(t, s, c, answer); claims["error"] != string(test.code) || claims["state"] != "state-1" {
				t.Errorf("%s: %v", name, claims)
			}
		}
	})
	t.Run("MS-03: what a client that only takes signed answers is told", func(t *testing.T) {
		c := s.AddClient(t, "jarm-only", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"response_modes": []string{"jwt"}})
		answer, mode := s.Browser(t).Open(t, "/authorize?"+c.Request(t, nil).Encode()).Answered(t)
		if mode != "query" || answer.Get("error") != string(fapi.InvalidRequest) || answer.Has("response") { // as it asked
			t.Errorf("answered by %s with %v", mode, answer)
		}
	})
	t.Run("JARM-06: nothing is sent where it must not", func(t *testing.T) {
		c := ed
		changes := map[string]string{"response_mode": "jwt", "redirect_uri": "https://evil.example/"}
		s.Browser(t).Open(t, "/authorize?"+c.Request(t, changes).Encode()).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	})
	t.Run("no answer is an ID token, or an access token", func(t *testing.T) {
		c := every
		answer, _ := decided(t, s, c, "approve", map[string]string{"response_mode": "jwt"}).Answered(t)
		signed := answer.Get("response")
		c.Post(t, "/par", c.Params(map[string]string{"id_token_hint": signed})).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
		if said := s.Client("bank-api").Post(t, "/introspect", url.Values{"token": {signed}}); string(said.Body) != inactive {
			t.Errorf("answered %s", said.Body)
		}
		c.Get(t, "/userinfo", signed).Challenged(t, http.StatusUnauthorized, "Bearer", fapi.InvalidToken)
	})
}

// What is registered to be encrypted is encrypted, after it was signed, or not sent at all.
func TestEncryptedAnswers(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	ec := authztest.NewKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: authztest.NewKey(t).Public(), KeyID: "sig", Use: "sig", Algorithm: "ES256"},
		{Key: ec.Public(), KeyID: "ec", Use: "enc", Algorithm: "ECDH-ES"},
		{Key: rsaKey.Public(), KeyID: "rsa", Use: "enc"},
	}}
	add := func(id string, more map[string]any) *authztest.Client {
		all := map[string]any{"response_types": fapi.FindProfile(fapi.OpenID).ResponseTypes, "jwks": keys}
		maps.Copy(all, more)
		return s.AddClient(t, id, fapi.OpenID, fapi.ClientSecretBasic, all)
	}
	nested := func(t *testing.T, token string, key any, kid string) (map[string]any, map[string]any) {
		t.Helper()
		inner, header := authztest.Decrypted(t, token, key)
		if header["cty"] != "JWT" || header["kid"] != kid {
			t.Errorf("RFC 7519 §5.2: header %v", header)
		}
		return s.Verified(t, inner)
	}
	asksName := map[string]string{"response_type": "code id_token", "claims": `{"id_token":{"name":{"essential":true}}}`}

	t.Run("OP-02, F1A-08: ID tokens, from both endpoints", func(t *testing.T) {
		c := add("enc-id", map[string]any{"id_token_encrypted_response_alg": "ECDH-ES", "id_token_encrypted_response_enc": "A256GCM"})
		answer, _ := decided(t, s, c, "approve", asksName).Answered(t)
		_, front := nested(t, answer.Get("id_token"), ec, "ec")
		tokens := c.Exchange(t, answer.Get("code"))
		_, later := nested(t, tokens["id_token"].(string), ec, "ec")
		if front["name"] != "Alice Doe" || later["name"] != "Alice Doe" || front["sub"] != later["sub"] || front["c_hash"] == nil {
			t.Errorf("claims %v, then %v", front, later)
		}
		again := c.Token(t, refreshed(c.Grant(t, map[string]string{"scope": "openid offline_access", "prompt": "consent"})["refresh_token"]))
		if _, claims := nested(t, again["id_token"].(string), ec, "ec"); claims["sub"] != later["sub"] {
			t.Errorf("refreshed: %v", claims)
		}
	})
	t.Run("JARM-04: authorization responses, and query.jwt for tokens", func(t *testing.T) {
		c := add("enc-jarm", map[string]any{"authorization_encrypted_response_alg": "RSA-OAEP-256", "authorization_encrypted_response_enc": "A128CBC-HS256"})
		for _, decision := range []string{"approve", "deny"} {
			answer, mode := decided(t, s, c, decision, map[string]string{"response_type": "code id_token", "response_mode": "query.jwt"}).Answered(t)
			_, claims := nested(t, answer.Get("response"), rsaKey, "rsa")
			if mode != "query" || len(answer) != 1 || claims["aud"] != c.ID || claims["state"] != "state-1" || (claims["code"] == nil) != (decision == "deny") {
				t.Errorf("%s: %v", decision, claims)
			}
		}
	})
	t.Run("OP-03: userinfo", func(t *testing.T) {
		for name, more := range map[string]map[string]any{
			"signed":               {"userinfo_signed_response_alg": "EdDSA"},
			"encrypted":            {"userinfo_encrypted_response_alg": "ECDH-ES", "userinfo_encrypted_response_enc": "A128GCM"},
			"signed-and-encrypted": {"userinfo_signed_response_alg": "ES256", "userinfo_encrypted_response_alg": "RSA-OAEP-256"},
		} {
			c := add("enc-userinfo-"+name, more)
			tokens := c.Grant(t, nil)
			info := c.Get(t, "/userinfo", tokens["access_token"].(string))
			if info.Status != http.StatusOK || info.Header.Get("Content-Type") != "application/jwt" || info.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%s: answered %d %v", name, info.Status, info.Header)
			}
			var claims map[string]any
			switch name {
			case "signed":
				_, claims = s.Verified(t, string(info.Body))
			case "signed-and-encrypted":
				_, claims = nested(t, string(info.Body), rsaKey, "rsa")
			default:
				plain, header := authztest.Decrypted(t, string(info.Body), ec)
				if err := json.Unmarshal([]byte(plain), &claims); err != nil || header["cty"] != nil {
					t.Errorf("OpenID Connect Core §5.3.2: %v %v %s", header, err, plain)
				}
			}
			if claims["name"] != "Alice Doe" || claims["sub"] != idClaims(t, tokens)["sub"] {
				t.Errorf("%s: claims %v", name, claims)
			}
			if signed := name != "encrypted"; (claims["iss"] == s.Issuer) != signed || (claims["aud"] == c.ID) != signed {
				t.Errorf("%s: iss %v, aud %v", name, claims["iss"], claims["aud"])
			}
			c.Get(t, "/userinfo", string(info.Body)).Challenged(t, http.StatusUnauthorized, "Bearer", fapi.InvalidToken)
		}
	})
	t.Run("no key, no answer", func(t *testing.T) {
		for name, more := range map[string]map[string]any{
			"id_token": {"id_token_encrypted_response_alg": "ECDH-ES"},
			"jarm":     {"authorization_encrypted_response_alg": "RSA-OAEP-256"},
			"userinfo": {"userinfo_encrypted_response_alg": "ECDH-ES"},
			"unsigned": {"authorization_signed_response_alg": "PS256"}, // these servers have no such key
		} {
			maps.Copy(more, map[string]any{"jwks_uri": "https://127.0.0.1:1/", "response_types": []string{"code", "code id_token"}})
			c := s.AddClient(t, "keyless-"+name, fapi.OpenID, fapi.ClientSecretBasic, more)
			switch name {
			case "id_token":
				answer, mode := decided(t, s, c, "approve", map[string]string{"response_type": "code id_token"}).Answered(t)
				if mode != "fragment" || answer.Get("error") != string(fapi.ServerError) || answer.Has("id_token") || answer.Has("code") {
					t.Errorf("%s: answered %v", name, answer)
				}
			case "userinfo":
				info := c.Get(t, "/userinfo", c.Grant(t, nil)["access_token"].(string))
				if info.Status != http.StatusInternalServerError || len(info.Body) != 0 {
					t.Errorf("%s: answered %d %s", name, info.Status, info.Body)
				}
			default:
				for _, decision := range []string{"approve", "deny"} {
					decided(t, s, c, decision, map[string]string{"response_mode": "jwt"}).Explains(t, http.StatusInternalServerError, fapi.ServerError)
				}
			}
		}
	})
}

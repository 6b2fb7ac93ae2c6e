package authz_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

type headers = map[jose.HeaderKey]any

// jktOf is the thumbprint of a key (RFC 7638).
func jktOf(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// proofs sends a form with DPoP headers that were made by hand.
func proofs(t *testing.T, c *authztest.Client, path string, form url.Values, headers ...string) *authztest.Answer {
	t.Helper()
	return c.Raw(t, "POST", path, c.Authenticated(t, form).Encode(), http.Header{"DPoP": headers})
}

func TestDPoP_Proofs(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("tpp-dpop")
	token := c.Grant(t, nil)["access_token"].(string)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(key any) jose.JSONWebKey { return jose.JSONWebKey{Key: key} }
	mine := jwk(c.DPoPKey.Public())
	type claims = map[string]any
	cases := []struct {
		name   string
		alg    jose.SignatureAlgorithm
		key    any // nil: the client's
		header headers
		claims claims
		good   bool
	}{
		{"a plain proof", "", nil, nil, nil, true},
		{"DPOP-02: extra claims", "", nil, nil, claims{"x": 1, "nonce": "any"}, true},
		{"PS256", jose.PS256, rsaKey, headers{"jwk": jwk(rsaKey.Public())}, nil, true},
		{"EdDSA", jose.EdDSA, edKey, headers{"jwk": jwk(edPublic)}, nil, true},
		{"DPOP-01: RS256", jose.RS256, rsaKey, headers{"jwk": jwk(rsaKey.Public())}, nil, false},
		{"an RSA key that is too short", jose.PS256, weak, headers{"jwk": jwk(weak.Public())}, nil, false},
		{"HS256", jose.HS256, []byte(strings.Repeat("k", 32)), headers{"jwk": mine}, nil, false},
		{"HS256 with its secret", jose.HS256, []byte(strings.Repeat("k", 32)), headers{"jwk": jwk([]byte(strings.Repeat("k", 32)))}, nil, false},
		{"DPOP-01: no typ", "", nil, headers{"typ": nil}, nil, false},
		{"DPOP-01: another typ", "", nil, headers{"typ": "JWT"}, nil, false},
		{"a typ in capitals", "", nil, headers{"typ": "DPoP+JWT"}, nil, false},
		{"DPOP-01: no jwk", "", nil, headers{"jwk": nil}, nil, false},
		{"a kid instead of jwk", "", nil, headers{"jwk": nil, "kid": "tpp-dpop"}, nil, false},
		{"DPOP-01: a private jwk", "", nil, headers{"jwk": jwk(c.DPoPKey)}, nil, false},
		{"the jwk of another key", "", nil, headers{"jwk": jwk(authztest.NewKey(t).Public())}, nil, false},
		{"a jwk that is a string", "", nil, headers{"jwk": "x"}, nil, false},
		{"crit", "", nil, headers{"crit": []string{"b64"}, "b64": true}, nil, false},
		{"DPOP-02: no jti", "", nil, nil, claims{"jti": nil}, false},
		{"an empty jti", "", nil, nil, claims{"jti": ""}, false},
		{"a jti that is too long", "", nil, nil, claims{"jti": strings.Repeat("x", 513)}, false},
		{"DPOP-02: no htm", "", nil, nil, claims{"htm": nil}, false},
		{"DPOP-02: another htm", "", nil, nil, claims{"htm": "PUT"}, false},
		{"htm in lower case", "", nil, nil, claims{"htm": "post"}, false},
		{"DPOP-02: no htu", "", nil, nil, claims{"htu": nil}, false},
		{"DPOP-02: another htu", "", nil, nil, claims{"htu": s.Issuer + "/other"}, false},
		{"the htu of another server", "", nil, nil, claims{"htu": "https://other.example/token"}, false},
		{"htu with http", "", nil, nil, claims{"htu": "http" + strings.TrimPrefix(s.Issuer, "https") + "/token"}, false},
		{"htu that is a path", "", nil, nil, claims{"htu": "/token"}, false},
		{"DPOP-02: no iat", "", nil, nil, claims{"iat": nil}, false},
		{"DPOP-02: an iat an hour ago", "", nil, nil, claims{"iat": fromNow(-3600)}, false},
		{"DPOP-02: an iat in an hour", "", nil, nil, claims{"iat": fromNow(3600)}, false},
		{"an iat beyond the window", "", nil, nil, claims{"iat": fromNow(-61)}, false},
		{"F2-06: an iat 10 seconds ago", "", nil, nil, claims{"iat": fromNow(-10)}, true},
		{"F2-06: an iat 9 seconds ahead", "", nil, nil, claims{"iat": fromNow(9)}, true},
		{"an iat a minute ahead", "", nil, nil, claims{"iat": fromNow(60)}, false},
		{"an iat that is a string", "", nil, nil, claims{"iat": "now"}, false},
		{"an exp that is over", "", nil, nil, claims{"exp": fromNow(-30)}, false},
		{"an nbf to come", "", nil, nil, claims{"nbf": fromNow(60)}, false},
		{"a proof that is too long", "", nil, nil, claims{"x": strings.Repeat("x", 9000)}, false},
	}
	for _, place := range []struct {
		method, path string
		form         url.Values
	}{
		{"POST", "/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}}},
		{"POST", "/par", c.Params(nil)},
		{"GET", "/userinfo", nil},
	} {
		make := func(t *testing.T, alg jose.SignatureAlgorithm, key any, header headers, changes claims) string {
			all := claims{"jti": rand.Text(), "htm": place.method, "htu": s.Issuer + place.path, "iat": time.Now().Unix()}
			if place.path == "/userinfo" {
				sum := sha256.Sum256([]byte(token))
				all["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
			}
			head := headers{"typ": "dpop+jwt", "jwk": mine}
			for name, value := range at(changes) {
				if all[name] = value; value == nil {
					delete(all, name)
				}
			}
			for name, value := range header {
				if head[name] = value; value == nil {
					delete(head, name)
				}
			}
			if key == nil {
				alg, key = jose.ES256, c.DPoPKey
			}
			return authztest.Sign(t, alg, key, head, all)
		}
		send := func(t *testing.T, proofsSent ...string) *authztest.Answer {
			if place.path == "/userinfo" {
				return c.Raw(t, "GET", "/userinfo", "", http.Header{"Authorization": {"DPoP " + token}, "DPoP": proofsSent})
			}
			return proofs(t, c, place.path, place.form, proofsSent...)
		}
		refused := func(t *testing.T, answer *authztest.Answer) {
			t.Helper()
			if place.path == "/userinfo" {
				answer.Challenged(t, http.StatusUnauthorized, "DPoP", fapi.InvalidDPoPProof)
				if !strings.Contains(answer.Header.Get("WWW-Authenticate"), `algs="ES256 PS256 EdDSA"`) {
					t.Errorf("DPOP-04: %s", answer.Header.Get("WWW-Authenticate"))
				}
				return
			}
			answer.Refused(t, http.StatusBadRequest, fapi.InvalidDPoPProof)
		}
		for _, k := range cases {
			t.Run(place.path+" "+k.name, func(t *testing.T) {
				if place.path == "/userinfo" && k.key != nil && k.good {
					return // the token is bound to another key: see below
				}
				answer := send(t, make(t, k.alg, k.key, k.header, k.claims))
				if !k.good {
					refused(t, answer)
				} else if answer.Status > 201 {
					t.Errorf("answered %d %s %s", answer.Status, answer.Body, answer.Header)
				}
			})
		}
		for name, sent := range map[string][]string{
			"DPOP-01: two headers":     {make(t, "", nil, nil, nil), make(t, "", nil, nil, nil)},
			"an empty header":          {""},
			"garbage":                  {"x.y.z"},
			"two proofs in one header": {make(t, "", nil, nil, nil) + ", " + make(t, "", nil, nil, nil)},
			"alg none":                 {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"dpop+jwt"}`)) + ".e30."},
			"a proof that was changed": {flipped(make(t, "", nil, nil, nil), 200)},
		} {
			t.Run(place.path+" "+name, func(t *testing.T) { t.Parallel(); refused(t, send(t, sent...)) })
		}
		for name, htu := range map[string]string{
			"with a query": s.Issuer + place.path + "?x=1", "with a fragment": s.Issuer + place.path + "#x", "of the mTLS alias": s.MTLSBase + place.path,
			"not normalised": strings.Replace(s.Issuer, "https", "HTTPS", 1) + "/./" + place.path[1:],
		} {
			t.Run(place.path+" DPOP-02: htu "+name, func(t *testing.T) {
				if answer := send(t, make(t, "", nil, nil, claims{"htu": htu})); answer.Status > 201 {
					t.Errorf("answered %d %s", answer.Status, answer.Body)
				}
			})
		}
		t.Run(place.path+" DPOP-10: a proof is good once", func(t *testing.T) {
			proof := make(t, "", nil, nil, nil)
			var good atomic.Int32
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if answer := send(t, proof); answer.Status <= 201 {
						good.Add(1)
					} else {
						refused(t, answer)
					}
				})
			}
			all.Wait()
			if good.Load() != 1 {
				t.Errorf("%d times", good.Load())
			}
		})
	}
	t.Run("a replayed proof does not save the assertion beside it", func(t *testing.T) {
		cc := url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}}
		proof := c.Proof(t, "POST", s.Issuer+"/token", "", nil)
		proofs(t, c, "/token", cc, proof)
		form := c.Authenticated(t, cc)
		c.Raw(t, "POST", "/token", form.Encode(), http.Header{"DPoP": {proof}}).Refused(t, 400, fapi.InvalidDPoPProof)
		c.Send(t, "/token", form, nil).Refused(t, 401, fapi.InvalidClient)
	})
}

// A bound token is good only with a proof of its key (RFC 9449 §7).
func TestDPoP_BoundTokens(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, stranger, api := s.Client("tpp-dpop"), s.Client("tpp-dpop"), s.Client("bank-api")
	stranger.DPoPKey = authztest.NewKey(t)
	tokens := c.Grant(t, map[string]string{"scope": "openid offline_access"})
	token := tokens["access_token"].(string)
	if tokens["token_type"] != "DPoP" {
		t.Errorf("DPOP-03: token_type %v", tokens["token_type"])
	}
	if said := api.Post(t, "/introspect", url.Values{"token": {token}}); said.JSON["token_type"] != "DPoP" || said.JSON["cnf"].(map[string]any)["jkt"] != jktOf(t, c.DPoPKey) {
		t.Errorf("DPOP-08: %s", said.Body)
	}
	target := s.Issuer + "/userinfo"
	for name, k := range map[string]struct {
		method, authorization, proof string
		status                       int
		code                         fapi.Code
	}{
		"DPOP-05: as Bearer":               {"GET", "Bearer " + token, "", 401, fapi.InvalidToken},
		"DPOP-05: as Bearer with a proof":  {"GET", "Bearer " + token, c.Proof(t, "GET", target, token, nil), 401, fapi.InvalidToken},
		"no proof":                         {"GET", "DPoP " + token, "", 401, fapi.InvalidDPoPProof},
		"the proof of another key":         {"GET", "DPoP " + token, stranger.Proof(t, "GET", target, token, nil), 401, fapi.InvalidToken},
		"DPOP-02: no ath":                  {"GET", "DPoP " + token, c.Proof(t, "GET", target, "", nil), 401, fapi.InvalidDPoPProof},
		"DPOP-02: the ath of another":      {"GET", "DPoP " + token, c.Proof(t, "GET", target, "x", nil), 401, fapi.InvalidDPoPProof},
		"a proof for GET with POST":        {"POST", "DPoP " + token, c.Proof(t, "GET", target, token, nil), 401, fapi.InvalidDPoPProof},
		"a proof for the token endpoint":   {"GET", "DPoP " + token, c.Proof(t, "GET", s.Issuer+"/token", token, nil), 401, fapi.InvalidDPoPProof},
		"F2-11: the scheme in lower case":  {"GET", "dpop " + token, c.Proof(t, "GET", target, token, nil), 200, ""},
		"POST with its proof":              {"POST", "DPoP " + token, c.Proof(t, "POST", target, token, nil), 200, ""},
		"a proof with an empty token name": {"GET", "DPoP ", c.Proof(t, "GET", target, token, nil), 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{"Authorization": {k.authorization}}
			if k.proof != "" {
				header["DPoP"] = []string{k.proof}
			}
			answer := c.Raw(t, k.method, "/userinfo", "", header)
			if k.status == 200 {
				if answer.Status != 200 {
					t.Errorf("answered %d %s", answer.Status, answer.Header)
				}
				return
			}
			want := "DPoP"
			if strings.HasPrefix(k.authorization, "Bearer") {
				want = "Bearer"
			}
			answer.Challenged(t, k.status, want, k.code)
		})
	}
	t.Run("a client that need not bind may, and then is bound", func(t *testing.T) {
		web := s.Client("web")
		web.DPoPKey = authztest.NewKey(t)
		tokens := web.Grant(t, nil)
		if tokens["token_type"] != "DPoP" {
			t.Errorf("token_type %v", tokens["token_type"])
		}
		s.Client("web").Get(t, "/userinfo", tokens["access_token"].(string)).Challenged(t, 401, "Bearer", fapi.InvalidToken)
	})
	t.Run("DPOP-03: a confidential client may refresh with another key, not without", func(t *testing.T) {
		again := stranger.Token(t, refreshed(tokens["refresh_token"]))
		if answer := stranger.Get(t, "/userinfo", again["access_token"].(string)); answer.Status != 200 {
			t.Errorf("answered %d", answer.Status)
		}
		bare := s.Client("tpp-dpop")
		bare.DPoPKey = nil
		bare.Post(t, "/token", refreshed(tokens["refresh_token"])).Refused(t, 400, fapi.InvalidDPoPProof)
	})
	t.Run("DPOP-03: a public client's refresh token is bound to its key, and lives on after a thief has tried", func(t *testing.T) {
		spa, thief := s.Client("spa"), s.Client("spa")
		spa.DPoPKey, thief.DPoPKey = authztest.NewKey(t), authztest.NewKey(t)
		tokens := spa.Grant(t, map[string]string{"scope": "openid offline_access"})
		thief.Post(t, "/token", refreshed(tokens["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
		s.Client("spa").Post(t, "/token", refreshed(tokens["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
		spa.Token(t, refreshed(tokens["refresh_token"]))
	})
}

// RFC 9449 §10: a code is bound to the key that the authorization request named.
func TestDPoP_CodeBinding(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	key, other := authztest.NewKey(t), authztest.NewKey(t)
	for _, id := range []string{"tpp-dpop", "web", "spa"} {
		for _, k := range []struct {
			name        string
			pushed      *ecdsa.PrivateKey // proof at the PAR endpoint
			named       *ecdsa.PrivateKey // dpop_jkt
			redeemed    *ecdsa.PrivateKey
			push, token fapi.Code
		}{
			{"F2-05: dpop_jkt and its key", nil, key, key, "", ""},
			{"F2-05: dpop_jkt and another key", nil, key, other, "", fapi.InvalidGrant},
			{"F2-05: a proof at PAR and its key", key, nil, key, "", ""},
			{"F2-05: a proof at PAR and another key", key, nil, other, "", fapi.InvalidGrant},
			{"DPOP-06: both, the same", key, key, key, "", ""},
			{"DPOP-06: both, not the same", key, other, key, fapi.InvalidDPoPProof, ""},
			{"dpop_jkt and no proof at all", nil, key, nil, "", fapi.InvalidGrant},
			{"nothing named: any key", nil, nil, key, "", ""},
		} {
			t.Run(id+" "+k.name, func(t *testing.T) {
				c := s.Client(id)
				changes := map[string]string{}
				if k.named != nil {
					changes["dpop_jkt"] = jktOf(t, k.named)
				}
				c.DPoPKey = k.pushed
				if k.push != "" {
					c.Post(t, "/par", c.Params(changes)).Refused(t, 400, k.push)
					return
				}
				code := s.Approve(t, c, c.Push(t, changes))
				c.DPoPKey = k.redeemed
				answer := c.Post(t, "/token", c.ExchangeForm(code))
				switch {
				case k.token == "" && (answer.Status != 200 || answer.JSON["token_type"] != "DPoP"):
					t.Errorf("answered %d %s", answer.Status, answer.Body)
				case k.token != "" && id == "tpp-dpop" && k.redeemed == nil:
					answer.Refused(t, 400, fapi.InvalidDPoPProof) // the client must bind anyway
				case k.token != "":
					answer.Refused(t, 400, k.token)
				}
			})
		}
	}
}

// RFC 9449 §8: the server's nonces. Being told to take one uses nothing up: clients come back with the same code, and some
// with the same assertion.
func TestDPoP_Nonces(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{DPoPNonces: true})
	c := s.Client("tpp-dpop")
	fresh := c.Send(t, "/par", c.Authenticated(t, c.Params(nil)), nil)
	fresh.Refused(t, 400, fapi.UseDPoPNonce)
	nonce := fresh.Header.Get("DPoP-Nonce")
	code := s.Approve(t, c, c.Push(t, nil))
	for name, claims := range map[string]map[string]any{
		"no nonce": nil, "an empty nonce": {"nonce": ""}, "another nonce": {"nonce": strings.Repeat("A", 22)}, "a nonce that was changed": {"nonce": flipped(nonce, 3)},
		"a nonce with something behind": {"nonce": nonce + "A"}, "a nonce that is a number": {"nonce": 7},
	} {
		for path, form := range map[string]url.Values{"/token": c.ExchangeForm(code), "/par": c.Params(nil)} {
			answer := c.Send(t, path, c.Authenticated(t, form), claims)
			want := fapi.UseDPoPNonce
			if name == "a nonce that is a number" {
				want = fapi.InvalidDPoPProof
			}
			answer.Refused(t, 400, want)
			if answer.Header.Get("DPoP-Nonce") == "" {
				t.Errorf("%s at %s: no nonce is offered", name, path)
			}
		}
	}
	answer := c.Send(t, "/token", c.Authenticated(t, c.ExchangeForm(code)), map[string]any{"nonce": nonce})
	if answer.Status != http.StatusOK || answer.Header.Get("DPoP-Nonce") == "" {
		t.Fatalf("DPOP-09: the code is spent: %d %s", answer.Status, answer.Body)
	}
	token := answer.JSON["access_token"].(string)
	refused := c.Get(t, "/userinfo", token)
	refused.Challenged(t, 401, "DPoP", fapi.UseDPoPNonce)
	proof := c.Proof(t, "GET", s.Issuer+"/userinfo", token, map[string]any{"nonce": refused.Header.Get("DPoP-Nonce")})
	if info := c.Raw(t, "GET", "/userinfo", "", http.Header{"Authorization": {"DPoP " + token}, "DPoP": {proof}}); info.Status != http.StatusOK {
		t.Errorf("userinfo %d %s", info.Status, info.Header)
	}
	form := c.Authenticated(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})
	c.Send(t, "/token", maps.Clone(form), nil).Refused(t, 400, fapi.UseDPoPNonce)
	if again := c.Send(t, "/token", maps.Clone(form), map[string]any{"nonce": nonce}); again.Status != http.StatusOK {
		t.Errorf("the same assertion with a nonce: %d %s", again.Status, again.Body)
	}
	c.Send(t, "/token", form, map[string]any{"nonce": nonce}).Refused(t, 401, fapi.InvalidClient) // CA-01: now it is used
}

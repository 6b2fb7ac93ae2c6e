package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// endpointsOf are what a client that signs assertions may call, with a form that is good.
func endpointsOf(c *authztest.Client) map[string]url.Values {
	return map[string]url.Values{
		"/par":    c.Params(nil),
		"/token":  {"grant_type": {"client_credentials"}, "scope": {"accounts"}},
		"/revoke": {"token": {"unknown"}},
	}
}

// fromNow is a date in a table of claims: seconds from the moment when the case runs.
type fromNow float64

// at fills in the dates.
func at(claims map[string]any) map[string]any {
	filled := maps.Clone(claims)
	for name, value := range filled {
		if seconds, ok := value.(fromNow); ok {
			filled[name] = float64(time.Now().Unix()) + float64(seconds)
		}
	}
	return filled
}

// asserted posts a form with a client assertion.
func asserted(t *testing.T, c *authztest.Client, path string, form url.Values, assertion string) *authztest.Answer {
	t.Helper()
	form = maps.Clone(form)
	form.Set("client_assertion_type", fapi.ClientAssertionType)
	form.Set("client_assertion", assertion)
	return c.Send(t, path, form, nil)
}

func TestClientAuthentication_AssertionClaims(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	strict := s.Client("tpp")
	lax := s.AddClient(t, "web-jwt", fapi.OpenID, fapi.PrivateKeyJWT, nil)
	type claims = map[string]any
	both := []struct {
		name   string
		claims claims
		good   bool
	}{
		{"a plain assertion", nil, true},
		{"X1: aud is the issuer", claims{"aud": s.Issuer}, true},
		{"no aud", claims{"aud": nil}, false},
		{"an empty aud", claims{"aud": ""}, false},
		{"an empty list as aud", claims{"aud": []string{}}, false},
		{"a list with an empty aud", claims{"aud": []string{""}}, false},
		{"the aud of another server", claims{"aud": "https://other.example"}, false},
		{"RFC 3986: an aud that is only similar", claims{"aud": s.Issuer + "/"}, false},
		{"an aud that is a number", claims{"aud": 7}, false},
		{"an aud that is an object", claims{"aud": claims{"x": s.Issuer}}, false},
		{"the endpoint for another purpose as aud", claims{"aud": s.Issuer + "/userinfo"}, false},

		{"CA-01: no iss", claims{"iss": nil}, false},
		{"CA-01: another iss", claims{"iss": "web"}, false},
		{"FAPI2: no sub", claims{"sub": nil}, false},
		{"CA-01: another sub", claims{"sub": "web"}, false},
		{"a sub in another case", claims{"sub": "TPP"}, false},

		{"CA-01: no exp", claims{"exp": nil}, false},
		{"FAPI2: exp five minutes ago", claims{"exp": fromNow(-300)}, false},
		{"exp beyond the skew", claims{"exp": fromNow(-11)}, false},
		{"F2-06: exp within the skew", claims{"exp": fromNow(-3)}, true},
		{"exp as a string", claims{"exp": "9999999999"}, false},
		{"exp that is negative", claims{"exp": -1}, false},
		{"exp with a fraction", claims{"exp": fromNow(60.5)}, true},
		{"CA-01: exp in two hours", claims{"exp": fromNow(7200)}, false},
		{"exp in a thousand years", claims{"exp": fromNow(1000 * 365 * 86400)}, false},
		{"exp beyond all years", claims{"exp": 1e300}, false},
		{"F2-06: iat 8 seconds ahead", claims{"iat": fromNow(8)}, true},
		{"F2-06: iat a minute ahead", claims{"iat": fromNow(60)}, false},
		{"no iat", claims{"iat": nil}, true},
		{"F2-06: nbf 8 seconds ahead", claims{"nbf": fromNow(8)}, true},
		{"F2-06: nbf a minute ahead", claims{"nbf": fromNow(60)}, false},
		{"nbf of today", claims{"nbf": fromNow(-3600)}, true},
		{"nbf as a string", claims{"nbf": "now"}, false},

		{"CA-01: no jti", claims{"jti": nil}, false},
		{"an empty jti", claims{"jti": ""}, false},
		{"a jti that is a number", claims{"jti": 7}, false},
		{"a jti that is too long", claims{"jti": strings.Repeat("x", 513)}, false},
		{"other claims", claims{"nonce": "x", "scope": "everything"}, true},
	}
	profiles := map[*authztest.Client]map[string]struct {
		aud  any
		good bool
	}{
		strict: {
			"F2-02: a list with the issuer":       {[]string{s.Issuer}, false},
			"F2-02: the token endpoint":           {s.Issuer + "/token", false},
			"F2-02: the mTLS alias":               {s.MTLSBase + "/token", false},
			"F2-02: the endpoint itself":          {s.Issuer + "/par", false},
			"F2-02: the issuer and another":       {[]string{s.Issuer, "https://other.example"}, false},
			"F2-02: the base of the mTLS aliases": {s.MTLSBase, false},
		},
		lax: {
			"X1: a list with the issuer":        {[]string{s.Issuer}, true},
			"X1: the token endpoint":            {s.Issuer + "/token", true},
			"CA-02: the mTLS alias":             {s.MTLSBase + "/token", true},
			"X1: the issuer and another":        {[]string{"https://other.example", s.Issuer}, true},
			"a list of others":                  {[]string{"https://other.example", "x"}, false},
			"the base of the mTLS aliases":      {s.MTLSBase, false},
			"RFC 7523 §3: it is not normalised": {s.Issuer + "/./token", false},
		},
	}
	for c, auds := range profiles {
		for path, form := range endpointsOf(c) {
			check := func(name string, changes claims, good bool) {
				t.Run(c.ID+" "+path+" "+name, func(t *testing.T) {
					answer := asserted(t, c, path, form, c.Assertion(t, at(changes)))
					if good && answer.Status > 201 {
						t.Errorf("answered %d %s", answer.Status, answer.Body)
					} else if !good {
						answer.Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
					}
				})
			}
			for _, c := range both {
				check(c.name, c.claims, c.good)
			}
			for name, aud := range auds {
				check("aud: "+name, claims{"aud": aud.aud}, aud.good)
			}
		}
	}
	for _, c := range []struct {
		path, aud string
		good      bool
	}{{"/par", "/par", true}, {"/token", "/par", false}, {"/revoke", "/revoke", true}, {"/par", "/revoke", false}} {
		t.Run("RFC 9126 §2: for the endpoint "+c.aud+" at "+c.path, func(t *testing.T) {
			answer := asserted(t, lax, c.path, endpointsOf(lax)[c.path], lax.Assertion(t, claims{"aud": s.Issuer + c.aud}))
			if (answer.Status <= 201) != c.good {
				t.Errorf("answered %d %s", answer.Status, answer.Body)
			}
		})
	}
}

func TestClientAuthentication_AssertionSignature(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	tpp := s.Client("tpp")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	type header = map[jose.HeaderKey]any
	claims := func(more map[string]any) map[string]any {
		now := time.Now()
		all := map[string]any{"iss": "tpp", "sub": "tpp", "aud": s.Issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
		maps.Copy(all, more)
		return all
	}
	public, err := x509.MarshalPKIXPublicKey(tpp.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	unsigned := func(alg string) string {
		part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
		return part(`{"alg":"`+alg+`","kid":"tpp"}`) + "." + part(`{"iss":"tpp","sub":"tpp"}`) + "."
	}
	good := authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp"}, claims(nil))
	parts := strings.Split(good, ".")
	for path, form := range endpointsOf(tpp) {
		for name, assertion := range map[string]string{
			"F2-12: RS256":                    authztest.Sign(t, jose.RS256, rsaKey, header{"kid": "tpp"}, claims(nil)),
			"PS256 with an unknown key":       authztest.Sign(t, jose.PS256, rsaKey, header{"kid": "tpp"}, claims(nil)),
			"F2-12: alg none":                 unsigned("none"),
			"alg None":                        unsigned("None"),
			"HS256 with the public key":       authztest.Sign(t, jose.HS256, public, header{"kid": "tpp"}, claims(nil)),
			"the key of nobody":               authztest.Sign(t, jose.ES256, authztest.NewKey(t), header{"kid": "tpp"}, claims(nil)),
			"a kid that nobody has":           authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "other"}, claims(nil)),
			"the key of another client":       authztest.Sign(t, jose.ES256, s.Client("tpp-jwt").Key, header{"kid": "tpp-jwt"}, claims(nil)),
			"a key that it brings along":      authztest.Sign(t, jose.ES256, authztest.NewKey(t), header{"jwk": jose.JSONWebKey{Key: tpp.Key.Public()}}, claims(nil)),
			"CA-03: a request object":         authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp", "typ": "oauth-authz-req+jwt"}, claims(nil)),
			"CA-03: a DPoP proof":             authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp", "typ": "dpop+jwt"}, claims(nil)),
			"CA-03: an access token":          authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp", "typ": "application/at+jwt"}, claims(nil)),
			"RFC 7515 §4.1.11: crit":          authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp", "crit": []string{"b64"}, "b64": true}, claims(nil)),
			"claims that are a list":          authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp"}, []byte(`["tpp"]`)),
			"claims that are no JSON":         authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp"}, []byte(`{"iss":`)),
			"a claim twice":                   authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp"}, []byte(`{"iss":"tpp","sub":"tpp","sub":"tpp"}`)),
			"no signature":                    parts[0] + "." + parts[1] + ".",
			"a signature that was cut":        good[:len(good)-4],
			"the signature of another":        parts[0] + "." + parts[1] + "." + strings.Split(tpp.Assertion(t, nil), ".")[2],
			"four parts":                      good + ".x",
			"one part":                        "x",
			"nothing":                         "",
			"only dots":                       "..",
			"a line break":                    good + "\n",
			"a blank":                         good + " ",
			"JSON serialisation":              `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			"one that is too long":            authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp"}, claims(map[string]any{"x": strings.Repeat("x", 17<<10)})),
			"an assertion of another client":  s.Client("tpp-jwt").Assertion(t, nil),
			"an encrypted one of five parts":  "a.b.c.d.e",
			"padding":                         parts[0] + "=." + parts[1] + "." + parts[2],
			"base64 instead of base64url, %+": "+" + good,
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				form := maps.Clone(form)
				form.Set("client_id", "tpp")
				asserted(t, tpp, path, form, assertion).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
			})
		}
	}
	for name, assertion := range map[string]string{
		"no kid: the key is found":        authztest.Sign(t, jose.ES256, tpp.Key, nil, claims(nil)),
		"typ JWT":                         authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp", "typ": "JWT"}, claims(nil)),
		"typ client-authentication+jwt":   authztest.Sign(t, jose.ES256, tpp.Key, header{"kid": "tpp", "typ": "client-authentication+jwt"}, claims(nil)),
		"the assertion that was taken on": good,
	} {
		t.Run("takes "+name, func(t *testing.T) {
			if answer := asserted(t, tpp, "/token", endpointsOf(tpp)["/token"], assertion); answer.Status != http.StatusOK {
				t.Errorf("answered %d %s", answer.Status, answer.Body)
			}
		})
	}
}

// CA-01: an assertion is good for one request, whatever became of that request.
func TestClientAuthentication_AssertionOnce(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	tpp, api := s.Client("tpp"), s.Client("other-api")
	cc := url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}}
	for _, c := range []struct {
		name   string
		client *authztest.Client
		path   string
		form   url.Values
		status int
		again  string
		second url.Values
	}{
		{"after a pushed request", tpp, "/par", tpp.Params(nil), 201, "/token", cc},
		{"after a pushed request that was refused", tpp, "/par", url.Values{"client_id": {"tpp"}}, 400, "/token", cc},
		{"after a pushed request whose consent was refused", tpp, "/par", tpp.Params(map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"x"}}}`}), 400, "/par", tpp.Params(nil)},
		{"after a pushed request whose acr was refused", tpp, "/par", tpp.Params(map[string]string{"claims": `{"id_token":{"acr":{"essential":true,"value":"x"}}}`}), 400, "/par", tpp.Params(nil)},
		{"after a token", tpp, "/token", cc, 200, "/par", tpp.Params(nil)},
		{"after no grant_type", tpp, "/token", url.Values{}, 400, "/token", cc},
		{"after an unknown grant_type", tpp, "/token", url.Values{"grant_type": {"x"}}, 400, "/token", cc},
		{"after a scope that was refused", tpp, "/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"x"}}, 400, "/token", cc},
		{"after a resource that was refused", tpp, "/token", url.Values{"grant_type": {"client_credentials"}, "resource": {"https://x.example"}}, 400, "/token", cc},
		{"after a code that was refused", tpp, "/token", tpp.ExchangeForm("x"), 400, "/token", cc},
		{"after no code", tpp, "/token", url.Values{"grant_type": {"authorization_code"}}, 400, "/token", cc},
		{"after a refresh token that was refused", tpp, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, 400, "/token", cc},
		{"after no refresh token", tpp, "/token", url.Values{"grant_type": {"refresh_token"}}, 400, "/token", cc},
		{"after a revocation", tpp, "/revoke", url.Values{"token": {"x"}}, 200, "/token", cc},
		{"after a revocation of nothing", tpp, "/revoke", url.Values{}, 400, "/token", cc},
		{"after an introspection", api, "/introspect", url.Values{"token": {"x"}}, 200, "/introspect", url.Values{"token": {"x"}}},
		{"after an introspection that was refused", tpp, "/introspect", url.Values{"token": {"x"}}, 403, "/token", cc},
		{"after an introspection of nothing", api, "/introspect", url.Values{}, 400, "/introspect", url.Values{"token": {"x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assertion := c.client.Assertion(t, nil)
			if answer := asserted(t, c.client, c.path, c.form, assertion); answer.Status != c.status {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			asserted(t, c.client, c.again, c.second, assertion).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
		})
	}
	t.Run("a token request without a binding", func(t *testing.T) {
		bare := s.Client("tpp")
		bare.Certificate = nil
		assertion := bare.Assertion(t, nil)
		asserted(t, bare, "/token", cc, assertion).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
		asserted(t, tpp, "/token", cc, assertion).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	})
	t.Run("a jti is the client's own: another may have the same", func(t *testing.T) {
		jti := map[string]any{"jti": "the-same"}
		for _, id := range []string{"tpp", "tpp-jwt"} {
			c := s.Client(id)
			if answer := asserted(t, c, "/token", cc, c.Assertion(t, jti)); answer.Status != http.StatusOK {
				t.Errorf("%s: %d %s", id, answer.Status, answer.Body)
			}
		}
	})
}

func TestClientAuthentication_Methods(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	post := s.AddClient(t, "web-post", fapi.OpenID, fapi.ClientSecretPost, nil)
	web, tpp, mtls, self, spa := s.Client("web"), s.Client("tpp"), s.Client("tpp-mtls"), s.Client("tpp-self"), s.Client("spa")
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	with := func(pairs ...string) url.Values {
		form := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		return form
	}
	assertion := func(c *authztest.Client, pairs ...string) url.Values {
		form := with(pairs...)
		form.Set("client_assertion_type", fapi.ClientAssertionType)
		form.Set("client_assertion", c.Assertion(t, nil))
		return form
	}
	bare := func(c *authztest.Client, cert *tls.Certificate) *authztest.Client {
		copied := *c
		copied.Certificate = cert
		return &copied
	}
	unauthorized, bad := http.StatusUnauthorized, http.StatusBadRequest
	t.Run("cases", func(t *testing.T) {
		for _, c := range []struct {
			name          string
			client        *authztest.Client // whose listener and certificate
			authorization string
			form          url.Values
			status        int
			code          fapi.Code
		}{
			{"nothing", tpp, "", with(), unauthorized, fapi.InvalidClient},
			{"an unknown client", tpp, "", with("client_id", "nobody"), unauthorized, fapi.InvalidClient},
			{"a client_id that is too long", tpp, "", with("client_id", strings.Repeat("x", 10000)), unauthorized, fapi.InvalidClient},
			{"F2-01: client_id alone of a client that signs", tpp, "", with("client_id", "tpp"), unauthorized, fapi.InvalidClient},
			{"a certificate instead of the assertion", mtls, "", with("client_id", "tpp"), unauthorized, fapi.InvalidClient},
			{"client_assertion without its type", tpp, "", with("client_id", "tpp", "client_assertion", tpp.Assertion(t, nil)), unauthorized, fapi.InvalidClient},
			{"a type without client_assertion", tpp, "", with("client_id", "tpp", "client_assertion_type", fapi.ClientAssertionType), unauthorized, fapi.InvalidClient},
			{"the type of SAML", tpp, "", with("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "client_assertion", "x"), unauthorized, fapi.InvalidClient},
			{"CA-01: another client_id", tpp, "", assertion(tpp, "client_id", "tpp-jwt"), unauthorized, fapi.InvalidClient},
			{"an assertion of another client", tpp, "", assertion(s.Client("tpp-jwt"), "client_id", "tpp"), unauthorized, fapi.InvalidClient},
			{"an assertion of a client that has a secret", web, "", func() url.Values {
				forged := *tpp
				forged.ID = "web"
				return assertion(&forged)
			}(), unauthorized, fapi.InvalidClient},

			{"RFC 6749 §2.3: an assertion and Basic", tpp, basic("tpp", "x"), assertion(tpp), bad, fapi.InvalidRequest},
			{"RFC 6749 §2.3: an assertion and client_secret", tpp, "", assertion(tpp, "client_secret", "x"), bad, fapi.InvalidRequest},
			{"RFC 6749 §2.3: an assertion and an empty client_secret", tpp, "", assertion(tpp, "client_secret", ""), bad, fapi.InvalidRequest},
			{"RFC 6749 §2.3: Basic and client_secret", web, basic("web", web.Secret), with("client_id", "web", "client_secret", web.Secret), bad, fapi.InvalidRequest},
			{"all three", web, basic("web", web.Secret), assertion(tpp, "client_secret", web.Secret), bad, fapi.InvalidRequest},

			{"the wrong secret", web, basic("web", "wrong"), with(), unauthorized, fapi.InvalidClient},
			{"an empty secret", web, basic("web", ""), with(), unauthorized, fapi.InvalidClient},
			{"the secret of another", web, basic("web", post.Secret), with(), unauthorized, fapi.InvalidClient},
			{"a secret with a blank behind", web, basic("web", web.Secret+" "), with(), unauthorized, fapi.InvalidClient},
			{"Basic of an unknown client", web, basic("nobody", "x"), with(), unauthorized, fapi.InvalidClient},
			{"Basic without a name", web, basic("", web.Secret), with(), unauthorized, fapi.InvalidClient},
			{"Basic and another client_id", web, basic("web", web.Secret), with("client_id", "spa"), unauthorized, fapi.InvalidClient},
			{"Basic that is no base64", web, "Basic !!!", with(), unauthorized, fapi.InvalidClient},
			{"Basic without a colon", web, "Basic " + base64.StdEncoding.EncodeToString([]byte("web")), with(), unauthorized, fapi.InvalidClient},
			{"RFC 6749 §2.3.1: Basic with a broken escape", web, basic("web", "%zz"), with(), unauthorized, fapi.InvalidClient},
			{"another scheme", web, "Bearer " + web.Secret, with("client_id", "web"), unauthorized, fapi.InvalidClient},
			{"a scheme alone", web, "Basic", with("client_id", "web"), unauthorized, fapi.InvalidClient},
			{"the right secret in the wrong place", web, "", with("client_id", "web", "client_secret", web.Secret), unauthorized, fapi.InvalidClient},
			{"no secret", web, "", with("client_id", "web"), unauthorized, fapi.InvalidClient},
			{"the other way around", post, basic("web-post", post.Secret), with(), unauthorized, fapi.InvalidClient},
			{"the wrong secret in the body", post, "", with("client_id", "web-post", "client_secret", "wrong"), unauthorized, fapi.InvalidClient},
			{"a secret without client_id", post, "", with("client_secret", post.Secret), unauthorized, fapi.InvalidClient},
			{"a public client with a secret", spa, basic("spa", "x"), with(), unauthorized, fapi.InvalidClient},
			{"a public client with an empty secret", spa, "", with("client_id", "spa", "client_secret", ""), unauthorized, fapi.InvalidClient},

			{"MTLS-01: no certificate", bare(mtls, nil), "", with("client_id", "tpp-mtls"), unauthorized, fapi.InvalidClient},
			{"MTLS-01: no client_id", mtls, "", with(), unauthorized, fapi.InvalidClient},
			{"MTLS-01: the certificate of another", s.Client("tpp"), "", with("client_id", "tpp-mtls"), unauthorized, fapi.InvalidClient},
			{"a name that only begins alike", bare(mtls, s.Certificate(t, "tpp-mtls2")), "", with("client_id", "tpp-mtls"), unauthorized, fapi.InvalidClient},
			{"the right name, self-signed", bare(mtls, authztest.SelfSigned(t, "tpp-mtls")), "", with("client_id", "tpp-mtls"), unauthorized, fapi.InvalidClient},
			{"a certificate that has expired", bare(mtls, s.Expired(t, "tpp-mtls")), "", with("client_id", "tpp-mtls"), unauthorized, fapi.InvalidClient},
			{"a server's certificate", bare(mtls, s.ServerCertificate(t, "tpp-mtls")), "", with("client_id", "tpp-mtls"), unauthorized, fapi.InvalidClient},
			{"RFC 6749 §2.3: a certificate and a secret", mtls, basic("tpp-mtls", "x"), with(), unauthorized, fapi.InvalidClient},
			{"MTLS-02: another certificate with the same name", bare(self, authztest.SelfSigned(t, "tpp-self")), "", with("client_id", "tpp-self"), unauthorized, fapi.InvalidClient},
			{"MTLS-02: no certificate", bare(self, nil), "", with("client_id", "tpp-self"), unauthorized, fapi.InvalidClient},
			{"MTLS-02: one from the authority", bare(self, s.Certificate(t, "tpp-self")), "", with("client_id", "tpp-self"), unauthorized, fapi.InvalidClient},
		} {
			for path, form := range map[string]url.Values{
				"/token": {"grant_type": {"client_credentials"}}, "/par": tpp.Params(map[string]string{"client_id": ""}),
				"/introspect": {"token": {"x"}}, "/revoke": {"token": {"x"}},
			} {
				t.Run(path+" "+c.name, func(t *testing.T) {
					maps.Copy(form, c.form)
					header := http.Header{}
					if c.authorization != "" {
						header.Set("Authorization", c.authorization)
					}
					answer := c.client.Raw(t, "POST", path, form.Encode(), header)
					answer.Refused(t, c.status, c.code)
					if challenged := answer.Header.Get("WWW-Authenticate") != ""; challenged != (c.authorization != "" && c.status == unauthorized) {
						t.Errorf("RFC 6749 §5.2: WWW-Authenticate %q", answer.Header.Get("WWW-Authenticate"))
					}
				})
			}
		}
	})
	for _, c := range []*authztest.Client{web, post, tpp, mtls, self} {
		if answer := c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}); answer.Status != http.StatusOK {
			t.Errorf("%s: %d %s", c.ID, answer.Status, answer.Body)
		}
	}
	if n := s.Count(t, "SELECT count(*) FROM authorizations"); n != 0 {
		t.Errorf("%d requests are stored", n)
	}
}

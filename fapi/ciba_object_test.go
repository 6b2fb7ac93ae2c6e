package fapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signedClaims are those of a complete signed CIBA request; nil leaves a claim out.
func signedClaims(changes map[string]any) map[string]any {
	return with(map[string]any{
		"iss": "tpp", "aud": issuer, "jti": "one", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 300,
		"scope": "openid accounts", "login_hint": "alice", "binding_message": "W4SCT", "client_notification_token": notificationToken,
	}, changes)
}

// signBackchannel signs a CIBA request with one of the client's keys.
func signBackchannel(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, kid := signingKey(alg)
	return signJWT(key, alg, with(map[string]any{"kid": kid}, header), signedClaims(claims))
}

// resolve resolves and checks what a client sends.
func resolve(c *Client, params url.Values) (*BackchannelRequest, *Use, error) {
	params, use, err := c.ResolveBackchannelRequest(params, objectContext(false))
	if err != nil {
		return nil, nil, err
	}
	b, err := c.CheckBackchannelRequest(params, nil)
	return b, use, err
}

func TestResolveBackchannelRequest(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	in := func(seconds int64) int64 { return now.Unix() + seconds }
	const hour = 3600
	for _, test := range []struct {
		name           string
		header, claims m
		want           Code
	}{
		{name: "CIBA-02: accepts a complete request"},

		{"CIBA-02: refuses a missing iss", nil, m{"iss": nil}, InvalidRequest},
		{"CIBA-02: refuses another iss", nil, m{"iss": "other"}, InvalidRequest},
		{"CIBA-02: refuses an empty iss", nil, m{"iss": ""}, InvalidRequest},
		{"CIBA-02: refuses an iss that is no string", nil, m{"iss": []string{"tpp"}}, InvalidRequest},
		{"CIBA-02: refuses a missing aud", nil, m{"aud": nil}, InvalidRequest},
		{"CIBA-02: refuses another aud", nil, m{"aud": "https://other.example"}, InvalidRequest},
		{"CIBA-02: refuses an empty aud", nil, m{"aud": ""}, InvalidRequest},
		{"CIBA-02: refuses the endpoint as aud", nil, m{"aud": issuer + "/bc-authorize"}, InvalidRequest},
		{"CIBA-02: refuses the issuer with a slash added", nil, m{"aud": issuer + "/"}, InvalidRequest},
		{"CIBA-02: accepts aud in an array", nil, m{"aud": []string{issuer}}, ""},
		{"CIBA-02: accepts an array of more", nil, m{"aud": []string{"https://other.example", issuer}}, ""},
		{"CIBA-02: refuses an array without the issuer", nil, m{"aud": []string{"https://other.example", tokenEndpoint}}, InvalidRequest},
		{"CIBA-02: refuses an empty array", nil, m{"aud": []string{}}, InvalidRequest},
		{"CIBA-02: refuses a missing jti", nil, m{"jti": nil}, InvalidRequest},
		{"CIBA-02: refuses an empty jti", nil, m{"jti": ""}, InvalidRequest},
		{"CIBA-02: refuses a jti that is a number", nil, m{"jti": 5}, InvalidRequest},
		{"CIBA-02: accepts a jti of 512 characters", nil, m{"jti": strings.Repeat("j", 512)}, ""},
		{"CIBA-02: refuses a longer one", nil, m{"jti": strings.Repeat("j", 513)}, InvalidRequest},
		{"CIBA-02: refuses a missing exp", nil, m{"exp": nil}, InvalidRequest},
		{"CIBA-02: refuses a missing nbf", nil, m{"nbf": nil}, InvalidRequest},
		{"CIBA-02: refuses a missing iat", nil, m{"iat": nil}, InvalidRequest},
		{"CIBA-02: refuses an exp that is null", nil, m{"exp": (*int)(nil)}, InvalidRequest},
		{"CIBA-02: refuses an exp in a string", nil, m{"exp": "9999999999"}, InvalidRequest},
		{"CIBA-02: refuses a negative nbf", nil, m{"nbf": -1}, InvalidRequest},
		{"CIBA-02: accepts a fraction of a second", nil, m{"iat": float64(in(0)) + 0.5}, ""},

		{"CIBA-02: refuses exp 5 minutes ago", nil, m{"nbf": in(-600), "iat": in(-600), "exp": in(-300)}, InvalidRequest},
		{"X14: accepts exp 9 seconds ago", nil, m{"nbf": in(-60), "exp": in(-9)}, ""},
		{"X14: refuses exp 10 seconds ago", nil, m{"nbf": in(-60), "exp": in(-10)}, InvalidRequest},
		{"FCB-09: accepts exp 60 minutes after nbf", nil, m{"exp": in(hour)}, ""},
		{"FCB-09: refuses a second more", nil, m{"exp": in(hour + 1)}, InvalidRequest},
		{"FCB-09: refuses exp 70 minutes ahead", nil, m{"exp": in(70 * 60)}, InvalidRequest},
		{"FCB-09: refuses exp 60 minutes ahead when nbf was earlier", nil, m{"nbf": in(-1), "exp": in(hour)}, InvalidRequest},
		{"FCB-09: accepts nbf 60 minutes ago", nil, m{"nbf": in(-hour), "exp": in(0)}, ""},
		{"FCB-09: refuses nbf a second over within the skew of exp", nil, m{"nbf": in(-hour - 1), "exp": in(-1)}, InvalidRequest},
		{"FCB-09: refuses nbf 70 minutes ago", nil, m{"nbf": in(-70 * 60)}, InvalidRequest},
		{"X14: accepts nbf 10 seconds ahead", nil, m{"nbf": in(10)}, ""},
		{"X14: refuses nbf 11 seconds ahead", nil, m{"nbf": in(11)}, InvalidRequest},
		{"CIBA-02: refuses nbf 10 minutes ahead", nil, m{"nbf": in(600), "exp": in(900)}, InvalidRequest},
		{"X14: accepts iat 10 seconds ahead", nil, m{"iat": in(10)}, ""},
		{"X14: refuses iat 11 seconds ahead", nil, m{"iat": in(11)}, InvalidRequest},
		{"CIBA-02: accepts an iat before nbf", nil, m{"iat": in(-2 * hour)}, ""},

		{"JAR-03: refuses sub that is the client_id", nil, m{"sub": "tpp"}, InvalidRequest},
		{"JAR-03: accepts another sub", nil, m{"sub": "alice"}, ""},
		{"CIBA-02: accepts the client_id inside", nil, m{"client_id": "tpp"}, ""},
		{"CIBA-02: refuses another client_id inside", nil, m{"client_id": "other"}, InvalidRequest},
		{"CIBA-02: refuses an empty client_id inside", nil, m{"client_id": ""}, InvalidRequest},
		{"CIBA-02: refuses a client_id that is no string", nil, m{"client_id": m{"x": "tpp"}}, InvalidRequest},
		{"JAR-02: refuses request inside", nil, m{"request": "eyJ.e30."}, InvalidRequest},
		{"JAR-02: refuses even an empty one", nil, m{"request": ""}, InvalidRequest},
		{"JAR-02: refuses request_uri inside", nil, m{"request_uri": "urn:x"}, InvalidRequest},

		{"CIBA-01: requested_expiry may be a number", nil, m{"requested_expiry": 90}, ""},
		{"CIBA-01: requested_expiry may be a string", nil, m{"requested_expiry": "90"}, ""},
		{"CIBA-01: requested_expiry is not 0", nil, m{"requested_expiry": 0}, InvalidRequest},
		{"CIBA-01: requested_expiry is not negative", nil, m{"requested_expiry": -90}, InvalidRequest},
		{"CIBA-01: requested_expiry has no fraction", nil, m{"requested_expiry": 90.5}, InvalidRequest},
		{"CIBA-01: requested_expiry is not huge", nil, m{"requested_expiry": 1e30}, InvalidRequest},
		{"CIBA-01: requested_expiry is not true", nil, m{"requested_expiry": true}, InvalidRequest},
		{"CIBA-01: requested_expiry is no list", nil, m{"requested_expiry": []int{90}}, InvalidRequest},
		{"CIBA-01: null is absent", nil, m{"requested_expiry": (*int)(nil), "request_uri": (*int)(nil)}, ""},
		{"CIBA-01: scope is no list", nil, m{"scope": []string{"openid"}}, InvalidScope},
		{"CIBA-01: no hint", nil, m{"login_hint": nil}, InvalidRequest},
		{"CIBA-01: two hints", nil, m{"id_token_hint": "a.b.c"}, InvalidRequest},
		{"CIBA-01: no scope", nil, m{"scope": nil}, InvalidScope},
		{"CIBA-05: binding_message may be a number", nil, m{"binding_message": 1234}, ""},
		{"CIBA-05: binding_message is not displayable", nil, m{"binding_message": "\U0001F44D"}, InvalidBindingMessage},

		{"JAR-03: accepts the typ of a request object", m{"typ": "oauth-authz-req+jwt"}, nil, ""},
		{"JAR-03: accepts the typ in full and in capitals", m{"typ": "application/OAuth-AuthZ-Req+JWT"}, nil, ""},
		{"JAR-03: accepts typ JWT", m{"typ": "JWT"}, nil, ""},
		{"JAR-03: refuses an access token", m{"typ": "at+jwt"}, nil, InvalidRequest},
		{"JAR-03: refuses a DPoP proof", m{"typ": "dpop+jwt"}, nil, InvalidRequest},
		{"JAR-03: refuses a client assertion", m{"typ": "client-authentication+jwt"}, nil, InvalidRequest},
		{"JAR-03: refuses a logout token", m{"typ": "logout+jwt"}, nil, InvalidRequest},
		{"JAR-03: refuses a signed answer", m{"typ": "oauth-authz-resp+jwt"}, nil, InvalidRequest},
		{"JAR-03: refuses a typ that nobody knows", m{"typ": "JOSE"}, nil, InvalidRequest},
		{"refuses a kid that is not registered", m{"kid": "other"}, nil, InvalidRequest},
		{"refuses the kid of another key", m{"kid": "rsa"}, nil, InvalidRequest},
		{"RFC 7515 §4.1.4: tries the keys that fit without kid", m{"kid": ""}, nil, ""},
		{"RFC 7515 §4.1.11: refuses crit", m{"crit": []string{"exp"}, "exp": 1}, nil, InvalidRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range []*Client{pollTPP(), pingTPP(), fapiTPP()} {
				b, use, err := resolve(c, url.Values{"request": {signBackchannel(jose.ES256, test.header, test.claims)}})
				refused(t, err, test.want)
				if err == nil && (use == nil || b.Hint != (Hint{"login_hint", "alice"})) {
					t.Errorf("%+v %+v", b, use)
				}
			}
		})
	}
}

func TestResolveBackchannelRequest_algorithms(t *testing.T) {
	t.Parallel()
	only := func(profile ProfileName, alg jose.SignatureAlgorithm) *Client {
		c := backchannelTPP(profile, Poll)
		c.BackchannelAuthenticationRequestSigningAlg = alg
		return mustPrepare(c)
	}
	for _, test := range []struct {
		name   string
		client *Client
		alg    jose.SignatureAlgorithm
		want   Code
	}{
		{"FCB-12: accepts PS256", fapiTPP(), jose.PS256, ""},
		{"FCB-12: accepts ES256", fapiTPP(), jose.ES256, ""},
		{"FCB-12: refuses RS256", fapiTPP(), jose.RS256, InvalidRequest},
		{"FCB-12: refuses EdDSA", fapiTPP(), jose.EdDSA, InvalidRequest},
		{"FCB-12: refuses PS384", fapiTPP(), jose.PS384, InvalidRequest},
		{"CIBA Core §7.1.1: accepts RS256", pollTPP(), jose.RS256, ""},
		{"CIBA-02: accepts the registered algorithm", only(FAPICIBA, jose.PS256), jose.PS256, ""},
		{"CIBA-02: refuses others", only(FAPICIBA, jose.PS256), jose.ES256, InvalidRequest},
		{"CIBA-02: refuses others in openid too", only(OpenID, jose.ES256), jose.RS256, InvalidRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := resolve(test.client, url.Values{"request": {signBackchannel(test.alg, nil, nil)}})
			refused(t, err, test.want)
		})
	}

	good := signBackchannel(jose.ES256, nil, nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	secret := signJWT([]byte(strings.Repeat("s", 32)), jose.HS256, nil, signedClaims(nil))
	other := signJWT(otherKey(), jose.ES256, nil, signedClaims(nil))
	payload := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	encrypted := must(must(must(jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: ecKey().Public()}, nil)).Encrypt([]byte(good))).CompactSerialize())
	for name, object := range map[string]string{
		"alg none":                              none + "." + parts[1] + ".",
		"alg none with the signature of a good": none + "." + parts[1] + "." + parts[2],
		"HS256":                                 secret,
		"another client's key":                  other,
		"another client's key under our kid":    signJWT(otherKey(), jose.ES256, map[string]any{"kid": "ec"}, signedClaims(nil)),
		"no signature":                          parts[0] + "." + parts[1] + ".",
		"claims changed":                        parts[0] + "." + payload(`{"iss":"tpp"}`) + "." + parts[2],
		"one part":                              "x",
		"two parts":                             parts[0] + "." + parts[1],
		"four parts":                            good + ".",
		"encrypted":                             encrypted,
		"a line break":                          good + "\n",
		"no JSON":                               signRaw("x"),
		"a list":                                signRaw("[]"),
		"null":                                  signRaw("null"),
		"an empty object":                       signRaw("{}"),
		"too long":                              signBackchannel(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", maxRequestObject)}),
	} {
		t.Run("CIBA-02: refuses "+name, func(t *testing.T) {
			t.Parallel()
			for _, c := range []*Client{pollTPP(), fapiTPP()} {
				_, _, err := resolve(c, url.Values{"request": {object}})
				refused(t, err, InvalidRequest)
				if name == "encrypted" && !errors.Is(err, errBackchannelEncrypted) {
					t.Errorf("does not say why: %v", err)
				}
				if unknown := strings.HasPrefix(name, "another client's key"); unknown && errors.Is(err, ErrUnknownKey) != (name == "another client's key") {
					t.Errorf("another key would have helped: %v", err)
				}
			}
		})
	}
}

// RFC 8259 §4: no two readers may read a request differently.
func TestResolveBackchannelRequest_duplicates(t *testing.T) {
	t.Parallel()
	complete := string(must(json.Marshal(signedClaims(nil))))
	if _, _, err := resolve(fapiTPP(), url.Values{"request": {signRaw(complete)}}); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"iss":"tpp"`, `"login_hint":"mallory"`, `"\u006cogin_hint":"mallory"`, `"jti":"two"`, `"exp":1`, `"scope":"openid"`, `"request_uri":null,"request_uri":"x"`} {
		_, _, err := resolve(fapiTPP(), url.Values{"request": {signRaw("{" + member + "," + complete[1:])}})
		refused(t, err, InvalidRequest)
	}
}

func TestResolveBackchannelRequest_beside(t *testing.T) {
	t.Parallel()
	good := signBackchannel(jose.ES256, nil, nil)
	signs := backchannelTPP(OpenID, Poll)
	signs.BackchannelAuthenticationRequestSigningAlg = jose.ES256
	mustPrepare(signs)
	for _, test := range []struct {
		name           string
		params         url.Values
		openid, strict Code // "" is accepted; strict clients must sign
	}{
		{"accepts a signed request alone", url.Values{"request": {good}}, "", ""},
		{"accepts the client_id", url.Values{"request": {good}, "client_id": {"tpp"}}, "", ""},
		{"accepts empty parameters, which are none", url.Values{"request": {good}, "client_id": {""}, "login_hint": {""}, "resource": {"", ""}}, "", ""},
		{"refuses another client_id", url.Values{"request": {good}, "client_id": {"other"}}, InvalidRequest, InvalidRequest},
		{"refuses a scope outside", url.Values{"request": {good}, "scope": {"openid"}}, InvalidRequest, InvalidRequest},
		{"refuses the same hint outside", url.Values{"request": {good}, "login_hint": {"alice"}}, InvalidRequest, InvalidRequest},
		{"refuses a binding_message outside", url.Values{"request": {good}, "binding_message": {"x"}}, InvalidRequest, InvalidRequest},
		{"refuses a resource outside", url.Values{"request": {good}, "resource": {"", "https://api.bank.example"}}, InvalidRequest, InvalidRequest},
		{"refuses request twice", url.Values{"request": {good, good}}, InvalidRequest, InvalidRequest},
		{"refuses request twice, the first empty", url.Values{"request": {"", good}}, InvalidRequest, InvalidRequest},
		{"refuses request_uri", url.Values{"request_uri": {"https://tpp.example/r.jwt"}}, InvalidRequest, InvalidRequest},
		{"refuses request_uri with request", url.Values{"request": {good}, "request_uri": {"urn:x"}}, InvalidRequest, InvalidRequest},
		{"FCB-06: refuses what is not signed", backchannelParams(), "", InvalidRequest},
		{"FCB-06: refuses an empty request", backchannelParams("request="), "", InvalidRequest},
		{"FCB-06: refuses nothing", url.Values{}, InvalidScope, InvalidRequest},
	} {
		t.Run("CIBA-02: "+test.name, func(t *testing.T) {
			t.Parallel()
			for c, want := range map[*Client]Code{pollTPP(): test.openid, fapiTPP(): test.strict, signs: test.strict} {
				_, use, err := resolve(c, test.params)
				refused(t, err, want)
				if err == nil && (use != nil) != (test.params.Get("request") != "") {
					t.Errorf("the use is %+v", use)
				}
			}
		})
	}
}

// A JWT that a client made for one purpose does not serve another (RFC 8725 §3.11, RFC 9101 §10.8).
func TestResolveBackchannelRequest_confusion(t *testing.T) {
	t.Parallel()
	assertion := makeAssertion(jose.ES256, nil, map[string]any{"nbf": now.Unix(), "exp": now.Unix() + 60, "scope": "openid", "login_hint": "alice", "binding_message": "x"})
	if _, err := fapiTPP().CheckAssertion(assertion, assertionContext()); err != nil {
		t.Fatal(err)
	}
	_, _, err := resolve(fapiTPP(), url.Values{"request": {assertion}})
	refused(t, err, InvalidRequest)

	for _, c := range []*Client{fapiTPP(), pollTPP()} {
		for _, header := range []map[string]any{nil, {"typ": "JWT"}, {"typ": "oauth-authz-req+jwt"}} {
			signed := signBackchannel(jose.ES256, header, map[string]any{"client_id": "tpp"})
			if _, _, err := resolve(c, url.Values{"request": {signed}}); err != nil {
				t.Fatal(err)
			}
			_, err := c.CheckAssertion(signed, assertionContext())
			refused(t, err, InvalidClient)
			_, err = c.ResolveRequest(url.Values{"client_id": {"tpp"}, "request": {signed}}, objectContext(true))
			refused(t, err, InvalidRequestObject)
		}
	}
}

func TestResolveBackchannelRequest_use(t *testing.T) {
	t.Parallel()
	at := func(seconds int64) time.Time { return time.Unix(now.Unix()+seconds, 0) }
	use := func(c *Client, claims map[string]any, in RequestObjectContext) (*Use, error) {
		_, use, err := c.ResolveBackchannelRequest(url.Values{"request": {signBackchannel(jose.ES256, nil, claims)}}, in)
		return use, err
	}
	first := must(use(fapiTPP(), nil, objectContext(false)))
	if !first.ExpiresAt.Equal(at(310)) || !first.IssuedAt.Equal(at(-10)) {
		t.Errorf("CIBA-02: remembered from %v to %v", first.IssuedAt, first.ExpiresAt)
	}
	if again := must(use(fapiTPP(), map[string]any{"exp": now.Unix() + 60, "login_hint": "bob"}, objectContext(false))); again.Hash != first.Hash {
		t.Error("CIBA-02: the same jti is another use")
	}
	if other := must(use(fapiTPP(), map[string]any{"jti": "two"}, objectContext(false))); other.Hash == first.Hash {
		t.Error("CIBA-02: another jti is the same use")
	}
	if assertion := must(openTPP().CheckAssertion(makeAssertion(jose.ES256, nil, nil), assertionContext())); assertion.Hash == first.Hash {
		t.Error("CIBA-02: an assertion with the same jti uses up the request")
	}
	// What may have been used before the memory begins is refused: all of it, but the skew, must lie after.
	for _, test := range []struct {
		name       string
		nbf, iat   int64
		remembered int64
		want       Code
	}{
		{"made before", -60, -60, 0, InvalidRequest},
		{"made now, acceptable 10 seconds ago", 0, 0, 0, InvalidRequest},
		{"made a second too early", 0, 0, -9, InvalidRequest},
		{"made late enough", 0, 0, -10, ""},
		{"the later of the two counts: iat", -60, 0, -10, ""},
		{"the later of the two counts: nbf", 0, -60, -10, ""},
		{"made ahead", 10, -60, 0, ""},
	} {
		in := objectContext(false)
		in.RememberedSince = at(test.remembered)
		_, err := use(pollTPP(), map[string]any{"nbf": now.Unix() + test.nbf, "iat": now.Unix() + test.iat}, in)
		t.Run(test.name, func(t *testing.T) { refused(t, err, test.want) })
	}
	if _, err := use(pollTPP(), map[string]any{"aud": ""}, RequestObjectContext{Now: now}); err == nil {
		t.Error("a server without issuer accepts any aud")
	}
}

// A request is refused before its use is forgotten.
func TestResolveBackchannelRequest_expires(t *testing.T) {
	t.Parallel()
	object := url.Values{"request": {signBackchannel(jose.ES256, nil, map[string]any{"exp": now.Unix() + 3600})}}
	_, use, err := fapiTPP().ResolveBackchannelRequest(object, objectContext(false))
	refused(t, err, "")
	for _, seconds := range []int64{0, 3599, 3600, 3601, 3609, 3610, 3699} {
		in := objectContext(false)
		in.Now = now.Add(time.Duration(seconds) * time.Second)
		_, _, err := fapiTPP().ResolveBackchannelRequest(object, in)
		if accepted := err == nil; accepted != (seconds <= 3600) || accepted && !in.Now.Before(use.ExpiresAt) {
			t.Errorf("after %d seconds: %v", seconds, err)
		}
	}
}

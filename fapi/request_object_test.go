package fapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func objectContext(atAuthorizationEndpoint bool) RequestObjectContext {
	return RequestObjectContext{Issuer: issuer, Now: now, AtAuthorizationEndpoint: atAuthorizationEndpoint}
}

// objectClaims are those of a complete request object.
func objectClaims() map[string]any {
	claims := map[string]any{"iss": "tpp", "aud": issuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 300, "jti": "one"}
	for name, values := range request() {
		claims[name] = values[0]
	}
	return claims
}

// makeObject signs a request object; nil leaves a claim out.
func makeObject(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, kid := signingKey(alg)
	return signJWT(key, alg, with(map[string]any{"kid": kid, "typ": "oauth-authz-req+jwt"}, header), with(objectClaims(), claims))
}

// beside is what a client sends with a request object.
func beside(object string, changes ...string) url.Values {
	params := url.Values{"client_id": {"tpp"}, "request": {object}}
	for _, change := range changes {
		name, value, set := strings.Cut(change, "=")
		if params.Del(name); set {
			params.Set(name, value)
		}
	}
	return params
}

func TestResolveRequest(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	in := func(seconds int64) int64 { return now.Unix() + seconds }
	const hour = 3600
	for _, test := range []struct {
		name           string
		header, claims m
		fapi2, openid  Code // "" is accepted
	}{
		{name: "RFC 9101 §6: accepts a complete object"},

		{"JAR-01: refuses a missing client_id", nil, m{"client_id": nil}, InvalidRequestObject, InvalidRequestObject},
		{"JAR-01: refuses another client_id", nil, m{"client_id": "other"}, InvalidRequestObject, InvalidRequestObject},
		{"JAR-01: refuses a client_id that is no string", nil, m{"client_id": []string{"tpp"}}, InvalidRequestObject, InvalidRequestObject},
		{"RFC 9101 §4: iss is the client_id", nil, m{"iss": "other"}, InvalidRequestObject, InvalidRequestObject},
		{"RFC 9101 §4: FAPI demands iss", nil, m{"iss": nil}, InvalidRequestObject, ""},
		{"JAR-03: refuses sub that is the client_id", nil, m{"sub": "tpp"}, InvalidRequestObject, InvalidRequestObject},
		{"JAR-03: accepts another sub", nil, m{"sub": "alice"}, "", ""},

		{"MS-02: accepts aud in an array", nil, m{"aud": []string{issuer}}, "", ""},
		{"MS-02: accepts an array of more", nil, m{"aud": []string{"https://other.example", issuer}}, "", ""},
		{"MS-02: refuses a missing aud", nil, m{"aud": nil}, InvalidRequestObject, ""},
		{"MS-02: refuses another aud", nil, m{"aud": "https://other.example"}, InvalidRequestObject, InvalidRequestObject},
		{"MS-02: refuses an array without the issuer", nil, m{"aud": []string{"https://other.example", "tpp"}}, InvalidRequestObject, InvalidRequestObject},
		{"MS-02: refuses an empty array", nil, m{"aud": []string{}}, InvalidRequestObject, InvalidRequestObject},
		{"MS-02: refuses an empty aud", nil, m{"aud": ""}, InvalidRequestObject, InvalidRequestObject},
		{"MS-02: refuses an aud that is no string", nil, m{"aud": 5}, InvalidRequestObject, InvalidRequestObject},
		{"F1A-06: refuses the PAR endpoint as aud", nil, m{"aud": parEndpoint}, InvalidRequestObject, InvalidRequestObject},
		{"F1A-06: refuses the token endpoint as aud", nil, m{"aud": tokenEndpoint}, InvalidRequestObject, InvalidRequestObject},
		{"RFC 7519 §4.1.3: refuses the issuer with a slash added", nil, m{"aud": issuer + "/"}, InvalidRequestObject, InvalidRequestObject},

		{"MS-02: refuses a missing exp", nil, m{"exp": nil}, InvalidRequestObject, ""},
		{"MS-02: refuses a missing nbf", nil, m{"nbf": nil}, InvalidRequestObject, ""},
		{"MS-02: refuses neither exp nor nbf", nil, m{"nbf": nil, "exp": nil}, InvalidRequestObject, ""},
		{"MS-02: iat does not stand for nbf", nil, m{"nbf": nil, "iat": in(0)}, InvalidRequestObject, ""},
		{"MS-02: accepts exp 60 minutes after nbf", nil, m{"exp": in(hour)}, "", ""},
		{"MS-02: refuses exp 61 minutes after nbf", nil, m{"exp": in(hour + 60)}, InvalidRequestObject, ""},
		{"MS-02: refuses exp a second over 60 minutes after nbf", nil, m{"exp": in(hour + 1)}, InvalidRequestObject, ""},
		{"MS-02: refuses exp 60 minutes ahead when nbf was earlier", nil, m{"nbf": in(-60), "exp": in(hour)}, InvalidRequestObject, ""},
		{"MS-02: refuses nbf 70 minutes ago", nil, m{"nbf": in(-70 * 60)}, InvalidRequestObject, ""},
		{"MS-02: accepts nbf 60 minutes ago", nil, m{"nbf": in(-hour), "exp": in(0)}, "", ""},
		{"MS-02: refuses nbf over 60 minutes ago within the skew of exp", nil, m{"nbf": in(-hour - 5), "exp": in(-5)}, InvalidRequestObject, ""},
		{"MS-02: refuses exp 5 minutes ago", nil, m{"nbf": in(-600), "exp": in(-300)}, InvalidRequestObject, InvalidRequestObject},
		{"X14: accepts exp 9 seconds ago", nil, m{"nbf": in(-60), "exp": in(-9)}, "", ""},
		{"X14: refuses exp 10 seconds ago", nil, m{"nbf": in(-60), "exp": in(-10)}, InvalidRequestObject, InvalidRequestObject},
		{"F2-06: accepts nbf 8 seconds ahead", nil, m{"nbf": in(8)}, "", ""},
		{"F2-06: accepts nbf 10 seconds ahead", nil, m{"nbf": in(10)}, "", ""},
		{"F2-06: refuses nbf 11 seconds ahead", nil, m{"nbf": in(11)}, InvalidRequestObject, InvalidRequestObject},
		{"F2-06: refuses nbf 60 seconds ahead", nil, m{"nbf": in(60)}, InvalidRequestObject, InvalidRequestObject},
		{"F2-06: accepts iat 8 seconds ahead", nil, m{"iat": in(8)}, "", ""},
		{"F2-06: refuses iat 60 seconds ahead", nil, m{"iat": in(60)}, InvalidRequestObject, InvalidRequestObject},
		{"RFC 9101 §4: accepts a missing iat and jti", nil, m{"iat": nil, "jti": nil}, "", ""},
		{"RFC 7519 §2: refuses an exp in a string", nil, m{"exp": "9999999999"}, InvalidRequestObject, InvalidRequestObject},
		{"RFC 7519 §2: refuses a negative nbf", nil, m{"nbf": -1}, InvalidRequestObject, InvalidRequestObject},

		{"JAR-02: refuses request inside", nil, m{"request": "eyJ.e30."}, InvalidRequestObject, InvalidRequestObject},
		{"JAR-02: refuses even an empty one", nil, m{"request": ""}, InvalidRequestObject, InvalidRequestObject},
		{"JAR-02: refuses request_uri inside", nil, m{"request_uri": "urn:ietf:params:oauth:request_uri:x"}, InvalidRequestObject, InvalidRequestObject},
		{"JAR-02: refuses a request_uri that is no string", nil, m{"request_uri": m{"x": 1}}, InvalidRequestObject, InvalidRequestObject},
		{"F1A-04: refuses a missing redirect_uri", nil, m{"redirect_uri": nil}, InvalidRequestObject, InvalidRequestObject},
		{"F1A-04: refuses a missing scope", nil, m{"scope": nil}, InvalidRequestObject, InvalidRequestObject},
		{"RFC 9396 §3: accepts authorization_details without scope", nil, m{"scope": nil, "authorization_details": []m{{"type": "account_information"}}}, "", ""},

		{"JAR-03: accepts no typ", m{"typ": ""}, nil, "", ""},
		{"JAR-03: accepts typ JWT", m{"typ": "JWT"}, nil, "", ""},
		{"JAR-03: accepts the typ in full and in capitals", m{"typ": "application/OAuth-AuthZ-Req+JWT"}, nil, "", ""},
		{"JAR-03: refuses an access token", m{"typ": "at+jwt"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"JAR-03: refuses a DPoP proof", m{"typ": "dpop+jwt"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"JAR-03: refuses a client assertion", m{"typ": "client-authentication+jwt"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"JAR-03: refuses a logout token", m{"typ": "logout+jwt"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"JAR-03: refuses a typ that nobody knows", m{"typ": "JOSE"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"F1A-01: refuses a kid that is not registered", m{"kid": "other"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"F1A-01: refuses the kid of another key", m{"kid": "rsa"}, nil, InvalidRequestObject, InvalidRequestObject},
		{"RFC 7515 §4.1.4: tries the keys that fit without kid", m{"kid": ""}, nil, "", ""},
		{"RFC 7515 §4.1.11: refuses crit", m{"crit": []string{"exp"}, "exp": 1}, nil, InvalidRequestObject, InvalidRequestObject},
	} {
		for _, client := range []struct {
			*Client
			code Code
		}{{strictTPP(), test.fapi2}, {openTPP(), test.openid}} {
			t.Run(test.name+"/"+string(client.Profile), func(t *testing.T) {
				t.Parallel()
				for _, atAuthorizationEndpoint := range []bool{false, true} {
					_, err := client.ResolveRequest(beside(makeObject(jose.ES256, test.header, test.claims)), objectContext(atAuthorizationEndpoint))
					refused(t, err, client.code)
				}
			})
		}
	}
}

func TestResolveRequest_algorithms(t *testing.T) {
	t.Parallel()
	onlyPS256 := tpp(OpenID)
	onlyPS256.RequestObjectSigningAlg = jose.PS256
	mustPrepare(onlyPS256)
	noKeys := &Client{ID: "tpp", Profile: OpenID, TokenEndpointAuthMethod: ClientSecretBasic, RedirectURIs: []string{"https://tpp.example/callback"}}
	mustPrepare(noKeys)
	for _, test := range []struct {
		name   string
		client *Client
		alg    jose.SignatureAlgorithm
		code   Code
	}{
		{"FAPI2 §5.4.1: accepts PS256", strictTPP(), jose.PS256, ""},
		{"FAPI2 §5.4.1: accepts ES256", strictTPP(), jose.ES256, ""},
		{"FAPI2 §5.4.1: accepts EdDSA", strictTPP(), jose.EdDSA, ""},
		{"F1A-12: refuses RS256", strictTPP(), jose.RS256, InvalidRequestObject},
		{"F1A-12: refuses PS512", strictTPP(), jose.PS512, InvalidRequestObject},
		{"OpenID Connect Core §6.1: accepts RS256", openTPP(), jose.RS256, ""},
		{"JAR-04: accepts the registered request_object_signing_alg", onlyPS256, jose.PS256, ""},
		{"JAR-04: refuses others than request_object_signing_alg", onlyPS256, jose.ES256, InvalidRequestObject},
		{"JAR-04: refuses others of the same key", onlyPS256, jose.RS256, InvalidRequestObject},
		{"RFC 9101 §6.2: refuses the object of a client without keys", noKeys, jose.ES256, InvalidRequestObject},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := test.client.ResolveRequest(beside(makeObject(test.alg, nil, nil)), objectContext(false))
			refused(t, err, test.code)
		})
	}
}

func TestResolveRequest_refusesWhatIsNoObject(t *testing.T) {
	t.Parallel()
	good := makeObject(jose.ES256, nil, nil)
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	claims := string(must(json.Marshal(objectClaims())))
	for name, object := range map[string]string{
		"dots":                              "..",
		"two parts":                         parts[0] + "." + parts[1],
		"four parts":                        good + ".x",
		"a line break":                      parts[0] + "." + parts[1] + ".\n" + parts[2],
		"alg none":                          b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"alg none with a signature":         b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." + parts[2],
		"alg NONE":                          b64([]byte(`{"alg":"NONE"}`)) + "." + parts[1] + ".",
		"no alg":                            b64([]byte(`{}`)) + "." + parts[1] + "." + parts[2],
		"HS256 with the public key":         signJWT(must(ecKey().PublicKey.Bytes()), jose.HS256, nil, objectClaims()),
		"another signature":                 parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)),
		"no signature":                      parts[0] + "." + parts[1] + ".",
		"other claims":                      parts[0] + "." + b64([]byte(strings.Replace(claims, "accounts", "payments", 1))) + "." + parts[2],
		"another header":                    b64([]byte(`{"alg":"ES256","kid":"ec"}`)) + "." + parts[1] + "." + parts[2],
		"another key":                       signJWT(otherKey(), jose.ES256, map[string]any{"kid": "ec"}, objectClaims()),
		"another key without kid":           signJWT(otherKey(), jose.ES256, nil, objectClaims()),
		"its own key in jwk":                signJWT(otherKey(), jose.ES256, map[string]any{"jwk": jose.JSONWebKey{Key: otherKey().Public()}}, objectClaims()),
		"its own key by jku":                signJWT(otherKey(), jose.ES256, map[string]any{"jku": "https://evil.example/jwks"}, objectClaims()),
		"more than 32 KiB":                  makeObject(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", 24<<10)}),
		"a claim twice":                     signRaw(`{"client_id":"other",` + claims[1:]),
		"a claim twice, once escaped":       signRaw(`{"\u0063lient_id":"other",` + claims[1:]),
		"a claim of a claim twice":          signRaw(`{"claims":{"id_token":{},"id_token":{}},` + claims[1:]),
		"claims that are no object":         signRaw(`["tpp"]`),
		"claims that are null":              signRaw(`null`),
		"claims that are no JSON":           signRaw(`{`),
		"claims nested too deep":            signRaw(`{"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `,` + claims[1:]),
		"something after the claims":        signRaw(claims + `{}`),
		"claims that are no UTF-8":          signRaw("{\"x\":\"\xff\"," + claims[1:]),
		"NUL in a claim":                    signRaw(`{"x":"\u0000",` + claims[1:]),
		"half a surrogate pair in a claim":  signRaw(`{"x":"\ud83d",` + claims[1:]),
		"client_id in capitals":             signRaw(strings.Replace(claims, `"client_id"`, `"CLIENT_ID"`, 1)),
		"a client assertion of the client":  makeAssertion(jose.ES256, nil, nil),
		"a client assertion with client_id": makeAssertion(jose.ES256, map[string]any{"typ": "JWT"}, with(objectClaims(), map[string]any{"sub": "tpp"})),
		"an encrypted JWT (a later issue)":  "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ." + parts[1] + "." + parts[1] + "." + parts[1] + "." + parts[2],
		"an encrypted JWT made three parts": "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ." + parts[1] + "." + parts[2],
		"JSON serialization":                `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		for _, client := range []*Client{strictTPP(), openTPP()} {
			t.Run("RFC 9101 §6.2: refuses "+name+"/"+string(client.Profile), func(t *testing.T) {
				t.Parallel()
				_, err := client.ResolveRequest(beside(object), objectContext(false))
				refused(t, err, InvalidRequestObject)
				if AsError(err).Status != 400 {
					t.Errorf("status %d", AsError(err).Status)
				}
			})
		}
	}
}

func TestResolveRequest_orderOfResponseType(t *testing.T) {
	t.Parallel()
	object := makeObject(jose.ES256, nil, map[string]any{"response_type": "code id_token"})
	for beside, code := range map[string]Code{"id_token code": "", "code token": InvalidRequest} {
		_, err := openTPP().ResolveRequest(url.Values{"client_id": {"tpp"}, "request": {object}, "response_type": {beside}}, objectContext(true))
		refused(t, err, code)
	}
}

func TestResolveRequest_beside(t *testing.T) {
	t.Parallel()
	object := makeObject(jose.ES256, nil, nil)
	for _, test := range []struct {
		name              string
		params            url.Values
		pushed, authorize Code // "" is accepted
	}{
		{"JAR-01: accepts client_id beside the object", beside(object), "", ""},
		{"JAR-01: client_id is a must where the client has not authenticated", beside(object, "client_id"), "", InvalidRequest},
		{"JAR-01: refuses another client_id beside the object", beside(object, "client_id=other"), InvalidRequest, InvalidRequest},
		{"JAR-02: refuses request_uri beside the object", beside(object, "request_uri=urn:x"), InvalidRequest, InvalidRequest},
		{"RFC 6749 §3.1: an empty request_uri is none", beside(object, "request_uri="), "", ""},
		{"RFC 6749 §3.1: refuses two objects", url.Values{"client_id": {"tpp"}, "request": {object, object}}, InvalidRequest, InvalidRequest},
		{"RFC 6749 §3.1: refuses a parameter that is there twice", url.Values{"client_id": {"tpp"}, "request": {object}, "state": {"a", "b"}}, InvalidRequest, InvalidRequest},
		{"OpenID Connect Core §6.1: accepts the same response_type", beside(object, "response_type=code"), "", ""},
		{"OpenID Connect Core §6.1: refuses another response_type in front of a person", beside(object, "response_type=code id_token"), "", InvalidRequest},
		{"JAR-07: ignores what else is beside the object", beside(object, "redirect_uri=https://evil.example/", "scope=payments", "nonce=x", "claims={", "max_age=x", "state=\r\n"), "", ""},
		{"accepts an object of nearly 32 KiB", beside(makeObject(jose.ES256, nil, map[string]any{"x": strings.Repeat("x", 7<<10), "y": strings.Repeat("y", 7<<10), "z": strings.Repeat("z", 7<<10)}), "client_assertion="+strings.Repeat("a", 15<<10)), "", ""},
	} {
		for at, code := range map[bool]Code{false: test.pushed, true: test.authorize} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				got, err := openTPP().ResolveRequest(test.params, objectContext(at))
				refused(t, err, code)
				if code != "" {
					return
				}
				q, err := openTPP().CheckAuthorizationRequest(got, nil)
				refused(t, err, "")
				if q.RedirectURI != "https://tpp.example/callback" || q.State != "s" || q.Nonce != "n" || q.MaxAge != nil {
					t.Errorf("%+v", q)
				}
			})
		}
	}
}

func TestResolveRequest_onlyTheObjectCounts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"state", "nonce", "prompt", "max_age", "acr_values", "login_hint", "id_token_hint", "ui_locales", "display", "claims",
		"authorization_details", "resource", "dpop_jkt", "response_mode", "code_challenge", "code_challenge_method", "response_type", "unknown"} {
		t.Run("F1A-04: "+name+" only outside is not used", func(t *testing.T) {
			t.Parallel()
			got, err := strictTPP().ResolveRequest(beside(makeObject(jose.ES256, nil, map[string]any{name: nil}), name+"=code"), objectContext(false))
			refused(t, err, "")
			want := request(name)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	for _, name := range []string{"redirect_uri", "scope"} {
		t.Run("F1A-04: "+name+" only outside is missing", func(t *testing.T) {
			t.Parallel()
			params := request()
			params.Set("request", makeObject(jose.ES256, nil, map[string]any{name: nil}))
			for _, at := range []bool{false, true} {
				got, err := strictTPP().ResolveRequest(params, objectContext(at))
				refused(t, err, InvalidRequestObject)
				if got.Has(name) {
					t.Errorf("it is taken from outside: %v", got)
				}
			}
		})
	}
	t.Run("F2-10: of two values that in the object wins", func(t *testing.T) {
		t.Parallel()
		params := request("state=outside", "nonce=outside")
		params.Set("request", makeObject(jose.ES256, nil, nil))
		got, err := strictTPP().ResolveRequest(params, objectContext(true))
		refused(t, err, "")
		if diff := cmp.Diff(request(), got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestResolveRequest_valuesKeepTheirTypes(t *testing.T) {
	t.Parallel()
	payload := strings.TrimSuffix(string(must(json.Marshal(objectClaims()))), "}") + `,
		"max_age": 300, "yes": true, "no": false, "nothing": null, "float": 1.50, "text": "a\u00e9\"\ud83d\ude00",
		"claims": { "id_token" : {"acr": {"essential": true, "values": ["sca"]}, "auth_time": null},
			"userinfo": {"email": {"value": "a  b"}} },
		"authorization_details": [
			{"type": "account_information", "actions": ["list_accounts"]}
		],
		"resource": ["https://api.bank.example", "https://pay.bank.example/v1"],
		"list": [1, "a"] }`
	got, err := openTPP().ResolveRequest(beside(signRaw(payload)), objectContext(false))
	refused(t, err, "")
	want := request()
	maps.Copy(want, url.Values{
		"max_age": {"300"}, "yes": {"true"}, "no": {"false"}, "float": {"1.50"}, "text": {"aé\"😀"},
		"claims":                {`{"id_token":{"acr":{"essential":true,"values":["sca"]},"auth_time":null},"userinfo":{"email":{"value":"a  b"}}}`},
		"authorization_details": {`[{"type":"account_information","actions":["list_accounts"]}]`},
		"resource":              {"https://api.bank.example", "https://pay.bank.example/v1"},
		"list":                  {`[1,"a"]`},
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JAR-07: (-want +got)\n%s", diff)
	}
	q, err := openTPP().CheckAuthorizationRequest(got, DefaultDetailTypes())
	refused(t, err, "")
	if *q.MaxAge != 300 || q.ACREssential[0] != "sca" || q.AuthorizationDetails[0].Type != "account_information" || len(q.Resources) != 2 {
		t.Errorf("%+v", q)
	}
	for name, value := range map[string]any{
		"a claims parameter in a string":         `{"id_token":null}`,
		"a claims parameter as an object":        map[string]any{"id_token": nil},
		"a claims parameter that is an array":    []string{"id_token"},
		"a claims parameter that is a number":    1,
		"a claims parameter that is true":        true,
		"a claims parameter that is a bad text":  "{",
		"a claims parameter that is JSON's null": nil,
	} {
		t.Run("JAR-07: "+name, func(t *testing.T) {
			t.Parallel()
			params, err := strictTPP().ResolveRequest(beside(makeObject(jose.ES256, nil, map[string]any{"claims": value})), objectContext(false))
			refused(t, err, "")
			_, err = strictTPP().CheckAuthorizationRequest(params, nil)
			switch value.(type) {
			case nil, map[string]any:
				refused(t, err, "")
			case string:
				if value == "{" {
					refused(t, err, InvalidRequest)
				} else {
					refused(t, err, "")
				}
			default:
				refused(t, err, InvalidRequest)
			}
		})
	}
}

func TestResolveRequest_withoutObject(t *testing.T) {
	t.Parallel()
	c := tpp(FAPI2)
	c.RequireSignedRequestObject = true
	mustPrepare(c)
	for _, params := range []url.Values{request(), request("request="), {}} {
		for _, at := range []bool{false, true} {
			got, err := strictTPP().ResolveRequest(params, objectContext(at))
			refused(t, err, "")
			if diff := cmp.Diff(params, got); diff != "" {
				t.Errorf("a request without object is changed: %s", diff)
			}
			got, err = c.ResolveRequest(params, objectContext(at))
			refused(t, err, InvalidRequest) // RFC 9101 §10.5, MS-01
			if diff := cmp.Diff(params, got); diff != "" {
				t.Errorf("a request without object is changed: %s", diff)
			}
		}
	}
	_, err := c.ResolveRequest(beside(makeObject(jose.ES256, nil, nil)), objectContext(false))
	refused(t, err, "")
}

// A refusal is sent where the client wants it: where the object says once it is known to be the client's.
func TestResolveRequest_saysWhereRefusalsGo(t *testing.T) {
	t.Parallel()
	c := tpp(OpenID)
	c.RedirectURIs = []string{"https://tpp.example/callback", "https://tpp.example/outside"}
	mustPrepare(c)
	for _, test := range []struct {
		name   string
		object string
		uri    string
	}{
		{"an object that is not signed by the client", signJWT(otherKey(), jose.ES256, nil, objectClaims()), "https://tpp.example/outside"},
		{"an object of another typ", makeObject(jose.ES256, map[string]any{"typ": "at+jwt"}, nil), "https://tpp.example/outside"},
		{"claims that cannot be read", signRaw("{"), "https://tpp.example/outside"},
		{"an object that has expired", makeObject(jose.ES256, nil, map[string]any{"exp": 1}), "https://tpp.example/callback"},
		{"an object for another server", makeObject(jose.ES256, nil, map[string]any{"aud": "https://other.example"}), "https://tpp.example/callback"},
		{"a signed object that says no way back", makeObject(jose.ES256, nil, map[string]any{"redirect_uri": nil}), ""},
		{"a signed object with a bad way back", makeObject(jose.ES256, nil, map[string]any{"redirect_uri": "https://evil.example/", "exp": 1}), ""},
	} {
		t.Run("RFC 9101 §6.3: "+test.name, func(t *testing.T) {
			t.Parallel()
			params := request("redirect_uri=https://tpp.example/outside", "state=outside", "request="+test.object)
			params, err := c.ResolveRequest(params, objectContext(true))
			refused(t, err, InvalidRequestObject)
			redirect, err := c.CheckRedirect(params)
			switch {
			case test.uri == "":
				refused(t, err, InvalidRequest)
			case err != nil || redirect.URI != test.uri || (redirect.State == "s") != strings.HasSuffix(test.uri, "/callback"):
				t.Errorf("%+v, %v", redirect, err)
			}
		})
	}
}

func TestResolveRequest_failsClosedWithoutIssuer(t *testing.T) {
	t.Parallel()
	for _, client := range []*Client{strictTPP(), openTPP()} {
		for _, aud := range []any{"", []string{""}} {
			_, err := client.ResolveRequest(beside(makeObject(jose.ES256, nil, map[string]any{"aud": aud})), RequestObjectContext{Now: now})
			refused(t, err, InvalidRequestObject)
		}
	}
}

// JAR-03: neither JWT passes for the other, whatever its typ.
func TestResolveRequest_noObjectIsAnAssertion(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"", "JWT", "oauth-authz-req+jwt"} {
		_, err := openTPP().CheckAssertion(makeObject(jose.ES256, map[string]any{"typ": typ}, nil), assertionContext())
		refused(t, err, InvalidClient)
	}
}

func TestParseClient_requestObjects(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for _, test := range []struct {
		name    string
		changes m
		want    string // part of the error; "" is accepted
	}{
		{"RFC 9101 §10.5: accepts require_signed_request_object", m{"require_signed_request_object": true}, ""},
		{"RFC 9101 §10.5: refuses require_signed_request_object in a string", m{"require_signed_request_object": "true"}, "require_signed_request_object"},
		{"JAR-04: accepts request_object_signing_alg", m{"request_object_signing_alg": "ES256"}, ""},
		{"JAR-04: refuses none", m{"request_object_signing_alg": "none"}, "request_object_signing_alg"},
		{"JAR-04: refuses none for openid", m{"request_object_signing_alg": "none", "profile": "openid"}, "request_object_signing_alg"},
		{"F1A-12: refuses RS256", m{"request_object_signing_alg": "RS256"}, "request_object_signing_alg"},
		{"RFC 9101 §6.2: needs a key for its alg", m{"request_object_signing_alg": "EdDSA"}, "no key can verify request objects"},
		{"RFC 9101 §6.2: needs a key to demand a signature", m{
			"require_signed_request_object": true, "jwks": nil, "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "x",
		}, "no key can verify request objects"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			metadata := with(m{
				"client_id": "tpp", "redirect_uris": []string{"https://tpp.example/callback"}, "scope": "openid",
				"jwks": m{"keys": []any{publicJWK(ecKey().Public(), m{"kid": "ec"})}},
			}, test.changes)
			maps.DeleteFunc(metadata, func(_ string, v any) bool { return v == nil })
			client, err := ParseClient(must(json.Marshal(metadata)))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want an error with %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			again := must(ParseClient(must(json.Marshal(client))))
			if again.RequireSignedRequestObject != client.RequireSignedRequestObject || again.RequestObjectSigningAlg != client.RequestObjectSigningAlg {
				t.Error("it is lost when it is stored")
			}
		})
	}
}

func TestVectors_requestObject(t *testing.T) {
	t.Parallel()
	eachVector(t, "request-object", func(t *testing.T, v map[string]string) {
		jwks := &jose.JSONWebKeySet{}
		must(0, json.Unmarshal([]byte(v["jwks"]), jwks))
		client := mustPrepare(&Client{ID: v["client_id"], Profile: ProfileName(v["profile"]), RedirectURIs: []string{"https://client.example.org/cb"}, JWKS: jwks})
		params := url.Values{"client_id": {v["client_id"]}, "request": {v["request"]}}
		got, err := client.ResolveRequest(params, RequestObjectContext{Issuer: v["issuer"], Now: must(time.Parse(time.RFC3339, v["now"]))})
		if v["expect"] != "accepted" {
			refused(t, err, Code(v["expect"]))
			if v["because"] != "" && AsError(err).Description != v["because"] {
				t.Errorf("because %q", AsError(err).Description)
			}
			return
		}
		refused(t, err, "")
		want := map[string]string{}
		must(0, json.Unmarshal([]byte(v["params"]), &want))
		for name := range got {
			if got.Get(name) != want[name] {
				t.Errorf("%s: %q, want %q", name, got.Get(name), want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v", got)
		}
	})
}

func FuzzRequestObject(f *testing.F) {
	good := makeObject(jose.ES256, nil, nil)
	claims := string(must(json.Marshal(objectClaims())))
	f.Add(good, claims, "")
	f.Add(makeObject(jose.EdDSA, nil, nil), claims[:len(claims)-1]+`,"max_age":300,"claims":{"id_token":{"acr":null}},"resource":["https://api.bank.example"]}`, "state=x")
	f.Add("..", `{"client_id":"tpp","iss":"tpp","aud":["https://bank.example"],"nbf":1772366400.5,"exp":1772366460,"redirect_uri":1,"scope":{}}`, "request_uri=")
	f.Add(strings.Replace(good, ".", "..", 1), `{"request":null,"aud":null,"x":[[[]]],"\u0073ub":"tpp"}`, "client_id=other&response_type=code")
	f.Fuzz(func(t *testing.T, object, claims, outside string) {
		around, err := url.ParseQuery(outside)
		if err != nil {
			return
		}
		for _, client := range []*Client{strictTPP(), openTPP()} {
			for _, object := range []string{object, signRaw(claims)} {
				for _, at := range []bool{false, true} {
					params := maps.Clone(around)
					params.Set("client_id", "tpp")
					params.Set("request", object)
					before := params.Encode()
					got, err := client.ResolveRequest(params, objectContext(at))
					sendable(t, err)
					if params.Encode() != before {
						t.Fatal("the parameters are changed")
					}
					if err == nil && object != "" {
						resolved(t, client, object, got)
					}
				}
			}
		}
	})
}

// resolved checks what must hold of every request object that is accepted.
func resolved(t *testing.T, client *Client, object string, got url.Values) {
	t.Helper()
	payload := must(base64.RawURLEncoding.DecodeString(strings.Split(object, ".")[1]))
	var said map[string]any
	if err := json.Unmarshal(payload, &said); err != nil {
		t.Fatalf("accepted what is no JSON object: %q", payload)
	}
	if said["client_id"] != "tpp" || said["sub"] == "tpp" || got.Get("client_id") != "tpp" || got.Has("request") || got.Has("request_uri") {
		t.Fatalf("accepted %s", payload)
	}
	if client.Profile == FAPI2 {
		nbf, exp := said["nbf"].(float64), said["exp"].(float64)
		if at := float64(now.Unix()); said["iss"] != "tpp" || said["aud"] == nil || exp-nbf > 3601 || at-nbf > 3601 || nbf > at+11 || exp < at-10 {
			t.Fatalf("accepted %s", payload)
		}
	}
	for name, values := range got {
		value, there := said[name]
		if text, ok := value.(string); !there || ok && (len(values) != 1 || values[0] != text) {
			t.Fatalf("%q is %q in %s", name, values, payload)
		}
		if name != "resource" && len(values) != 1 || strings.Contains("iss sub aud exp nbf iat jti", name) && name != "" && len(name) == 3 {
			t.Fatalf("%q is %q", name, values)
		}
		for _, text := range values {
			var back any
			if _, isText := value.(string); !isText && name != "resource" && (json.Unmarshal([]byte(text), &back) != nil || !cmp.Equal(back, value)) {
				t.Fatalf("%q is %q in %s", name, text, payload)
			}
		}
	}
	q, err := client.CheckAuthorizationRequest(got, DefaultDetailTypes())
	sendable(t, err)
	if err == nil {
		stored(t, q)
	}
	if errors.Is(err, RequestNotSupported) || errors.Is(err, RequestURINotSupported) {
		t.Fatal("an object within the object is left")
	}
}

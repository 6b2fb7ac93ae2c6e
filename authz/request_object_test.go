package authz_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
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

// object signs parameters as a client's request object (RFC 9101 §6.1); claims replace or, when nil, remove what it says.
func object(t *testing.T, s *authztest.Server, c *authztest.Client, key *ecdsa.PrivateKey, params url.Values, claims map[string]any) string {
	t.Helper()
	signer := *c
	signer.Key = key
	return signer.RequestObject(t, params, claims)
}

// keySet is a client's jwks with one key.
func keySet(c string, key any) jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: c, Use: "sig"}}}
}

// signer is a client of the profile openid that signs its requests.
func signer(t *testing.T, s *authztest.Server, id string, more map[string]any) (*authztest.Client, *ecdsa.PrivateKey) {
	t.Helper()
	key := authztest.NewKey(t)
	metadata := map[string]any{"jwks": keySet(id, key.Public())}
	maps.Copy(metadata, more)
	return s.AddClient(t, id, fapi.OpenID, fapi.ClientSecretBasic, metadata), key
}

// MS-01, RFC 9126 §3: a signed request takes a client from PAR to its tokens, and nothing beside the object counts.
func TestRequestObject_PushedFlow(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, id := range []string{"tpp", "tpp-dpop"} {
		t.Run(id, func(t *testing.T) {
			c := s.Client(id)
			signed := object(t, s, c, c.Key, c.Params(map[string]string{"state": "", "nonce": "signed"}), map[string]any{
				"max_age": 3600, "claims": map[string]any{"id_token": map[string]any{"acr": nil}},
				"authorization_details": []map[string]any{{"type": "account_information", "actions": []string{"list"}}},
			})
			answer := c.Post(t, "/par", url.Values{"client_id": {c.ID}, "request": {signed}, "state": {"outside"}, "nonce": {"outside"}, "redirect_uri": {"https://evil.example/"}})
			uri, _ := answer.JSON["request_uri"].(string)
			if answer.Status != http.StatusCreated {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			b := s.Browser(t)
			page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+url.Values{"client_id": {c.ID}, "request_uri": {uri}, "state": {"outside"}}.Encode())), "approve", "12")
			if page.Left == nil || !strings.HasPrefix(page.Left.String(), authztest.RedirectURI+"?") {
				t.Fatalf("page %q, left for %v", page.ID(), page.Left)
			}
			sent := page.Left.Query()
			if sent.Has("state") || sent.Get("iss") != s.Issuer || len(sent) != 2 {
				t.Errorf("F2-09: state only outside is used: %v", sent)
			}
			tokens := c.Exchange(t, sent.Get("code"))
			if claims := idClaims(t, tokens); claims["nonce"] != "signed" || claims["auth_time"] == nil {
				t.Errorf("F2-10: %v", claims)
			}
			if tokens["authorization_details"] == nil {
				t.Errorf("JAR-07: no authorization_details in %v", tokens)
			}
		})
	}
}

func TestRequestObject_PARRefuses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, other := s.Client("tpp"), s.Client("tpp-jwt")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs := s.AddClient(t, "tpp-rs", fapi.FAPI2, fapi.TLSClientAuth, map[string]any{"jwks": keySet("tpp-rs", rsaKey.Public()), "tls_client_certificate_bound_access_tokens": true})
	now := time.Now().Unix()
	type m = map[string]any
	form := func(object string) url.Values { return url.Values{"client_id": {c.ID}, "request": {object}} }
	with := func(claims m) url.Values { return form(object(t, s, c, c.Key, c.Params(nil), claims)) }
	parts := strings.Split(object(t, s, c, c.Key, c.Params(nil), nil), ".")
	both := with(nil)
	both.Set("request_uri", "urn:ietf:params:oauth:request_uri:x")
	bare := with(nil)
	bare.Del("client_id")
	cases := map[string]struct {
		client *authztest.Client
		form   url.Values
		code   fapi.Code
	}{
		"MS-01: another client's key":                     {c, form(object(t, s, c, other.Key, c.Params(nil), nil)), fapi.InvalidRequestObject},
		"MS-01: a signature that is not valid":            {c, form(parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86)), fapi.InvalidRequestObject},
		"MS-01: alg none":                                 {c, form("eyJhbGciOiJub25lIn0." + parts[1] + "."), fapi.InvalidRequestObject},
		"F2-12: RS256":                                    {rs, url.Values{"client_id": {rs.ID}, "request": {authztest.Sign(t, jose.RS256, rsaKey, nil, m{"client_id": rs.ID})}}, fapi.InvalidRequestObject},
		"another client's object":                         {c, form(object(t, s, other, other.Key, other.Params(nil), nil)), fapi.InvalidRequestObject},
		"PAR-05: another client_id inside":                {c, with(m{"client_id": other.ID}), fapi.InvalidRequestObject},
		"MS-02: no exp":                                   {c, with(m{"exp": nil}), fapi.InvalidRequestObject},
		"MS-02: no nbf":                                   {c, with(m{"nbf": nil}), fapi.InvalidRequestObject},
		"MS-02: expired":                                  {c, with(m{"nbf": now - 600, "exp": now - 300}), fapi.InvalidRequestObject},
		"MS-02: exp 70 minutes ahead":                     {c, with(m{"exp": now + 70*60}), fapi.InvalidRequestObject},
		"MS-02: nbf 70 minutes ago":                       {c, with(m{"nbf": now - 70*60}), fapi.InvalidRequestObject},
		"MS-02: another aud":                              {c, with(m{"aud": "https://other.example"}), fapi.InvalidRequestObject},
		"F1A-06: the PAR endpoint as aud":                 {c, with(m{"aud": s.Issuer + "/par"}), fapi.InvalidRequestObject},
		"JAR-02: request_uri beside the object":           {c, both, fapi.InvalidRequest},
		"JAR-02: request_uri inside":                      {c, with(m{"request_uri": "urn:x"}), fapi.InvalidRequestObject},
		"JAR-03: a client assertion as object":            {c, form(c.Assertion(t, m{"client_id": c.ID})), fapi.InvalidRequestObject},
		"F1A-04: redirect_uri only outside":               {c, maps.Collect(maps.All(url.Values{"redirect_uri": {authztest.RedirectURI}, "request": with(m{"redirect_uri": nil})["request"]})), fapi.InvalidRequestObject},
		"RFC 9126 §2.1: response_type inside":             {c, with(m{"response_type": "code id_token"}), fapi.UnsupportedResponseType},
		"F2-07: no code_challenge inside":                 {c, with(m{"code_challenge": nil, "code_challenge_method": nil}), fapi.InvalidRequest},
		"JAR-01: a redirect_uri that is not registered":   {c, with(m{"redirect_uri": "https://evil.example/"}), fapi.InvalidRequest},
		"RFC 9396 §5: bad authorization_details inside":   {c, with(m{"authorization_details": m{"type": "account_information"}}), fapi.InvalidAuthorizationDetails},
		"an object that looks encrypted":                  {c, form("e30." + parts[1] + "." + parts[1] + "." + parts[1] + ".AAAA"), fapi.InvalidRequestObject},
		"PAR-05: no client_id inside, though outside":     {c, with(m{"client_id": nil}), fapi.InvalidRequestObject},
		"RFC 9101 §4: FAPI demands iss":                   {c, with(m{"iss": nil}), fapi.InvalidRequestObject},
		"CheckParameters: something twice in the request": {c, url.Values{"request": {"a", "b"}}, fapi.InvalidRequest},
	}
	t.Run("cases", func(t *testing.T) {
		for name, bad := range cases {
			t.Run(name, func(t *testing.T) {
				pushRaw(t, bad.client, bad.form).Refused(t, http.StatusBadRequest, bad.code)
			})
		}
	})
	if n := s.Count(t, "SELECT count(*) FROM authorizations"); n != 0 {
		t.Errorf("%d authorizations are stored", n)
	}
	for name, good := range map[string]url.Values{
		"F2-06: nbf 8 seconds ahead":                 with(m{"nbf": now + 8}),
		"MS-02: more than one aud":                   with(m{"aud": []string{"https://other.example", s.Issuer}}),
		"RFC 9126 §3: no client_id beside an object": bare,
		"F2-09: neither state nor nonce":             with(m{"state": nil, "nonce": nil}),
	} {
		if answer := pushRaw(t, c, good); answer.Status != http.StatusCreated {
			t.Errorf("%s: answered %d %s", name, answer.Status, answer.Body)
		}
	}
}

// OpenID Connect Core §6.1: a client that need not push sends its object by way of the browser.
func TestRequestObject_ByValue(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, key := signer(t, s, "web-signed", nil)
	signed := object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), map[string]any{"max_age": 3600})
	for method, open := range doors {
		t.Run(method, func(t *testing.T) {
			page := open(t, s, url.Values{"client_id": {c.ID}, "response_type": {"code"}, "scope": {"openid"}, "request": {signed}, "state": {"outside"}, "redirect_uri": {"https://evil.example/"}})
			page.Is(t, "login_page")
		})
	}
	b := s.Browser(t)
	page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+url.Values{"client_id": {c.ID}, "request": {signed}, "state": {"outside"}, "nonce": {"outside"}}.Encode())), "approve", "12")
	if page.Left == nil || page.Left.Query().Get("state") != "signed" {
		t.Fatalf("page %q, left for %v", page.ID(), page.Left)
	}
	if claims := idClaims(t, c.Exchange(t, page.Left.Query().Get("code"))); claims["nonce"] != "nonce-1" {
		t.Errorf("nonce %v", claims["nonce"])
	}
}

// RFC 9101 §7: a bad object is reported to the client, if it is known where that is.
func TestRequestObject_AuthorizeRefuses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, key := signer(t, s, "web-signed", nil)
	must, mustKey := signer(t, s, "web-must", map[string]any{"require_signed_request_object": true})
	type m = map[string]any
	good := func(claims m) string {
		return object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), claims)
	}
	forged := object(t, s, c, authztest.NewKey(t), c.Params(map[string]string{"state": "signed"}), nil)
	outer := func(object string, changes url.Values) url.Values {
		params := url.Values{"client_id": {c.ID}, "response_type": {"code"}, "state": {"outside"}, "redirect_uri": {authztest.RedirectURI}, "request": {object}}
		bad := badRequest{change: changes}
		return bad.on(params)
	}
	nowhere := url.Values{"redirect_uri": nil}
	mustParams := must.Params(nil)
	tpp := s.Client("tpp")
	for name, bad := range map[string]struct {
		params url.Values
		code   fapi.Code
		state  string // sent back; "-": nobody is sent anywhere
	}{
		"a forged object: to the redirect_uri outside": {outer(forged, nil), fapi.InvalidRequestObject, "outside"},
		"a forged object, and no way back outside":     {outer(forged, nowhere), fapi.InvalidRequestObject, "-"},
		"a forged object, and a bad way back outside":  {outer(forged, url.Values{"redirect_uri": {"https://evil.example/"}}), fapi.InvalidRequestObject, "-"},
		"alg none": {outer("eyJhbGciOiJub25lIn0.e30.", nil), fapi.InvalidRequestObject, "outside"},
		"an expired object: to the redirect_uri inside": {outer(good(m{"exp": 1}), nowhere), fapi.InvalidRequestObject, "signed"},
		"another aud":                                          {outer(good(m{"aud": "https://other.example"}), nil), fapi.InvalidRequestObject, "signed"},
		"no client_id inside":                                  {outer(good(m{"client_id": nil}), nil), fapi.InvalidRequestObject, "signed"},
		"JAR-01: another client_id inside":                     {outer(good(m{"client_id": "web"}), nil), fapi.InvalidRequestObject, "signed"},
		"JAR-01: another client's object":                      {outer(good(nil), url.Values{"client_id": {"web"}}), fapi.InvalidRequestObject, "outside"},
		"JAR-02: request_uri inside":                           {outer(good(m{"request_uri": "https://x.example"}), nowhere), fapi.InvalidRequestObject, "signed"},
		"JAR-02: request_uri outside":                          {outer(good(nil), url.Values{"request_uri": {"https://x.example"}}), fapi.InvalidRequest, "outside"},
		"JAR-02: a pushed request_uri outside":                 {outer(good(nil), url.Values{"request_uri": {"urn:ietf:params:oauth:request_uri:x"}}), fapi.InvalidRequest, "outside"},
		"OpenID Connect Core §6.1: another response_type":      {outer(good(nil), url.Values{"response_type": {"code id_token"}}), fapi.InvalidRequest, "signed"},
		"F1A-04: redirect_uri only outside":                    {outer(good(m{"redirect_uri": nil}), nil), fapi.InvalidRequestObject, "-"},
		"a redirect_uri inside that is not registered":         {outer(good(m{"redirect_uri": "https://evil.example/"}), nil), fapi.InvalidRequest, "-"},
		"F1A-04: scope only outside":                           {outer(good(m{"scope": nil}), url.Values{"scope": {"openid"}}), fapi.InvalidRequestObject, "signed"},
		"a bad prompt inside":                                  {outer(good(m{"prompt": "none login"}), nil), fapi.InvalidRequest, "signed"},
		"request twice":                                        {outer("", url.Values{"request": {good(nil), good(nil)}}), fapi.InvalidRequest, "outside"},
		"RFC 9101 §10.5: an unsigned request of who must sign": {mustParams, fapi.InvalidRequest, "state-1"},
		"F2-07: a signed request that must be pushed":          {url.Values{"client_id": {tpp.ID}, "request": {object(t, s, tpp, tpp.Key, tpp.Params(nil), nil)}}, fapi.InvalidRequest, "state-1"},
	} {
		for method, open := range doors {
			t.Run(method+" "+name, func(t *testing.T) {
				page := open(t, s, bad.params)
				if bad.state != "-" {
					page.Returns(t, s, bad.code, bad.state)
					return
				}
				page.Explains(t, http.StatusBadRequest, bad.code)
			})
		}
	}
	// RFC 9101 §10.5: who must sign must do so at PAR too, and then its request_uri is enough.
	pushRaw(t, must, mustParams).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	answer := pushRaw(t, must, url.Values{"client_id": {must.ID}, "request": {object(t, s, must, mustKey, mustParams, nil)}})
	if answer.Status != http.StatusCreated {
		t.Fatalf("answered %d %s", answer.Status, answer.Body)
	}
	s.Browser(t).Authorize(t, must.ID, answer.JSON["request_uri"].(string)).Is(t, "login_page")
}

func TestRequestObject_Metadata(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	said := s.Client("web").Raw(t, "GET", "/.well-known/openid-configuration", "", nil).JSON
	if said["request_parameter_supported"] != true || said["request_uri_parameter_supported"] != true || said["require_request_uri_registration"] != true {
		t.Errorf("request_parameter_supported %v, request_uri_parameter_supported %v", said["request_parameter_supported"], said["request_uri_parameter_supported"])
	}
	offered := map[any]bool{}
	list, _ := said["request_object_signing_alg_values_supported"].([]any)
	for _, alg := range list {
		offered[alg] = true
	}
	for alg, want := range map[string]bool{"PS256": true, "ES256": true, "EdDSA": true, "RS256": true, "none": false, "HS256": false} {
		if offered[alg] != want {
			t.Errorf("F1A-14: request_object_signing_alg_values_supported %v, %s", list, alg)
		}
	}
}

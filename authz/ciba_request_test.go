package authz_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

// heard is the metadata of a client that is told of the outcome. Nobody listens there.
var heard = map[string]any{"backchannel_client_notification_endpoint": "https://client.example/ciba"}

// CIBA-06, CIBA Core §7.3: the answer, and what is kept of the request.
func TestBackchannel_Answer(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	poll := addBackchannel(t, s, "poll", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"backchannel_number_matching": true, "backchannel_user_code_parameter": true})
	ping := addBackchannel(t, s, "ping", fapi.PrivateKeyJWT, fapi.Ping, heard)
	push := addBackchannel(t, s, "push", fapi.PrivateKeyJWT, fapi.Push, heard)
	customer, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
	if err == nil {
		err = s.DB.SetUserCode(t.Context(), customer.ID, "8271")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*authztest.Client{poll, ping, push} {
		token := rand.Text()
		more := url.Values{"client_notification_token": {token}}
		if c == poll {
			more.Set("user_code", "8271")
		}
		answer := c.Post(t, "/bc-authorize", backchannelForm(c, more))
		id, _ := answer.JSON["auth_req_id"].(string)
		if answer.Status != http.StatusOK || answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("CIBA-06: %s: %d %v %s", c.ID, answer.Status, answer.Header, answer.Body)
		}
		if raw, err := base64.RawURLEncoding.DecodeString(id); err != nil || len(raw) < 20 || !regexp.MustCompile(`^[A-Za-z0-9._-]+$`).MatchString(id) {
			t.Errorf("CIBA-06: %s: auth_req_id %q", c.ID, id)
		}
		want := map[string]any{"auth_req_id": id, "expires_in": 300.0, "interval": 5.0}
		switch c {
		case push: // has nothing to ask for
			delete(want, "interval")
		case poll:
			want["match_number"] = answer.JSON["match_number"]
			if !regexp.MustCompile(`^[1-9][0-9]$`).MatchString(fmt.Sprint(want["match_number"])) {
				t.Errorf("match_number %v", want["match_number"])
			}
		}
		if !maps.Equal(answer.JSON, want) {
			t.Errorf("CIBA-06: %s: %s", c.ID, answer.Body)
		}
		for _, secret := range []string{id, token, "8271"} {
			if n := s.Count(t, `SELECT (SELECT count(*) FROM authorizations WHERE position($1::bytea IN request) > 0 OR code_hash = $1) +
				(SELECT count(*) FROM notifications WHERE position($2 IN about::text) > 0)`, []byte(secret), secret); n != 0 {
				t.Errorf("%s: %q is to be read from the database", c.ID, secret)
			}
		}
	}
	metadata := poll.Raw(t, http.MethodGet, "/.well-known/openid-configuration", "", nil).JSON
	if metadata["backchannel_authentication_endpoint"] != s.Issuer+"/bc-authorize" || !strings.Contains(fmt.Sprint(metadata["mtls_endpoint_aliases"]), s.MTLSBase+"/bc-authorize") ||
		fmt.Sprint(metadata["backchannel_token_delivery_modes_supported"]) != "[poll ping push]" || metadata["backchannel_user_code_parameter_supported"] != true ||
		!strings.Contains(fmt.Sprint(metadata["backchannel_authentication_request_signing_alg_values_supported"]), "PS256") ||
		!slices.Contains(metadata["grant_types_supported"].([]any), any(fapi.GrantCIBA)) {
		t.Errorf("CIBA-17: %v", metadata)
	}
}

// CIBA Core §7.1, §13: what is refused, and how.
func TestBackchannel_RequestRefused(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	poll := addBackchannel(t, s, "poll", fapi.ClientSecretPost, fapi.Poll, map[string]any{"backchannel_user_code_parameter": true})
	secret := addBackchannel(t, s, "secret", fapi.ClientSecretBasic, fapi.Poll, nil)
	ping := addBackchannel(t, s, "ping", fapi.ClientSecretPost, fapi.Ping, heard)
	push := addBackchannel(t, s, "push", fapi.ClientSecretPost, fapi.Push, heard)
	jwt := addBackchannel(t, s, "jwt", fapi.PrivateKeyJWT, fapi.Poll, nil)
	mtls := addBackchannel(t, s, "mtls", fapi.TLSClientAuth, fapi.Poll, nil)
	self := addBackchannel(t, s, "self", fapi.SelfSignedTLSClientAuth, fapi.Poll, nil)
	guessed, uncertified, stranger, keyless := *secret, *mtls, *self, *jwt
	guessed.Secret, uncertified.Certificate, stranger.Certificate, keyless.Key = "guessed", nil, s.Certificate(t, "self"), authztest.NewKey(t)
	s.SQL(t, `UPDATE customers SET user_code_hash = ''`) // one that no code has
	set := func(pairs ...string) url.Values {
		form := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			form.Add(pairs[i], pairs[i+1])
		}
		return form
	}
	long := strings.Repeat("a", 1025)
	payment := strings.Replace(paymentDetail, "123.50", "x", 1)
	for _, test := range []struct {
		name   string
		client *authztest.Client
		more   url.Values
		status int
		want   fapi.Code
	}{
		{"§13: the grant was not registered", s.Client("web"), nil, 400, fapi.UnauthorizedClient},
		{"§13: a profile without CIBA", s.Client("tpp"), nil, 400, fapi.UnauthorizedClient},
		{"§7.1: a wrong secret", &guessed, nil, 401, fapi.InvalidClient},
		{"§7.1: no certificate", &uncertified, nil, 401, fapi.InvalidClient},
		{"§7.1: a certificate that is not registered", &stranger, nil, 401, fapi.InvalidClient},
		{"§7.1: an assertion of another key", &keyless, nil, 401, fapi.InvalidClient},
		{"§7.1: no client", secret, set("client_id", "nobody"), 401, fapi.InvalidClient},
		{"§7.1: another client's id beside its own", secret, set("client_id", "poll"), 401, fapi.InvalidClient},

		{"CIBA-01: no scope", poll, set("scope", ""), 400, fapi.InvalidScope},
		{"CIBA-01: without openid", poll, set("scope", "accounts"), 400, fapi.InvalidScope},
		{"CIBA-01: no hint", poll, set("login_hint", ""), 400, fapi.InvalidRequest},
		{"CIBA-01: two hints", poll, set("login_hint_token", "x"), 400, fapi.InvalidRequest},
		{"CIBA-01: three hints", poll, set("login_hint_token", "x", "id_token_hint", "x"), 400, fapi.InvalidRequest},
		{"CIBA-01: a hint twice", poll, set("login_hint", "alice", "login_hint", "bob"), 400, fapi.InvalidRequest},
		{"CIBA-01: requested_expiry 0", poll, set("requested_expiry", "0"), 400, fapi.InvalidRequest},
		{"CIBA-01: requested_expiry negative", poll, set("requested_expiry", "-5"), 400, fapi.InvalidRequest},
		{"CIBA-01: requested_expiry with a fraction", poll, set("requested_expiry", "1.5"), 400, fapi.InvalidRequest},
		{"CIBA-01: requested_expiry beyond all numbers", poll, set("requested_expiry", "99999999999999999999"), 400, fapi.InvalidRequest},
		{"CIBA-01: ping without a notification token", ping, set("client_notification_token", ""), 400, fapi.InvalidRequest},
		{"CIBA-01: push without one", push, set("client_notification_token", ""), 400, fapi.InvalidRequest},
		{"CIBA-01: one with less than 128 bits", ping, set("client_notification_token", "abcdefghijklmnopqrstu"), 400, fapi.InvalidRequest},
		{"CIBA-01: one that is too long", ping, set("client_notification_token", long), 400, fapi.InvalidRequest},
		{"CIBA-01: one that is no bearer token", ping, set("client_notification_token", "abcdefghijklmnopqrstuvw xyz"), 400, fapi.InvalidRequest},
		{"CIBA-02: a request_uri", poll, set("request_uri", "https://client.example/request"), 400, fapi.InvalidRequest},
		{"CIBA-02: a request that is none", jwt, set("request", "x.y.z"), 400, fapi.InvalidRequest},

		{"CIBA-03: nobody", secret, set("login_hint", "nobody"), 400, fapi.UnknownUserID},
		{"CIBA-03: what nobody is called", secret, set("login_hint", strings.Repeat("x", 300)), 400, fapi.UnknownUserID},
		{"CIBA-03: no ID token", secret, set("login_hint", "", "id_token_hint", "x"), 400, fapi.InvalidRequest},
		{"CIBA-03: no login_hint_token", secret, set("login_hint", "", "login_hint_token", "x"), 400, fapi.InvalidRequest},
		{"CIBA-04: a wrong user code", poll, set("user_code", "0000"), 400, fapi.InvalidUserCode},
		{"CIBA-04: no user code", poll, nil, 400, fapi.MissingUserCode},
		{"CIBA-04: an oversized one", poll, set("user_code", long), 400, fapi.InvalidUserCode},
		{"CIBA-04: one of a client that has none", secret, set("user_code", "0000"), 400, fapi.InvalidRequest},
		{"CIBA-05: a message that no screen shows", secret, set("binding_message", "a\nb"), 400, fapi.InvalidBindingMessage},
		{"CIBA-05: a message in pictures", secret, set("binding_message", "😀"), 400, fapi.InvalidBindingMessage},
		{"CIBA-05: a long one", secret, set("binding_message", strings.Repeat("a", 65)), 400, fapi.InvalidBindingMessage},

		{"RFC 6749 §3.2: a parameter twice", secret, set("scope", "openid", "scope", "openid"), 400, fapi.InvalidRequest},
		{"RFC 8707 §2: another resource", secret, set("resource", "https://evil.example"), 400, fapi.InvalidTarget},
		{"RFC 9396 §5: an unknown type", secret, set("authorization_details", `[{"type":"x"}]`), 400, fapi.InvalidAuthorizationDetails},
		{"RFC 9396 §5: a type that is not registered", secret, set("authorization_details", "["+paymentDetail+"]"), 400, fapi.InvalidAuthorizationDetails},
		{"RFC 9396 §5: malformed", secret, set("authorization_details", "{"), 400, fapi.InvalidAuthorizationDetails},
		{"RFC 9396 §5: what its type does not have", secret, set("authorization_details", payment), 400, fapi.InvalidAuthorizationDetails},
		{"a consent that there is not", secret, set("claims", `{"id_token":{"openbanking_intent_id":{"value":"aac-x","essential":true}}}`), 400, fapi.InvalidRequest},
		{"OpenID Connect Core §5.5.1.1: an acr that we cannot give", secret, set("claims", `{"id_token":{"acr":{"essential":true,"value":"x"}}}`), 400, fapi.UnmetAuthentication},
		{"Grant Management §5.4: a grant that there is not", secret, set("grant_management_action", "merge", "grant_id", "x"), 400, fapi.InvalidGrantID},
		{"Grant Management §5.4: a grant_id without an action", secret, set("grant_id", "x"), 400, fapi.InvalidRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.SQL(t, "UPDATE customers SET user_code_failures = 0")
			test.client.Send(t, "/bc-authorize", test.client.Authenticated(t, backchannelForm(test.client, test.more)), nil).Refused(t, test.status, test.want)
			if n := s.Count(t, "SELECT count(*) FROM authorizations") + s.Count(t, "SELECT count(*) FROM notifications"); n != 0 {
				t.Error("something is stored")
			}
		})
	}
}

// A request is a form that is posted, of a bounded size, and nothing else.
func TestBackchannel_Transport(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "poll", fapi.ClientSecretPost, fapi.Poll, nil)
	form := c.Authenticated(t, backchannelForm(c, nil)).Encode()
	for _, test := range []struct {
		name, method, path, body string
		header                   http.Header
		status                   int
	}{
		{"GET", http.MethodGet, "/bc-authorize", "", nil, 405},
		{"PUT", http.MethodPut, "/bc-authorize", form, nil, 405},
		{"JSON", http.MethodPost, "/bc-authorize", `{"scope":"openid"}`, http.Header{"Content-Type": {"application/json"}}, 415},
		{"no media type", http.MethodPost, "/bc-authorize", form, http.Header{"Content-Type": nil}, 415},
		{"a query", http.MethodPost, "/bc-authorize?" + form, "", nil, 400},
		{"no form", http.MethodPost, "/bc-authorize", "%zz", nil, 400},
		{"too large", http.MethodPost, "/bc-authorize", form + "&x=" + strings.Repeat("x", 64<<10), nil, 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := c.Raw(t, test.method, test.path, test.body, test.header)
			if test.status != http.StatusMethodNotAllowed {
				answer.Refused(t, test.status, fapi.InvalidRequest)
			} else if answer.Status != test.status {
				t.Errorf("answered %d %s", answer.Status, answer.Body)
			}
		})
	}
}

// CIBA-02, CIBA-07: an identifier is used once; which one was used before, the answer says.
func TestBackchannel_Replays(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "poll", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"backchannel_authentication_request_signing_alg": "ES256"})
	signed := func() string { return c.RequestObject(t, backchannelForm(c, nil), nil) }
	send := func(assertion, request string) *authztest.Answer {
		t.Helper()
		return c.Send(t, "/bc-authorize", url.Values{"client_assertion_type": {fapi.ClientAssertionType}, "client_assertion": {assertion}, "request": {request}}, nil)
	}
	ok := func(answer *authztest.Answer) {
		t.Helper()
		if answer.Status != http.StatusOK {
			t.Errorf("answered %d %s", answer.Status, answer.Body)
		}
	}
	assertion, request := c.Assertion(t, nil), signed()
	ok(send(assertion, request))
	send(assertion, request).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)

	fresh := c.Assertion(t, nil)
	send(fresh, request).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	send(fresh, signed()).Refused(t, http.StatusUnauthorized, fapi.InvalidClient) // it was used up with the request that was refused

	unused := signed()
	send(assertion, unused).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	ok(send(c.Assertion(t, nil), unused)) // who did not authenticate uses nothing up

	wrong := c.RequestObject(t, backchannelForm(c, url.Values{"login_hint": {"nobody"}}), nil)
	send(c.Assertion(t, nil), wrong).Refused(t, http.StatusBadRequest, fapi.UnknownUserID)
	send(c.Assertion(t, nil), wrong).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)

	jti := rand.Text() // that an assertion and a request have one is no replay
	ok(send(c.Assertion(t, map[string]any{"jti": jti}), c.RequestObject(t, backchannelForm(c, nil), map[string]any{"jti": jti})))

	other := addBackchannel(t, s, "other", fapi.PrivateKeyJWT, fapi.Poll, nil)
	form := other.Authenticated(t, url.Values{"request": {other.RequestObject(t, backchannelForm(other, nil), map[string]any{"jti": jti})}})
	ok(other.Send(t, "/bc-authorize", form, nil))

	mtls := addBackchannel(t, s, "mtls", fapi.TLSClientAuth, fapi.Poll, map[string]any{
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.Key.Public(), KeyID: "mtls"}}},
	})
	mtls.Key = c.Key
	request = mtls.RequestObject(t, backchannelForm(mtls, url.Values{"login_hint": {"alice"}}), nil)
	s.SQL(t, "DELETE FROM authorizations")
	ok(mtls.Post(t, "/bc-authorize", url.Values{"request": {request}}))
	mtls.Post(t, "/bc-authorize", url.Values{"request": {request}}).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)

	s.SQL(t, "UPDATE replay_memory SET since = now()") // what was used before that, nobody knows any more
	two := authztest.Start(t, authztest.Options{Like: s})
	form = mtls.Authenticated(t, url.Values{"request": {mtls.RequestObject(t, backchannelForm(mtls, nil), nil)}})
	authztest.Do(t, mtls.HTTP(), postRequest(t, two.MTLSBase+"/bc-authorize", form)).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
}

// CIBA-02: what a signed request says counts, and nothing beside it.
func TestBackchannel_SignedRequest(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "poll", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"backchannel_authentication_request_signing_alg": "ES256"})
	other := addBackchannel(t, s, "other", fapi.PrivateKeyJWT, fapi.Poll, nil)
	form := func(more url.Values, claims map[string]any) url.Values {
		return url.Values{"request": {c.RequestObject(t, backchannelForm(c, more), claims)}}
	}
	with := func(form url.Values, name, value string) url.Values { form.Set(name, value); return form }
	now := time.Now()
	for _, test := range []struct {
		name   string
		client *authztest.Client
		form   url.Values
		status int
		want   fapi.Code
	}{
		{"signed", c, form(nil, nil), 200, ""},
		{"with its client_id beside it", c, with(form(nil, nil), "client_id", "poll"), 200, ""},
		{"requested_expiry as text", c, form(nil, map[string]any{"requested_expiry": "30"}), 200, ""},
		{"requested_expiry as a number", c, form(nil, map[string]any{"requested_expiry": 30}), 200, ""},
		{"unsigned, of a client that signs", c, backchannelForm(c, nil), 400, fapi.InvalidRequest},
		{"a parameter outside", c, with(form(nil, nil), "scope", "openid"), 400, fapi.InvalidRequest},
		{"another client's", other, form(nil, nil), 400, fapi.InvalidRequest},
		{"a wrong aud", c, form(nil, map[string]any{"aud": "https://other.example"}), 400, fapi.InvalidRequest},
		{"no jti", c, form(nil, map[string]any{"jti": nil}), 400, fapi.InvalidRequest},
		{"expired", c, form(nil, map[string]any{"exp": now.Add(-time.Minute).Unix()}), 400, fapi.InvalidRequest},
		{"§7.1's errors are the same: no hint", c, form(nil, map[string]any{"login_hint": nil}), 400, fapi.InvalidRequest},
		{"§7.1's errors are the same: nobody", c, form(url.Values{"login_hint": {"nobody"}}, nil), 400, fapi.UnknownUserID},
		{"§7.1's errors are the same: no openid", c, form(url.Values{"scope": {"accounts"}}, nil), 400, fapi.InvalidScope},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.SQL(t, "DELETE FROM authorizations")
			answer := test.client.Post(t, "/bc-authorize", test.form)
			switch {
			case test.want != "":
				answer.Refused(t, test.status, test.want)
			case answer.Status != test.status:
				t.Errorf("answered %d %s", answer.Status, answer.Body)
			}
		})
	}
}

// CIBA-03, CIBA Core §7.2: who is meant.
func TestBackchannel_Hints(t *testing.T) {
	t.Parallel()
	shop, stranger := authztest.NewKey(t), authztest.NewKey(t)
	s := authztest.Start(t, authztest.Options{CIBA: authz.CIBA{MaxOpen: 100, HintIssuers: fapi.HintIssuers{
		"https://shop.example": {Keys: []jose.JSONWebKey{{Key: shop.Public(), Algorithm: "ES256"}}},
	}}})
	s.AddCustomer(t, "bob", "77")
	public := addBackchannel(t, s, "public", fapi.PrivateKeyJWT, fapi.Poll, nil)
	pairwise := addBackchannel(t, s, "pairwise", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"subject_type": "pairwise"})
	elsewhere := addBackchannel(t, s, "elsewhere", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"subject_type": "pairwise", "sector_identifier_uri": "https://elsewhere.example/uris.json"})
	customer := func(name string) string {
		c, err := s.DB.FindCustomer(t.Context(), "default", name)
		if err != nil {
			t.Fatal(err)
		}
		return c.ID.String()
	}
	alice, bob := customer("alice"), customer("bob")
	tokens := func(c *authztest.Client) (idToken, sub string) {
		b := beginBackchannel(t, c, nil)
		decideBackchannel(t, s, c, b, "approve")
		answer := pollBackchannel(t, c, b)
		return answer.JSON["id_token"].(string), idClaims(t, answer.JSON)["sub"].(string)
	}
	own, err := keys.Open(t.Context(), s.DB, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	signed := func(typ string, changes map[string]any) string { // as the server does
		all := map[string]any{"iss": s.Issuer, "aud": public.ID, "sub": alice, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
		maps.Copy(all, changes)
		token, err := own.Sign(jose.ES256, typ, all)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	idToken, sub := tokens(public)
	pairwiseToken, pairwiseSub := tokens(pairwise)
	elsewhereToken, elsewhereSub := tokens(elsewhere)
	if sub != alice || pairwiseSub == alice || pairwiseSub == elsewhereSub {
		t.Fatalf("%s, %s, %s", sub, pairwiseSub, elsewhereSub)
	}
	claims := func(changes map[string]any) map[string]any {
		all := map[string]any{"iss": "https://shop.example", "aud": s.Issuer, "exp": time.Now().Add(time.Minute).Unix(), "preferred_username": "alice"}
		maps.Copy(all, changes)
		maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
		return all
	}
	hint := func(changes map[string]any) string {
		return authztest.Sign(t, jose.ES256, shop, nil, claims(changes))
	}
	named := func(sub string) map[string]any { return map[string]any{"preferred_username": nil, "sub": sub} }
	tampered := idToken[:len(idToken)-8] + strings.Map(func(r rune) rune { return 'A' }, idToken[len(idToken)-8:])
	for _, test := range []struct {
		name      string
		client    *authztest.Client
		parameter string
		value     string
		who       string
		want      fapi.Code
	}{
		{"a name", public, "login_hint", "bob", bob, ""},
		{"a name as the login page would take it", public, "login_hint", " Bob ", bob, ""},

		{"its ID token", public, "id_token_hint", idToken, alice, ""},
		{"its ID token, pairwise", pairwise, "id_token_hint", pairwiseToken, alice, ""},
		{"its ID token, of another sector", elsewhere, "id_token_hint", elsewhereToken, alice, ""},
		{"one that has expired", public, "id_token_hint", signed(keys.TypeIDToken, map[string]any{"exp": time.Now().Add(-24 * time.Hour).Unix()}), alice, ""},
		{"of a customer who is no more", public, "id_token_hint", signed(keys.TypeIDToken, map[string]any{"sub": "019c0000-0000-7000-8000-000000000000"}), "", fapi.UnknownUserID},
		{"of nobody", public, "id_token_hint", signed(keys.TypeIDToken, map[string]any{"sub": "nobody"}), "", fapi.UnknownUserID},
		{"an access token", public, "id_token_hint", signed("at+jwt", nil), "", fapi.InvalidRequest},
		{"one that is encrypted", public, "id_token_hint", "eyJhbGciOiJSU0EtT0FFUC0yNTYifQ.AA.AA.AA.AA", "", fapi.InvalidRequest},
		{"another client's", public, "id_token_hint", pairwiseToken, "", fapi.InvalidRequest},
		{"another client's of the same sector", pairwise, "id_token_hint", idToken, "", fapi.InvalidRequest},
		{"one that was tampered with", public, "id_token_hint", tampered, "", fapi.InvalidRequest},
		{"one that somebody else signed", public, "id_token_hint", authztest.Sign(t, jose.ES256, stranger, map[jose.HeaderKey]any{"kid": "x"},
			map[string]any{"iss": s.Issuer, "aud": public.ID, "sub": alice}), "", fapi.InvalidRequest},
		{"another kind of JWT", public, "id_token_hint", hint(nil), "", fapi.InvalidRequest},
		{"an oversized one", public, "id_token_hint", strings.Repeat("x", 17<<10), "", fapi.InvalidRequest},

		{"a name, vouched for", public, "login_hint_token", hint(nil), alice, ""},
		{"a sub", public, "login_hint_token", hint(named(alice)), alice, ""},
		{"a pairwise sub", pairwise, "login_hint_token", hint(named(pairwiseSub)), alice, ""},
		{"a pairwise sub of another sector", pairwise, "login_hint_token", hint(named(elsewhereSub)), "", fapi.UnknownUserID},
		{"the customer's id for a pairwise client", pairwise, "login_hint_token", hint(named(alice)), "", fapi.UnknownUserID},
		{"nobody", public, "login_hint_token", hint(map[string]any{"preferred_username": "nobody"}), "", fapi.UnknownUserID},
		{"no name at all", public, "login_hint_token", hint(map[string]any{"preferred_username": " "}), "", fapi.UnknownUserID},
		{"nobody's sub", public, "login_hint_token", hint(named("x")), "", fapi.UnknownUserID},
		{"nobody's id", public, "login_hint_token", hint(named("00000000-0000-0000-0000-000000000000")), "", fapi.UnknownUserID},
		{"expired", public, "login_hint_token", hint(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "", fapi.ExpiredLoginHintToken},
		{"without an end", public, "login_hint_token", hint(map[string]any{"exp": nil}), "", fapi.InvalidRequest},
		{"for another server", public, "login_hint_token", hint(map[string]any{"aud": "https://other.example"}), "", fapi.InvalidRequest},
		{"of an issuer that is not trusted", public, "login_hint_token", hint(map[string]any{"iss": "https://evil.example"}), "", fapi.InvalidRequest},
		{"signed by another", public, "login_hint_token", authztest.Sign(t, jose.ES256, stranger, nil, claims(nil)), "", fapi.InvalidRequest},
		{"an ID token of ours", public, "login_hint_token", idToken, "", fapi.InvalidRequest},
	} {
		t.Run(test.parameter+": "+test.name, func(t *testing.T) {
			answer := test.client.Post(t, "/bc-authorize", backchannelForm(test.client, url.Values{"login_hint": nil, test.parameter: {test.value}}))
			if test.want != "" {
				answer.Refused(t, http.StatusBadRequest, test.want)
				return
			}
			if answer.Status != http.StatusOK {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			id := authorizationOf(t, s, backchannelRequest{answer.JSON["auth_req_id"].(string), answer.JSON})
			if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE id = $1 AND for_customer_id = $2", [16]byte(id), test.who); n != 1 {
				t.Error("another customer is asked")
			}
		})
	}
}

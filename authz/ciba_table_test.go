package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// CIBA-09, CIBA-10, CIBA Core §7.1, §10.1: with each way to authenticate and to bind, tokens as from a code.
func TestBackchannel_Tokens(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api := s.Client("bank-api")
	bound := map[string]any{"tls_client_certificate_bound_access_tokens": true}
	for _, kind := range []struct {
		id      string
		profile fapi.ProfileName
		method  fapi.AuthMethod
		mode    fapi.DeliveryMode
		more    map[string]any
		bound   string // the member of cnf
	}{
		{"basic", fapi.OpenID, fapi.ClientSecretBasic, fapi.Poll, nil, ""},
		{"post-jwt", fapi.OpenID, fapi.ClientSecretPost, fapi.Poll, map[string]any{"access_token_format": "jwt"}, ""},
		{"key", fapi.OpenID, fapi.PrivateKeyJWT, fapi.Ping, heard, ""},
		{"dpop", fapi.OpenID, fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"dpop_bound_access_tokens": true}, "jkt"},
		{"mtls", fapi.OpenID, fapi.TLSClientAuth, fapi.Poll, bound, "x5t#S256"},
		{"self", fapi.OpenID, fapi.SelfSignedTLSClientAuth, fapi.Poll, bound, "x5t#S256"},
		{"fapi-key", fapi.FAPICIBA, fapi.PrivateKeyJWT, fapi.Poll, bound, "x5t#S256"},
		{"fapi-ping", fapi.FAPICIBA, fapi.PrivateKeyJWT, fapi.Ping, map[string]any{"tls_client_certificate_bound_access_tokens": true,
			"backchannel_client_notification_endpoint": "https://client.example/ciba"}, "x5t#S256"},
	} {
		t.Run(kind.id, func(t *testing.T) {
			more := map[string]any{"grant_types": []string{fapi.GrantCIBA, "refresh_token"}, "backchannel_token_delivery_mode": kind.mode, "redirect_uris": []string{}, "response_types": []string{}}
			if kind.profile == fapi.OpenID {
				delete(more, "redirect_uris")
				delete(more, "response_types")
				more["grant_types"] = []string{"authorization_code", fapi.GrantCIBA, "refresh_token"}
			}
			maps.Copy(more, kind.more)
			c := s.AddClient(t, kind.id, kind.profile, kind.method, more)
			c.Scope = "openid accounts offline_access"
			if kind.bound == "jkt" {
				c.DPoPKey = authztest.NewKey(t)
			}
			form := backchannelForm(c, nil)
			if kind.profile == fapi.FAPICIBA {
				if c.Certificate == nil {
					c.Certificate = s.Certificate(t, c.ID)
				}
				form = url.Values{"request": {c.RequestObject(t, form, nil)}}
			}
			answer := c.Post(t, "/bc-authorize", form)
			id, _ := answer.JSON["auth_req_id"].(string)
			b := backchannelRequest{id, answer.JSON}
			pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
			if kind.bound == "jkt" { // what was proved with the request does not matter
				c.DPoPKey = authztest.NewKey(t)
			}
			decideBackchannel(t, s, c, b, "approve")
			if kind.bound != "" && kind.method == fapi.PrivateKeyJWT { // CIBA-10: a poll that proves nothing loses nothing
				bare := *c
				bare.DPoPKey, bare.Certificate = nil, nil
				if refused := bare.Post(t, "/token", backchannelPoll(b)); refused.Status != http.StatusBadRequest {
					t.Errorf("CIBA-10: a poll without proof: %d %s", refused.Status, refused.Body)
				}
			}
			answer = pollBackchannel(t, c, b) // at once: slow_down is for requests that wait
			if answer.Status != http.StatusOK || answer.JSON["refresh_token"] == nil || (answer.JSON["token_type"] == "DPoP") != (kind.bound == "jkt") {
				t.Fatalf("CIBA-10: %d %s", answer.Status, answer.Body)
			}
			if answer.JSON["scope"] != "openid accounts offline_access" || answer.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("CIBA-10: %v %s", answer.Header, answer.Body)
			}
			access := answer.JSON["access_token"].(string)
			said := api.Post(t, "/introspect", url.Values{"token": {access}}).JSON
			if said["active"] != true || said["client_id"] != c.ID || fmt.Sprint(said["account_ids"]) != "[12]" {
				t.Errorf("introspection: %v", said)
			}
			if cnf, _ := said["cnf"].(map[string]any); (kind.bound == "") != (cnf == nil) || kind.bound != "" && cnf[kind.bound] == nil {
				t.Errorf("CIBA-10: cnf: %v", said["cnf"])
			}
			claims := idClaims(t, answer.JSON)
			if claims["aud"] != c.ID || claims["iss"] != s.Issuer || claims["acr"] != authn.CA || claims["auth_time"] == nil || claims["nonce"] != nil || claims["sid"] != nil ||
				claims["urn:openid:params:jwt:claim:auth_req_id"] != nil {
				t.Errorf("CIBA-10: the ID token: %v", claims)
			}
			if info := c.Get(t, "/userinfo", access); info.Status != http.StatusOK || info.JSON["sub"] != claims["sub"] {
				t.Errorf("userinfo: %d %s", info.Status, info.Body)
			}
			if refreshed := c.Post(t, "/token", refreshForm(answer.JSON)); refreshed.Status != http.StatusOK {
				t.Errorf("refresh: %d %s", refreshed.Status, refreshed.Body)
			}
			pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
		})
	}
}

// CIBA-09, CIBA Core §11: what a client is told that asks, at any replica.
func TestBackchannel_Polls(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	c := addBackchannel(t, one, "poll", fapi.ClientSecretBasic, fapi.Poll, nil)
	other := addBackchannel(t, one, "other", fapi.ClientSecretBasic, fapi.Poll, nil)
	push := addBackchannel(t, one, "push", fapi.ClientSecretPost, fapi.Push, heard)
	elsewhere := func(b backchannelRequest) *authztest.Answer {
		r := postRequest(t, two.Issuer+"/token", backchannelPoll(b))
		r.SetBasicAuth(c.ID, c.Secret)
		return authztest.Do(t, c.HTTP(), r)
	}
	soon(t, "the twin knows the client", func() bool { return elsewhere(backchannelRequest{authReqID: "x"}).JSON["error"] == "invalid_grant" })
	refused := func(answer *authztest.Answer, want fapi.Code) {
		t.Helper()
		answer.Refused(t, http.StatusBadRequest, want)
	}
	pending, slow := fapi.AuthorizationPending, fapi.SlowDown

	b := beginBackchannel(t, c, nil)
	for _, step := range []struct {
		wait  float64
		twice bool // asks the other server
		want  fapi.Code
	}{{0, false, pending}, {0, true, slow}, {6, false, slow}, {15, true, pending}, {8, false, slow}, {20, false, pending}} { // 5, 10, 15, 15, 20 s
		waitInterval(t, one, step.wait)
		ask := func() *authztest.Answer { return pollBackchannel(t, c, b) }
		if step.twice {
			ask = func() *authztest.Answer { return elsewhere(b) }
		}
		refused(ask(), step.want)
	}
	refused(pollBackchannel(t, other, b), fapi.InvalidGrant)
	refused(pollBackchannel(t, c, backchannelRequest{authReqID: "x"}), fapi.InvalidGrant)
	refused(pollBackchannel(t, c, backchannelRequest{authReqID: strings.Repeat("x", 5000)}), fapi.InvalidGrant)
	refused(pollBackchannel(t, c, backchannelRequest{}), fapi.InvalidRequest)
	refused(pollBackchannel(t, one.Client("web"), b), fapi.UnauthorizedClient)
	refused(c.Post(t, "/token", url.Values{"grant_type": {"authorization_code"}, "code": {b.authReqID}, "redirect_uri": {authztest.RedirectURI}}), fapi.InvalidGrant)
	device := addDevice(t, one, "tv", fapi.ClientSecretPost, nil)
	refused(device.Post(t, "/token", deviceForm(b.authReqID)), fapi.InvalidGrant)

	decideBackchannel(t, one, c, b, "deny")
	refused(pollBackchannel(t, other, b), fapi.InvalidGrant)
	refused(pollBackchannel(t, c, b), fapi.AccessDenied)
	refused(elsewhere(b), fapi.AccessDenied)

	b = beginBackchannel(t, c, nil)
	decideBackchannel(t, one, c, b, "approve")
	refused(pollBackchannel(t, other, b), fapi.InvalidGrant) // and has not spent it
	if answer := elsewhere(b); answer.Status != http.StatusOK {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	refused(pollBackchannel(t, c, b), fapi.InvalidGrant)

	b = beginBackchannel(t, c, nil)
	page := decideBackchannel(t, one, c, b, "approve")
	if len(page.Header.Values("Location")) > 0 {
		t.Errorf("sent to %v", page.Header)
	}
	waitInterval(t, one, 601) // approved, and not fetched
	refused(pollBackchannel(t, c, b), fapi.ExpiredToken)

	pushed := beginBackchannel(t, push, nil)
	refused(pollBackchannel(t, push, pushed), fapi.UnauthorizedClient)
	decideBackchannel(t, one, push, pushed, "deny")
	refused(pollBackchannel(t, push, pushed), fapi.UnauthorizedClient)
}

// CIBA-01, CIBA-09: a request ends when the client wants it to, within bounds, and then nobody can decide it.
func TestBackchannel_Expiry(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{CIBA: authz.CIBA{Lifetime: 2 * time.Minute}})
	c := addBackchannel(t, s, "poll", fapi.PrivateKeyJWT, fapi.Poll, nil)
	for asked, want := range map[string]float64{"": 120, "60": 60, "10": 10, "1": 10, "121": 120, "2147483647": 120} {
		b := beginBackchannel(t, c, url.Values{"requested_expiry": {asked}})
		if b.answer["expires_in"] != want {
			t.Errorf("requested_expiry %q: expires_in %v, want %v", asked, b.answer["expires_in"], want)
		}
		s.SQL(t, "DELETE FROM authorizations")
	}
	b := beginBackchannel(t, c, url.Values{"requested_expiry": {"30"}})
	browser := s.Browser(t)
	page := openBackchannel(t, s, browser, c, b)
	waitInterval(t, s, 31)
	if page = browser.Decide(t, page, "approve", "12"); page.ID() == "done_page" {
		t.Error("an expired request was approved")
	}
	for range 2 {
		pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.ExpiredToken)
	}
	if page := browser.Open(t, s.ApprovalURL(c.ID, authorizationOf(t, s, b))); page.ID() == "consent_page" {
		t.Error("an expired request is shown")
	}
}

// CIBA-08: who has too many requests waiting is not asked again, by whichever client; what nobody wants to be asked is said in
// the same words.
func TestBackchannel_TooManyOpen(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{CIBA: authz.CIBA{MaxOpen: 2}})
	s.AddCustomer(t, "bob", "77")
	c, other := addBackchannel(t, s, "poll", fapi.PrivateKeyJWT, fapi.Poll, nil), addBackchannel(t, s, "other", fapi.PrivateKeyJWT, fapi.Poll, nil)
	first := beginBackchannel(t, c, nil)
	beginBackchannel(t, other, nil)
	beginBackchannel(t, c, url.Values{"login_hint": {"bob"}})
	refuse := func(c *authztest.Client) string {
		t.Helper()
		answer := c.Post(t, "/bc-authorize", backchannelForm(c, nil))
		answer.Refused(t, http.StatusForbidden, fapi.AccessDenied)
		return string(answer.Body)
	}
	tooMany := refuse(c)
	refuse(other)
	decideBackchannel(t, s, c, first, "deny")
	beginBackchannel(t, c, nil)
	s.SQL(t, "DELETE FROM authorizations")
	s.SQL(t, "INSERT INTO muted_clients (customer_id, client_id, until) SELECT id, 'poll', now() + interval '1 hour' FROM customers")
	if muted := refuse(c); muted != tooMany {
		t.Errorf("%s and %s", muted, tooMany)
	}
	beginBackchannel(t, other, nil)
}

// RAR-01 to RAR-05, RES-01, GM-02 with CIBA.
func TestBackchannel_AsksForMore(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "rich", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{
		"authorization_details_types": []string{"account_information", "payment_initiation"}, "scope": "openid accounts offline_access grant_management_query",
	})
	ask := func(more url.Values) map[string]any {
		t.Helper()
		b := beginBackchannel(t, c, more)
		decideBackchannel(t, s, c, b, "approve")
		answer := pollBackchannel(t, c, b)
		if answer.Status != http.StatusOK {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		return answer.JSON
	}
	tokens := ask(url.Values{"authorization_details": {"[" + accountDetail + "," + paymentDetail + "]"}})
	has(t, "RAR-04: the token response", tokens, accountGranted, paymentDetail)
	has(t, "RAR-05: introspection", introspected(t, s, tokens), accountGranted, paymentDetail)

	tokens = ask(url.Values{"resource": {"https://other.example"}})
	if said := s.Client("other-api").Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}).JSON; fmt.Sprint(said["aud"]) != "[https://other.example]" {
		t.Errorf("RES-01: %v", said)
	}

	tokens = ask(url.Values{"grant_management_action": {"create"}, "scope": {"openid"}})
	grant, _ := tokens["grant_id"].(string)
	if grant == "" {
		t.Fatalf("GM-02: %v", tokens)
	}
	tokens = ask(url.Values{"grant_management_action": {"merge"}, "grant_id": {grant}, "authorization_details": {"[" + paymentDetail + "]"}, "scope": {"openid"}})
	has(t, "GM-03: merged", tokens, paymentDetail)
	if tokens["grant_id"] != grant {
		t.Errorf("GM-03: %v", tokens["grant_id"])
	}
	s.AddCustomer(t, "bob", "77")
	c.Post(t, "/bc-authorize", backchannelForm(c, url.Values{"login_hint": {"bob"}, "grant_management_action": {"merge"}, "grant_id": {grant}})).
		Refused(t, http.StatusBadRequest, fapi.InvalidGrantID) // it is alice's
}

// UK Open Banking: the consent that a request is about.
func TestBackchannel_Consent(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "77")
	c := addBackchannel(t, s, "aisp", fapi.TLSClientAuth, fapi.Poll, map[string]any{"grant_types": []string{"authorization_code", "refresh_token", "client_credentials", fapi.GrantCIBA}})
	c.Scope = "openid accounts"
	other := addBackchannel(t, s, "other", fapi.TLSClientAuth, fapi.Poll, nil)
	about := func(id string, more url.Values) url.Values {
		form := url.Values{"claims": {fmt.Sprintf(`{"id_token":{"openbanking_intent_id":{"value":%q,"essential":true}}}`, id)}}
		maps.Copy(form, more)
		return form
	}
	refused := func(c *authztest.Client, form url.Values) {
		t.Helper()
		c.Post(t, "/bc-authorize", backchannelForm(c, form)).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	}
	id := c.Consent(t)
	refused(other, about(id, url.Values{"scope": {"openid accounts"}}))
	b := beginBackchannel(t, c, about(id, nil))
	refused(c, about(id, nil)) // CIBA-08: one at a time
	decideBackchannel(t, s, c, b, "approve")
	answer := pollBackchannel(t, c, b)
	if answer.Status != http.StatusOK || idClaims(t, answer.JSON)["openbanking_intent_id"] != id || introspected(t, s, answer.JSON)["consent_id"] != id {
		t.Errorf("%d %s; %v", answer.Status, answer.Body, introspected(t, s, answer.JSON))
	}
	refused(c, about(id, url.Values{"login_hint": {"bob"}})) // it is alice's
	decideBackchannel(t, s, c, beginBackchannel(t, c, about(id, nil)), "deny")

	id = c.Consent(t)
	b = beginBackchannel(t, c, about(id, nil))
	decideBackchannel(t, s, c, b, "deny")
	if n := s.Count(t, "SELECT count(*) FROM consents WHERE id = $1 AND status = 'Rejected'", id); n != 1 {
		t.Error("a consent that was refused still waits")
	}
	refused(c, about(id, nil))
}

// acr_values, and the amount, call for a second factor.
func TestBackchannel_SecondFactor(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{RequireSCA: true, LowValue: fapi.AmountLimits{"EUR": "30"}, CIBA: authz.CIBA{MaxOpen: 100}})
	c := addBackchannel(t, s, "shop", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"authorization_details_types": []string{"payment_initiation"}})
	pay := func(amounts ...string) url.Values {
		var details []string
		for _, a := range amounts {
			amount, currency, _ := strings.Cut(a, " ")
			details = append(details, strings.NewReplacer("123.50", amount, "EUR", currency).Replace(paymentDetail))
		}
		return url.Values{"authorization_details": {"[" + strings.Join(details, ",") + "]"}}
	}
	for _, test := range []struct {
		name   string
		more   url.Values
		strong bool
	}{
		{"neither", nil, false},
		{"acr_values", url.Values{"acr_values": {authn.SCA}}, true},
		{"acr_values that less will do for", url.Values{"acr_values": {authn.CA + " " + authn.SCA}}, false},
		{"an essential acr", url.Values{"claims": {`{"id_token":{"acr":{"essential":true,"values":["` + authn.SCA + `"]}}}`}}, true},
		{"a low amount", pay("30.00 EUR"), false},
		{"a cent more", pay("30.01 EUR"), true},
		{"a low amount in another currency", pay("1 USD"), true},
		{"low amounts that are not low together", pay("20 EUR", "10.01 EUR"), true},
		{"low amounts that are low together", pay("20 EUR", "10.00 EUR"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.SQL(t, "DELETE FROM second_factors")
			b, browser := beginBackchannel(t, c, test.more), s.Browser(t)
			page := openBackchannel(t, s, browser, c, b)
			want := authn.CA
			if test.strong {
				want = authn.SCA
				page = enrolled(t, browser, page)
			}
			browser.Decide(t, page, "approve", "12").Is(t, "done_page")
			answer := pollBackchannel(t, c, b)
			if answer.Status != http.StatusOK || idClaims(t, answer.JSON)["acr"] != want { // CIBA-10, FCB-08
				t.Errorf("%d %s: acr %v, want %s", answer.Status, answer.Body, idClaims(t, answer.JSON)["acr"], want)
			}
		})
	}
}

// RAR, PSD2: amounts call for a second factor on every way to the customer.
func TestLowValue_OnEveryJourney(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{RequireSCA: true, LowValue: fapi.AmountLimits{"EUR": "123.49"}})
	low := strings.Replace("["+paymentDetail+"]", "123.50", "123.49", 1)
	types := map[string]any{"authorization_details_types": []string{"payment_initiation"}}
	pushes := rich(t, s, "pushes", nil)
	plain := s.AddClient(t, "plain", fapi.OpenID, fapi.ClientSecretBasic, types)
	tv := addDevice(t, s, "tv", fapi.NoAuth, types)
	journeys := map[string]func(*authztest.Browser, string) *authztest.Page{
		"pushed": func(b *authztest.Browser, details string) *authztest.Page {
			return b.Authorize(t, pushes.ID, pushes.Push(t, map[string]string{"authorization_details": details}))
		},
		"plain": func(b *authztest.Browser, details string) *authztest.Page {
			return b.Open(t, "/authorize?"+plain.Params(map[string]string{"authorization_details": details}).Encode())
		},
		"device": func(b *authztest.Browser, details string) *authztest.Page {
			d := beginDevice(t, tv, url.Values{"authorization_details": {details}, "scope": {"openid"}})
			return b.Submit(t, b.Open(t, "/device").Is(t, "device_page"), url.Values{"user_code": {d.userCode}})
		},
	}
	for _, name := range slices.Sorted(maps.Keys(journeys)) {
		for details, want := range map[string]string{low: "consent_page", "[" + paymentDetail + "]": "enrol_page"} {
			b := s.Browser(t)
			if page := b.Login(t, journeys[name](b, details)); page.ID() != want {
				t.Errorf("%s, %s: %s, want %s", name, details, page.ID(), want)
			}
		}
	}
}

// The customer is who may decide, while they are one.
func TestBackchannel_CustomerGone(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "77")
	c := addBackchannel(t, s, "poll", fapi.PrivateKeyJWT, fapi.Poll, nil)
	b, browser := beginBackchannel(t, c, nil), s.Browser(t)
	page := browser.LoginAs(t, browser.Open(t, s.ApprovalURL(c.ID, authorizationOf(t, s, b))), "bob")
	if page.ID() == "consent_page" || page.ID() == "done_page" {
		t.Errorf("somebody else sees %s", page.ID())
	}
	pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)

	browser = s.Browser(t)
	page = openBackchannel(t, s, browser, c, b)
	s.SQL(t, "UPDATE customers SET disabled_at = now()")
	if page = browser.Decide(t, page, "approve", "12"); page.ID() == "done_page" {
		t.Error("a disabled customer has decided")
	}
	waitInterval(t, s, 10)
	pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
	c.Post(t, "/bc-authorize", backchannelForm(c, nil)).Refused(t, http.StatusBadRequest, fapi.UnknownUserID)

	s.SQL(t, "UPDATE customers SET disabled_at = NULL")
	b = beginBackchannel(t, c, nil)
	decideBackchannel(t, s, c, b, "approve")
	customer, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
	if err != nil {
		t.Fatal(err)
	}
	s.SQL(t, "DELETE FROM customers WHERE id = $1", customer.ID.String())
	pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
}

// FCB-06, FCB-12: FAPI-CIBA takes PS256 and ES256, signed requests only, and tokens for who holds the certificate.
func TestBackchannel_FAPI(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := authztest.NewKey(t)
	c := s.AddClient(t, "fapi", fapi.FAPICIBA, fapi.PrivateKeyJWT, map[string]any{
		"grant_types": []string{fapi.GrantCIBA}, "backchannel_token_delivery_mode": "poll", "redirect_uris": []string{}, "response_types": []string{}, "tls_client_certificate_bound_access_tokens": true,
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "fapi", Use: "sig"}, {Key: rsaKey.Public(), KeyID: "rsa", Use: "sig"}}},
	})
	c.Key, c.Certificate, c.Scope = key, s.Certificate(t, "fapi"), "openid accounts"
	object := func(alg jose.SignatureAlgorithm) url.Values {
		now := time.Now()
		claims := map[string]any{"iss": c.ID, "aud": s.Issuer, "jti": fmt.Sprint(now.UnixNano()), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix()}
		for name, values := range backchannelForm(c, nil) {
			claims[name] = values[0]
		}
		payload, _ := json.Marshal(claims)
		signer, kid := any(rsaKey), "rsa"
		if alg == jose.ES256 {
			signer, kid = key, "fapi"
		}
		return url.Values{"request": {authztest.Sign(t, alg, signer, map[jose.HeaderKey]any{"kid": kid}, payload)}}
	}
	for _, test := range []struct {
		name string
		form url.Values
		want fapi.Code
	}{
		{"FCB-12: PS256", object(jose.PS256), ""},
		{"FCB-12: ES256", object(jose.ES256), ""},
		{"FCB-12: RS256", object(jose.RS256), fapi.InvalidRequest},
		{"FCB-06: unsigned", backchannelForm(c, nil), fapi.InvalidRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := c.Post(t, "/bc-authorize", test.form)
			if test.want != "" {
				answer.Refused(t, http.StatusBadRequest, test.want)
				return
			}
			b := backchannelRequest{fmt.Sprint(answer.JSON["auth_req_id"]), answer.JSON}
			decideBackchannel(t, s, c, b, "approve")
			bare := *c
			bare.Certificate = nil
			pollBackchannel(t, &bare, b).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
			tokens := pollBackchannel(t, c, b).JSON
			cnf, _ := introspected(t, s, tokens)["cnf"].(map[string]any)
			if cnf["x5t#S256"] == nil || idClaims(t, tokens)["acr"] == nil {
				t.Errorf("FCB-08, FCB-12: %v", tokens)
			}
			if info := bare.Get(t, "/userinfo", tokens["access_token"].(string)); info.Status != http.StatusUnauthorized {
				t.Errorf("FCB-12: without the certificate: %d", info.Status)
			}
		})
	}
}

// A poll is one statement, whatever comes of it.
func TestBackchannel_PollBudget(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "poll", fapi.ClientSecretBasic, fapi.Poll, nil)
	b := beginBackchannel(t, c, nil)
	for _, want := range []fapi.Code{fapi.AuthorizationPending, fapi.SlowDown} {
		soon(t, "a poll with nothing in the background", func() bool {
			s.SQL(t, "UPDATE authorizations SET last_polled_at = CASE WHEN $1 THEN now() END", want == fapi.SlowDown)
			s.Trace.Reset()
			pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, want)
			return s.Trace.RoundTrips() == 1 && s.Trace.Statements() == 1
		})
	}
}

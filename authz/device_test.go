package authz_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// addDevice registers a client that may use the device grant.
func addDevice(t *testing.T, s *authztest.Server, id string, method fapi.AuthMethod, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{"grant_types": []string{"authorization_code", "refresh_token", fapi.GrantDeviceCode}}
	for name, value := range more {
		all[name] = value
	}
	c := s.AddClient(t, id, fapi.OpenID, method, all)
	c.Scope = "openid accounts offline_access"
	return c
}

// deviceRequest is what a device got for its request.
type deviceRequest struct{ code, userCode, complete string }

func beginDevice(t *testing.T, c *authztest.Client, more url.Values) deviceRequest {
	t.Helper()
	form := url.Values{"scope": {c.Scope}}
	for name, values := range more {
		form[name] = values
	}
	if c.Method == fapi.NoAuth {
		form.Set("client_id", c.ID)
	}
	answer := c.Post(t, "/device_authorization", form)
	if answer.Status != http.StatusOK {
		t.Fatalf("device_authorization answered %d %s", answer.Status, answer.Body)
	}
	text := func(name string) string { s, _ := answer.JSON[name].(string); return s }
	return deviceRequest{text("device_code"), text("user_code"), text("verification_uri_complete")}
}

func deviceForm(code string) url.Values {
	return url.Values{"grant_type": {fapi.GrantDeviceCode}, "device_code": {code}}
}

func pollDevice(t *testing.T, c *authztest.Client, d deviceRequest) *authztest.Answer {
	t.Helper()
	return c.Post(t, "/token", deviceForm(d.code))
}

// pollAt polls as a public client at a server that it was not registered at.
func pollAt(t *testing.T, c *authztest.Client, s *authztest.Server, d deviceRequest) *authztest.Answer {
	t.Helper()
	return authztest.Do(t, c.HTTP(), postRequest(t, s.Issuer+"/token", c.Authenticated(t, deviceForm(d.code))))
}

func knownTo(t *testing.T, c *authztest.Client, s *authztest.Server) {
	t.Helper()
	soon(t, "the twin knows the client", func() bool { return pollAt(t, c, s, deviceRequest{code: "x"}).JSON["error"] == "invalid_grant" })
}

// enterDevice types the user code and logs in, up to the consent page.
func enterDevice(t *testing.T, s *authztest.Server, b *authztest.Browser, userCode string) *authztest.Page {
	t.Helper()
	page := b.Submit(t, b.Open(t, "/device").Is(t, "device_page"), url.Values{"user_code": {userCode}})
	if page.ID() == "login_page" {
		page = b.Login(t, page)
	}
	return page
}

func decideDevice(t *testing.T, s *authztest.Server, d deviceRequest, decision string) *authztest.Page {
	t.Helper()
	b := s.Browser(t)
	return b.Decide(t, enterDevice(t, s, b, d.userCode), decision, "12").Is(t, "done_page")
}

// waitInterval lets time pass for all requests.
func waitInterval(t *testing.T, s *authztest.Server, seconds float64) {
	t.Helper()
	s.SQL(t, fmt.Sprintf(`UPDATE authorizations SET last_polled_at = last_polled_at - interval '%f seconds',
		code_expires_at = code_expires_at - interval '%[1]f seconds', expires_at = expires_at - interval '%[1]f seconds'`, seconds))
}

// RFC 8628, from the request to the tokens, with each way to authenticate and to bind.
func TestDevice_Flow(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api := s.Client("bank-api")
	for _, kind := range []struct {
		id        string
		method    fapi.AuthMethod
		more      map[string]any
		tokenType string
	}{
		{"tv", fapi.NoAuth, nil, "Bearer"},
		{"tv-secret", fapi.ClientSecretBasic, nil, "Bearer"},
		{"tv-post", fapi.ClientSecretPost, map[string]any{"access_token_format": "jwt"}, "Bearer"},
		{"tv-bound", fapi.TLSClientAuth, map[string]any{"tls_client_certificate_bound_access_tokens": true}, "Bearer"},
		{"tv-dpop", fapi.PrivateKeyJWT, map[string]any{"dpop_bound_access_tokens": true}, "DPoP"},
	} {
		t.Run(kind.id, func(t *testing.T) {
			c := addDevice(t, s, kind.id, kind.method, kind.more)
			if kind.tokenType == "DPoP" {
				c.DPoPKey = authztest.NewKey(t)
			}
			d := beginDevice(t, c, nil)
			pollDevice(t, c, d).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
			decideDevice(t, s, d, "approve")
			answer := pollDevice(t, c, d) // at once: slow_down is for requests that wait
			if answer.Status != http.StatusOK || answer.JSON["token_type"] != kind.tokenType || answer.JSON["refresh_token"] == nil || answer.JSON["id_token"] == nil {
				t.Fatalf("%d %s", answer.Status, answer.Body)
			}
			if answer.JSON["scope"] != "openid accounts offline_access" {
				t.Errorf("scope %v", answer.JSON["scope"])
			}
			access := answer.JSON["access_token"].(string)
			said := api.Post(t, "/introspect", url.Values{"token": {access}}).JSON
			if said["active"] != true || said["client_id"] != c.ID || fmt.Sprint(said["account_ids"]) != "[12]" {
				t.Errorf("introspection: %v", said)
			}
			if bound := said["cnf"] != nil; bound != (kind.more["dpop_bound_access_tokens"] != nil || kind.more["tls_client_certificate_bound_access_tokens"] != nil) {
				t.Errorf("cnf: %v", said["cnf"])
			}
			if info := c.Get(t, "/userinfo", access); info.Status != http.StatusOK {
				t.Errorf("userinfo: %d", info.Status)
			}
			if refreshed := c.Post(t, "/token", refreshForm(answer.JSON)); refreshed.Status != http.StatusOK {
				t.Errorf("refresh: %d %s", refreshed.Status, refreshed.Body)
			}
			pollDevice(t, c, d).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
		})
	}
}

// RFC 8628 §3.2.
func TestDevice_Answer(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	answer := c.Post(t, "/device_authorization", url.Values{"client_id": {"tv"}, "scope": {"accounts"}})
	code, _ := base64.RawURLEncoding.DecodeString(fmt.Sprint(answer.JSON["device_code"]))
	user := fmt.Sprint(answer.JSON["user_code"])
	if answer.Status != http.StatusOK || len(code) < 16 || answer.JSON["expires_in"] != 600.0 || answer.JSON["interval"] != 5.0 ||
		!regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(user) ||
		answer.JSON["verification_uri"] != s.Issuer+"/device" || answer.JSON["verification_uri_complete"] != s.Issuer+"/device?user_code="+user {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	if answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", answer.Header)
	}
	if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE position($1::bytea IN request) > 0 OR user_code_hash = $1 OR user_code_hash = sha256($1)",
		[]byte(fapi.ReadUserCode(user))); n != 0 {
		t.Error("the user code is to be read from the database")
	}
	metadata := c.Raw(t, http.MethodGet, "/.well-known/oauth-authorization-server", "", nil).JSON
	if metadata["device_authorization_endpoint"] != s.Issuer+"/device_authorization" || !strings.Contains(fmt.Sprint(metadata["grant_types_supported"]), fapi.GrantDeviceCode) {
		t.Errorf("metadata: %v, %v", metadata["device_authorization_endpoint"], metadata["grant_types_supported"])
	}
}

// RFC 8628 §3.1: errors are those of RFC 6749 §5.2.
func TestDevice_RequestRefused(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	tv, secret := addDevice(t, s, "tv", fapi.NoAuth, nil), addDevice(t, s, "tv-secret", fapi.ClientSecretBasic, nil)
	wrong := *secret
	wrong.Secret = "guessed"
	for _, test := range []struct {
		name   string
		client *authztest.Client
		form   url.Values
		status int
		want   fapi.Code
	}{
		{"§3.1: the grant was not registered", s.Client("web"), url.Values{"scope": {"accounts"}}, 400, fapi.UnauthorizedClient},
		{"§3.1: a FAPI client", s.Client("tpp"), url.Values{"scope": {"accounts"}}, 400, fapi.UnauthorizedClient},
		{"§3.1: authentication is as registered", &wrong, url.Values{"scope": {"accounts"}}, 401, fapi.InvalidClient},
		{"§3.1: no client", tv, url.Values{"scope": {"accounts"}, "client_id": {""}}, 401, fapi.InvalidClient},
		{"§3.1: an unknown client", tv, url.Values{"scope": {"accounts"}, "client_id": {"nobody"}}, 401, fapi.InvalidClient},
		{"§3.1: another client's id beside its own", secret, url.Values{"scope": {"accounts"}, "client_id": {"tv"}}, 401, fapi.InvalidClient},
		{"RFC 6749 §3.2: a parameter twice", tv, url.Values{"scope": {"accounts", "openid"}, "client_id": {"tv"}}, 400, fapi.InvalidRequest},
		{"RFC 6749 §3.3: no scope", tv, url.Values{"client_id": {"tv"}}, 400, fapi.InvalidScope},
		{"RFC 8707 §2: another resource", tv, url.Values{"scope": {"accounts"}, "client_id": {"tv"}, "resource": {"https://evil.example"}}, 400, fapi.InvalidTarget},
		{"RFC 9396 §5: an unknown type", tv, url.Values{"client_id": {"tv"}, "authorization_details": {`[{"type":"x"}]`}}, 400, fapi.InvalidAuthorizationDetails},
		{"a consent that there is not", tv, url.Values{"client_id": {"tv"}, "authorization_details": {`[{"type":"account_information","consent_id":"aac-x"}]`}}, 400, fapi.InvalidRequest},
		{"an acr that we cannot give", tv, url.Values{"client_id": {"tv"}, "scope": {"accounts"}, "claims": {`{"id_token":{"acr":{"essential":true,"value":"x"}}}`}}, 400, fapi.UnmetAuthentication},
	} {
		t.Run(test.name, func(t *testing.T) {
			form := test.form
			if test.client.Method == fapi.PrivateKeyJWT {
				form = test.client.Authenticated(t, form)
			}
			test.client.Send(t, "/device_authorization", form, nil).Refused(t, test.status, test.want)
		})
	}
}

// RFC 8628 §3.5.
func TestDevice_Polls(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	c := addDevice(t, one, "tv", fapi.NoAuth, nil)
	other := addDevice(t, one, "tv-other", fapi.NoAuth, nil)
	knownTo(t, c, two)
	pending, slow := fapi.AuthorizationPending, fapi.SlowDown

	d := beginDevice(t, c, nil)
	for _, step := range []struct {
		wait float64
		at   *authztest.Server
		want fapi.Code
	}{{0, one, pending}, {0, two, slow}, {6, one, slow}, {15, two, pending}, {8, one, slow}, {20, one, pending}} { // 5, 10, 15, 15, 20 s
		waitInterval(t, one, step.wait)
		pollAt(t, c, step.at, d).Refused(t, http.StatusBadRequest, step.want)
	}
	pollDevice(t, other, d).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
	c.Post(t, "/token", deviceForm("")).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	c.Post(t, "/token", deviceForm(strings.Repeat("x", 5000))).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
	one.Client("web").Post(t, "/token", deviceForm(d.code)).Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient)
	c.Post(t, "/token", url.Values{"grant_type": {"authorization_code"}, "code": {d.code}, "redirect_uri": {authztest.RedirectURI}}).
		Refused(t, http.StatusBadRequest, fapi.InvalidGrant)

	decideDevice(t, two, d, "deny")
	pollDevice(t, c, d).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
	pollAt(t, c, two, d).Refused(t, http.StatusBadRequest, fapi.AccessDenied)

	d = beginDevice(t, c, nil)
	waitInterval(t, one, 601)
	pollDevice(t, c, d).Refused(t, http.StatusBadRequest, fapi.ExpiredToken)
	if page := enterDevice(t, one, one.Browser(t), d.userCode).Is(t, "device_page"); page.Status != http.StatusUnprocessableEntity {
		t.Errorf("an expired user code: %d", page.Status)
	}

	d = beginDevice(t, c, nil)
	page := decideDevice(t, one, d, "approve")
	if len(page.Header.Values("Location")) > 0 || !strings.Contains(string(page.Body), "return to your device") {
		t.Errorf("%s", page.Body)
	}
	if answer := pollAt(t, c, two, d); answer.Status != http.StatusOK {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	pollDevice(t, c, d).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
}

// Approve, expire and poll at once, on two servers: one token at most, and none without the customer's yes.
func TestDevice_Race(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	c := addDevice(t, one, "tv", fapi.NoAuth, nil)
	knownTo(t, c, two)
	tokens := 0
	for round := range 12 {
		d := beginDevice(t, c, nil)
		p := loggedIn(t, one)
		page := p.next(t, two, p.submit(t, one, p.get(t, one, "/device"), url.Values{"user_code": {d.userCode}})).Is(t, "consent_page")
		form, action := page.Form(t)
		form.Set("decision", "approve")
		form.Set("account", "12")
		approval := postRequest(t, one.Issuer+action.RequestURI(), form)
		approval.Header.Set("Sec-Fetch-Site", "same-origin")
		for _, cookie := range p.jar.Cookies(approval.URL) {
			approval.AddCookie(cookie)
		}
		requests := []*http.Request{approval}
		for i := range 8 {
			base := []string{one.Issuer, two.Issuer}[i%2]
			requests = append(requests, postRequest(t, base+"/token", c.Authenticated(t, deviceForm(d.code))))
		}
		if round%3 == 0 {
			waitInterval(t, one, 600-float64(round+1)/100) // it ends while they race
		}
		outcomes := volley(t, c, requests)
		won := 0
		for _, o := range outcomes[1:] {
			switch {
			case o.status == http.StatusOK:
				won++
			case o.status != http.StatusBadRequest:
				t.Errorf("%v", o)
			}
		}
		if answer := pollDevice(t, c, d); answer.Status == http.StatusOK {
			won++
		}
		if won > 1 || round%3 != 0 && won != 1 {
			t.Errorf("round %d: %d tokens; %v", round, won, outcomes)
		}
		tokens += won
	}
	t.Logf("%d tokens in 12 rounds", tokens)
}

// deviceFlow prepares a device's request for a budget. A poll that finds nothing is refused, and costs what one does that
// finds tokens: TestDevice_PollBudget.
func deviceFlow(then func(*testing.T, *authztest.Server, *authztest.Client, deviceRequest) func(*testing.T) *authztest.Answer) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := addDevice(t, s, "tv-"+rand.Text(), fapi.NoAuth, nil)
		return then(t, s, c, beginDevice(t, c, nil))
	}
}

// A poll is one statement, whatever comes of it.
func TestDevice_PollBudget(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	d := beginDevice(t, c, nil)
	for range 3 { // pending, slow_down
		pollDevice(t, c, d)
	}
	soon(t, "a poll with nothing in the background", func() bool {
		s.Trace.Reset()
		pollDevice(t, c, d)
		return s.Trace.RoundTrips() == 1 && s.Trace.Statements() == 1
	})
}

package authz_test

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/resource"
	"github.com/countersign/countersign/storage"
)

// tfaToken takes a customer through Fineract's two-factor API, with an authenticator app that they get here.
func tfaToken(t *testing.T, s *authztest.Server, username string) string {
	t.Helper()
	c, err := s.DB.FindCustomer(t.Context(), "default", username)
	if err != nil {
		t.Fatal(err)
	}
	secret, id := []byte("12345678901234567890"), storage.NewID()
	s.SQL(t, `DELETE FROM second_factors WHERE customer_id = $1`, [16]byte(c.ID))
	s.SQL(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'totp', $3, now())`,
		[16]byte(id), [16]byte(c.ID), s.DB.Keys().Seal("second_factors.secret", id[:], secret))
	code := codeOf(t, base32.StdEncoding.EncodeToString(secret), time.Now())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Issuer+"/fineract-provider/api/v1/twofactor/validate?token="+code, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Fineract-Platform-TenantId", "default")
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(username+":"+authztest.Password)))
	answer := authztest.Do(t, s.Client("web").HTTP(), r)
	token, _ := answer.JSON["token"].(string)
	if answer.Status != http.StatusOK || token == "" {
		t.Fatalf("validate: %d %s", answer.Status, answer.Body)
	}
	return token
}

// grantTo is what an app gets for another customer.
func grantTo(t *testing.T, s *authztest.Server, c *authztest.Client, username, account string) string {
	t.Helper()
	b := s.Browser(t)
	page := b.LoginAs(t, b.Authorize(t, c.ID, c.Push(t, nil)), username)
	return c.Exchange(t, s.Response(t, b.Decide(t, page, "approve", account)).Get("code"))["access_token"].(string)
}

// A resource server learns of both tokens together: whether this customer has shown both factors.
func TestTwoFactor_Check(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "99")
	app, api := s.Client("web"), s.Client("bank-api")
	access := app.Grant(t, nil)["access_token"].(string)
	bobs := grantTo(t, s, app, "bob", "99")
	alone := app.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})["access_token"].(string)
	elsewhere := app.Grant(t, map[string]string{"resource": "https://other.example"})["access_token"].(string)
	token := tfaToken(t, s, "alice")

	ask := func(form url.Values) *authztest.Answer { return api.Post(t, "/introspect/two-factor", form) }
	active := func(name string, form url.Values, want bool) {
		t.Helper()
		a := ask(form)
		if a.Status != http.StatusOK || a.JSON["active"] != want || !want && string(a.Body) != `{"active":false}` {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	both := url.Values{"access_token": {access}, "token": {token}}
	a := ask(both)
	exp, _ := a.JSON["exp"].(float64)
	if in := time.Until(time.Unix(int64(exp), 0)); a.JSON["active"] != true || a.JSON["bypass"] != nil || in < 23*time.Hour || in > 24*time.Hour || len(a.JSON) != 2 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	active("no TFA token", url.Values{"access_token": {access}}, false)
	active("an empty one", url.Values{"access_token": {access}, "token": {""}}, false)
	active("a wrong one", url.Values{"access_token": {access}, "token": {"wrong"}}, false)
	active("in capitals", url.Values{"access_token": {access}, "token": {strings.ToUpper(token)}}, false)
	active("oversized", url.Values{"access_token": {access}, "token": {strings.Repeat("a", 4096)}}, false)
	active("another customer's", url.Values{"access_token": {bobs}, "token": {token}}, false)
	active("of a client alone", url.Values{"access_token": {alone}, "token": {token}}, false)
	active("an access token for another resource", url.Values{"access_token": {elsewhere}, "token": {token}}, false)
	active("no access token", url.Values{"token": {token}}, false)
	active("noise", url.Values{"access_token": {"noise"}, "token": {token}}, false)

	ask(url.Values{"access_token": {access}, "token": {token, token}}).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	app.Post(t, "/introspect/two-factor", both).Refused(t, http.StatusForbidden, fapi.UnauthorizedClient)
	if a := s.Client("other-api").Post(t, "/introspect/two-factor", both); string(a.Body) != `{"active":false}` {
		t.Errorf("a resource server that the token is not for: %s", a.Body)
	}
	anonymous, err := http.NewRequest(http.MethodPost, s.Issuer+"/introspect/two-factor", strings.NewReader(both.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	anonymous.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	authztest.Do(t, app.HTTP(), anonymous).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)

	s.Trace.Reset()
	ask(both)
	if n := s.Trace.RoundTrips(); n != 2 {
		t.Errorf("%d round trips", n)
	}

	s.SQL(t, `UPDATE customers SET permissions = '{ALL_FUNCTIONS}'`)
	active("ALL_FUNCTIONS", url.Values{"access_token": {access}}, false)
	s.SQL(t, `UPDATE customers SET permissions = '{BYPASS_TWOFACTOR}'`)
	if a := ask(url.Values{"access_token": {access}}); a.JSON["active"] != true || a.JSON["bypass"] != true {
		t.Errorf("BYPASS_TWOFACTOR: %s", a.Body)
	}
	s.SQL(t, `UPDATE customers SET permissions = '{}'`)

	s.SQL(t, `UPDATE fineract_tfa_tokens SET tenant = 'other'`)
	active("another tenant's", both, false)
	s.SQL(t, `UPDATE fineract_tfa_tokens SET tenant = 'default', valid_to = now()`)
	active("expired", both, false)
	s.SQL(t, `UPDATE fineract_tfa_tokens SET valid_to = now() + interval '1 hour'`)
	active("the token again", both, true)
	s.SQL(t, `UPDATE customers SET disabled_at = now()`)
	active("a disabled customer", both, false)
	s.SQL(t, `UPDATE customers SET disabled_at = NULL`)
	active("the customer is back, the token is not", both, false)
	app.Post(t, "/revoke", url.Values{"token": {access}})
	active("revoked", url.Values{"access_token": {access}, "token": {tfaToken(t, s, "alice")}}, false)
}

// The whole of it: an app written for Fineract, a service behind the middleware, the server.
func TestTwoFactor_Middleware(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api, app := s.Client("bank-api"), s.Client("web")
	guard, err := resource.New(t.Context(), resource.Config{
		Issuer: s.Issuer, Audience: authztest.Resource, ClientID: "bank-api", Authentication: resource.Certificate(*api.Certificate), RootCAs: s.Roots,
		AllowBearer: true, CacheFor: 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	service := guard.Require(resource.Need{Scopes: []string{"accounts"}}, guard.TwoFactor(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(resource.PrincipalFrom(r.Context()).FineractClientID)
	})))
	access := app.Grant(t, nil)["access_token"].(string)
	call := func(token string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(http.MethodGet, "/accounts", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+access)
		if token != "" {
			r.Header.Set(resource.TFATokenHeader, token)
		}
		service.ServeHTTP(w, r)
		return w
	}
	if w := call(""); w.Code != http.StatusForbidden || w.Header().Get("WWW-Authenticate") != `Bearer error="insufficient_scope"` {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := call("wrong"); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != `Basic realm="Fineract Platform API Two Factor"` {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	token := tfaToken(t, s, "alice")
	if w := call(token); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != "7" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r, err := http.NewRequest(http.MethodPost, s.Issuer+"/fineract-provider/api/v1/twofactor/invalidate", strings.NewReader(`{"token":"`+token+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("alice", authztest.Password)
	r.Header.Set("Fineract-Platform-TenantId", "default")
	r.Header.Set(resource.TFATokenHeader, token)
	if a := authztest.Do(t, app.HTTP(), r); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if w := call(token); w.Code != http.StatusUnauthorized {
		t.Errorf("after it ended: %d", w.Code)
	}
}

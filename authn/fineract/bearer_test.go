package fineract_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// app is a client of OAuth that may use the API for its customers.
func (b *bank) app(t testing.TB, more map[string]any) *authztest.Client {
	t.Helper()
	if more == nil {
		more = map[string]any{}
	}
	more["scope"] = "openid profile accounts fineract offline_access"
	c := b.AddClient(t, "bank-app", fapi.OpenID, fapi.ClientSecretBasic, more)
	c.Scope = "openid accounts fineract"
	return c
}

// In Fineract's OAuth mode the first factor is an access token; all else is the same.
func TestBearer_Sequence(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.app(t, nil)
	access := app.Grant(t, nil)["access_token"].(string)
	for _, scheme := range []string{"Bearer", "bearer"} {
		in := b.client(t).as(scheme + " " + access)
		in.call(t, "GET", "/twofactor", "").is(t, 200, `[{"name":"email","target":"a•••@example.com"}]`)
		// 403 is how a client learns that a second factor is due: /userdetails lies behind it.
		if a := in.call(t, "GET", "/userdetails", ""); a.status != 403 || a.raw != "" || a.header.Get("WWW-Authenticate") != `Bearer error="insufficient_scope"` {
			t.Errorf("%d %v %s", a.status, a.header, a.raw)
		}
	}
	in := b.client(t).as("Bearer " + access)
	token := in.token(t, 1, "")
	both := in.tfa(token)
	me := both.call(t, "GET", "/userdetails", "").object(t)
	if me["username"] != "alice" || me["accessToken"] != access || me["isTwoFactorAuthenticationRequired"] != true || me["authenticated"] != true ||
		!slices.Contains(me["permissions"].([]any), any("TWOFACTOR_AUTHENTICATED")) || me["base64EncodedAuthenticationKey"] != nil || me["clients"] != nil {
		t.Errorf("%v", me)
	}
	if me := both.call(t, "GET", "/self/userdetails", "").object(t); encode(t, me["clients"]) != "[7]" {
		t.Errorf("%v", me)
	}
	// The token stands for the customer, not for how they logged in.
	if a := b.basic(t).tfa(token).call(t, "GET", "/twofactor/check", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := b.basic(t).tfa(token).call(t, "GET", "/userdetails", ""); a.status != 401 {
		t.Errorf("/userdetails without an access token: %d %s", a.status, a.raw)
	}
	both.call(t, "POST", "/twofactor/invalidate", `{"token":"`+token+`"}`).is(t, 200, `{"resourceIdentifier":"`+token+`"}`)
	both.call(t, "GET", "/userdetails", "").badTFA(t)
}

func TestBearer_Refusals(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.app(t, nil)
	good := app.Grant(t, nil)["access_token"].(string)
	elsewhere := app.Grant(t, map[string]string{"resource": "https://other.example"})["access_token"].(string)
	narrow := app.Grant(t, map[string]string{"scope": "openid accounts"})["access_token"].(string)
	alone := app.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"fineract"}})["access_token"].(string)
	revoked := app.Grant(t, nil)["access_token"].(string)
	app.Post(t, "/revoke", url.Values{"token": {revoked}})
	tpp := b.AddClient(t, "tpp-bound", fapi.FAPI2, fapi.TLSClientAuth, map[string]any{"scope": "openid fineract", "tls_client_certificate_bound_access_tokens": true})
	tpp.Scope = "openid fineract"
	bound := tpp.Grant(t, nil)["access_token"].(string)

	for name, token := range map[string]string{
		"noise": "noise", "for another resource": elsewhere, "without the scope": narrow, "no customer's": alone, "revoked": revoked, "bound to a certificate": bound,
	} {
		a := b.client(t).as("Bearer "+token).call(t, "GET", "/twofactor", "")
		if a.status != 401 || !sameJSON(t, a.raw, unauthenticated) {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	for name, header := range map[string]http.Header{
		"two tokens":  {"Authorization": {"Bearer " + good, "Bearer " + good}},
		"no scheme":   {"Authorization": {good}},
		"no token":    {"Authorization": {"Bearer "}},
		"in capitals": {"Authorization": {"BEARER " + good + "x"}},
	} {
		c := b.client(t)
		for key, values := range header {
			c.header[key] = values
		}
		if a := c.call(t, "GET", "/twofactor", ""); a.status != 401 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	if a := b.client(t).call(t, "GET", "/twofactor?access_token="+good, ""); a.status != 401 {
		t.Errorf("in the query: %d %s", a.status, a.raw)
	}
	// A bound token works for who proves to hold its key.
	request, err := http.NewRequest(http.MethodGet, b.MTLSBase+b.context+"/twofactor", nil)
	check(t, err)
	request.Header.Set("Authorization", "Bearer "+bound)
	request.Header.Set("Fineract-Platform-TenantId", "default")
	if a := authztest.Do(t, tpp.HTTP(), request); a.Status != 200 {
		t.Errorf("bound, with the certificate: %d %s", a.Status, a.Body)
	}
}

// E8: BYPASS_TWOFACTOR counts when it was granted by that name. ALL_FUNCTIONS does not imply it, nor does a role.
func TestBypass(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t)
	for _, c := range []struct {
		permissions []string
		role        string
		bypasses    bool
	}{
		{[]string{}, "USER", false},
		{[]string{"ALL_FUNCTIONS"}, "USER", false},
		{[]string{"ALL_FUNCTIONS", "ALL_FUNCTIONS_READ"}, "ADMIN", false},
		{[]string{}, "BYPASS_TWOFACTOR", false},
		{[]string{"bypass_twofactor"}, "USER", false},
		{[]string{"BYPASS_TWOFACTOR_X", " BYPASS_TWOFACTOR"}, "USER", false},
		{[]string{"BYPASS_TWOFACTOR"}, "USER", true},
	} {
		b.SQL(t, `UPDATE customers SET permissions = $2, roles = $3 WHERE id = $1`, [16]byte(b.alice), c.permissions, []string{c.role})
		me := app.call(t, "POST", "/authentication", `{"username":"alice","password":"`+authztest.Password+`"}`).object(t)
		if me["isTwoFactorAuthenticationRequired"] == c.bypasses {
			t.Errorf("%+v: isTwoFactorAuthenticationRequired %v", c, me["isTwoFactorAuthenticationRequired"])
		}
		want := 403
		if c.bypasses {
			want = 200
		}
		if a := app.call(t, "GET", "/twofactor/check", ""); a.status != want {
			t.Errorf("%+v: %d %s", c, a.status, a.raw)
		}
	}
	// As in Fineract, whatever the header has then.
	app.tfa("noise").call(t, "GET", "/twofactor/check", "").is(t, 200, `{"username":"alice"}`)
}

package fineract_test

import (
	"net/url"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
)

var (
	otpShape   = regexp.MustCompile(`^[0-9A-Z]{5}$`)
	otpIn      = regexp.MustCompile(`[0-9A-Z]{5}`)
	tokenShape = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// What Fineract's web-app does, request by request, with the configuration that Fineract is installed with.
func TestSequence_WebApp(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.client(t)

	// 1. The first factor.
	a := app.call(t, "POST", "/authentication", `{"username":"alice","password":"`+authztest.Password+`"}`)
	me := a.object(t)
	if number(t, me["userId"]) <= 0 || number(t, me["userId"]) >= 1<<53 {
		t.Errorf("userId %v: JavaScript cannot hold it", me["userId"])
	}
	key, _ := me["base64EncodedAuthenticationKey"].(string)
	delete(me, "userId")
	role := me["roles"].([]any)[0].(m)
	number(t, role["id"])
	delete(role, "id")
	answer{status: a.status, raw: encode(t, me)}.is(t, 200, `{"username":"alice","base64EncodedAuthenticationKey":"YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==","authenticated":true,
		"officeId":1,"officeName":"Meadow Bank","roles":[{"name":"USER","description":"USER","disabled":false}],"permissions":[],
		"shouldRenewPassword":false,"isTwoFactorAuthenticationRequired":true}`)

	// 2., 3. The key goes with every call; which ways are there to get a code?
	app = app.as("Basic " + key)
	app.call(t, "GET", "/twofactor", "").is(t, 200, `[{"name":"email","target":"a•••@example.com"}]`)
	if got := app.call(t, "GET", "/twofactor/check", ""); got.status != 403 || got.header.Get("WWW-Authenticate") != "" {
		t.Errorf("before the second factor: %d %s", got.status, got.raw)
	}

	// 4. A code, please.
	before := time.Now().UnixMilli()
	a = app.call(t, "POST", "/twofactor?deliveryMethod=email&extendedToken=false", `{}`)
	asked := a.object(t)
	at := number(t, asked["requestTime"])
	if at < before-1 || at > time.Now().UnixMilli() {
		t.Errorf("requestTime %d: not now, in milliseconds", at)
	}
	delete(asked, "requestTime")
	answer{status: a.status, raw: encode(t, asked)}.is(t, 200,
		`{"tokenLiveTimeInSec":300,"extendedAccessToken":false,"deliveryMethod":{"name":"email","target":"a•••@example.com"}}`)
	mail := b.mail.next(t, 1)
	code := codeIn(t, mail.Words.Text)
	if !otpShape.MatchString(code) || mail.To.Email != "alice@example.com" || mail.Words.Title != "Fineract Two-Factor Authentication Token" ||
		mail.Words.Text != "Hello alice.\nYour OTP login token is "+code+"." {
		t.Errorf("mail to %s: %+v", mail.To.Email, *mail.Words)
	}

	// 5. It is typed, in lower case.
	a = app.call(t, "POST", "/twofactor/validate?token="+lower(code), `{}`)
	got := a.object(t)
	token, _ := got["token"].(string)
	from, to := number(t, got["validFrom"]), number(t, got["validTo"])
	if a.status != 200 || len(got) != 3 || !tokenShape.MatchString(token) || to-from != 86400*1000 || from < before-1000 || from > time.Now().UnixMilli()+1000 {
		t.Errorf("token: %d %s", a.status, a.raw)
	}

	// 6. It goes with every call.
	in := app.tfa(token)
	in.call(t, "GET", "/twofactor/check", "").is(t, 200, `{"username":"alice","validTo":`+got["validTo"].(interface{ String() string }).String()+`}`)
	in.call(t, "GET", "/twofactor", "").is(t, 200, `[{"name":"email","target":"a•••@example.com"}]`)

	// 8. Logging out.
	in.call(t, "POST", "/twofactor/invalidate", `{"token":"`+token+`"}`).is(t, 200, `{"resourceIdentifier":"`+token+`"}`)
	in.call(t, "GET", "/twofactor/check", "").badTFA(t)
	in.call(t, "GET", "/twofactor", "").badTFA(t)
	in.call(t, "POST", "/twofactor/invalidate", `{"token":"`+token+`"}`).badTFA(t)
	in.call(t, "POST", "/twofactor/validate?token=AAAAA", `{}`).badTFA(t)

	var kinds []string
	events, err := b.DB.ListEvents(t.Context(), b.alice, nil, 10)
	check(t, err)
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, []string{"fineract.token_ended", "fineract.token_issued", "fineract.code_requested"}) {
		t.Errorf("events %v", kinds)
	}
}

// What community-app does: it remembers, asks in other letters, and logs out with a token that it never had.
func TestSequence_CommunityApp(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.grant(t, b.alice, "UPDATE_TWOFACTOR_CONFIGURATION")
	app := b.basic(t)
	token := app.token(t, 1, "")
	app.tfa(token).call(t, "PUT", "/twofactor/configure", `{"otp-delivery-sms-enable":true}`).is(t, 200, `{"changes":{"otp-delivery-sms-enable":true}}`)

	app.call(t, "GET", "/twofactor", "").is(t, 200, `[{"name":"sms","target":"•••• 0222"},{"name":"email","target":"a•••@example.com"}]`)
	a := app.call(t, "POST", "/twofactor?deliveryMethod=SMS&extendedToken=TRUE", "")
	if o := a.object(t); a.status != 200 || o["extendedAccessToken"] != true || o["deliveryMethod"].(m)["name"] != "sms" {
		t.Errorf("%d %s", a.status, a.raw)
	}
	sms := b.sms.next(t, 1)
	code := codeIn(t, sms.Words.Text)
	if sms.To.PhoneNumber != "+254711000222" || sms.Words.Text != "Your authentication token for Fineract is "+code+"." {
		t.Errorf("SMS to %s: %+v", sms.To.PhoneNumber, *sms.Words)
	}
	got := app.validates(t, code).object(t)
	if number(t, got["validTo"])-number(t, got["validFrom"]) != 604800*1000 {
		t.Errorf("an extended token: %v", got)
	}
	in := app.tfa(got["token"].(string))
	in.call(t, "POST", "/twofactor/invalidate", `{"token":"null"}`).is(t, 403, wrongToken)
	if in.call(t, "GET", "/twofactor/check", "").status != 200 {
		t.Error("the token ended with another")
	}
}

// Paths with /self say which clients the customer is, others only when asked.
func TestSequence_Clients(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.AddCustomer(t, "bob", "99")
	body := func(name string) string { return `{"username":"` + name + `","password":"` + authztest.Password + `"}` }
	for _, c := range []struct{ path, name, want string }{
		{"/authentication", "alice", "null"},
		{"/authentication?returnClientList=false", "alice", "null"},
		{"/authentication?returnClientList=true", "alice", "[7]"},
		{"/authentication?returnClientList=true", "bob", "[]"},
		{"/self/authentication", "alice", "[7]"},
	} {
		got := b.client(t).call(t, "POST", c.path, body(c.name)).object(t)
		if clients, there := got["clients"]; encode(t, clients) != c.want || there != (c.want != "null") {
			t.Errorf("%s of %s: clients %v, want %s", c.path, c.name, clients, c.want)
		}
	}
}

// The tenant may stand in the query instead.
func TestSequence_TenantInTheQuery(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t).without("Fineract-Platform-TenantId")
	if a := app.call(t, "GET", "/twofactor?tenantIdentifier=default", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := app.with("Fineract-Platform-TenantId", " ").call(t, "GET", "/twofactor?tenantIdentifier=default", ""); a.status != 200 {
		t.Errorf("with a blank header: %d %s", a.status, a.raw)
	}
	for name, c := range map[string]struct {
		app   *client
		query string
	}{
		"missing":            {app, ""},
		"empty":              {app, "?tenantIdentifier="},
		"unknown":            {app, "?tenantIdentifier=other"},
		"twice":              {app, "?tenantIdentifier=default&tenantIdentifier=default"},
		"unknown, in header": {app.with("Fineract-Platform-TenantId", "other"), "?tenantIdentifier=default"},
		"before the key":     {app.without("Authorization"), ""},
	} {
		for _, path := range []string{"/twofactor", "/twofactor/check"} {
			a := c.app.call(t, "GET", path+c.query, "")
			if a.status != 400 || a.header.Get("WWW-Authenticate") != `Basic realm="Fineract Platform API"` || a.object(t)["error"] != "Bad Request" {
				t.Errorf("%s, %s: %d %q %s", name, path, a.status, a.header.Get("WWW-Authenticate"), a.raw)
			}
		}
	}
	if a := app.call(t, "POST", "/authentication", `{"username":"alice","password":"`+url.QueryEscape(authztest.Password)+`"}`); a.status != 400 {
		t.Errorf("logging in without a tenant: %d", a.status)
	}
}

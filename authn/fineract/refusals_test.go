package fineract_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/authn/fineract"
	"github.com/countersign/countersign/authz/authztest"
)

func encode(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	check(t, err)
	return string(text)
}

func lower(s string) string { return strings.ToLower(s) }

func TestRefusals_FirstFactor(t *testing.T) {
	t.Parallel()
	b := start(t)
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, authorization := range map[string]string{
		"none":             "",
		"wrong password":   basic("alice:wrong"),
		"unknown":          basic("nobody:" + authztest.Password),
		"no colon":         basic("alice"),
		"not base64":       "Basic %%%",
		"unknown scheme":   "Digest x",
		"a bearer's noise": "Bearer noise",
		"another's name":   basic("alice\x00:" + authztest.Password),
	} {
		app := b.client(t)
		if authorization != "" {
			app = app.as(authorization)
		}
		for _, path := range []string{"/twofactor", "/twofactor/check", "/userdetails"} {
			if a := app.call(t, "GET", path, ""); a.status != 401 || !sameJSON(t, a.raw, unauthenticated) {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
		}
	}
	two := b.basic(t)
	two.header.Add("Authorization", two.header.Get("Authorization"))
	two.call(t, "GET", "/twofactor", "").is(t, 401, unauthenticated)

	login := func(body string) answer { return b.client(t).call(t, "POST", "/authentication", body) }
	login(`{"username":"alice","password":"wrong"}`).is(t, 401, unauthenticated)
	for _, body := range []string{``, `{}`, `[]`, `null`, `{"username":"alice"}`, `{"password":"x"}`, `{"username":"alice","password":null}`, `{"username":7,"password":"x"}`,
		`{"username":"alice","username":"bob","password":"x"}`, `{"username":"alice","password":"x"`} {
		if a := login(body); a.status != 400 && (body != "" || a.status != 415) {
			t.Errorf("%s: %d %s", body, a.status, a.raw)
		} else if a.status == 400 {
			a.is(t, 400, badBody)
		}
	}
	if a := b.client(t).with("Content-Type", "text/plain").call(t, "POST", "/authentication", `{}`); a.status != 415 {
		t.Errorf("text/plain: %d", a.status)
	}
	if a := login(`{"username":"` + strings.Repeat("a", 70<<10) + `"}`); a.status != 413 {
		t.Errorf("oversized: %d", a.status)
	}
}

func TestRefusals_SecondFactor(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.AddCustomer(t, "bob", "99")
	bob := b.client(t).as("Basic " + base64.StdEncoding.EncodeToString([]byte("bob:"+authztest.Password)))
	app := b.basic(t)
	for _, query := range []string{"", "?deliveryMethod=", "?deliveryMethod=sms", "?deliveryMethod=pigeon", "?deliveryMethod=totp", "?deliveryMethod=email&deliveryMethod=email"} {
		app.call(t, "POST", "/twofactor"+query, "").is(t, 403, wrongDelivery)
	}
	bob.call(t, "GET", "/twofactor", "").is(t, 200, `[]`)
	bob.call(t, "POST", "/twofactor?deliveryMethod=email", "").is(t, 403, wrongDelivery)
	for _, query := range []string{"", "?token=", "?token=AAAAA", "?token=" + strings.Repeat("A", 100), "?token=123456"} { // none was asked for
		app.call(t, "POST", "/twofactor/validate"+query, "").is(t, 403, wrongOTP)
	}
	code := app.asks(t, 1, "")
	app.call(t, "POST", "/twofactor/validate?token="+code+"&token="+code, "").is(t, 403, wrongOTP)
	app.call(t, "POST", "/twofactor/validate", `{"token":"`+code+`"}`).is(t, 403, wrongOTP)
	bob.validates(t, code).is(t, 403, wrongOTP) // another customer's

	token := app.validates(t, code).object(t)["token"].(string)
	app.validates(t, code).is(t, 403, wrongOTP) // used
	expired := app.asks(t, 2, "")
	b.SQL(t, `UPDATE one_time_codes SET expires_at = now()`)
	app.validates(t, expired).is(t, 403, wrongOTP)

	for name, c := range map[string]*client{
		"noise": app.tfa("noise"), "empty": app.tfa(""), "oversized": app.tfa(strings.Repeat("a", 4096)), "another customer's": bob.tfa(token),
		"in capitals": app.tfa(strings.ToUpper(token)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/twofactor", "/twofactor/check", "/twofactor/configure"} {
				c.call(t, "GET", path, "").badTFA(t)
			}
			c.call(t, "POST", "/twofactor?deliveryMethod=email", "").badTFA(t)
		})
	}
	twice := app.tfa(token)
	twice.header.Add(tfaHeader, token)
	twice.call(t, "GET", "/twofactor", "").badTFA(t)

	in := app.tfa(token)
	for body, want := range map[string]string{
		``: badBody, `x`: badBody, `[]`: badBody, `{"token":"x","token":"y"}`: badBody,
		`{"token":"x","more":1}`: validation(`{"developerMessage":"The parameter more is not supported.","defaultUserMessage":"The parameter more is not supported.",
			"userMessageGlobalisationCode":"error.msg.parameter.unsupported","parameterName":"more","args":[{"value":"more"}]}`),
		`{}`:             validation(blankToken, blankToken),
		`{"token":null}`: validation(blankToken, blankToken),
		`{"token":" "}`:  validation(blankToken),
	} {
		in.call(t, "POST", "/twofactor/invalidate", body).is(t, 400, want)
	}
	in.call(t, "POST", "/twofactor/invalidate", `{"token":"00000000000000000000000000000000"}`).is(t, 403, wrongToken)
	if a := app.call(t, "POST", "/twofactor/invalidate", `{"token":"`+token+`"}`); a.status != 403 || a.object(t)["error"] != "Forbidden" {
		t.Errorf("one factor ends a token: %d %s", a.status, a.raw)
	}
	b.SQL(t, `UPDATE fineract_tfa_tokens SET valid_to = now()`)
	in.call(t, "GET", "/twofactor/check", "").badTFA(t)
}

const blankToken = `{"developerMessage":"The parameter ` + "`token`" + ` is mandatory.","defaultUserMessage":"The parameter ` + "`token`" + ` is mandatory.",
	"userMessageGlobalisationCode":"validation.msg.TWOFACTOR_ACCESSTOKEN.token.cannot.be.blank","parameterName":"token","args":[]}`

func validation(errs ...string) string {
	return `{"developerMessage":"The request was invalid. This typically will happen due to validation errors which are provided.","httpStatusCode":"400",
		"defaultUserMessage":"Validation errors exist.","userMessageGlobalisationCode":"validation.msg.validation.errors.exist","errors":[` + strings.Join(errs, ",") + `]}`
}

func TestRefusals_Methods(t *testing.T) {
	t.Parallel()
	b := start(t)
	for path, allow := range map[string]string{
		"/authentication": "POST", "/twofactor": "GET, POST", "/twofactor/validate": "POST", "/twofactor/configure": "GET, PUT", "/userdetails": "GET",
	} {
		a := b.basic(t).call(t, "DELETE", path, "")
		if a.status != 405 || a.header.Get("Allow") != allow {
			t.Errorf("%s: %d, Allow %q", path, a.status, a.header.Get("Allow"))
		}
	}
	if a := b.basic(t).call(t, "GET", "/clients", ""); a.status != 404 || a.object(t)["error"] != "Not Found" {
		t.Errorf("elsewhere: %d %s", a.status, a.raw)
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	b := start(t, authztest.Options{Fineract: fineract.Config{Origins: []string{"https://app.bank.example"}}})
	app := b.basic(t)
	for origin, want := range map[string]string{"https://app.bank.example": "https://app.bank.example", "https://evil.example": "", "null": "", "http://app.bank.example": ""} {
		a := app.without("Authorization").with("Origin", origin).call(t, http.MethodOptions, "/twofactor", "")
		if a.status != 200 || a.raw != "" || a.header.Get("Access-Control-Allow-Origin") != want {
			t.Errorf("preflight from %s: %d %v", origin, a.status, a.header)
		}
		if allowed := a.header.Get("Access-Control-Allow-Headers"); want != "" && (!strings.Contains(allowed, tfaHeader) || !strings.Contains(allowed, "Authorization") || !strings.Contains(allowed, "Fineract-Platform-TenantId")) {
			t.Errorf("preflight allows %q", allowed)
		}
		a = app.with("Origin", origin).call(t, "POST", "/twofactor?deliveryMethod=email", "")
		if ok := a.status == 200; ok != (want != "") || a.header.Get("Access-Control-Allow-Origin") != want || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("from %s: %d %v", origin, a.status, a.header)
		}
	}
	if a := app.with("Origin", b.Issuer).call(t, "GET", "/twofactor", ""); a.status != 200 {
		t.Errorf("from a page of ours: %d", a.status)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config fineract.Config
		good   bool
	}{
		{fineract.Config{}, true},
		{fineract.Config{Context: fineract.DefaultContext, Origins: []string{"https://app.example", "http://localhost:4200"}}, true},
		{fineract.Config{Context: "/"}, false},
		{fineract.Config{Context: "/a/"}, false},
		{fineract.Config{Context: "a"}, false},
		{fineract.Config{Context: "/{x}"}, false},
		{fineract.Config{Origins: []string{"*"}}, false},
		{fineract.Config{Origins: []string{"http://app.example"}}, false},
		{fineract.Config{Origins: []string{"https://app.example/"}}, false},
		{fineract.Config{Origins: []string{"null"}}, false},
	} {
		if err := c.config.Check(); (err == nil) != c.good {
			t.Errorf("%+v: %v", c.config, err)
		}
	}
}

package fineract_test

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// defaults are the seed's keys with their values (E7).
const defaults = `{"otp-delivery-email-enable":true,"otp-delivery-email-subject":"Fineract Two-Factor Authentication Token",
	"otp-delivery-email-body":"Hello {{username}}.\nYour OTP login token is {{token}}.","otp-delivery-sms-enable":false,"otp-delivery-sms-provider":1,
	"otp-delivery-sms-text":"Your authentication token for Fineract is {{token}}.","otp-token-live-time":300,"otp-token-length":5,
	"access-token-live-time":86400,"access-token-live-time-extended":604800}`

// administrator is alice with what it takes, and a token.
func (b *bank) administrator(t testing.TB) *client {
	t.Helper()
	b.grant(t, b.alice, "READ_TWOFACTOR_CONFIGURATION", "UPDATE_TWOFACTOR_CONFIGURATION")
	app := b.basic(t)
	return app.tfa(app.token(t, 1, ""))
}

func TestConfiguration_Changes(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.administrator(t)
	get := func(want string) {
		t.Helper()
		app.call(t, "GET", "/twofactor/configure", "").is(t, 200, want)
	}
	put := func(body, changes string) {
		t.Helper()
		app.call(t, "PUT", "/twofactor/configure", body).is(t, 200, `{"changes":`+changes+`}`)
	}
	get(defaults)
	put(`{"otp-token-length":5}`, `{}`)
	put(`{"otp-token-length":"5","otp-delivery-email-enable":"TRUE"}`, `{}`)
	put(`{"otp-token-length":6,"otp-token-live-time":"60"}`, `{"otp-token-length":6,"otp-token-live-time":60}`)
	put(`{"otp-token-length":6,"access-token-live-time":7200}`, `{"access-token-live-time":7200}`)
	put(`{"otp-delivery-sms-enable":"True","otp-delivery-sms-text":"  {{token}} "}`, `{"otp-delivery-sms-enable":true,"otp-delivery-sms-text":"{{token}}"}`)
	want := m{}
	maps.Copy(want, decoded(t, defaults).(m))
	maps.Copy(want, m{"otp-token-length": 6, "otp-token-live-time": 60, "access-token-live-time": 7200, "otp-delivery-sms-enable": true, "otp-delivery-sms-text": "{{token}}"})
	get(encode(t, want))

	// What was changed decides, at once and at every process.
	here := b.beside(t).basic(t)
	asked := here.call(t, "POST", "/twofactor?deliveryMethod=sms", "")
	if o := asked.object(t); number(t, o["tokenLiveTimeInSec"]) != 60 {
		t.Errorf("%d %s", asked.status, asked.raw)
	}
	code := b.sms.next(t, 1).Words.Text
	if len(code) != 6 {
		t.Errorf("the SMS reads %q", code)
	}
	got := here.validates(t, code).object(t)
	if number(t, got["validTo"])-number(t, got["validFrom"]) != 7200*1000 {
		t.Errorf("token: %v", got)
	}
	events, err := b.DB.ListEvents(t.Context(), b.alice, nil, 50)
	check(t, err)
	n := 0
	for _, e := range events {
		if e.Kind == "fineract.configured" {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d events for 3 changes", n)
	}
}

func TestConfiguration_Refusals(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.administrator(t)
	const prefix = "validation.msg.TWOFACTOR_CONFIGURATION."
	for body, want := range map[string][]string{
		`{}`:                             {prefix + "no.parameters.for.update"},
		`{"otp-token-live-timeint":300}`: {"error.msg.parameter.unsupported"}, // the seed's slip of the pen
		`{"otp-token-length":6,"more":1,"still more":2}`:                  {"error.msg.parameter.unsupported", "error.msg.parameter.unsupported"},
		`{"otp-token-length":0}`:                                          {prefix + "otp-token-length.not.greater.than.zero"},
		`{"otp-token-length":-5}`:                                         {prefix + "otp-token-length.not.greater.than.zero"},
		`{"otp-token-length":3}`:                                          {prefix + "otp-token-length.is.less.than.min"}, // ours: too easily guessed
		`{"otp-token-length":33}`:                                         {prefix + "otp-token-length.is.greater.than.max"},
		`{"otp-token-length":"x"}`:                                        {"validation.msg.invalid.integer"},
		`{"otp-token-length":6.5}`:                                        {"validation.msg.invalid.integer"},
		`{"otp-token-length":1e3}`:                                        {"validation.msg.invalid.integer"},
		`{"otp-token-length":99999999999}`:                                {"validation.msg.invalid.integer"},
		`{"otp-token-length":null}`:                                       {prefix + "otp-token-length.cannot.be.blank"},
		`{"otp-token-length":[6]}`:                                        {prefix + "otp-token-length.cannot.be.blank"},
		`{"otp-token-live-time":301}`:                                     {prefix + "otp-token-live-time.is.greater.than.max"}, // E9: five minutes at most
		`{"access-token-live-time":2678401}`:                              {prefix + "access-token-live-time.is.greater.than.max"},
		`{"otp-delivery-sms-provider":0}`:                                 {prefix + "otp-delivery-sms-provider.not.greater.than.zero"},
		`{"otp-delivery-sms-enable":"yes"}`:                               {prefix + "otp-delivery-sms-enable.must.be.true.or.false"},
		`{"otp-delivery-sms-enable":1}`:                                   {prefix + "otp-delivery-sms-enable.must.be.true.or.false"},
		`{"otp-delivery-email-body":" "}`:                                 {prefix + "otp-delivery-email-body.cannot.be.blank"},
		`{"otp-delivery-email-body":"` + strings.Repeat("é", 1001) + `"}`: {prefix + "otp-delivery-email-body.exceeds.max.length"},
		`{"otp-delivery-email-body":"{{token"}`:                           {prefix + "otp-delivery-email-body.invalid.template"},
		`{"otp-delivery-email-body":"{{#token}}"}`:                        {prefix + "otp-delivery-email-body.invalid.template"},
		`{"otp-delivery-sms-text":"{{>/etc/passwd}}"}`:                    {prefix + "otp-delivery-sms-text.invalid.template"},
		`{"otp-delivery-email-body":"","otp-token-length":0}`:             {prefix + "otp-delivery-email-body.cannot.be.blank", prefix + "otp-token-length.not.greater.than.zero"},
	} {
		a := app.call(t, "PUT", "/twofactor/configure", body)
		o := a.object(t)
		var codes []string
		for _, e := range o["errors"].([]any) {
			codes = append(codes, e.(m)["userMessageGlobalisationCode"].(string))
		}
		if a.status != 400 || o["userMessageGlobalisationCode"] != "validation.msg.validation.errors.exist" || strings.Join(codes, " ") != strings.Join(want, " ") {
			t.Errorf("%.60s: %d %v, want %v", body, a.status, codes, want)
		}
	}
	for _, body := range []string{``, `x`, `[]`, `null`, `{"otp-token-length":6,"otp-token-length":7}`, `{"otp-token-length":6}{}`} {
		if a := app.with("Content-Type", "application/json").call(t, "PUT", "/twofactor/configure", body); a.status != 400 || !sameJSON(t, a.raw, badBody) {
			t.Errorf("%q: %d %s", body, a.status, a.raw)
		}
	}
	if a := app.with("Content-Type", "text/plain").call(t, "PUT", "/twofactor/configure", `{"otp-token-length":6}`); a.status != 415 {
		t.Errorf("text/plain: %d", a.status)
	}
	if a := app.call(t, "PUT", "/twofactor/configure", `{"otp-delivery-email-body":"`+strings.Repeat("a", 70<<10)+`"}`); a.status != 413 {
		t.Errorf("oversized: %d", a.status)
	}
	app.call(t, "GET", "/twofactor/configure", "").is(t, 200, defaults)
}

// B1-05: the GET asks for a name that Fineract's tables lack; either does.
func TestConfiguration_WhoMay(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t)
	in := app.tfa(app.token(t, 1, ""))
	for _, c := range []struct {
		permission, role string
		read, write      int
	}{
		{"", "USER", 403, 403},
		{"", "SUPPORT", 403, 403},
		{"", "ADMIN", 200, 200},
		{"READ_TWOFACTOR_CONFIGURATION", "USER", 200, 403},
		{"READ_TWOFACTOR_CONFIG", "USER", 200, 403},
		{"ALL_FUNCTIONS_READ", "USER", 200, 403},
		{"UPDATE_TWOFACTOR_CONFIGURATION", "USER", 403, 200},
		{"ALL_FUNCTIONS", "USER", 200, 200},
		{"BYPASS_TWOFACTOR", "USER", 403, 403},
		{"read_twofactor_configuration", "USER", 403, 403},
	} {
		b.SQL(t, `UPDATE customers SET permissions = $2, roles = $3 WHERE id = $1`, [16]byte(b.alice), []string{c.permission}, []string{c.role})
		if a := in.call(t, "GET", "/twofactor/configure", ""); a.status != c.read {
			t.Errorf("%+v reads: %d %s", c, a.status, a.raw)
		}
		a := in.call(t, "PUT", "/twofactor/configure", `{"otp-token-length":5}`)
		if a.status != c.write || c.write == 403 && a.object(t)["userMessageGlobalisationCode"] != "error.msg.not.authorized" {
			t.Errorf("%+v writes: %d %s", c, a.status, a.raw)
		}
	}
	b.grant(t, b.alice, "ALL_FUNCTIONS")
	for _, method := range []string{"GET", "PUT"} { // not with one factor, whatever the permission
		if a := app.call(t, method, "/twofactor/configure", `{"otp-token-length":6}`); a.status != 403 || a.object(t)["error"] != "Forbidden" {
			t.Errorf("%s with one factor: %d %s", method, a.status, a.raw)
		}
	}
}

// The live time is that of the time when the code was asked for, the token's that of the time when it is given.
func TestConfiguration_TokenLifetime(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t)
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'access-token-live-time', '1'), ('other', 'access-token-live-time', '999')`)
	in := app.tfa(app.token(t, 1, ""))
	if a := in.call(t, "GET", "/twofactor/check", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	time.Sleep(1100 * time.Millisecond)
	in.call(t, "GET", "/twofactor/check", "").badTFA(t)
}

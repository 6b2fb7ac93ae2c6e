package fineract_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// What each call costs in round trips to the database: docs/fineract-two-factor.md, "What it costs". A password that this process
// saw a minute ago costs one, any other two and a hash.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.grant(t, b.alice, "ALL_FUNCTIONS")
	app := b.basic(t)
	access := b.client(t).as("Bearer " + b.app(t, nil).Grant(t, nil)["access_token"].(string))
	token := app.token(t, 1, "")
	mails := 1
	code := func() string {
		mails++
		b.anHourLater(t)
		return app.asks(t, mails, "")
	}
	type request func() answer
	call := func(c *client, method, path, body string) func() request {
		return func() request { return func() answer { return c.call(t, method, path, body) } }
	}
	for _, f := range []struct {
		name       string
		roundTrips int64
		prepare    func() request
	}{
		{"authentication, a password seen before", 2, call(b.client(t), "POST", "/authentication", `{"username":"alice","password":"correct horse battery staple"}`)},
		{"delivery methods", 2, call(app, "GET", "/twofactor", "")},
		{"delivery methods, access token", 2, call(access, "GET", "/twofactor", "")},
		{"check", 2, call(app.tfa(token), "GET", "/twofactor/check", "")},
		{"check, access token", 2, call(access.tfa(token), "GET", "/twofactor/check", "")},
		{"configuration", 2, call(app.tfa(token), "GET", "/twofactor/configure", "")},
		{"configuration, changed", 3, call(app.tfa(token), "PUT", "/twofactor/configure", `{"otp-token-length":7}`)},
		{"a wrong code", 3, call(app, "POST", "/twofactor/validate?token=AAAAA", "")},
		{"a token", 4, func() request {
			typed := code()
			return func() answer { return app.validates(t, typed) }
		}},
		{"a code", 4, call(app, "POST", "/twofactor?deliveryMethod=email", "")},
		{"a token ends", 3, call(app.tfa(token), "POST", "/twofactor/invalidate", `{"token":"`+token+`"}`)},
	} {
		request := f.prepare()
		b.Trace.Reset()
		a := request()
		got, sql := b.Trace.RoundTrips(), b.Trace.SQL()
		background := slices.ContainsFunc(sql, func(s string) bool {
			return strings.Contains(s, "notifications SET") || strings.Contains(s, "min(due_at)") || strings.Contains(s, "DELETE FROM notifications") || strings.Contains(s, "account_deletions")
		})
		if a.status >= http.StatusBadRequest && f.name != "a wrong code" {
			t.Errorf("%s: %d %s", f.name, a.status, a.raw)
		}
		if got != f.roundTrips && !background {
			t.Errorf("%s: %d round trips, the budget is %d:\n%s", f.name, got, f.roundTrips, strings.Join(sql, "\n;\n"))
		}
	}
}

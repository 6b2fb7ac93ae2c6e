package fineract_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign/countersign/authz/authztest"
)

// beside starts another process of the same bank.
func (b *bank) beside(t testing.TB) *bank {
	t.Helper()
	other := start(t, authztest.Options{Like: b.Server, Channels: b.channels})
	other.mail, other.sms = b.mail, b.sms
	return other
}

func wrong(code string) string {
	letters := []byte(code)
	letters[0] = "10"[letters[0]&1]
	if string(letters) == code {
		letters[0] = 'Z'
	}
	return string(letters)
}

// B1-04: Fineract counts no guesses.
func TestLimits_GuessesAcrossProcesses(t *testing.T) {
	t.Parallel()
	b := start(t)
	apps := []*client{b.basic(t), b.beside(t).basic(t)}
	code := apps[0].asks(t, 1, "")
	for i := range 5 {
		apps[i%2].validates(t, wrong(code)).is(t, 403, wrongOTP)
	}
	for _, app := range apps {
		app.validates(t, code).is(t, 403, wrongOTP)
	}
	if n := b.Count(t, `SELECT count(*) FROM fineract_tfa_tokens`); n != 0 {
		t.Errorf("%d tokens", n)
	}
	// A new code is a new chance.
	if a := apps[1].validates(t, apps[0].asks(t, 2, "")); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// E9: at most three codes an hour, whichever process is asked; more are neither made nor sent, and end none.
func TestLimits_RequestsAcrossProcesses(t *testing.T) {
	t.Parallel()
	b := start(t)
	apps := []*client{b.basic(t), b.beside(t).basic(t)}
	var code string
	for i := range 3 {
		code = apps[i%2].asks(t, i+1, "")
	}
	for _, app := range apps {
		app.call(t, "POST", "/twofactor?deliveryMethod=email", "").is(t, 403, tooMany)
	}
	if a := apps[1].validates(t, code); a.status != 200 {
		t.Errorf("the last code is dead: %d %s", a.status, a.raw)
	}
	b.anHourLater(t)
	apps[0].asks(t, 4, "")
}

// E6: a new code ends the older, whichever way either went.
func TestLimits_OneCode(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-sms-enable', 'true')`)
	app, other := b.basic(t), b.beside(t).basic(t)
	older := app.asks(t, 1, "")
	if a := other.call(t, "POST", "/twofactor?deliveryMethod=sms", ""); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	newer := codeIn(t, b.sms.next(t, 1).Words.Text)
	app.validates(t, older).is(t, 403, wrongOTP)
	if a := app.validates(t, newer); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// A code that was asked for one token gives no other, even if the two halves of asking for it came apart.
func TestLimits_ExtendedIsOfTheCode(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t)
	code := app.asks(t, 1, "&extendedToken=false")
	b.SQL(t, `UPDATE fineract_otp_requests SET extended = true`)
	app.validates(t, code).is(t, 403, wrongOTP)
	b.SQL(t, `UPDATE fineract_otp_requests SET extended = false`)
	got := app.validates(t, code).object(t)
	if number(t, got["validTo"])-number(t, got["validFrom"]) != 86400*1000 {
		t.Errorf("%v", got)
	}
}

// One right code typed at many places at once gives one token.
func TestLimits_AtOnce(t *testing.T) {
	t.Parallel()
	b := start(t)
	apps := []*client{b.basic(t), b.beside(t).basic(t)}
	code := apps[0].asks(t, 1, "")
	answers := make([]answer, 5) // as many as may try
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = apps[i%2].validates(t, code) })
	}
	all.Wait()
	given := 0
	for _, a := range answers {
		if a.status == 200 {
			given++
		}
	}
	if n := b.Count(t, `SELECT count(*) FROM fineract_tfa_tokens`); given != 1 || n != 1 {
		t.Errorf("%d answers with a token, %d tokens", given, n)
	}
}

// A code is of this API: the login page's is not, nor is it there.
func TestLimits_CodesOfThisAPI(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t)
	code := app.asks(t, 1, "")
	for _, column := range []string{"purpose = 'login'", "binding = 'default'", "binding = convert_to('other/" + b.alice.String() + "/false', 'UTF8')"} {
		b.SQL(t, `UPDATE one_time_codes SET `+column)
		app.validates(t, code).is(t, 403, wrongOTP)
	}
}

func TestLimits_AuthenticatorApp(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.hasApp(t, b.alice)
	apps := []*client{b.basic(t), b.beside(t).basic(t)}
	apps[0].call(t, "GET", "/twofactor", "").is(t, 200, `[{"name":"email","target":"a•••@example.com"},{"name":"totp","target":"authenticator"}]`)
	a := apps[0].call(t, "POST", "/twofactor?deliveryMethod=TOTP&extendedToken=true", "")
	if o := a.object(t); a.status != 200 || o["extendedAccessToken"] != true || encode(t, o["deliveryMethod"]) != `{"name":"totp","target":"authenticator"}` {
		t.Errorf("%d %s", a.status, a.raw)
	}
	now := time.Now()
	code := appCode(t, now)
	got := apps[1].validates(t, code)
	if o := got.object(t); got.status != 200 || number(t, o["validTo"])-number(t, o["validFrom"]) != 604800*1000 {
		t.Errorf("%d %s", got.status, got.raw)
	}
	for _, app := range apps { // replayed, here and there
		app.validates(t, code).is(t, 403, wrongOTP)
	}
	// Guesses block the customer's next ones for a while, at every process; a right code too.
	blocked := false
	for i := range 12 {
		apps[i%2].validates(t, "00000"+string(rune('0'+i%10))).is(t, 403, wrongOTP)
		blocked = b.Count(t, `SELECT count(*) FROM limits WHERE blocked_until > now()`) > 0
		if blocked {
			break
		}
	}
	if !blocked {
		t.Fatal("12 guesses, and no block")
	}
	apps[0].validates(t, appCode(t, now.Add(30*time.Second))).is(t, 403, wrongOTP)
	// A code by mail is another matter: it has attempts of its own.
	if a := apps[0].validates(t, apps[0].asks(t, 1, "")); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// What was refused here the customer reads of as of what the login page refuses: each verdict, the wait that began, and from where. A
// guess without a verdict makes no event, or whoever has the password could fill the table.
func TestLimits_Events(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.hasApp(t, b.alice)
	app := b.basic(t)
	kinds := func(what, want string) {
		t.Helper()
		events, err := b.DB.ListEvents(t.Context(), b.alice, nil, 100)
		check(t, err)
		got := ""
		for _, e := range events {
			if e.Kind == "login.refused" || e.Kind == "login.blocked" {
				got += fmt.Sprintf("%s %v %v;", e.Kind, e.Details["amr"], e.Details["seconds"])
				if e.Visit.Address == "" {
					t.Errorf("%s: from nowhere", e.Kind)
				}
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		b.SQL(t, `DELETE FROM events`)
	}
	for range 3 { // no code, no verdict
		app.validates(t, "AAAAA").is(t, 403, wrongOTP)
	}
	kinds("without a code", "")
	code := app.asks(t, 1, "")
	app.validates(t, wrong(code))
	kinds("a wrong one", "login.refused otp <nil>;")
	app.validates(t, code)
	used := appCode(t, time.Now())
	app.validates(t, used)
	app.validates(t, used)
	kinds("one that was used", "login.refused otp <nil>;")
	b.SQL(t, `DELETE FROM limits`)
	for range 8 { // five have a verdict
		app.validates(t, "000000")
	}
	kinds("guesses at the app's", "login.blocked totp 60;"+strings.Repeat("login.refused totp <nil>;", 4))
}

// The password is checked as at the login page: guesses at either count together, at all processes.
func TestLimits_Passwords(t *testing.T) {
	t.Parallel()
	b := start(t)
	apps := []*client{b.client(t), b.beside(t).client(t)}
	known := b.basic(t)
	if a := known.call(t, "GET", "/twofactor", ""); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	for i := 0; b.Count(t, `SELECT count(*) FROM limits WHERE blocked_until > now()`) == 0; i++ {
		if i == 20 {
			t.Fatal("20 guesses, and no block")
		}
		apps[i%2].call(t, "POST", "/authentication", `{"username":"Alice","password":"guess"}`).is(t, 401, unauthenticated)
	}
	for _, app := range apps[1:] { // the right one, where nobody knows it yet
		app.call(t, "POST", "/authentication", `{"username":"alice","password":"`+authztest.Password+`"}`).is(t, 401, unauthenticated)
	}
	// Whoever is in stays in: others cannot lock a customer out of what goes on.
	if a := known.call(t, "GET", "/twofactor", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// Several devices (E5): each has its token, and one ends without the others.
func TestDevices(t *testing.T) {
	t.Parallel()
	b := start(t)
	phone, tablet := b.basic(t), b.beside(t).basic(t)
	first, second := phone.token(t, 1, ""), tablet.token(t, 2, "&extendedToken=true")
	if first == second {
		t.Error("one token for two devices")
	}
	both := func(want ...int) {
		t.Helper()
		got := []int{phone.tfa(first).call(t, "GET", "/twofactor/check", "").status, tablet.tfa(second).call(t, "GET", "/twofactor/check", "").status}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	both(200, 200)
	phone.tfa(first).call(t, "POST", "/twofactor/invalidate", `{"token":"`+second+`"}`).is(t, 200, `{"resourceIdentifier":"`+second+`"}`) // a lost one, from the other
	both(200, 401)
}

// What ends the factors that a token stands for ends the token.
func TestTokens_End(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"another password":   `UPDATE customers SET password_hash = (SELECT password_hash FROM customers WHERE id <> $1) WHERE id = $1`,
		"disabled":           `UPDATE customers SET disabled_at = now() WHERE id = $1`,
		"another address":    `UPDATE customers SET email_index = 'another' WHERE id = $1`,
		"no address":         `UPDATE customers SET email_index = NULL WHERE id = $1`,
		"a factor is gone":   `DELETE FROM second_factors WHERE customer_id = $1`,
		"the customer is":    `DELETE FROM customers WHERE id = $1`,
		"another tenant's":   `UPDATE customers SET tenant = 'other' WHERE id = $1`,
		"expired and purged": `UPDATE fineract_tfa_tokens SET valid_to = now() WHERE customer_id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			b.AddCustomer(t, "bob", "99") // with the same password
			b.hasApp(t, b.alice)
			app := b.basic(t)
			in := app.tfa(app.token(t, 1, ""))
			if a := in.call(t, "GET", "/twofactor/check", ""); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.raw)
			}
			b.SQL(t, sql, [16]byte(b.alice))
			if a := in.call(t, "GET", "/twofactor/check", ""); a.status != 401 {
				t.Errorf("%d %s", a.status, a.raw)
			}
			if name != "expired and purged" && name != "another tenant's" {
				if n := b.Count(t, `SELECT count(*) FROM fineract_tfa_tokens`); n != 0 {
					t.Errorf("%d rows are left", n)
				}
			}
		})
	}
}

// Who asks whether a name is a customer's learns it neither from the answer nor from the time it takes.
func TestLimits_NamesAreNotTold(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.client(t)
	for range 2 {
		for _, name := range []string{"alice", "nobody", strings.Repeat("n", 300), "\\u0000"} {
			began := time.Now()
			app.call(t, "POST", "/authentication", `{"username":"`+name+`","password":"wrong"}`).is(t, 401, unauthenticated)
			if took := time.Since(began); took < 240*time.Millisecond { // authn.refusalInterval
				t.Errorf("%.10q is refused after %v", name, took)
			}
		}
	}
}

// Logs and tables show neither what opens a door nor where customers are reached.
func TestLogs(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.DebugLevel)
	b := start(t, authztest.Options{Log: zap.New(core)})
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-sms-enable', 'true'), ('default', 'otp-token-length', '8')`)
	b.hasApp(t, b.alice)
	app := b.basic(t)
	app.call(t, "POST", "/authentication", `{"username":"alice","password":"`+authztest.Password+`"}`)
	app.call(t, "POST", "/authentication", `{"username":"alice","password":"nearly correct horse"}`)
	first := app.asks(t, 1, "")
	app.call(t, "POST", "/twofactor?deliveryMethod=sms", "")
	second := codeIn(t, b.sms.next(t, 1).Words.Text)
	app.validates(t, first)
	token := app.validates(t, second).object(t)["token"].(string)
	app.validates(t, appCode(t, time.Now()))
	app.tfa(token).call(t, "GET", "/twofactor/check", "")
	app.tfa(token+"x").call(t, "GET", "/twofactor/check", "")
	app.tfa(token).call(t, "POST", "/twofactor/invalidate", `{"token":"`+token+`"}`)

	var text strings.Builder
	for _, e := range logged.All() {
		fmt.Fprintln(&text, e.Message, e.ContextMap())
	}
	if !strings.Contains(text.String(), "fineract.token_issued") || !strings.Contains(text.String(), "request refused") {
		t.Fatalf("the logs lack what they are for:\n%s", text.String())
	}
	conn, err := pgx.Connect(t.Context(), b.DSN)
	check(t, err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), `SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'`)
	check(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	check(t, err)
	for name, secret := range map[string]string{
		"password": authztest.Password, "wrong password": "nearly correct horse", "key": aliceKey, "first code": first, "second code": second, "token": token,
		"email": "alice@example.com", "phone": "254711000222", "secret of the app": string(appSecret),
	} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("the logs show the %s", name)
		}
		for _, table := range tables {
			if n := b.Count(t, `SELECT count(*) FROM `+table+` x WHERE x::text ILIKE '%' || $1 || '%' OR x::text ILIKE '%' || encode(convert_to($1, 'UTF8'), 'hex') || '%'`, secret); n != 0 {
				t.Errorf("the table %s shows the %s", table, name)
			}
		}
	}
}

// Nothing that opens a door is in the database as it is.
func TestTokens_NotInTheDatabase(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.basic(t)
	code := app.asks(t, 1, "")
	n := b.Count(t, `SELECT count(*) FROM one_time_codes o WHERE o::text ILIKE '%' || $1 || '%' OR position(convert_to($1, 'UTF8') IN o.code) > 0`, code)
	token := app.validates(t, code).object(t)["token"].(string)
	n += b.Count(t, `SELECT count(*) FROM fineract_tfa_tokens f WHERE f::text ILIKE '%' || $1 || '%'`, token)
	n += b.Count(t, `SELECT count(*) FROM events e WHERE e::text ILIKE '%' || $1 || '%'`, token)
	if n != 0 {
		t.Errorf("%d rows show the code or the token", n)
	}
	if a := app.call(t, "GET", "/twofactor/check?"+url.Values{"tenantIdentifier": {"default"}, tfaHeader: {token}}.Encode(), ""); a.status != 403 {
		t.Errorf("a token in a URL: %d", a.status)
	}
}

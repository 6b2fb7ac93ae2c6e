package fineract_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authn/fineract"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/storage"
)

// All variables of Fineract's templates, for a customer who calls themselves what they should not.
func TestMessages_Templates(t *testing.T) {
	t.Parallel()
	b := start(t)
	app := b.administrator(t)
	app.call(t, "PUT", "/twofactor/configure", encode(t, m{
		"otp-delivery-email-subject": "{{firstname}}'s code",
		"otp-delivery-email-body":    "{{username}}|{{email}}|{{firstname}}|{{lastname}}|{{mobileno}}|{{token}}|{{tokenlivetime}}|{{requestdate}}|{{requesttime}}|{{expiredate}}|{{expiretime}}",
	}))
	b.knows(t, b.alice, storage.Profile{
		Username: authztest.Username, GivenName: "Al\r\nBcc: eve@example.com\r\n\r\n{{token}}", FamilyName: `{{{token}}} <b>&"'`, Email: "alice@example.com", EmailVerified: true,
		PhoneNumber: "+254711000222",
	})
	before := time.Now().UTC().Truncate(time.Second)
	if a := app.call(t, "POST", "/twofactor?deliveryMethod=email", ""); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	words := b.mail.next(t, 2).Words
	if words.Title != "Al  Bcc: eve@example.com    {{token}}'s code" {
		t.Errorf("subject %q", words.Title)
	}
	got := strings.Split(words.Text, "|")
	if len(got) != 11 {
		t.Fatalf("%q", words.Text)
	}
	want := []string{"alice", "alice@example.com", "Al  Bcc: eve@example.com    {{token}}", `{{{token}}} <b>&"'`, "+254711000222", got[5], "300"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
	asked, err := time.Parse("02.01.2006 15:04:05", got[7]+" "+got[8])
	if err != nil || asked.Before(before) || asked.After(before.Add(time.Minute)) {
		t.Errorf("requested %s %s: %v", got[7], got[8], err)
	}
	if ends, err := time.Parse("02.01.2006 15:04:05", got[9]+" "+got[10]); err != nil || ends.Sub(asked) != 5*time.Minute {
		t.Errorf("expires %s %s: %v", got[9], got[10], err)
	}
	if a := app.validates(t, got[5]); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// A template that came into the table by another way and does not work is replaced by Fineract's.
func TestMessages_BrokenTemplate(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-email-body', '{{#token}}'), ('default', 'otp-delivery-email-subject', '{{>x}}')`)
	app := b.basic(t)
	code := app.asks(t, 1, "")
	words := b.mail.next(t, 1).Words
	if words.Title != "Fineract Two-Factor Authentication Token" || words.Text != "Hello alice.\nYour OTP login token is "+code+"." {
		t.Errorf("%+v", *words)
	}
}

// E10: only part of an address is shown; a setting shows all of it, as Fineract does. Nobody gets a code at an address that was
// not shown to be theirs.
func TestMessages_Targets(t *testing.T) {
	t.Parallel()
	b := start(t)
	full := start(t, authztest.Options{Like: b.Server, Channels: b.channels, Fineract: fineract.Config{FullTargets: true}})
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-sms-enable', 'true')`)
	profile := storage.Profile{Username: authztest.Username, Email: "alice@example.com", EmailVerified: true, PhoneNumber: "+254711000222", PhoneNumberVerified: true}
	const sms, email = `{"name":"sms","target":"•••• 0222"}`, `{"name":"email","target":"a•••@example.com"}`
	list := func(app *client, want string) {
		t.Helper()
		app.call(t, "GET", "/twofactor", "").is(t, 200, want)
	}
	b.knows(t, b.alice, profile)
	list(b.basic(t), `[`+sms+`,`+email+`]`)
	list(full.basic(t), `[{"name":"sms","target":"+254711000222"},{"name":"email","target":"alice@example.com"}]`)
	profile.PhoneNumberVerified = false
	b.knows(t, b.alice, profile)
	list(b.basic(t), `[`+email+`]`)
	profile.EmailVerified = false
	b.knows(t, b.alice, profile)
	list(b.basic(t), `[]`)
	profile.PhoneNumberVerified, profile.EmailVerified = true, true
	b.knows(t, b.alice, profile)
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-email-enable', 'false')`)
	list(b.basic(t), `[`+sms+`]`)
	b.basic(t).call(t, "POST", "/twofactor?deliveryMethod=email", "").is(t, 403, wrongDelivery)
	b.SQL(t, `UPDATE fineract_twofactor_configuration SET value = 'false'`)
	list(b.basic(t), `[]`)
}

// What the institution does not let customers use, no configuration of this API brings back.
func TestMessages_KindsThatAreNotUsed(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-sms-enable', 'true')`)
	b.hasApp(t, b.alice)
	for kinds, want := range map[string]string{
		"":          `[{"name":"sms","target":"•••• 0222"},{"name":"email","target":"a•••@example.com"},{"name":"totp","target":"authenticator"}]`,
		"email":     `[{"name":"email","target":"a•••@example.com"}]`,
		"totp":      `[{"name":"totp","target":"authenticator"}]`,
		"sms email": `[{"name":"sms","target":"•••• 0222"},{"name":"email","target":"a•••@example.com"}]`,
	} {
		other := start(t, authztest.Options{Like: b.Server, Channels: b.channels, FactorKinds: strings.Fields(kinds)})
		app := other.basic(t)
		app.call(t, "GET", "/twofactor", "").is(t, 200, want)
		if !strings.Contains(want, "totp") {
			app.validates(t, appCode(t, time.Now())).is(t, 403, wrongOTP)
			app.call(t, "POST", "/twofactor?deliveryMethod=totp", "").is(t, 403, wrongDelivery)
		}
		if !strings.Contains(want, "sms") {
			app.call(t, "POST", "/twofactor?deliveryMethod=sms", "").is(t, 403, wrongDelivery)
		}
	}
}

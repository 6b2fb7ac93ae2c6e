package fineract_test

import (
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/storage"
)

// B1-04: in Fineract two users of two tenants with one number share a code. Here two of one name, with one password, share nothing.
func TestTenants(t *testing.T) {
	t.Parallel()
	b := start(t)
	other := start(t, authztest.Options{Like: b.Server, Channels: b.channels, Tenant: "other"})
	other.AddCustomer(t, authztest.Username, "77")
	namesake, err := b.DB.FindCustomer(t.Context(), "other", authztest.Username)
	check(t, err)
	b.knows(t, namesake.ID, storage.Profile{Username: authztest.Username, Email: "namesake@example.com", EmailVerified: true})
	here, there := b.basic(t), other.basic(t).with("Fineract-Platform-TenantId", "other")

	first := here.asks(t, 1, "")
	if a := there.call(t, "POST", "/twofactor?deliveryMethod=email", ""); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	second := codeIn(t, b.mail.next(t, 2).Words.Text)
	if to := b.mail.next(t, 2).To.Email; to != "namesake@example.com" {
		t.Errorf("the code of one goes to %s", to)
	}
	there.validates(t, first).is(t, 403, wrongOTP)
	here.validates(t, second).is(t, 403, wrongOTP)
	mine := here.validates(t, first).object(t)["token"].(string) // and neither was used up by the other
	theirs := there.validates(t, second).object(t)["token"].(string)

	here.tfa(theirs).call(t, "GET", "/twofactor/check", "").badTFA(t)
	there.tfa(mine).call(t, "GET", "/twofactor/check", "").badTFA(t)
	there.tfa(theirs).call(t, "POST", "/twofactor/invalidate", `{"token":"`+mine+`"}`).is(t, 403, wrongToken)
	for _, app := range []*client{here.tfa(mine), there.tfa(theirs)} {
		if a := app.call(t, "GET", "/twofactor/check", ""); a.status != 200 {
			t.Errorf("%d %s", a.status, a.raw)
		}
	}
	for _, app := range []*client{here.with("Fineract-Platform-TenantId", "other"), there.with("Fineract-Platform-TenantId", "default")} {
		if a := app.call(t, "GET", "/twofactor", ""); a.status != 400 {
			t.Errorf("another tenant than the server's: %d %s", a.status, a.raw)
		}
	}
	access := b.app(t, nil).Grant(t, nil)["access_token"].(string)
	if a := there.as("Bearer "+access).call(t, "GET", "/twofactor", ""); a.status != 401 {
		t.Errorf("an access token of another tenant's customer: %d %s", a.status, a.raw)
	}

	b.grant(t, namesake.ID, "ALL_FUNCTIONS")
	b.grant(t, b.alice, "ALL_FUNCTIONS")
	there.tfa(theirs).call(t, "PUT", "/twofactor/configure", `{"otp-token-length":9}`).is(t, 200, `{"changes":{"otp-token-length":9}}`)
	here.tfa(mine).call(t, "GET", "/twofactor/configure", "").is(t, 200, defaults)
}

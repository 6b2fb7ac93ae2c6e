package authn

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// The strictest of all rules that apply to an amount holds.
func TestTransactionRule(t *testing.T) {
	t.Parallel()
	a := &Authn{config: Config{Transactions: Transactions{Rules: []TransactionRule{
		{Above: fapi.AmountLimits{"EUR": "30", "KES": "4000"}, Rule: Rule{FactorMaxAge: 10 * time.Minute}},
		{Above: fapi.AmountLimits{"EUR": "1000"}, Rule: Rule{ACR: CA, MaxAge: time.Hour, FactorMaxAge: 5 * time.Minute, Without: []string{storage.SMSFactor}}},
		{Above: fapi.AmountLimits{"EUR": "50000", "KES": "9000000"}, Rule: Rule{FactorMaxAge: time.Hour, Without: []string{storage.EmailFactor}}},
	}}}}
	sms, both := []string{storage.SMSFactor}, []string{storage.SMSFactor, storage.EmailFactor}
	for _, c := range []struct {
		amount, currency string
		want             Rule
	}{
		{"30", "EUR", Rule{ACR: SCA}},
		{"30.01", "EUR", Rule{ACR: SCA, FactorMaxAge: 10 * time.Minute}},
		{"1000", "EUR", Rule{ACR: SCA, FactorMaxAge: 10 * time.Minute}},
		{"1000.5", "EUR", Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: 5 * time.Minute, Without: sms}},
		{"50001", "EUR", Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: 5 * time.Minute, Without: both}},
		{"4000", "KES", Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: 5 * time.Minute, Without: sms}}, // a currency without a limit is above it
		{"1", "USD", Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: 5 * time.Minute, Without: both}},
		{"", "EUR", Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: 5 * time.Minute, Without: both}}, // so is what cannot be read
	} {
		got := a.TransactionRule(c.amount, c.currency)
		if got.ACR != c.want.ACR || got.MaxAge != c.want.MaxAge || got.FactorMaxAge != c.want.FactorMaxAge || !slices.Equal(got.Without, c.want.Without) {
			t.Errorf("%s %s: %+v, want %+v", c.amount, c.currency, got, c.want)
		}
	}
	if len(DefaultPolicy[ApprovePayment].Without) != 0 {
		t.Error("the policy itself was changed")
	}
}

// What an institution cannot set.
func TestTransactions_Settings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings Transactions
		fault    string // "" for none
	}{
		"nothing":              {},
		"apps' codes":          {settings: Transactions{Unlinked: []string{storage.TOTP}}},
		"recovery codes":       {Transactions{Unlinked: []string{storage.RecoveryCodes}}, "recovery_codes"},
		"a kind that is none":  {Transactions{Rules: []TransactionRule{{Rule: Rule{Without: []string{"grid_card"}}}}}, "grid_card"},
		"an acr that is none":  {Transactions{Rules: []TransactionRule{{Rule: Rule{ACR: "high"}}}}, "acr"},
		"a limit that is none": {Transactions{Rules: []TransactionRule{{Above: fapi.AmountLimits{"EUR": "a lot"}}}}, "transactions"},
	} {
		err := (&Config{Tenant: "default", Transactions: c.settings}).Validate()
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package fapi

import (
	"encoding/json"
	"strings"
	"testing"
)

// Regulation (EU) 2018/389, Article 16: which amounts are low is decided exactly, and what cannot be read is not low.
func TestAmountLimits_Exceeded(t *testing.T) {
	t.Parallel()
	types := map[string]DetailType{
		"payment": {Name: "payment", Amount: "instructedAmount"},
		"loan":    {Name: "loan", Amount: "terms.amount"},
		"account": {Name: "account"},
	}
	pay := func(amount string) string { return `{"type":"payment","instructedAmount":` + amount + `}` }
	eur := func(amount string) string { return pay(`{"currency":"EUR","amount":"` + amount + `"}`) }
	for _, test := range []struct {
		name    string
		details string
		want    bool
	}{
		{"nothing", ``, false},
		{"no amounts in the type", `{"type":"account","instructedAmount":{"currency":"EUR","amount":"1000"}}`, false},
		{"the limit", eur("30"), false},
		{"the limit, with zeros", eur("030.000000000"), false},
		{"a little more", eur("30.000000001"), true},
		{"a little less", eur("29.999999999"), false},
		{"another currency's limit", pay(`{"currency":"KES","amount":"2000.5"}`), false},
		{"above it", pay(`{"currency":"KES","amount":"2000.51"}`), true},
		{"a currency without a limit", pay(`{"currency":"USD","amount":"0.01"}`), true},
		{"a currency in small letters", pay(`{"currency":"eur","amount":"1"}`), true},
		{"a number", pay(`{"currency":"EUR","amount":29.99}`), false},
		{"a number above", pay(`{"currency":"EUR","amount":30.01}`), true},
		{"together above", eur("20") + "," + eur("10.01"), true},
		{"together the limit, with one of another type", eur("20") + `,{"type":"loan","terms":{"amount":{"currency":"EUR","amount":"10"}}}`, false},
		{"each in its currency", eur("30") + "," + pay(`{"currency":"KES","amount":"2000"}`), false},
		{"missing", `{"type":"payment"}`, true},
		{"null", pay(`null`), true},
		{"no object", pay(`"30 EUR"`), true},
		{"a part of the path is missing", `{"type":"loan","terms":{}}`, true},
		{"no amount", pay(`{"currency":"EUR"}`), true},
		{"no currency", pay(`{"amount":"1"}`), true},
		{"a currency that is no text", pay(`{"currency":1,"amount":"1"}`), true},
		{"negative", eur("-1"), true},
		{"with an exponent", eur("1e1"), true},
		{"a number with an exponent that fills the memory", pay(`{"currency":"EUR","amount":1e-999999999}`), true},
		{"a fraction", eur("1/3"), true},
		{"hexadecimal", eur("0x1"), true},
		{"blank", eur(" 1"), true},
		{"empty", eur(""), true},
		{"many digits", eur(strings.Repeat("1", 100)), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var details []AuthorizationDetail
			if err := json.Unmarshal([]byte("["+test.details+"]"), &details); err != nil {
				t.Fatal(err)
			}
			if got := (AmountLimits{"EUR": "30", "KES": "2000.50"}).Exceeded(details, types); got != test.want {
				t.Errorf("%v", got)
			}
			amounts := test.details != "" && !strings.Contains(test.details, "account")
			if got := (AmountLimits)(nil).Exceeded(details, types); got != amounts {
				t.Errorf("without limits: %v", got)
			}
		})
	}
}

func TestAmountLimits_Check(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		currency, amount string
		ok               bool
	}{
		{"EUR", "30", true}, {"KES", "2000.50", true}, {"EUR", "0", true}, {"eur", "30", false}, {"EURO", "30", false}, {"", "30", false},
		{"EUR", "", false}, {"EUR", "-1", false}, {"EUR", "1e3", false}, {"EUR", "30,00", false}, {"EUR", " 30", false},
	} {
		if err := (AmountLimits{test.currency: test.amount}).Check(); (err == nil) != test.ok {
			t.Errorf("%s %s: %v", test.currency, test.amount, err)
		}
	}
}

func TestDetailType_Amount(t *testing.T) {
	t.Parallel()
	for path, ok := range map[string]bool{"": true, "instructedAmount": true, "a.b": true, ".": false, "a.": false, "actions": false, "a..b": false} {
		_, err := ParseDetailType([]byte(`{"type":"x","title":"X","amount":"` + path + `","schema":{"additionalProperties":false}}`))
		if (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
	if got := DefaultDetailTypes()["payment_initiation"].Amount; got != "instructedAmount" {
		t.Errorf("payment_initiation: %q", got)
	}
}

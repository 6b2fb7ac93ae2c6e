package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
)

func TestTransactionSettings(t *testing.T) {
	good := transactionSettings{TransactionLifetime: time.Hour, TransactionMaxOpen: 5, TransactionNotices: 3}
	limits := consent.TransactionLimits{Lifetime: time.Hour, MaxOpen: 5, Notices: 3}
	for name, c := range map[string]struct {
		change func(*transactionSettings)
		rules  string
		want   authn.Transactions
		fault  string // "" when they are good
	}{
		"nothing else":      {},
		"a password":        {change: func(s *transactionSettings) { s.TransactionPassword = true }, want: authn.Transactions{Password: true}},
		"codes of apps":     {change: func(s *transactionSettings) { s.TransactionTOTP = true }, want: authn.Transactions{Unlinked: []string{"totp"}}},
		"no lifetime":       {change: func(s *transactionSettings) { s.TransactionLifetime = 0 }, fault: "above 0"},
		"a negative number": {change: func(s *transactionSettings) { s.TransactionMaxOpen = -1 }, fault: "above 0"},
		"no notices":        {change: func(s *transactionSettings) { s.TransactionNotices = 0 }, fault: "above 0"},
		"no file":           {change: func(s *transactionSettings) { s.TransactionRules = "none.yaml" }, fault: "transaction rules"},
		"rules": {
			rules: "- above: {EUR: \"1000\"}\n  factor_max_age: 5m\n  without: [sms]\n",
			want: authn.Transactions{Rules: []authn.TransactionRule{
				{Above: fapi.AmountLimits{"EUR": "1000"}, Rule: authn.Rule{FactorMaxAge: 5 * time.Minute, Without: []string{"sms"}}},
			}},
		},
		"a word that is none": {rules: "- above: {EUR: \"1000\"}\n  withuot: [sms]\n", fault: "withuot"},
		"no list":             {rules: "above: {EUR: \"1000\"}\n", fault: "transaction rules"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			if c.change != nil {
				c.change(&s)
			}
			if c.rules != "" {
				s.TransactionRules = filepath.Join(t.TempDir(), "rules.yaml")
				if err := os.WriteFile(s.TransactionRules, []byte(c.rules), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, gotLimits, err := s.transactions()
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("%v, want one about %q", err, c.fault)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" || gotLimits != limits {
				t.Errorf("%v, limits %+v, settings (-want +got):\n%s", err, gotLimits, diff)
			}
		})
	}
}

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/consent"
)

// transactionSettings are what can be set about approving transactions (docs/transactions.md).
type transactionSettings struct {
	TransactionLifetime time.Duration `help:"How long a transaction waits for approval at most." env:"COUNTERSIGN_TRANSACTION_LIFETIME" default:"24h" placeholder:"DURATION"`
	TransactionMaxOpen  int           `help:"How many may wait which one customer has started." env:"COUNTERSIGN_TRANSACTION_MAX_OPEN" default:"20"`
	TransactionNotices  int           `help:"Of how many an hour one approver is told; the rest waits in their list all the same." env:"COUNTERSIGN_TRANSACTION_NOTICES" default:"10"`
	TransactionRules    string        `help:"YAML file of what is asked for above which amounts." env:"COUNTERSIGN_TRANSACTION_RULES" placeholder:"FILE"`
	TransactionPassword bool          `help:"Ask for a transaction password beside the code." env:"COUNTERSIGN_TRANSACTION_PASSWORD"`
	TransactionTOTP     bool          `name:"transaction-totp" help:"Take codes of authenticator apps, too, though they say nothing of amount and payee: not for payments under PSD2." env:"COUNTERSIGN_TRANSACTION_TOTP"`
}

// transactions reads the settings.
func (s *transactionSettings) transactions() (t authn.Transactions, limits consent.TransactionLimits, err error) {
	limits = consent.TransactionLimits{Lifetime: s.TransactionLifetime, MaxOpen: s.TransactionMaxOpen, Notices: s.TransactionNotices}
	if limits.Lifetime <= 0 || limits.MaxOpen <= 0 || limits.Notices <= 0 {
		return t, limits, errors.New("transaction-lifetime, transaction-max-open and transaction-notices must be above 0")
	}
	t.Password = s.TransactionPassword
	if s.TransactionTOTP {
		t.Unlinked = []string{"totp"}
	}
	if s.TransactionRules == "" {
		return t, limits, nil
	}
	file, err := os.Open(s.TransactionRules)
	if err != nil {
		return t, limits, fmt.Errorf("transaction rules: %w", err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&t.Rules); err != nil {
		return t, limits, fmt.Errorf("transaction rules: %s: %w", s.TransactionRules, err)
	}
	return t, limits, nil
}

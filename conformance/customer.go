package main

import (
	"context"
	"strings"
)

// The customer who logs in at the suite's and the benchmark's hands. It has every claim that the metadata lists: the
// suite asks for all of them.
const (
	customerName   = "alice"
	customerFull   = "Alice Example"
	customerGiven  = "Alice"
	customerFamily = "Example"
	customerEmail  = "alice@example.org"
	customerPhone  = "+441632960123" // a number that Ofcom keeps for fiction
)

var accounts = []struct{ ID, Name, Number, Currency string }{
	{"1001", "Everyday", "DE02100100109307118603", "EUR"},
	{"1002", "Savings", "DE02120300000000202051", "EUR"},
}

// createCustomer makes the customer, unless the database has been here before.
func (s *setup) createCustomer(ctx context.Context, p *prepared, database string) error {
	args := []string{"customer", "create", "--database-url", database, "--master-key-file", p.masterKey,
		"--username", customerName, "--name", customerFull,
		"--given-name", customerGiven, "--family-name", customerFamily, "--email", customerEmail, "--phone", customerPhone,
		"--fineract-client-id", "1", "--password-file", "-"}
	for _, a := range accounts {
		args = append(args, "--account", strings.Join([]string{a.ID, a.Name, a.Number, a.Currency}, ":"))
	}
	out, err := s.countersign(ctx, p.pages.password+"\n", args...)
	if err != nil && strings.Contains(out, "already") {
		return nil // its password is that of the folder, or the first plan fails at once
	}
	return err
}

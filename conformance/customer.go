package main

import (
	"context"
	"strings"
)

// The customer who logs in at the suite's and the benchmark's hands, where nothing else is said.
const customerName = "alice"

// customerClaims are all that the metadata lists: the suite asks for each.
const customerClaims = `name: Alice Mary Example
given_name: Alice
middle_name: Mary
family_name: Example
nickname: Ally
profile: https://alice.example.org/
picture: https://alice.example.org/picture.png
website: https://alice.example.org/blog
gender: female
birthdate: "1980-02-29"
zoneinfo: Europe/London
locale: en-GB
updated_at: 1735689600
email: alice@example.org
email_verified: true
phone_number: "+441632960123" # one that Ofcom keeps for fiction
phone_number_verified: true
address:
  formatted: "1 High Street\nAmbridge\nBorsetshire\nBO1 1AA\nUnited Kingdom"
  street_address: 1 High Street
  locality: Ambridge
  region: Borsetshire
  postal_code: BO1 1AA
  country: United Kingdom
`

var accounts = []struct{ ID, Name, Number, Currency string }{
	{"1001", "Everyday", "DE02100100109307118603", "EUR"},
	{"1002", "Savings", "DE02120300000000202051", "EUR"},
}

// customer is who takes part in a combination. One who is asked on a phone has a plan of their own: there the newest request
// is the one that counts.
func (c *combination) customer() string {
	if c.phone {
		return c.alias
	}
	return customerName
}

// createCustomers makes the customers, unless the database has been here before.
func (s *setup) createCustomers(ctx context.Context, p *prepared, database string) error {
	if err := write(s.file("customer.yaml"), []byte(customerClaims)); err != nil {
		return err
	}
	names := []string{customerName}
	for _, c := range s.combinations() {
		if c.phone {
			names = append(names, c.customer())
		}
	}
	for _, name := range names {
		if err := s.createCustomer(ctx, p, database, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *setup) createCustomer(ctx context.Context, p *prepared, database, username string) error {
	args := []string{"customer", "create", "--database-url", database, "--master-key-file", p.masterKey,
		"--username", username, "--claims", s.file("customer.yaml"), "--fineract-client-id", "1", "--password-file", "-"}
	for _, a := range accounts {
		args = append(args, "--account", strings.Join([]string{a.ID, a.Name, a.Number, a.Currency}, ":"))
	}
	out, err := s.countersign(ctx, p.pages.password+"\n", args...)
	if err != nil && strings.Contains(out, "already") {
		return nil // its password is that of the folder, or the first plan fails at once
	}
	return err
}

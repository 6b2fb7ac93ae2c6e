package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// profileFlags say who a customer is.
type profileFlags struct {
	Name          string   `help:"Full name." placeholder:"NAME"`
	GivenName     string   `help:"Given name, for the claim given_name." placeholder:"NAME"`
	FamilyName    string   `help:"Family name, for the claim family_name." placeholder:"NAME"`
	Email         string   `help:"Email address." placeholder:"ADDRESS"`
	EmailVerified bool     `help:"The bank knows that the address is the customer's."`
	Phone         string   `help:"Telephone number, with the country code." placeholder:"NUMBER"`
	PhoneVerified bool     `help:"The bank knows that the number is the customer's."`
	Claims        string   `help:"File with further claims, as OpenID Connect Core 5.1 names them (YAML or JSON)." placeholder:"FILE"`
	Attribute     []string `help:"An attribute, such as country=KE; without a value it is taken away. May be repeated." sep:"none" placeholder:"NAME=VALUE"`
}

// apply changes a profile as the claims file and the flags say. Flags win. A new address is not verified unless they say so.
func (f *profileFlags) apply(p *storage.Profile) error {
	before, said := *p, storage.Profile{} // by the file alone
	for _, to := range []*storage.Profile{&said, p} {
		if f.Claims == "" {
			break
		}
		if err := readClaims(f.Claims, to); err != nil {
			return fmt.Errorf("claims: %w", err)
		}
	}
	for _, set := range []struct {
		to   *string
		flag string
	}{{&p.Name, f.Name}, {&p.GivenName, f.GivenName}, {&p.FamilyName, f.FamilyName}, {&p.Email, f.Email}, {&p.PhoneNumber, f.Phone}} {
		if set.flag != "" {
			*set.to = set.flag
		}
	}
	p.EmailVerified = f.EmailVerified || isVerified(p.Email, p.EmailVerified, before.Email, said.Email, said.EmailVerified)
	p.PhoneNumberVerified = f.PhoneVerified || isVerified(p.PhoneNumber, p.PhoneNumberVerified, before.PhoneNumber, said.PhoneNumber, said.PhoneNumberVerified)
	attributes := maps.Clone(p.Attributes)
	for _, text := range f.Attribute {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("attribute %q is not a name and a value, such as country=KE", text)
		}
		if attributes == nil {
			attributes = map[string]string{}
		}
		if attributes[name] = value; value == "" {
			delete(attributes, name)
		}
	}
	p.Attributes = attributes
	return nil
}

// isVerified tells whether an address is: the one before as it is, another one if the file says so, and not of a third.
func isVerified(address string, is bool, before, said string, saidToBe bool) bool {
	if address == before {
		return is
	}
	return saidToBe && (said == "" || said == address)
}

type customerUpdate struct {
	profileFlags     `embed:""`
	Username         string    `arg:"" help:"User name."`
	FineractClientID *int64    `name:"fineract-client-id" help:"The customer's client id in Fineract; 0 for none." placeholder:"ID"`
	Role             []string  `help:"A role in the place of those before: USER, ADMIN or SUPPORT; may be repeated." sep:"none" placeholder:"ROLE"`
	Account          []account `help:"An account in the place of those before; may be repeated." sep:"none" placeholder:"ID:NAME:NUMBER:CURRENCY"`
}

func (c *customerUpdate) Run(ctx context.Context, all *commands) error {
	err := all.Customer.change(ctx, c.Username, func(a *authn.Authn, ctx context.Context, id uuid.UUID) error {
		err := a.ChangeCustomer(ctx, id, authn.Change{Profile: c.apply, FineractClientID: c.FineractClientID, Roles: c.Role})
		if err == nil && len(c.Account) > 0 {
			err = a.SetAccounts(ctx, id, accounts(c.Account))
		}
		return err
	})
	return clientTaken(err, c.FineractClientID)
}

// clientTaken says it in an operator's words.
func clientTaken(err error, client *int64) error {
	if errors.Is(err, storage.ErrClientTaken) && client != nil {
		return fmt.Errorf("client %d of Fineract has as many customers as customers-per-client allows", *client)
	}
	return err
}

type customerGrant struct {
	Username   string `arg:"" help:"User name."`
	Permission string `arg:"" help:"The permission's name."`
}

func (c *customerGrant) Run(ctx context.Context, all *commands) error {
	return all.Customer.change(ctx, c.Username, func(a *authn.Authn, ctx context.Context, id uuid.UUID) error {
		return a.ChangeCustomer(ctx, id, authn.Change{Grant: []string{c.Permission}})
	})
}

type customerRevoke struct {
	Username   string `arg:"" help:"User name."`
	Permission string `arg:"" help:"The permission's name."`
}

func (c *customerRevoke) Run(ctx context.Context, all *commands) error {
	return all.Customer.change(ctx, c.Username, func(a *authn.Authn, ctx context.Context, id uuid.UUID) error {
		return a.ChangeCustomer(ctx, id, authn.Change{Revoke: []string{c.Permission}})
	})
}

type customerShow struct {
	Username string `arg:"" help:"User name."`
}

func (c *customerShow) Run(ctx context.Context, all *commands) error {
	a, done, err := all.Customer.authn(ctx)
	if err != nil {
		return err
	}
	defer done()
	found, err := all.Customer.find(ctx, a, c.Username)
	if err != nil {
		return err
	}
	p, err := found.Profile()
	if err != nil {
		return fmt.Errorf("customer %s: %w", found.ID, err)
	}
	accounts, err := a.ListAccounts(ctx, found.ID)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, line := range shownToStaff(found, &p, accounts) {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	return w.Flush()
}

// shownToStaff is a customer as staff see one, in no more of their data than tells them apart (E10, E13).
func shownToStaff(c *storage.CustomerRecord, p *storage.Profile, accounts []storage.Account) (lines [][2]string) {
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, [2]string{name, value})
		}
	}
	add("customer", c.ID.String())
	add("tenant", c.Tenant)
	add("user name", masked(p.Username))
	add("name", masked(p.Name))
	if p.Email != "" {
		add("email", authn.Destination{Channel: authn.ChannelEmail, Address: p.Email}.Masked()+verified(p.EmailVerified))
	}
	if p.PhoneNumber != "" {
		add("phone", authn.Destination{Channel: authn.ChannelSMS, Address: p.PhoneNumber}.Masked()+verified(p.PhoneNumberVerified))
	}
	if c.FineractClientID != nil {
		add("fineract client", fmt.Sprint(*c.FineractClientID))
	}
	add("roles", strings.Join(c.Roles, " "))
	add("permissions", strings.Join(c.Permissions, " "))
	for _, name := range slices.Sorted(maps.Keys(p.Attributes)) {
		add("attribute", name+"="+p.Attributes[name])
	}
	for _, account := range accounts {
		add("account", lastFour(account.Number)+" "+account.Currency)
	}
	add("second factors", strings.Join(c.SecondFactors, " "))
	add("created", c.CreatedAt.UTC().Format("2006-01-02 15:04Z"))
	add("state", customerState(c))
	return lines
}

func verified(is bool) string {
	if is {
		return " (verified)"
	}
	return ""
}

func lastFour(number string) string {
	if len(number) < 8 {
		return "••••"
	}
	return "•••• " + number[len(number)-4:]
}

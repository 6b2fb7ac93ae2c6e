package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

type customerCommand struct {
	databaseSettings `embed:""`

	Tenant    string `help:"Fineract tenant that the customers belong to." env:"COUNTERSIGN_TENANT" default:"default"`
	PerClient int    `name:"customers-per-client" help:"Customers that one Fineract client may have; -1 for any number." env:"COUNTERSIGN_CUSTOMERS_PER_CLIENT" default:"1"`
	BankName  string `help:"The institution's name, which is no good password." env:"COUNTERSIGN_BANK_NAME" default:"Countersign Bank" hidden:""`

	Create      customerCreate      `cmd:"" help:"Create a customer. The password is asked for, or read from a file."`
	Import      customerImport      `cmd:"" help:"Create customers from a file, with hashes of their passwords (docs/customers.md)."`
	Invite      customerInvite      `cmd:"" help:"Invite a client of Fineract: the code makes a new customer, or links one."`
	List        customerList        `cmd:"" help:"List the customers, masked."`
	Show        customerShow        `cmd:"" help:"Show a customer, masked."`
	Update      customerUpdate      `cmd:"" help:"Change what is known of a customer."`
	Grant       customerGrant       `cmd:"" help:"Grant a customer a permission, such as BYPASS_TWOFACTOR."`
	Revoke      customerRevoke      `cmd:"" help:"Take a permission back."`
	Unlock      customerUnlock      `cmd:"" help:"End a lock that wrong passwords or codes have caused."`
	Disable     customerDisable     `cmd:"" help:"End all that a customer may do, and all logins and tokens, at once."`
	Enable      customerEnable      `cmd:"" help:"Undo disable."`
	SetPassword customerSetPassword `cmd:"" help:"Give a customer another password, who has lost theirs and cannot get back in alone. All logins end."`
	ResetFactor customerResetFactor `cmd:"" help:"Forget a customer's second factors, of a lost telephone say: the next login enrols a new one."`
	Export      customerExport      `cmd:"" help:"Write all that is held about a customer as JSON, for one who asks by letter."`
	Delete      customerDelete      `cmd:"" help:"Have a customer deleted after a waiting period, for one who asks by letter."`
}

// authn opens the customers of the database. done must be called in the end.
func (c *customerCommand) authn(ctx context.Context) (a *authn.Authn, done func(), err error) {
	config := authn.Config{Tenant: c.Tenant, Issuer: c.BankName, CustomersPerClient: c.PerClient}
	if err := config.Validate(); err != nil {
		return nil, nil, err
	}
	db, err := c.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	pages, err := web.New(web.Brand{Name: c.BankName}) // for the words of what is sent
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return authn.New(db, pages, zap.NewNop(), config), db.Close, nil
}

// change does something to one customer.
func (c *customerCommand) change(ctx context.Context, username string, change func(*authn.Authn, context.Context, uuid.UUID) error) error {
	a, done, err := c.authn(ctx)
	if err != nil {
		return err
	}
	defer done()
	found, err := c.find(ctx, a, username)
	if err != nil {
		return err
	}
	return change(a, ctx, found.ID)
}

func (c *customerCommand) find(ctx context.Context, a *authn.Authn, username string) (*storage.CustomerRecord, error) {
	found, err := a.FindCustomer(ctx, "", username)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("tenant %s has no customer %q", c.Tenant, username)
	}
	return found, err
}

type customerCreate struct {
	profileFlags     `embed:""`
	Username         string    `help:"User name to log in with." required:"" placeholder:"NAME"`
	FineractClientID *int64    `name:"fineract-client-id" help:"The customer's client id in Fineract." placeholder:"ID"`
	Role             []string  `help:"A role: USER, ADMIN or SUPPORT; may be repeated. USER if there is none." sep:"none" placeholder:"ROLE"`
	Permission       []string  `help:"A permission, such as BYPASS_TWOFACTOR; may be repeated." sep:"none" placeholder:"NAME"`
	Account          []account `help:"An account that the customer may share; may be repeated." sep:"none" placeholder:"ID:NAME:NUMBER:CURRENCY"`
	PasswordFile     string    `help:"File that holds the password, or - for standard input. Without it the password is asked for." placeholder:"FILE"`
}

// account is an account as it is written on the command line.
type account storage.Account

// UnmarshalText reads ID:NAME:NUMBER:CURRENCY.
func (a *account) UnmarshalText(text []byte) error {
	part := strings.Split(string(text), ":")
	if len(part) != 4 || part[0] == "" || part[1] == "" || len(part[3]) != 3 {
		return fmt.Errorf("%q is not ID:NAME:NUMBER:CURRENCY, such as 1001:Everyday:12345678:EUR", text)
	}
	*a = account{ID: part[0], Name: part[1], Number: part[2], Currency: strings.ToUpper(part[3])}
	return nil
}

func (c *customerCreate) Run(ctx context.Context, all *commands) error {
	password, err := c.password(os.Stdin, os.Stderr)
	if err != nil {
		return err
	}
	profile, err := c.profile()
	if err != nil {
		return err
	}
	a, done, err := all.Customer.authn(ctx)
	if err != nil {
		return err
	}
	defer done()
	id, err := a.CreateCustomer(ctx, authn.NewCustomer{
		Profile:          profile,
		Password:         password,
		FineractClientID: c.FineractClientID,
		Roles:            c.Role,
		Permissions:      c.Permission,
		Accounts:         accounts(c.Account),
	})
	if errors.Is(err, storage.ErrConflict) {
		return fmt.Errorf("tenant %s has a customer %q already", all.Customer.Tenant, c.Username)
	}
	if err != nil {
		return clientTaken(err, c.FineractClientID)
	}
	fmt.Println("created", id)
	return nil
}

// profile is what the claims file and the flags say of the customer. Flags win.
func (c *customerCreate) profile() (p storage.Profile, err error) {
	err = c.apply(&p)
	p.Username = c.Username
	return p, err
}

// readClaims reads a file of claims. One that we do not know is refused: nobody would ever see it.
func readClaims(file string, to *storage.Profile) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var claims map[string]any
	if err := yaml.Unmarshal(content, &claims); err != nil {
		return err
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(to)
}

func accounts(flags []account) []storage.Account {
	list := make([]storage.Account, len(flags))
	for i, a := range flags {
		list[i] = storage.Account(a)
	}
	return list
}

// password is never an argument: those are in the shell's history and in everybody's list of processes.
func (c *customerCreate) password(stdin io.Reader, prompt io.Writer) (string, error) {
	if c.PasswordFile != "" && c.PasswordFile != "-" {
		content, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("password: %w", err)
		}
		return firstLine(string(content))
	}
	if c.PasswordFile == "" {
		fmt.Fprintf(prompt, "Password for %s (it shows as you type): ", c.Username)
	}
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("password: %w", err)
	}
	return firstLine(line)
}

func firstLine(content string) (string, error) {
	line, rest, _ := strings.Cut(content, "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || strings.TrimSpace(rest) != "" {
		return "", errors.New("the password must be one line")
	}
	return line, nil
}

type customerList struct{}

// page is how many customers are read at once.
const page = 500

func (customerList) Run(ctx context.Context, all *commands) error {
	a, done, err := all.Customer.authn(ctx)
	if err != nil {
		return err
	}
	defer done()
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CUSTOMER\tUSER NAME\tNAME\tFINERACT\tFACTORS\tSTATE")
	for after := uuid.Nil; ; {
		customers, err := a.ListCustomers(ctx, "", after, page)
		if err != nil {
			return err
		}
		for i := range customers {
			line, err := customerLine(&customers[i])
			if err != nil {
				return err
			}
			fmt.Fprintln(w, line)
		}
		if len(customers) < page {
			return w.Flush()
		}
		after = customers[len(customers)-1].ID
	}
}

func customerLine(c *storage.CustomerRecord) (string, error) {
	profile, err := c.Profile()
	if err != nil {
		return "", fmt.Errorf("customer %s: %w", c.ID, err)
	}
	fineract, factors := "-", "-"
	if c.FineractClientID != nil {
		fineract = fmt.Sprint(*c.FineractClientID)
	}
	if len(c.SecondFactors) > 0 {
		factors = strings.Join(c.SecondFactors, ",")
	}
	return strings.Join([]string{c.ID.String(), masked(profile.Username), masked(profile.Name), fineract, factors, customerState(c)}, "\t"), nil
}

func customerState(c *storage.CustomerRecord) string {
	switch {
	case c.DisabledAt != nil:
		return "disabled " + c.DisabledAt.UTC().Format("2006-01-02")
	case c.BlockedUntil != nil:
		return "slowed down until " + c.BlockedUntil.UTC().Format("2006-01-02 15:04Z")
	}
	return "active"
}

// masked leaves of each word its first letter: enough to recognise somebody one knows.
func masked(text string) string {
	words := strings.Fields(text)
	for i, word := range words {
		_, size := utf8.DecodeRuneInString(word)
		words[i] = word[:size] + "•••"
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}

type customerUnlock struct {
	Username string `arg:"" help:"User name."`
}

func (c *customerUnlock) Run(ctx context.Context, all *commands) error {
	return all.Customer.change(ctx, c.Username, (*authn.Authn).Unlock)
}

type customerDisable struct {
	Username string `arg:"" help:"User name."`
}

func (c *customerDisable) Run(ctx context.Context, all *commands) error {
	return all.Customer.change(ctx, c.Username, (*authn.Authn).Disable)
}

type customerEnable struct {
	Username string `arg:"" help:"User name."`
}

func (c *customerEnable) Run(ctx context.Context, all *commands) error {
	return all.Customer.change(ctx, c.Username, (*authn.Authn).Enable)
}

type customerResetFactor struct {
	Username string `arg:"" help:"User name."`
}

func (c *customerResetFactor) Run(ctx context.Context, all *commands) error {
	err := all.Customer.change(ctx, c.Username, (*authn.Authn).RemoveSecondFactors)
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("customer %q has no second factor", c.Username)
	}
	return err
}

package authn

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// NewCustomer is a customer to be made.
type NewCustomer struct {
	Tenant           string // "" for the one that logs in here
	Profile          storage.Profile
	Password         string
	PasswordHash     string   // instead of Password, of an imported customer: an Argon2id PHC string or bcrypt
	FineractClientID *int64   // nil until the core banking system knows the customer
	Roles            []string // some of Roles; none: USER
	Permissions      []string // by name, such as BYPASS_TWOFACTOR
	Accounts         []storage.Account
}

// Roles are what a customer can be. Staff are Fineract's, or another IdP's: an ADMIN here administers a firm's access.
var Roles = []string{"USER", "ADMIN", "SUPPORT"}

// What a customer cannot be given.
var (
	ErrRole       = errors.New("authn: a role is USER, ADMIN or SUPPORT, each once")
	ErrPermission = errors.New("authn: a permission is a name of capital letters, digits and _")
	ErrAttribute  = errors.New("authn: an attribute has a name of small letters, digits and _, and a value of 1 to 254 characters")
	ErrName       = errors.New("authn: a name has at most 254 characters that can be seen")
	ErrEmail      = errors.New("authn: this is not an email address")
	ErrPhone      = errors.New("authn: this is not a phone number with its country code, such as +254712345678")
)

var (
	permissionName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,99}$`)
	attributeName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

const mostAttributes = 32

// CreateCustomer makes a customer. It returns ErrUsername, one of the errors above or one of the ErrPassword… for what does not do, storage.ErrConflict when the name is taken, and storage.ErrClientTaken.
func (a *Authn) CreateCustomer(ctx context.Context, n NewCustomer) (uuid.UUID, error) {
	c, err := a.newCustomer(ctx, n)
	if err != nil {
		return uuid.Nil, err
	}
	if err := a.db.CreateCustomer(ctx, c); err != nil {
		return uuid.Nil, err
	}
	a.created(c)
	return c.ID, nil
}

func (a *Authn) created(c storage.NewCustomer) {
	a.log.Info("customer.created", zap.Stringer("customer", c.ID), zap.String("tenant", c.Tenant))
}

// newCustomer checks a customer to be made, and hashes the password.
func (a *Authn) newCustomer(ctx context.Context, n NewCustomer) (c storage.NewCustomer, err error) {
	name, err := normalizeUsername(n.Profile.Username)
	if err != nil {
		return c, err
	}
	n.Profile.Username = strings.TrimSpace(n.Profile.Username)
	if len(n.Roles) == 0 {
		n.Roles = []string{"USER"}
	}
	for _, err := range []error{checkAccounts(n.Accounts), checkRoles(n.Roles), checkPermissions(n.Permissions), checkProfile(&n.Profile, &storage.Profile{})} {
		if err != nil {
			return c, err
		}
	}
	hash, err := a.newHash(ctx, n, name)
	if err != nil {
		return c, err
	}
	if n.Tenant == "" {
		n.Tenant = a.config.Tenant
	}
	return storage.NewCustomer{
		ID: storage.NewID(), Tenant: n.Tenant, Username: name, Profile: n.Profile, PasswordHash: hash,
		FineractClientID: n.FineractClientID, Roles: n.Roles, Permissions: n.Permissions, Accounts: n.Accounts, MostPerClient: a.mostPerClient(),
	}, nil
}

// mostPerClient is how many customers one client of the core may have, 0 for any number.
func (a *Authn) mostPerClient() int { return max(a.config.CustomersPerClient, 0) }

func checkRoles(roles []string) error {
	for i, role := range roles {
		if !slices.Contains(Roles, role) || slices.Contains(roles[:i], role) {
			return ErrRole
		}
	}
	return nil
}

func checkPermissions(permissions []string) error {
	for _, name := range permissions {
		if !permissionName.MatchString(name) {
			return ErrPermission
		}
	}
	return nil
}

// checkProfile looks at what differs from before: what older versions have taken stays until somebody changes it.
func checkProfile(p, before *storage.Profile) error {
	switch {
	case p.Name != before.Name && !isText(p.Name):
		return ErrName
	case p.Email != before.Email && p.Email != "" && !isEmail(p.Email):
		return ErrEmail
	case p.PhoneNumber != before.PhoneNumber && p.PhoneNumber != "" && storage.PhoneNumber(p.PhoneNumber) == "":
		return ErrPhone
	}
	return checkAttributes(p.Attributes)
}

func checkAttributes(attributes map[string]string) error {
	if len(attributes) > mostAttributes {
		return fmt.Errorf("authn: a customer has at most %d attributes", mostAttributes)
	}
	for name, value := range attributes {
		if !attributeName.MatchString(name) || value == "" || !isText(value) {
			return ErrAttribute
		}
	}
	return nil
}

func (a *Authn) newHash(ctx context.Context, n NewCustomer, name string) (string, error) {
	if n.PasswordHash != "" {
		if n.Password != "" {
			return "", errors.New("authn: a password or its hash, not both")
		}
		return n.PasswordHash, checkHash(n.PasswordHash)
	}
	password := normalizePassword(n.Password)
	local, _, _ := strings.Cut(n.Profile.Email, "@")
	if err := checkPassword(password, name, n.Profile.Username, local, n.Profile.Name, a.config.Issuer); err != nil {
		return "", err
	}
	return a.hasher.hash(ctx, password)
}

func checkAccounts(accounts []storage.Account) error {
	seen := map[string]bool{}
	for _, account := range accounts {
		if account.ID == "" || seen[account.ID] {
			return fmt.Errorf("authn: account id %q is empty or stands there twice", account.ID)
		}
		seen[account.ID] = true
	}
	return nil
}

// FindCustomer finds a customer by user name, in any spelling that logs in. "" is the tenant that logs in here. It
// returns storage.ErrNotFound for an unknown one.
func (a *Authn) FindCustomer(ctx context.Context, tenant, username string) (*storage.CustomerRecord, error) {
	name, err := normalizeUsername(username)
	if err != nil {
		return nil, storage.ErrNotFound
	}
	if tenant == "" {
		tenant = a.config.Tenant
	}
	return a.db.FindCustomer(ctx, tenant, name)
}

// ListCustomers returns up to limit customers of a tenant, oldest first, from after on (uuid.Nil: from the first).
func (a *Authn) ListCustomers(ctx context.Context, tenant string, after uuid.UUID, limit int) ([]storage.CustomerRecord, error) {
	if tenant == "" {
		tenant = a.config.Tenant
	}
	return a.db.ListCustomers(ctx, tenant, after, limit)
}

// ListAccounts returns a customer's accounts.
func (a *Authn) ListAccounts(ctx context.Context, customer uuid.UUID) ([]storage.Account, error) {
	return a.db.ListAccounts(ctx, customer)
}

// Change is what is changed of a customer. Zero values leave it as it is.
type Change struct {
	Profile          func(*storage.Profile) error
	FineractClientID *int64   // 0: no client
	Roles            []string // in the place of those before
	Grant, Revoke    []string // permissions
}

// ChangeCustomer changes what staff know of a customer: all of it, or nothing. It returns storage.ErrNotFound for an unknown one,
// storage.ErrClientTaken, or as CreateCustomer does for what does not do.
func (a *Authn) ChangeCustomer(ctx context.Context, customer uuid.UUID, c Change) error {
	if err := errors.Join(checkRoles(c.Roles), checkPermissions(c.Grant), checkPermissions(c.Revoke)); err != nil {
		return err
	}
	profile := c.Profile
	if profile != nil {
		profile = func(p *storage.Profile) error {
			before := *p
			if err := c.Profile(p); err != nil {
				return err
			}
			return checkProfile(p, &before)
		}
	}
	return a.changed("customer.changed", customer, a.db.ChangeCustomer(ctx, customer, storage.CustomerChange{
		Profile: profile, FineractClientID: c.FineractClientID, Roles: c.Roles, Grant: c.Grant, Revoke: c.Revoke, MostPerClient: a.mostPerClient(),
	}))
}

// SetAccounts replaces a customer's accounts. It returns storage.ErrNotFound for an unknown customer.
func (a *Authn) SetAccounts(ctx context.Context, customer uuid.UUID, accounts []storage.Account) error {
	if err := checkAccounts(accounts); err != nil {
		return err
	}
	return a.changed("customer.accounts_set", customer, a.db.SetAccounts(ctx, customer, accounts))
}

// Unlock ends a lock. It returns storage.ErrNotFound for an unknown customer, as the others below do.
func (a *Authn) Unlock(ctx context.Context, customer uuid.UUID) error {
	return a.changed("customer.unlocked", customer, a.db.UnlockCustomer(ctx, customer))
}

// SetPassword gives a customer another password, at the branch say: all logins end, failures are forgotten, and the customer is told by mail.
// It returns one of the ErrPassword…, and storage.ErrNotFound for an unknown or disabled customer.
func (a *Authn) SetPassword(ctx context.Context, c *storage.CustomerRecord, password string) error {
	p, err := c.Profile()
	if err != nil {
		return err
	}
	hash, err := a.hashFor(ctx, p, password)
	if err != nil {
		return err
	}
	name, err := normalizeUsername(p.Username)
	if err != nil {
		return err
	}
	was, err := a.db.FindCredentials(ctx, c.Tenant, name, storage.Visit{})
	if err != nil {
		return err
	}
	e := storage.Event{CustomerID: c.ID, Kind: "password.set"}
	if err := a.db.ReplacePassword(ctx, storage.NewPasswordHash{Old: was.PasswordHash, New: hash}, nil, e, a.notice(p, "password_changed")); err != nil {
		return err
	}
	return a.changed(e.Kind, c.ID, a.db.UnlockCustomer(ctx, c.ID))
}

// Disable ends what a customer may do, at once: logins, tokens and consents stop working.
func (a *Authn) Disable(ctx context.Context, customer uuid.UUID) error {
	return a.changed("customer.disabled", customer, a.db.DisableCustomer(ctx, customer))
}

// Enable undoes Disable.
func (a *Authn) Enable(ctx context.Context, customer uuid.UUID) error {
	return a.changed("customer.enabled", customer, a.db.EnableCustomer(ctx, customer))
}

// RemoveSecondFactors forgets a customer's second factors, of a lost telephone say, and ends the customer's logins. It
// returns storage.ErrNotFound when there is none.
func (a *Authn) RemoveSecondFactors(ctx context.Context, customer uuid.UUID) error {
	return a.changed("customer.second_factors_removed", customer, a.db.RemoveFactors(ctx, customer))
}

func (a *Authn) changed(event string, customer uuid.UUID, err error) error {
	if err == nil {
		a.log.Info(event, zap.Stringer("customer", customer))
	}
	return err
}

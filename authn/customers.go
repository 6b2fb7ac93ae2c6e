package authn

import (
	"context"
	"errors"
	"fmt"
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
	PasswordHash     string // instead of Password, of an imported customer: an Argon2id PHC string or bcrypt
	FineractClientID *int64 // nil until the core banking system knows the customer
	Roles            []string
	Accounts         []storage.Account
}

// CreateCustomer makes a customer. It returns ErrUsername or one of the ErrPassword… for what does not do, and
// storage.ErrConflict when the name is taken.
func (a *Authn) CreateCustomer(ctx context.Context, n NewCustomer) (uuid.UUID, error) {
	name, err := normalizeUsername(n.Profile.Username)
	if err != nil {
		return uuid.Nil, err
	}
	n.Profile.Username = strings.TrimSpace(n.Profile.Username)
	if err := checkAccounts(n.Accounts); err != nil {
		return uuid.Nil, err
	}
	hash, err := a.newHash(ctx, n, name)
	if err != nil {
		return uuid.Nil, err
	}
	c := storage.NewCustomer{
		ID: storage.NewID(), Tenant: n.Tenant, Username: name, Profile: n.Profile, PasswordHash: hash,
		FineractClientID: n.FineractClientID, Roles: n.Roles, Accounts: n.Accounts,
	}
	if c.Tenant == "" {
		c.Tenant = a.config.Tenant
	}
	if err := a.db.CreateCustomer(ctx, c); err != nil {
		return uuid.Nil, err
	}
	a.log.Info("customer.created", zap.Stringer("customer", c.ID), zap.String("tenant", c.Tenant))
	return c.ID, nil
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

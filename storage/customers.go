package storage

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Customer is a person who may approve. Its profile is sealed until Profile is asked for.
type Customer struct {
	ID               uuid.UUID
	Tenant           string // Fineract tenant
	FineractClientID *int64 // nil until the core banking system knows the customer
	Roles            []string

	sealedProfile []byte
	keys          *Keyring
}

// Profile is what a customer told us of themselves, under the names of OpenID Connect Core §5.1. Absent ones are empty.
type Profile struct {
	Username    string `json:"username"`
	Name        string `json:"name,omitempty"`
	GivenName   string `json:"given_name,omitempty"`
	FamilyName  string `json:"family_name,omitempty"`
	MiddleName  string `json:"middle_name,omitempty"`
	Nickname    string `json:"nickname,omitempty"`
	ProfilePage string `json:"profile,omitempty"` // a URL, as are the next two
	Picture     string `json:"picture,omitempty"`
	Website     string `json:"website,omitempty"`
	Gender      string `json:"gender,omitempty"`
	Birthdate   string `json:"birthdate,omitempty"`  // YYYY-MM-DD, 0000-MM-DD or YYYY
	ZoneInfo    string `json:"zoneinfo,omitempty"`   // Europe/London
	Locale      string `json:"locale,omitempty"`     // en-GB (BCP 47)
	UpdatedAt   int64  `json:"updated_at,omitempty"` // seconds since 1970; 0: not known

	Email               string  `json:"email,omitempty"`
	EmailVerified       bool    `json:"email_verified,omitempty"`
	PhoneNumber         string  `json:"phone_number,omitempty"` // E.164
	PhoneNumberVerified bool    `json:"phone_number_verified,omitempty"`
	Address             Address `json:"address,omitzero"`
}

// Address is where a customer lives (OpenID Connect Core §5.1.1).
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

const (
	profilePurpose  = "customers.profile"
	usernamePurpose = "customers.username"
)

// Profile opens the customer's profile.
func (c *Customer) Profile() (Profile, error) {
	var p Profile
	plain, err := c.keys.Open(profilePurpose, c.ID[:], c.sealedProfile)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(plain, &p)
}

// Account is one of a customer's accounts in the core banking system.
type Account struct {
	ID       string `json:"-"`
	Name     string `json:"name"`
	Number   string `json:"number"`
	Currency string `json:"currency"` // ISO 4217
}

const accountPurpose = "accounts.details"

// accountRow binds an account's details to the customer as well as to the account.
func accountRow(customer uuid.UUID, id string) []byte { return append(customer[:], id...) }

func (db *DB) scanAccount(row pgx.CollectableRow) (a Account, err error) {
	var customer uuid.UUID
	var sealed []byte
	if err = row.Scan((*[16]byte)(&customer), &a.ID, &sealed); err != nil {
		return a, err
	}
	plain, err := db.Keys().Open(accountPurpose, accountRow(customer, a.ID), sealed)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(plain, &a)
}

const (
	createCustomerSQL = `
INSERT INTO customers (id, tenant, username_index, profile, password_hash, fineract_client_id, roles)
VALUES ($1, $2, $3, $4, $5, $6, $7)`

	lockCustomerSQL = `SELECT id FROM customers WHERE id = $1 FOR UPDATE`

	dropAccountsSQL = `DELETE FROM accounts WHERE customer_id = $1 AND id <> ALL ($2)`
	saveAccountSQL  = `
INSERT INTO accounts (customer_id, id, details) VALUES ($1, $2, $3)
ON CONFLICT (customer_id, id) DO UPDATE SET details = EXCLUDED.details`

	credentialsSQL = `
SELECT c.id, c.password_hash, c.disabled_at IS NOT NULL,
    EXISTS (SELECT 1 FROM second_factors f WHERE f.customer_id = c.id AND f.confirmed_at IS NOT NULL)
FROM customers c WHERE c.tenant = $1 AND c.username_index = $2`

	customerColumns = `c.id, c.tenant, c.fineract_client_id, c.roles, c.profile, c.created_at, c.disabled_at,
    CASE WHEN c.locked_until > now() THEN c.locked_until END, c.failed_attempts,
    ARRAY(SELECT f.kind FROM second_factors f WHERE f.customer_id = c.id AND f.confirmed_at IS NOT NULL ORDER BY f.kind)`

	findCustomerSQL  = `SELECT ` + customerColumns + ` FROM customers c WHERE c.tenant = $1 AND c.username_index = $2`
	listCustomersSQL = `SELECT ` + customerColumns + ` FROM customers c WHERE c.tenant = $1 AND c.id > $2 ORDER BY c.id LIMIT $3`
	listAccountsSQL  = `SELECT ac.customer_id, ac.id, ac.details FROM accounts ac WHERE ac.customer_id = $1 ORDER BY ac.id`

	// The n-th lock in a row lasts 2^(n-1) times as long as the first, up to a day. While one lasts nothing is counted, so
	// that nobody can prolong it. Concurrent attempts queue for the row, and each looks again at what the one before left.
	recordFailureSQL = `
UPDATE customers SET failed_attempts = failed_attempts + 1,
    locked_until = CASE WHEN (failed_attempts + 1) % $2::int = 0 THEN now() + least(
        $3::interval * power(2, least((failed_attempts + 1) / $2::int - 1, 20)),
        greatest($3::interval, interval '24 hours')) END
WHERE id = $1 AND (locked_until IS NULL OR locked_until <= now())
RETURNING locked_until IS NOT NULL`

	unlockCustomerSQL  = `UPDATE customers SET failed_attempts = 0, locked_until = NULL WHERE id = $1`
	disableCustomerSQL = `UPDATE customers SET disabled_at = coalesce(disabled_at, now()) WHERE id = $1`
	enableCustomerSQL  = `UPDATE customers SET disabled_at = NULL WHERE id = $1`
)

// NewCustomer is a customer to be stored.
type NewCustomer struct {
	ID               uuid.UUID
	Tenant           string
	Username         string // the form it is looked up by; Profile.Username is the form that is shown
	Profile          Profile
	PasswordHash     string
	FineractClientID *int64
	Roles            []string
	Accounts         []Account
}

// CreateCustomer stores a customer. It returns ErrConflict if the tenant has one of that user name.
func (db *DB) CreateCustomer(ctx context.Context, n NewCustomer) error {
	profile, err := json.Marshal(n.Profile)
	if err != nil {
		return err
	}
	if n.Roles == nil {
		n.Roles = []string{}
	}
	batch := &pgx.Batch{}
	batch.Queue(createCustomerSQL, [16]byte(n.ID), n.Tenant, db.usernameIndex(n.Tenant, n.Username),
		db.Keys().Seal(profilePurpose, n.ID[:], profile), n.PasswordHash, n.FineractClientID, n.Roles)
	if err := db.queueAccounts(batch, n.ID, n.Accounts); err != nil {
		return err
	}
	err = db.pool.SendBatch(ctx, batch).Close()
	if isUniqueViolation(err) {
		return ErrConflict
	}
	return err
}

// SetAccounts replaces a customer's accounts. It returns ErrNotFound for an unknown customer.
func (db *DB) SetAccounts(ctx context.Context, customer uuid.UUID, accounts []Account) error {
	ids := make([]string, len(accounts))
	for i, a := range accounts {
		ids[i] = a.ID
	}
	batch := &pgx.Batch{}
	batch.Queue(lockCustomerSQL, [16]byte(customer))
	batch.Queue(dropAccountsSQL, [16]byte(customer), ids)
	if err := db.queueAccounts(batch, customer, accounts); err != nil {
		return err
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	var id [16]byte
	if err := results.QueryRow().Scan(&id); err != nil {
		return notFound(err)
	}
	return results.Close()
}

func (db *DB) queueAccounts(batch *pgx.Batch, customer uuid.UUID, accounts []Account) error {
	for _, a := range accounts {
		details, err := json.Marshal(a)
		if err != nil {
			return err
		}
		batch.Queue(saveAccountSQL, [16]byte(customer), a.ID, db.Keys().Seal(accountPurpose, accountRow(customer, a.ID), details))
	}
	return nil
}

// usernameIndex is what a user name is found by; the name itself is only in the sealed profile.
func (db *DB) usernameIndex(tenant, username string) []byte {
	return db.Keys().Index(usernamePurpose, []byte(tenant+"\x00"+username))
}

// Credentials is what a password is checked against.
type Credentials struct {
	CustomerID      uuid.UUID
	PasswordHash    string
	Disabled        bool
	HasSecondFactor bool // a confirmed one
}

// FindCredentials finds a customer who wants to log in. It returns ErrNotFound for an unknown name.
func (db *DB) FindCredentials(ctx context.Context, tenant, username string) (*Credentials, error) {
	c := &Credentials{}
	err := db.pool.QueryRow(ctx, credentialsSQL, tenant, db.usernameIndex(tenant, username)).
		Scan((*[16]byte)(&c.CustomerID), &c.PasswordHash, &c.Disabled, &c.HasSecondFactor)
	if err != nil {
		return nil, notFound(err)
	}
	return c, nil
}

// RecordFailure counts a refused attempt to log in; every maxFailures-th locks the customer for lockFor, and longer each
// time. It tells whether the customer is locked now. Of attempts that run at once no more than maxFailures count before
// the lock: BeginLogin and CompleteLogin look at it in the statement that would let them in.
func (db *DB) RecordFailure(ctx context.Context, customer uuid.UUID, maxFailures int, lockFor time.Duration) (locked bool, err error) {
	err = db.pool.QueryRow(ctx, recordFailureSQL, [16]byte(customer), maxFailures, lockFor).Scan(&locked)
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil
	}
	return locked, err
}

// CustomerRecord is a customer as the bank's staff see it.
type CustomerRecord struct {
	Customer
	CreatedAt      time.Time
	DisabledAt     *time.Time
	LockedUntil    *time.Time // nil unless it lies ahead
	FailedAttempts int
	SecondFactors  []string // kinds of the confirmed ones
}

func (db *DB) scanCustomer(row pgx.CollectableRow) (CustomerRecord, error) {
	c := CustomerRecord{Customer: Customer{keys: db.Keys()}}
	err := row.Scan((*[16]byte)(&c.ID), &c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile, &c.CreatedAt, &c.DisabledAt,
		&c.LockedUntil, &c.FailedAttempts, &c.SecondFactors)
	return c, err
}

// FindCustomer finds a customer by user name. It returns ErrNotFound for an unknown one.
func (db *DB) FindCustomer(ctx context.Context, tenant, username string) (*CustomerRecord, error) {
	rows, err := db.pool.Query(ctx, findCustomerSQL, tenant, db.usernameIndex(tenant, username))
	if err != nil {
		return nil, err
	}
	c, err := pgx.CollectExactlyOneRow(rows, db.scanCustomer)
	if err != nil {
		return nil, notFound(err)
	}
	return &c, nil
}

// ListCustomers returns up to limit of a tenant's customers in the order they were created, from after on (uuid.Nil: from
// the first).
func (db *DB) ListCustomers(ctx context.Context, tenant string, after uuid.UUID, limit int) ([]CustomerRecord, error) {
	rows, err := db.pool.Query(ctx, listCustomersSQL, tenant, [16]byte(after), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, db.scanCustomer)
}

// ListAccounts returns a customer's accounts by id.
func (db *DB) ListAccounts(ctx context.Context, customer uuid.UUID) ([]Account, error) {
	rows, err := db.pool.Query(ctx, listAccountsSQL, [16]byte(customer))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, db.scanAccount)
}

// UnlockCustomer ends a lock and forgets the failures. It returns ErrNotFound for an unknown customer.
func (db *DB) UnlockCustomer(ctx context.Context, id uuid.UUID) error {
	return db.changeOne(ctx, unlockCustomerSQL, [16]byte(id))
}

// DisableCustomer ends what a customer may do, and all logins and tokens, at once. It returns ErrNotFound for an unknown one.
func (db *DB) DisableCustomer(ctx context.Context, id uuid.UUID) error {
	return db.changeCustomer(ctx, id, disableCustomerSQL, lockLoginsSQL, endLoginsSQL)
}

// EnableCustomer undoes DisableCustomer, but for the logins. It returns ErrNotFound for an unknown customer.
func (db *DB) EnableCustomer(ctx context.Context, id uuid.UUID) error {
	return db.changeOne(ctx, enableCustomerSQL, [16]byte(id))
}

// changeCustomer runs statements about one customer in one transaction. It returns ErrNotFound if the first changes no row.
func (db *DB) changeCustomer(ctx context.Context, id uuid.UUID, statements ...string) error {
	batch := &pgx.Batch{}
	var first pgconn.CommandTag
	for _, sql := range statements {
		batch.Queue(sql, [16]byte(id))
	}
	batch.QueuedQueries[0].Exec(func(tag pgconn.CommandTag) error {
		first = tag
		return nil
	})
	err := db.pool.SendBatch(ctx, batch).Close()
	if err == nil && first.RowsAffected() == 0 {
		return ErrNotFound
	}
	return err
}

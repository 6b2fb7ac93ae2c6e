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

	// Attributes are the institution's own: "country", "client_type" … They decide which scopes there are for the customer.
	Attributes map[string]string `json:"attributes,omitempty"`
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
	// One at a time asks whether a client of the core may have one more customer.
	lockClientSQL = `SELECT pg_advisory_xact_lock(hashtextextended('fineract client ' || $1 || ' ' || $2::bigint, 0))`

	createCustomerSQL = `
WITH room AS (
    SELECT $6::bigint IS NULL OR $13 = 0
        OR (SELECT count(*) FROM customers c WHERE c.tenant = $2 AND c.fineract_client_id = $6) < $13 AS left
), made AS (
    INSERT INTO customers (id, tenant, username_index, profile, password_hash, fineract_client_id, roles, permissions,
        email_index, phone_index, email_verified, phone_verified)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM room WHERE room.left
    ON CONFLICT (tenant, username_index) DO NOTHING
    RETURNING id
)
SELECT room.left OR EXISTS (SELECT 1 FROM customers c WHERE c.tenant = $2 AND c.username_index = $3), EXISTS (SELECT 1 FROM made) FROM room`

	lockCustomerSQL = `SELECT id FROM customers WHERE id = $1 FOR UPDATE`

	dropAccountsSQL = `DELETE FROM accounts WHERE customer_id = $1 AND id <> ALL ($2)`
	saveAccountSQL  = `
INSERT INTO accounts (customer_id, id, details) SELECT $1, $2, $3 WHERE EXISTS (SELECT 1 FROM customers WHERE id = $1)
ON CONFLICT (customer_id, id) DO UPDATE SET details = EXCLUDED.details`

	// There is a row for a name that is nobody's too.
	credentialsSQL = `
WITH asked AS (
    SELECT ` + unknownBrowsers + `$2) AS unknown, ` + knownBrowser + `$2 || $3) AS known
), counted AS (
    SELECT unknown, coalesce((SELECT l.bucket FROM limits l WHERE l.bucket = known AND l.customer_id IS NOT NULL AND l.expires_at > now()), unknown) AS bucket
    FROM asked
)
SELECT c.id, coalesce(c.password_hash, ''), c.disabled_at IS NOT NULL,
    EXISTS (SELECT 1 FROM second_factors f WHERE f.customer_id = c.id AND f.confirmed_at IS NOT NULL),
    b.bucket, b.bucket <> b.unknown,
    coalesce((SELECT max(l.blocked_until) - now() FROM limits l
        WHERE (l.bucket = b.bucket OR l.bucket = $4 AND b.bucket = b.unknown) AND l.blocked_until > now()), interval '0')
FROM counted b LEFT JOIN customers c ON c.tenant = $1 AND c.username_index = $2`

	customerColumns = `c.id, c.tenant, c.fineract_client_id, c.roles, c.profile, c.created_at, c.disabled_at,
    (SELECT l.blocked_until FROM limits l WHERE l.bucket = ` + unknownBrowsers + `c.username_index) AND l.blocked_until > now()),
    ARRAY(SELECT f.kind FROM second_factors f WHERE f.customer_id = c.id AND f.confirmed_at IS NOT NULL ORDER BY f.kind),
    c.permissions`

	findCustomerSQL  = `SELECT ` + customerColumns + ` FROM customers c WHERE c.tenant = $1 AND c.username_index = $2`
	listCustomersSQL = `SELECT ` + customerColumns + ` FROM customers c WHERE c.tenant = $1 AND c.id > $2 ORDER BY c.id LIMIT $3`
	listAccountsSQL  = `SELECT ac.customer_id, ac.id, ac.details FROM accounts ac WHERE ac.customer_id = $1 ORDER BY ac.id`

	unblockBrowsersSQL = `UPDATE limits SET attempts = 0, blocked_until = NULL WHERE customer_id = $1`
	unblockOthersSQL   = `DELETE FROM limits USING customers c WHERE c.id = $1 AND limits.bucket = ` + unknownBrowsers + `c.username_index)`
	changeCustomerSQL  = `
UPDATE customers c SET roles = coalesce($3, roles), fineract_client_id = CASE WHEN $2::bigint IS NULL THEN fineract_client_id ELSE nullif($2::bigint, 0) END,
    permissions = ARRAY(SELECT DISTINCT p FROM unnest(permissions || $4::text[]) p WHERE p <> ALL ($5::text[]) ORDER BY p)
WHERE id = $1 AND ($2::bigint IS NULL OR $2::bigint = 0 OR $6 = 0
    OR (SELECT count(*) FROM customers o WHERE o.tenant = c.tenant AND o.fineract_client_id = $2::bigint AND o.id <> c.id) < $6)`

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
	Permissions      []string
	Accounts         []Account
	MostPerClient    int // customers that one Fineract client may have, this one included; 0: any number
}

// ErrClientTaken is returned when a Fineract client has as many customers as it may have.
var ErrClientTaken = errors.New("storage: the Fineract client has a customer already")

// CreateCustomer stores a customer. It returns ErrConflict if the tenant has one of that user name, or ErrClientTaken.
func (db *DB) CreateCustomer(ctx context.Context, n NewCustomer) error {
	errs, err := db.CreateCustomers(ctx, []NewCustomer{n})
	if err != nil {
		return err
	}
	return errs[0]
}

// CreateCustomers stores many customers in one round trip. Of each that could not be stored, errs says at the same place why:
// ErrConflict or ErrClientTaken; the others are stored all the same.
func (db *DB) CreateCustomers(ctx context.Context, all []NewCustomer) (errs []error, err error) {
	batch := &pgx.Batch{}
	errs = make([]error, len(all))
	for i, n := range all {
		if err := db.queueCustomer(batch, n, &errs[i]); err != nil {
			return nil, err
		}
	}
	return errs, db.pool.SendBatch(ctx, batch).Close()
}

// queueCustomer stores a customer, and tells in outcome, once the batch was sent, why it could not.
func (db *DB) queueCustomer(batch *pgx.Batch, n NewCustomer, outcome *error) error {
	profile, err := json.Marshal(n.Profile)
	if err != nil {
		return err
	}
	if n.FineractClientID != nil && n.MostPerClient > 0 {
		batch.Queue(lockClientSQL, n.Tenant, n.FineractClientID)
	}
	found := db.contactsOf(n.Tenant, &n.Profile)
	batch.Queue(createCustomerSQL, [16]byte(n.ID), n.Tenant, db.usernameIndex(n.Tenant, n.Username),
		db.Keys().Seal(profilePurpose, n.ID[:], profile), n.PasswordHash, n.FineractClientID, orNone(n.Roles), orNone(n.Permissions),
		found.email, found.phone, found.emailVerified, found.phoneVerified, n.MostPerClient).QueryRow(func(row pgx.Row) error {
		var room, made bool
		err := row.Scan(&room, &made)
		switch {
		case err == nil && !room:
			*outcome = ErrClientTaken
		case err == nil && !made:
			*outcome = ErrConflict
		}
		return err
	})
	return db.queueAccounts(batch, n.ID, n.Accounts)
}

// orNone is for columns that are never NULL.
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// CustomerChange is what staff change of a customer. Zero values leave it as it is.
type CustomerChange struct {
	Profile          func(*Profile) error // as in ChangeProfile
	FineractClientID *int64               // 0: no client
	Roles            []string
	Grant, Revoke    []string // permissions
	MostPerClient    int      // as in NewCustomer
}

// ChangeCustomer changes a customer, and remembers it as the event "customer.changed". It returns ErrNotFound for an unknown one,
// ErrClientTaken, or the error of c.Profile, and then changes nothing.
func (db *DB) ChangeCustomer(ctx context.Context, id uuid.UUID, c CustomerChange) error {
	details := map[string]any{}
	for name, list := range map[string][]string{"roles": c.Roles, "granted": c.Grant, "revoked": c.Revoke} {
		if len(list) > 0 {
			details[name] = list
		}
	}
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var tenant string
		if err := tx.QueryRow(ctx, `SELECT tenant FROM customers WHERE id = $1`, [16]byte(id)).Scan(&tenant); err != nil {
			return notFound(err)
		}
		if c.FineractClientID != nil {
			details["fineract_client"] = *c.FineractClientID != 0
			if _, err := tx.Exec(ctx, lockClientSQL, tenant, *c.FineractClientID); err != nil {
				return err
			}
		}
		if c.Profile != nil {
			if err := db.changeProfile(ctx, tx, id, c.Profile); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, changeCustomerSQL, [16]byte(id), c.FineractClientID, c.Roles, orNone(c.Grant), orNone(c.Revoke), c.MostPerClient)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrClientTaken
		}
		batch := &pgx.Batch{}
		if err := db.queueEvent(batch, Event{CustomerID: id, Kind: "customer.changed", Details: details}); err != nil {
			return err
		}
		return tx.SendBatch(ctx, batch).Close()
	})
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

// Credentials is what a password is checked against, and where the attempt is counted.
type Credentials struct {
	CustomerID      uuid.UUID // uuid.Nil for a name that is nobody's
	PasswordHash    string    // "" then
	Disabled        bool
	HasSecondFactor bool // a confirmed one

	Bucket  []byte        // the customer's, of this browser if it is known
	Known   bool          // whether it is
	Address []byte        // the bucket of the address, which counts unless the browser is known
	Wait    time.Duration // until an attempt gets a verdict
}

// FindCredentials finds a customer who wants to log in, or that there is none. One round trip.
func (db *DB) FindCredentials(ctx context.Context, tenant, username string, v Visit) (*Credentials, error) {
	c := &Credentials{Address: db.BucketKey(LoginKind, Network(v.Address))}
	var id *[16]byte
	err := db.pool.QueryRow(ctx, credentialsSQL, tenant, db.usernameIndex(tenant, username), v.browser(), c.Address).
		Scan(&id, &c.PasswordHash, &c.Disabled, &c.HasSecondFactor, &c.Bucket, &c.Known, &c.Wait)
	if id != nil {
		c.CustomerID = *id
	}
	return c, err
}

// CustomerRecord is a customer as the bank's staff see it.
type CustomerRecord struct {
	Customer
	CreatedAt     time.Time
	DisabledAt    *time.Time
	BlockedUntil  *time.Time // in browsers that are not known; nil unless it lies ahead
	SecondFactors []string   // kinds of the confirmed ones
	Permissions   []string   // granted by name
}

func (db *DB) scanCustomer(row pgx.CollectableRow) (CustomerRecord, error) {
	c := CustomerRecord{Customer: Customer{keys: db.Keys()}}
	err := row.Scan((*[16]byte)(&c.ID), &c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile, &c.CreatedAt, &c.DisabledAt,
		&c.BlockedUntil, &c.SecondFactors, &c.Permissions)
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

// UnlockCustomer lets a customer log in at once, in all browsers, and forgets the failures. It returns ErrNotFound for an unknown customer.
func (db *DB) UnlockCustomer(ctx context.Context, id uuid.UUID) error {
	return db.changeCustomer(ctx, id, lockCustomerSQL, unblockBrowsersSQL, unblockOthersSQL)
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

package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// FineractVisitor is a customer who calls Fineract's two-factor API and has shown the first factor, with all that an answer needs.
type FineractVisitor struct {
	Customer      Customer
	Permissions   []string          // granted by name
	Extended      bool              // they asked for the longer token with their last code
	TokenEnds     *time.Time        // of the token they brought; nil when it is not a good one of theirs
	TOTP          *SecondFactor     // nil for none
	Configuration map[string]string // what the tenant changed
}

// NewTFAToken is a token for a customer who has shown both factors.
type NewTFAToken struct {
	Hash       []byte // SHA-256
	Tenant     string
	CustomerID uuid.UUID
	Extended   bool
	Lifetime   time.Duration
	Visit      Visit
	Forgive    []byte // a bucket of limits, beside the one of passwords; nil for none

	// The second factor, one of the two. It is used up.
	Code *OneTimeCode
	TOTP *CountedCode
}

const (
	openCustomerSQL = `c.disabled_at IS NULL`

	// Like beginLoginSQL it waits for the bucket's row, and looks at it after every attempt that was counted before.
	passwordHolderSQL = `
WITH proven AS (
    SELECT c.id FROM customers c WHERE c.id = $1 AND c.password_hash = $2 AND ` + openCustomerSQL + `
), counted AS (
    SELECT $3::bytea AS bucket FROM proven WHERE $3 IS NOT NULL
), gate AS (` + gateSQL + `
), holder AS (
    SELECT id FROM proven WHERE EXISTS (SELECT 1 FROM gate) OR $3 IS NULL
)`
	passwordHoldsSQL   = passwordHolderSQL + ` SELECT 1 FROM holder`
	passwordUpgradeSQL = passwordHolderSQL + ` UPDATE customers SET password_hash = $4 FROM holder WHERE customers.id = holder.id`

	fineractVisitorSQL = `
SELECT c.id, c.tenant, c.fineract_client_id, c.roles, c.profile, c.permissions, coalesce(r.extended, false), t.valid_to
FROM customers c
LEFT JOIN fineract_otp_requests r ON r.customer_id = c.id AND r.tenant = c.tenant AND r.expires_at > now()
LEFT JOIN fineract_tfa_tokens t ON t.hash = $3 AND t.customer_id = c.id AND t.tenant = c.tenant AND t.valid_to > now()
WHERE c.tenant = $1 AND c.id = $2 AND ` + openCustomerSQL

	fineractTOTPSQL = `
SELECT ` + factorColumns + ` FROM second_factors f WHERE f.customer_id = $1 AND f.kind = '` + TOTP + `' AND f.confirmed_at IS NOT NULL`

	fineractConfigurationSQL = `SELECT name, value FROM fineract_twofactor_configuration WHERE tenant = $1`

	configureFineractSQL = `
INSERT INTO fineract_twofactor_configuration (tenant, name, value) VALUES ($1, $2, $3)
ON CONFLICT (tenant, name) DO UPDATE SET value = EXCLUDED.value`

	otpRequestSQL = `
INSERT INTO fineract_otp_requests (customer_id, tenant, extended, expires_at) VALUES ($1, $2, $3, now() + $4)
ON CONFLICT (customer_id) DO UPDATE SET tenant = EXCLUDED.tenant, extended = EXCLUDED.extended, expires_at = EXCLUDED.expires_at`

	// The proof first, as in completeLoginSQL: it is used up whatever comes of it. Both factors were shown, so that what was tried
	// in vain before is forgotten, as at login.
	tfaByCodeSQL = `
WITH proof AS (
    UPDATE one_time_codes SET code = NULL WHERE customer_id = $1 AND id = $10 AND code IS NOT NULL AND expires_at > now()
    RETURNING customer_id
)` + newTFATokenSQL

	tfaByTOTPSQL = `
WITH proof AS (
    UPDATE second_factors SET last_step = $11, last_used_at = now()
    WHERE id = $10 AND customer_id = $1 AND confirmed_at IS NOT NULL AND last_step < $11
    RETURNING customer_id
)` + newTFATokenSQL

	newTFATokenSQL = `, customer AS (
    SELECT c.id, c.username_index FROM customers c JOIN proof ON c.id = proof.customer_id
    WHERE c.tenant = $2 AND ` + openCustomerSQL + ` FOR NO KEY UPDATE OF c
), forgiven AS (
    DELETE FROM limits l USING customer WHERE l.bucket = $9 OR l.bucket = ` + unknownBrowsers + `customer.username_index)
), request AS (
    DELETE FROM fineract_otp_requests r USING customer WHERE r.customer_id = customer.id
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $6, id, 'fineract.token_issued', $7, $8 FROM customer
)
INSERT INTO fineract_tfa_tokens (hash, tenant, customer_id, extended, valid_from, valid_to)
SELECT $3, $2, id, $4, date_trunc('milliseconds', now()), date_trunc('milliseconds', now()) + $5 FROM customer
RETURNING valid_from, valid_to`

	// Who is signed out everywhere is so in the apps that have such a token, too.
	endTFATokensSQL = `, tokens AS (DELETE FROM fineract_tfa_tokens WHERE customer_id = $1)`

	endTFATokenSQL = `
WITH ended AS (
    DELETE FROM fineract_tfa_tokens WHERE hash = $1 AND tenant = $2 AND customer_id = $3 AND valid_to > now() RETURNING customer_id
)
INSERT INTO events (id, customer_id, kind, visit) SELECT $4, customer_id, 'fineract.token_ended', $5 FROM ended`
)

// PasswordHolds tells whether a hash, which a password was found to match, is still the customer's, and the customer may log
// in: it returns ErrNotFound otherwise. upgrade takes its place unless it is "". bucket is the one that the password was checked under
// (Credentials.Bucket), nil for one that was right before. One round trip.
func (db *DB) PasswordHolds(ctx context.Context, customer uuid.UUID, hash, upgrade string, bucket []byte) error {
	if upgrade != "" {
		return db.changeOne(ctx, passwordUpgradeSQL, [16]byte(customer), hash, bucket, upgrade)
	}
	var one int
	return notFound(db.pool.QueryRow(ctx, passwordHoldsSQL, [16]byte(customer), hash, bucket).Scan(&one))
}

// FineractVisitor finds a tenant's customer, and looks at the token they brought (nil for none). It returns ErrNotFound for one
// who is unknown there, or disabled. One round trip.
func (db *DB) FineractVisitor(ctx context.Context, tenant string, customer uuid.UUID, token []byte) (*FineractVisitor, error) {
	batch := &pgx.Batch{}
	batch.Queue(fineractVisitorSQL, tenant, [16]byte(customer), token)
	batch.Queue(fineractTOTPSQL, [16]byte(customer))
	batch.Queue(fineractConfigurationSQL, tenant)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	v := &FineractVisitor{Customer: Customer{keys: db.Keys()}, Configuration: map[string]string{}}
	c := &v.Customer
	err := results.QueryRow().Scan((*[16]byte)(&c.ID), &c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile, &v.Permissions, &v.Extended, &v.TokenEnds)
	if err != nil {
		return nil, notFound(err)
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	factors, err := pgx.CollectRows(rows, scanFactor)
	if err == nil {
		factors, err = db.openFactors(factors, nil)
	}
	if err != nil {
		return nil, err
	}
	if len(factors) > 0 {
		v.TOTP = &factors[0]
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		v.Configuration[name] = value
		return nil
	})
	return v, err
}

// ConfigureFineract keeps what a customer changed of their tenant's configuration. One round trip.
func (db *DB) ConfigureFineract(ctx context.Context, tenant string, changes map[string]string, e Event) error {
	batch := &pgx.Batch{}
	for name, value := range changes {
		batch.Queue(configureFineractSQL, tenant, name, value)
	}
	if err := db.queueEvent(batch, e); err != nil {
		return err
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

// RememberOTPRequest keeps what a customer asked for with a code. sent is nil if none was sent: an app makes its own. One round
// trip.
func (db *DB) RememberOTPRequest(ctx context.Context, tenant string, customer uuid.UUID, extended bool, lifetime time.Duration, sent *Event) error {
	batch := &pgx.Batch{}
	batch.Queue(otpRequestSQL, [16]byte(customer), tenant, extended, lifetime)
	if sent != nil {
		if err := db.queueEvent(batch, *sent); err != nil {
			return err
		}
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

// CreateTFAToken makes a token of a second factor, which it uses up. It returns ErrNotFound if that was used before or has
// changed, or the customer is disabled. One round trip.
func (db *DB) CreateTFAToken(ctx context.Context, n NewTFAToken) (from, to time.Time, err error) {
	event := NewID()
	visit, err := db.sealedVisit(event[:], n.Visit)
	if err != nil {
		return from, to, err
	}
	sql, factor, proof := tfaByCodeSQL, "sent", []any(nil)
	if n.TOTP != nil {
		sql, factor, proof = tfaByTOTPSQL, TOTP, []any{[16]byte(n.TOTP.Factor.ID), n.TOTP.Step}
	} else {
		proof = []any{[16]byte(n.Code.ID)}
	}
	details := map[string]any{"extended": n.Extended, "factor": factor}
	args := append([]any{[16]byte(n.CustomerID), n.Tenant, n.Hash, n.Extended, n.Lifetime, [16]byte(event), visit, details, n.Forgive}, proof...)
	err = db.pool.QueryRow(ctx, sql, args...).Scan(&from, &to)
	return from, to, notFound(err)
}

// EndTFAToken ends a customer's token. It returns ErrNotFound when it is not a good one of theirs. One round trip.
func (db *DB) EndTFAToken(ctx context.Context, tenant string, customer uuid.UUID, token []byte, v Visit) error {
	event := NewID()
	visit, err := db.sealedVisit(event[:], v)
	if err != nil {
		return err
	}
	return db.changeOne(ctx, endTFATokenSQL, token, tenant, [16]byte(customer), [16]byte(event), visit)
}

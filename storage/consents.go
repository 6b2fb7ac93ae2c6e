package storage

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrForeign says that the row exists and is another client's. Only consents tell: their API answers 403 for another's
// and 400 for none (UK Open Banking 3.1). Everywhere else another's is ErrNotFound.
var ErrForeign = errors.New("storage: another client's")

// Consent statuses (UK Open Banking 3.1).
const (
	AwaitingAuthorisation = "AwaitingAuthorisation"
	Authorised            = "Authorised"
	Rejected              = "Rejected"
	Revoked               = "Revoked"
)

// AccountAccess is the type of a consent to read accounts.
const AccountAccess = "account-access"

// Consent is what a client asked for before the customer is asked.
type Consent struct {
	ID               string
	ClientID         string
	Type             string // account-access
	Status           string
	Permissions      []string
	ExpiresAt        *time.Time // nil: open ended
	TransactionsFrom *time.Time
	TransactionsTo   *time.Time
	CustomerID       *uuid.UUID // who decided
	CreatedAt        time.Time
	StatusChangedAt  time.Time
}

const (
	consentColumns = `k.id, k.client_id, k.type, k.status, k.permissions, k.expires_at, k.transactions_from, k.transactions_to,
    k.customer_id, k.created_at, k.status_changed_at`

	createConsentSQL = `
INSERT INTO consents (id, client_id, type, status, permissions, expires_at, transactions_from, transactions_to)
VALUES ($1, $2, $3, 'AwaitingAuthorisation', $4, $5, $6, $7)
RETURNING status, created_at, status_changed_at`

	findConsentSQL = `SELECT ` + consentColumns + ` FROM consents k WHERE k.id = $1`

	// Only account access may be revoked: a payment may not, once it is authorised (PSD2 art. 80).
	revokeConsentSQL = `
WITH revoked AS (
    UPDATE consents SET status = 'Revoked', status_changed_at = now()
    WHERE id = $1 AND client_id = $2 AND type = 'account-access' AND status <> 'Revoked'
    RETURNING id
)
SELECT k.client_id = $2, EXISTS (SELECT 1 FROM revoked) FROM consents k WHERE k.id = $1 AND k.type = 'account-access'`

	// A statement of its own, with a snapshot of its own: when the one above had to wait for an approval, this one sees
	// the grant that the approval made. It finds it by the index grants_live.
	endGrantOfConsentSQL = `
UPDATE grants g SET revoked_at = now(), updated_at = now() FROM consents k
WHERE k.id = $1 AND k.client_id = $2 AND k.status = 'Revoked'
  AND g.client_id = k.client_id AND g.customer_id = k.customer_id AND coalesce(g.consent_id, '') = k.id AND g.revoked_at IS NULL`
)

func scanConsent(row pgx.CollectableRow) (k Consent, err error) {
	err = row.Scan(&k.ID, &k.ClientID, &k.Type, &k.Status, &k.Permissions, &k.ExpiresAt, &k.TransactionsFrom, &k.TransactionsTo,
		&k.CustomerID, &k.CreatedAt, &k.StatusChangedAt)
	return k, err
}

// CreateConsent stores what a client asks for. It sets Status, CreatedAt and StatusChangedAt. It returns ErrConflict if
// there is a consent of that id.
func (db *DB) CreateConsent(ctx context.Context, k *Consent) error {
	err := db.pool.QueryRow(ctx, createConsentSQL, k.ID, k.ClientID, k.Type, k.Permissions, k.ExpiresAt, k.TransactionsFrom, k.TransactionsTo).
		Scan(&k.Status, &k.CreatedAt, &k.StatusChangedAt)
	if isUniqueViolation(err) {
		return ErrConflict
	}
	return err
}

// FindConsent returns a client's consent, whatever its status. It returns ErrNotFound when there is none of that id, and
// ErrForeign when it is another client's.
func (db *DB) FindConsent(ctx context.Context, id, clientID string) (*Consent, error) {
	if !storable(id) {
		return nil, ErrNotFound
	}
	rows, err := db.pool.Query(ctx, findConsentSQL, id)
	if err != nil {
		return nil, err
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanConsent)
	switch {
	case err != nil:
		return nil, notFound(err)
	case k.ClientID != clientID:
		return nil, ErrForeign
	}
	return &k, nil
}

// RevokeConsent ends an account-access consent for good, at its client's wish: it becomes Revoked, its grant and with it
// all tokens die. It returns ErrNotFound when there is none of that id or it was revoked before, and ErrForeign when it
// is another client's; then nothing changes.
func (db *DB) RevokeConsent(ctx context.Context, id, clientID string) error {
	if !storable(id) {
		return ErrNotFound
	}
	batch := &pgx.Batch{} // one transaction
	batch.Queue(revokeConsentSQL, id, clientID)
	batch.Queue(endGrantOfConsentSQL, id, clientID)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	var own, revoked bool
	if err := results.QueryRow().Scan(&own, &revoked); err != nil {
		return notFound(err)
	}
	if _, err := results.Exec(); err != nil {
		return err
	}
	if err := results.Close(); err != nil {
		return err
	}
	switch {
	case !own:
		return ErrForeign
	case !revoked:
		return ErrNotFound
	}
	return nil
}

// storable tells whether Postgres takes a text. What it does not take is no row's id.
func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

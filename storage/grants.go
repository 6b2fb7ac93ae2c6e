package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Grant is what a client may do, or might, for a customer.
type Grant struct {
	ID         uuid.UUID
	ClientID   string
	CustomerID uuid.UUID
	Consent    *Consent // nil when it was given outside of a consent
	Scopes     []string
	AccountIDs []string
	CreatedAt  time.Time
	UpdatedAt  time.Time  // of the newest approval
	EndedAt    *time.Time // nil while it lasts
}

// endedGrants is how many of the grants that have ended a list holds, the latest first. All that last are in it.
const endedGrants = 50

const (
	// A grant ends when it is withdrawn, or with its consent (banking.md A2-08 to A2-11).
	grantEndSQL = `coalesce(g.revoked_at, CASE WHEN k.status IN ('Rejected', 'Revoked') THEN k.status_changed_at
                                       WHEN k.expires_at <= now() THEN k.expires_at END)`

	listGrantsSQL = `
SELECT g.id, g.client_id, g.customer_id, g.scopes, g.account_ids, g.created_at, g.updated_at, g.ended_at,
    k.type, k.status, k.permissions, k.expires_at, k.transactions_from, k.transactions_to, k.created_at, k.status_changed_at, g.consent_id
FROM (
    SELECT o.*, row_number() OVER (PARTITION BY o.ended_at IS NULL ORDER BY coalesce(o.ended_at, o.updated_at) DESC, o.id DESC) AS place
    FROM (
        SELECT g.id, g.client_id, g.customer_id, g.consent_id, g.scopes, g.account_ids, g.created_at, g.updated_at, ` + grantEndSQL + ` AS ended_at
        FROM grants g LEFT JOIN consents k ON k.id = g.consent_id WHERE g.customer_id = $1
    ) o
) g LEFT JOIN consents k ON k.id = g.consent_id
WHERE g.ended_at IS NULL OR g.place <= $2
ORDER BY g.ended_at IS NOT NULL, g.place`

	grantAccountsSQL = `SELECT ac.customer_id, ac.id, ac.details FROM accounts ac WHERE ac.customer_id = $1 ORDER BY ac.id`

	// Whoever withdraws twice gets what they wanted the first time: the end does not move.
	withdrawGrantSQL = `
UPDATE grants g SET revoked_at = coalesce(g.revoked_at, now()), updated_at = CASE WHEN g.revoked_at IS NULL THEN now() ELSE g.updated_at END
WHERE g.id = $1 AND g.customer_id = $2
RETURNING g.client_id, g.scopes, g.account_ids, g.created_at, g.updated_at, g.revoked_at`
)

// ListGrants returns what each client may do for a customer now, newest first, then what has ended, latest first; and
// the customer's accounts, which grants name.
func (db *DB) ListGrants(ctx context.Context, customerID uuid.UUID) ([]Grant, []Account, error) {
	batch := &pgx.Batch{}
	batch.Queue(listGrantsSQL, [16]byte(customerID), endedGrants)
	batch.Queue(grantAccountsSQL, [16]byte(customerID))
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	rows, err := results.Query()
	if err != nil {
		return nil, nil, err
	}
	grants, err := pgx.CollectRows(rows, scanGrant)
	if err != nil {
		return nil, nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, nil, err
	}
	accounts, err := pgx.CollectRows(rows, db.scanAccount)
	return grants, accounts, err
}

func scanGrant(row pgx.CollectableRow) (g Grant, err error) {
	var kind, status, id *string
	var createdAt, statusChangedAt *time.Time
	var k Consent
	err = row.Scan((*[16]byte)(&g.ID), &g.ClientID, (*[16]byte)(&g.CustomerID), &g.Scopes, &g.AccountIDs, &g.CreatedAt, &g.UpdatedAt, &g.EndedAt,
		&kind, &status, &k.Permissions, &k.ExpiresAt, &k.TransactionsFrom, &k.TransactionsTo, &createdAt, &statusChangedAt, &id)
	if err == nil && id != nil {
		k.ID, k.ClientID, k.CustomerID, k.Type, k.Status, k.CreatedAt, k.StatusChangedAt = *id, g.ClientID, &g.CustomerID, *kind, *status, *createdAt, *statusChangedAt
		g.Consent = &k
	}
	return g, err
}

// WithdrawGrant ends a grant at the customer's wish, and with it all tokens. The consent keeps its status: its client may
// ask the customer again (UK Open Banking 3.1). A grant that was withdrawn before stays as it is. WithdrawGrant returns
// ErrNotFound when there is none of that id, or it is another customer's.
func (db *DB) WithdrawGrant(ctx context.Context, customerID, grantID uuid.UUID) (*Grant, error) {
	g := &Grant{ID: grantID, CustomerID: customerID}
	err := db.pool.QueryRow(ctx, withdrawGrantSQL, [16]byte(grantID), [16]byte(customerID)).
		Scan(&g.ClientID, &g.Scopes, &g.AccountIDs, &g.CreatedAt, &g.UpdatedAt, &g.EndedAt)
	if err != nil {
		return nil, notFound(err)
	}
	return g, nil
}

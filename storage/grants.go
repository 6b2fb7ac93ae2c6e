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
	Managed    bool     // by its client, through its id; else the client, the customer and the consent find it
	Scopes     []string
	AccountIDs []string
	Terms      Terms
	CreatedAt  time.Time
	UpdatedAt  time.Time  // of the newest approval
	EndedAt    *time.Time // nil while it lasts

	EndedByClient bool // by its id; not by the customer, nor with the consent
}

// GrantAction is what a request does to a grant that its client manages (Grant Management for OAuth 2.0 §5.2); "" is for
// requests that know nothing of grants.
type GrantAction string

// The actions.
const (
	Create  GrantAction = "create"
	Merge   GrantAction = "merge"
	Replace GrantAction = "replace"
)

// Terms are what a grant holds, one element per approval, the oldest first. Of a grant that its client does not manage,
// only approvals of more than scopes are kept, and only the newest.
type Terms []Term

// Term is what one approval granted.
type Term struct {
	AuthorizationID uuid.UUID `json:"authorization"`
	Scopes          []string  `json:"scopes"`
	AccountIDs      []string  `json:"account_ids"`
	Text            []byte    `json:"sealed"` // Authorization.Terms; nil for nothing
}

// A grant can hold maxTerms approvals: it is read whole with each use of a token.
const (
	maxTerms    = 20
	maxTermsSQL = "20"
)

// open unseals the texts.
func (t Terms) open(keys *Keyring) (err error) {
	for i := range t {
		if t[i].Text == nil {
			continue
		}
		if t[i].Text, err = keys.Open(termsPurpose, t[i].AuthorizationID[:], t[i].Text); err != nil {
			return err
		}
	}
	return nil
}

// endedGrants is how many of the grants that have ended a list holds, the latest first. All that last are in it.
const endedGrants = 50

const (
	// A grant ends when it is withdrawn, or with its consent (banking.md A2-08 to A2-11).
	grantEndSQL = `coalesce(g.revoked_at, CASE WHEN k.status IN ('Rejected', 'Revoked') THEN k.status_changed_at
                                       WHEN k.expires_at <= now() THEN k.expires_at END)`

	listGrantsSQL = `
SELECT g.id, g.client_id, g.customer_id, g.managed, g.scopes, g.account_ids, g.terms, g.created_at, g.updated_at, g.ended_at, g.ended_by_client,
    k.type, k.status, k.permissions, k.expires_at, k.transactions_from, k.transactions_to, k.created_at, k.status_changed_at, g.consent_id
FROM (
    SELECT o.*, row_number() OVER (PARTITION BY o.ended_at IS NULL ORDER BY coalesce(o.ended_at, o.updated_at) DESC, o.id DESC) AS place
    FROM (
        SELECT g.id, g.client_id, g.customer_id, g.consent_id, g.managed, g.ended_by_client, g.scopes, g.account_ids, g.terms, g.created_at, g.updated_at, ` + grantEndSQL + ` AS ended_at
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

	findGrantSQL = `
SELECT g.client_id, g.customer_id, g.scopes, g.account_ids, g.terms, g.created_at, g.updated_at FROM grants g
WHERE g.id = $1 AND g.managed AND g.revoked_at IS NULL`

	revokeGrantSQL = `
UPDATE grants SET revoked_at = now(), updated_at = now(), ended_by_client = true
WHERE id = $1 AND client_id = $2 AND managed AND revoked_at IS NULL`
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
	grants, err := pgx.CollectRows(rows, db.scanGrant)
	if err != nil {
		return nil, nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, nil, err
	}
	accounts, err := pgx.CollectRows(rows, db.scanAccount)
	return grants, accounts, err
}

func (db *DB) scanGrant(row pgx.CollectableRow) (g Grant, err error) {
	var kind, status, id *string
	var createdAt, statusChangedAt *time.Time
	var k Consent
	err = row.Scan((*[16]byte)(&g.ID), &g.ClientID, (*[16]byte)(&g.CustomerID), &g.Managed, &g.Scopes, &g.AccountIDs, &g.Terms,
		&g.CreatedAt, &g.UpdatedAt, &g.EndedAt, &g.EndedByClient, &kind, &status, &k.Permissions, &k.ExpiresAt, &k.TransactionsFrom, &k.TransactionsTo, &createdAt, &statusChangedAt, &id)
	if err != nil {
		return g, err
	}
	if id != nil {
		k.ID, k.ClientID, k.CustomerID, k.Type, k.Status, k.CreatedAt, k.StatusChangedAt = *id, g.ClientID, &g.CustomerID, *kind, *status, *createdAt, *statusChangedAt
		g.Consent = &k
	}
	return g, g.Terms.open(db.Keys())
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

// FindGrant returns a grant that its client manages and that lasts, whichever client's it is. It returns ErrNotFound for
// any other.
func (db *DB) FindGrant(ctx context.Context, id uuid.UUID) (*Grant, error) {
	g := &Grant{ID: id, Managed: true}
	err := db.pool.QueryRow(ctx, findGrantSQL, [16]byte(id)).
		Scan(&g.ClientID, (*[16]byte)(&g.CustomerID), &g.Scopes, &g.AccountIDs, &g.Terms, &g.CreatedAt, &g.UpdatedAt)
	if err != nil {
		return nil, notFound(err)
	}
	return g, g.Terms.open(db.Keys())
}

// RevokeGrant ends a grant at the wish of the client that manages it, and with it all tokens. It returns ErrNotFound when
// there is none of that id that lasts, or it is another client's.
func (db *DB) RevokeGrant(ctx context.Context, clientID string, id uuid.UUID) error {
	done, err := db.pool.Exec(ctx, revokeGrantSQL, [16]byte(id), clientID)
	if err == nil && done.RowsAffected() == 0 {
		err = ErrNotFound
	}
	return err
}

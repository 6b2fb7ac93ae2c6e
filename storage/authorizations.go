package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Authorization is a request that waits for a person or was decided. Request is opaque here: it is sealed at rest.
type Authorization struct {
	ID        uuid.UUID
	ClientID  string
	Request   []byte
	Scopes    []string
	ConsentID string // "" when none was named

	AuthenticatedAfter *time.Time // an older login does not do
	ACRRequired        string     // a login with another acr does not do; "" when any does
	RequestURIHash     []byte     // SHA-256
	RequestURILifetime time.Duration
	JourneyLifetime    time.Duration // from now until the decision
	CreatedAt          time.Time

	// What the decision added.
	CustomerID uuid.UUID
	GrantID    uuid.UUID
	AccountIDs []string
	AuthTime   time.Time
	ACR        string
	AMR        []string
}

const requestPurpose = "authorizations.request"

const (
	pushSQL = `
INSERT INTO authorizations (id, client_id, request, scopes, consent_id, authenticated_after, acr_required,
    request_uri_hash, request_uri_expires_at, expires_at)
SELECT $1, $2, $3, $4, nullif($5, ''), $6, nullif($7, ''), $8, now() + $9::interval, now() + $10::interval
WHERE $5 = '' OR EXISTS (SELECT 1 FROM consents k WHERE k.id = $5 AND k.client_id = $2
    AND k.status IN ('AwaitingAuthorisation', 'Authorised') AND (k.expires_at IS NULL OR k.expires_at > now()))
RETURNING created_at`

	openSQL = `
UPDATE authorizations SET opened_at = now()
WHERE request_uri_hash = $1 AND client_id = $2 AND opened_at IS NULL AND status = 'pending' AND request_uri_expires_at > now()`

	pendingSQL = `
SELECT a.id, a.request, a.scopes, coalesce(a.consent_id, ''), a.authenticated_after, coalesce(a.acr_required, ''), a.created_at
FROM authorizations a
WHERE a.request_uri_hash = $1 AND a.client_id = $2 AND a.status = 'pending' AND a.opened_at IS NOT NULL AND a.expires_at > now()`

	pendingConsentSQL = `
SELECT ` + consentColumns + `
FROM authorizations a JOIN consents k ON k.id = a.consent_id WHERE a.request_uri_hash = $1`

	visitorSQL = `
SELECT l.customer_id, l.auth_time, coalesce(l.acr, ''), l.amr, l.expires_at, c.tenant, c.fineract_client_id, c.roles, c.profile,
    coalesce((SELECT g.scopes FROM grants g
              WHERE g.customer_id = c.id AND g.client_id = $2 AND g.consent_id IS NULL AND g.revoked_at IS NULL), '{}')
FROM logins l JOIN customers c ON c.id = l.customer_id
WHERE l.hash = $1 AND l.expires_at > now() AND c.disabled_at IS NULL`

	visitorAccountsSQL = `
SELECT ac.customer_id, ac.id, ac.details FROM accounts ac JOIN logins l ON l.customer_id = ac.customer_id
WHERE l.hash = $1 ORDER BY ac.id`

	// The login, the journey and the consent are looked at again, in the statement that decides: whatever changed since
	// the page was shown makes it decide nothing.
	deciderSQL = `
WITH login AS (
    SELECT l.customer_id, l.auth_time, l.acr, l.amr FROM logins l JOIN customers c ON c.id = l.customer_id
    WHERE l.hash = $3 AND l.expires_at > now() AND l.acr IS NOT NULL AND c.disabled_at IS NULL
), journey AS (
    SELECT a.id, a.client_id, a.scopes, a.consent_id, login.customer_id, login.auth_time, login.acr, login.amr
    FROM authorizations a, login
    WHERE a.request_uri_hash = $1 AND a.client_id = $2 AND a.status = 'pending' AND a.opened_at IS NOT NULL AND a.expires_at > now()
      AND (a.authenticated_after IS NULL OR login.auth_time >= a.authenticated_after)
      AND (a.acr_required IS NULL OR login.acr = a.acr_required)
    FOR UPDATE OF a
)`

	approveSQL = deciderSQL + `, picked AS (
    SELECT j.* FROM journey j
    WHERE NOT EXISTS (SELECT unnest($5::text[]) EXCEPT SELECT ac.id FROM accounts ac WHERE ac.customer_id = j.customer_id)
), agreed AS (
    UPDATE consents k SET status = 'Authorised', customer_id = j.customer_id,
        status_changed_at = CASE k.status WHEN 'Authorised' THEN k.status_changed_at ELSE now() END
    FROM picked j
    WHERE k.id = j.consent_id AND k.client_id = j.client_id AND (k.expires_at IS NULL OR k.expires_at > now())
      AND (k.status = 'AwaitingAuthorisation' OR k.status = 'Authorised' AND k.customer_id = j.customer_id)
    RETURNING k.id
), granted AS (
    INSERT INTO grants AS g (id, client_id, customer_id, consent_id, scopes, account_ids)
    SELECT $4, j.client_id, j.customer_id, j.consent_id, j.scopes, $5 FROM picked j
    WHERE j.consent_id IS NULL OR j.consent_id IN (SELECT id FROM agreed)
    ON CONFLICT (client_id, customer_id, (coalesce(consent_id, ''))) WHERE revoked_at IS NULL
    DO UPDATE SET scopes = (SELECT array_agg(DISTINCT s) FROM unnest(g.scopes || EXCLUDED.scopes) s),
        account_ids = EXCLUDED.account_ids, updated_at = now()
    RETURNING g.id
)
UPDATE authorizations a SET status = 'approved', decided_at = now(), customer_id = j.customer_id, grant_id = granted.id,
    account_ids = $5, auth_time = j.auth_time, acr = j.acr, amr = j.amr,
    code_hash = $6, code_expires_at = now() + $7, expires_at = now() + $7
FROM journey j, granted WHERE a.id = j.id
RETURNING a.id, a.request, a.scopes, coalesce(a.consent_id, ''), a.created_at, a.customer_id, a.grant_id, a.auth_time, a.acr, a.amr`

	denySQL = deciderSQL + `, rejected AS (
    UPDATE consents k SET status = 'Rejected', customer_id = j.customer_id, status_changed_at = now()
    FROM journey j WHERE k.id = j.consent_id AND k.status = 'AwaitingAuthorisation'
)
UPDATE authorizations a SET status = 'denied', decided_at = now(), customer_id = j.customer_id
FROM journey j WHERE a.id = j.id
RETURNING a.id, a.request`

	abandonSQL = `
UPDATE authorizations SET status = 'denied', decided_at = now()
WHERE request_uri_hash = $1 AND client_id = $2 AND status = 'pending' AND expires_at > now()
RETURNING id, request`
)

// Push stores a request that nobody was asked about yet, in one transaction with the identifiers it uses up. It sets
// CreatedAt. It returns ErrAlreadyUsed for a replay, and ErrNotFound when the consent it names is unknown, another
// client's, spent or expired.
func (db *DB) Push(ctx context.Context, uses []Use, a *Authorization) error {
	sealed := db.Keys().Seal(requestPurpose, a.ID[:], a.Request)
	return db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(&a.CreatedAt) }, pushSQL,
		[16]byte(a.ID), a.ClientID, sealed, a.Scopes, a.ConsentID, a.AuthenticatedAfter, a.ACRRequired,
		a.RequestURIHash, a.RequestURILifetime, a.JourneyLifetime)
}

// Journey is a pending authorization together with who is looking at it.
type Journey struct {
	Authorization
	Consent  *Consent  // what ConsentID names
	Login    *Login    // nil when nobody has logged in
	Customer *Customer // whose login it is
	Accounts []Account // the customer's
	Agreed   []string  // scopes that the customer granted this client before, outside of consents
}

// Open finds a pending authorization and marks it as opened, which it must be before its request_uri expires. It returns
// ErrNotFound when it is unknown, another client's, expired or decided. loginHash is the hash of the visitor's cookie, or nil.
func (db *DB) Open(ctx context.Context, requestURIHash []byte, clientID string, loginHash []byte) (*Journey, error) {
	batch := &pgx.Batch{}
	batch.Queue(openSQL, requestURIHash, clientID)
	batch.Queue(pendingSQL, requestURIHash, clientID)
	batch.Queue(pendingConsentSQL, requestURIHash)
	if loginHash != nil {
		batch.Queue(visitorSQL, loginHash, clientID)
		batch.Queue(visitorAccountsSQL, loginHash)
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	j := &Journey{Authorization: Authorization{ClientID: clientID, RequestURIHash: requestURIHash}}
	err := results.QueryRow().Scan((*[16]byte)(&j.ID), &j.Request, &j.Scopes, &j.ConsentID, &j.AuthenticatedAfter, &j.ACRRequired, &j.CreatedAt)
	if err != nil {
		return nil, notFound(err)
	}
	if j.Request, err = db.Keys().Open(requestPurpose, j.ID[:], j.Request); err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	consents, err := pgx.CollectRows(rows, scanConsent)
	if err != nil {
		return nil, err
	}
	if len(consents) == 1 {
		j.Consent = &consents[0]
	}
	if loginHash == nil {
		return j, nil
	}
	login, customer := &Login{}, &Customer{keys: db.Keys()}
	err = results.QueryRow().Scan((*[16]byte)(&login.CustomerID), &login.AuthTime, &login.ACR, &login.AMR, &login.ExpiresAt,
		&customer.Tenant, &customer.FineractClientID, &customer.Roles, &customer.sealedProfile, &j.Agreed)
	switch err = notFound(err); err {
	case nil:
		customer.ID = login.CustomerID
		j.Login, j.Customer = login, customer
	case ErrNotFound:
		return j, nil
	default:
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	j.Accounts, err = pgx.CollectRows(rows, db.scanAccount)
	return j, err
}

// Approval is a customer's yes.
type Approval struct {
	RequestURIHash []byte
	ClientID       string
	LoginHash      []byte
	AccountIDs     []string // what the customer picked
	CodeHash       []byte
	CodeLifetime   time.Duration
}

// Approve records the yes of whoever is logged in: the authorization gets its code, the consent becomes Authorised, the
// grant exists. It returns ErrNotFound, and changes nothing, when any of them is not (or no longer) in a state to be
// approved by this login.
func (db *DB) Approve(ctx context.Context, y Approval) (*Authorization, error) {
	a := &Authorization{ClientID: y.ClientID, AccountIDs: y.AccountIDs}
	if y.AccountIDs == nil {
		y.AccountIDs = []string{}
	}
	err := db.pool.QueryRow(ctx, approveSQL, y.RequestURIHash, y.ClientID, y.LoginHash, [16]byte(NewID()), y.AccountIDs, y.CodeHash, y.CodeLifetime).
		Scan((*[16]byte)(&a.ID), &a.Request, &a.Scopes, &a.ConsentID, &a.CreatedAt, (*[16]byte)(&a.CustomerID), (*[16]byte)(&a.GrantID), &a.AuthTime, &a.ACR, &a.AMR)
	if err != nil {
		return nil, notFound(err)
	}
	a.Request, err = db.Keys().Open(requestPurpose, a.ID[:], a.Request)
	return a, err
}

// Deny records the no of whoever is logged in; the consent becomes Rejected. It returns ErrNotFound like Approve.
func (db *DB) Deny(ctx context.Context, requestURIHash []byte, clientID string, loginHash []byte) (*Authorization, error) {
	return db.end(ctx, clientID, denySQL, requestURIHash, clientID, loginHash)
}

// Abandon ends a journey that cannot be decided (prompt=none, a consent of another customer); the consent stays as it is.
func (db *DB) Abandon(ctx context.Context, requestURIHash []byte, clientID string) (*Authorization, error) {
	return db.end(ctx, clientID, abandonSQL, requestURIHash, clientID)
}

func (db *DB) end(ctx context.Context, clientID, sql string, args ...any) (*Authorization, error) {
	a := &Authorization{ClientID: clientID}
	err := db.pool.QueryRow(ctx, sql, args...).Scan((*[16]byte)(&a.ID), &a.Request)
	if err != nil {
		return nil, notFound(err)
	}
	a.Request, err = db.Keys().Open(requestPurpose, a.ID[:], a.Request)
	return a, err
}
